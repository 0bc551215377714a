"""Many simulated runs as one forecast: quantiles of when things are back, what binds, what cannot be finished.

A time that never comes in some samples counts as later than every other: when a tenth of the samples never bring a
group back, its P90 is ``None`` and no number of minutes. Alternatives (what-if) use the seeds of the base, so their
difference is taken sample by sample: what they have in common, such as who boots slowly, cancels out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bootorch.core.gauge import Binding, Left, Passage, Points, Sample
from bootorch.core.limits import Resource
from bootorch.core.model import Environment
from bootorch.core.timeline import resource_title

BAND_POINTS = 240


@dataclass(frozen=True, slots=True)
class Estimate:
    """Quantiles over samples, in seconds of run time (or a plain number). ``None``: it does not come to that.

    ``never``: in how many of the ``samples`` it did not.
    """

    p10: float | None
    p50: float | None
    p90: float | None
    never: int
    samples: int

    @property
    def certain(self) -> bool:
        return self.never == 0


def quantile(values: Sequence[float | None], share: float) -> float | None:
    """Linear between the two nearest values (R's type 7); ``None`` counts as infinitely late.

    >>> quantile([1.0, 2.0, 3.0], 0.5), quantile([1.0, 2.0, None], 0.5), quantile([1.0, None, None], 0.5)
    (2.0, 2.0, None)
    """
    if not values:
        return None
    ordered = sorted(math.inf if value is None else value for value in values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    part = place - low
    found = ordered[low] if part < 1e-9 else ordered[low] + (ordered[low + 1] - ordered[low]) * part
    return found if math.isfinite(found) else None


def estimate(values: Iterable[float | None]) -> Estimate:
    found = list(values)
    return Estimate(
        quantile(found, 0.1), quantile(found, 0.5), quantile(found, 0.9), sum(v is None for v in found), len(found)
    )


@dataclass(frozen=True, slots=True)
class PassageForecast:
    """A group, a tier or the whole. Counts are means over the samples; ``ready_at``: its last host that becomes ready
    is; ``usable_at``: as many are as make it usable (``gauge.quorums``)."""

    name: str
    tier: int
    size: int
    ready: float
    quarantined: float
    blocked: float
    skipped: float
    left: float
    ready_at: Estimate
    usable_at: Estimate

    @property
    def short(self) -> float:
        """Hosts that are expected not to become ready."""
        return self.quarantined + self.blocked + self.left


def _passage(name: str, tier: int, parts: Sequence[Passage]) -> PassageForecast:
    count = len(parts)

    def mean(of: Callable[[Passage], int]) -> float:
        return sum(map(of, parts)) / count

    return PassageForecast(
        name=name,
        tier=tier,
        size=parts[0].size,
        ready=mean(lambda part: part.ready),
        quarantined=mean(lambda part: part.quarantined),
        blocked=mean(lambda part: part.blocked),
        skipped=mean(lambda part: part.skipped),
        left=mean(lambda part: part.left),
        ready_at=estimate(part.ready_s for part in parts),
        usable_at=estimate(part.quorum_s for part in parts),
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """What bound the samples: how many of them, and what share of the critical path it explains on average."""

    kind: str
    title: str
    samples: int
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Band:
    """P10, P50 and P90 of a curve at each of ``times``."""

    times: tuple[float, ...]
    p10: tuple[float, ...]
    p50: tuple[float, ...]
    p90: tuple[float, ...]


@dataclass(frozen=True)
class Outcomes:
    """All samples of one world. ``what``: the what-if that it is, empty for the plan as it stands.

    ``tier_of``: tier by group; ``budgets``: watts of the feeds that are followed, as this world has them.
    """

    what: str
    samples: tuple[Sample, ...]
    tier_of: Mapping[str, int]
    budgets: Mapping[str, float]

    @cached_property
    def whole(self) -> PassageForecast:
        return _passage("all", 0, [sample.whole for sample in self.samples])

    @cached_property
    def tiers(self) -> tuple[PassageForecast, ...]:
        return tuple(
            _passage(f"tier {tier}", tier, [sample.tiers[tier] for sample in self.samples])
            for tier in self.samples[0].tiers
        )

    @cached_property
    def groups(self) -> tuple[PassageForecast, ...]:
        """In the plan's order."""
        return tuple(
            _passage(name, self.tier_of[name], [sample.groups[name] for sample in self.samples])
            for name in self.samples[0].groups
        )

    @cached_property
    def end(self) -> Estimate:
        """When nothing moves any more, the last deadline of a dead host included."""
        return estimate(sample.end_s if sample.finished else None for sample in self.samples)

    @cached_property
    def unfinished(self) -> int:
        """Samples in which hosts are left without an outcome."""
        return sum(not sample.finished for sample in self.samples)

    @cached_property
    def bindings(self) -> tuple[Bound, ...]:
        """What bound most samples first."""
        found: dict[tuple[str, str], list[Binding]] = {}
        for sample in self.samples:
            if (binding := sample.binding) is not None:
                found.setdefault((binding.kind, binding.title), []).append(binding)
        bounds = [
            Bound(kind, title, len(some), sum(b.share for b in some) / len(some),
                  sum(b.seconds for b in some) / len(some))
            for (kind, title), some in found.items()
        ]  # fmt: skip
        return tuple(sorted(bounds, key=lambda bound: (-bound.samples, -bound.share, bound.title)))

    @cached_property
    def bound(self) -> Estimate | None:
        """The lower bound of the run's end; None where it was not computed."""
        known = [sample.bound_s for sample in self.samples if sample.bound_s is not None]
        return estimate(known) if known else None

    @cached_property
    def bound_by(self) -> str:
        """What the lower bound comes from in most samples."""
        words = [sample.bound_by for sample in self.samples if sample.bound_s is not None]
        return max(sorted(set(words)), key=words.count, default="")

    @cached_property
    def ratio(self) -> Estimate | None:
        """The run's end by its lower bound, sample by sample."""
        known = [(sample, sample.bound_s) for sample in self.samples if sample.bound_s is not None]
        if not known:
            return None
        return estimate(sample.end_s / max(bound, 1e-9) if sample.finished else None for sample, bound in known)

    @cached_property
    def left(self) -> tuple[Left, ...]:
        """Of the sample that leaves most hosts without an outcome."""
        worst = max(self.samples, key=lambda sample: sample.whole.left)
        return worst.left

    @cached_property
    def tripped(self) -> Mapping[str, int]:
        """Breakers that trip, and in how many samples."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            for scope in sample.tripped:
                counts[scope] = counts.get(scope, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def held_folded(self) -> Mapping[str, tuple[float, int]]:
        """As ``held``, by words: the values of one slot are one line where there are several."""
        kinds: dict[str, list[Resource]] = {}
        for resource in self.held:
            many = resource[0] == "slot" and ":" in resource[1]
            kinds.setdefault(resource[1].partition(":")[0] if many else resource_title(resource), []).append(resource)
        folded: dict[str, tuple[float, int]] = {}
        for resources in kinds.values():
            first = resources[0]
            title = resource_title(first)
            if len(resources) > 1:
                title = f"{title.removesuffix(first[1].partition(':')[2]).rstrip()} ({len(resources)} of them)"
            costs = [self.held[resource] for resource in resources]
            folded[title] = (sum(host_s for host_s, _ in costs), max(most for _, most in costs))
        return dict(sorted(folded.items(), key=lambda item: (-item[1][0], item[0])))

    @cached_property
    def held(self) -> Mapping[Resource, tuple[float, int]]:
        """Mean host seconds that each resource held back, and the most hosts at once; the costliest first."""
        sums: dict[Resource, tuple[float, int]] = {}
        for sample in self.samples:
            for resource, held in sample.held.items():
                before = sums.get(resource, (0.0, 0))
                sums[resource] = (before[0] + held.host_s / len(self.samples), max(before[1], held.most))
        return dict(sorted(sums.items(), key=lambda item: (-item[1][0], item[0])))

    @cached_property
    def median(self) -> Sample:
        """The sample in the middle of the ready times, the one to show one run of."""

        def rank(sample: Sample) -> tuple[float, float]:
            return (math.inf if sample.whole.ready_s is None else sample.whole.ready_s, sample.end_s)

        return sorted(self.samples, key=rank)[(len(self.samples) - 1) // 2]

    @cached_property
    def horizon_s(self) -> float:
        """Run time at which every curve has reached its end."""
        return max((sample.end_s for sample in self.samples), default=0.0)

    def ready_band(self, end_s: float) -> Band:
        """Hosts ready over time."""
        return band([sample.ready for sample in self.samples], end_s, peak=False)

    def feed_band(self, feed: str, end_s: float) -> Band:
        """Modelled draw of a feed over time; the greatest of each moment."""
        return band([sample.feeds[feed] for sample in self.samples], end_s, peak=True)


def band(curves: Sequence[Points], end_s: float, *, peak: bool) -> Band:
    """Quantiles of step functions on a common grid. ``peak``: the greatest value within each step of the grid."""
    times = tuple(end_s * index / BAND_POINTS for index in range(BAND_POINTS + 1))
    sampled = [_on_grid(curve, times, peak=peak) for curve in curves]
    columns = [sorted(column) for column in zip(*sampled, strict=True)]

    def row(share: float) -> tuple[float, ...]:
        return tuple(quantile(column, share) or 0.0 for column in columns)

    return Band(times, row(0.1), row(0.5), row(0.9))


def _on_grid(curve: Points, times: Sequence[float], *, peak: bool) -> list[float]:
    starts = [t for t, _ in curve]
    values: list[float] = []
    step = times[1] - times[0] if len(times) > 1 else 0.0
    for t in times:
        at = bisect_right(starts, t + 1e-9) - 1
        value = curve[at][1] if at >= 0 else 0.0
        if peak:
            stop = bisect_right(starts, t + step - 1e-9)
            value = max([value, *(curve[i][1] for i in range(at + 1, stop))])
        values.append(value)
    return values


@dataclass(frozen=True, slots=True)
class Difference:
    """What an alternative changes, sample by sample, in seconds (later is more); None where either never is back."""

    ready: Estimate
    hosts: float  # more hosts ready (less than 0: fewer)


def difference(base: Outcomes, other: Outcomes) -> Difference:
    pairs = list(zip(base.samples, other.samples, strict=True))

    def later(before: float | None, after: float | None) -> float | None:
        return None if before is None or after is None else after - before

    return Difference(
        estimate(later(b.whole.ready_s, o.whole.ready_s) for b, o in pairs),
        sum(o.whole.ready - b.whole.ready for b, o in pairs) / len(pairs),
    )


@dataclass(frozen=True)
class Forecast:
    """Everything that a view needs. ``began_s``: run time from which it looks ahead, 0 for a plan; ``start``: the wall
    clock at run time 0 in ISO 8601 with offset, empty where nobody said when."""

    plan: str
    environment: Environment
    digest: str
    hosts: int
    seed: int
    base: Outcomes
    what_ifs: tuple[Outcomes, ...] = ()
    run_id: str = ""
    began_s: float = 0.0
    start: str = ""
    limit: str = ""
    dark: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()  # that ask, and are taken as answered as the forecast begins
    firsts: tuple[str, ...] = ()  # groups whose first member a person names: taken to be the first by name
    parameters: str = ""  # the file that the world's parameters come from; empty: the usual ones
    notes: tuple[str, ...] = field(default=())

    @property
    def samples(self) -> int:
        return len(self.base.samples)
