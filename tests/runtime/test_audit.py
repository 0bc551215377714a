"""Damage with real bytes: flipped, zeroed, cut off, taken away; found, named, and cut by the operator's word only."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, SafetyRefusal
from bootorch.core.events import TailCut
from bootorch.runtime.audit import audit, cut
from bootorch.runtime.chain import head_path
from bootorch.runtime.journal import DamagedJournal, Journal
from bootorch.runtime.rundir import held
from tests.runtime.journals import change, event, fill, flip, killed, leaf_pages, written

COUNT = 400
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # hundreds of syncs of a real disk show nothing more


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("whole") / "journal.sqlite", COUNT)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return killed(tmp_path_factory.mktemp("left") / "journal.sqlite", COUNT)


def copy(source: Path, directory: Path) -> Path:
    """The journal with all that lies beside it."""
    for file in source.parent.iterdir():
        if file.name.startswith(source.name):
            shutil.copy(file, directory / file.name)
    return directory / source.name


def refused(path: Path) -> DamagedJournal:
    """Neither who reads nor who resumes goes past the damage."""
    with pytest.raises(DamagedJournal) as damaged, Journal.open(path) as journal:
        list(journal.events())
    return damaged.value


def test_what_nobody_touched_is_whole(whole: Path, left: Path) -> None:
    for path in (whole, left):
        found = audit(path)
        assert found.whole
        assert (found.good, found.format) == (COUNT, 2)
        assert found.moment is not None
        assert found.moment.wall_s == 1e9 + COUNT - 9
        with pytest.raises(SafetyRefusal, match="whole"):
            cut(path, COUNT, "kim", "")


ROWS: dict[str, tuple[tuple[str, ...], int, bool]] = {
    "a word of the middle": (("UPDATE events SET body = replace(body, 'web', 'wab') WHERE seq = 200",), 200, False),
    "a word of the last": (("UPDATE events SET body = replace(body, 'web', 'wab') WHERE seq = 400",), 400, True),
    "a stamp": (("UPDATE events SET wall_s = wall_s + 1 WHERE seq = 31",), 31, False),
    "a hash": (("UPDATE events SET hash = zeroblob(32) WHERE seq = 31",), 31, False),
    "a hash of another type": (("UPDATE events SET hash = 'x' WHERE seq = 400",), 400, True),
    "a body of another type": (("UPDATE events SET body = x'00ff' WHERE seq = 31",), 31, False),
    "a body that is no text": (("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 400",), 400, True),
    "a stamp that is no number": (("UPDATE events SET boot_s = 'noon' WHERE seq = 31",), 31, False),
    "removed from the middle": (("DELETE FROM events WHERE seq = 77",), 77, False),
    "removed at the beginning": (("DELETE FROM events WHERE seq = 1",), 1, False),
    "removed at the end": (("DELETE FROM events WHERE seq > 390",), 391, True),
    "removed and closed up": (
        (
            "DELETE FROM events WHERE seq = 77",
            "UPDATE events SET seq = seq + 9999 WHERE seq > 77",
            "UPDATE events SET seq = seq - 10000 WHERE seq > 9999",
        ),
        77,
        False,
    ),
    "two in each other's place": (
        (
            "UPDATE events SET seq = 9999 WHERE seq = 50",
            "UPDATE events SET seq = 50 WHERE seq = 51",
            "UPDATE events SET seq = 51 WHERE seq = 9999",
        ),
        50,
        False,
    ),
    "one put in at the end": (
        ("INSERT INTO events SELECT 401, body, wall_s, boot_s, hash FROM events WHERE seq = 9",),
        401,
        True,
    ),
    "moved beyond the end": (("UPDATE events SET seq = 500 WHERE seq = 400",), 400, True),
    "the plan at its head": (("UPDATE meta SET value = zeroblob(9) WHERE key = 'plan'",), 1, False),
    "one more word at its head": (("INSERT INTO meta VALUES ('more', x'00')",), 1, False),
}  # fmt: skip


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_were_changed_by_hand(whole: Path, tmp_path: Path, what: str) -> None:
    statements, first, tail = ROWS[what]
    path = copy(whole, tmp_path)
    change(path, *statements)
    found = audit(path)
    assert found.damage is not None, what
    assert (found.damage.first, found.damage.tail, found.good) == (first, tail, first - 1), found.damage
    refused(path)


def test_a_flipped_bit_in_the_database(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    place = path.read_bytes().rindex(b'"host":"web200"')
    flip(path, place + 9)
    found = audit(path)
    assert found.damage is not None
    assert (found.damage.first, found.damage.whole_after) == (200, COUNT - 200)
    assert "mirror" in found.damage.remedy
    with pytest.raises(SafetyRefusal, match="not at the end"):
        cut(path, 200, "kim", "")


def test_zeroed_pages(whole: Path, tmp_path: Path) -> None:
    pages = leaf_pages(whole)
    for index, tail in ((len(pages) // 2, False), (len(pages) - 1, True)):
        (directory := tmp_path / str(index)).mkdir()
        path = copy(whole, directory)
        with path.open("r+b") as file:
            file.seek(pages[index])
            file.write(bytes(4096))
        found = audit(path)
        assert found.damage is not None
        assert found.damage.tail is tail
        assert 0 < found.good < COUNT
        assert found.damage.first == found.good + 1
        assert found.complaints, "SQLite's own check sees it as well"
        refused(path)


def test_a_truncated_database(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    with path.open("r+b") as file:
        file.truncate(leaf_pages(whole)[-2])
    found = audit(path)
    assert found.damage is not None
    assert found.damage.tail
    assert found.damage.lost == COUNT - found.good
    refused(path)
    lost, _ = cut(path, found.good + 1, "kim", "the disk was pulled")
    assert lost == COUNT - found.good
    assert audit(path).whole


def test_a_database_of_which_nothing_is_left(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    for content in (path.read_bytes()[:5000], path.read_bytes()[:100] + bytes(5000)):
        path.write_bytes(content)
        found = audit(path)
        assert found.damage is not None
        assert (found.good, found.damage.tail) == (0, False)
        assert "nothing is left" in found.damage.remedy
        with pytest.raises(SafetyRefusal):
            cut(path, 1, "kim", "")


@pytest.mark.parametrize("how", ["truncated", "flipped", "gone"])
def test_a_log_that_has_lost_its_end(left: Path, tmp_path: Path, how: str) -> None:
    """SQLite takes what is behind a broken frame for a transaction that never was: the head knows better."""
    path = copy(left, tmp_path)
    log = path.with_name("journal.sqlite-wal")
    path.with_name("journal.sqlite-shm").unlink()
    if how == "truncated":
        with log.open("r+b") as file:
            file.truncate(log.stat().st_size - 3 * 4120)
    elif how == "flipped":
        flip(log, log.stat().st_size // 2)
    else:
        log.unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    damaged = refused(path)
    assert "written after it" in damaged.what
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    assert {name: kept[name] for name in before} == before, "what is left of it is not touched"
    found = audit(path)
    assert found.damage is not None
    assert found.damage.lost == COUNT - found.good
    if how == "gone":
        assert found.damage.first == 1
        assert not found.damage.tail, "nothing would be left"
        return
    assert found.damage.tail
    lost, _ = cut(path, damaged.seq, "kim", "")
    assert lost == COUNT - damaged.seq + 1


def test_a_copy_without_its_log_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    source = killed(tmp_path / "here" / "journal.sqlite", 50)
    change(source, "PRAGMA wal_checkpoint(TRUNCATE)")
    process_left = copy(source, tmp_path)
    with Journal.open(process_left) as journal:
        fill(journal, 51, 60)
        (tmp_path / "copy").mkdir()
        for name in ("journal.sqlite", "journal.sqlite.head"):  # as cp *.sqlite* would not, but people do
            shutil.copy(tmp_path / name, tmp_path / "copy" / name)
    assert "events 51 to 60 were written after it" in refused(tmp_path / "copy" / "journal.sqlite").what


def test_a_head_that_is_of_another_journal(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    (tmp_path / "other").mkdir()
    with Journal.create(tmp_path / "other" / "journal.sqlite", {"plan": b"name: y"}) as journal:
        journal.append([event(1)])
    shutil.copy(head_path(journal.path), head_path(path))
    damaged = refused(path)
    assert "tells of another event" in damaged.what
    assert "remove journal.sqlite.head" in damaged.problems[0].remedy
    found = audit(path)
    assert found.damage is not None
    assert not found.damage.tail
    head_path(path).unlink()
    assert audit(path).whole, "a journal without a head is checked as far as it goes"


def test_a_torn_head_is_no_word_at_all(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    head_path(path).write_bytes(b"4\0\0\0")
    assert audit(path).whole


def test_the_tail_is_cut_by_the_operators_word_and_kept(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    change(path, "UPDATE events SET body = 'torn' WHERE seq = 400")
    damaged = path.read_bytes()
    with pytest.raises(SafetyRefusal, match="begins with event 400, not 399"):
        cut(path, 399, "kim", "")
    with held(tmp_path), pytest.raises(SafetyRefusal, match="being run"):
        cut(path, 400, "kim", "")
    assert path.read_bytes() == damaged
    lost, kept = cut(path, 400, "kim", "power cut")
    assert lost == 1
    assert kept.read_bytes() == damaged
    assert kept.stat().st_mode & 0o777 == 0o600
    with Journal.open(path) as journal:
        events = list(journal.events())
        assert events[:-1] == [event(number) for number in range(1, 400)]
        last = events[-1]
        assert isinstance(last, TailCut)
        assert last == TailCut(399.0, 400, 1, last.wall, "kim", "power cut", kept.name)
        stamps = [row[2:4] for page in journal.pages() for row in page]
        assert stamps[-1] == stamps[-2], "who resumes counts the time since the run's own last event"
        journal.append([event(401)])
    assert audit(path).whole
    with Journal.open(kept, readonly=True) as journal, pytest.raises(DamagedJournal):
        list(journal.events())


def test_an_event_that_only_a_newer_bootorch_knows_is_whole_but_strange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "journal.sqlite", 20)
    with Journal.open(path) as journal:
        monkeypatch.setattr("bootorch.runtime.journal.encode", lambda _: '{"e":"future"}')
        journal.append([event(21)])
    found = audit(path)
    assert found.damage is None
    assert found.strange is not None
    assert "event 21" in found.strange.where


changes: dict[str, Callable[[list[list[object]], int, int], None]] = {
    "body": lambda rows, at, by: rows[at].__setitem__(1, _other(str(rows[at][1]), by)),
    "wall": lambda rows, at, by: rows[at].__setitem__(2, float(str(rows[at][2])) + 0.5**by),
    "boot": lambda rows, at, by: rows[at].__setitem__(3, float(str(rows[at][3])) - 1.0),
    "hash": lambda rows, at, by: rows[at].__setitem__(4, bytes([by]) * 32),
    "removed": lambda rows, at, by: rows.__delitem__(at),
    "doubled": lambda rows, at, by: rows.insert(at, list(rows[at])),
}


def _other(text: str, at: int) -> str:
    at %= len(text)
    return f"{text[:at]}{'x' if text[at] != 'x' else 'y'}{text[at + 1 :]}"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(changes)), st.integers(0, 29), st.integers(0, 20), st.booleans())
def test_any_single_change_is_found_at_its_place(what: str, at: int, by: int, renumbered: bool) -> None:
    with TemporaryDirectory(dir=MEMORY) as directory:
        path = written(Path(directory, "journal.sqlite"), 30, 30)
        database = sqlite3.connect(path)
        rows = [list(row) for row in database.execute("SELECT * FROM events ORDER BY seq")]
        changes[what](rows, at, by)
        if renumbered or what == "doubled":
            for number, row in enumerate(rows, 1):
                row[0] = number
        with database:
            database.execute("DELETE FROM events")
            database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
        database.close()
        found = audit(path)
        assert found.damage is not None
        # A doubled event is found at its second place.
        assert found.damage.first == at + 1 + (what == "doubled")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_changes_what_is_read_unnoticed(whole: Path, data: st.DataObject) -> None:
    size = whole.stat().st_size
    at, mask = data.draw(st.integers(0, size - 1)), 1 << data.draw(st.integers(0, 7))
    with TemporaryDirectory(dir=MEMORY) as directory:
        path = copy(whole, Path(directory))
        flip(path, at, mask)
        try:
            found = audit(path)
        except InvalidInput:
            return  # in the first bytes: no database, or a format that there is not
        if found.whole:  # in space that nobody uses
            with Journal.open(path, readonly=True) as journal:
                assert list(journal.events()) == [event(number) for number in range(1, COUNT + 1)]
                assert journal.meta("plan")


def test_the_body_of_every_event_is_json(whole: Path) -> None:
    with Journal.open(whole, readonly=True) as journal:
        assert all(json.loads(row[1])["v"] == 1 for page in journal.pages() for row in page)
