"""Scripts against answers in memory: what they send, what they make of it, and that nonsense is no exception."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts, sel, sensors, vendors
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Answer, Script, Verdict
from bootorch.ipmi.messages import Action, BootSource, Command, Policy

from .network import make_bmc, make_exchange, server, talk
from .scripted import Bmc, Ended, play, table

STATUS, CONTROL, IDENTIFY, POLICY, CAUSE, SET_BOOT, GET_BOOT = ((0x00, n) for n in (1, 2, 4, 6, 7, 8, 9))
DEVICE_ID, GUID, SESSION = ((0x06, n) for n in (0x01, 0x37, 0x3D))
SEL_INFO, SEL_ENTRY, SEL_TIME = ((0x0A, n) for n in (0x40, 0x43, 0x48))
OK: tuple[int, bytes] = (0, b"")
ON, OFF = (0, b"\x01\x00\x00"), (0, b"\x00\x00\x00")


def ident(manufacturer: int = 0) -> tuple[int, bytes]:
    return 0, bytes.fromhex("20 01 03 52 02 bf") + manufacturer.to_bytes(3, "little") + b"\x34\x12" + bytes(4)


def numbers(sent: list[Command]) -> list[tuple[int, int]]:
    return [(command.netfn, command.command) for command in sent]


# Chassis


def test_chassis_status() -> None:
    value, _ = play(scripts.chassis_status(), table({STATUS: (0, b"\x21\x10\x0c")}))
    assert value == msg.ChassisStatus(True, False, False, 1, 16, drive_fault=True, cooling_fault=True)


def test_a_short_answer_is_a_verdict() -> None:
    value, _ = play(scripts.chassis_status(), table({STATUS: (0, b"\x21")}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_PROTOCOL


@pytest.mark.parametrize("action", list(Action))
def test_a_control_is_sent_once(action: Action) -> None:
    value, sent = play(scripts.chassis_control(action), table({CONTROL: OK}))
    assert value == scripts.Controlled(action)
    assert [(c.data, c.once) for c in sent] == [(bytes((action,)), True)]


@pytest.mark.parametrize("action", [Action.CYCLE, Action.RESET])
def test_cycle_of_a_host_that_is_off_says_so(action: Action) -> None:
    value, sent = play(scripts.chassis_control(action), table({CONTROL: (0xD5, b""), STATUS: OFF}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_REFUSED
    assert "the host is off: power it on instead" in value.detail
    assert numbers(sent) == [CONTROL, STATUS]


@pytest.mark.parametrize(("action", "status"), [(Action.ON, ON), (Action.OFF, OFF), (Action.SOFT_OFF, OFF)])
def test_what_is_so_already_is_no_failure(action: Action, status: tuple[int, bytes]) -> None:
    value, _ = play(scripts.chassis_control(action), table({CONTROL: (0xD5, b""), STATUS: status}))
    assert value == scripts.Controlled(action, already=True)


def test_a_refused_control_stays_refused() -> None:
    value, _ = play(scripts.chassis_control(Action.ON), table({CONTROL: (0xD5, b""), STATUS: OFF}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_REFUSED
    assert value.detail == "chassis control on: 0xd5 not possible in the present state"


def test_a_control_that_timed_out_in_the_bmc_may_have_had_effect() -> None:
    value, _ = play(scripts.chassis_control(Action.ON), table({CONTROL: (0xC3, b"")}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_LOST


def test_identify() -> None:
    assert play(scripts.identify(30), table({IDENTIFY: OK}))[0] == 30
    value, sent = play(scripts.identify(None), table({IDENTIFY: OK}))
    assert value is None
    assert sent[0].data == b"\x00\x01"
    # The lasting kind is optional.
    value, sent = play(scripts.identify(None), table({IDENTIFY: [(0xC7, b""), OK]}))
    assert value == 255
    assert sent[1].data == b"\xff"
    with pytest.raises(ValueError, match="0 to 255"):
        play(scripts.identify(256), table({}))


def test_restore_policy() -> None:
    answers = {STATUS: (0, b"\x21\x00\x00"), POLICY: (0, b"\x05")}
    value, sent = play(scripts.restore_policy(), table(answers))
    assert value == scripts.RestorePolicy(Policy.PREVIOUS, frozenset((Policy.STAY_OFF, Policy.ALWAYS_ON)))
    assert sent[1].data == b"\x03"  # asks, changes nothing
    value, _ = play(scripts.restore_policy(), table({STATUS: (0, b"\x61\x00\x00")}))
    assert value == scripts.RestorePolicy(None, None)


def test_restore_policy_is_read_back() -> None:
    script = scripts.set_restore_policy(Policy.ALWAYS_ON)
    value, _ = play(script, table({POLICY: (0, b"\x07"), STATUS: (0, b"\x41\x00\x00")}))
    assert isinstance(value, scripts.RestorePolicy)
    assert value.policy is Policy.ALWAYS_ON
    script = scripts.set_restore_policy(Policy.ALWAYS_ON)
    value, _ = play(script, table({POLICY: (0, b"\x07"), STATUS: (0, b"\x01\x00\x00")}))
    assert isinstance(value, Verdict)
    assert value == (Reason.BMC_REFUSED, "restore policy always_on was accepted, but it reads stay_off", None)
    value, _ = play(scripts.set_restore_policy(Policy.PREVIOUS), table({POLICY: (0, b"\x05")}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_UNSUPPORTED
    with pytest.raises(ValueError, match="question"):
        play(scripts.set_restore_policy(Policy.QUERY), table({}))


# Boot device


def boot(flags: bytes | None, manufacturer: int = 0, parameter_3: int = 0) -> Bmc:
    """A BMC whose boot flags read so (None: not at all)."""
    reading = (0x80, b"") if flags is None else (0, b"\x01\x05" + flags)
    return table({DEVICE_ID: ident(manufacturer), SET_BOOT: [(parameter_3, b""), OK], GET_BOOT: reading})


@pytest.mark.parametrize("junk", [b"", b"twelve bytes"])  # HP DL380 G5 appends them
def test_boot_device_is_read_back(junk: bytes) -> None:
    value, sent = play(scripts.boot_device(BootSource.PXE), boot(b"\xa0\x04\x00\x00\x00" + junk))
    assert value == scripts.BootSet(BootSource.PXE, True, False, True)
    assert [c.data for c in sent if (c.netfn, c.command) == SET_BOOT] == [b"\x03\x08", b"\x05\xa0\x04\x00\x00\x00"]


def test_parameter_3_is_optional() -> None:
    value, _ = play(scripts.boot_device(BootSource.BIOS), boot(b"\xa0\x18\x00\x00\x00", parameter_3=0x80))
    assert isinstance(value, scripts.BootSet)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (b"\x20\x04\x00\x00\x00", "no valid bit"),
        (b"\xa0\x08\x00\x00\x00", "device 0x08 instead of 0x04"),
        (b"\x20\x00\x00\x00\x00", "device 0x00 instead of 0x04 and no valid bit"),
    ],
)
def test_boot_flags_that_do_not_hold_are_refused(flags: bytes, complaint: str) -> None:
    value, _ = play(scripts.boot_device(BootSource.PXE), boot(flags))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_REFUSED
    assert value.detail == f"boot device accepted, but it reads {complaint}"


def test_the_openipmi_simulator_keeps_the_device_only() -> None:
    simulator = boot(b"\x00\x04\x00\x00\x00", vendors.OPENIPMI_SIMULATOR)
    value, _ = play(scripts.boot_device(BootSource.PXE), simulator)
    assert isinstance(value, scripts.BootSet)
    assert not value.verified
    value, _ = play(scripts.boot_device(BootSource.DISK), boot(b"\x00\x04\x00\x00\x00", vendors.OPENIPMI_SIMULATOR))
    assert isinstance(value, Verdict), "another device is no quirk"


def test_a_bmc_that_does_not_tell_its_flags_is_believed() -> None:
    value, _ = play(scripts.boot_device(BootSource.PXE), boot(None))
    assert isinstance(value, scripts.BootSet)
    assert (value.verified, value.note) == (False, "this BMC does not tell its boot flags")


def test_a_mode_that_reads_otherwise_is_told() -> None:
    value, _ = play(scripts.boot_device(BootSource.PXE, persistent=True), boot(b"\x80\x04\x00\x00\x00"))
    assert value == scripts.BootSet(BootSource.PXE, False, False, True, "it reads once, legacy")


@pytest.mark.parametrize(
    ("manufacturer", "model", "efi", "selector"),
    [
        (vendors.SUPERMICRO, "", True, 0x24),
        (vendors.SUPERMICRO_2, "", True, 0x24),
        (0, "Supermicro X11", True, 0x24),
        (vendors.SUPERMICRO, "", False, 0x08),
        (vendors.DELL, "PowerEdge R650", True, 0x08),
    ],
)
def test_supermicro_has_a_selector_of_its_own(manufacturer: int, model: str, efi: bool, selector: int) -> None:
    flags = bytes((0xA0 if efi else 0x80, selector, 0, 0, 0))
    script = scripts.boot_device(BootSource.DISK, efi=efi, model=model)
    value, sent = play(script, boot(flags, manufacturer))
    assert isinstance(value, scripts.BootSet), value
    assert sent[2].data == b"\x05" + flags


def test_no_boot_device_needs_no_valid_bit() -> None:
    value, _ = play(scripts.boot_device(BootSource.NONE), boot(bytes(5)))
    assert isinstance(value, scripts.BootSet)


def test_boot_flags() -> None:
    value, _ = play(scripts.boot_flags(), boot(b"\xe0\x08\x00\x00\x00"))
    assert value == msg.BootFlags(True, True, True, 0x08)


# Device


def test_device_info() -> None:
    uuid = bytes.fromhex("33221100 5544 7766 88 99 aabbccddeeff")
    answers = {DEVICE_ID: ident(vendors.DELL), GUID: (0, uuid), SESSION: (0, b"\x01\x0f\x02"), CAUSE: (0, b"\x01\x01")}
    value, _ = play(scripts.device_info(), table(answers))
    assert value == scripts.DeviceInfo(
        674,
        "Dell",
        0x1234,
        0x20,
        "3.52",
        "2.0",
        "00112233-4455-6677-8899-aabbccddeeff",
        msg.SessionSlots(15, 2),
        "chassis control command",
    )
    value, _ = play(scripts.device_info(), table({DEVICE_ID: ident(4711)}))
    assert value == scripts.DeviceInfo(4711, "manufacturer 4711", 0x1234, 0x20, "3.52", "2.0", "", None, "")


@pytest.mark.parametrize("order", ["smbios", "reversed", "plain"])
def test_guid_in_every_byte_order(order: str) -> None:
    text = "c0ffee00-1234-4f0f-89ab-0123456789ab"
    plain = bytes.fromhex(text.replace("-", ""))
    smbios = plain[3::-1] + plain[5:3:-1] + plain[7:5:-1] + plain[8:]
    assert scripts.guid_text({"smbios": smbios, "reversed": plain[::-1], "plain": plain}[order]) == text


# Event log


class Log:
    """A BMC with an event log: records (id, seconds), in their order; ids may go any way."""

    def __init__(self, records: list[tuple[int, int]], clock_s: int | None = 0x60000000, entries: int | None = None):
        self.order = [ident for ident, _ in records]
        self.times = dict(records)
        self.clock_s = clock_s
        self.entries = len(records) if entries is None else entries
        self.asked: list[int] = []

    def __call__(self, command: Command) -> tuple[int, bytes]:
        key = command.netfn, command.command
        if key == SEL_INFO:
            return 0, b"\x51" + self.entries.to_bytes(2, "little") + bytes(11)
        if key == SEL_TIME and self.clock_s is not None:
            return 0, self.clock_s.to_bytes(4, "little")
        if key != SEL_ENTRY:
            return 0xC1, b""
        wanted = int.from_bytes(command.data[2:4], "little")
        self.asked.append(wanted)
        found = {0: 0, 0xFFFF: len(self.order) - 1}.get(
            wanted, self.order.index(wanted) if wanted in self.times else -1
        )
        if not 0 <= found < len(self.order):
            return 0xCB, b""
        number = self.order[found]
        following = self.order[found + 1] if found + 1 < len(self.order) else 0xFFFF
        stamp = self.times[number].to_bytes(4, "little")
        body = number.to_bytes(2, "little") + b"\x02" + stamp + bytes.fromhex("2000 04 0c 01 6f 01 ff ff")
        return 0, following.to_bytes(2, "little") + body


NOW = 0x60000000


def read(log: Log, since_s: float | None = None, limit: int = 100) -> scripts.SelLog:
    value, _ = play(scripts.read_sel(None if since_s is None else lambda: since_s, limit), log)
    assert isinstance(value, scripts.SelLog), value
    return value


def test_sel_comes_oldest_first() -> None:
    log = Log([(n, NOW - 100 + n) for n in range(1, 11)])
    value = read(log)
    assert [r.ident for r in value.records] == list(range(1, 11))
    assert (value.total, value.truncated, value.clock_s, value.aged) == (10, False, NOW, False)
    assert value.lines[0].startswith("0c.01.ff.ff 2021-01-14T")
    assert log.asked[0] == 0xFFFF


def test_sel_reads_no_more_than_it_needs() -> None:
    log = Log([(n, NOW - 1000 + n) for n in range(1, 1001)])
    value = read(log, since_s=5)
    assert [r.ident for r in value.records] == [995, 996, 997, 998, 999, 1000]
    assert (value.aged, value.truncated) == (True, False)
    assert len(log.asked) == 7
    value = read(log, limit=3)
    assert [r.ident for r in value.records] == [998, 999, 1000]
    assert value.truncated


@pytest.mark.parametrize(
    "ids",
    [
        [20, 40, 60, 80],  # Intel's boards count in steps
        [1, 2, 4, 5],  # one was erased
        [65534, 65535 - 1000, 1, 2],  # wrapped
    ],
)
def test_sel_with_ids_of_every_kind(ids: list[int]) -> None:
    value = read(Log([(ident, NOW - 10 + n) for n, ident in enumerate(ids)]), since_s=8)
    assert [r.ident for r in value.records] == ids[2:]
    assert [r.ident for r in read(Log([(ident, NOW) for ident in ids])).records] == ids
    assert [r.ident for r in read(Log([(ident, NOW) for ident in ids]), limit=2).records] == ids[2:]


def test_an_empty_sel_is_no_error() -> None:
    assert read(Log([])).records == ()
    value, _ = play(scripts.read_sel(), Log([], entries=3))
    assert isinstance(value, scripts.SelLog), "the count was wrong, and that harms nobody"


def test_undated_records_are_as_old_as_their_neighbours() -> None:
    """The BMC came back without the time, wrote two records, and then was told the time."""
    log = Log([(1, NOW - 9000), (2, NOW - 8000), (3, 12), (4, 0xFFFFFFFF), (5, NOW - 10)])
    assert [r.ident for r in read(log, since_s=60).records] == [3, 4, 5]
    assert [sel.time_text(r) for r in read(log, since_s=60).records][:2] == ["-", "-"]


def test_a_bmc_that_never_knew_the_time_counts_from_its_start() -> None:
    log = Log([(1, 100), (2, 900), (3, 990)], clock_s=1000)
    assert [r.ident for r in read(log, since_s=200).records] == [2, 3]


def test_without_a_clock_nothing_has_an_age() -> None:
    value = read(Log([(1, NOW)], clock_s=None), since_s=5)
    assert not value.aged
    assert [r.ident for r in value.records] == [1]
    evidence, _ = play(scripts.evidence(lambda: 5), Log([(1, NOW)], clock_s=None))
    assert evidence.events is None
    assert "no event's age is known" in evidence.note


def test_a_chain_of_ids_that_never_ends_is_left() -> None:
    """Every record points to another one, forever."""
    fresh = count(2)

    def bmc(command: Command) -> tuple[int, bytes]:
        if (command.netfn, command.command) == SEL_INFO:
            return 0, b"\x51\x02\x00" + bytes(11)
        if (command.netfn, command.command) != SEL_ENTRY:
            return 0xC1, b""
        n = next(fresh) * 7 & 0x7FFF | 1
        return 0, n.to_bytes(2, "little") + n.to_bytes(2, "little") + b"\x02" + bytes(13)

    value, sent = play(scripts.read_sel(limit=50), bmc)
    assert isinstance(value, scripts.SelLog)
    assert value.truncated
    assert len(value.records) == 50
    assert len(sent) < scripts.SEL_WALK_MAX + 10


def test_a_busy_bmc_is_asked_again_by_the_exchange() -> None:
    busy = table({SEL_INFO: [(0xC0, b""), (0xC0, b"")]})
    with pytest.raises(Ended) as ended:
        play(scripts.read_sel(), busy)
    assert ended.value.reason is Reason.BMC_BUSY


def test_a_bmc_without_a_log_says_so() -> None:
    value, _ = play(scripts.read_sel(), table({}))
    assert isinstance(value, Verdict)
    assert value.reason is Reason.BMC_UNSUPPORTED


# Evidence


def test_evidence() -> None:
    log = Log([(1, NOW - 500), (2, NOW - 20)])
    others = table({STATUS: (0, b"\x01\x10\x00"), CAUSE: (0, b"\x04\x01"), DEVICE_ID: ident(vendors.HPE)})
    value, _ = play(scripts.evidence(lambda: 60), lambda c: log(c) if c.netfn == 0x0A else others(c))
    assert value.status is not None
    assert value.status.power_on
    assert (value.restart_cause, value.manufacturer, value.note) == ("watchdog", "HPE", "")
    assert len(value.events) == 1
    assert value.events[0].startswith("0c.01.ff.ff 2021-")


def test_the_time_that_an_exchange_takes_hides_no_event() -> None:
    """Each answer takes ten seconds, as with lost packets, and the request grows older with the BMC's clock."""
    elapsed_s = 0

    def slow(command: Command) -> tuple[int, bytes]:
        nonlocal elapsed_s
        elapsed_s += 10
        log = Log([(1, NOW - 7), (2, NOW - 4)], clock_s=NOW + elapsed_s)
        return log(command) if command.netfn == 0x0A else (0xC1, b"")

    value, _ = play(scripts.evidence(lambda: 5.0 + elapsed_s), slow)
    assert len(value.events) == 1
    assert elapsed_s >= 50


def test_evidence_of_a_bmc_that_knows_nothing() -> None:
    value, _ = play(scripts.evidence(lambda: 60), table({}))
    assert value == scripts.Evidence(
        None, "", None, "", "no chassis status; no event log: sel info: 0xc1 invalid command"
    )


# Against our BMC, over the wire


def test_over_the_wire() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)

    def ask(script: Script) -> object:
        result, _ = talk(make_exchange(script=script), server(bmc))
        assert result.reason is Reason.OK, result
        return result.value

    assert ask(scripts.chassis_control(Action.ON)) == scripts.Controlled(Action.ON)
    assert chassis.on
    assert ask(scripts.identify(None)) is None
    assert chassis.identify_s is None
    assert ask(scripts.set_restore_policy(Policy.PREVIOUS)) == scripts.RestorePolicy(
        Policy.PREVIOUS, frozenset((Policy.STAY_OFF, Policy.PREVIOUS, Policy.ALWAYS_ON))
    )
    assert ask(scripts.boot_device(BootSource.CDROM)) == scripts.BootSet(BootSource.CDROM, True, False, True)
    assert ask(scripts.boot_flags()) == msg.BootFlags(True, False, True, BootSource.CDROM)
    info = ask(scripts.device_info())
    assert isinstance(info, scripts.DeviceInfo)
    assert info.restart_cause == "chassis control command"
    assert info.slots is not None
    assert info.slots.used == 1


# Nonsense


SCRIPTS: list[Callable[[], Generator[Command, Answer, object]]] = [
    scripts.chassis_status,
    lambda: scripts.chassis_control(Action.CYCLE),
    lambda: scripts.identify(None),
    scripts.restore_policy,
    lambda: scripts.set_restore_policy(Policy.ALWAYS_ON),
    lambda: scripts.boot_device(BootSource.DISK),
    scripts.boot_flags,
    scripts.device_info,
    scripts.read_sel,
    lambda: scripts.read_sel(lambda: 60, 5),
    lambda: scripts.evidence(lambda: 60),
    lambda: sensors.sensors(5),
    sensors.power_reading,
]
completions = st.sampled_from([0, 0, 0, 0, 0, 0, 0xC0, 0xC1, 0xC5, 0xC8, 0xCA, 0xCB, 0xCC, 0xD5, 0xFF])


@settings(max_examples=300)
@given(st.sampled_from(SCRIPTS), st.lists(st.tuples(completions, st.binary(max_size=40)), min_size=1, max_size=12))
def test_nonsense_never_raises_and_never_goes_on(
    make: Callable[[], Generator[Command, Answer, object]], answers: list[tuple[int, bytes]]
) -> None:
    turn = count()
    with suppress(Ended):
        play(make(), lambda command: answers[next(turn) % len(answers)], most=20_000)
