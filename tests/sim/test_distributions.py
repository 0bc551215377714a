"""Distributions: quantiles, samples, and how far data lie from them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.sim.distributions import Distribution, Lognormal, Quantiles, Uniform, ks_distance, quantiles_of
from bootorch.sim.draws import Draws

ALL: list[Distribution] = [Lognormal(60.0, 300.0, 0.99), Uniform(2.0, 6.0), Quantiles((1.0, 2.0, 4.0, 4.0, 9.0))]


@pytest.mark.parametrize("distribution", ALL)
def test_ten_thousand_draws_have_the_quantiles_that_were_asked_for(distribution: Distribution) -> None:
    draws = Draws(1)
    values = sorted(distribution.sample(draws.number(i)) for i in range(10_000))
    for p in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert values[int(p * 10_000)] == pytest.approx(distribution.quantile(p), rel=0.06)
    if len(set(values)) == len(values):
        assert ks_distance(values, distribution) < 1.63 / 100  # one case in a hundred exceeds it by chance


def test_a_lognormal_has_its_two_quantiles() -> None:
    lognormal = Lognormal(300.0, 720.0, 0.95)
    assert lognormal.quantile(0.5) == pytest.approx(300.0)
    assert lognormal.quantile(0.95) == pytest.approx(720.0)
    assert lognormal.scaled(0.1).quantile(0.95) == pytest.approx(72.0)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_a_table_of_quantiles_stays_within_its_samples(values: list[float], p: float) -> None:
    table = quantiles_of(values)
    assert min(values) <= table.quantile(p) <= max(values) * (1 + 1e-12)
    assert table.quantile(0.0) == min(values)
    assert table.quantile(1.0) == max(values)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Lognormal(0.0, 1.0, 0.95),
        lambda: Lognormal(2.0, 1.0, 0.95),
        lambda: Lognormal(1.0, 2.0, 0.5),
        lambda: Uniform(3.0, 2.0),
        lambda: Uniform(-1.0, 2.0),
        lambda: Quantiles((1.0,)),
        lambda: Quantiles((2.0, 1.0)),
        lambda: Quantiles((1.0, float("inf"))),
    ],
)
def test_what_is_no_distribution_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        wrong()  # type: ignore[operator]


def test_draws_of_one_host_do_not_hang_together() -> None:
    draws = Draws(3)
    rows = [draws.host(f"host-{i}") for i in range(4_000)]
    for a in range(0, 16, 3):
        for b in range(a + 1, 16, 4):
            xs, ys = [row[a] / 2**32 - 0.5 for row in rows], [row[b] / 2**32 - 0.5 for row in rows]
            correlation = sum(x * y for x, y in zip(xs, ys, strict=True)) / len(rows) * 12
            assert abs(correlation) < 4 / len(rows) ** 0.5
    numbers = [draws.number(i) - 0.5 for i in range(4_000)]
    assert abs(sum(a * b for a, b in pairwise(numbers)) * 12 / len(numbers)) < 0.07
