"""Who drives a run: a lease in its journal, so that a run has one driver, and one that was replaced finds out.

The row has an *epoch*. Every commit of the driver is conditional on it (``Lease.renew``, inside the transaction of
``Journal.append``), and prolongs the lease. So once somebody else has raised the epoch, the old driver commits nothing
more, and nothing leaves that was not committed. What was committed before is stopped by time: a driver that could not
commit for ``LEASE_S`` does not hold the lease any more (``Lease.holds``), and whatever leaves the process asks that
first: effects in the executor, every datagram, every beat that keeps a playbook alive. Time is the boot clock, which
goes on while the machine is suspended and while the process is stopped.

Taking over waits ``LEASE_S + MARGIN_S`` after it has raised the epoch, unless the old driver has provably ended: then
nothing of it is under way any more. A BMC knows of no epochs, so what remains is a process that is stopped between its
last look at the clock and the packet, a few microseconds later; every state is read before it is acted upon.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bootorch.core.errors import Exit, OperatorError, Problem, SafetyRefusal
from bootorch.runtime.awake import Clock, boot_clock
from bootorch.runtime.journal import Journal, JournalError, machine_boot_id
from bootorch.runtime.rundir import held, held_instead

LEASE_S = 15.0  # a disk that needs longer for a commit is no place for a journal
BEAT_S = 3.0  # a driver that has nothing to commit prolongs its lease so often
MARGIN_S = 5.0  # playbooks die within seconds of the lease, and slow BMCs act seconds after a command
_POLL_S = 0.2
_WITHOUT_LEASES = 1  # the format of journals of bootorchs that knew none

DRIVING, WAITING, RELEASED = "driving", "waiting", "released"
_TABLE = """
CREATE TABLE IF NOT EXISTS lease (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, state TEXT NOT NULL, by TEXT NOT NULL,
    host TEXT NOT NULL, machine TEXT NOT NULL, boot TEXT NOT NULL, pid INTEGER NOT NULL, began TEXT NOT NULL,
    file INTEGER NOT NULL, since TEXT NOT NULL, boot_s REAL NOT NULL, wall_s REAL NOT NULL)
"""


class Fenced(OperatorError):
    """Another process drives the run now. This one stops; the run goes on without it (exit 5)."""

    exit_code = Exit.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Holder:
    """The row: the latest driver of a run. ``boot_s`` and ``wall_s``: its latest sign of life, by both clocks."""

    epoch: int
    state: str  # DRIVING, WAITING (it has taken over, and lets what was under way end) or RELEASED
    by: str
    host: str  # host name
    machine: str  # /etc/machine-id
    boot: str  # boot id of the machine
    pid: int
    began: str  # when that process began, in ticks since boot: a number that was taken over by another is told apart
    file: int  # inode of the journal: a copy has another one, and its lease is news of long ago
    since: str  # ISO 8601
    boot_s: float
    wall_s: float

    def __str__(self) -> str:
        return f"process {self.pid} ({self.by} on {self.host}, since {self.since})"

    def ended(self, here: Holder, *, locked: bool) -> bool:
        """Whether that driver has provably ended, as seen by a process that would be ``here``. ``locked``: that process
        holds the lock of the run's directory, which the kernel takes back from a process only when it ends."""
        if self.state == RELEASED:
            return True
        if self.boot and self.boot == here.boot:
            return locked if self.file == here.file else _began(self.pid) != self.began
        # Another boot of the same machine. Machines that were cloned from one image differ by their names.
        same_machine = self.machine != "" and (self.machine, self.host) == (here.machine, here.host)
        return same_machine and self.file == here.file and "" not in (self.boot, here.boot)


_ROW = (
    f"INTO lease (one, {', '.join(Holder.__slots__)}) VALUES (1, {', '.join(f':{name}' for name in Holder.__slots__)})"
)


class Lease:
    """Held by this process, since ``take``. ``holds`` is asked from the hottest paths: it costs one look at a clock.

    ``before``: who held it last."""

    def __init__(self, path: Path, holder: Holder, before: Holder | None = None, clock: Clock = boot_clock) -> None:
        self.before = before
        self._path = path
        self._holder = holder
        self._clock = clock
        self._until_s = clock() + LEASE_S
        self._lapsed = False

    @property
    def epoch(self) -> int:
        return self._holder.epoch

    def holds(self) -> bool:
        """May anything leave this process? Not after a lapse either, until ``reassume``: what was decided before it was
        decided about another world."""
        return not self._lapsed and self._clock() < self._until_s

    def due(self) -> bool:
        """Prolong it now, even if there is nothing else to commit."""
        return self._clock() >= self._until_s - LEASE_S + BEAT_S

    def renew(self, db: sqlite3.Connection) -> None:
        """Prolong it, in the transaction in which events are committed. Raises Fenced where another process holds it:
        nothing is committed then."""
        lapsed = self._clock() >= self._until_s
        self._beat(db)
        # Nobody has taken the run meanwhile, but somebody could have: what was decided before may not leave.
        self._lapsed = self._lapsed or lapsed

    def reassume(self, db: sqlite3.Connection) -> None:
        """As ``renew``, after a lapse, when nothing of what was decided before is under way any more."""
        self._beat(db)
        self._lapsed = False

    def _beat(self, db: sqlite3.Connection) -> None:
        now_s = self._clock()
        done = db.execute(
            "UPDATE lease SET boot_s = ?, wall_s = ? WHERE epoch = ?", (now_s, time.time(), self._holder.epoch)
        )
        if done.rowcount != 1:
            raise self._fenced(db)
        self._until_s = now_s + LEASE_S

    def release(self, journal: Journal) -> None:
        """Whoever comes next needs neither word nor wait."""

        def give(db: sqlite3.Connection) -> None:
            db.execute("UPDATE lease SET state = ? WHERE epoch = ?", (RELEASED, self._holder.epoch))

        journal.append((), guard=give)
        self._until_s = self._clock()

    def settle(self, journal: Journal, ended: Callable[[], bool]) -> None:
        """After a takeover: wait until nothing of the old driver can be under way. ``ended``: it has provably ended."""
        quiet_s = self._clock() + LEASE_S + MARGIN_S
        while self._clock() < quiet_s and not ended():
            time.sleep(_POLL_S)
            if self.due():
                journal.append((), guard=self.renew)

        def drive(db: sqlite3.Connection) -> None:
            self.reassume(db)
            db.execute("UPDATE lease SET state = ? WHERE epoch = ?", (DRIVING, self._holder.epoch))

        journal.append((), guard=drive)

    def _fenced(self, db: sqlite3.Connection) -> Fenced:
        now = _read(db.execute)
        who = "another process" if now is None else str(now)
        message = f"this process was replaced: the run is driven by {who}; nothing more was sent from here"
        remedy = f"bootorch status {self._path.parent} shows how it goes on"
        return Fenced(Problem(message, str(self._path), remedy))


def take(journal: Journal, by: str, since: str, before: Holder | None, *, wait: bool = False) -> Lease:
    """Hold the lease of ``journal``, if its row still says ``before``. ``wait``: ``settle`` comes next.

    Raises SafetyRefusal where somebody else was faster.
    """
    holder = replace(
        here(journal.path),
        epoch=1 if before is None else before.epoch + 1,
        by=by,
        since=since,
        state=WAITING if wait else DRIVING,
    )

    def swap(db: sqlite3.Connection) -> None:
        db.execute(_TABLE)
        if before is None:
            done = db.execute(f"INSERT OR IGNORE {_ROW}", _row(holder))
        else:
            sets = ", ".join(f"{name} = :{name}" for name in Holder.__slots__)
            done = db.execute(f"UPDATE lease SET {sets} WHERE epoch = :before", _row(holder) | {"before": before.epoch})  # noqa: S608
        if done.rowcount != 1:
            raise refused(_read(db.execute), journal.path.parent)

    journal.append((), guard=swap)
    return Lease(journal.path, holder, before)


@contextmanager
def driving(
    journal: Journal, by: str, since: str, *, take_over: bool, waits: Callable[[str], None]
) -> Iterator[tuple[Lease, str]]:
    """Drive a run: hold its lock and its lease until the end of the block. Gives the lease, and whom it was taken from
    (empty: from nobody who could still be there).

    ``take_over``: the operator's word, needed where the old driver has not provably ended; ``waits`` is called before
    such a takeover waits for what may be under way. Raises SafetyRefusal without that word.
    """
    directory = journal.path.parent
    before = read(journal)
    # A journal without a lease is a new one, or of a bootorch that knew none. Or it is a copy of its events.
    copied = before is None and journal.format > _WITHOUT_LEASES and journal.last_event() is not None
    with ExitStack() as stack:
        try:
            stack.enter_context(held(directory))
            locked = True
        except SafetyRefusal:
            if before is None:
                raise  # nothing that could be taken from it
            if not take_over:
                raise refused(before, directory) from None
            locked = False
        proven = not copied if before is None else before.ended(here(journal.path), locked=locked)
        if not proven and not take_over:
            raise refused(before, directory)
        # Who was killed while it waited has proven nothing of the one before.
        wait = not proven or (before is not None and before.state == WAITING)
        try:
            lease = take(journal, by, since, before, wait=wait)
        except JournalError as error:
            if proven or before is None:
                raise
            remedy = f"end it (kill -9 {before.pid}), then bootorch resume {directory}"
            raise JournalError([*error.problems, Problem(f"it may be {before}", str(directory), remedy)]) from error
        ended = _never if locked else stack.enter_context(held_instead(directory))
        try:
            if wait:
                waits(_named(before))
                lease.settle(journal, ended)
            yield lease, "" if proven else _named(before)
        finally:
            with suppress(JournalError):  # a broken disk: whoever comes next finds the lock free
                lease.release(journal)


def _never() -> bool:
    return False


def write(db: sqlite3.Connection, holder: Holder) -> None:
    """Write the row as it was into another journal: one that was made anew, or a copy."""
    db.execute(_TABLE)
    db.execute(f"INSERT OR REPLACE {_ROW}", _row(holder))


def _row(holder: Holder) -> dict[str, object]:
    return {name: getattr(holder, name) for name in Holder.__slots__}


def read(journal: Journal) -> Holder | None:
    """Who drives the run, or was the last to. None: nobody ever did, or a bootorch that knew no leases."""
    return _read(journal.execute)


def _read(execute: Callable[[str], sqlite3.Cursor]) -> Holder | None:
    if execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'lease'").fetchone() is None:
        return None
    row = execute(f"SELECT {', '.join(Holder.__slots__)} FROM lease").fetchone()  # noqa: S608 - names of ours
    return None if row is None else Holder(*row)


def here(journal: Path) -> Holder:
    """This process, as a holder of the lease of ``journal`` would be written."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = ""  # not Linux, or a bare container: then a restart is not told from another machine
    pid = os.getpid()
    return Holder(
        0, RELEASED, "", socket.gethostname(), machine, machine_boot_id(), pid, _began(pid), journal.stat().st_ino,
        "", boot_clock(), time.time(),
    )  # fmt: skip


def _began(pid: int) -> str:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); empty: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # the name before it may hold anything


def refused(holder: Holder | None, directory: Path) -> SafetyRefusal:
    """What to say to a second driver that has not said --take-over."""
    if holder is None:
        message = f"the journal is a copy, and whether run {directory.name} goes on elsewhere cannot be told"
    else:
        message = f"run {directory.name} is being run by {holder}"
    remedy = (
        "bootorch status shows it, bootorch pause stops it; where it hangs, or its machine is gone: "
        f"bootorch resume {directory} --take-over --why WHY"
    )
    return SafetyRefusal(Problem(f"{message}; nothing was sent", str(directory), remedy))


def _named(holder: Holder | None) -> str:
    return "whoever ran it before" if holder is None else str(holder)
