"""Journals for tests: made by the real one, then hurt byte by byte."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bootorch.core.events import Event, Intent, Kind, RunStarted, Settled
from bootorch.core.model import Outcome
from bootorch.runtime.journal import Journal, Moment

META = {"plan": b"name: x\n" * 50, "snapshot": bytes(range(256)) * 40}


def event(number: int) -> Event:
    if number == 1:
        return RunStarted(0.0, "run-1", "x", "digest", 3, 7, "2026-02-28T04:00:00+00:00", "kim")
    if number % 2:
        return Intent(float(number), number, Kind.POWER_READ, f"web{number:03d}")
    return Settled(float(number), f"web{number:03d}", Outcome.READY)


def written(path: Path, count: int, batch: int = 10) -> Path:
    """A journal of ``count`` events, closed as it should be."""
    with Journal.create(path, META) as journal:
        fill(journal, 1, count, batch)
    return path


def fill(journal: Journal, first: int, last: int, batch: int = 10) -> None:
    for start in range(first, last + 1, batch):
        events = [event(number) for number in range(start, min(start + batch, last + 1))]
        journal.append(events, Moment(1e9 + start, 1000.0 + start))


def killed(path: Path, count: int, batch: int = 10) -> Path:
    """The same by a process that is killed at its end: the log is left."""
    process = os.fork()
    if process == 0:
        try:
            journal = Journal.create(path, META)
            fill(journal, 1, count, batch)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    return path


def change(path: Path, *statements: str, values: Sequence[object] = ()) -> None:
    """By a program that knows nothing of the chain."""
    database = sqlite3.connect(path)
    with database:
        for statement in statements:
            database.execute(statement, values)
    database.close()


def flip(path: Path, offset: int, mask: int = 0x01) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def leaf_pages(path: Path) -> list[int]:
    """Offsets of the pages that hold events, in order: leaves of a table's tree (sqlite.org/fileformat2.html, 1.6)."""
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    found = []
    for offset in range(size, len(content), size):
        page = content[offset : offset + size]
        if page[0] == 0x0D and b'"e":' in page:
            found.append(offset)
    return found
