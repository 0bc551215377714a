"""A copy of a journal that follows it: the same events, appended in transactions, so it is a prefix at every moment.

The copy is a journal itself (``Journal`` reads and resumes it). While it is written it has no write-ahead log: a stick
that is pulled takes no mapped memory with it, and one file is all there is to copy.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from bootorch.core.errors import InvalidInput, OperatorError
from bootorch.runtime import lease
from bootorch.runtime.chain import Head, HeadFile, head_path
from bootorch.runtime.journal import Journal
from bootorch.runtime.journalfile import BUSY_MS, FORMAT, INSERT, make
from bootorch.runtime.rundir import is_held

STEP = 2_000  # events in a transaction of the copy, at most: what a slow stick takes at once


class Gone(Exception):
    """The copy cannot be written now; it may come back. The text says why."""


class Parted(Exception):
    """The copy is no beginning of the journal. ``taken``: another process has gone on with it."""

    def __init__(self, why: str, *, taken: bool = True) -> None:
        super().__init__(why)
        self.taken = taken


class Replica:
    """The copy at ``path`` in ``disk``, a directory that has to stay on the file system that it is on now."""

    def __init__(self, source: Journal, disk: Path, path: Path) -> None:
        """Raises OSError where ``disk`` is not there."""
        self._source = source
        self._disk = disk
        self._device = disk.stat().st_dev
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._head: HeadFile | None = None
        self._file = (0, 0)
        self.copied = 0  # number of the last event that the copy has, as far as is known

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._head is not None:
            self._head.close()
            self._head = None

    def step(self) -> bool:
        """Copy what is new, one transaction at most. False: nothing was. Raises Gone or Parted."""
        try:
            if self._db is None:
                self._attach()
            self._check_place()
            page = next(self._source.pages(self.copied, STEP), [])
            if not page:
                return False
            assert self._db is not None, "attached"
            holder = lease.read(self._source)
            with self._db:
                self._db.executemany(INSERT, page)
                if holder is not None:  # whoever finds the copy learns who drove, and has to say that he does not now
                    lease.write(self._db, holder)
                self._source.carry_status(self._db, page[-1][0])
            self._check_place()
            last = page[-1]
            assert self._head is not None, "attached"
            self._head.write(Head(last[0], last[4]))
            self.copied = last[0]
            return True
        except sqlite3.IntegrityError as error:
            self.close()
            raise Parted(f"another process has gone on with {self.path}") from error
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise Gone(_why(error)) from error
        except OperatorError as error:
            self.close()
            raise Gone(str(error)) from error

    def _check_place(self) -> None:
        """Raises OSError where the disk or the file is another than the one that is written."""
        self._check_disk()
        status = os.stat(self.path)  # noqa: PTH116  (for every commit)
        if (status.st_dev, status.st_ino) != self._file:
            raise OSError("it was removed or replaced")

    def _check_disk(self) -> None:
        # A mount point is there without its disk, and what is written there then is on another one. A disk that comes
        # back may have another number; the copy tells that it is the same.
        device = self._disk.stat().st_dev
        if device != self._device and (self._db is not None or not self.path.exists()):
            raise OSError("its disk is not mounted any more")
        self._device = device

    def _attach(self) -> None:
        self._check_disk()
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        if not self.path.exists():
            make(self.path, self._source.packed_meta())
        elif is_held(self.path.parent):
            raise Parted(f"another process runs {self.path}")
        self.copied = self._agreed()
        self._db = sqlite3.connect(self.path, isolation_level="IMMEDIATE")
        self._db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.execute("PRAGMA synchronous=EXTRA")
        status = self.path.stat()
        self._file = (status.st_dev, status.st_ino)
        self._head = HeadFile(head_path(self.path))

    def _agreed(self) -> int:
        """How many events of the journal the copy has, all of which must be the journal's own. Raises Parted."""
        try:
            with Journal.open(self.path, readonly=True) as copy:
                copy.check_end()
                tail, format_, beginning = copy.tail(), copy.format, copy.hash_of(0)
        except InvalidInput as error:
            raise Parted(f"what is in {self.path} cannot be gone on with: {error}", taken=False) from error
        if format_ != FORMAT or beginning != self._source.hash_of(0):
            raise Parted(f"{self.path} is of another run", taken=False)
        mine = self._source.tail()
        if tail.seq > mine.seq:
            more = tail.seq - mine.seq
            raise Parted(f"{self.path} has gone on: it has {more:,} {'event' if more == 1 else 'events'} more")
        if self._source.hash_of(tail.seq) != tail.hash:
            raise Parted(f"{self.path} has gone on in another way")
        return tail.seq


def _why(error: sqlite3.Error | OSError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
