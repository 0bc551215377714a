"""A login step by step, for tests that want to say in a session what no console would."""

from __future__ import annotations

from bootorch.ipmi import handshake as hs
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.crypto import Keys, proof_rakp3, session_key, suite
from bootorch.ipmi.packet import Channel, Payload, encode_clear

from .network import PASSWORD, PEER, USER


def login(bmc: Bmc, ident: int = 17, *, now: float = 0.0) -> Channel:
    """An established session of the test's user, at USER level; the caller seals what it likes."""
    chosen = suite(ident)
    request = hs.encode_open_request(1, 4, 0x11223344, chosen)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.OPEN_REQUEST, request), PEER, now)
    opened = hs.decode_open_response(packet[16:])
    assert opened is not None
    name = hs.role_and_name(4, USER)
    r_m = bytes(16)
    rakp1 = hs.encode_rakp1(2, opened.bmc_id, r_m, name)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.RAKP1, rakp1), PEER, now)
    rakp2 = hs.decode_rakp2(packet[16:])
    assert rakp2 is not None
    proof = proof_rakp3(chosen, PASSWORD.reveal(), rakp2.random, 0x11223344.to_bytes(4, "little"), name)
    rakp3 = hs.encode_rakp34(3, opened.bmc_id, proof)
    (packet,) = bmc.receive_datagram(encode_clear(Payload.RAKP3, rakp3), PEER, now)
    assert packet[17] == 0
    sik = session_key(chosen, PASSWORD.reveal(), r_m, rakp2.random, name)
    return Channel(Keys(chosen, sik), opened.bmc_id)
