"""The report of a run as one value; every view, human or JSON, is made from it and from nothing else.

``Report.of(plan, events)`` works at any moment: of a finished run, of one that stopped, of one that still goes on.
Times are run seconds (see ``events``); the wall clock appears only where the journal wrote it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from bootorch.core.causes import Blocked, Failure, blocked_hosts, failures
from bootorch.core.changes import Choice, Said, choices
from bootorch.core.critical import Leg, critical_path
from bootorch.core.events import Event, Kind, RunResumed, Scalar
from bootorch.core.model import Outcome, describe
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.timeline import Action, Examination, Phase, Timeline, Track, Trouble, resource_title

SCHEMA = "bootorch.report/1"  # additions keep the number; a changed or removed meaning raises it
POWER_POINTS = 400  # points kept of a power curve: finer than a screen shows; peaks survive (see downsample)

_Key = TypeVar("_Key")

Span = tuple[Phase, float, float]


@dataclass(frozen=True, slots=True)
class HostReport:
    """One host: where its time went and how it ended."""

    name: str
    group: str
    outcome: Outcome
    reason: Reason
    detail: str
    settled_s: float | None  # None: has no outcome yet
    started_s: float | None  # first exchange with its BMC; None: never touched
    spans: tuple[Span, ...]
    held: tuple[tuple[float, str], ...]  # since when its power-on was held back, and by what
    retries: int
    troubles: tuple[Trouble, ...]
    actions: tuple[Action, ...]
    evidence: Mapping[str, Scalar]  # of its boot
    examinations: tuple[Examination, ...]  # of boots that failed, oldest first
    bmc: str
    rack: str
    feed: str
    model: str
    firmware: str

    @property
    def phase(self) -> Phase:
        """The last phase that took time."""
        return self.spans[-1][0] if self.spans else Phase.WAIT


@dataclass(frozen=True, slots=True)
class Passage:
    """A group or a wave as a whole. Times are None until it has happened."""

    name: str
    size: int
    outcomes: Mapping[Outcome, int]
    phases: Mapping[Phase, int]  # hosts without an outcome, by where they are
    started_s: float | None  # first host touched
    first_ready_s: float | None
    ready_s: float | None  # the last of its ready hosts
    settled_s: float | None  # all settled

    @property
    def ready(self) -> int:
        return self.outcomes.get(Outcome.READY, 0) + self.outcomes.get(Outcome.ADOPTED, 0)

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class GroupReport:
    passage: Passage
    wave: int  # from 0
    waits_for: tuple[str, ...]
    ready_checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaveReport:
    passage: Passage
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PowerReport:
    """Modelled draw of one limited feed (name ``""``: of all hosts together) over run time."""

    feed: str
    budget_watts: float | None
    ramp_watts_per_min: float | None
    peak_watts: float
    peak_s: float
    points: tuple[tuple[float, float], ...]
    budgets: tuple[tuple[float, float | None], ...] = ()  # from when which budget held; ``budget_watts`` is the last

    @property
    def peak_share(self) -> float | None:
        """The highest draw as a share of the budget of its time; None: no budget held then."""
        held = [budget for t, budget in self.budgets if t <= self.peak_s] or [self.budget_watts]
        return self.peak_watts / held[-1] if held[-1] else None

    @property
    def highest_budget(self) -> float:
        return max((budget or 0.0 for _, budget in self.budgets), default=self.budget_watts or 0.0)


@dataclass(frozen=True, slots=True)
class GateReport:
    """How a gate was passed, or that it was not."""

    name: str
    ask: str
    check: str
    groups: tuple[str, ...]
    opened_s: float | None
    by: str
    why: str
    checks: int
    last: str
    waited: int  # hosts that it held back


@dataclass(frozen=True, slots=True)
class Hold:
    """A gate, budget, ramp, slot or breaker that held power-ons (or redeploys) back."""

    resource: str
    hosts: int
    longest_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class DarkReport:
    """A feed without electricity at the end of what is reported. ``hosts`` hang on it alone and have no outcome."""

    feed: str
    since_s: float
    by: str
    why: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitReport:
    """A limit as it is now. ``kind``: feed or slot. ``planned``: what the plan says; ``draw``: of a feed, modelled."""

    kind: str
    name: str
    value: float | None
    planned: float | None
    ramp: float | None = None
    inrush: float | None = None
    draw: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    t: float
    gap_s: float
    by: str
    wall: str
    asleep: bool = False  # the same process, which was stopped or suspended with its machine
    taken_from: str = ""  # the driver before, where a person took over from it
    why: str = ""

    @staticmethod
    def of(event: RunResumed) -> Resume:
        return Resume(event.t, event.gap_s, event.by, event.wall, event.asleep, event.taken_from, event.why)


@dataclass(frozen=True, slots=True)
class Report:
    """See the module."""

    plan: str
    environment: str
    run_id: str
    plan_digest: str
    simulated: bool
    seed: int
    by: str
    limit: str
    started_wall: str
    ended_wall: str
    verdict: str  # the word of the run's end: "done", or why it stopped; empty: it goes on, or was cut off
    paused: str  # by whom; empty: it is not
    elapsed_s: float
    size: int
    totals: Mapping[Outcome, int]  # every outcome; the sum is the plan's size
    in_progress: Mapping[Phase, int]  # hosts without an outcome yet, which ``totals`` counts as unknown
    waves: tuple[WaveReport, ...]
    groups: tuple[GroupReport, ...]
    hosts: tuple[HostReport, ...]
    failures: tuple[Failure, ...]
    blocked: tuple[Blocked, ...]
    critical_path: tuple[Leg, ...]
    power: tuple[PowerReport, ...]
    gates: tuple[GateReport, ...]
    holds: tuple[Hold, ...]
    tripped: tuple[tuple[float, str, str], ...]
    resumes: tuple[Resume, ...]
    changes: tuple[Said, ...]  # of limits, feeds, scope, tiers and first members while the run went on
    limits: tuple[LimitReport, ...]
    dark: tuple[DarkReport, ...]
    choices: tuple[Choice, ...]  # first members that a person has to name now
    power_ons: int
    cycles: int
    by_name: Mapping[str, HostReport] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan, events: Iterable[Event], *, simulated: bool = False) -> Report:
        """Fold ``events`` (all of the run, in order) and report."""
        timeline = Timeline(plan)
        for event in events:
            timeline.add(event)
        return cls.from_timeline(timeline, simulated=simulated)

    @classmethod
    def from_timeline(cls, timeline: Timeline, *, simulated: bool = False) -> Report:
        """The report of what the timeline has folded so far."""
        plan, state = timeline.plan, timeline.state
        hosts = {name: _host(timeline, name) for name in plan.hosts}
        totals = dict.fromkeys(Outcome, 0)
        in_progress: dict[Phase, int] = {}
        for host in hosts.values():
            totals[host.outcome] += 1
            if host.settled_s is None:
                phase = timeline.tracks[host.name].marks[-1][0]
                in_progress[phase] = in_progress.get(phase, 0) + 1
        started, ended = timeline.started, timeline.ended
        groups = tuple(_group(timeline, name, hosts) for wave in plan.waves for name in wave)
        actions = [action.kind for host in hosts.values() for action in host.actions]
        return cls(
            plan=plan.name,
            environment=plan.environment.value,
            run_id=state.run_id,
            plan_digest=plan.digest,
            simulated=simulated,
            seed=state.seed,
            by=started.by if started else "",
            limit=started.limit if started else "",
            started_wall=started.wall if started else "",
            ended_wall=ended.wall if ended else "",
            verdict=ended.verdict if ended else "",
            paused=state.paused,
            elapsed_s=state.t,
            size=len(plan.hosts),
            totals=totals,
            in_progress=in_progress,
            waves=tuple(_wave(index, wave, groups) for index, wave in enumerate(plan.waves)),
            groups=groups,
            hosts=tuple(hosts.values()),
            failures=failures(timeline),
            blocked=blocked_hosts(timeline),
            critical_path=critical_path(timeline),
            power=_power(timeline),
            gates=_gates(timeline),
            holds=_holds(timeline),
            tripped=tuple((event.t, event.scope, event.detail) for event in timeline.tripped),
            resumes=tuple(map(Resume.of, timeline.resumes)),
            changes=tuple(timeline.changes.said),
            limits=_limits(timeline),
            dark=_dark(timeline),
            choices=tuple(choices(state)),
            power_ons=actions.count(Kind.POWER_ON),
            cycles=actions.count(Kind.POWER_CYCLE),
            by_name=hosts,
        )

    @property
    def ready(self) -> int:
        return self.totals[Outcome.READY] + self.totals[Outcome.ADOPTED]

    @property
    def done(self) -> bool:
        """Every host has its outcome: nothing is left to resume."""
        return not self.in_progress

    @property
    def settled(self) -> int:
        return sum(1 for host in self.hosts if host.settled_s is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``. Keys are stable within a version of ``schema``; no secret is in it."""
        record = {item: getattr(self, item) for item in self.__slots__ if item != "by_name"}
        record["hosts"] = {host.name: _host_json(host) for host in self.hosts}
        record["groups"] = {group.passage.name: _group_json(group) for group in self.groups}
        record["waves"] = [{**_plain(wave.passage), "groups": list(wave.groups)} for wave in self.waves]
        record["tripped"] = [{"t": t, "scope": scope, "detail": detail} for t, scope, detail in self.tripped]
        record["critical_path"] = [_leg_json(leg) for leg in self.critical_path]
        return {"schema": SCHEMA, **{key: _plain(value) for key, value in record.items()}}


def _host(timeline: Timeline, name: str) -> HostReport:
    state = timeline.state.hosts[name]
    track, host = timeline.tracks[name], state.host
    if state.outcome is None:
        phase = track.marks[-1][0]
        outcome, reason = Outcome.UNKNOWN, Reason.NEVER_REACHED
        detail = f"in phase {phase}"
        if state.last[1]:
            detail += f": {state.last[1]}"
    else:
        outcome, reason, detail = state.outcome, state.reason, state.detail
    return HostReport(
        name=name,
        group=host.group,
        outcome=outcome,
        reason=reason,
        detail=detail,
        settled_s=track.settled_t,
        started_s=state.started_t,
        spans=tuple(track.spans(timeline.state.t)),
        held=tuple((t, resource_title(resource)) for t, resource in track.held),
        retries=state.retries,
        troubles=tuple(track.troubles),
        actions=tuple(track.actions),
        evidence=state.evidence,
        examinations=tuple(track.examinations),
        bmc=str(host.bmc),
        rack=host.rack,
        feed=host.feed,
        model=host.model,
        firmware=host.firmware,
    )


def _passage(name: str, tracks: Iterable[tuple[HostReport, Track]]) -> Passage:
    size = 0
    outcomes: dict[Outcome, int] = {}
    phases: dict[Phase, int] = {}
    started: list[float] = []
    ready: list[float] = []
    settled: list[float] = []
    for host, track in tracks:
        size += 1
        if host.started_s is not None:
            started.append(host.started_s)
        if host.settled_s is None:
            phase = track.marks[-1][0]
            phases[phase] = phases.get(phase, 0) + 1
            continue
        outcomes[host.outcome] = outcomes.get(host.outcome, 0) + 1
        settled.append(host.settled_s)
        if host.outcome in (Outcome.READY, Outcome.ADOPTED):
            ready.append(host.settled_s)
    return Passage(
        name=name,
        size=size,
        outcomes=outcomes,
        phases=phases,
        started_s=min(started, default=None),
        first_ready_s=min(ready, default=None),
        ready_s=max(ready, default=None),
        settled_s=max(settled) if size and len(settled) == size else None,
    )


def _group(timeline: Timeline, name: str, hosts: Mapping[str, HostReport]) -> GroupReport:
    plan = timeline.plan
    group = plan.groups[name]
    passage = _passage(name, ((hosts[host], timeline.tracks[host]) for host in group.hosts))
    checks = tuple(describe(check) for check in group.ready)
    return GroupReport(passage, plan.wave_of[name], waits_for(plan, name), checks)


def _wave(index: int, names: tuple[str, ...], groups: tuple[GroupReport, ...]) -> WaveReport:
    parts = [group.passage for group in groups if group.passage.name in names]

    def earliest(times: Iterable[float | None]) -> float | None:
        return min((t for t in times if t is not None), default=None)

    def latest(times: Iterable[float | None]) -> float | None:
        return max((t for t in times if t is not None), default=None)

    unsettled = any(part.settled_s is None and part.size for part in parts)
    passage = Passage(
        name=str(index),
        size=sum(part.size for part in parts),
        outcomes=_sum(part.outcomes for part in parts),
        phases=_sum(part.phases for part in parts),
        started_s=earliest(part.started_s for part in parts),
        first_ready_s=earliest(part.first_ready_s for part in parts),
        ready_s=latest(part.ready_s for part in parts),
        settled_s=None if unsettled else latest(part.settled_s for part in parts),
    )
    return WaveReport(passage, names)


def _sum(counts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    total: dict[_Key, int] = {}
    for mapping in counts:
        for key, count in mapping.items():
            total[key] = total.get(key, 0) + count
    return total


def waits_for(plan: Plan, group: str) -> tuple[str, ...]:
    """What a group waits for, a line each, as an operator says it."""
    lines = []
    for need in plan.groups[group].requires:
        quorum = (
            str(need.quorum) if need.quorum.count is None else f"{need.quorum} of {len(plan.groups[need.group].hosts)}"
        )
        line = f"{need.group} ({quorum})" if need.per_host is None else f"{need.group} (own {need.per_host}, {quorum})"
        lines.append(line + (f" across {need.across_racks} racks" if need.across_racks else ""))
    lines += (f"after {parent} has settled" for parent in plan.groups[group].after)
    return tuple(lines)


def _power(timeline: Timeline) -> tuple[PowerReport, ...]:
    reports = []
    limits = timeline.changes.feeds
    for name, points in timeline.power.items():
        peak_s, peak_watts = max(points, key=lambda point: point[1])
        limit = limits.get(name)
        if not peak_watts and limit is None:
            continue
        reports.append(
            PowerReport(
                feed=name,
                budget_watts=limit.budget_watts if limit else None,
                ramp_watts_per_min=limit.ramp_watts_per_min if limit else None,
                peak_watts=peak_watts,
                peak_s=peak_s,
                points=downsample(points, timeline.state.t),
                budgets=tuple(timeline.changes.budgets.get(name, ())),
            )
        )
    return tuple(reports)


def _limits(timeline: Timeline) -> tuple[LimitReport, ...]:
    changes, planned = timeline.changes, timeline.plan.limits
    feeds = [
        LimitReport(
            kind="feed",
            name=name,
            value=limit.budget_watts,
            planned=planned.feeds[name].budget_watts if name in planned.feeds else None,
            ramp=limit.ramp_watts_per_min,
            inrush=limit.inrush_amps,
            draw=timeline.power[name][-1][1] if name in timeline.power else None,
        )
        for name, limit in changes.feeds.items()
    ]
    slots = {**changes.slots, **changes.adapted}
    return (*feeds, *(LimitReport("slot", name, slots[name], planned.slots.get(name)) for name in slots))


def _dark(timeline: Timeline) -> tuple[DarkReport, ...]:
    """Dark feeds, each with the hosts that wait for it; a host of two dark feeds stands at both."""
    changes, state = timeline.changes, timeline.state
    waiting: dict[str, list[str]] = {name: [] for name in changes.dark}
    for name in changes.dark_hosts():
        if state.hosts[name].outcome is None:
            for feed in dict.fromkeys(changes.dark_above(cord) for cord in state.hosts[name].host.feeds):
                waiting[feed].append(name)
    return tuple(
        DarkReport(dark.feed, dark.since_s, dark.by, dark.why, tuple(waiting[dark.feed]))
        for dark in changes.dark.values()
    )


def downsample(points: list[tuple[float, float]], end_s: float) -> tuple[tuple[float, float], ...]:
    """At most about ``POWER_POINTS`` steps of a step curve, each the highest of its stretch: no peak is hidden.

    The last point is kept as it is, so that the curve ends where it ended.
    """
    if len(points) <= POWER_POINTS or end_s <= 0:
        return tuple(points)
    width = end_s / POWER_POINTS
    kept: list[tuple[float, float]] = []
    level = 0.0
    bucket, highest = 0, 0.0
    for t, watts in points:
        number = int(t / width)
        if number != bucket:
            kept.append((bucket * width, highest))
            if number > bucket + 1:
                kept.append(((bucket + 1) * width, level))
            # The level that the last stretch ended with still flows as this one begins.
            bucket, highest = number, level
        highest = max(highest, watts)
        level = watts
    kept.append((bucket * width, highest))
    if points[-1][0] > kept[-1][0]:
        kept.append(points[-1])
    return tuple(kept)


def _gates(timeline: Timeline) -> tuple[GateReport, ...]:
    waited: dict[str, int] = {}
    for track in timeline.tracks.values():
        for name in {resource[1] for _, resource in track.held if resource[0] == "gate"}:
            waited[name] = waited.get(name, 0) + 1
    reports = []
    for name, mark in timeline.gates.items():
        gate = timeline.plan.gates.get(name)
        reports.append(
            GateReport(
                name=name,
                ask=gate.ask if gate else "",
                check=describe(gate.check) if gate and gate.check else "",
                groups=gate.groups if gate else (),
                opened_s=mark.opened_t,
                by=mark.by,
                why=mark.why,
                checks=mark.checks,
                last=mark.last,
                waited=waited.get(name, 0),
            )
        )
    return tuple(reports)


def _holds(timeline: Timeline) -> tuple[Hold, ...]:
    """What held hosts back, the costliest first. A host counts for a resource from when it was seen to hold it."""
    hosts: dict[str, int] = {}
    longest: dict[str, float] = {}
    total: dict[str, float] = {}
    for track in timeline.tracks.values():
        for phase, start, end in track.spans(timeline.state.t) if track.held else ():
            if phase is not Phase.HELD:
                continue
            inside = [(t, resource) for t, resource in track.held if start <= t < end]
            for index, (t, resource) in enumerate(inside):
                since = start if index == 0 else t
                until = inside[index + 1][0] if index + 1 < len(inside) else end
                title = resource_title(resource)
                hosts[title] = hosts.get(title, 0) + 1
                longest[title] = max(longest.get(title, 0.0), until - since)
                total[title] = total.get(title, 0.0) + until - since
    holds = (Hold(title, hosts[title], longest[title], total[title]) for title in hosts)
    return tuple(sorted(holds, key=lambda hold: -hold.total_s))


# -- JSON ---------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as plain values; seconds and watts to the millisecond and tenth."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, str | int | bool | None):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _plain(asdict(value))


def _spans_json(spans: Iterable[Span]) -> list[dict[str, Any]]:
    return [{"phase": phase.value, "start_s": round(start, 3), "end_s": round(end, 3)} for phase, start, end in spans]


def _host_json(host: HostReport) -> dict[str, Any]:
    record: dict[str, Any] = {
        "group": host.group,
        "outcome": host.outcome.value,
        "reason": host.reason.value,
        "detail": host.detail,
        "started_s": _plain(host.started_s),
        "settled_s": _plain(host.settled_s),
        "retries": host.retries,
        "spans": _spans_json(host.spans),
        "held": [{"since_s": round(t, 3), "by": by} for t, by in host.held],
        "actions": [_plain(action) for action in host.actions],
        "troubles": [_plain(trouble) for trouble in host.troubles],
        "evidence": _plain(host.evidence),
        "examinations": [_plain(examination) for examination in host.examinations],
        "bmc": host.bmc,
    }
    facts = {name: getattr(host, name) for name in ("rack", "feed", "model", "firmware")}
    return {**record, **{name: value for name, value in facts.items() if value}}


def _group_json(group: GroupReport) -> dict[str, Any]:
    return {
        **_plain(group.passage),
        "wave": group.wave,
        "waits_for": list(group.waits_for),
        "ready_checks": list(group.ready_checks),
    }


def _leg_json(leg: Leg) -> dict[str, Any]:
    return {**_plain(leg), "spans": _spans_json(leg.spans)}
