"""Where runs are kept, and who holds one: a directory per run beside the plan, a lock per run and per plan."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal, ToolError

JOURNAL = "journal.sqlite"
LOCK = "lock"
RUNS = "runs"


def runs_dir(plan: Path) -> Path:
    return plan.absolute().parent / RUNS


def make_runs_dir(runs: Path) -> None:
    """Where the locks of plans are kept, even if the run itself is kept elsewhere."""
    try:
        runs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        problem = Problem(
            f"the lock of the plan cannot be made: {error.strerror}", str(runs), "copy the plan elsewhere"
        )
        raise ToolError(problem) from error


def new_run_dir(plan: Path, name: str, chosen: Path | None) -> Path:
    """Make the directory of a new run, readable by its owner only: ``runs/NAME-20260131T040000Z``."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        if chosen is not None:
            chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (chosen / JOURNAL).exists():
                remedy = f"bootorch resume {chosen}, or give another --run-dir"
                raise InvalidInput(Problem("a run is kept there already", str(chosen), remedy))
            return chosen.absolute()
        for suffix in ("", *(f"-{number}" for number in range(2, 100))):
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
def held(directory: Path, what: str) -> Iterator[None]:
    """Hold the lock of a run or a plan. Raises SafetyRefusal naming the holder when another process has it.

    The kernel gives the lock back when its holder ends, however it ends (flock(2)): a stale lock cannot exist.
    """
    path = directory / LOCK if directory.is_dir() else directory
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "another process"
            remedy = "bootorch status shows it; bootorch pause stops it"
            raise SafetyRefusal(Problem(f"{what} is being run by {holder}", str(path.parent), remedy)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Does a process run this journal at this moment?"""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
