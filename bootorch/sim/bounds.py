"""The least time that any schedule needs, whoever makes it: what a makespan is measured against.

Nothing here comes from the engine's scheduling. From the plan and what the world has drawn for each host, four kinds of
bound are computed, and the largest counts:

*Chain*: along dependencies, with each host's own times. A quorum of k holds when its k-th member is ready, over enough
racks; ``after`` when every member has settled. A host that fails counts until its deadlines have given it up.

*Electricity* of each feed and supply with a budget: see :func:`feed_bound_s`.

*Ramp* (and inrush) of each feed: in any window at most R watts of boot peaks may be switched on, so that W watts take
at least ``ceil(W / R) - 1`` windows between the first start and the last.

*Slots*: hosts that hold one of m places for d seconds each take at least ``sum(d) / m``.

All take the heads and tails of the chain into account. The last two as bounds of single machines do (Carlier, EJOR
1982): for a set of hosts of which none can start before a and after none of whose boots less than b has to follow, a
and b are added. The sets tried are {head >= a, tail >= b}.

What is only known while a run goes on (lost packets, what an image server loses, tripped breakers, a person's answer)
is left out. Hosts whose fate hangs on a deadline by less than ``chains.MARGIN_S`` count as not known: they hold up
nobody for longer than either fate would, and add to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from bootorch.core.limits import RAMP_WINDOW_S, feed_path
from bootorch.core.model import FeedLimit, Host
from bootorch.core.plan import Plan
from bootorch.core.slices import SLICE_ROUNDS
from bootorch.sim.chains import Chains, Job, Times
from bootorch.sim.weights import Draw, fitted_bound_s

INRUSH_WINDOW_S = 1.0
FEW, GRID_S = 500, 4.0  # more hosts on a feed than that are reckoned in classes
NEARLY = 0.985  # a feed that comes so near to what is known may be above it with better weights
HEADS, TAILS = 24, 4  # thresholds that are tried for each resource; any choice gives a bound
_NO_PLACE = frozenset({"bmc_per_subnet", "consoles", "logins", "redeploy_forks"})  # not held by a boot
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Part:
    """One bound: ``what`` is ``chain``, ``feed hall-a``, ``ramp hall-a`` or ``slot image_server:pxe-1``."""

    what: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """``seconds``: no run of the plan in this world is shorter; infinite: none can end, ``binding.detail`` says what
    fits. ``parts``: the largest of each kind first."""

    seconds: float
    binding: Part
    parts: tuple[Part, ...]


def lower_bound(plan: Plan, times: Mapping[str, Times], *, thorough: bool = True, steps: int = 0) -> Bound:
    """The largest bound of the plan in the world that ``times`` (host -> what is drawn) was drawn from.

    Without ``thorough`` fewer weights are tried for the feeds: a little weaker where electricity decides, and quick.
    With ``steps`` (some hundred) weights are fitted to each feed that may decide: about a hundredth stronger there, and
    some 10 s for 8,000 hosts.
    """
    chains = Chains(plan, times)
    parts = [Part("chain", *chains.longest())]
    started = [job for job in chains.jobs.values() if job.runs]
    for what, loads in _loads(plan, started).items():
        limit = plan.limits.feeds[what]
        # Measured draw replaces the model while the run goes on: what the budget then allows is not known.
        if limit.budget_watts is not None and not plan.limits.measure and limit.meter is None:
            floor_s = max(part.seconds for part in parts if math.isfinite(part.seconds))
            parts.append(Part(f"feed {what}", *_electricity(limit.budget_watts, loads, floor_s, thorough, steps)))
        if limit.ramp_watts_per_min is not None:
            parts.append(Part(f"ramp {what}", *_ramp(limit.ramp_watts_per_min, loads)))
        if limit.inrush_amps is not None:
            parts.append(Part(f"inrush {what}", *_inrush(limit.inrush_amps, loads)))
    parts += _slots(plan, started)
    parts.sort(key=lambda part: (-part.seconds, part.what != "chain", part.what))
    return Bound(parts[0].seconds, parts[0], tuple(parts))


# -- electricity ---------------------------------------------------------------------


@dataclass(slots=True)
class _Load:
    """One host on one feed, in the feed's unit."""

    job: Job
    peak: float
    steady: float
    surplus: float  # (peak - steady) x seconds


def _loads(plan: Plan, started: Sequence[Job]) -> dict[str, list[_Load]]:
    feeds = plan.limits.feeds
    found: dict[str, list[_Load]] = {name: [] for name in feeds}
    for job in started:
        host = job.host
        for name, weight in _weights(host, feeds).items():
            surplus = weight * _surplus_ws(host, job)
            # A failed power-on leaves nothing on; what hangs in its boot draws more than its steady draw ever after.
            steady = 0.0 if job.never_on else host.watts_steady
            found[name].append(_Load(job, weight * host.watts_boot_peak, weight * steady, surplus))
        for load in host.loads:
            prefix, _, path = load.path.rpartition(":")
            for part in feed_path(path):
                name = f"{prefix}:{part}" if prefix else part
                if name in feeds:
                    steady = 0.0 if job.never_on else load.steady
                    found[name].append(_Load(job, load.peak, steady, max(0.0, load.peak - steady) * job.place_s))
    return found


def _weights(host: Host, feeds: Mapping[str, FeedLimit]) -> dict[str, float]:
    """What share of a host counts on each limited feed above its cords: all of it where a feed must bear the failure
    of another one."""
    cords: dict[str, int] = {}
    for cord in host.feeds:
        for name in feed_path(cord):
            if name in feeds:
                cords[name] = cords.get(name, 0) + 1
    return {name: 1.0 if feeds[name].failover else count / len(host.feeds) for name, count in cords.items()}


def _surplus_ws(host: Host, job: Job) -> float:
    """Watt-seconds above the steady draw between power-on and proof, at least."""
    steady = 0.0 if job.never_on else host.watts_steady
    surge = max(0.0, host.watts_boot_peak - steady)
    if not host.watts_profile or job.never_on:
        return surge * job.place_s
    # The profile runs from the moment the chassis reads on; before that, and before its first step, the peak counts.
    total, since, watts = 0.0, 0.0, surge
    on_s = max(0.0, job.place_s - job.power_s)
    for after_s, step in host.watts_profile:
        until = min(max(after_s, since), on_s)
        total += watts * (until - since)
        since, watts = until, min(surge, max(0.0, step - steady))
    return surge * job.power_s + total + watts * (on_s - since)


def feed_bound_s(
    budget: float, draws: Sequence[Draw], floor_s: float = 0.0, *, thorough: bool = True, steps: int = 0
) -> float:
    """A time in which these hosts cannot all be brought up under ``budget`` B; ``floor_s``: one that is known already.

    By duality. Take any weight w(u) >= 0 of the moments u of a run that ends at C. A host that is switched on at t
    draws s + g for d seconds and s from then on, so that with it the feed carries, weighted,

        cost(t) = g * integral of w from t to t + d  +  s * integral of w from t to C,

    and all hosts together at most B times the integral of w from 0 to C. Whatever the schedule, t lies between the
    host's head and C - tail - d. Where the sum of the least costs is more than that, C is too short. Here
    w(u) = exp(k u) from a moment a on, and 0 before. From a on the cost is monotonous in t:

        cost(t) = (s exp(k C) + (g (exp(k d) - 1) - s) exp(k t)) / k,

    so it is least at one of the ends; a start before a costs s times the integral from a to C, and what of its boot
    reaches over a. For equal hosts, a = 0 and k = ln(1 + s / g) / d, this gives C >= ln(B / (B - sum s)) / k, and a
    schedule that switches hosts on as room is there comes as near to that as whole hosts allow. Several k and a are
    tried; each gives a bound. With ``steps``, weights of any shape follow (``sim.weights``).
    """
    if steps:
        known_s = feed_bound_s(budget, draws, floor_s * NEARLY, thorough=thorough)
        if known_s <= floor_s * NEARLY:
            return floor_s
        return max(floor_s, fitted_bound_s(budget, draws, known_s, steps))
    paces = sorted(draw.pace for draw in draws if draw.pace > 0)
    if not paces:
        return floor_s
    alike = _alike(draws)
    heads = sorted(draw.head_s for draw in draws)
    count = HEADS if thorough else 2
    starts = [heads[index * (len(heads) - 1) // count] for index in range(count + 1)]
    parts, factors = (4, (0.7, 0.85, 1.0)) if thorough else (2, (0.85,))
    rates = sorted({paces[i * (len(paces) - 1) // parts] * factor for i in range(parts + 1) for factor in factors})
    best = floor_s
    # A feed that does not bind shows at a few looks, and most do not.
    coarse = [(start, rate) for start in starts[::4] for rate in rates[::3]]
    if not any(_too_short(budget, alike, start, rate, max(best, start) + 1.0) for start, rate in coarse):
        return best
    for start in dict.fromkeys(starts):
        for rate in rates:
            # Mostly it is no better than what is known: one look tells.
            found = max(best, start)
            step = 64.0 if _too_short(budget, alike, start, rate, found + 1.0) else 0.0
            while step >= 1.0:
                while _too_short(budget, alike, start, rate, found + step):
                    found = best = found + step
                step /= 4
    return best


def _alike(draws: Sequence[Draw]) -> list[tuple[Draw, int]]:
    """Hosts that differ by less than ``GRID_S`` as one, with their number: the least of each, so it stays a bound."""
    if len(draws) < FEW:
        return [(draw, 1) for draw in draws]

    def down(seconds: float) -> float:
        return seconds // GRID_S * GRID_S

    found: dict[Draw, int] = {}
    for draw in draws:
        least = Draw(down(draw.head_s), down(draw.tail_s), down(draw.boot_s), draw.steady, draw.surge)
        found[least] = found.get(least, 0) + 1
    return list(found.items())


def _too_short(budget: float, alike: Sequence[tuple[Draw, int]], start: float, rate: float, end: float) -> bool:
    """Do the least costs of all exceed what the feed can carry, with the weight that begins at ``start``?"""
    if end <= start:
        return False
    # All weights are taken relative to exp(k C): no overflow, however long the run.
    whole = -math.expm1(rate * (start - end))
    capacity = budget * whole
    carried = 0.0
    exp = math.exp
    for draw, count in alike:
        steady, surge, boot_s, head_s = draw.steady, draw.surge, draw.boot_s, draw.head_s
        latest = end - draw.tail_s - boot_s
        if latest < head_s:
            return True  # its own chain does not fit
        growth = surge * (exp(rate * boot_s) - 1.0) - steady
        at = latest if growth < 0 else max(head_s, start)
        least = steady + growth * exp(rate * (at - end)) if at >= start else math.inf
        if head_s < start:
            before = steady * whole
            over = min(head_s + boot_s, end) - start
            if over > 0:
                before += surge * (exp(rate * (start + over - end)) - exp(rate * (start - end)))
            least = min(least, before)
        carried += least * count
        if carried > capacity + _EPSILON:
            return True
    return False


def _electricity(budget: float, loads: list[_Load], floor_s: float, thorough: bool, steps: int) -> tuple[float, str]:
    """``floor_s``: a bound that is known. A feed that cannot be above it is not reckoned out, and says what is sure."""
    total = sum(load.steady for load in loads)
    # Whoever boots last draws its peak beside the steady draw of all others.
    least_end = min((total - load.steady + load.peak for load in loads if load.surplus > 0), default=0.0)
    if least_end > budget + _EPSILON:
        fits = sum(1 for drawn in accumulate(sorted(load.steady for load in loads)) if drawn <= budget)
        return math.inf, f"{fits} of {len(loads)} hosts fit: all of them draw {total:.0f} of {budget:.0f}"
    if sum(load.peak for load in loads) <= budget:
        return 0.0, "room for all peaks at once"
    draws = []
    for load in loads:
        surge = load.peak - load.steady
        # The weights rise: whatever the profile, its surplus costs least at its full height, as early as can be.
        boot_s = load.surplus / surge if surge > 0 else load.job.place_s
        rest = load.job.place_s - boot_s
        draws.append(Draw(load.job.head_s, load.job.tail_s + rest, boot_s, load.steady, surge))
    work = sum(load.surplus for load in loads)
    detail = f"{work / 3.6e6:.1f} kWh of boots, {total:.0f} of {budget:.0f} in the end"
    # All the work in the room that is left when everybody runs: a feed that is done so soon never binds.
    latest = max(draw.head_s for draw in draws) + max(draw.boot_s + draw.tail_s for draw in draws)
    if work / max(budget - total, _EPSILON) + latest <= floor_s:
        return work / budget, detail
    if any(load.job.host.watts_profile for load in loads):
        steps = 0  # what was said of profiles holds for weights that rise
    found = feed_bound_s(budget, draws, floor_s, thorough=thorough, steps=steps)
    return (found if found > floor_s else work / budget), detail


def _thresholds(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pairs (head, tail) of sets worth trying: quantiles of both, the smallest included."""

    def quantiles(values: Iterable[float], count: int) -> list[float]:
        ordered = sorted(values)
        return sorted({ordered[index * (len(ordered) - 1) // count] for index in range(count + 1)})

    heads = quantiles((head for head, _ in pairs), HEADS)
    return [(head, tail) for head in heads for tail in quantiles((q for h, q in pairs if h >= head), TAILS)]


# -- ramps, inrush, slots ---------------------------------------------------------------------


def _ramp(watts_per_min: float, loads: Sequence[_Load]) -> tuple[float, str]:
    jobs = [(load.job.head_s, load.job.place_s + load.job.tail_s, load.peak) for load in loads]
    return _windows(watts_per_min, RAMP_WINDOW_S, jobs)


def _inrush(amps: float, loads: Sequence[_Load]) -> tuple[float, str]:
    jobs = [(load.job.head_s, load.job.place_s + load.job.tail_s, load.job.host.inrush_amps) for load in loads]
    return _windows(amps, INRUSH_WINDOW_S, jobs)


def _windows(limit: float, window_s: float, jobs: Sequence[tuple[float, float, float]]) -> tuple[float, str]:
    """``jobs``: (head, seconds from its start to the end, what it takes of a window)."""

    def seconds(amount: float) -> float:
        return window_s * max(0, math.ceil(amount / limit - _EPSILON) - 1)

    return _additive(jobs, seconds)


def _slots(plan: Plan, started: Sequence[Job]) -> list[Part]:
    places: dict[str, tuple[int, list[Job]]] = {}
    for kind, limit in plan.limits.slots.items():
        if kind in _NO_PLACE or "boot" not in plan.limits.during.get(kind, ("boot",)):
            continue
        for job in started:
            value = kind if kind == "boots" else job.host.fact(kind)
            if value:
                name = kind if kind == "boots" else f"{kind}:{value}"
                places.setdefault(name, (limit, []))[1].append(job)
    parts = [
        Part(f"slot {name}", *_places(limit, [(job.head_s, job.tail_s, job.place_s) for job in jobs]))
        for name, (limit, jobs) in sorted(places.items())
    ]
    forks = plan.limits.slots.get("redeploy_forks")
    if forks is not None:
        # A full slice has several hosts to a fork: that is the least that a host can take of them.
        share = 1 / SLICE_ROUNDS
        jobs = [(job.head_s + job.place_s, 0.0, job.redeploy_s * share) for job in started if job.redeploy_s]
        if jobs:
            parts.append(Part("slot redeploy_forks", *_places(forks, jobs)))
    return parts


def _places(limit: int, jobs: Sequence[tuple[float, float, float]]) -> tuple[float, str]:
    """``jobs``: (head, tail, seconds that it holds a place)."""
    return _additive(jobs, lambda amount: amount / limit)


def _additive(jobs: Sequence[tuple[float, float, float]], seconds: _Seconds) -> tuple[float, str]:
    best, detail = 0.0, ""
    for tail in sorted({q for _, q in _thresholds([(head, tail) for head, tail, _ in jobs])}) if jobs else ():
        amount, count = 0.0, 0
        for head, own_tail, own in sorted(jobs, key=lambda job: -job[0]):
            if own_tail < tail:
                continue
            amount += own
            count += 1
            if (total := head + seconds(amount) + tail) > best:
                best, detail = total, f"{count} hosts from {head:.0f} s on, {tail:.0f} s after"
    return best, detail


class _Seconds(Protocol):
    def __call__(self, amount: float, /) -> float: ...
