"""The recovery of the demo as the views' tests see it: 60 hosts, six groups, five injected faults."""

from __future__ import annotations

from bootorch.core.model import (
    Check,
    FeedLimit,
    Gate,
    Group,
    Host,
    Limits,
    Quorum,
    Requirement,
    SecondBoot,
    SshCheck,
    TcpCheck,
)
from bootorch.core.plan import Plan
from bootorch.sim.machine import BootFailure, MachineSpec
from tests.ui.world import World, make_host, make_plan

SIZES = {"switch": 4, "dns": 4, "storage": 6, "db": 8, "deploy": 2, "web": 36}


def demo_plan() -> Plan:
    hosts: list[Host] = []
    for group, size in SIZES.items():
        hosts += (make_host(f"{group}{i + 1:02d}", group, len(hosts) + i) for i in range(size))
    names = {group: tuple(host.name for host in hosts if host.group == group) for group in SIZES}
    ssh: tuple[Check, ...] = (SshCheck(),)
    groups = [
        Group("switch", names["switch"], ready=(TcpCheck(22),)),
        Group("dns", names["dns"], 0, (Requirement("switch", per_host="rack"),), redeploy=("/p/dns.yml",), ready=ssh),
        Group("storage", names["storage"], 1, (Requirement("dns", Quorum(count=2), across_racks=2),)),
        Group("db", names["db"], 1, (Requirement("storage", Quorum(share=0.6)),), redeploy=("/p/base.yml",)),
        Group("deploy", names["deploy"], 1, (Requirement("dns", Quorum(count=2)),), redeploy=("/p/deploy.yml",)),
        Group(
            "web",
            names["web"],
            2,
            (Requirement("db", Quorum(share=0.5)), Requirement("deploy", Quorum(count=1))),
            redeploy=("/p/base.yml", "/p/web.yml"),
            second_boot=SecondBoot.CYCLE,
        ),
    ]
    feeds = {"hall-a": FeedLimit(budget_watts=16000.0, ramp_watts_per_min=9000.0)}
    return make_plan(groups, hosts, Limits(feeds=feeds), [Gate("stable-power", ask="Who attests stable power?")])


def demo_world(**more: object) -> World:
    specs = {
        "web07": MachineSpec("web07", 50.0, dead_bmc=True),
        "web11": MachineSpec("web11", 60.0, silent_power_ons=1),
        "web23": MachineSpec("web23", 60.0, boot_failure=BootFailure.NO_POST),
        "db03": MachineSpec("db03", 60.0, initially_on=True),
        "web19": MachineSpec("web19", 70.0, playbook_failures=1),
    }
    return World(demo_plan(), specs, {"stable-power": (25.0, "kim")}, **more)  # type: ignore[arg-type]
