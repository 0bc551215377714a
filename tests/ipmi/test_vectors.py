"""Recorded conversations between a foreign client and a foreign server (user admin): every packet, byte for byte."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.secret import Secret
from bootorch.ipmi import crypto
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.crypto import Keys, suite
from bootorch.ipmi.packet import (
    Payload,
    SequenceWindow,
    decode_header,
    decode_v15,
    encode_clear,
    encode_v15,
    seal,
    unseal,
)
from bootorch.ipmi.wire import decode_request, decode_response, encode_request, encode_response

VECTORS = Path(__file__).parent / "vectors"
PASSWORD = b"s3cretpw"
CONSOLE_ID = 0xA0A2A3A4
SUITES = [3, 17]


class Vector:
    """The parsed conversation: what both sides said before the session, and the keys that follow from it."""

    def __init__(self, ident: int) -> None:
        lines = (VECTORS / f"kat{ident}.txt").read_text().split("\n")
        self.packets = [(line[0], bytes.fromhex(line[2:])) for line in lines if line]
        self.suite = suite(ident)
        clear = {packet[5]: packet for _, packet in self.packets if packet[4] == 6 and packet[5] < 0x80}
        self.clear = {kind: packet[16:] for kind, packet in clear.items()}
        open_response = hs.decode_open_response(self.clear[Payload.OPEN_RESPONSE])
        rakp1 = hs.decode_rakp1(self.clear[Payload.RAKP1])
        rakp2 = hs.decode_rakp2(self.clear[Payload.RAKP2])
        assert open_response is not None
        assert rakp1 is not None
        assert rakp2 is not None
        self.open_response, self.rakp1, self.rakp2 = open_response, rakp1, rakp2
        self.sid_m = CONSOLE_ID.to_bytes(4, "little")
        self.sid_c = open_response.bmc_id.to_bytes(4, "little")
        self.sik = crypto.session_key(self.suite, PASSWORD, rakp1.random, rakp2.random, rakp1.name)
        self.keys = Keys(self.suite, self.sik)

    def noise(self, iv: bytes, last_block: bytes = bytes(16)) -> bytes:
        """What a session has to draw, after having sent ``last_block``, for its next packet to have this IV."""
        k2 = hmac.digest(self.sik, b"\x02" * 20, self.suite.hash)[:16]
        decryptor = Cipher(AES(k2), ECB()).decryptor()
        return bytes(a ^ b for a, b in zip(decryptor.update(iv), last_block, strict=True))


@pytest.fixture(params=SUITES, ids=lambda ident: f"suite{ident}")
def vector(request: pytest.FixtureRequest) -> Vector:
    return Vector(request.param)


def test_discovery(vector: Vector) -> None:
    (_, asked), (_, answered) = vector.packets[:2]
    assert encode_v15(encode_request(6, 0x38, 0, msg.auth_capabilities())) == asked
    message = decode_v15(answered)
    assert message is not None
    response = decode_response(message)
    assert response is not None
    capabilities = msg.parse_auth_capabilities(response.data)
    assert capabilities is not None
    assert capabilities.ipmi_20


def test_open_session(vector: Vector) -> None:
    request = hs.encode_open_request(0, 0, CONSOLE_ID, vector.suite)
    assert encode_clear(Payload.OPEN_REQUEST, request)[16:] == vector.clear[Payload.OPEN_REQUEST]
    privilege = vector.clear[Payload.OPEN_RESPONSE][2]
    answer = hs.encode_open_response(0, privilege, CONSOLE_ID, vector.open_response.bmc_id, vector.suite)
    assert answer == vector.clear[Payload.OPEN_RESPONSE]


def test_rakp(vector: Vector) -> None:
    s, rakp1, rakp2 = vector.suite, vector.rakp1, vector.rakp2
    assert rakp1.name == hs.role_and_name(4, b"admin")
    assert hs.encode_rakp1(0, vector.open_response.bmc_id, rakp1.random, rakp1.name) == vector.clear[Payload.RAKP1]
    proof2 = crypto.proof_rakp2(
        s, PASSWORD, vector.sid_m, vector.sid_c, rakp1.random, rakp2.random, rakp2.guid, rakp1.name
    )
    assert hs.encode_rakp2(0, CONSOLE_ID, rakp2.random, rakp2.guid, proof2) == vector.clear[Payload.RAKP2]
    proof3 = crypto.proof_rakp3(s, PASSWORD, rakp2.random, vector.sid_m, rakp1.name)
    assert hs.encode_rakp34(0, vector.open_response.bmc_id, proof3) == vector.clear[Payload.RAKP3]
    icv = crypto.icv_rakp4(s, vector.sik, rakp1.random, vector.sid_c, rakp2.guid)
    assert hs.encode_rakp34(0, CONSOLE_ID, icv) == vector.clear[Payload.RAKP4]


def test_every_packet_of_the_session(vector: Vector) -> None:
    windows = {">": SequenceWindow(), "<": SequenceWindow()}
    requests = {}
    seen = []
    for side, packet in vector.packets:
        if packet[4] != 6 or packet[5] != 0xC0:
            continue
        header = decode_header(packet)
        assert header is not None
        message = unseal(vector.keys, header, packet)
        assert message is not None
        assert windows[side].accept(header.sequence)
        assert not windows[side].accept(header.sequence)
        # With the recorded IV the packet comes out again, byte for byte.
        fresh = Keys(vector.suite, vector.sik)
        assert seal(fresh, header.session, header.sequence, message, vector.noise(packet[16:32])) == packet
        if side == ">":
            request = decode_request(message)
            assert request is not None
            assert encode_request(request.netfn, request.command, request.sequence, request.data) == message
            requests[request.sequence] = request
            seen.append((request.netfn, request.command))
        else:
            response = decode_response(message)
            assert response is not None
            # The server of suite 17 puts its own address where the console's belongs: clients must not mind.
            request = requests[response.sequence]._replace(console_address=message[0])
            assert encode_response(request, response.completion, response.data) == message
    assert seen[0] == (6, 0x3B)
    assert (0, 1) in seen
    assert seen[-1] == (6, 0x3C)


def test_a_changed_bit_is_refused_everywhere(vector: Vector) -> None:
    _, packet = next((side, packet) for side, packet in vector.packets if packet[4] == 6 and packet[5] == 0xC0)
    for position in range(4, len(packet)):
        changed = packet[:position] + bytes((packet[position] ^ 0x10,)) + packet[position + 1 :]
        header = decode_header(changed)
        assert header is None or unseal(vector.keys, header, changed) is None


def test_our_bmc_says_what_the_recorded_server_said(vector: Vector) -> None:
    """The recorded client's packets drive our BMC; with the recorded randoms it sends the recorded packets."""
    ivs = [packet[16:32] for side, packet in vector.packets if side == "<" and packet[4:6] == b"\x06\xc0"]
    session = iter([vector.sid_c, vector.rakp2.random])
    sealed: list[bytes] = []  # by our BMC

    def random(n: int) -> bytes:
        value = next(session, b"")
        if not value:
            last = sealed[-1][: -vector.suite.icv_size - 4][-16:] if sealed else bytes(16)
            value = vector.noise(ivs[len(sealed)], last)
        assert len(value) == n
        return value

    bmc = Bmc(
        users={b"admin": Secret(PASSWORD)},
        guid=vector.rakp2.guid,
        chassis=MemoryChassis(),
        random=random,
        suites=(vector.suite.ident,),
    )
    same: set[int] = set()
    answers: Iterable[tuple[bytes, list[bytes]]] = (
        (recorded, bmc.receive_datagram(asked, "peer", 0.0))
        for (side, asked), (_, recorded) in zip(vector.packets, vector.packets[1:], strict=False)
        if side == ">"
    )
    for recorded, ours in answers:
        assert len(ours) == 1
        if ours[0][4:6] == b"\x06\xc0":
            sealed.append(ours[0])
            assert ours[0][16:32] == recorded[16:32]
        if ours[0] == recorded:
            same.add(recorded[5] if recorded[4] == 6 else -1)
    assert {Payload.RAKP2, Payload.RAKP4} <= same
    # ipmi_sim (suite 3) also frames answers as we do: Set Session Privilege and Close Session come out the same.
    assert (0xC0 in same) == (vector.suite.ident == 3)


@given(st.sampled_from(SUITES), st.binary(max_size=64), st.binary(max_size=300))
def test_hmac_is_the_librarys(ident: int, key: bytes, message: bytes) -> None:
    chosen = suite(ident)
    assert crypto._hmac(chosen, key, message) == hmac.digest(key, message, chosen.hash)
