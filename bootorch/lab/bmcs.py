"""Every BMC of a lab on one UDP socket: IP_PKTINFO says which address was asked, and the answer leaves from it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Hashable, Mapping
from hashlib import sha256
from pathlib import Path

import structlog

from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.packet import RMCP_PORT
from bootorch.lab import pktinfo
from bootorch.lab.board import Board, Peer
from bootorch.lab.chassis import LabChassis
from bootorch.lab.wire import WireFaults
from bootorch.sim.machine import Machine

Clock = Callable[[], float]  # seconds since the lab got electricity

_BATCH = 64  # datagrams per turn of the loop, so that SSH hosts get theirs
_RECEIVE_BUFFER = 4 << 20  # a run that begins asks thousands of BMCs within one second

log = structlog.get_logger()


class Witness:
    """What reached the machines, written down by the machines' side: NDJSON, one authenticated command a line.

    ``t``: seconds of the lab's clock; ``state``: the chassis' power after the command. Each line is one write, so
    that whoever reads while the lab runs sees whole lines.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._clock = clock

    def saw(self, host: str, command: str, completion: int, *, on: bool) -> None:
        verb, _, argument = command.partition("chassis control ")
        record = {
            "t": round(self._clock(), 6),
            "time": round(time.time(), 6),
            "host": host,
            "command": verb or "chassis control",
            "argument": argument,
            "completion": int(completion),
            "state": "on" if on else "off",
        }
        os.write(self._file, json.dumps(record).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


class LabBmc:
    """One BMC: a machine, its chassis, and the protocol, which is made when the first datagram comes.

    ``port`` is the one that clients use; ``watts`` and ``epoch`` are those of ``LabChassis``.
    """

    __slots__ = ("_bmc", "_now", "_port", "_users", "_witness", "chassis", "machine")

    def __init__(
        self,
        machine: Machine,
        changed: Callable[[], None],
        users: Mapping[bytes, Secret],
        witness: Witness,
        *,
        port: int = RMCP_PORT,
        watts: tuple[float, float] = (450.0, 250.0),
        epoch: float = 0.0,
    ) -> None:
        self.machine = machine
        self.chassis = LabChassis(machine, changed, watts=watts, epoch=epoch)
        self._port = port
        self._users = users
        self._witness = witness
        self._bmc: Bmc | None = None
        self._now = 0.0

    def receive_datagram(self, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        if not self.machine.bmc_up(now):
            return []
        if self._bmc is None:
            self._bmc = Bmc(
                users=self._users,
                guid=sha256(b"bmc guid " + self.machine.spec.name.encode()).digest()[:16],
                chassis=self.chassis,
                random=os.urandom,
                observe=self._observe,
                port=self._port,
            )
        self._now = now
        return self._bmc.receive_datagram(data, peer, now)

    def next_timer(self) -> float | None:
        return self._bmc.next_timer() if self._bmc is not None else None

    def handle_timer(self, now: float) -> list[tuple[bytes, Hashable]]:
        return self._bmc.handle_timer(now) if self._bmc is not None else []

    def _observe(self, command: str, peer: Hashable, completion: int) -> None:
        del peer
        self._witness.saw(self.machine.spec.name, command, completion, on=self.machine.is_on(self._now))


class BmcSocket:
    """The lab's UDP socket. ``bmcs``: address -> BMC; ``wire``: what happens to datagrams, by ``seed``.

    OSError when the port is in use.
    """

    def __init__(
        self, port: int, bmcs: Mapping[str, LabBmc], clock: Clock, *, wire: WireFaults | None = None, seed: int = 0
    ) -> None:
        packed = {socket.inet_aton(address): bmc for address, bmc in bmcs.items()}
        self._board = Board(lambda asked, now: packed.get(asked), wire or WireFaults(), seed)
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.strangers = 0  # datagrams from elsewhere, dropped
        self._socket = pktinfo.open_socket(port, _RECEIVE_BUFFER)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, peer = self._socket.recvmsg(pktinfo.MAX_DATAGRAM, pktinfo.ANCILLARY_BYTES)
            except BlockingIOError:
                break
            asked = pktinfo.asked_address(ancillary)
            if asked is not None:
                self._received(data, peer, asked)
        self._wait()

    def _received(self, data: bytes, peer: Peer, asked: bytes) -> None:
        if not pktinfo.is_loopback(peer[0]):
            self.strangers += 1
            return
        for answer in self._board.receive(data, peer, asked, self._clock()):
            self._send(answer, peer, asked)

    def _wait(self) -> None:
        """Set the timer for what the wire holds back, and for serial consoles."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._board.due) is not None:
            delay_s = max(due - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._timers)

    def _timers(self) -> None:
        for datagram, peer, asked in self._board.timers(self._clock()):
            self._send(datagram, peer, asked)
        self._wait()

    def _send(self, data: bytes, peer: Peer, asked: bytes) -> None:
        try:
            self._socket.sendmsg([data], pktinfo.answer_from(asked), 0, peer)
        except OSError as error:  # a full buffer, or a peer whose port is closed: UDP promises nothing
            log.warning("answer not sent", peer=f"{peer[0]}:{peer[1]}", error=str(error))
