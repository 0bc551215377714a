"""Is a journal what was written? The whole of it looked at, what is wrong named, and a torn end cut off.

The damage is a *tail* when nothing whole stands after it: then the events before it are a run that can be resumed,
because a resumed run reads every state anew before it acts. Where whole events follow, the damage is in the middle:
what they mean without those before them is unknown, and there is nothing to cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bootorch.core.codec import encode
from bootorch.core.errors import InvalidInput, OperatorError, Problem, SafetyRefusal, ToolError
from bootorch.core.events import TailCut
from bootorch.runtime import lease
from bootorch.runtime.chain import Head, Row, head_path, link
from bootorch.runtime.journal import Journal, Moment
from bootorch.runtime.journalfile import BESIDE, DamagedJournal, StrangeHead, make, sync_directory
from bootorch.runtime.rundir import held

_NOTHING = "nothing is left to go on from: take the mirror or a copy, or begin another run"
_COMPLAINTS = 10  # of SQLite's own check, at most


@dataclass(frozen=True, slots=True)
class Damage:
    """``first``: number of the first event that is wrong or missing; ``lost``: how many events a cut there gives up;
    ``whole_after``: how many whole ones stand after it (0: a tail)."""

    first: int
    what: str
    lost: int
    whole_after: int
    remedy: str

    @property
    def tail(self) -> bool:
        return self.whole_after == 0 and self.first > 1


@dataclass(frozen=True, slots=True)
class Audit:
    """``good``: how many events from the first on are what was written. ``strange``: what this bootorch cannot read
    although it is whole. ``complaints``: what SQLite finds wrong with the file."""

    path: Path
    format: int
    good: int
    hash: bytes
    moment: Moment | None  # of the last good event
    damage: Damage | None
    strange: Problem | None
    complaints: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return self.damage is None and self.strange is None and not self.complaints


def audit(path: Path) -> Audit:
    """Look at the whole journal. Reads only. Raises InvalidInput (no journal, a newer one) or JournalError."""
    try:
        opened = Journal.open(path, readonly=True)
    except DamagedJournal as error:
        head = Head.read(head_path(path))
        nothing = Damage(0, error.what, head.seq if head else 0, 0, _NOTHING)
        return Audit(path, 0, 0, b"", None, nothing, None, (error.what,))
    with opened as journal:
        good, moment, strange, found = 0, None, None, None
        try:
            for page in journal.checked():
                for seq, body, wall_s, boot_s, _ in page:
                    if strange is None:
                        strange = _strange(journal, seq, body)
                    good, moment = seq, Moment(wall_s, boot_s)
        except DamagedJournal as error:
            found = error
        damage = None if found is None else _damage(journal, found)
        return Audit(
            path, journal.format, good, _hash(journal, good), moment, damage, strange, _complaints(journal)
        )  # fmt: skip


def _strange(journal: Journal, seq: int, body: str) -> Problem | None:
    try:
        journal.decoded(seq, body)
    except InvalidInput as error:
        return error.problems[0]
    return None


def _hash(journal: Journal, seq: int) -> bytes:
    try:
        return journal.hash_of(seq) if journal.format > 1 else b""
    except (OperatorError, sqlite3.Error):
        return b""  # what the chain begins with is damaged itself, and named as such


def _complaints(journal: Journal) -> tuple[str, ...]:
    try:
        rows = journal.execute(f"PRAGMA integrity_check({_COMPLAINTS})").fetchall()
    except sqlite3.DatabaseError as error:
        return (str(error),)
    return tuple(row[0] for row in rows if row[0] != "ok")


def _damage(journal: Journal, found: DamagedJournal) -> Damage:
    first, last = found.seq, found.seq
    head = Head.read(head_path(journal.path))
    if head is not None and not isinstance(found, StrangeHead):
        last = max(last, head.seq)
    whole = 0
    after: Row | None = None
    for row in _from_the_end(journal, first):
        last = max(last, row.seq)
        whole += after is not None and _follows(row, after)
        after = row
    where = journal.path.parent
    if isinstance(found, StrangeHead):
        remedy = found.problems[0].remedy
        return Damage(first, found.what, 0, max(whole, 1), remedy)
    if whole:
        remedy = "take the mirror or a copy; without one bootorch run --new begins another run, which adopts what is up"
    elif first <= 1:
        remedy = _NOTHING
    else:
        remedy = f"take the mirror or a copy, or give the end up: bootorch journal cut {where} --confirm {first}"
    return Damage(first, found.what, last - first + 1, whole, remedy)


def _from_the_end(journal: Journal, first: int) -> Iterator[Row]:
    """Events from the last one down to number ``first``, as far as the file can be read."""
    query = "SELECT seq, body, wall_s, boot_s, hash FROM events WHERE seq >= ? ORDER BY seq DESC"
    if journal.format > 1:
        with contextlib.suppress(sqlite3.DatabaseError):  # how far they can be read is the answer
            yield from map(Row._make, journal.execute(query, (first,)))


def _follows(before: Row, row: Row) -> bool:
    try:
        return row.seq == before.seq + 1 and link(before.hash, row.body, row.wall_s, row.boot_s) == row.hash
    except Exception:  # noqa: BLE001  (damaged values may be of any type)
        return False


def cut(path: Path, first: int, by: str, why: str) -> tuple[int, Path]:
    """Give up the damaged tail that begins with event ``first``. Returns how many events that were, and the file that
    keeps the damaged journal.

    The good events are written into a journal of their own, which then takes the place of the damaged one. That it
    happened is its last event. Raises SafetyRefusal where the damage is another, or a process runs the journal.
    """
    with held(path.parent):
        found = audit(path)
        damage = found.damage
        if damage is None and found.complaints and first == found.good + 1:
            damage = Damage(first, found.complaints[0], 0, 0, "")  # no event is hurt: the file is written anew
        if damage is None:
            raise SafetyRefusal(Problem("the journal is whole; nothing was cut", str(path), "bootorch resume goes on"))
        if not damage.tail:
            what = f"the damage is not at the end ({damage.what}); nothing was cut"
            raise SafetyRefusal(Problem(what, f"{path}, event {damage.first}", damage.remedy))
        if damage.first != first:
            what = f"the damage begins with event {damage.first}, not {first}; nothing was cut"
            raise SafetyRefusal(Problem(what, str(path), damage.remedy))
        try:
            return damage.lost, _cut(path, damage, by, why)
        except (OSError, sqlite3.Error) as error:
            message = f"the journal could not be cut: {error}"
            raise ToolError(Problem(message, str(path), "free space or repair the disk, then again")) from error


def _cut(path: Path, damage: Damage, by: str, why: str) -> Path:
    kept = _aside(path)
    holder = None
    with Journal.open(path, readonly=True) as journal:
        rows = [row for page in _before(journal, damage.first) for row in page]
        t = journal.decoded(rows[-1][0], rows[-1][1]).t
        meta = journal.packed_meta()
        before = journal.hash_of(0)
        with contextlib.suppress(sqlite3.Error):  # hurt as well: then taking over needs a word
            holder = lease.read(journal)
    whole = []
    for seq, body, wall_s, boot_s, _ in rows:  # of format 1 they have no hashes yet
        before = link(before, body, wall_s, boot_s)
        whole.append(Row(seq, body, wall_s, boot_s, before))
    wall = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    body = encode(TailCut(t, damage.first, damage.lost, wall, by, why, kept.name))
    # Stamped as the last event of the run: who resumes counts the time away from there.
    last = whole[-1]
    before = link(before, body, last.wall_s, last.boot_s)
    whole.append(Row(damage.first, body, last.wall_s, last.boot_s, before))
    # The damaged journal is kept beside; a crash before the last step leaves it in place as well, and without its log
    # at the worst, which its head tells of: then this is done again.
    make(path, meta, whole, head=Head(damage.first, before))
    if holder is not None:
        with Journal.open(path) as journal:
            journal.append((), guard=lambda db: lease.write(db, holder))
    return kept


def _before(journal: Journal, first: int) -> Iterator[list[Row]]:
    with contextlib.suppress(DamagedJournal):
        for page in journal.checked():
            yield [row for row in page if row[0] < first]


def _aside(path: Path) -> Path:
    """A copy of the journal and of what SQLite keeps beside it, under a new name, synced."""
    number = next(n for n in range(1, 1_000) if not path.with_name(f"{path.stem}.damaged-{n}{path.suffix}").exists())
    kept = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
    for suffix in ("", *BESIDE):
        source, copy = path.with_name(path.name + suffix), kept.with_name(kept.name + suffix)
        if source.exists():
            with source.open("rb") as old, copy.open("xb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                copy.chmod(0o600)
                os.fsync(new.fileno())
    sync_directory(path.parent)
    return kept
