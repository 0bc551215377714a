"""What a BMC answers about its event log, sensors and power draw (IPMI 2.0, sections 31, 33, 35, 43; DCMI 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootorch.ipmi.bmc_session import Session
from bootorch.ipmi.chassis import Sensor
from bootorch.ipmi.messages import Completion

if TYPE_CHECKING:
    from bootorch.ipmi.bmc import Bmc

Answer = tuple[int, bytes]

_OK: Final = Completion.OK.value
_DONE: Final[Answer] = (_OK, b"")
_ABSENT: Final[Answer] = (Completion.NOT_PRESENT.value, b"")
_RESERVATION: Final[Answer] = (0xC5, b"")  # 5.2: reservation cancelled or invalid
_VERSION: Final = 0x51  # 31.2, 33.9: of event log and sensor data repository alike
_DCMI: Final = 0xDC  # group extension of netFn 2C

# System Event Log


def sel_info(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """31.2."""
    log = bmc.chassis.sel(now)
    free = min(16 * (log.capacity - len(log)), 0xFFFF)
    answer = bytes((_VERSION,)) + len(log).to_bytes(2, "little") + free.to_bytes(2, "little")
    answer += log.added_s.to_bytes(4, "little") + log.erased_s.to_bytes(4, "little")
    return _OK, answer + bytes((0x82 if log.overflow else 0x02,))  # entries can be reserved


def sel_reserve(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, bmc.chassis.sel(now).reserve().to_bytes(2, "little")


def sel_get(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """31.5. A reservation is needed only to read on in the middle of a record."""
    log = bmc.chassis.sel(now)
    found = log.entry(int.from_bytes(data[2:4], "little"))
    if found is None:
        return _ABSENT
    return _part(*found, data, reserved=log.reserved(int.from_bytes(data[:2], "little")))


def _part(following: int, record: bytes, data: bytes, *, reserved: bool) -> Answer:
    """The part of a record that ``data`` asks for: reservation (2), id (2), offset, count."""
    offset, count = data[4], data[5]
    if offset and not reserved:
        return _RESERVATION
    if offset >= len(record):
        return Completion.OUT_OF_RANGE, b""
    return _OK, following.to_bytes(2, "little") + record[offset : offset + count]


def sel_add(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """31.6."""
    ident = bmc.chassis.sel(now).add(data[:16], now)
    return (Completion.OUT_OF_SPACE, b"") if ident is None else (_OK, ident.to_bytes(2, "little"))


def sel_clear(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """31.9: erases at once, so a question for the progress is answered "completed"."""
    log = bmc.chassis.sel(now)
    if data[2:5] != b"CLR" or data[5] not in (0x00, 0xAA):
        return Completion.INVALID_FIELD, b""
    if not log.reserved(int.from_bytes(data[:2], "little")):
        return _RESERVATION
    if data[5]:
        log.clear(now)
    return _OK, b"\x01"


def sel_time(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, bmc.chassis.sel(now).time_s(now).to_bytes(4, "little")


def sel_set_time(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    bmc.chassis.sel(now).set_time(int.from_bytes(data[:4], "little"), now)
    return _DONE


# Sensor data repository: one full record per sensor, ids from 0 on


def sdr_info(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """33.9: nothing can be added, so no space is free; the repository can be reserved."""
    count = len(bmc.chassis.sensors(now))
    return _OK, bytes((_VERSION,)) + count.to_bytes(2, "little") + bytes(10) + b"\x02"


def sdr_reserve(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, _SDR_RESERVATION


# Records never change, so no reservation is ever cancelled, and one number serves everybody.
_SDR_RESERVATION: Final = b"\x01\x00"


def sdr_get(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """33.12."""
    sensors = bmc.chassis.sensors(now)
    ident = int.from_bytes(data[2:4], "little")
    if ident == 0xFFFF:
        ident = len(sensors) - 1
    if not 0 <= ident < len(sensors):
        return _ABSENT
    following = ident + 1 if ident + 1 < len(sensors) else 0xFFFF
    return _part(following, full_record(ident, sensors[ident]), data, reserved=data[:2] == _SDR_RESERVATION)


def full_record(ident: int, sensor: Sensor) -> bytes:
    """Sensor record type 01 (43.1): linear, unsigned readings, at most one threshold, on the system board."""
    name = sensor.name.encode("ascii", "replace")[:16]
    critical = sensor.upper_critical is not None
    m, sign = sensor.multiplier & 0x3FF, sensor.exponent & 0x0F
    body = bytes(
        (
            *(0x20, 0, sensor.number),  # owner: the BMC
            *(0x07, 1),  # entity: system board
            *(0x03, 0x04 if critical else 0x00),  # scanned, events off; thresholds can be read
            *(sensor.kind, 0x01),  # threshold sensor
            *(0, 0, 0, 0),  # asserts no events
            *(0x10 if critical else 0, 0),  # readable and settable thresholds
            *(0, sensor.unit, 0),
            *(0, m & 0xFF, m >> 8 << 6, 0, 0, 0, sign << 4),  # linear; M, B = 0, exponents
            *(0, 0, 0, 0, 0xFF, 0),  # no nominal value; greatest and smallest reading
            *(0, sensor.upper_critical or 0, 0, 0, 0, 0),
            *(0, 0, 0, 0, 0),  # hysteresis, reserved, OEM
            0xC0 | len(name),  # 8-bit ASCII
        )
    )
    body += name
    return ident.to_bytes(2, "little") + bytes((_VERSION, 0x01, len(body))) + body


# Sensors


def _sensor(bmc: Bmc, number: int, now: float) -> Sensor | None:
    return next((sensor for sensor in bmc.chassis.sensors(now) if sensor.number == number), None)


def reading(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """35.14: reading, then "scanning" and perhaps "no reading now", then the thresholds that were reached."""
    sensor = _sensor(bmc, data[0], now)
    if sensor is None:
        return _ABSENT
    if sensor.raw is None:
        return _OK, b"\x00\x60\xc0"
    high = sensor.upper_critical is not None and sensor.raw >= sensor.upper_critical
    return _OK, bytes((sensor.raw & 0xFF, 0x40, 0xD0 if high else 0xC0))


def thresholds(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """35.9: which there are, then lower non-critical, critical, non-recoverable and the same upper ones."""
    sensor = _sensor(bmc, data[0], now)
    if sensor is None:
        return _ABSENT
    if sensor.upper_critical is None:
        return _OK, bytes(7)
    return _OK, bytes((0x10, 0, 0, 0, 0, sensor.upper_critical & 0xFF, 0))


def power_reading(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """DCMI 6.6.1. The chassis knows the present draw only: it is least, most and average of a period of 1 s."""
    watts = bmc.chassis.power_watts(now) if data[0] == _DCMI else None
    if watts is None:
        return Completion.INVALID_COMMAND, b""
    if data[1] != 0x01:  # system power statistics
        return Completion.INVALID_FIELD, b""
    draw = min(max(watts, 0), 0xFFFF).to_bytes(2, "little")
    clock = bmc.chassis.sel(now).time_s(now).to_bytes(4, "little")
    return _OK, bytes((_DCMI,)) + 4 * draw + clock + (1000).to_bytes(4, "little") + b"\x40"  # measuring
