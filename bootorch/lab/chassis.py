"""The chassis of a simulated machine, as a BMC commands and reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bootorch.ipmi.bmc_eventlog import EventLog
from bootorch.ipmi.chassis import BootOptions, Device, PowerFlags, Sensor
from bootorch.ipmi.messages import Action, BootSource, Completion, Policy
from bootorch.lab.console import Console
from bootorch.sim import symptoms
from bootorch.sim.machine import BootFailure, Machine, Source

_DEVICE: Final = Device(firmware=(2, 14))
STANDBY_WATTS = 8  # of the BMC alone
_SOURCES: Final[dict[int, Source]] = {
    BootSource.PXE: Source.NETWORK,
    BootSource.CDROM: Source.CDROM,
    BootSource.BIOS: Source.SETUP,
}
_EVENT_TYPE = 0x6F  # sensor-specific (42.1), as every event of ``symptoms`` is
_DEASSERTED = 0x80  # bit 7 of the same byte (29.7)


class LabChassis:
    """``changed`` is called when power or boot changed. ``watts``: what the server draws while it boots, and after.

    ``epoch``: what the BMC's clock shows, in seconds since 1970, when the electricity comes back. Event log, console
    and boot options are made when somebody asks: a fleet has tens of thousands of these.
    """

    __slots__ = (
        "_changed", "_console", "_epoch", "_log", "_logged", "_options", "_policy", "_watts", "machine",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        changed: Callable[[], None] | None = None,
        *,
        watts: tuple[float, float] = (450.0, 250.0),
        epoch: float = 0.0,
    ) -> None:
        self.machine = machine
        self._changed = changed
        self._watts = watts
        self._epoch = epoch
        self._options: BootOptions | None = None
        self._policy = Policy.STAY_OFF
        self._log: EventLog | None = None
        self._logged = (float("-inf"), 0)  # time of the latest logged event, and how many of that very moment
        self._console: Console | None = None

    # Power

    def power_is_on(self, now: float) -> bool:
        return self.machine.is_on(now)

    def control(self, action: Action, now: float) -> int:
        machine = self.machine
        written = self._console.present(now) if self._console is not None else b""
        match action:
            case Action.ON:
                changed = machine.power_on(now)
            case Action.OFF:
                changed = machine.power_off(now)
            case Action.SOFT_OFF:
                changed = machine.shutdown(now)
            case Action.CYCLE | Action.RESET:
                if not machine.is_on(now):
                    return Completion.NOT_NOW
                changed = machine.cycle(now) if action is Action.CYCLE else machine.reset(now)
            case Action.NMI:
                return Completion.OK if machine.is_on(now) else Completion.NOT_NOW
        if self._options is not None:
            self._options.keep()
        if changed:
            if self._console is not None:
                self._console.boot_ended(written)
            if self._options is not None and machine.is_on(now):
                machine.boots_from(_source(self._options.take(now)))
            if self._changed is not None:
                self._changed()
        return Completion.OK

    def identify(self, seconds: int | None, now: float) -> int:
        del seconds, now  # nobody looks at the light
        return Completion.OK

    def restore_policy(self) -> Policy:
        return self._policy

    def set_restore_policy(self, policy: Policy) -> int:
        self._policy = policy
        return Completion.OK

    def restart_cause(self) -> int:
        return symptoms.restart_cause(self.machine)

    def power_flags(self, now: float) -> PowerFlags:
        flags = symptoms.power_flags(self.machine, now)
        last = flags.ac_failed * 0x01 | flags.power_fault * 0x08 | flags.last_by_command * 0x10
        return PowerFlags(fault=flags.power_fault, last_event=last)

    # Boot

    def boot_option(self, parameter: int, now: float) -> bytes | None:
        return self._boot_options().get(parameter, now)

    def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
        return self._boot_options().set(parameter, value, now)

    def _boot_options(self) -> BootOptions:
        if self._options is None:
            self._options = BootOptions()
        return self._options

    # What it tells

    def device_id(self) -> Device:
        return _DEVICE

    def sel(self, now: float) -> EventLog:
        """The machine's events, written down as they happened, up to ``now``."""
        if self._log is None:
            self._log = EventLog(epoch=self._epoch)
        at, count = self._logged
        for event in symptoms.sel(self.machine, now):
            if event.t < at:
                continue
            if event.t == at and count > 0:
                count -= 1  # logged before
                continue
            direction = _EVENT_TYPE | (_DEASSERTED if event.deasserted else 0)
            # Bits 7:4 of event data 1 say which of data 2 and 3 mean something (29.7): 11b, a code of the sensor type.
            given = (0xC0 if event.data2 != 0xFF else 0) | (0x30 if event.data3 != 0xFF else 0)
            data = bytes((direction, given | event.offset, event.data2, event.data3))
            self._log.log(event.t, event.sensor_type, event.sensor, data)
            self._logged = (event.t, self._logged[1] + 1 if event.t == self._logged[0] else 1)
        return self._log

    def sensors(self, now: float) -> Sequence[Sensor]:
        on = self.machine.is_on(now)
        watts = min(int(self._draw(now)) // 4, 255)
        return (
            Sensor(1, 0x01, 1, "Inlet Temp", 23, upper_critical=42),
            Sensor(2, 0x01, 1, "CPU Temp", 51 if on else None, upper_critical=95),
            Sensor(3, 0x04, 18, "Fan 1", 84 if on else None, multiplier=100),
            Sensor(4, 0x02, 4, "12V", 200 if on else None, multiplier=6, exponent=-2),
            Sensor(5, 0x0B, 6, "Pwr Consumption", watts, multiplier=4),
        )

    def power_watts(self, now: float) -> int | None:
        return int(self._draw(now))

    def _draw(self, now: float) -> float:
        machine = self.machine
        if not machine.is_on(now):
            return STANDBY_WATTS
        if machine.os_up(now):
            return self._watts[1]
        # What hangs in its self-test draws less than what boots, and what panicked spins.
        return self._watts[1 if machine.spec.boot_failure is BootFailure.NO_POST else 0]

    # Serial console

    def console_output(self, position: int | None, now: float, limit: int) -> tuple[int, bytes]:
        return self._serial().read(position, now, limit)

    def console_input(self, data: bytes, now: float) -> None:
        self._serial().type(data, now)

    def _serial(self) -> Console:
        if self._console is None:
            self._console = Console(self.machine)
        return self._console


def _source(flags: int | None) -> Source:
    """What boot flags ask for, in the words of the machine; for it, every other source is its disk."""
    return _SOURCES.get(flags, Source.DISK) if flags is not None else Source.DISK
