"""One simulated run measured: when each group is back, what held hosts back, and the chain that decided the end.

``Timeline`` tells everything of every host and costs as much as the engine. A forecast runs the same plan again and
again and wants a few hundred numbers of each run, so ``Gauge`` keeps no event: it looks at the draw of a few feeds when
hosts were switched on, and once in a while at who is held back; the rest is read off the final state. ``measure`` makes
the ``Sample``, a small value that travels between processes. Times are run seconds, draws are watts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from bootorch.core.admission import SURVEY
from bootorch.core.critical import Leg
from bootorch.core.dependencies import Leader, Need, Order, Status
from bootorch.core.events import Event, Intent, Kind
from bootorch.core.hoststate import HostState
from bootorch.core.limits import Resource, feed_path
from bootorch.core.model import Outcome, Quorum, Stage
from bootorch.core.plan import Plan
from bootorch.core.state import State
from bootorch.core.timeline import Phase, resource_title

POINTS = 320  # of a series: finer than a screen shows
MOST_FEEDS = 8  # whose draw is followed: those whose hosts ask for most of their budget
EXACT_FEEDS = 12  # with at most so many limited feeds, the draw is read after every decision that switched a host on
LOOKS = 24  # at who is held back, before the time between two looks is doubled
FIRST_LOOK_S = 10.0
USABLE_SHARE = 0.9  # a service that nobody requires counts as usable with so many of its hosts
MOST_LEFT = 12  # reasons of hosts without an outcome

GOOD = (Outcome.READY, Outcome.ADOPTED)
Points = tuple[tuple[float, float], ...]


class Series:
    """What a step function was at most in each of a few hundred equal parts of time; the parts grow as it goes on."""

    __slots__ = ("_last", "_most", "_width")

    def __init__(self, width_s: float = 1.0) -> None:
        self._width = width_s
        self._most: list[float] = []
        self._last = 0.0

    def add(self, t: float, value: float) -> None:
        """The value is ``value`` from ``t`` on. ``t`` never goes back."""
        index = int(t / self._width)
        while index >= 2 * POINTS:
            self._most = [max(self._most[i : i + 2]) for i in range(0, len(self._most), 2)]
            self._width *= 2
            index = int(t / self._width)
        most = self._most
        while len(most) <= index:
            most.append(self._last)  # what was there when the part began
        self._last = value
        if value > most[index]:
            most[index] = value

    def points(self) -> Points:
        """(begin of the part, its greatest value); parts that continue the one before are left out."""
        points: list[tuple[float, float]] = []
        for index, value in enumerate(self._most):
            if not points or points[-1][1] != value:
                points.append((index * self._width, value))
        return tuple(points)


@dataclass(frozen=True, slots=True)
class Passage:
    """How a group, a tier or the whole went. ``None``: it did not come to that."""

    size: int
    ready: int
    quarantined: int
    blocked: int
    skipped: int
    left: int  # without an outcome as the run stood still
    ready_s: float | None  # its last host that becomes ready is
    quorum_s: float | None  # usable: see ``quorums``


@dataclass(frozen=True, slots=True)
class Held:
    """What one resource cost: hosts held back by it times the seconds, and how many at once at most."""

    host_s: float
    most: int


@dataclass(frozen=True, slots=True)
class Binding:
    """What explains most of the critical path. ``kind``: ``feed``, ``ramp``, ``slot``, ``gate``, ``breaker`` …, or
    ``chain`` for the work itself (boots, playbooks) along the dependencies."""

    kind: str
    title: str
    seconds: float
    share: float  # of the path


@dataclass(frozen=True, slots=True)
class Left:
    """Hosts that the run cannot finish, by what they wait for."""

    why: str
    hosts: int
    examples: tuple[str, ...]
    waiting: bool  # for other hosts: a consequence, not a cause


@dataclass(frozen=True, slots=True)
class Sample:
    """One simulated run."""

    seed: int
    verdict: str
    end_s: float
    whole: Passage
    tiers: Mapping[int, Passage]
    groups: Mapping[str, Passage]
    ready: Points  # hosts ready over time
    feeds: Mapping[str, Points]
    held: Mapping[Resource, Held]
    path: tuple[Leg, ...]
    binding: Binding | None
    left: tuple[Left, ...]
    tripped: Mapping[str, str]
    bound_s: float | None = None
    bound_by: str = ""

    @property
    def finished(self) -> bool:
        return self.whole.left == 0

    def with_bound(self, seconds: float, by: str) -> Sample:
        return replace(self, bound_s=seconds, bound_by=by)


def followed_feeds(plan: Plan, peaks: Mapping[tuple[str, ...], float]) -> tuple[str, ...]:
    """The limited feeds whose hosts ask for most of their budget, the fullest first; a site's feeds before its rows.
    ``peaks``: watts of the hosts' boot peaks, by their cords."""
    asked = dict.fromkeys((name for name, limit in plan.limits.feeds.items() if limit.budget_watts), 0.0)
    for cords, peak_watts in peaks.items():
        for name in dict.fromkeys(part for cord in cords for part in feed_path(cord) if part in asked):
            asked[name] += peak_watts

    def rank(name: str) -> tuple[int, float, str]:
        return (name.count("/"), -asked[name] / (plan.limits.feeds[name].budget_watts or 1.0), name)

    return tuple(sorted((name for name, watts in asked.items() if watts), key=rank)[:MOST_FEEDS])


def quorums(plan: Plan) -> Mapping[str, int]:
    """How many members make each group usable: as many as the groups that require it ask for; ``USABLE_SHARE`` of them
    where nobody asks, or each host asks only for its own (``per_host``)."""
    asked: dict[str, int] = {}
    for group in plan.groups.values():
        for requirement in group.requires:
            if not requirement.per_host:
                needed = requirement.quorum.needed(len(plan.groups[requirement.group].hosts))
                asked[requirement.group] = max(asked.get(requirement.group, 0), needed)
    usual = Quorum(share=USABLE_SHARE)
    return {
        name: min(asked.get(name) or usual.needed(len(group.hosts)), len(group.hosts))
        for name, group in plan.groups.items()
    }


class Gauge:
    """Call ``look`` after every decision of the engine, ``measure`` at the end."""

    def __init__(
        self,
        state: State,
        held_back: Callable[[], Iterable[tuple[HostState, Resource]]],
    ) -> None:
        """``held_back``: the engine's."""
        self._state = state
        self._held_back = held_back
        self._began_s = state.t
        self._feeds = followed_feeds(state.plan, state.peaks)
        self._series = {name: Series() for name in self._feeds}
        self._exact = len(state.plan.limits.feeds) <= EXACT_FEEDS
        self._held: dict[Resource, list[float]] = {}  # host seconds, most at once
        self._parked: dict[str, list[tuple[float, Resource]]] = {}  # host -> since when, by what
        self._every_s = FIRST_LOOK_S
        self._looks = 0
        self._looked_s = self._next_s = self._draw_s = state.t

    def look(self, now: float, decided: Sequence[Event]) -> None:
        """What was decided at ``now`` is folded, its effects have not happened yet: draws are at their peak."""
        if self._exact and self._feeds:
            for event in decided:
                if event.__class__ is Intent and event.kind is Kind.POWER_ON:
                    self._draw(now)
                    break
        if now >= self._next_s:
            self._look(now)
        elif now >= self._draw_s:
            self._draw(now)

    def _draw(self, now: float) -> None:
        if self._feeds:
            draws = self._state.feeds.draw_watts()
            for name, series in self._series.items():
                series.add(now, draws[name])
        self._draw_s = now + self._every_s / 4

    def _look(self, now: float) -> None:
        self._draw(now)
        seconds = now - self._looked_s
        counts: dict[Resource, int] = {}
        parked = self._parked
        for host, resource in self._held_back():
            counts[resource] = counts.get(resource, 0) + 1
            before = parked.get(host.name)
            if before is None:
                parked[host.name] = [(now, resource)]
            elif before[-1][1] != resource:
                before.append((now, resource))
        for resource, count in counts.items():
            held = self._held.setdefault(resource, [0.0, 0])
            held[0] += count * seconds
            held[1] = max(held[1], count)
        self._looked_s = now
        self._looks += 1
        if self._looks >= LOOKS:
            self._looks //= 2
            self._every_s *= 2
        self._next_s = now + self._every_s

    # -- the end ---------------------------------------------------------------------

    def measure(self, seed: int, verdict: str) -> Sample:
        """The sample, from the final state."""
        state = self._state
        self._draw(state.t)
        counts = {name: dict.fromkeys(Outcome, 0) for name in state.plan.groups}
        ready: dict[str, list[float]] = {name: [] for name in state.plan.groups}
        last: HostState | None = None
        without: list[HostState] = []  # an outcome
        # One look at each of a million hosts: none of them is in the processor's caches any more.
        for host in state.hosts.values():
            outcome = host.outcome
            if outcome is None:
                without.append(host)
                outcome = Outcome.UNKNOWN
            group_name = host.group.name
            counts[group_name][outcome] += 1
            if outcome in GOOD:
                ready[group_name].append(host.settled_t)
                if last is None or _when(host) > _when(last):
                    last = host
        path = self._path(last)
        needed = quorums(state.plan)
        groups: dict[str, Passage] = {}
        tiers: dict[int, list[Passage]] = {}
        for name, group in state.plan.groups.items():
            groups[name] = passage = _passage(counts[name], ready[name], needed[name])
            tiers.setdefault(group.tier, []).append(passage)
        times = sorted(t for of_group in ready.values() for t in of_group)
        return Sample(
            seed=seed,
            verdict=verdict,
            end_s=state.t,
            whole=_sum(groups.values()),
            tiers={tier: _sum(tiers[tier]) for tier in sorted(tiers)},
            groups=groups,
            ready=_counted(times, state.t),
            feeds={name: series.points() for name, series in self._series.items()},
            held={resource: Held(values[0], int(values[1])) for resource, values in sorted(self._held.items())},
            path=path,
            binding=binding(path),
            left=_left(state, without, self._resource),
            tripped=dict(state.tripped),
        )

    def _resource(self, host: HostState) -> Resource | None:
        if host.parked is not None and host.parked != SURVEY:
            return host.parked
        held = self._parked.get(host.name)
        return held[-1][1] if held and host.stage in (Stage.POWER, Stage.REDEPLOY) else None

    def _path(self, last: HostState | None) -> tuple[Leg, ...]:
        """The chain that ends with ``last``, as ``critical.critical_path`` finds it, from settle times alone."""
        legs: list[Leg] = []
        seen: set[str] = set()
        host = last
        while host is not None and host.name not in seen:
            seen.add(host.name)
            before, waited_for = self._released(host)
            legs.append(self._leg(host, before, waited_for))
            host = before
        return tuple(reversed(legs))

    def _released(self, host: HostState) -> tuple[HostState | None, str]:
        """The host whose outcome let this one go last, and the dependency that it was for."""
        found: HostState | None = None
        title = ""
        name = host.name
        hosts = self._state.hosts
        for wait in self._state.dependencies.of[name]:
            if wait.status is not Status.HOLDS:
                continue
            match wait:
                case Leader():
                    turned = hosts[wait.chosen] if wait.chosen and wait.chosen != name else None
                case Order():
                    settled = (hosts[m] for m in wait.members if hosts[m].outcome is not None)
                    turned = max(settled, key=_when, default=None)
                case Need():
                    ready = [hosts[m] for m in wait.members if hosts[m].outcome in GOOD]
                    turned = _turned(ready, wait.needed, wait.across)
            if turned is not None and (found is None or _when(turned) > _when(found)):
                found, title = turned, wait.title
        if found is not None and found.settled_t > host.settled_t:
            return None, ""  # it went before: what was ready then went dark, or another member was first
        return found, title

    def _leg(self, host: HostState, before: HostState | None, waited_for: str) -> Leg:
        start = before.settled_t if before is not None else min(self._began_s, host.settled_t)
        marks: list[tuple[float, Phase]] = [(start, Phase.BMC)]
        held_by: dict[Resource, None] = {}
        for since, resource in self._parked.get(host.name, ()):
            if since >= start:
                held_by[resource] = None
                marks.append((since, Phase.HELD))
        if host.admitted_t is not None:
            marks.append((host.admitted_t, Phase.BOOT))
        elif host.adopted and host.started_t is not None:
            marks.append((host.started_t, Phase.BOOT))
        if host.redeploy_t is not None:
            marks.append((host.redeploy_t, Phase.REDEPLOY))
        marks.sort(key=lambda mark: mark[0])
        spans: list[tuple[Phase, float, float]] = []
        for index, (since, phase) in enumerate(marks):
            until = marks[index + 1][0] if index + 1 < len(marks) else host.settled_t
            since, until = max(since, start), min(until, host.settled_t)
            if until <= since:
                continue
            if spans and spans[-1][0] is phase:
                spans[-1] = (phase, spans[-1][1], until)
            else:
                spans.append((phase, since, until))
        titles = tuple(resource_title(resource) for resource in held_by)
        outcome = host.outcome or Outcome.UNKNOWN
        return Leg(
            host.name, host.group.name, waited_for, start, host.settled_t, tuple(spans), titles, outcome,
            host.retries,
        )  # fmt: skip


def binding(path: Sequence[Leg]) -> Binding | None:
    """What explains most of the path's length: one thing that held its hosts back, or the work along it."""
    if not path:
        return None
    whole = max(path[-1].end_s - path[0].start_s, 1e-9)
    work = 0.0
    held: dict[str, float] = {}
    for leg in path:
        for phase, start, end in leg.spans:
            if phase is Phase.HELD and leg.held_by:
                # By several in turn: the last one is what it was waiting for in the end.
                held[leg.held_by[-1]] = held.get(leg.held_by[-1], 0.0) + end - start
            else:
                work += end - start
    names = list(dict.fromkeys(leg.group for leg in path))
    shown = names if len(names) <= 6 else [*names[:3], "…", *names[-2:]]
    chain = f"chain {' → '.join(shown)}" if len(names) > 1 else f"the boot of {names[0]} itself"
    kind, title, seconds = "chain", chain, work
    for name, value in held.items():
        if value > seconds:
            kind, title, seconds = _kind(name), name, value
    return Binding(kind, title, seconds, seconds / whole)


def _kind(title: str) -> str:
    words = (
        ("budget of", "feed"), ("power kept", "feed"), ("ramp of", "ramp"), ("inrush of", "inrush"), ("gate", "gate"),
        ("breaker", "breaker"), ("first member", "first"), ("nobody has chosen", "first"),
    )  # fmt: skip
    if title.endswith("without electricity"):
        return "dark"
    return next((kind for word, kind in words if title.startswith(word)), "slot")


def _when(host: HostState) -> tuple[float, str]:
    return host.settled_t, host.name


def _turned(ready: list[HostState], needed: int, across: int) -> HostState | None:
    """The member that completed a quorum of ``needed`` in ``across`` racks."""
    racks: set[str] = set()
    for count, member in enumerate(sorted(ready, key=_when), 1):
        racks.add(member.host.rack)
        if count >= needed and len(racks) >= across:
            return member
    return None


def _passage(counts: Mapping[Outcome, int], times: list[float], needed: int) -> Passage:
    """Of hosts by their outcomes, and when those that are good were so."""
    times.sort()
    left = counts[Outcome.UNKNOWN]
    return Passage(
        size=sum(counts.values()),
        ready=len(times),
        quarantined=counts[Outcome.QUARANTINED],
        blocked=counts[Outcome.BLOCKED],
        skipped=counts[Outcome.SKIPPED],
        left=left,
        ready_s=times[-1] if times and not left else None,
        quorum_s=times[needed - 1] if 0 < needed <= len(times) else None,
    )


def _sum(passages: Iterable[Passage]) -> Passage:
    """Of several groups: back when the last of them is. A group of which nothing was to become ready does not count."""
    parts = list(passages)
    counted = [part for part in parts if part.skipped < part.size]
    back = [part.ready_s for part in counted if part.ready_s is not None]
    usable = [part.quorum_s for part in counted]
    left = sum(part.left for part in parts)
    return Passage(
        size=sum(part.size for part in parts),
        ready=sum(part.ready for part in parts),
        quarantined=sum(part.quarantined for part in parts),
        blocked=sum(part.blocked for part in parts),
        skipped=sum(part.skipped for part in parts),
        left=left,
        ready_s=max(back) if back and not left else None,
        quorum_s=max((t for t in usable if t is not None), default=None) if None not in usable else None,
    )


def _counted(times: Sequence[float], end_s: float) -> Points:
    """Hosts ready over time, ``times`` sorted, as steps on a grid."""
    points: list[tuple[float, float]] = [(0.0, 0.0)]
    at = 0
    for index in range(1, POINTS + 1):
        t = end_s * index / POINTS
        while at < len(times) and times[at] <= t + 1e-9:
            at += 1
        if points[-1][1] != at:
            points.append((t, float(at)))
    return tuple(points)


def _left(
    state: State, hosts: Iterable[HostState], resource_of: Callable[[HostState], Resource | None]
) -> tuple[Left, ...]:
    """Why ``hosts`` have no outcome as the run stands still; causes before what only waits for them."""
    found: dict[tuple[bool, str], list[str]] = {}
    for host in hosts:
        resource = resource_of(host)
        if state.paused:
            key = (False, f"paused by {state.paused}")
        elif host.dark:
            key = (False, resource_title(("dark", host.dark)))
        elif resource is not None:
            key = (False, resource_title(resource))
        elif host.stage is Stage.WAIT and host.waits:
            wait = next((w for w in state.dependencies.of[host.name] if w.status is Status.PENDING), None)
            if isinstance(wait, Leader) and wait.ask and not wait.chosen:
                key = (False, resource_title(("choice", wait.parent)))
            else:
                key = (True, wait.title if wait is not None else "dependencies")
        else:
            key = (False, f"nothing that would come: stopped in stage {host.stage}")
        found.setdefault(key, []).append(host.name)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    return tuple(
        Left(why, len(names), tuple(islice(names, 3)), waiting) for (waiting, why), names in ordered[:MOST_LEFT]
    )
