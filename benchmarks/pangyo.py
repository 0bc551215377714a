"""The example site of inventory/pangyo in memory: its plan with as many hosts and sites as a benchmark wants.

The plan is the file's own, read as every plan is; the hosts come from the inventory's script without Ansible between,
because a million hosts through Ansible take an hour. ``tests/inventory`` compares the two ways at a small size.

    python benchmarks/pangyo.py [--hosts 32000] [--sites 1] [--seed 1] [--sample]

What such a plan costs to build and hold, and with ``--sample`` to recover once in virtual time.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType
from typing import Any

from bootorch.core.compile import compile_plan
from bootorch.core.engine import Engine
from bootorch.core.events import Event
from bootorch.core.inventory import Inventory
from bootorch.core.model import Breaker, Endpoint, FeedLimit, First, Group, Host, Requirement, Site
from bootorch.core.plan import Plan
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.spec import PlanSpec
from bootorch.runtime.planfile import read_plan
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

FOLDER = Path(__file__).resolve().parent.parent / "inventory" / "pangyo"
FULL_SIZE = 32_000


def script(name: str) -> ModuleType:
    """``inventory/hosts`` or ``generate`` of the example site, as a module."""
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"pangyo_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(hosts: int = FULL_SIZE, seed: int = 1, sites: int = 1) -> Plan:
    """The plan for ``sites`` copies of the site with ``hosts`` hosts each. Budgets scale with the size.

    Of several sites, names begin with ``s1-`` and so on, and no site waits for another.
    """
    spec, _ = read_plan(FOLDER / "plan.yml")
    module = script("inventory/hosts")
    site = module.Site(hosts, seed)
    small = _compiled(spec, module, seed)
    placed = list(site.place())
    found: dict[str, Host] = {}
    groups: dict[str, Group] = {}
    feeds: dict[str, FeedLimit] = {}
    for number in range(sites):
        prefix = f"s{number + 1}-" if sites > 1 else ""
        own = _hosts(module, site, placed, prefix, number)
        found.update(own)
        members: dict[str, list[str]] = {}
        for host in own.values():
            members.setdefault(host.group, []).append(host.name)
        groups.update(_groups(small.groups, members, prefix))
        feeds.update(_feeds(spec, module, site, prefix))
    waves = tuple(
        tuple(f"s{number + 1}-{name}" if sites > 1 else name for number in range(sites) for name in wave)
        for wave in small.waves
    )
    gates = {
        name: replace(gate, groups=tuple(f"s{n + 1}-{group}" for n in range(sites) for group in gate.groups))
        if sites > 1
        else gate
        for name, gate in small.gates.items()
    }
    return replace(
        small,
        site=small.site if sites == 1 else Site((ip_network("10.0.0.0/9"),), (ip_network("10.128.0.0/9"),)),
        hosts=dict(sorted(found.items())),
        groups=groups,
        limits=replace(small.limits, feeds=feeds),
        gates=gates,
        waves=waves,
    )


def _compiled(spec: PlanSpec, module: ModuleType, seed: int) -> Plan:
    """The plan over the smallest site that has every service: all that does not depend on the number of hosts."""
    tiny = module.inventory(module.Site(3200, seed))
    hostvars = tiny["_meta"]["hostvars"]
    members: dict[str, tuple[str, ...]] = {}
    for name, group in tiny.items():
        if name not in ("_meta", "all"):
            members[name] = tuple(group["hosts"])
            for host in group["hosts"] if "vars" in group else ():
                hostvars[host].update(group["vars"])
    for variables in hostvars.values():
        variables.update(bmc_user="bootorch", ansible_user="root", bmc_password_file="bmc_password")
    feeds = {path: replace(limit, budget_watts=1e12) for path, limit in spec.limits.feeds.items()}
    roomy = replace(spec, limits=replace(spec.limits, feeds=feeds), directory=str(FOLDER))
    return compile_plan(roomy, Inventory(hostvars, members)).plan


def _hosts(module: ModuleType, site: Any, placed: list[Any], prefix: str, number: int) -> dict[str, Host]:
    secret = SecretRef(SecretKind.FILE, "bmc_password")
    shared: dict[object, Any] = {}
    found: dict[str, Host] = {}
    for at in placed:
        model = module.MODELS[at.service.model]
        rack = number * site.racks + at.rack
        if prefix:
            bmc, address = f"10.{rack >> 8}.{rack & 255}.{at.unit}", f"10.{128 + (rack >> 8)}.{rack & 255}.{at.unit}"
        else:
            bmc, address = module.addresses(at.rack, at.unit)
        facts = {"row": prefix + site.row_name(at.row)}
        if at.service.boots_from == "pxe":
            facts["image_server"] = prefix + site.image_server(at.rack)
        if age := module.age_of(at.age_years):
            facts["age"] = age
        feeds = tuple(prefix + feed for feed in site.feeds(at))
        name = sys.intern(prefix + at.name)
        found[name] = Host(
            name=name,
            group=sys.intern(prefix + at.service.name),
            bmc=Endpoint(bmc, 623),
            bmc_user="bootorch",
            bmc_password=secret,
            address=address,
            ssh_user="root",
            rack=sys.intern(prefix + site.rack_name(at.rack)),
            feeds=shared.setdefault(feeds, feeds),
            model=at.service.model,
            firmware=at.firmware,
            watts_boot_peak=float(model.peak),
            watts_steady=float(model.steady),
            boot_s=float(model.boot_s),
            facts=shared.setdefault(tuple(facts.items()), facts),
        )
    return found


def _groups(groups: Mapping[str, Group], members: Mapping[str, list[str]], prefix: str) -> dict[str, Group]:
    def requirement(given: Requirement) -> Requirement:
        return replace(given, group=prefix + given.group, hosts=())

    found: dict[str, Group] = {}
    for name, group in groups.items():
        names = tuple(members[prefix + name])
        found[prefix + name] = replace(
            group,
            name=prefix + name,
            hosts=names,
            requires=tuple(map(requirement, group.requires)),
            after=tuple(prefix + parent for parent in group.after),
            first=First((names[0],)) if group.first is not None else None,
        )
    return found


def _feeds(spec: PlanSpec, module: ModuleType, site: Any, prefix: str) -> dict[str, FeedLimit]:
    """Those of the plan that this site has, by share of its size."""
    scale = site.racks / (FULL_SIZE // module.RACK_HOSTS)
    per_row = site.racks / site.rows / module.ROW_RACKS
    paths = {site.feed_of_row(row) for row in range(site.rows)}
    found: dict[str, FeedLimit] = {}
    for path in sorted({*paths, *(path.split("/")[0] for path in paths)}):
        given = spec.limits.feeds.get(path) or spec.limits.feeds[f"{path.split('/')[0]}/row-01"]
        share = scale * len(module.HALLS) / site.halls if "/" not in path else per_row
        # Two hosts at least can boot at once, whatever the scale.
        budget = max(given.budget_watts * share, 2000.0) if given.budget_watts else None
        ramp = max(given.ramp_watts_per_min * share, 2000.0) if given.ramp_watts_per_min else None
        found[prefix + path] = replace(given, budget_watts=budget, ramp_watts_per_min=ramp)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=FULL_SIZE, help="of one site")
    parser.add_argument("--sites", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", action="store_true", help="also run one recovery of it in virtual time")
    given = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    gc.disable()
    plan = build(given.hosts, given.seed, given.sites)
    size = len(plan.hosts)
    spent_s = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    memory = f"{grown / 1024:.0f} MiB, {grown * 1024 / size:.0f} B a host"
    print(f"{size} hosts, {len(plan.groups)} groups: {spent_s:.1f} s, {memory}", flush=True)
    if given.sample:
        sample(plan, given.seed)
    return 0


def sample(plan: Plan, seed: int) -> None:
    """One recovery in virtual time: what it costs. Without breakers, so that it goes to its end."""
    plan = replace(plan, limits=replace(plan.limits, breaker=Breaker()))
    size = len(plan.hosts)
    gc.freeze()
    gc.disable()  # as a forecast does
    began = time.process_time()
    simulation = Simulation(Engine(plan), World(plan, seed))
    simulation.start(seed)
    built_s = time.process_time() - began
    events = 0

    def count(turn: Sequence[Event]) -> None:
        nonlocal events
        events += len(turn)

    began = time.process_time()
    end = simulation.finish(count)
    spent_s = time.process_time() - began
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{end.verdict} at {simulation.now / 60:.0f} min of virtual time: {built_s:.1f} s CPU for the state; "
        f"{events} events in {spent_s:.1f} s CPU: {events / spent_s:,.0f}/s, {spent_s / size * 1e6:.0f} µs a host; "
        f"peak {peak_mib:.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
