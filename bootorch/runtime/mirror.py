"""``--mirror DIR``: the run's journal once more, on another disk, so that another laptop can take over.

A thread of its own copies what was committed (``replica``). It may be slow, its disk may be full or pulled: the run
waits for nothing, says so once, and the copy catches up when its disk is back.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from bootorch.core.errors import InvalidInput, OperatorError, Problem, SafetyRefusal
from bootorch.core.events import Event, MirrorBack, MirrorLost, Paused
from bootorch.runtime.journal import Journal, JournalError
from bootorch.runtime.replica import Gone, Parted, Replica

LOOK_S = 0.1  # how often new events are looked for
AGAIN_S = 2.0  # and a disk that is gone
LATE_S = 10.0  # a copy that is further behind than this is worth a word
LAST_S = 10.0  # at its end the run waits for the copy as long as this

_log = structlog.get_logger("bootorch.mirror")


def check_directory(directory: Path) -> None:
    """Raises InvalidInput where it is not there: a typing error at the start is none of a disk that was pulled."""
    if not directory.is_dir():
        remedy = "mount the disk or make the directory, or leave --mirror out"
        raise InvalidInput(Problem("no such directory", f"--mirror {directory}", remedy))


@dataclass(frozen=True, slots=True)
class Lag:
    """What the copy lacks: so many events, for the reason ``why`` where it is known."""

    path: Path
    copied: int
    behind: int
    why: str = ""

    def words(self) -> str:
        if not self.behind and not self.why:
            return f"{self.path} has all {self.copied:,} events"
        lacks = "1 event" if self.behind == 1 else f"{self.behind:,} events"
        return f"{self.path} lacks the last {lacks}" + (f": {self.why}" if self.why else "")


class Mirror:
    """Use as a context manager around the run. ``news`` and ``lag`` are for the run's thread."""

    def __init__(self, journal: Journal, directory: Path, holds: Callable[[], bool] = lambda: True) -> None:
        """The copy is ``directory``/RUN/journal.sqlite; nothing is written while this process is not the run's driver
        (``holds``), for then another one may be keeping it. Raises InvalidInput: there is no such directory;
        SafetyRefusal: the copy there has gone on without this journal."""
        self._journal = journal
        self._holds = holds
        self._path = directory.absolute() / journal.path.parent.name / journal.path.name
        if self._path == journal.path.absolute():
            remedy = "give a directory on another disk"
            raise InvalidInput(Problem("the mirror would be the journal itself", str(directory), remedy))
        check_directory(directory)
        if directory.stat().st_dev == journal.path.stat().st_dev:
            _log.warning("the mirror is on the journal's own disk, and is lost with it", mirror=str(directory))
        self._directory = directory.absolute()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)
        # Written by the thread, read by the run.
        self._copied = 0
        self._why = ""
        self._taken = False
        # The run's own: what it waits for since when, and whether it has said that the copy is not kept up to date.
        self._due = (time.monotonic(), 0)
        self._told = False
        self._check_not_taken()

    def _check_not_taken(self) -> None:
        if not self._path.exists():
            return
        with Journal.open(self._journal.path, readonly=True) as source:
            replica = Replica(source, self._directory, self._path)
            try:
                replica.step()
            except Parted as error:
                remedy = f"resume that one (bootorch resume {self._path.parent}), or move it away"
                raise SafetyRefusal(Problem(f"{error}; nothing was sent", str(self._path), remedy)) from error
            except Gone as error:
                _log.warning("mirror", path=str(self._path), why=str(error))  # the run says it, when it has begun
            finally:
                replica.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self, wait_s: float = LAST_S) -> Lag:
        """Wait for the copy, no longer than ``wait_s`` and not at all where its disk is gone; end the thread."""
        give_up = time.monotonic() + wait_s
        while self._copied < self._journal.last_seq and not self._why and self._holds() and time.monotonic() < give_up:
            time.sleep(LOOK_S / 2)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_S + (0.0 if self._why else 1.0))  # on a disk that hangs it ends with the process
        return self.lag()

    def instead(self, error: JournalError) -> JournalError:
        """The error of a journal that cannot be written, and where the run can go on instead."""
        lag = self.finish()
        remedy = f"or go on from the mirror: bootorch resume {self._path.parent}"
        return JournalError([*error.problems, Problem(lag.words(), "--mirror", remedy)])

    def lag(self) -> Lag:
        behind = max(0, self._journal.last_seq - self._copied)
        return Lag(self._path, self._copied, behind, self._why)

    def news(self, t: float) -> list[Event]:
        """What has changed since the last call, as events of run time ``t``. Where another process goes on with the
        copy, it drives the same hosts: then the run pauses, and what is under way finishes."""
        now = time.monotonic()
        since, wanted = self._due
        if self._copied >= wanted:
            since, wanted = self._due = now, self._journal.last_seq
        late = now - since > LATE_S
        if self._taken:
            self._taken = False
            return [MirrorLost(t, str(self._path), self._why), Paused(t, "bootorch", self._why)]
        if not self._told and (self._why or late):
            self._told = True
            return [MirrorLost(t, str(self._path), self._why or f"it is {now - since:.0f} s behind")]
        if self._told and not self._why and not late and self._copied >= wanted:
            self._told = False
            return [MirrorBack(t, str(self._path))]
        return []

    def _loop(self) -> None:
        try:
            self._follow()
        except (OperatorError, OSError, sqlite3.Error) as error:
            self._why = f"the journal cannot be read: {error}"

    def _follow(self) -> None:
        with Journal.open(self._journal.path, readonly=True) as source:
            replica: Replica | None = None
            while not self._stop.is_set():
                wait_s = LOOK_S
                try:
                    if replica is None:
                        replica = Replica(source, self._directory, self._path)
                    while self._holds() and replica.step() and not self._stop.is_set():
                        self._copied = replica.copied
                    self._copied, self._why = replica.copied, ""
                except (Gone, OSError) as error:
                    self._why = str(error) or type(error).__name__
                    wait_s = AGAIN_S
                except Parted as error:
                    self._why = str(error)
                    self._taken = error.taken
                    break
                self._stop.wait(wait_s)
            if replica is not None:
                replica.close()
