"""Electricity, rule by rule: what a feed lets in, what it counts, and what happens when it goes and comes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.events import Admitted, Answer, Event, FeedLost, FeedReturned, Intent, Kind, LimitSet, RunResumed
from bootorch.core.model import FeedLimit, Gate, Limits, Load, Meter, Outcome, Requirement, SecondBoot
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay
from tests.core.test_engine import ON, World
from tests.plans import group, make_plan


def starts(world: World) -> list[tuple[float, str]]:
    return [(e.t, e.target) for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]


def fed(size: int, limits: dict[str, FeedLimit], **facts: object) -> Plan:
    return make_plan({"g": (size, group())}, Limits(feeds=limits), facts={f"g{n + 1}": facts for n in range(size)})


def boots_at_once(world: World) -> int:
    now = most = 0
    for event in world.events:
        if isinstance(event, Intent) and event.kind is Kind.POWER_ON:
            now += 1
        elif isinstance(event, Answer) and event.kind is Kind.BOOT_PROBE and event.reason is Reason.OK:
            now -= 1
        most = max(most, now)
    return most


def test_a_plan_with_a_dark_feed_starts_and_leaves_the_dark_alone() -> None:
    facts = {"g1": {"feeds": ("east",)}, "g2": {"feeds": ("west",)}, "g3": {"feeds": ("east", "west")}}
    plan = make_plan({"g": (3, group())}, Limits(feeds={"east": FeedLimit(dark=True)}), facts=facts)
    world = World(Engine(plan))
    assert world.run() == "stopped"
    assert {name for name, _ in world.did} == {"g2", "g3"}, "the other cord of g3 carries it"
    assert world.outcome("g1")[0] is None
    world.tell(FeedReturned(world.now, "east", "kim"))
    assert world.run() == "done"
    assert world.outcome("g1")[0] is Outcome.READY


def test_a_profile_frees_power_before_the_boot_is_proven() -> None:
    # Two peaks of 400 W do not fit in 700 W, but 400 W beside a host that has come down to 250 W do.
    plain = World(Engine(fed(2, {"hall": FeedLimit(budget_watts=700.0)}, watts_profile=((100.0, 300.0),))))
    eased = World(Engine(fed(2, {"hall": FeedLimit(budget_watts=700.0)}, watts_profile=((5.0, 300.0),))))
    assert plain.run() == eased.run() == "done"
    assert starts(plain)[1][0] > 20.0, "only the proof of boot made room"
    assert 5.0 <= starts(eased)[1][0] < 7.0


def test_a_feed_carries_dual_corded_hosts_whole_because_the_other_may_fail() -> None:
    cords = ("east", "west")
    budget = 1000.0
    carried = fed(4, {"east": FeedLimit(budget_watts=budget), "west": FeedLimit(budget_watts=budget)}, feeds=cords)
    shared = fed(
        4,
        {side: FeedLimit(budget_watts=budget, failover=False) for side in cords},
        feeds=cords,
    )
    whole, halves = World(Engine(carried)), World(Engine(shared))
    whole.run()
    assert halves.run() == "done"
    assert boots_at_once(whole) == 2
    assert boots_at_once(halves) == 4
    assert whole.engine.state.feeds.draw_watts()["east"] == pytest.approx(750.0), "the fourth does not fit"
    assert halves.engine.state.feeds.draw_watts()["east"] == pytest.approx(500.0)


def test_what_hangs_above_both_cords_carries_the_host_once() -> None:
    limits = {"hall": FeedLimit(budget_watts=10_000.0, failover=False), "hall/a": FeedLimit(failover=False)}
    world = World(Engine(fed(1, limits, feeds=("hall/a", "hall/b"))))
    assert world.run() == "done"
    assert world.engine.state.feeds.draw_watts() == {"hall": 250.0, "hall/a": 125.0}


def test_a_lost_cord_shifts_its_share_to_the_other() -> None:
    limits = {side: FeedLimit(failover=False) for side in ("east", "west")}
    world = World(Engine(fed(1, limits, feeds=("east", "west"))))
    world.run()
    state = world.engine.state
    state.fold(FeedLost(world.now, "east", "kim"))
    assert state.feeds.draw_watts() == {"east": 0.0, "west": 250.0}
    assert state.hosts["g1"].outcome is Outcome.READY
    state.fold(FeedReturned(world.now, "east", "kim"))
    assert state.feeds.draw_watts() == {"east": 125.0, "west": 125.0}


def test_a_profile_goes_on_when_a_cord_is_lost_meanwhile() -> None:
    limits = {side: FeedLimit(failover=False) for side in ("east", "west")}
    world = World(Engine(fed(1, limits, feeds=("east", "west"), watts_profile=((5.0, 300.0),))))
    world.run(until=2)
    world.tell(FeedLost(world.now, "east", "kim"))
    world.run(until=7)
    assert world.engine.state.feeds.draw_watts()["west"] == pytest.approx(300.0)


def test_supplies_are_counted_like_electricity() -> None:
    plan = fed(3, {"cooling:hall": FeedLimit(budget_watts=7.0)}, loads=(Load("cooling:hall/crac-1", 3.0, 2.0),))
    world = World(Engine(plan))
    assert world.run() == "done"
    assert boots_at_once(world) == 2
    assert world.engine.state.feeds.draw_watts() == {"cooling:hall": 6.0}


def test_inrush_keeps_starts_a_second_apart() -> None:
    world = World(Engine(fed(4, {"hall": FeedLimit(inrush_amps=20.0)}, inrush_amps=10.0)), delay_s=0.01)
    assert world.run() == "done"
    times = [t for t, _ in starts(world)]
    assert all(c - a >= 1.0 - 1e-9 for a, c in zip(times, times[2:], strict=False)), times
    assert times[3] < 3.0, "a host's own place in the window does not hold it back"


def test_hosts_that_are_found_on_count_from_their_reading() -> None:
    world = World(Engine(fed(3, {"hall": FeedLimit(budget_watts=800.0)})))
    world.on_t = {"g1": -100.0, "g2": -100.0}
    assert world.run() == "stopped"
    assert starts(world) == [], "500 W run already: a peak of 400 W does not fit"
    assert world.engine.state.feeds.draw_watts() == {"hall": 500.0}


def test_a_lower_budget_withdraws_what_was_admitted_and_is_not_on_yet() -> None:
    plan = fed(2, {"hall": FeedLimit(budget_watts=700.0)})
    world = World(Engine(plan), delay_s=4.0)

    def admitted() -> list[str]:
        return [e.target for e in world.events if isinstance(e, Intent) and "admit" in e.args]

    world.run(until=10.0)
    world.tell(RunResumed(world.now, 0.0, "", "kim"))
    while not admitted():
        world.run(until=world.now + 1.0)
        world.now += 1.0
    assert admitted() == ["g2"], "its reading is from before the resume: read again, watts held"
    world.tell(LimitSet(world.now, "feed", "hall", 600.0))
    assert world.run() == "stopped"
    assert [e.host for e in world.events if isinstance(e, Admitted) and e.withdrawn] == ["g2"]
    assert [name for _, name in starts(world)] == ["g1"]
    world.tell(LimitSet(world.now, "feed", "hall", 700.0))
    assert world.run() == "done"
    assert world.outcome("g2")[0] is Outcome.READY
    durable = [decode(encode(e)) for e in world.events if getattr(e, "durable", True)]
    assert list(replay(plan, durable).durable()) == list(world.engine.state.durable())


def test_what_runs_goes_on_under_a_lower_budget_and_a_higher_one_lets_in() -> None:
    world = World(Engine(fed(3, {"hall": FeedLimit(budget_watts=700.0)})))
    world.run(until=60)
    world.tell(LimitSet(world.now, "feed", "hall", 100.0))
    assert world.run() == "stopped"
    assert [h.outcome for h in world.engine.state.hosts.values()].count(Outcome.READY) >= 1
    assert not any(kind in (Kind.POWER_CYCLE,) for _, kind in world.did)
    world.tell(LimitSet(world.now, "feed", "hall", 2000.0))
    assert world.run() == "done"


def test_a_ramp_set_under_way_holds_from_then_on() -> None:
    world = World(Engine(make_plan({"g": (8, group())}, Limits({"hall": FeedLimit(budget_watts=2100.0)}))))
    world.run(until=10)
    assert len(starts(world)) == 5
    world.tell(LimitSet(world.now, "feed", "hall", 5000.0, 400.0))
    assert world.run() == "done"
    times = [t for t, _ in starts(world) if t > 5]
    assert len(times) == 3
    assert all(b - a >= 60.0 - 1e-9 for a, b in pairwise(times)), times


def test_a_lost_feed_makes_a_ready_host_unsettled_and_nothing_is_sent_to_it() -> None:
    world = World(Engine(fed(2, {}, feeds=("east",))))
    assert world.run() == "done"
    state = world.engine.state
    world.tell(FeedLost(world.now, "east", "kim"))
    assert [h.outcome for h in state.hosts.values()] == [None, None]
    assert state.unsettled == 2
    sent = len(world.did)
    world.now += 3600
    assert world.run() == "stopped"
    assert len(world.did) == sent
    world.on_t.clear()
    world.tell(FeedReturned(world.now, "east", "kim"))
    assert world.run() == "done"
    assert world.count("g1", Kind.POWER_ON) == 2


def test_an_answer_that_was_under_way_when_the_feed_went_is_void() -> None:
    world = World(Engine(fed(1, {}, feeds=("east",))), delay_s=2.0)
    world.run(until=1.0)
    world.tell(FeedLost(1.0, "east", "kim"))
    world.run(until=3.0)
    host = world.engine.state.hosts["g1"]
    assert (host.power, host.stage.value, host.inflight) == ("", "wait", 0)
    world.tell(FeedReturned(3.0, "east", "kim"))
    assert world.run() == "done"


def test_a_replay_knows_which_answers_an_outage_made_void() -> None:
    """The first answer that says something new may come to a repeat of a watch, whose intent is in no journal."""
    world = World(Engine(fed(1, {}, feeds=("east",))))
    world.run(until=0.05)
    world.tell(FeedLost(0.05, "east", "kim"))
    world.tell(FeedReturned(0.05, "east", "kim"))
    assert world.run() == "done"
    durable = [decode(encode(e)) for e in world.events if getattr(e, "durable", True)]
    assert list(replay(world.engine.plan, durable).durable()) == list(world.engine.state.durable())
    assert world.outcome("g1")[0] is Outcome.READY


def test_a_slice_leaves_without_hosts_that_went_dark_meanwhile() -> None:
    facts = {"g1": {"feeds": ("east",)}, "g2": {"feeds": ("west",)}, "slow1": {"feeds": ("west",)}}
    plan = make_plan({"g": (3, group(redeploy=("/a.yml",)))}, facts=facts)
    world = World(Engine(plan), {("g3", Kind.BOOT_PROBE): [Reason.UNREACHABLE]})
    world.run(until=23)
    assert world.engine.state.hosts["g1"].stage.value == "redeploy"
    world.tell(FeedLost(world.now, "east", "kim"))
    world.run()
    slices = [e.hosts for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    assert slices
    assert all("g1" not in hosts for hosts in slices)


def meter(watts: list[float]) -> dict[tuple[str, Kind], list[Reason | tuple[Reason, dict[str, object]]]]:
    return {("hall", Kind.FEED_METER): [(Reason.OK, {"watts": value}) for value in watts]}


def test_a_reading_replaces_the_model_of_those_that_run() -> None:
    limit = FeedLimit(budget_watts=800.0, meter=Meter(("true",), 10.0))
    low = World(Engine(fed(3, {"hall": limit})), meter([200.0]))  # type: ignore[arg-type]
    assert low.run() == "done", "two hosts of 250 W draw 200 W in truth: the third fits"
    high = World(Engine(fed(3, {"hall": limit})), meter([750.0]))  # type: ignore[arg-type]
    assert high.run() == "stopped"
    assert starts(high) == [], "a reading above the model is the truth"


def test_two_meters_do_not_keep_a_run_alive() -> None:
    limit = FeedLimit(budget_watts=300.0, meter=Meter(("true",), 10.0))
    plan = fed(1, {"hall": limit, "other": limit})
    script = {**meter([0.0]), ("other", Kind.FEED_METER): [(Reason.OK, {"watts": 0.0})]}
    world = World(Engine(plan), script)  # type: ignore[arg-type]
    assert world.run(until=5000) == "stopped"
    assert world.now < 60


def test_a_hosts_own_reading_replaces_its_steady_draw_and_survives_a_lost_cord() -> None:
    limits = Limits({"east": FeedLimit(), "west": FeedLimit()}, measure=True)
    plan = make_plan({"g": (1, group())}, limits, facts={"g1": {"feeds": ("east", "west")}})
    world = World(Engine(plan), {("g1", Kind.METER): [(Reason.OK, {"watts": 180.0})]})
    assert world.run() == "done"
    state = world.engine.state
    assert state.feeds.draw_watts() == {"east": 180.0, "west": 180.0}
    state.fold(FeedLost(world.now, "east", "kim"))
    assert state.feeds.draw_watts() == {"east": 0.0, "west": 180.0}


def test_power_is_kept_for_the_urgent_but_what_is_left_is_used() -> None:
    gate = Gate("late", ask="?", groups=("now",))
    groups = {"now": (2, group(tier=0)), "later": (3, group(tier=1))}

    def run(budget: float) -> World:
        world = World(Engine(make_plan(groups, Limits({"hall": FeedLimit(budget_watts=budget)}), gates=(gate,))))
        world.run()
        return world

    # Two urgent hosts will draw 500 W; of the rest, 400 W is one host and the peak of the one that boots last.
    assert len(starts(run(900.0))) == 1
    assert len(starts(run(1150.0))) == 2
    assert len(starts(run(2000.0))) == 3


def test_a_cycle_waits_for_the_watts_of_its_second_peak() -> None:
    plan = make_plan(
        {
            "a": (1, group(second_boot=SecondBoot.CYCLE)),
            "b": (1, group(requires=(Requirement("c"),))),
            "c": (1, group()),
        },
        Limits({"hall": FeedLimit(budget_watts=1000.0)}),
        facts={"a1": {"watts_profile": ((10.0, 250.0),)}},
    )
    world = World(Engine(plan), {("a1", Kind.BOOT_PROBE): [Reason.UNREACHABLE]})
    world.run(until=1100)
    world.tell(LimitSet(world.now, "feed", "hall", 800.0))
    assert world.run() == "stopped"
    assert world.count("a1", Kind.POWER_CYCLE) == 0
    world.tell(LimitSet(world.now, "feed", "hall", 1000.0))
    world.run()
    assert world.count("a1", Kind.POWER_CYCLE) == 1


def test_who_never_fits_does_not_hold_back_who_does_for_ever() -> None:
    facts: dict[str, dict[str, object]] = {"big1": {"watts_boot_peak": 5000.0}}
    plan = make_plan(
        {"big": (1, group()), "small": (2, group(tier=1))}, Limits({"hall": FeedLimit(1000.0)}), facts=facts
    )
    world = World(Engine(plan))
    world.engine.state.feeds.keep(world.engine.state.hosts["big1"].draw, False)  # only its place in the queue matters
    assert world.run() == "stopped"
    assert {name for _, name in starts(world)} == {"small1", "small2"}
    assert ON[1] == {"power": "on"}  # type: ignore[index]


def test_waiting_for_watts_costs_no_time_of_the_power_deadline() -> None:
    """One lost packet after the admission, and then hours in the queue: that is nobody's failure."""
    plan = fed(2, {"hall": FeedLimit(budget_watts=500.0)})
    world = World(Engine(plan), delay_s=0.1)
    world.run(until=0.15)
    held = "g2"
    assert world.engine.state.hosts[held].parked == ("feed", "hall")
    world.now = 3000.0
    events: list[Event] = world.events
    world.tell(LimitSet(world.now, "feed", "hall", 5000.0))
    world.script[held, Kind.POWER_READ] = [Reason.BMC_UNREACHABLE, (Reason.OK, {"power": "off"}), ON]
    world.on_t[held] = 3000.0
    assert world.run() == "done"
    assert world.outcome(held)[0] is Outcome.READY
    assert events is world.events
