"""BMCs on real UDP sockets of 127.0.0.0/8, and a way to log in to them as a driver does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import cast

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis

PASSWORD = "s3cretpw"
SITE = Site(bmc_networks=(ip_network("127.0.0.0/8"),), host_networks=())


class Secrets:
    """``SecretStore`` with one password for all, or none."""

    def __init__(self, password: str | None = PASSWORD) -> None:
        self.password = password

    def bmc_password(self, host: Host) -> Secret | None:
        return None if self.password is None else Secret(self.password)

    def bmc_key(self, host: Host) -> Secret | None:
        return None

    def why(self, host: Host) -> str:
        return "the vault is sealed"


def host(endpoint: Endpoint, user: str = "admin", **facts: str) -> Host:
    return Host("web1", "web", endpoint, user, None, "127.0.0.1", facts=facts)


def nothing(data: bytes) -> bool:
    return False


@dataclass
class Served:
    """A BMC behind a socket: what was asked of it, and what it is to swallow."""

    bmc: Bmc
    chassis: MemoryChassis
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("", 0))
    commands: list[str] = field(default_factory=list)
    datagrams: int = 0
    peers: set[tuple[str, int]] = field(default_factory=set)
    swallow: Callable[[bytes], bool] = nothing  # requests that get no answer


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, served: Served) -> None:
        self.served = served
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.served.datagrams += 1
        self.served.peers.add(addr)
        answers = self.served.bmc.receive_datagram(data, addr, asyncio.get_running_loop().time())
        for answer in [] if self.served.swallow(data) else answers:
            self.transport.sendto(answer, addr)
        self.set_timer()

    def set_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        due = self.served.bmc.next_timer()
        self.timer = None if due is None else asyncio.get_running_loop().call_at(due, self.unasked)

    def unasked(self) -> None:
        """Output of the serial console."""
        for packet, peer in self.served.bmc.handle_timer(asyncio.get_running_loop().time()):
            self.transport.sendto(packet, cast(tuple[str, int], peer))
        self.set_timer()


@asynccontextmanager
async def bmc(
    chassis: MemoryChassis | None = None, address: str = "127.0.0.1", udp_port: int = 0, **options: object
) -> AsyncIterator[Served]:
    """A BMC with user admin on a free port of ``address``, or on ``udp_port``."""
    machine = chassis or MemoryChassis()
    commands: list[str] = []
    arguments: dict[str, object] = {
        "users": {b"admin": Secret(PASSWORD)},
        "guid": os.urandom(16),
        "chassis": machine,
        "random": os.urandom,
        "observe": lambda name, peer, code: commands.append(name),
    }
    served = Served(Bmc(**(arguments | options)), machine, commands=commands)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(served), local_addr=(address, udp_port))
    served.endpoint = Endpoint(*transport.get_extra_info("sockname")[:2])
    served.bmc.port = served.endpoint.port  # serial over LAN names it
    try:
        yield served
    finally:
        transport.close()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn
