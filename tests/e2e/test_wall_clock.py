"""Clocks are wrong after a blackout, and somebody sets them right in mid-run: nothing of a recovery depends on that.

faketime(1) steps the wall clock of the process; monotonic and boot clock stay the kernel's, which steps neither.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootorch.lab.control import LabInfo
from bootorch.ops.demo import misdeeds, witnessed
from bootorch.runtime.lease import here
from tests.e2e.conftest import LabFactory, bootorch, command, environment
from tests.e2e.test_recovery import expected, outcomes, wait_for_journal
from tests.e2e.test_takeover import until

pytestmark = [pytest.mark.peer, pytest.mark.slow]

STEP_S = 6 * 3600


@pytest.fixture
def clock(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Sets the clock of processes that were given the environment which it returns: ``+6h``, ``-6h``, ``+0``."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("faketime is not installed")
    file = tmp_path / "offset"

    def set_clock(offset: str) -> dict[str, str]:
        fresh = file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.replace(file)
        return {
            **environment(),
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    return set_clock


def start(info: LabInfo, verb: str, env: dict[str, str], err: Path) -> subprocess.Popen[str]:
    """A run of a snapshot: libfaketime's semaphores, which children share, can hang an ansible-inventory."""
    if verb == "run":
        assert bootorch("inventory", "snapshot", info.plan).returncode == 0
    with err.open("a") as file:
        return subprocess.Popen(command(verb, info.plan), stdout=subprocess.DEVNULL, stderr=file, text=True, env=env)


def switched_on(info: LabInfo) -> int:
    return sum(1 for s in witnessed(info.bmc_log) if s.command == "chassis control")


@pytest.mark.parametrize("steps", [("+6h", "-6h"), ("-6h", "+6h")])
def test_the_wall_clock_steps_by_hours_in_mid_run(
    lab: LabFactory, clock: Callable[[str], dict[str, str]], tmp_path: Path, steps: tuple[str, str]
) -> None:
    info = lab(16, already_on=1, no_post=1, silent_power=1)
    process = start(info, "run", clock("+0"), tmp_path / "err")
    try:
        wait_for_journal(info)
        clock(steps[0])
        until(lambda: switched_on(info) >= 5, "power-ons")
        clock(steps[1])
        assert process.wait(180) == 3, (tmp_path / "err").read_text()
    finally:
        process.kill()
        process.wait()
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    report = json.loads(bootorch("report", info.plan, "--json").stdout)
    assert report["resumes"] == [], "no lease lapsed"
    assert report["elapsed_s"] < STEP_S / 10, "run time knows nothing of it"


@pytest.mark.parametrize("offset", ["+6h", "-6h"])
def test_the_clock_is_set_while_nobody_runs(
    lab: LabFactory, clock: Callable[[str], dict[str, str]], tmp_path: Path, offset: str
) -> None:
    """Killed, and resumed by a process that sees another day. Its boots are judged by the boot clock."""
    info = lab(12, already_on=1)
    process = start(info, "run", clock("+0"), tmp_path / "err")
    try:
        until(lambda: info.bmc_log.exists() and switched_on(info) >= 3, "power-ons")
    finally:
        process.kill()
        process.wait()
    process = start(info, "resume", clock(offset), tmp_path / "err")
    assert process.wait(180) == 0, (tmp_path / "err").read_text()
    assert outcomes(info.plan) == expected(info)
    (resume,) = json.loads(bootorch("report", info.plan, "--json").stdout)["resumes"]
    assert 0.0 <= resume["gap_s"] < STEP_S / 10


@pytest.mark.parametrize("offset", ["+6h", "-6h"])
def test_after_a_restart_of_the_machine_the_wall_clock_is_not_believed(
    lab: LabFactory, clock: Callable[[str], dict[str, str]], tmp_path: Path, offset: str
) -> None:
    """As if the laptop was restarted (its boot id is another) with a clock that is wrong by hours."""
    info = lab(12, already_on=1, boot_seconds=(1.0, 2.0))
    process = start(info, "run", clock("+0"), tmp_path / "err")
    try:
        until(lambda: info.bmc_log.exists() and switched_on(info) >= 3, "power-ons")
    finally:
        process.kill()
        process.wait()
    (path,) = (info.plan.parent / "runs").glob("lab-*/journal.sqlite")
    with sqlite3.connect(path) as journal:
        journal.execute("UPDATE lease SET boot = 'the boot before'")
    journal.close()
    words = () if here(path).machine else ("--take-over",)  # without an id, another machine is no different
    with (tmp_path / "err").open("a") as err:
        resumed = subprocess.run(
            command("resume", info.plan, *words), stdout=subprocess.DEVNULL, stderr=err, env=clock(offset), timeout=180,
            check=False,
        )  # fmt: skip
    assert resumed.returncode == 0, (tmp_path / "err").read_text()
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
