"""The lower bound: never above what the real engine takes in the same world, and right where a hand can reckon it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bootorch.core.engine import Engine
from bootorch.core.model import (
    Breaker,
    Deadlines,
    FeedLimit,
    First,
    Group,
    Limits,
    Quorum,
    Requirement,
)
from bootorch.core.plan import Plan
from bootorch.sim.bounds import Bound, _Pile, energy_s, late_energy_s, lower_bound
from bootorch.sim.machine import MachineSpec
from bootorch.sim.run import Simulation
from bootorch.sim.world import CALM, Lognormal, Parameters, World
from tests.plans import make_plan, plans

# Faults that are drawn with the host; nothing that depends on the moment.
FAULTS = replace(CALM, silent_power_share=0.1, no_post_share=0.1, dead_bmc_share=0.1, on_share=0.1)
SLOW = replace(FAULTS, boot=Lognormal(500.0, 1500.0, 0.9), bmc_boot=Lognormal(60.0, 400.0, 0.9))
QUICK = replace(CALM, boot=Lognormal(60.0, 200.0, 0.95), power=Lognormal(1.0, 2.0, 0.95))


def makespan(plan: Plan, seed: int, parameters: Parameters) -> float:
    """When the last host settled; infinite where the run stopped before."""
    engine = Engine(plan)
    simulation = Simulation(engine, World(plan, seed, parameters))
    simulation.start(seed)
    for _ in simulation.run():
        pass
    if engine.state.ended != "done":
        return math.inf
    return max(host.settled_t for host in engine.state.hosts.values())


def bound(plan: Plan, seed: int, parameters: Parameters) -> Bound:
    return lower_bound(plan, World(plan, seed, parameters).durations())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans(), st.integers(0, 2**16), st.sampled_from([CALM, QUICK, FAULTS, SLOW]))
def test_no_run_is_shorter_than_the_bound(plan: Plan, seed: int, parameters: Parameters) -> None:
    calm = replace(plan, limits=replace(plan.limits, breaker=Breaker()))
    found = bound(calm, seed, parameters)
    took = makespan(calm, seed, parameters)
    assume(math.isfinite(took))
    assert found.seconds <= took + 1e-6, found


tight = st.builds(
    lambda budget, ramp, boots: Limits(
        feeds={"hall": FeedLimit(budget_watts=budget, ramp_watts_per_min=ramp)}, slots={"image_server": boots}
    ),
    st.sampled_from([5200.0, 7000.0, 20000.0]),
    st.sampled_from([400.0, 900.0, None]),
    st.integers(1, 6),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tight, st.integers(1, 18), st.integers(0, 2**16), st.sampled_from([CALM, QUICK, FAULTS]))
def test_no_run_under_tight_limits_is_shorter(limits: Limits, size: int, seed: int, parameters: Parameters) -> None:
    plan = make_plan(
        {
            "base": (2, Group("", ())),
            "store": (size, Group("", (), requires=(Requirement("base", Quorum(count=1)),))),
        },
        limits,
        facts={f"store{number}": {"facts": {"image_server": f"pxe-{number % 2}"}} for number in range(1, size + 1)},
    )
    found = bound(plan, seed, parameters)
    took = makespan(plan, seed, parameters)
    assume(math.isfinite(took))
    assert found.seconds <= took + 1e-6, found


def fixed(plan: Plan, boots: dict[str, float], bmc_s: float = 0.0) -> World:
    """A world without chance: these boots, and a chassis that is on one second after it was told so."""
    specs = {name: MachineSpec(name, boots[name], bmc_s) for name in plan.hosts}
    return World(plan, 1, replace(CALM, power=Lognormal(1.0, 1.000001, 0.95)), specs)


def test_a_chain_is_the_sum_of_its_boots_and_a_quorum_takes_the_quickest() -> None:
    plan = make_plan({"a": (3, Group("", ())), "b": (1, Group("", (), requires=(Requirement("a", Quorum(count=2)),)))})
    found = lower_bound(plan, fixed(plan, {"a1": 100.0, "a2": 200.0, "a3": 300.0, "b1": 50.0}, 10.0).durations())
    # The second of a is there at 10 + 1 + 200; b takes 1 + 50. The third of a is not waited for, and is longer.
    assert found.seconds == pytest.approx(311.0, abs=0.01)
    assert found.binding.what == "chain"
    assert found.binding.detail == "a3"
    chain = lower_bound(plan, fixed(plan, {"a1": 100.0, "a2": 200.0, "a3": 210.0, "b1": 50.0}, 10.0).durations())
    assert chain.seconds == pytest.approx(10 + 201 + 51, abs=0.01)
    assert chain.binding.detail == "a2 > b1"


def test_a_first_member_holds_back_the_others() -> None:
    plan = make_plan({"a": (3, Group("", (), first=First(("a2",))))})
    found = lower_bound(plan, fixed(plan, {"a1": 100.0, "a2": 200.0, "a3": 150.0}).durations())
    assert found.seconds == pytest.approx(201 + 151, abs=0.01)


def test_across_racks_waits_for_the_second_rack() -> None:
    needs = (Requirement("a", Quorum(count=2), across_racks=2),)
    racks: dict[str, dict[str, object]] = {"a1": {"rack": "r"}, "a2": {"rack": "r"}, "a3": {"rack": "s"}}
    plan = make_plan({"a": (3, Group("", ())), "b": (1, Group("", (), requires=needs))}, facts=racks)
    found = lower_bound(plan, fixed(plan, {"a1": 10.0, "a2": 20.0, "a3": 300.0, "b1": 50.0}).durations())
    assert found.seconds == pytest.approx(301 + 51, abs=0.01)


def test_slots_ramp_and_budget_each_bind() -> None:
    group = {"a": (6, Group("", ()))}
    boots = {f"a{number}": 99.0 for number in range(1, 7)}
    slots = make_plan(group, Limits(slots={"boots": 2}))
    found = lower_bound(slots, fixed(slots, boots).durations())
    assert (found.binding.what, found.seconds) == ("slot boots", pytest.approx(300.0, abs=0.01))
    # 400 W each: two a minute, so that the last two begin two minutes after the first.
    ramp = make_plan(group, Limits(feeds={"hall": FeedLimit(ramp_watts_per_min=800.0)}))
    found = lower_bound(ramp, fixed(ramp, boots).durations())
    assert (found.binding.what, found.seconds) == ("ramp hall", pytest.approx(120 + 100, abs=0.01))
    budget = make_plan(group, Limits(feeds={"hall": FeedLimit(budget_watts=1660.0)}))
    found = lower_bound(budget, fixed(budget, boots).durations())
    assert found.binding.what == "feed hall"
    assert found.seconds == pytest.approx(60 * math.log(1660 / (1660 - 1500)) / 1, rel=0.01)


def test_what_does_not_fit_is_told() -> None:
    plan = make_plan({"a": (6, Group("", ()))}, Limits(feeds={"hall": FeedLimit(budget_watts=1100.0)}))
    found = lower_bound(plan, fixed(plan, {f"a{number}": 99.0 for number in range(1, 7)}).durations())
    assert math.isinf(found.seconds)
    assert "4 of 6 hosts fit" in found.binding.detail


def test_a_dead_host_counts_until_its_deadlines_have_given_it_up() -> None:
    plan = make_plan({"a": (1, Group("", (), deadlines=Deadlines(boot=700.0)))})
    world = World(plan, 1, replace(CALM, no_post_share=1.0))
    assert lower_bound(plan, world.durations()).seconds >= 700.0


pieces = st.lists(st.tuples(st.floats(0.0, 1e5), st.floats(0.0, 100.0)), min_size=1, max_size=5)


@given(pieces)
def test_energy_is_least_in_the_order_it_takes(work: Sequence[tuple[float, float]]) -> None:
    """Against every order of doing the hosts one after the other."""
    budget = sum(steady for _, steady in work) + 50.0

    def in_order(order: Sequence[tuple[float, float]]) -> float:
        room, seconds = budget, 0.0
        for surplus, steady in order:
            seconds += surplus / steady * math.log(room / (room - steady)) if steady > 1e-9 else surplus / room
            room -= steady
        return seconds

    least = min(in_order(order) for order in permutations(work))
    assert energy_s(budget, work) == pytest.approx(least, rel=1e-6, abs=1e-6)


works = st.lists(st.tuples(st.floats(1.0, 1e5), st.floats(1.0, 100.0)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(works, works, st.floats(1.0, 200.0))
def test_late_work_takes_at_least_the_best_of_what_may_be_put_off(
    early: Sequence[tuple[float, float]], late: Sequence[tuple[float, float]], spare: float
) -> None:
    """Against every choice of early hosts to put off, whole ones and halves."""
    budget = sum(steady for _, steady in (*early, *late)) + spare
    piles = _Pile(), _Pile()
    for pile, work in zip(piles, (early, late), strict=True):
        for surplus, steady in work:
            pile.add(surplus, steady)
    halves = [(surplus / 2, steady / 2) for surplus, steady in early for _ in range(2)]
    least = math.inf
    for mask in range(1 << len(halves)):
        put_off = [half for number, half in enumerate(halves) if mask >> number & 1]
        before = sum(steady for number, (_, steady) in enumerate(halves) if not mask >> number & 1)
        least = min(least, energy_s(budget - before, [*late, *put_off]))
    found = late_energy_s(budget, *piles)
    assert found <= least + 1e-6
    if not early:
        assert found >= least * 0.99 - 1e-6
