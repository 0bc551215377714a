"""The system event log: records and what they say (IPMI 2.0, sections 31, 32, 41 and 42). Pure.

As text a record is one line, ``CODE TIME TEXT``; this is how events reach layers that know nothing of IPMI:

``0f.00.02.ff 2026-01-01T00:00:05Z System Firmware Error #3: no usable system memory``

CODE, all in hexadecimal:
- ``tt.oo.d2.d3``: an event that belongs to its sensor's type (event type 0x6F): sensor type, event offset, event data
  2 and 3;
- ``tt/ee.oo.d2.d3``: a generic event (threshold, redundancy, …) of event type ee. It looks different because an offset
  means something else there: ``0c.01`` is an uncorrectable memory error, ``0c/0b.01`` only that a mirror is gone;
- a further ``.d``: the event is over (de-assertion);
- ``oem.kk``: an OEM record of type kk; the text is its bytes.
TIME is ISO 8601 of the BMC's own clock, or ``-`` where the BMC did not know the time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from bootorch.ipmi import sel_tables as tables

RECORD_SIZE: Final = 16
SYSTEM_EVENT: Final = 0x02  # record type (32.1); C0-DF OEM with a time, E0-FF OEM without
LAST: Final = 0xFFFF  # as a record id: the newest record; as the following id: there is none

# 37.1: times below are seconds since the BMC started, 0xFFFFFFFF is "unknown".
SINCE_START_BELOW: Final = 0x20000000
_UNKNOWN_TIME: Final = 0xFFFFFFFF

_SENSOR_SPECIFIC: Final = 0x6F
_THRESHOLD: Final = 0x01
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Record(NamedTuple):
    """One record of 16 bytes (32.1). Of OEM records only ``ident``, ``kind``, ``time_s`` and ``raw`` mean anything."""

    ident: int
    kind: int  # SYSTEM_EVENT, or an OEM type
    time_s: int | None  # seconds since 1970, or since the BMC's start where below SINCE_START_BELOW; None: not known
    generator: int
    sensor_type: int  # table 42-3
    sensor: int
    event_type: int  # 0x01 threshold, 0x02-0x0C generic, 0x6F as the sensor type says, 0x70-0x7F OEM
    asserted: bool
    data: bytes  # event data 1-3
    raw: bytes

    @property
    def oem(self) -> bool:
        return self.kind >= 0xC0

    @property
    def offset(self) -> int:
        """Which event of its type."""
        return self.data[0] & 0x0F

    @property
    def dated(self) -> bool:
        """The record has a time on a calendar."""
        return self.time_s is not None and self.time_s >= SINCE_START_BELOW


def parse_record(raw: bytes) -> Record | None:
    """The record in the first 16 bytes; None when there are fewer."""
    if len(raw) < RECORD_SIZE:
        return None
    kind = raw[2]
    time_s = int.from_bytes(raw[3:7], "little")
    return Record(
        ident=int.from_bytes(raw[:2], "little"),
        kind=kind,
        time_s=None if kind >= 0xE0 or time_s == _UNKNOWN_TIME else time_s,
        generator=int.from_bytes(raw[7:9], "little"),
        sensor_type=raw[10],
        sensor=raw[11],
        event_type=raw[12] & 0x7F,
        asserted=not raw[12] & 0x80,
        data=raw[13:16],
        raw=raw[:RECORD_SIZE],
    )


class Entry(NamedTuple):
    """Answer of Get SEL Entry (31.5). ``following`` is ``LAST`` after the newest record."""

    following: int
    record: Record


def parse_entry(data: bytes) -> Entry | None:
    """The data after the completion code; None when it is too short."""
    record = parse_record(data[2:])
    return None if record is None else Entry(int.from_bytes(data[:2], "little"), record)


class Info(NamedTuple):
    """Answer of Get SEL Info (31.2). Some BMCs count wrongly: trust the walk."""

    entries: int
    free_bytes: int
    overflow: bool  # events were lost because the log is full


def parse_info(data: bytes) -> Info | None:
    if len(data) < 14:
        return None
    return Info(int.from_bytes(data[1:3], "little"), int.from_bytes(data[3:5], "little"), bool(data[13] & 0x80))


def parse_time(data: bytes) -> int | None:
    """The BMC's clock (31.10) in seconds; None when the BMC does not know."""
    time_s = int.from_bytes(data[:4], "little")
    return None if len(data) < 4 or time_s == _UNKNOWN_TIME else time_s


def line(record: Record) -> str:
    """``CODE TIME TEXT``, see above."""
    return f"{code(record)} {time_text(record)} {text(record)}"


def code(record: Record) -> str:
    if record.oem:
        return f"oem.{record.kind:02x}"
    generic = "" if record.event_type == _SENSOR_SPECIFIC else f"/{record.event_type:02x}"
    over = "" if record.asserted else ".d"
    _, second, third = record.data
    return f"{record.sensor_type:02x}{generic}.{record.offset:02x}.{second:02x}.{third:02x}{over}"


def time_text(record: Record) -> str:
    if record.time_s is None or record.time_s < SINCE_START_BELOW:
        return "-"
    # Not fromtimestamp: what it raises for far years depends on the platform.
    return (_EPOCH + timedelta(seconds=record.time_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(record: Record) -> str:
    """For people: sensor and event, as far as they are known."""
    if record.oem:
        return f"OEM record {record.raw[7:].hex(' ') if record.kind < 0xE0 else record.raw[3:].hex(' ')}"
    name = tables.SENSOR_TYPES.get(record.sensor_type, f"sensor type {record.sensor_type:02x}")
    event = _event(record)
    if record.sensor_type == 0x0F and record.event_type == _SENSOR_SPECIFIC and record.offset < 3:
        name = f"{name} {('Error', 'Hang', 'Progress')[record.offset]}"
    return f"{name} #{record.sensor}: {event}{'' if record.asserted else ' (over)'}"


def _event(record: Record) -> str:
    kind, offset = record.event_type, record.offset
    if kind == _SENSOR_SPECIFIC:
        known = _sensor_event(record)
    elif kind == _THRESHOLD:
        known = _threshold(record)
    else:
        known = _at(tables.GENERIC_EVENTS.get(kind, ()), offset)
    return known or f"event type {kind:02x} offset {offset:x} data {record.data.hex(' ')}"


def _sensor_event(record: Record) -> str:
    kind, offset, (first, second, third) = record.sensor_type, record.offset, record.data
    known = _at(tables.SENSOR_EVENTS.get(kind, ()), offset)
    # 42.3: bits 7:6 say whether data 2 is specified. 11: as the sensor type says. Vendors forget to set them, so for
    # firmware events data 2 is looked at whatever they say, unless it is 0xFF.
    if kind == 0x0F and offset < 3:
        steps = tables.FIRMWARE_ERRORS if offset == 0 else tables.FIRMWARE_STEPS
        return "unspecified" if second == 0xFF else _at(steps, second) or f"code {second:02x}"
    if not known:
        return ""
    if kind == 0x0C and offset in (0, 1, 2, 5, 7) and first & 0x30 and third != 0xFF:
        return f"{known}, module {third}"
    if kind == 0x23 and first & 0xC0 == 0xC0:
        use = _at(tables.WATCHDOG_USES, second & 0x0F)
        return f"{known} ({use})" if use else known
    return known


def _threshold(record: Record) -> str:
    name = _at(tables.THRESHOLDS, record.offset // 2)
    if not name:
        return ""
    first, reading, threshold = record.data
    text = f"{name}, going {'high' if record.offset & 1 else 'low'}"
    # 29.7: raw numbers; only the sensor's own record could convert them.
    if first & 0xC0 == 0x40:
        text += f", raw reading {reading}"
        if first & 0x30 == 0x10:
            text += f" against {threshold}"
    return text


def _at(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else ""
