"""IPMI 1.5 sessions on the BMC's side: only where they are wanted, only with MD5, each packet once."""

from __future__ import annotations

from random import Random

import pytest

from bootorch.core.secret import Secret
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.bmc_session import Behaviour
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.packet import Payload, decode_v15, encode_clear, encode_v15
from bootorch.ipmi.packet15 import AUTH_MD5, Channel15, decode_header, encode, verified
from bootorch.ipmi.wire import Response, decode_response, encode_request

from .network import PASSWORD, PEER, USER, make_bmc

APP, CHASSIS = 0x06, 0x00
STATUS = encode_request(CHASSIS, 0x01, 1)


def ask(bmc: Bmc, command: int, data: bytes, *, peer: object = PEER, now: float = 0.0) -> Response | None:
    """Outside a session."""
    answers = bmc.receive_datagram(encode_v15(encode_request(APP, command, 5, data)), peer, now)
    message = decode_v15(answers[0]) if answers else None
    return decode_response(message) if message is not None else None


def challenge(bmc: Bmc, user: bytes = USER, **options: object) -> tuple[int, bytes]:
    """Session id and challenge."""
    response = ask(bmc, 0x39, bytes((AUTH_MD5,)) + user.ljust(16, b"\0"), **options)  # type: ignore[arg-type]
    assert response is not None
    assert (response.completion, len(response.data)) == (0, 20)
    return int.from_bytes(response.data[:4], "little"), response.data[4:]


def activation(session: int, proof: bytes, *, level: int = 4, first: int = 77, password: Secret = PASSWORD) -> bytes:
    data = bytes((AUTH_MD5, level)) + proof + first.to_bytes(4, "little")
    return encode(password.reveal(), session, 0, encode_request(APP, 0x3A, 6, data))


def opened(packets: list[bytes]) -> tuple[int, Response]:
    """Sequence number and content of the one signed answer."""
    (packet,) = packets
    header = decode_header(packet)
    assert header is not None
    message = verified(PASSWORD.reveal(), header, packet)
    assert message is not None
    response = decode_response(message)
    assert response is not None
    return header.sequence, response


def login(bmc: Bmc, now: float = 0.0) -> Channel15:
    session, proof = challenge(bmc, now=now)
    sequence, response = opened(bmc.receive_datagram(activation(session, proof), PEER, now))
    assert (sequence, response.completion) == (77, 0)
    assert response.data == b"\x02" + session.to_bytes(4, "little") + b"\x01\0\0\0\x04"
    return Channel15(PASSWORD, session, 1)


def test_a_session() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, ipmi_15=True)
    response = ask(bmc, 0x38, b"\x0e\x04")
    assert response is not None
    assert response.data[1] & 0x04  # MD5, and neither none nor a password in clear
    assert not response.data[1] & 0x11
    assert response.data[3] == 0x03
    channel = login(bmc)
    power_on = encode_request(CHASSIS, 0x02, 1, b"\x01")
    assert opened(bmc.receive_datagram(channel.seal(power_on), PEER, 0.0))[1].completion == msg.Completion.PRIVILEGE
    privilege = encode_request(APP, 0x3B, 2, b"\x04")
    assert opened(bmc.receive_datagram(channel.seal(privilege), PEER, 0.0))[1].data == b"\x04"
    packet = channel.seal(power_on)
    assert opened(bmc.receive_datagram(packet, PEER, 0.0))[1].completion == 0
    assert bmc.receive_datagram(packet, PEER, 0.0) == []  # each packet once
    assert chassis.controls == [msg.Action.ON]
    # The serial console is encrypted or not there.
    activate = encode_request(APP, 0x48, 3, b"\x01\x01\xc0\0\0\0")
    assert opened(bmc.receive_datagram(channel.seal(activate), PEER, 0.0))[1].completion == 0x84
    close = encode_request(APP, 0x3C, 4, channel.peer_id.to_bytes(4, "little"))
    sequence, response = opened(bmc.receive_datagram(channel.seal(close), PEER, 0.0))
    assert (sequence, response.completion) == (77 + 5, 0)
    assert bmc.session_count == 0


def test_not_where_it_is_not_wanted() -> None:
    bmc = make_bmc()
    response = ask(bmc, 0x38, b"\x0e\x04")
    assert response is not None
    assert response.data[1] & 0x3F == 0
    assert ask(bmc, 0x39, bytes((AUTH_MD5,)) + USER.ljust(16, b"\0")) is None
    assert bmc.receive_datagram(activation(1, bytes(16)), PEER, 0.0) == []
    assert bmc.session_count == 0


@pytest.mark.parametrize(
    ("data", "completion"),
    [
        (b"\x02" + b"nobody".ljust(16, b"\0"), 0x81),
        (b"\x02" + b"longwinded".ljust(16, b"\0"), 0x81),  # its password does not fit into 1.5
        (b"\x00" + USER.ljust(16, b"\0"), 0xCC),  # no authentication
        (b"\x04" + USER.ljust(16, b"\0"), 0xCC),  # the password in clear
        (b"\x02" + USER, 0xC7),
    ],
)
def test_challenges_that_are_refused(data: bytes, completion: int) -> None:
    bmc = make_bmc(ipmi_15=True, users={USER: PASSWORD, b"longwinded": Secret("x" * 17)})
    response = ask(bmc, 0x39, data)
    assert response is not None
    assert response.completion == completion
    assert bmc.session_count == 0


def test_activations_that_are_refused() -> None:
    bmc = make_bmc(ipmi_15=True, privileges={USER: msg.Privilege.OPERATOR})
    session, proof = challenge(bmc)
    assert opened(bmc.receive_datagram(activation(session, bytes(16), level=3), PEER, 0.0))[1].completion == 0xCC
    assert opened(bmc.receive_datagram(activation(session, proof, level=9), PEER, 0.0))[1].completion == 0xCC
    assert opened(bmc.receive_datagram(activation(session, proof, level=4), PEER, 0.0))[1].completion == 0x86
    assert opened(bmc.receive_datagram(activation(session, proof, level=3, first=0), PEER, 0.0))[1].completion == 0x84
    short = encode(PASSWORD.reveal(), session, 0, encode_request(APP, 0x3A, 6, b"\x02\x03"))
    assert opened(bmc.receive_datagram(short, PEER, 0.0))[1].completion == 0xC7
    # A wrong password is silence.
    assert bmc.receive_datagram(activation(session, proof, level=3, password=Secret("wrong")), PEER, 0.0) == []
    # And nothing but an activation comes without a number.
    assert bmc.receive_datagram(encode(PASSWORD.reveal(), session, 0, STATUS), PEER, 0.0) == []
    assert bmc.receive_datagram(encode(PASSWORD.reveal(), session, 1, STATUS), PEER, 0.0) == []
    assert opened(bmc.receive_datagram(activation(session, proof, level=3), PEER, 0.0))[1].completion == 0


def test_a_repeated_activation_lets_no_old_packet_in() -> None:
    chassis = MemoryChassis(on=True)
    bmc = make_bmc(chassis, ipmi_15=True)
    session, proof = challenge(bmc)
    first = activation(session, proof)
    assert opened(bmc.receive_datagram(first, PEER, 0.0))[0] == 77
    channel = Channel15(PASSWORD, session, 1)
    recorded = [
        channel.seal(encode_request(APP, 0x3B, 2, b"\x04")),
        channel.seal(encode_request(CHASSIS, 0x02, 1, b"\x00")),
    ]
    for packet in recorded:
        assert opened(bmc.receive_datagram(packet, PEER, 0.0))[1].completion == 0
    assert opened(bmc.receive_datagram(first, "eavesdropper", 0.0))[1].completion == 0
    for packet in recorded:
        assert bmc.receive_datagram(packet, "eavesdropper", 0.0) == []
    assert chassis.controls == [msg.Action.OFF]


def test_the_handshakes_do_not_mix() -> None:
    bmc = make_bmc(ipmi_15=True)
    session, proof = challenge(bmc)
    rakp1 = hs.encode_rakp1(2, session, bytes(16), hs.role_and_name(4, USER))
    assert bmc.receive_datagram(encode_clear(Payload.RAKP1, rakp1), PEER, 0.0) == []
    login(bmc)
    rakp3 = hs.encode_rakp34(3, session, bytes(32))
    assert bmc.receive_datagram(encode_clear(Payload.RAKP3, rakp3), PEER, 0.0) == []
    assert bmc.session_count == 2
    assert opened(bmc.receive_datagram(activation(session, proof), PEER, 0.0))[1].completion == 0


def test_slots_are_shared_and_come_back() -> None:
    bmc = make_bmc(ipmi_15=True, max_sessions=2)
    login(bmc)
    login(bmc)
    response = ask(bmc, 0x39, bytes((AUTH_MD5,)) + USER.ljust(16, b"\0"), now=1.0)
    assert response is not None
    assert response.completion == msg.Completion.OUT_OF_SPACE
    challenge(bmc, now=61.0)
    assert bmc.session_count == 1
    bmc = make_bmc(ipmi_15=True, behaviour=Behaviour(no_slots=1))
    response = ask(bmc, 0x39, bytes((AUTH_MD5,)) + USER.ljust(16, b"\0"))
    assert response is not None
    assert response.completion == msg.Completion.OUT_OF_SPACE
    login(bmc)


def test_a_flood_of_challenges_ends_no_session() -> None:
    bmc = make_bmc(ipmi_15=True)
    channel = login(bmc)
    for n in range(2000):
        challenge(bmc, peer="flooder", now=n / 1000)
        assert bmc.session_count <= 15
    assert opened(bmc.receive_datagram(channel.seal(STATUS), PEER, 2.0))[1].completion == 0


def test_mutated_packets() -> None:
    random = Random(15)
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, ipmi_15=True)
    channel = login(bmc)
    session, proof = challenge(bmc)
    corpus = [activation(session, proof), channel.seal(STATUS), channel.seal(encode_request(CHASSIS, 0x02, 1, b"\x01"))]
    for _ in range(5000):
        packet = bytearray(random.choice(corpus))
        for _ in range(random.randint(1, 3)):
            packet[random.randrange(4, len(packet))] ^= 1 << random.randrange(8)
        del packet[random.choice((len(packet), random.randrange(len(packet)))) :]
        if bytes(packet) not in corpus:  # a bit may have been changed back
            assert bmc.receive_datagram(bytes(packet), PEER, 0.0) == []
    assert chassis.controls == []
    assert bmc.session_count == 2
