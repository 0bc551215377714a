"""Requests and responses of Redfish as values, and what may be believed of them (DSP0266).

Everything that a service says is data from outside: bodies are bounded before they are parsed, links have to be plain
paths of the same service, and only message identifiers are shown to people, because the text of a message may repeat
what was sent (a ``PropertyValueFormatError`` quotes the value, and that may be a password).
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from bootorch.core.secret import Secret

ROOT: Final = "/redfish/v1/"
MOST_BYTES: Final = 1 << 20  # of a body, unpacked; the largest resources of servers have some 100 KiB
MOST_WATTS: Final = 1e12  # as ``core.units``

# Characters of RFC 3986 in a path, nothing else: no query, no blank, no control character.
_PATH: Final = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,510}")
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")

Json = Mapping[str, Any]


class Request(NamedTuple):
    """``body``: values may be secrets, which are spelt out only by :func:`encode`. ``again``: it may be sent once more
    where a connection that was kept open breaks before anything is answered (GET and DELETE always may)."""

    method: str
    path: str
    body: Mapping[str, str | Secret] | None = None
    again: bool = False


class Auth(NamedTuple):
    """The token of a session, or user and password for HTTP Basic authentication (DSP0266, 13.3)."""

    secret: Secret
    user: str | None = None


class Signed(NamedTuple):
    """A request that may leave: over TLS only. ``identity``: the answer must not be packed."""

    request: Request
    auth: Auth | None = None
    identity: bool = True


class Response(NamedTuple):
    """``headers``: names in lower case; ``body`` as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def encode(signed: Signed) -> tuple[dict[str, str], bytes]:
    """Headers and body, secrets in clear: for the moment of sending and nothing else."""
    headers = {"Accept": "application/json", "OData-Version": "4.0"}
    if signed.identity:
        headers["Accept-Encoding"] = "identity"
    if signed.auth is not None:
        secret = signed.auth.secret.reveal()
        if signed.auth.user is None:
            headers["X-Auth-Token"] = secret.decode("ascii")
        else:
            headers["Authorization"] = "Basic " + b64encode(signed.auth.user.encode() + b":" + secret).decode()
    if signed.request.body is None:
        return headers, b""
    headers["Content-Type"] = "application/json"
    plain = {
        name: value.reveal().decode() if isinstance(value, Secret) else value
        for name, value in signed.request.body.items()
    }
    return headers, json.dumps(plain).encode()


def document(response: Response) -> Json | None:
    """The JSON object of a body; None where it holds none, or more than ``MOST_BYTES``."""
    body = response.body
    try:
        if response.headers.get("content-encoding", "identity").lower() in ("gzip", "deflate"):
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: the header says which of the two
            body = unpacker.decompress(body, MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            return None
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError, zlib.error):
        return None
    return found if isinstance(found, dict) else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def link(value: object) -> str:
    """The path that a reference (``{"@odata.id": ...}``) or text names; empty where it is none of this service.

    An absolute URL counts by its path, because that is asked of the same service whatever host it names.

    >>> link({"@odata.id": "/redfish/v1/Chassis/1/Power#/PowerControl/0"}), link("https://10.0.0.9/redfish/v1/S/3")
    ('/redfish/v1/Chassis/1/Power', '/redfish/v1/S/3')
    >>> link("//elsewhere/redfish"), link({"@odata.id": 3}), link("/a b")
    ('', '', '')
    """
    if isinstance(value, Mapping):
        value = value.get("@odata.id")
    if not isinstance(value, str) or len(value) > 1024:
        return ""
    path = value.partition("#")[0]
    if path.startswith(("https://", "http://")):
        try:
            path = urlsplit(path).path
        except ValueError:
            return ""
    return path if _PATH.fullmatch(path) and "/../" not in f"{path}/" else ""


def links(value: object) -> tuple[str, ...]:
    """The paths of an array of references, each once, in their order; a single reference is an array of one."""
    items: Sequence[object] = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(path for item in items if (path := link(item))))


def same(one: str, other: str) -> bool:
    """Whether two paths name one resource: a slash at the end is of no importance."""
    return one.rstrip("/") == other.rstrip("/")


def part(value: object, *names: str) -> Any:
    """``value[name][name]…``; None where any of them is not there."""
    for name in names:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def watts(value: object) -> float | None:
    """A power that can be believed: a number, or text that is one (see ``quirks.WATTS_AS_TEXT``)."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", value, re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MOST_WATTS else None


def messages(body: Json | None) -> tuple[str, ...]:
    """Identifiers of the messages of an error response (DSP0266, 8.6), such as ``Base.1.8.InsufficientPrivilege``."""
    error = part(body, "error")
    found = [part(error, "code")]
    extended = part(error, "@Message.ExtendedInfo")
    if isinstance(extended, list):
        found += [part(item, "MessageId") for item in extended[:8]]
    return tuple(
        dict.fromkeys(item for item in found if isinstance(item, str) and _MESSAGE_ID.fullmatch(item)),
    )
