"""What ``bootorch forecast`` costs a host: one site of 32,000 beside ten sites of 100,000, the command as it is.

    python benchmarks/million.py [--small 1x32000] [--large 10x100000] [--rounds 1] [--repeat 10] [--seed 1]
                                 [--directory DIR]

Each size is a plan of its own, written by the example site's generator with the names of every site prefixed (its
management switches stand in one group: the control path of a plan knows one), and its snapshot, without Ansible
between: a million hosts through ansible-inventory take an hour. Then ``bootorch forecast PLAN --samples 1 --jobs 1`` is
run on each, a process of its own: CPU seconds, user and system, from the start of Python to the answer; that by host;
and the peak of memory. The small one runs ``--repeat`` times before and after each large one, and all of them count: a
machine that shares its caches with others differs by a third from minute to minute. The world is the field's but for
faults that end a host for good: where a service's first member dies, all that needs it is blocked and costs next to
nothing, and which one that is differs from plan to plan.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from pangyo import FOLDER, script

from bootorch.runtime import snapshot
from bootorch.runtime.sources import files_of, hash_files

SHARED = "mgmt-switch"
WORLD = """\
scale_to_deadlines: true
dead_bmc_share: 0
no_post_share: 0
young_dead_share: 0
old_dead_share: 0
epidemics: []
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", default="1x32000", help="sites x hosts of each")
    parser.add_argument("--large", default="10x100000")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=10, help="runs of the small one before and after each large one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keeps the plans for other measurements")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plans = {}
        for size in (given.small, given.large):
            sites, _, hosts = size.partition("x")
            directory = (given.directory or Path(scratch)) / size
            # In a process of its own: a child's peak of memory begins with its parent's.
            with ProcessPoolExecutor(1, get_context("fork")) as writer:
                plans[size] = writer.submit(write, directory, int(sites), int(hosts), given.seed).result()
        costs: dict[str, list[float]] = {size: [] for size in plans}
        turns = [given.small] * given.repeat + [given.large] + [given.small] * given.repeat
        for size in turns * given.rounds:
            plan, count = plans[size]
            cpu_s, wall_s, mib, said = forecast(plan)
            costs[size].append(cpu_s / count * 1e6)
            print(
                f"{size}: {cpu_s:.2f} s CPU ({wall_s:.1f} s), {cpu_s / count * 1e6:.1f} µs a host, "
                f"{mib:.0f} MiB: {said}",
                flush=True,
            )
        small, large = costs[given.small], median(costs[given.large])
        print(f"{given.small}: {min(small):.1f} to {max(small):.1f} µs a host, median {median(small):.1f}")
        print(f"a host costs {large / median(small):.3f} times as much")
    return 0


def forecast(plan: Path) -> tuple[float, float, float, str]:
    """CPU and wall seconds, MiB at most, and how the forecast ended."""
    program = str(Path(sys.executable).with_name("bootorch"))
    world = str(plan.with_name("world.yml"))
    command = [program, "forecast", str(plan), "--parameters", world, "--samples", "1", "--jobs", "1", "--json"]
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = os.posix_spawn(
            program, command, dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1)]
        )
        _, status, used = os.wait4(process, 0)
        wall_s = time.monotonic() - began
        output.seek(0)
        text = output.read()
    if os.waitstatus_to_exitcode(status) not in (0, 4):
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    whole = json.loads(text)["base"]["whole"]
    return (
        used.ru_utime + used.ru_stime,
        wall_s,
        used.ru_maxrss / 1024,
        ", ".join(
            f"{key[:-6]} {whole[key]:.0f}"
            for key in ("ready_hosts", "blocked_hosts", "quarantined_hosts", "left_hosts")
        ),
    )


def write(directory: Path, sites: int, hosts: int, seed: int) -> tuple[Path, int]:
    """The plan of so many sites with its snapshot: its path, and how many hosts there are."""
    module, generate = script("inventory/hosts"), script("generate")
    site = module.Site(hosts, seed)
    prefixes = [f"s{number + 1}-" if sites > 1 else "" for number in range(sites)]
    single = yaml.safe_load(generate.plan_text(module, site))
    whole = {**single, "site": {"bmc_networks": ["10.0.0.0/9"], "host_networks": ["10.128.0.0/9"]}}
    whole["inventory"] = "inventory.txt"
    whole["groups"] = {}
    whole["limits"] = {**single["limits"], "feeds": {}}
    del whole["limits"]["breaker"]  # so that it goes to its end
    gates = {name: dict(gate) for name, gate in single["gates"].items()}
    for gate in gates.values():
        if "groups" in gate:
            gate["groups"] = [prefix + name for prefix in prefixes for name in gate["groups"]]
    whole["gates"] = gates
    for prefix in prefixes:
        whole["limits"]["feeds"] |= {prefix + path: feed for path, feed in single["limits"]["feeds"].items()}
        for name, group in single["groups"].items():
            whole["groups"][named(name, prefix)] = renamed(group, prefix)
    whole["groups"][SHARED] = single["groups"][SHARED]
    directory.mkdir(parents=True, exist_ok=True)
    plan = directory / "plan.yml"
    plan.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    (directory / "world.yml").write_text(WORLD, encoding="utf-8")
    (directory / "inventory.txt").write_text("# its snapshot has the hosts\n", encoding="utf-8")
    variables, groups = inventory(module, site, prefixes)
    files = hash_files(files_of([directory / "inventory.txt"], directory), directory, {})
    meta = {
        "created": "2026-01-01T00:00:00+00:00",
        "bootorch": "benchmark",
        "ansible": "none",
        "hosts": len(variables),
        "paths": ["inventory.txt"],
        "files": {name: list(asdict(file).values()) for name, file in files.items()},
        "warnings": [],
    }
    snapshot.snapshot_path(plan).write_bytes(snapshot.serialise(meta, variables, groups))
    return plan, len(variables)


def named(group: str, prefix: str) -> str:
    return group if group == SHARED else prefix + group


def renamed(group: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """A group of the plan with the names of its site."""
    found = dict(group)
    if group["hosts"] != SHARED.replace("-", "_"):
        found["hosts"] = prefix.replace("-", "_") + group["hosts"]
    if "requires" in group:
        found["requires"] = [
            {**need, "group": named(need["group"], prefix)} if isinstance(need, dict) else named(need, prefix)
            for need in group["requires"]
        ]
    if "after" in group:
        found["after"] = [named(parent, prefix) for parent in group["after"]]
    if "first" in group:
        found["first"] = prefix + group["first"]
    if "redeploy" in group:
        found["redeploy"] = [str((FOLDER / playbook).resolve()) for playbook in group["redeploy"]]
    return found


def inventory(
    module: ModuleType, site: Any, prefixes: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Variables of every host, and members of every group, as ansible-inventory would give them."""
    single = module.inventory(site)
    shared = yaml.safe_load((FOLDER / "inventory" / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    own = single.pop("_meta")["hostvars"]
    del single["all"]
    for group in single.values():
        for name in group["hosts"] if "vars" in group else ():
            own[name].update(group["vars"])
    racks = {
        address: number for number, address in enumerate(sorted({by_rack(v["bmc_address"]) for v in own.values()}))
    }
    variables: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {"all": []}
    for index, prefix in enumerate(prefixes):
        for name, given in own.items():
            rack = index * len(racks) + racks[by_rack(given["bmc_address"])]
            unit = given["bmc_address"].rpartition(".")[2]
            facts = {**shared, **given}
            facts["bmc_address"] = f"10.{rack >> 8}.{rack & 255}.{unit}"
            facts["ansible_host"] = f"10.{128 + (rack >> 8)}.{rack & 255}.{unit}"
            for key in ("rack", "row", "feed", "image_server"):
                if key in facts:
                    facts[key] = prefix + facts[key]
            if "feeds" in facts:
                facts["feeds"] = [prefix + feed for feed in facts["feeds"]]
            variables[prefix + name] = facts
        for name, group in single.items():
            whole = name if name == SHARED.replace("-", "_") else prefix.replace("-", "_") + name
            groups.setdefault(whole, []).extend(prefix + host for host in group["hosts"])
    variables = dict(sorted(variables.items()))
    groups["all"] = list(variables)
    return variables, groups


def by_rack(address: str) -> str:
    return ".".join(f"{int(part):03}" for part in address.split(".")[:3])


if __name__ == "__main__":
    sys.exit(main())
