"""A console driven by hand, one request at a time: what an authenticated peer may do, for good or ill."""

from __future__ import annotations

from random import Random
from typing import Self

from bootorch.ipmi import handshake as hs
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.crypto import Keys, proof_rakp3, session_key, suite
from bootorch.ipmi.packet import Channel, Payload, decode_header, encode_clear
from bootorch.ipmi.wire import decode_response, encode_request

from .network import PASSWORD, PEER, USER

ADMIN = 4


class HandConsole:
    """A session with ``bmc`` from ``peer``. ``now`` is the clock of everything that is sent.

    ``level`` is asked for with Set Session Privilege; None: it is not, and the session stays where it starts.
    """

    def __init__(
        self, bmc: Bmc, *, peer: object = PEER, now: float = 0.0, ident: int = 17, level: int | None = ADMIN
    ) -> None:
        self.bmc = bmc
        self.peer = peer
        self.now = now
        self._random = Random(7)
        self._console_id = self._random.randrange(1, 1 << 32)
        self._chosen = suite(ident)
        self.bmc_id = 0
        self.channel = self._login()
        if level is not None:
            assert self.ask(0x06, 0x3B, bytes((level,))) == (0, bytes((level,)))

    def _login(self) -> Channel:
        chosen, name, r_m = self._chosen, hs.role_and_name(ADMIN, USER), self._random.randbytes(16)
        request = hs.encode_open_request(1, ADMIN, self._console_id, chosen)
        opened = hs.decode_open_response(self._send_clear(Payload.OPEN_REQUEST, request))
        assert opened is not None
        assert opened.status == 0
        self.bmc_id = opened.bmc_id
        rakp2 = hs.decode_rakp2(self._send_clear(Payload.RAKP1, hs.encode_rakp1(2, opened.bmc_id, r_m, name)))
        assert rakp2 is not None
        password = PASSWORD.reveal()
        proof = proof_rakp3(chosen, password, rakp2.random, self._console_id.to_bytes(4, "little"), name)
        answer = self._send_clear(Payload.RAKP3, hs.encode_rakp34(3, opened.bmc_id, proof))
        assert answer[1] == 0
        return Channel(Keys(chosen, session_key(chosen, password, r_m, rakp2.random, name)), opened.bmc_id)

    def _send_clear(self, kind: Payload, payload: bytes) -> bytes:
        (packet,) = self.bmc.receive_datagram(encode_clear(kind, payload), self.peer, self.now)
        return packet[16:]

    def at(self, now: float) -> Self:
        self.now = now
        return self

    def send(self, message: bytes, kind: Payload = Payload.IPMI) -> list[bytes]:
        """The opened payloads of the answers."""
        packet = self.channel.seal(message, self._random.randbytes(16), kind)
        return [self.open(answer, kind) for answer in self.bmc.receive_datagram(packet, self.peer, self.now)]

    def open(self, packet: bytes, kind: Payload = Payload.IPMI) -> bytes:
        header = decode_header(packet)
        assert header is not None
        assert header.session == self._console_id
        message = self.channel.open(header, packet, kind)
        assert message is not None
        return message

    def ask(self, netfn: int, command: int, data: bytes = b"") -> tuple[int, bytes]:
        """Completion code and data."""
        (message,) = self.send(encode_request(netfn, command, 1, data))
        response = decode_response(message)
        assert response is not None
        assert (response.netfn, response.command) == (netfn | 1, command)
        return response.completion, response.data

    def unasked(self) -> list[bytes]:
        """Serial console output that the BMC sends by its timer."""
        return [self.open(packet, Payload.SOL) for packet, _ in self.bmc.handle_timer(self.now)]
