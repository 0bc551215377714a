"""Every BMC of a lab on one UDP socket: IP_PKTINFO says which address was asked, and the answer leaves from it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import structlog

from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.lab.chassis import LabChassis
from bootorch.sim.machine import Machine

Clock = Callable[[], float]  # seconds since the lab got electricity
Peer = tuple[str, int]

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # <linux/in.h>; Python names it from 3.14 on
_PKTINFO = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, local address, destination of the header
_ANCILLARY_BYTES = socket.CMSG_SPACE(_PKTINFO.size)
_MAX_DATAGRAM = 2048  # an IPMI message over LAN has at most some 300 bytes; what is longer is none
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
    """One BMC: a machine, its chassis, and the protocol, which is made when the first datagram comes."""

    __slots__ = ("_bmc", "_now", "_users", "_witness", "chassis", "machine")

    def __init__(
        self, machine: Machine, changed: Callable[[], None], users: Mapping[bytes, Secret], witness: Witness
    ) -> None:
        self.machine = machine
        self.chassis = LabChassis(machine, changed)
        self._users = users
        self._witness = witness
        self._bmc: Bmc | None = None
        self._now = 0.0

    def receive(self, data: bytes, peer: Peer, now: float) -> list[bytes]:
        if not self.machine.bmc_up(now):
            return []
        if self._bmc is None:
            guid = sha256(b"bmc guid " + self.machine.spec.name.encode()).digest()[:16]
            self._bmc = Bmc(
                users=self._users, guid=guid, chassis=self.chassis, random=os.urandom, observe=self._observe
            )
        self._now = now
        return self._bmc.receive_datagram(data, peer, now)

    def _observe(self, command: str, peer: Hashable, completion: int) -> None:
        del peer
        self._witness.saw(self.machine.spec.name, command, completion, on=self.machine.is_on(self._now))


def is_loopback(address: str) -> bool:
    """Whether a source is of 127.0.0.0/8. The socket is open on every interface; the lab is for this machine only."""
    return address.startswith("127.")


class BmcSocket:
    """The lab's UDP socket. ``bmcs``: address -> BMC. ``loss``: share of datagrams dropped, each way, by ``seed``.

    OSError when the port is in use.
    """

    def __init__(
        self, port: int, bmcs: Mapping[str, LabBmc], clock: Clock, *, loss: float = 0.0, seed: int = 0
    ) -> None:
        self._bmcs = {socket.inet_aton(address): bmc for address, bmc in bmcs.items()}
        self._clock = clock
        self._loss = loss
        self._random = random.Random(seed)  # noqa: S311 - a fault that can be had again, not a secret
        self.strangers = 0  # datagrams from elsewhere, dropped
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self._closed_on_error():
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_IP, _IP_PKTINFO, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.bind(("0.0.0.0", port))  # noqa: S104 - see is_loopback

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._socket.close()
            raise

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, peer = self._socket.recvmsg(_MAX_DATAGRAM, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            asked = _destination(ancillary)
            if asked is not None:
                self._received(data, peer, asked)

    def _received(self, data: bytes, peer: Peer, asked: bytes) -> None:
        if not is_loopback(peer[0]):
            self.strangers += 1
            return
        bmc = self._bmcs.get(asked)
        if bmc is None or self._lost():
            return
        for answer in bmc.receive(data, peer, self._clock()):
            if not self._lost():
                self._send(answer, peer, asked)

    def _send(self, data: bytes, peer: Peer, source: bytes) -> None:
        info = _PKTINFO.pack(0, source, bytes(4))
        try:
            self._socket.sendmsg([data], [(socket.SOL_IP, _IP_PKTINFO, info)], 0, peer)
        except OSError as error:  # a full buffer, or a peer whose port is closed: UDP promises nothing
            log.warning("answer not sent", peer=f"{peer[0]}:{peer[1]}", error=str(error))

    def _lost(self) -> bool:
        return self._loss > 0 and self._random.random() < self._loss


def _destination(ancillary: list[tuple[int, int, bytes]]) -> bytes | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_IP and kind == _IP_PKTINFO and len(data) >= _PKTINFO.size:
            destination: bytes = _PKTINFO.unpack_from(data)[2]
            return destination
    return None
