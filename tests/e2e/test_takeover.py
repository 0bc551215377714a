"""One driver at a time, with real processes: stopped, second and killed ones. The BMCs' own log is the witness."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootorch.drivers.redeploy_slice import MARK
from bootorch.lab.control import LabInfo
from bootorch.lab.site import read_lab
from bootorch.ops.demo import misdeeds, witnessed
from bootorch.runtime.lease import LEASE_S
from tests.e2e.conftest import LabFactory, bootorch, command, environment
from tests.e2e.test_recovery import expected, outcomes, wait_for_journal


@contextmanager
def driver(tmp_path: Path, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A bootorch in the background; what it says is in ``driver.err``. Killed at the end, also when it is stopped."""
    with (tmp_path / "driver.err").open("w") as err:
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=err, text=True, env=environment())
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until(holds: Callable[[], bool], what: str, most_s: float = 180.0) -> None:
    give_up = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


def run_dir(info: LabInfo) -> Path:
    (found,) = (info.plan.parent / "runs").glob("lab-*")
    return found


def stop(process: subprocess.Popen[str], journal: Path) -> None:
    """SIGSTOP, but not in the middle of a commit: then nobody can write, and the only remedy is to end it."""
    for _ in range(50):
        process.send_signal(signal.SIGSTOP)
        other = sqlite3.connect(journal, timeout=0.2, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        finally:
            other.close()
    raise AssertionError("always in the middle of a commit")


def playbooks(directory: Path) -> list[int]:
    """Processes of slices of this run, whoever is their parent."""
    mark = f"{MARK}={directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["power", "redeploy"])
def test_a_stopped_driver_that_was_replaced_sends_nothing_when_it_wakes(
    lab: LabFactory, tmp_path: Path, moment: str
) -> None:
    info = lab(10, already_on=1, boot_seconds=(0.5, 1.0), redeploy=moment == "redeploy")
    with driver(tmp_path, "run", info.plan) as old:
        wait_for_journal(info)
        directory = run_dir(info)
        if moment == "power":
            until(lambda: any(s.command == "chassis control" for s in witnessed(info.bmc_log)), "a power-on")
        else:
            until(lambda: bool(playbooks(directory)), "a playbook")
        stop(old, directory / "journal.sqlite")
        stopped_s = time.monotonic()
        left = bootorch("resume", info.plan)  # said to the process that holds the run, which hears nothing
        assert left.returncode == 5, left.stderr
        assert "--take-over" in left.stderr
        before = info.bmc_log.read_text()
        taken = bootorch("resume", info.plan, "--take-over", "--by", "lee", "--why", "the old one hangs")
        assert taken.returncode == 0, taken.stderr
        assert f"taken over from process {old.pid}" in taken.stderr
        assert time.monotonic() - stopped_s > LEASE_S
        assert old.poll() is None
        seen = info.bmc_log.read_text()
        assert len(seen) > len(before)
        assert playbooks(directory) == []
        old.send_signal(signal.SIGCONT)
        assert old.wait(60) == 5
    assert info.bmc_log.read_text() == seen, "it sent nothing"
    said = (tmp_path / "driver.err").read_text()
    assert "this process was replaced" in said
    assert "Traceback" not in said
    assert playbooks(directory) == []
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    report = json.loads(bootorch("report", info.plan, "--json").stdout)
    (resume,) = report["resumes"]
    assert resume["by"] == "lee"
    assert resume["why"] == "the old one hangs"
    assert f"process {old.pid}" in resume["taken_from"]


def test_a_driver_that_lives_is_replaced_by_the_word(lab: LabFactory, tmp_path: Path) -> None:
    """It finds out with its next commit and ends, which is all that its successor waits for."""
    info = lab(12, already_on=1, boot_seconds=(2.0, 3.0))
    with driver(tmp_path, "run", info.plan) as old:
        wait_for_journal(info)
        taken = bootorch("resume", info.plan, "--take-over", "--by", "lee", "--why", "shift change")
        assert old.wait(60) == 5
    assert taken.returncode == 0, taken.stderr
    assert "run is driven by process" in (tmp_path / "driver.err").read_text()
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


@pytest.mark.slow
def test_a_driver_that_was_stopped_and_not_replaced_goes_on(lab: LabFactory, tmp_path: Path) -> None:
    """Stopped for longer than its lease and its playbooks' leash: what was under way is read back, and done again."""
    info = lab(8, already_on=1, redeploy=True)
    with driver(tmp_path, "run", info.plan) as process:
        wait_for_journal(info)
        until(lambda: bool(playbooks(run_dir(info))), "a playbook")
        process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 2.0)
        until(lambda: not playbooks(run_dir(info)), "its playbooks have ended by their leash")
        process.send_signal(signal.SIGCONT)
        assert process.wait(120) == 0, (tmp_path / "driver.err").read_text()
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    (resume,) = json.loads(bootorch("report", info.plan, "--json").stdout)["resumes"]
    assert resume["gap_s"] > LEASE_S


def test_other_plans_and_orders_by_hand_keep_off_hosts_that_a_run_drives(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8)
    # A gate that nobody opens: the run reads ahead, and waits.
    info.plan.write_text(info.plan.read_text() + 'gates:\n  stable-power:\n    ask: "Who attests stable power?"\n')
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(info.plan.parent, elsewhere, ignore=shutil.ignore_patterns("runs"))
    other = elsewhere / info.plan.name
    other.write_text(other.read_text().replace("name: lab", "name: other-lab"))
    host = next(name for name in info.expected if name.startswith("web"))
    with driver(tmp_path, "run", info.plan) as process:
        wait_for_journal(info)
        refused = bootorch("run", other)
        assert refused.returncode == 6, refused.stderr
        assert f"being run by process {process.pid}: run {run_dir(info).name}" in refused.stderr
        assert str(run_dir(info)) in refused.stderr
        assert "web" in refused.stderr, "the hosts, folded"
        assert not list((elsewhere / "runs").glob("other-lab-*")), "no directory is left of it"
        off = bootorch("power", "off", "-i", info.inventory, host)
        assert off.returncode == 6, off.stderr
        assert f"this host is being run by process {process.pid}" in off.stderr
        assert bootorch("power", "status", "-i", info.inventory, host).returncode == 0
        for reading in (
            ("plan", other),
            ("inventory", "snapshot", other),
            ("run", "--dry-run", other),
            ("status", info.plan),
            ("power", "identify", "-i", info.inventory, host),
        ):
            assert bootorch(*reading).returncode == 0, reading
        assert process.poll() is None
        despite = bootorch("power", "bootdev", "none", "-i", info.inventory, host, "--despite-run")
        assert despite.returncode == 0, despite.stderr
    assert "off" not in {s.argument for s in witnessed(info.bmc_log) if s.command == "chassis control"}


def test_a_run_keeps_off_hosts_that_an_order_by_hand_drives(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8, silent_power=1)
    # A power-on without effect, which --wait waits for until its time is up.
    (silent,) = [host.name for host in read_lab(info.directory).hosts if host.machine.silent_power_ons]
    words = ("power", "on", "-i", info.inventory, "--wait", "--timeout", "60", silent)
    with driver(tmp_path, *words) as hand:
        until(lambda: bool(registered(hand.pid)), "its registration")
        refused = bootorch("run", info.plan)
        assert hand.poll() is None, "the order waits"
        assert refused.returncode == 6, refused.stderr
        assert f"1 of these 8 hosts is being run by process {hand.pid}: bootorch power on" in refused.stderr
        assert silent in refused.stderr
    assert bootorch("run", info.plan).returncode == 0


def registered(pid: int) -> list[Path]:
    return list(Path("/run/lock").glob(f"bootorch-{pid}-*"))


def test_after_kill_9_two_resumes_at_once_and_one_of_them_drives(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8)
    with driver(tmp_path, "run", info.plan) as old:
        wait_for_journal(info)
        old.kill()
        old.wait()
        resumes = [
            subprocess.Popen(
                command("resume", info.plan), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=environment(),
            )
            for _ in range(3)
        ]  # fmt: skip
        ends = [(process.communicate(timeout=120)[1], process.returncode) for process in resumes]
    # Who came later was refused, or told that it goes on already.
    drove = [said for said, code in ends if code == 0 and "resumed by" in said]
    assert len(drove) == 1, ends
    others = [(said, code) for said, code in ends if said not in drove]
    assert all((code == 6 and "being run by" in said) or (code == 0 and "already" in said) for said, code in others), (
        ends
    )
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_a_journal_from_another_machine_needs_the_word(lab: LabFactory, tmp_path: Path) -> None:
    """As if the laptop was lost and its journal found on a stick: nobody here can know whether it still drives."""
    info = lab(8)
    with driver(tmp_path, "run", info.plan) as old:
        wait_for_journal(info)
        old.kill()
        old.wait()
    directory = run_dir(info)
    with sqlite3.connect(directory / "journal.sqlite") as journal:
        journal.execute("UPDATE lease SET host = 'laptop-a', machine = 'a', boot = 'b'")
    journal.close()
    seen = info.bmc_log.read_text()
    refused = bootorch("resume", directory)
    assert refused.returncode == 6
    assert "on laptop-a" in refused.stderr
    assert info.bmc_log.read_text() == seen
    taken = bootorch("resume", directory, "--take-over", "--why", "laptop-a burned")
    assert taken.returncode == 0, taken.stderr
    assert outcomes(info.plan) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_another_path_to_the_directory_of_a_run_is_the_same_run(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8, no_post=1)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    with driver(tmp_path, "run", info.plan):
        wait_for_journal(info)
        mount = subprocess.run(["mount", "--bind", run_dir(info), mounted], check=False, capture_output=True)
        if mount.returncode != 0:
            pytest.skip("mounting is not allowed here")
        try:
            again = bootorch("resume", mounted)
        finally:
            subprocess.run(["umount", mounted], check=True)
        assert again.returncode == 0, again.stderr
        assert "the run goes on already" in again.stderr, "said to the one that drives it, and no second one begins"


def test_a_registration_dies_with_its_process(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8)
    with driver(tmp_path, "run", info.plan) as old:
        wait_for_journal(info)
        assert registered(old.pid)
        os.kill(old.pid, signal.SIGKILL)
        old.wait()
        assert bootorch("run", "--new", info.plan).returncode == 0
        assert not registered(old.pid), "and what it left is cleared away by the next"
