"""What the journal of a real run tells of the world: samples of each quantity. Pure; durable events are enough.

The engine's own part is taken out, because whoever forecasts runs the engine again: a look in turn comes half the time
between two looks late, on average, and an exchange ends later than what it found out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from bootorch.core.events import Answer, BootFailed, Event, Intent, Kind, RunStarted, Settled
from bootorch.core.model import Outcome
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.retry import look_s, poll_s
from bootorch.sim.leastsquares import non_negative
from bootorch.sim.machine import BootFailure

FIRST_LOOK_S = 0.25  # an on reading by then says only that the chassis came on at once
_CHECKS = frozenset({Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK})
_COMMANDS = frozenset({Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE})
_DEAD_BMC = frozenset({Reason.BMC_UNREACHABLE, Reason.BMC_SILENT_AUTH})
_DEAD = {Reason(failure.value): failure for failure in BootFailure} | {Reason.NO_BOOT: BootFailure.NO_POST}


class Latency(NamedTuple):
    """An exchange took so many seconds, with so many others of its kind under way as it began."""

    seconds: float
    others: int


class Boot(NamedTuple):
    host: str
    model: str
    seconds: float  # power to the first login


class Slice(NamedTuple):
    """One playbook on ``hosts`` hosts with ``forks``, ``others`` slices under way as it began."""

    playbook: str  # file name
    seconds: float
    hosts: int
    forks: int
    others: int
    alone: bool = True  # no other slice was under way at any time of it
    run: int = 1


@dataclass(slots=True)
class Observed:
    """Samples of one or more runs; times in seconds."""

    runs: int = 0
    hosts: int = 0  # whose BMC was asked
    exchange: list[Latency] = field(default_factory=list)
    command: list[Latency] = field(default_factory=list)
    login: list[Latency] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)
    silence: list[float] = field(default_factory=list)
    refusal: list[float] = field(default_factory=list)
    bmc_late: list[float] = field(default_factory=list)  # run time at which a BMC came up, seen coming
    bmc_by: list[float] = field(default_factory=list)  # run time of a first look that found the BMC up
    dead_bmcs: int = 0
    found_on: int = 0
    self_started: int = 0
    switched: dict[str, int] = field(default_factory=dict)  # model: hosts with an accepted power-on
    silent: int = 0
    busy: int = 0
    power: list[float] = field(default_factory=list)
    boots: list[Boot] = field(default_factory=list)
    dead: list[tuple[str, BootFailure]] = field(default_factory=list)  # (model, what it ended in)
    ready: list[float] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    verdicts: dict[str, list[int]] = field(default_factory=dict)  # playbook: [host attempts, failed, lost]


@dataclass(slots=True)
class _Host:
    model: str
    looked_t: float | None = None  # first look at its BMC
    answered: bool = False
    silent_looks: bool = False
    off: bool = False  # as last read
    accepted_t: float | None = None  # the power-on (or cycle) of the present boot
    power_ons: int = 0
    requested: bool = False
    on_t: float | None = None  # chassis on, as reckoned
    up_t: float | None = None  # first login, as reckoned
    adopted: bool = False
    checked: bool = False  # a readiness check failed
    counted_busy: bool = False
    counted_silent: bool = False


def observe(journals: Iterable[tuple[Plan, Iterable[Event]]]) -> Observed:
    """All samples of these runs. Events of a watch that are not durable may be missing."""
    observed = Observed()
    for plan, events in journals:
        _Reader(plan, observed).read(list(events))
    return observed


class _Proof(NamedTuple):
    boot: Boot  # as reckoned from when it was seen
    on_t: float
    t: float
    uptime_s: float  # as the host said; negative: not known


class _Reader:
    """Reads one run."""

    def __init__(self, plan: Plan, observed: Observed) -> None:
        self._plan = plan
        self._o = observed
        self._hosts = {name: _Host(host.model) for name, host in plan.hosts.items()}
        self._open: dict[int, tuple[Intent, int]] = {}  # intent, and the others of its line as it began
        self._lines = {"bmc": 0, "login": 0, "slice": 0}
        self._login_s = 0.0
        self._first_looks: list[Latency] = []
        self._proofs: list[_Proof] = []
        self._silent = False  # a BMC did not answer at first, and then did
        self._spans: list[tuple[float, float, Slice]] = []

    def read(self, events: list[Event]) -> None:
        self._o.runs += 1
        self._login_s = _login_s(events)
        for event in events:
            match event:
                case Intent():
                    self._intent(event)
                case Answer():
                    self._answer(event)
                case BootFailed():
                    host = self._hosts[event.host]
                    host.accepted_t = host.on_t = None
                    host.power_ons = 0
                case Settled():
                    self._settled(event)
                case RunStarted():
                    pass
        if not self._silent:
            # Where BMCs were still to come up, a first look that lasted until one did is no usual exchange.
            self._o.exchange.extend(self._first_looks)
        self._boots()
        spans = self._spans
        for begun_t, ended_t, piece in spans:
            alone = not any(b < ended_t and begun_t < e and other is not piece for b, e, other in spans)
            self._o.slices.append(piece._replace(alone=alone, run=self._o.runs))
        self._o.hosts += sum(1 for host in self._hosts.values() if host.looked_t is not None)

    @staticmethod
    def _line(kind: Kind) -> str:
        return "slice" if kind is Kind.REDEPLOY else "login" if kind in _CHECKS else "bmc"

    def _intent(self, event: Intent) -> None:
        line = self._line(event.kind)
        self._open[event.id] = (event, self._lines[line])
        self._lines[line] += 1
        if event.kind in (Kind.REDEPLOY, Kind.GATE_CHECK, Kind.FEED_METER):
            return
        host = self._hosts[event.target]
        if event.kind is Kind.POWER_READ and host.looked_t is None:
            host.looked_t = event.t
        if event.kind is Kind.POWER_ON:
            host.requested = True

    def _answer(self, event: Answer) -> None:
        found = self._open.pop(event.id, None)
        intent, others = found if found is not None else (None, 0)
        if intent is not None:
            self._lines[self._line(intent.kind)] -= 1
        if event.reason is Reason.INTERRUPTED:
            return
        seconds = event.t - intent.t if intent is not None else None
        kind, ok = event.kind, event.reason is Reason.OK
        if kind is Kind.REDEPLOY:
            if intent is not None and seconds is not None:
                self._slice(intent, event, seconds, others)
            return
        if kind in (Kind.GATE_CHECK, Kind.FEED_METER):
            return
        host = self._hosts[event.target]
        if seconds is not None:
            if kind is Kind.POWER_READ and ok and not host.answered:
                self._first_looks.append(Latency(seconds, others))
            else:
                self._latency(kind, event.reason, Latency(seconds, others))
        if kind is Kind.POWER_READ:
            self._power_read(host, event, seconds)
        elif kind is Kind.POWER_ON:
            self._power_on(host, event, ok, seconds)
        elif kind is Kind.POWER_CYCLE and ok:
            host.accepted_t = host.on_t = event.t
        elif kind is Kind.BOOT_PROBE and ok:
            self._proof(host, event, seconds)
        elif kind is Kind.READY_CHECK:
            self._ready(host, event, ok, seconds)

    def _latency(self, kind: Kind, reason: Reason, latency: Latency) -> None:
        o = self._o
        if kind in _CHECKS:
            # A first probe that finds the host up is one that lasted until it was: no usual login.
            if reason is Reason.OK and kind is not Kind.BOOT_PROBE:
                o.login.append(latency)
            elif reason is Reason.UNREACHABLE:
                o.refusal.append(latency.seconds)
        elif kind is Kind.EVIDENCE:
            if reason is Reason.OK:
                o.evidence.append(latency.seconds)
        elif reason is Reason.OK:
            (o.command if kind in _COMMANDS else o.exchange).append(latency)
        elif reason is Reason.BMC_UNREACHABLE:
            o.silence.append(latency.seconds)

    def _power_read(self, host: _Host, event: Answer, seconds: float | None) -> None:
        o, t = self._o, event.t
        if event.reason is not Reason.OK:
            host.silent_looks = host.silent_looks or event.reason is Reason.BMC_UNREACHABLE
            return
        on = event.data.get("power") == "on"
        if not host.answered:
            host.answered = True
            if host.silent_looks:
                self._silent = True
                # As the engine backs off from a BMC: its waits are half of the time waited so far, 15 s at most.
                o.bmc_late.append(max(0.0, t - (seconds or 0.0) - min(15.0, max(1.0, t / 2)) * 0.75 / 2))
            else:
                o.bmc_by.append(t)
            o.found_on += on
            host.adopted = on
        if on:
            self._reads_on(host, t, seconds)
        else:
            host.on_t = None
        host.off = not on

    def _reads_on(self, host: _Host, t: float, seconds: float | None) -> None:
        if not host.requested and not host.adopted:
            host.adopted = True
            self._o.self_started += 1
        if host.accepted_t is not None and host.on_t is None:
            took_s = max(0.0, t - (seconds or 0.0) - host.accepted_t)
            took_s = took_s / 2 if took_s <= FIRST_LOOK_S else took_s - poll_s(took_s, 0.5) / 2
            self._o.power.append(took_s)
            host.on_t = host.accepted_t + took_s

    def _power_on(self, host: _Host, event: Answer, ok: bool, seconds: float | None) -> None:
        o = self._o
        if event.reason is Reason.BMC_BUSY and not host.counted_busy:
            host.counted_busy = True
            o.busy += 1
        if event.data.get("sent") is False:
            if event.data.get("power") == "on":
                host.requested = host.power_ons > 0
                self._reads_on(host, event.t, seconds)
            return
        if not ok:
            return
        if host.power_ons == 0 and host.accepted_t is None:
            o.switched[host.model] = o.switched.get(host.model, 0) + 1
        elif host.power_ons and not host.counted_silent:
            host.counted_silent = True
            o.silent += 1
        host.power_ons += 1
        host.accepted_t = event.t
        host.on_t = None

    def _proof(self, host: _Host, event: Answer, seconds: float | None) -> None:
        if host.adopted or host.on_t is None or host.accepted_t is None:
            return
        seen_t = event.t - (self._login_s if seconds is None else seconds)
        took_s = seen_t - host.on_t
        if seconds is None:
            took_s -= look_s(max(0.0, seen_t - host.accepted_t), 0.5, self._plan.hosts[event.target].boot_s) / 2
        host.up_t = host.on_t + max(took_s, 0.001)
        uptime_s = float(event.data.get("uptime_s", -1.0))
        self._proofs.append(_Proof(Boot(event.target, host.model, max(took_s, 0.001)), host.on_t, event.t, uptime_s))

    def _boots(self) -> None:
        """Boots as the hosts' own clocks tell them, where these agree; then what is left is the login's.

        Hosts that come up together wait for their logins, which makes boots look longer. A kernel starts after the same
        share of each boot of a kind of server: where that share is the same for all that were seen at once (the upper
        quarter), it gives every boot without the wait.
        """
        proofs = self._proofs
        shares = sorted(
            (proof.t - proof.uptime_s - proof.on_t) / proof.boot.seconds for proof in proofs if proof.uptime_s >= 0
        )
        usual = shares[len(shares) * 7 // 8] if len(shares) >= 16 and len(shares) == len(proofs) else 0.0
        agree = usual > 0.05 and shares[len(shares) * 3 // 4] > 0.93 * usual
        if not agree:
            self._o.boots.extend(proof.boot for proof in proofs)
            return
        waits: list[tuple[float, float]] = []
        for proof in proofs:
            seconds = max(0.001, min(proof.boot.seconds, (proof.t - proof.uptime_s - proof.on_t) / usual))
            self._o.boots.append(proof.boot._replace(seconds=seconds))
            expected_s = self._plan.hosts[proof.boot.host].boot_s
            waits.append((proof.on_t + seconds + look_s(seconds, 0.5, expected_s) / 2, proof.t))
        # Looks in turn blur what a login takes; for boots of minutes they hide it, and checks tell it better anyhow.
        usual_s = sorted(proof.boot.seconds for proof in proofs)[len(proofs) // 2]
        if self._login_s or poll_s(usual_s, 0.5) > 1.0:
            return
        for begun_t, ended_t in waits:
            others = sum(1 for begun, ended in waits if begun < begun_t < ended)
            self._o.login.append(Latency(max(0.001, ended_t - begun_t), others))

    def _ready(self, host: _Host, event: Answer, ok: bool, seconds: float | None) -> None:
        if not ok:
            host.checked = True
        elif host.up_t is not None:
            took_s = 0.0
            if host.checked:
                took_s = event.t - (self._login_s if seconds is None else seconds) - host.up_t
                took_s = max(0.0, took_s - poll_s(took_s, 0.5) / 2)
            self._o.ready.append(took_s)
            host.up_t, host.checked = None, False

    def _settled(self, event: Settled) -> None:
        host, o = self._hosts[event.host], self._o
        if event.outcome is not Outcome.QUARANTINED:
            return
        if event.reason in _DEAD_BMC and not host.answered:
            o.dead_bmcs += 1
        elif event.reason is Reason.POWER_NO_EFFECT and not host.counted_silent:
            host.counted_silent = True
            o.silent += 1
        elif event.reason in _DEAD and not host.adopted:
            o.dead.append((host.model, _DEAD[event.reason]))

    def _slice(self, intent: Intent, event: Answer, seconds: float, others: int) -> None:
        group = self._plan.groups[intent.target]
        index = int(intent.args["playbook"])
        playbook = PurePath(group.redeploy[index]).name if index < len(group.redeploy) else ""
        piece = Slice(playbook, seconds, len(intent.hosts), int(intent.args.get("forks", 1)), others)
        self._spans.append((intent.t, event.t, piece))
        counts = self._o.verdicts.setdefault(playbook, [0, 0, 0])
        for word, _ in event.verdicts.values():
            counts[0] += 1
            counts[1] += word == Reason.TASK_FAILED.value
            counts[2] += word == Reason.DARK.value


def alone(latencies: Sequence[Latency]) -> tuple[float, float]:
    """(seconds of an exchange with nothing else under way, what each other one adds as a share of it)."""
    if not latencies:
        return 0.0, 0.0
    middle = sorted(latency.seconds for latency in latencies)[len(latencies) // 2]
    if len({latency.others for latency in latencies}) < 3:
        return middle, 0.0
    weights = non_negative([(1.0, float(x.others)) for x in latencies], [x.seconds for x in latencies])
    return (weights[0], weights[1] / weights[0]) if weights[0] > 0 else (middle, 0.0)


def _login_s(events: list[Event]) -> float:
    """A check of a host by itself, from those whose beginning and end are both known; nothing where there is none."""
    begun: dict[int, tuple[float, int]] = {}
    took: list[Latency] = []
    for event in events:
        if isinstance(event, Intent) and event.kind in (Kind.READY_CHECK, Kind.VERIFY_CHECK):
            begun[event.id] = (event.t, len(begun))
        elif isinstance(event, Answer) and (found := begun.pop(event.id, None)) and event.reason is Reason.OK:
            took.append(Latency(event.t - found[0], found[1]))
    return alone(took)[0]
