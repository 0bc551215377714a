"""What a server's BMC would show of it: event log, serial console, restart cause, power faults. Pure.

Everything is a function of a machine and a time, so nothing is kept until somebody asks. Sensor types, offsets and
event data are those of IPMI 2.0 table 42-3; the screens are what firmware, boot ROMs and kernels say in the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from bootorch.sim.console import failed_dimm, screens
from bootorch.sim.machine import FIRMWARE_SHARE, STARTS, BootFailure, Change, Machine, Source, draw

NOT_GIVEN = 0xFF  # event data that says nothing (29.7)
OUTAGE_S = 600.0  # how long before electricity returned the power was lost: old news, in every log


class SensorType(IntEnum):
    """Those of table 42-3 that a boot touches."""

    PROCESSOR = 0x07
    POWER_SUPPLY = 0x08
    POWER_UNIT = 0x09
    MEMORY = 0x0C
    FIRMWARE = 0x0F
    BOOT_INITIATED = 0x1D
    BOOT_ERROR = 0x1E
    OS_BOOT = 0x1F
    OS_STOP = 0x20


# Sensor numbers are the maker's choice; these are the lab's.
SENSORS = {
    SensorType.PROCESSOR: 0x10,
    SensorType.POWER_SUPPLY: 0x50,
    SensorType.POWER_UNIT: 0x01,
    SensorType.MEMORY: 0x20,
    SensorType.FIRMWARE: 0x06,
    SensorType.BOOT_INITIATED: 0x07,
    SensorType.BOOT_ERROR: 0x08,
    SensorType.OS_BOOT: 0x09,
    SensorType.OS_STOP: 0x0A,
}


class SelEvent(NamedTuple):
    """A record of the system event log. ``t``: seconds since the electricity came back, negative before."""

    t: float
    sensor_type: int
    sensor: int
    offset: int
    data2: int
    data3: int
    text: str
    deasserted: bool = False

    @property
    def code(self) -> str:
        """``tt.oo.d2.d3[.d]`` in hex, as events are written between the layers."""
        code = f"{self.sensor_type:02x}.{self.offset:02x}.{self.data2:02x}.{self.data3:02x}"
        return f"{code}.d" if self.deasserted else code

    def line(self, epoch: datetime) -> str:
        """``CODE TIME TEXT``. ``epoch``: what the BMC's clock, in UTC, said when the electricity came back."""
        at = (epoch + timedelta(seconds=int(self.t // 1))).astimezone(UTC)
        return f"{self.code} {at:%Y-%m-%dT%H:%M:%SZ} {self.text}"


@dataclass(frozen=True, slots=True)
class PowerFlags:
    """Of the chassis status (28.2)."""

    power_fault: bool = False  # fault in the main power subsystem
    control_fault: bool = False  # a power-on was tried and the power did not come
    last_by_command: bool = False  # the last power-on came from a chassis control
    ac_failed: bool = False  # the last power event: electricity was lost


def sel(machine: Machine, now: float) -> list[SelEvent]:
    """The event log, oldest first, from the loss of electricity on; of machines with a long history the last part."""
    initially_on = machine.spec.initially_on
    events = [] if initially_on else list(_outage())
    history = [event for event in machine.history if event.t <= now]
    ends = [*(event.t for event in history[1:]), now]
    for (t, change, source), end in zip(history, ends, strict=False):  # nothing happened yet: one end too many
        if change in STARTS:
            events += [event for event in _boot(machine, t, change, source) if event.t <= end]
        else:
            events += _power(t, change)
    return events


def console(machine: Machine, now: float) -> str:
    """All that the present boot has written to its serial console; it only grows until power changes. CR LF lines.

    Empty while off. Bounded: some kilobytes.
    """
    if machine.on_since is None or not machine.is_on(now):
        return ""
    elapsed_s = now - machine.on_since
    return "".join(text for at_s, text in screens(machine) if at_s <= elapsed_s)


def restart_cause(machine: Machine) -> int:
    """Index into the causes of Get System Restart Cause (28.11): 0 unknown, 1 chassis control, 6 restore policy."""
    starts = (event.t for event in reversed(machine.history) if event.change in STARTS)
    started = next(starts, None)
    return 0 if started is None else 6 if started < 0 else 1


def power_flags(machine: Machine, now: float) -> PowerFlags:
    """Power faults and the last power event (28.2)."""
    last = next((event.change for event in reversed(machine.history) if event.t <= now), None)
    fault = last is Change.POWER_FAULT
    return PowerFlags(
        power_fault=fault,
        control_fault=fault,
        last_by_command=last in STARTS and restart_cause(machine) == 1,
        ac_failed=last is None,
    )


# Event log


def _event(t: float, kind: SensorType, offset: int, text: str, *data: int, deasserted: bool = False) -> SelEvent:
    data2, data3 = (*data, NOT_GIVEN, NOT_GIVEN)[:2]
    sensor = SENSORS[kind]
    return SelEvent(t, kind, sensor, offset, data2, data3, text.replace("#", f"#{sensor}", 1), deasserted)


def _outage() -> Iterator[SelEvent]:
    text = "Power Unit #: AC lost"
    yield _event(-OUTAGE_S, SensorType.POWER_UNIT, 0x04, text)
    yield _event(0.0, SensorType.POWER_UNIT, 0x04, f"{text} (deasserted)", deasserted=True)


def _power(t: float, change: Change) -> Iterator[SelEvent]:
    if change is Change.POWER_FAULT:
        yield _event(t, SensorType.POWER_SUPPLY, 0x01, "Power Supply #: failure detected")
        yield _event(t, SensorType.POWER_UNIT, 0x05, "Power Unit #: soft power control failure")
        return
    if change is Change.SHUTDOWN:
        yield _event(t, SensorType.OS_STOP, 0x03, "OS Stop/Shutdown #: graceful shutdown")
    yield _event(t, SensorType.POWER_UNIT, 0x00, "Power Unit #: power off")


# Progress of a self-test: (share of the firmware's time, event data 2, its words in table 42-3).
_PROGRESS = (
    (0.05, 0x19, "primary processor initialization"),
    (0.10, 0x01, "memory initialization"),
    (0.30, 0x03, "secondary processor initialization"),
    (0.50, 0x07, "PCI resource configuration"),
    (0.60, 0x09, "video initialization"),
    (0.70, 0x02, "hard-disk initialization"),
    (0.90, 0x13, "starting operating system boot process"),
)
_STARTED_BY = {
    Change.POWER_UP: (0x00, "initiated by power up"),
    Change.CYCLE: (0x00, "initiated by power up"),
    Change.RESET: (0x01, "initiated by hard reset"),
}
# How far the self-test gets, as a share of the firmware's time, before one of these ends it.
_LAST_PROGRESS = {BootFailure.NO_POST: 0.05, BootFailure.MEMORY_ERROR: 0.10, BootFailure.IN_SETUP: 0.70}


def _boot(machine: Machine, start: float, change: Change, source: Source) -> Iterator[SelEvent]:
    """The events of one boot, to its end."""
    firmware_s = machine.spec.boot_s * FIRMWARE_SHARE
    failure = machine.spec.boot_failure if not machine.spec.initially_on else None
    if source is Source.SETUP and failure not in (BootFailure.NO_POST, BootFailure.MEMORY_ERROR):
        failure = BootFailure.IN_SETUP
    if change is Change.CYCLE:
        yield _event(start, SensorType.POWER_UNIT, 0x01, "Power Unit #: power cycle")
    offset, by = _STARTED_BY[change]
    yield _event(start, SensorType.BOOT_INITIATED, offset, f"System Boot #: {by}")
    last = _LAST_PROGRESS.get(failure, 1.0) if failure is not None else 1.0
    for share, code, words in _PROGRESS:
        if share <= last:
            yield _progress(start + share * firmware_s, 0x02, f"Progress #: {words}", code)
    if failure is None:
        kind = {Source.NETWORK: (0x02, "PXE"), Source.CDROM: (0x04, "CD-ROM")}.get(source, (0x01, "C:"))
        text = f"OS Boot #: {kind[1]} boot completed"
        yield _event(start + machine.spec.boot_s, SensorType.OS_BOOT, kind[0], text)
    else:
        yield from _failure(machine, failure, start, firmware_s)


def _progress(t: float, offset: int, text: str, code: int) -> SelEvent:
    return _event(t, SensorType.FIRMWARE, offset, f"System Firmware {text}", code)


def _failure(machine: Machine, failure: BootFailure, start: float, firmware_s: float) -> Iterator[SelEvent]:
    """How a failed boot ends in the log. Makers differ, and so do machines, by their names."""
    one_way = draw(0, "symptom", machine.spec.name) < 0.5
    end = start + firmware_s
    if failure is BootFailure.NO_POST:
        if one_way:
            yield _event(end, SensorType.PROCESSOR, 0x03, "Processor #: FRB2/hang in POST failure")
        else:
            yield _progress(end, 0x01, "Hang #: memory initialization", 0x01)
    elif failure is BootFailure.MEMORY_ERROR:
        dimm = failed_dimm(machine.spec.name)
        text = f"Memory #: uncorrectable ECC, module {dimm}"
        yield _event(start + 0.2 * firmware_s, SensorType.MEMORY, 0x01, text, NOT_GIVEN, dimm)
        if one_way:
            yield _progress(start + 0.3 * firmware_s, 0x00, "Error #: no usable system memory", 0x02)
    elif failure is BootFailure.NO_BOOT_DEVICE:
        yield _event(end, SensorType.BOOT_ERROR, 0x00, "Boot Error #: no bootable media")
    elif failure is BootFailure.NETBOOT_FAILED:
        yield _event(end, SensorType.BOOT_ERROR, 0x02, "Boot Error #: PXE server not found")
    elif failure is BootFailure.IN_SETUP:
        yield _progress(start + 0.8 * firmware_s, 0x02, "Progress #: user-initiated system setup", 0x05)
    elif failure is BootFailure.KERNEL_PANIC and one_way:  # the others have no IPMI driver that would tell
        end = start + 0.9 * machine.spec.boot_s
        yield _event(end, SensorType.OS_STOP, 0x01, "OS Stop/Shutdown #: run-time critical stop")
    # An emergency shell is no event for a BMC: only the console tells.
