"""What a server's BMC and serial console show: each kind of failure, and nothing that was not there before."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.sim.machine import HISTORY_LIMIT, BootFailure, Machine, MachineSpec, Source
from bootorch.sim.symptoms import OUTAGE_S, PowerFlags, console, power_flags, restart_cause, sel

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"web-{n:02}" for n in range(12)]  # enough that both ways of every failure occur


def started(failure: BootFailure | None = None, name: str = "web-01", at: float = 5.0) -> Machine:
    machine = Machine(MachineSpec(name, 10.0, boot_failure=failure), 1)
    machine.power_on(at)
    return machine


def codes(machine: Machine, now: float) -> list[str]:
    return [event.code for event in sel(machine, now)]


def test_every_failure_is_named_like_its_reason() -> None:
    assert {failure.value for failure in BootFailure} <= {reason.value for reason in Reason}


def test_a_machine_that_nobody_touched_has_lost_its_electricity_and_nothing_else() -> None:
    machine = Machine(MachineSpec("a", 10.0), 1)
    lines = [event.line(EPOCH) for event in sel(machine, 100.0)]
    assert lines == [
        "09.04.ff.ff 2025-12-31T23:50:00Z Power Unit #1: AC lost",
        "09.04.ff.ff.d 2026-01-01T00:00:00Z Power Unit #1: AC lost (deasserted)",
    ]
    assert OUTAGE_S == 600.0
    assert console(machine, 100.0) == ""
    assert restart_cause(machine) == 0
    assert power_flags(machine, 100.0) == PowerFlags(ac_failed=True)


def test_a_boot_goes_from_self_test_to_login() -> None:
    machine = started()
    assert codes(machine, 5.0)[2:] == ["1d.00.ff.ff"]
    assert codes(machine, 15.0)[2:] == [
        "1d.00.ff.ff", "0f.02.19.ff", "0f.02.01.ff", "0f.02.03.ff", "0f.02.07.ff", "0f.02.09.ff", "0f.02.02.ff",
        "0f.02.13.ff", "1f.01.ff.ff",
    ]  # fmt: skip
    assert console(machine, 5.0) == ""
    assert console(machine, 14.9).endswith("\r\n")
    assert console(machine, 15.0).endswith("\r\nweb-01 login: ")
    assert restart_cause(machine) == 1
    assert power_flags(machine, 15.0) == PowerFlags(last_by_command=True)


# Failure -> what its event log may end with, and what its console must say.
SHOWN: dict[BootFailure, tuple[set[str], str]] = {
    BootFailure.NO_POST: ({"07.03.ff.ff", "0f.01.01.ff"}, ""),
    BootFailure.MEMORY_ERROR: ({"0f.00.02.ff", *(f"0c.01.ff.0{n}" for n in range(1, 9))}, "uncorrectable ECC error"),
    BootFailure.NO_BOOT_DEVICE: ({"1e.00.ff.ff"}, "oot"),
    BootFailure.NETBOOT_FAILED: ({"1e.02.ff.ff"}, "PXE-E"),
    BootFailure.IN_SETUP: ({"0f.02.05.ff"}, "SETUP"),
    BootFailure.KERNEL_PANIC: ({"20.01.ff.ff", "0f.02.13.ff"}, "Kernel panic - not syncing"),
    BootFailure.EMERGENCY_SHELL: ({"0f.02.13.ff"}, "emergency mode"),
    BootFailure.POWER_FAULT: ({"09.05.ff.ff"}, ""),
}


@pytest.mark.parametrize("failure", BootFailure)
def test_a_failed_boot_shows_its_cause_and_no_login(failure: BootFailure) -> None:
    ends, said = SHOWN[failure]
    seen = set()
    for name in NAMES:
        machine = started(failure, name)
        assert not machine.os_up(1e6)
        text = console(machine, 1e6)
        assert said.lower() in text.lower()
        assert "login:" not in text
        assert not said or "\r\n" in text
        events = codes(machine, 1e6)
        assert "1f.01.ff.ff" not in events
        seen.add(events[-1])
        assert console(machine, 5.0 + 1.5 * 10.0) == text, "it is all there before a boot deadline of twice the boot"
    assert seen <= ends
    assert failure is BootFailure.MEMORY_ERROR or seen == ends


def test_a_power_fault_leaves_the_chassis_off_and_says_why() -> None:
    machine = started(BootFailure.POWER_FAULT)
    assert not machine.is_on(6.0)
    assert codes(machine, 6.0)[2:] == ["08.01.ff.ff", "09.05.ff.ff"]
    assert power_flags(machine, 6.0) == PowerFlags(power_fault=True, control_fault=True)
    assert console(machine, 6.0) == ""
    assert restart_cause(machine) == 0


def test_power_that_goes_away_is_an_event_and_cuts_the_boot_short() -> None:
    machine = started()
    machine.power_off(6.0)
    assert codes(machine, 60.0)[2:] == ["1d.00.ff.ff", "0f.02.19.ff", "0f.02.01.ff", "09.00.ff.ff"]
    assert console(machine, 60.0) == ""
    machine.power_on(100.0)
    machine.reset(120.0)
    machine.cycle(140.0)
    machine.shutdown(150.0)
    new = codes(machine, 200.0)[6:]
    assert [code for code in new if not code.startswith("0f")] == [
        "1d.00.ff.ff", "1f.01.ff.ff", "1d.01.ff.ff", "1f.01.ff.ff", "09.01.ff.ff", "1d.00.ff.ff", "1f.01.ff.ff",
        "20.03.ff.ff", "09.00.ff.ff",
    ]  # fmt: skip


def test_a_boot_from_elsewhere_says_so() -> None:
    network = started()
    network.boots_from(Source.NETWORK)
    assert codes(network, 100.0)[-1] == "1f.02.ff.ff"
    assert "PXE" in console(network, 100.0)
    setup = started()
    setup.boots_from(Source.SETUP)
    assert setup.os_up_at is None
    assert codes(setup, 100.0)[-1] == "0f.02.05.ff"
    assert "Setup Utility" in console(setup, 100.0)
    setup.reset(200.0)
    assert setup.os_up(210.0), "the next boot is from disk again"
    assert codes(network, 300.0)[-1] == "1f.02.ff.ff"
    network.reset(300.0)
    assert codes(network, 400.0).count("1f.02.ff.ff") == 1, "what an earlier boot was from is not forgotten"
    with pytest.raises(ValueError, match="no boot has begun"):
        Machine(MachineSpec("a", 1.0), 1).boots_from(Source.NETWORK)


def test_what_was_on_before_the_outage_has_booted_long_ago() -> None:
    machine = Machine(MachineSpec("db-01", 10.0, initially_on=True), 1)
    events = sel(machine, 0.0)
    assert all(event.t < 0 for event in events)
    assert events[-1].code == "1f.01.ff.ff"
    assert restart_cause(machine) == 6
    assert console(machine, 0.0).endswith("login: ")


def test_the_history_of_a_machine_is_bounded() -> None:
    machine = started()
    for n in range(500):
        machine.reset(100.0 * n + 10)
    assert len(machine.history) == HISTORY_LIMIT
    assert len(sel(machine, 1e9)) < 1000


@given(
    st.sampled_from([None, *BootFailure]),
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.sampled_from(["on", "off", "cycle", "reset", "shutdown"]), st.floats(0.1, 30.0)), max_size=8),
)
def test_logs_only_grow_and_a_console_only_grows_while_a_boot_lasts(
    failure: BootFailure | None, name: str, words: list[tuple[str, float]]
) -> None:
    machine = Machine(MachineSpec(name, 10.0, boot_failure=failure), 1)
    now, known = 0.0, sel(machine, 0.0)
    for word, wait_s in words:
        commands = {"on": machine.power_on, "off": machine.power_off, "shutdown": machine.shutdown}
        {"cycle": machine.cycle, "reset": machine.reset, **commands}[word](now)
        shown = console(machine, now)
        for step in range(1, 4):
            later = now + wait_s * step / 3
            events, text = sel(machine, later), console(machine, later)
            assert events[: len(known)] == known
            assert all(a.t <= b.t for a, b in pairwise(events))
            assert events[-1].t <= later
            assert text.startswith(shown)
            assert machine.os_up(later) == text.endswith("login: ")
            known, shown = events, text
        now += wait_s
