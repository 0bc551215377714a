"""Commands of the BMC role that our own console does not send, and what each refuses."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc_commands import COMMANDS
from bootorch.ipmi.bmc_eventlog import END, EventLog
from bootorch.ipmi.bmc_session import Behaviour
from bootorch.ipmi.chassis import ConsoleBuffer, Device, MemoryChassis, PowerFlags
from bootorch.ipmi.handshake import State
from bootorch.ipmi.packet import Payload
from bootorch.ipmi.wire import encode_request

from .hand_console import HandConsole
from .network import USER, kinds, make_bmc, make_exchange, server, talk

STORAGE, SENSOR, APP, CHASSIS, TRANSPORT, GROUP = 0x0A, 0x04, 0x06, 0x00, 0x0C, 0x2C
MEMORY_ERROR = bytes.fromhex("6f0002ff")


def le16(number: int) -> bytes:
    return number.to_bytes(2, "little")


# Event log


def test_an_event_log_is_read_from_its_first_record_to_its_last() -> None:
    chassis = MemoryChassis(epoch=1_700_000_000)
    for second in range(3):
        chassis.events.log(second, 0x0F, 5, MEMORY_ERROR)
    console = HandConsole(make_bmc(chassis), now=10.0)
    completion, info = console.ask(STORAGE, 0x40)
    assert completion == 0
    assert info[:5] == b"\x51" + le16(3) + le16(16 * 509)
    assert int.from_bytes(info[5:9], "little") == 1_700_000_002
    assert info[13] == 0x02
    ident, seen = 0, []
    while ident != END:
        completion, answer = console.ask(STORAGE, 0x43, le16(0) + le16(ident) + b"\x00\xff")
        assert completion == 0
        seen.append(answer[2:])
        ident = int.from_bytes(answer[:2], "little")
    assert seen == list(chassis.events.records)
    assert seen[1] == bytes.fromhex("0200 02 01f15365 2000 04 0f 05 6f0002ff")
    assert console.ask(STORAGE, 0x43, le16(0) + le16(END) + b"\x00\xff")[1][2:] == seen[-1]
    assert console.ask(STORAGE, 0x43, le16(0) + le16(77) + b"\x00\xff") == (0xCB, b"")


def test_half_a_record_needs_a_reservation_and_erasing_does() -> None:
    chassis = MemoryChassis()
    chassis.events.log(0.0, 1, 1, MEMORY_ERROR)
    console = HandConsole(make_bmc(chassis))
    part = le16(1) + b"\x04\x06"
    assert console.ask(STORAGE, 0x43, le16(0) + part) == (0xC5, b"")
    _, reservation = console.ask(STORAGE, 0x42)
    assert console.ask(STORAGE, 0x43, reservation + part)[1] == le16(END) + chassis.events.records[0][4:10]
    assert console.ask(STORAGE, 0x43, reservation + le16(1) + b"\x10\x01") == (0xC9, b"")
    assert console.ask(STORAGE, 0x47, le16(0) + b"CLR\xaa") == (0xC5, b"")
    assert console.ask(STORAGE, 0x47, reservation + b"CRL\xaa") == (0xCC, b"")
    assert len(chassis.events) == 1
    assert console.ask(STORAGE, 0x47, reservation + b"CLR\xaa") == (0, b"\x01")
    assert len(chassis.events) == 0
    assert console.ask(STORAGE, 0x43, le16(0) + le16(0) + b"\x00\xff") == (0xCB, b"")
    # The reservation went with the records.
    assert console.ask(STORAGE, 0x47, reservation + b"CLR\xaa") == (0xC5, b"")
    # Ids go on: what was read before the erasure cannot be taken for what came after it.
    assert console.ask(STORAGE, 0x44, bytes(16)) == (0, le16(2))


def test_a_full_event_log_says_so_and_keeps_what_it_has() -> None:
    chassis = MemoryChassis()
    chassis.events = EventLog(capacity=2)
    console = HandConsole(make_bmc(chassis))
    record = bytes.fromhex("ffff 02 00000000 4100 04 01 30 01595a5b")
    assert [console.ask(STORAGE, 0x44, record)[0] for _ in range(3)] == [0, 0, 0xC4]
    assert console.ask(STORAGE, 0x40)[1][13] == 0x82
    assert [stored[:2] for stored in chassis.events.records] == [b"\x01\x00", b"\x02\x00"]


def test_record_ids_go_round() -> None:
    log = EventLog(capacity=4)
    for _ in range(4 * 16_383 + 1):  # 65,533 ids
        if len(log) == 4:
            log.clear(0.0)
        log.log(0.0, 1, 1, MEMORY_ERROR)
    log.clear(0.0)
    assert [log.log(0.0, 1, 1, MEMORY_ERROR) for _ in range(3)] == [65_534, 1, 2]
    assert [log.entry(ident) for ident in (65_534, 1)] == [(1, log.records[0]), (2, log.records[1])]
    assert log.entry(2) == (END, log.records[2])
    assert log.entry(3) is log.entry(65_533) is None


@pytest.mark.parametrize("capacity", [0, 65_535])
def test_an_event_log_that_cannot_be(capacity: int) -> None:
    with pytest.raises(ValueError, match="1 to 65534 records"):
        EventLog(capacity)


def test_an_event_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        EventLog().log(0.0, 1, 1, b"\x6f")


def test_the_clock_of_the_event_log() -> None:
    chassis = MemoryChassis()
    console = HandConsole(make_bmc(chassis), now=5.5)
    assert console.ask(STORAGE, 0x48) == (0, (5).to_bytes(4, "little"))  # counts from its own start
    assert console.ask(STORAGE, 0x49, (1_700_000_000).to_bytes(4, "little")) == (0, b"")
    assert console.at(8.0).ask(STORAGE, 0x48)[1] == (1_700_000_002).to_bytes(4, "little")


# Sensors


def test_sensor_records_and_readings_fit_together() -> None:
    chassis = MemoryChassis(on=True)
    console = HandConsole(make_bmc(chassis))
    completion, info = console.ask(STORAGE, 0x20)
    assert (completion, info[1:3]) == (0, le16(5))
    _, reservation = console.ask(STORAGE, 0x22)
    ident, names = 0, {}
    while ident != 0xFFFF:
        _, whole = console.ask(STORAGE, 0x23, le16(0) + le16(ident) + b"\x00\xff")
        # In pieces, as ipmitool reads: the header, then the rest.
        _, head = console.ask(STORAGE, 0x23, reservation + le16(ident) + b"\x00\x05")
        _, body = console.ask(STORAGE, 0x23, reservation + le16(ident) + b"\x05" + head[6:7])
        assert head[2:] + body[2:] == whole[2:]
        record = whole[2:]
        assert len(record) == 5 + record[4]
        _, answer = console.ask(SENSOR, 0x2D, record[7:8])
        assert answer[1] & 0x60 == 0x40
        names[record[48:].decode()] = answer[0] * record[24]
        ident = int.from_bytes(whole[:2], "little")
    assert names["Fan 1"] == 8400
    assert names["Pwr Consumption"] == 240
    assert console.ask(STORAGE, 0x23, le16(0) + le16(9) + b"\x00\xff") == (0xCB, b"")
    assert console.ask(STORAGE, 0x23, le16(0) + le16(0) + b"\x05\x10") == (0xC5, b"")
    assert console.ask(STORAGE, 0x23, le16(0) + le16(0xFFFF) + b"\x00\xff")[1][9] == 5  # the last one's number


def test_a_sensor_without_a_reading_and_one_that_is_not_there() -> None:
    chassis = MemoryChassis(on=False)
    console = HandConsole(make_bmc(chassis))
    assert console.ask(SENSOR, 0x2D, b"\x02") == (0, b"\x00\x60\xc0")
    assert console.ask(SENSOR, 0x2D, b"\x63") == (0xCB, b"")
    assert console.ask(SENSOR, 0x27, b"\x02") == (0, bytes((0x10, 0, 0, 0, 0, 95, 0)))
    assert console.ask(SENSOR, 0x27, b"\x03") == (0, bytes(7))
    assert console.ask(SENSOR, 0x27, b"\x63") == (0xCB, b"")


def test_power_draw() -> None:
    chassis = MemoryChassis(on=True)
    console = HandConsole(make_bmc(chassis))
    completion, answer = console.ask(GROUP, 0x02, b"\xdc\x01\x00\x00")
    assert completion == 0
    assert answer[:9] == b"\xdc" + 4 * le16(240)
    assert console.ask(GROUP, 0x02, b"\xdc\x02\x00\x00") == (0xCC, b"")
    assert console.ask(GROUP, 0x02, b"\xdb\x01\x00\x00") == (0xC1, b"")
    chassis.watts = None
    assert console.ask(GROUP, 0x02, b"\xdc\x01\x00\x00") == (0xC1, b"")


# The BMC itself


def test_device_and_chassis_as_the_machine_tells_them() -> None:
    chassis = MemoryChassis(on=True, device=Device(manufacturer=10876, product=0x0938, firmware=(3, 77)))
    chassis.flags = PowerFlags(fault=True, overload=True, last_event=0x0A)
    result, _ = talk(make_exchange(msg.GET_DEVICE_ID, msg.CHASSIS_STATUS), server(make_bmc(chassis)))
    told, status = (answer.data for answer in result.answers)
    device = msg.parse_device_id(told)
    assert device is not None
    assert (device.device, device.firmware, device.manufacturer, device.product) == (0x20, "3.77", 10876, 0x0938)
    power = msg.parse_chassis_status(status)
    assert power is not None
    assert (power.power_on, power.power_fault, power.power_overload, power.last_power_event) == (True, True, True, 0x0A)


def test_users_and_sessions_are_listed() -> None:
    bmc = make_bmc(privileges={USER: msg.Privilege.ADMIN})
    console = HandConsole(bmc)
    other = HandConsole(bmc, peer="elsewhere", level=3)
    assert console.ask(APP, 0x44, b"\x01\x02") == (0, b"\x02\x41\x00\x14")
    assert console.ask(APP, 0x44, b"\x01\x03") == (0, b"\x02\x41\x00\x0f")
    assert console.ask(APP, 0x44, b"\x01\x00") == (0xCC, b"")
    assert console.ask(APP, 0x46, b"\x02") == (0, USER.ljust(16, b"\0"))
    assert console.ask(APP, 0x46, b"\x03") == (0xCB, b"")
    assert console.ask(APP, 0x3D, b"\x00") == (0, b"\x01\x0f\x02\x02\x04\x11")
    assert other.ask(APP, 0x3D, b"\x00") == (0, b"\x02\x0f\x02\x02\x03\x11")
    assert console.ask(APP, 0x3D, b"\x03") == (0, b"\x00\x0f\x02")
    assert console.ask(APP, 0x42, b"\x0e")[1][:4] == b"\x01\x04\x01\x82"
    assert console.ask(APP, 0x42, b"\x02") == (0xCB, b"")
    assert console.ask(APP, 0x41, b"\x01\x80") == (0, b"\x02\x04")
    assert console.ask(APP, 0x37) == console.ask(APP, 0x08)


@pytest.mark.parametrize("key", sorted(COMMANDS), ids=lambda key: COMMANDS[key][0].replace(" ", "-"))
def test_every_command_bounds_its_data_and_its_caller(key: int) -> None:
    """Too short: 0xC7. A level too low: 0xD4. Data of any length and content: an answer that fits into a packet."""
    name, privilege, shortest, _ = COMMANDS[key]
    netfn, command = key >> 8, key & 0xFF
    random = Random(key)
    bmc = make_bmc(MemoryChassis(on=True))
    if shortest:
        assert HandConsole(bmc).ask(netfn, command, bytes(shortest - 1)) == (msg.Completion.BAD_LENGTH, b"")
    if privilege > msg.Privilege.USER:
        low = HandConsole(bmc, level=privilege - 1)
        assert low.ask(netfn, command, bytes(40)) == (msg.Completion.PRIVILEGE, b"")
    for _ in range(50):
        console = HandConsole(bmc)
        (answer,) = console.send(encode_request(netfn, command, 1, random.randbytes(shortest + random.randrange(30))))
        assert len(answer) < 100, name
        bmc.reset()


# Faults on purpose


def test_busy_for_a_while() -> None:
    chassis = MemoryChassis()
    seen: list[int] = []
    bmc = make_bmc(chassis, behaviour=Behaviour(busy=2), observe=lambda name, peer, code: seen.append(code))
    console = HandConsole(bmc, level=None)
    assert [console.ask(APP, 0x3B, b"\x04")[0] for _ in range(3)] == [0xC0, 0xC0, 0]
    assert console.ask(CHASSIS, 0x02, b"\x01") == (0, b"")
    assert chassis.controls == [msg.Action.ON]
    assert seen == [0xC0, 0xC0, 0, 0]


def test_busy_for_ever() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    console = HandConsole(bmc)
    bmc.behaviour = Behaviour(busy=inf)
    result, _ = talk(make_exchange(msg.CHASSIS_STATUS), server(bmc))
    assert result.reason is not Reason.OK
    assert [console.ask(CHASSIS, 0x02, b"\x01")[0] for _ in range(20)] == [0xC0] * 20
    assert chassis.controls == []


def test_no_slot_twice() -> None:
    bmc = make_bmc(behaviour=Behaviour(no_slots=2))
    reasons = [talk(make_exchange(msg.CHASSIS_STATUS, seed=seed), server(bmc))[0].reason for seed in range(3)]
    assert reasons == [Reason.BMC_NO_SESSION, Reason.BMC_NO_SESSION, Reason.OK]


def test_no_slot_ever() -> None:
    bmc = make_bmc(behaviour=Behaviour(no_slots=inf))
    for seed in range(5):
        assert talk(make_exchange(msg.CHASSIS_STATUS, seed=seed), server(bmc))[0].reason is Reason.BMC_NO_SESSION
    assert bmc.session_count == 0


def test_a_bmc_that_echoes_another_suite() -> None:
    bmc = make_bmc(behaviour=Behaviour(downgrade=True))
    result, network = talk(make_exchange(msg.CHASSIS_STATUS, suites=(17,)), server(bmc))
    assert result.reason is Reason.BMC_NO_SUITE
    assert Payload.RAKP1 not in kinds(network.sent)
    result, _ = talk(make_exchange(msg.CHASSIS_STATUS, seed=5), server(bmc), start=5.0)
    assert (result.reason, result.suite) == (Reason.OK, 3)  # where 3 is permitted, it is proposed in its turn


def test_a_bmc_that_does_not_know_the_password_gets_no_proof() -> None:
    bmc = make_bmc(behaviour=Behaviour(rogue=True))
    result, network = talk(make_exchange(msg.CHASSIS_STATUS), server(bmc))
    assert result.reason is Reason.BMC_AUTH_FAILED
    assert Payload.RAKP2 in kinds(network.received)
    assert all(len(packet) <= 24 for packet in network.sent if packet[5] == Payload.RAKP3)  # an error, no proof
    assert all(session.state is not State.ACTIVE for session in bmc.sessions.values())


# Buffers


def test_a_console_buffer_keeps_the_latest() -> None:
    buffer = ConsoleBuffer(size=8)
    assert buffer.read(None, 99) == (0, b"")
    buffer.write(b"0123456789")
    assert buffer.read(None, 99) == (2, b"23456789")
    assert buffer.read(0, 3) == (2, b"234")
    assert buffer.read(5, 99) == (5, b"56789")
    assert buffer.read(10, 99) == (10, b"")
    assert buffer.read(99, 99) == (10, b"")
