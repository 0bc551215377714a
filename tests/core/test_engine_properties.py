"""The invariants of the design over random plans, random worlds and kills at any step, with an independent checker."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.events import Event, Intent, Kind, RunEnded
from bootorch.core.model import Breaker, Outcome
from bootorch.core.plan import Plan
from bootorch.core.recovery import replay, resume
from bootorch.sim.checkers import Checker
from bootorch.sim.machine import BootFailure, draw
from bootorch.sim.run import Simulation
from bootorch.sim.world import CALM, Lognormal, Parameters, World
from tests.plans import plans

ROUGH = Parameters(
    silent_power_share=0.2, no_post_share=0.1, dead_bmc_share=0.1, on_share=0.2, task_failed_share=0.2
)  # fmt: skip
# Broken machines, but nothing near a deadline and no luck that depends on how often one asks: kills change no outcome.
STEADY = Parameters(
    bmc_boot=Lognormal(20.0, 60.0, 0.999),
    boot=Lognormal(200.0, 400.0, 0.999),
    power=Lognormal(2.0, 5.0, 0.999),
    silent_power_share=0.2,
    no_post_share=0.1,
    dead_bmc_share=0.1,
    on_share=0.2,
    task_failed_share=0.0,
)

seeds = st.integers(0, 2**16)
swarm = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def make_world(plan: Plan, seed: int, parameters: Parameters) -> World:
    """Machines that do not boot, each in one of all the ways."""
    ways = list(BootFailure)
    specs = {name: machine.spec for name, machine in World(plan, seed, parameters).machines.items()}
    for name, spec in specs.items():
        if spec.boot_failure is not None:
            specs[name] = replace(spec, boot_failure=ways[int(draw(seed, "way", name) * len(ways))])
    return World(plan, seed, parameters, specs)


def run(plan: Plan, seed: int, parameters: Parameters) -> tuple[list[Event], Engine]:
    engine = Engine(plan)
    simulation = Simulation(engine, make_world(plan, seed, parameters))
    check = Checker(plan)
    events = simulation.start(seed)
    events.extend(simulation.run())
    for event in events:
        check(event)
    return events, engine


@swarm
@given(plans(), seeds, st.sampled_from([CALM, ROUGH]))
def test_invariants_hold_and_every_host_ends(plan: Plan, seed: int, parameters: Parameters) -> None:
    events, engine = run(plan, seed, parameters)
    end = events[-1]
    assert isinstance(end, RunEnded)
    # Only a breaker may stop a run without gates; then what is left is unknown, and said so.
    assert end.verdict == "done" or (end.verdict == "stopped" and engine.state.tripped)
    outcomes = Counter(outcome for _, outcome, _, _ in engine.state.outcomes())
    assert sum(outcomes.values()) == len(plan.hosts)
    assert (outcomes[Outcome.UNKNOWN] == 0) == (end.verdict == "done")
    assert not engine.state.slots.used() or engine.state.tripped


@swarm
@given(plans(), seeds)
def test_calm_world_brings_everything_up(plan: Plan, seed: int) -> None:
    _, engine = run(plan, seed, CALM)
    reachable = [h for h in engine.state.hosts.values() if h.outcome is not Outcome.BLOCKED]
    late = [h for h in reachable if h.outcome is not Outcome.READY]
    # The tails of boot times (of the host and of its BMC) may pass their deadlines; nothing else may go wrong.
    assert {h.reason.value for h in late} <= {"no_boot", "bmc_unreachable", "power_no_effect"}


@swarm
@given(plans(), seeds)
def test_a_boot_that_fails_is_named_for_what_broke(plan: Plan, seed: int) -> None:
    events, engine = run(plan, seed, STEADY)
    machines = make_world(plan, seed, STEADY).machines
    for name, host in engine.state.hosts.items():
        failure = machines[name].spec.boot_failure
        if failure is not None and host.on_t is not None and host.outcome is Outcome.QUARANTINED:
            assert host.reason == failure.value, host.detail
    asked = Counter(event.target for event in events if isinstance(event, Intent) and event.kind is Kind.EVIDENCE)
    assert all(count <= plan.group_of(name).attempts.boot for name, count in asked.items())


@swarm
@given(plans(), seeds)
def test_same_seed_same_run_byte_for_byte(plan: Plan, seed: int) -> None:
    first, _ = run(plan, seed, ROUGH)
    second, _ = run(plan, seed, ROUGH)
    assert [encode(event) for event in first] == [encode(event) for event in second]


@swarm
@given(plans(), seeds)
def test_durable_events_alone_give_the_same_state(plan: Plan, seed: int) -> None:
    events, engine = run(plan, seed, ROUGH)
    journal = [encode(event) for event in events if getattr(event, "durable", True)]
    again = replay(plan, map(decode, journal))
    assert list(again.durable()) == list(engine.state.durable())
    assert again.open == {}


@swarm
@given(plans(), seeds, st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 7))
def test_killed_and_resumed_reaches_the_same_outcomes(plan: Plan, seed: int, stops: list[int], applied: int) -> None:
    # A breaker trips on what failed first, which a kill may change: outcomes are compared without one.
    plan = replace(plan, limits=replace(plan.limits, breaker=Breaker()))
    _, engine = run(plan, seed, STEADY)
    wanted = {name: (outcome, reason) for name, outcome, reason, _ in engine.state.outcomes()}

    world = make_world(plan, seed, STEADY)
    simulation = Simulation(Engine(plan), world)
    check = Checker(plan)
    everything = simulation.start(seed)
    journal = [encode(event) for event in everything]
    for stop in stops:
        for _ in range(stop):
            if simulation.engine.verdict():
                break
            events = simulation.step()
            everything += events
            journal += [encode(event) for event in events if getattr(event, "durable", True)]
        # Killed: of what was under way, some had its effect on the world and some had not.
        for number, intent in enumerate(simulation.interrupted()):
            if intent.kind in (Kind.POWER_ON, Kind.POWER_CYCLE) and (applied >> (number % 3)) & 1:
                world.finish(intent, simulation.now)
        engine = Engine(plan, replay(plan, map(decode, journal)))
        known = set(engine.state.open)
        lost = [i for i in simulation.interrupted() if i.id not in known]
        assert not any(intent.durable for intent in lost), "an effect left without its intent on disk"
        again = resume(engine, simulation.now, 0.0, "", "test")
        journal += [encode(event) for event in again]
        everything += again
        now = simulation.now
        simulation = Simulation(engine, world)
        simulation.now = now
    rest = list(simulation.run())
    for event in [*everything, *rest]:
        check(event)
    found = {name: (outcome, reason) for name, outcome, reason, _ in simulation.engine.state.outcomes()}
    assert found == wanted, {n: simulation.engine.state.hosts[n].detail for n in found if found[n] != wanted[n]}


def power_ons_without_reading(events: list[Event]) -> list[str]:
    """Hosts with two power-ons and no reading between them, from the events alone."""
    found = []
    by_host: dict[str, list[Intent]] = {}
    for event in events:
        if isinstance(event, Intent) and event.kind in (Kind.POWER_ON, Kind.POWER_READ):
            by_host.setdefault(event.target, []).append(event)
    for host, intents in by_host.items():
        if any(a.kind is b.kind is Kind.POWER_ON for a, b in pairwise(intents)):
            found.append(host)
    return found


@swarm
@given(plans(), seeds)
def test_no_second_power_on_without_a_reading_between(plan: Plan, seed: int) -> None:
    events, _ = run(plan, seed, ROUGH)
    assert power_ons_without_reading(events) == []
    journal = [event for event in events if getattr(event, "durable", True)]
    assert power_ons_without_reading(journal) == []
