"""From a plan as written and an inventory to a checked :class:`Plan`, or to everything that is wrong at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise

from bootorch.core import controlpath, graph
from bootorch.core.canonical import canonical
from bootorch.core.compile_limits import SLOTS, check_limits, with_forks
from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal
from bootorch.core.fence import check_fence, check_urls
from bootorch.core.hostfacts import ENGINE_FACTS, OWN_FACTS, Findings, HostReader, is_missing
from bootorch.core.inventory import Inventory, digest_of
from bootorch.core.model import ALL, Group, Host, Limits, Requirement
from bootorch.core.patterns import PatternError, match, no_match
from bootorch.core.plan import Plan
from bootorch.core.slices import SLICE_HOSTS
from bootorch.core.slots import REDEPLOY, kinds_during, slots_of
from bootorch.core.spec import NO_CONTROL, GroupSpec, PlanSpec

POWER_DRIVERS = ("ipmi",)
MOST_COMPARED = 2_000  # names compared to guess a slip of the keyboard: difflib takes some 20 µs for each


@dataclass(frozen=True)
class Compiled:
    """A plan that may run, and what its author should still know."""

    plan: Plan
    warnings: tuple[Problem, ...] = ()


def compile_plan(spec: PlanSpec, inventory: Inventory) -> Compiled:
    """Check everything that can be checked without touching anything.

    Raises InvalidInput with all problems at once; SafetyRefusal, with all of them too, when nothing but circles through
    the control path is wrong: they are no mistake of the file, and somebody has to choose how each is broken.
    """
    findings, warnings = Findings(), Findings()
    members = _members(spec, inventory, findings)
    _check_overlaps(spec, members, findings)
    hosts = _read_hosts(spec, inventory, members, findings)
    links = _check_links(spec, findings)
    counts: dict[tuple[str, str], Counter[str]] = {}  # of a group's hosts, by a fact
    for name in spec.groups:
        _check_first(spec, name, members[name], findings)
        for index, requirement in enumerate(spec.groups[name].requires):
            if requirement.group in spec.groups:
                place = spec.where("groups", name, "requires", index)
                _check_requirement(name, requirement, members, hosts, place, counts, findings, warnings)
    _check_cycles(spec, links, findings)
    limits = check_limits(spec, hosts, inventory, findings, warnings)
    _check_together(spec, members, hosts, limits, findings)
    _check_endpoints(spec, hosts, findings)
    check_fence(spec, hosts, findings)
    check_urls(spec, findings)
    controlled = spec.control != NO_CONTROL
    control = controlpath.read(spec, inventory, hosts, findings, warnings) if controlled else controlpath.Control()
    groups = {
        name: _group(name, group, members[name], control.requires.get(name, ())) for name, group in spec.groups.items()
    }
    # Circles are looked for only among groups that exist; with an unknown one there is a problem to solve first.
    known = all(parent in spec.groups for parents in links.values() for parent in parents)
    circles = controlpath.circles(spec, _known(groups), hosts) if control.requires and known else []
    if problems := findings.all():
        raise InvalidInput([*problems, *circles])
    if circles:
        raise SafetyRefusal(circles)
    plan = Plan(
        name=spec.name,
        environment=spec.environment,
        site=spec.site,
        hosts=dict(sorted(hosts.items())),
        groups=groups,
        limits=with_forks(limits, groups.values()),
        gates={**spec.gates, **control.gates},
        waves=_waves(groups),
        digest=digest_of(canonical(spec, limits), inventory.digest),
        dns_group=spec.control.dns.group if spec.control.dns else "",
    )
    return Compiled(plan, warnings.all())


def _known(groups: Mapping[str, Group]) -> Mapping[str, Group]:
    """Groups without what refers to none (which is reported)."""
    return {
        name: replace(
            group,
            requires=tuple(requirement for requirement in group.requires if requirement.group in groups),
            after=tuple(parent for parent in group.after if parent in groups),
        )
        for name, group in groups.items()
    }


def _group(name: str, spec: GroupSpec, hosts: tuple[str, ...], control: tuple[Requirement, ...]) -> Group:
    return Group(
        name=name,
        hosts=hosts,
        tier=spec.tier,
        requires=(*spec.requires, *control),
        after=spec.after,
        first=spec.first,
        ready=spec.ready,
        verify=spec.verify,
        redeploy=spec.redeploy,
        together=spec.together,
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


def _check_together(
    spec: PlanSpec,
    members: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Host],
    limits: Limits,
    findings: Findings,
) -> None:
    kinds = kinds_during(limits, REDEPLOY)
    for name, group in spec.groups.items():
        where = spec.where("groups", name, "together")
        if group.together and len(members[name]) > SLICE_HOSTS:
            message = f"group {name} has {len(members[name])} hosts, too many to be together in one play"
            findings.add(message, where, f"{SLICE_HOSTS} at most; make a group of each cluster")
        if group.together and len({slots_of(hosts[member], kinds) for member in members[name]}) > 1:
            facts = ", ".join(kinds)
            message = f"group {name}: hosts of one play take the same servers, and these differ in {facts}"
            findings.add(message, where, f"give them the same {facts}, or make a group of each cluster")


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
    named = [requirement.per_host for group in spec.groups.values() for requirement in group.requires]
    named += [slot for slot in spec.limits.slots if slot not in SLOTS]
    named += controlpath.variables(spec)
    extra = sorted({fact for fact in named if fact and fact not in (*OWN_FACTS, *ENGINE_FACTS)})
    where = spec.inventory_name
    reader = HostReader(
        findings,
        where,
        spec.directory,
        (*extra, *ENGINE_FACTS),
        names=spec.names,
        dns=spec.control.dns is not None or spec.to_read,
        supplies=spec.supplies,
    )
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


def _check_first(spec: PlanSpec, name: str, members: Sequence[str], findings: Findings) -> None:
    first = spec.groups[name].first
    if first is None or not members:
        return
    where = spec.where("groups", name, "first")
    inside = set(members)
    for index, host in enumerate(first.candidates):
        if host not in inside:
            close = get_close_matches(host, members[:MOST_COMPARED], n=1)
            remedy = f"did you mean {close[0]}?" if close else f"name members of {name}"
            findings.add(f"group {name}: the first member {host!r} is none of its hosts", where, remedy)
        elif host in first.candidates[:index]:
            findings.add(f"group {name}: the first member {host} is named twice", where, "name each host once")


def _check_cycles(spec: PlanSpec, links: Mapping[str, Sequence[str]], findings: Findings) -> None:
    """Cycles of groups, the shortest first, each with its edges and those that are best cut."""
    found = sorted(graph.cycles(links), key=len)
    if not found:
        return
    edges = {(name, parent): _edges(spec, name, parent) for name, parents in links.items() for parent in parents}
    cut = graph.cut(links, rank=lambda edge: max(rank for rank, _, _ in edges[edge]))
    written = "; ".join(f"{words} ({where})" for edge in cut for _, words, where in edges[edge])
    for number, cycle in enumerate(found):
        own = [pair for pair in pairwise(cycle) if pair in cut]
        way = ", ".join(f"{words} ({where})" for pair in pairwise(cycle) for _, words, where in edges[pair])
        remove = " and ".join(words for pair in own for _, words, _ in edges[pair])
        remedy = f"none of these groups could ever start: {way}; remove {remove}"
        if not number and len(found) > 1:
            remedy += f". Removing these leaves no cycle at all: {written}"
        findings.add(f"cycle: {' waits for '.join(cycle)}", edges[own[0]][0][2], remedy)


def _edges(spec: PlanSpec, name: str, parent: str) -> list[tuple[int, str, str]]:
    """How readily a wait is given up (order only, then a quorum, then all), its words and its place."""
    group = spec.groups[name]
    found = [
        (2 if requirement.quorum == ALL else 1, f"{name} requires {parent}", spec.where("groups", name, "requires", i))
        for i, requirement in enumerate(group.requires)
        if requirement.group == parent
    ]
    found += [
        (0, f"{name} after {parent}", spec.where("groups", name, "after", index))
        for index, other in enumerate(group.after)
        if other == parent
    ]
    return found


def _waves(groups: Mapping[str, Group]) -> tuple[tuple[str, ...], ...]:
    """Levels, for people. Groups that need each other for the control path, though no host does, stand on one."""
    links = {name: [*(r.group for r in group.requires), *group.after] for name, group in groups.items()}
    return tuple(tuple(sorted(level, key=lambda name: groups[name].tier)) for level in graph.levels(links))


def _check_requirement(
    name: str,
    requirement: Requirement,
    members: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Host],
    where: str,
    counts: dict[tuple[str, str], Counter[str]],
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
        own = counts.get((requirement.group, fact))
        if own is None:  # counted once: a hundred groups may hang on the same thirty thousand switches
            own = counts[requirement.group, fact] = Counter(hosts[host].fact(fact) for host in parents)
        if own[""]:
            _need_fact(fact, requirement.group, parents, hosts, f"per_host of {name}", where, findings)
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


def _check_endpoints(spec: PlanSpec, hosts: Mapping[str, Host], findings: Findings) -> None:
    where = spec.inventory_name
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
