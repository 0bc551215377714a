"""UDP sockets for a fleet of BMCs, and two ways to drive it: a loop of its own for commands, asyncio for runs.

The protocol and everything about who is asked when is in ``bootorch.ipmi``. asyncio is loaded only by those who use
it: the loop of a command that asks 1,000 BMCs would spend a tenth of its time on that import.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from ipaddress import ip_address
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.ipmi.client import Result, Script
from bootorch.ipmi.fleet import Address, Fleet, Job
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.messages import Privilege
from bootorch.ipmi.pacing import Pacing
from bootorch.ipmi.packet import MAX_PACKET

SOCKETS: Final = 4  # per address family: a socket's receive buffer (208 KiB by default) holds some 200 datagrams
RECEIVE_BUFFER: Final = 4 << 20  # bytes asked for; the kernel grants what net.core.rmem_max allows
DATAGRAMS_PER_TURN: Final = 256  # of one socket; then the other sockets have a turn
DATAGRAMS_PER_LOOK: Final = 32  # at the clock: some 2 ms
TURNS_BEFORE_TIMERS: Final = 16  # a flood puts them off no longer; that is some 0.1 s
_SO_RCVBUFFORCE: Final = getattr(socket, "SO_RCVBUFFORCE", 33)  # <asm/socket.h>; Python has no name for it


class Ports:
    """The sockets that exchanges go over: a BMC always has the same one, for some key their sessions by the client's
    address and port. ``trouble``: what the kernel said to the latest datagram to an address that it did not take.

    ``holds``: may anything be sent now (``Lease.holds``)? What may not is lost."""

    def __init__(self, holds: Callable[[], bool] = lambda: True) -> None:
        self._holds = holds
        self._sockets: dict[tuple[socket.AddressFamily, int], socket.socket] = {}
        self._of: dict[Address, Callable[[bytes, Address], int]] = {}
        self.trouble: dict[Address, str] = {}
        self.opened: Callable[[socket.socket], None] = lambda sock: None

    def send(self, data: bytes, address: Address) -> None:
        """Put a datagram on the wire. What the kernel refuses is a lost datagram, and remembered."""
        if not self._holds():
            return
        sendto = self._of.get(address)
        try:
            if sendto is None:
                sendto = self._of[address] = self._socket(address).sendto
            sendto(data, address)
        except OSError as error:  # a full socket buffer, no route, a firewall; or no socket: a machine without IPv6
            self.trouble[address] = os.strerror(error.errno or errno.EIO)
        else:
            if self.trouble:
                self.trouble.pop(address, None)

    def _socket(self, address: Address) -> socket.socket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        key = family, hash(address) % SOCKETS
        sock = self._sockets.get(key)
        if sock is None:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                with suppress(PermissionError):  # only root may have more than net.core.rmem_max
                    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
                sock.bind(("", 0))
            except OSError:
                sock.close()
                raise
            self._sockets[key] = sock
            self.opened(sock)
        return sock

    def sockets(self) -> list[socket.socket]:
        return list(self._sockets.values())

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._of.clear()


def drain(sock: socket.socket, fleet: Fleet, clock: Callable[[], float]) -> bool:
    """Give the fleet what has arrived. True when there may be more."""
    receive, recvfrom = fleet.receive, sock.recvfrom
    for n in range(DATAGRAMS_PER_TURN):
        if not n % DATAGRAMS_PER_LOOK:
            now = clock()
        try:
            data, source = recvfrom(MAX_PACKET + 1)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            continue  # an error that some earlier datagram met; its exchange learns by its timer
        if len(data) <= MAX_PACKET:
            # IPv6 sources carry flow and scope as well.
            receive(data, source if len(source) == 2 else source[:2], now)
    return True


class BmcTarget(NamedTuple):
    """A BMC to ask. ``address`` is a literal; ``suites`` in order of preference; ``model`` for vendors' quirks."""

    name: str
    address: str
    port: int
    credentials: Credentials
    suites: tuple[int, ...] = (17, 3)
    version: str = "2.0"
    model: str = ""
    privilege: Privilege = Privilege.ADMIN


class Ended(NamedTuple):
    """How a BMC answered. ``elapsed_s`` counts from its first datagram, ``attempts`` are exchanges."""

    target: BmcTarget
    reason: Reason
    detail: str
    value: object
    attempts: int
    elapsed_s: float


class Follow(NamedTuple):
    """What to ask a BMC next, ``after_s`` seconds from now, and how long that may take."""

    script: Callable[[BmcTarget], Script]
    after_s: float
    timeout_s: float


def ask_all(
    targets: Sequence[BmcTarget],
    script: Callable[[BmcTarget], Script],
    *,
    allows: Callable[[str], bool],
    timeout_s: float,
    ended: Callable[[Ended], Follow | None],
    pacing: Pacing | None = None,
) -> None:
    """Run a script on every target and call ``ended`` for each as it ends, in the order of the answers; it may name
    what that BMC is to be asked next, whatever the others do.

    ``timeout_s`` counts for each target from its first datagram. Returns when all have ended. On KeyboardInterrupt (or
    an exception of ``ended``) every open session is closed before it goes on upwards.
    """
    ports = Ports()
    fleet = Fleet(ports.send, random=os.urandom, allows=allows, pacing=pacing)
    later: list[tuple[float, int, Job]] = []  # heap
    waiting = select.poll()
    sockets: dict[int, socket.socket] = {}

    def opened(sock: socket.socket) -> None:
        sockets[sock.fileno()] = sock
        waiting.register(sock, select.POLLIN)

    ports.opened = opened
    clock = time.monotonic

    def told(end: Ended) -> None:
        follow = ended(end)
        if follow is not None:
            job = _job(end.target, follow.script, follow.timeout_s, ports, told)
            heappush(later, (clock() + follow.after_s, id(job), job))

    turns = 0  # in a row that did not take everything that had arrived
    try:
        for target in targets:
            fleet.submit(_job(target, script, timeout_s, ports, told), clock())
        while fleet.open or later:
            due = fleet.next_timer()
            if later:
                now = clock()
                while later and later[0][0] <= now:
                    fleet.submit(heappop(later)[2], now)
                times = (fleet.next_timer(), later[0][0] if later else None)
                due = min((at for at in times if at is not None), default=None)
            wait_ms = None if due is None else max(0, int((due - clock()) * 1000) + 1)
            more = False
            for number, _ in waiting.poll(wait_ms):
                more = drain(sockets[number], fleet, clock) or more
            turns = turns + 1 if more else 0
            if not turns % TURNS_BEFORE_TIMERS:  # timers last: an answer that has come already was not lost
                fleet.handle_timers(clock())
    finally:
        try:
            fleet.abort(clock())
        finally:
            ports.close()


def _job(
    target: BmcTarget,
    script: Callable[[BmcTarget], Script],
    timeout_s: float,
    ports: Ports,
    ended: Callable[[Ended], None],
) -> Job:
    def done(job: Job, result: Result, now: float) -> None:
        detail = result.detail
        if result.reason is Reason.BMC_UNREACHABLE and (trouble := ports.trouble.get(job.address)):
            detail = f"{detail}; this machine says: {trouble}"
        elapsed_s = 0.0 if job.started_at is None else now - job.started_at
        ended(Ended(target, result.reason, detail, result.value, job.attempts, elapsed_s))

    return Job(
        socket_address(target.address, target.port),
        target.credentials,
        lambda: script(target),
        timeout_s,
        done,
        suites=target.suites,
        version=target.version,
        privilege=target.privilege,
    )


def socket_address(ip: str, port: int) -> Address:
    """The address as the kernel spells it in what it receives. ValueError for what is no literal."""
    return (ip if ":" not in ip else str(ip_address(ip))), port
