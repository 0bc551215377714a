"""The example site: its plan is what the generator writes, and what the benchmarks build is what Ansible would give."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bootorch.core.compile import compile_plan
from bootorch.core.inventory import Inventory
from bootorch.runtime.planfile import missing_files, read_plan

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = ROOT / "inventory" / "pangyo"
SMALL = 3200


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def listed(hosts: int) -> dict[str, dict[str, object]]:
    """What the script prints for Ansible."""
    environment = {**os.environ, "PANGYO_HOSTS": str(hosts), "PANGYO_SEED": "1"}
    script = SITE / "inventory" / "hosts.py"
    done = subprocess.run([script, "--list"], env=environment, capture_output=True, check=True, text=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def as_inventory(found: dict[str, dict[str, object]]) -> Inventory:
    """As ansible-inventory would flatten it, with the variables of group_vars/all.yml."""
    common = {"ansible_user": "root", "bmc_user": "bootorch", "bmc_password_file": "~/.config/bootorch/bmc_password"}
    hostvars = {name: {**common, **own} for name, own in found["_meta"]["hostvars"].items()}
    groups = {}
    for name, group in found.items():
        if name not in ("_meta", "all"):
            groups[name] = tuple(group["hosts"])
            for host in group["hosts"]:
                hostvars[host] = {**group.get("vars", {}), **hostvars[host]}
    return Inventory(hostvars, groups)


def test_the_plan_is_what_the_generator_writes() -> None:
    subprocess.run([sys.executable, SITE / "generate.py", "--check"], check=True, capture_output=True)
    spec, _ = read_plan(SITE / "plan.yml")
    assert not missing_files(spec)
    assert len(spec.groups) == 120
    assert {group.tier for group in spec.groups.values()} == set(range(9))


def test_the_full_site_has_its_size_and_no_address_twice() -> None:
    module = load(SITE / "inventory" / "hosts.py")
    site = module.Site(32_000, 1)
    hosts = list(site.place())
    assert len(hosts) == len({host.name for host in hosts}) == 32_000
    assert len({module.addresses(host.rack, host.unit) for host in hosts}) == 32_000
    assert len({host.rack for host in hosts}) == 1000
    assert Counter(host.service.name for host in hosts)["tor"] == 1000
    assert len({site.hall(host.rack) for host in hosts}) == 4


def test_the_same_seed_gives_the_same_site_and_another_one_another() -> None:
    module = load(SITE / "inventory" / "hosts.py")
    same = [list(module.Site(SMALL, seed).place()) for seed in (1, 1, 2)]
    assert same[0] == same[1]
    assert same[0] != same[2]


@pytest.mark.parametrize("hosts", [1200, SMALL])
def test_a_smaller_site_has_every_service(hosts: int) -> None:
    found = listed(hosts)
    assert len(found["_meta"]["hostvars"]) == hosts
    assert all(found[service.group]["hosts"] for service in load(SITE / "inventory" / "hosts.py").read_services())


def test_the_benchmark_builds_the_plan_that_ansible_would_give() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        benchmark = load(ROOT / "benchmarks" / "pangyo.py")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    built = benchmark.build(SMALL)
    spec, _ = read_plan(SITE / "plan.yml")
    roomy = {path: replace(limit, budget_watts=1e12) for path, limit in spec.limits.feeds.items()}
    compiled = compile_plan(replace(spec, limits=replace(spec.limits, feeds=roomy)), as_inventory(listed(SMALL))).plan
    assert built.hosts.keys() == compiled.hosts.keys()
    for name, host in compiled.hosts.items():
        own = built.hosts[name]
        assert replace(own, bmc_password=None, facts=dict(own.facts)) == replace(
            host, bmc_password=None, facts=dict(host.facts)
        )
    assert built.groups == compiled.groups
    assert built.waves == compiled.waves


def test_ten_sites_are_ten_plans_in_one() -> None:
    benchmark = load(ROOT / "benchmarks" / "pangyo.py")
    plan = benchmark.build(SMALL, sites=3)
    assert len(plan.hosts) == 3 * SMALL
    assert len(plan.groups) == 360
    assert len({host.bmc.address for host in plan.hosts.values()}) == 3 * SMALL
    for group in plan.groups.values():
        own = group.name.split("-")[0]
        assert all(need.group.startswith(f"{own}-") for need in group.requires)
        assert all(plan.hosts[name].group == group.name for name in group.hosts)
    assert all(plan.site.allows_bmc(host.bmc.address) for host in plan.hosts.values())
    assert all(plan.site.allows_host(host.address) for host in plan.hosts.values())
