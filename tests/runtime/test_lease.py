"""The lease: one driver, commits that depend on it, and what a process may still do when it was away."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.errors import SafetyRefusal
from bootorch.core.events import Paused
from bootorch.runtime.journal import Journal, JournalError
from bootorch.runtime.lease import LEASE_S, RELEASED, WAITING, Fenced, Holder, Lease, driving, here, read, take
from bootorch.runtime.replica import Replica

EVENT = Paused(0.0, "kim")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path / "journal.sqlite", {})


def count(journal: Journal) -> int:
    return len(list(journal.events()))


def no_wait(who: str) -> None:
    raise AssertionError(f"nothing to wait for: {who}")


def test_whoever_was_replaced_commits_nothing_more(journal: Journal) -> None:
    first = take(journal, "kim", "", None)
    journal.append([EVENT], guard=first.renew)
    with Journal.open(journal.path) as other:
        second = take(other, "lee", "noon", read(other))
        assert second.epoch == first.epoch + 1
        with pytest.raises(Fenced, match=r"replaced: the run is driven by process \d+ \(lee on .*, since noon\)"):
            journal.append([EVENT, EVENT], guard=first.renew)
        other.append([EVENT], guard=second.renew)
        first.release(journal)  # of no effect: it is not its lease any more
        found = read(other)
        assert found is not None
        assert (found.by, found.state) == ("lee", "driving")
        assert count(other) == 2
    journal.close()


def test_of_two_that_saw_the_same_holder_one_wins(journal: Journal) -> None:
    before = read(journal)
    take(journal, "kim", "", before)
    with pytest.raises(SafetyRefusal, match="kim"):
        take(journal, "lee", "", before)
    seen = read(journal)
    take(journal, "lee", "", seen)
    with pytest.raises(SafetyRefusal, match="lee"):
        take(journal, "kim", "", seen)
    journal.close()


def test_of_many_processes_at_once_one_wins(journal: Journal) -> None:
    take(journal, "old", "", None)
    script = f"""
import sys
from pathlib import Path
from bootorch.core.errors import SafetyRefusal
from bootorch.runtime.journal import Journal, JournalError
from bootorch.runtime.lease import read, take
with Journal.open(Path({str(journal.path)!r})) as journal:
    before = read(journal)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        take(journal, "x", "", before)
    except SafetyRefusal:
        sys.exit(6)
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate()
    assert sorted(racer.returncode for racer in racers) == [0, 6, 6, 6]
    journal.close()


def test_it_lapses_with_the_boot_clock_and_only_reassuming_ends_a_lapse(journal: Journal) -> None:
    now = [1000.0]
    take(journal, "kim", "", None)
    holder = read(journal)
    assert holder is not None
    lease = Lease(journal.path, holder, clock=lambda: now[0])
    assert lease.holds()
    assert not lease.due()
    now[0] += LEASE_S - 1.0
    assert lease.holds()
    assert lease.due()
    journal.append([EVENT], guard=lease.renew)
    now[0] += LEASE_S
    assert not lease.holds()
    journal.append([EVENT], guard=lease.renew)
    assert not lease.holds(), "committed, since nobody has taken it; but what was decided before may not leave"
    now[0] += 1.0
    journal.append([EVENT], guard=lease.reassume)
    assert lease.holds()
    assert count(journal) == 3
    journal.close()


def test_a_driver_that_ended_needs_no_word(journal: Journal) -> None:
    for by in ("kim", "lee"):
        with driving(journal, by, "", take_over=False, waits=no_wait) as (lease, taken_from):
            journal.append([EVENT], guard=lease.renew)
            assert taken_from == ""
            with (
                Journal.open(journal.path) as other,
                pytest.raises(SafetyRefusal, match=by),
                driving(other, "max", "", take_over=False, waits=no_wait),
            ):
                raise AssertionError("two drivers")
        found = read(journal)
        assert found is not None
        assert found.state == RELEASED
    journal.close()


def test_of_another_machine_nothing_is_known_and_a_restarted_one_has_ended_it(journal: Journal) -> None:
    take(journal, "kim", "", None)

    def write(**fields: str) -> None:
        sets = ", ".join(f"{name} = :{name}" for name in fields)
        journal.append((), guard=lambda db: db.execute(f"UPDATE lease SET {sets}", fields) and None)

    write(host="laptop-a", machine="a", boot="1")
    with (
        pytest.raises(SafetyRefusal, match="kim on laptop-a"),
        driving(journal, "lee", "", take_over=False, waits=no_wait),
    ):
        raise AssertionError("it may still drive")
    mine = here(journal.path)
    write(host=mine.host, machine=mine.machine or "m", boot="another boot")
    if mine.machine:
        with driving(journal, "lee", "", take_over=False, waits=no_wait) as (_, taken_from):
            assert taken_from == ""
    journal.close()


HERE = Holder(0, RELEASED, "", "a", "m", "b2", 7, "70", 5, "", 0.0, 0.0)


@given(
    host=st.sampled_from("ab"),
    machine=st.sampled_from(["m", "n", ""]),
    boot=st.sampled_from(["b1", "b2", ""]),
    file=st.sampled_from([5, 6]),
    state=st.sampled_from(["driving", WAITING]),
    locked=st.booleans(),
)
def test_an_end_is_never_concluded_without_proof(
    host: str, machine: str, boot: str, file: int, state: str, locked: bool
) -> None:
    """The same file and either the kernel's word (same boot) or a restart of the very machine. A process number that is
    nobody's is proof on the same boot too, whichever file."""
    nobody = 2**22 + 1  # above the kernel's greatest (proc(5), pid_max)
    holder = replace(HERE, host=host, machine=machine, boot=boot, file=file, state=state, pid=nobody, began="1")
    ended = holder.ended(HERE, locked=locked)
    if boot == HERE.boot:
        assert ended == (locked if file == HERE.file else True)
    else:
        assert ended == (host == HERE.host and machine == "m" and boot == "b1" and file == HERE.file)
    assert replace(holder, state=RELEASED).ended(HERE, locked=locked)


def test_where_the_old_driver_hangs_in_a_commit_the_word_is_to_end_it(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can write then, not even who takes over; the row can be read, and tells which process it is."""
    lease = take(journal, "kim", "", None)
    journal.append((), guard=lambda db: db.execute("UPDATE lease SET boot = 'another', host = 'x'") and None)
    hanging = sqlite3.connect(journal.path, isolation_level=None)
    hanging.execute("BEGIN IMMEDIATE")
    journal.execute("PRAGMA busy_timeout = 100")
    with pytest.raises(JournalError) as caught, driving(journal, "lee", "", take_over=True, waits=no_wait):
        raise AssertionError("two drivers")
    assert f"kill -9 {os.getpid()}" in caught.value.problems[-1].remedy
    hanging.execute("ROLLBACK")
    hanging.close()
    journal.append([EVENT], guard=lease.renew)
    journal.close()


def test_a_copy_of_the_events_without_the_lease_needs_the_word(journal: Journal) -> None:
    journal.append([EVENT])
    with pytest.raises(SafetyRefusal, match="a copy"), driving(journal, "kim", "", take_over=False, waits=no_wait):
        raise AssertionError("it may go on elsewhere")
    journal.close()


def test_a_mirror_tells_who_drove_and_needs_the_word_elsewhere(journal: Journal, tmp_path: Path) -> None:
    lease = take(journal, "kim", "noon", None)
    elsewhere = "UPDATE lease SET boot = 'b', machine = 'm', host = 'laptop-a'"
    journal.append((), guard=lambda db: db.execute(elsewhere) and None)
    journal.append([EVENT], guard=lease.renew)
    path = tmp_path / "stick" / "run" / "journal.sqlite"
    path.parent.parent.mkdir()
    replica = Replica(journal, path.parent.parent, path)
    while replica.step():
        pass
    replica.close()
    with Journal.open(path) as copy:
        assert read(copy) == read(journal)
        with (
            pytest.raises(SafetyRefusal, match=r"kim on laptop-a, since noon"),
            driving(copy, "lee", "", take_over=False, waits=no_wait),
        ):
            raise AssertionError("it may still drive")
    journal.close()


def test_a_new_journal_has_no_lease_and_gets_one(journal: Journal) -> None:
    assert read(journal) is None
    with driving(journal, "kim", "", take_over=False, waits=no_wait) as (lease, _):
        assert lease.epoch == 1
        assert lease.before is None
    journal.close()
