"""First members, quorums that lose a member, and what comes back: rules of the engine over small worlds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootorch.core.dependencies import Leader, Status, count
from bootorch.core.engine import Engine
from bootorch.core.events import Chosen, Event, FeedLost, FeedReturned, Intent, Kind, ScopeAdded
from bootorch.core.model import First, Outcome, Quorum, Requirement
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay
from bootorch.core.state import State
from bootorch.sim.swarm import case_of, play
from tests.core.test_engine import ON, World
from tests.plans import group, make_plan


def power_ons(events: list[Event]) -> list[tuple[float, str]]:
    return [(e.t, e.target) for e in events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]


def store(size: int = 3, **settings: object) -> World:
    return World(Engine(make_plan({"db": (size, group(**settings))})))


def test_the_first_member_starts_alone_and_the_others_when_it_is_ready() -> None:
    world = store(first=First(("db2", "db1")))
    assert world.run() == "done"
    ons = power_ons(world.events)
    assert [name for _, name in ons] == ["db2", "db1", "db3"]
    assert all(t >= world.engine.state.hosts["db2"].settled_t for t, name in ons if name != "db2")
    # Their power states were read ahead all the same.
    assert all(world.engine.state.hosts[name].surveyed for name in ("db1", "db3"))


def test_where_nobody_may_be_first_all_are_blocked() -> None:
    world = store(first=First(()))
    assert world.run() == "done"
    assert {world.outcome(f"db{number}")[0] for number in (1, 2, 3)} == {Outcome.BLOCKED}


def test_the_next_candidate_follows_one_that_failed_and_nobody_follows_the_last() -> None:
    world = store(first=First(("db2", "db1")))
    world.script["db2", Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
    assert world.run() == "done"
    assert [name for _, name in power_ons(world.events)] == ["db2", "db1", "db3"]
    assert world.outcome("db2")[0] is Outcome.QUARANTINED

    none = store(first=First(("db2",)))
    none.script["db2", Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
    assert none.run() == "done"
    assert [none.outcome(name)[0] for name in ("db1", "db3")] == [Outcome.BLOCKED] * 2
    assert "first member of db: none is ready" in none.engine.state.hosts["db1"].detail


def test_a_person_is_asked_and_asked_again_when_that_one_has_failed() -> None:
    world = store(first=First(ask="Which has the newest copy?"))
    world.script["db3", Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
    assert world.run() == "stopped"
    assert power_ons(world.events) == []
    world.tell(Chosen(world.now, "db", "db3", "kim"))
    assert world.run() == "stopped"
    assert [name for _, name in power_ons(world.events)] == ["db3"]
    world.tell(Chosen(world.now, "db", "db1", "kim"))
    assert world.run() == "done"
    assert [name for _, name in power_ons(world.events)] == ["db3", "db1", "db2"]


def test_whose_turn_was_taken_away_before_it_was_switched_on_waits_like_the_others() -> None:
    world = store(first=First(("db1", "db2")))
    world.script["db1", Kind.POWER_READ] = [Reason.BMC_UNREACHABLE]
    world.run(until=100)
    world.tell(Chosen(world.now, "db", "db2", "kim"))
    del world.script["db1", Kind.POWER_READ]
    assert world.run() == "done"
    assert [name for _, name in power_ons(world.events)] == ["db2", "db1", "db3"]


def test_a_first_member_that_was_outside_the_limit_may_lead_again_and_alone() -> None:
    plan = make_plan({"db": (3, group(first=First(("db1", "db2")))), "web": (1, group())})
    world = World(Engine(plan))
    assert world.run(selected=("web1",)) == "done"
    again = World(Engine(plan, replay(plan, world.events)), on_t=world.on_t, now=world.now)
    again.engine.state.ended = ""
    again.tell(ScopeAdded(again.now, "db", ("db1", "db2", "db3"), "kim"))
    assert again.run() == "done"
    assert [name for _, name in power_ons(again.events)] == ["db1", "db2", "db3"]
    first_ready = again.engine.state.hosts["db1"].settled_t
    assert all(t >= first_ready for t, name in power_ons(again.events) if name != "db1")


def test_a_chosen_leader_that_failed_and_comes_back_does_not_start_by_itself() -> None:
    plan = make_plan({"db": (2, group(first=First(ask="Which?"))), "web": (1, group(requires=(Requirement("db"),)))})
    world = World(Engine(plan))
    world.run(until=1, selected=("web1",))
    world.tell(Chosen(world.now, "db", "db1", "kim"))  # outside the limit: it is off, and skipped
    world.run()
    world.tell(ScopeAdded(world.now, "db", ("db1", "db2"), "kim"))
    assert world.run() == "stopped"
    assert power_ons(world.events) == [], "its turn is over: a person is asked again"
    world.tell(Chosen(world.now, "db", "db2", "kim"))
    assert world.run() == "done"
    assert [name for _, name in power_ons(world.events)] == ["db2", "db1", "web1"]


def test_children_wait_again_when_a_ready_parent_is_dark() -> None:
    facts = {"dns1": {"feeds": ("east",)}, "dns2": {"feeds": ("east",)}, "web1": {"feeds": ("west",)}}
    need = Requirement("dns", Quorum(count=2))
    slow = {"mid1": {"feeds": ("west",)}}
    plan = make_plan(
        {
            "dns": (2, group()),
            "mid": (1, group(requires=(need,))),
            "web": (1, group(requires=(need, Requirement("mid")))),
        },
        facts={**facts, **slow},
    )
    world = World(Engine(plan))
    world.run(until=25)
    state = world.engine.state
    assert state.hosts["dns1"].outcome is Outcome.READY
    assert state.hosts["mid1"].on_t is not None
    assert state.hosts["web1"].waits == 1
    world.tell(FeedLost(world.now, "east", "kim"))
    world.on_t = {name: t for name, t in world.on_t.items() if not name.startswith("dns")}
    assert state.hosts["dns1"].outcome is None
    assert state.hosts["web1"].waits == 2
    assert world.run(until=600) == "stopped"
    assert state.hosts["mid1"].outcome is Outcome.READY, "who had begun goes on"
    assert state.hosts["web1"].on_t is None
    world.tell(FeedReturned(world.now, "east", "kim"))
    assert world.run() == "done"
    assert [name for _, name in power_ons(world.events)] == ["dns1", "dns2", "mid1", "dns1", "dns2", "web1"]


def test_scope_added_revives_who_was_blocked_by_it() -> None:
    plan = make_plan(
        {
            "a": (1, group()),
            "b": (1, group(requires=(Requirement("a"),))),
            "c": (1, group(requires=(Requirement("b"),))),
        }
    )
    world = World(Engine(plan))
    assert world.run(selected=("b1", "c1")) == "done"
    assert [world.outcome(name)[0] for name in ("a1", "b1", "c1")] == [
        Outcome.SKIPPED,
        Outcome.BLOCKED,
        Outcome.BLOCKED,
    ]
    assert all(kind is Kind.POWER_READ for _, kind in world.did)
    again = World(Engine(plan, replay(plan, world.events)), now=world.now)
    again.tell(ScopeAdded(again.now, "a", ("a1",), "kim"))
    assert again.run() == "done"
    assert [again.outcome(name)[0] for name in ("a1", "b1", "c1")] == [Outcome.READY] * 3


def test_what_is_found_on_under_a_limit_is_adopted_and_never_measured() -> None:
    plan = make_plan({"a": (1, group()), "b": (1, group(requires=(Requirement("a"),)))})
    plan = replace(plan, limits=replace(plan.limits, measure=True))
    world = World(Engine(plan), {("b1", Kind.METER): [(Reason.OK, {"watts": 180.0})]})
    world.on_t["a1"] = -1000.0
    assert world.run(selected=("b1",)) == "done"
    assert world.outcome("a1")[0] is Outcome.ADOPTED
    assert world.count("a1", Kind.METER) == 0
    assert world.count("b1", Kind.METER) == 1
    assert ON == (Reason.OK, {"power": "on"})


@pytest.mark.parametrize("seed", range(24))
def test_what_hosts_wait_for_is_what_does_not_hold_at_any_moment(seed: int) -> None:
    """Counted once for all that wait for the same, and followed by its changes: as counted anew for each host."""
    case = case_of(seed)
    state = State(case.plan)
    for number, event in enumerate(play(case).events):
        state.fold(event)
        if number % 7:
            continue
        for name, host in state.hosts.items():
            own = [wait for wait in state.dependencies.of[name] if not isinstance(wait, Leader)]
            waits, control, impossible = count(own)
            assert (host.alike.waits, host.alike.control_waits) == (waits, control), name
            assert bool(host.alike.impossible) >= bool(impossible), name
            leader = state.dependencies.leaders.get(host.group.name)
            if leader is None or leader.status is Status.HOLDS or leader.chosen == name:
                assert host.behind == 0, name
