"""What each verb of ``bootorch power`` asks a BMC, and what its answer means to people and programs.

Loaded verb by verb: reading the status of a thousand BMCs needs no sensor tables.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.client import Answer, Script, Verdict
from bootorch.ipmi.messages import Command
from bootorch.runtime.targets import Target
from bootorch.ui.powerservices import Request, Verb


class Finding(NamedTuple):
    """What an answer means: see ``ui.powerservices.Row``."""

    state: str
    detail: str = ""
    lines: tuple[str, ...] = ()
    data: object = None
    watts: float | None = None


class Order(NamedTuple):
    """``script`` makes the script for a target; ``read`` says what its value means (values of good ends only)."""

    script: Callable[[Target], Script]
    read: Callable[[object], Finding]


def order(request: Request) -> Order:
    """The order of a verb (not of ``console``, which is a conversation)."""
    match request.verb:
        case Verb.STATUS:
            return STATUS
        case Verb.ON | Verb.OFF | Verb.SOFT | Verb.CYCLE | Verb.RESET:
            return _control(request.verb)
        case Verb.IDENTIFY:
            return _identify(request.seconds)
        case Verb.BOOTDEV:
            return _bootdev(request)
        case Verb.POLICY:
            return _policy(request.policy)
        case Verb.SEL:
            return _sel(request.since_s, request.last)
        case Verb.INFO:
            return _info()
        case Verb.SENSORS:
            return _sensors()
        case Verb.CONSOLE:
            raise ValueError("a console is no order")


# status


def _ask_status(_: Target) -> Generator[Command, Answer, object]:
    answer = yield msg.CHASSIS_STATUS
    status = msg.parse_chassis_status(answer.data)
    return Verdict(Reason.BMC_PROTOCOL, "chassis status: answer too short") if status is None else status


_ON, _OFF = Finding("on"), Finding("off")


def _read_status(value: object) -> Finding:
    assert isinstance(value, msg.ChassisStatus)
    found = _ON if value.power_on else _OFF
    if value.power_fault or value.power_overload:
        troubles = [name for name in ("power_fault", "power_overload") if getattr(value, name)]
        return found._replace(detail=", ".join(troubles).replace("_", " "))
    return found


STATUS = Order(_ask_status, _read_status)


# on, off, soft, cycle, reset

_ACTIONS = {
    Verb.ON: msg.Action.ON,
    Verb.OFF: msg.Action.OFF,
    Verb.SOFT: msg.Action.SOFT_OFF,
    Verb.CYCLE: msg.Action.CYCLE,
    Verb.RESET: msg.Action.RESET,
}
ACCEPTED = "accepted"


def goal(verb: Verb) -> str:
    """How the power reads when the verb has been done."""
    return "off" if verb in (Verb.OFF, Verb.SOFT) else "on"


def _control(verb: Verb) -> Order:
    from bootorch.ipmi import scripts

    action = _ACTIONS[verb]
    done, already = Finding(ACCEPTED), Finding(goal(verb), f"it was {goal(verb)} already")

    def read(value: object) -> Finding:
        assert isinstance(value, scripts.Controlled)
        return already if value.already else done

    return Order(lambda _: scripts.chassis_control(action), read)


# identify, bootdev, policy


def _identify(seconds: int | None) -> Order:
    from bootorch.ipmi import scripts

    def read(value: object) -> Finding:
        assert value is None or isinstance(value, int)
        if value == 0:
            return Finding("light out")
        detail = "this BMC cannot blink for longer" if seconds is None and value is not None else ""
        return Finding("blinks until told otherwise" if value is None else f"blinks for {value} s", detail)

    return Order(lambda _: scripts.identify(seconds), read)


_SOURCES = {
    "none": msg.BootSource.NONE,
    "pxe": msg.BootSource.PXE,
    "disk": msg.BootSource.DISK,
    "cdrom": msg.BootSource.CDROM,
    "bios": msg.BootSource.BIOS,
}


def _bootdev(request: Request) -> Order:
    from bootorch.ipmi import scripts

    source = _SOURCES[request.device]

    def script(target: Target) -> Script:
        efi = not target.legacy if request.efi is None else request.efi
        return scripts.boot_device(source, efi=efi, persistent=request.persistent, model=target.model)

    def read(value: object) -> Finding:
        assert isinstance(value, scripts.BootSet)
        data = {"efi": value.efi, "persistent": value.persistent, "verified": value.verified}
        if source is msg.BootSource.NONE:
            return Finding("own boot order", value.note, data=data)
        how = f"{'always' if value.persistent else 'once'}, {'EFI' if value.efi else 'legacy'}"
        return Finding(f"{request.device} ({how})", value.note, data=data)

    return Order(script, read)


_POLICIES = {
    "always-off": msg.Policy.STAY_OFF,
    "previous": msg.Policy.PREVIOUS,
    "always-on": msg.Policy.ALWAYS_ON,
}
_POLICY_NAMES = {policy: name for name, policy in _POLICIES.items()}


def _policy(name: str) -> Order:
    from bootorch.ipmi import scripts

    def read(value: object) -> Finding:
        assert isinstance(value, scripts.RestorePolicy)
        known = None if value.supported is None else sorted(_POLICY_NAMES[policy] for policy in value.supported)
        state = "unknown" if value.policy is None else _POLICY_NAMES[value.policy]
        return Finding(state, data={"supported": known})

    if name:
        return Order(lambda _: scripts.set_restore_policy(_POLICIES[name]), read)
    return Order(lambda _: scripts.restore_policy(), read)


# sel, info, sensors


def _sel(since_s: float | None, last: int) -> Order:
    from bootorch.ipmi import scripts

    def read(value: object) -> Finding:
        assert isinstance(value, scripts.SelLog)
        notes = []
        if value.overflow:
            notes.append("the log is full: newer events were lost")
        if value.truncated:
            notes.append(f"the newest {len(value.records)} of {value.total}")
        if since_s is not None and not value.aged:
            notes.append("the BMC does not tell its clock, so --since was not applied")
        count = len(value.records)
        state = "no events" if not count else "1 event" if count == 1 else f"{count:,} events"
        data = {"events": list(value.lines), "total": value.total, "overflow": value.overflow}
        return Finding(state, "; ".join(notes), value.lines, data)

    age_s = None if since_s is None else lambda: since_s
    return Order(lambda _: scripts.read_sel(age_s, last), read)


def _info() -> Order:
    from bootorch.ipmi import scripts

    def read(value: object) -> Finding:
        assert isinstance(value, scripts.DeviceInfo)
        slots = value.slots._asdict() if value.slots is not None else None
        data = {**value._asdict(), "slots": slots}
        vendor = value.manufacturer_name or f"manufacturer {value.manufacturer}"
        lines = [f"product {value.product}, device {value.device}, IPMI {value.ipmi}"]
        if value.guid:
            lines.append(f"GUID {value.guid}")
        if value.slots is not None:
            lines.append("sessions " + ", ".join(f"{name} {count}" for name, count in value.slots._asdict().items()))
        if value.restart_cause:
            lines.append(f"last restart: {value.restart_cause}")
        return Finding(f"{vendor}, firmware {value.firmware}", lines=tuple(lines), data=data)

    return Order(lambda _: scripts.device_info(), read)


def _sensors() -> Order:
    from bootorch.ipmi import sensors

    def script(_: Target) -> Generator[Command, Answer, object]:
        power = yield from sensors.power_reading()
        found = yield from sensors.sensors()
        if isinstance(found, Verdict) and not isinstance(power, sensors.Power):
            return power
        return power, found

    def read(value: object) -> Finding:
        assert isinstance(value, tuple)
        power, found = value
        drawn = power.watts if isinstance(power, sensors.Power) else None
        lines, data = [], []
        if isinstance(found, sensors.Sensors):
            for sensor in found.sensors:
                shown = sensor.why if sensor.value is None else f"{sensor.value:g} {sensor.unit}".rstrip()
                lines.append(f"{sensor.name}: {shown}")
                data.append(sensor._asdict())
            if not found.complete:
                lines.append("and more sensors, which were not read")
        state = "power draw unknown" if drawn is None else f"{drawn:g} W"
        whence = (
            power._asdict() if isinstance(power, sensors.Power) else {"error": power.reason, "detail": power.detail}
        )
        detail = power.detail if isinstance(power, Verdict) else ""
        return Finding(state, detail, tuple(lines), {"power": whence, "sensors": data}, drawn)

    return Order(script, read)
