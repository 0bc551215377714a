"""The copy of a journal on another disk: a prefix of it at every moment, whatever becomes of the disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, SafetyRefusal
from bootorch.core.events import Event, MirrorBack, MirrorLost, Paused
from bootorch.runtime import standing
from bootorch.runtime.audit import audit
from bootorch.runtime.journal import Journal
from bootorch.runtime.mirror import Mirror
from bootorch.runtime.replica import STEP, Gone, Parted, Replica
from bootorch.runtime.rundir import held
from tests.runtime.disks import disk, stick
from tests.runtime.journals import META, event, fill, written

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of syncs of a real disk show nothing more


def rows(path: Path) -> list[object]:
    with Journal.open(path, readonly=True) as journal:
        return [row for page in journal.checked() for row in page]


def check(copy: Path, source: Path) -> int:
    """A beginning of the journal, whole, and able to be resumed elsewhere. Returns how much it has."""
    found = audit(copy)
    assert found.whole, found
    copied = rows(copy)
    assert copied == rows(source)[: len(copied)]
    assert len(copied) >= found.good
    with Journal.open(copy, readonly=True) as journal:
        assert journal.meta("snapshot") == META["snapshot"]
    return found.good


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 30)),
        st.tuples(st.sampled_from(["step", "step", "reopen", "locked", "taken away"]), st.just(0)),
    ),
    max_size=15,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_it_is_a_prefix_whatever_happens_in_between(things: list[tuple[str, int]]) -> None:
    with TemporaryDirectory(dir=MEMORY) as directory:
        source, disk_ = Path(directory, "journal.sqlite"), Path(directory, "disk")
        disk_.mkdir()
        copy = disk_ / "run" / "journal.sqlite"
        with Journal.create(source, META) as journal, Journal.open(source, readonly=True) as reader:
            fill(journal, 1, 1)
            replica, count = Replica(reader, disk_, copy), 1
            for what, number in things:
                match what:
                    case "append":
                        fill(journal, count + 1, count + number, 7)
                        count += number
                    case "step":
                        replica.step()
                    case "reopen":
                        replica.close()
                        replica = Replica(reader, disk_, copy)
                    case "taken away":
                        replica.close()
                        copy.unlink(missing_ok=True)
                    case "locked" if copy.exists():
                        with pytest.MonkeyPatch.context() as patch:
                            patch.setattr("bootorch.runtime.replica.BUSY_MS", 1)
                            patch.setattr("bootorch.runtime.journalfile.BUSY_MS", 1)
                            locked_out(replica, copy, journal.last_seq)
                if copy.exists():
                    check(copy, source)
            while replica.step():
                pass
            replica.close()
            assert check(copy, source) == count


def locked_out(replica: Replica, copy: Path, last: int) -> None:
    """A reader that does not let go: nothing is copied, and nothing is lost."""
    replica.close()
    reader = sqlite3.connect(copy)
    reader.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Gone, match="holds it"):
        replica.step()
    reader.rollback()
    reader.close()
    assert replica.copied <= last


def _mirrored_until_killed(source: Path, disk_: Path, told: int) -> None:
    try:
        with Journal.create(source, META) as journal, Mirror(journal, disk_):
            fill(journal, 1, 1)
            os.write(told, b"1")
            for number in range(2, 1_000_000, 10):
                fill(journal, number, number + 9)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def test_kill_9_in_the_middle_of_copying_leaves_a_whole_prefix(tmp_path: Path) -> None:
    moments, seen = random.Random(5), set()
    for turn in range(12):
        run, disk_ = tmp_path / f"run-{turn}", tmp_path / f"disk-{turn}"
        run.mkdir()
        disk_.mkdir()
        copy = disk_ / run.name / "journal.sqlite"
        read, write = os.pipe()
        process = os.fork()
        if process == 0:
            _mirrored_until_killed(run / "journal.sqlite", disk_, write)
        os.close(write)
        os.read(read, 1)
        while not copy.exists():
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.4))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(read)
        seen.add(check(copy, run / "journal.sqlite"))
        with Journal.open(copy) as taken:  # the other laptop goes on
            fill(taken, taken.last_seq + 1, taken.last_seq + 10)
        assert audit(copy).whole
    assert len(seen) > 3, "killed at the same moment every time shows little"


@contextmanager
def mirrored(tmp_path: Path, disk_: Path) -> Iterator[tuple[Journal, Mirror, Path, Callable[[], list[Event]]]]:
    """A journal with its mirror, and what the run would be told since the last call."""
    (tmp_path / "run").mkdir()
    with Journal.create(tmp_path / "run" / "journal.sqlite", META) as journal:
        fill(journal, 1, 10)
        with Mirror(journal, disk_) as mirror:
            yield journal, mirror, disk_ / "run" / "journal.sqlite", lambda: list(mirror.news(1.0))


def until(news: Callable[[], list[Event]], kind: type[Event]) -> list[Event]:
    """What the run is told up to the first event of ``kind``."""
    told: list[Event] = []
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        told += news()
        if any(isinstance(event, kind) for event in told):
            return told
        time.sleep(0.02)
    raise AssertionError(f"never told of {kind.__name__}")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootorch.runtime.mirror.AGAIN_S", 0.05)


def test_it_follows_the_run_and_is_complete_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with mirrored(tmp_path, tmp_path / "disk") as (journal, mirror, copy, news):
        fill(journal, 11, 1000, 100)
        for first in range(1001, 3001, 500):
            fill(journal, first, first + 499, 50)
            if copy.exists():
                check(copy, journal.path)  # while it is written
    assert mirror.lag().words() == f"{copy} has all 3,000 events"
    assert news() == []
    assert check(copy, journal.path) == 3000
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert copy.stat().st_mode & 0o777 == 0o600


def test_the_status_comes_along_with_what_it_stands_for(tmp_path: Path) -> None:
    disk_ = tmp_path / "disk"
    disk_.mkdir()
    copy = disk_ / "run" / "journal.sqlite"

    def status(number: int) -> str:
        return json.dumps({"schema": standing.SCHEMA, "of": number})

    with Journal.create(tmp_path / "journal.sqlite", META) as journal:
        journal.append([event(number) for number in range(1, 11)], status=status(10))
        with Journal.open(journal.path, readonly=True) as reader:
            replica = Replica(reader, disk_, copy)
            while replica.step():
                pass
            fill(journal, 11, 20)
            journal.append([event(number) for number in range(21, 21 + STEP)], status=status(20 + STEP))
            assert replica.step(), "a part of it"
            with Journal.open(copy, readonly=True) as read:
                kept = read.kept()
                assert kept is not None
                assert (kept.document["of"], kept.event, kept.events) == (10, 10, 10 + STEP)
            while replica.step():
                pass
            replica.close()
    with Journal.open(copy, readonly=True) as read:
        kept = read.kept()
        assert kept is not None
        assert (kept.document["of"], kept.event, kept.events) == (20 + STEP, 20 + STEP, 20 + STEP)


def test_a_full_disk_is_said_once_and_it_catches_up(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as small, mirrored(tmp_path, small.path) as (journal, mirror, copy, news):
        while not copy.exists():
            time.sleep(0.01)
        small.fill()
        fill(journal, 11, 3000, 100)
        told = until(news, MirrorLost)
        assert "full" in told[0].why  # type: ignore[union-attr]
        assert "lacks the last" in mirror.lag().words()
        time.sleep(0.2)
        assert news() == [], "once is enough"
        check(copy, journal.path)
        small.free()
        assert len(until(news, MirrorBack)) == 1
        fill(journal, 3001, 3010)
        mirror.finish()
        assert check(copy, journal.path) == 3010


def test_a_stick_that_is_pulled_and_put_back(tmp_path: Path) -> None:
    with stick(tmp_path / "disk") as usb, mirrored(tmp_path, usb.path) as (journal, mirror, copy, news):
        while not copy.exists():
            time.sleep(0.01)
        usb.pull()
        fill(journal, 11, 500, 100)
        until(news, MirrorLost)
        assert list(usb.path.iterdir()) == [], "nothing is written where the stick was"
        assert "not mounted any more" in mirror.lag().words()
        usb.plug()
        until(news, MirrorBack)
        mirror.finish()
        assert check(copy, journal.path) == 500


def test_a_stick_that_comes_back_under_another_number(tmp_path: Path) -> None:
    with stick(tmp_path / "disk") as usb, mirrored(tmp_path, usb.path) as (journal, mirror, copy, news):
        while not copy.exists():
            time.sleep(0.01)
        usb.pull()
        fill(journal, 11, 500, 100)
        until(news, MirrorLost)
        with disk(tmp_path / "same-inside") as again:
            shutil.copytree(usb.inside.path, again.path, dirs_exist_ok=True)
            usb.inside = again
            usb.plug()
            until(news, MirrorBack)
            mirror.finish()
            assert check(copy, journal.path) == 500
            usb.pull()


def test_a_slow_disk_is_said_when_it_is_far_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootorch.runtime.mirror.LATE_S", 0.2)
    (tmp_path / "disk").mkdir()
    with mirrored(tmp_path, tmp_path / "disk") as (journal, mirror, copy, news):
        while mirror.lag().behind:
            time.sleep(0.01)
        busy = sqlite3.connect(copy)
        busy.execute("BEGIN EXCLUSIVE")  # a write that takes its time
        fill(journal, 11, 20)
        told = until(news, MirrorLost)
        assert "behind" in told[0].why  # type: ignore[union-attr]
        busy.rollback()
        busy.close()
        until(news, MirrorBack)
        assert mirror.finish().behind == 0


def test_a_copy_that_another_laptop_has_gone_on_with_pauses_the_run(tmp_path: Path) -> None:
    with stick(tmp_path / "disk") as usb, mirrored(tmp_path, usb.path) as (journal, mirror, copy, news):
        while mirror.lag().behind:
            time.sleep(0.01)
        usb.pull()
        fill(journal, 11, 20)
        until(news, MirrorLost)
        with Journal.open(usb.inside.path / "run" / "journal.sqlite") as elsewhere:
            fill(elsewhere, 11, 40)
        usb.plug()
        give_up = time.monotonic() + 60
        while "gone on" not in mirror.lag().why and time.monotonic() < give_up:
            time.sleep(0.02)
        told = news()
        assert any(isinstance(event, Paused) for event in told), told
        assert audit(copy).good == 40, "and it is left alone"
        with Journal.open(journal.path) as again, pytest.raises(SafetyRefusal, match="gone on"):
            Mirror(again, usb.path)


def test_what_is_no_copy_of_this_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    other = tmp_path / "disk" / "run" / "journal.sqlite"
    with Journal.create(other, {"plan": b"name: other"}) as foreign:
        fill(foreign, 1, 5)
    before = other.read_bytes()
    with Journal.open(written(tmp_path / "run" / "journal.sqlite", 10)) as journal:
        with pytest.raises(SafetyRefusal, match="is of another run"):
            Mirror(journal, tmp_path / "disk")
        with pytest.raises(InvalidInput, match="no such directory"):
            Mirror(journal, tmp_path / "not-there")
        with pytest.raises(InvalidInput, match="the journal itself"):
            Mirror(journal, tmp_path)
    assert other.read_bytes() == before


def test_a_copy_that_a_process_runs_is_not_written(tmp_path: Path) -> None:
    source = written(tmp_path / "journal.sqlite", 30)
    (tmp_path / "disk").mkdir()
    copy = tmp_path / "disk" / "run" / "journal.sqlite"
    with Journal.open(source, readonly=True) as reader:
        replica = Replica(reader, tmp_path / "disk", copy)
        while replica.step():
            pass
        replica.close()
        with held(copy.parent), pytest.raises(Parted, match="another process runs"):
            replica.step()
