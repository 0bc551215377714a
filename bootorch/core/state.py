"""The state of a run: a fold over its events, and nothing else changes it.

``State.fold`` is mechanical: what an event means. What to do next is decided in ``engine``. Fields are of two kinds:
*durable* ones, which the journalled events alone determine, and *soft* ones (next look, consecutive failures), which a
resumed run simply begins anew. Folds also leave hints for the engine (``dirty``, ``freed``): who may now act.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappush

from bootorch.core.dependencies import Dependencies, Status
from bootorch.core.diagnosis import FOUND
from bootorch.core.events import (
    READ_ONLY,
    Answer,
    BootFailed,
    Event,
    GateOpened,
    Intent,
    Kind,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    Scalar,
    Settled,
    Tripped,
)
from bootorch.core.limits import Feeds, Resource, Slots
from bootorch.core.model import (
    AdoptedPolicy,
    Group,
    Host,
    Outcome,
    SshCheck,
    Stage,
)
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.retry import backoff_s, jitter, poll_s

# A host's boot may be timed by a clock that started a little before ours saw the intent committed; two seconds also
# cover the granularity of /proc/uptime on slow reads. Anything older was up before the request.
UPTIME_SLACK_S = 2.0
_AT_THE_BMC = frozenset({Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE, Kind.EVIDENCE})
FIRST_LOOK_S = 0.2  # most chassis read on at once after an accepted power-on; later looks follow ``poll_s``


@dataclass(slots=True, eq=False)
class HostState:
    """Where one host stands."""

    host: Host
    group: Group
    waits: int  # dependencies that do not hold yet
    priority: tuple[int, int, str]  # tier, levels still below (more first), name
    impossible: str = ""  # the dependency that never will hold
    stage: Stage = Stage.WAIT
    stage_t: float = 0.0
    started_t: float | None = None  # first effect
    outcome: Outcome | None = None
    settled_t: float = 0.0
    reason: Reason = Reason.OK
    detail: str = ""
    observed: bool = False  # a parent outside --limit: looked at, never switched on
    adopted: bool = False
    power: str = ""  # as last read: on, off, or empty for unknown
    read_t: float = 0.0  # when the power state was last read
    read_off_t: float | None = None  # an off reading that no power-on has used up
    reserved: bool = False  # watts and slots of a power-on are held
    admitted_t: float | None = None  # watts and slots were given: the power deadline runs from here
    on_attempts: int = 0  # power-ons of the present boot
    on_t: float | None = None  # latest power-on or cycle
    on_refused: tuple[Reason, str] | None = None  # why the latest power-on was not accepted
    resend_t: float = 0.0  # an off reading from then on allows another power-on
    on_real_t: float = 0.0  # the same in real time, gaps included
    bootdev_t: float | None = None
    boots: int = 1
    unbooted: bool = False  # this boot was given up; the power state decides what next
    unbooted_reason: Reason = Reason.OK
    unbooted_detail: str = ""
    examined: bool = False  # evidence of this stage's failure was asked for
    symptoms: Mapping[str, Scalar] = field(default_factory=dict)  # that evidence; see core.evidence
    saw_down: bool = False
    proven: bool = False  # every check of the last stage holds
    playbook: int = 0
    redeploy_attempts: int = 0
    redeploy_t: float | None = None
    dark: int = 0
    retries: int = 0  # actions that had to be repeated, for the report
    evidence: dict[str, Scalar] = field(default_factory=dict)
    last: tuple[Reason, str] = (Reason.OK, "")  # latest answer of the present stage
    answer: tuple[object, ...] = ()  # what makes the next equal answer not worth a journal line
    watched: tuple[object, ...] = ()  # the watch whose intent is journalled already
    # soft
    inflight: int = 0  # id of the effect under way
    tries: int = 0  # consecutive failures in this stage
    next_t: float = 0.0  # not before
    timer_t: float = -1.0
    parked: Resource | None = None
    slots: list[tuple[str, int]] = field(default_factory=list)

    def enter(self, stage: Stage, t: float) -> None:
        self.stage = stage
        self.stage_t = t
        self.tries = 0
        self.next_t = t
        self.last = (Reason.OK, "")
        self.examined = False

    @property
    def redeploys(self) -> bool:
        if not self.group.redeploy or self.observed:
            return False
        return not self.adopted or self.group.adopted is AdoptedPolicy.REDEPLOY


@dataclass(slots=True, eq=False)
class GroupState:
    """Counts of one group."""

    group: Group
    size: int
    settled: int = 0
    failed: int = 0
    failed_base: int = 0  # failures that a breaker reset has forgiven


class State:
    """Everything known about a run. Changed by ``fold`` only."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.t = 0.0
        self.gap_s = 0.0  # real time that passed while bootorch was away
        self.run_id = ""
        self.seed = 0
        self.started = False
        self.ended = ""
        self.paused = ""
        self.limit: frozenset[str] | None = None
        self.dependencies = Dependencies(plan)
        down = self.dependencies.downstream
        self.hosts: dict[str, HostState] = {}
        for name, host in plan.hosts.items():
            group = plan.groups[host.group]
            waits = sum(1 for wait in self.dependencies.of[name] if wait.status is not Status.HOLDS)
            impossible = next((w.title for w in self.dependencies.of[name] if w.status is Status.IMPOSSIBLE), "")
            state = HostState(host, group, waits, (group.tier, -down[group.name], name), impossible)
            self.hosts[name] = state
        self.groups = {name: GroupState(group, len(group.hosts)) for name, group in plan.groups.items()}
        self.feeds = Feeds(plan.limits.feeds)
        self.slots = Slots()
        self.open: dict[int, Intent] = {}
        self.next_id = 1
        self.unsettled = len(plan.hosts)
        self.gates_open: dict[str, str] = {}
        self.gate_next_t: dict[str, float] = {}
        self.gate_tries: dict[str, int] = {}
        self.gate_inflight: set[str] = set()
        self.tripped: dict[str, str] = {}
        self.model_failed: dict[str, int] = {}
        # hints for the engine: ordered sets
        self.dirty: dict[str, None] = {}
        self.dirty_groups: dict[str, None] = {}
        self.freed: dict[Resource, None] = {}
        self.timers: list[tuple[float, str]] = []  # (run time, host or "" for a look at groups and gates)

    # -- fold ---------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        """Apply one event. The only way that state changes."""
        if event.t > self.t:
            self.t = event.t
        match event:
            case Intent():
                self._intent(event)
            case Answer():
                self._answer(event)
            case Settled():
                self._settled(event)
            case BootFailed():
                host = self.hosts[event.host]
                host.unbooted = True
                # Up since before the request and what was diagnosed are worth their own words; all else is no boot.
                own = event.reason is Reason.STALE_BOOT or event.reason in FOUND
                host.unbooted_reason = event.reason if own else Reason.NO_BOOT
                host.unbooted_detail = event.detail
                host.power = ""
                host.tries = 0
                host.next_t = event.t
                self.dirty[event.host] = None
            case RunStarted():
                self.started = True
                self.run_id = event.run_id
                self.seed = event.seed
                if event.selected:
                    self.limit = frozenset(event.selected)
                    for name in self.dependencies.ancestors(self.limit):
                        self.hosts[name].observed = True
                self.wake_all()
            case RunResumed():
                self._resumed(event)
            case GateOpened():
                self.gates_open[event.gate] = event.by
                self.freed[("gate", event.gate)] = None
            case Tripped():
                self.tripped[event.scope] = event.detail
            case Paused():
                self.paused = event.by
            case RunEnded():
                self.ended = event.verdict

    def wake_all(self) -> None:
        self.dirty = dict.fromkeys(name for name, host in self.hosts.items() if host.outcome is None)
        self.dirty_groups = dict.fromkeys(self.groups)

    def _resumed(self, event: RunResumed) -> None:
        self.gap_s += event.gap_s
        self.paused = ""
        self.ended = ""
        if event.reset_breakers:
            for group in self.groups.values():
                group.failed_base = group.failed
            self.model_failed.clear()
            for scope in self.tripped:
                self.freed[("breaker", scope)] = None
            self.tripped.clear()
        for host in self.hosts.values():
            host.next_t = 0.0
            host.tries = 0
            host.parked = None
            # Nobody looked while bootorch was away: the off reading before the request has to stand for the down.
            host.saw_down = host.saw_down or host.on_t is not None
            # An off reading from before the gap is no longer fresh.
            host.read_off_t = None
        self.wake_all()

    def _intent(self, event: Intent) -> None:
        self.open[event.id] = event
        self.next_id = max(self.next_id, event.id + 1)
        kind, t = event.kind, event.t
        if kind is Kind.GATE_CHECK:
            self.gate_inflight.add(event.target)
            return
        if kind is Kind.REDEPLOY:
            self._slice_intent(event)
            return
        host = self.hosts[event.target]
        host.inflight = event.id
        if host.started_t is None:
            host.started_t = t
        if event.durable and kind in READ_ONLY:
            host.watched = self.watch_key(host, kind)
        if kind in _AT_THE_BMC:
            self._take(host, f"bmc:{subnet(host.host.bmc.address)}", 1)
        if kind is Kind.POWER_READ:
            if host.stage is Stage.WAIT:
                host.enter(Stage.BMC, t)
            if event.args.get("admit"):
                self._reserve(host, t)
        elif kind is Kind.BOOT_DEVICE:
            self._reserve(host, t)
        elif kind is Kind.POWER_ON:
            self._reserve(host, t)
            host.read_off_t = None
            host.on_attempts += 1
            host.retries += host.on_attempts > 1
            self._requested(host, t)
        elif kind is Kind.POWER_CYCLE:
            host.boots += 1
            host.retries += 1
            host.unbooted = False
            self._requested(host, t)

    def _requested(self, host: HostState, t: float) -> None:
        host.on_t = t
        host.on_real_t = t + self.gap_s
        host.saw_down = False
        host.adopted = False

    def _slice_intent(self, event: Intent) -> None:
        self.slots.take("forks", int(event.args["forks"]))
        for name in event.hosts:
            host = self.hosts[name]
            host.inflight = event.id
            host.redeploy_attempts += 1
            if host.redeploy_t is None:
                host.redeploy_t = event.t

    def watch_key(self, host: HostState, kind: Kind) -> tuple[object, ...]:
        """Identifies a watch: exchanges with the same key are repeats of one that is journalled."""
        return (kind, host.stage, host.on_attempts, host.boots, host.unbooted, host.playbook, host.redeploy_attempts)

    def answer_key(self, host: HostState, kind: Kind, reason: Reason, power: object) -> tuple[object, ...]:
        """Two answers with the same key say the same thing."""
        return (*self.watch_key(host, kind), reason, power)

    def _answer(self, event: Answer) -> None:
        intent = self.open.pop(event.id, None)
        kind = event.kind
        if kind is Kind.GATE_CHECK:
            self.gate_inflight.discard(event.target)
            if event.reason is Reason.OK:
                self.gates_open[event.target] = "check"
                self.freed[("gate", event.target)] = None
                return
            tries = self.gate_tries[event.target] = self.gate_tries.get(event.target, 0) + 1
            self.gate_next_t[event.target] = event.t + backoff_s(tries, first_s=1.0, cap_s=15.0, jittered=1.0)
            self.wake_at(self.gate_next_t[event.target], "")
            return
        if kind is Kind.REDEPLOY:
            self._slice_answer(event, intent)
            return
        host = self.hosts[event.target]
        host.inflight = 0
        if kind is Kind.EVIDENCE:
            self._evidence(host, event)
            return
        host.last = (event.reason, event.detail)
        if event.durable and kind in READ_ONLY:
            host.answer = self.answer_key(host, kind, event.reason, event.data.get("power"))
        self._give_back(host, keep="image:")
        ok = event.reason is Reason.OK
        host.tries = 0 if ok else host.tries + 1
        self.dirty[event.target] = None
        match kind:
            case Kind.POWER_READ:
                self._power_read(host, event, ok)
            case Kind.BOOT_DEVICE:
                host.bootdev_t = event.t if ok or event.reason is Reason.BMC_UNSUPPORTED else None
                host.next_t = event.t if ok else self._backoff(host, event.t)
            case Kind.POWER_ON:
                self._power_on_ended(host, event, ok)
            case Kind.POWER_CYCLE:
                host.enter(Stage.BOOT, event.t)
            case Kind.BOOT_PROBE:
                self._boot_probe(host, event, ok)
            case Kind.READY_CHECK:
                if ok:
                    self._after_ready(host, event.t)
                else:
                    self._look_again(host, event.t)
            case Kind.VERIFY_CHECK:
                host.proven = ok
                if not ok:
                    self._look_again(host, event.t)
            case _:
                raise AssertionError(kind)

    def _evidence(self, host: HostState, event: Answer) -> None:
        """Looked at once, and whatever came of it the host goes on: no attempt, no failure, no new latest answer."""
        self._give_back(host, keep="image:")
        self.dirty[event.target] = None
        host.examined = event.reason is not Reason.INTERRUPTED
        host.symptoms = event.data

    def _power_on_ended(self, host: HostState, event: Answer, ok: bool) -> None:
        """Accepted, or perhaps so: a look soon, and time to have an effect. Refused: a look after a pause."""
        host.next_t = event.t + FIRST_LOOK_S if ok else self._backoff(host, event.t)
        host.on_refused = None if ok else (event.reason, event.detail)
        if ok or event.reason in (Reason.BMC_LOST, Reason.INTERRUPTED):
            limits = host.group.deadlines.power / host.group.attempts.power
            host.resend_t = (host.on_t if host.on_t is not None else event.t) + limits
        else:
            host.resend_t = host.next_t

    def _power_read(self, host: HostState, event: Answer, ok: bool) -> None:
        t = event.t
        if not ok:
            if host.on_t is None:
                self._release(host)  # admitted, but not switched on: the next admission takes them again
            host.next_t = self._backoff(host, t)
            return
        host.power = str(event.data["power"])
        host.read_t = t
        if host.power == "off":
            host.read_off_t = t
            if host.unbooted and host.boots < host.group.attempts.boot:
                # The server fell back to off: the next boot may begin, from a clean count.
                host.unbooted = False
                host.boots += 1
                host.retries += 1
                host.on_attempts = 0
                host.on_t = None
                host.admitted_t = None
                host.bootdev_t = None
                self._release(host)
                host.enter(Stage.POWER, t)
            elif host.stage is Stage.BMC:
                host.enter(Stage.POWER, t)
            elif host.stage is Stage.POWER and host.on_t is not None:
                host.next_t = t + poll_s(t - host.on_t, self._jitter(host))
            return
        host.read_off_t = None
        if host.on_t is None:
            # On without our doing: adopted, verified, never cycled. Its draw counts from now on.
            host.adopted = True
            self._release(host)
            self.feeds.hold(host.host, host.host.watts_steady)
        if host.stage in (Stage.BMC, Stage.POWER):
            host.enter(Stage.BOOT, t)

    def _boot_probe(self, host: HostState, event: Answer, ok: bool) -> None:
        t = event.t
        if not ok:
            # A wrong answer is no down: an old boot may give it too.
            host.saw_down = host.saw_down or event.reason is Reason.UNREACHABLE
            self._look_again(host, t)
            return
        if not host.adopted and not self._fresh(host, event):
            host.last = (Reason.STALE_BOOT, "answers, but has been up since before the request")
            self._look_again(host, t)
            return
        for name in ("boot_id", "uptime_s"):
            if name in event.data:
                host.evidence[name] = event.data[name]
        host.unbooted = False
        host.reserved = False
        self.feeds.hold(host.host, host.host.watts_steady)
        self._give_back(host)
        self._free_feed(host)
        checks = host.group.ready
        if host.group.proof_by_ssh and all(isinstance(check, SshCheck) for check in checks):
            self._after_ready(host, t)  # the proof of boot was a verified login: the same check holds
        else:
            host.enter(Stage.READY, t)

    def _fresh(self, host: HostState, event: Answer) -> bool:
        uptime_s = event.data.get("uptime_s")
        if uptime_s is not None:
            since_request_s = event.t + self.gap_s - host.on_real_t
            return float(uptime_s) <= since_request_s + UPTIME_SLACK_S
        return host.saw_down

    def _after_ready(self, host: HostState, t: float) -> None:
        if host.redeploys and host.playbook < len(host.group.redeploy):
            host.enter(Stage.REDEPLOY, t)
        elif host.group.verify or host.playbook:
            host.enter(Stage.VERIFY, t)
            host.proven = False
        else:
            host.enter(Stage.VERIFY, t)
            host.proven = True

    def _slice_answer(self, event: Answer, intent: Intent | None) -> None:
        if intent is not None:
            self.slots.give("forks", int(intent.args["forks"]))
        self.freed[("slot", "forks")] = None
        self.dirty_groups[event.target] = None
        for name, (word, detail) in event.verdicts.items():
            host = self.hosts[name]
            host.inflight = 0
            reason = Reason(word)
            host.last = (reason, detail)
            self.dirty[name] = None
            if reason is Reason.OK:
                host.playbook += 1
                host.redeploy_attempts = 0
                if host.playbook == len(host.group.redeploy):
                    host.enter(Stage.VERIFY, event.t)
                    host.proven = False
                continue
            host.retries += 1
            if reason is Reason.DARK:
                # Not the playbook's fault: back to waiting for SSH, and the attempt is not used up.
                host.dark += 1
                host.redeploy_attempts -= 1
                host.stage = Stage.READY
                host.stage_t = event.t
                host.next_t = event.t + 1.0
            elif reason is Reason.INTERRUPTED:
                host.redeploy_attempts -= 1
                host.next_t = event.t
            else:
                wait_s = backoff_s(host.redeploy_attempts, first_s=2.0, cap_s=60.0, jittered=self._jitter(host))
                host.next_t = event.t + wait_s

    def _settled(self, event: Settled) -> None:
        host = self.hosts[event.host]
        host.outcome = event.outcome
        host.reason = event.reason
        host.detail = event.detail
        host.settled_t = event.t
        self.unsettled -= 1
        self._give_back(host)
        never_on = host.on_t is None and not host.adopted
        if never_on or host.read_off_t is not None:
            self._release(host)
        group = self.groups[host.group.name]
        group.settled += 1
        self.dirty_groups[host.group.name] = None
        if event.outcome is Outcome.QUARANTINED:
            group.failed += 1
            if host.host.model:
                self.model_failed[host.host.model] = self.model_failed.get(host.host.model, 0) + 1
        for wait in self.dependencies.settle(host.host, event.outcome):
            for name in wait.children:
                child = self.hosts[name]
                if wait.status is Status.HOLDS:
                    child.waits -= 1
                elif not child.impossible:
                    child.impossible = wait.title
                if child.waits == 0 or child.impossible:
                    self.dirty[name] = None

    # -- helpers ---------------------------------------------------------------------

    def wake_at(self, t: float, host: str) -> None:
        """Ask the engine for another look at ``host`` (empty: at groups, ramps and gates) at run time ``t``."""
        heappush(self.timers, (t, host))

    def _jitter(self, host: HostState) -> float:
        return jitter(self.seed, host.host.name, host.stage, host.tries, host.on_attempts)

    def _backoff(self, host: HostState, t: float) -> float:
        return t + backoff_s(max(1, host.tries), first_s=1.0, cap_s=15.0, jittered=self._jitter(host))

    def _look_again(self, host: HostState, t: float) -> None:
        since = host.on_t if host.on_t is not None and host.stage is Stage.BOOT else host.stage_t
        host.next_t = t + poll_s(t - since, self._jitter(host))

    def _reserve(self, host: HostState, t: float) -> None:
        host.reserved = True
        if host.admitted_t is None:
            host.admitted_t = t
        self.feeds.start(host.host, t)
        image = host.host.fact("image_server")
        if image and not any(name == f"image:{image}" for name, _ in host.slots):
            self._take(host, f"image:{image}", 1)

    def _release(self, host: HostState) -> None:
        """No power flows because of us: give the watts and the place in the ramp back."""
        host.reserved = False
        if self.feeds.held_watts(host.host):
            self.feeds.hold(host.host, 0.0)
            self.feeds.forget_ramp(host.host)
            self._free_feed(host)
        self._give_back(host)

    def _free_feed(self, host: HostState) -> None:
        for resource in self.feeds.resources(host.host):
            self.freed[resource] = None

    def _take(self, host: HostState, name: str, count: int) -> None:
        self.slots.take(name, count)
        host.slots.append((name, count))

    def _give_back(self, host: HostState, keep: str | None = None) -> None:
        kept = []
        for name, count in host.slots:
            if keep is not None and name.startswith(keep):
                kept.append((name, count))
            else:
                self.slots.give(name, count)
                self.freed[("slot", name)] = None
        host.slots = kept

    # -- views ---------------------------------------------------------------------

    def booting(self) -> Iterator[str]:
        """Hosts that were switched on or cycled, and whose boot has neither been proven nor given up."""
        for name, host in self.hosts.items():
            under_way = host.stage in (Stage.POWER, Stage.BOOT) and host.outcome is None and not host.unbooted
            if under_way and host.on_t is not None and not host.adopted:
                yield name

    def outcomes(self) -> Iterator[tuple[str, Outcome, Reason, str]]:
        """Every host of the plan with its outcome; a host that has none yet is ``unknown``."""
        for name, host in self.hosts.items():
            if host.outcome is None:
                yield name, Outcome.UNKNOWN, Reason.NEVER_REACHED, f"stopped in stage {host.stage}"
            else:
                yield name, host.outcome, host.reason, host.detail

    def durable(self) -> Iterable[tuple[object, ...]]:
        """The part of the state that the journal alone determines, for comparing a replay with the original."""
        for name, h in self.hosts.items():
            yield (name, h.stage, h.outcome, h.reason, h.detail, h.adopted, h.power, h.on_attempts, h.boots)
            yield (h.playbook, h.redeploy_attempts, h.dark, h.retries, h.proven, h.unbooted, h.examined, h.symptoms)
            yield (h.reserved, self.feeds.held_watts(h.host))


def subnet(address: str) -> str:
    """The /24 (or, for IPv6, /64) that a BMC shares with its neighbours: what ``bmc_per_subnet`` counts in."""
    if ":" in address:
        return ":".join(address.split(":")[:4])
    return address.rsplit(".", 1)[0]
