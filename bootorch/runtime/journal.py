"""The journal of a run: one SQLite file that holds everything needed to go on, on this laptop or another.

Tables: ``meta`` (plan text, inventory snapshot, versions), ``events`` (append-only, see ``core.events``), ``commands``
(words of other processes to the running one: pause, gate, change), ``taken`` (what the running one said to each of
them, in the same transaction as the events that came of it). WAL mode with full sync: when ``append`` returns, what it
was given survives a power cut (sqlite.org/wal.html, "synchronous=FULL"). One append is one transaction, however many
events it holds.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootorch.core.errors import Exit, InvalidInput, OperatorError, Problem
from bootorch.core.events import Event, EventError, decode, encode

FORMAT = 1
_BUSY_MS = 5_000  # another process writes a command at most now and then: milliseconds, never seconds

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, wall_s REAL NOT NULL, boot_s REAL NOT NULL);
CREATE TABLE commands (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_TAKEN = "CREATE TABLE IF NOT EXISTS taken (id INTEGER PRIMARY KEY, body TEXT NOT NULL)"  # older journals have none


class JournalError(OperatorError):
    """The journal cannot be written: nothing more may be sent. The run stays resumable (exit 5)."""

    exit_code = Exit.INTERRUPTED


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

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self._command_seen = 0
        self._data_version = -1

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, bytes]) -> Journal:
        """A new journal; the file must not exist."""
        try:
            path.touch(mode=0o600, exist_ok=False)
            journal = cls(_connect(path, "rw"), path)
            with journal._db:
                journal._db.executescript(_SCHEMA + _TAKEN)
                journal._db.execute(f"PRAGMA user_version={FORMAT}")
                journal._db.executemany(
                    "INSERT INTO meta VALUES (?, ?)", [(key, zlib.compress(value)) for key, value in meta.items()]
                )
        except FileExistsError:
            raise InvalidInput(Problem("a journal is there already", str(path), "resume it")) from None
        except (OSError, sqlite3.Error) as error:
            problem = Problem(
                f"the journal cannot be created: {error}", str(path), "give a directory on a healthy disk"
            )
            raise JournalError(problem) from error
        return journal

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Journal:
        if not path.is_file():
            raise InvalidInput(Problem("there is no journal", str(path), "bootorch run PLAN makes one"))
        try:
            journal = cls(_connect(path, "ro" if readonly else "rw"), path)
            found = int(journal._db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error as error:
            _check_locked(error, path)
            problem = Problem(f"this is no journal: {error}", str(path), "give a run's directory or its journal")
            raise InvalidInput(problem) from error
        if found == 0 or found > FORMAT:
            journal.close()
            message = f"the journal has format {found}, this bootorch reads up to {FORMAT}"
            raise InvalidInput(Problem(message, str(path), "use the bootorch that wrote it, or a newer one"))
        if not readonly:
            try:
                with journal._db:
                    journal._db.execute(_TAKEN)
            except sqlite3.Error as error:
                journal.close()
                raise _unwritable(error, path) from error
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """For what other modules keep beside the events (the lease)."""
        return self._db

    # -- what was planned -----------------------------------------------------

    def meta(self, key: str) -> bytes:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise InvalidInput(Problem(f"the journal lacks its {key}", str(self.path), "it was not written to its end"))
        return zlib.decompress(row[0])

    def has_meta(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM meta WHERE key = ?", (key,)).fetchone() is not None

    # -- events -----------------------------------------------------------------

    def append(
        self,
        events: Iterable[Event],
        at: Moment | None = None,
        taken: Mapping[int, Mapping[str, str]] | None = None,
        guard: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        """Durable when this returns. Events that are not durable by their own word are left out.

        ``taken``: what is said to the commands (by their numbers) that were heard, committed with the events.
        ``guard`` comes first in the same transaction, even if nothing else is in it: what it raises undoes all.
        """
        moment = at if at is not None else Moment.now()
        lasting = (event for event in events if getattr(event, "durable", True))
        rows = [(encode(event), moment.wall_s, moment.boot_s) for event in lasting]
        marks = [(ident, json.dumps(body, ensure_ascii=False)) for ident, body in (taken or {}).items()]
        if not rows and not marks and guard is None:
            return
        try:
            with self._db:
                if guard is not None:
                    guard(self._db)
                self._db.executemany("INSERT INTO events (body, wall_s, boot_s) VALUES (?, ?, ?)", rows)
                self._db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?)", marks)
        except sqlite3.Error as error:
            remedy = "free space or repair the disk, then bootorch resume; nothing was sent without a record"
            raise JournalError(Problem(f"the journal cannot be written: {error}", str(self.path), remedy)) from error

    def events(self, *kinds: type[Event]) -> Iterator[Event]:
        """All events in order, or those of some ``kinds``. Raises InvalidInput naming the one that cannot be read."""
        # ``encode`` writes the type first, so that the few that are wanted are found without decoding the many.
        which = " OR ".join("body GLOB ?" for _ in kinds)
        query = f"SELECT seq, body FROM events {'WHERE ' + which if kinds else ''} ORDER BY seq"  # noqa: S608
        heads = [f'{{"e":"{kind.type}",*' for kind in kinds]
        try:
            for seq, body in self._db.execute(query, heads):
                try:
                    yield decode(body)
                except EventError as error:
                    where = f"{self.path}, event {seq}"
                    raise InvalidInput(Problem(str(error), where, "use the bootorch that wrote it")) from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(Problem(f"the journal is damaged: {error}", str(self.path), "restore a copy")) from error

    def last_event(self) -> Event | None:
        row = self._db.execute("SELECT body FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else decode(row[0])

    def last_moment(self) -> Moment | None:
        row = self._db.execute("SELECT wall_s, boot_s FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else Moment(*row)

    # -- words from other processes -------------------------------------------------

    def say(self, command: Mapping[str, str]) -> int:
        """Leave a command for the process that runs this journal. Its number, for ``answer``. Raises JournalError."""
        try:
            with self._db:
                done = self._db.execute("INSERT INTO commands (body) VALUES (?)", (json.dumps(command),))
        except sqlite3.Error as error:
            raise _unwritable(error, self.path) from error
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


def _check_locked(error: sqlite3.Error, path: Path) -> None:
    """Raises JournalError where the error is that another process does not let go of the journal."""
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
        # It hangs in the middle of a commit: stopped, or on a disk that does not answer.
        message = f"the process that runs this journal holds it for more than {_BUSY_MS / 1000:g} s; nothing was said"
        remedy = "look at that process and its disk; where it hangs for good, end it and bootorch resume"
        raise JournalError(Problem(message, str(path), remedy)) from error


def _unwritable(error: sqlite3.Error, path: Path) -> JournalError:
    """What to raise when a word cannot be written."""
    _check_locked(error, path)
    return JournalError(Problem(f"the journal cannot be written: {error}", str(path), "free space or repair the disk"))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level="IMMEDIATE")
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    if mode == "rw":
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    return connection
