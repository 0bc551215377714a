"""How a quantity is distributed: lognormal, uniform, or a table of quantiles. Pure; a sample is a quantile."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist

_NORMAL = NormalDist()
_inv_cdf = _NORMAL.inv_cdf
_EDGE = 1e-6  # a lognormal has no end: one in a million is as far as it is asked


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A positive quantity by its median and one more quantile, both in the same unit: P(x <= ``high``) is ``at``.

    Raises ValueError unless 0 < ``median`` <= ``high`` and 0.5 < ``at`` < 1.
    """

    median: float
    high: float
    at: float
    sigma: float = field(init=False, repr=False, compare=False)  # standard deviation of the logarithm

    def __post_init__(self) -> None:
        if not 0 < self.median <= self.high < math.inf:
            raise ValueError(f"a lognormal needs 0 < median <= p{self.at * 100:g}, not {self.median}, {self.high}")
        if not 0.5 < self.at < 1:
            raise ValueError(f"the second quantile of a lognormal is above the median, not p{self.at * 100:g}")
        object.__setattr__(self, "sigma", math.log(self.high / self.median) / _NORMAL.inv_cdf(self.at))

    def quantile(self, p: float) -> float:
        if not _EDGE < p < 1 - _EDGE:
            p = min(max(p, _EDGE), 1 - _EDGE)
        return self.median * math.exp(self.sigma * _inv_cdf(p))

    sample = quantile

    def scaled(self, factor: float) -> Lognormal:
        return Lognormal(self.median * factor, self.high * factor, self.at)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything from ``least`` to ``most`` alike; both the same: a constant. Raises ValueError unless in this order."""

    least: float
    most: float

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most < math.inf:
            raise ValueError(f"0 <= least <= most does not hold: {self.least}, {self.most}")

    def quantile(self, p: float) -> float:
        return self.least + (self.most - self.least) * p

    def sample(self, uniform: float) -> float:
        return self.quantile(uniform)

    def scaled(self, factor: float) -> Uniform:
        return Uniform(self.least * factor, self.most * factor)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """As measured: ``values`` are the quantiles at 0, 1/n, 2/n ... 1, straight lines between them.

    Raises ValueError for fewer than two values, or for values that fall.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError("a table of quantiles has at least two values: the least and the most")
        if self.values[0] < 0 or not math.isfinite(self.values[-1]):
            raise ValueError("quantiles are finite and not negative")
        if any(a > b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise ValueError("quantiles do not fall: write them from the least to the most")

    def quantile(self, p: float) -> float:
        place = min(max(p, 0.0), 1.0) * (len(self.values) - 1)
        below = min(int(place), len(self.values) - 2)
        low, high = self.values[below], self.values[below + 1]
        # Rounding must lead neither past the next one nor short of it.
        return high if place - below >= 1.0 else min(high, low + (high - low) * (place - below))

    def sample(self, uniform: float) -> float:
        return self.quantile(uniform)

    def scaled(self, factor: float) -> Quantiles:
        return Quantiles(tuple(value * factor for value in self.values))


Distribution = Lognormal | Uniform | Quantiles

NOTHING = Uniform(0.0, 0.0)
ONE = Uniform(1.0, 1.0)


def quantiles_of(values: Iterable[float], parts: int = 20) -> Quantiles:
    """The empirical quantiles of ``values`` (at least one), at 0, 1/``parts`` ... 1 (Hyndman and Fan, type 7)."""
    ordered = sorted(values)
    table = Quantiles((ordered[0], ordered[0])) if len(ordered) == 1 else Quantiles(tuple(ordered))
    return Quantiles(tuple(table.quantile(part / parts) for part in range(parts + 1)))


def ks_distance(values: Iterable[float], distribution: Distribution) -> float:
    """Kolmogorov and Smirnov's distance: how far the distribution function is from the measured one at most, 0 to 1."""
    ordered = sorted(values)
    count = len(ordered)
    worst = 0.0
    for index, value in enumerate(ordered):
        p = _probability(distribution, value)
        worst = max(worst, abs(p - index / count), abs(p - (index + 1) / count))
    return worst


def _probability(distribution: Distribution, value: float) -> float:
    """P(x <= ``value``), by halving: quantile functions rise."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if distribution.quantile(middle) <= value:
            low = middle
        else:
            high = middle
    return low
