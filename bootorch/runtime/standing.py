"""The status that a run keeps in its own journal, so that ``bootorch status`` has it at once.

One row, replaced in the transaction of the events it stands for: a reader sees both or neither, and counts what came
later. Reading it loads neither plan nor state; ``runtime.keeper`` writes it.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

SCHEMA = "bootorch.status/1"  # of the document; additions keep the number, a changed meaning raises it

_TABLE = """
CREATE TABLE IF NOT EXISTS standing (
    id INTEGER PRIMARY KEY CHECK (id = 0), seq INTEGER NOT NULL, wall_s REAL NOT NULL, body TEXT NOT NULL)
"""


def put(db: sqlite3.Connection, body: str, wall_s: float) -> None:
    """Within the transaction that has inserted the events."""
    db.execute(_TABLE)  # older journals have none
    db.execute("INSERT OR REPLACE INTO standing SELECT 0, coalesce(max(seq), 0), ?, ? FROM events", (wall_s, body))


def carry(source: sqlite3.Connection, target: sqlite3.Connection, last: int) -> None:
    """Within a transaction of ``target``, a copy of ``source`` up to event ``last``: take the status along, unless it
    stands for later events."""
    if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'standing'").fetchone() is None:
        return
    row = source.execute("SELECT seq, wall_s, body FROM standing WHERE seq <= ?", (last,)).fetchone()
    if row is not None:
        target.execute(_TABLE)
        target.execute("INSERT OR REPLACE INTO standing VALUES (0, ?, ?, ?)", row)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept."""

    document: dict[str, Any]
    event: int  # the number of the event that it stands for
    events: int  # the number of the journal's last event
    wall_s: float  # when it was written, seconds since the epoch


def get(db: sqlite3.Connection) -> Kept | None:
    """What was kept, and where the journal ends: in one read, so that both belong together. None where nothing was kept
    that this version knows how to read, or what it stands for was cut off since."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'standing'").fetchone() is None:
        return None
    row = db.execute("SELECT seq, wall_s, body, (SELECT max(seq) FROM events) FROM standing").fetchone()
    if row is None or row[0] > (row[3] or 0):
        return None
    document = json.loads(row[2])
    return Kept(document, row[0], row[3], row[1]) if document["schema"] == SCHEMA else None


def count(db: sqlite3.Connection, kind: str) -> int:
    """How many intents of ``kind`` the journal has, without decoding any (``encode`` writes the type first)."""
    pattern = f'{{"e":"intent",*,"kind":"{kind}",*'
    return int(db.execute("SELECT count(*) FROM events WHERE body GLOB ?", (pattern,)).fetchone()[0])
