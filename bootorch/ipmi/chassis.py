"""The machine behind a BMC: what the BMC role asks of it, and a plain one in memory."""

from __future__ import annotations

from typing import Protocol

from bootorch.ipmi.messages import Action, Completion, Policy


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


class MemoryChassis:
    """A chassis that switches at once and remembers: for tests, and the start of richer ones."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        self.options = BootOptions()
        self.policy = Policy.STAY_OFF
        self.cause = 0
        self.identify_s: int | None = 0
        self.booted_from: int | None = None  # boot source of the latest power-on
        self.controls: list[Action] = []

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
