"""When what happened to each host: a second fold over the events of a run, for people. Decides nothing.

``Timeline`` folds the run's own ``State`` and notes what the state forgets: when a host entered each phase, who
released it, what held its power-on back, which commands its BMC was given, and what the modelled draw was at every
moment. An event costs the hosts that it names, so a run of 32,000 hosts is one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bootorch.core.admission import Admission
from bootorch.core.changes import FOLDED, Changes
from bootorch.core.diagnosis import Diagnosis, diagnose
from bootorch.core.events import (
    Admitted,
    Answer,
    BootFailed,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    LimitSet,
    OfHosts,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    Scalar,
    ScopeAdded,
    Settled,
    TierSet,
    Tripped,
)
from bootorch.core.limits import Resource
from bootorch.core.model import Stage
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.state import HostState, State
from bootorch.core.units import title

SITE = ""  # the name of the series that adds up every host, whatever feed it hangs on
TROUBLES_KEPT = 20  # a host that was lost and found all night needs no longer list (the engine gives up at about ten)
RECHECK_S = 1.0  # a host that is held back without a visible reason is looked at again after so long


class Phase(StrEnum):
    """Where a host's time goes: its stages, and ``held``, when it could go on but something counted is full."""

    WAIT = "wait"
    BMC = "bmc"
    HELD = "held"
    POWER = "power"
    BOOT = "boot"
    READY = "ready"
    REDEPLOY = "redeploy"
    VERIFY = "verify"


_PHASE_OF_STAGE = {stage: Phase(stage.value) for stage in Stage}


def phase_of(host: HostState) -> Phase:
    """The phase that an unsettled host is in."""
    if host.may_go and host.admitted_t is None:
        return Phase.HELD  # off as it was read ahead, and everything that it depends on is there
    if host.stage is Stage.REDEPLOY and host.redeploy_t is None:
        return Phase.HELD
    return _PHASE_OF_STAGE[host.stage]


def touched(event: Event) -> tuple[str, ...]:
    """The hosts that an event is about."""
    match event:
        case Intent(kind=Kind.GATE_CHECK | Kind.FEED_METER) | Answer(kind=Kind.GATE_CHECK | Kind.FEED_METER):
            return ()
        case Intent(kind=Kind.REDEPLOY):
            return event.hosts
        case Answer(kind=Kind.REDEPLOY):
            return tuple(event.verdicts)
        case Intent() | Answer():
            return (event.target,)
        case Settled() | BootFailed() | Admitted():
            return (event.host,)
        case ScopeAdded() | OfHosts():
            return event.hosts
        case _:
            return ()


def resource_title(resource: tuple[str, str]) -> str:
    """A resource as an operator says it: ``gate stable-power``, ``budget of feed hall-a``."""
    kind, name = resource
    match kind:
        case "feed":
            return f"budget of {title(name)}"
        case "ramp":
            return f"ramp of {title(name)}"
        case "inrush":
            return f"inrush of {title(name)}"
        case "tier":
            return f"power kept for more urgent tiers on {title(name)}"
        case "dark":
            return f"{title(name)} without electricity"
        case "first":
            return f"first member of {name}"
        case "choice":
            return f"nobody has chosen the first member of {name}"
        case "slot":
            return _slot_title(*name.partition(":")[::2])
        case "slice":
            return "gathering hosts for one playbook run"
        case "breaker":
            what, _, value = name.partition(":")
            return f"breaker of {what} {value}" if what != "class" else f"breaker of {value.replace('=', ' ')}"
        case "pause":
            return f"paused by {name}"
        case _:
            return f"{kind} {name}"


def _slot_title(name: str, value: str) -> str:
    match name:
        case "forks" | "redeploy_forks":
            return "playbook forks"
        case "bmc" | "bmc_per_subnet":
            return f"BMC slots of subnet {value}"
        case "image" | "image_server":
            return f"boots per image server {value}"
        case "artefact_server":
            return f"playbook forks at artefact server {value}"
        case "logins" | "boots" | "survey":
            return "BMCs read ahead" if name == "survey" else f"{name} at the same time"
        case _:
            return f"boots per {name} {value}" if value else f"slot {name}"


@dataclass(frozen=True, slots=True)
class Action:
    """A command that a host's BMC was given. ``reason`` is empty while no answer has come."""

    t: float
    kind: Kind
    attempt: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that had to be done again, and why."""

    t: float
    what: str
    reason: Reason
    detail: str
    output: str = ""  # what a failing task wrote: its return code and a few lines


@dataclass(frozen=True, slots=True)
class Examination:
    """The evidence of one failed boot, or of power-ons in vain: what its BMC told (keys of ``core.evidence``), and what
    that says. ``reason`` and ``detail``: how the asking went, and what could not be read."""

    t: float
    reason: Reason
    detail: str
    found: Diagnosis
    data: Mapping[str, Scalar]


@dataclass(slots=True)
class Track:
    """One host's way through the run. Times are run seconds."""

    marks: list[tuple[Phase, float]] = field(default_factory=lambda: [(Phase.WAIT, 0.0)])
    settled_t: float | None = None
    released_by: str = ""  # the host whose outcome let this one go, or blocked it
    held: list[tuple[float, Resource]] = field(default_factory=list)  # since when, by what
    actions: list[Action] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    examinations: list[Examination] = field(default_factory=list)

    def spans(self, now: float) -> Iterator[tuple[Phase, float, float]]:
        """Phase, start and end; the phases of no length are left out."""
        end = self.settled_t if self.settled_t is not None else now
        for index, (phase, start) in enumerate(self.marks):
            stop = self.marks[index + 1][1] if index + 1 < len(self.marks) else end
            if stop > start:
                yield phase, start, stop


@dataclass(slots=True)
class GateMark:
    opened_t: float | None = None
    by: str = ""
    why: str = ""
    checks: int = 0  # how often its check was asked
    last: str = ""  # what the check said last


class Timeline:
    """Fold with ``add``; read ``state``, ``tracks``, ``power`` and the rest at any time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = State(plan)
        self.tracks = {name: Track() for name in plan.hosts}
        self.started: RunStarted | None = None
        self.ended: RunEnded | None = None
        self.resumes: list[RunResumed] = []
        self.pauses: list[Paused] = []
        self.tripped: list[Tripped] = []
        self.gates = {name: GateMark() for name in plan.gates}
        self.changes = Changes(plan)
        self.power: dict[str, list[tuple[float, float]]] = {name: [(0.0, 0.0)] for name in (SITE, *plan.limits.feeds)}
        self._watts: dict[str, float] = {}
        self._admission = Admission(plan, self.state)  # asked, never used to admit
        self._unexplained: dict[str, None] = {}
        self._explain_t = 0.0

    def add(self, event: Event) -> None:
        """Fold one event."""
        if self._unexplained and event.t > self._explain_t:
            self._explain(self.state.t)
        state = self.state
        if isinstance(event, Settled):
            state.dirty.clear()
        if state.feeds.steps:
            state.advance(event.t)
        state.fold(event)
        for name in touched(event):
            self._look(name, event)
        if isinstance(event, FOLDED):
            self._change(event)
        match event:
            case Settled():
                for host in state.dirty:
                    child = self.tracks[host.name]
                    if child.settled_t is None:
                        child.released_by = event.host
                        self._look(host.name, event)  # it may be held by something else from now on
            case Intent(kind=Kind.POWER_ON | Kind.POWER_CYCLE | Kind.BOOT_DEVICE):
                self._command(event)
            case Answer():
                self._answer(event)
            case BootFailed():
                self._trouble(event.host, event.t, "boot", event.reason, event.detail)
            case GateOpened():
                gate = self.gates.setdefault(event.gate, GateMark())
                gate.opened_t, gate.by, gate.why = event.t, event.by, event.why
                self._explain_again()
            case RunStarted():
                self.started = event
            case RunResumed():
                self.resumes.append(event)
                self.ended = None
                self._explain_again()
            case RunEnded():
                self.ended = event
            case Paused():
                self.pauses.append(event)
            case Tripped():
                self.tripped.append(event)
                self._explain_again()
            case _:
                pass

    def _change(self, event: Event) -> None:
        self.changes.fold(event)
        match event:
            case FeedLost() | FeedReturned():
                for name in self.changes.below(event.feed):
                    self._look(name, event)
        if isinstance(event, LimitSet | FeedLost | FeedReturned | TierSet):
            self._explain_again()

    # -- one host ---------------------------------------------------------------------

    def _look(self, name: str, event: Event) -> None:
        host, track = self.state.hosts[name], self.tracks[name]
        if host.outcome is not None:
            track.settled_t = host.settled_t
        else:
            track.settled_t = None  # a host that was outside --limit may belong to the run again
            phase = phase_of(host)
            if phase is not track.marks[-1][0]:
                self._enter(name, track, phase, event.t)
        server, level = host.host, host.draw.level
        watts = 0.0 if level < 0 else server.watts_steady + level * (server.watts_boot_peak - server.watts_steady)
        more = watts - self._watts.get(name, 0.0)
        if more:
            self._watts[name] = watts
            self._draws(SITE, self.power[SITE][-1][1] + more, event.t)
            for feed in self.state.feeds.above(host.draw):
                self._draws(feed.name, feed.draw, event.t)

    def _draws(self, feed: str, watts: float, t: float) -> None:
        points = self.power[feed]
        if points[-1][0] >= t:
            points[-1] = (points[-1][0], watts)
        else:
            points.append((t, watts))

    def _enter(self, name: str, track: Track, phase: Phase, t: float) -> None:
        track.marks.append((phase, t))
        if phase is Phase.HELD:
            self._unexplained[name] = None
            self._explain_t = t
        else:
            self._unexplained.pop(name, None)

    def _command(self, event: Intent) -> None:
        self.tracks[event.target].actions.append(Action(event.t, event.kind, event.attempt))
        if event.kind is Kind.POWER_ON and event.attempt > 1:
            before = self.state.hosts[event.target].last
            reason = Reason.POWER_NO_EFFECT if before[0] is Reason.OK else before[0]
            self._trouble(event.target, event.t, "power-on", reason, before[1] or "chassis stayed off")

    def _answer(self, event: Answer) -> None:
        if event.kind is Kind.GATE_CHECK:
            gate = self.gates.setdefault(event.target, GateMark())
            gate.checks += 1
            gate.last = event.detail
            if event.reason is Reason.OK:
                gate.opened_t, gate.by, gate.why = event.t, "check", event.detail
                self._explain_again()
        elif event.kind is Kind.FEED_METER:
            return
        elif event.kind is Kind.POWER_ON and event.data.get("sent") is False:
            actions = self.tracks[event.target].actions
            if actions and actions[-1].kind is Kind.POWER_ON:
                actions.pop()
        elif event.kind is Kind.REDEPLOY:
            for name, (word, detail) in event.verdicts.items():
                if word != Reason.OK:
                    self._trouble(name, event.t, "redeploy", Reason(word), detail, str(event.data.get(name, "")))
        elif event.kind is Kind.EVIDENCE:
            if event.reason is not Reason.INTERRUPTED:
                examined = Examination(event.t, event.reason, event.detail, diagnose(event.data), event.data)
                self.tracks[event.target].examinations.append(examined)
        elif actions := self.tracks[event.target].actions:
            last = actions[-1]
            if last.kind is event.kind and last.reason is None:
                actions[-1] = Action(last.t, last.kind, last.attempt, event.reason)

    def _trouble(self, name: str, t: float, what: str, reason: Reason, detail: str, output: str = "") -> None:
        troubles = self.tracks[name].troubles
        if len(troubles) < TROUBLES_KEPT:
            troubles.append(Trouble(t, what, reason, detail, output))

    # -- what holds a host back ---------------------------------------------------------------------

    def _explain_again(self) -> None:
        """Something opened or closed: a host that is still held may be held by something else now."""
        for name, track in self.tracks.items():
            if track.settled_t is None and track.marks[-1][0] is Phase.HELD:
                self._unexplained[name] = None
        self._explain_t = self.state.t

    def _explain(self, t: float) -> None:
        """All events up to ``t`` are folded: who is held now is held by what the limits say now."""
        for name in tuple(self._unexplained):
            host = self.state.hosts[name]
            cause: Resource | None
            if host.outcome is not None:
                cause = None
            elif self.state.paused:
                cause = ("pause", self.state.paused)
            elif host.stage is Stage.REDEPLOY:
                cause = self._admission.breaker(host) or self._slice(name)
            else:
                cause = self._admission.held_back(host, t)
            if cause is None and host.outcome is None:
                continue
            del self._unexplained[name]
            held = self.tracks[name].held
            if cause is not None and (not held or held[-1][1] != cause or held[-1][0] < self.tracks[name].marks[-1][1]):
                held.append((t, cause))
        self._explain_t = t + RECHECK_S

    def _slice(self, name: str) -> Resource:
        """What a host that could be redeployed waits for: forks, a server, or others of its group to go with."""
        slots = self.state.slots
        return next((("slot", slot) for slot in self.state.slice_slots(name) if slots.full(slot)), ("slice", ""))
