"""The journal of a run: one SQLite file that holds everything needed to go on, on this laptop or another.

Tables: ``meta`` (plan text, inventory snapshot, versions; never changed), ``events`` (append-only, see ``core.events``,
chained by hashes, see ``chain``), ``commands`` (words of other processes to the running one: pause, gate, change),
``taken`` (what the running one said to each of them, in the same transaction as the events that came of it). WAL mode
with full sync: when ``append`` returns, what it was given survives a power cut (sqlite.org/wal.html,
"synchronous=FULL"). One append is one transaction, however many events it holds.

Format 1 had no hashes. It is read as it is, and the first append makes it format 2, in the same transaction; an older
bootorch then refuses it, as this one refuses what is newer.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bootorch.core.codec import EventError, decode, encode
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import Event, Kind
from bootorch.runtime import standing
from bootorch.runtime.chain import Head, HeadFile, Row, follow, genesis, head_path, link
from bootorch.runtime.journalfile import (
    FORMAT,
    INSERT,
    TAKEN,
    DamagedJournal,
    JournalError,
    StrangeHead,
    code,
    connect,
    connect_to_read,
    make,
    pack,
    take_place,
    trouble,
    unpack,
)

__all__ = ["DamagedJournal", "Journal", "JournalError", "Moment", "machine_boot_id"]

PAGE = 500  # events read in one transaction: more fall out of the processor's caches before they are decoded
_AGAIN = "free space or repair the disk, then bootorch resume; nothing was sent without a record"


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was written: wall clock and time since the machine's boot, suspend included (seconds)."""

    wall_s: float
    boot_s: float

    @staticmethod
    def now() -> Moment:
        return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def machine_boot_id() -> str:
    """Which boot of the operator's machine this is: within one, the boot clock tells how long bootorch was away."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""  # not Linux: the wall clock has to do


class Journal:
    """One open journal. Use as a context manager."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, copies: TemporaryDirectory[str] | None = None
    ) -> None:
        self._db = connection
        self.path = path
        self._copies = copies  # where what is read is a private copy
        self._command_seen = 0
        self._data_version = -1
        self._tail: Head | None = None  # of the last event, once this process appends
        self._head: HeadFile | None = None
        self._files: tuple[tuple[int, int], ...] = ()  # which files these names were when this process opened them

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, bytes]) -> Journal:
        """A new journal; the file must not exist."""
        if path.exists():
            raise InvalidInput(Problem("a journal is there already", str(path), "resume it"))
        try:
            make(path, {key: pack(value) for key, value in meta.items()})
            return cls._to_write(path)
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            remedy = "give a directory on a healthy disk"
            raise JournalError(Problem(f"the journal cannot be created: {reason}", str(path), remedy)) from error

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Journal:
        """Raises InvalidInput (no journal, a newer one, a damaged end) or JournalError (a disk that does not work).

        The end is looked at before anything is opened for writing: SQLite tidies up what a crash has left, and what
        it drops then is gone.
        """
        if not path.is_file():
            raise InvalidInput(Problem("there is no journal", str(path), "bootorch run PLAN makes one"))
        try:
            journal = cls(*_reading(path))
            journal.check_format()
            if readonly:
                return journal
            try:
                journal.check_end()
            finally:
                journal.close()
            journal = cls._to_write(path)
            if journal.format < FORMAT:
                with journal._db:
                    journal._db.execute(TAKEN)
            return journal
        except (OSError, sqlite3.Error) as error:
            raise trouble(error, path, _AGAIN) from error

    @classmethod
    def _to_write(cls, path: Path) -> Journal:
        journal = cls(connect(path), path)
        journal._files = journal._identity()
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        if self._head is not None:
            self._head.close()
            self._head = None
        if self._copies is not None:
            self._copies.cleanup()

    @property
    def format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def check_format(self) -> None:
        """Raises InvalidInput where this bootorch cannot read it; the journal is closed then."""
        found = self.format
        if found == 0 or found > FORMAT:
            self.close()
            message = f"the journal has format {found}, this bootorch reads up to {FORMAT}"
            raise InvalidInput(Problem(message, str(self.path), "use the bootorch that wrote it, or a newer one"))

    def execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """For those who look at the file itself. Raises sqlite3.Error."""
        return self._db.execute(query, values)

    # -- what was planned -----------------------------------------------------

    def meta(self, key: str) -> bytes:
        try:
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return unpack(row[0])
        except (sqlite3.DatabaseError, zlib.error, TypeError) as error:
            raise DamagedJournal(1, f"its {key} cannot be read: {error}", self.path) from error
        raise InvalidInput(Problem(f"the journal lacks its {key}", str(self.path), "it was not written to its end"))

    def has_meta(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM meta WHERE key = ?", (key,)).fetchone() is not None

    def packed_meta(self) -> dict[str, bytes]:
        """All of it as it is kept: what a copy begins with."""
        return dict(self._db.execute("SELECT key, value FROM meta ORDER BY key"))

    # -- events -----------------------------------------------------------------

    def append(
        self,
        events: Iterable[Event],
        at: Moment | None = None,
        taken: Mapping[int, Mapping[str, str]] | None = None,
        guard: Callable[[sqlite3.Connection], None] | None = None,
        status: str | None = None,
    ) -> None:
        """Durable when this returns. Events that are not durable by their own word are left out.

        ``taken``: what is said to the commands (by their numbers) that were heard, committed with the events.
        ``guard`` comes first in the same transaction, even if nothing else is in it: what it raises undoes all.
        ``status``: where the run stands after them (``runtime.standing``), committed with them too.
        Raises JournalError: nothing was kept, or what was kept is in a file that nobody will find again.
        """
        moment = at if at is not None else Moment.now()
        bodies = [encode(event) for event in events if getattr(event, "durable", True)]
        marks = [(ident, json.dumps(body, ensure_ascii=False)) for ident, body in (taken or {}).items()]
        if not bodies and not marks and status is None and guard is None:
            self._check_place()  # what is not journalled leaves no more than the rest where there is no journal
            return
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                if guard is not None:
                    guard(self._db)
                tail = self._tail or self._prepare()
                seq, before, (wall_s, boot_s) = tail.seq, tail.hash, (moment.wall_s, moment.boot_s)
                rows = []
                for seq, body in enumerate(bodies, tail.seq + 1):
                    before = link(before, body, wall_s, boot_s)
                    rows.append((seq, body, wall_s, boot_s, before))
                self._db.executemany(INSERT, rows)
                self._db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?)", marks)
                if status is not None:
                    standing.put(self._db, status, moment.wall_s)
            self._tail = Head(seq, before)
            self._witness()
        except sqlite3.IntegrityError as error:
            message = "another process has gone on with this journal; nothing more was sent"
            raise JournalError(Problem(message, str(self.path), "bootorch status shows it")) from error
        except (OSError, sqlite3.Error) as error:
            raise trouble(error, self.path, _AGAIN) from error

    def _prepare(self) -> Head:
        """Within the first transaction: an older format is brought up to this one, and the end is found."""
        if self.format < FORMAT:
            self._add_hashes()
        if self._head is None:
            self._head = HeadFile(head_path(self.path))
        return self.tail()

    def _add_hashes(self) -> None:
        self._db.execute("ALTER TABLE events ADD COLUMN hash BLOB NOT NULL DEFAULT x''")
        before = genesis(self.packed_meta().items())
        hashes = []
        for seq, body, wall_s, boot_s in self._db.execute("SELECT seq, body, wall_s, boot_s FROM events ORDER BY seq"):
            before = link(before, body, wall_s, boot_s)
            hashes.append((before, seq))
        self._db.executemany("UPDATE events SET hash = ? WHERE seq = ?", hashes)
        self._db.execute(f"PRAGMA user_version={FORMAT}")

    def _identity(self) -> tuple[tuple[int, int], ...]:
        """Which files the journal and its log are. Raises OSError where one is gone."""
        found = []
        for name in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            status = os.stat(name)  # noqa: PTH116  (for every commit)
            found.append((status.st_dev, status.st_ino))
        return tuple(found)

    def _witness(self) -> None:
        """After a commit: what was written is where the next process will look for it, and the head says so."""
        self._check_place()
        assert self._head is not None, "the first append opens it"
        assert self._tail is not None, "an append was committed"
        self._head.write(self._tail)

    def _check_place(self) -> None:
        try:
            same = self._identity() == self._files
        except FileNotFoundError:
            same = False
        if not same:
            message = "the journal was removed or replaced under way; nothing was sent without a record"
            raise JournalError(Problem(message, str(self.path), self._rescue()))

    def _rescue(self) -> str:
        """This process still holds the files that have lost their names: written out, and put back where nobody has put
        another one. Returns the remedy."""
        number = next(n for n in range(1, 1_000) if not saved_path(self.path, n).exists())
        saved = saved_path(self.path, number)
        try:
            at_home = self.path.parent.exists()
            saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db.execute("VACUUM INTO ?", (str(saved),))
            saved.chmod(0o600)
            if at_home and not self._is_another():
                take_place(saved, self.path)
                return f"it was put back: bootorch resume {self.path.parent}"
        except (OSError, sqlite3.Error) as error:
            return f"it could not be saved ({error}): resume from a mirror or a copy"
        return f"everything was saved as {saved}: put it in its place, then bootorch resume {self.path.parent}"

    def _is_another(self) -> bool:
        """Does its name belong to another file now?"""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) != self._files[0]

    @property
    def last_seq(self) -> int:
        """Number of the last event, without a look at the file where this process appends."""
        return (self._tail or self.tail()).seq

    def tail(self) -> Head:
        """Number and hash of the last event."""
        row = self._db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(0, genesis(self.packed_meta().items())) if row is None else Head(*row)

    def pages(self, after: int = 0, size: int = PAGE) -> Iterator[list[Row]]:
        """Events after number ``after`` as they are kept, unchecked, each page in a short transaction of its own: a
        reader that holds one open would keep the log from being reused.

        Raises sqlite3.Error. The hashes of format 1 are empty.
        """
        what = "hash" if self.format > 1 else "x''"
        query = f"SELECT seq, body, wall_s, boot_s, {what} FROM events WHERE seq > ? ORDER BY seq LIMIT {size}"  # noqa: S608
        while True:
            page: list[Row] = []
            failed: sqlite3.Error | None = None
            try:
                for row in self._db.execute(query, (after,)):
                    page.append(row)  # noqa: PERF402  (those before a row that cannot be read are good)
            except sqlite3.Error as error:
                failed = error
            if page:
                after = page[-1][0]
                yield page
            if failed is not None:
                raise failed
            if not page:
                return

    def checked(self, after: int = 0) -> Iterator[list[Row]]:
        """As ``pages``, with every event's number and hash checked. Raises DamagedJournal naming the first event that
        is not what was written, when those before it have been given out. Format 1 has numbers only."""
        head = Head.read(head_path(self.path))  # before the events: what is committed meanwhile only adds to them
        chained = self.format > 1
        seq, before = after, self.hash_of(after) if chained else b""
        try:
            for page in self.pages(after):
                count, before, wrong = follow(page, seq, before)
                seq += count
                if count:
                    yield page if count == len(page) else page[:count]
                if wrong:
                    raise DamagedJournal(seq + 1, wrong, self.path)
        except sqlite3.Error as error:
            if code(error) == sqlite3.SQLITE_BUSY:
                raise trouble(error, self.path, _AGAIN) from error
            raise DamagedJournal(seq + 1, f"it cannot be read: {error}", self.path) from error
        if chained and head is not None:
            self._check_head(head, seq)

    def events(self, *kinds: type[Event], after: int = 0) -> Iterator[Event]:
        """All events in order (those after number ``after``), or those of some ``kinds``.

        Without ``kinds`` they are ``checked``. Raises InvalidInput naming one that this bootorch cannot read.
        """
        pages = self._some(kinds) if kinds else self.checked(after)
        for page in pages:
            for row in page:
                yield self.decoded(row[0], row[1])

    def _some(self, kinds: tuple[type[Event], ...]) -> Iterator[list[Row]]:
        # ``encode`` writes the type first, so that the few that are wanted are found without decoding the many.
        which = " OR ".join("body GLOB ?" for _ in kinds)
        query = f"SELECT seq, body, wall_s, boot_s, x'' FROM events WHERE {which} ORDER BY seq"  # noqa: S608
        try:
            yield self._db.execute(query, [f'{{"e":"{kind.type}",*' for kind in kinds]).fetchall()
        except sqlite3.DatabaseError as error:
            raise trouble(error, self.path, _AGAIN) from error

    def decoded(self, seq: int, body: str) -> Event:
        """The event that ``body`` is. Raises InvalidInput naming it where this bootorch cannot read it."""
        try:
            return decode(body)
        except EventError as error:
            where = f"{self.path}, event {seq}"
            raise InvalidInput(Problem(str(error), where, "use the bootorch that wrote it")) from error

    def hash_of(self, seq: int) -> bytes:
        """The hash of an event; of number 0, what the chain begins with. Raises DamagedJournal: there is none such."""
        try:
            if seq == 0:
                return genesis(self.packed_meta().items())
            row = self._db.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
            return bytes(row[0])
        except (sqlite3.DatabaseError, TypeError) as error:
            what = f"event {seq:,} is not there" if seq else "plan and inventory at its beginning cannot be read"
            raise DamagedJournal(max(seq, 1), f"{what}: {error}", self.path) from error

    def check_end(self) -> None:
        """Does the journal go as far as its head says? Raises DamagedJournal. Cheap: no event is read but one."""
        head = Head.read(head_path(self.path))
        if head is not None and self.format > 1:
            self._check_head(head, self.tail().seq)

    def _check_head(self, head: Head, last: int) -> None:
        if head.seq > last:
            lost = f"event {head.seq:,} was" if head.seq == last + 1 else f"events {last + 1:,} to {head.seq:,} were"
            raise DamagedJournal(last + 1, f"it ends at event {last:,}, but {lost} written after it", self.path)
        if self.hash_of(head.seq) != head.hash:
            name = head_path(self.path).name
            message = f"{name} beside it tells of another event {head.seq:,}"
            remedy = f"if this journal was put here by hand, remove {name}; else take a copy that goes with it"
            raise StrangeHead(head.seq, message, self.path, remedy)

    def last_event(self) -> Event | None:
        row = self._db.execute("SELECT seq, body FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else self.decoded(*row)

    def last_moment(self) -> Moment | None:
        row = self._db.execute("SELECT wall_s, boot_s FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else Moment(*row)

    def kept(self) -> standing.Kept | None:
        """Where the run stands, as its process has kept it."""
        return standing.get(self._db)

    def carry_status(self, copy: sqlite3.Connection, last: int) -> None:
        """Take it along into a copy that has the events up to ``last``, within a transaction of the copy."""
        standing.carry(self._db, copy, last)

    def count(self, kind: Kind) -> int:
        """How many effects of ``kind`` were begun."""
        return standing.count(self._db, kind)

    # -- words from other processes -------------------------------------------------

    def say(self, command: Mapping[str, str]) -> int:
        """Leave a command for the process that runs this journal. Its number, for ``answer``. Raises JournalError."""
        try:
            with self._db:
                done = self._db.execute("INSERT INTO commands (body) VALUES (?)", (json.dumps(command),))
        except sqlite3.Error as error:
            raise trouble(error, self.path, "free space or repair the disk") from error
        assert done.lastrowid is not None, "a row was inserted"
        return done.lastrowid

    def answer(self, ident: int) -> Mapping[str, str] | None:
        """What the running process said to the command; None: it has not taken it (yet)."""
        row = self._db.execute("SELECT body FROM taken WHERE id = ?", (ident,)).fetchone()
        return None if row is None else json.loads(row[0])

    def heard(self) -> list[tuple[int, Mapping[str, str]]]:
        """Commands said since the last call, with their numbers. Costs one pragma when nobody wrote."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return []
        self._data_version = version
        rows = self._db.execute(
            "SELECT id, body FROM commands WHERE id > ? ORDER BY id", (self._command_seen,)
        ).fetchall()
        if rows:
            self._command_seen = rows[-1][0]
        return [(ident, json.loads(body)) for ident, body in rows]

    def forget_commands(self) -> None:
        """Commands to a process that is gone do not speak to this one."""
        row = self._db.execute("SELECT max(id) FROM commands").fetchone()
        self._command_seen = row[0] or 0


def saved_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.saved-{number}{path.suffix}")


def _reading(path: Path) -> tuple[sqlite3.Connection, Path, TemporaryDirectory[str] | None]:
    connection, copies = connect_to_read(path)
    return connection, path, copies
