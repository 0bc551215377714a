"""Checks without a login, against real sockets: a TCP listener, an aiohttp server, a DNS responder; and the fence."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from aiohttp import web

from bootorch.core.model import Check, CommandCheck, DnsCheck, Endpoint, Host, HttpCheck, Site, SshCheck, TcpCheck
from bootorch.core.reasons import Reason
from bootorch.drivers.reach import Reach
from tests.drivers.sshd import free_port

SITE = Site(bmc_networks=(ip_network("127.9.0.0/16"),), host_networks=(ip_network("127.8.0.0/16"),))
ADDRESS = "127.8.0.1"
HOST = Host("n1", "web", Endpoint("127.9.0.1", 623), "", None, ADDRESS, ssh_user="nobody")


@pytest.fixture
def reach(tmp_path: Path) -> Reach:
    return Reach(SITE, tmp_path / "known_hosts")


@contextmanager
def listening(*, backlog: int = 5) -> Iterator[int]:
    """A TCP port that accepts connections and never says a word."""
    with socket.socket() as listener:
        port = free_port(ADDRESS)
        listener.bind((ADDRESS, port))
        listener.listen(backlog)
        yield port


async def test_a_listening_port_is_ready_and_a_closed_one_is_not(reach: Reach) -> None:
    with listening() as port:
        assert (await reach.check(HOST, TcpCheck(port), 5)).ok
    refused = await reach.check(HOST, TcpCheck(port), 5)
    assert refused.reason is Reason.UNREACHABLE
    assert refused.detail == f"{ADDRESS}:{port}: connection refused"


async def test_a_dark_host_costs_the_timeout_and_no_more(reach: Reach) -> None:
    """A full backlog drops SYN packets, as a host without power does."""
    with listening(backlog=0) as port, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex((ADDRESS, port))
        started = time.monotonic()
        reply = await reach.boot_evidence(replace(HOST, ssh_port=port), 0.5)
        assert reply.reason is Reason.UNREACHABLE
        assert "connecting" in reply.detail
        assert 0.4 < time.monotonic() - started < 5


async def test_an_ssh_server_that_never_speaks_is_unreachable(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("# nobody\n")
    with listening() as port:
        reply = await Reach(SITE, known).check(replace(HOST, ssh_port=port), SshCheck(), 1)
    assert reply.reason is Reason.UNREACHABLE
    assert "waiting for the SSH login" in reply.detail


async def test_the_wait_for_a_login_slot_is_told_apart_from_a_dark_host(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("# nobody\n")
    reach = Reach(SITE, known, logins_at_once=1)
    with listening() as port:
        host = replace(HOST, ssh_port=port)
        await reach.check(host, SshCheck(), 1)
        replies = await asyncio.gather(reach.check(host, SshCheck(), 2), reach.check(host, SshCheck(), 1))
    assert "waiting for one of the 1 logins" in replies[1].detail


async def test_a_server_that_is_no_ssh_server_fails_the_check(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("# nobody\n")

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ESMTP\r\n" + b"x" * 9000)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, ADDRESS, free_port(ADDRESS)) as server:
        port = server.sockets[0].getsockname()[1]
        reply = await Reach(SITE, known).check(replace(HOST, ssh_port=port), SshCheck(), 5)
    assert reply.reason in (Reason.CHECK_FAILED, Reason.UNREACHABLE)
    assert "\n" not in reply.detail


# HTTP


@asynccontextmanager
async def http_server() -> AsyncIterator[int]:
    async def status(request: web.Request) -> web.Response:
        code = int(request.match_info["code"])
        headers = {"Location": "http://192.0.2.1/"} if code == 302 else {}
        return web.Response(status=code, text="body", headers=headers)

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return web.Response()

    app = web.Application()
    app.router.add_get("/status/{code}", status)
    app.router.add_get("/hang", hang)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port(ADDRESS)
    await web.TCPSite(runner, ADDRESS, port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def test_http_status_decides(reach: Reach) -> None:
    async with http_server() as port:
        base = "http://{address}:" + str(port)
        ready = await reach.check(HOST, HttpCheck(base + "/status/200"), 5)
        assert (ready.reason, ready.data["status"]) == (Reason.OK, 200)
        assert (await reach.check(HOST, HttpCheck(base + "/status/204", status=204), 5)).ok
        failed = await reach.check(HOST, HttpCheck(base + "/status/503?token=hidden"), 5)
        assert failed.reason is Reason.CHECK_FAILED
        assert "503; expected 200" in failed.detail
        assert "hidden" not in failed.detail
        moved = await reach.check(HOST, HttpCheck(base + "/status/302"), 5)
        assert moved.reason is Reason.CHECK_FAILED
        assert "not followed" in moved.detail
        late = await reach.check(HOST, HttpCheck(base + "/hang"), 0.5)
        assert late.reason is Reason.UNREACHABLE
        gate = await reach.check_url(HttpCheck(f"http://{ADDRESS}:{port}/status/200"), 5)
        assert gate.ok
        secure = await reach.check(HOST, HttpCheck(f"https://{ADDRESS}:{port}/status/200"), 5)
        assert secure.reason is Reason.CHECK_FAILED
    refused = await reach.check(HOST, HttpCheck(base + "/status/200"), 5)
    assert refused.reason is Reason.UNREACHABLE


async def test_http_without_http_fails_the_check(reach: Reach) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"SSH-2.0-x\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, ADDRESS, free_port(ADDRESS)) as server:
        port = server.sockets[0].getsockname()[1]
        reply = await reach.check(HOST, HttpCheck(f"http://{ADDRESS}:{port}/"), 5)
    assert reply.reason is Reason.CHECK_FAILED


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/",
        "http://127.8.0.1@192.0.2.1/",
        "http://localhost/",
        "http://127.8.1/",
        "http://2131230721/",
        "http://[::1]/",
        "http:///path",
        "http://{address}.example.org/",
    ],
)
async def test_a_url_outside_the_site_is_never_asked(reach: Reach, url: str) -> None:
    reply = await reach.check(HOST, HttpCheck(url), 5)
    assert reply.reason is Reason.OUTSIDE_SITE
    assert (await reach.check_url(HttpCheck(url), 5)).reason is Reason.OUTSIDE_SITE


@pytest.mark.parametrize("url", ["ftp://127.8.0.1/", "http://127.8.0.1:99999/", "file:///etc/passwd"])
async def test_a_url_that_is_no_http_url_fails(reach: Reach, url: str) -> None:
    assert (await reach.check(HOST, HttpCheck(url), 5)).reason is Reason.CHECK_FAILED


async def test_a_gate_may_be_on_the_bmc_network(reach: Reach) -> None:
    reply = await reach.check_url(HttpCheck(f"http://127.9.0.1:{free_port('127.9.0.1')}/chillers"), 5)
    assert reply.reason is Reason.UNREACHABLE  # asked, and refused by the port


async def test_a_gate_can_only_ask_http(reach: Reach) -> None:
    assert (await reach.check_url(TcpCheck(22), 5)).reason is Reason.CHECK_FAILED


# DNS


@asynccontextmanager
async def dns_server(answer: Callable[[dns.message.Message], list[bytes]]) -> AsyncIterator[int]:
    """A DNS server over UDP: ``answer`` makes the datagrams that answer one query."""

    class Responder(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            for datagram in answer(dns.message.from_wire(data)):
                self.transport.sendto(datagram, addr)

    port = free_port(ADDRESS)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Responder, local_addr=(ADDRESS, port))
    try:
        yield port
    finally:
        transport.close()


def zone(query: dns.message.Message) -> list[bytes]:
    response = dns.message.make_response(query)
    question = query.question[0]
    records = {("a.internal.", "A"): "10.30.0.1", ("six.internal.", "AAAA"): "fd00::1"}
    kind = {1: "A", 28: "AAAA"}.get(question.rdtype, "")
    if text := records.get((question.name.to_text(), kind)):
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, text))
    elif not question.name.to_text().startswith("empty."):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return [response.to_wire()]


async def test_dns_readiness_is_the_expected_answer(reach: Reach) -> None:
    async with dns_server(zone) as port:
        assert (await reach.check(HOST, DnsCheck("a.internal", "10.30.0.1", port), 5)).ok
        assert (await reach.check(HOST, DnsCheck("a.internal", "", port), 5)).ok
        assert (await reach.check(HOST, DnsCheck("six.internal", "fd00::1", port), 5)).ok
        other = await reach.check(HOST, DnsCheck("a.internal", "10.30.0.2", port), 5)
        assert other.reason is Reason.CHECK_FAILED
        assert "answered 10.30.0.1; expected 10.30.0.2" in other.detail
        missing = await reach.check(HOST, DnsCheck("b.internal", "", port), 5)
        assert missing.reason is Reason.CHECK_FAILED
        assert "NXDOMAIN" in missing.detail
        empty = await reach.check(HOST, DnsCheck("empty.internal", "", port), 5)
        assert empty.reason is Reason.CHECK_FAILED
        assert "answered nothing" in empty.detail


async def test_dns_ignores_datagrams_that_are_no_answer_and_waits_for_one(reach: Reach) -> None:
    def noisy(query: dns.message.Message) -> list[bytes]:
        stranger = dns.message.make_response(query)
        stranger.id ^= 1
        return [b"\x00", stranger.to_wire(), *zone(query)]

    async with dns_server(noisy) as port:
        assert (await reach.check(HOST, DnsCheck("a.internal", "10.30.0.1", port), 5)).ok


async def test_dns_that_does_not_answer_is_unreachable(reach: Reach) -> None:
    async with dns_server(lambda query: []) as port:
        reply = await reach.check(HOST, DnsCheck("a.internal", "", port), 0.5)
    assert (reply.reason, reply.detail) == (
        Reason.UNREACHABLE,
        f"{ADDRESS}:{port}: a.internal: nothing within 0.5 s",
    )
    closed = await reach.check(HOST, DnsCheck("a.internal", "", port), 0.5)
    assert closed.reason is Reason.UNREACHABLE


async def test_a_name_that_is_no_dns_name_fails_the_check(reach: Reach) -> None:
    assert (await reach.check(HOST, DnsCheck("a..internal", ""), 1)).reason is Reason.CHECK_FAILED


# The fence


@pytest.mark.parametrize(
    "check", [SshCheck(), CommandCheck("true"), TcpCheck(22), HttpCheck("http://{address}/"), DnsCheck("a.internal")]
)
@pytest.mark.parametrize("address", ["127.7.0.1", "127.9.0.1", "localhost", ""])
async def test_nothing_leaves_for_a_host_outside_the_site(reach: Reach, check: Check, address: str) -> None:
    assert (await reach.check(replace(HOST, address=address), check, 5)).reason is Reason.OUTSIDE_SITE


async def test_no_evidence_is_asked_outside_the_site(reach: Reach) -> None:
    reply = await reach.boot_evidence(replace(HOST, address="192.0.2.1"), 5)
    assert reply.reason is Reason.OUTSIDE_SITE
