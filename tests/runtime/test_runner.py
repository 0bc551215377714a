"""The loop between engine, journal and drivers, with drivers that answer from a simulated world in real time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootorch.core import words
from bootorch.core.codec import decode
from bootorch.core.engine import Engine
from bootorch.core.events import (
    Answer,
    Continued,
    Event,
    Intent,
    Kind,
    LimitSet,
    Paused,
    RunResumed,
    RunStarted,
    Settled,
    TierSet,
)
from bootorch.core.model import (
    BootDevice,
    Check,
    Console,
    Deadlines,
    FeedLimit,
    Host,
    Limits,
    Meter,
    Outcome,
    Requirement,
)
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay
from bootorch.core.state import State
from bootorch.drivers.protocols import Reply, Scalar, Slice, SliceReply, Verdict
from bootorch.drivers.redfish import RedfishDraw
from bootorch.runtime.awake import AwakeClock
from bootorch.runtime.executor import Drivers, Executor
from bootorch.runtime.journal import Journal, JournalError
from bootorch.runtime.keeper import Keeper
from bootorch.runtime.lease import LEASE_S, Fenced, Lease, read, take
from bootorch.runtime.runner import Runner
from bootorch.sim.machine import BootFailure, Machine, MachineSpec
from tests.drivers.redfish_servers import SITE, Tls, served
from tests.drivers.redfish_servers import Secrets as RedfishSecrets
from tests.plans import group, make_plan

QUICK = Deadlines(bmc=5, power=4, boot=5, ready=5, redeploy=5, verify=5)


class Fleet:
    """Power, reach and redeploy over machines of the simulator: the Protocols' own fake, on the machine's clock."""

    def __init__(self, plan: Plan) -> None:
        self.start = time.monotonic()
        self.machines = {name: Machine(MachineSpec(name, boot_s=0.2), 1) for name in plan.hosts}
        self.calls: list[tuple[str, str]] = []
        self.broken = ""
        self.slow_s = 0.0
        self.symptoms: dict[str, Scalar] = {}
        self.since_s = 0.0

    @property
    def now(self) -> float:
        return time.monotonic() - self.start

    async def read(self, host: Host, timeout_s: float) -> Reply:
        self.calls.append(("read", host.name))
        if host.name == self.broken:
            raise ZeroDivisionError("a driver's bug")
        await asyncio.sleep(self.slow_s)
        return Reply(Reason.OK, data={"power": "on" if self.machines[host.name].is_on(self.now) else "off"})

    async def on(self, host: Host, device: BootDevice, timeout_s: float) -> Reply:
        self.calls.append(("on", host.name))
        self.machines[host.name].power_on(self.now)
        return Reply(Reason.OK)

    async def cycle(self, host: Host, timeout_s: float) -> Reply:
        raise AssertionError("nothing may be cycled here")

    async def meter(self, host: Host, timeout_s: float) -> Reply:
        self.calls.append(("meter", host.name))
        return Reply(Reason.OK, data={"watts": 240.0 if self.machines[host.name].is_on(self.now) else 8.0})

    def watch(self, host: Host, *, anew: bool) -> None:
        self.calls.append(("watch" if anew else "watch on", host.name))

    def unwatch(self, host: Host) -> None:
        self.calls.append(("unwatch", host.name))

    async def evidence(self, host: Host, since_s: float, timeout_s: float, *, console: bool) -> Reply:
        self.calls.append(("evidence" if console else "evidence without console", host.name))
        self.since_s = since_s
        return Reply(Reason.OK, data=self.symptoms)

    async def boot_evidence(self, host: Host, timeout_s: float) -> Reply:
        machine = self.machines[host.name]
        uptime_s = machine.uptime_s(self.now)
        if uptime_s is None:
            return Reply(Reason.UNREACHABLE, "connection refused")
        return Reply(Reason.OK, data={"boot_id": str(machine.boot_id(self.now)), "uptime_s": uptime_s})

    async def check(self, host: Host, check: Check, timeout_s: float) -> Reply:
        return Reply(Reason.OK)

    async def check_url(self, check: Check, timeout_s: float) -> Reply:
        return Reply(Reason.OK)

    async def run(self, work: Slice, timeout_s: float) -> SliceReply:
        return SliceReply(Reason.OK, "", {host.name: Verdict(Reason.OK) for host in work.hosts})

    async def aclose(self) -> None:
        self.calls.append(("closed", ""))


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_events(self, events: Sequence[Event], state: State) -> None:
        self.events.extend(events)


def small_plan() -> Plan:
    return make_plan(
        {
            "dns": (2, group(deadlines=QUICK)),
            "web": (3, group(deadlines=QUICK, requires=(Requirement("dns"),), redeploy=("/web.yml",))),
        }
    )


def prepare(tmp_path: Path, plan: Plan, *, stay: bool = False) -> tuple[Engine, Journal, Fleet, Runner, Seen]:
    engine, fleet, seen = Engine(plan), Fleet(plan), Seen()
    journal = Journal.create(tmp_path / "journal.sqlite", {})
    first = RunStarted(0.0, "run", plan.name, plan.digest, len(plan.hosts), 1, "", "test")
    engine.apply(first)
    journal.append([first])
    return engine, journal, fleet, follow(engine, journal, fleet, seen, [first], stay=stay), seen


def no_host(pattern: str) -> tuple[str, ...]:
    return ()


def follow(
    engine: Engine, journal: Journal, fleet: Fleet, seen: Seen, past: Sequence[Event], *, stay: bool = False
) -> Runner:
    """A runner of what the journal has so far."""
    return runner_with(engine, journal, fleet, seen, past, take(journal, "test", "", read(journal)), stay=stay)


def runner_with(
    engine: Engine,
    journal: Journal,
    fleet: Fleet,
    seen: Seen,
    past: Sequence[Event],
    lease: Lease,
    *,
    stay: bool = False,
) -> Runner:
    executor = Executor(engine.plan, Drivers({"ipmi": fleet}, fleet, fleet), "run", (), lease.holds)
    clock, keeper = AwakeClock(0.0), Keeper(engine.state, past)
    return Runner(
        engine, journal, executor, seen, clock, lease, keeper, wait_gates=False, stay=stay, by="test", select=no_host
    )


async def test_everything_acted_upon_was_in_the_journal_first(tmp_path: Path) -> None:
    plan = small_plan()
    engine, journal, fleet, runner, seen = prepare(tmp_path, plan)
    at_call: list[bool] = []
    switch_on = fleet.on

    async def on(host: Host, device: BootDevice, timeout_s: float) -> Reply:
        with Journal.open(journal.path, readonly=True) as other:
            intents = [e for e in other.events() if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
        at_call.append(any(intent.target == host.name for intent in intents))
        return await switch_on(host, device, timeout_s)

    fleet.on = on  # type: ignore[method-assign]
    assert await runner.run() == "done"
    assert at_call == [True] * 5
    assert {h.outcome.value for h in engine.state.hosts.values() if h.outcome} == {"ready"}
    stored = list(journal.events())[1:]
    assert stored == [event for event in seen.events if getattr(event, "durable", True)]
    journal.close()


async def test_a_boot_is_watched_until_it_is_proven_and_examined_where_it_is_not(tmp_path: Path) -> None:
    plan = make_plan({"dns": (2, group(deadlines=QUICK)), "web": (1, group(deadlines=QUICK, console=Console.NONE))})
    _, journal, fleet, runner, _ = prepare(tmp_path, plan)
    fleet.machines["dns2"] = Machine(MachineSpec("dns2", 0.2, boot_failure=BootFailure.KERNEL_PANIC), 1)
    fleet.symptoms = {"power": "on", "console": "\x1b[2JKernel panic - not syncing: no init\r\n", "secret": "x"}
    began = fleet.now
    assert await runner.run() == "done"
    calls = [call for call in fleet.calls if call[0] != "watch on"]  # at every look that found no boot
    assert ("watch on", "dns2") in fleet.calls
    assert [call for call in calls if call[1] == "dns1"][-4:] == [
        ("on", "dns1"), ("watch", "dns1"), ("read", "dns1"), ("unwatch", "dns1"),
    ]  # fmt: skip
    assert [what for what, name in calls if name == "dns2"] == ["read", "on", "watch", "read", "evidence", "read"]
    assert QUICK.boot <= fleet.since_s <= fleet.now - began + 0.05, "rounded to tenths"
    assert {what for what, name in fleet.calls if name == "web1"} == {"read", "on"}, "the plan says console: none"
    answer = next(event for event in journal.events() if isinstance(event, Answer) and event.kind is Kind.EVIDENCE)
    assert answer.data == {"power": "on", "console": "Kernel panic - not syncing: no init"}
    settled = {event.host: event.reason for event in journal.events() if isinstance(event, Settled)}
    assert settled == {"dns1": Reason.OK, "web1": Reason.OK, "dns2": Reason.KERNEL_PANIC}
    journal.close()


async def test_where_the_plan_says_so_no_console_is_opened_for_evidence_either(tmp_path: Path) -> None:
    plan = make_plan({"web": (1, group(deadlines=QUICK, console=Console.NONE))})
    _, journal, fleet, runner, _ = prepare(tmp_path, plan)
    fleet.machines["web1"] = Machine(MachineSpec("web1", 0.2, boot_failure=BootFailure.KERNEL_PANIC), 1)
    assert await runner.run() == "done"
    assert {what for what, _ in fleet.calls} == {"read", "on", "evidence without console"}
    journal.close()


async def test_a_boot_that_another_process_began_is_watched_from_the_resume_on(tmp_path: Path) -> None:
    plan = make_plan({"web": (2, group(deadlines=QUICK))})
    engine, journal, fleet, _, _ = prepare(tmp_path, plan)
    fleet.machines["web1"].power_on(fleet.now)  # found on, by nobody's doing
    state = engine.state
    for number, (name, power) in enumerate((("web1", "on"), ("web2", "off")), start=1):
        engine.apply(Intent(0.0, number, Kind.POWER_READ, name))
        engine.apply(Answer(0.0, number, Kind.POWER_READ, name, Reason.OK, data={"power": power}))
    engine.apply(Intent(0.0, 3, Kind.POWER_ON, "web2"))
    engine.apply(Answer(0.0, 3, Kind.POWER_ON, "web2", Reason.INTERRUPTED))
    assert list(state.booting()) == ["web2"]
    executor = Executor(plan, Drivers({"ipmi": fleet}, fleet, fleet), "run", state.booting())

    async def look(number: int, name: str, kind: Kind = Kind.BOOT_PROBE) -> Reason:
        args = {"timeout_s": 1.0, "since_s": 1.0}
        return (await executor.perform(Intent(0.0, number, kind, name, args=args))).reason

    fleet.machines["web2"].power_on(fleet.now)
    for number, name in enumerate(("web1", "web2"), start=4):
        assert await look(number, name) is Reason.UNREACHABLE
    assert fleet.calls == [("watch on", "web2")], "and an adopted host's console is nobody's business"
    assert await look(6, "web2", Kind.EVIDENCE) is Reason.OK
    assert await look(7, "web2") is Reason.UNREACHABLE
    assert fleet.calls[1:] == [("evidence", "web2")], "the boot was given up: nothing is watched any more"
    journal.close()


async def test_a_boot_that_ends_for_good_without_evidence_frees_its_console(tmp_path: Path) -> None:
    plan = make_plan({"web": (1, group(deadlines=QUICK))})
    _, journal, fleet, runner, _ = prepare(tmp_path, plan)

    async def other_key(host: Host, timeout_s: float) -> Reply:
        return Reply(Reason.HOST_KEY, "another key")

    fleet.boot_evidence = other_key  # type: ignore[method-assign]
    assert await runner.run() == "done"
    assert [what for what, _ in fleet.calls][-2:] == ["read", "unwatch"]
    assert ("evidence", "web1") not in fleet.calls
    journal.close()


async def test_a_drivers_bug_is_contained_and_named(tmp_path: Path) -> None:
    plan = make_plan({"dns": (3, group(deadlines=QUICK))})
    engine, journal, fleet, runner, _ = prepare(tmp_path, plan)
    fleet.broken = "dns2"
    assert await runner.run() == "done"
    assert engine.state.hosts["dns2"].reason is Reason.INTERNAL
    assert "ZeroDivisionError" in engine.state.hosts["dns2"].detail
    assert engine.state.hosts["dns1"].outcome is not None
    assert engine.state.hosts["dns1"].outcome.value == "ready"
    journal.close()


def fill(journal: Journal) -> None:
    """Use up what is left of the pages, so that the very next commit fails."""
    for _ in range(1000):
        journal.append([RunStarted(0.0, "x" * 500, "", "", 0, 0, "", "")])


async def test_nothing_leaves_when_the_journal_cannot_be_written(tmp_path: Path) -> None:
    _, journal, fleet, runner, _ = prepare(tmp_path, small_plan())
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError):
        fill(journal)
    with pytest.raises(JournalError):
        await runner.run()
    assert fleet.calls == []
    journal.close()


async def test_ctrl_c_finishes_what_is_under_way_and_starts_nothing(tmp_path: Path) -> None:
    engine, journal, fleet, runner, _ = prepare(tmp_path, small_plan())
    fleet.slow_s = 0.3
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
    assert await runner.run() == "paused"
    assert sorted(fleet.calls) == [("read", name) for name in ("dns1", "dns2", "web1", "web2", "web3")]
    assert not engine.state.open
    assert engine.state.hosts["dns1"].power == "off", "the answers were waited for"
    journal.close()


async def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    engine, journal, fleet, runner, _ = prepare(tmp_path, small_plan())
    fleet.slow_s = 30.0
    loop = asyncio.get_running_loop()
    for delay in (0.1, 0.3):
        loop.call_later(delay, os.kill, os.getpid(), signal.SIGINT)
    assert await runner.run() == "interrupted"
    assert engine.state.open, "what was under way stays open in the journal, to be read back"
    journal.close()


async def test_pause_from_another_process(tmp_path: Path) -> None:
    engine, journal, fleet, runner, _ = prepare(tmp_path, small_plan())
    fleet.slow_s = 1.0
    with Journal.open(journal.path) as other:
        asyncio.get_running_loop().call_later(0.1, other.say, order("pause", why="smoke"))
        assert await runner.run() == "paused"
    assert engine.state.paused == "kim"
    journal.close()


async def test_a_paused_run_that_stays_goes_on_by_a_word_and_leaves_by_a_second_ctrl_c(tmp_path: Path) -> None:
    _, journal, fleet, runner, _ = prepare(tmp_path, small_plan(), stay=True)
    fleet.slow_s = 0.2
    loop = asyncio.get_running_loop()
    with Journal.open(journal.path) as other:
        loop.call_later(0.1, other.say, order("pause"))
        loop.call_later(1.2, other.say, order("continue", "lee"))
        assert await runner.run() == "done"
        told = [event for event in other.events() if isinstance(event, Paused | Continued)]
        asked = [event for event in other.events() if isinstance(event, Intent) and told[0].t < event.t < told[1].t]
    assert [event.by for event in told] == ["kim", "lee"]
    assert asked == []
    assert told[1].t - told[0].t > 0.5
    journal.close()


async def test_a_second_ctrl_c_in_a_pause_with_nothing_under_way_leaves_it_paused(tmp_path: Path) -> None:
    engine, journal, fleet, runner, _ = prepare(tmp_path, small_plan(), stay=True)
    fleet.slow_s = 0.2
    loop = asyncio.get_running_loop()
    for delay in (0.1, 1.0):
        loop.call_later(delay, os.kill, os.getpid(), signal.SIGINT)
    assert await runner.run() == "paused"
    assert not engine.state.open
    journal.close()


async def test_an_abort_at_once_waits_for_nothing_and_settles_everybody(tmp_path: Path) -> None:
    engine, journal, fleet, runner, _ = prepare(tmp_path, small_plan())
    fleet.slow_s = 30.0
    with Journal.open(journal.path) as other:
        word = order("abort now", why="smoke")
        asyncio.get_running_loop().call_later(0.3, lambda: said.append(other.say(word)))
        said: list[int] = []
        assert await runner.run() == "aborted"
        (ident,) = said
        answer = other.answer(ident)
        kept = list(other.events())
    assert answer is not None
    assert answer["status"] == "effective"
    left = [event for event in kept if isinstance(event, Answer)]
    assert {event.reason for event in left} == {Reason.INTERRUPTED}
    assert {event.detail for event in left} == {"left under way by bootorch abort --now"}
    assert {host.outcome for host in engine.state.hosts.values()} == {Outcome.SKIPPED}
    assert {host.detail for host in engine.state.hosts.values()} == {
        "aborted, said by kim: smoke", "aborted, said by kim: smoke; was in stage bmc",
    }  # fmt: skip
    assert list(replay(engine.plan, kept).durable()) == list(engine.state.durable())
    journal.close()


# -- away and replaced ---------------------------------------------------------------------


class Stopped:
    """A boot clock that goes on while this process does not, as it seems to one that was stopped."""

    def __init__(self) -> None:
        self.away_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.away_s


def with_lease(engine: Engine, journal: Journal, fleet: Fleet, seen: Seen) -> tuple[Runner, Lease, Stopped]:
    holder, stopped = read(journal), Stopped()
    assert holder is not None
    lease = Lease(journal.path, holder, clock=stopped)
    return runner_with(engine, journal, fleet, seen, list(journal.events()), lease), lease, stopped


def wakes(stopped: Stopped, fleet: Fleet) -> None:
    """The process was away for long; what is asked from now on is answered at once."""
    stopped.away_s = 10 * LEASE_S
    fleet.slow_s = 0.0


async def test_what_was_under_way_before_a_stop_is_let_go_of_and_read_back(tmp_path: Path) -> None:
    engine, journal, fleet, _, seen = prepare(tmp_path, small_plan())
    runner, _, stopped = with_lease(engine, journal, fleet, seen)
    fleet.slow_s = 60.0
    asyncio.get_running_loop().call_later(0.1, wakes, stopped, fleet)
    assert await runner.run() == "done"
    assert {h.outcome.value for h in engine.state.hosts.values() if h.outcome} == {"ready"}
    (woken,) = [event for event in journal.events() if isinstance(event, RunResumed)]
    assert woken.asleep
    interrupted = [e for e in seen.events if isinstance(e, Answer) and e.reason is Reason.INTERRUPTED]
    assert {answer.target for answer in interrupted} == {"dns1", "dns2", "web1", "web2", "web3"}
    assert [name for what, name in fleet.calls if what == "on"].count("dns1") == 1
    journal.close()


async def test_a_pause_stays_a_pause_across_a_stop(tmp_path: Path) -> None:
    engine, journal, fleet, _, seen = prepare(tmp_path, small_plan())
    runner, _, stopped = with_lease(engine, journal, fleet, seen)
    fleet.slow_s = 60.0
    loop = asyncio.get_running_loop()
    loop.call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
    loop.call_later(0.5, wakes, stopped, fleet)
    assert await runner.run() == "paused"
    assert engine.state.paused
    assert "on" not in {what for what, _ in fleet.calls}
    journal.close()


async def test_an_effect_that_was_decided_before_a_stop_is_not_begun_after_it(tmp_path: Path) -> None:
    engine, journal, fleet, _, seen = prepare(tmp_path, small_plan())
    runner, lease, stopped = with_lease(engine, journal, fleet, seen)
    append = journal.append

    def stops_after_the_commit(*args: object, **more: object) -> None:
        append(*args, **more)  # type: ignore[arg-type]
        if not stopped.away_s:
            stopped.away_s = 10 * LEASE_S
            journal.append = append  # type: ignore[method-assign]
            asyncio.get_running_loop().call_soon(lambda: calls.extend(fleet.calls))

    calls: list[tuple[str, str]] = []
    journal.append = stops_after_the_commit  # type: ignore[method-assign]
    assert await runner.run() == "done"
    assert calls == [], "the first turn's effects were committed, and none was begun"
    assert lease.holds()
    journal.close()


async def test_who_was_replaced_ends_and_commits_nothing_more(tmp_path: Path) -> None:
    engine, journal, fleet, _, seen = prepare(tmp_path, small_plan())
    runner, _, stopped = with_lease(engine, journal, fleet, seen)
    fleet.slow_s = 60.0
    with Journal.open(journal.path) as other:

        def replaced() -> None:
            take(other, "lee", "", read(other))
            stopped.away_s = 10 * LEASE_S

        asyncio.get_running_loop().call_later(0.1, replaced)
        with pytest.raises(Fenced, match="lee"):
            await runner.run()
        assert {what for what, _ in fleet.calls} == {"read"}
        assert not [event for event in other.events() if isinstance(event, Answer | RunResumed)]
    journal.close()


# -- changes under way ---------------------------------------------------------------------


def order(text: str, by: str = "kim", why: str = "") -> dict[str, str]:
    return {"order": words.pack(words.Order(tuple(text.split()), by=by, why=why))}


def two_rows() -> Plan:
    limits = Limits(
        feeds={"hall": FeedLimit(budget_watts=9000.0), "hall/row-0": FeedLimit(), "hall/row-1": FeedLimit()}
    )
    return make_plan({"web": (6, group(deadlines=QUICK))}, limits)


async def test_words_under_way_are_journalled_with_who_and_why_and_answered(tmp_path: Path) -> None:
    engine, journal, fleet, runner, seen = prepare(tmp_path, two_rows())
    fleet.slow_s = 1.0
    with Journal.open(journal.path) as other:
        said = [
            other.say(order("limit feed hall 1234", why="chiller")),
            other.say(order("limit feed hall 1234", "lee")),
            other.say(order("limit feed attic 1234", "lee")),
            other.say(order("settle web1 ready")),
            other.say(order("quarantine db*")),
            other.say({"order": "{}"}),
            other.say({"order": "dance"}),
            other.say({"word": "from another world"}),
            other.say(order("tier web 3")),
        ]
        assert await runner.run() in ("done", "stopped")
        answers = [other.answer(ident) for ident in said]
        statuses = [answer and answer["status"] for answer in answers]
        assert statuses == ["effective", "already", *["invalid"] * 3, *["refused"] * 3, "effective"]
        assert answers[0] is not None
        assert answers[0]["said"] == "feed hall has 1.234 kW now (draws 0 W)"
        assert decode(answers[0]["event"]) == next(event for event in other.events() if isinstance(event, LimitSet))
        assert answers[2] is not None
        (problem,) = words.unpack_problems(answers[2]["problems"])
        assert "hall" in problem.remedy
        stored = [event for event in other.events() if isinstance(event, LimitSet | TierSet | Settled)]
    assert [(e.by, e.why) for e in stored if isinstance(e, LimitSet)] == [("kim", "chiller")]
    assert [e.tier for e in stored if isinstance(e, TierSet)] == [3]
    limit = next(e for e in stored if isinstance(e, LimitSet))
    assert limit.t > 0.0, "run time of when it was taken"
    assert limit in seen.events
    assert engine.state.feeds.limit("hall")[0] == 1234.0
    journal.close()


async def test_a_feed_that_is_lost_under_way_gets_nothing_more_until_it_returns(tmp_path: Path) -> None:
    plan = two_rows()
    _, journal, fleet, runner, _ = prepare(tmp_path, plan)
    dark = {name for name, host in plan.hosts.items() if host.feed == "hall/row-1"}
    with Journal.open(journal.path) as other:
        other.say(order("lost hall/row-1", why="fire"))
        assert await runner.run() == "stopped"
        events = list(other.events())
    # Heard before the first packet: not even a look at the dark hosts.
    assert {name for _, name in fleet.calls if name} == set(plan.hosts) - dark
    assert not [event for event in events if isinstance(event, Intent) and event.target in dark]
    assert len([event for event in events if isinstance(event, Settled)]) == len(plan.hosts) - len(dark)
    journal.close()


async def test_what_was_said_before_counts_when_a_run_goes_on(tmp_path: Path) -> None:
    """A resumed process knows the limits of the one before: the same word again changes nothing."""
    plan = two_rows()
    engine, journal, fleet, _, seen = prepare(tmp_path, plan)
    said = LimitSet(0.0, "feed", "hall", 5000.0, by="kim")
    engine.apply(said)
    journal.append([said])
    runner = follow(engine, journal, fleet, seen, [*journal.events()])
    with Journal.open(journal.path) as other:
        ident = other.say(order("limit feed hall 5000", "lee"))
        assert await runner.run() == "done"
        assert other.answer(ident) == {"status": "already", "said": "feed hall has 5 kW already"}
    journal.close()


async def test_the_meters_are_asked_through_the_executor(tmp_path: Path) -> None:
    meter = Meter(("/bin/echo", "1.5 kW"))
    plan = make_plan({"web": (1, group(deadlines=QUICK))}, Limits(feeds={"hall": FeedLimit(9000.0, meter=meter)}))
    fleet = Fleet(plan)
    executor = Executor(plan, Drivers({"ipmi": fleet}, fleet, fleet), "run")
    args = {"timeout_s": 10.0}
    of_feed = await executor.perform(Intent(0.0, 1, Kind.FEED_METER, "hall", args=args))
    assert (of_feed.reason, of_feed.data) == (Reason.OK, {"watts": 1500.0})
    of_host = await executor.perform(Intent(0.0, 2, Kind.METER, "web1", args=args))
    assert (of_host.reason, of_host.data) == (Reason.OK, {"watts": 8.0})


async def test_what_is_measured_by_redfish_is_asked_of_the_driver_for_it(tmp_path: Path) -> None:
    tls = Tls.made(tmp_path / "bmc.pem")
    async with served(tls) as bmc:
        feeds = {"hall": FeedLimit(9000.0, meter=Meter((), 30.0, bmc.meter(tls)))}
        made = make_plan({"web": (2, group(deadlines=QUICK))}, Limits(feeds=feeds, measure=True))
        by_redfish = replace(made.hosts["web1"], bmc=bmc.host(tls).bmc, bmc_user="admin", facts=bmc.host(tls).facts)
        plan = replace(made, hosts={**made.hosts, "web1": by_redfish})
        fleet, secrets = Fleet(plan), RedfishSecrets()
        redfish = RedfishDraw(SITE, secrets, secrets, tmp_path)
        executor = Executor(plan, Drivers({"ipmi": fleet}, fleet, fleet, redfish), "run")
        args = {"timeout_s": 10.0}
        found = [
            await executor.perform(Intent(0.0, number, kind, target, args=args))
            for number, (kind, target) in enumerate(
                [(Kind.FEED_METER, "hall"), (Kind.METER, "web1"), (Kind.METER, "web2")]
            )
        ]
        assert [result.data["watts"] for result in found] == [212.5, 212.5, 8.0]
        assert fleet.calls == [("meter", "web2")]
