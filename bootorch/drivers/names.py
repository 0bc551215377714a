"""Addresses of names, asked of the plan's own DNS servers when they are up: in the dark no resolver of the system's
can be relied on, and it could say anything.

Only the hosts of the plan's DNS group are asked, at addresses that are literals inside the site. An answer is kept for
its time to live. What it says is put before the fence by the drivers, like every address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bootorch.core.hostfacts import is_name
from bootorch.core.model import DnsCheck, Endpoint
from bootorch.core.plan import Plan

ASK_S = 2.0  # one server's time to answer; BIND's own resolver library waits 2 s before it tries the next
MOST_ASKED = 64  # questions at the same time: each takes a socket, and a small DNS server has two cores
LEAST_S, MOST_S = 30.0, 3600.0  # bounds of an answer's time to live: zones of a data centre say 0 and a week


_Question = tuple[str, bool]  # a name, and whether it is a BMC's


class Unresolved(Exception):
    """Nobody knows the name. The text is what each server said, for people."""


class Names:
    """Resolves names of one plan. Equal questions at the same time become one."""

    def __init__(self, plan: Plan) -> None:
        group = plan.groups[plan.dns_group]
        port = next((check.port for check in group.ready if isinstance(check, DnsCheck)), 53)
        hosts = [plan.hosts[name] for name in group.hosts]
        self._site = plan.site
        self._group = plan.dns_group
        self._servers = [
            Endpoint(host.address, port)
            for host in hosts
            if not is_name(host.address) and plan.site.allows_host(host.address)
        ]
        self._known: dict[_Question, tuple[float, str]] = {}  # until when (monotonic), and the address
        self._asked: dict[_Question, asyncio.Task[str]] = {}
        self._turns = asyncio.Semaphore(MOST_ASKED)

    async def address(self, name: str, *, bmc: bool, timeout_s: float) -> str:
        """An address of ``name``: one inside the site where there is one. Raises Unresolved when nobody knows it, or
        nobody answers within ``timeout_s``."""
        question = (name, bmc)
        until, address = self._known.get(question, (0.0, ""))
        if time.monotonic() < until:
            return address
        task = self._asked.get(question)
        if task is None:
            task = self._asked[question] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda done: self._forget(question, done))
        try:
            # Shielded: others may wait for the same answer.
            return await asyncio.wait_for(asyncio.shield(task), timeout_s)
        except TimeoutError:
            raise Unresolved(f"{name}: no answer of {self._group} within {timeout_s:g} s") from None

    def _forget(self, question: _Question, task: asyncio.Task[str]) -> None:
        del self._asked[question]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    async def _ask(self, question: _Question) -> str:
        name, bmc = question
        if not self._servers:
            raise Unresolved(f"{name}: no host of {self._group} has an IP address inside the site")
        said = []
        for server in self._servers:
            try:
                async with self._turns:
                    found, ttl = await self._exchange(server, name)
            except Unresolved as error:
                said.append(f"{server}: {error}")
                continue
            allowed = self._site.allows_bmc if bmc else self._site.allows_host
            # None inside: the first one, which the driver refuses in its own words.
            address = next(filter(allowed, found), found[0])
            self._known[question] = (time.monotonic() + min(max(ttl, LEAST_S), MOST_S), address)
            return address
        raise Unresolved(f"{name}: {'; '.join(said)}")

    async def _exchange(self, server: Endpoint, name: str) -> tuple[Sequence[str], float]:
        """Addresses and their time to live. A is asked first, AAAA where there is none."""
        import dns.asyncquery
        import dns.exception
        import dns.message
        import dns.rcode

        for kind in ("A", "AAAA"):
            try:
                query = dns.message.make_query(name, kind)
                # dnspython counts by the wall clock: when that is set back, its own timeout comes hours late.
                async with asyncio.timeout(2 * ASK_S):
                    answer, _ = await dns.asyncquery.udp_with_fallback(
                        query,
                        server.address,
                        port=server.port,
                        timeout=ASK_S,
                        ignore_unexpected=True,
                        ignore_errors=True,
                    )
            except (dns.exception.Timeout, TimeoutError):
                raise Unresolved(f"no answer within {ASK_S:g} s") from None
            except (dns.exception.DNSException, OSError, EOFError) as error:
                raise Unresolved(" ".join(str(error).split())[:200] or type(error).__name__) from error
            if answer.rcode() != dns.rcode.NOERROR:
                raise Unresolved(f"answered {dns.rcode.to_text(answer.rcode())}")
            # CNAMEs on the way are in the same answer; what counts is the addresses that it ends with.
            sets = [rrset for rrset in answer.answer if rrset.rdtype == query.question[0].rdtype]
            if found := [record.to_text() for rrset in sets for record in rrset]:
                return found, float(min(rrset.ttl for rrset in sets))
        raise Unresolved("knows no address of it")

    async def aclose(self) -> None:
        """End what is still being asked."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
