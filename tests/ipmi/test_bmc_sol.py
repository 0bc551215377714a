"""Serial over LAN on the BMC's side: acknowledgements, repetitions, refusals, ends; and who may have the console."""

from __future__ import annotations

import pytest

from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.bmc_sol import DEACTIVATED, MAX_CHARACTERS, NACK, POLL_S, RETRIES, RETRY_S
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.packet import Payload

from .hand_console import HandConsole
from .network import make_bmc

APP, TRANSPORT = 0x06, 0x0C
SOL = b"\x01\x01"  # payload type 1, instance 1
ENCRYPTED = SOL + b"\xc0\x00\x00\x00"


def activated(chassis: MemoryChassis, bmc: Bmc | None = None, **options: object) -> HandConsole:
    console = HandConsole(bmc or make_bmc(chassis), **options)  # type: ignore[arg-type]
    completion, answer = console.ask(APP, 0x48, ENCRYPTED)
    assert completion == 0
    assert answer == bytes(4) + b"\xff\x00\xff\x00" + (623).to_bytes(2, "little") + b"\xff\xff"
    return console


def typed(console: HandConsole, payload: bytes) -> list[bytes]:
    return console.send(payload, Payload.SOL)


def ack(console: HandConsole, number: int, count: int, operation: int = 0) -> list[bytes]:
    return typed(console, bytes((0, number, count, operation)))


def test_a_bmc_without_a_console_has_no_timer() -> None:
    bmc = make_bmc()
    assert bmc.next_timer() is None
    assert bmc.handle_timer(5.0) == []
    HandConsole(bmc)
    assert bmc.next_timer() is None


def test_output_goes_out_in_order_and_in_pieces() -> None:
    chassis = MemoryChassis()
    chassis.console.write(bytes(range(256)) * 3)
    console = activated(chassis)
    assert console.bmc.next_timer() == 0.0
    (packet,) = console.unasked()
    seen = b""
    for number in range(1, 5):
        assert packet[:4] == bytes((number, 0, 0, 0))
        assert len(packet) - 4 <= MAX_CHARACTERS
        seen += packet[4:]
        following = ack(console, number, len(packet) - 4)
        assert len(following) == (1 if number < 4 else 0)
        packet = following[0] if following else b""
    assert seen == bytes(range(256)) * 3
    # Nothing more: the BMC looks again after the accumulate interval, and sends what came.
    assert console.bmc.next_timer() == POLL_S
    chassis.console.write(b"login: ")
    assert console.at(0.01).unasked() == []
    assert console.at(POLL_S).unasked() == [b"\x05\0\0\0login: "]


def test_numbers_go_from_15_to_1() -> None:
    chassis = MemoryChassis()
    console = activated(chassis)
    numbers = []
    for n in range(1, 32):
        chassis.console.write(b"x")
        (packet,) = console.at(float(n)).unasked()
        numbers.append(packet[0])
        ack(console, packet[0], 1)
    assert numbers == [*range(1, 16), *range(1, 16), 1]


def test_what_is_not_acknowledged_is_repeated_and_given_up_in_the_end() -> None:
    chassis = MemoryChassis()
    chassis.console.write(b"panic")
    console = activated(chassis)
    first = console.unasked()
    for n in range(RETRIES):
        due = console.bmc.next_timer()
        assert due == pytest.approx(RETRY_S * (n + 1))
        assert console.at(due - 0.01).unasked() == []
        assert console.at(due).unasked() == first
    due = console.bmc.next_timer()
    assert due is not None
    assert console.at(due).unasked() == []
    assert console.bmc.next_timer() is None
    # The session is still there, and may have the console again with what it missed.
    assert console.ask(APP, 0x48, ENCRYPTED)[0] == 0
    assert console.unasked() == first


def test_half_accepted_output_and_refused_output() -> None:
    chassis = MemoryChassis()
    chassis.console.write(b"0123456789")
    console = activated(chassis)
    assert console.unasked() == [b"\x01\0\0\x000123456789"]
    assert ack(console, 1, 4) == [b"\x02\0\0\x00456789"]
    assert ack(console, 2, 1, NACK) == []  # no more characters now
    assert console.at(0.1).unasked() == []
    assert console.at(RETRY_S).unasked() == [b"\x03\0\0\x0056789"]
    assert ack(console, 2, 5) == []  # late: that one is settled
    assert ack(console, 3, 200) == []  # more than there was
    chassis.console.write(b"!")
    assert console.at(1.0).unasked() == [b"\x04\0\0\0!"]


def test_input_is_taken_once() -> None:
    chassis = MemoryChassis()
    console = activated(chassis)
    answers = typed(console, b"\x01\0\0\0ls\r")
    assert answers[0] == b"\x00\x01\x03\x00"
    assert answers[1] == b"\x01\0\0\0ls\r"  # the echo need not wait for the next look
    # The same again, because the acknowledgement was lost: acknowledged, not typed twice.
    assert typed(console, b"\x01\0\0\0ls\r") == [b"\x00\x01\x03\x00"]
    assert typed(console, b"\x02\x01\x03\0exit") == [b"\x00\x02\x04\x00", b"\x02\0\0\0exit"]
    assert typed(console, b"\x01\0\0\0ls\r") == []  # late
    assert chassis.typed == b"ls\rexit"
    # More than can be counted: the rest is not acknowledged.
    assert typed(console, b"\x03\x02\x04\0" + b"k" * 300)[0] == b"\x00\x03\xff\x00"
    assert chassis.typed == b"ls\rexit" + b"k" * 255
    # Break, without characters.
    assert typed(console, b"\x04\0\0\x10") == [b"\x00\x04\x00\x00"]
    # Nothing but life.
    assert typed(console, bytes(4)) == []
    assert typed(console, b"\x05\0") == []
    assert len(chassis.typed) == 262


def test_one_console_at_a_time() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    first = activated(chassis, bmc)
    assert first.ask(APP, 0x48, ENCRYPTED) == (0x80, b"")
    second = HandConsole(bmc, peer="second")
    assert second.ask(APP, 0x48, ENCRYPTED) == (0x80, b"")
    assert second.ask(APP, 0x4A, b"\x01") == (0, b"\x01\x01\x00")
    assert second.ask(APP, 0x4B, SOL)[1][:4] == first.bmc_id.to_bytes(4, "little")
    # Who has no payload gets nothing and types nothing.
    assert typed(second, b"\x01\0\0\0rm\r") == []
    assert chassis.typed == b""
    # The second throws the first out, which is told so once.
    assert second.ask(APP, 0x49, ENCRYPTED) == (0, b"")
    assert second.ask(APP, 0x49, ENCRYPTED) == (0x80, b"")
    assert first.unasked() == [bytes((0, 0, 0, DEACTIVATED))]
    assert bmc.next_timer() is None
    assert second.ask(APP, 0x48, ENCRYPTED)[0] == 0
    assert second.ask(APP, 0x49, ENCRYPTED) == (0, b"")
    assert second.ask(APP, 0x4A, b"\x01") == (0, b"\x01\x00\x00")
    assert second.ask(APP, 0x4B, SOL)[1][:4] == bytes(4)
    assert bmc.next_timer() is None


def test_a_console_ends_with_its_session() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    console = activated(chassis, bmc)
    assert console.ask(APP, 0x3C, console.bmc_id.to_bytes(4, "little")) == (0, b"")
    assert bmc.next_timer() is None
    # Expired: by the timer, and by somebody else who wants it.
    activated(chassis, bmc, now=100.0)
    assert bmc.next_timer() == 100.0
    assert bmc.handle_timer(160.0) == []
    assert bmc.next_timer() is None
    assert bmc.session_count == 0
    activated(chassis, bmc, now=200.0)
    activated(chassis, bmc, now=261.0, peer="another")
    bmc.reset()
    assert bmc.next_timer() is None


def test_packets_of_the_console_keep_the_session_and_show_where_it_is() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    console = activated(chassis, bmc)
    for now in (50.0, 100.0, 150.0):
        assert typed(console.at(now), bytes(4)) == []
    console.peer = "moved"
    typed(console.at(151.0), bytes(4))
    chassis.console.write(b"still here")
    ((_, peer),) = bmc.handle_timer(152.0)
    assert peer == "moved"


@pytest.mark.parametrize(
    ("data", "completion"),
    [
        (b"\x00\x01\xc0\0\0\0", 0x81),  # another payload
        (b"\x01\x02\xc0\0\0\0", 0x81),  # another instance
        (b"\x01\x01\x00\0\0\0", 0x84),  # in clear
    ],
)
def test_what_cannot_be_activated(data: bytes, completion: int) -> None:
    assert HandConsole(make_bmc()).ask(APP, 0x48, data) == (completion, b"")


def test_configuration_is_read_only() -> None:
    console = HandConsole(make_bmc(port=10_623))
    assert console.ask(TRANSPORT, 0x22, b"\x01\x01\0\0") == (0, b"\x11\x01")
    assert console.ask(TRANSPORT, 0x22, b"\x81\x01\0\0") == (0, b"\x11")
    assert console.ask(TRANSPORT, 0x22, b"\x01\x08\0\0") == (0, b"\x11" + (10_623).to_bytes(2, "little"))
    assert console.ask(TRANSPORT, 0x22, b"\x01\x63\0\0") == (0x80, b"")
    assert console.ask(TRANSPORT, 0x22, b"\x02\x01\0\0") == (0xCC, b"")
    assert console.ask(TRANSPORT, 0x21, b"\x01\x00\x01") == (0, b"")
    assert console.ask(TRANSPORT, 0x21, b"\x01\x01\x00") == (0x82, b"")
    assert console.ask(TRANSPORT, 0x21, b"\x01\x63\x00") == (0x80, b"")
