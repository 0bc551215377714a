"""The file of a journal: how it is made, opened by who writes and by who only reads, and what its errors mean.

A reader leaves nothing in the way of a run: it only reads, in short transactions. On a medium that cannot be written
SQLite cannot make the files that it wants beside a database; there, what a killed process has left (a write-ahead log,
or the rollback journal of a mirror) is read from a private copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bootorch.core.errors import Exit, InvalidInput, OperatorError, Problem
from bootorch.runtime.chain import Head, HeadFile, Row, genesis, head_path

FORMAT = 2
BUSY_MS = 5_000  # another process writes a command at most now and then: milliseconds, never seconds
BESIDE = ("-wal", "-journal")  # what SQLite keeps of a transaction beside the database
# SQLite's primary result codes (sqlite.org/rescode.html) for a disk that does not do what is asked of it.
_DISK = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_PERM,
    }
)  # fmt: skip

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, body TEXT NOT NULL, wall_s REAL NOT NULL, boot_s REAL NOT NULL, hash BLOB NOT NULL
);
CREATE TABLE commands (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
TAKEN = "CREATE TABLE IF NOT EXISTS taken (id INTEGER PRIMARY KEY, body TEXT NOT NULL)"  # the oldest journals have none
INSERT = "INSERT INTO events (seq, body, wall_s, boot_s, hash) VALUES (?, ?, ?, ?, ?)"


class JournalError(OperatorError):
    """The journal cannot be written: nothing more may be sent. The run stays resumable (exit 5)."""

    exit_code = Exit.INTERRUPTED


class DamagedJournal(InvalidInput):
    """Bytes of the journal are not what was written. ``seq``: the first event that is wrong or missing; 0: none can be
    read at all. ``what``: what is wrong with it."""

    def __init__(self, seq: int, message: str, path: Path, remedy: str = "") -> None:
        self.seq = seq
        self.what = message
        remedy = remedy or f"bootorch journal verify {path} tells what is lost, and what can be done"
        super().__init__(
            Problem(f"the journal is damaged: {message}", f"{path}, event {seq}" if seq else str(path), remedy)
        )


class StrangeHead(DamagedJournal):
    """The head beside the journal is of another one, or the journal was written anew behind its back."""


def make(path: Path, meta: Mapping[str, bytes], rows: Iterable[Row] = (), *, head: Head | None = None) -> None:
    """A complete journal under its name, or none: made beside it, synced, then renamed. Meta values are packed as they
    are kept (``pack``). Replaces what is there. Raises sqlite3.Error or OSError."""
    part = path.with_name(f"{path.name}.part")
    for name in (part, *(part.with_name(part.name + suffix) for suffix in BESIDE)):
        name.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(part, isolation_level="IMMEDIATE")
    try:
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(f"BEGIN; {_SCHEMA} {TAKEN}; PRAGMA user_version={FORMAT};")
        database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        database.executemany(INSERT, rows)
        database.commit()
    finally:
        database.close()
    file = HeadFile(head_path(path))
    try:
        file.write(head if head is not None else Head(0, genesis(meta.items())))
    finally:
        file.close()
    take_place(part, path)


def take_place(complete: Path, path: Path) -> None:
    """Give a closed journal its name. What SQLite kept of one that was there before would be taken for its own: it goes
    first. Raises OSError."""
    for suffix in (*BESIDE, "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    complete.rename(path)
    sync_directory(path.parent)


def pack(value: bytes) -> bytes:
    """A meta value as it is kept."""
    return zlib.compress(value)


def unpack(value: bytes) -> bytes:
    return zlib.decompress(value)


def sync_directory(directory: Path) -> None:
    """Make names in it durable (fsync(2), notes). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(path: Path) -> sqlite3.Connection:
    """To write: WAL with full sync. Raises sqlite3.Error."""
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # from now on the log is there
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> tuple[sqlite3.Connection, TemporaryDirectory[str] | None]:
    """To read only, on any medium; with the directory of the private copy where one had to be made, to be cleaned up.
    Raises sqlite3.Error or OSError."""
    try:
        return _probed(path, "mode=ro"), None
    except sqlite3.OperationalError as error:
        if code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    left = [name for name in (path.with_name(path.name + suffix) for suffix in BESIDE) if _filled(name)]
    if not left:
        return _probed(path, "mode=ro&immutable=1"), None
    copies = TemporaryDirectory(prefix="bootorch-journal-")
    try:
        for name in (path, *left):
            shutil.copyfile(name, Path(copies.name, name.name))
        return _probed(Path(copies.name, path.name), "mode=rw"), copies
    except BaseException:
        copies.cleanup()
        raise


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _probed(path: Path, how: str) -> sqlite3.Connection:
    connection = _connect(path, how)
    try:
        try:
            _probe(connection)
        except sqlite3.DatabaseError as error:
            if code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            # A file that is shorter than its header says: this pragma lets what is left be read (sqlite.org/src,
            # btree.c, lockBtree). Nothing is written through this connection.
            connection.execute("PRAGMA writable_schema=ON")
            _probe(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _probe(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version").fetchone()
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()


def _connect(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level="IMMEDIATE")
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    return connection


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def trouble(error: sqlite3.Error | OSError, path: Path, remedy: str) -> OperatorError:
    """What to raise where a journal cannot be used: the disk, another process, or a file that is no journal."""
    if isinstance(error, OSError):
        return JournalError(Problem(f"the journal cannot be written: {error.strerror}", str(path), remedy))
    number = code(error)
    if number == sqlite3.SQLITE_BUSY:
        # It hangs in the middle of a commit: stopped, or on a disk that does not answer.
        message = f"the process that runs this journal holds it for more than {BUSY_MS / 1000:g} s; nothing was written"
        again = "look at that process and its disk; where it hangs for good, end it and bootorch resume"
        return JournalError(Problem(message, str(path), again))
    if number == sqlite3.SQLITE_NOTADB:
        return InvalidInput(Problem(f"this is no journal: {error}", str(path), "give a run's directory or its journal"))
    if number == sqlite3.SQLITE_CORRUPT:
        return DamagedJournal(0, str(error), path)
    what = "cannot be written" if number in _DISK else "fails"
    why = "its disk is read-only" if _on_read_only_disk(path) else str(error)
    return JournalError(Problem(f"the journal {what}: {why}", str(path), remedy))


def _on_read_only_disk(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
