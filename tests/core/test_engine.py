"""Rules of the engine, one by one: what the world answers goes in, what is done and how it ends comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise

import pytest

from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.events import (
    Answer,
    BootFailed,
    Event,
    GateOpened,
    Intent,
    Kind,
    Paused,
    RunStarted,
    Scalar,
    Settled,
    Tripped,
)
from bootorch.core.model import (
    AdoptedPolicy,
    Attempts,
    BootDevice,
    Breaker,
    Deadlines,
    FeedLimit,
    Gate,
    HttpCheck,
    Limits,
    Outcome,
    Quorum,
    Requirement,
    SecondBoot,
    TcpCheck,
)
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay, resume
from tests.plans import group, make_plan

Reply = Reason | tuple[Reason, dict[str, Scalar]]
OFF: Reply = (Reason.OK, {"power": "off"})
ON: Reply = (Reason.OK, {"power": "on"})


@dataclass
class World:
    """Answers every effect after ``delay_s``: by ``script[host or group, kind]`` as long as that lasts (its last entry
    for ever), else as a healthy machine that boots in 20 s would."""

    engine: Engine
    script: dict[tuple[str, Kind], list[Reply]] = field(default_factory=dict)
    verdict: Callable[[Intent, str], tuple[str, str]] = lambda _intent, _host: ("ok", "")
    delay_s: float = 0.1
    now: float = 0.0
    on_t: dict[str, float] = field(default_factory=dict)
    did: list[tuple[str, Kind]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pending: list[tuple[float, int, Intent]] = field(default_factory=list)

    def run(self, until: float = 1e6, selected: tuple[str, ...] = ()) -> str:
        if not self.engine.state.started:
            plan = self.engine.plan
            self.tell(RunStarted(0.0, "r", plan.name, "", len(plan.hosts), 1, "", "test", "x", selected))
        pending = self.pending
        while True:
            for event in self.engine.decide(self.now):
                self.events.append(event)
                if isinstance(event, Intent):
                    self.did.append((event.target, event.kind))
                    heappush(pending, (self.now + self.delay_s, event.id, event))
            verdict = self.engine.verdict()
            timers = [t for t in (self.engine.next_timer(), pending[0][0] if pending else None) if t is not None]
            if verdict or not timers or min(timers) > until:
                return verdict
            self.now = max(self.now, min(timers))
            while pending and pending[0][0] <= self.now:
                self.answer(heappop(pending)[2])

    def tell(self, event: Event) -> None:
        self.engine.apply(event)
        self.events.append(event)

    def answer(self, intent: Intent) -> None:
        name, kind = intent.target, intent.kind
        replies = self.script.get((name, kind))
        reply = (replies.pop(0) if len(replies) > 1 else replies[0]) if replies else self.healthy(name, kind)
        reason, data = reply if isinstance(reply, tuple) else (reply, {})
        if kind in (Kind.POWER_ON, Kind.POWER_CYCLE) and reason is Reason.OK and not replies:
            self.on_t[name] = self.now
        verdicts = {host: self.verdict(intent, host) for host in intent.hosts}
        answer = self.engine.answer(intent, self.now, reason, "", data, verdicts)
        self.tell(answer)

    def healthy(self, name: str, kind: Kind) -> Reply:
        on_t = self.on_t.get(name)
        if kind is Kind.POWER_READ:
            return ON if on_t is not None else OFF
        if kind in (Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK):
            if on_t is None or self.now < on_t + 20:
                return Reason.UNREACHABLE
            return (Reason.OK, {"boot_id": "b", "uptime_s": self.now - on_t}) if kind is Kind.BOOT_PROBE else Reason.OK
        return Reason.OK

    def outcome(self, host: str) -> tuple[Outcome | None, Reason]:
        state = self.engine.state.hosts[host]
        return state.outcome, state.reason

    def count(self, host: str, kind: Kind) -> int:
        return Counter(self.did)[host, kind]


def one(script: dict[Kind, list[Reply]] | None = None, **settings: object) -> World:
    """A plan of one host, ``g1``."""
    plan = make_plan({"g": (1, group(**settings))})
    return World(Engine(plan), {("g1", kind): replies for kind, replies in (script or {}).items()})


def kinds(world: World, host: str = "g1") -> list[str]:
    """What was done to a host, repeats of one watch folded."""
    out: list[str] = []
    for target, kind in world.did:
        if target == host and (not out or out[-1] != kind.value):
            out.append(kind.value)
    return out


def test_a_dark_host_is_read_switched_on_read_again_and_proven() -> None:
    world = one()
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    assert kinds(world) == ["power.read", "power.on", "power.read", "boot.probe"]
    assert world.count("g1", Kind.POWER_ON) == 1
    assert world.engine.state.hosts["g1"].evidence["boot_id"] == "b"


@pytest.mark.parametrize("second", list(SecondBoot))
def test_a_running_host_is_adopted_and_never_touched(second: SecondBoot) -> None:
    up: Reply = (Reason.OK, {"boot_id": "old", "uptime_s": 1e6})
    world = one({Kind.POWER_READ: [ON], Kind.BOOT_PROBE: [up]}, second_boot=second, redeploy=("/a.yml",))
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.ADOPTED, Reason.OK)
    assert set(kinds(world)) == {"power.read", "boot.probe"}
    # Even when it does not answer: hung is not off.
    hung = one({Kind.POWER_READ: [ON], Kind.BOOT_PROBE: [Reason.UNREACHABLE]}, second_boot=second)
    assert hung.run() == "done"
    assert hung.outcome("g1") == (Outcome.QUARANTINED, Reason.NO_BOOT)
    assert set(kinds(hung)) == {"power.read", "boot.probe"}


def test_an_adopted_host_is_redeployed_where_the_plan_says_so() -> None:
    up: Reply = (Reason.OK, {"boot_id": "old", "uptime_s": 1e6})
    script = {Kind.POWER_READ: [ON], Kind.BOOT_PROBE: [up], Kind.VERIFY_CHECK: [Reason.OK]}
    world = one(script, adopted=AdoptedPolicy.REDEPLOY, redeploy=("/a.yml",))
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.ADOPTED, Reason.OK)
    assert ("g", Kind.REDEPLOY) in world.did


def test_an_accepted_power_on_without_effect_is_sent_again_after_a_reading() -> None:
    world = one({Kind.POWER_ON: [Reason.OK], Kind.POWER_READ: [OFF]})
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.POWER_NO_EFFECT)
    assert world.count("g1", Kind.POWER_ON) == 4
    assert kinds(world)[:5] == ["power.read", "power.on", "power.read", "power.on", "power.read"]
    ons = [e.t for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
    gaps = [b - a for a, b in pairwise(ons)]
    assert all(30 <= gap < 45 for gap in gaps), "each had its share of the power deadline to work"


def test_a_lost_answer_to_a_power_on_is_read_back_not_repeated() -> None:
    world = one({Kind.POWER_ON: [Reason.BMC_LOST], Kind.POWER_READ: [OFF, ON]})
    world.on_t["g1"] = 0.0
    world.run()
    assert world.outcome("g1")[0] is Outcome.READY
    assert world.count("g1", Kind.POWER_ON) == 1


@pytest.mark.parametrize(
    ("then", "outcome", "reason"),
    [
        (ON, Outcome.READY, Reason.OK),
        (OFF, Outcome.QUARANTINED, Reason.BMC_LOST),
        (Reason.BMC_LOST, Outcome.QUARANTINED, Reason.BMC_LOST),
        (Reason.BMC_UNREACHABLE, Outcome.QUARANTINED, Reason.BMC_UNREACHABLE),
    ],
)
def test_a_power_on_that_is_lost_at_the_deadline_is_read_back_too(
    then: Reply, outcome: Outcome, reason: Reason
) -> None:
    """Its answer is missed after the power deadline; the chassis is on, off, or does not say any more."""
    world = one({Kind.POWER_ON: [Reason.BMC_LOST], Kind.POWER_READ: [OFF, then]}, deadlines=Deadlines(power=5.0))
    world.delay_s = 6.0
    world.on_t["g1"] = 11.0
    assert world.run() == "done"
    assert world.outcome("g1") == (outcome, reason)
    assert world.count("g1", Kind.POWER_ON) == 1
    assert 2 <= world.count("g1", Kind.POWER_READ) <= 4
    assert world.count("g1", Kind.EVIDENCE) == (then == OFF)
    assert (then == OFF) == world.engine.state.hosts["g1"].detail.startswith("still off after 1 power-ons")


def test_a_refused_power_on_is_named() -> None:
    world = one({Kind.POWER_ON: [Reason.BMC_REFUSED], Kind.POWER_READ: [OFF]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.BMC_REFUSED)


@pytest.mark.parametrize(
    ("reason", "most"),
    [(Reason.BMC_AUTH_FAILED, 1), (Reason.BMC_ROGUE, 1), (Reason.OUTSIDE_SITE, 1), (Reason.BMC_SILENT_AUTH, 4)],
)
def test_what_time_does_not_heal_ends_at_once(reason: Reason, most: int) -> None:
    world = one({Kind.POWER_READ: [reason]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, reason)
    assert world.count("g1", Kind.POWER_READ) == most
    assert world.now < 60


def test_a_dead_bmc_ends_at_its_deadline_and_holds_up_nobody() -> None:
    plan = make_plan({"g": (3, group())})
    world = World(Engine(plan), {("g1", Kind.POWER_READ): [Reason.BMC_UNREACHABLE]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)
    state = world.engine.state
    assert 300 <= state.hosts["g1"].settled_t < 301
    assert state.hosts["g2"].settled_t < 30


def test_a_boot_from_before_the_request_is_no_proof() -> None:
    world = one({Kind.BOOT_PROBE: [(Reason.OK, {"boot_id": "old", "uptime_s": 5e5})]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.STALE_BOOT)


def test_a_port_counts_only_after_it_was_down() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.OK]}, ready=(TcpCheck(22),))
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.STALE_BOOT)
    wrong = one({Kind.BOOT_PROBE: [Reason.CHECK_FAILED, Reason.OK]}, ready=(TcpCheck(22),))
    wrong.run()
    assert wrong.outcome("g1") == (Outcome.QUARANTINED, Reason.STALE_BOOT), "a wrong answer is no down"
    fresh = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE, Reason.OK]}, ready=(TcpCheck(22),))
    fresh.script["g1", Kind.READY_CHECK] = [Reason.OK]
    fresh.run()
    assert fresh.outcome("g1") == (Outcome.READY, Reason.OK)


def test_no_boot_is_cycled_only_where_the_plan_says_so() -> None:
    never = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE]})
    never.run()
    assert never.outcome("g1") == (Outcome.QUARANTINED, Reason.NO_BOOT)
    assert never.count("g1", Kind.POWER_CYCLE) == 0
    cycled = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE]}, second_boot=SecondBoot.CYCLE, attempts=Attempts(boot=3))
    cycled.run()
    assert cycled.count("g1", Kind.POWER_CYCLE) == 2
    last = ["power.read", "power.cycle", "boot.probe", "power.evidence", "power.read"]
    assert kinds(cycled)[-5:] == last, "read before every cycle"


PANIC: Reply = (Reason.OK, {"power": "on", "sel": "", "console": "Kernel panic - not syncing: no init"})
NOTHING_DECISIVE: Reply = (Reason.OK, {"power": "on", "sel": "", "console": "Loading drivers"})


def failed_boots(world: World) -> list[tuple[Reason, str]]:
    return [(event.reason, event.detail) for event in world.events if isinstance(event, BootFailed)]


def test_a_failed_boot_is_named_for_what_its_bmc_knows() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC]})
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.KERNEL_PANIC)
    assert world.engine.state.hosts["g1"].detail == "console: Kernel panic - not syncing: no init; chassis is on"
    assert kinds(world)[-3:] == ["boot.probe", "power.evidence", "power.read"]
    intent = next(event for event in world.events if isinstance(event, Intent) and event.kind is Kind.EVIDENCE)
    on = next(event for event in world.events if isinstance(event, Intent) and event.kind is Kind.POWER_ON)
    assert intent.durable
    assert intent.args == {"since_s": round(intent.t - on.t, 1), "timeout_s": 20.0}
    answer = next(event for event in world.events if isinstance(event, Answer) and event.kind is Kind.EVIDENCE)
    assert answer.durable
    assert answer.data["console"] == "Kernel panic - not syncing: no init"


def test_evidence_that_decides_nothing_is_told_all_the_same() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [NOTHING_DECISIVE]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.NO_BOOT)
    assert "console ends: Loading drivers" in world.engine.state.hosts["g1"].detail


@pytest.mark.parametrize(
    "failed", [Reason.BMC_UNSUPPORTED, Reason.BMC_UNREACHABLE, Reason.BMC_AUTH_FAILED, Reason.INTERNAL]
)
def test_evidence_that_cannot_be_had_holds_nothing_up(failed: Reason) -> None:
    silent = {Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [failed]}
    world = one(silent, second_boot=SecondBoot.CYCLE)
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.NO_BOOT)
    assert world.count("g1", Kind.POWER_CYCLE) == 1
    assert world.count("g1", Kind.EVIDENCE) == 2, "one for each failed boot"
    off = one({Kind.POWER_ON: [Reason.OK], Kind.POWER_READ: [OFF], Kind.EVIDENCE: [failed]})
    off.run()
    assert off.outcome("g1") == (Outcome.QUARANTINED, Reason.POWER_NO_EFFECT)
    assert off.count("g1", Kind.EVIDENCE) == 1


def test_every_failed_boot_has_evidence_of_its_own() -> None:
    fault: Reply = (Reason.OK, {"power": "on", "sel": "0c.01.ff.01 - Memory #1: uncorrectable ECC, module 1"})
    world = one(
        {Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC, fault]}, second_boot=SecondBoot.CYCLE
    )  # fmt: skip
    world.run()
    assert [reason for reason, _ in failed_boots(world)] == [Reason.KERNEL_PANIC, Reason.MEMORY_ERROR]
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.MEMORY_ERROR)
    assert "after 2 boots" in world.engine.state.hosts["g1"].detail
    # A second boot that works is ready, whatever the first one died of.
    again = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC]}, second_boot=SecondBoot.CYCLE)
    again.run(until=1230)
    assert again.count("g1", Kind.POWER_CYCLE) == 1
    del again.script["g1", Kind.BOOT_PROBE]
    assert again.run() == "done"
    assert again.outcome("g1") == (Outcome.READY, Reason.OK)


def test_power_that_does_not_come_is_named_for_what_its_bmc_knows() -> None:
    fault: Reply = (Reason.OK, {"power": "off", "fault": True, "last_power_event": "power fault"})
    world = one({Kind.POWER_ON: [Reason.OK], Kind.POWER_READ: [OFF], Kind.EVIDENCE: [fault]})
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.POWER_FAULT)
    assert world.engine.state.hosts["g1"].detail.endswith("still off after 4 power-ons")
    assert world.count("g1", Kind.POWER_ON) == 4
    intent = next(event for event in world.events if isinstance(event, Intent) and event.kind is Kind.EVIDENCE)
    ons = [event.t for event in world.events if isinstance(event, Intent) and event.kind is Kind.POWER_ON]
    assert float(intent.args["since_s"]) >= intent.t - ons[0] - 0.1, "since the first power-on"


def test_a_host_that_answers_from_an_old_boot_keeps_that_reason() -> None:
    script = {Kind.BOOT_PROBE: [(Reason.OK, {"boot_id": "old", "uptime_s": 5e5})], Kind.EVIDENCE: [PANIC]}
    world = one(script)
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.STALE_BOOT)


def test_a_pause_comes_before_evidence_too() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC]})
    world.run(until=1190)
    world.tell(Paused(world.now, "kim"))
    assert world.run() == "paused"
    world.now = 2000.0
    assert world.run() == "paused"
    assert world.count("g1", Kind.EVIDENCE) == 0
    world.events += resume(world.engine, world.now, 0.0, "", "kim")
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.KERNEL_PANIC)
    assert world.count("g1", Kind.EVIDENCE) == 1


def test_interrupted_power_ons_use_up_neither_attempts_nor_time() -> None:
    """Killed between intent and packet, again and again: each is read back as off, and sent again."""
    world = one({Kind.POWER_ON: [Reason.INTERRUPTED]})
    until = 0.0
    while world.count("g1", Kind.POWER_ON) < 12:
        world.run(until=(until := until + 5.0))
    assert world.outcome("g1")[0] is None
    world.script.clear()
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    last = "power.read"
    for name, kind in world.did:
        assert not (kind is Kind.POWER_ON and last == "power.on"), name
        last = kind.value


def test_a_cycle_that_was_interrupted_may_be_sent_again_when_that_boot_fails_too() -> None:
    """No power state tells whether it left: the host gets its time to boot first."""
    world = one(
        {Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.POWER_CYCLE: [Reason.INTERRUPTED, Reason.OK]},
        second_boot=SecondBoot.CYCLE,
        attempts=Attempts(boot=2),
    )
    assert world.run() == "done"
    cycles = [event.t for event in world.events if isinstance(event, Intent) and event.kind is Kind.POWER_CYCLE]
    assert len(cycles) == 2
    assert cycles[1] - cycles[0] >= 1200.0
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.NO_BOOT)


@pytest.mark.parametrize(("gap_s", "uptime_s"), [(0.0, 6 * 3600.0), (6 * 3600.0, 60.0)])
def test_where_only_a_wall_clock_told_the_time_away_uptime_proves_nothing(gap_s: float, uptime_s: float) -> None:
    """The machine was restarted, and its clock is wrong: six hours away look like none. The host was off before the
    request, and answers now."""
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE]})
    world.run(until=60.0)
    world.script["g1", Kind.BOOT_PROBE] = [(Reason.OK, {"boot_id": "b", "uptime_s": uptime_s})]
    world.events += resume(world.engine, world.now, gap_s, "", "kim", told_by="wall")
    world.pending.clear()
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)


def test_after_an_interrupted_cycle_no_old_boot_counts() -> None:
    """Before a cycle no reading said off that could stand for the down; an answer that tells no uptime is no proof."""
    world = one(
        {Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.POWER_CYCLE: [Reason.INTERRUPTED]},
        second_boot=SecondBoot.CYCLE,
        attempts=Attempts(boot=2),
    )
    until = 1000.0
    while not world.count("g1", Kind.POWER_CYCLE):
        world.run(until=(until := until + 0.05))
    world.script["g1", Kind.BOOT_PROBE] = [(Reason.OK, {"boot_id": "old"})]
    world.events += resume(world.engine, world.now, 5.0, "", "kim")
    world.pending.clear()
    world.run(until=world.now + 600.0)
    assert world.outcome("g1")[0] is None
    assert world.engine.state.hosts["g1"].last[0] is Reason.STALE_BOOT


def test_evidence_that_was_interrupted_is_taken_again() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC]})
    until = 1200.0
    while not world.count("g1", Kind.EVIDENCE):
        world.run(until=(until := until + 0.05))
    durable = [decode(encode(event)) for event in world.events if getattr(event, "durable", True)]
    again = World(Engine(world.engine.plan, replay(world.engine.plan, durable)), world.script, now=world.now)
    again.on_t = world.on_t
    again.events += resume(again.engine, world.now, 3600.0, "", "kim")
    assert again.run() == "done"
    assert again.outcome("g1") == (Outcome.QUARANTINED, Reason.KERNEL_PANIC)
    intent = next(event for event in again.events if isinstance(event, Intent) and event.kind is Kind.EVIDENCE)
    assert float(intent.args["since_s"]) > 4800, "the hour away counts: the BMC's clock went on"


def test_evidence_waits_for_its_subnets_slot() -> None:
    plan = make_plan({"g": (6, group())}, Limits(slots={"bmc_per_subnet": 2}))
    script: dict[tuple[str, Kind], list[Reply]] = {}
    for name in plan.hosts:
        script[name, Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
        script[name, Kind.EVIDENCE] = [PANIC]
    world = World(Engine(plan), script)
    assert world.run() == "done"
    assert {world.outcome(name)[1] for name in plan.hosts} == {Reason.KERNEL_PANIC}
    open_now = most = 0
    for event in world.events:
        if isinstance(event, Intent | Answer) and event.kind is Kind.EVIDENCE:
            open_now += 1 if isinstance(event, Intent) else -1
            most = max(most, open_now)
    assert most == 2


def test_a_journal_from_before_there_was_evidence_reads_as_it_did() -> None:
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE], Kind.EVIDENCE: [PANIC]})
    world.run()
    old = [event for event in world.events if getattr(event, "kind", None) is not Kind.EVIDENCE]
    old = [replace(e, reason=Reason.UNREACHABLE) if isinstance(e, BootFailed) else e for e in old]
    old = [replace(e, reason=Reason.NO_BOOT) if isinstance(e, Settled) else e for e in old]
    state = replay(world.engine.plan, map(decode, map(encode, old)))
    assert state.hosts["g1"].reason is Reason.NO_BOOT
    unbooted = state.hosts["g1"].unbooted
    assert unbooted is not None
    assert unbooted[0] is Reason.NO_BOOT


def test_a_host_that_fell_off_is_switched_on_for_its_second_boot() -> None:
    world = one({Kind.POWER_READ: [OFF, ON, OFF, ON], Kind.BOOT_PROBE: [Reason.UNREACHABLE]})
    world.run()
    assert world.count("g1", Kind.POWER_ON) == 2
    assert world.count("g1", Kind.POWER_CYCLE) == 0
    assert world.engine.state.hosts["g1"].boots == 2


def test_each_power_on_says_from_where_to_boot() -> None:
    world = one({Kind.POWER_ON: [Reason.OK], Kind.POWER_READ: [OFF]}, boot_device=BootDevice.PXE)
    world.run()
    ons = [e for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
    assert [e.args.get("device") for e in ons] == ["pxe"] * 4
    plain = one()
    plain.run()
    assert "device" not in next(e for e in plain.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON).args


def test_a_host_that_its_power_on_finds_running_is_adopted_and_nothing_was_sent() -> None:
    up: Reply = (Reason.OK, {"boot_id": "old", "uptime_s": 1e6})
    world = one({Kind.POWER_ON: [(Reason.OK, {"sent": False, "power": "on"})], Kind.BOOT_PROBE: [up]})
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.ADOPTED, Reason.OK)
    host = world.engine.state.hosts["g1"]
    assert (host.on_attempts, host.on_t, host.retries) == (0, None, 0)


def test_a_power_on_that_never_left_uses_up_no_attempt_and_holds_no_watts() -> None:
    silent: Reply = (Reason.BMC_UNREACHABLE, {"sent": False})
    world = one({Kind.POWER_ON: [silent]})
    world.run(until=60)
    host = world.engine.state.hosts["g1"]
    assert world.count("g1", Kind.POWER_ON) > 1
    assert (host.on_attempts, host.on_t, host.reserved) == (0, None, False)
    assert kinds(world)[:4] == ["power.read", "power.on", "power.read", "power.on"], "it is read before each"
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)


def test_a_boot_option_that_is_refused_keeps_the_power_on_back() -> None:
    refused: Reply = (Reason.BMC_REFUSED, {"sent": False, "power": "off"})
    world = one({Kind.POWER_ON: [refused, refused, Reason.OK]}, boot_device=BootDevice.DISK)
    world.script["g1", Kind.POWER_ON].append(Reason.OK)
    world.run(until=10)
    host = world.engine.state.hosts["g1"]
    assert (world.count("g1", Kind.POWER_ON), host.on_attempts) == (3, 1)


def test_a_power_on_that_came_late_counts_from_when_it_was_sent() -> None:
    """The first power-on had its effect while nobody looked any more; the second one finds the host on."""
    late: Reply = (Reason.OK, {"sent": False, "power": "on"})
    world = one({Kind.POWER_ON: [Reason.OK, late], Kind.POWER_READ: [OFF]})
    world.run(until=29)
    first = world.engine.state.hosts["g1"].on_t
    assert first is not None
    world.on_t["g1"] = first + 1.0
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    assert world.engine.state.hosts["g1"].on_t == first


def test_a_gate_holds_power_and_nothing_else_until_somebody_says_yes() -> None:
    plan = make_plan({"g": (2, group())}, gates=(Gate("power", ask="Who?"),))
    world = World(Engine(plan))
    assert world.run() == "stopped"
    assert world.count("g1", Kind.POWER_READ) == 1
    assert world.count("g1", Kind.POWER_ON) == 0
    assert world.engine.admission.waiting() == {("gate", "power"): 2}
    world.now += 3600
    world.tell(GateOpened(world.now, "power", "kim"))
    assert world.run() == "done"
    did = [e.kind for e in world.events if isinstance(e, Intent) and e.target == "g1"]
    assert did[:3] == [Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_READ], "the power-on itself reads once more"


def test_a_manual_step_of_the_control_path_holds_back_the_very_first_question() -> None:
    step = Gate("manual-switch", ask="Plug in", groups=("tor",), control=True)
    plan = make_plan({"tor": (2, group()), "web": (1, group())}, gates=(step,))
    world = World(Engine(plan))
    assert world.run() == "stopped"
    assert {target for target, _ in world.did} == {"web1"}
    assert world.engine.admission.waiting() == {("gate", "manual-switch"): 2}
    world.tell(GateOpened(world.now, "manual-switch", "kim"))
    assert world.run() == "done"
    assert {host.outcome for host in world.engine.state.hosts.values()} == {Outcome.READY}


def test_a_host_waits_for_the_very_switch_that_it_names() -> None:
    by_name = Requirement("tor", per_host="uplink", control="switch", parent_fact="inventory_hostname")
    uplinks = {"tor2": "tor1", "web1": "tor2", "web2": "tor1"}
    plan = make_plan(
        {"tor": (2, group(requires=(replace(by_name, hosts=("tor2",)),))), "web": (2, group(requires=(by_name,)))},
        facts={name: {"facts": {"uplink": switch}} for name, switch in uplinks.items()},
        tied=True,
    )
    world = World(Engine(plan))
    assert world.run() == "done"
    ready = [event.host for event in world.events if isinstance(event, Settled)]
    asked = [target for target, kind in world.did if kind is Kind.POWER_READ]
    assert asked.index("tor2") > asked.index("tor1")
    assert ready.index("tor1") < ready.index("tor2") < ready.index("web1")
    assert ready.index("web2") < ready.index("web1")


def test_a_gate_with_a_check_is_asked_until_it_holds() -> None:
    plan = make_plan({"g": (1, group())}, gates=(Gate("cooling", check=HttpCheck("http://127.0.0.1/")),))
    world = World(Engine(plan), {("cooling", Kind.GATE_CHECK): [Reason.CHECK_FAILED] * 3 + [Reason.OK]})
    assert world.run() == "done"
    assert world.count("cooling", Kind.GATE_CHECK) == 4
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)


def test_a_quorum_that_cannot_be_reached_blocks_and_names_the_parent() -> None:
    groups = {
        "a": (3, group()),
        "b": (2, group(requires=(Requirement("a", Quorum(count=3)),))),
        "c": (1, group(requires=(Requirement("b"),))),
        "d": (1, group(after=("b",))),
        "e": (1, group(requires=(Requirement("a", Quorum(share=0.5)),))),
    }
    plan = make_plan(groups)
    world = World(Engine(plan), {("a1", Kind.POWER_READ): [Reason.BMC_ROGUE]})
    assert world.run() == "done"
    assert world.outcome("b1") == (Outcome.BLOCKED, Reason.DEPENDENCY)
    assert "a: 3 of 3" in world.engine.state.hosts["b1"].detail
    assert world.outcome("c1") == (Outcome.BLOCKED, Reason.DEPENDENCY)
    assert world.outcome("d1") == (Outcome.READY, Reason.OK), "after: order only, however the parent ended"
    assert world.outcome("e1") == (Outcome.READY, Reason.OK)


def test_per_host_blocks_only_the_hosts_whose_own_parent_failed() -> None:
    groups = {"tor": (4, group()), "web": (8, group(requires=(Requirement("tor", per_host="rack"),)))}
    plan = make_plan(groups)
    world = World(Engine(plan), {("tor2", Kind.POWER_READ): [Reason.BMC_ROGUE]})
    world.run()
    rack = plan.hosts["tor2"].rack
    blocked = {name for name in plan.hosts if world.outcome(name)[0] is Outcome.BLOCKED}
    assert blocked == {name for name, host in plan.hosts.items() if host.group == "web" and host.rack == rack}


def test_a_group_breaker_stops_that_group_and_a_reset_goes_on() -> None:
    groups = {"a": (10, group()), "b": (2, group())}
    plan = make_plan(groups, Limits(breaker=Breaker(group_failed_share=0.2), slots={"bmc_per_subnet": 1}))
    script: dict[tuple[str, Kind], list[Reply]] = {(f"a{n}", Kind.POWER_READ): [Reason.BMC_ROGUE] for n in (1, 10, 2)}
    world = World(Engine(plan), script)
    assert world.run() == "stopped"
    assert [event.scope for event in world.events if isinstance(event, Tripped)] == ["group:a"]
    assert world.outcome("b1") == (Outcome.READY, Reason.OK)
    stopped = [name for name in plan.hosts if world.outcome(name)[0] is None]
    assert stopped
    assert all(world.count(name, Kind.POWER_ON) == 0 for name in stopped)

    durable = [event for event in world.events if getattr(event, "durable", True)]
    again = World(Engine(plan, replay(plan, durable)), script, now=world.now, on_t=world.on_t)
    again.events += resume(again.engine, world.now, 0.0, "", "kim", reset_breakers=True)
    assert again.run() == "done"
    assert all(again.outcome(name)[0] is Outcome.READY for name in stopped)


def test_a_model_breaker_names_the_model() -> None:
    facts = {f"a{n}": {"model": "x9"} for n in (1, 2, 3)}
    plan = make_plan({"a": (6, group())}, Limits(breaker=Breaker(same_model_failures=3)), facts=facts)
    world = World(Engine(plan), {(f"a{n}", Kind.POWER_READ): [Reason.BMC_ROGUE] for n in (1, 2, 3)})
    world.run()
    assert [event.scope for event in world.events if isinstance(event, Tripped)] == ["model:x9"]
    assert world.outcome("a4") == (Outcome.READY, Reason.OK)


def test_a_feed_lets_in_what_fits_most_urgent_first() -> None:
    groups = {"late": (2, group(tier=2)), "soon": (2, group(tier=1))}
    # Boot peak 400 W, then 250 W: at most two boot at once, and all four run in the end.
    plan = make_plan(groups, Limits(feeds={"hall": FeedLimit(budget_watts=1150.0)}))
    world = World(Engine(plan))
    assert world.run() == "done"
    ons = [e.target for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
    assert ons[:2] == ["soon1", "soon2"]


def test_a_feed_that_never_fits_stops_the_run() -> None:
    plan = make_plan({"g": (3, group())}, Limits(feeds={"hall": FeedLimit(budget_watts=700.0)}))
    world = World(Engine(plan))
    assert world.run() == "stopped"
    assert world.engine.admission.waiting() == {("feed", "hall"): 1}


def test_a_lost_host_goes_back_to_ssh_and_burns_no_attempt() -> None:
    tries: list[int] = []

    def verdict(intent: Intent, host: str) -> tuple[str, str]:
        tries.append(intent.attempt)
        return ("dark", "connection lost") if len(tries) < 4 else ("ok", "")

    world = one(redeploy=("/a.yml",))
    world.verdict = verdict
    world.run()
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    assert tries == [1, 1, 1, 1]
    assert world.count("g1", Kind.READY_CHECK) >= 3, "SSH was waited for each time"


def test_failed_hosts_alone_are_run_again_from_the_playbook_that_failed() -> None:
    plan = make_plan({"g": (4, group(redeploy=("/a.yml", "/b.yml")))})
    slices: list[tuple[object, tuple[str, ...]]] = []

    def verdict(intent: Intent, host: str) -> tuple[str, str]:
        if host == intent.hosts[0]:
            slices.append((intent.args["playbook"], intent.hosts))
        failed = host == "g2" and intent.args["playbook"] == 1 and intent.attempt < 3
        return ("task_failed", "disk full") if failed else ("ok", "")

    world = World(Engine(plan), verdict=verdict)
    world.run()
    assert world.outcome("g2") == (Outcome.READY, Reason.OK)
    everybody = ("g1", "g2", "g3", "g4")
    assert slices == [(0, everybody), (1, everybody), (1, ("g2",)), (1, ("g2",))]


def test_a_playbook_that_keeps_failing_is_quarantined_with_its_task() -> None:
    world = one(redeploy=("/a.yml",))
    world.verdict = lambda _intent, _host: ("task_failed", "install: disk full")
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.TASK_FAILED)
    assert world.engine.state.hosts["g1"].detail == "install: disk full"
    assert world.count("g", Kind.REDEPLOY) == 3


def test_a_limit_skips_the_rest_and_only_looks_at_what_is_required() -> None:
    groups = {
        "a": (2, group()),
        "b": (2, group(requires=(Requirement("a", Quorum(count=1)),))),
        "c": (1, group()),
    }
    plan = make_plan(groups)
    world = World(Engine(plan))
    world.on_t["a1"] = -100.0  # a1 runs, a2 does not
    world.run(selected=("b1",))
    assert world.outcome("b1") == (Outcome.READY, Reason.OK)
    assert world.outcome("a1") == (Outcome.ADOPTED, Reason.OK)
    assert world.outcome("a2") == (Outcome.SKIPPED, Reason.LIMIT)
    assert world.outcome("b2") == (Outcome.SKIPPED, Reason.LIMIT)
    assert [host for host, kind in world.did if kind is Kind.POWER_ON] == ["b1"]
    assert {host for host, _ in world.did} == {"a1", "a2", "b1"}


def test_a_pause_finishes_what_is_under_way_and_starts_nothing() -> None:
    world = one()
    world.run(until=0.05)
    world.tell(Paused(world.now, "kim"))
    assert world.run() == "paused"
    assert world.did == [("g1", Kind.POWER_READ)]
    assert world.engine.state.hosts["g1"].power == "off"


def test_deadlines_bound_every_stage() -> None:
    short = Deadlines(bmc=10, power=10, boot=10, ready=10, redeploy=10, verify=10)
    world = one({Kind.BOOT_PROBE: [Reason.UNREACHABLE, Reason.OK], Kind.READY_CHECK: [Reason.CHECK_FAILED]},
                deadlines=short, ready=(TcpCheck(80), TcpCheck(81)))  # fmt: skip
    world.run()
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.NOT_READY)
    verify = one({Kind.VERIFY_CHECK: [Reason.CHECK_FAILED]}, deadlines=Deadlines(verify=10), verify=(TcpCheck(80),))
    verify.run()
    assert verify.outcome("g1") == (Outcome.QUARANTINED, Reason.VERIFY_FAILED)
