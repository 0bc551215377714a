"""A fleet of BMCs on loopback, served by one process without asyncio: sockets, an epoll loop, counters.

The ancillary data of each datagram say which BMC was asked. Of the 45 µs that a request takes, the two system calls
are a third, and the rest is the BMC's own arithmetic: the loop between them stays as thin as it can be.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import ceil
from types import FrameType

from bootorch.lab import pktinfo
from bootorch.lab.board import Board
from bootorch.lab.swarm import Swarm, SwarmOptions
from bootorch.lab.swarm_hosts import SwarmHosts

Stats = dict[str, int | float]

RECEIVE_BUFFER = 16 << 20  # bytes: a datagram takes some 800 of them, and 16,000 clients may ask in one moment
_MOST_SOCKETS = 16  # that share the port when the kernel grants less: rmem_max is 208 KiB by default
_BATCH = 512  # datagrams of one socket, then timers and the other sockets have their turn
_LONGEST_WAIT_S = 1.0


@dataclass(slots=True)
class _Counters:
    received: int = 0
    sent: int = 0
    unsent: int = 0  # the kernel did not take an answer
    strangers: int = 0  # from elsewhere than this machine: dropped unread
    peak_rate: int = 0  # most datagrams received within a second of the clock
    peak_sessions: int = 0  # as seen once a second


class SwarmServer:
    """Opens its sockets when made: OSError when the port is in use. ``port`` 0 chooses one.

    ``host_port``: where servers take TCP connections once they have booted; None: nowhere.
    """

    def __init__(self, options: SwarmOptions, port: int = 0, host_port: int | None = None) -> None:
        self._sockets = _open(port)
        self.port = int(self._sockets[0].getsockname()[1])
        self.receive_buffer = sum(map(pktinfo.receive_buffer, self._sockets))
        self._started = time.monotonic()
        self.swarm = Swarm(options, os.urandom, self.port, epoch=time.time())
        self._board = Board(self.swarm.find, options.wire, options.seed)
        self._hosts = SwarmHosts(self.swarm, host_port) if host_port is not None else None
        self._counters = _Counters()
        self._second, self._in_second = 0, 0
        self._asked_to_stop = False

    def clock(self) -> float:
        """Seconds since the electricity came back."""
        return time.monotonic() - self._started

    def about(self) -> dict[str, object]:
        """What whoever started it wants to know first."""
        addresses = self.swarm.options.addresses
        return {
            "pid": os.getpid(),
            "port": self.port,
            "bmcs": len(addresses),
            "first": addresses[0],
            "last": addresses[-1],
            "sockets": len(self._sockets),
            "receive_buffer": self.receive_buffer,
        }

    def stats(self) -> Stats:
        counters, now = self._counters, self.clock()
        sessions = self.swarm.sessions(now)
        hosts = self._hosts
        seen = {} if hosts is None else {"up": hosts.up, "accepted": hosts.accepted, "unopened": hosts.failed}
        return {
            "t": round(now, 3),
            "bmcs": len(self.swarm.options.addresses),
            "received": counters.received,
            "sent": counters.sent,
            "unsent": counters.unsent,
            "lost": self._board.wire.lost,
            "late_dropped": self._board.dropped,
            "nobody": self._board.nobody,
            "strangers": counters.strangers,
            "kernel_drops": sum(map(pktinfo.kernel_drops, self._sockets)),
            "peak_rate": max(counters.peak_rate, self._in_second),
            "sessions": sessions,
            "peak_sessions": max(counters.peak_sessions, sessions),
            "power_ons": self.swarm.power_ons(),
            "on": self.swarm.on(now),
            **seen,
            "cpu_s": round(time.process_time(), 3),
            "rss_mib": round(_resident_bytes() / (1 << 20), 1),
        }

    def run(self, lifetime_s: float, ready: Callable[[], None], told: Callable[[Stats], None]) -> None:
        """Serve until TERM, INT or the end of the lifetime. To be called in the main thread.

        ``ready`` is called when signals are understood and answers flow, ``told`` with the counters on SIGUSR1 and at
        the end.
        """
        with ExitStack() as stack:
            poll = stack.enter_context(select.epoll())
            by_number = {sock.fileno(): sock for sock in self._sockets}
            for number in by_number:
                poll.register(number, select.EPOLLIN)
            signals = _signals(stack)
            poll.register(signals, select.EPOLLIN)
            hosts = self._hosts
            if hosts is not None:
                hosts.start(poll)
            # What lives here lives long: collections would look at a whole fleet to find nothing.
            gc.collect()
            gc.freeze()
            ready()
            while not self._asked_to_stop and self.clock() < lifetime_s:
                for number, _ in poll.poll(self._wait_s()):
                    if number == signals.fileno():
                        self._signalled(signals.recv(64), told)
                    elif number in by_number:
                        self._drain(by_number[number])
                    elif hosts is not None and number in hosts:  # else it was closed in this turn
                        hosts.accept(number)
                self._timers()
            told(self.stats())

    def _wait_s(self) -> float:
        due = self._board.due
        if self._hosts is not None and (up_at := self._hosts.next_timer()) is not None:
            due = up_at if due is None else min(due, up_at)
        return _LONGEST_WAIT_S if due is None else min(max(due - self.clock(), 0.0), _LONGEST_WAIT_S)

    def _signalled(self, numbers: bytes, told: Callable[[Stats], None]) -> None:
        if signal.SIGUSR1 in numbers:
            told(self.stats())
        self._asked_to_stop = signal.SIGTERM in numbers or signal.SIGINT in numbers

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._hosts is not None:
            self._hosts.close()

    def _drain(self, sock: socket.socket) -> None:
        """Answer what has arrived. The path of every datagram: names are local, and nothing is done twice."""
        receive, send, answers, clock = sock.recvmsg, sock.sendmsg, self._board.receive, time.monotonic
        counters, started = self._counters, self._started
        ancillary_bytes, max_datagram = pktinfo.ANCILLARY_BYTES, pktinfo.MAX_DATAGRAM
        received = sent = 0
        for _ in range(_BATCH):
            try:
                data, ancillary, _, peer = receive(max_datagram, ancillary_bytes)
            except BlockingIOError:
                break
            received += 1
            asked = pktinfo.asked_address(ancillary)
            if asked is None or not pktinfo.is_loopback(peer[0]):
                counters.strangers += 1
                continue
            for answer in answers(data, peer, asked, clock() - started):
                try:
                    send((answer,), pktinfo.answer_from(asked), 0, peer)
                    sent += 1
                except OSError:  # a full buffer, or a peer whose port is closed: UDP promises nothing
                    counters.unsent += 1
        counters.received += received
        counters.sent += sent
        self._in_second += received

    def _timers(self) -> None:
        now = self.clock()
        if self._hosts is not None:
            self._hosts.handle_timers(now)
        for datagram, peer, asked in self._board.timers(now):
            try:
                self._sockets[0].sendmsg((datagram,), pktinfo.answer_from(asked), 0, peer)
                self._counters.sent += 1
            except OSError:
                self._counters.unsent += 1
        if int(now) != self._second:
            self._second = int(now)
            self._counters.peak_rate = max(self._counters.peak_rate, self._in_second)
            if self._in_second:
                self._counters.peak_sessions = max(self._counters.peak_sessions, self.swarm.sessions(now))
            self._in_second = 0


def _open(port: int) -> list[socket.socket]:
    """As many sockets as it takes to have the receive buffer. OSError when the port is in use."""
    with ExitStack() as stack:
        # Sockets that share a port would share it with another fleet's too: the first one must have it for itself.
        alone = pktinfo.open_socket(port, RECEIVE_BUFFER)
        port, granted = alone.getsockname()[1], pktinfo.receive_buffer(alone)
        if granted >= RECEIVE_BUFFER:
            return [alone]
        alone.close()
        sockets = []
        for _ in range(min(_MOST_SOCKETS, ceil(RECEIVE_BUFFER / granted))):
            sockets.append(pktinfo.open_socket(port, RECEIVE_BUFFER, shared=True))
            stack.callback(sockets[-1].close)
        stack.pop_all()
        return sockets


def _signals(stack: ExitStack) -> socket.socket:
    """A socket that reads the numbers of the signals that came: they must end a wait, and interrupt nothing else."""
    reader, writer = (stack.enter_context(sock) for sock in socket.socketpair())
    reader.setblocking(False)
    writer.setblocking(False)
    stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno()))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        stack.callback(signal.signal, number, signal.signal(number, _noted))
    return reader


def _noted(number: int, frame: FrameType | None) -> None:
    """The number is in the wakeup socket already."""


def _resident_bytes() -> int:
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
