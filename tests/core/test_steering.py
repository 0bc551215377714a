"""What a person says to a run under way: pause and go on, abort, quarantine, skip, lift, retry, breakers."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core import words
from bootorch.core.changes import Change, Changes
from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput
from bootorch.core.events import (
    Aborted,
    BreakerReset,
    Continued,
    Event,
    Intent,
    Kind,
    Lifted,
    OfHosts,
    Paused,
    Quarantined,
    Retried,
    RunEnded,
    Settled,
    Skipped,
    Tripped,
)
from bootorch.core.limits import OFF, PEAK, STEADY
from bootorch.core.model import (
    Attempts,
    Breaker,
    FeedLimit,
    Limits,
    Outcome,
    Requirement,
    SecondBoot,
    Stage,
    TcpCheck,
)
from bootorch.core.reasons import Reason
from bootorch.core.recovery import close_interrupted, replay, resume
from bootorch.core.report import Report
from tests.core.test_engine import OFF as READS_OFF
from tests.core.test_engine import ON, World, one
from tests.plans import group, make_plan

FAILS = [Reason.UNREACHABLE]
ACTING = (Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE, Kind.REDEPLOY)


def say(world: World, event: Change) -> str:
    """As the running process takes it. Returns its answer; ``already`` is no event."""
    state, changes = world.engine.state, Changes.of(world.engine.plan, world.events)
    taken, already = words.consider(replace(event, t=world.now), changes, state)
    if already:
        return f"already: {already}"
    unsettled = state.unsettled
    world.tell(taken)
    changes.fold(taken)
    return words.told(taken, changes, state, state.unsettled - unsettled)


def since(world: World, mark: int) -> list[tuple[str, Kind]]:
    return world.did[mark:]


def end(world: World) -> None:
    world.tell(RunEnded(world.now, world.engine.verdict(), ""))


def go_on(world: World, *said: Change) -> World:
    """Another process, from what the journal kept."""
    kept = [decode(encode(event)) for event in world.events if getattr(event, "durable", True)]
    engine = Engine(world.engine.plan, replay(world.engine.plan, kept))
    again = World(engine, world.script, world.verdict, world.delay_s, world.now, world.on_t, world.did)
    again.events = [*kept, *resume(engine, world.now, 0.0, "", "kim")]
    for word in said:
        say(again, word)
    return again


# -- pause ---------------------------------------------------------------------


def test_a_pause_goes_on_in_the_same_process_and_no_deadline_counts_it() -> None:
    world = one()
    world.run(until=10.0)
    assert world.engine.state.hosts["g1"].stage is Stage.BOOT
    assert say(world, Paused(0.0, "kim")) == "the run is paused"
    assert say(world, Paused(0.0, "lee")) == "already: the run is paused already, by kim"
    assert world.run() == "paused"
    mark = len(world.did)
    world.now += 100_000.0
    assert world.run() == "paused", "no timer and no deadline moves it"
    assert since(world, mark) == []
    assert say(world, Continued(0.0, "lee", "all clear")) == "the run goes on"
    assert say(world, Continued(0.0, "lee")) == "already: the run goes on already"
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    assert world.count("g1", Kind.POWER_ON) == 1


def test_a_host_without_ssh_is_not_taken_for_an_old_boot_after_a_pause() -> None:
    """It booted while nobody looked, so nobody saw it down."""
    world = one(ready=(TcpCheck(80),))
    world.run(until=0.25)
    say(world, Paused(0.0, "kim"))
    world.run()
    world.now += 500.0
    say(world, Continued(0.0, "kim"))
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)


def test_who_waits_for_a_resource_goes_on_after_a_pause() -> None:
    plan = make_plan({"g": (6, group())}, Limits(slots={"boots": 2}))
    world = World(Engine(plan))
    world.run(until=5.0)
    assert world.engine.admission.waiting()
    say(world, Paused(0.0, "kim"))
    world.run()
    world.now += 1000.0
    say(world, Continued(0.0, "kim"))
    assert world.run() == "done"
    assert {host.outcome for host in world.engine.state.hosts.values()} == {Outcome.READY}


# -- abort ---------------------------------------------------------------------


def staged(until: float) -> World:
    """Three groups in a row, the first of them at work at ``until``."""
    plan = make_plan(
        {
            "a": (2, group()),
            "b": (2, group(requires=(Requirement("a"),))),
            "c": (1, group(requires=(Requirement("b"),))),
        }
    )
    world = World(Engine(plan))
    world.run(until=until)
    return world


def test_an_abort_lets_stages_end_and_begins_none() -> None:
    world = staged(10.0)
    mark = len(world.did)
    said = say(world, Aborted(0.0, "kim", "smoke"))
    assert said == "the run ends: no host begins another stage, 5 may finish the one they are in"
    assert world.run() == "aborted"
    assert {kind for _, kind in since(world, mark)} == {Kind.BOOT_PROBE}
    # The proof of boot is the check of readiness here, and nothing is left to do after it.
    assert world.outcome("a1") == (Outcome.READY, Reason.OK)
    assert world.outcome("b1") == world.outcome("c1") == (Outcome.SKIPPED, Reason.OPERATOR)
    assert world.engine.state.hosts["b1"].detail == "aborted, said by kim: smoke"
    end(world)
    report = Report.of(world.engine.plan, world.events)
    assert report.verdict == "aborted"
    assert sum(report.totals.values()) == 5


@pytest.mark.parametrize("until", [0.05, 0.15, 0.25, 0.35, 10.0, 20.5, 20.7])
@pytest.mark.parametrize("at_once", [False, True])
def test_nothing_acts_after_an_abort_whenever_it_comes(until: float, *, at_once: bool) -> None:
    world = staged(until)
    mark = len(world.did)
    say(world, Aborted(0.0, "kim", at_once=at_once))
    if at_once:
        for answer in close_interrupted(world.engine, world.now):
            world.events.append(answer)
        world.pending.clear()
    assert world.run() == "aborted"
    assert [kind for _, kind in since(world, mark) if kind in ACTING] == []
    if at_once:
        assert since(world, mark) == []
    assert all(host.outcome is not None for host in world.engine.state.hosts.values())
    assert not world.engine.state.open


def test_a_failed_boot_is_told_as_such_and_not_tried_again_after_an_abort() -> None:
    world = one({Kind.BOOT_PROBE: FAILS}, second_boot=SecondBoot.CYCLE, attempts=Attempts(boot=3))
    world.run(until=30.0)
    say(world, Aborted(0.0, "kim"))
    assert world.run() == "aborted"
    assert world.count("g1", Kind.POWER_CYCLE) == 0
    state = world.engine.state.hosts["g1"]
    assert (state.outcome, state.reason) == (Outcome.SKIPPED, Reason.OPERATOR)
    assert "was in stage boot" in state.detail


def test_an_abort_ends_a_pause_and_cannot_be_paused_or_taken_back_while_it_lasts() -> None:
    world = staged(10.0)
    say(world, Paused(0.0, "kim"))
    world.run()
    say(world, Aborted(0.0, "kim"))
    assert say(world, Aborted(0.0, "lee")) == "already: the run is being aborted already, by kim"
    refused: list[Change] = [Paused(0.0, "lee"), Retried(0.0, ("a1",), "a1"), Lifted(0.0, ("a1",), "a1")]
    for word in refused:
        with pytest.raises(InvalidInput, match="being aborted, by kim"):
            say(world, word)
    assert "ends now" in say(world, Aborted(0.0, "lee", at_once=True)), "more than before: nothing is waited for"
    assert world.run() == "aborted"


def test_an_aborted_run_goes_on_by_a_retry_of_what_it_left() -> None:
    world = staged(10.0)
    say(world, Aborted(0.0, "kim"))
    world.run()
    end(world)
    again = go_on(world, Retried(0.0, ()))
    assert again.run() == "done"
    assert {host.outcome for host in again.engine.state.hosts.values()} == {Outcome.READY}
    assert again.count("a1", Kind.POWER_ON) == 1


# -- quarantine, skip, lift ---------------------------------------------------------------------


def test_a_quarantine_in_the_middle_of_a_power_on_lets_it_end_and_keeps_its_watts() -> None:
    feeds = {"hall": FeedLimit(budget_watts=5000.0)}
    plan = make_plan({"g": (1, group()), "h": (1, group(requires=(Requirement("g"),)))}, Limits(feeds=feeds))
    world = World(Engine(plan))
    world.run(until=0.15)
    (under_way,) = world.engine.state.open.values()
    assert under_way.kind is Kind.POWER_ON
    mark = len(world.did)
    said = say(world, Quarantined(0.0, ("g1",), "g", "kim", "smells of smoke"))
    assert said == "g1 quarantined: nothing more is sent; 1 of them after what is under way has ended"
    assert say(world, Quarantined(0.0, ("g1",), "g", "lee")) == (
        "already: g1 is quarantined already: said by kim: smells of smoke"
    )
    assert world.run() == "done"
    assert since(world, mark) == []
    state = world.engine.state.hosts["g1"]
    assert (state.outcome, state.reason) == (Outcome.QUARANTINED, Reason.OPERATOR)
    assert state.detail == "said by kim: smells of smoke; was in stage power"
    assert state.draw.level == PEAK, "it may be on"
    assert world.outcome("h1") == (Outcome.BLOCKED, Reason.DEPENDENCY)
    answers = [event for event in world.events if event.type == "answer" and event.t > 0.15]
    assert len(answers) == 1, "kept as evidence"


def test_a_host_that_was_never_switched_on_gives_its_watts_back_when_it_is_quarantined() -> None:
    limits = Limits(feeds={"hall": FeedLimit(50_000.0)}, slots={"bmc_per_subnet": 1})
    world = World(Engine(make_plan({"g": (4, group())}, limits)))
    hosts = world.engine.state.hosts
    admitted: list[str] = []
    for step in range(200):
        world.run(until=step * 0.05)
        admitted = [name for name, host in hosts.items() if host.reserved and host.on_t is None and not host.inflight]
        if admitted:
            break
    name = admitted[0]
    say(world, Quarantined(0.0, (name,), name, "kim"))
    assert world.run() == "done"
    assert world.count(name, Kind.POWER_ON) == 0
    assert hosts[name].draw.level == OFF


def test_a_ready_host_that_is_quarantined_is_missed_by_who_has_not_begun() -> None:
    plan = make_plan(
        {"a": (1, group()), "b": (1, group()), "c": (1, group(requires=(Requirement("a"), Requirement("b"))))}
    )
    world = World(Engine(plan), {("b1", Kind.BOOT_PROBE): FAILS})
    world.run(until=60.0)
    assert world.outcome("a1")[0] is Outcome.READY
    say(world, Quarantined(0.0, ("a1",), "a1", "kim", "wrong data"))
    world.run(until=61.0)
    assert world.outcome("a1") == (Outcome.QUARANTINED, Reason.OPERATOR)
    assert world.outcome("c1") == (Outcome.BLOCKED, Reason.DEPENDENCY)
    assert world.engine.state.hosts["a1"].draw.level == STEADY, "it runs"
    assert world.engine.state.groups["a"].failed == 0, "a person's word is no failure that a breaker counts"


def test_a_lifted_host_starts_at_its_state_read_and_is_never_cycled() -> None:
    world = one(second_boot=SecondBoot.CYCLE, attempts=Attempts(boot=3))
    world.run(until=10.0)
    assert world.engine.state.hosts["g1"].stage is Stage.BOOT
    say(world, Quarantined(0.0, ("g1",), "g1", "kim"))
    world.run(until=10.5)
    mark = len(world.did)
    assert say(world, Lifted(0.0, ("g1",), "g1", "lee")) == "g1 lifted: looked at anew"
    assert world.engine.state.hosts["g1"].draw.level == PEAK, "it may still be booting"
    assert world.run() == "done"
    assert since(world, mark)[0] == ("g1", Kind.POWER_READ)
    assert {kind for _, kind in since(world, mark)} == {Kind.POWER_READ, Kind.BOOT_PROBE}
    assert world.outcome("g1") == (Outcome.ADOPTED, Reason.OK)
    assert world.engine.state.hosts["g1"].draw.level == STEADY


def test_a_lift_before_the_word_was_carried_out_leaves_the_host_to_itself() -> None:
    world = one()
    world.run(until=0.15)
    say(world, Quarantined(0.0, ("g1",), "g1", "kim"))
    assert say(world, Lifted(0.0, ("g1",), "g1", "kim")) == "g1 lifted: what is under way goes on"
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.READY, Reason.OK)
    assert world.count("g1", Kind.POWER_ON) == 1


def test_a_blocked_host_that_is_set_aside_is_not_begun_when_its_turn_comes_after_all() -> None:
    plan = make_plan({"a": (1, group()), "b": (2, group(requires=(Requirement("a"),)))})
    world = World(Engine(plan), {("a1", Kind.POWER_READ): [Reason.BMC_AUTH_FAILED, READS_OFF, READS_OFF, ON]})
    assert world.run(until=400.0) == "done"
    assert say(world, Quarantined(0.0, ("b1",), "b1", "kim")).endswith("1 of them stay blocked, and have no turn")
    end(world)
    again = go_on(world, Retried(0.0, ("a1",), "a1"))
    assert again.run() == "done"
    assert again.outcome("a1")[0] is Outcome.READY
    assert again.outcome("b1") == (Outcome.QUARANTINED, Reason.OPERATOR)
    assert again.outcome("b2") == (Outcome.READY, Reason.OK)
    assert again.count("b1", Kind.POWER_ON) == 0


def test_who_is_skipped_is_no_part_of_the_run_and_comes_back_by_a_lift_only() -> None:
    plan = make_plan({"a": (2, group()), "b": (1, group(after=("a",)))})
    world = World(Engine(plan))
    world.run(until=0.05)
    say(world, Skipped(0.0, ("a2",), "a2", "kim", "no disks"))
    world.run(until=100.0)
    assert world.outcome("a2") == (Outcome.SKIPPED, Reason.OPERATOR)
    assert world.outcome("b1")[0] is Outcome.READY
    with pytest.raises(InvalidInput, match="cannot retry a2"):
        say(world, Retried(0.0, ("a2",), "a2"))
    with pytest.raises(InvalidInput, match="cannot skip a1: ready"):
        say(world, Skipped(0.0, ("a1",), "a1"))
    say(world, Lifted(0.0, ("a2",), "a2", "kim"))
    assert world.run() == "done"
    assert world.outcome("a2")[0] is Outcome.READY


# -- retry ---------------------------------------------------------------------


def test_a_retry_begins_attempts_anew_and_frees_who_was_blocked() -> None:
    plan = make_plan(
        {"a": (1, group(attempts=Attempts(power=1))), "b": (1, group(requires=(Requirement("a"),))), "c": (1, group())}
    )
    world = World(Engine(plan), {("a1", Kind.POWER_READ): [READS_OFF]})
    world.script["c1", Kind.BOOT_PROBE] = FAILS
    world.run(until=200.0)
    assert world.outcome("a1") == (Outcome.QUARANTINED, Reason.POWER_NO_EFFECT)
    assert world.outcome("b1")[0] is Outcome.BLOCKED
    with pytest.raises(InvalidInput, match="cannot retry b1: blocked"):
        say(world, Retried(0.0, ("b1",), "b"))
    del world.script["a1", Kind.POWER_READ]
    world.on_t.clear()  # somebody pulled the plug, and put it in again
    said = say(world, Retried(0.0, (), "", "kim", "new supply"))
    assert said == "a1 tried again, and 1 that were blocked because of them"
    assert say(world, Retried(0.0, (), "", "kim")) == "already: no host has failed"
    world.run(until=300.0)
    assert world.outcome("a1") == world.outcome("b1") == (Outcome.READY, Reason.OK)
    ons = [n for n, did in enumerate(world.did) if did == ("a1", Kind.POWER_ON)]
    assert len(ons) == 2
    assert ("a1", Kind.POWER_READ) in world.did[ons[0] : ons[1]]
    assert Report.of(plan, world.events).changes[0].by == "kim"


def test_a_failed_playbook_is_run_again_from_where_it_failed_although_the_host_is_on() -> None:
    plan = make_plan({"g": (1, group(redeploy=("/a.yml", "/b.yml"), attempts=Attempts(redeploy=1)))})
    broken = True

    def verdict(intent: Intent, _host: str) -> tuple[str, str]:
        return ("task_failed", "disk full") if broken and intent.args["playbook"] == 1 else ("ok", "")

    world = World(Engine(plan), verdict=verdict)
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.TASK_FAILED)
    end(world)
    broken = False
    again = go_on(world, Retried(0.0, ("g1",), "g1", "kim"))
    mark = len(again.events)
    assert again.run() == "done"
    assert again.outcome("g1")[0] is Outcome.ADOPTED
    played = [event.args["playbook"] for event in again.events[mark:] if isinstance(event, Intent) and event.hosts]
    assert played == [1]
    assert again.count("g1", Kind.POWER_ON) == 1


def test_a_retried_host_that_cannot_be_read_keeps_its_watts() -> None:
    world = one({Kind.BOOT_PROBE: FAILS})
    world.run()
    assert world.engine.state.hosts["g1"].draw.level == PEAK
    world.script["g1", Kind.POWER_READ] = [Reason.BMC_UNREACHABLE]
    say(world, Retried(0.0, ("g1",), "g1"))
    world.run()
    state = world.engine.state.hosts["g1"]
    assert (state.outcome, state.reason) == (Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)
    assert state.draw.level == PEAK, "nobody has seen it off"
    world.script["g1", Kind.POWER_READ] = [READS_OFF]
    say(world, Retried(0.0, ("g1",), "g1"))
    world.run(until=world.now + 0.15)
    assert world.engine.state.hosts["g1"].draw.level == PEAK
    assert world.engine.state.hosts["g1"].reserved, "switched on anew, after a reading that said off"


# -- breakers ---------------------------------------------------------------------


def tripped() -> World:
    limits = Limits(breaker=Breaker(group_failed_share=0.2), slots={"boots": 2})
    plan = make_plan({"g": (6, group(attempts=Attempts(power=1)))}, limits)
    world = World(Engine(plan))
    for name in ("g1", "g2"):
        world.script[name, Kind.POWER_READ] = [READS_OFF]
    assert world.run() == "stopped"
    assert list(world.engine.state.tripped) == ["group:g"]
    return world


def test_a_retry_of_a_class_that_a_breaker_holds_says_so_and_a_reset_lets_it_go() -> None:
    world = tripped()
    world.script.clear()
    world.on_t.clear()
    said = say(world, Retried(0.0, ("g1",), "g1", "kim"))
    assert said.endswith("; 1 of them held by the breaker group:g: bootorch breaker reset group:g")
    assert world.run() == "stopped"
    with pytest.raises(InvalidInput, match="no breaker 'group:h' has tripped"):
        say(world, BreakerReset(0.0, "group:h", "kim"))
    assert say(world, BreakerReset(0.0, "group:g", "kim")) == "breaker group:g is reset"
    assert say(world, BreakerReset(0.0, "", "kim")) == "already: no breaker has tripped"
    assert world.run() == "done"
    assert world.outcome("g1")[0] is Outcome.READY
    assert world.outcome("g2")[0] is Outcome.QUARANTINED


@pytest.mark.parametrize("first_reset", [False, True])
def test_a_retried_failure_counts_once_however_often_it_fails(*, first_reset: bool) -> None:
    world = tripped()
    failed = world.engine.state.groups["g"]
    if first_reset:
        say(world, BreakerReset(0.0, "", "kim"))
    for _ in range(3):
        say(world, Retried(0.0, ("g1", "g2"), "g[1-2]"))
        world.run(until=world.now + 500.0)
        if not first_reset:
            say(world, BreakerReset(0.0, "group:g", "kim"))
            first_reset = True
    assert failed.failed - failed.failed_base <= 2
    assert sum(1 for event in world.events if isinstance(event, Tripped)) >= 2


# -- words ---------------------------------------------------------------------


def test_words_about_hosts_outside_the_limit_are_refused() -> None:
    plan = make_plan({"g": (3, group())})
    world = World(Engine(plan))
    world.run(until=0.05, selected=("g1",))
    changes = Changes.of(plan, world.events)
    with pytest.raises(InvalidInput, match="outside --limit"):
        words.event(words.Order(("skip", "g2")), changes, lambda pattern: (pattern,))
    with pytest.raises(InvalidInput, match="outside --limit"):
        say(world, Skipped(0.0, ("g2",), "g2"))
    found = words.event(words.Order(("skip", "g")), changes, lambda pattern: (pattern,))
    assert isinstance(found, Skipped)
    assert found.hosts == ("g1",), "of a group, those that are inside"
    with pytest.raises(InvalidInput, match="hosts that the plan does not have"):
        say(world, Skipped(0.0, ("elsewhere",), "elsewhere"))


@pytest.mark.parametrize(
    ("typed", "option"),
    [
        (("retry",), "--set retry"),
        (("retry", "web*"), "--set 'retry web*'"),
        (("quarantine", "web"), "--set 'quarantine web'"),
        (("breaker", "model:x"), "--set 'breaker model:x'"),
        (("gate", "power"), "--approve power=kim"),
        (("pause",), ""),
    ],
)
def test_a_word_has_its_place_at_resume(typed: tuple[str, ...], option: str) -> None:
    order = words.Order(typed, by="kim")
    assert order.option() == option
    if option.startswith("--set"):
        assert words.parse(option.removeprefix("--set ").strip("'"), "kim") == order


EVENTS: list[Event] = [
    Continued(1.0, "kim", "why"), Aborted(1.0, "kim", at_once=True), BreakerReset(1.0, "", "kim"),
    Quarantined(1.0, ("a", "b"), "a*", "kim", "smoke"), Skipped(1.0, ("a",), "a", "kim"),
    Lifted(1.0, ("a",), "a", "kim"), Retried(1.0, (), "", "kim"),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_words_are_written_and_read(event: Event) -> None:
    assert decode(encode(event)) == event
    assert json.loads(encode(event))["v"] == 1


WORDS = st.one_of(
    st.builds(Paused, st.just(0.0), st.just("kim")),
    st.builds(Continued, st.just(0.0), st.just("kim")),
    st.builds(BreakerReset, st.just(0.0), st.just(""), st.just("kim")),
    st.builds(Aborted, st.just(0.0), st.just("kim")),
    *(
        st.builds(kind, st.just(0.0), st.lists(st.sampled_from(["a1", "a2", "b1", "b2"]), unique=True).map(tuple))
        for kind in (Quarantined, Skipped, Lifted, Retried)
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 40.0), WORDS), max_size=8))
def test_whatever_is_said_whenever_a_replay_of_every_prefix_stands_where_the_run_stood(
    said: list[tuple[float, Change]],
) -> None:
    plan = make_plan({"a": (2, group()), "b": (2, group(requires=(Requirement("a"),)))})
    world = World(Engine(plan), {("a2", Kind.BOOT_PROBE): FAILS})
    for wait_s, word in said:
        world.run(until=world.now + wait_s)
        with suppress(InvalidInput):
            say(world, word)
        again = replay(plan, [event for event in world.events if getattr(event, "durable", True)])
        assert list(again.durable()) == list(world.engine.state.durable())
    if world.engine.state.paused:
        say(world, Continued(0.0, "kim"))
    assert world.run() in ("done", "aborted")
    outcomes = [host.outcome for host in world.engine.state.hosts.values()]
    assert None not in outcomes
    # What is told as settled is what stands: nothing settles twice without a word that took its outcome away.
    settled: set[str] = set()
    for event in world.events:
        if isinstance(event, Settled):
            assert event.host not in settled
            settled.add(event.host)
        elif isinstance(event, OfHosts) and not isinstance(event, Skipped):
            settled -= {*event.hosts, "b1", "b2"}
