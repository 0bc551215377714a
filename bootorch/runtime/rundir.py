"""Where runs are kept, and who holds one: a directory per run beside the plan, and a lock per run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal, ToolError

JOURNAL = "journal.sqlite"
LOCK = "lock"
RUNS = "runs"
_STAMP_CHARS = len("20260131T040000Z")


def runs_dir(plan: Path) -> Path:
    return plan.absolute().parent / RUNS


def new_run_dir(plan: Path, name: str, chosen: Path | None) -> Path:
    """Make the directory of a new run, readable by its owner only: ``runs/NAME-20260131T040000Z``."""
    # The latest run is the one whose name sorts last, also when the clock was set back since the one before.
    stamps = [path.parent.name.removeprefix(f"{name}-")[:_STAMP_CHARS] for path in journals(plan, name)]
    stamp = max([datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), *stamps])
    try:
        if chosen is not None:
            chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (chosen / JOURNAL).exists():
                remedy = f"bootorch resume {chosen}, or give another --run-dir"
                raise InvalidInput(Problem("a run is kept there already", str(chosen), remedy))
            return chosen.absolute()
        for suffix in ("", *(f"-{number:02}" for number in range(2, 100))):
            directory = runs_dir(plan) / f"{name}-{stamp}{suffix}"
            try:
                directory.mkdir(mode=0o700, parents=True)
            except FileExistsError:
                continue
            return directory
    except OSError as error:
        where = str(chosen or runs_dir(plan))
        problem = Problem(f"the run's directory cannot be made: {error.strerror}", where, "give --run-dir")
        raise ToolError(problem) from error
    raise ToolError(Problem("too many runs in one second", str(runs_dir(plan)), "try again"))


def discard_empty(directory: Path) -> None:
    """Remove the directory of a run that was refused before it had a journal."""
    with suppress(OSError):  # it has one
        directory.rmdir()


def journals(plan: Path, name: str) -> list[Path]:
    """Journals of the runs of the plan called ``name``, the latest last (their names hold the time)."""
    return sorted(
        path
        for path in runs_dir(plan).glob(f"{name}-*/{JOURNAL}")
        if path.parent.name.removeprefix(f"{name}-")[:1].isdigit()
    )


def find_journal(target: Path) -> Path | None:
    """The journal that ``target`` names directly: the file itself or the directory of a run."""
    if target.is_dir():
        return target / JOURNAL if (target / JOURNAL).exists() else None
    return target if target.name == JOURNAL or target.suffix == ".sqlite" else None


def running(directory: Path) -> list[Path]:
    """Directories of the runs that go on now, by name: ``directory`` itself, its runs, and those of the directories in
    it. A run that was given a ``--run-dir`` elsewhere is not found."""
    places = [directory, *sorted(directory.glob(f"{RUNS}/*")), *sorted(directory.glob(f"*/{RUNS}/*"))]
    return [place for place in dict.fromkeys(places) if (place / JOURNAL).exists() and is_held(place)]


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the lock of a run. Raises SafetyRefusal naming the holder when another process has it.

    The kernel gives the lock back when its holder ends, however it ends (flock(2)): a stale lock cannot exist.
    """
    path = directory / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(descriptor):
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "another process"
                remedy = "bootorch status shows it; bootorch pause stops it"
                message = f"run {directory.name} is being run by {holder}"
                raise SafetyRefusal(Problem(message, str(directory), remedy))
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                continue  # replaced at this very moment
            _sign(descriptor)
            yield
            return
        finally:
            os.close(descriptor)


@contextmanager
def held_instead(directory: Path) -> Iterator[Callable[[], bool]]:
    """Hold the lock of a run instead of a process that does not give it back (a stopped one): the file is replaced.

    Gives a function that says whether that process has ended. Only for who has taken its lease (``runtime.lease``).
    """
    path = directory / LOCK
    mine = path.with_name(f"{LOCK}.{os.getpid()}")
    old = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _locked(descriptor)
        _sign(descriptor)
        mine.replace(path)
        yield lambda: _locked(old, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
        os.close(old)


def _locked(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)


def is_held(directory: Path) -> bool:
    """Does a process run this journal at this moment?"""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
