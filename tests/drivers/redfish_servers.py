"""Redfish services on real TLS sockets of 127.0.0.0/8: honest ones, and those that lie below HTTP."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import count
from pathlib import Path

from bootorch.core.errors import Problem
from bootorch.core.model import Endpoint, Host, RedfishMeter, Site
from bootorch.core.secret import Secret, SecretKind, SecretRef
from bootorch.lab.redfish import RedfishSocket, Service, self_signed, server_context
from bootorch.redfish.wire import ROOT, Json

PASSWORD = "Mark3dPassw0rd"
USERS = {b"admin": Secret(PASSWORD)}
SITE = Site(bmc_networks=(ip_network("127.0.0.0/8"),), host_networks=())
PDU = f"{ROOT}PowerEquipment/RackPDUs/1"
PASSWORD_FILE = SecretRef(SecretKind.FILE, "secrets/pdu")


@dataclass
class Secrets:
    """``SecretStore`` and ``MeterSecrets`` with one password for all, or none."""

    password: str | None = PASSWORD

    def bmc_password(self, host: Host) -> Secret | None:
        return None if self.password is None else Secret(self.password)

    def bmc_key(self, host: Host) -> Secret | None:
        return None

    def why(self, host: Host) -> str:
        return "the vault is sealed"

    def meter_password(self, meter: RedfishMeter) -> Secret | Problem:
        return Problem("there is no such file", "secrets/pdu") if self.password is None else Secret(self.password)


@dataclass
class Tls:
    """A certificate for 127.0.0.1, its file and its fingerprint."""

    file: Path
    fingerprint: str

    @classmethod
    def made(cls, path: Path, *addresses: str) -> Tls:
        pem, fingerprint = self_signed(addresses or ("127.0.0.1",))
        path.write_text(pem)
        return cls(path, fingerprint)

    @property
    def pinned(self) -> str:
        return f"sha256:{self.fingerprint}"

    @property
    def context(self) -> ssl.SSLContext:
        return server_context(self.file)


@dataclass
class Served:
    service: Service
    endpoint: Endpoint
    asked: list[str] = field(default_factory=list)

    def host(self, tls: Tls | str, **facts: str) -> Host:
        pinned = tls if isinstance(tls, str) else tls.pinned
        return host_at(self.endpoint, redfish_tls=pinned, **facts)

    def meter(self, tls: Tls | str, path: str = PDU, user: str = "admin") -> RedfishMeter:
        return RedfishMeter(
            f"https://{self.endpoint}{path}", user, PASSWORD_FILE, tls if isinstance(tls, str) else tls.pinned
        )


def host_at(endpoint: Endpoint, **facts: str) -> Host:
    named = {"draw_by": "redfish", "redfish_port": str(endpoint.port), **facts}
    return Host("web1", "web", Endpoint(endpoint.address, 623), "admin", None, "127.0.0.1", facts=named)


def server_tree(watts: object = 212.5) -> dict[str, Json]:
    """A BMC with one chassis."""
    return {
        ROOT: {"Chassis": {"@odata.id": f"{ROOT}Chassis"}},
        f"{ROOT}Chassis": {"Members": [{"@odata.id": f"{ROOT}Chassis/1"}]},
        f"{ROOT}Chassis/1": {"EnvironmentMetrics": {"@odata.id": f"{ROOT}Chassis/1/EnvironmentMetrics"}},
        f"{ROOT}Chassis/1/EnvironmentMetrics": {"PowerWatts": {"Reading": watts}},
        PDU: {"@odata.type": "#Circuit.v1_7_0.Circuit", "PowerWatts": {"Reading": watts}},
    }


@asynccontextmanager
async def served(
    tls: Tls, tree: Mapping[str, Json] | None = None, address: str = "127.0.0.1", *, sessions: bool = True
) -> AsyncIterator[Served]:
    numbers = count()
    found = {path.rstrip("/"): body for path, body in (tree or server_tree()).items()}
    asked: list[str] = []

    def resource(path: str) -> Json | None:
        asked.append(path)
        return found.get(path)

    service = Service(USERS, resource, lambda: f"t{next(numbers)}", sessions=sessions)
    sock = RedfishSocket(0, {address: (service, lambda: True)}, tls.context)
    await sock.start()
    try:
        yield Served(service, Endpoint(address, sock.port), asked)
    finally:
        await sock.close()
        await asyncio.sleep(0)


Hand = Callable[[str, bytes, asyncio.StreamWriter], Awaitable[bytes | None]]


@asynccontextmanager
async def liar(context: ssl.SSLContext | None, hand: Hand, address: str = "127.0.0.1") -> AsyncIterator[Endpoint]:
    """``hand``: request line and body in, the bytes of the response out; None: nothing, the connection stays open."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                length = next((int(x[15:]) for x in lines if x.lower().startswith("content-length:")), 0)
                said = await hand(lines[0].rpartition(" ")[0], await reader.readexactly(length), writer)
                if said is None:
                    await asyncio.sleep(3600)
                elif not said:
                    writer.transport.abort()
                    return
                writer.write(said or b"")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, address, 0, ssl=context)
    try:
        yield Endpoint(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def http(body: object, status: int = 200, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
