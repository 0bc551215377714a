"""Which servers of a fleet are broken, and how, by seed, so that a run can be had again; and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bootorch.core.model import Attempts, Outcome
from bootorch.core.reasons import Reason
from bootorch.sim.machine import BootFailure, MachineSpec, draw


class Fault(StrEnum):
    """Ways in which one server differs from a dark, healthy one."""

    DEAD_BMC = "dead_bmc"
    SILENT_POWER = "silent_power"
    NO_POST = "no_post"
    ALREADY_ON = "already_on"
    PLAYBOOK_FAILS_ONCE = "playbook_fails_once"
    # The order decides who is struck: what is added comes last, so that a seed keeps its victims.
    KERNEL_PANIC = "kernel_panic"
    NO_BOOT_DEVICE = "no_boot_device"
    MEMORY_ERROR = "memory_error"
    IN_SETUP = "in_setup"
    NETBOOT_FAILED = "netboot_failed"
    EMERGENCY_SHELL = "emergency_shell"
    POWER_FAULT = "power_fault"


_BOOT_FAILURES = {
    Fault.NO_POST: BootFailure.NO_POST,
    Fault.KERNEL_PANIC: BootFailure.KERNEL_PANIC,
    Fault.NO_BOOT_DEVICE: BootFailure.NO_BOOT_DEVICE,
    Fault.MEMORY_ERROR: BootFailure.MEMORY_ERROR,
    Fault.IN_SETUP: BootFailure.IN_SETUP,
    Fault.NETBOOT_FAILED: BootFailure.NETBOOT_FAILED,
    Fault.EMERGENCY_SHELL: BootFailure.EMERGENCY_SHELL,
    Fault.POWER_FAULT: BootFailure.POWER_FAULT,
}


def assign(seed: int, counts: Mapping[Fault, int], candidates: Mapping[Fault, Sequence[str]]) -> dict[str, Fault]:
    """Victim -> fault, at most one fault a host. ``candidates`` are the hosts that a fault may strike.

    Raises ValueError when a fault asks for more hosts than its candidates have left.
    """
    victims: dict[str, Fault] = {}
    for fault in Fault:
        wanted = counts.get(fault, 0)
        free = sorted(
            (name for name in candidates.get(fault, ()) if name not in victims),
            key=lambda name: (draw(seed, "fault", fault, name), name),
        )
        if not 0 <= wanted <= len(free):
            raise ValueError(f"{fault}: {wanted} hosts wanted, {len(free)} can have this fault")
        victims.update(dict.fromkeys(free[:wanted], fault))
    return victims


def machine_spec(name: str, seed: int, boot_s: tuple[float, float], fault: Fault | None = None) -> MachineSpec:
    """A server that boots in ``boot_s`` (shortest, longest; seconds; by seed and name), with at most one fault."""
    shortest, longest = boot_s
    return MachineSpec(
        name=name,
        boot_s=round(shortest + (longest - shortest) * draw(seed, "boot", name), 3),
        initially_on=fault is Fault.ALREADY_ON,
        dead_bmc=fault is Fault.DEAD_BMC,
        silent_power_ons=1 if fault is Fault.SILENT_POWER else 0,
        boot_failure=_BOOT_FAILURES.get(fault) if fault is not None else None,
        playbook_failures=1 if fault is Fault.PLAYBOOK_FAILS_ONCE else 0,
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """How a host has to end; ``reason`` is OK unless it is quarantined."""

    outcome: Outcome
    reason: Reason = Reason.OK


def expected(spec: MachineSpec, attempts: Attempts, *, redeploy: bool) -> Expected:
    """What a correct run makes of this server when everything it depends on comes up and deadlines are generous."""
    if spec.dead_bmc:
        return Expected(Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)
    if spec.initially_on:
        return Expected(Outcome.ADOPTED)
    if spec.silent_power_ons >= attempts.power:
        return Expected(Outcome.QUARANTINED, Reason.POWER_NO_EFFECT)
    if spec.boot_failure is not None:
        return Expected(Outcome.QUARANTINED, Reason(spec.boot_failure.value))
    if redeploy and spec.playbook_failures >= attempts.redeploy:
        return Expected(Outcome.QUARANTINED, Reason.TASK_FAILED)
    return Expected(Outcome.READY)
