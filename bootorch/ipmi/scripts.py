"""What can be asked of a BMC, each as a script for an ``Exchange``: commands whose choice depends on the answers.

A script returns a frozen value, or a ``Verdict`` with the reason why there is none. Every loop is bounded, and nothing
that a BMC answers raises. ``sensors`` and ``power_reading`` are in ``bootorch.ipmi.sensors``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi import quirks, sel, vendors
from bootorch.ipmi.client import Answer, Verdict
from bootorch.ipmi.messages import Action, BootSource, Command, Completion, Policy

T = TypeVar("T")
Asking = Generator[Command, Answer, T]

SEL_WALK_MAX: Final = 4096  # records read in one exchange; the logs of common BMCs hold 512 to 4,000


def ask(command: Command, parse: Callable[[bytes], T | None]) -> Asking[T | Verdict]:
    """The parsed answer; an answer that makes no sense is a Verdict."""
    answer = yield command
    value = parse(answer.data) if answer.completion == Completion.OK else None
    return value if value is not None else garbled(command, answer)


def ask_optional(command: Command, parse: Callable[[bytes], T | None]) -> Asking[T | None]:
    """The parsed answer; None where the BMC has none, or none that makes sense."""
    answer = yield command.tolerant()
    return parse(answer.data) if answer.completion == Completion.OK else None


def ask_patiently(command: Command) -> Asking[Answer]:
    """Any answer but "busy": after that the exchange asks again, and ends when it stays so."""
    answer = yield command.tolerant()
    if answer.completion in msg.BUSY_CODES:
        answer = yield command
    return answer


def garbled(command: Command, answer: Answer) -> Verdict:
    if answer.completion != Completion.OK:
        return Verdict(msg.reason_of(command, answer.completion), refusal(command, answer))
    return Verdict(Reason.BMC_PROTOCOL, f"{command.name}: an answer that makes no sense ({answer.data[:32].hex(' ')})")


def refusal(command: Command, answer: Answer) -> str:
    return f"{command.name}: {msg.completion_name(answer.completion)}"


# Chassis


def chassis_status() -> Asking[msg.ChassisStatus | Verdict]:
    return (yield from ask(msg.CHASSIS_STATUS, msg.parse_chassis_status))


class Controlled(NamedTuple):
    """A chassis control was accepted, which does not mean that it happened; or ``already``: nothing was to be done."""

    action: Action
    already: bool = False


_GOAL: Final = {Action.ON: True, Action.OFF: False, Action.SOFT_OFF: False}


def chassis_control(action: Action) -> Asking[Controlled | Verdict]:
    """Send it once. Where the BMC says "not in the present state", the state says what that means."""
    command = msg.chassis_control(action).tolerant()
    answer = yield command
    if answer.completion == Completion.OK:
        return Controlled(action)
    status = None
    if answer.completion in (Completion.NOT_NOW, Completion.INVALID_FIELD):
        status = yield from ask_optional(msg.CHASSIS_STATUS, msg.parse_chassis_status)
    if status is not None and _GOAL.get(action) is status.power_on:
        return Controlled(action, already=True)
    text = refusal(command, answer)
    if status is not None and not status.power_on and action in (Action.CYCLE, Action.RESET, Action.NMI):
        text += "; the host is off: power it on instead"
    return Verdict(msg.reason_of(command, answer.completion), text, status)


@dataclass(slots=True)
class Switching:
    """How far a power-on has come, for whoever hears of its end only by a reason."""

    status: msg.ChassisStatus | None = None  # as read before anything was changed
    note: str = ""  # of the boot device
    sent: bool = False  # the power-on itself has left


def switch_on(progress: Switching, source: BootSource | None, *, efi: bool, model: str) -> Asking[Controlled | Verdict]:
    """Read the state and, of a host that is off, set the device of the next boot and send the power-on.

    In one session there is next to no time between the reading and the power-on, and none for the BMC to forget the
    boot flags (28.12: 60 s). ``source`` None: the boot order is left alone. A BMC without boot flags boots as it always
    does.
    """
    status = yield from chassis_status()
    if isinstance(status, Verdict):
        return status
    progress.status = status
    if status.power_on:
        return Controlled(Action.ON, already=True)
    if source is not None:
        chosen = yield from boot_device(source, efi=efi, model=model)
        if isinstance(chosen, Verdict):
            if chosen.reason is not Reason.BMC_UNSUPPORTED:
                return chosen
            progress.note = chosen.detail
        else:
            progress.note = chosen.note
    progress.sent = True
    return (yield from chassis_control(Action.ON))


def identify(seconds: int | None = 15) -> Asking[int | None]:
    """Locator light for 0-255 s (0: off), None: until told otherwise. Returns for how long it is on now.

    The lasting kind is optional (28.5): where the BMC has none the light is on for 255 s. ValueError for other times.
    """
    if seconds is not None and not 0 <= seconds <= 255:
        raise ValueError(f"the locator light takes 0 to 255 seconds, not {seconds}")
    if seconds is None:
        command = msg.identify(None).tolerant()
        answer = yield command
        if answer.completion == Completion.OK:
            return None
        seconds = 255
    yield msg.identify(seconds)
    return seconds


class RestorePolicy(NamedTuple):
    """What the server does when AC returns. None: the BMC does not tell."""

    policy: Policy | None
    supported: frozenset[Policy] | None


_POLICY_BITS: Final = ((1, Policy.STAY_OFF), (2, Policy.PREVIOUS), (4, Policy.ALWAYS_ON))


def _parse_policies(data: bytes) -> frozenset[Policy] | None:
    return frozenset(policy for bit, policy in _POLICY_BITS if data[0] & bit) if data else None


def restore_policy() -> Asking[RestorePolicy | Verdict]:
    status = yield from ask(msg.CHASSIS_STATUS, msg.parse_chassis_status)
    if isinstance(status, Verdict):
        return status
    supported = yield from ask_optional(msg.set_restore_policy(Policy.QUERY), _parse_policies)
    number = status.restore_policy
    return RestorePolicy(None if number == Policy.QUERY else Policy(number), supported)


def set_restore_policy(policy: Policy) -> Asking[RestorePolicy | Verdict]:
    """Set, then read back. ValueError for ``Policy.QUERY``."""
    if policy is Policy.QUERY:
        raise ValueError("QUERY is a question, not a policy")
    answer = yield msg.set_restore_policy(policy)
    supported = _parse_policies(answer.data)
    name = policy.name.lower()
    if supported and policy not in supported:
        return Verdict(Reason.BMC_UNSUPPORTED, f"restore policy {name}: this BMC does not support it")
    status = yield from ask(msg.CHASSIS_STATUS, msg.parse_chassis_status)
    if isinstance(status, Verdict):
        return status
    if status.restore_policy not in (policy, Policy.QUERY):  # QUERY: the BMC does not tell which one holds
        now = Policy(status.restore_policy).name.lower()
        return Verdict(Reason.BMC_REFUSED, f"restore policy {name} was accepted, but it reads {now}")
    return RestorePolicy(policy, supported)


# Boot options


class BootSet(NamedTuple):
    """A boot device was set. ``verified``: it was read back; else ``note`` says why that is not so."""

    source: BootSource
    efi: bool
    persistent: bool
    verified: bool
    note: str = ""


# Parameter 3 (28.12): leave the flags valid over resets and the 60 s rule. Optional.
_KEEP_VALID: Final = msg.set_boot_option(3, b"\x08", tolerate=True)


def boot_flags() -> Asking[msg.BootFlags | Verdict]:
    return (yield from ask(msg.get_boot_option(5), msg.parse_boot_flags))


def boot_device(
    source: BootSource, *, efi: bool = True, persistent: bool = False, model: str = ""
) -> Asking[BootSet | Verdict]:
    """Set the boot device of the next boot, or of all, and read it back. ``NONE``: the server's own order again.

    ``model`` is what the inventory calls the server; it and the BMC's manufacturer find what vendors do differently.
    The flags of the next boot are forgotten when no chassis control follows within 60 s (28.12).
    """
    device = yield from ask_optional(msg.GET_DEVICE_ID, msg.parse_device_id)
    vendor = device.manufacturer if device is not None else 0
    for name in (model, vendors.manufacturer_name(vendor)):
        source = quirks.boot_source(source, efi=efi, vendor=name)
    yield _KEEP_VALID
    command = msg.set_boot_option(5, msg.boot_flags(source, efi=efi, persistent=persistent))
    answer = yield from ask_patiently(command)
    if answer.completion != Completion.OK:
        return Verdict(msg.reason_of(command, answer.completion), refusal(command, answer))
    flags = yield from ask_optional(msg.get_boot_option(5), msg.parse_boot_flags)
    if flags is None:
        return BootSet(source, efi, persistent, False, "this BMC does not tell its boot flags")
    if source is BootSource.NONE and flags.source == BootSource.NONE:
        return BootSet(source, efi, persistent, True)  # whether "no device" is valid means nothing
    wrong = []
    if flags.source != source:
        wrong.append(f"device {flags.source:#04x} instead of {source:#04x}")
    if not flags.valid:
        wrong.append("no valid bit")
    text = f"boot device accepted, but it reads {' and '.join(wrong)}"
    if flags.source == source and quirks.keeps_device_only(vendor):
        return BootSet(source, efi, persistent, flags.valid, text if wrong else "")  # it stores the device only
    if wrong:
        return Verdict(Reason.BMC_REFUSED, text, flags)
    if flags.persistent != persistent or flags.efi != efi:
        mode = f"{'persistent' if flags.persistent else 'once'}, {'EFI' if flags.efi else 'legacy'}"
        return BootSet(source, flags.efi, flags.persistent, True, f"it reads {mode}")
    return BootSet(source, efi, persistent, True)


# What it is


class DeviceInfo(NamedTuple):
    """None and "" where the BMC does not tell. ``slots``: sessions it can hold and holds, this one included."""

    manufacturer: int
    manufacturer_name: str
    product: int
    device: int
    firmware: str
    ipmi: str
    guid: str
    slots: msg.SessionSlots | None
    restart_cause: str


def device_info() -> Asking[DeviceInfo | Verdict]:
    device = yield from ask(msg.GET_DEVICE_ID, msg.parse_device_id)
    if isinstance(device, Verdict):
        return device
    guid = yield from ask_optional(msg.GET_SYSTEM_GUID, guid_text)
    slots = yield from ask_optional(msg.GET_SESSION_INFO, msg.parse_session_slots)
    cause = yield from ask_optional(msg.RESTART_CAUSE, restart_cause_name)
    return DeviceInfo(
        device.manufacturer,
        vendors.manufacturer_name(device.manufacturer),
        device.product,
        device.device,
        device.firmware,
        device.ipmi,
        guid or "",
        slots,
        cause or "",
    )


def guid_text(data: bytes) -> str | None:
    """A system GUID as text, in the byte order that makes it a valid UUID.

    20.8 has it backwards, most vendors copy SMBIOS (first three fields little-endian), some send it as it is written.
    """
    if len(data) < 16:
        return None
    raw = data[:16]
    smbios = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
    # RFC 4122: version 1-5 in the high nibble of byte 6, variant 10 in the high bits of byte 8.
    valid = (order for order in (smbios, raw[::-1], raw) if 1 <= order[6] >> 4 <= 5 and order[8] >> 6 == 2)
    digits = next(valid, smbios).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def restart_cause_name(data: bytes) -> str | None:
    cause = data[0] & 0x0F if data else len(msg.RESTART_CAUSES)
    return msg.RESTART_CAUSES[cause] if cause < len(msg.RESTART_CAUSES) else None


# System event log


class SelLog(NamedTuple):
    """Records, oldest first. ``clock_s``: the BMC's clock, in seconds since 1970 or since its own start.

    ``truncated``: there may be more than were read. ``aged``: records older than was asked are left out; False when
    the BMC does not tell its clock, so that no record's age is known.
    """

    records: tuple[sel.Record, ...]
    clock_s: int | None = None
    total: int | None = None
    overflow: bool = False
    truncated: bool = False
    aged: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(sel.line, self.records))


def read_sel(age_s: Callable[[], float] | None = None, limit: int = 100) -> Asking[SelLog | Verdict]:
    """The newest ``limit`` records, at most ``age_s`` seconds old by the BMC's own clock.

    ``age_s`` is asked as that clock has been read: a login with lost packets takes seconds, in which what is looked for
    grows older. Records without a date (written before the BMC knew the time) are as old as their neighbours.
    """
    answer = yield from ask_patiently(msg.GET_SEL_INFO)
    info = sel.parse_info(answer.data) if answer.completion == Completion.OK else None
    if info is None:
        return garbled(msg.GET_SEL_INFO, answer)
    clock_s = yield from ask_optional(msg.GET_SEL_TIME, sel.parse_time)
    oldest_s = None if age_s is None or clock_s is None else clock_s - age_s()
    log = SelLog((), clock_s, info.entries, info.overflow, aged=oldest_s is not None)
    newest = yield from _entry(sel.LAST)
    if not isinstance(newest, sel.Entry):
        # 0xCB is the word for "empty"; some say 0xC9 or 0xFF.
        return newest if isinstance(newest, Verdict) and info.entries else log
    found: deque[sel.Record] = deque()
    steady = yield from _backward(newest.record, oldest_s, limit, info.entries, found)
    if not steady:
        forward = yield from _forward(limit)
        if isinstance(forward, Verdict):
            return forward
        records, complete = forward
        kept = tuple(_recent(records, oldest_s))
        return log._replace(records=kept, truncated=not complete or len(records) < info.entries)
    return log._replace(records=tuple(found), truncated=oldest_s is None and len(found) < info.entries)


def _entry(ident: int) -> Asking[sel.Entry | Verdict | None]:
    """The entry; None when there is no such record; a Verdict for nonsense."""
    command = msg.get_sel_entry(ident)
    answer = yield from ask_patiently(command)
    if answer.completion in (Completion.NOT_PRESENT, Completion.OUT_OF_RANGE, Completion.INVALID_FIELD):
        return None
    entry = sel.parse_entry(answer.data) if answer.completion == Completion.OK else None
    return entry if entry is not None else garbled(command, answer)


def _backward(
    newest: sel.Record, oldest_s: float | None, limit: int, entries: int, found: deque[sel.Record]
) -> Asking[bool]:
    """From the newest record by falling id into ``found``. False where this BMC's ids do not go by ones."""
    record = newest
    while len(found) < limit:
        if _older(record, oldest_s):
            return True
        found.appendleft(record)
        if len(found) >= limit or (record.ident == 1 and len(found) >= entries):
            return True
        entry = (yield from _entry(record.ident - 1)) if record.ident > 1 else None
        if not isinstance(entry, sel.Entry) or entry.record.ident != record.ident - 1:
            # A gap, a log that has wrapped, or its beginning: only the chain of following ids can tell.
            first = yield from _entry(0)
            return isinstance(first, sel.Entry) and first.record.ident == record.ident
        record = entry.record
    return True


def _forward(limit: int) -> Asking[tuple[list[sel.Record], bool] | Verdict]:
    """The last ``limit`` records by the chain of following ids, and whether its end was reached."""
    found: deque[sel.Record] = deque(maxlen=limit)
    ident = 0
    for _ in range(SEL_WALK_MAX):
        entry = yield from _entry(ident)
        if isinstance(entry, Verdict):
            return entry
        if entry is None:
            return list(found), True  # erased meanwhile
        found.append(entry.record)
        if entry.following in (sel.LAST, ident, 0):
            return list(found), True
        ident = entry.following
    return list(found), False


def _recent(records: list[sel.Record], oldest_s: float | None) -> list[sel.Record]:
    """Without everything up to the last record that is known to be too old."""
    old = [n for n, record in enumerate(records) if _older(record, oldest_s)]
    return records[old[-1] + 1 :] if old else records


def _older(record: sel.Record, oldest_s: float | None) -> bool:
    """Whether a record is known to be older. A date and seconds since the BMC's start cannot be compared."""
    if oldest_s is None or record.time_s is None:
        return False
    return record.time_s < oldest_s and record.dated == (oldest_s >= sel.SINCE_START_BELOW)


# A host that did not boot


class Evidence(NamedTuple):
    """What the BMC knows about a host that did not boot. ``events``: lines of ``sel.line``, oldest first, or None.

    ``note``: what could not be read, and why; for people.
    """

    status: msg.ChassisStatus | None
    restart_cause: str
    events: tuple[str, ...] | None
    manufacturer: str
    note: str = ""


EVIDENCE_RECORDS: Final = 64  # a boot that fails leaves a dozen; a failing DIMM can leave hundreds


def evidence(age_s: Callable[[], float]) -> Asking[Evidence]:
    """Chassis status, restart cause and the events of the last ``age_s`` seconds (see ``read_sel``); what is missing
    stays empty."""
    notes = []
    status = yield from ask_optional(msg.CHASSIS_STATUS, msg.parse_chassis_status)
    if status is None:
        notes.append("no chassis status")
    cause = yield from ask_optional(msg.RESTART_CAUSE, restart_cause_name)
    device = yield from ask_optional(msg.GET_DEVICE_ID, msg.parse_device_id)
    events: tuple[str, ...] | None = None
    log = yield from read_sel(age_s, EVIDENCE_RECORDS)
    if isinstance(log, Verdict):
        notes.append(f"no event log: {log.detail}")
    elif not log.aged:
        notes.append("event log not used: the BMC does not tell its clock, so no event's age is known")
    else:
        events = log.lines
        if log.overflow:
            notes.append("the event log is full: newer events were lost")
    name = vendors.manufacturer_name(device.manufacturer) if device is not None else ""
    return Evidence(status, cause or "", events, name, "; ".join(notes))
