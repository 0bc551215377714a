"""A journal of pangyo's 32,000 hosts: how long ``bootorch status`` takes on it, and what keeping the status costs.

The journal is a real one: a simulated run's durable events go through ``Journal.append``, as those of a real run do,
with the status that is kept once a second of run time. The process that is timed is a whole one, from the shell to the
last line.

    python benchmarks/journal_status.py [--keep DIR] [--cut SHARE]

``--cut`` ends the run after that share of its events without a last word, as a kill does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bootorch.core.engine import Engine
from bootorch.core.events import Event, RunEnded
from bootorch.core.model import Breaker
from bootorch.core.plan import Plan
from bootorch.runtime import snapshot as snapshots
from bootorch.runtime.journal import Journal
from bootorch.runtime.keeper import Keeper
from bootorch.runtime.load import load_from_parts
from bootorch.runtime.planfile import read_plan
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

SITE = Path(__file__).resolve().parent.parent / "inventory" / "pangyo"
ROUNDS = 7
TURN = 500  # events of one commit: virtual time would make one of each event, and wait for the disk each time
WALL = "2026-03-01T04:00:00+00:00"


def parts() -> tuple[str, bytes]:
    """Pangyo's plan and its rendered inventory; Ansible renders it where there is none (some 15 s)."""
    text, place = (SITE / "plan.yml").read_text(), snapshots.snapshot_path(SITE / "plan.yml")
    if not place.exists():
        snapshots.render(read_plan(SITE / "plan.yml")[0], None).write(place)
    return text, place.read_bytes()


def write(directory: Path, share: float = 1.0) -> tuple[Plan, int]:
    """A run's directory with its journal. Returns the plan and how many events were journalled."""
    text, snapshot = parts()
    plan = load_from_parts(text, SITE, snapshot, to_read=True).plan
    whole = replace(plan, limits=replace(plan.limits, breaker=Breaker()))  # without breakers it goes to its end
    engine = Engine(whole)
    simulation = Simulation(engine, World(whole, 1))
    meta = {"plan": text.encode(), "plan_path": str(SITE / "plan.yml").encode(), "snapshot": snapshot}
    directory.mkdir(parents=True, exist_ok=True)
    journalled, kept, spent_s, began = 0, 0, 0.0, time.process_time()
    most = int(share * 13 * len(plan.hosts)) if share < 1.0 else None
    with Journal.create(directory / "journal.sqlite", {**meta, "machine_boot": b""}) as journal:
        first = simulation.start(1, wall=WALL)
        keeper = Keeper(engine.state, first)
        journal.append(first)

        batch: list[Event] = []

        def turn(events: Sequence[Event], *, last: bool = False) -> None:
            nonlocal journalled, kept, spent_s
            before = time.process_time()
            keeper.tell(events)
            status = keeper.due(simulation.now, last=last)
            spent_s += time.process_time() - before
            kept += status is not None
            journalled += sum(getattr(event, "durable", True) for event in events)
            # To the millisecond, as the clock of a real run has it: finer digits are most of a journal's bytes.
            batch.extend(replace(event, t=round(event.t, 3)) for event in events)
            if status is not None or len(batch) >= TURN:
                journal.append(batch, status=status)
                batch.clear()

        while not (verdict := simulation.verdict()) and (most is None or journalled < most):
            turn(simulation.step())
        journal.append(batch)  # of a run that is cut off: without a status
        batch.clear()
        if verdict:
            end = RunEnded(simulation.now, verdict, WALL)
            engine.apply(end)
            turn([end], last=True)
    cpu_s = time.process_time() - began
    virtual_s = simulation.now
    print(
        f"{len(plan.hosts):,} hosts, {journalled:,} events, {verdict or 'cut off'} at {virtual_s / 60:.0f} min, "
        f"journal {(directory / 'journal.sqlite').stat().st_size / 1e6:.0f} MB"
    )
    print(
        f"keeping the status: {kept:,} times, {spent_s:.2f} s CPU: {spent_s / virtual_s:.3%} of the run's time, "
        f"{spent_s / cpu_s:.1%} of what engine, world and journal took, {spent_s / max(kept, 1) * 1e3:.2f} ms each"
    )
    return plan, journalled


def timed(*words: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of a whole process, the best of some, and its output."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    found = []
    for _ in range(ROUNDS):
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "bootorch.app", *words], capture_output=True, text=True, check=True, env=environment
        )
        after = os.times()
        wall_s = time.perf_counter() - began
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((wall_s, cpu_s, done.stdout))
    return min(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="keep the run's directory here, or use the one that is there")
    parser.add_argument("--cut", type=float, default=1.0, help="share of the events after which the run is killed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary) / "run"
        if not (directory / "journal.sqlite").exists():
            write(directory, given.cut)
        base_s, _, _ = timed("--version")
        for words in (("status", str(directory)), ("status", str(directory), "--json")):
            wall_s, cpu_s, _ = timed(*words)
            print(f"bootorch {' '.join(words[::2])}: {wall_s:.2f} s, {cpu_s:.2f} s CPU ({base_s:.2f} s for --version)")
        print("…", *islice(timed("status", str(directory))[2].splitlines()[-3:], 3), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
