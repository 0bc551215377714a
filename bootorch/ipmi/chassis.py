"""The machine behind a BMC: what the BMC role asks of it, and a plain one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from bootorch.ipmi.bmc_eventlog import EventLog
from bootorch.ipmi.messages import Action, Completion, Policy


class Device(NamedTuple):
    """Who made the BMC (20.1). ``manufacturer``: IANA enterprise number, 0: none. ``firmware``: major, minor 0-99."""

    manufacturer: int = 0
    product: int = 0
    firmware: tuple[int, int] = (1, 0)
    device: int = 0x20


PLAIN_DEVICE: Final = Device()


class PowerFlags(NamedTuple):
    """What Get Chassis Status (28.2) says beside on and off.

    ``last_event``: bits 0 AC failed, 1 overload, 2 interlock, 3 fault, 4 last power-on by command.
    """

    fault: bool = False
    overload: bool = False
    last_event: int = 0


NO_FLAGS: Final = PowerFlags()


class Sensor(NamedTuple):
    """An analogue sensor with its present reading: value = ``raw`` * ``multiplier`` * 10 ** ``exponent``.

    ``kind``: sensor type (42.2: 1 temperature, 2 voltage, 3 current, 4 fan, 0x0B other units), ``unit``: 43.17 (1 °C,
    4 V, 5 A, 6 W, 18 RPM), ``name``: at most 16 ASCII characters, ``raw``: 0-255, None: no reading now (host off).
    ``multiplier``: -512 to 511, ``exponent``: -8 to 7, ``upper_critical``: raw threshold.
    """

    number: int
    kind: int
    unit: int
    name: str
    raw: int | None
    multiplier: int = 1
    exponent: int = 0
    upper_critical: int | None = None


class Chassis(Protocol):
    """A server's chassis. ``now`` is the caller's clock in seconds; a completion is an IPMI code, 0 for done."""

    def power_is_on(self, now: float) -> bool: ...

    def control(self, action: Action, now: float) -> int:
        """Power off, on, cycle, reset, NMI or soft off. Completion code; accepted does not mean that it happened."""
        ...

    def identify(self, seconds: int | None, now: float) -> int:
        """Locator light for this long; None: until told otherwise, 0: off. Completion code."""
        ...

    def boot_option(self, parameter: int, now: float) -> bytes | None:
        """Value of a boot option parameter, None when there is no such parameter."""
        ...

    def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
        """Completion code; 0x80: parameter not supported."""
        ...

    def restore_policy(self) -> Policy: ...

    def set_restore_policy(self, policy: Policy) -> int: ...

    def restart_cause(self) -> int:
        """Index into ``messages.RESTART_CAUSES``."""
        ...

    def device_id(self) -> Device: ...

    def power_flags(self, now: float) -> PowerFlags: ...

    def sel(self, now: float) -> EventLog:
        """The event log with everything that happened up to ``now``; always the same object."""
        ...

    def sensors(self, now: float) -> Sequence[Sensor]:
        """All sensors with their readings: always the same ones in the same order, at most 255."""
        ...

    def power_watts(self, now: float) -> int | None:
        """What the server draws; None: it cannot tell (no DCMI)."""
        ...

    def console_output(self, position: int | None, now: float, limit: int) -> tuple[int, bytes]:
        """What the serial console printed: (position of the first byte, at most ``limit`` bytes).

        Positions count every byte since the beginning. ``position`` is where to go on; what was dropped meanwhile is
        skipped, so the position in the answer may be later. None: a new viewer, who gets as much history as there is.
        """
        ...

    def console_input(self, data: bytes, now: float) -> None:
        """Keys from the remote console."""
        ...


class BootOptions:
    """Boot option parameters 0-7 of a chassis (28.12), with the 60 s rule of the boot flags' valid bit.

    Sizes are those of table 28-14. Parameter 0 is the progress lock, 3 and 4 say what clears the valid bit.
    """

    __slots__ = ("_flags_set_at", "_values")

    FLAGS = 5
    VALID_S = 60.0  # 28.12: the BMC drops the valid bit after 60 s without a chassis control
    _SIZES = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 5, 6: 9, 7: 3}  # noqa: RUF012 - a constant; ClassVar says no more

    def __init__(self) -> None:
        self._values: dict[int, bytes] = {}
        self._flags_set_at: float | None = None

    def get(self, parameter: int, now: float) -> bytes | None:
        size = self._SIZES.get(parameter)
        if size is None:
            return None
        value = self._values.get(parameter, bytes(size))
        if parameter == self.FLAGS and self._expired(now):
            value = bytes((value[0] & 0x7F,)) + value[1:]
        return value

    def set(self, parameter: int, value: bytes, now: float) -> int:
        size = self._SIZES.get(parameter)
        if size is None:
            return 0x80
        if len(value) > size or not value:
            return Completion.BAD_LENGTH
        # ipmitool sends short values of parameter 4; what is missing is 0.
        self._values[parameter] = value + bytes(size - len(value))
        if parameter == self.FLAGS:
            self._flags_set_at = now
        return Completion.OK

    def keep(self) -> None:
        """A chassis control came in time: the flags stay valid until the boot uses them."""
        self._flags_set_at = None

    def take(self, now: float) -> int | None:
        """The boot source for the boot that starts now (``messages.BootSource``), None for the server's own order.

        One-time flags are used up by it.
        """
        flags = self.get(self.FLAGS, now)
        if flags is None or not flags[0] & 0x80:
            return None
        if not flags[0] & 0x40:
            self._values[self.FLAGS] = bytes((flags[0] & 0x7F,)) + flags[1:]
        self._flags_set_at = None
        return flags[1] & 0x3C

    def _expired(self, now: float) -> bool:
        return self._flags_set_at is not None and now - self._flags_set_at >= self.VALID_S


class ConsoleBuffer:
    """Output of a serial console: the latest ``size`` bytes, at positions counted from the beginning."""

    __slots__ = ("_data", "_size", "_start")

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._start = 0
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data
        excess = len(self._data) - self._size
        if excess > 0:
            del self._data[:excess]
            self._start += excess

    def read(self, position: int | None, limit: int) -> tuple[int, bytes]:
        """As ``Chassis.console_output``."""
        start = self._start if position is None else min(max(position, self._start), self._start + len(self._data))
        offset = start - self._start
        return start, bytes(self._data[offset : offset + limit])


class MemoryChassis:
    """A chassis that switches at once and remembers: for tests, and the start of richer ones.

    Its console prints what is written to ``console`` and echoes what is typed, which ``typed`` keeps as well.
    """

    def __init__(self, *, on: bool = False, epoch: float = 0.0, device: Device = PLAIN_DEVICE) -> None:
        self.on = on
        self.options = BootOptions()
        self.policy = Policy.STAY_OFF
        self.cause = 0
        self.identify_s: int | None = 0
        self.booted_from: int | None = None  # boot source of the latest power-on
        self.controls: list[Action] = []
        self.device = device
        self.flags = NO_FLAGS
        self.events = EventLog(epoch=epoch)
        self.watts: int | None = 240
        self.console = ConsoleBuffer()
        self.typed = b""

    def power_is_on(self, now: float) -> bool:
        return self.on

    def control(self, action: Action, now: float) -> int:
        self.controls.append(action)
        if action in (Action.CYCLE, Action.RESET, Action.NMI) and not self.on:
            return Completion.NOT_NOW
        if action in (Action.OFF, Action.SOFT_OFF):
            self.on = False
            self.options.keep()
        elif action is not Action.NMI and not (action is Action.ON and self.on):
            self.on = True
            self.cause = 1
            self.booted_from = self.options.take(now)
        return Completion.OK

    def identify(self, seconds: int | None, now: float) -> int:
        self.identify_s = seconds
        return Completion.OK

    def boot_option(self, parameter: int, now: float) -> bytes | None:
        return self.options.get(parameter, now)

    def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
        return self.options.set(parameter, value, now)

    def restore_policy(self) -> Policy:
        return self.policy

    def set_restore_policy(self, policy: Policy) -> int:
        self.policy = policy
        return Completion.OK

    def restart_cause(self) -> int:
        return self.cause

    def device_id(self) -> Device:
        return self.device

    def power_flags(self, now: float) -> PowerFlags:
        return self.flags

    def sel(self, now: float) -> EventLog:
        return self.events

    def sensors(self, now: float) -> Sequence[Sensor]:
        on = self.on
        watts = None if self.watts is None else min(self.watts // 4, 255)
        return (
            Sensor(1, 0x01, 1, "Inlet Temp", 23, upper_critical=42),
            Sensor(2, 0x01, 1, "CPU Temp", 51 if on else None, upper_critical=95),
            Sensor(3, 0x04, 18, "Fan 1", 84 if on else None, multiplier=100),
            Sensor(4, 0x02, 4, "12V", 200 if on else None, multiplier=6, exponent=-2),
            Sensor(5, 0x0B, 6, "Pwr Consumption", watts if on else 2, multiplier=4),
        )

    def power_watts(self, now: float) -> int | None:
        return self.watts if self.on or self.watts is None else 8

    def console_output(self, position: int | None, now: float, limit: int) -> tuple[int, bytes]:
        return self.console.read(position, limit)

    def console_input(self, data: bytes, now: float) -> None:
        self.typed += data
        self.console.write(data)
