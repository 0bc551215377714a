"""The network between clients and a lab's BMCs: loss, duplicates, reordering, delay, damage. Sans-IO, by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from heapq import heappop, heappush
from typing import Generic, TypeVar

_WAITING = 1 << 17  # datagrams under way at most: four for each BMC of the largest fleet; a real queue drops as well
_OVERTAKEN_S = 0.02  # a reordered datagram is late by this and the latency: others overtake it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WireFaults:
    """Shares in [0, 1] of datagrams; times in seconds. ValueError for others.

    ``loss`` and ``duplicates`` count in each direction. ``reorder``: answers that come later than the next ones.
    ``truncated``: answers that are cut anywhere, ``corrupt``: answers with one bit changed. ``latency_s`` is there and
    back, and ``jitter_s`` at most is added to it, evenly spread.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    reorder: float = 0.0
    truncated: float = 0.0
    corrupt: float = 0.0
    latency_s: float = 0.0
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = 60.0 if field.name.endswith("_s") else 1.0  # a minute late is later than any client waits
            if not 0 <= value <= most:
                raise ValueError(f"{field.name} is from 0 to {most:g}, not {value}")


class Wire:
    """``perfect``: what is sent arrives, once and at once, and nobody need ask."""

    __slots__ = ("_faults", "_random", "lost", "perfect")

    def __init__(self, faults: WireFaults, seed: int) -> None:
        self._faults = faults
        self._random = random.Random(seed)  # noqa: S311 - faults that can be had again, not a secret
        self.perfect = faults == WireFaults()
        self.lost = 0  # datagrams, both ways

    def arrivals(self) -> int:
        """How often a question gets to its BMC: 0, 1 or 2 times."""
        faults, uniform = self._faults, self._random.random
        if faults.loss and uniform() < faults.loss:
            self.lost += 1
            return 0
        return 2 if faults.duplicates and uniform() < faults.duplicates else 1

    def departures(self, answer: bytes) -> Sequence[tuple[float, bytes]]:
        """What comes of an answer: (seconds until it arrives, datagram), none to two of them."""
        faults, uniform = self._faults, self._random.random
        if faults.loss and uniform() < faults.loss:
            self.lost += 1
            return ()
        if faults.truncated and uniform() < faults.truncated:
            answer = answer[: int(uniform() * len(answer))]
        if faults.corrupt and uniform() < faults.corrupt:
            bit = self._random.randrange(8 * len(answer) or 8)
            answer = bytes(byte ^ (1 << bit % 8) if at == bit // 8 else byte for at, byte in enumerate(answer))
        delays = [faults.latency_s + faults.jitter_s * uniform() if faults.jitter_s else faults.latency_s]
        if faults.reorder and uniform() < faults.reorder:
            delays[0] += _OVERTAKEN_S + faults.latency_s
        if faults.duplicates and uniform() < faults.duplicates:
            delays.append(faults.latency_s)
        return [(delay, answer) for delay in delays]


class Later(Generic[T]):
    """Things to do at their time; bounded: what does not fit is dropped, and counted."""

    __slots__ = ("_count", "_heap", "dropped")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        self.dropped = 0

    def push(self, due: float, thing: T) -> None:
        if len(self._heap) >= _WAITING:
            self.dropped += 1
            return
        self._count += 1  # equal times keep their order, and things are never compared
        heappush(self._heap, (due, self._count, thing))

    def pop(self, now: float) -> T | None:
        """The next thing whose time has come, None when there is none."""
        return heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    @property
    def due(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._heap)
