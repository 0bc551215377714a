"""The Redfish driver over real TLS: whom it trusts, what it closes, and what lies below HTTP do to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from bootorch.core.model import Endpoint, RedfishMeter, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import DrawDriver, Reply
from bootorch.drivers.redfish import RedfishDraw
from bootorch.lab.redfish import MOST_SESSIONS
from bootorch.redfish.wire import MOST_BYTES, ROOT
from tests.drivers.redfish_servers import (
    PASSWORD,
    PASSWORD_FILE,
    PDU,
    SITE,
    Secrets,
    Tls,
    host_at,
    http,
    liar,
    served,
    server_tree,
)

READING = f"{ROOT}Chassis/1/EnvironmentMetrics#/PowerWatts/Reading"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls.made(tmp_path_factory.mktemp("tls") / "bmc.pem")


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[RedfishDraw]:
    secrets = Secrets()
    draw = RedfishDraw(SITE, secrets, secrets, tmp_path)
    yield draw
    await draw.aclose()


def is_driver(draw: RedfishDraw) -> DrawDriver:
    return draw  # the type checker's proof that the Protocol is met


# Whom it trusts


async def test_a_pinned_certificate_a_hosts_draw_and_a_session_that_is_closed(driver: RedfishDraw, tls: Tls) -> None:
    async with served(tls) as bmc:
        reply = await driver.host(bmc.host(tls), 10)
        assert reply == Reply(Reason.OK, "draws 212.5 W", {"watts": 212.5, "source": READING})
        assert not bmc.service.sessions


async def test_a_feeds_draw_with_and_without_sessions(driver: RedfishDraw, tls: Tls) -> None:
    for sessions in (True, False):
        async with served(tls, server_tree(6400), sessions=sessions) as pdu:
            reply = await driver.feed(pdu.meter(tls), 10)
            assert reply.data == {"watts": 6400.0, "source": f"{PDU}#/PowerWatts/Reading"}
            assert not pdu.service.sessions


async def test_another_certificate_gets_no_password(driver: RedfishDraw, tls: Tls, tmp_path: Path) -> None:
    other = Tls.made(tmp_path / "other.pem")
    async with served(other) as bmc:
        for tls_said, said in (
            (tls.pinned, f"sha256:{bytes.fromhex(other.fingerprint).hex(':')}"),
            ("system", "self-signed certificate"),
            ("", "redfish_tls"),
            (f"ca:{tls.file}", "self-signed certificate"),
        ):
            reply = await driver.host(bmc.host(tls_said), 10)
            assert reply.reason is Reason.BMC_CERTIFICATE
            assert said in reply.detail
        assert bmc.asked == [], "not even the root was asked for"


async def test_an_authority_and_the_name_in_the_certificate(driver: RedfishDraw, tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(tls.file.read_text())
    async with served(tls) as bmc:
        assert (await driver.host(bmc.host("ca:ca.pem"), 10)).ok, "relative to the plan"
        reply = await driver.host(bmc.host("ca:ca.pem", redfish_name="127.0.0.2"), 10)
        assert reply.reason is Reason.BMC_CERTIFICATE
        assert "127.0.0.2" in reply.detail
        assert (await driver.host(bmc.host("insecure"), 10)).ok
        for missing in ("ca:nosuch.pem", "sha256:12"):
            assert (await driver.host(bmc.host(missing), 10)).reason is Reason.BMC_CERTIFICATE


async def test_ipv6(driver: RedfishDraw, tmp_path: Path) -> None:
    tls, tree = Tls.made(tmp_path / "bmc.pem", "::1"), server_tree()

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        return http(tree[line.split()[1]])

    secrets = Secrets()
    here = RedfishDraw(Site((ip_network("::1/128"),), ()), secrets, secrets, tmp_path)
    try:
        async with liar(tls.context, hand, "::1") as endpoint:
            assert (await here.host(host_at(endpoint, redfish_tls="ca:bmc.pem"), 10)).ok
            meter = RedfishMeter(f"https://{endpoint}{PDU}", "admin", PASSWORD_FILE, tls.pinned)
            assert (await here.feed(meter, 10)).ok
            assert (await driver.feed(meter, 10)).reason is Reason.OUTSIDE_SITE
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


async def test_what_speaks_no_tls_gets_no_password(driver: RedfishDraw) -> None:
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    endpoint = Endpoint(*server.sockets[0].getsockname()[:2])
    reply = await driver.host(host_at(endpoint, redfish_tls="insecure"), 10)
    server.close()
    assert reply.reason is Reason.BMC_PROTOCOL
    assert "TLS failed" in reply.detail
    assert heard[0] == 0x16, "a TLS handshake (RFC 8446, 5.1) and nothing else"
    assert b"HTTP" not in heard


# Where it may not go


async def test_outside_the_site_nothing_is_sent(tls: Tls, tmp_path: Path) -> None:
    secrets = Secrets()
    elsewhere = RedfishDraw(Site((ip_network("127.1.0.0/16"),), ()), secrets, secrets, tmp_path)
    async with served(tls) as bmc:
        named = replace(bmc.host(tls), bmc=Endpoint("localhost", 623))
        for reply in (
            await elsewhere.host(bmc.host(tls), 1),
            await elsewhere.host(named, 1),
            await elsewhere.feed(bmc.meter(tls), 1),
            await elsewhere.feed(replace(bmc.meter(tls), url=f"https://localhost:{bmc.endpoint.port}{PDU}"), 1),
            await elsewhere.feed(replace(bmc.meter(tls), url=f"http://127.1.0.1{PDU}"), 1),
        ):
            assert reply.reason is Reason.OUTSIDE_SITE
            assert "nothing was sent" in reply.detail
        assert bmc.asked == []


async def test_redirects_and_links_do_not_lead_elsewhere(driver: RedfishDraw, tls: Tls) -> None:
    async with served(tls) as other:

        async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
            return http({}, 302, f"Location: https://{other.endpoint}{ROOT}")

        async with liar(tls.context, hand) as endpoint:
            reply = await driver.host(host_at(endpoint, redfish_tls=tls.pinned), 10)
        assert reply.reason is Reason.BMC_PROTOCOL
        assert "redirect" in reply.detail
        tree = server_tree()
        tree[f"{ROOT}Chassis"] = {"Members": [{"@odata.id": f"https://{other.endpoint}{ROOT}Chassis/1"}]}
        async with served(tls, tree, "127.0.0.3") as bmc:
            assert (await driver.host(bmc.host(tls), 10)).ok, "its path is asked of the service itself"
        assert other.asked == []


# Passwords


async def test_a_wrong_password_is_sent_twice_in_all(tls: Tls, tmp_path: Path) -> None:
    secrets = Secrets("wr0ng-mark")
    driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
    logins = 0

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        nonlocal logins
        if line.startswith("POST"):
            logins += 1
            return http({"error": {"@Message.ExtendedInfo": [{"MessageId": "X.1.Y", "Message": "wr0ng-mark"}]}}, 401)
        return http({"Links": {"Sessions": {"@odata.id": f"{ROOT}SessionService/Sessions"}}})

    async with liar(tls.context, hand) as endpoint:
        replies = await asyncio.gather(*(driver.host(host_at(endpoint, redfish_tls=tls.pinned), 10) for _ in range(5)))
    assert [reply.reason for reply in replies] == [Reason.BMC_AUTH_FAILED] * 5
    assert logins == 2
    assert "not tried again" in replies[-1].detail
    assert "wr0ng-mark" not in repr(replies)


async def test_without_sessions_a_wrong_password_is_sent_twice_as_well(tls: Tls, tmp_path: Path) -> None:
    secrets = Secrets("wr0ng-mark")
    driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
    async with served(tls, sessions=False) as bmc:
        replies = [await driver.feed(bmc.meter(tls), 10) for _ in range(3)]
        assert {reply.reason for reply in replies} == {Reason.BMC_AUTH_FAILED}
        assert len(bmc.asked) == 2, "the root, twice"
        secrets.password = PASSWORD
        assert (await driver.feed(bmc.meter(tls, user="other"), 10)).reason is Reason.BMC_AUTH_FAILED


async def test_no_secret_and_one_that_cannot_be_carried(tls: Tls, tmp_path: Path) -> None:
    async with served(tls) as bmc:
        for password, detail in ((None, "the vault is sealed"), ("x" * 200, "200 bytes")):
            secrets = Secrets(password)
            driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
            reply = await driver.host(bmc.host(tls), 1)
            assert reply.reason is Reason.NO_SECRET
            assert detail in reply.detail
            assert "xxxx" not in repr(reply)
            assert (await driver.feed(bmc.meter(tls), 1)).reason is Reason.NO_SECRET
        assert bmc.asked == []


# What is closed


async def test_more_readings_than_sessions_one_after_the_other_and_at_once(driver: RedfishDraw, tls: Tls) -> None:
    async with served(tls) as bmc:
        replies = await asyncio.gather(*(driver.host(bmc.host(tls), 30) for _ in range(2 * MOST_SESSIONS)))
        assert all(reply.ok for reply in replies), "one connection to a service at a time"
        assert not bmc.service.sessions


@pytest.mark.parametrize("how", ["deadline", "cancel", "reset", "no JSON"])
async def test_the_session_is_closed_however_it_ends(driver: RedfishDraw, tls: Tls, how: str) -> None:
    seen: list[str] = []
    asked = asyncio.Event()

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes | None:
        seen.append(line)
        if line.startswith("POST"):
            return http({}, 201, "X-Auth-Token: abc", f"Location: {ROOT}SessionService/Sessions/7")
        if line.startswith("DELETE"):
            return http(b"", 204)
        if line == f"GET {ROOT}":
            links = {"Sessions": {"@odata.id": f"{ROOT}SessionService/Sessions"}}
            return http({"Links": links, "Chassis": {"@odata.id": f"{ROOT}Chassis"}})
        asked.set()
        return {"reset": b"", "no JSON": http(b"<html>")}.get(how)

    async with liar(tls.context, hand) as endpoint:
        limit_s = 2.0 if how == "deadline" else 60.0
        work = asyncio.ensure_future(driver.host(host_at(endpoint, redfish_tls=tls.pinned), limit_s))
        async with asyncio.timeout(60):
            await asked.wait()
        if how == "cancel":
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        else:
            lost = Reason.BMC_PROTOCOL if how == "no JSON" else Reason.BMC_LOST
            assert (await work).reason is lost
    assert seen[-1] == f"DELETE {ROOT}SessionService/Sessions/7"


async def test_nothing_is_left_open(driver: RedfishDraw, tls: Tls) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        async with served(tls) as bmc:
            await driver.host(bmc.host(tls), 10)
            await driver.host(bmc.host("system"), 10)
    await asyncio.sleep(0.1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


# Lies


async def answers(driver: RedfishDraw, tls: Tls, *said: bytes | None, timeout_s: float = 5) -> Reply:
    """What the driver makes of a service that answers with these, the last again and again. None: silence."""
    left = list(said)

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes | None:
        return left.pop(0) if len(left) > 1 else left[0]

    async with liar(tls.context, hand) as endpoint:
        return await driver.host(host_at(endpoint, redfish_tls=tls.pinned), timeout_s)


ROOT_BODY = {"Chassis": {"@odata.id": f"{ROOT}Chassis"}}


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        (http(b"<html>login</html>"), Reason.BMC_PROTOCOL, "no JSON object"),
        (http(b"[1]"), Reason.BMC_PROTOCOL, "no JSON object"),
        (http(b"[" * 200_000), Reason.BMC_PROTOCOL, "no JSON object"),
        (b"SSH-2.0-dropbear\r\n\r\n", Reason.BMC_PROTOCOL, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", None, ""),  # and then silence
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", Reason.BMC_PROTOCOL, "no HTTP"),
        (http(b"a" * (MOST_BYTES + 1)), Reason.BMC_PROTOCOL, "more than 1 MiB"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"a" * 0x8000 + b"\r\n", None, ""),
        (http({}, 500), Reason.BMC_PROTOCOL, "500"),
        (http({}, 404), Reason.BMC_UNSUPPORTED, "404"),
        (http({}, 503, "Retry-After: 900"), Reason.BMC_BUSY, "503"),
        (http(ROOT_BODY, 200, "Content-Encoding: gzip"), Reason.BMC_PROTOCOL, "no JSON object"),
        (http({"error": {"code": "Base.1.8.\x1b[31m"}}, 500), Reason.BMC_PROTOCOL, "GET /redfish/v1/: 500"),
    ],
)  # fmt: skip
async def test_lies(driver: RedfishDraw, tls: Tls, said: bytes, reason: Reason | None, detail: str) -> None:
    reply = await answers(driver, tls, said, timeout_s=30 if detail else 1.5)
    assert reply.reason is (reason or Reason.BMC_UNREACHABLE)
    assert detail in reply.detail
    assert reply.detail.isprintable()


async def test_silence_and_a_reset(driver: RedfishDraw, tls: Tls) -> None:
    reply = await answers(driver, tls, None, timeout_s=0.3)
    assert (reply.reason, "nothing within 0.3 s" in reply.detail) == (Reason.BMC_UNREACHABLE, True)
    reply = await answers(driver, tls, http(ROOT_BODY), None, timeout_s=2)
    assert (reply.reason, "after 1 answers" in reply.detail) == (Reason.BMC_LOST, True)
    assert (await answers(driver, tls, b"")).reason is Reason.BMC_LOST
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    reply = await driver.host(host_at(Endpoint("127.0.0.1", port), redfish_tls=tls.pinned), 5)
    assert (reply.reason, "connection refused" in reply.detail) == (Reason.BMC_UNREACHABLE, True)


async def test_a_service_that_closes_every_connection_without_a_word(driver: RedfishDraw, tls: Tls) -> None:
    """Keep-alive is promised and not kept, as many BMCs do: nothing is lost, and nothing is left open."""
    async with served(tls) as bmc:

        async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
            if writer in used:
                return b""
            used.add(writer)
            method, path = line.split()
            headers = {"x-auth-token": next(iter(bmc.service.sessions), "")}
            from bootorch.redfish.wire import Request

            found = bmc.service.respond(Request(method, path), headers, body)
            return http(found.body, found.status, *(f"{name}: {value}" for name, value in found.headers.items()))

        used: set[asyncio.StreamWriter] = set()
        async with liar(tls.context, hand) as endpoint:
            reply = await driver.host(host_at(endpoint, redfish_tls=tls.pinned), 10)
        assert reply.ok, reply
        assert not bmc.service.sessions
        assert len(used) > 3


@pytest.mark.parametrize("trust", ["pinned", "insecure", "ca"])
async def test_an_exchange_is_one_connection(driver: RedfishDraw, tls: Tls, trust: str) -> None:
    used: set[asyncio.StreamWriter] = set()
    tree = server_tree()

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        used.add(writer)
        return http(tree[line.split()[1]])

    said = {"pinned": tls.pinned, "ca": f"ca:{tls.file}"}.get(trust, trust)
    async with liar(tls.context, hand) as endpoint:
        assert (await driver.host(host_at(endpoint, redfish_tls=said), 10)).ok
    assert len(used) == 1, "a TLS handshake is dear for a BMC"


async def test_a_busy_service_is_waited_for(driver: RedfishDraw, tls: Tls) -> None:
    tree = server_tree()

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        nonlocal busy
        path = line.split()[1]
        if path == f"{ROOT}Chassis" and busy:
            busy -= 1
            return http({}, 503, "Retry-After: 0")
        return http(tree[path])

    busy = 2
    async with liar(tls.context, hand) as endpoint:
        assert (await driver.host(host_at(endpoint, redfish_tls=tls.pinned), 10)).ok


async def test_the_password_is_in_no_reply_and_no_traceback(tls: Tls, tmp_path: Path) -> None:
    """Whatever a service does with what it was sent: repeat it as a message, as a header, as a body."""

    async def hand(line: str, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        if not line.startswith("POST"):
            return http({"Links": {"Sessions": {"@odata.id": f"{ROOT}Sessions"}}})
        said = json.loads(body)["Password"]
        return replies.pop(0)(said)

    replies = [
        lambda said: http({"error": {"code": said, "@Message.ExtendedInfo": [{"Message": said}]}}, 400),
        lambda said: http(said.encode(), 500),
        lambda said: f"HTTP/1.1 {said}\r\n\r\n".encode(),
        lambda said: http({}, 302, f"Location: /{said}"),
    ]
    secrets = Secrets("p4ss w0rd-mark")
    async with liar(tls.context, hand) as endpoint:
        while replies:
            driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
            reply = await driver.host(host_at(endpoint, redfish_tls=tls.pinned), 5)
            assert not reply.ok
            assert "w0rd-mark" not in repr(reply)


async def test_many_at_once_are_bounded(driver: RedfishDraw, tls: Tls) -> None:
    """As many connections as there are places, whoever asks."""
    from bootorch.drivers.redfish import EXCHANGES_AT_ONCE

    open_now = most = 0

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await reader.read()
        open_now -= 1
        writer.close()

    server = await asyncio.start_server(hold, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    hosts = [host_at(Endpoint(f"127.0.1.{n + 1}", port), redfish_tls="insecure") for n in range(EXCHANGES_AT_ONCE + 20)]
    replies = await asyncio.gather(*(driver.host(host, 1) for host in hosts))
    server.close()
    assert {reply.reason for reply in replies} == {Reason.BMC_UNREACHABLE}
    assert 1 < most <= EXCHANGES_AT_ONCE
