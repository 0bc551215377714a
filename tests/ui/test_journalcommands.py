"""``bootorch journal`` on real files, through the command line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from bootorch.core.codec import encode
from bootorch.core.events import Paused, RunEnded
from bootorch.runs import Runs
from bootorch.runtime.journal import Journal
from bootorch.runtime.rundir import held
from bootorch.ui import cli
from tests.runtime.journals import change, event, fill, killed, written


def bootorch(*words: str | Path) -> int:
    return cli.main(Runs(), [str(word) for word in words])


def test_verify_says_whole_and_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "journal.sqlite", 30)
    assert bootorch("journal", "verify", path) == 0
    out = capsys.readouterr().out
    assert "whole  30 events" in out
    assert "chain of hashes holds" in out
    change(path, "UPDATE events SET body = 'torn' WHERE seq = 30")
    assert bootorch("journal", "verify", path) == 2
    out = capsys.readouterr().out
    assert "event 30: its hash does not fit" in out
    assert f"bootorch journal cut {tmp_path} --confirm 30" in out
    assert bootorch("journal", "verify", path, "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["damage"]["event"] == 30
    assert document["damage"]["tail"] is True
    assert document["good_events"] == 29


def test_cut_wants_the_number_and_then_the_run_can_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "journal.sqlite", 30)
    change(path, "UPDATE events SET body = 'torn' WHERE seq = 30")
    assert bootorch("journal", "cut", path) == 6
    assert f"bootorch journal cut {tmp_path} --confirm 30" in capsys.readouterr().err
    assert bootorch("journal", "cut", path, "--confirm", "29") == 6
    assert bootorch("journal", "cut", path, "--confirm", "30", "--by", "kim", "--why", "power cut") == 0
    assert "journal.damaged-1.sqlite" in capsys.readouterr().err
    assert bootorch("journal", "verify", path) == 0
    capsys.readouterr()
    assert bootorch("journal", "tail", path, "-n", "1") == 0
    assert "cut at event 30 by kim: power cut" in capsys.readouterr().out
    assert bootorch("journal", "cut", path, "--confirm", "30") == 6


def test_an_export_can_be_checked_by_who_knows_the_rule_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = killed(tmp_path / "journal.sqlite", 25)
    assert bootorch("journal", "export", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25
    before = None
    for number, line in enumerate(lines, 1):
        record = json.loads(line)
        assert record["seq"] == number
        body = line[line.index('"event":') + 8 : -1]
        assert body == encode(event(number))
        if before is not None:
            stamps = struct.pack("<dd", record["wall_s"], record["boot_s"])
            assert sha256(before + stamps + body.encode()).hexdigest() == record["hash"]
        before = bytes.fromhex(record["hash"])
    assert bootorch("journal", "export", path, "--after", "20") == 0
    assert capsys.readouterr().out.splitlines() == lines[20:]


def test_an_export_ends_where_the_damage_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "journal.sqlite", 25)
    change(path, "UPDATE events SET wall_s = 0 WHERE seq = 12")
    assert bootorch("journal", "export", path) == 2
    streams = capsys.readouterr()
    assert len(streams.out.splitlines()) == 11
    assert "event 12" in streams.err


def test_tail_shows_the_latest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "journal.sqlite", 30)
    assert bootorch("journal", "tail", path, "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["29", "30"]
    assert "power.read to web029" in lines[0]
    assert "web030 is ready" in lines[1]
    assert bootorch("journal", "tail", path, "-n", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["event"]["host"] == "web030"


def test_what_machines_said_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as journal:
        journal.append([Paused(1.0, "kim", "\x1b[2J\x07cleared\nnext")])
    assert bootorch("journal", "tail", path) == 0
    out = capsys.readouterr().out
    assert out.endswith("paused by kim: [2J cleared next\n")
    assert "\x1b" not in out


def test_tail_follows_a_run_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.sqlite"
    with held(tmp_path), Journal.create(path, {}) as journal:
        fill(journal, 1, 10)
        following = threading.Thread(target=bootorch, args=("journal", "tail", path, "-f", "-n", "3"))
        following.start()
        fill(journal, 11, 20)
        journal.append([RunEnded(21.0, "done", "")])
    following.join(30)
    assert not following.is_alive()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("run ended: done")
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == list(range(numbers[0], 22)), "none is missing, none is twice"


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.sqlite", 3000, 3000)
    run = f"{sys.executable} -m bootorch.app journal export {path} | head -1"
    shell = ["bash", "-c", f"set -o pipefail; {run}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=60, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["seq"] == 1
