"""The one published benchmark of the field: 5,000 BMCs whose servers boot in up to 60 s each, 500 at once.

    python benchmarks/power_schedule.py [--virtual] [--real] [--hosts 5000] [--slots 500] [--seed 1] [--json FILE]

xCAT took 377 s with simulated OpenBMCs, where work over slots is 300 s (docs/forecast-accuracy.md). Ideal here: the
larger of work over slots and the longest boot, of the durations that were drawn. Each way is run twice: without any
knowledge, in the order of the names, and after a drill: the first run's journal is fitted (``forecast --fit``), the
plan names the fitted file (``parameters``), and the longest boots go first (Graham 1969).

``--virtual``: the engine over the simulated world. ``--real``: ``bootorch run`` and IPMI packets against a process that
is all the BMCs (``bootorch lab bmcs``); a host takes connections on its own address once it is up: that is the proof.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from bootorch.core.engine import Engine
from bootorch.core.events import Answer, Event, Intent, Kind
from bootorch.core.model import Deadlines, Endpoint, Environment, Group, Host, Limits, Outcome, Site, TcpCheck
from bootorch.core.plan import Plan
from bootorch.core.secret import Secret
from bootorch.core.state import State
from bootorch.lab import swarm, swarm_process
from bootorch.runs import Runs
from bootorch.sim.distributions import Lognormal, Uniform
from bootorch.sim.estimates import with_estimates
from bootorch.sim.fit import fit
from bootorch.sim.machine import MachineSpec
from bootorch.sim.parameters import CALM, FIELD
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

BOOTS = (1.0, 60.0)  # seconds; what is up before anybody can look cannot be told from what was up all the time
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


# -- real -------------------------------------------------------------------------------------


def write_plan(directory: Path, hosts: int, slots: int, port: int, host_port: int) -> Path:
    """Inventory and plan in files, as an operator would have them. JSON is YAML, and quickly read."""
    addresses = swarm.addresses("", NETWORK, hosts)
    secret = directory / "bmc_password"
    secret.touch(0o600)
    secret.write_bytes(PASSWORD.reveal())
    shared = {"bmc_user": "admin", "bmc_password_file": "bmc_password", "bmc_port": port}
    nodes = {name_of(n): {"ansible_host": address, "bmc_address": address} for n, address in enumerate(addresses)}
    inventory = {"all": {"vars": shared, "children": {"nodes": {"hosts": nodes}}}}
    (directory / "hosts.yml").write_text(json.dumps(inventory, indent=0))
    plan = {
        "name": "power-schedule",
        "environment": "lab",
        "site": {"bmc_networks": [NETWORK], "host_networks": [NETWORK]},
        "inventory": "hosts.yml",
        "limits": {"slots": {"boots": slots}},
        "defaults": {"console": "none", "deadlines": {"boot": f"{BOOT_DEADLINE_S:g}s"}},
        "groups": {"nodes": {"hosts": "nodes", "ready": [{"tcp": host_port}]}},
    }
    path = directory / "plan.yml"
    path.write_text(json.dumps(plan, indent=1))
    bootorch("inventory", "snapshot", str(path))
    return path


def bootorch(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bootorch.app", *words], stdout=subprocess.PIPE, check=False, text=True
    )
    if done.returncode not in (0, 3):  # 3: not all are ready, which is counted
        raise SystemExit(f"bootorch {' '.join(words)} ended with {done.returncode}")
    return done.stdout


def real_run(plan: Path, run_dir: Path, hosts: int, seed: int, port: int, host_port: int) -> tuple[Run, dict[str, Any]]:
    """One recovery of a fleet that is all off. CPU is that of ``bootorch run``, its start included."""
    options: dict[str, Any] = {
        "seed": seed,
        "boot_seconds": f"{BOOTS[0]:g}-{BOOTS[1]:g}",
        "port": port,
        "host_port": host_port,
    }
    with swarm_process.running(password=PASSWORD, count=hosts, network=NETWORK, lifetime=1800, **options) as fleet:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        bootorch("run", str(plan), "--new", "--no-forecast", "--json", "--run-dir", str(run_dir))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        stats = fleet.stats()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    history = Runs().history(run_dir)
    return run_of(history.state, list(history.events), cpu_s), stats


def free_port(kind: socket.SocketKind) -> int:
    """One below those that Linux gives to outgoing connections: hundreds of these are made meanwhile."""
    for port in range(20000, 32000):
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise SystemExit("no port is free from 20000 to 32000")


def real(hosts: int, slots: int, seed: int, runs: int) -> list[Run]:
    with tempfile.TemporaryDirectory(prefix="bootorch-schedule-") as name:
        directory = Path(name)
        port, host_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        plan = write_plan(directory, hosts, slots, port, host_port)
        found: list[Run] = []
        for number in range(runs):
            run_dir = directory / f"run-{number + 1}"
            run, stats = real_run(plan, run_dir, hosts, seed, port, host_port)
            found.append(run)
            say(f"real, run {number + 1}: {run}; the fleet: {stats}; load {os.getloadavg()[0]:.1f}")
            bootorch("forecast", "--fit", str(run_dir), "-o", str(directory / "fitted.yml"))
            document = json.loads(plan.read_text())
            plan.write_text(json.dumps({**document, "parameters": "fitted.yml"}, indent=1))
        return found


# -- what is shown ----------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--virtual", action="store_true", help="in virtual time only")
    parser.add_argument("--real", action="store_true", help="with real packets only")
    parser.add_argument("--hosts", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures")
    given = parser.parse_args()
    durations = boots(given.hosts, given.seed)
    ideal = ideal_s(durations, given.slots)
    print(
        f"{given.hosts} hosts, {BOOTS[0]:g} to {BOOTS[1]:g} s each, {given.slots} at once, seed {given.seed}: "
        f"work over slots {sum(durations) / given.slots:.1f} s, longest {max(durations):.1f} s"
    )
    both = given.virtual == given.real
    rows: list[tuple[str, Run]] = []
    if both or given.virtual:
        rows += zip(
            ("virtual, unknown", "virtual, after a drill"), virtual(given.hosts, given.slots, given.seed), strict=True
        )
    if both or given.real:
        rows += zip(
            ("real, unknown", "real, after a drill"), real(given.hosts, given.slots, given.seed, 2), strict=True
        )
    for title, run in rows:
        print(
            f"{title:22}  {run.makespan_s:6.1f} s = {run.makespan_s / ideal:.3f} x ideal; {run.ready} ready; "
            f"from the first power-on {run.span_s:6.1f} s; {run.cpu_s:.0f} s CPU"
        )
    if given.json:
        figures = [{"way": title, "ratio": run.makespan_s / ideal, **asdict(run)} for title, run in rows]
        given.json.write_text(json.dumps({"ideal_s": ideal, "runs": figures}, indent=1) + "\n")
    return 0 if all(run.ready == given.hosts for _, run in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
