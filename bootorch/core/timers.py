"""Who wants a look when. Pure, and in the order of time whatever the order of asking."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import Generic, TypeVar

Name = TypeVar("Name", str, int)
Who = TypeVar("Who")

# A second far beyond every deadline, for what is to be looked at never: it must be a whole number.
_NEVER = 1 << 40


class Timers(Generic[Name, Who]):
    """Who is to be looked at when (in seconds of the run), each with a name: the earliest first, of equal ones by name.

    One heap would touch twenty, far apart in memory, for each of a million that goes in or out. Here only those of the
    present second (or part of it) are in order; the others lie in buckets. A name is always the same one's.
    """

    __slots__ = ("_at", "_buckets", "_count", "_due", "_edge", "_parts", "_per_s", "first_t")

    def __init__(self, per_s: int = 1) -> None:
        """``per_s``: buckets of a second."""
        self._per_s = per_s
        self.first_t = inf  # the earliest; infinite: there is none
        self._due: list[tuple[float, Name, Who]] = []  # in order from ``_at`` on: all before ``_edge``
        self._at = 0
        self._edge = 0
        self._buckets: dict[int, list[tuple[float, Name, Who]]] = {}
        self._parts: list[int] = []  # a heap: those of the buckets, as ``_edge``
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[float, Name, Who]]:
        """All of them, in no order."""
        yield from self._due[self._at :]
        for bucket in self._buckets.values():
            yield from bucket

    def push(self, t: float, name: Name, who: Who) -> None:
        self._count += 1
        if t < self.first_t:
            self.first_t = t
        part = int(t * self._per_s) if t < _NEVER else _NEVER * self._per_s
        if part < self._edge:
            insort(self._due, (t, name, who), lo=self._at)
            return
        bucket = self._buckets.get(part)
        if bucket is None:
            self._buckets[part] = [(t, name, who)]
            heappush(self._parts, part)
        else:
            bucket.append((t, name, who))

    def pop(self) -> tuple[Name, Who]:
        """The earliest one's name, and who it is. Raises IndexError: there is none."""
        due, at = self._due, self._at
        if at == len(due):  # on to the next part that has anything
            part = heappop(self._parts)
            due, at = self._buckets.pop(part), 0
            due.sort()
            self._due = due
            self._edge = part + 1
        _, name, who = due[at]
        self._at = at = at + 1
        self._count -= 1
        if at < len(due):
            self.first_t = due[at][0]
        elif self._parts:
            self.first_t = min(self._buckets[self._parts[0]])[0]  # earlier ones may come before it is turned to
        else:
            self.first_t = inf
        return name, who
