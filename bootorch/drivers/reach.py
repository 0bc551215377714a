"""Evidence from the hosts themselves: boot id and uptime over SSH, and the readiness checks of a plan.

Every call is one exchange within its timeout. A dark host costs one TCP connect and nothing else: asyncssh is neither
imported nor does a login take a slot before the port has answered. The site's fence is looked at again right before
the connect, here and (for URLs) in ``drivers.checks``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootorch.core.model import (
    Check,
    CommandCheck,
    DnsCheck,
    Endpoint,
    Host,
    HttpCheck,
    Site,
    SshCheck,
    TcpCheck,
    describe,
)
from bootorch.core.reasons import Reason
from bootorch.drivers import checks
from bootorch.drivers.protocols import Reply

if TYPE_CHECKING:
    from bootorch.drivers.reach_ssh import CommandResult, KnownHosts

BOOT_EVIDENCE_COMMAND = "cat /proc/sys/kernel/random/boot_id /proc/uptime"

# SSH handshakes at once in the process. One costs some 10 ms of processor time on each side, so 64 keep a core busy and
# finish within a second; more only make every one of them slow. (ansible's forks, pssh's -p 32 and clush's fanout 64
# are limits of the same kind.)
LOGINS_AT_ONCE = 64

_BOOT_ID_LIMIT_CHARS = 128  # a UUID has 36; room for a custom command's own identification


class Reach:
    """``ReachDriver`` over asyncssh, TCP, HTTP and DNS.

    ``known_hosts`` is the file with the verified host keys; None: the user's own and the system's. Verification is
    never off: without a file every SSH exchange ends with HOST_KEY. The login is ``host.ssh_user`` with
    ``host.ssh_key``, or with ssh-agent and the default keys where the inventory names no key.
    """

    def __init__(self, site: Site, known_hosts: Path | None, *, logins_at_once: int = LOGINS_AT_ONCE) -> None:
        self._site = site
        self._known_hosts_path = known_hosts
        self._known_hosts: KnownHosts | None = None
        self._logins = asyncio.Semaphore(logins_at_once)
        self._logins_at_once = logins_at_once

    async def boot_evidence(self, host: Host, timeout_s: float) -> Reply:
        """``data["boot_id"]`` (text) and ``data["uptime_s"]`` (float): lines 1 and 2 of ``host.boot_evidence``."""
        result = await self._ssh(host, host.boot_evidence or BOOT_EVIDENCE_COMMAND, timeout_s)
        return result if isinstance(result, Reply) else boot_evidence(result)

    async def check(self, host: Host, check: Check, timeout_s: float) -> Reply:
        match check:
            case SshCheck():
                return await self._command(host, CommandCheck("true"), timeout_s)
            case CommandCheck():
                return await self._command(host, check, timeout_s)
            case TcpCheck() | HttpCheck() | DnsCheck():
                if not self._site.allows_host(host.address):
                    return _outside(host.address)
                return await self._without_login(host.address, check, timeout_s)

    async def check_url(self, check: Check, timeout_s: float) -> Reply:
        if not isinstance(check, HttpCheck):
            return Reply(Reason.CHECK_FAILED, f"a gate belongs to no host: it can ask http only, not {describe(check)}")
        return await _within(timeout_s, checks.check_http(self._site, check), "the URL of the gate")

    async def aclose(self) -> None:
        """Nothing is kept open between two exchanges."""

    async def _without_login(self, address: str, check: TcpCheck | HttpCheck | DnsCheck, timeout_s: float) -> Reply:
        match check:
            case TcpCheck(port=port):
                endpoint = Endpoint(address, port)
                return await _within(timeout_s, checks.check_tcp(endpoint), str(endpoint))
            case HttpCheck():
                return await _within(timeout_s, checks.check_http(self._site, check, address), f"the URL of {address}")
            case DnsCheck(port=port, name=name):
                what = f"{Endpoint(address, port)}: {name}"
                return await _within(timeout_s, checks.check_dns(check, address), what)

    async def _command(self, host: Host, check: CommandCheck, timeout_s: float) -> Reply:
        result = await self._ssh(host, check.command, timeout_s)
        return result if isinstance(result, Reply) else command_reply(check, result)

    async def _ssh(self, host: Host, command: str, timeout_s: float) -> CommandResult | Reply:
        if not self._site.allows_host(host.address):
            return _outside(host.address)
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._login_and_run(host, command, progress)
        except TimeoutError:
            endpoint = Endpoint(host.address, host.ssh_port)
            return Reply(progress.reason, f"{endpoint}: nothing within {timeout_s:.3g} s, {progress.phase}")

    async def _login_and_run(self, host: Host, command: str, progress: _Progress) -> CommandResult | Reply:
        endpoint = Endpoint(host.address, host.ssh_port)
        connection = await checks.dial(endpoint)
        if isinstance(connection, Reply):
            return connection
        handed_over = False
        try:
            from bootorch.drivers import reach_ssh  # asyncssh takes 0.3 s to import: only when a host has answered

            self._known_hosts = self._known_hosts or reach_ssh.KnownHosts(self._known_hosts_path)
            known = await self._known_hosts.load()
            if isinstance(known, str):
                return Reply(Reason.HOST_KEY, f"{endpoint}: {known}")
            progress.phase = f"waiting for one of the {self._logins_at_once} logins at once"
            async with self._logins:
                progress.phase = "waiting for the SSH login"
                handed_over = True
                session = await reach_ssh.login(host, connection, known)
        finally:
            if not handed_over:
                connection.close()
        if isinstance(session, Reply):
            return session
        async with session:
            progress.phase, progress.reason = "waiting for the command to end", Reason.CHECK_FAILED
            result = await reach_ssh.run(session, command)
        return result  # noqa: RET504 - inside, mypy holds that the session could swallow an exception


@dataclass(slots=True)
class _Progress:
    """How far an SSH exchange came: what a timeout then means."""

    phase: str = "connecting"
    reason: Reason = Reason.UNREACHABLE


async def _within(timeout_s: float, exchange: Awaitable[Reply], what: str) -> Reply:
    try:
        async with asyncio.timeout(timeout_s):
            return await exchange
    except TimeoutError:
        return Reply(Reason.UNREACHABLE, f"{what}: nothing within {timeout_s:.3g} s")


def boot_evidence(result: CommandResult) -> Reply:
    """Line 1 is the boot id, line 2 begins with the uptime in seconds, as ``/proc`` prints them (proc(5))."""
    if failed := _failed("the boot evidence command", result):
        return failed
    lines = result.stdout.splitlines()
    boot_id = lines[0].strip() if lines else ""
    if not boot_id or len(boot_id) > _BOOT_ID_LIMIT_CHARS or not boot_id.isprintable() or " " in boot_id:
        return Reply(Reason.CHECK_FAILED, f"line 1 of the boot evidence is no boot id: {_shown(boot_id)}")
    number = lines[1].split()[0] if len(lines) > 1 and lines[1].split() else ""
    try:
        uptime_s = float(number)
    except ValueError:
        uptime_s = math.nan
    if not (math.isfinite(uptime_s) and uptime_s >= 0):
        return Reply(Reason.CHECK_FAILED, f"line 2 of the boot evidence begins with no uptime: {_shown(number)}")
    return Reply(Reason.OK, f"boot {boot_id}, up {uptime_s:.0f} s", {"boot_id": boot_id, "uptime_s": uptime_s})


def command_reply(check: CommandCheck, result: CommandResult) -> Reply:
    if failed := _failed(describe(check), result):
        return failed
    if check.expect and check.expect not in result.stdout:
        return Reply(Reason.CHECK_FAILED, f"{describe(check)} printed {_shown(result.stdout)}, not {check.expect!r}")
    return Reply(Reason.OK, f"{describe(check)} ended with 0")


def _failed(what: str, result: CommandResult) -> Reply | None:
    if result.cut:
        return Reply(Reason.CHECK_FAILED, f"{what} printed without end and was stopped")
    if result.status != 0:
        how = "was ended by a signal" if result.status is None else f"ended with {result.status}"
        said = result.stderr.strip() or result.stdout.strip()
        return Reply(Reason.CHECK_FAILED, f"{what} {how}" + (f": {_shown(said)}" if said else ""))
    return None


def _shown(text: str) -> str:
    """The last line of an output, short and harmless on a terminal (100 characters)."""
    line = text.strip().splitlines()[-1].strip() if text.strip() else ""
    return repr(line if len(line) <= 100 else line[:99] + "…")


def _outside(address: str) -> Reply:
    return Reply(Reason.OUTSIDE_SITE, f"{address} is outside the site's host networks; nothing was sent")
