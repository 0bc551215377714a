"""The journal on disks that fill up, cannot be written, lose files: said clearly, and nothing is lost that was kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootorch.core.errors import Exit, InvalidInput
from bootorch.core.events import Intent, Kind
from bootorch.runtime.audit import audit
from bootorch.runtime.journal import Journal, JournalError
from tests.runtime.disks import Disk, disk
from tests.runtime.journals import event, fill, killed, written


def test_a_full_disk_stops_it_and_freed_space_lets_it_go_on(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as small:
        path = small.path / "journal.sqlite"
        with Journal.create(path, {}) as journal:
            fill(journal, 1, 100)
            small.fill()
            with pytest.raises(JournalError, match="full") as full:
                fill(journal, 101, 20_000)
            assert full.value.exit_code is Exit.INTERRUPTED
            assert "free space" in full.value.problems[0].remedy
            kept = len(list(journal.events()))
            with pytest.raises(JournalError):
                fill(journal, kept + 1, 20_000)
        _readable_when_full(path, kept)
        small.free()
        with Journal.open(path) as journal:
            fill(journal, kept + 1, kept + 10)
        assert audit(path).whole


def _readable_when_full(path: Path, kept: int) -> None:
    with Journal.open(path, readonly=True) as journal:
        assert list(journal.events()) == [event(number) for number in range(1, kept + 1)]
    with pytest.raises(JournalError) as full, Journal.open(path) as journal:
        fill(journal, kept + 1, kept + 20_000)
    assert full.value.exit_code is Exit.INTERRUPTED


def test_a_new_journal_on_a_full_or_read_only_disk(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as small:
        small.fill()
        path = small.path / "journal.sqlite"
        with pytest.raises(JournalError, match="cannot be created"):
            Journal.create(path, {"snapshot": os.urandom(50_000)})
        assert not path.exists()
        small.free()
        Journal.create(path, {"snapshot": os.urandom(50_000)}).close()
        small.remount("ro")
        with pytest.raises(JournalError, match=r"cannot be created.*Read-only"):
            Journal.create(small.path / "other.sqlite", {})


def _lying_about(how: str, small: Disk) -> Path:
    path = small.path / "journal.sqlite"
    match how:
        case "closed":
            written(path, 50)
        case "killed":
            killed(path, 50)
        case "killed, and the index of its log is gone":
            killed(path, 50)
            path.with_name("journal.sqlite-shm").unlink()
    return path


@pytest.mark.parametrize("how", ["closed", "killed", "killed, and the index of its log is gone"])
def test_a_read_only_medium_can_be_read_and_not_gone_on_with(tmp_path: Path, how: str) -> None:
    with disk(tmp_path / "disk") as small:
        path = _lying_about(how, small)
        small.remount("ro")
        before = {file.name: file.read_bytes() for file in small.path.iterdir()}
        assert audit(path).whole
        with Journal.open(path, readonly=True) as journal:
            assert list(journal.events()) == [event(number) for number in range(1, 51)]
            assert journal.meta("plan")
        with pytest.raises(JournalError) as refused, Journal.open(path) as journal:
            fill(journal, 51, 60)
        assert refused.value.exit_code is Exit.INTERRUPTED
        assert "read-only" in str(refused.value).lower()
        assert {file.name: file.read_bytes() for file in small.path.iterdir()} == before
        small.remount("rw")
        with Journal.open(path) as journal:
            fill(journal, 51, 60)
        assert audit(path).good == 60


@pytest.mark.parametrize(
    "how", ["removed", "removed with its log", "replaced", "its log removed", "its directory moved"]
)
def test_a_journal_that_is_taken_away_under_way_is_noticed_and_saved(tmp_path: Path, how: str) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "journal.sqlite"
    log = path.with_name("journal.sqlite-wal")
    put_back = True
    with Journal.create(path, {"plan": b"name: x"}) as journal:
        fill(journal, 1, 50)
        match how:
            case "removed":
                path.unlink()
            case "removed with its log":
                path.unlink()
                log.unlink()
            case "replaced":
                put_back = False
                other = tmp_path / "other"
                other.write_bytes(b"something else")
                other.replace(path)
            case "its log removed":
                log.unlink()
            case "its directory moved":
                put_back = False
                (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(JournalError, match="removed or replaced under way") as noticed:
            fill(journal, 51, 60)
    saved = path.with_name("journal.saved-1.sqlite")
    remedy = noticed.value.problems[0].remedy
    if put_back:
        assert remedy == f"it was put back: bootorch resume {path.parent}"
    else:
        assert str(saved) in remedy
        saved.replace(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with Journal.open(path) as journal:
        fill(journal, 61, 70)
        assert list(journal.events()) == [event(number) for number in range(1, 71)]
    assert audit(path).whole


def test_an_effect_that_is_not_journalled_needs_the_journal_as_well(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as journal:
        fill(journal, 1, 10)
        journal.append([Intent(11.0, 11, Kind.POWER_READ, "web1", durable=False)])
        path.unlink()
        with pytest.raises(JournalError, match="removed or replaced"):
            journal.append([Intent(12.0, 12, Kind.POWER_READ, "web1", durable=False)])


def test_the_log_of_a_journal_that_is_gone_is_not_taken_for_a_new_ones(tmp_path: Path) -> None:
    path = killed(tmp_path / "journal.sqlite", 50)
    path.unlink()
    with Journal.create(path, {}) as journal:
        fill(journal, 1, 5)
    assert audit(path).good == 5


def test_two_who_go_on_with_one_journal_do_not_mix(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.sqlite", 10)
    with Journal.open(path) as old, Journal.open(path) as new:
        fill(old, 11, 20)
        fill(new, 21, 30)
        with pytest.raises(JournalError, match="another process has gone on"):
            fill(old, 31, 40)
        assert len(list(new.events())) == 30
    assert audit(path).whole


def test_a_reader_leaves_a_live_journal_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, {}) as journal:
        fill(journal, 1, 50)
        before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
        assert audit(path).whole
        with Journal.open(path, readonly=True) as reader:
            events = reader.events()
            next(events)  # a reader that stops in the middle
            fill(journal, 51, 100)
            journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert path.with_name("journal.sqlite-wal").stat().st_size == 0, "no reader holds the log"
        assert {file.name: file.stat().st_ino for file in tmp_path.iterdir()} == before
        fill(journal, 101, 110)


def test_what_a_crash_left_while_it_was_made_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.with_name("journal.sqlite.part").write_bytes(b"half")
    with pytest.raises(InvalidInput, match="there is no journal"):
        Journal.open(path)
    written(path, 10)
    assert audit(path).whole
    assert not path.with_name("journal.sqlite.part").exists()
