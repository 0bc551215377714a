"""The clock of a run: seconds that its process was awake.

``time.monotonic`` stands still while the machine is suspended, CLOCK_BOOTTIME goes on (clock_gettime(2)); neither cares
for what happens to the wall clock. A process that was stopped (SIGSTOP, a disk that did not answer) was not awake
either, though ``time.monotonic`` went on: its owner says so with ``wake``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def boot_clock() -> float:
    """Seconds since the machine's boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AwakeClock:
    """Gives run time in seconds, from ``base_t`` on."""

    def __init__(self, base_t: float, *, monotonic: Clock = time.monotonic, boot: Clock = boot_clock) -> None:
        self._monotonic = monotonic
        self._boot = boot
        self._begin(base_t)

    def _begin(self, base_t: float) -> None:
        self._base_t = base_t
        self._monotonic_s = self._monotonic()
        self._boot_s = self._boot()

    def __call__(self) -> float:
        # Milliseconds: finer is noise in a journal that people read.
        return round(self._base_t + self._monotonic() - self._monotonic_s, 3)

    def suspended_s(self) -> float:
        """How long the machine was suspended since this clock began, or since ``wake``."""
        return (self._boot() - self._boot_s) - (self._monotonic() - self._monotonic_s)

    def wake(self, t: float) -> float:
        """Go on from run time ``t``, the last at which the process was seen awake. The real time in seconds that has
        passed since then: it is no run time, but evidence ages by it."""
        gap_s = (self._boot() - self._boot_s) - (t - self._base_t)
        self._begin(t)
        return max(0.0, round(gap_s, 3))
