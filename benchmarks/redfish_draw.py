"""What it costs to read servers' draws over Redfish, and over IPMI beside it: the lab's BMCs, a pinned certificate.

    python benchmarks/redfish_draw.py --hosts 300

CPU is that of the reading process; the lab is a process of its own. An exchange over Redfish is a TLS handshake and six
requests, over IPMI a session and one command.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from bootorch.core.model import Host
from bootorch.core.plan import Plan
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.drivers.protocols import Reply
from bootorch.drivers.redfish import RedfishDraw
from bootorch.lab import control
from bootorch.lab.fleet import LabOptions
from bootorch.runtime.load import load_plan
from bootorch.runtime.secrets import Secrets

TIMEOUT_S = 60.0


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def measure(way: str, read: Callable[[Host, float], Awaitable[Reply]], hosts: Iterable[Host]) -> None:
    most = 0

    async def one(host: Host) -> bool:
        nonlocal most
        reply = await read(host, TIMEOUT_S)
        most = max(most, descriptors())
        return reply.ok

    began, cpu = time.perf_counter(), time.process_time()
    answered = await asyncio.gather(*(one(host) for host in hosts))
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    each = f"{1e3 * used / len(answered):.1f} ms CPU each, {most} descriptors"
    print(f"{way:8} {sum(answered):,} of {len(answered):,} in {wall:.1f} s, {each}")


async def both(plan: Plan, directory: Path) -> None:
    secrets = Secrets(base_dir=directory)
    redfish, ipmi = RedfishDraw(plan.site, secrets, secrets, directory), IpmiPower(plan.site, secrets)
    hosts = list(plan.hosts.values())
    for way, read in (("redfish", redfish.host), ("ipmi", ipmi.meter)):
        await read(hosts[0], TIMEOUT_S)  # what is imported and made once is not counted
        await measure(way, read, hosts)
    await redfish.aclose()
    await ipmi.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=300)
    hosts = parser.parse_args().hosts
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "lab"
        lab = control.up(LabOptions(hosts=hosts, directory=directory, redfish=True, lifetime_s=600.0))
        try:
            asyncio.run(both(load_plan(lab.plan).plan, directory))
        finally:
            control.down(directory)


if __name__ == "__main__":
    main()
