"""How long a site takes to come back, against the lower bound, and against other ways of doing it.

    python benchmarks/makespan.py [--hosts 32000] [--seed 1] [--only power-40 ...] [--json FILE] [--picture FILE.svg]

Six scenarios over the example site (inventory/pangyo), each with another resource that binds. For each: the makespan of
the engine in virtual time, the lower bound of ``sim.bounds`` for the same sampled durations, and the makespans of
strict barriers, a fixed rate and rack order under the same limits (``baselines.py``). Then, with 40 % of the
electricity: when the base services (tiers 0 to 2) are ready, beside a plan in which nothing else exists; and what it is
worth to know more of each host's boot than what its model usually takes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from baselines import POLICIES, Baseline
from makespan_picture import bars
from pangyo import FULL_SIZE, build, script

from bootorch.core.engine import Engine
from bootorch.core.graph import waves
from bootorch.core.model import Breaker, FeedLimit, Outcome, Quorum, Requirement
from bootorch.core.plan import Plan
from bootorch.sim.bounds import Bound, lower_bound
from bootorch.sim.distributions import Lognormal
from bootorch.sim.draws import Draws
from bootorch.sim.estimates import with_estimates
from bootorch.sim.parameters import CALM, FIELD, ModelParameters, Parameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

# -- the scenarios: everything that is chosen ---------------------------------------------------------------------

BOOT_SPREAD = 1.15  # p95 of a boot over its median, where the inventory says what to expect: FIELD's `repeat`
POWER_ON = Lognormal(3.0, 10.0, 0.95)  # seconds; so that no deadline decides by a hair who is given up
PLAYBOOK = Lognormal(40.0, 42.0, 0.95)  # seconds; its spread is not what is measured here
POWER_SHARE = 0.40  # of what all hosts of a hall draw when they boot at once
# Of that, what all of them draw in the end: continuous load may take 80 % of what a circuit is rated for (NEC 210.20).
STEADY_SHARE = 0.80
RAMP_MINUTES = 150.0  # a hall's boot peaks, one after the other, take so long
IMAGE_BOOTS = 16  # at once, of one image server: some 235 hosts boot from each
CHAIN_QUORUM = 0.6  # of the service before, in the deep chain
DEAD_MODEL = "gpu-g10"  # 4.8 % of the hosts: none of them boots again
DEAD_SHARE = 0.002  # of all others, by chance
BASE_TIERS = 2
FIT_STEPS = 320  # of the weights of the lower bound, for each hall that may decide


@dataclass(frozen=True, slots=True)
class Scenario:
    """``limit`` makes the site's plan into that of the scenario."""

    name: str
    title: str
    limit: Callable[[Plan], Plan]
    faults: Callable[[Parameters], Parameters] = lambda parameters: parameters


def _peaks(plan: Plan) -> dict[str, float]:
    """By hall: watts when all hosts that hang on it boot at once."""
    peaks: defaultdict[str, float] = defaultdict(float)
    for host in plan.hosts.values():
        for hall in {feed.split("/")[0] for feed in host.feeds}:
            peaks[hall] += host.watts_boot_peak
    return dict(sorted(peaks.items()))


def _halls(plan: Plan, budget: float | None, ramp: float | None, slots: Mapping[str, int] | None = None) -> Plan:
    """Nothing is limited but the halls: ``budget`` and ``ramp`` a minute, as shares of their boot peaks."""
    peaks = _peaks(plan)
    feeds = {
        hall: FeedLimit(watts * budget if budget else None, watts * ramp if ramp else None)
        for hall, watts in peaks.items()
        if budget or ramp
    }
    return replace(plan, limits=replace(plan.limits, feeds=feeds, slots=dict(slots or {}), adaptive={}))


def _reserved(plan: Plan) -> Plan:
    """The hosts' steady draw is such that no hall draws more than ``STEADY_SHARE`` of its budget in the end."""
    peaks, steady = _peaks(plan), defaultdict[str, float](float)
    for host in plan.hosts.values():
        for hall in {feed.split("/")[0] for feed in host.feeds}:
            steady[hall] += host.watts_steady
    factor = STEADY_SHARE / max(steady[hall] / (POWER_SHARE * watts) for hall, watts in peaks.items())
    hosts = {name: replace(host, watts_steady=host.watts_steady * factor) for name, host in plan.hosts.items()}
    return replace(plan, hosts=hosts)


def _deep(plan: Plan) -> Plan:
    """Every service also waits for the one before it in its tier, and the first of a tier for the last of the tier
    before, as sites do that were built one service upon the other."""
    groups = dict(plan.groups)
    ranked = sorted(groups, key=lambda name: (plan.wave_of[name], groups[name].tier))
    for before, name in pairwise(ranked):
        if plan.wave_of[name] > 2:
            extra = Requirement(before, Quorum(share=CHAIN_QUORUM))
            groups[name] = replace(groups[name], requires=(*groups[name].requires, extra))
    links = {name: [*(need.group for need in group.requires), *group.after] for name, group in groups.items()}
    return replace(plan, groups=groups, waves=tuple(tuple(level) for level in waves(links)))


SCENARIOS = (
    Scenario("ample", "ample power", lambda plan: _halls(plan, 1.0, None)),
    Scenario("power-40", "40 % power", lambda plan: _halls(_reserved(plan), POWER_SHARE, None)),
    Scenario("brim", "40 % power, to the brim", lambda plan: _halls(plan, POWER_SHARE, None)),
    Scenario("ramp", "ramp-bound", lambda plan: _halls(plan, None, 1 / RAMP_MINUTES)),
    Scenario("image", "image servers", lambda plan: _halls(plan, None, None, {"image_server": IMAGE_BOOTS})),
    Scenario("chain", "deep chain", lambda plan: _deep(_halls(plan, 1.0, None))),
    Scenario(
        "failures",
        "5 % failures, a dead model",
        lambda plan: _halls(plan, 0.6, None),
        lambda parameters: replace(
            parameters,
            no_post_share=DEAD_SHARE,
            models={**parameters.models, DEAD_MODEL: replace(parameters.models[DEAD_MODEL], dead_share=1.0)},
        ),
    ),
)


def site_parameters() -> Parameters:
    """A world without chance faults, whose boots take what the inventory says of each model, more or less."""
    models = {
        name: ModelParameters(boot=Lognormal(float(model.boot_s), model.boot_s * BOOT_SPREAD, 0.95))
        for name, model in script("inventory/hosts").MODELS.items()
    }
    return replace(CALM, scale_to_deadlines=False, models=models, power=POWER_ON, playbook=PLAYBOOK)


# -- one scenario ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """``settled_s``: host -> seconds."""

    seconds: float
    settled_s: Mapping[str, float]
    outcomes: Mapping[str, int]
    cpu_s: float


def run_engine(plan: Plan, seed: int, parameters: Parameters) -> Run:
    """The engine of real runs over the simulated world, in virtual time."""
    began = time.process_time()
    engine = Engine(plan)
    simulation = Simulation(engine, World(plan, seed, parameters))
    simulation.start(seed)
    for _ in simulation.run():
        pass
    hosts = engine.state.hosts
    if engine.state.ended != "done":
        raise SystemExit(f"the run ended {engine.state.ended}: a scenario must be one that ends")
    outcomes = Counter(str(host.outcome) for host in hosts.values())
    settled = {name: host.settled_t for name, host in hosts.items()}
    return Run(max(settled.values()), settled, dict(sorted(outcomes.items())), time.process_time() - began)


def drilled(plan: Plan, seed: int, parameters: Parameters) -> tuple[Plan, Parameters]:
    """A world in which hosts of one model differ as much as its boots do in the others, and each host's own boots from
    one another by FIELD's ``repeat``; and the plan that knows each host's usual boot, as ``forecast --fit`` says it
    after a drill. What the host takes this time it does not know."""
    draws = Draws(seed)
    usual = {}
    for name, host in plan.hosts.items():
        boot = parameters.models[host.model].boot
        if boot is not None:
            usual[name] = boot.sample(draws.named("usual boot", name))
    world = replace(parameters, hosts=usual, repeat=FIELD.repeat)
    return with_estimates(plan, world), world


def foreseen(plan: Plan, seed: int, parameters: Parameters) -> Plan:
    """The plan that knows what each host will take this very time. Nobody does: no estimate is worth more."""
    times = World(plan, seed, parameters).durations()
    hosts = {
        name: replace(host, boot_s=round(times[name].power_s + times[name].boot_s, 3))
        for name, host in plan.hosts.items()
    }
    return replace(plan, hosts=hosts)


def knowing(plan: Plan, seed: int, parameters: Parameters, bound_s: float) -> dict[str, object]:
    """Multiples of the lower bound by what is known of each host's boot."""
    drill_plan, world = drilled(plan, seed, parameters)
    bound = lower_bound(drill_plan, World(drill_plan, seed, world).durations(), steps=FIT_STEPS)
    return {
        "before_drill_ratio": run_engine(plan, seed, world).seconds / bound.seconds,
        "after_drill_ratio": run_engine(drill_plan, seed, world).seconds / bound.seconds,
        "foreseen_ratio": run_engine(foreseen(plan, seed, parameters), seed, parameters).seconds / bound_s,
    }


def tiers_only(plan: Plan, last: int) -> Plan:
    """The services up to tier ``last``, and whatever they wait for."""
    wanted = {name for name, group in plan.groups.items() if group.tier <= last}
    todo = sorted(wanted)
    while todo:
        group = plan.groups[todo.pop()]
        for parent in (*(need.group for need in group.requires), *group.after):
            if parent not in wanted:
                wanted.add(parent)
                todo.append(parent)
    return replace(
        plan,
        groups={name: group for name, group in plan.groups.items() if name in wanted},
        hosts={name: host for name, host in plan.hosts.items() if host.group in wanted},
        waves=tuple(level for wave in plan.waves if (level := tuple(name for name in wave if name in wanted))),
        gates={
            name: replace(gate, groups=tuple(group for group in gate.groups if group in wanted))
            for name, gate in plan.gates.items()
            if not gate.groups or wanted.intersection(gate.groups)
        },
    )


def base_ready(plan: Plan, settled_s: Mapping[str, float]) -> float:
    return max(settled_s[name] for name, host in plan.hosts.items() if plan.groups[host.group].tier <= BASE_TIERS)


def measure(scenario: Scenario, site: Plan, seed: int, baselines: bool) -> dict[str, object]:
    plan = scenario.limit(replace(site, limits=replace(site.limits, breaker=Breaker())))
    parameters = scenario.faults(site_parameters())
    times = World(plan, seed, parameters).durations()
    bound: Bound = lower_bound(plan, times, steps=FIT_STEPS)
    ours = run_engine(plan, seed, parameters)
    found: dict[str, object] = {
        "scenario": scenario.name,
        "title": scenario.title,
        "bound_s": bound.seconds,
        "binding": bound.binding.what,
        "detail": bound.binding.detail,
        "chain_s": next(part.seconds for part in bound.parts if part.what == "chain"),
        "bootorch_s": ours.seconds,
        "ratio": ours.seconds / bound.seconds,
        "base_ready_s": base_ready(plan, ours.settled_s),
        "outcomes": ours.outcomes,
        "cpu_s": ours.cpu_s,
    }
    for policy in POLICIES if baselines else ():
        result = Baseline(plan, times, policy).run()
        unsettled = len(plan.hosts) - len(result.settled_s)
        found[f"{policy}_s"] = math.inf if unsettled else result.seconds
        found[f"{policy}_base_ready_s"] = math.inf if unsettled else base_ready(plan, result.settled_s)
        if result.ready != ours.outcomes.get(Outcome.READY.value):
            raise SystemExit(f"{scenario.name}, {policy}: {result.ready} ready, the engine {ours.outcomes}")
    if scenario.name in ("power-40", "brim"):
        alone = run_engine(tiers_only(plan, BASE_TIERS), seed, parameters)
        found["base_alone_s"] = alone.seconds
    if scenario.name == "brim":
        found.update(knowing(plan, seed, parameters, bound.seconds))
    return found


# -- what is shown ---------------------------------------------------------------------


def _minutes(seconds: object) -> str:
    return f"{float(str(seconds)) / 60:.1f}" if math.isfinite(float(str(seconds))) else "never"


def table(rows: list[dict[str, object]], baselines: bool) -> str:
    head = ["scenario", "binding", "lower bound", "bootorch", "ratio"]
    lines = []
    for row in rows:
        cells = [str(row["title"]), str(row["binding"]), _minutes(row["bound_s"]), _minutes(row["bootorch_s"])]
        cells.append(f"{row['ratio']:.3f}")
        for policy in POLICIES if baselines else ():
            took, bound = float(str(row[f"{policy}_s"])), float(str(row["bound_s"]))
            cells += [f"{_minutes(took)} ({took / bound:.2f})"]
        lines.append(cells)
    if baselines:
        head += ["barriers", "300 a minute", "rack order"]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *lines]]
    return "\n".join(line.rstrip() for line in shown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=FULL_SIZE)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[scenario.name for scenario in SCENARIOS], default=[])
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures, in seconds")
    parser.add_argument("--picture", type=Path, help="write an SVG")
    given = parser.parse_args()
    site = build(given.hosts, given.seed)
    rows = []
    for scenario in SCENARIOS:
        if not given.only or scenario.name in given.only:
            rows.append(measure(scenario, site, given.seed, not given.no_baselines))
            print(f"{scenario.name}: {rows[-1]['ratio']:.3f}, {rows[-1]['cpu_s']:.0f} s CPU", file=sys.stderr)
    print(f"{len(site.hosts)} hosts, seed {given.seed}; minutes, and in brackets the multiple of the lower bound")
    print(table(rows, not given.no_baselines))
    for row in rows:
        if "base_alone_s" in row:
            ready, alone = float(str(row["base_ready_s"])), float(str(row["base_alone_s"]))
            print(
                f"tiers 0 to {BASE_TIERS} with {row['title']}: ready after {_minutes(ready)} minutes, "
                f"{_minutes(alone)} where nothing else exists: {ready / alone:.3f}"
            )
        if "after_drill_ratio" in row:
            print(
                f"{row['title']}, where each host has its own usual boot: "
                f"{row['before_drill_ratio']:.3f} in a first recovery, {row['after_drill_ratio']:.3f} after a drill; "
                f"{row['foreseen_ratio']:.3f} if every boot of the table's run were known beforehand"
            )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if given.picture:
        given.picture.write_text(bars(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
