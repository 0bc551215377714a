"""Hostile input, bounded and seeded: 20,000 packets for each role. Nothing raises, nothing grows, nothing is obeyed."""

from __future__ import annotations

from random import Random

import pytest

from bootorch.core.reasons import Reason
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Exchange
from bootorch.ipmi.crypto import Keys, proof_rakp3, session_key, suite
from bootorch.ipmi.packet import Channel, Payload, decode_header, encode_clear
from bootorch.ipmi.wire import decode_response, encode_request

from .network import GUID, PASSWORD, PEER, USER, Network, Server, make_bmc, make_exchange, server, talk

PACKETS = 20_000
NOISE = 10
ON = msg.chassis_control(msg.Action.ON)


def mutate(random: Random, corpus: list[bytes]) -> bytes:
    """A packet of the corpus with up to four changes: bits, bytes, cuts, insertions, splices."""
    packet = bytearray(random.choice(corpus))
    for _ in range(random.randint(1, 4)):
        match random.randrange(6):
            case 0 if packet:
                packet[random.randrange(len(packet))] ^= 1 << random.randrange(8)
            case 1 if packet:
                packet[random.randrange(len(packet))] = random.randrange(256)
            case 2:
                del packet[random.randint(0, len(packet)) :]
            case 3:
                position = random.randint(0, len(packet))
                packet[position:position] = random.randbytes(random.choice((1, 2, 16, 300)))
            case 4:
                other = random.choice(corpus)
                position = random.randint(0, min(len(packet), len(other)))
                packet[position:] = other[position:]
            case _:
                return random.randbytes(random.randrange(80))
    return bytes(packet)


def test_bmc_survives() -> None:
    random = Random(1)
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    _, recorded = talk(make_exchange(msg.CHASSIS_STATUS, ON), server(make_bmc(seed=8)))
    now = 0.0
    for n in range(PACKETS):
        now += random.choice((0.0, 0.001, 0.1))
        answers = bmc.receive_datagram(mutate(random, recorded.sent), PEER, now)
        assert len(answers) <= 1
        assert sum(map(len, answers)) < 200
        if n % 1000 == 0:
            assert bmc.session_count <= 15
    assert bmc.session_count <= 15
    assert chassis.controls == []
    # And it still serves.
    assert (
        talk(make_exchange(msg.CHASSIS_STATUS, seed=2, deadline=now + 70), server(bmc), start=now + 4)[0].reason
        is Reason.OK
    )


def noisy(random: Random, exchange: Exchange, bmc: Bmc, corpus: list[bytes]) -> Server:
    """Before each answer of ``bmc`` come mutated ones."""

    def serve(data: bytes, now: float) -> list[bytes]:
        for _ in range(NOISE):
            exchange.receive_datagram(mutate(random, corpus), now)
        return bmc.receive_datagram(data, PEER, now)

    return serve


def test_console_survives() -> None:
    """Mutated answers pour into exchanges at every stage; each ends as a real one would, or with an honest reason."""
    random = Random(2)
    reasons = set()
    fed = 0
    for seed in range(500):
        corpus = talk(make_exchange(msg.CHASSIS_STATUS, seed=seed), server(make_bmc(seed=seed)))[1].received
        exchange = make_exchange(msg.CHASSIS_STATUS, seed=seed, deadline=30.0)
        network = Network(seed)
        reasons.add(network.run(exchange, noisy(random, exchange, make_bmc(seed=seed), corpus)).reason)
        fed += NOISE * len(network.sent)
        assert len(network.sent) < 100
    assert fed >= PACKETS
    assert Reason.OK in reasons
    # An answer in clear can be forged by anybody who sees the requests: a refusal, but never a success.
    assert Reason.BMC_ROGUE not in reasons


def login(bmc: Bmc, ident: int = 17) -> Channel:
    """By hand, as an authenticated attacker would."""
    chosen = suite(ident)
    request = hs.encode_open_request(1, 4, 0x11223344, chosen)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.OPEN_REQUEST, request), PEER, 0.0)
    opened = hs.decode_open_response(packet[16:])
    assert opened is not None
    name = hs.role_and_name(4, USER)
    r_m = bytes(16)
    rakp1 = hs.encode_rakp1(2, opened.bmc_id, r_m, name)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.RAKP1, rakp1), PEER, 0.0)
    rakp2 = hs.decode_rakp2(packet[16:])
    assert rakp2 is not None
    proof = proof_rakp3(chosen, PASSWORD.reveal(), rakp2.random, 0x11223344.to_bytes(4, "little"), name)
    rakp3 = hs.encode_rakp34(3, opened.bmc_id, proof)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.RAKP3, rakp3), PEER, 0.0)
    assert packet[17] == 0
    sik = session_key(chosen, PASSWORD.reveal(), r_m, rakp2.random, name)
    return Channel(Keys(chosen, sik), opened.bmc_id)


def test_an_authenticated_peer_may_send_anything() -> None:
    random = Random(3)
    bmc = make_bmc()
    channel = login(bmc)
    answered = 0
    for _ in range(3000):
        if random.random() < 0.3:
            message = random.randbytes(random.randrange(40))
        else:
            netfn, command = random.choice(
                ((0, random.randrange(12)), (6, random.choice((1, 0x37, 0x38, 0x3B, 0x3D, 0x54))))
            )
            message = encode_request(netfn, command, random.randrange(64), random.randbytes(random.randrange(12)))
        answered += len(bmc.receive_datagram(channel.seal(message, random.randbytes(16)), PEER, 0.0))
    assert answered > 1500
    assert bmc.session_count == 1


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
