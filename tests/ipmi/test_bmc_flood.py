"""A BMC under attack: floods of handshakes, and authenticated peers that send whatever they like."""

from __future__ import annotations

from random import Random

from bootorch.core.reasons import Reason
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.bmc_commands import COMMANDS
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.crypto import suite
from bootorch.ipmi.packet import Payload, encode_clear
from bootorch.ipmi.wire import encode_request

from .hand_console import HandConsole
from .network import Network, make_bmc, make_exchange, server

FLOODER = ("127.66.6.6", 666)
SLOTS = 15


def flood(bmc: Bmc, console_id: int, peer: object, now: float) -> list[bytes]:
    request = hs.encode_open_request(0, 4, console_id, suite(17))
    return bmc.receive_datagram(encode_clear(Payload.OPEN_REQUEST, request), peer, now)


def test_a_flood_from_one_peer_keeps_nobody_out() -> None:
    """1,000 Open Session Requests a second for 20 s: old sessions go on, and ten new ones are opened meanwhile."""
    bmc = make_bmc()
    old = HandConsole(bmc, peer="old")
    inner = server(bmc)
    flooded = 0

    def serve(data: bytes, now: float) -> list[bytes]:
        """As many requests of the flooder between two packets as fit into the network's 20 ms."""
        nonlocal flooded
        for _ in range(20):
            flooded += 1
            flood(bmc, flooded, FLOODER, now)
            assert bmc.session_count <= SLOTS
        return inner(data, now)

    for n in range(10):
        now = 2.0 * n
        result = Network(n, delay_s=0.02, start=now).run(
            make_exchange(msg.CHASSIS_STATUS, seed=n, deadline=now + 60), serve
        )
        assert result.reason is Reason.OK, n
        assert old.at(now).ask(0x00, 0x01)[0] == 0
    assert flooded >= 1000
    # And it passes: what the flooder left is gone within seconds.
    HandConsole(bmc, peer="later", now=25.0)
    assert bmc.session_count <= SLOTS


def test_a_flood_from_many_peers_ends_no_session() -> None:
    """Whoever forges addresses can take the free slots; established sessions keep theirs, and memory is bounded."""
    bmc = make_bmc()
    sessions = [HandConsole(bmc, peer=n) for n in range(5)]
    for n in range(20_000):
        now = n / 1000
        flood(bmc, n + 1, ("127.0.0.1", n), now)
        assert bmc.session_count <= SLOTS
        if n % 500 == 0:
            assert all(console.at(now).ask(0x00, 0x01)[0] == 0 for console in sessions)
    assert HandConsole(bmc, now=24.0).ask(0x00, 0x01)[0] == 0


def test_a_flood_of_wrong_proofs_ends_no_session() -> None:
    bmc = make_bmc()
    console = HandConsole(bmc)
    for n in range(1000):
        forged = encode_clear(Payload.RAKP3, hs.encode_rakp34(n & 0xFF, console.bmc_id, n.to_bytes(32, "little")))
        bmc.receive_datagram(forged, FLOODER, 0.0)
        bmc.receive_datagram(
            encode_clear(Payload.RAKP1, hs.encode_rakp1(1, console.bmc_id, bytes(16), hs.role_and_name(4, b"admin"))),
            FLOODER,
            0.0,
        )
    assert console.ask(0x00, 0x01)[0] == 0


def test_an_authenticated_peer_may_send_any_command_and_any_console_packet() -> None:
    random = Random(5)
    chassis = MemoryChassis(on=True)
    bmc = make_bmc(chassis)
    keys = [key for key in sorted(COMMANDS) if key != 0x063C]  # its own session stays open
    console = HandConsole(bmc)
    other = HandConsole(bmc, peer="other")
    now = 0.0
    for n in range(5000):
        now += random.choice((0.0, 0.001, 0.3))
        who = random.choice((console, other)).at(now)
        if random.random() < 0.4:
            answers = who.send(random.randbytes(random.randrange(300)), Payload.SOL)
            assert len(answers) <= 2
        else:
            key = random.choice(keys)
            data = random.randbytes(random.randrange(24)) if random.random() < 0.7 else b"\x01\x01\xc0\0\0\0"
            (answer,) = who.send(encode_request(key >> 8, key & 0xFF, n & 63, data))
            assert len(answer) < 100
        for packet, _ in bmc.handle_timer(now):
            assert len(packet) < 400
        assert bmc.session_count == 2
    assert len(chassis.events) <= chassis.events.capacity
    assert console.ask(0x06, 0x3B, b"\x00")[0] == 0
