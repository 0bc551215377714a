"""The journal at full size: how fast it is written and read back, and how big it gets.

A run of the example site (inventory/pangyo, 32,000 hosts) is simulated and journalled with the real journal on a real
disk: what is durable, in groups, each with a full sync. Then it is read back as a resume does it: read, chain of hashes
checked, decoded, folded into the state of 32,000 hosts.

    python benchmarks/journal.py [--directory DIR] [--batch 250] [--events 1000000] [--seed 1]

``--directory`` is on the disk that is measured, and keeps the journal for other measurements. The inventory's snapshot
must be there: ``bootorch inventory snapshot inventory/pangyo/plan.yml``. One core, one process.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from bootorch.core.engine import Engine
from bootorch.core.events import Answer, Event, Intent, Kind, RunEnded
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.state import State
from bootorch.runtime.journal import Journal, machine_boot_id
from bootorch.runtime.load import LoadedPlan, load_plan
from bootorch.sim.parameters import FIELD
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

PLAN = Path(__file__).resolve().parent.parent / "inventory" / "pangyo" / "plan.yml"


def load() -> LoadedPlan:
    return load_plan(PLAN, require_snapshot=True, allow_stale=True)


def simulated(plan: Plan, seed: int) -> list[Event]:
    """The durable events of a run over the whole site in the field's world, with its failures and retries."""
    simulation = Simulation(Engine(plan), World(plan, seed, FIELD))
    events: list[Event] = list(simulation.start(seed))
    simulation.finish(events.extend)
    return [event for event in events if getattr(event, "durable", True)]


def lengthened(events: list[Event], count: int, plan: Plan) -> list[Event]:
    """As many events as asked for: readings of hosts' power, as a resume makes them, before the run's end."""
    end = events[-1]
    longer = [event for event in events if not isinstance(event, RunEnded)]
    ident = max(event.id for event in events if isinstance(event, Intent))
    names = list(plan.hosts)
    for number in range((count - len(events) + 1) // 2):
        ident += 1
        name = names[number % len(names)]
        longer.append(Intent(end.t, ident, Kind.POWER_READ, name, args={"survey": True}))
        longer.append(Answer(end.t, ident, Kind.POWER_READ, name, Reason.OK, data={"power": "on"}))
    return [*longer, end][:count]


def write(loaded: LoadedPlan, path: Path, events: list[Event], batch: int) -> dict[str, float]:
    """A journal as ``run`` makes it. Seconds for the events, of the clock and of the processor, and of the longest
    transaction."""
    meta = {
        "plan": loaded.plan_text.encode(),
        "plan_path": str(PLAN).encode(),
        "snapshot": loaded.snapshot.content,
        "machine_boot": machine_boot_id().encode(),
    }
    longest = 0.0
    with Journal.create(path, meta) as journal:
        begun, used = time.perf_counter(), time.process_time()
        for start in range(0, len(events), batch):
            before = time.perf_counter()
            journal.append(events[start : start + batch])
            longest = max(longest, time.perf_counter() - before)
        wall = time.perf_counter() - begun
        return {"wall": wall, "cpu": time.process_time() - used, "longest": longest}


def replay(plan: Plan, path: Path) -> dict[str, dict[str, float]]:
    """Seconds of the clock and of the processor for each part, and for all of it at once, as a resume does it."""
    found: dict[str, dict[str, float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()  # as ``runtime.checkpoint.recover`` does
        begun, used = time.perf_counter(), time.process_time()
        work()
        cpu, wall = time.process_time() - used, time.perf_counter() - begun
        found[name] = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}

    def all_of(work: Iterable[object]) -> None:
        for _ in work:
            pass

    with Journal.open(path, readonly=True) as journal:
        state = State(plan)

        def fold() -> None:
            for event in journal.events():
                state.fold(event)

        timed("read", lambda: all_of(journal.pages()))
        timed("read and check", lambda: all_of(journal.checked()))
        timed("read, check and decode", lambda: all_of(journal.events()))
        timed("read, check, decode and fold", fold)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    loaded = load()
    plan = loaded.plan
    events = simulated(plan, options.seed)
    print(f"{len(events):,} durable events of {len(plan.hosts):,} hosts", file=sys.stderr)
    print(Counter(event.type for event in events).most_common(), file=sys.stderr)
    if options.directory is not None:
        options.directory.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=options.directory) as scratch:
        directory = options.directory or Path(scratch)
        path = directory / "journal.sqlite"
        spent = write(loaded, path, events, options.batch)
        figures: dict[str, object] = {
            "hosts": len(plan.hosts),
            "events": len(events),
            "events_per_host": round(len(events) / len(plan.hosts), 1),
            "journal_mb": round(path.stat().st_size / 1e6, 1),
            "batch": options.batch,
            "written_s": round(spent["wall"], 2),
            "events_per_s": round(len(events) / spent["wall"]),
            "events_per_cpu_s": round(len(events) / spent["cpu"]),
            "longest_transaction_ms": round(spent["longest"] * 1000, 1),
        }
        del events[-1:]
        longer = Path(scratch) / "longer.sqlite"
        if options.events > len(events):
            write(loaded, longer, lengthened([*events, RunEnded(events[-1].t, "done", "")], options.events, plan), 5000)
        else:
            shutil.copy(path, longer)
        figures["replay_events"] = options.events
        figures["replay"] = replay(plan, longer)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
