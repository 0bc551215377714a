"""The engine alone: events folded and decided a second, over a generated plan in the simulated world.

    python benchmarks/engine.py [--hosts 4000 32000] [--seed 1]

One process, virtual time, no I/O. The plan: switches per rack, then five services in a chain with quorums and per-rack
dependencies, feeds with budgets in a tree. Prints the events and seconds of each size and the cost per host, so that
what grows faster than the fleet shows.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from ipaddress import ip_network

from bootorch.core.engine import Engine
from bootorch.core.model import (
    Endpoint,
    Environment,
    FeedLimit,
    Group,
    Host,
    Limits,
    Quorum,
    Requirement,
    Site,
)
from bootorch.core.plan import Plan
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

SERVICES = ("dns", "storage", "database", "deploy", "web")
SHARES = (0.01, 0.10, 0.10, 0.02, 0.77)
RACK_HOSTS = 32


def make_plan(size: int) -> Plan:
    racks = max(2, size // RACK_HOSTS)
    hosts: dict[str, Host] = {}

    def add(group: str, count: int) -> tuple[str, ...]:
        names = tuple(f"{group}-{number:05}" for number in range(count))
        for number, name in enumerate(names):
            rack, serial = number % racks, len(hosts)
            hosts[name] = Host(
                name=name,
                group=group,
                bmc=Endpoint(f"127.{serial >> 16 & 255}.{serial >> 8 & 255}.{serial & 255}", 623),
                bmc_user="admin",
                bmc_password=None,
                address=f"127.{128 + (serial >> 16 & 127)}.{serial >> 8 & 255}.{serial & 255}",
                rack=f"r{rack:04}",
                feeds=(f"hall-{rack % 4}/row-{rack // 40}/rack-{rack}",),
                model=f"m{rack % 3}",
                watts_boot_peak=400.0,
                watts_steady=250.0,
            )
        return names

    switch = Requirement("switches", per_host="rack")
    groups = {"switches": Group("switches", add("switches", racks))}
    before = "switches"
    for tier, (service, share) in enumerate(zip(SERVICES, SHARES, strict=True), start=1):
        needs = (switch,) if before == "switches" else (switch, Requirement(before, Quorum(share=0.5)))
        groups[service] = Group(service, add(service, max(2, round((size - racks) * share))), tier, needs)
        before = service
    hall = FeedLimit(budget_watts=size / 4 * 300.0, ramp_watts_per_min=size / 4 * 100.0)
    loopback = (ip_network("127.0.0.0/8"),)
    return Plan(
        name="benchmark",
        environment=Environment.LAB,
        site=Site(loopback, loopback),
        hosts=dict(sorted(hosts.items())),
        groups=groups,
        limits=Limits(feeds={f"hall-{number}": hall for number in range(4)}, slots={"bmc_per_subnet": 64}),
        gates={},
        waves=tuple((name,) for name in groups),
        digest="",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[4000, 32000])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for size in given.hosts:
        plan = make_plan(size)
        began = time.process_time()
        engine = Engine(plan)
        built_s = time.process_time() - began
        gc.freeze()  # as a real run does
        simulation = Simulation(engine, World(plan, given.seed))
        events = len(simulation.start(given.seed))
        slowest_s = 0.0
        began = time.process_time()
        while not engine.verdict():
            before = time.perf_counter()
            events += len(simulation.step())
            slowest_s = max(slowest_s, time.perf_counter() - before)
        spent_s = time.process_time() - began
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{len(plan.hosts):6} hosts: {engine.verdict()} at {simulation.now / 60:.0f} min of virtual time; "
            f"{events} events in {spent_s:.1f} s CPU: {events / spent_s:,.0f}/s, {spent_s / size * 1e6:.0f} µs a host; "
            f"state built in {built_s:.2f} s, slowest step {slowest_s * 1e3:.0f} ms, peak {peak_mib:.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
