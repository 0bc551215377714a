"""Kill -9 at random moments and at every commit of real recoveries of a lab, and count what goes wrong.

    python benchmarks/kill_matrix.py random [--kills 300] [--hosts 100] [--kills-a-run 20] [--seed 1] [--redeploy]
    python benchmarks/kill_matrix.py boundaries [--hosts 8] [--commits 200] [--seed 1] [--redeploy]

``random``: as many recoveries as the kills need, each killed at random moments and resumed. ``boundaries``: a recovery
for each commit of a run, killed right before it and one killed right after it, before its effects have left; then
resumed. Judged by the lab: the log of its BMCs (no power-on without a reading since the last, no cycle, no reset), the
outcomes that its faults must lead to, an undisturbed run of the same lab, and how long processes of playbooks outlive
their run (5 s at most).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bootorch.lab import control
from bootorch.lab.control import LabInfo
from bootorch.lab.fleet import LabOptions
from tests.e2e.conftest import bootorch
from tests.e2e.kills import Killed, at_boundary, at_random, outcomes

_CALM: dict[tuple[int, int], tuple[dict[str, tuple[str, str]], float]] = {}  # outcomes of undisturbed runs, and seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["random", "boundaries"])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--hosts", type=int, default=None)
    parser.add_argument("--kills-a-run", type=int, default=20)
    parser.add_argument("--spread", type=float, default=4.0, help="seconds of a process within which it is killed")
    parser.add_argument("--commits", type=int, default=200, help="of a run: the last one that it is killed at")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redeploy", action="store_true", help="with the playbooks of this repository")
    given = parser.parse_args()
    hosts = given.hosts or (100 if given.how == "random" else 8)
    moments = Random(given.seed)
    faults: list[str] = []
    kills = 0
    if given.how == "random":
        for seed in itertools.count(given.seed):
            if kills >= given.kills:
                break
            wanted = min(given.kills_a_run, given.kills - kills)
            found = recovered(hosts, seed, given.redeploy, lambda info: at_random(info, moments, wanted, given.spread))  # noqa: B023
            kills += found.kills
            faults += found.faults
    else:
        for number in range(2, given.commits + 1):
            for moment in ("before", "after"):
                found = recovered(hosts, given.seed, given.redeploy, lambda info: at_boundary(info, moment, number))  # noqa: B023
                kills += found.kills
                faults += found.faults
            if not found.kills:
                break  # it ends before so many commits
    print(f"{kills} kills, {len(faults)} faults")
    return 1 if faults else 0


def recovered(hosts: int, seed: int, redeploy: bool, kill: Callable[[LabInfo], Killed]) -> Killed:
    """A recovery with kills, and, once for a lab, an undisturbed one."""
    with tempfile.TemporaryDirectory() as directory:
        for disturbed in (False, True) if (hosts, seed) not in _CALM else (True,):
            options = LabOptions(
                hosts=hosts,
                directory=Path(directory) / ("killed" if disturbed else "calm"),
                seed=seed,
                boot_seconds=(2.0, 6.0) if hosts >= 50 else (0.3, 0.8),
                silent_power=1,
                already_on=1,
                dead_bmc=1,
                redeploy=redeploy,
                playbook_fails_once=int(redeploy),
                network=f"127.{100 + seed % 100}.0.0/16",
                lifetime_s=3600.0,
            )
            info = control.up(options)
            began = time.monotonic()
            try:
                if not disturbed:
                    bootorch("run", info.plan)
                    _CALM[hosts, seed] = (outcomes(info.plan), time.monotonic() - began)
                    continue
                found = kill(info)
                undisturbed, calm_s = _CALM[hosts, seed]
                if (ended := outcomes(info.plan)) != undisturbed:
                    found.faults.append(f"other outcomes than undisturbed: {dict(ended.items() ^ undisturbed.items())}")
            finally:
                control.down(options.directory)
    took_s = time.monotonic() - began
    said = "; ".join(found.faults) or "all as undisturbed, the BMCs' log is clean"
    print(
        f"seed {seed}: {hosts} hosts, {found.kills} kills in {took_s:.0f} s (undisturbed {calm_s:.0f} s); "
        f"playbooks outlived their run by {found.left_s:.1f} s at most; {said}",
        flush=True,
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
