"""Plans for tests: built as values, without files; random ones for hypothesis."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import strategies as st

from bootorch.core.graph import levels, waves
from bootorch.core.model import (
    Attempts,
    Breaker,
    CommandCheck,
    Deadlines,
    Endpoint,
    Environment,
    FeedLimit,
    Gate,
    Group,
    Host,
    Limits,
    Quorum,
    Requirement,
    SecondBoot,
    Site,
    SshCheck,
    TcpCheck,
)
from bootorch.core.plan import Plan
from bootorch.sim.swarm import FEATURES, Case, make_case

SITE = Site((ip_network("127.0.0.0/8"),), (ip_network("127.0.0.0/8"),))


def make_host(name: str, group: str, number: int, **facts: object) -> Host:
    address = f"127.1.{number // 250}.{number % 250 + 1}"
    host = Host(
        name=name,
        group=group,
        bmc=Endpoint(address, 20623),
        bmc_user="admin",
        bmc_password=None,
        address=address.replace("127.1.", "127.2."),
        rack=f"r{number % 4}",
        feeds=(f"hall/row-{number % 2}",),
        model="m1",
        watts_boot_peak=400.0,
        watts_steady=250.0,
    )
    return replace(host, **facts)  # type: ignore[arg-type]


def make_plan(
    groups: dict[str, tuple[int, Group]],
    limits: Limits | None = None,
    gates: tuple[Gate, ...] = (),
    facts: dict[str, dict[str, object]] | None = None,
    *,
    tied: bool = False,
) -> Plan:
    """``groups``: name -> (number of hosts, group without its hosts). ``tied``: groups may need each other, or
    themselves, as long as no host does."""
    hosts: dict[str, Host] = {}
    filled: dict[str, Group] = {}
    number = 0
    for name, (size, group) in groups.items():
        names = tuple(f"{name}{index + 1}" for index in range(size))
        for host in names:
            hosts[host] = make_host(host, name, number, **(facts or {}).get(host, {}))
            number += 1
        filled[name] = replace(group, name=name, hosts=names)
    parents = {name: [*(r.group for r in g.requires), *g.after] for name, g in filled.items()}
    return Plan(
        name="test",
        environment=Environment.LAB,
        site=SITE,
        hosts=dict(sorted(hosts.items())),
        groups=filled,
        limits=limits or Limits(),
        gates={gate.name: gate for gate in gates},
        waves=levels(parents) if tied else waves(parents),
        digest="0" * 64,
    )


def group(**settings: object) -> Group:
    return replace(Group("", ()), **settings)  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A random plan: up to six groups in any order of dependency, with every kind of limit."""
    groups: dict[str, tuple[int, Group]] = {}
    names = [f"g{index}" for index in range(draw(st.integers(1, 6)))]
    for index, name in enumerate(names):
        size = draw(st.integers(1, 6))
        requires, after = [], []
        for parent in names[:index]:
            match draw(st.sampled_from(["no", "no", "all", "count", "share", "racks", "per_host", "after"])):
                case "all":
                    requires.append(Requirement(parent))
                case "count":
                    requires.append(Requirement(parent, Quorum(count=draw(st.integers(1, groups[parent][0])))))
                case "share":
                    requires.append(Requirement(parent, Quorum(share=draw(st.sampled_from([0.1, 0.5, 0.9])))))
                case "racks":
                    requires.append(Requirement(parent, Quorum(count=1), across_racks=min(2, groups[parent][0])))
                case "per_host":
                    requires.append(Requirement(parent, per_host="rack"))
                case "after":
                    after.append(parent)
        groups[name] = (
            size,
            Group(
                name="",
                hosts=(),
                tier=draw(st.integers(0, 2)),
                requires=tuple(requires),
                after=tuple(after),
                ready=draw(st.sampled_from([(SshCheck(),), (TcpCheck(22),), (SshCheck(), CommandCheck("true"))])),
                verify=draw(st.sampled_from([(), (CommandCheck("true"),)])),
                redeploy=draw(st.sampled_from([(), ("/a.yml",), ("/a.yml", "/b.yml")])),
                second_boot=draw(st.sampled_from(list(SecondBoot))),
                deadlines=Deadlines(),
                attempts=Attempts(),
            ),
        )
    limits = Limits(
        feeds=draw(
            st.sampled_from(
                [
                    {},
                    {"hall": FeedLimit(budget_watts=9000.0)},
                    {"hall": FeedLimit(budget_watts=9000.0, ramp_watts_per_min=800.0)},
                    {"hall": FeedLimit(ramp_watts_per_min=1200.0), "hall/row-1": FeedLimit(budget_watts=4500.0)},
                ]
            )
        ),
        slots=draw(st.sampled_from([{}, {"bmc_per_subnet": 2}, {"redeploy_forks": 3, "bmc_per_subnet": 1}])),
        breaker=draw(st.sampled_from([Breaker(), Breaker(group_failed_share=0.5), Breaker(same_model_failures=4)])),
    )
    return make_plan(groups, limits)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A random recovery with everything that a model can say: plan, world, changes under way, kills. It shrinks."""
    features = draw(st.lists(st.sampled_from(FEATURES), unique=True))
    rng = draw(st.randoms(use_true_random=False))
    return make_case(rng, draw(st.integers(0, 2**16)), sorted(features))
