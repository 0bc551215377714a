"""Who wants a look when. Pure, and in the order of time whatever the order of asking."""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import Generic, TypeVar

Who = TypeVar("Who")

# A second far beyond every deadline, for what is to be looked at never: it must be a whole number.
_NEVER = 1 << 40


@dataclass(slots=True)
class Bucket(Generic[Who]):
    """Those of one second, side by side: a tuple and a float for each of a million would lie far apart in memory by the
    time that the second comes."""

    times: array[float] = field(default_factory=lambda: array("d"))
    names: list[str] = field(default_factory=list)
    whos: list[Who] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[float, str, Who]]:
        return zip(self.times, self.names, self.whos, strict=True)


class Timers(Generic[Who]):
    """Who is to be looked at when (in seconds of the run), each with a name: the earliest first, of equal ones by name.

    One heap would touch twenty, far apart in memory, for each of a million that goes in or out. Here only those of the
    present second are in order; the others lie in a bucket for each second. A name is always the same one's.
    """

    __slots__ = ("_at", "_buckets", "_count", "_due", "_edge", "_seconds", "first_t")

    def __init__(self) -> None:
        self.first_t = inf  # the earliest; infinite: there is none
        self._due: list[tuple[float, str, Who]] = []  # in order from ``_at`` on: all before the second ``_edge``
        self._at = 0
        self._edge = 0
        self._buckets: dict[int, Bucket[Who]] = {}
        self._seconds: list[int] = []  # a heap: those of the buckets
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[float, str, Who]]:
        """All of them, in no order."""
        yield from self._due[self._at :]
        for bucket in self._buckets.values():
            yield from bucket

    def push(self, t: float, name: str, who: Who) -> None:
        self._count += 1
        if t < self.first_t:
            self.first_t = t
        second = int(t) if t < _NEVER else _NEVER
        if second < self._edge:
            insort(self._due, (t, name, who), lo=self._at)
            return
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = Bucket()
            heappush(self._seconds, second)
        bucket.times.append(t)
        bucket.names.append(name)
        bucket.whos.append(who)

    def pop(self) -> tuple[str, Who]:
        """The earliest one's name, and who it is. Raises IndexError: there is none."""
        due, at = self._due, self._at
        if at == len(due):  # on to the next second that has anything
            second = heappop(self._seconds)
            self._due = due = sorted(self._buckets.pop(second))
            at = 0
            self._edge = second + 1
        _, name, who = due[at]
        self._at = at = at + 1
        self._count -= 1
        if at < len(due):
            self.first_t = due[at][0]
        elif self._seconds:
            self.first_t = min(self._buckets[self._seconds[0]].times)  # earlier ones may come before it is turned to
        else:
            self.first_t = inf
        return name, who
