"""The status that a run keeps: in the transaction of its events, and found by a reader that loads nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bootorch.core.events import Event, GateOpened, Kind
from bootorch.core.state import State
from bootorch.runtime.journal import Journal, JournalError
from bootorch.runtime.keeper import EVERY_S, QUIET_S, REMEMBERED, Keeper
from tests.ui.example import demo_world


@pytest.fixture
def events() -> list[Event]:
    return demo_world().run()


def keeping(events: list[Event]) -> tuple[State, Keeper]:
    state = State(demo_world().plan)
    keeper = Keeper(state)
    for event in events:
        state.fold(event)
        keeper.tell([event])
        keeper.changes.fold(event)
    return state, keeper


def test_it_is_due_once_a_second_after_what_is_journalled_and_at_the_end(events: list[Event]) -> None:
    _, keeper = keeping(events[:50])
    assert keeper.due(10.0) is not None
    assert keeper.due(10.0 + 2 * EVERY_S) is None, "nothing has happened"
    keeper.tell([GateOpened(11.0, "stable-power", "kim")])
    assert keeper.due(10.0 + 0.9 * EVERY_S) is None, "too soon"
    assert keeper.due(10.0 + EVERY_S) is not None
    assert keeper.due(10.0 + EVERY_S + QUIET_S) is not None, "a sign of life"
    assert keeper.due(10.0 + EVERY_S + QUIET_S) is None
    assert keeper.due(10.0 + EVERY_S + QUIET_S, last=True) is not None


def test_a_reader_finds_it_with_the_number_of_its_event(tmp_path: Path, events: list[Event]) -> None:
    _, keeper = keeping(events)
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        assert journal.kept() is None
        journal.append(events[:5], status=keeper.due(0.0, last=True))
        journal.append(events[5:8])
        with Journal.open(journal.path, readonly=True) as reader:
            kept = reader.kept()
        assert kept is not None
        assert (kept.event, kept.events) == (5, 8)
        assert kept.document["plan"] == "lab-cold-boot"
        journal.append([], status=keeper.due(0.0, last=True))
        again = journal.kept()
        assert again is not None
        assert (again.event, again.events) == (8, 8)


def test_it_is_of_the_same_transaction_as_the_events(tmp_path: Path, events: list[Event]) -> None:
    """Where the status cannot be written the events are not there either, and the other way round."""
    _, keeper = keeping(events)
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        journal.append(events[:5], status=keeper.due(0.0, last=True))
        with pytest.raises(JournalError):
            journal.append(events[5:8], status=object())  # type: ignore[arg-type]
        kept = journal.kept()
        assert kept is not None
        assert (kept.event, kept.events) == (5, 5)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE standing SET body = json_set(body, '$.schema', 'bootorch.status/2')",  # of a newer bootorch
        "DELETE FROM events WHERE seq > 3",  # what it stands for was cut off
        "DROP TABLE standing",  # an older journal
    ],
)
def test_what_does_not_fit_is_not_shown(tmp_path: Path, events: list[Event], statement: str) -> None:
    _, keeper = keeping(events)
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        journal.append(events[:5], status=keeper.due(0.0, last=True))
        journal.execute(statement)
        assert journal.kept() is None


def test_a_resumed_run_remembers_what_its_state_does_not(tmp_path: Path, events: list[Event]) -> None:
    state, keeper = keeping(events)
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        journal.append(events)
        past = journal.events(*REMEMBERED)
        again = Keeper(state, past, journal.count(Kind.POWER_ON), journal.count(Kind.POWER_CYCLE))
    documents = [json.loads(one.due(state.t, last=True) or "") for one in (keeper, again)]
    for document in documents:
        for gate in document["gates"]:
            gate["last"] = ""  # what a check said before is not asked for again
    assert documents[0] == documents[1]
    assert documents[0]["power_ons"] > 50
    assert documents[0]["cycles"] > 0


def test_a_status_loads_neither_state_nor_plans_nor_power(tmp_path: Path, events: list[Event]) -> None:
    """Or it would take as long as they do."""
    _, keeper = keeping(events)
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        journal.append(events, status=keeper.due(0.0, last=True))
    code = "import sys; from bootorch import app; app.main(['status', sys.argv[1]]); print(*sys.modules)"
    words = [sys.executable, "-c", code, str(tmp_path)]
    *page, modules = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert page[-1].startswith("next: bootorch")
    heavy = {"bootorch.core.state", "bootorch.core.engine", "bootorch.power", "pydantic", "asyncio", "rich", "yaml"}
    assert set(modules.split()) & heavy == set()
