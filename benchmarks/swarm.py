"""Swarm testing of the engine: random plans, worlds, changes under way and kills, with the checkers beside it.

    python benchmarks/swarm.py --runs 2000 --seed 0 --jobs 2     seeds 0 to 1999
    python benchmarks/swarm.py --replay 17                       seed 17 alone, twice, compared byte for byte

A run that fails prints its seed and the command that plays it again. Every tenth run is played twice and compared.
``--replay`` compares with a second process too, whose hashes of strings are others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from bootorch.sim.swarm import CaseFailed, case_of, play

TWICE = 10  # every so manieth run is played again


@dataclass
class Tally:
    runs: int = 0
    events: int = 0
    hosts: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.runs += other.runs
        self.events += other.events
        self.hosts += other.hosts
        self.verdicts += other.verdicts
        self.failed += other.failed


def many(seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.runs += 1
        try:
            case = case_of(seed)
            played = play(case)
            if seed % TWICE == 0 and play(case_of(seed)).log() != played.log():
                raise CaseFailed("the same seed gives another run")
        except CaseFailed as error:
            tally.failed.append((seed, str(error)))
        except Exception:  # noqa: BLE001 - whatever the engine raises is found, too
            tally.failed.append((seed, traceback.format_exc(limit=-4)))
        else:
            tally.events += len(played.events)
            tally.hosts += len(case.plan.hosts)
            tally.verdicts[played.verdict] += 1
    return tally


def parts(first: int, runs: int, size: int = 20) -> Iterator[range]:
    for start in range(first, first + runs, size):
        yield range(start, min(start + size, first + runs))


def replay(seed: int, *, alone: bool) -> int:
    """Play one case and say how it ended; with ``alone`` print the digest of its log only."""
    case = case_of(seed)
    logs = []
    for _ in range(1 if alone else 2):
        try:
            logs.append(play(case_of(seed)).log())
        except CaseFailed as error:
            logs.append(f"FAILED: {error}")
    digests = [sha256(log.encode()).hexdigest() for log in logs]
    if alone:
        print(digests[0])
        return 0
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, "--replay", str(seed), "--digest"]
    digests.append(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip())
    print(f"seed {seed}: {len(case.plan.hosts)} hosts, features: {' '.join(case.features)}")
    print(logs[0] if logs[0].startswith("FAILED") else f"{logs[0].count(chr(10)) + 1} events")
    same = len(set(digests)) == 1
    print(f"two runs here and one in another process: {'the same, byte for byte' if same else 'NOT the same'}")
    return 0 if same and not logs[0].startswith("FAILED") else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others follow")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.replay is not None:
        return replay(given.replay, alone=given.digest)
    began = time.perf_counter()
    tally = Tally()
    if given.jobs > 1:
        with ProcessPoolExecutor(given.jobs) as pool:
            for part in pool.map(many, parts(given.seed, given.runs)):
                tally.add(part)
    else:
        for seeds in parts(given.seed, given.runs):
            tally.add(many(seeds))
    for seed, why in tally.failed:
        print(f"seed {seed}: {why}\n    python benchmarks/swarm.py --replay {seed}")
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.verdicts.items()))
    spent_s = time.perf_counter() - began
    print(
        f"{tally.runs} runs of {tally.hosts} hosts in {spent_s:.0f} s: {tally.events:,} events, all checked; "
        f"{verdicts}; {len(tally.failed)} failed"
    )
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
