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
is left out. Hosts whose fate hangs on a deadline by less than ``MARGIN_S`` count as not known: they hold up nobody for
longer than either fate would, and add to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Protocol

from bootorch.core.limits import RAMP_WINDOW_S, feed_path
from bootorch.core.model import AdoptedPolicy, FeedLimit, Group, Host
from bootorch.core.plan import Plan
from bootorch.core.slices import SLICE_FORKS, SLICE_HOSTS

MARGIN_S = 30.0  # longest look or exchange between a deadline and what the engine knows: polls 11 s, evidence 20 s
NEVER_S = 1e9  # a moment that never comes, as worlds write it
INRUSH_WINDOW_S = 1.0
FEW, GRID_S = 500, 4.0  # more hosts on a feed than that are reckoned in classes
HEADS, TAILS = 24, 4  # thresholds that are tried for each resource; any choice gives a bound
_NO_PLACE = frozenset({"bmc_per_subnet", "consoles", "logins", "redeploy_forks"})  # not held by a boot
_NEVER_ON = frozenset({"power_no_effect", "power_fault"})  # failures that leave the chassis off
_EPSILON = 1e-6


class Times(Protocol):
    """What is drawn for one host, seconds; ``sim.world.HostTimes`` says what each is."""

    @property
    def bmc_up_s(self) -> float: ...
    @property
    def power_s(self) -> float: ...
    @property
    def boot_s(self) -> float: ...
    @property
    def ready_s(self) -> float: ...
    @property
    def redeploy_s(self) -> tuple[float, ...]: ...
    @property
    def self_start_s(self) -> float | None: ...
    @property
    def fails(self) -> str: ...
    @property
    def failure_s(self) -> float: ...


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


def lower_bound(plan: Plan, times: Mapping[str, Times]) -> Bound:
    """The largest bound of the plan in the world that ``times`` (host -> what is drawn) was drawn from."""
    chains = _Chains(plan, times)
    parts = [Part("chain", *chains.longest())]
    started = [job for job in chains.jobs.values() if job.runs]
    for what, loads in _loads(plan, started).items():
        limit = plan.limits.feeds[what]
        # Measured draw replaces the model while the run goes on: what the budget then allows is not known.
        if limit.budget_watts is not None and not plan.limits.measure and limit.meter is None:
            floor_s = max(part.seconds for part in parts if math.isfinite(part.seconds))
            parts.append(Part(f"feed {what}", *_electricity(limit.budget_watts, loads, floor_s)))
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

    job: _Job
    peak: float
    steady: float
    surplus: float  # (peak - steady) x seconds


def _loads(plan: Plan, started: Sequence[_Job]) -> dict[str, list[_Load]]:
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


def _surplus_ws(host: Host, job: _Job) -> float:
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


@dataclass(frozen=True, slots=True)
class Draw:
    """One host on one feed: it may be switched on from ``head_s`` on, takes ``surge`` beyond its ``steady`` draw for
    ``boot_s``, and ``tail_s`` have to pass after that."""

    head_s: float
    tail_s: float
    boot_s: float
    steady: float
    surge: float

    @property
    def pace(self) -> float:
        """At which rate a feed full of such hosts alone fills up: its room shrinks by e in ``1 / pace`` seconds."""
        return math.log1p(self.steady / self.surge) / self.boot_s if self.surge > 0 and self.boot_s > 0 else 0.0


def feed_bound_s(budget: float, draws: Sequence[Draw], floor_s: float = 0.0) -> float:
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
    tried; each gives a bound.
    """
    paces = sorted(draw.pace for draw in draws if draw.pace > 0)
    if not paces:
        return floor_s
    alike = _alike(draws)
    heads = sorted(draw.head_s for draw in draws)
    starts = [heads[index * (len(heads) - 1) // HEADS] for index in range(HEADS + 1)]
    rates = sorted({paces[index * (len(paces) - 1) // 4] * factor for index in range(5) for factor in (0.7, 0.85, 1.0)})
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


def _electricity(budget: float, loads: list[_Load], floor_s: float) -> tuple[float, str]:
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
    found = feed_bound_s(budget, draws, floor_s)
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


def _slots(plan: Plan, started: Sequence[_Job]) -> list[Part]:
    places: dict[str, tuple[int, list[_Job]]] = {}
    for kind, limit in plan.limits.slots.items():
        if kind in _NO_PLACE:
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
        share = min(SLICE_FORKS, forks) / SLICE_HOSTS
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


# -- chains ---------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Wait:
    """``members`` of which ``needed`` must be ready in ``across`` racks; ``needed`` None: all must have settled."""

    members: list[_Job]
    needed: int | None
    across: int = 0
    control: bool = False
    children: list[_Job] = field(default_factory=list)
    unknown: int = 0  # members whose times are not yet reckoned
    holds_s: float = 0.0  # not before
    may: bool = True  # it can hold
    surely: bool = True  # it will
    decisive: str = ""  # the member that lets it hold

    def reckon(self) -> None:
        if self.needed is None:
            last = max(self.members, key=lambda job: job.settled_s)
            self.holds_s, self.decisive = last.settled_s, last.host.name
            self.surely = not any(job.stuck for job in self.members)
            return
        able = sorted((job for job in self.members if job.may), key=lambda job: job.ready_s)
        sure = [job for job in self.members if job.surely]
        self.may = len(able) >= self.needed and len({job.host.rack for job in able}) >= self.across
        self.surely = len(sure) >= self.needed and len({job.host.rack for job in sure}) >= self.across
        if not self.may:
            return
        last = able[self.needed - 1] if self.needed else able[0]
        if self.across:
            racks: dict[str, _Job] = {}
            for job in able:
                racks.setdefault(job.host.rack, job)
            last = max(last, list(racks.values())[self.across - 1], key=lambda job: job.ready_s)
        self.holds_s, self.decisive = last.ready_s, last.host.name

    def needs_all(self) -> bool:
        """No member can be spared: the children wait for each of them."""
        return self.needed is None or self.needed >= sum(1 for job in self.members if job.may)


@dataclass(slots=True, eq=False)
class _Job:
    """One host: least times in seconds of the run.

    ``head_s``: it cannot be switched on before. ``place_s``: from then to the proof of its boot, or until it is given
    up. ``tail_s``: from there to the end of the run, at least. ``may``, ``surely``: it can, and it will become ready.
    """

    host: Host
    group: Group
    waits: list[_Wait] = field(default_factory=list)
    counted_in: list[_Wait] = field(default_factory=list)
    unknown: int = 0
    control_s: float = 0.0
    head_s: float = 0.0
    power_s: float = 0.0
    place_s: float = 0.0
    redeploy_s: float = 0.0
    after_s: float = 0.0  # ready checks and redeploy
    ready_s: float = math.inf
    settled_s: float = 0.0
    tail_s: float = 0.0
    may: bool = False
    surely: bool = False
    ends: bool = False  # its way to the end is known: it counts
    runs: bool = False  # it is surely switched on
    never_on: bool = False
    stuck: bool = False  # it may never settle


class _Chains:
    """Every host's least times, forwards along the dependencies, then how much must follow each, backwards."""

    def __init__(self, plan: Plan, times: Mapping[str, Times]) -> None:
        self._plan = plan
        self._times = times
        self.jobs = {name: _Job(host, plan.groups[host.group]) for name, host in plan.hosts.items()}
        self._gate_s = {name: _gate_s(plan, name) for name in plan.groups}
        self._playbooks_s = {name: self._playbook_s(group) for name, group in plan.groups.items()}
        for group in plan.groups.values():
            self._waits_of(group)
        self._order: list[_Job] = []
        self._forwards()
        self._backwards()

    def longest(self) -> tuple[float, str]:
        """The latest least end, and the hosts on the way there."""
        ends = [job for job in self.jobs.values() if job.ends]
        if not ends:
            return 0.0, ""
        job = max(ends, key=lambda job: job.settled_s)
        seconds, way = job.settled_s, [job.host.name]
        while job.waits:
            wait = max(job.waits, key=lambda wait: wait.holds_s)
            if not wait.decisive or wait.holds_s < job.head_s - _EPSILON:
                break
            job = self.jobs[wait.decisive]
            way.append(job.host.name)
        return seconds, " > ".join(reversed(way))

    def _playbook_s(self, group: Group) -> float:
        """A slice takes what its first host draws: which that is, is not known."""
        drawn = [self._times[name].redeploy_s for name in group.hosts]
        return sum(min(each) for each in zip(*drawn, strict=True)) if drawn else 0.0

    def _waits_of(self, group: Group) -> None:
        hosts = [self.jobs[name] for name in group.hosts]
        for requirement in group.requires:
            members = [self.jobs[name] for name in self._plan.groups[requirement.group].hosts]
            needy = set(requirement.hosts)
            children = [job for job in hosts if not needy or job.host.name in needy]
            fact, parent_fact = requirement.per_host, requirement.parent_key
            parents: dict[str, list[_Job]] = {}
            for job in members:
                parents.setdefault(job.host.fact(parent_fact) if parent_fact else "", []).append(job)
            waiting: dict[str, list[_Job]] = {}
            for job in children:
                waiting.setdefault(job.host.fact(fact) if fact else "", []).append(job)
            for value, own in waiting.items():
                if found := parents.get(value):
                    needed = requirement.quorum.needed(len(found))
                    wait = _Wait(found, needed, requirement.across_racks, bool(requirement.control))
                    self._add(wait, own)
        for parent in group.after:
            if names := self._plan.groups[parent].hosts:
                self._add(_Wait([self.jobs[name] for name in names], None), hosts)
        if group.first is not None:
            candidates = [self.jobs[name] for name in group.first.candidates]
            for before, following in pairwise(candidates):
                self._add(_Wait([before], None), [following])  # its turn comes when the one before has failed
            if candidates:
                others = [job for job in hosts if job.host.name not in group.first.candidates]
                self._add(_Wait(candidates, 1), others)

    def _add(self, wait: _Wait, children: Iterable[_Job]) -> None:
        wait.children = list(children)
        wait.unknown = len(wait.members)
        for job in wait.children:
            job.waits.append(wait)
            job.unknown += 1
        for job in wait.members:
            job.counted_in.append(wait)

    def _forwards(self) -> None:
        todo = [job for job in self.jobs.values() if not job.unknown]
        while todo:
            job = todo.pop()
            self._reckon(job)
            self._order.append(job)
            for wait in job.counted_in:
                wait.unknown -= 1
                if not wait.unknown:
                    wait.reckon()
                    for child in wait.children:
                        child.unknown -= 1
                        if not child.unknown:
                            todo.append(child)

    def _reckon(self, job: _Job) -> None:
        drawn, group = self._times[job.host.name], job.group
        deadlines = group.deadlines
        job.stuck = any(member.stuck for wait in job.waits if not wait.surely for member in wait.members)
        if job.host.feeds and all(self._dark(cord) for cord in job.host.feeds):
            job.stuck = True  # it waits for a word from outside
            return
        free_s = max((wait.holds_s for wait in job.waits), default=0.0)
        control_s = max((wait.holds_s for wait in job.waits if wait.control), default=0.0)
        allowed = all(wait.surely for wait in job.waits)
        if not all(wait.may for wait in job.waits) and drawn.self_start_s is None:
            return  # blocked, as soon as that is known: perhaps at once
        resend_s = deadlines.power / max(1, group.attempts.power)
        job.power_s = min(drawn.power_s, resend_s)  # a lost power-on is sent again then, and that one may be quicker
        job.head_s = max(drawn.bmc_up_s, free_s, self._gate_s[group.name])
        adopted = drawn.self_start_s is not None
        redeploys = not adopted or group.adopted is AdoptedPolicy.REDEPLOY
        job.redeploy_s = self._playbooks_s[group.name] if redeploys else 0.0
        job.after_s = drawn.ready_s + job.redeploy_s
        near_bmc = drawn.bmc_up_s > deadlines.bmc - MARGIN_S
        if drawn.bmc_up_s >= NEVER_S:
            job.settled_s = control_s + drawn.failure_s
            job.ends = allowed and not adopted
            return
        if adopted:
            self._reckon_adopted(job, drawn, allowed and not near_bmc)
            return
        if drawn.fails in _NEVER_ON or _over(drawn.power_s, deadlines.power):
            job.never_on = True
            job.place_s = drawn.failure_s if drawn.fails else deadlines.power
        elif drawn.fails:
            job.place_s = drawn.failure_s
        else:
            job.place_s = job.power_s + drawn.boot_s
        near = near_bmc or any(
            abs(seconds - limit) <= MARGIN_S
            for seconds, limit in ((drawn.power_s, deadlines.power), (drawn.boot_s, deadlines.boot))
        )
        fails = bool(drawn.fails) or job.never_on
        if near and not near_bmc and not fails:
            # Proven or given up at about the same time: the sooner of the two.
            job.place_s = min(job.place_s, deadlines.power if job.never_on else job.power_s + deadlines.boot)
        job.may = not fails or near
        job.surely = allowed and not fails and not near
        job.ends = allowed and not near
        job.runs = job.ends
        if fails and near:
            job.place_s = min(job.place_s, job.power_s + drawn.boot_s)
        job.ready_s = job.head_s + job.place_s + job.after_s if job.may else math.inf
        job.settled_s = job.head_s + job.place_s + (0.0 if fails else job.after_s)
        if not job.ends:
            job.settled_s = 0.0  # blocked, perhaps, or given up early

    def _reckon_adopted(self, job: _Job, drawn: Times, sure: bool) -> None:
        """On without a power-on, whatever it waits for."""
        own_s = drawn.self_start_s if drawn.self_start_s is not None else 0.0
        boot_s = 0.0 if own_s < 0 else drawn.boot_s
        job.head_s = max(0.0, min(own_s, job.head_s))
        up_s = max(drawn.bmc_up_s, job.head_s + boot_s)
        job.place_s = up_s - job.head_s
        job.may = True
        job.surely = job.ends = sure and not drawn.fails
        job.ready_s = up_s + job.after_s
        job.settled_s = job.ready_s if job.ends else 0.0

    def _dark(self, cord: str) -> bool:
        feeds = self._plan.limits.feeds
        return any(name in feeds and feeds[name].dark for name in feed_path(cord))

    def _backwards(self) -> None:
        follows: dict[int, float] = {}  # wait -> what must follow at least once it holds
        for job in reversed(self._order):
            if job.ends:
                job.tail_s = job.after_s if job.may else 0.0
                for wait in job.counted_in:
                    if (job.may or wait.needed is None) and wait.needs_all():
                        if id(wait) not in follows:
                            follows[id(wait)] = max(
                                (child.place_s + child.tail_s for child in wait.children if child.runs), default=0.0
                            )
                        job.tail_s = max(job.tail_s, (job.after_s if job.may else 0.0) + follows[id(wait)])


def _over(seconds: float, limit: float) -> bool:
    return seconds > limit + MARGIN_S


def _gate_s(plan: Plan, group: str) -> float:
    """Gates that open at a time of the run: no power-on before."""
    waits = (gate.wait_s for gate in plan.gates.values() if not gate.groups or group in gate.groups)
    return max((wait_s for wait_s in waits if wait_s is not None), default=0.0)
