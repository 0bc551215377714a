"""Quantiles, bands and the gauge's series: small numbers that everything shown is made from."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.forecast import band, estimate, quantile
from bootorch.core.gauge import POINTS, Series, followed_feeds, quorums
from bootorch.core.model import FeedLimit, Limits, Quorum, Requirement
from bootorch.core.state import State
from tests.plans import group, make_plan

times = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(st.one_of(st.none(), times), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_ordered_within_the_samples_and_never_turn_never_into_a_time(
    values: list[float | None], share: float
) -> None:
    found = quantile(values, share)
    known = [value for value in values if value is not None]
    if found is None:
        assert share * (len(values) - 1) > len(known) - 1  # the quantile reaches into those that never are
    else:
        assert min(known) - 1e-6 <= found <= max(known) + 1e-6
    rising = [quantile(values, s / 10) for s in range(11)]
    numbers = [math.inf if value is None else value for value in rising]
    assert all(a <= b + 1e-6 for a, b in pairwise(numbers))


def test_quantiles_by_hand() -> None:
    assert quantile([30.0, 10.0, 20.0], 0.5) == 20.0
    assert quantile([10.0, 20.0], 0.9) == pytest.approx(19.0)
    found = estimate([10.0, 20.0, 30.0, None, None])
    assert (found.p10, found.p50, found.p90, found.never) == (14.0, 30.0, None, 2)


@given(st.lists(st.tuples(st.floats(0.01, 200), st.floats(0, 1e5)), min_size=1, max_size=2000))
def test_a_series_keeps_its_peaks_in_few_points(steps: list[tuple[float, float]]) -> None:
    series = Series()
    t = 0.0
    for wait_s, value in steps:
        t += wait_s
        series.add(t, value)
    points = series.points()
    assert len(points) <= 2 * POINTS
    assert max(value for _, value in points) == max(value for _, value in steps)
    assert [point[0] for point in points] == sorted({point[0] for point in points})


def test_a_band_holds_the_curves() -> None:
    curves = [((0.0, 0.0), (10.0, float(k))) for k in range(11)]
    found = band(curves, 20.0, peak=False)
    assert found.p50[0] == 0.0
    assert (found.p10[-1], found.p50[-1], found.p90[-1]) == (1.0, 5.0, 9.0)
    spike = [((0.0, 0.0), (10.01, 7.0), (10.02, 0.0))]
    assert max(band(spike, 20.0, peak=True).p50) == 7.0


def test_usable_is_what_others_ask_for() -> None:
    plan = make_plan(
        {
            "dns": (10, group()),
            "db": (10, group(requires=(Requirement("dns", Quorum(count=2)),))),
            "web": (10, group(requires=(Requirement("dns", Quorum(share=0.5)), Requirement("db", per_host="rack")))),
        }
    )
    assert quorums(plan) == {"dns": 5, "db": 9, "web": 9}


def test_the_feeds_that_are_followed_are_the_fullest_and_roots_first() -> None:
    budgets = {"hall/row-0": 100.0, "hall/row-1": 50.0, "hall": 9e9, "nobody's": 1.0}
    feeds = {name: FeedLimit(budget_watts=watts) for name, watts in budgets.items()}
    plan = make_plan({"web": (4, group())}, Limits(feeds=feeds))
    assert followed_feeds(plan, State(plan).peaks) == ("hall", "hall/row-1", "hall/row-0")
