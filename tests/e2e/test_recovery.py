"""A lab comes back: real packets, real SSH, through the command line; and the same after kills at random moments."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from bootorch.lab.control import LabInfo
from bootorch.ops.demo import misdeeds, witnessed
from tests.e2e.conftest import LabFactory, bootorch, command


def outcomes(target: Path) -> dict[str, tuple[str, str]]:
    """Host → outcome and reason, as ``bootorch report --json`` tells them."""
    done = bootorch("report", target, "--json")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    return {name: (host["outcome"], host["reason"]) for name, host in hosts.items()}


def expected(info: LabInfo) -> dict[str, tuple[str, str]]:
    return {name: (want.outcome.value, want.reason.value) for name, want in info.expected.items()}


def test_a_lab_with_every_fault_ends_as_its_faults_say(lab: LabFactory) -> None:
    info = lab(18, dead_bmc=1, silent_power=1, already_on=1, no_post=1, loss=0.02)
    done = bootorch("run", info.plan)
    assert done.returncode == 3, done.stderr
    assert outcomes(info.plan) == expected(info)
    seen = witnessed(info.bmc_log)
    assert sum(1 for s in seen if s.command == "chassis control") >= 16
    assert list(misdeeds(seen, info.expected)) == []
    # Totals and the next command come last, and hosts are folded.
    assert "16 of 18 hosts ready" in done.stdout
    assert "next: bootorch" in done.stdout.splitlines()[-1]


def test_a_second_run_of_the_same_plan_is_refused(lab: LabFactory) -> None:
    info = lab(8)
    first = subprocess.Popen(command("run", info.plan), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_journal(info)
        second = bootorch("run", info.plan)
        assert second.returncode == 6
        assert "all of these hosts are being run by process" in second.stderr
        again = bootorch("resume", info.plan)
        assert (again.returncode, again.stderr) == (0, "already: the run goes on already\n")
        paused = bootorch("pause", info.plan, "--by", "kim", "--why", "test")
        assert paused.returncode == 0, paused.stderr
        assert first.wait(60) == 5
    finally:
        first.kill()
        first.wait()
    third = bootorch("run", info.plan)
    assert third.returncode == 6, "an unfinished run must be resumed, or left with --new"
    assert "bootorch resume" in third.stderr
    resumed = bootorch("resume", info.plan)
    assert resumed.returncode == 0, resumed.stderr
    assert outcomes(info.plan) == expected(info)


def wait_for_journal(info: LabInfo) -> None:
    """Until the run has sent something: then it can be killed."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        if info.bmc_log.exists() and info.bmc_log.stat().st_size:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not begin")


def test_ctrl_c_pauses_and_resume_goes_on(lab: LabFactory) -> None:
    info = lab(8)
    process = subprocess.Popen(command("run", info.plan), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_journal(info)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert "bootorch resume" in out.splitlines()[-1]
    assert bootorch("resume", info.plan).returncode == 0
    assert outcomes(info.plan) == expected(info)


def test_limit_touches_nobody_else(lab: LabFactory) -> None:
    info = lab(10)
    done = bootorch("run", info.plan, "--limit", "switches")
    assert done.returncode == 0, done.stderr
    found = outcomes(info.plan)
    assert {found[name][0] for name in found if name.startswith("switch")} == {"ready"}
    assert {found[name] for name in found if not name.startswith("switch")} == {("skipped", "limit")}
    assert {sighting.host.split("-")[0] for sighting in witnessed(info.bmc_log)} == {"switch"}
    # Parents outside the limit are looked at, never switched on: what is up is adopted, the rest blocks.
    done = bootorch("run", info.plan, "--limit", "dns")
    assert done.returncode == 0, done.stderr
    found = outcomes(info.plan)
    dns_rack_switches = {found[name][0] for name in found if name.startswith("switch")}
    assert dns_rack_switches <= {"adopted", "skipped"}
    assert {found[name][0] for name in found if name.startswith("dns")} == {"ready"}


def test_gate_waits_for_a_person(lab: LabFactory) -> None:
    info = lab(8)
    text = info.plan.read_text()
    info.plan.write_text(text + 'gates:\n  stable-power:\n    ask: "Who attests stable power?"\n')
    stopped = bootorch("run", info.plan, "--no-wait-gates")
    assert stopped.returncode == 4, stopped.stderr
    assert not [s for s in witnessed(info.bmc_log) if s.command == "chassis control"]
    unknown = bootorch("resume", info.plan, "--approve", "stabel-power=kim")
    assert unknown.returncode == 2
    done = bootorch("resume", info.plan, "--approve", "stable-power=kim")
    assert done.returncode == 0, done.stderr
    assert "kim" in bootorch("report", info.plan, "--json").stdout
