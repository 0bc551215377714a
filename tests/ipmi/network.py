"""A network in virtual time between an exchange and a BMC: drops, repeats and delays datagrams, all from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random

from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Exchange, Result, Script, in_order
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.messages import Command

USER, PASSWORD = b"admin", Secret("s3cretpw")
GUID = bytes(range(16))
PEER = ("127.0.0.1", 40000)

Server = Callable[[bytes, float], list[bytes]]


def make_bmc(chassis: MemoryChassis | None = None, seed: int = 0, **options: object) -> Bmc:
    arguments: dict[str, object] = {
        "users": {USER: PASSWORD},
        "guid": GUID,
        "chassis": chassis or MemoryChassis(),
        "random": Random(seed).randbytes,
    }
    return Bmc(**(arguments | options))  # type: ignore[arg-type]


def server(bmc: Bmc) -> Server:
    return lambda data, now: bmc.receive_datagram(data, PEER, now)


def make_exchange(
    *commands: Command,
    script: Script | None = None,
    seed: int = 1,
    password: Secret = PASSWORD,
    user: bytes = USER,
    k_g: Secret | None = None,
    **options: object,
) -> Exchange:
    random = Random(seed)
    ids: Iterator[int] = count(random.randrange(1, 1 << 31))
    arguments: dict[str, object] = {"random": random.randbytes, "console_id": ids.__next__, "deadline": 60.0}
    return Exchange(Credentials(user, password, k_g), script or in_order(commands), **(arguments | options))  # type: ignore[arg-type]


class Network:
    """``loss`` and ``repeat`` are shares of datagrams, each way; ``delay_s`` is the longest delay, and so reorders."""

    def __init__(
        self, seed: int = 0, *, loss: float = 0.0, repeat: float = 0.0, delay_s: float = 0.001, start: float = 0.0
    ) -> None:
        self._random = Random(seed)
        self._loss, self._repeat, self._delay_s = loss, repeat, delay_s
        self._heap: list[tuple[float, int, bool, bytes]] = []
        self._entries = count()
        self.now = start
        self.sent: list[bytes] = []  # by the exchange, lost ones included
        self.received: list[bytes] = []  # by the exchange

    def _post(self, data: bytes, to_bmc: bool) -> None:
        copies = 0 if self._random.random() < self._loss else 1 + (self._random.random() < self._repeat)
        for _ in range(copies):
            due = self.now + self._random.uniform(0.0, self._delay_s)
            heappush(self._heap, (due, next(self._entries), to_bmc, data))

    def _flush(self, exchange: Exchange) -> None:
        for data in exchange.datagrams_to_send():
            self.sent.append(data)
            self._post(data, to_bmc=True)

    def run(self, exchange: Exchange, serve: Server) -> Result:
        """Run to the end; an exchange that never ends, or needs more than 2,000 events, fails the test."""
        exchange.start(self.now)
        self._flush(exchange)
        for _ in range(2000):
            if exchange.result is not None:
                self._drain(serve)
                return exchange.result
            timer = exchange.next_timer()
            assert timer is not None, "an exchange without an end has a timer"
            if self._heap and self._heap[0][0] <= timer:
                self.now, _, to_bmc, data = heappop(self._heap)
                if to_bmc:
                    for answer in serve(data, self.now):
                        self._post(answer, to_bmc=False)
                else:
                    self.received.append(data)
                    exchange.receive_datagram(data, self.now)
            else:
                self.now = max(self.now, timer)
                exchange.handle_timer(self.now)
            self._flush(exchange)
        raise AssertionError("the exchange does not end")

    def _drain(self, serve: Server) -> None:
        """What is still on its way to the BMC arrives."""
        for due, _, to_bmc, data in sorted(self._heap):
            if to_bmc:
                serve(data, due)
        self._heap.clear()


def talk(exchange: Exchange, serve: Server, *, start: float = 0.0) -> tuple[Result, Network]:
    """Over a network without faults."""
    network = Network(start=start)
    return network.run(exchange, serve), network


def kinds(packets: Sequence[bytes]) -> list[int]:
    """Payload types of RMCP+ packets, -1 for IPMI 1.5 framing."""
    return [packet[5] & 0x3F if packet[4] == 6 else -1 for packet in packets]
