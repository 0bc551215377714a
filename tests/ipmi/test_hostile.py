"""Hostile input, bounded and seeded: 20,000 packets for each role. Nothing raises, nothing grows, nothing is obeyed."""

from __future__ import annotations

from random import Random

import pytest

from bootorch.core.reasons import Reason
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.crypto import suite
from bootorch.ipmi.packet import Payload, decode_header, encode_clear
from bootorch.ipmi.wire import decode_response, encode_request

from .by_hand import login
from .fuzz import fuzz_bmc, fuzz_console
from .network import GUID, PASSWORD, PEER, make_bmc, make_exchange, server, talk

PACKETS = 20_000  # benchmarks/ipmi_fuzz.py sends a million
ON = msg.chassis_control(msg.Action.ON)


def test_bmc_survives() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    said = fuzz_bmc(PACKETS, 1, bmc)
    assert said["clear"] == said["sealed"] == PACKETS // 2
    assert said["answers"] > PACKETS // 4
    # And it still serves.
    now = 10_000.0
    result, _ = talk(make_exchange(msg.CHASSIS_STATUS, seed=2, deadline=now + 70), server(bmc), start=now)
    assert result.reason is Reason.OK


def test_console_survives() -> None:
    """Each exchange ends as a real one would, or with an honest reason."""
    reasons = fuzz_console(PACKETS, 2)
    assert reasons[Reason.OK] > 100
    assert reasons[Reason.BMC_PROTOCOL] > 10
    # What is sent in clear can be forged by anybody who sees the requests: a refusal, but never a success.
    assert Reason.BMC_ROGUE not in reasons


def test_a_flood_starves_nobody() -> None:
    """Open Session as fast as it comes: who has a session keeps it, and who wants one gets one between the floods."""
    bmc = make_bmc()
    channel = login(bmc)
    random = Random(5)
    status = encode_request(0, 1, 1)
    now = 0.0
    for n in range(5000):
        now += 0.001
        request = hs.encode_open_request(n & 0xFF, 4, random.randrange(1, 1 << 32), suite(17))
        bmc.receive_datagram(encode_clear(Payload.OPEN_REQUEST, request), ("127.0.0.9", 1), now)
        if n % 100 == 0:
            assert len(bmc.receive_datagram(channel.seal(status, bytes(16)), PEER, now)) == 1
    assert bmc.session_count <= 15
    result, _ = talk(make_exchange(msg.CHASSIS_STATUS, deadline=now + 20), server(bmc), start=now + 3)
    assert result.reason is Reason.OK


def test_a_privilege_has_to_be_asked_for() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    channel, console = login(bmc), Random(4)
    (packet,) = bmc.receive_datagram(channel.seal(encode_request(0, 2, 1, b"\x01"), console.randbytes(16)), PEER, 0.0)
    assert packet[4:6] == b"\x06\xc0"
    assert chassis.controls == []


def test_a_packet_in_clear_with_a_session_id_is_not_obeyed() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    channel = login(bmc)
    message = encode_request(0, 1, 1)
    clear = bytearray(encode_clear(Payload.IPMI, message))
    clear[6:10] = channel.peer_id.to_bytes(4, "little")
    clear[10:14] = (1).to_bytes(4, "little")
    assert bmc.receive_datagram(bytes(clear), PEER, 0.0) == []
    assert bmc.receive_datagram(bytes(clear[:6]) + bytes(8) + bytes(clear[14:]), PEER, 0.0) == []


def test_a_forged_rakp3_does_not_end_a_session() -> None:
    bmc = make_bmc()
    channel = login(bmc)
    forged = encode_clear(Payload.RAKP3, hs.encode_rakp34(9, channel.peer_id, bytes(32)))
    (answer,) = bmc.receive_datagram(forged, PEER, 0.0)
    assert answer[17] == msg.Status.INVALID_PROOF
    refused = encode_clear(Payload.RAKP3, hs.encode_error(9, 0x0F, channel.peer_id))
    assert bmc.receive_datagram(refused, PEER, 0.0) == []
    assert bmc.session_count == 1


def test_idle_sessions_end_after_60_s() -> None:
    bmc = make_bmc()
    channel = login(bmc)
    status = encode_request(0, 1, 1)
    assert len(bmc.receive_datagram(channel.seal(status, bytes(16)), PEER, 59.0)) == 1
    assert len(bmc.receive_datagram(channel.seal(status, bytes(16)), PEER, 118.0)) == 1
    assert bmc.receive_datagram(channel.seal(status, bytes(16)), PEER, 178.0) == []
    assert bmc.session_count == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guid": b"short"}, "16 bytes"),
        ({"users": {b"u" * 17: PASSWORD}}, "at most 16"),
        ({"suites": (17, 3, 0)}, "cipher suite 0 is refused"),
    ],
)
def test_a_bmc_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_bmc(**options)


def test_discovery_and_ping() -> None:
    bmc = make_bmc()
    (pong,) = bmc.receive_datagram(bytes.fromhex("0600ff06 000011be 80 2a 0000".replace(" ", "")), PEER, 0.0)
    assert pong[8:10] == b"\x40\x2a"
    assert len(pong) == 12 + 16
    # ipmitool asks for cipher suites in RMCP+ framing outside a session.
    (answer,) = bmc.receive_datagram(encode_clear(Payload.IPMI, encode_request(6, 0x54, 5, b"\x0e\x00\x80")), PEER, 0.0)
    header = decode_header(answer)
    assert header is not None
    response = decode_response(answer[16:])
    assert response is not None
    assert response.data == bytes.fromhex("01 c011034481 c003014181")
    assert GUID not in answer


def test_exchange_has_no_dict() -> None:
    """32,000 of them fit into a laptop."""
    assert not hasattr(make_exchange(ON), "__dict__")
    assert not hasattr(make_bmc(), "__dict__")
