"""Readiness checks that need no login: TCP, HTTP and DNS. Each opens one connection to an address that the caller has
put before the fence, asks once, and answers with a Reply. Bounded by the caller's timeout; see ``drivers.reach``."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from bootorch.core.model import DnsCheck, Endpoint, HttpCheck, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Reply

if TYPE_CHECKING:
    from yarl import URL


async def dial(endpoint: Endpoint) -> socket.socket | Reply:
    """A connected, non-blocking TCP socket that the caller must close, or why there is none.

    A refused port and an unreachable network answer at once; a dark host costs a socket until the caller's timeout.
    """
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    connected = False
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (endpoint.address, endpoint.port))
        connected = True
        return sock
    except OSError as error:
        return Reply(Reason.UNREACHABLE, f"{endpoint}: {describe_os_error(error)}")
    finally:
        if not connected:
            sock.close()


async def check_tcp(endpoint: Endpoint) -> Reply:
    """The port accepts a connection."""
    connection = await dial(endpoint)
    if isinstance(connection, Reply):
        return connection
    connection.close()
    return Reply(Reason.OK, f"{endpoint} accepts connections")


async def check_http(site: Site, check: HttpCheck, address: str = "") -> Reply:
    """GET ``check.url`` and compare the status. ``{address}`` in the URL is replaced by ``address``.

    Only an http(s) URL whose host is an address literal inside the site is asked: a name would need DNS, and could
    mean any machine. Redirects are not followed (they could lead outside), proxies of the environment are not used,
    and the body is not read. The URL's user information, path query and fragment never appear in the detail.
    """
    from yarl import URL  # with aiohttp: only when an HTTP check is made

    literal = f"[{address}]" if ":" in address else address
    try:
        url = URL(check.url.replace("{address}", literal))
    except ValueError as error:
        return Reply(Reason.CHECK_FAILED, f"not a URL: {_line(error)}")
    if url.scheme not in ("http", "https"):
        return Reply(Reason.CHECK_FAILED, f"an http check needs an http:// or https:// URL, not {url.scheme!r}")
    if not url.host or not (site.allows_host(url.host) or site.allows_bmc(url.host)):
        return Reply(
            Reason.OUTSIDE_SITE,
            f"{url.host or 'the URL'!s} is not an address inside the site; nothing was sent",
        )
    return await _get(url, check.status)


async def _get(url: URL, expected: int) -> Reply:
    import aiohttp

    shown = str(url.with_user(None).with_query(None).with_fragment(None))
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False, headers={"Connection": "close"}) as response,
        ):
            status, location = response.status, response.headers.get("Location", "")
            response.close()
    except aiohttp.ClientSSLError as error:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Reply(Reason.CHECK_FAILED, f"GET {shown}: the certificate is not trusted: {_line(error)}")
        return Reply(Reason.CHECK_FAILED, f"GET {shown}: TLS failed: {_line(error)}")
    except aiohttp.ClientConnectorError as error:
        return Reply(Reason.UNREACHABLE, f"GET {shown}: {describe_os_error(error.os_error)}")
    except aiohttp.ClientError as error:
        return Reply(Reason.CHECK_FAILED, f"GET {shown}: no HTTP answer: {_line(error) or type(error).__name__}")
    data = {"status": status}
    if status == expected:
        return Reply(Reason.OK, f"GET {shown}: {status}", data)
    redirect = ", a redirect, which is not followed" if location else ""
    return Reply(Reason.CHECK_FAILED, f"GET {shown}: {status}{redirect}; expected {expected}", data)


async def check_dns(check: DnsCheck, address: str) -> Reply:
    """Ask the host itself for ``check.name``; the answer must contain ``check.expect`` (any record, where empty).

    One question over UDP, again over TCP when the answer was cut (RFC 1035, 4.2.1). AAAA is asked when an IPv6
    address is expected, A otherwise. Datagrams that do not answer the question are ignored.
    """
    import dns.asyncquery
    import dns.exception
    import dns.message
    import dns.rcode

    server = Endpoint(address, check.port)
    kind = "AAAA" if ":" in check.expect else "A"
    asked = f"{server}: {check.name} {kind}"
    try:
        query = dns.message.make_query(check.name, kind)
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query, address, port=check.port, ignore_unexpected=True, ignore_errors=True
        )
    except dns.exception.DNSException as error:
        return Reply(Reason.CHECK_FAILED, f"{asked}: {_line(error)}")
    except (OSError, EOFError) as error:
        return Reply(Reason.UNREACHABLE, f"{asked}: {_line(error)}")
    if answer.rcode() != dns.rcode.NOERROR:
        return Reply(Reason.CHECK_FAILED, f"{asked}: answered {dns.rcode.to_text(answer.rcode())}")
    found = [
        record.to_text() for rrset in answer.answer if rrset.rdtype == query.question[0].rdtype for record in rrset
    ]
    shown = ", ".join(found[:4]) + (" …" if len(found) > 4 else "") or "nothing"
    if not found or (check.expect and check.expect not in found):
        return Reply(Reason.CHECK_FAILED, f"{asked}: answered {shown}; expected {check.expect or 'any address'}")
    return Reply(Reason.OK, f"{asked}: {shown}")


def describe_os_error(error: OSError) -> str:
    """The system's words for an error: asyncio puts words of its own, with the address again, into ``strerror``."""
    return os.strerror(error.errno).lower() if error.errno else _line(error) or type(error).__name__


def _line(error: BaseException) -> str:
    """An error's text as one short line (200 characters: a terminal's two lines)."""
    return " ".join(str(error).split())[:200]
