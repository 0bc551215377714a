"""Hosts that wait in a line, the most urgent first. Pure, and in the order of urgency whatever the order of coming."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

from bootorch.core.urgency import Priority

Who = TypeVar("Who")

# Late comers are sorted in when they are more than a quarter of the sorted ones: each is then compared some five times
# with its neighbours, whatever the line's length (timsort merges runs). So few lie in the nearest cache anyway.
_FEW = 64
_SHARE = 4


class Line(Generic[Who]):
    """Who waits, each with a priority: two have never the same one.

    One heap of a million would touch twenty of them, far apart in memory, for each that goes in or out. Here most are
    sorted, and the most urgent is taken from the list's end; only late comers are a heap, and are sorted in with the
    others when they have become many.
    """

    __slots__ = ("_come", "_late", "_sorted")

    def __init__(self) -> None:
        self._sorted: list[tuple[Priority, Who]] = []  # the most urgent last
        self._late: list[tuple[Priority, Who]] = []  # a heap
        self._come: list[tuple[Priority, Who]] = []  # since it was last looked who is first

    def __bool__(self) -> bool:
        return bool(self._sorted or self._late or self._come)

    def __iter__(self) -> Iterator[tuple[Priority, Who]]:
        """All of them, in no order."""
        yield from self._sorted
        yield from self._late
        yield from self._come

    def push(self, priority: Priority, who: Who) -> None:
        self._come.append((priority, who))

    def first(self) -> tuple[Priority, Who] | None:
        """The most urgent, or None: nobody waits."""
        if self._come:
            self._take_in()
        late = self._late
        if self._sorted:
            last = self._sorted[-1]
            return late[0] if late and late[0] < last else last
        return late[0] if late else None

    def pop(self) -> None:
        """``first`` leaves. Raises IndexError: nobody waits."""
        if self._come:
            self._take_in()
        late = self._late
        if late and (not self._sorted or late[0] < self._sorted[-1]):
            heappop(late)
        else:
            self._sorted.pop()

    def _take_in(self) -> None:
        come, late = self._come, self._late
        if len(come) + len(late) > max(_FEW, len(self._sorted) // _SHARE):
            self._sorted += late
            self._sorted += come
            self._sorted.sort(reverse=True)
            late.clear()
        else:
            for waiter in come:
                heappush(late, waiter)
        come.clear()


class Turns(Generic[Who]):
    """Who waits without hurry: by tier, and in a tier whoever came first, so that everybody has had a turn before
    anybody has a second one."""

    __slots__ = ("_tiers",)

    def __init__(self) -> None:
        self._tiers: dict[int, deque[Who]] = {}  # none is empty

    def __bool__(self) -> bool:
        return bool(self._tiers)

    def push(self, tier: int, who: Who) -> None:
        waiting = self._tiers.get(tier)
        if waiting is None:
            self._tiers[tier] = deque((who,))
        else:
            waiting.append(who)

    def pop(self) -> Who:
        """Whose turn it is leaves. Raises ValueError: nobody waits."""
        tier = min(self._tiers)
        waiting = self._tiers[tier]
        who = waiting.popleft()
        if not waiting:
            del self._tiers[tier]
        return who
