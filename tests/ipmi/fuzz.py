"""A mutation fuzzer for both roles of IPMI. The tests run a share of it; ``benchmarks/ipmi_fuzz.py`` the rest.

Packets come from real conversations and are mutated: bits, bytes, cuts, insertions, splices, noise. That reaches what
stands before the signature. For what stands behind it, a peer that knows the password seals mutated messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from unittest.mock import patch

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts, sensors
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Exchange, Script, in_order
from bootorch.ipmi.messages import Action, BootSource, Policy
from bootorch.ipmi.packet import Payload
from bootorch.ipmi.wire import Request, encode_request, encode_response

from .by_hand import login
from .network import PEER, make_bmc, make_exchange, server, talk

SCRIPTS: tuple[Callable[[], Script], ...] = (
    lambda: in_order((msg.CHASSIS_STATUS,)),
    scripts.chassis_status,
    lambda: scripts.chassis_control(Action.RESET),
    lambda: scripts.boot_device(BootSource.DISK, model="Supermicro X11"),
    lambda: scripts.set_restore_policy(Policy.PREVIOUS),
    lambda: scripts.identify(None),
    scripts.device_info,
    lambda: scripts.read_sel(lambda: 3600.0, 20),
    lambda: scripts.evidence(lambda: 600.0),
    sensors.power_reading,
    lambda: sensors.sensors(20),
)


def mutate(random: Random, packet: bytes, others: list[bytes]) -> bytes:
    """Up to four changes: bits, bytes, cuts, insertions, splices; or noise instead."""
    changed = bytearray(packet)
    for _ in range(random.randint(1, 4)):
        match random.randrange(6):
            case 0 if changed:
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            case 1 if changed:
                changed[random.randrange(len(changed))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del changed[random.randint(0, len(changed)) :]
            case 3:
                position = random.randint(0, len(changed))
                changed[position:position] = random.randbytes(random.choice((1, 2, 16, 300)))
            case 4:
                other = random.choice(others)
                position = random.randint(0, min(len(changed), len(other)))
                changed[position:] = other[position:]
            case _:
                return random.randbytes(random.randrange(80))
    return bytes(changed)


def recorded(seed: int) -> tuple[list[bytes], list[bytes]]:
    """What console and BMC send in sound conversations."""
    asked: list[bytes] = []
    answered: list[bytes] = []
    for n, script in enumerate(SCRIPTS):
        _, network = talk(make_exchange(script=script(), seed=seed + n), server(make_bmc(seed=seed + n)))
        asked += network.sent
        answered += network.received
    return asked, answered


def fuzz_bmc(packets: int, seed: int, bmc: Bmc) -> Counter[str]:
    """Mutated packets, then sealed nonsense, to one BMC. Counts what it answered."""
    random = Random(seed)
    asked, _ = recorded(seed)
    said: Counter[str] = Counter()
    now = 0.0
    channel = login(bmc, now=now)
    for n in range(packets):
        now += random.choice((0.0, 0.001, 0.05))
        if n % 2:
            data = mutate(random, random.choice(asked), asked)
            kind = "clear"
        else:
            if n % 5000 == 0:
                channel = login(bmc, now=now)
            message = random.randbytes(random.randrange(40))
            if random.random() < 0.8:
                netfn = random.choice((0x00, 0x04, 0x06, 0x0A, 0x0C, 0x2C))
                close = random.random() < 0.999  # Close Session would end most of what follows
                command = random.choice([c for c in range(0x50) if not (close and (netfn, c) == (6, 0x3C))])
                message = encode_request(netfn, command, random.randrange(64), random.randbytes(random.randrange(24)))
            payload = Payload.SOL if random.random() < 0.1 else Payload.IPMI
            data = channel.seal(message, random.randbytes(16), payload)
            kind = "sealed"
        answers = bmc.receive_datagram(data, PEER, now)
        assert len(answers) <= 2
        assert sum(map(len, answers)) < 2048
        said[kind] += 1
        said["answers"] += len(answers)
        due = bmc.next_timer()
        if due is not None and due <= now:
            said["unasked"] += len(bmc.handle_timer(now))
        assert bmc.session_count <= 15
    return said


def fuzz_console(packets: int, seed: int) -> Counter[Reason]:
    """Mutated and sealed nonsense pours into exchanges at every stage. Counts how they ended; each does."""
    random = Random(seed)
    reasons: Counter[Reason] = Counter()
    _, corpus = recorded(seed)
    fed = 0
    number = seed
    while fed < packets:
        number += 1
        exchange = make_exchange(script=random.choice(SCRIPTS)(), seed=number, deadline=30.0)
        bmc = make_bmc(MemoryChassis(on=random.random() < 0.5), seed=number)
        answer = _lying(random) if random.random() < 0.5 else encode_response
        with patch("bootorch.ipmi.bmc.encode_response", answer):
            fed += _converse(random, exchange, bmc, corpus)
        assert exchange.result is not None
        reasons[exchange.result.reason] += 1
        assert bmc.session_count <= 15
    return reasons


def _converse(random: Random, exchange: Exchange, bmc: Bmc, corpus: list[bytes]) -> int:
    """Play one exchange to its end, in virtual time; returns the nonsense that it was fed."""
    now, fed = 0.0, 0
    exchange.start(now)
    for _ in range(3000):
        if exchange.result is not None:
            return fed
        sent = exchange.datagrams_to_send()
        for data in sent:
            answers = bmc.receive_datagram(data, PEER, now)
            for _ in range(random.randrange(6)):
                exchange.receive_datagram(mutate(random, random.choice([*answers, *corpus[:1]]), corpus), now)
                fed += 1
            for answer in answers:
                exchange.receive_datagram(answer, now)
                fed += 1
            now += 0.001
        if not sent:
            timer = exchange.next_timer()
            if timer is None:
                continue
            now = max(now, timer)
            exchange.handle_timer(now)
    raise AssertionError("the exchange does not end")


def _lying(random: Random) -> Callable[[Request, int, bytes], bytes]:
    """What a BMC that knows the password may put under its signature instead of an answer."""

    def lie(request: Request, completion: int, data: bytes = b"") -> bytes:
        honest = encode_response(request, completion, data)
        match random.randrange(8):
            case 0:
                return random.randbytes(random.randrange(60))
            case 1:
                return mutate(random, honest, [honest])
            case 2 | 3:
                code = random.choice((0xC0, 0xC3, 0xC9, 0xCA, 0xCB, 0xCC, 0xCF, 0xD4, 0xD5, 0x80, 0x81, 0xFF))
                return encode_response(request, code, data[: random.randrange(4)])
            case 4 | 5:
                return encode_response(request, 0, random.randbytes(random.randrange(40)))
            case 6:
                return encode_response(request, completion, mutate(random, data, [data]))
            case _:
                return honest

    return lie
