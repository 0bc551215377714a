"""How many BMCs are asked at the same time, so that a congested management network is not driven into collapse."""

from __future__ import annotations

from typing import Final, NamedTuple

from bootorch.core.slots import IN_FLIGHT

EPOCH_PACKETS: Final = 200  # a share of losses needs some packets to be one
EPOCH_S: Final = 0.2
SETTLE_S: Final = 1.5  # after a halving: what was sent before is still being lost, and waits end after 1 s
CROWDED_SHARE: Final = 0.10  # losses above: too much is in flight. TCP halves at the first one; radio links lose 1-2 %
CALM_SHARE: Final = 0.03  # losses below: there may be room
HARMED: Final = 0.75  # a halving that leaves less than this of the answers a second did harm: the losses are not ours
HOLD_S: Final = 10.0  # and is not tried again for so long, twice as long each time,
MOST_HOLD_S: Final = 160.0  # up to this: what looks like harm may have been a run that came to its end


class Pacing(NamedTuple):
    """Windows and intervals.

    ``window``: exchanges in flight at the start, between ``least`` and ``most`` later. ``subnet``:
    in flight per /24 (IPv6: /64), what a rack row's switch carries. ``interval_s``: least pause between two exchanges
    with one BMC; heavy polling crashes some.
    ``unheard_per_place``: repetitions a second to BMCs that never answered, all together, for each place of the
    window: a dark network is full of those, and each costs its segment an ARP broadcast.
    """

    window: int = 256
    least: int = 16
    most: int = IN_FLIGHT
    subnet: int = 128
    interval_s: float = 0.1
    unheard_per_place: float = 4.0


class Window:
    """The process's window: grows while nothing is lost and it is full, halves when too much is lost.

    Where halving it costs answers, the losses come from elsewhere (a bad link, a policer for others), and the window
    goes back to what it was: otherwise a fleet behind one bad link would be asked one by one. On a crowded network
    halving costs none, because what was in flight beyond its capacity was thrown away.
    """

    __slots__ = ("_before", "_epoch_at", "_full", "_good", "_held_until", "_hold_s", "_lost", "_pacing", "size")

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self.size = min(pacing.window, pacing.most)
        self._good = self._lost = 0
        self._full = False  # it held something back in this epoch
        self._epoch_at = 0.0
        self._before: tuple[int, float] | None = None  # size, and answers a second, before the latest halving
        self._held_until = 0.0
        self._hold_s = HOLD_S

    def full(self) -> None:
        """Something waits because of the window."""
        self._full = True

    def good(self, packets: int, now: float) -> None:
        """So many requests were answered in time."""
        self._good += packets
        if self._good + self._lost >= EPOCH_PACKETS:
            self._turn(now)

    def lost(self, now: float) -> None:
        """A request to a BMC that does answer was not answered in time."""
        self._lost += 1
        if self._good + self._lost >= EPOCH_PACKETS:
            self._turn(now)

    def _turn(self, now: float) -> None:
        elapsed_s = now - self._epoch_at
        if elapsed_s < EPOCH_S:
            if elapsed_s < 0:  # settling
                self._good = self._lost = 0
            return
        share = self._lost / (self._good + self._lost)
        rate = self._good / elapsed_s
        pacing, before = self._pacing, self._before
        self._before = None
        self._epoch_at = now
        if before is not None and rate < before[1] * HARMED:
            self.size = before[0]
            self._held_until = now + self._hold_s
            self._hold_s = min(2 * self._hold_s, MOST_HOLD_S)
        elif share > CROWDED_SHARE:
            if now >= self._held_until and self.size > pacing.least:
                self._before = self.size, rate
                self.size = max(pacing.least, self.size // 2)
                self._epoch_at = now + SETTLE_S
        elif share < CALM_SHARE and self._full:
            self.size = min(pacing.most, self.size + max(1, self.size // 4))
        self._good = self._lost = 0
        self._full = False
