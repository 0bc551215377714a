"""A marked password is nowhere to be found: argv, environment of children, log, journal, report, artifacts."""

from __future__ import annotations

import sqlite3
import subprocess
import zlib
from pathlib import Path

import pytest

from bootorch.core.secret import Secret
from tests.e2e.conftest import LabFactory, command, environment

MARK = "MARKEDpw4711"


def descendants(pid: int) -> set[int]:
    """The process and everything below it, as /proc tells."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += children.get(one, ())
    return found


@pytest.mark.slow
def test_a_marked_password_shows_up_nowhere(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(8, redeploy=True, dead_bmc=0, password=Secret(MARK), silent_power=1)
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command("--log-level", "debug", "run", info.plan),
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        looked, children = 0, set()
        while process.poll() is None:
            for pid in descendants(process.pid):
                for name in ("cmdline", "environ"):
                    try:
                        content = (Path("/proc") / str(pid) / name).read_bytes()
                    except OSError:
                        continue
                    assert MARK.encode() not in content, (pid, name)
                    looked += 1
                children.add(pid)
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 0, log.read_text()
    assert looked > 100
    assert len(children) > 10, "the playbooks' processes were seen too"
    assert MARK not in log.read_text()

    run_dir = next(info.plan.parent.glob("runs/*/"))
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert {"journal.sqlite", "report.html", "report.json"} <= {path.name for path in files}
    for path in files:
        assert MARK.encode() not in path.read_bytes(), path
    with sqlite3.connect(run_dir / "journal.sqlite") as journal:
        for (value,) in journal.execute("SELECT value FROM meta"):
            assert MARK.encode() not in zlib.decompress(value)
    # The lab keeps it where the inventory says, and nowhere else.
    holders = [p for p in info.plan.parent.rglob("*") if p.is_file() and MARK.encode() in p.read_bytes()]
    assert [p.name for p in holders] == ["bmc_password"]
