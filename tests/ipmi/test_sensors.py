"""Sensors: the walk through the SDR repository, the formula, and the power draw."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.ipmi import sensors
from bootorch.ipmi.chassis import MemoryChassis, Sensor
from bootorch.ipmi.client import Verdict
from bootorch.ipmi.messages import Command
from bootorch.ipmi.sensors import Power

from .network import make_bmc, make_exchange, server, talk
from .scripted import play

DCMI = (0x2C, 0x02)
RESERVE, GET, READ = (0x0A, 0x22), (0x0A, 0x23), (0x04, 0x2D)
DEVICE_RESERVE, DEVICE_GET = (0x04, 0x22), (0x04, 0x21)


def full(
    number: int,
    name: str,
    *,
    unit: int = 1,
    kind: int = 1,
    m: int = 1,
    b: int = 0,
    b_exponent: int = 0,
    r_exponent: int = 0,
    form: int = 0,
    linearization: int = 0,
    percent: bool = False,
    entity: tuple[int, int] = (7, 1),
    owner: int = 0x20,
    event_type: int = 1,
) -> bytes:
    """A full sensor record (43.1)."""
    body = bytes((owner, 0, number, *entity, 0x7F, 0, kind, event_type)) + bytes(6)
    body += bytes(
        (form << 6 | percent, unit, 0, linearization, m & 0xFF, (m >> 2) & 0xC0, b & 0xFF, (b >> 2) & 0xC0, 0)
    )
    body += bytes(((r_exponent & 0x0F) << 4 | b_exponent & 0x0F,)) + bytes(17)
    body += bytes((0xC0 | len(name),)) + name.encode()
    return number.to_bytes(2, "little") + b"\x51\x01" + bytes((len(body),)) + body


def compact(number: int, name: str) -> bytes:
    body = bytes((0x20, 0, number, 7, 1, 0, 0, 8, 0x6F)) + bytes(6) + b"\xc0" + bytes(10)
    body += bytes((0xC0 | len(name),)) + name.encode()
    return number.to_bytes(2, "little") + b"\x51\x02" + bytes((len(body),)) + body


class Repository:
    """A BMC with these records and readings (raw, or a completion code), and what is difficult about it."""

    def __init__(
        self,
        *records: bytes,
        readings: dict[int, int | tuple[int, bytes]] | None = None,
        buffer: int = 255,
        too_long: int = 0xCA,
        cancels: int = 0,
        get: tuple[int, int] = GET,
        reserve: tuple[int, int] = RESERVE,
        dcmi: tuple[int, bytes] = (0xC1, b""),
    ) -> None:
        self.records = records
        self.readings = readings or {}
        self.buffer, self.too_long, self.cancels = buffer, too_long, cancels
        self.get, self.reserve, self.dcmi = get, reserve, dcmi
        self.reservation = 0

    def __call__(self, command: Command) -> tuple[int, bytes]:
        key = command.netfn, command.command
        if key == DCMI:
            return self.dcmi
        if key == self.reserve:
            self.reservation += 1
            return 0, self.reservation.to_bytes(2, "little")
        if key == READ:
            raw = self.readings.get(command.data[0], (0xCB, b""))
            return raw if isinstance(raw, tuple) else (0, bytes((raw, 0xC0, 0xC0)))
        if key != self.get:
            return 0xC1, b""
        return self.record(command.data)

    def record(self, data: bytes) -> tuple[int, bytes]:
        reservation, ident = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
        offset, size = data[4], data[5]
        index = next((n for n, r in enumerate(self.records) if ident in (int.from_bytes(r[:2], "little"), 0)), None)
        if index is None:
            return 0xCB, b""
        if offset and self.cancels:
            self.cancels -= 1
            self.reservation += 1
        if reservation != self.reservation:
            return 0xC5, b""
        record = self.records[index]
        following = self.records[index + 1][:2] if index + 1 < len(self.records) else b"\xff\xff"
        part = record[offset : offset + size]
        if len(part) > self.buffer or (size != 0xFF and len(part) < size):
            return self.too_long, b""
        return 0, following + part


RECORDS = (
    full(1, "Inlet Temp", b=-50),
    compact(2, "PS1 Status"),
    full(3, "Fan 1", unit=18, kind=4, m=120),
    b"\x04\x00\x51\x12\x0b" + bytes(11),  # a management controller's record
    full(5, "12V", unit=4, kind=2, m=63, r_exponent=-3),
    full(6, "Hot CPU", form=2),
    full(7, "Gone"),
)
READINGS: dict[int, int | tuple[int, bytes]] = {1: 72, 3: 50, 5: 193, 6: 0xF6, 7: (0, b"\x00\x60\x00")}
EXPECTED = (
    ("Inlet Temp", 22.0, "°C"),
    ("Fan 1", 6000.0, "RPM"),
    ("12V", 12.159, "V"),
    ("Hot CPU", -10.0, "°C"),
    ("Gone", None, "°C"),
)


def values(found: sensors.Sensors | Verdict) -> tuple[tuple[str, float | None, str], ...]:
    assert isinstance(found, sensors.Sensors), found
    return tuple((s.name, s.value, s.unit) for s in found.sensors)


def test_sensors() -> None:
    found, sent = play(sensors.sensors(), Repository(*RECORDS, readings=READINGS))
    assert values(found) == EXPECTED
    assert isinstance(found, sensors.Sensors)
    assert found.complete
    assert len(sent) == 1 + 7 + 5  # one reservation, a record each, a reading each


@pytest.mark.parametrize("too_long", [0xCA, 0xC8, 0xFF])
def test_records_in_pieces(too_long: int) -> None:
    """A BMC whose buffer holds 16 bytes, and that will not read past a record's end."""
    found, sent = play(sensors.sensors(), Repository(*RECORDS, readings=READINGS, buffer=16, too_long=too_long))
    assert values(found) == EXPECTED
    assert sum(1 for c in sent if c.data[5:] == b"\xff" and (c.netfn, c.command) == GET) == 1  # learned once


def test_a_lost_reservation_is_renewed() -> None:
    found, sent = play(sensors.sensors(), Repository(*RECORDS, readings=READINGS, buffer=16, cancels=3))
    assert values(found) == EXPECTED
    assert sum(1 for c in sent if (c.netfn, c.command) == RESERVE) == 4


def test_a_reservation_that_is_always_lost_ends_it() -> None:
    found, sent = play(sensors.sensors(), Repository(*RECORDS, buffer=16, cancels=10_000))
    assert isinstance(found, Verdict)
    assert "0xc5" in found.detail
    assert len(sent) < 50


def test_a_bmc_with_device_records_only() -> None:
    bmc = Repository(*RECORDS, readings=READINGS, get=DEVICE_GET, reserve=DEVICE_RESERVE)
    found, _ = play(sensors.sensors(), bmc)
    assert values(found) == EXPECTED


def test_an_empty_repository_has_no_sensors() -> None:
    found, _ = play(sensors.sensors(), Repository())
    assert found == sensors.Sensors((), True)


def test_a_bmc_without_any_repository_is_unsupported() -> None:
    found, _ = play(sensors.sensors(), lambda command: (0xC1, b""))
    assert isinstance(found, Verdict)
    assert found.reason is Reason.BMC_UNSUPPORTED


def test_the_limit() -> None:
    found, _ = play(sensors.sensors(2), Repository(*RECORDS, readings=READINGS))
    assert values(found) == EXPECTED[:2]
    assert isinstance(found, sensors.Sensors)
    assert not found.complete


@pytest.mark.parametrize("code", [0xC9, 0xCB, 0xCD, 0xCE, 0xD3, 0xD5, 0xFF])
def test_what_cannot_be_read_is_not_available(code: int) -> None:
    found, _ = play(sensors.sensors(), Repository(RECORDS[0], readings={1: (code, b"")}))
    assert values(found) == (("Inlet Temp", None, "°C"),)
    assert isinstance(found, sensors.Sensors)
    assert f"0x{code:02x}" in found.sensors[0].why


def test_a_sensor_of_another_controller_is_not_asked_of_this_one() -> None:
    found, sent = play(sensors.sensors(), Repository(full(1, "ME", owner=0x2C), readings={1: 1}))
    assert values(found) == (("ME", None, "°C"),)
    assert READ not in [(c.netfn, c.command) for c in sent]


@pytest.mark.parametrize(
    ("record", "raw", "expected"),
    [
        (full(1, "x", m=2, b=5, b_exponent=1, r_exponent=-1), 100, 25.0),  # (2 x 100 + 5 x 10) / 10
        (full(1, "x", m=-512), 1, -512.0),
        (full(1, "x", form=1), 0xFE, -1.0),
        (full(1, "x", form=2), 0x80, -128.0),
        (full(1, "x", linearization=1), 1, 0.0),
        (full(1, "x", linearization=1), 0, None),  # the logarithm of 0
        (full(1, "x", linearization=7), 4, 0.25),
        (full(1, "x", linearization=7), 0, None),
        (full(1, "x", linearization=10), 9, 3.0),
        (full(1, "x", linearization=4, m=511, r_exponent=7), 255, None),  # too large for a number
        (full(1, "x", linearization=0x70), 1, None),
        (full(1, "x", event_type=0x6F), 1, None),
    ],
)
def test_the_formula(record: bytes, raw: int, expected: float | None) -> None:
    sensor = sensors.parse_sensor(record)
    assert sensor is not None
    assert sensor.value(raw) == expected


def test_percent_is_no_unit_of_its_own() -> None:
    sensor = sensors.parse_sensor(full(1, "Fan", unit=6, percent=True))
    assert sensor is not None
    assert (sensor.unit, sensor.watts) == ("%", False)


@given(st.binary(max_size=80), st.integers(0, 255))
def test_any_record_is_a_sensor_or_none(data: bytes, raw: int) -> None:
    for kind in (1, 2):
        sensor = sensors.parse_sensor(data[:3] + bytes((kind,)) + data[4:])
        if sensor is not None:
            value = sensor.value(raw)
            assert value is None or math.isfinite(value)
            assert sensor.name.isprintable()
            sensors.reading(sensor, data[:3])
    sensors.parse_dcmi_power(data)


# Power draw

DCMI_OK = (0, bytes.fromhex("dc 2c01 6400 9001 1801 00000000 60ea0000 40"))


def test_power_by_dcmi() -> None:
    power, sent = play(sensors.power_reading(), Repository(dcmi=DCMI_OK))
    assert power == Power(300.0, "dcmi", 280, 60.0)
    assert sent[0].data == b"\xdc\x01\x00\x00"


@pytest.mark.parametrize("dcmi", [(0xC1, b""), (0xCC, b""), (0, DCMI_OK[1][:-1] + b"\x00"), (0, b"\xdc")])
def test_power_by_the_sensor_of_the_system(dcmi: tuple[int, bytes]) -> None:
    bmc = Repository(
        full(1, "Temp"),
        full(2, "PS1 Input", unit=6, entity=(10, 1), m=2),
        full(3, "Pwr Consumption", unit=6, m=4),
        readings={2: 70, 3: 60},
        dcmi=dcmi,
    )
    assert play(sensors.power_reading(), bmc)[0] == Power(240.0, "Pwr Consumption")


def test_power_by_the_supplies() -> None:
    bmc = Repository(
        full(1, "PS1 Input", unit=6, entity=(10, 1)),
        full(2, "PS1 Output", unit=6, entity=(10, 1)),
        full(3, "PS2 Input", unit=6, entity=(10, 2)),
        full(4, "PS3 Input", unit=6, entity=(10, 3)),
        readings={1: 110, 2: 100, 3: 120},
    )
    assert play(sensors.power_reading(), bmc)[0] == Power(230.0, "PS1 Input, PS2 Input")


def test_no_power_reading() -> None:
    for bmc in (Repository(full(1, "Temp")), Repository(full(1, "PS1", unit=6)), Repository(get=(0, 0))):
        power, _ = play(sensors.power_reading(), bmc)
        assert isinstance(power, Verdict)
        assert power.reason is Reason.BMC_UNSUPPORTED


def test_over_the_wire() -> None:
    """Our BMC behind a real session; both ways to the draw."""

    class Chassis(MemoryChassis):
        def sensors(self, now: float) -> list[Sensor]:
            return [
                Sensor(1, 1, 1, "Inlet Temp", 23),
                Sensor(2, 4, 18, "Fan 1", 50, multiplier=120),
                Sensor(3, 2, 4, "12V", 193, multiplier=63, exponent=-3),
                Sensor(4, 0x0B, 6, "Power", 143, multiplier=2),
                Sensor(5, 1, 1, "CPU Temp", None),
            ]

    chassis = Chassis(on=True)
    chassis.watts = 287
    bmc = make_bmc(chassis)
    result, _ = talk(make_exchange(script=sensors.sensors()), server(bmc))
    assert result.reason is Reason.OK, result
    assert isinstance(result.value, sensors.Sensors)
    assert [(s.name, s.value, s.unit) for s in result.value.sensors] == [
        ("Inlet Temp", 23.0, "°C"),
        ("Fan 1", 6000.0, "RPM"),
        ("12V", 12.159, "V"),
        ("Power", 286.0, "W"),
        ("CPU Temp", None, "°C"),
    ]
    result, _ = talk(make_exchange(script=sensors.power_reading()), server(bmc))
    assert isinstance(result.value, Power)
    assert (result.value.watts, result.value.source) == (287.0, "dcmi")
    chassis.watts = None
    result, _ = talk(make_exchange(script=sensors.power_reading()), server(bmc))
    assert result.value == Power(286.0, "Power")
