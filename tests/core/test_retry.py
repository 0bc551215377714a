"""When to look again at a boot: bounded in delay and in number, with and without an estimate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.retry import NEAR_S, jitter, look_s, poll_s

SECONDS = st.floats(0.5, 1200.0)
SHARE = st.floats(0.0, 1.0, exclude_max=True)


def looks(boot_s: float, expected_s: float) -> list[float]:
    """The times of all looks, up to the one that finds the boot over."""
    times = [0.25]
    while times[-1] < boot_s:
        times.append(times[-1] + look_s(times[-1], jitter(1, len(times)), expected_s))
    return times


@given(SECONDS, SHARE)
def test_without_an_estimate_it_is_the_usual_poll(waited_s: float, jittered: float) -> None:
    assert look_s(waited_s, jittered) == poll_s(waited_s, jittered)


@given(SECONDS, st.floats(0.0, 1200.0), SHARE)
def test_it_is_never_rarer_than_the_usual_at_the_expected_end_and_never_too_dense(
    expected_s: float, waited_s: float, jittered: float
) -> None:
    wait_s = look_s(waited_s, jittered, expected_s)
    assert wait_s <= poll_s(max(waited_s, expected_s), jittered)
    assert wait_s >= 0.9 * min(NEAR_S, 0.5)


@given(SECONDS, st.floats(0.95, 1.05))
def test_a_boot_that_ends_as_expected_is_seen_within_a_thirtieth_of_it(expected_s: float, factor: float) -> None:
    boot_s = expected_s * factor
    assert looks(boot_s, expected_s)[-1] - boot_s <= 1.1 * max(NEAR_S, expected_s * 0.03)


@given(SECONDS, SECONDS)
def test_a_wrong_estimate_costs_at_most_a_tenth_of_the_longer_and_a_few_looks(boot_s: float, expected_s: float) -> None:
    times = looks(boot_s, expected_s)
    assert times[-1] - boot_s <= 1.1 * max(0.5, min(10.0, max(boot_s, expected_s) / 10))
    assert len(times) <= len(looks(boot_s, 0.0)) + 40
