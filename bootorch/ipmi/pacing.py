"""How many BMCs are asked at the same time, so that a congested management network is not driven into collapse."""

from __future__ import annotations

from typing import Final, NamedTuple

EPOCH_PACKETS: Final = 200  # a share of losses needs some packets to be one
EPOCH_S: Final = 0.2  # and longer than what was in flight when the window changed needs to be answered or lost
CROWDED_SHARE: Final = 0.10  # losses above: too much is in flight. TCP halves at the first one; radio links lose 1-2 %
CALM_SHARE: Final = 0.03  # losses below: there may be room
HELPED: Final = 0.7  # halving that leaves more than this of the losses did not help: they are not of our making
HOLD_S: Final = 10.0  # and is not tried again for so long


class Pacing(NamedTuple):
    """Windows and intervals.

    ``window``: exchanges in flight at the start, between ``least`` and ``most`` later; an exchange has one datagram on
    the wire, so 1,024 are some 100 KB. ``subnet``: in flight per /24 (IPv6: /64), what a rack row's switch carries.
    ``interval_s``: least pause between two exchanges with one BMC; heavy polling crashes some. ``unheard_per_s``:
    repetitions a second to BMCs that never answered, all together: a dark network is full of those, and each costs
    its segment an ARP broadcast.
    """

    window: int = 256
    least: int = 16
    most: int = 1024
    subnet: int = 128
    interval_s: float = 0.1
    unheard_per_s: float = 4000.0


class Window:
    """The process's window: grows while nothing is lost and it is full, halves when too much is lost.

    Losses that halving does not lessen come from elsewhere (a bad link, a policer for others): the window goes back
    to what it was. Otherwise a fleet behind one bad link would be asked one by one.
    """

    __slots__ = ("_before", "_epoch_at", "_full", "_good", "_held_until", "_lost", "_pacing", "size")

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self.size = min(pacing.window, pacing.most)
        self._good = self._lost = 0
        self._full = False  # it held something back in this epoch
        self._epoch_at = 0.0
        self._before: tuple[int, float] | None = None  # size and share of losses before the latest halving
        self._held_until = 0.0

    def full(self) -> None:
        """Something waits because of the window."""
        self._full = True

    def good(self, packets: int, now: float) -> None:
        """So many requests were answered in time."""
        self._good += packets
        if self._good + self._lost >= EPOCH_PACKETS and now - self._epoch_at >= EPOCH_S:
            self._turn(now)

    def lost(self, now: float) -> None:
        """A request to a BMC that does answer was not answered in time."""
        self._lost += 1
        if self._good + self._lost >= EPOCH_PACKETS and now - self._epoch_at >= EPOCH_S:
            self._turn(now)

    def _turn(self, now: float) -> None:
        share = self._lost / (self._good + self._lost)
        pacing, before = self._pacing, self._before
        self._before = None
        if before is not None and share > before[1] * HELPED:
            self.size = before[0]
            self._held_until = now + HOLD_S
        elif share > CROWDED_SHARE:
            if now >= self._held_until and self.size > pacing.least:
                self._before = self.size, share
                self.size = max(pacing.least, self.size // 2)
        elif share < CALM_SHARE and self._full:
            self.size = min(pacing.most, self.size + max(1, self.size // 4))
        self._good = self._lost = 0
        self._full = False
        self._epoch_at = now
