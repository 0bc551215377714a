"""One server: power, boot, faults and boot identity, all functions of time and seed."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.model import Attempts, Outcome
from bootorch.core.reasons import Reason
from bootorch.sim.faults import Expected, Fault, assign, expected, machine_spec
from bootorch.sim.machine import FIRMWARE_SHARE, BootFailure, Machine, MachineSpec, draw


def machine(seed: int = 7, **faults: bool | float | int | BootFailure) -> Machine:
    return Machine(MachineSpec("web-01", boot_s=10.0, **faults), seed)  # type: ignore[arg-type]


def test_a_dark_server_is_off_until_told_and_up_after_its_boot_time() -> None:
    server = machine()
    assert not server.is_on(0.0)
    assert server.os_up_at is None
    assert server.power_on(5.0)
    assert server.is_on(5.0)
    assert server.os_up_at == 15.0
    assert not server.os_up(14.9)
    assert server.boot_id(14.9) is None
    assert server.uptime_s(14.9) is None
    assert server.os_up(15.0)
    assert server.uptime_s(20.0) == pytest.approx(20.0 - (5.0 + 10.0 * FIRMWARE_SHARE))
    assert server.power_ons == 1


def test_power_on_of_a_running_server_changes_nothing() -> None:
    server = machine()
    server.power_on(0.0)
    before = server.boot_id(10.0)
    assert not server.power_on(10.0)
    assert server.boot_id(10.0) == before
    assert (server.power_ons, server.boots) == (2, 1)


def test_every_boot_has_an_id_of_its_own_and_starts_its_uptime_again() -> None:
    server = machine()
    seen = []
    server.power_on(0.0)
    seen.append(server.boot_id(10.0))
    assert server.cycle(20.0)
    assert not server.os_up(29.9)
    seen.append(server.boot_id(30.0))
    assert server.uptime_s(30.0) == pytest.approx(10.0 * (1 - FIRMWARE_SHARE))
    assert server.reset(40.0)
    seen.append(server.boot_id(50.0))
    assert server.power_off(60.0)
    assert server.boot_id(60.0) is None
    server.power_on(61.0)
    seen.append(server.boot_id(71.0))
    assert len(set(seen)) == 4
    assert all(str(UUID(str(text))) == text for text in seen)
    assert (server.power_ons, server.power_offs, server.cycles, server.resets, server.boots) == (2, 1, 1, 1, 4)


def test_cycle_reset_and_off_of_a_dark_server_have_no_effect() -> None:
    server = machine()
    assert not server.cycle(1.0)
    assert not server.reset(2.0)
    assert not server.power_off(3.0)
    assert not server.is_on(4.0)


def test_the_id_of_a_boot_depends_on_seed_name_and_count_only() -> None:
    def third_boot(name: str, seed: int) -> str | None:
        server = Machine(MachineSpec(name, boot_s=1.0), seed)
        server.power_on(3.0)
        server.reset(4.0)
        server.reset(9.0)
        return server.boot_id(10.0)

    assert third_boot("a", 1) == third_boot("a", 1) == "7e583792-9ef8-4cd5-91fe-ebe093d6926d"
    assert len({third_boot("a", 1), third_boot("a", 2), third_boot("b", 1)}) == 3


def test_faults() -> None:
    silent = machine(silent_power_ons=2)
    assert [silent.power_on(t) for t in (0.0, 1.0, 2.0)] == [False, False, True]
    dead = machine(dead_bmc=True)
    assert not dead.bmc_up(1e9)
    slow = machine(bmc_boot_s=90.0)
    assert not slow.bmc_up(89.9)
    assert slow.bmc_up(90.0)
    stuck = machine(boot_failure=BootFailure.NO_POST)
    assert stuck.power_on(0.0)
    assert stuck.is_on(1e6)
    assert stuck.os_up_at is None
    assert not stuck.os_up(1e6)


def test_a_server_that_was_on_has_been_up_for_days() -> None:
    server = machine(initially_on=True, initial_uptime_s=86400.0)
    assert server.is_on(0.0)
    assert server.uptime_s(0.0) == pytest.approx(86400.0)
    assert server.power_ons == 0


def test_impossible_machines_are_refused() -> None:
    with pytest.raises(ValueError, match="web-01"):
        machine(silent_power_ons=-1)


@given(st.integers(), st.text(), st.integers(0, 99))
def test_draw_is_a_share_and_repeats(seed: int, word: str, count: int) -> None:
    value = draw(seed, word, count)
    assert 0.0 <= value < 1.0
    assert value == draw(seed, word, count)


@given(st.lists(st.sampled_from(["on", "off", "cycle", "reset"]), max_size=20), st.integers(0, 3))
def test_whatever_it_is_told_an_os_runs_only_with_power_and_ids_never_repeat(words: list[str], silent: int) -> None:
    server = machine(silent_power_ons=silent)
    commands = {"on": server.power_on, "off": server.power_off, "cycle": server.cycle, "reset": server.reset}
    ids: dict[str, int] = {}
    for step, word in enumerate(words):
        now = step * 7.0  # shorter than a boot: some are interrupted
        commands[word](now)
        for later in (now, now + 5.0):
            assert server.is_on(later) or not server.os_up(later)
            boot_id = server.boot_id(later)
            assert (boot_id is None) == (server.booted_at(later) is None) == (not server.os_up(later))
            if boot_id is not None:
                assert ids.setdefault(boot_id, server.boots) == server.boots


def test_faults_are_assigned_by_seed_to_candidates_one_a_host() -> None:
    hosts = [f"web-{i:02}" for i in range(20)]
    counts = {Fault.DEAD_BMC: 3, Fault.NO_POST: 2, Fault.PLAYBOOK_FAILS_ONCE: 15}
    candidates = dict.fromkeys(counts, hosts)
    victims = assign(1, counts, candidates)
    assert victims == assign(1, counts, candidates)
    assert victims != assign(2, counts, candidates)
    assert {fault: list(victims.values()).count(fault) for fault in counts} == counts
    assert set(victims) == set(hosts)
    with pytest.raises(ValueError, match="dead_bmc: 21 hosts wanted, 20"):
        assign(1, {Fault.DEAD_BMC: 21}, candidates)


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (None, Expected(Outcome.READY)),
        (Fault.SILENT_POWER, Expected(Outcome.READY)),
        (Fault.PLAYBOOK_FAILS_ONCE, Expected(Outcome.READY)),
        (Fault.ALREADY_ON, Expected(Outcome.ADOPTED)),
        (Fault.DEAD_BMC, Expected(Outcome.QUARANTINED, Reason.BMC_UNREACHABLE)),
        (Fault.NO_POST, Expected(Outcome.QUARANTINED, Reason.NO_POST)),
    ],
)
def test_what_must_come_of_each_fault(fault: Fault | None, end: Expected) -> None:
    spec = machine_spec("web-01", 3, (2.0, 6.0), fault)
    assert 2.0 <= spec.boot_s <= 6.0
    assert expected(spec, Attempts(), redeploy=True) == end


def test_one_attempt_is_not_enough_for_a_fault_that_passes() -> None:
    silent = machine_spec("a", 3, (2.0, 6.0), Fault.SILENT_POWER)
    assert expected(silent, Attempts(power=1), redeploy=False).reason is Reason.POWER_NO_EFFECT
    failing = machine_spec("a", 3, (2.0, 6.0), Fault.PLAYBOOK_FAILS_ONCE)
    assert expected(failing, Attempts(redeploy=1), redeploy=True).reason is Reason.TASK_FAILED
    assert expected(failing, Attempts(redeploy=1), redeploy=False).outcome is Outcome.READY
