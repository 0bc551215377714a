"""How far a recovery of real packets is from its longest chain of boot times: nothing else should cost time.

    python benchmarks/lab_recovery.py [--hosts 200] [--boot-seconds 2 10] [--seed 1]

Starts a lab, runs its plan (no redeploy) through the command line, and compares the time of the last ready host with
the lower bound: for each host its own boot time after the k-th ready of what it requires, worked out here from the
lab's boot times and the plan's dependencies, by code that shares nothing with the engine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from math import ceil
from pathlib import Path

import yaml

from bootorch.lab import control
from bootorch.lab.fleet import Fleet, LabHost, LabOptions, build


def lower_bound_s(fleet: Fleet, plan: dict[str, dict[str, dict[str, object]]]) -> float:
    """When the last host can be ready at the earliest, if packets, checks and electricity took no time."""
    groups = plan["groups"]

    @cache
    def ready_s(host: LabHost) -> float:
        return host.machine.boot_s + max((held_s(host, need) for need in needs(host.group)), default=0.0)

    def needs(group: str) -> list[dict[str, object]]:
        written = groups[group].get("requires", [])
        assert isinstance(written, list)
        return [need if isinstance(need, dict) else {"group": need} for need in written]

    def held_s(host: LabHost, need: dict[str, object]) -> float:
        parents = [p for p in fleet.group(str(need["group"])) if "per_host" not in need or p.rack == host.rack]
        times = sorted((ready_s(parent), parent.rack) for parent in parents)
        quorum = need.get("quorum", "all")
        share = str(quorum).rstrip("%")
        wanted = len(parents) if quorum == "all" else int(share)
        if str(quorum).endswith("%"):
            wanted = ceil(int(share) / 100 * len(parents))
        racks = need.get("across_racks", 0)
        assert isinstance(racks, int)
        seen: set[str] = set()
        for count, (time, rack) in enumerate(times, start=1):
            seen.add(rack)
            if count >= wanted and len(seen) >= racks:
                return time
        return times[-1][0] if times else 0.0

    return max(ready_s(host) for host in fleet.hosts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--boot-seconds", type=float, nargs=2, default=(2.0, 10.0))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options = LabOptions(
            hosts=given.hosts,
            directory=Path(directory) / "lab",
            seed=given.seed,
            boot_seconds=tuple(given.boot_seconds),
            lifetime_s=900.0,
        )
        info = control.up(options)
        try:
            plan = yaml.safe_load(info.plan.read_text())
            bound_s = lower_bound_s(build(replace(options, directory=info.directory)), plan)
            command = [sys.executable, "-m", "bootorch.app", "run", str(info.plan), "--json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        finally:
            control.down(info.directory)
    report = json.loads(done.stdout)
    settled_s = max(host["settled_s"] for host in report["hosts"].values())
    print(f"{given.hosts} hosts, exit {done.returncode}: all ready after {settled_s:.1f} s")
    print(f"longest chain of boot times {bound_s:.1f} s, ratio {settled_s / bound_s:.2f}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
