"""The laptop is lost in the middle of a recovery: another one goes on from the mirror."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bootorch.ops.demo import misdeeds, witnessed
from bootorch.runtime.rundir import JOURNAL
from tests.e2e.conftest import LabFactory, bootorch, command, environment
from tests.e2e.test_journal_trouble import unrecorded
from tests.e2e.test_recovery import expected, outcomes, wait_for_journal
from tests.runtime.disks import disk


def test_a_run_goes_on_from_its_mirror_when_the_laptop_is_lost(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(12, boot_seconds=(1.0, 2.0))
    with disk(tmp_path / "stick") as stick:
        run_dir = tmp_path / "run"
        process = subprocess.Popen(
            command("run", info.plan, "--run-dir", run_dir, "--mirror", stick.path),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        try:
            wait_for_journal(info)
        finally:
            process.kill()
            process.wait()
        shutil.rmtree(run_dir)
        mirror = stick.path / "run"
        assert bootorch("journal", "verify", mirror).returncode == 0
        assert bootorch("status", mirror).returncode == 0
        done = bootorch("resume", mirror)
        assert done.returncode == 0, done.stderr
        assert outcomes(mirror) == expected(info)
        assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_the_summary_says_where_the_mirror_stands(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8)
    (tmp_path / "stick").mkdir()
    mirror = tmp_path / "stick" / "run" / JOURNAL
    done = bootorch("run", info.plan, "--run-dir", tmp_path / "run", "--mirror", tmp_path / "stick")
    assert done.returncode == 0, done.stderr
    assert f"mirror: {mirror} has all" in done.stderr
    assert not unrecorded(info, mirror)
    missing = bootorch("run", info.plan, "--new", "--mirror", tmp_path / "no-stick")
    assert missing.returncode == 2
    assert "no such directory" in missing.stderr


def test_a_full_disk_names_the_mirror_and_the_run_goes_on_there(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(12, boot_seconds=(2.0, 3.0))
    (tmp_path / "stick").mkdir()
    with disk(tmp_path / "disk") as small:
        process = subprocess.Popen(
            command("run", info.plan, "--run-dir", small.path / "run", "--mirror", tmp_path / "stick"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        try:
            wait_for_journal(info)
            small.fill()
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 5, err
        assert f"or go on from the mirror: bootorch resume {tmp_path / 'stick' / 'run'}" in err
        assert not unrecorded(info, tmp_path / "stick" / "run" / JOURNAL)
    done = bootorch("resume", tmp_path / "stick" / "run")
    assert done.returncode == 0, done.stderr
    assert outcomes(tmp_path / "stick" / "run") == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
