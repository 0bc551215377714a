"""The chassis of a simulated machine: what it does, what it tells, and what its serial console shows."""

from __future__ import annotations

import sys

from bootorch.ipmi.messages import Action, BootSource, Completion, boot_flags
from bootorch.lab.chassis import LabChassis
from bootorch.sim.machine import BootFailure, Machine, MachineSpec

EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def chassis(failure: BootFailure | None = None, **more: object) -> LabChassis:
    machine = Machine(MachineSpec("web-01", 10.0, boot_failure=failure, **more), 1)  # type: ignore[arg-type]
    return LabChassis(machine, epoch=EPOCH)


def events(box: LabChassis, now: float) -> list[bytes]:
    return [record[10:] for record in box.sel(now).records]


def test_the_event_log_grows_with_the_machine_and_repeats_nothing() -> None:
    box = chassis()
    assert len(box.sel(0.0)) == 2  # electricity lost and back
    box.control(Action.ON, 5.0)
    assert box.sel(5.0) is box.sel(5.0)
    assert len(box.sel(5.0)) == 3
    box.sel(9.0)
    last = box.sel(20.0).records[-1]
    assert last[3:7] == int(EPOCH + 15).to_bytes(4, "little")
    assert last[10:] == bytes((0x1F, 0x09, 0x6F, 0x01, 0xFF, 0xFF))
    assert len(box.sel(1e6)) == 11
    idents = [int.from_bytes(record[:2], "little") for record in box.sel(1e6).records]
    assert idents == list(range(1, 12))


def test_events_of_the_very_moment_of_a_question_are_logged_once() -> None:
    box = chassis()
    box.control(Action.ON, 5.0)
    box.sel(5.0)
    box.control(Action.OFF, 5.0)
    box.control(Action.ON, 5.0)
    box.sel(5.0)
    assert [event[0] for event in events(box, 5.0)] == [0x09, 0x09, 0x1D, 0x09, 0x1D]


def test_what_was_cleared_does_not_come_back() -> None:
    box = chassis()
    box.control(Action.ON, 5.0)
    box.sel(100.0).clear(100.0)
    assert events(box, 100.0) == []
    box.control(Action.OFF, 101.0)
    assert [event[0] for event in events(box, 102.0)] == [0x09]


def test_event_data_say_which_of_them_mean_something() -> None:
    box = chassis(BootFailure.MEMORY_ERROR)
    box.control(Action.ON, 0.0)
    by_type = {event[0]: event for event in events(box, 100.0)}
    assert by_type[0x0C][3] == 0x31, "event data 3 names the module"
    assert by_type[0x0C][4] == 0xFF
    assert by_type[0x0F][3] & 0xF0 == 0xC0, "event data 2 says how far the firmware got"
    assert events(box, 100.0)[1][2] == 0xEF, "de-asserted"


def test_power_flags_and_cause_tell_of_a_command_and_of_a_fault() -> None:
    box = chassis()
    assert box.power_flags(0.0).last_event == 0x01
    box.control(Action.ON, 1.0)
    assert box.power_flags(2.0) == (False, False, 0x10)
    assert box.restart_cause() == 1
    broken = chassis(BootFailure.POWER_FAULT)
    assert broken.control(Action.ON, 1.0) == Completion.OK
    assert not broken.power_is_on(2.0)
    assert broken.power_flags(2.0) == (True, False, 0x08)


def test_watts_follow_the_boot() -> None:
    box = chassis()
    assert box.power_watts(0.0) == 8
    box.control(Action.ON, 0.0)
    assert (box.power_watts(5.0), box.power_watts(10.0)) == (450, 250)
    sensors = {sensor.name: sensor for sensor in box.sensors(10.0)}
    assert sensors["Pwr Consumption"].raw == 62
    assert sensors["Fan 1"].raw is not None
    box.control(Action.OFF, 20.0)
    assert [sensor.name for sensor in box.sensors(20.0) if sensor.raw is None] == ["CPU Temp", "Fan 1", "12V"]


def test_boot_flags_send_a_boot_to_the_setup_once() -> None:
    box = chassis()
    box.set_boot_option(5, boot_flags(BootSource.BIOS), 0.0)
    box.control(Action.ON, 1.0)
    assert not box.machine.os_up(1000.0)
    assert b"Setup Utility" in box.console_output(None, 1000.0, 9999)[1]
    box.control(Action.RESET, 1000.0)
    assert box.machine.os_up(1010.0)


def test_a_console_goes_on_where_its_reader_was_across_boots() -> None:
    box = chassis()
    at, seen = box.console_output(None, 0.0, 9999)
    assert (at, seen) == (0, b"")
    box.control(Action.ON, 0.0)
    now, position, text = 0.0, 0, b""
    for step in range(1, 50):
        now = step * 0.5
        if step == 30:
            box.control(Action.RESET, now)
        at, new = box.console_output(position, now, 100)
        assert at == position, "nothing is lost or told twice"
        text += new
        position += len(new)
    while new := box.console_output(position, now, 100)[1]:
        text += new
        position += len(new)
    assert text.count(b"web-01 login: ") == 1
    assert text.count(b"Lab System BIOS") == 2
    whole = box.console_output(None, now, sys.maxsize)[1]
    assert whole == text, "a new viewer gets the history"


def test_a_console_keeps_a_bounded_past() -> None:
    box = chassis()
    box.console_output(None, 0.0, 1)
    for n in range(60):
        box.control(Action.ON if n == 0 else Action.CYCLE, 20.0 * n)
    at, text = box.console_output(0, 1e6, sys.maxsize)
    assert 16384 < len(text) < 20480
    assert at > 0
    assert text.endswith(b"login: ")
    assert box.console_output(10**9, 1e6, 100) == (at + len(text), b"")


def test_a_login_prompt_echoes_and_lets_nobody_in() -> None:
    box = chassis()
    box.console_input(b"lost\r", 0.0)
    box.control(Action.ON, 0.0)
    position = box.console_output(None, 10.0, sys.maxsize)[0] + len(box.console_output(None, 10.0, sys.maxsize)[1])
    box.console_input(b"root\rsecret\r", 11.0)
    answer = box.console_output(position, 11.0, 9999)[1]
    assert answer == b"root\r\nPassword: \r\n\r\nLogin incorrect\r\nweb-01 login: "
    for _ in range(100):
        box.console_input(b"x" * 100, 12.0)
    assert len(box.console_output(position, 12.0, sys.maxsize)[1]) <= 4096 + len(answer)


def test_nothing_is_allocated_until_somebody_asks() -> None:
    box = chassis()
    box.control(Action.ON, 0.0)
    box.power_flags(1.0)
    assert (box._log, box._console, box._options) == (None, None, None)
