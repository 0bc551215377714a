"""A run whose journal gets into trouble: it stops, says so, and nothing was sent that is not on record.

The witness is the log of the lab's BMCs: every power-on that came there must have an intent in the journal.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootorch.core.events import Intent, Kind
from bootorch.lab.control import LabInfo
from bootorch.ops.demo import misdeeds, witnessed
from bootorch.runtime.journal import Journal
from tests.e2e.conftest import LabFactory, bootorch, command, environment
from tests.e2e.test_recovery import expected, outcomes, wait_for_journal
from tests.runtime.disks import disk

HOSTS = 12


def unrecorded(info: LabInfo, journal: Path) -> Counter[str]:
    """Power-ons that BMCs saw and no intent tells of."""
    with Journal.open(journal, readonly=True) as opened:
        said = Counter(
            event.target for event in opened.events() if isinstance(event, Intent) and event.kind is Kind.POWER_ON
        )
    return Counter(seen.host for seen in witnessed(info.bmc_log) if seen.command == "chassis control") - said


@contextmanager
def running(info: LabInfo, run_dir: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A run that has sent something."""
    process = subprocess.Popen(
        command("run", info.plan, "--run-dir", run_dir, *more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        wait_for_journal(info)
        yield process
    finally:
        process.kill()
        process.communicate()


def goes_on(info: LabInfo, run_dir: Path, *more: str) -> None:
    resumed = bootorch("resume", run_dir, *more)
    assert resumed.returncode == 0, resumed.stderr
    assert outcomes(run_dir) == expected(info)
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    assert bootorch("journal", "verify", run_dir).returncode == 0


def test_a_full_disk_stops_new_effects_and_freed_space_lets_resume_go_on(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(HOSTS, boot_seconds=(2.0, 3.0))
    with disk(tmp_path / "disk") as small:
        run_dir = small.path / "run"
        with running(info, run_dir) as process:
            small.fill()
            _, err = process.communicate(timeout=120)
        assert process.returncode == 5, err
        assert "the journal cannot be written: database or disk is full" in err
        assert "free space or repair the disk, then bootorch resume" in err
        assert "Traceback" not in err
        sent = len(witnessed(info.bmc_log))
        again = bootorch("resume", run_dir)
        assert again.returncode == 5, again.stderr
        assert len(witnessed(info.bmc_log)) == sent, "nothing was sent while the disk was full"
        small.free()
        assert not unrecorded(info, run_dir / "journal.sqlite")
        goes_on(info, run_dir)
        assert not unrecorded(info, run_dir / "journal.sqlite")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_journal_that_is_taken_away_under_way(lab: LabFactory, tmp_path: Path, how: str) -> None:
    info = lab(HOSTS, boot_seconds=(2.0, 3.0))
    run_dir = tmp_path / "run"
    journal = run_dir / "journal.sqlite"
    with running(info, run_dir) as process:
        if how == "removed":
            journal.unlink()
        else:
            other = tmp_path / "other.sqlite"
            other.write_bytes(b"what somebody copied over it")
            other.replace(journal)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert "removed or replaced under way; nothing was sent without a record" in err
    if how == "removed":
        assert f"it was put back: bootorch resume {run_dir}" in err
    else:
        refused = bootorch("resume", run_dir)
        assert refused.returncode == 2, refused.stderr
        (run_dir / "journal.saved-1.sqlite").rename(journal)
    assert not unrecorded(info, journal)
    goes_on(info, run_dir)


def paused(info: LabInfo, run_dir: Path) -> Path:
    with running(info, run_dir) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    return run_dir / "journal.sqlite"


def statements(path: Path, *lines: str) -> None:
    database = sqlite3.connect(path)
    with database:
        for line in lines:
            database.execute(line)
    database.close()


def test_journals_of_other_versions_and_with_damage(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(HOSTS, boot_seconds=(2.0, 3.0))
    run_dir = tmp_path / "run"
    journal = paused(info, run_dir)
    sent = len(witnessed(info.bmc_log))
    statements(journal, "PRAGMA user_version=99")
    newer = bootorch("resume", run_dir)
    assert newer.returncode == 2
    assert "the journal has format 99, this bootorch reads up to 2" in newer.stderr
    statements(
        journal, "PRAGMA user_version=2", "UPDATE events SET body = 'torn' WHERE seq = (SELECT max(seq) FROM events)"
    )
    for words in (("resume", run_dir), ("report", run_dir)):
        damaged = bootorch(*words)
        assert damaged.returncode == 2, words
        assert "its hash does not fit what was written" in damaged.stderr
    verified = bootorch("journal", "verify", run_dir, "--json")
    assert verified.returncode == 2
    first = json.loads(verified.stdout)["damage"]["event"]
    assert len(witnessed(info.bmc_log)) == sent, "nothing was sent"
    assert bootorch("journal", "cut", run_dir, "--confirm", str(first)).returncode == 0
    # And as the version before this one would have left it.
    statements(journal, "ALTER TABLE events DROP COLUMN hash", "PRAGMA user_version=1")
    journal.with_name("journal.sqlite.head").unlink()
    assert "format 1" in bootorch("journal", "verify", run_dir).stdout
    goes_on(info, run_dir)


def test_on_a_read_only_disk_a_run_can_be_looked_at_and_no_more(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(HOSTS, boot_seconds=(2.0, 3.0))
    with disk(tmp_path / "disk") as small:
        run_dir = small.path / "run"
        paused(info, run_dir)
        sent = len(witnessed(info.bmc_log))
        small.remount("ro")
        for words in (("status", run_dir), ("report", run_dir), ("journal", "verify", run_dir)):
            assert bootorch(*words).returncode == 0, words
        refused = bootorch("resume", run_dir)
        assert refused.returncode == 5, refused.stderr
        assert "its disk is read-only" in refused.stderr
        begun = bootorch("run", info.plan, "--run-dir", small.path / "other")
        assert begun.returncode == 1, begun.stderr
        assert "Read-only file system" in begun.stderr
        assert len(witnessed(info.bmc_log)) == sent, "nothing was sent"
        small.remount("rw")
        goes_on(info, run_dir)
