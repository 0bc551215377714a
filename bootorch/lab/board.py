"""BMCs behind a wire with faults: what both servers of the lab do with a datagram, and when. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol

from bootorch.lab.wire import Later, Wire, WireFaults

Peer = tuple[str, int]


class Bmc(Protocol):
    """As ``ipmi.bmc.Bmc``."""

    def receive_datagram(self, data: bytes, peer: Hashable, now: float) -> list[bytes]: ...

    def next_timer(self) -> float | None: ...

    def handle_timer(self, now: float) -> list[tuple[bytes, Hashable]]: ...


class Outgoing(NamedTuple):
    """A datagram to send to ``peer``, from the packed address ``asked``."""

    datagram: bytes
    peer: Peer
    asked: bytes


class Board:
    """``find(packed address, now)``: the BMC there, None where nobody answers."""

    __slots__ = ("_console_due", "_consoles", "_find", "_under_way", "nobody", "wire")

    def __init__(self, find: Callable[[bytes, float], Bmc | None], faults: WireFaults, seed: int) -> None:
        self._find = find
        self.wire = Wire(faults, seed)
        self._under_way: Later[Outgoing] = Later()
        self._consoles: Later[bytes] = Later()
        self._console_due: dict[bytes, float] = {}
        self.nobody = 0  # datagrams for an address without a BMC, a dead one, or one that still boots

    @property
    def dropped(self) -> int:
        """Answers that found the queue of delayed ones full."""
        return self._under_way.dropped

    @property
    def due(self) -> float | None:
        """When ``timers`` is to be called."""
        first, second = self._under_way.due, self._consoles.due
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    def receive(self, data: bytes, peer: Peer, asked: bytes, now: float) -> Sequence[bytes]:
        """What goes back at once; what is late goes out by ``timers``."""
        bmc = self._find(asked, now)
        if bmc is None:
            self.nobody += 1
            return ()
        if self.wire.perfect:
            answers: Sequence[bytes] = bmc.receive_datagram(data, peer, now)
        else:
            answers = [
                datagram
                for _ in range(self.wire.arrivals())
                for answer in bmc.receive_datagram(data, peer, now)
                for datagram in self._leave(answer, peer, asked, now)
            ]
        if (due := bmc.next_timer()) is not None:
            self._watch(asked, due)
        return answers

    def timers(self, now: float) -> Iterator[Outgoing]:
        """What is to be sent now: answers that the wire held back, and output of serial consoles."""
        while (late := self._under_way.pop(now)) is not None:
            yield late
        while (asked := self._consoles.pop(now)) is not None:
            due, bmc = self._console_due.get(asked), self._find(asked, now)
            if due is None or due > now or bmc is None:
                continue  # it was put off: another timer is set
            del self._console_due[asked]
            for datagram, peer in bmc.handle_timer(now):
                assert isinstance(peer, tuple), "a peer is what receive_datagram was given"
                for leaving in self._leave(datagram, peer, asked, now):
                    yield Outgoing(leaving, peer, asked)
            if (again := bmc.next_timer()) is not None:
                self._watch(asked, again)

    def _leave(self, datagram: bytes, peer: Peer, asked: bytes, now: float) -> Iterator[bytes]:
        if self.wire.perfect:
            yield datagram
            return
        for delay_s, leaving in self.wire.departures(datagram):
            if delay_s > 0:
                self._under_way.push(now + delay_s, Outgoing(leaving, peer, asked))
            else:
                yield leaving

    def _watch(self, asked: bytes, due: float) -> None:
        """A serial console sends unasked: remember when."""
        if self._console_due.get(asked) != due:
            self._console_due[asked] = due
            self._consoles.push(due, asked)
