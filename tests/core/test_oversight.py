"""Breakers of whole classes, gates by time, and changes of who is urgent: rules of the engine over small worlds."""

from __future__ import annotations

import pytest

from bootorch.core.clusters import Clusters
from bootorch.core.engine import MOST_LOOKS, Engine
from bootorch.core.events import GateOpened, Intent, Kind, RunStarted, TierSet, Tripped
from bootorch.core.model import Breaker, FeedLimit, Gate, Limits, Outcome, Quorum, Requirement
from bootorch.core.oversight import next_time
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay, resume
from bootorch.core.urgency import priorities
from tests.core.test_engine import ON, World
from tests.plans import group, make_host, make_plan

# -- clusters ---------------------------------------------------------------------


def fleet(bad: dict[str, object], count: int = 8) -> World:
    """``g1`` to ``g8`` fail and have the facts ``bad``; as many others do not."""
    facts: dict[str, dict[str, object]] = {}
    for number in range(1, 2 * count + 1):
        own: dict[str, object] = {"model": "m1", "firmware": "1.0", "rack": f"r{number}", "feeds": (f"f{number}",)}
        facts[f"g{number}"] = {**own, **bad} if number <= count else own
    plan = make_plan(
        {"g": (2 * count, group())}, Limits(breaker=Breaker(cluster_failures=3), slots={"boots": 2}), facts=facts
    )
    script = {(f"g{number}", Kind.BOOT_PROBE): [Reason.UNREACHABLE] for number in range(1, count + 1)}
    return World(Engine(plan), dict(script))


@pytest.mark.parametrize(
    ("bad", "scope"),
    [
        ({"firmware": "2.0"}, "class:model=m1,firmware=2.0"),
        ({"model": "x9", "firmware": ""}, "class:model=x9"),
        ({"rack": "burnt"}, "class:rack=burnt"),
        ({"feeds": ("weak",)}, "class:feed=weak"),
    ],
)
def test_the_class_that_fails_is_paused_and_nothing_else(bad: dict[str, object], scope: str) -> None:
    world = fleet(bad)
    assert world.run() == "stopped"
    assert [e.scope for e in world.events if isinstance(e, Tripped)] == [scope]
    tripped_t = next(e.t for e in world.events if isinstance(e, Tripped))
    late = {e.target for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON and e.t > tripped_t}
    assert late <= {f"g{number}" for number in range(9, 17)}
    assert all(world.outcome(f"g{number}")[0] is Outcome.READY for number in range(9, 17))
    assert any(world.outcome(f"g{number}")[0] is None for number in range(1, 9))
    again = World(Engine(world.engine.plan, replay(world.engine.plan, world.events)), on_t=world.on_t, now=world.now)
    again.events += resume(again.engine, again.now, 0.0, "", "kim", reset_breakers=True)
    assert again.run() == "done"


def test_failures_everywhere_are_nobodys_fault() -> None:
    hosts = {f"h{n}": make_host(f"h{n}", "g", n, firmware=f"f{n % 2}") for n in range(40)}
    clusters = Clusters(hosts)
    for host in hosts.values():
        clusters.settle(host, True)
    assert clusters.to_blame(hosts["h1"], 3) is not None, "all are one model"
    mixed = {name: make_host(name, "g", n, model=f"m{n % 4}", rack=f"r{n % 5}") for n, name in enumerate(hosts)}
    clusters = Clusters(mixed)
    for number, host in enumerate(mixed.values()):
        clusters.settle(host, number % 3 == 0)
    assert clusters.to_blame(mixed["h0"], 3) is None


def test_a_slice_leaves_without_hosts_whose_breaker_has_tripped() -> None:
    facts = {name: {"model": "x9"} for name in ("g1", "g2", "g3", "g4")}
    plan = make_plan(
        {"g": (6, group(redeploy=("/a.yml",)))}, Limits(breaker=Breaker(same_model_failures=2)), facts=facts
    )
    world = World(Engine(plan))
    world.run(until=21.5)
    waiting = [name for name, host in world.engine.state.hosts.items() if host.stage.value == "redeploy"]
    assert "g1" in waiting
    world.tell(Tripped(world.now, "model:x9", "test"))
    assert world.run() == "stopped"
    slices = [e.hosts for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    assert sorted(host for hosts in slices for host in hosts) == ["g5", "g6"]


# -- gates ---------------------------------------------------------------------


def test_a_gate_opens_when_its_time_has_come() -> None:
    plan = make_plan({"g": (1, group())}, gates=(Gate("chillers", wait_s=300.0),))
    world = World(Engine(plan))
    assert world.run() == "done"
    opened = next(e for e in world.events if isinstance(e, GateOpened))
    assert (opened.t, opened.by, opened.why) == (300.0, "time", "300 s have passed")
    assert next(e.t for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON) >= 300.0


def test_a_gate_opens_at_a_time_of_day() -> None:
    plan = make_plan({"g": (1, group())}, gates=(Gate("dawn", at="06:10"),))
    world = World(Engine(plan))
    world.tell(RunStarted(0.0, "r", "test", "", 1, 1, "2026-01-10T06:00:00+09:00", "kim"))
    assert world.run() == "done"
    assert next(e.t for e in world.events if isinstance(e, GateOpened)) == 600.0


def test_times_of_day_and_dates() -> None:
    from datetime import datetime

    evening = datetime.fromisoformat("2026-01-10T22:00:00+09:00")
    assert next_time("06:00", evening).isoformat() == "2026-01-11T06:00:00+09:00"
    assert next_time("22:00", evening) == evening
    assert next_time("2026-01-12T01:00:00+00:00", evening).isoformat() == "2026-01-12T01:00:00+00:00"
    for wrong in ("2026-01-12T01:00:00", "soon", "25:00"):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever the reason
            next_time(wrong, evening)


# -- urgency ---------------------------------------------------------------------


def order(
    groups: dict[str, tuple[int, object]], tiers: dict[str, int] | None = None
) -> dict[str, tuple[int, float, str]]:
    plan = make_plan(groups)  # type: ignore[arg-type]
    found = priorities(plan, Engine(plan).state.dependencies, tiers or {n: g.tier for n, g in plan.groups.items()})
    return {priority[2]: priority for priority in found}


def test_only_as_many_members_as_a_quorum_needs_inherit_its_tier() -> None:
    found = order(
        {
            "dns": (4, group(tier=5)),
            "mail": (1, group(tier=0, requires=(Requirement("dns", Quorum(count=2)),))),
        }
    )
    assert sorted(found[name][0] for name in ("dns1", "dns2", "dns3", "dns4")) == [0, 0, 5, 5]
    spread = order(
        {
            "dns": (5, group(tier=5)),  # dns1 and dns5 stand in one rack
            "mail": (1, group(tier=0, requires=(Requirement("dns", Quorum(count=2), across_racks=2),))),
        }
    )
    assert [name for name in spread if spread[name][0] == 0] == ["dns1", "dns2", "mail1"]


def test_who_holds_up_the_longest_chain_goes_first() -> None:
    chain = {
        "a": (1, group()),
        "b": (1, group(requires=(Requirement("a"),))),
        "c": (1, group(requires=(Requirement("b"),), redeploy=("/x.yml",))),
        "z": (1, group()),
    }
    found = order(chain)
    assert sorted(found, key=lambda name: found[name]) == ["a1", "b1", "c1", "z1"]


def test_a_raised_tier_sorts_the_queue_again() -> None:
    groups = {"a": (4, group(tier=1)), "b": (2, group(tier=2))}
    plan = make_plan(groups, Limits(feeds={"hall": FeedLimit(budget_watts=2000.0)}, slots={"boots": 1}))
    world = World(Engine(plan))
    world.run(until=5)
    assert world.engine.admission.waiting() == {("slot", "boots"): 5}
    world.tell(TierSet(world.now, "b", 0, "kim"))
    assert world.run() == "done"
    ons = [e.target for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
    assert ons == ["a1", "b1", "b2", "a2", "a3", "a4"]


# -- read ahead ---------------------------------------------------------------------


def test_a_running_child_counts_on_its_feed_before_its_parent_is_ready() -> None:
    plan = make_plan(
        {"a": (1, group()), "b": (1, group(requires=(Requirement("a"),)))}, Limits({"hall": FeedLimit(600.0)})
    )
    world = World(Engine(plan))
    world.on_t["b1"] = -1000.0
    assert world.run() == "stopped"
    assert world.outcome("a1")[0] is None, "250 W run already, a peak of 400 W does not fit in 600 W"
    assert world.engine.state.feeds.draw_watts() == {"hall": 250.0}


def test_a_bmc_that_was_silent_all_the_time_is_given_up_a_minute_after_its_turn() -> None:
    plan = make_plan({"a": (1, group()), "b": (1, group(requires=(Requirement("a"),)))})
    world = World(Engine(plan), {("b1", Kind.POWER_READ): [Reason.BMC_UNREACHABLE]})
    world.script["a1", Kind.BOOT_PROBE] = [Reason.UNREACHABLE] * 60 + [(Reason.OK, {"boot_id": "b", "uptime_s": 1.0})]
    assert world.run() == "done"
    state = world.engine.state
    assert state.hosts["a1"].settled_t > 300.0
    assert 59.0 <= state.hosts["b1"].settled_t - state.hosts["a1"].settled_t <= 62.0
    assert world.outcome("b1") == (Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)


def test_a_need_of_the_recovery_itself_holds_back_even_the_survey() -> None:
    control = Requirement("tor", per_host="rack", control="switch")
    plan = make_plan({"tor": (4, group()), "web": (4, group(requires=(control,)))})
    world = World(Engine(plan))
    assert world.run() == "done"
    ready = {name: world.engine.state.hosts[name].settled_t for name in plan.hosts}
    for event in world.events:
        if isinstance(event, Intent) and event.target.startswith("web"):
            rack = plan.hosts[event.target].rack
            assert event.t >= next(ready[h.name] for h in plan.hosts.values() if h.group == "tor" and h.rack == rack)


# -- bounded decisions ---------------------------------------------------------------------


def test_a_release_of_many_hosts_is_spread_over_decisions_at_the_same_time() -> None:
    many = 3 * MOST_LOOKS
    plan = make_plan({"g": (many, group())}, gates=(Gate("power", ask="Who?"),))
    world = World(Engine(plan))
    assert world.run() == "stopped"
    world.tell(GateOpened(world.now, "power", "kim"))
    engine, sizes = world.engine, []
    while True:
        sizes.append(len(engine.decide(world.now)))
        if not engine.unfinished:
            break
        assert engine.next_timer() == world.now
        assert engine.verdict() == ""
    assert max(sizes) <= MOST_LOOKS
    assert sum(sizes) == many, "all of them, without any time between"


def test_the_most_urgent_goes_first_however_many_are_looked_at() -> None:
    """Hosts are looked at in the order of their names, a part at a time; places are given when all were seen."""
    groups = {"a": (2 * MOST_LOOKS, group(tier=3)), "z": (5, group(tier=0))}
    plan = make_plan(groups, Limits(slots={"boots": 3}))
    world = World(Engine(plan))
    assert world.run(until=5) == ""
    ons = [e.target for e in world.events if isinstance(e, Intent) and e.kind is Kind.POWER_ON]
    assert ons == ["z1", "z2", "z3"]
    assert ON[1] == {"power": "on"}  # type: ignore[index]
