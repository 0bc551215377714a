"""The process beside a run that writes checkpoints: only when they are due, and a failure is a log line."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from bootorch.core.events import Event, GateOpened
from bootorch.ops import checkpointer
from bootorch.ops.checkpointer import Checkpointer
from bootorch.runtime.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    events: list[Event] = [GateOpened(float(number), "power", "kim") for number in range(20)]
    with Journal.create(path, {}) as opened:
        opened.append(events)
    return path


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(checkpointer, "command", lambda journal: (sys.executable, "-c", code, str(journal)))


def test_it_is_written_once_so_many_events_have_come(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = journal.with_name("mark")
    instead(monkeypatch, f"open({str(mark)!r}, 'w').close()")
    looked = threading.Event()
    behind = checkpointer.behind

    def look(opened: Journal) -> int:
        looked.set()
        return behind(opened)

    monkeypatch.setattr(checkpointer, "behind", look)
    with Checkpointer(journal, every=21, every_s=0.01):
        assert looked.wait(30)
    assert not mark.exists()
    task = Checkpointer(journal, every=20)
    task.work()
    assert mark.exists()


@pytest.mark.parametrize("code", ["raise SystemExit('no plan in it')", "import os; os._exit(9)"])
def test_what_goes_wrong_is_a_log_line(journal: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    said: list[dict[str, object]] = []
    monkeypatch.setattr(checkpointer._log, "warning", lambda *_, **facts: said.append(facts))
    instead(monkeypatch, code)
    Checkpointer(journal, every=1).work()
    assert [facts["error"] for facts in said] == ["no plan in it" if "plan" in code else "no word"]


def test_a_journal_that_is_gone_is_a_log_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(checkpointer._log, "warning", lambda word, **_: said.append(word))
    Checkpointer(tmp_path / "journal.sqlite").work()
    assert said == ["no checkpoint was written"]
