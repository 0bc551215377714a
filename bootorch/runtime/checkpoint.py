"""Checkpoints in the journal: a state as of event N, so that ``resume`` folds only what came after it.

Written by a process of its own (``ops.checkpointer``), which folds the journal as any reader does: the run that goes on
is not held up, and what is written is what a replay gives. Each names the version that wrote it, the hash of event N in
the chain, and its own hash; one that does not fit in any of them is left alone, with a word in the log. Losing them all
costs seconds, so they are written without a sync: in a write-ahead log that is safe, only not durable
(sqlite.org/wal.html).
"""

from __future__ import annotations

import gc
import json
import sqlite3
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog

from bootorch import __version__
from bootorch.core.checkpoint import capture, restore
from bootorch.core.plan import Plan
from bootorch.core.state import State
from bootorch.runtime.journal import DamagedJournal, Journal
from bootorch.runtime.journalfile import connect, trouble

# Events after which another one is written: some 1.3 s of replay (13 µs an event, benchmarks/journal_resume.py). etcd
# has taken a snapshot after as many for years (--snapshot-count 100000, versions 3.2 to 3.5).
EVERY = 100_000
KEPT = 2  # the newest, and the one before should that be torn
LEVEL = 1  # of zlib: a fifth of the time of its usual level, and a seventh more bytes
CHAINED = 2  # the journal format from which events have hashes

PART = 64 * 1024  # bytes of one transaction: the run, which waits for it to end, waits a millisecond
PARTS_SYNCED = 16  # a mebibyte is moved from the log to the file here, and not by the run's next commit

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS checkpoints (
    seq INTEGER PRIMARY KEY, version TEXT NOT NULL, event BLOB NOT NULL, digest BLOB NOT NULL)
""",
    """
CREATE TABLE IF NOT EXISTS checkpoint_parts (
    seq INTEGER NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (seq, part))
""",
)

_log = structlog.get_logger("bootorch.checkpoint")


@dataclass(frozen=True, slots=True)
class Recovered:
    """A state, the number of its last event, and how many events were folded on top of a checkpoint (or of nothing)."""

    state: State
    event: int
    folded: int


def recover(journal: Journal, plan: Plan) -> Recovered:
    """The state that the journal's events lead to: of the newest checkpoint that fits, and the events after it.

    Raises what ``Journal.events`` raises.
    """
    state, after = _newest(journal, plan)
    if state is None:
        state, after = State(plan), 0
    folded = 0
    collecting = gc.isenabled()
    gc.disable()  # a state is no garbage, and looking through it again and again takes a tenth of a replay
    try:
        for event in journal.events(after=after):
            state.fold(event)
            folded += 1
    finally:
        if collecting:
            gc.enable()
    return Recovered(state, after + folded, folded)


def behind(journal: Journal) -> int:
    """How many events have come since the newest checkpoint; 0 where the journal is of a format without hashes."""
    if journal.format < CHAINED:
        return 0
    last = journal.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    return int(last) - (_latest(journal) or 0)


def write(path: Path, plan: Plan) -> int:
    """Fold the journal and keep a checkpoint of its last event. Returns the event's number.

    Raises what ``Journal`` raises, and TypeError where a state cannot be written down.
    """
    with Journal.open(path, readonly=True) as journal:
        found = recover(journal, plan)
        event = journal.hash_of(found.event)
    kept = capture(found.state, State(plan))
    body = zlib.compress(json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode(), LEVEL)
    keep(path, found.event, event, body)
    return found.event


def keep(path: Path, seq: int, event: bytes, body: bytes) -> None:
    """Put a checkpoint of event ``seq`` (whose hash is ``event``) into the journal, beside the run that goes on.

    Part by part, and it counts once all are there. Raises JournalError.
    """
    try:
        database = connect(path)
        try:
            # Another process's sync would be the run's wait; and what the log holds is moved in its pauses, below.
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("PRAGMA wal_autocheckpoint=0")
            with database:
                for table in _TABLES:
                    database.execute(table)
            for part, start in enumerate(range(0, len(body), PART)):
                with database:
                    values = (seq, part, body[start : start + PART])
                    database.execute("INSERT OR REPLACE INTO checkpoint_parts VALUES (?, ?, ?)", values)
                if part % PARTS_SYNCED == PARTS_SYNCED - 1:
                    database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            with database:
                row = (seq, __version__, event, sha256(body).digest())
                database.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", row)
            _forget(database)
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            database.close()
    except sqlite3.Error as error:
        raise trouble(error, path, "nothing is lost: the events are all there") from error


def _forget(database: sqlite3.Connection) -> None:
    """All but the newest, and parts of one that was never finished."""
    newest = "SELECT seq FROM checkpoints ORDER BY seq DESC LIMIT ?"
    with database:
        database.execute(f"DELETE FROM checkpoints WHERE seq NOT IN ({newest})", (KEPT,))  # noqa: S608
    left = "SELECT rowid FROM checkpoint_parts WHERE seq NOT IN (SELECT seq FROM checkpoints)"
    for (row,) in database.execute(left).fetchall():
        with database:
            database.execute("DELETE FROM checkpoint_parts WHERE rowid = ?", (row,))


def _latest(journal: Journal) -> int | None:
    if journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'").fetchone() is None:
        return None
    found = journal.execute("SELECT max(seq) FROM checkpoints").fetchone()[0]
    return None if found is None else int(found)


def _newest(journal: Journal, plan: Plan) -> tuple[State | None, int]:
    if journal.format < CHAINED or _latest(journal) is None:
        return None, 0
    for seq, version, event, digest in journal.execute("SELECT * FROM checkpoints ORDER BY seq DESC").fetchall():
        state = State(plan)
        try:
            if version != __version__:
                raise ValueError(f"version {version} wrote it")
            parts = journal.execute("SELECT body FROM checkpoint_parts WHERE seq = ? ORDER BY part", (seq,))
            body = b"".join(part for (part,) in parts)
            if sha256(body).digest() != digest:
                raise ValueError("its bytes are not what was written")
            if journal.hash_of(seq) != event:
                raise ValueError(f"it is of another event {seq}")
            restore(state, json.loads(zlib.decompress(body)))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, zlib.error, DamagedJournal) as error:
            _log.warning("a checkpoint is of no use, events are folded instead", event=seq, error=str(error))
            continue
        return state, int(seq)
    return None, 0
