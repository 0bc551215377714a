"""The one published benchmark of the field: 5,000 BMCs whose servers boot in 0 to 60 s each, 500 at once.

    python benchmarks/power_schedule.py [--virtual] [--real] [--hosts 5000] [--slots 500] [--seed 1] [--json FILE]

xCAT took 377 s with simulated OpenBMCs, where work over slots is 300 s (docs/forecast-accuracy.md). Ideal here: the
larger of work over slots and the longest boot, of the durations that were drawn. Each way is run twice: without any
knowledge, in the order of the names, and after a drill: the first run's journal is fitted (``forecast --fit``), the
plan names the fitted file (``parameters``), and the longest boots go first (Graham 1969).

``--virtual``: the engine over the simulated world. ``--real``: ``bootorch run`` and IPMI packets against a process that
is all the BMCs (``bootorch lab bmcs``); a host takes connections on its own address once it is up, and that is the proof.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

from bootorch.core.engine import Engine
from bootorch.core.events import Answer, Event, Intent, Kind
from bootorch.core.model import Deadlines, Endpoint, Environment, Group, Host, Limits, Outcome, Site, TcpCheck
from bootorch.core.plan import Plan
from bootorch.core.secret import Secret
from bootorch.core.state import State
from bootorch.lab import swarm, swarm_process
from bootorch.runtime.parameterfile import read_parameters
from bootorch.sim.distributions import Lognormal, Uniform
from bootorch.sim.estimates import with_estimates
from bootorch.sim.fit import fit
from bootorch.sim.machine import MachineSpec
from bootorch.sim.parameters import CALM, FIELD
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

BOOTS = (0.5, 60.0)  # seconds; what is up within half a second cannot be told from what was up before
NETWORK = "127.64.0.0/16"
BOOT_DEADLINE_S = 180.0
PASSWORD = Secret(b"power-schedule")
# A management network of the field's kind, and a power-on that a chassis shows at once, as xCAT's simulator did.
WORLD = replace(
    CALM,
    scale_to_deadlines=False,
    bmc_boot=Uniform(0.0, 0.0),
    exchange=Lognormal(0.05, 0.2, 0.99),
    login=Lognormal(0.005, 0.05, 0.99),
    refusal=Uniform(0.002, 0.002),
    power=Uniform(0.0, 0.0),
)


@dataclass(frozen=True, slots=True)
class Run:
    """``makespan_s``: from the run's beginning to the last proof. ``span_s``: the same, from the first power-on."""

    makespan_s: float
    span_s: float
    ready: int
    cpu_s: float


def name_of(number: int) -> str:
    return f"node-{number + 1:04}"


def boots(hosts: int, seed: int) -> list[float]:
    """Seconds, of each host by its number: what ``lab bmcs --boot-seconds LEAST-MOST`` draws for its address."""
    addresses = swarm.addresses("", NETWORK, hosts)
    return [swarm.boot_of(seed, BOOTS, address) for address in addresses]


def ideal_s(durations: list[float], slots: int) -> float:
    return max(sum(durations) / slots, max(durations))


# -- virtual ----------------------------------------------------------------------------------


def plan_of(hosts: int, slots: int) -> Plan:
    addresses = swarm.addresses("", NETWORK, hosts)
    group = Group(
        "nodes",
        tuple(name_of(number) for number in range(hosts)),
        ready=(TcpCheck(80),),
        deadlines=Deadlines(boot=BOOT_DEADLINE_S),
    )
    fleet = {
        name_of(number): Host(
            name=name_of(number),
            group="nodes",
            bmc=Endpoint(address, 623),
            bmc_user="admin",
            bmc_password=None,
            address=address,
        )
        for number, address in enumerate(addresses)
    }
    network = (ip_network(NETWORK),)
    return Plan(
        name="power-schedule",
        environment=Environment.LAB,
        site=Site(network, network),
        hosts=fleet,
        groups={"nodes": group},
        limits=Limits(slots={"boots": slots}),
        gates={},
        waves=(("nodes",),),
        digest="",
    )


def virtual_run(plan: Plan, durations: list[float], seed: int) -> tuple[Run, list[Event]]:
    specs = {name_of(number): MachineSpec(name_of(number), boot_s) for number, boot_s in enumerate(durations)}
    began = time.process_time()
    engine = Engine(plan)
    simulation = Simulation(engine, World(plan, seed, WORLD, specs))
    events: list[Event] = [*simulation.start(seed), *simulation.run()]
    return run_of(engine.state, events, time.process_time() - began), events


def run_of(state: State, events: list[Event], cpu_s: float) -> Run:
    proofs = [host.settled_t for host in state.hosts.values() if host.outcome is Outcome.READY]
    first = min(event.t for event in events if isinstance(event, Intent) and event.kind is Kind.POWER_ON)
    last = max(proofs, default=0.0)
    return Run(last, last - first, len(proofs), cpu_s)


def virtual(hosts: int, slots: int, seed: int) -> list[Run]:
    plan, durations = plan_of(hosts, slots), boots(hosts, seed)
    first, events = virtual_run(plan, durations, seed)
    kept = [event for event in events if not isinstance(event, Intent | Answer) or event.durable]  # by a journal
    fitted = fit([(plan, kept)], FIELD)
    second, _ = virtual_run(with_estimates(plan, fitted.parameters), durations, seed)
    return [first, second]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--virtual", action="store_true")
    parser.add_argument("--hosts", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    durations = boots(given.hosts, given.seed)
    ideal = ideal_s(durations, given.slots)
    print(ideal)
    for run in virtual(given.hosts, given.slots, given.seed):
        print(run, run.makespan_s / ideal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
