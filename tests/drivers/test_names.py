"""Names are resolved by the plan's own DNS servers, and by nobody else: against real servers on loopback."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import cast

import dns.message
import dns.rcode
import dns.rrset
import pytest

from bootorch.core.events import Intent, Kind
from bootorch.core.model import DnsCheck, Endpoint, Host, Site
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.drivers import names as names_module
from bootorch.drivers.names import Names, Unresolved
from bootorch.drivers.protocols import Reply, Slice, SliceReply, Verdict
from bootorch.runtime.executor import Drivers, Executor
from tests.plans import group, make_plan

SITE = Site((ip_network("127.20.0.0/16"),), (ip_network("127.30.0.0/16"), ip_network("127.0.0.0/24")))
RECORDS = {
    ("web.internal.", "A"): ["127.30.0.1"],
    ("bmc.internal.", "A"): ["203.0.113.9", "127.20.0.7"],
    ("six.internal.", "AAAA"): ["fd00::1"],
    ("away.internal.", "A"): ["203.0.113.9"],
}


class Zone(asyncio.DatagramProtocol):
    """A DNS server with a few records; counts what it is asked."""

    def __init__(self, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, *, silent: bool = False) -> None:
        self.rcode, self.silent = rcode, silent
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = {1: "A", 28: "AAAA"}.get(question.rdtype, "")
        self.asked.append(f"{question.name} {kind}")
        if self.silent:
            return
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        if found := RECORDS.get((question.name.to_text(), kind)):
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def served(*zones: Zone) -> AsyncIterator[Plan]:
    """A plan whose DNS servers these are, at one port of 127.0.0.1, 127.0.0.2, ..."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []
    port = 0
    try:
        for number, zone in enumerate(zones, 1):
            local = (f"127.0.0.{number}", port or 0)
            transport, _ = await loop.create_datagram_endpoint(lambda zone=zone: zone, local_addr=local)
            transports.append(transport)
            port = transport.get_extra_info("sockname")[1]
        facts: dict[str, dict[str, object]] = {
            f"dns{number}": {"address": f"127.0.0.{number}"} for number in range(1, len(zones) + 1)
        }
        facts["web1"] = {"address": "web.internal", "bmc": Endpoint("bmc.internal", 20623)}
        facts["web2"] = {"address": "gone.internal", "bmc": Endpoint("gone.internal", 20623)}
        made = make_plan(
            {
                "dns": (len(zones), group(ready=(DnsCheck("web.internal", port=port),))),
                "web": (3, group(redeploy=("/a.yml",))),
            },
            facts=facts,
        )
        yield replace(made, site=SITE, dns_group="dns")
    finally:
        for transport in transports:
            transport.close()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "ASK_S", 0.2)


async def test_the_address_inside_the_site_is_taken_and_kept() -> None:
    zone = Zone()
    async with served(zone) as plan:
        names = Names(plan)
        assert await names.address("bmc.internal", bmc=True, timeout_s=5) == "127.20.0.7"
        assert await names.address("bmc.internal", bmc=True, timeout_s=5) == "127.20.0.7"
        assert zone.asked == ["bmc.internal. A"]
        assert await names.address("six.internal", bmc=False, timeout_s=5) == "fd00::1"
        # One outside is given back as it is: the drivers refuse it, in their own words.
        assert await names.address("away.internal", bmc=False, timeout_s=5) == "203.0.113.9"


async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    zone = Zone()
    async with served(zone) as plan:
        names = Names(plan)
        found = await asyncio.gather(*(names.address("web.internal", bmc=False, timeout_s=5) for _ in range(20)))
        assert set(found) == {"127.30.0.1"}
        assert zone.asked == ["web.internal. A"]


async def test_another_server_is_asked_when_one_fails() -> None:
    broken, silent, good = Zone(dns.rcode.SERVFAIL), Zone(silent=True), Zone()
    async with served(broken, silent, good) as plan:
        assert await Names(plan).address("web.internal", bmc=False, timeout_s=5) == "127.30.0.1"
        assert [len(zone.asked) for zone in (broken, silent, good)] == [1, 1, 1]


async def test_a_server_that_is_silent_while_the_wall_clock_is_set_back_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """dnspython counts its timeouts by the wall clock: everybody would wait for that answer for six hours."""
    real, looks = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() - (6 * 3600 if next(looks) else 0))
    async with served(Zone(silent=True)) as plan:
        names = Names(plan)
        async with asyncio.timeout(20):
            with pytest.raises(Unresolved, match=r"127\.0\.0\.1:\d+: no answer"):
                await names.address("web.internal", bmc=False, timeout_s=15)
        await names.aclose()


async def test_why_there_is_no_address() -> None:
    async with served(Zone(dns.rcode.NXDOMAIN), Zone(silent=True), Zone()) as plan:
        names = Names(plan)
        with pytest.raises(Unresolved) as caught:
            await names.address("gone.internal", bmc=False, timeout_s=5)
        said = str(caught.value)
        assert "gone.internal: 127.0.0.1:" in said
        assert "answered NXDOMAIN" in said
        assert "no answer within 0.2 s" in said
        assert "knows no address of it" in said
        with pytest.raises(Unresolved, match=r"no answer of dns within 0\.01 s"):
            await names.address("gone.internal", bmc=False, timeout_s=0.01)
        await names.aclose()


async def test_servers_outside_the_site_and_servers_with_names_are_not_asked() -> None:
    zone = Zone()
    async with served(zone) as plan:
        for address in ("127.99.0.1", "dns1.internal"):
            hosts = {**plan.hosts, "dns1": replace(plan.hosts["dns1"], address=address)}
            with pytest.raises(Unresolved, match="no host of dns has an IP address inside the site"):
                await Names(replace(plan, hosts=hosts)).address("web.internal", bmc=False, timeout_s=5)
        assert zone.asked == []


class Seen:
    """Drivers that remember which addresses they were given."""

    def __init__(self) -> None:
        self.bmcs: list[str] = []
        self.slices: list[Slice] = []
        self.hosts: list[str] = []

    async def read(self, host: Host, timeout_s: float) -> Reply:
        self.bmcs.append(host.bmc.address)
        return Reply(Reason.OK, data={"power": "off"})

    def watch(self, host: Host, *, anew: bool) -> None:
        self.bmcs.append(f"watched at {host.bmc.address}")

    async def boot_evidence(self, host: Host, timeout_s: float) -> Reply:
        self.hosts.append(host.address)
        return Reply(Reason.OK if host.name == "web1" else Reason.UNREACHABLE)

    async def run(self, work: Slice, timeout_s: float) -> SliceReply:
        self.slices.append(work)
        return SliceReply(Reason.OK, "", {host.name: Verdict(Reason.OK) for host in work.hosts})


def intent(kind: Kind, target: str, **others: object) -> Intent:
    return Intent(0.0, 1, kind, target, args={"timeout_s": 5.0, "playbook": 0, "forks": 5}, **others)  # type: ignore[arg-type]


async def test_drivers_are_given_addresses_and_never_names() -> None:
    seen = Seen()
    async with served(Zone()) as plan:
        executor = Executor(plan, Drivers({"ipmi": seen}, seen, seen), "run")  # type: ignore[arg-type, dict-item]
        assert (await executor.perform(intent(Kind.POWER_READ, "web1"))).reason is Reason.OK
        assert (await executor.perform(intent(Kind.BOOT_PROBE, "web1"))).reason is Reason.OK
        assert (await executor.perform(intent(Kind.POWER_READ, "web3"))).reason is Reason.OK
        assert (seen.bmcs, seen.hosts) == (["127.20.0.7", plan.hosts["web3"].bmc.address], ["127.30.0.1"])
        lost = await executor.perform(intent(Kind.POWER_READ, "web2"))
        assert lost.reason is Reason.BMC_UNREACHABLE
        assert "its name has no address: gone.internal: 127.0.0.1:" in lost.detail
        assert (await executor.perform(intent(Kind.BOOT_PROBE, "web2"))).reason is Reason.UNREACHABLE
        assert len(seen.bmcs) == 2


async def test_a_console_that_another_process_watched_is_found_by_the_address_of_its_bmc() -> None:
    seen = Seen()
    async with served(Zone()) as plan:
        hosts = {**plan.hosts, "web3": replace(plan.hosts["web3"], bmc=Endpoint("bmc.internal", 20623))}
        executor = Executor(
            replace(plan, hosts=hosts),
            Drivers({"ipmi": seen}, seen, seen),  # type: ignore[arg-type, dict-item]
            "run",
            booting=["web3"],
        )
        assert (await executor.perform(intent(Kind.BOOT_PROBE, "web3"))).reason is Reason.UNREACHABLE
        assert seen.bmcs == ["watched at 127.20.0.7"]


async def test_a_slice_runs_without_the_hosts_whose_names_nobody_knows() -> None:
    seen = Seen()
    async with served(Zone()) as plan:
        executor = Executor(plan, Drivers({"ipmi": seen}, seen, seen), "run")  # type: ignore[arg-type, dict-item]
        result = await executor.perform(intent(Kind.REDEPLOY, "web", hosts=("web1", "web2", "web3")))
        (work,) = seen.slices
        assert [(host.name, host.address) for host in work.hosts] == [
            ("web1", "127.30.0.1"),
            ("web3", plan.hosts["web3"].address),
        ]
        assert {name: verdict[0] for name, verdict in result.verdicts.items()} == {
            "web1": "ok", "web2": "dark", "web3": "ok",
        }  # fmt: skip
        alone = await executor.perform(intent(Kind.REDEPLOY, "web", hosts=("web2",)))
        assert alone.verdicts["web2"][0] == "dark"
        assert len(seen.slices) == 1
