"""The lower bound: never above what the real engine takes in the same world, and right where a hand can reckon it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

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
    SshCheck,
)
from bootorch.core.plan import Plan
from bootorch.sim.bounds import Bound, feed_bound_s, lower_bound
from bootorch.sim.machine import MachineSpec
from bootorch.sim.run import Simulation
from bootorch.sim.weights import Draw, fitted_bound_s
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


def test_a_boot_that_fails_may_begin_with_the_second_power_on_too() -> None:
    """The first would have taken 35 s and seems lost after 30; the second takes one."""
    plan = make_plan({name: (1, Group(name, (), ready=(SshCheck(),))) for name in ("g0", "g1")})
    drawn = World(plan, 19758, SLOW).durations()["g11"]
    assert drawn.fails == "no_boot"
    assert drawn.power_s > 30.0
    assert bound(plan, 19758, SLOW).seconds <= makespan(plan, 19758, SLOW)


tight = st.builds(
    lambda budget, ramp, boots, racks: Limits(
        feeds={"hall": FeedLimit(budget_watts=budget, ramp_watts_per_min=ramp)},
        slots={"image_server": boots, "boots": boots + 1, "rack": racks},
    ),
    st.sampled_from([5200.0, 7000.0, 20000.0]),
    st.sampled_from([400.0, 900.0, None]),
    st.integers(1, 6),
    st.integers(1, 3),
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
    found = lower_bound(plan, World(plan, seed, parameters).durations(), steps=30)
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
    assert chain.binding.detail == "a2 → b1"


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
    # Two at most can boot while the others run: 1660 W is room for one boot and five that run.
    assert 150.0 < found.seconds < 600.0


def test_what_does_not_fit_is_told() -> None:
    plan = make_plan({"a": (6, Group("", ()))}, Limits(feeds={"hall": FeedLimit(budget_watts=1100.0)}))
    found = lower_bound(plan, fixed(plan, {f"a{number}": 99.0 for number in range(1, 7)}).durations())
    assert math.isinf(found.seconds)
    assert "4 of 6 hosts fit" in found.binding.detail


def test_a_dead_host_counts_until_its_deadlines_have_given_it_up() -> None:
    plan = make_plan({"a": (1, Group("", (), deadlines=Deadlines(boot=700.0)))})
    world = World(plan, 1, replace(CALM, no_post_share=1.0))
    assert lower_bound(plan, world.durations()).seconds >= 700.0


draws = st.lists(
    st.builds(
        Draw,
        head_s=st.floats(0.0, 300.0),
        tail_s=st.floats(0.0, 200.0),
        boot_s=st.floats(10.0, 300.0),
        steady=st.floats(0.0, 100.0),
        surge=st.floats(10.0, 200.0),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(draws, st.floats(0.0, 300.0), st.permutations(range(5)))
def test_no_order_under_a_budget_is_shorter(hosts: Sequence[Draw], spare: float, order: Sequence[int]) -> None:
    """Against schedules that start the hosts in some order, each as soon as its whole boot and all after it fit."""
    budget = sum(host.steady for host in hosts) + max(host.surge for host in hosts) + spare
    chosen = [hosts[number] for number in order if number < len(hosts)]
    starts: list[tuple[float, Draw]] = []
    for host in chosen:
        moments = sorted({host.head_s, *(max(host.head_s, at + other.boot_s) for at, other in starts)})
        for moment in moments:
            trial = [*starts, (moment, host)]
            if all(_drawn(trial, at) <= budget + 1e-9 for at, _ in trial):
                starts = trial
                break
        else:
            raise AssertionError("the budget has room for one boot beside all others")
    took = max(at + host.boot_s + host.tail_s for at, host in starts)
    known_s = feed_bound_s(budget, hosts)
    assert known_s <= took + 1e-6
    assert known_s <= feed_bound_s(budget, hosts, steps=30) <= took + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda head, tail, boot, steady, surge: Draw(10.0 * head, 10.0 * tail, 10.0 * boot, steady, surge),
            st.integers(0, 4),
            st.integers(0, 3),
            st.integers(1, 6),
            st.floats(0.0, 100.0),
            st.floats(10.0, 200.0),
        ),
        min_size=1,
        max_size=3,
    ),
    st.floats(0.0, 200.0),
)
def test_no_schedule_at_all_is_shorter(hosts: Sequence[Draw], spare: float) -> None:
    """Against every schedule there is, those that wait without need included: all times are whole multiples of 10 s,
    and then some shortest schedule starts at such moments too."""
    budget = sum(host.steady for host in hosts) + max(host.surge for host in hosts) + spare
    least = math.inf
    for chosen in itertools.product(*(range(int(host.head_s), 220, 10) for host in hosts)):
        starts = [(float(at), host) for at, host in zip(chosen, hosts, strict=True)]
        took = max(at + host.boot_s + host.tail_s for at, host in starts)
        if took < least and all(_drawn(starts, at) <= budget + 1e-9 for at, _ in starts):
            least = took
    assert math.isfinite(least)
    assert feed_bound_s(budget, hosts, steps=60) <= least + 1e-6


def test_fitted_weights_see_that_boots_come_in_generations() -> None:
    """Of equal boots that begin at once, the last generation takes as long as the first, however few are left."""
    hosts = [Draw(0.0, 0.0, 100.0, 50.0, 50.0)] * 100
    # 55 start at first, then half of the room that is left each time: 27, 14, 7 (of which 4 are missing).
    budget = 5500.0
    plain = feed_bound_s(budget, hosts)
    fitted = fitted_bound_s(budget, hosts, plain, 300)
    assert plain == pytest.approx(math.log(5500 / 500) / math.log(2) * 100, rel=0.01)
    assert plain + 10.0 < fitted <= 400.0


def _drawn(starts: Sequence[tuple[float, Draw]], now: float) -> float:
    return sum(host.steady + (host.surge if now < at + host.boot_s else 0.0) for at, host in starts if at <= now)


def test_equal_hosts_fill_a_feed_as_fast_as_the_bound_says() -> None:
    """Many small hosts, started as room is there: within three hundredths of the bound, and never below it."""
    count, boot_s, steady, surge = 2000, 300.0, 40.0, 60.0
    budget = count * steady * 1.03
    room, now, booting, left = budget, 0.0, [], count
    while left or booting:
        while left and room >= steady + surge:
            room -= steady + surge
            booting.append(now + boot_s)
            left -= 1
        now = booting[0]
        while booting and booting[0] <= now:
            booting.pop(0)
            room += surge
    found = feed_bound_s(budget, [Draw(0.0, 0.0, boot_s, steady, surge)] * count)
    assert found <= now
    assert found == pytest.approx(math.log(1.03 / 0.03) / math.log1p(steady / surge) * boot_s, rel=0.02)
    assert now <= found * 1.2  # generations of boots: the last one is not full
