"""How long to wait before the next try. Pure and deterministic: jitter comes from a hash, not from a generator."""

from __future__ import annotations

from zlib import crc32


def jitter(seed: int, *words: str | int) -> float:
    """A number in [0, 1) that is the same for the same words: a run is reproducible from its seed."""
    return crc32(":".join(map(str, (seed, *words))).encode()) / 2**32


def backoff_s(attempt: int, *, first_s: float, cap_s: float, jittered: float) -> float:
    """Capped exponential backoff before try ``attempt`` + 1 (``attempt`` counts from 1).

    Half of the wait is fixed and half jittered ("equal jitter", Brooker, AWS Architecture Blog 2015), so that hosts
    which failed together do not come back together, and none comes back at once.
    """
    full_s: float = min(cap_s, first_s * 2.0 ** min(attempt - 1, 30))
    return full_s / 2 + full_s / 2 * jittered


def poll_s(waited_s: float, jittered: float, expected_s: float = 0.0) -> float:
    """Wait before looking again at something that takes its time: a tenth of the time waited so far.

    Costs at most a tenth of the wait in delay and O(log) looks. At least 0.5 s; at most 10 s, because heavy polling
    crashes some BMCs and a boot is minutes (field: fixed 5 s polls elsewhere).

    Where it is known how long it takes (``expected_s``, from a drill or the inventory), looks are closest around that
    time, a hundredth of it apart, and no rarer elsewhere: some thirty looks more in all.
    """
    wait_s = min(10.0, waited_s / 10)
    if expected_s > 0:
        wait_s = min(wait_s, expected_s / 100 + 0.15 * abs(waited_s - expected_s))
    return max(0.5, wait_s) * (0.9 + 0.2 * jittered)
