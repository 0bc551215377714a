"""A journal of pangyo's 32,000 hosts: what a resume reads and folds, with a checkpoint and without.

Writes the journal of a simulated run (``journal_status.py``), then measures: the time to the state from all events,
what a checkpoint costs and how long it keeps the run from committing, and the time to the state from the checkpoint and
the events after it.

    python benchmarks/journal_resume.py [--keep DIR]
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

from journal_status import write

from bootorch.core.events import GateOpened
from bootorch.runtime import checkpoint
from bootorch.runtime.journal import Journal
from bootorch.runtime.load import load_from_parts

BEAT_S = 0.005  # between commits of the run that is watched while a checkpoint is written


def commits(path: Path, stop: threading.Event, longest: list[float]) -> None:
    """A run that commits all the time: its longest commit."""
    with Journal.open(path) as journal:
        while not stop.wait(BEAT_S):
            began = time.perf_counter()
            journal.append([GateOpened(0.0, "benchmark", "nobody")])
            longest.append(time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="a run's directory with its journal, or where to write one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary) / "run"
        if not (directory / "journal.sqlite").exists():
            write(directory)
        path = Path(temporary) / "journal.sqlite"
        for part in directory.glob("journal.*"):
            shutil.copyfile(part, Path(temporary) / part.name)
        measure(path)
    return 0


def measure(path: Path) -> None:
    with Journal.open(path, readonly=True) as journal:
        text, snapshot = journal.meta("plan").decode(), journal.meta("snapshot")
        place = Path(journal.meta("plan_path").decode())
    plan = load_from_parts(text, place.parent, snapshot, to_read=True).plan
    gc.freeze()

    def recovered(what: str) -> None:
        gc.disable()
        began, cpu = time.perf_counter(), time.process_time()
        with Journal.open(path, readonly=True) as journal:
            found = checkpoint.recover(journal, plan)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        print(f"{what}: {wall_s:.2f} s, {cpu_s:.2f} s CPU; {found.folded:,} of {found.event:,} events folded")
        gc.enable()

    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE IF EXISTS checkpoints")
        database.execute("DROP TABLE IF EXISTS checkpoint_parts")
    database.close()
    recovered("state from all events")
    longest: list[float] = []
    stop = threading.Event()
    running = threading.Thread(target=commits, args=(path, stop, longest))
    before = path.stat().st_size
    began = time.process_time()
    checkpoint.write(path, plan)
    print(f"a checkpoint: {time.process_time() - began:.2f} s CPU in a process beside the run")
    with Journal.open(path, readonly=True) as journal:
        seq, event = journal.execute("SELECT seq, event FROM checkpoints").fetchone()
        body = b"".join(part for (part,) in journal.execute("SELECT body FROM checkpoint_parts ORDER BY part"))
    print(f"its size: {len(body) / 1e6:.1f} MB in a journal of {before / 1e6:.0f} MB")
    recovered("state from the checkpoint")
    running.start()
    time.sleep(2.0)
    usual = sorted(longest)
    longest.clear()
    for _ in range(5):
        checkpoint.keep(path, seq, event, body)
        time.sleep(0.3)
    stop.set()
    running.join()
    print(
        f"a run's commit, usually: {usual[len(usual) // 2] * 1e3:.1f} ms, at most {usual[-1] * 1e3:.0f} ms; "
        f"while checkpoints are written: at most {max(longest) * 1e3:.0f} ms"
    )
    recovered("state from a checkpoint and what came after it")


if __name__ == "__main__":
    sys.exit(main())
