"""How long to wait before the next try. Pure and deterministic: jitter comes from a hash, not from a generator."""

from __future__ import annotations

from zlib import crc32

NEAR_S = 0.2  # between looks at a boot that is about to be over: it is the host that is asked, and no longer the BMC
NEAR_SHARE = 1 / 8  # of the time to the expected end, or since: the wait before the next look


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


def poll_s(waited_s: float, jittered: float) -> float:
    """Wait before looking again at something that takes its time: a tenth of the time waited so far.

    Costs at most a tenth of the wait in delay and O(log) looks. At least 0.5 s; at most 10 s, because heavy polling
    crashes some BMCs and a boot is minutes (field: fixed 5 s polls elsewhere).
    """
    return min(10.0, max(0.5, waited_s / 10)) * (0.9 + 0.2 * jittered)


def look_s(waited_s: float, jittered: float, expected_s: float = 0.0) -> float:
    """As ``poll_s``, for a boot that is expected to take ``expected_s`` (0: not known).

    A tenth of the expected time between looks at first, so that a boot which is over early is seen as soon as without
    an estimate that is right; ever denser towards the expected end, down to a hundredth of it; and as usual after it.
    Between two looks lies an eighth of the time that is left until then, or has passed since: boots of one model differ
    by 15 % and less, so that nearly all of them end where looks are dense. A boot of 300 s takes some 40 looks
    in place of 33 with half of it, and is seen 1.8 s late in place of 3.7 s.
    """
    if expected_s <= 0:
        return poll_s(waited_s, jittered)
    usual_s = poll_s(max(waited_s, expected_s), jittered)
    near_s = max(NEAR_S, expected_s / 100, abs(expected_s - waited_s) * NEAR_SHARE)
    return min(usual_s, near_s * (0.9 + 0.2 * jittered))
