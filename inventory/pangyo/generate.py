#!/usr/bin/env python3
"""Writes ``plan.yml`` beside it, from the same tables and the same seed as the inventory script.

    python generate.py [--check]     --check: says whether plan.yml is what would be written, and changes nothing

A plan is usually written by hand. This one is generated because its budgets are sums over 32,000 hosts.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
HALL_BUDGET = 0.6  # of what its hosts would draw if they all booted at once
HALL_RAMP = 0.1  # of the same, a minute
ROW_BUDGET = 0.8

READY = {
    "core": "[{tcp: 22}]",
    "spine": "[{tcp: 22}]",
    "tor": "[{tcp: 22}]",
    "mgmt-switch": "[{tcp: 22}]",
    "dns": "[ssh, {dns: {name: a.pangyo.internal, expect: 10.32.0.2}}]",
    "ldap": "[ssh, {tcp: 636}]",
    "kdc": "[ssh, {tcp: 88}]",
    "vault": '[ssh, {http: "http://{address}:8200/v1/sys/health"}]',
    "etcd": '[ssh, {http: "http://{address}:2379/health"}]',
    "image": '[ssh, {http: "http://{address}/images/manifest"}]',
    "block-mon": '[ssh, {command: "ceph quorum_status"}]',
    "object-mon": '[ssh, {command: "ceph quorum_status"}]',
    "k8s-control": '[ssh, {http: "http://{address}:8080/readyz"}]',
    "login": '[ssh, {http: "http://{address}:8080/healthz"}]',
    "web-front": '[ssh, {http: "http://{address}:8080/healthz"}]',
    "api-gateway": '[ssh, {http: "http://{address}:8080/healthz"}]',
}
SLOW = {"db-g10", "st-g8", "st-g9", "gpu-g10"}  # models that may take more than the usual deadline of a boot

HEAD = """\
# A site of 32,000 hosts: 120 services in 9 tiers. Written by generate.py; see README.md.
name: pangyo-cold-boot
environment: production
site: {bmc_networks: [10.20.0.0/14], host_networks: [10.32.0.0/13]}
inventory: inventory
gates:
  stable-power: {ask: "Who attests that the utility's power is stable?"}
  cooling: {check: {http: "http://10.39.255.10:8080/cooling"}}
  chillers: {wait: 30m, groups: [gpu-train, recommend, assistant]}
control:
  switch: {group: mgmt-switch, per_host: row}
defaults:
  deadlines: {bmc: 20m, power: 2m, boot: 20m, ready: 10m, redeploy: 30m, verify: 10m}
  attempts: {power: 4, boot: 2, redeploy: 3}
"""


def load_hosts() -> ModuleType:
    """The inventory script as a module."""
    spec = importlib.util.spec_from_file_location("pangyo_hosts", HERE / "inventory" / "hosts.py")
    if spec is None or spec.loader is None:
        raise SystemExit("inventory/hosts.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def plan_text(hosts: ModuleType, site: object) -> str:
    return HEAD + "".join(f"{line}\n" for line in (*_limits(hosts, site), "groups:", *_groups(hosts, site)))


def _limits(hosts: ModuleType, site: object) -> list[str]:
    peaks: Counter[str] = Counter()
    for host in site.place():  # type: ignore[attr-defined]
        peak = hosts.MODELS[host.service.model].peak
        feeds = site.feeds(host)  # type: ignore[attr-defined]
        for path in {"/".join(feed.split("/")[:depth]) for feed in feeds for depth in (1, 2)}:
            peaks[path] += peak
    lines = [
        "limits:",
        "  slots: {bmc_per_subnet: 16, image_server: {limit: 120, adaptive: true}, redeploy_forks: 400}",
        "  breaker: {group_failed_share: 0.3, cluster_failures: 40}",
        "  feeds:",
    ]
    halls = sorted(path for path in peaks if path.count("/") == 0)
    for hall in halls:
        budget, ramp = _kilowatts(peaks[hall] * HALL_BUDGET), _kilowatts(peaks[hall] * HALL_RAMP)
        lines.append(f"    {hall}: {{budget_watts: {budget}, ramp_watts_per_min: {ramp}}}")
        rows = sorted(path for path in peaks if path.count("/") == 1 and path.startswith(f"{hall}/"))
        lines += [f"    {row}: {{budget_watts: {_kilowatts(peaks[row] * ROW_BUDGET)}}}" for row in rows]
    return lines


def _kilowatts(watts: float) -> str:
    return f"{-(-int(watts) // 1000)}kW"


def _groups(hosts: ModuleType, site: object) -> list[str]:
    lines = []
    tier = -1
    for service in site.services:  # type: ignore[attr-defined]
        if service.tier != tier:
            tier = service.tier
            lines.append(f"  # tier {tier}")
        words = [f"hosts: {service.group}", f"tier: {tier}"]
        needs = [_need(need) for need in service.needs if not need.order]
        if hosts.has_rack_switch(service):
            needs.insert(0, "{group: tor, per_host: rack}")
        if needs:
            words.append(f"requires: [{', '.join(needs)}]")
        if service.first:
            words.append(f"first: {site.name(service.name, 0)}")  # type: ignore[attr-defined]
        if after := [need.service for need in service.needs if need.order]:
            words.append(f"after: [{', '.join(after)}]")
        if ready := READY.get(service.name):
            words.append(f"ready: {ready}")
        if service.playbook != "-":
            words.append(f"redeploy: [../../playbooks/{service.playbook}.yml]")
        if service.boots_from != "disk":
            words.append(f"boot_device: {service.boots_from}")
        if service.model in SLOW:
            words.append("deadlines: {boot: 40m}")
        lines.append(f"  {service.name}: {{{', '.join(words)}}}")
    return lines


def _need(need: object) -> str:
    service, quorum, racks = need.service, need.quorum, need.racks  # type: ignore[attr-defined]
    if not quorum:
        return str(service)
    words = [f"group: {service}", f"quorum: {quorum}"]
    if racks:
        words.append(f"across_racks: {racks}")
    return f"{{{', '.join(words)}}}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    hosts = load_hosts()
    text = plan_text(hosts, hosts.configured())
    path = HERE / "plan.yml"
    if given.check:
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        print("plan.yml is as generated" if same else "plan.yml differs from what would be generated")
        return 0 if same else 1
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(text.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
