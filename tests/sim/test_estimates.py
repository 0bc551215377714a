"""Measured boots in a plan: who is switched on first, and what a second run gains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootorch.core.engine import Engine
from bootorch.core.events import Event, Intent, Kind
from bootorch.core.model import Deadlines, Group, Limits, TcpCheck
from bootorch.core.plan import Plan
from bootorch.sim.distributions import Uniform
from bootorch.sim.estimates import known_hosts, with_estimates
from bootorch.sim.fit import fit
from bootorch.sim.machine import MachineSpec
from bootorch.sim.parameters import CALM, FIELD, ModelParameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import World
from tests.plans import make_plan

SLOTS = 20
WORLD = replace(CALM, scale_to_deadlines=False, bmc_boot=Uniform(0.0, 0.0), power=Uniform(0.0, 0.0))


def nodes(count: int) -> Plan:
    group = Group("web", (), ready=(TcpCheck(80),), deadlines=Deadlines(boot=300.0))
    return make_plan({"web": (count, group)}, limits=Limits(slots={"boots": SLOTS}))


def run(plan: Plan, boots: dict[str, float]) -> list[Event]:
    specs = {name: MachineSpec(name, boot_s) for name, boot_s in boots.items()}
    simulation = Simulation(Engine(plan), World(plan, 1, WORLD, specs))
    return [*simulation.start(1), *simulation.run()]


def test_the_hosts_own_boots_count_then_those_of_their_model_then_what_the_inventory_says() -> None:
    plan = nodes(3)
    first, second, third = plan.hosts
    hosts = {name: replace(host, boot_s=77.0) for name, host in plan.hosts.items()}
    hosts[second] = replace(hosts[second], model="slow")
    plan = replace(plan, hosts=hosts)
    parameters = replace(
        CALM,
        hosts={first: 100.0, "elsewhere": 5.0},
        power=Uniform(4.0, 4.0),
        models={"slow": ModelParameters(boot=Uniform(200.0, 200.0), power=Uniform(6.0, 6.0))},
    )
    assert known_hosts(plan, parameters) == 2
    assert [with_estimates(plan, parameters).hosts[name].boot_s for name in (first, second, third)] == [104, 206, 77]


def test_after_a_drill_the_longest_boots_go_first_and_the_slots_are_used_to_the_end() -> None:
    plan = nodes(200)
    # The longest last: the worst order there is.
    boots = {name: 5.0 + number * 0.275 for number, name in enumerate(sorted(plan.hosts))}
    ideal_s = max(sum(boots.values()) / SLOTS, max(boots.values()))
    drill = run(plan, boots)
    kept = [event for event in drill if getattr(event, "durable", True)]
    known = with_estimates(plan, fit([(plan, kept)], FIELD).parameters)
    again = run(known, boots)
    order = [event.target for event in again if isinstance(event, Intent) and event.kind is Kind.POWER_ON]
    estimates = [known.hosts[name].boot_s for name in order]
    # Whose BMC answers first is switched on while there is room; from then on the longest boots go first.
    # Two that are admitted together may swap: each has its BMC asked once more.
    later = estimates[2 * SLOTS :]
    assert later == pytest.approx(sorted(later, reverse=True), abs=1.0)
    assert drill[-1].t > 1.08 * ideal_s
    assert again[-1].t < 1.03 * ideal_s
