"""Checkpoints in a real journal: found, believed only where everything fits, and never needed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bootorch.core.events import Event
from bootorch.core.recovery import replay
from bootorch.core.state import State
from bootorch.runtime import checkpoint
from bootorch.runtime.chain import head_path
from bootorch.runtime.checkpoint import KEPT, behind, recover, write
from bootorch.runtime.journal import Journal
from bootorch.sim.swarm import Case, case_of, play
from tests.core.test_checkpoint import alike

SEED = 17


@pytest.fixture(scope="module")
def case() -> Case:
    return case_of(SEED)


@pytest.fixture(scope="module")
def events(case: Case) -> list[Event]:
    return [event for event in play(case).events if getattr(event, "durable", True)]


@pytest.fixture
def path(tmp_path: Path, case: Case, events: list[Event]) -> Path:
    """A journal with a checkpoint after a third of its events, and one after two thirds."""
    name = tmp_path / "journal.sqlite"
    third = len(events) // 3
    with Journal.create(name, {"plan": b"x"}) as journal:
        journal.append(events[:third])
        assert write(name, case.plan) == third
        journal.append(events[third : 2 * third])
        assert write(name, case.plan) == 2 * third
        journal.append(events[2 * third :])
    return name


def folded(path: Path, case: Case, events: list[Event]) -> int:
    """How many events were folded; whatever they were folded upon, the state is that of all of them."""
    with Journal.open(path, readonly=True) as journal:
        found = recover(journal, case.plan)
    assert found.event == len(events)
    alike(replay(case.plan, events), found.state)
    return found.folded


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    monkeypatch.setattr(checkpoint._log, "warning", lambda *_, error, **__: words.append(error))
    return words


def test_only_what_came_after_the_newest_is_folded(path: Path, case: Case, events: list[Event]) -> None:
    assert folded(path, case, events) == len(events) - 2 * (len(events) // 3)
    with Journal.open(path, readonly=True) as journal:
        assert behind(journal) == len(events) - 2 * (len(events) // 3)


def test_without_any_all_events_are_folded(tmp_path: Path, case: Case, events: list[Event]) -> None:
    name = tmp_path / "journal.sqlite"
    with Journal.create(name, {}) as journal:
        journal.append(events)
        assert behind(journal) == len(events)
    assert folded(name, case, events) == len(events)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("digest", b"0", "its bytes are not what was written"),
        ("version", "0.0.1", "version 0.0.1 wrote it"),
        ("event", b"0", "it is of another event"),
    ],
)
def test_one_that_does_not_fit_is_left_alone_and_the_one_before_is_taken(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch, column: str, value: object, why: str
) -> None:
    words = said(monkeypatch)
    newest = f"UPDATE checkpoints SET {column} = ? WHERE seq = (SELECT max(seq) FROM checkpoints)"
    change(path, newest, value)
    third = len(events) // 3
    assert folded(path, case, events) == len(events) - third
    assert len(words) == 1
    assert words[0].startswith(why)
    change(path, f"UPDATE checkpoints SET {column} = ?", value)
    assert folded(path, case, events) == len(events)


@pytest.mark.parametrize(
    "statement", ["UPDATE checkpoint_parts SET body = zeroblob(9)", "DELETE FROM checkpoint_parts"]
)
def test_one_whose_parts_are_torn_or_missing_is_left_alone(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    words = said(monkeypatch)
    change(path, f"{statement} WHERE seq = (SELECT max(seq) FROM checkpoints)")
    assert folded(path, case, events) == len(events) - len(events) // 3
    assert words == ["its bytes are not what was written"]


def test_one_that_was_never_finished_is_not_seen_and_goes_with_the_next(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = said(monkeypatch)
    change(path, "INSERT INTO checkpoint_parts VALUES (1, 0, x'00')")
    assert folded(path, case, events) == len(events) - 2 * (len(events) // 3)
    assert words == []
    write(path, case.plan)
    with Journal.open(path, readonly=True) as journal:
        kept = {seq for (seq,) in journal.execute("SELECT seq FROM checkpoints")}
        assert {seq for (seq,) in journal.execute("SELECT seq FROM checkpoint_parts")} == kept


def test_a_large_one_is_written_in_parts(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PART", 100)
    write(path, case.plan)
    with Journal.open(path, readonly=True) as journal:
        assert journal.execute("SELECT count(*) FROM checkpoint_parts WHERE seq = ?", (len(events),)).fetchone()[0] > 5
    assert folded(path, case, events) == 0


def test_one_that_another_code_wrote_is_left_alone(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same version by name, and a state with one field more."""
    words = said(monkeypatch)
    begin = State.__init__

    def more(state: State, plan: object) -> None:
        begin(state, plan)  # type: ignore[arg-type]
        state.new_in_this_version = 0  # type: ignore[attr-defined]

    monkeypatch.setattr(State, "__init__", more)
    assert folded(path, case, events) == len(events)
    assert words == ["it was written for another plan, or by another version"] * KEPT


def test_one_of_events_that_were_cut_off_is_left_alone(
    path: Path, case: Case, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = said(monkeypatch)
    third = len(events) // 3
    change(path, "DELETE FROM events WHERE seq > ?", third + 5)
    head_path(path).unlink()  # else nothing at all is read: events are missing
    assert folded(path, case, events[: third + 5]) == 5
    assert "is not there" in words[0]


def test_two_are_kept(path: Path, case: Case, events: list[Event]) -> None:
    write(path, case.plan)
    with Journal.open(path, readonly=True) as journal:
        kept = [seq for (seq,) in journal.execute("SELECT seq FROM checkpoints ORDER BY seq")]
        assert kept == [2 * (len(events) // 3), len(events)]
        assert behind(journal) == 0
        journal.execute("PRAGMA integrity_check")
    assert folded(path, case, events) == 0


def test_a_run_that_appends_is_not_in_the_way(path: Path, case: Case, events: list[Event]) -> None:
    """The journal is open for writing elsewhere, as it is while a run goes on; the chain stays whole."""
    with Journal.open(path) as running:
        assert write(path, case.plan) == len(events)
        running.append(events[-1:])
        assert [event for page in running.checked(len(events)) for event in page]


def test_a_journal_without_hashes_has_none(tmp_path: Path, case: Case, events: list[Event]) -> None:
    name = tmp_path / "journal.sqlite"
    with Journal.create(name, {}) as journal:
        journal.append(events)
    with sqlite3.connect(name) as database:
        database.execute("ALTER TABLE events DROP COLUMN hash")
        database.execute("PRAGMA user_version=1")
    database.close()
    with Journal.open(name, readonly=True) as journal:
        assert behind(journal) == 0
    assert folded(name, case, events) == len(events)
