"""Serial consoles of many hosts over one UDP socket per address family, which carries nothing else: some BMCs key
sessions by the client's address and port, and a second session from there would end the first.
"""

from __future__ import annotations

import asyncio
import os
import socket
from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final

from bootorch.core.evidence import MOST_CONSOLE, clean, tail
from bootorch.core.model import Endpoint, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.bmc_net import RECEIVE_BUFFER, socket_address
from bootorch.ipmi.fleet import Address
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.packet import MAX_PACKET
from bootorch.ipmi.sol import Console, End

MOST_OPEN: Final = 256  # consoles at a time: at 115,200 baud that many screens fill 3 MB/s
OPEN_TIMEOUT_S: Final = 20.0  # FreeIPMI gives a session 20 s
DATAGRAMS_PER_TURN: Final = 256

Output = Callable[[bytes], None]


class Consoles:
    """Consoles of one event loop; ``aclose`` at the end. ``site`` is the fence, checked before the first packet.

    ``most_open``: ``open`` refuses further ones with BMC_BUSY. ``holds``: may anything be sent now (``Lease.holds``)?
    """

    def __init__(self, site: Site, *, most_open: int = MOST_OPEN, holds: Callable[[], bool] = lambda: True) -> None:
        self._site = site
        self._holds = holds
        self._most_open = most_open
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._sessions: dict[Address, ConsoleSession] = {}
        # Session ids unique in the process: a counter through a bijection of 32 bits, not guessable.
        self._ids = count(int.from_bytes(os.urandom(4), "little"))
        self._mask = int.from_bytes(os.urandom(4), "little")
        self._closed = False

    def __len__(self) -> int:
        """How many are open, or on their way."""
        return len(self._sessions)

    async def open(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        on_output: Output,
        *,
        timeout_s: float = OPEN_TIMEOUT_S,
        suites: Sequence[int] = (17, 3),
        steal: bool = False,
    ) -> ConsoleSession | End:
        """An open console, or why there is none. ``on_output`` is given what the host writes, as it comes.

        ``steal``: end the console of somebody else who holds the port.
        """
        if self._closed:
            raise RuntimeError("the consoles were closed")
        if not self._site.allows_bmc(endpoint.address):
            return End(Reason.OUTSIDE_SITE, f"BMC {endpoint} is outside the site's bmc_networks; nothing was sent")
        address = socket_address(endpoint.address, endpoint.port)
        if address in self._sessions:
            return End(Reason.BMC_BUSY, f"{endpoint}: this process has its console open already")
        if len(self._sessions) >= self._most_open:
            return End(Reason.BMC_BUSY, f"{endpoint}: {self._most_open} consoles are open, more would be too many")
        loop = asyncio.get_running_loop()
        console = Console(
            credentials,
            random=os.urandom,
            console_id=self._console_id,
            open_by=loop.time() + timeout_s,
            suites=suites,
            steal=steal,
        )
        try:
            sock = self._socket(address)
        except OSError as error:
            return End(Reason.INTERNAL, f"{endpoint}: no socket for its console: {error.strerror}")
        session = ConsoleSession(console, address, sock, on_output, partial(self._forget, address), self._holds)
        self._sessions[address] = session
        try:
            return await session.opened()
        except asyncio.CancelledError:  # leave neither session nor payload behind
            session.abort()
            raise

    async def aclose(self) -> None:
        """End every console and close the sockets."""
        self._closed = True
        for session in list(self._sessions.values()):
            session.abort()
        for sock in self._sockets.values():
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _forget(self, address: Address) -> None:
        self._sessions.pop(address, None)

    def _console_id(self) -> int:
        while True:
            ident = (next(self._ids) * 0x9E3779B1 ^ self._mask) & 0xFFFFFFFF
            if ident:
                return ident

    def _socket(self, address: Address) -> socket.socket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = self._sockets.get(family)
        if sock is None:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind(("", 0))
            self._sockets[family] = sock
            asyncio.get_running_loop().add_reader(sock, self._readable, sock)
        return sock

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, source = sock.recvfrom(MAX_PACKET + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an error that some earlier datagram met; its console learns by its timer
            session = self._sessions.get(source[:2])
            if session is not None and len(data) <= MAX_PACKET:
                session.receive(data)


class ConsoleSession:
    """One console. Made by ``Consoles.open``."""

    def __init__(
        self,
        console: Console,
        address: Address,
        sock: socket.socket,
        on_output: Output,
        forget: Callable[[], None],
        holds: Callable[[], bool],
    ) -> None:
        self._console = console
        self._address = address
        self._sock = sock
        self._on_output = on_output
        self._forget = forget
        self._holds = holds
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[End] = self._loop.create_future()

    @property
    def end(self) -> End | None:
        """How it ended; None while it is open."""
        return self._console.end

    async def opened(self) -> ConsoleSession | End:
        """Itself when characters can flow, else why they never will."""
        self._console.start(self._loop.time())
        self._after()
        await asyncio.wait((self._ready, self._over), return_when=asyncio.FIRST_COMPLETED)
        return self._console.end or self

    def write(self, data: bytes) -> None:
        """Type. After the end it does nothing."""
        self._console.write(data, self._loop.time())
        self._after()

    async def ended(self) -> End:
        """Wait for the end."""
        return await asyncio.shield(self._over)

    async def close(self) -> End:
        """Free the console and close the session."""
        self._console.close(self._loop.time())
        self._after()
        return await self.ended()

    def abort(self) -> None:
        """Free the console without waiting for the BMC."""
        self._console.abort()
        self._after()

    def receive(self, data: bytes) -> None:
        self._console.receive_datagram(data, self._loop.time())
        self._after()

    def _timer(self) -> None:
        self._wake = None
        self._console.handle_timer(self._loop.time())
        self._after()

    def _after(self) -> None:
        """After each call of the console: send, hand out, note the timer, tell its state."""
        console = self._console
        for data in console.datagrams_to_send():
            if not self._holds():
                break
            try:
                self._sock.sendto(data, self._address)
            except OSError:
                break  # no route, a full buffer: to the console these are lost datagrams
        if output := console.output():
            self._on_output(output)
        due = console.next_timer()
        if self._wake is not None and (due is None or self._wake.when() > due):
            self._wake.cancel()
            self._wake = None
        if due is None:
            self._forget()
            if console.end is not None and not self._over.done():
                self._over.set_result(console.end)
        elif self._wake is None:
            # A timer that has moved on is only looked at when its old time has come.
            self._wake = self._loop.call_at(due, self._timer)
        if console.open and not self._ready.done():
            self._ready.set_result(None)


class Tail:
    """The last ``MOST_CONSOLE`` bytes that a host has written, as printable lines: evidence of how a boot went.

    ``feed`` is what ``Consoles.open`` wants for ``on_output``. Memory is bounded: firmware paints its screens with
    escape sequences, so four times as many bytes are kept as are shown.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > 8 * MOST_CONSOLE:
            del self._bytes[: -4 * MOST_CONSOLE]

    def clear(self) -> None:
        self._bytes.clear()

    def text(self) -> str:
        """Escape sequences and control characters are left out; what is no UTF-8 becomes a question mark."""
        decoder = getincrementaldecoder("utf-8")("replace")
        # Not final: the first half of a character at the end is not a wrong one.
        return tail(clean(decoder.decode(bytes(self._bytes[-4 * MOST_CONSOLE :]))))
