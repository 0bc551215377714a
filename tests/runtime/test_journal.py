"""The journal on a real disk: durable, self-contained, refusing what it cannot read, heard by other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.codec import EventError, decode, encode
from bootorch.core.errors import Exit, InvalidInput
from bootorch.core.events import TYPES, Event, FeedLost, Intent, Kind, LimitSet, Scalar, Settled
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.runtime.journal import DamagedJournal, Journal, JournalError

names = st.text(min_size=1, max_size=12)
moments = st.floats(0, 1e7, allow_nan=False)
scalars = st.one_of(names, st.integers(-(2**53), 2**53), st.booleans())
BY_TYPE: dict[object, st.SearchStrategy[object]] = {
    str: st.text(max_size=20),
    float: moments,
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    float | None: st.none() | st.floats(0, 1e9),
    tuple[str, ...]: st.lists(names, max_size=4).map(tuple),
    Mapping[str, Scalar]: st.dictionaries(names, scalars, max_size=3),
    Mapping[str, tuple[str, str]]: st.dictionaries(names, st.tuples(names, st.text()), max_size=3),
    Kind: st.sampled_from(Kind),
    Reason: st.sampled_from(Reason),
    Outcome: st.sampled_from(Outcome),
}


def any_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Events of the class, every field of it drawn by its type; a new type of field has to be entered above."""
    types = get_type_hints(cls)
    return st.builds(cls, **{f.name: BY_TYPE[types[f.name]] for f in fields(cls) if f.name != "durable"})


@pytest.mark.parametrize("word", TYPES)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_event_survives_its_codec(word: str, data: st.DataObject) -> None:
    event = data.draw(any_of(TYPES[word]))
    line = encode(event)
    assert "\n" not in line
    assert decode(line) == event
    assert json.loads(line)["e"] == word
    with pytest.raises(EventError):
        decode(line + line)
    with pytest.raises(EventError):
        decode(line[:-1])


def test_bytes_that_are_no_text_are_kept() -> None:
    """What another program has written in no encoding comes with lone surrogates (os.fsdecode)."""
    said = Settled(1.0, "web1", Outcome.QUARANTINED, Reason.TASK_FAILED, "caf\udce9 und café")
    assert decode(encode(said)) == said
    encode(said).encode()


@given(st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1"))))
def test_what_is_no_event_is_refused_by_name(line: str) -> None:
    with pytest.raises(EventError):
        decode(line)


def test_newer_versions_and_unknown_fields_are_refused() -> None:
    for word in TYPES:
        with pytest.raises(EventError, match="version"):
            decode(f'{{"e":"{word}","v":99,"t":1}}')
    with pytest.raises(EventError, match="surprise"):
        decode('{"e":"paused","v":1,"t":1,"by":"kim","surprise":true}')
    with pytest.raises(EventError, match="no word that this bootorch knows"):
        decode('{"e":"settled","v":1,"t":1,"host":"web1","outcome":"melted"}')
    with pytest.raises(EventError, match="version True"):
        decode('{"e":"paused","v":true,"t":1,"by":"kim"}')


def event(number: int) -> Settled:
    return Settled(float(number), f"web{number}", Outcome.READY)


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {"plan": b"name: x"}) as journal:
        journal.append([event(1), event(2)])
        journal.append([Intent(3.0, 7, Kind.POWER_READ, "web1", durable=False)])
        journal.append([event(4)])
    assert path.stat().st_mode & 0o777 == 0o600
    with Journal.open(path, readonly=True) as journal:
        assert journal.meta("plan") == b"name: x"
        assert list(journal.events()) == [event(1), event(2), event(4)]
        assert journal.last_event() == event(4)
        moment = journal.last_moment()
        assert moment is not None
        assert moment.boot_s > 0


def _append_until_killed(path: Path, told: int) -> None:
    with Journal.open(path) as journal:
        for number in range(100_000):
            journal.append([event(number)])
            os.write(told, number.to_bytes(4, "big"))


def test_what_append_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal.create(path, {}).close()
    read, write = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_append_until_killed, args=(path, write))
    process.start()
    os.close(write)
    last = -1
    for _ in range(200):
        last = int.from_bytes(os.read(read, 4), "big")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while rest := os.read(read, 4):
        last = int.from_bytes(rest, "big")
    os.close(read)
    with Journal.open(path) as journal:
        kept = list(journal.events())
    assert kept[: last + 1] == [event(number) for number in range(last + 1)]
    assert len(kept) <= last + 2  # at most the one that was under way


def fill(journal: Journal) -> None:
    for number in range(10_000):
        journal.append([event(number)])


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as journal:
        journal._db.execute("PRAGMA max_page_count = 12")  # a disk that is full, as SQLite reports it
        with pytest.raises(JournalError) as full:
            fill(journal)
        assert full.value.exit_code is Exit.INTERRUPTED
        assert "full" in str(full.value)
        kept = list(journal.events())
        assert kept == [event(number) for number in range(len(kept))]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "format 0"), (b"this is no database, but long enough to be looked at" * 40, "no journal")],
)
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        Journal.open(path, readonly=True)
    with pytest.raises(InvalidInput, match="no journal"):
        Journal.open(tmp_path / "other.sqlite")
    with pytest.raises(InvalidInput, match="there already"):
        Journal.create(path, {})


def test_a_newer_format_and_a_foreign_event_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as journal:
        journal.append([event(1)])
        monkeypatch.setattr("bootorch.runtime.journal.encode", lambda _: '{"e":"future"}')
        journal.append([event(2)])
    with Journal.open(path) as journal, pytest.raises(InvalidInput, match="unknown event") as refused:
        list(journal.events())
    assert "event 2" in refused.value.problems[0].where
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InvalidInput, match="format 99"):
        Journal.open(path)


def test_words_of_another_process_are_heard_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as running, Journal.open(path) as other:
        assert running.heard() == []
        other.say({"command": "pause", "by": "kim"})
        assert running.heard() == [(1, {"command": "pause", "by": "kim"})]
        assert running.heard() == []
        other.say({"command": "pause", "by": "lee"})
        running.forget_commands()
        assert running.heard() == []


def test_what_is_said_to_a_command_is_committed_with_the_events_that_come_of_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    lost = FeedLost(1.0, "hall-b", "kim", "fire")
    with Journal.create(path, {}) as running, Journal.open(path) as other:
        first, second = other.say({"command": "change"}), other.say({"command": "change"})
        assert [ident for ident, _ in running.heard()] == [first, second]
        assert other.answer(first) is None
        running.append([lost], taken={first: {"status": "effective", "said": "dark now"}})
        assert other.answer(first) == {"status": "effective", "said": "dark now"}
        assert other.answer(second) is None
        running.append([], taken={second: {"status": "already", "said": "so it is"}})
        assert other.answer(second) == {"status": "already", "said": "so it is"}
        assert list(other.events()) == [lost]


def older(path: Path, events: list[Event], *, taken: bool = True) -> None:
    """A journal as the first version wrote it."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, wall_s REAL NOT NULL, "
            "boot_s REAL NOT NULL);"
            "CREATE TABLE commands (id INTEGER PRIMARY KEY, body TEXT NOT NULL);"
            "PRAGMA user_version=1;"
            + ("CREATE TABLE taken (id INTEGER PRIMARY KEY, body TEXT NOT NULL);" if taken else "")
        )
        database.execute("INSERT INTO meta VALUES ('plan', ?)", (zlib.compress(b"name: x"),))
        rows = [(encode(event), 100.0 + event.t, event.t) for event in events]
        database.executemany("INSERT INTO events (body, wall_s, boot_s) VALUES (?, ?, ?)", rows)
    database.close()


def test_a_journal_of_an_older_version_is_answered_too(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    older(path, [event(1)], taken=False)
    with Journal.open(path) as running:
        ident = running.say({"command": "change"})
        assert running.format == 1, "another process, perhaps of the older version, may run it"
        running.append([], taken={ident: {"status": "effective", "said": ""}})
        assert running.answer(ident) == {"status": "effective", "said": ""}


def test_an_older_journal_is_read_as_it_is_and_gets_its_hashes_with_the_first_append(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    older(path, [event(1), event(2)])
    before = path.read_bytes()
    with Journal.open(path, readonly=True) as journal:
        assert journal.meta("plan") == b"name: x"
        assert list(journal.events()) == [event(1), event(2)]
    assert path.read_bytes() == before, "who only reads changes nothing"
    with Journal.open(path) as journal:
        journal.append([event(3)])
        assert journal.format == 2
    with Journal.open(path, readonly=True) as journal:
        assert list(journal.events()) == [event(1), event(2), event(3)]
        assert [row[2] for page in journal.pages() for row in page][:2] == [101.0, 102.0], "stamps are kept"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET body = replace(body, 'web2', 'web9') WHERE seq = 2")
    database.close()
    with Journal.open(path, readonly=True) as journal, pytest.raises(DamagedJournal, match="hash") as damaged:
        list(journal.events())
    assert damaged.value.seq == 2


def test_some_kinds_of_events_are_found_among_the_others(tmp_path: Path) -> None:
    lost, limit = FeedLost(1.0, "hall-b", "kim"), LimitSet(2.0, "slot", "image_server", 4.0)
    # Another event's text that looks like one of them must not be taken for it.
    other = Settled(1.5, "web1", Outcome.SKIPPED, Reason.OK, '{"e":"feed.lost",')
    with Journal.create(tmp_path / "journal.sqlite", {}) as journal:
        journal.append([lost, other, limit])
        assert list(journal.events(FeedLost, LimitSet)) == [lost, limit]
        assert list(journal.events(Settled)) == [other]
        assert list(journal.events()) == [lost, other, limit]


def test_a_journal_that_its_process_does_not_let_go_of_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootorch.runtime.journalfile.BUSY_MS", 50)
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as running, Journal.open(path) as other:
        running._db.execute("BEGIN IMMEDIATE")  # a commit that does not come to its end
        with pytest.raises(JournalError, match="holds it for more than") as refused:
            other.say({"command": "pause"})
        assert refused.value.exit_code is Exit.INTERRUPTED
        running._db.execute("ROLLBACK")
        assert other.say({"command": "pause"}) == 1
