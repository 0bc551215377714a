"""One server as a pure, deterministic model: what its BMC is told, when its operating system is up, which boot it is.

Time is an argument in seconds since the electricity came back (0.0), and never goes backwards for one machine. The
simulator and the lab share this model, so that what was rehearsed on sockets is what the forecast was made with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

# Firmware takes most of the way from power to login; the kernel's clock, as /proc/uptime shows it, starts after that.
FIRMWARE_SHARE = 0.6

HISTORY_LIMIT = 64  # changes of power that are remembered: an event log of some 600 records, as BMCs have them


class BootFailure(StrEnum):
    """What keeps a server from booting. The words are those of the reason codes that a diagnosis has to find."""

    NO_POST = "no_post"  # hangs in its self-test
    MEMORY_ERROR = "memory_error"
    NO_BOOT_DEVICE = "no_boot_device"
    NETBOOT_FAILED = "netboot_failed"
    IN_SETUP = "in_setup"
    KERNEL_PANIC = "kernel_panic"
    EMERGENCY_SHELL = "emergency_shell"
    POWER_FAULT = "power_fault"  # power-on is accepted, the supply does not come up, the chassis stays off


class Change(StrEnum):
    """What happened to a server's power, as its BMC saw it."""

    POWER_UP = "power_up"
    CYCLE = "cycle"
    RESET = "reset"
    POWER_DOWN = "power_down"
    SHUTDOWN = "shutdown"  # by its operating system, when asked over ACPI
    POWER_FAULT = "power_fault"


STARTS = frozenset((Change.POWER_UP, Change.CYCLE, Change.RESET))  # after these the firmware runs


class Source(StrEnum):
    """What a boot is from."""

    DISK = "disk"
    NETWORK = "network"
    CDROM = "cdrom"
    SETUP = "setup"  # the firmware's setup, because somebody asked for it


class PowerEvent(NamedTuple):
    """``source`` is that of the boot that begins, if one does."""

    t: float
    change: Change
    source: Source = Source.DISK


def draw(seed: int, *words: str | int) -> float:
    """A number in [0, 1) that depends on the seed and the words only: the same on every machine and Python."""
    return int.from_bytes(_digest(seed, *words)[:7], "big") / 2**56


def _digest(seed: int, *words: str | int) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *map(str, words))).encode()).digest()


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a server is like, its faults included.

    ``boot_s`` is the time from power to a login; ``bmc_boot_s`` the time from electricity to the BMC's first answer.
    """

    name: str
    boot_s: float
    bmc_boot_s: float = 0.0
    initially_on: bool = False
    initial_uptime_s: float = 9 * 86400.0  # of a server that was on already
    dead_bmc: bool = False  # the BMC never answers
    silent_power_ons: int = 0  # so many power-ons are accepted and have no effect
    boot_failure: BootFailure | None = None  # what every boot of it ends in, instead of a login
    playbook_failures: int = 0  # so many attempts of the redeploy fail on this host

    def __post_init__(self) -> None:
        if min(self.boot_s, self.bmc_boot_s, self.initial_uptime_s, self.silent_power_ons, self.playbook_failures) < 0:
            raise ValueError(f"{self.name}: times and counts of a machine are not negative")


class Machine:
    """The state of one server. Commands return whether they had an effect; the BMC says "accepted" all the same."""

    __slots__ = (
        "_boots",
        "_history",
        "_on_since",
        "_seed",
        "_silent_left",
        "cycles",
        "power_offs",
        "power_ons",
        "resets",
        "spec",
    )

    def __init__(self, spec: MachineSpec, seed: int) -> None:
        self.spec = spec
        self._seed = seed
        self._silent_left = spec.silent_power_ons
        self._on_since: float | None = None
        self._boots = 0  # times that power or reset started the firmware
        self._history: list[PowerEvent] = []
        # Commands received, whether or not they had an effect.
        self.power_ons = self.power_offs = self.cycles = self.resets = 0
        if spec.initially_on:
            self._start(-(spec.initial_uptime_s + spec.boot_s * FIRMWARE_SHARE), Change.POWER_UP)

    @classmethod
    def after(cls, spec: MachineSpec, seed: int, history: Sequence[PowerEvent], boots: int) -> Machine:
        """The machine that has been through ``history`` (oldest first), its firmware started ``boots`` times in all."""
        machine = cls(replace(spec, initially_on=False), seed)
        machine.spec = spec
        machine._history = list(history[-HISTORY_LIMIT:])
        machine._boots = boots
        starts = [event for event in machine._history if event.change is not Change.POWER_FAULT]
        if starts and starts[-1].change in STARTS:
            machine._on_since = starts[-1].t
        return machine

    # Commands

    def power_on(self, now: float) -> bool:
        """No effect on a server that is on (IPMI 2.0 section 28.3: power up), nor while power-ons are silently lost."""
        self.power_ons += 1
        if self._on_since is not None:
            return False
        if self._silent_left:
            self._silent_left -= 1
            return False
        if self.spec.boot_failure is BootFailure.POWER_FAULT:
            self._happened(now, Change.POWER_FAULT)
            return False
        self._start(now, Change.POWER_UP)
        return True

    def power_off(self, now: float) -> bool:
        """At once, without asking the operating system."""
        self.power_offs += 1
        return self._stop(now, Change.POWER_DOWN)

    def shutdown(self, now: float) -> bool:
        """Ask the operating system over ACPI; no effect where none runs."""
        self.power_offs += 1
        return self.os_up(now) and self._stop(now, Change.SHUTDOWN)

    def cycle(self, now: float) -> bool:
        """Off and on again; no effect on a server that is off (IPMI 2.0 section 28.3)."""
        self.cycles += 1
        return self._restart(now, Change.CYCLE)

    def reset(self, now: float) -> bool:
        """A hard reset: the firmware starts again; no effect on a server that is off."""
        self.resets += 1
        return self._restart(now, Change.RESET)

    def _restart(self, now: float, change: Change) -> bool:
        if self._on_since is None:
            return False
        self._start(now, change)
        return True

    def _start(self, now: float, change: Change) -> None:
        self._on_since = now
        self._boots += 1
        self._happened(now, change)

    def _stop(self, now: float, change: Change) -> bool:
        if self._on_since is None:
            return False
        self._on_since = None
        self._happened(now, change)
        return True

    def _happened(self, now: float, change: Change) -> None:
        self._history.append(PowerEvent(now, change))
        if len(self._history) > HISTORY_LIMIT:
            del self._history[0]

    def boots_from(self, source: Source) -> None:
        """The boot that was just started is from there; from disk unless told. ValueError when none was started."""
        if not self._history or self._history[-1].change not in STARTS:
            raise ValueError(f"{self.spec.name}: no boot has begun")
        self._history[-1] = self._history[-1]._replace(source=source)

    # What can be observed

    def bmc_up(self, now: float) -> bool:
        return not self.spec.dead_bmc and now >= self.spec.bmc_boot_s

    def is_on(self, now: float) -> bool:
        """Chassis power, as the BMC reads it."""
        return self._on_since is not None and now >= self._on_since

    @property
    def on_since(self) -> float | None:
        """When the firmware of the present boot started; None while off."""
        return self._on_since

    @property
    def boots(self) -> int:
        """How often the firmware has started."""
        return self._boots

    @property
    def history(self) -> Sequence[PowerEvent]:
        """What happened to the power, oldest first; the last ``HISTORY_LIMIT`` events."""
        return self._history

    @property
    def source(self) -> Source:
        """What the present boot is from."""
        return self._history[-1].source if self._history else Source.DISK

    @property
    def os_up_at(self) -> float | None:
        """When the operating system of the present boot takes (or took) its first login; None: it will not."""
        if self._on_since is None or self.spec.boot_failure is not None or self.source is Source.SETUP:
            return None
        return self._on_since + self.spec.boot_s

    def os_up(self, now: float) -> bool:
        up_at = self.os_up_at
        return up_at is not None and now >= up_at

    def booted_at(self, now: float) -> float | None:
        """When the kernel that runs now was started: what ``now - /proc/uptime`` says. None while none runs."""
        if self._on_since is None or not self.os_up(now):
            return None
        return self._on_since + self.spec.boot_s * FIRMWARE_SHARE

    def uptime_s(self, now: float) -> float | None:
        booted_at = self.booted_at(now)
        return None if booted_at is None else now - booted_at

    def boot_id(self, now: float) -> str | None:
        """As /proc/sys/kernel/random/boot_id: a UUID, new at every boot. None while no operating system runs."""
        if not self.os_up(now):
            return None
        return str(UUID(bytes=_digest(self._seed, "boot-id", self.spec.name, self._boots)[:16], version=4))
