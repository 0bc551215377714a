"""Locks and directories of runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput, SafetyRefusal
from bootorch.runtime.rundir import JOURNAL, find_journal, held, is_held, journals, new_run_dir

HOLD = """
import sys, time
from pathlib import Path
from bootorch.runtime.rundir import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_by_one_process_and_given_back_by_kill_9(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        with pytest.raises(SafetyRefusal, match=f"is being run by process {holder.pid}"), held(tmp_path):
            raise AssertionError("two holders")
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    with held(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_a_directory_without_a_lock_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path)


def test_runs_lie_beside_the_plan_in_order_of_time(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yml"
    first = new_run_dir(plan, "web", None)
    time.sleep(0.01)
    second = new_run_dir(plan, "web", None)
    other = new_run_dir(plan, "web-canary", None)
    for directory in (first, second, other):
        (directory / JOURNAL).touch()
    assert first.stat().st_mode & 0o777 == 0o700
    assert journals(plan, "web") == [first / JOURNAL, second / JOURNAL], "not those of a plan whose name begins alike"
    assert find_journal(first) == first / JOURNAL
    assert find_journal(first / JOURNAL) == first / JOURNAL
    assert find_journal(plan) is None
    ahead = tmp_path / "runs" / "web-29990101T000000Z"  # a clock that was wrong, and is set back now
    ahead.mkdir()
    (ahead / JOURNAL).touch()
    after = new_run_dir(plan, "web", None)
    (after / JOURNAL).touch()
    assert journals(plan, "web")[-2:] == [ahead / JOURNAL, after / JOURNAL]
    with pytest.raises(InvalidInput, match="kept there already"):
        new_run_dir(plan, "web", first)
