"""Chassis status of N BMCs over real UDP: CPU and memory of our side per BMC, and the wall time.

    python benchmarks/ipmi_status.py [--bmcs 300] [--rounds 3] [--in-flight 64]

The BMCs are ours, on a socket each of 127.0.0.0/8, in a process of their own, so that their CPU does not count. A
round asks every BMC once: discovery, login with cipher suite 17, Get Chassis Status, Close Session.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import time
from ipaddress import ip_network
from multiprocessing.connection import Connection

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.secret import Secret
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis

PASSWORD = "benchmark"
MAX_BMCS = 900  # a socket each: below the usual limit of 1,024 open files


class Service(asyncio.DatagramProtocol):
    def __init__(self, bmc: Bmc) -> None:
        self.bmc = bmc
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        for answer in self.bmc.receive_datagram(data, addr, time.monotonic()):
            self.transport.sendto(answer, addr)


def serve(bmcs: int, pipe: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ports = []
        for n in range(bmcs):
            users = {b"admin": Secret(PASSWORD)}
            bmc = Bmc(users=users, guid=os.urandom(16), chassis=MemoryChassis(), random=os.urandom)
            address = f"127.1.{n // 250}.{n % 250 + 1}"
            transport, _ = await loop.create_datagram_endpoint(lambda b=bmc: Service(b), local_addr=(address, 0))
            ports.append(transport.get_extra_info("sockname")[:2])
        pipe.send(ports)
        await loop.run_in_executor(None, pipe.poll, None)  # until the other end closes

    asyncio.run(main())


class Secrets:
    def bmc_password(self, host: Host) -> Secret:
        return Secret(PASSWORD)

    def why(self, host: Host) -> str:
        return ""


async def measure(endpoints: list[tuple[str, int]], rounds: int, in_flight: int) -> None:
    power = IpmiPower(Site((ip_network("127.0.0.0/8"),), ()), Secrets())
    hosts = [Host(f"n{n}", "all", Endpoint(*end), "admin", None, end[0]) for n, end in enumerate(endpoints)]
    slots = asyncio.Semaphore(in_flight)

    async def ask(host: Host) -> float:
        async with slots:
            began = time.perf_counter()
            reply = await power.read(host, 20)
            if not reply.ok:
                raise SystemExit(f"{host.name}: {reply.reason} {reply.detail}")
            return time.perf_counter() - began

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1, rounds + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        times = sorted(await asyncio.gather(*map(ask, hosts)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(
            f"round {number}: {len(hosts)} BMCs in {wall:.3f} s, {cpu / len(hosts) * 1e3:.3f} ms CPU per BMC, "
            f"median {times[len(times) // 2] * 1e3:.1f} ms, worst {times[-1] * 1e3:.1f} ms"
        )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"memory: {grown / len(hosts):.1f} KiB per BMC more at the peak than before")
    await power.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bmcs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=64)
    options = parser.parse_args()
    if not 1 <= options.bmcs <= MAX_BMCS:
        parser.error(f"--bmcs must be between 1 and {MAX_BMCS}")
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(options.bmcs, theirs))
    child.start()
    theirs.close()
    try:
        asyncio.run(measure(ours.recv(), options.rounds, options.in_flight))
    finally:
        ours.send("end")
        child.join(5)
        if child.is_alive():
            child.kill()


if __name__ == "__main__":
    main()
