"""Event log records: what they say as a line, and that anything at all is a line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.ipmi import sel

TIME = 0x6955B905  # 2026-01-01T00:00:05Z
SPECIFIC = 0x6F


def record(
    sensor_type: int,
    offset: int,
    second: int = 0xFF,
    third: int = 0xFF,
    *,
    kind: int = 0x02,
    event_type: int = SPECIFIC,
    sensor: int = 3,
    first: int = 0,
    time_s: int = TIME,
    over: bool = False,
) -> sel.Record:
    raw = b"\x07\x00" + bytes((kind,)) + time_s.to_bytes(4, "little") + b"\x20\x00\x04"
    raw += bytes((sensor_type, sensor, event_type | over << 7, first | offset, second, third))
    parsed = sel.parse_record(raw)
    assert parsed is not None
    return parsed


def test_a_line_has_code_time_and_text() -> None:
    """The example of the module's own description."""
    line = sel.line(record(0x0F, 0, 0x02, first=0xA0))
    assert line == "0f.00.02.ff 2026-01-01T00:00:05Z System Firmware Error #3: no usable system memory"
    assert line in " ".join((sel.__doc__ or "").split())


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (record(0x0F, 1, 0x01), "0f.01.01.ff System Firmware Hang #3: memory initialisation"),
        (record(0x0F, 2, 0x13), "0f.02.13.ff System Firmware Progress #3: starting operating system boot process"),
        (record(0x0F, 0, 0x6E), "0f.00.6e.ff System Firmware Error #3: code 6e"),
        (record(0x0F, 0), "0f.00.ff.ff System Firmware Error #3: unspecified"),
        (record(0x0C, 1, third=5, first=0x30), "0c.01.ff.05 Memory #3: uncorrectable ECC error, module 5"),
        (record(0x07, 0), "07.00.ff.ff Processor #3: internal error (IERR)"),
        (record(0x08, 3, over=True), "08.03.ff.ff.d Power Supply #3: input lost (over)"),
        (record(0x1E, 0), "1e.00.ff.ff Boot Error #3: no bootable medium"),
        (record(0x20, 1), "20.01.ff.ff OS Stop #3: critical stop at run time (panic, core dump, blue screen)"),
        (record(0x23, 1, 0x02, first=0xC0), "23.01.02.ff Watchdog #3: hard reset (BIOS POST)"),
        (record(0x22, 5), "22.05.ff.ff ACPI Power State #3: S5 soft off"),
        (
            record(0x01, 9, 91, 90, event_type=0x01, first=0x50),
            "01/01.09.5b.5a Temperature #3: upper critical, going high, raw reading 91 against 90",
        ),
        # Not 0c.01: that a mirror is gone is no memory error.
        (record(0x0C, 1, event_type=0x0B), "0c/0b.01.ff.ff Memory #3: redundancy lost"),
        (record(0xC1, 4, event_type=0x70), "c1/70.04.ff.ff sensor type c1 #3: event type 70 offset 4 data 04 ff ff"),
        (record(0x0C, 14), "0c.0e.ff.ff Memory #3: event type 6f offset e data 0e ff ff"),
        (record(0x0A, 1, 2, 3, kind=0xC3, sensor=4), "oem.c3 OEM record 20 00 04 0a 04 6f 01 02 03"),
    ],
)
def test_what_events_say(event: sel.Record, expected: str) -> None:
    code, _, text = expected.partition(" ")
    assert sel.line(event) == f"{code} 2026-01-01T00:00:05Z {text}"


@pytest.mark.parametrize(
    ("time_s", "kind"),
    [
        (0xFFFFFFFF, 0x02),  # unknown
        (12601, 0x02),  # since the BMC's start
        (TIME, 0xE1),  # OEM records of these types have no time
    ],
)
def test_what_the_bmc_did_not_date_has_no_date(time_s: int, kind: int) -> None:
    event = record(0x0C, 1, time_s=time_s, kind=kind)
    assert sel.time_text(event) == "-"
    assert not event.dated


def test_the_last_moment_of_32_bits_is_a_time() -> None:
    assert sel.time_text(record(0x0C, 1, time_s=0xFFFFFFFE)) == "2106-02-07T06:28:14Z"


CODE = re.compile(
    r"(?:[0-9a-f]{2}(?:/[0-9a-f]{2})?(?:\.[0-9a-f]{2}){3}(?:\.d)?|oem\.[0-9a-f]{2}) (?:-|\d{4}-\S+Z) \S.*"
)


OWN = re.compile(r"[0-9a-f]{2}\.[0-9a-f]{2}\.")


@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_are_one_line(raw: bytes) -> None:
    event = sel.parse_record(raw)
    assert event is not None
    line = sel.line(event)
    assert CODE.fullmatch(line)
    assert line.isprintable()
    # Only an event of the sensor's own type may look like one.
    assert bool(OWN.match(line)) == (not event.oem and event.event_type == SPECIFIC)


@given(st.binary(max_size=40))
def test_parsers_never_raise(data: bytes) -> None:
    sel.parse_info(data)
    sel.parse_time(data)
    entry = sel.parse_entry(data)
    assert (entry is not None) == (len(data) >= 18)


def test_entry_and_info() -> None:
    raw = bytes.fromhex("0100 02 80c2fd65 2000 04 0f 06 6f 02 ff ff".replace(" ", ""))
    entry = sel.parse_entry(b"\xff\xff" + raw)
    assert entry is not None
    assert entry.following == sel.LAST
    assert (entry.record.ident, entry.record.sensor_type, entry.record.time_s) == (1, 0x0F, 0x65FDC280)
    # 51h, 3 entries, 1000 bytes free, added, erased, overflow
    info = sel.parse_info(bytes.fromhex("51 0300 e803 80c2fd65 00000000 82"))
    assert info == (3, 1000, True)
