"""The Redfish services of a lab: what its BMCs and its PDU tell over TLS. One port on all addresses of 127.0.0.0/8.

``Service`` is one of them, pure: a request in, a response out. ``RedfishSocket`` listens; the address that was asked
says which service is meant, as it does for IPMI.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import ssl
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bootorch.core.secret import Secret
from bootorch.lab.chassis import LabChassis
from bootorch.lab.pktinfo import is_loopback
from bootorch.redfish.wire import ROOT, Json, Request, Response, link

if TYPE_CHECKING:
    from aiohttp import web

Clock = Callable[[], float]  # seconds since the lab got electricity
Tree = Callable[[str], Json | None]  # path without a slash at its end: the resource there

SESSIONS: Final = f"{ROOT}SessionService/Sessions"
PDU: Final = f"{ROOT}PowerEquipment/RackPDUs"
SYSTEM: Final = f"{ROOT}Systems/1"
CHASSIS: Final = f"{ROOT}Chassis/1"
MOST_SESSIONS: Final = 8  # OpenBMC: 64, iDRAC: 8
_MOST_BODY: Final = 1 << 16


class Service:
    """One Redfish service. ``resources``: what there is besides the sessions; ``token``: fresh texts that nobody
    guesses; ``sessions`` False: Basic authentication only."""

    def __init__(
        self, users: Mapping[bytes, Secret], resources: Tree, token: Callable[[], str], *, sessions: bool = True
    ) -> None:
        self._users = users
        self._resources = resources
        self._token = token
        self._offers_sessions = sessions
        self.sessions: dict[str, str] = {}  # token: path

    def respond(self, request: Request, headers: Mapping[str, str], body: bytes) -> Response:
        """``headers``: names in lower case; ``body`` of the request as it came."""
        path = request.path.rstrip("/")
        if path == ROOT.rstrip("/"):
            if request.method != "GET":
                return _error(405, "OperationNotAllowed")
            return _ok({**(self._resources(path) or {}), **(_LINKS if self._offers_sessions else {})})
        if self._offers_sessions and path == SESSIONS and request.method == "POST":
            return self._login(body)
        if not self._known(headers):
            return _error(401, "NoValidSession")
        if request.method == "DELETE" and path in self.sessions.values():
            self.sessions = {token: own for token, own in self.sessions.items() if own != path}
            return Response(204, {}, b"")
        if request.method != "GET":
            return _error(405, "OperationNotAllowed")
        found = self._resources(path)
        return _error(404, "ResourceMissingAtURI") if found is None else _ok(found)

    def _login(self, body: bytes) -> Response:
        try:
            said = json.loads(body)
            user, password = str(said["UserName"]).encode(), str(said["Password"]).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            return _error(400, "MalformedJSON")
        if not self._fits(user, password):
            return _error(401, "ResourceAtUriUnauthorized")
        if len(self.sessions) >= MOST_SESSIONS:
            return _error(503, "SessionLimitExceeded")
        token = self._token()
        path = self.sessions[token] = f"{SESSIONS}/{self._token()}"
        headers = {"X-Auth-Token": token, "Location": path}
        return Response(201, headers, json.dumps({"@odata.id": path, "UserName": user.decode()}).encode())

    def _known(self, headers: Mapping[str, str]) -> bool:
        if token := headers.get("x-auth-token"):
            return token in self.sessions
        scheme, _, value = headers.get("authorization", "").partition(" ")
        try:
            user, _, password = b64decode(value, validate=True).partition(b":")
        except (Base64Error, ValueError):
            return False
        return scheme == "Basic" and self._fits(user, password)

    def _fits(self, user: bytes, password: bytes) -> bool:
        own = self._users.get(user)
        return own is not None and hmac.compare_digest(own.reveal(), password)


_LINKS: Final = {"Links": {"Sessions": {"@odata.id": SESSIONS}}}


def _ok(body: Json) -> Response:
    return Response(200, {}, json.dumps(body).encode())


def _error(status: int, message: str) -> Response:
    info = [{"MessageId": f"Base.1.8.{message}", "Message": message}]
    return Response(
        status, {}, json.dumps({"error": {"code": f"Base.1.8.{message}", "@Message.ExtendedInfo": info}}).encode()
    )


# What there is


def bmc_resources(name: str, chassis: LabChassis, clock: Clock) -> Tree:
    """A server's BMC: one system, one chassis, its draw as EnvironmentMetrics and as the older Power."""

    def find(path: str) -> Json | None:
        now = clock()
        watts = chassis.power_watts(now)
        power = "On" if chassis.power_is_on(now) else "Off"
        return _tree(
            path,
            {
                ROOT: {**_root(), "Systems": _ref(f"{ROOT}Systems"), "Chassis": _ref(f"{ROOT}Chassis")},
                f"{ROOT}Systems": _collection("ComputerSystem", SYSTEM),
                SYSTEM: {"@odata.type": "#ComputerSystem.v1_16_0.ComputerSystem", "Name": name, "PowerState": power},
                f"{ROOT}Chassis": _collection("Chassis", CHASSIS),
                CHASSIS: {
                    "@odata.type": "#Chassis.v1_19_0.Chassis",
                    "Name": name,
                    "PowerState": power,
                    "EnvironmentMetrics": _ref(f"{CHASSIS}/EnvironmentMetrics"),
                    "Power": _ref(f"{CHASSIS}/Power"),
                    "Links": {"ComputerSystems": [_ref(SYSTEM)]},
                },
                f"{CHASSIS}/EnvironmentMetrics": {
                    "@odata.type": "#EnvironmentMetrics.v1_2_0.EnvironmentMetrics",
                    "PowerWatts": {"Reading": watts},
                },
                f"{CHASSIS}/Power": {
                    "@odata.type": "#Power.v1_7_0.Power",
                    "PowerControl": [{"MemberId": "0", "PowerConsumedWatts": watts, "RelatedItem": [_ref(CHASSIS)]}],
                },
            },
        )

    return find


def pdu_resources(feeds: Mapping[str, Callable[[], float]]) -> Tree:
    """A power distributor: a PDU for each feed, by the last part of its path, with what flows through it in watts."""

    def find(path: str) -> Json | None:
        found: dict[str, Json] = {
            ROOT: {**_root(), "PowerEquipment": _ref(f"{ROOT}PowerEquipment")},
            f"{ROOT}PowerEquipment": {"@odata.type": "#PowerEquipment.v1_2_0.PowerEquipment", "RackPDUs": _ref(PDU)},
            PDU: _collection("PowerDistribution", *(f"{PDU}/{name}" for name in feeds)),
        }
        for name, watts in feeds.items():
            if path.startswith(f"{PDU}/{name}"):
                own = f"{PDU}/{name}"
                drawn = {"PowerWatts": {"Reading": round(watts(), 1)}, "Status": {"State": "Enabled"}}
                found[own] = {
                    "@odata.type": "#PowerDistribution.v1_3_0.PowerDistribution",
                    "EquipmentType": "RackPDU",
                    "Metrics": _ref(f"{own}/Metrics"),
                    "Mains": _ref(f"{own}/Mains"),
                }
                found[f"{own}/Metrics"] = {
                    "@odata.type": "#PowerDistributionMetrics.v1_3_0.PowerDistributionMetrics", **drawn,
                }  # fmt: skip
                found[f"{own}/Mains"] = _collection("Circuit", f"{own}/Mains/AC1")
                found[f"{own}/Mains/AC1"] = {"@odata.type": "#Circuit.v1_7_0.Circuit", **drawn}
        return _tree(path, found)

    return find


def _root() -> dict[str, Any]:
    return {"@odata.type": "#ServiceRoot.v1_11_0.ServiceRoot", "Name": "bootorch lab", "RedfishVersion": "1.15.0"}


def _ref(path: str) -> dict[str, str]:
    return {"@odata.id": path}


def _collection(kind: str, *members: str) -> dict[str, Any]:
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "Members": [_ref(member) for member in members],
        "Members@odata.count": len(members),
    }


def _tree(path: str, resources: Mapping[str, Json]) -> Json | None:
    for own, body in resources.items():
        if own.rstrip("/") == path:
            return {"@odata.id": own, "Id": path.rpartition("/")[2], **body}
    return None


# The socket


class RedfishSocket:
    """``services``: address → service, and whether it answers now. OSError when the port is in use."""

    def __init__(
        self, port: int, services: Mapping[str, tuple[Service, Callable[[], bool]]], context: ssl.SSLContext
    ) -> None:
        self._services = services
        self._context = context
        self._server: asyncio.Server | None = None
        self._handlers: web.Server | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("0.0.0.0", port))  # noqa: S104 - who is not of this machine is refused in _handle
        except OSError:
            self._socket.close()
            raise

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        from aiohttp import web

        self._handlers = web.Server(self._handle, access_log=None)
        self._server = await asyncio.get_running_loop().create_server(
            self._handlers, sock=self._socket, ssl=self._context, backlog=1024
        )

    async def close(self) -> None:
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
        if self._handlers is not None:
            await self._handlers.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        transport = request.transport
        service, answers = None, False
        if transport is not None and is_loopback(transport.get_extra_info("peername")[0]):
            service, up = self._services.get(transport.get_extra_info("sockname")[0], (None, bool))
            answers = up()
        if transport is None or service is None or not answers:
            if transport is not None:
                transport.abort()  # a stranger, nobody there, or a BMC that is dead
            return web.Response(status=503)
        if (request.content_length or 0) > _MOST_BODY:
            return web.Response(status=413)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        found = service.respond(Request(request.method, link(request.path)), headers, body)
        return web.Response(
            status=found.status, headers={**found.headers, "OData-Version": "4.0"}, body=found.body,
            content_type="application/json",
        )  # fmt: skip


def server_context(certificate: Path) -> ssl.SSLContext:
    """From a PEM file with key and certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def self_signed(addresses: Iterator[str] | tuple[str, ...] = ()) -> tuple[str, str]:
    """A fresh key and certificate as PEM, signed by itself as a BMC's is, and its SHA-256 in hexadecimal."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bootorch lab")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names := [x509.IPAddress(ip_address(address)) for address in addresses]:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private + certificate.public_bytes(Encoding.PEM).decode(), certificate.fingerprint(hashes.SHA256()).hex()
