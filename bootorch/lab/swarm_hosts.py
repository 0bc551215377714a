"""What a fleet's servers show once they have booted: a TCP port on the address of their BMC, and nothing before.

A listening socket for each server that is up: until then the kernel refuses, as it does for a server that boots.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from heapq import heappop, heappush
from ipaddress import IPv4Address
from select import EPOLLIN, epoll

from bootorch.lab.swarm import Swarm

_ACCEPTS = 16  # connections of one server in one turn of the loop
_BACKLOG = 16


class SwarmHosts:
    """Opens and closes the servers' ports as time goes by. ``fd in hosts`` tells whether an epoll event is for it."""

    def __init__(self, swarm: Swarm, port: int) -> None:
        self._port = port
        self._swarm = swarm
        self._due: list[tuple[float, bytes]] = []
        self._open: dict[bytes, socket.socket] = {}
        self._by_number: dict[int, socket.socket] = {}
        self._poll: epoll | None = None
        self.accepted = 0
        self.failed = 0  # ports that could not be opened: somebody else has them, or descriptors have run out
        swarm.changed = self.changed

    def start(self, poll: epoll) -> None:
        self._poll = poll

    def changed(self, asked: bytes) -> None:
        """A server's power went on, off, or round."""
        if (old := self._open.pop(asked, None)) is not None:
            del self._by_number[old.fileno()]
            old.close()
        if (up_at := self._swarm.up_at(asked)) is not None:
            heappush(self._due, (up_at, asked))

    def next_timer(self) -> float | None:
        return self._due[0][0] if self._due else None

    def handle_timers(self, now: float) -> None:
        """Servers whose boot is over take connections from now on."""
        while self._due and self._due[0][0] <= now:
            up_at, asked = heappop(self._due)
            if up_at == self._swarm.up_at(asked) and asked not in self._open:
                self._listen(asked)

    def _listen(self, asked: bytes) -> None:
        assert self._poll is not None, "not started"
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(IPv4Address(asked)), self._port))
            sock.listen(_BACKLOG)
        except OSError:
            self.failed += 1
            sock.close()
            return
        self._open[asked] = self._by_number[sock.fileno()] = sock
        self._poll.register(sock, EPOLLIN)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def accept(self, number: int) -> None:
        """Whoever has connected has seen that the server is up; there is nothing to say."""
        listener = self._by_number[number]
        for _ in range(_ACCEPTS):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            self.accepted += 1
            connection.close()

    @property
    def up(self) -> int:
        return len(self._open)

    def close(self) -> None:
        for sock in self._open.values():
            with suppress(OSError):
                sock.close()
