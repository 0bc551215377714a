"""Status of a real run: while it goes on, after a kill, of a copy, at its end; and a resume from a checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from bootorch.lab.control import LabInfo
from bootorch.ops.checkpointer import Checkpointer
from bootorch.ops.demo import misdeeds, witnessed
from bootorch.runtime import checkpoint
from bootorch.runtime.journal import Journal
from tests.e2e.conftest import LabFactory, bootorch, command, environment


def status(target: Path) -> dict[str, Any]:
    done = bootorch("status", target, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def run_dir(info: LabInfo) -> Path:
    return next((info.plan.parent / "runs").glob("*/journal.sqlite")).parent


def events(path: Path) -> int:
    with Journal.open(path, readonly=True) as journal:
        return int(journal.execute("SELECT max(seq) FROM events").fetchone()[0])


def test_status_of_a_run_from_its_beginning_to_its_end(lab: LabFactory, tmp_path: Path) -> None:
    info = lab(12, silent_power=1, already_on=1)
    process = subprocess.Popen(
        command("run", info.plan), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    give_up = time.monotonic() + 60
    while not (info.bmc_log.exists() and len(witnessed(info.bmc_log)) > 20) and time.monotonic() < give_up:
        time.sleep(0.02)
    going = status(info.plan)
    assert going["running"]
    assert sum(going["totals"].values()) == going["size"] == 12
    process.kill()
    process.wait()

    journal = run_dir(info) / "journal.sqlite"
    killed = status(run_dir(info))
    assert not killed["running"]
    assert killed["event"] + killed["later_events"] == events(journal)
    assert killed["next"].startswith("bootorch resume")
    assert "cut off: no process holds it" in bootorch("status", run_dir(info)).stdout

    copy = tmp_path / "stick"
    copy.mkdir()
    for part in journal.parent.glob("journal.sqlite*"):
        shutil.copyfile(part, copy / part.name)
    before = sorted(
        (part.name, part.read_bytes()) for part in journal.parent.glob("journal.*") if "shm" not in part.name
    )
    copied = status(copy)
    assert {**copied, "run_dir": "", "next": ""} == {**killed, "run_dir": "", "next": ""}
    status(run_dir(info))
    after = sorted(
        (part.name, part.read_bytes()) for part in journal.parent.glob("journal.*") if "shm" not in part.name
    )
    assert after == before, "status only reads"

    said = bootorch("checkpoint", run_dir(info))
    assert said.returncode == 0, said.stderr
    assert said.stderr == f"event {events(journal):,}\n"
    with Journal.open(journal, readonly=True) as opened:
        assert checkpoint.behind(opened) == 0
    done = bootorch("resume", info.plan)
    assert done.returncode == 0, done.stderr
    assert "checkpoint" not in done.stderr, "it fits"
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []

    ended, report = status(info.plan), json.loads(bootorch("report", info.plan, "--json").stdout)
    assert (ended["running"], ended["later_events"], ended["event"]) == (False, 0, events(journal))
    for key in ("totals", "in_progress", "verdict", "power_ons", "cycles", "size", "changes"):
        assert ended[key] == report[key], key
    for name, group in report["groups"].items():
        assert ended["groups"][name]["outcomes"] == group["outcomes"], name


def test_a_paused_run_is_shown_exactly(lab: LabFactory) -> None:
    info = lab(8)
    process = subprocess.Popen(
        command("run", info.plan), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    give_up = time.monotonic() + 60
    while not (info.bmc_log.exists() and info.bmc_log.stat().st_size) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert bootorch("pause", info.plan, "--by", "kim", "--why", "smoke").returncode == 0
    assert process.wait(60) == 5
    paused, report = status(info.plan), json.loads(bootorch("report", info.plan, "--json").stdout)
    assert (paused["paused"], paused["paused_why"], paused["later_events"]) == ("kim", "smoke", 0)
    assert paused["in_flight"] == {}
    assert paused["totals"] == report["totals"]
    assert paused["in_progress"] == report["in_progress"]
    # What runs beside a run of a hundred thousand events, as it would run then.
    journal = run_dir(info) / "journal.sqlite"
    with Checkpointer(journal, every=1, every_s=0.05), Journal.open(journal, readonly=True) as opened:
        give_up = time.monotonic() + 120
        while checkpoint.behind(opened) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert checkpoint.behind(opened) == 0
