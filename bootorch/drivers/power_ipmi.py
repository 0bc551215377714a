"""Chassis control over IPMI 2.0: every BMC of a run over a few UDP sockets, without a task or a timer of its own each.

The protocol is in ``bootorch.ipmi``; here are sockets, the one timer heap, and who may talk to which BMC when. A BMC
has one exchange at a time, so its address finds the exchange that a datagram belongs to; the exchange itself checks
session id and message tag. Datagrams from any other address are dropped.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import os
import socket
from collections.abc import Sequence
from heapq import heappop, heappush
from ipaddress import ip_address
from itertools import count
from typing import Final

from tenacity import AsyncRetrying, retry_if_result, stop_before_delay, wait_exponential_jitter

from bootorch.core.model import BootDevice, Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Reply, Scalar, SecretStore
from bootorch.ipmi import messages as msg
from bootorch.ipmi.client import Exchange, Result, in_order
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.messages import Action, BootSource, Command, Policy, Privilege
from bootorch.ipmi.packet import MAX_PACKET

SOCKETS: Final = 4  # per address family: a socket's receive buffer (208 KiB by default) holds some 200 datagrams
RECEIVE_BUFFER: Final = 4 << 20  # bytes asked for; the kernel grants what net.core.rmem_max allows
DATAGRAMS_PER_TURN: Final = 64  # then the event loop's other work has a turn
# Whole exchanges again: FreeIPMI waits 1 s; free session slots come back after up to 60 s.
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 15.0
MIN_ATTEMPT_S: Final = 1.0  # with less time left, the last definite answer is worth more than another try

_TRANSIENT: Final = frozenset((Reason.BMC_BUSY, Reason.BMC_NO_SESSION))
_SOURCES: Final = {
    BootDevice.DISK: BootSource.DISK,
    BootDevice.PXE: BootSource.PXE,
    BootDevice.CDROM: BootSource.CDROM,
    BootDevice.BIOS: BootSource.BIOS,
}
_LAST_EVENTS: Final = ((1, "AC failed"), (2, "overload"), (4, "interlock"), (8, "power fault"), (16, "on by command"))

Address = tuple[str, int]


class _Known:
    """What earlier exchanges taught about a BMC, and the lock that gives it one exchange at a time."""

    __slots__ = ("lock", "privilege", "proved", "suites")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.suites: tuple[int, ...] = (17, 3)  # the one that worked last comes first
        self.privilege = Privilege.ADMIN
        self.proved = b""  # fingerprint of the password that this BMC has proved to know


class _Run:
    """An exchange on the wire."""

    __slots__ = ("address", "due", "exchange", "future", "port", "trouble")

    def __init__(self, exchange: Exchange, address: Address, port: _Port, future: asyncio.Future[Result]) -> None:
        self.exchange = exchange
        self.address = address
        self.port = port
        self.future = future
        self.due = float("inf")  # of its earliest entry in the timer heap
        self.trouble = ""  # what the kernel said to the latest send that failed


class _Port:
    """A UDP socket and the exchanges that go over it."""

    __slots__ = ("runs", "sock")

    def __init__(self, family: socket.AddressFamily) -> None:
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.sock.bind(("", 0))
        self.runs: dict[Address, _Run] = {}


class IpmiPower:
    """``PowerDriver`` over IPMI 2.0, cipher suites 17 and 3. Belongs to one event loop; ``aclose`` at the end.

    ``site`` is the fence, checked right before the first packet of every exchange.
    """

    def __init__(self, site: Site, secrets: SecretStore) -> None:
        self._site = site
        self._secrets = secrets
        self._known: dict[Address, _Known] = {}
        self._ports: dict[tuple[socket.AddressFamily, int], _Port] = {}
        self._heap: list[tuple[float, int, _Run]] = []
        self._entries = count()
        self._wake: asyncio.TimerHandle | None = None
        self._closed = False
        # Console session ids: a counter through a bijection of 32 bits, so unique in the process and not guessable.
        self._ids = count(int.from_bytes(os.urandom(4), "little"))
        self._id_mask = int.from_bytes(os.urandom(4), "little")
        self._fingerprint_key = os.urandom(32)

    # PowerDriver

    async def read(self, host: Host, timeout_s: float) -> Reply:
        """``data``: ``power`` "on" or "off"; ``fault``, ``overload`` (bool); ``last_power_event``, ``restore_policy``
        (text); ``suite`` (cipher suite of the session)."""
        result = await self._call(host, (msg.CHASSIS_STATUS,), timeout_s)
        if isinstance(result, Reply):
            return result
        status = msg.parse_chassis_status(result.answers[0].data) if result.reason is Reason.OK else None
        if status is None:
            return _reply(host, result, Reason.BMC_PROTOCOL, "chassis status: answer too short")
        data: dict[str, Scalar] = {
            "power": "on" if status.power_on else "off",
            "fault": status.power_fault,
            "overload": status.power_overload,
            "last_power_event": ", ".join(name for bit, name in _LAST_EVENTS if status.last_power_event & bit),
            "restore_policy": _policy_name(status.restore_policy),
            "suite": result.suite,
        }
        return Reply(Reason.OK, f"power {data['power']}", data)

    async def on(self, host: Host, timeout_s: float) -> Reply:
        """Chassis Control On, sent at most once. ``BMC_LOST``: it may have had effect, read the state back first."""
        return await self._control(host, Action.ON, timeout_s)

    async def cycle(self, host: Host, timeout_s: float) -> Reply:
        """Chassis Control Cycle, sent at most once; ``BMC_REFUSED`` where the host is off, on most BMCs."""
        return await self._control(host, Action.CYCLE, timeout_s)

    async def boot_device(self, host: Host, device: BootDevice, timeout_s: float) -> Reply:
        """Boot option for the next boot only; the BMC forgets it when no power-on or cycle follows within 60 s.

        EFI boot, unless the host's fact ``boot_mode`` says ``legacy``.
        """
        if device is BootDevice.NONE:
            return Reply(Reason.OK, "boot order left alone")
        efi = host.fact("boot_mode") != "legacy"
        source = _SOURCES[device]
        if efi and source is BootSource.DISK and host.model.lower().startswith("supermicro"):
            source = BootSource.DISK_SUPERMICRO_UEFI
        commands = (
            # Parameter 3 (28.12): keep the flags over a reset of the BMC's 60 s rule; many BMCs do not have it.
            msg.set_boot_option(3, b"\x08", tolerate=True),
            msg.set_boot_option(5, msg.boot_flags(source, efi=efi)),
        )
        result = await self._call(host, commands, timeout_s)
        return result if isinstance(result, Reply) else _reply(host, result, Reason.OK, f"next boot from {device}")

    async def aclose(self) -> None:
        """End every exchange (``INTERRUPTED``), close what sessions there are, and all sockets."""
        self._closed = True
        for port in self._ports.values():
            for run in list(port.runs.values()):
                run.exchange.abort()
                self._after(run)
            asyncio.get_running_loop().remove_reader(port.sock)
            port.sock.close()
        self._ports.clear()
        self._heap.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # One call

    async def _control(self, host: Host, action: Action, timeout_s: float) -> Reply:
        result = await self._call(host, (msg.chassis_control(action),), timeout_s)
        if isinstance(result, Reply):
            return result
        return _reply(host, result, Reason.OK, f"power {action.name.lower()} accepted")

    async def _call(self, host: Host, commands: Sequence[Command], timeout_s: float) -> Result | Reply:
        """The result of an exchange that ended well, or the reply that says why there is none."""
        if self._closed:
            raise RuntimeError("the IPMI driver was closed")
        deadline = asyncio.get_running_loop().time() + timeout_s
        if not self._site.allows_bmc(host.bmc.address):
            return _outside(host)
        password = self._secrets.bmc_password(host)
        if password is None:
            return Reply(Reason.NO_SECRET, f"{host.name}: no BMC password: {self._secrets.why(host)}")
        try:
            credentials = Credentials(host.bmc_user.encode(), password)
        except ValueError as error:
            return Reply(Reason.NO_SECRET, f"{host.name}: {error}")
        address = (str(ip_address(host.bmc.address)), host.bmc.port)
        known = self._known.get(address)
        if known is None:
            known = self._known[address] = _Known()
        try:
            async with asyncio.timeout_at(deadline):
                await known.lock.acquire()
        except TimeoutError:
            return Reply(Reason.BMC_BUSY, f"{host.bmc}: another exchange with this BMC took all the time")
        try:
            result = await self._attempts(host, address, known, credentials, commands, deadline)
        finally:
            known.lock.release()
        if isinstance(result, Reply) or result.reason is Reason.OK:
            return result
        return Reply(result.reason, f"{host.bmc}: {result.detail}")

    async def _attempts(
        self,
        host: Host,
        address: Address,
        known: _Known,
        credentials: Credentials,
        commands: Sequence[Command],
        deadline: float,
    ) -> Result | Reply:
        """Exchanges until one says something definite. What may have had effect is never tried again."""
        # A lost session may be tried again only where nothing is sent that must not be sent twice.
        transient = _TRANSIENT if any(c.once for c in commands) else _TRANSIENT | {Reason.BMC_LOST}

        async def attempt() -> Result | Reply:
            if self._closed:  # while this call waited for its turn or its next attempt
                return Reply(Reason.INTERRUPTED, f"{host.bmc}: the driver was closed")
            # The fence again, as close to the first packet as can be.
            if not self._site.allows_bmc(address[0]):
                return _outside(host)
            return await self._exchange(address, known, credentials, commands, deadline)

        loop = asyncio.get_running_loop()
        result = await attempt()
        left_s = deadline - loop.time() - RETRY_FIRST_S - MIN_ATTEMPT_S
        if result.reason not in transient or left_s < 0:
            return result  # without tenacity's 40 µs: the common case, 32,000 times
        await asyncio.sleep(RETRY_FIRST_S)
        retrying = AsyncRetrying(
            stop=stop_before_delay(left_s),
            wait=wait_exponential_jitter(initial=RETRY_FIRST_S, max=RETRY_MAX_S, jitter=RETRY_FIRST_S),
            retry=retry_if_result(lambda last: last.reason in transient),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else result,
        )
        again: Result | Reply = await retrying(attempt)
        return again

    async def _exchange(
        self, address: Address, known: _Known, credentials: Credentials, commands: Sequence[Command], deadline: float
    ) -> Result:
        loop = asyncio.get_running_loop()
        exchange = Exchange(
            credentials,
            in_order(commands),
            random=os.urandom,
            console_id=self._console_id,
            deadline=deadline,
            suites=known.suites,
            privilege=known.privilege,
        )
        port = self._port(address)
        run = _Run(exchange, address, port, loop.create_future())
        port.runs[address] = run
        try:
            exchange.start(loop.time())
            self._after(run)
            result = await run.future
        finally:
            if exchange.result is None:  # cancelled: leave no session behind
                exchange.abort()
                self._after(run)
        return self._learn(known, credentials, result, run.trouble)

    def _learn(self, known: _Known, credentials: Credentials, result: Result, trouble: str) -> Result:
        fingerprint = hmac.digest(self._fingerprint_key, credentials.password.reveal(), "sha256")
        if result.suite:
            known.suites = (17, 3) if result.suite == 17 else (3, 17)
            known.privilege = Privilege(result.privilege)
            known.proved = fingerprint
        elif result.reason is not Reason.BMC_NO_SESSION:
            # What was learned may be wrong by now: the next exchange tries everything again.
            known.suites = (17, 3)
            known.privilege = Privilege.ADMIN
        if result.unproven and hmac.compare_digest(known.proved, fingerprint):
            detail = f"{result.detail}, though it did before: another machine has its address, or its password changed"
            return result._replace(reason=Reason.BMC_ROGUE, detail=detail)
        if trouble and result.reason is Reason.BMC_UNREACHABLE:
            return result._replace(detail=f"{result.detail}; this machine says: {trouble}")
        return result

    def _console_id(self) -> int:
        while True:
            ident = (next(self._ids) * 0x9E3779B1 ^ self._id_mask) & 0xFFFFFFFF
            if ident:
                return ident

    # Sockets and timers

    def _port(self, address: Address) -> _Port:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        # Always the same socket for a BMC: some key their sessions by the client's address and port.
        key = family, hash(address) % SOCKETS
        port = self._ports.get(key)
        if port is None:
            port = self._ports[key] = _Port(family)
            asyncio.get_running_loop().add_reader(port.sock, self._readable, port)
        return port

    def _readable(self, port: _Port) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, source = port.sock.recvfrom(MAX_PACKET + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an error that some earlier datagram met; its exchange learns by its timer
            run = port.runs.get(source[:2])
            if run is not None and len(data) <= MAX_PACKET:
                run.exchange.receive_datagram(data, now)
                self._after(run)

    def _after(self, run: _Run) -> None:
        """After each call of an exchange: send what it has, note its timer, and tell its end."""
        exchange = run.exchange
        for data in exchange.datagrams_to_send():
            try:
                run.port.sock.sendto(data, run.address)
            except OSError as error:
                # A full socket buffer, no route, a firewall: to the exchange it is a lost datagram.
                run.trouble = os.strerror(error.errno or errno.EIO)
        due = exchange.next_timer()
        if due is None:
            run.due = float("inf")  # its entries in the heap mean nothing any more
            if run.port.runs.get(run.address) is run:  # and not the next exchange with this BMC
                del run.port.runs[run.address]
            if exchange.result is not None and not run.future.done():
                run.future.set_result(exchange.result)
        elif due < run.due:
            self._schedule(run, due)

    def _schedule(self, run: _Run, due: float) -> None:
        run.due = due
        heappush(self._heap, (due, next(self._entries), run))
        if self._wake is None or due < self._wake.when():
            if self._wake is not None:
                self._wake.cancel()
            self._wake = asyncio.get_running_loop().call_at(due, self._timers)

    def _timers(self) -> None:
        """Entries are lazy: most timers move while they wait, and are looked at only when the old time has come."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._wake = None
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, run = heappop(heap)
            if due != run.due:
                continue  # an earlier entry has taken its place
            run.due = float("inf")
            run.exchange.handle_timer(now)
            self._after(run)
        if heap and self._wake is None:
            self._wake = loop.call_at(heap[0][0], self._timers)


def _reply(host: Host, result: Result, reason: Reason, detail: str) -> Reply:
    return Reply(reason, detail if reason is Reason.OK else f"{host.bmc}: {detail}", {"suite": result.suite})


def _outside(host: Host) -> Reply:
    return Reply(
        Reason.OUTSIDE_SITE, f"{host.name}: BMC {host.bmc} is outside the site's bmc_networks; nothing was sent"
    )


def _policy_name(number: int) -> str:
    return Policy(number).name.lower() if number < Policy.QUERY else "unknown"
