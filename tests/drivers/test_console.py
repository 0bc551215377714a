"""Serial consoles over real sockets: the fence, the cap, one socket for all, and the tail that becomes evidence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import pytest

from bootorch.core.evidence import MOST_CONSOLE
from bootorch.core.model import Endpoint, Site
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.drivers.console import Consoles, ConsoleSession, Tail
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.sol import End
from tests.ipmi.udp import PASSWORD, SITE, bmc

CREDENTIALS = Credentials(b"admin", Secret(PASSWORD))


@pytest.fixture
async def consoles() -> AsyncIterator[Consoles]:
    made = Consoles(SITE)
    yield made
    await made.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def opened(consoles: Consoles, endpoint: Endpoint, tail: Tail, **options: object) -> ConsoleSession:
    session = await consoles.open(endpoint, CREDENTIALS, tail.feed, **options)  # type: ignore[arg-type]
    assert isinstance(session, ConsoleSession), session
    return session


async def test_both_ways_and_the_end(consoles: Consoles) -> None:
    chassis, tail = MemoryChassis(on=True), Tail()
    async with bmc(chassis) as served:
        session = await opened(consoles, served.endpoint, tail)
        chassis.console.write(b"\x1b[1;31mweb1\x1b[0m login: ")
        session.write(b"root\r")
        await until(lambda: chassis.typed == b"root\r" and "root" in tail.text() and "login" in tail.text())
        assert "\x1b" not in tail.text()
        assert await session.close() == End(Reason.OK, "closed")
        assert session.end == await session.ended()
        session.write(b"late")
        assert served.bmc.session_count == 0
        assert len(consoles) == 0
        await opened(consoles, served.endpoint, tail)  # it is free again


async def test_outside_the_fence_nothing_is_sent() -> None:
    consoles = Consoles(Site(bmc_networks=(ip_network("127.0.1.0/24"),), host_networks=()))
    async with bmc() as served:
        end = await consoles.open(served.endpoint, CREDENTIALS, Tail().feed)
        assert isinstance(end, End)
        assert end.reason is Reason.OUTSIDE_SITE
        await asyncio.sleep(0.05)
        assert served.datagrams == 0
    await consoles.aclose()


async def test_many_consoles_share_a_socket(consoles: Consoles) -> None:
    """And each gets its own host's characters."""
    chassis = [MemoryChassis(on=True) for _ in range(3)]
    tails = [Tail() for _ in chassis]
    async with (
        bmc(chassis[0], "127.0.0.2") as one,
        bmc(chassis[1], "127.0.0.3") as two,
        bmc(chassis[2], "127.0.0.4") as three,
    ):
        served = (one, two, three)
        await asyncio.gather(*(opened(consoles, s.endpoint, t) for s, t in zip(served, tails, strict=True)))
        for n, machine in enumerate(chassis):
            machine.console.write(b"host %d" % n)
        await until(lambda: [tail.text() for tail in tails] == ["host 0", "host 1", "host 2"])
        assert len({peer[1] for s in served for peer in s.peers}) == 1
        await consoles.aclose()
        await until(lambda: not any(s.bmc.session_count for s in served))


async def test_the_cap_and_the_second_console_of_a_bmc() -> None:
    consoles = Consoles(SITE, most_open=1)
    async with bmc(address="127.0.0.2") as one, bmc(address="127.0.0.3") as two:
        session = await opened(consoles, one.endpoint, Tail())
        for endpoint in (one.endpoint, two.endpoint):
            end = await consoles.open(endpoint, CREDENTIALS, Tail().feed)
            assert isinstance(end, End)
            assert end.reason is Reason.BMC_BUSY
        await session.close()
        await opened(consoles, two.endpoint, Tail())
        await consoles.aclose()
        with pytest.raises(RuntimeError):
            await consoles.open(two.endpoint, CREDENTIALS, Tail().feed)


async def test_a_cancelled_opening_leaves_no_session(consoles: Consoles) -> None:
    async with bmc() as served:
        served.swallow = lambda data: served.datagrams > 3  # it answers, and then no more
        task = asyncio.create_task(consoles.open(served.endpoint, CREDENTIALS, Tail().feed))
        await until(lambda: served.datagrams > 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(consoles) == 0
        await until(lambda: served.bmc.session_count == 0)


async def test_nobody_there(consoles: Consoles) -> None:
    async with bmc() as served:
        endpoint = served.endpoint
    end = await consoles.open(endpoint, CREDENTIALS, Tail().feed, timeout_s=0.5)
    assert isinstance(end, End)
    assert end.reason is Reason.BMC_UNREACHABLE
    assert len(consoles) == 0


async def test_another_process_takes_the_console(consoles: Consoles) -> None:
    other = Consoles(SITE)
    async with bmc(MemoryChassis(on=True)) as served:
        session = await opened(consoles, served.endpoint, Tail())
        end = await other.open(served.endpoint, CREDENTIALS, Tail().feed)
        assert isinstance(end, End)
        assert end.reason is Reason.BMC_BUSY
        await opened(other, served.endpoint, Tail(), steal=True)
        assert (await session.ended()).reason is Reason.BMC_BUSY
        await other.aclose()


def test_the_tail_is_printable_and_bounded() -> None:
    tail = Tail()
    for n in range(20_000):
        tail.feed(b"\x1b[%d;1Hline \xff %d\r\n" % (n % 25, n))
    text = tail.text()
    assert len(text.encode()) <= MOST_CONSOLE
    assert text.endswith("line \ufffd 19999")
    assert all(line.isprintable() for line in text.split("\n"))
    tail.clear()
    assert tail.text() == ""


def test_half_a_character_at_the_end_is_no_wrong_one() -> None:
    tail = Tail()
    tail.feed("größe".encode()[:3])
    assert tail.text() == "gr"
    tail.feed("größe".encode()[3:])
    assert tail.text() == "größe"
