"""From a plan as written and an inventory to a checked :class:`Plan`, or to everything that is wrong at once."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from bootorch.core import graph
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.fence import check_fence, check_urls
from bootorch.core.hostfacts import OWN_FACTS, Findings, HostReader, is_missing
from bootorch.core.inventory import Inventory, digest_of
from bootorch.core.model import Console, Group, Host, Limits, Requirement
from bootorch.core.patterns import PatternError, match, no_match
from bootorch.core.plan import Plan
from bootorch.core.spec import GroupSpec, PlanSpec

POWER_DRIVERS = ("ipmi",)
SLOTS = ("bmc_per_subnet", "consoles", "image_server", "redeploy_forks")


@dataclass(frozen=True)
class Compiled:
    """A plan that may run, and what its author should still know."""

    plan: Plan
    warnings: tuple[Problem, ...] = ()


def compile_plan(spec: PlanSpec, inventory: Inventory) -> Compiled:
    """Check everything that can be checked without touching anything. Raises InvalidInput with all problems at once."""
    findings, warnings = Findings(), Findings()
    members = _members(spec, inventory, findings)
    _check_overlaps(spec, members, findings)
    hosts = _read_hosts(spec, inventory, members, findings)
    links = _check_links(spec, findings)
    for name in spec.groups:
        for index, requirement in enumerate(spec.groups[name].requires):
            if requirement.group in spec.groups:
                place = spec.where("groups", name, "requires", index)
                _check_requirement(name, requirement, members, hosts, place, findings, warnings)
    waves = _waves(spec, links, findings)
    _check_limits(spec, hosts, findings, warnings)
    _check_endpoints(spec, hosts, findings)
    check_fence(spec, hosts, findings)
    check_urls(spec, findings)
    if problems := findings.all():
        raise InvalidInput(problems)
    plan = Plan(
        name=spec.name,
        environment=spec.environment,
        site=spec.site,
        hosts=dict(sorted(hosts.items())),
        groups={name: _group(name, group, members[name]) for name, group in spec.groups.items()},
        limits=_normalised(spec.limits),
        gates=spec.gates,
        waves=waves,
        digest=digest_of(_canonical(spec), inventory.digest),
    )
    return Compiled(plan, warnings.all())


def inventory_name(spec: PlanSpec) -> str:
    """The inventory as the plan names it: the place of what is wrong with a host's variables."""
    return ", ".join(_relative(spec, path) for path in spec.inventory)


def _group(name: str, spec: GroupSpec, hosts: tuple[str, ...]) -> Group:
    return Group(
        name=name,
        hosts=hosts,
        tier=spec.tier,
        requires=spec.requires,
        after=spec.after,
        first=spec.first,
        ready=spec.ready,
        verify=spec.verify,
        redeploy=spec.redeploy,
        boot_device=spec.boot_device,
        second_boot=spec.second_boot,
        console=spec.console,
        adopted=spec.adopted,
        deadlines=spec.deadlines,
        attempts=spec.attempts,
    )


def _members(spec: PlanSpec, inventory: Inventory, findings: Findings) -> dict[str, tuple[str, ...]]:
    members: dict[str, tuple[str, ...]] = {}
    for name, group in spec.groups.items():
        where = spec.where("groups", name, "hosts")
        members[name] = ()
        try:
            found = match(inventory, group.pattern)
        except PatternError as error:
            findings.add(f"group {name}: {error}", where, "see Ansible's guide to host patterns")
            continue
        members[name] = found.hosts
        for term in found.unmatched:
            problem = no_match(inventory, term, where)
            findings.add(f"group {name}: {problem.message}", where, problem.remedy)
        if not found.hosts and not found.unmatched:
            findings.add(
                f"group {name} is empty: {group.pattern!r} matches no host",
                where,
                "correct the pattern, or remove the group from the plan",
            )
    return members


def _check_overlaps(spec: PlanSpec, members: Mapping[str, Sequence[str]], findings: Findings) -> None:
    first: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, hosts in members.items():
        for host in hosts:
            if (other := first.setdefault(host, name)) != name:
                shared[other, name].append(host)
    for (one, two), hosts in shared.items():
        pattern, other = spec.groups[one].pattern, spec.groups[two].pattern
        simple = not any(mark in other for mark in ":,!&")
        remedy = f'write hosts: "{pattern}:!{other}" in {one}' if simple else f"take them out of {one} or {two} with :!"
        findings.add(
            f"{len(hosts)} hosts are both in {one} and in {two}; a host belongs to one group",
            spec.where("groups", two, "hosts"),
            remedy,
            sorted(hosts),
        )


def _read_hosts(
    spec: PlanSpec, inventory: Inventory, members: Mapping[str, Sequence[str]], findings: Findings
) -> dict[str, Host]:
    named = (requirement.per_host for group in spec.groups.values() for requirement in group.requires)
    extra = sorted({fact for fact in named if fact and fact not in OWN_FACTS})
    where = inventory_name(spec)
    reader = HostReader(findings, where, spec.directory, tuple(extra))
    hosts: dict[str, Host] = {}
    for name, group in spec.groups.items():
        for member in members[name]:
            if member not in hosts:
                hosts[member] = reader.read(member, name, inventory.hosts[member], group.power)
    known = ", ".join(POWER_DRIVERS)
    for host in hosts.values():
        if host.power not in POWER_DRIVERS:
            findings.host(host.name, f"unknown power driver {host.power!r}", where, f"available: {known}")
    return hosts


def _check_links(spec: PlanSpec, findings: Findings) -> dict[str, list[str]]:
    """Groups that each group waits for, unknown ones reported and left out."""
    links: dict[str, list[str]] = {}

    def link(name: str, parent: str, where: str) -> None:
        if parent in spec.groups:
            links[name].append(parent)
            return
        close = get_close_matches(parent, spec.groups, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"groups of the plan: {', '.join(spec.groups)}"
        findings.add(f"group {name} waits for {parent!r}, which is no group of the plan", where, remedy)

    for name, group in spec.groups.items():
        links[name] = []
        for index, requirement in enumerate(group.requires):
            link(name, requirement.group, spec.where("groups", name, "requires", index))
        for index, parent in enumerate(group.after):
            link(name, parent, spec.where("groups", name, "after", index))
    return links


def _waves(spec: PlanSpec, links: Mapping[str, Sequence[str]], findings: Findings) -> tuple[tuple[str, ...], ...]:
    found = graph.cycles(links)
    for cycle in found:
        findings.add(
            f"cycle: {' waits for '.join(cycle)}",
            spec.where("groups", cycle[0], "requires"),
            "remove one of these dependencies: none of these groups could ever start",
        )
    if found:
        return ()
    return tuple(tuple(sorted(level, key=lambda name: spec.groups[name].tier)) for level in graph.waves(links))


def _check_requirement(
    name: str,
    requirement: Requirement,
    members: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Host],
    where: str,
    findings: Findings,
    warnings: Findings,
) -> None:
    parents = members[requirement.group]
    quorum, fact = requirement.quorum, requirement.per_host
    if quorum.share is not None and not 0 < quorum.share <= 1:
        findings.add(
            f"group {name}: a quorum of {quorum.share:.0%} is not within 0-100 %", where, "write 50%, 2 or all"
        )
        return
    if quorum.count is not None and quorum.count < 1:
        findings.add(f"group {name}: a quorum of {quorum.count} waits for nobody", where, "use after, or at least 1")
    if not parents:
        return  # reported as an empty group
    if fact is None and quorum.count is not None and quorum.count > len(parents):
        findings.add(
            f"group {name} needs {quorum.count} of {requirement.group}, which has {len(parents)} hosts",
            where,
            f"a quorum of at most {len(parents)}",
        )
    if requirement.across_racks:
        _need_fact("rack", requirement.group, parents, hosts, f"across_racks of {name}", where, findings)
        racks = {hosts[host].rack for host in parents} - {""}
        if (wanted := requirement.across_racks) > len(racks):
            findings.add(
                f"group {name} needs {requirement.group} across {wanted} racks; it is in {len(racks)}",
                where,
                "lower across_racks, or correct the rack of these hosts",
                sorted(parents),
            )
    if fact is not None:
        _need_fact(fact, name, members[name], hosts, f"per_host of {name}", where, findings)
        _need_fact(fact, requirement.group, parents, hosts, f"per_host of {name}", where, findings)
        own = Counter(hosts[host].fact(fact) for host in parents)
        for host in members[name]:
            value = hosts[host].fact(fact)
            if not value:
                continue
            if own[value] == 0:
                message = f"hosts of {name} without a {requirement.group} of their own {fact} wait for none"
                warnings.host(host, message, where, f"check {fact}", value)
            elif quorum.count is not None and quorum.count > own[value]:
                message = f"group {name} needs {quorum.count} of {requirement.group} per {fact}, and there are fewer"
                findings.host(host, message, where, "lower the quorum", f"{fact} {value} has {own[value]}")


def _need_fact(
    fact: str, group: str, names: Iterable[str], hosts: Mapping[str, Host], why: str, where: str, findings: Findings
) -> None:
    for name in names:
        if not hosts[name].fact(fact):
            remedy = f"set the variable {fact} of these hosts in the inventory"
            findings.host(name, f"no {fact} in group {group}, which {why} needs", where, remedy)


def _check_limits(spec: PlanSpec, hosts: Mapping[str, Host], findings: Findings, warnings: Findings) -> None:
    for slot in spec.limits.slots:
        if slot not in SLOTS:
            close = get_close_matches(slot, SLOTS, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"known slots: {', '.join(SLOTS)}"
            findings.add(f"unknown slot {slot!r}", spec.where("limits", "slots", slot), remedy)
    feeds = _normalised(spec.limits).feeds
    if not feeds:
        return
    where = inventory_name(spec)
    steady: Counter[str] = Counter()
    surge: dict[str, float] = {}  # by how much a host draws more while it boots
    for host in hosts.values():
        if not host.feed:
            findings.host(host.name, "no feed, and the plan limits feeds", where, "set feed, such as hall-a/row-3")
            continue
        limited = [path for path in _ancestors(host.feed) if path in feeds]
        if limited and not host.watts_boot_peak:
            remedy = "set watts_boot_peak, as measured or from the server's name plate"
            findings.host(host.name, "no watts_boot_peak on a limited feed", where, remedy)
        for path in limited:
            steady[path] += round(host.watts_steady)
            surge[path] = max(surge.get(path, 0.0), host.watts_boot_peak - host.watts_steady)
            budget, ramp = feeds[path].budget_watts, feeds[path].ramp_watts_per_min
            if ramp is not None and host.watts_boot_peak > ramp:
                findings.host(
                    host.name,
                    f"the ramp of feed {path} is below what one host draws while it boots",
                    spec.where("limits", "feeds", path),
                    "correct ramp_watts_per_min or watts_boot_peak",
                    f"{host.watts_boot_peak:.0f} W of {ramp:.0f} W per minute",
                )
            if budget is not None and host.watts_boot_peak > budget:
                findings.host(
                    host.name,
                    f"the budget of feed {path} is below what one host draws while it boots",
                    spec.where("limits", "feeds", path),
                    "correct budget_watts or watts_boot_peak",
                    f"{host.watts_boot_peak:.0f} W of {budget:.0f} W",
                )
    for path, total in steady.items():
        budget = feeds[path].budget_watts
        last = total + round(surge[path])
        if budget is not None and last > budget:
            warnings.add(
                f"feed {path}: its hosts draw {total} W when all are up and {last} W while the last one boots, "
                f"over the budget of {budget:.0f} W",
                spec.where("limits", "feeds", path),
                "the last hosts will not be powered on unless the budget is raised",
            )


def _normalised(limits: Limits) -> Limits:
    feeds = {path.strip("/"): limit for path, limit in limits.feeds.items()}
    return replace(limits, feeds=feeds)


def _ancestors(feed: str) -> list[str]:
    """``hall-a/row-3`` hangs on ``hall-a``: both, from the root down."""
    parts = feed.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _check_endpoints(spec: PlanSpec, hosts: Mapping[str, Host], findings: Findings) -> None:
    where = inventory_name(spec)
    bmcs = _shared((host.name, host.bmc.address, host.bmc.port) for host in hosts.values())
    if bmcs:
        remedy = "correct bmc_address: the power of one host would switch another"
        message = f"{len(bmcs)} BMC endpoints belong to more than one host each ({_shown(bmcs)})"
        findings.add(message, where, remedy, sorted(set().union(*bmcs.values())))
    addresses = _shared((host.name, host.address, host.ssh_port) for host in hosts.values())
    if addresses:
        remedy = "correct ansible_host: one host would answer for another"
        message = f"{len(addresses)} address endpoints belong to more than one host each ({_shown(addresses)})"
        findings.add(message, where, remedy, sorted(set().union(*addresses.values())))


def _shared(endpoints: Iterable[tuple[str, str, int]]) -> dict[tuple[str, int], list[str]]:
    """Endpoints (address, port) of more than one host, with the hosts' names."""
    first: dict[tuple[str, int], str] = {}
    shared: dict[tuple[str, int], list[str]] = {}
    for name, address, port in endpoints:
        other = first.setdefault((address, port), name)
        if other != name and not is_missing(address):
            shared.setdefault((address, port), [other]).append(name)
    return shared


def _shown(shared: Mapping[tuple[str, int], Sequence[str]]) -> str:
    return "; ".join(
        f"{address} port {port}: {', '.join(names[:3])}" for (address, port), names in [*shared.items()][:3]
    )


def _canonical(spec: PlanSpec) -> object:
    """The plan without what depends on where its file lies."""
    limits = _normalised(spec.limits)
    return {
        "name": spec.name,
        "environment": spec.environment,
        "site": [[str(net) for net in spec.site.bmc_networks], [str(net) for net in spec.site.host_networks]],
        "feeds": {path: repr(limit) for path, limit in limits.feeds.items()},
        "slots": dict(limits.slots),
        "breaker": repr(limits.breaker),
        "gates": {name: repr(gate) for name, gate in spec.gates.items()},
        "groups": {
            name: [
                repr(replace(group, redeploy=())),
                [_relative(spec, path) for path in group.redeploy],
                *_later(group),
            ]
            for name, group in spec.groups.items()
        },
    }


def _later(group: GroupSpec) -> list[str]:
    """Settings that came after the first release, where they are used: a plan without them keeps its digest, so that
    a run that an earlier release began can be resumed."""
    return [f"console={group.console}"] if group.console is not Console.BOOT else []


def _relative(spec: PlanSpec, path: str) -> str:
    return posixpath.relpath(path, spec.directory or "/")
