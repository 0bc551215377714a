"""What the recovery itself needs to reach a host: its switch, DHCP and DNS for its addresses, the place its credential
comes from, the thing that feeds its feed.

Each need becomes a requirement of the groups that have it (``Requirement.control``), so that the engine waits for it
before it asks a BMC. Where such needs go round in a circle, nobody could ever be reached: the plan is refused until
one of the breaks is chosen. Circles are decided host by host, because a group of switches may well hang on another
switch of the same group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from bootorch.core import graph
from bootorch.core.errors import Problem
from bootorch.core.hostfacts import Findings, is_name
from bootorch.core.inventory import Inventory
from bootorch.core.model import Gate, Group, Host, Requirement
from bootorch.core.nodesets import fold
from bootorch.core.patterns import PatternError, match, no_match
from bootorch.core.secret import SecretKind
from bootorch.core.spec import GroupNeed, PlanSpec
from bootorch.core.waits import Wait, Waits

# What breaks each need. A manual step, attested by a person at a gate, breaks any.
BREAKS: Mapping[str, tuple[str, ...]] = {
    "switch": ("manual_step",),
    "dhcp": ("static_address", "manual_step"),
    "dns": ("hosts_entry", "manual_step"),
    "credential": ("cached_credential", "manual_step"),
    "feed": ("manual_step",),
}
ADDRESS_FROM, CREDENTIAL_FROM = "bmc_address_from", "credential_from"  # host variables
OWN_NAME = "inventory_hostname"

_WHAT = {
    "switch": "a switch to be reached",
    "dhcp": "DHCP for BMC addresses",
    "dns": "DNS for names",
    "credential": "BMC credentials",
    "feed": "electricity that is switched on",
}


@dataclass(frozen=True)
class Control:
    """``requires``: what is added to each group; ``gates``: manual steps that a person attests."""

    requires: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)
    gates: Mapping[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True)
class _Need:
    """``what`` of ``names``: a requirement without its hosts."""

    requirement: Requirement
    names: Sequence[str]


def variables(spec: PlanSpec) -> tuple[str, ...]:
    """The host variables that the control path of this plan is made of."""
    control, found = spec.control, []
    if control.dhcp:
        found.append(ADDRESS_FROM)
    if control.credentials:
        found.append(CREDENTIAL_FROM)
    if control.switch:
        found += [name for name in (control.switch.per_host, control.switch.fact) if name]
    return tuple(found)


def read(
    spec: PlanSpec, inventory: Inventory, hosts: Mapping[str, Host], findings: Findings, warnings: Findings
) -> Control:
    """The needs of all hosts, those taken away that a break takes away. Wrong ones are in ``findings``."""
    members: dict[str, list[str]] = {name: [] for name in spec.groups}
    for host in hosts.values():
        members[host.group].append(host.name)
    reader = _Reader(spec, inventory, hosts, members, findings, warnings)
    needs = list(reader.needs())
    broken, gates = reader.breaks(needs)
    requires: dict[str, list[Requirement]] = {}
    for need in needs:
        by_group: dict[str, list[str]] = {}
        gone = broken.get(need.requirement.control, set())
        for name in need.names:
            if name not in gone:
                by_group.setdefault(hosts[name].group, []).append(name)
        for group, names in by_group.items():
            only = () if len(names) == len(members[group]) else tuple(names)
            requires.setdefault(group, []).append(replace(need.requirement, hosts=only))
    return Control({name: tuple(found) for name, found in requires.items()}, gates)


@dataclass(frozen=True)
class _Reader:
    spec: PlanSpec
    inventory: Inventory
    hosts: Mapping[str, Host]
    members: Mapping[str, Sequence[str]]
    findings: Findings
    warnings: Findings

    def needs(self) -> Iterator[_Need]:
        control, everybody = self.spec.control, list(self.hosts.values())
        yield from self._switches()
        if control.dhcp and self._group(control.dhcp, "dhcp"):
            for host in self.hosts.values():
                if (word := host.fact(ADDRESS_FROM)) not in ("", "dhcp", "static"):
                    self._host(host, f"{ADDRESS_FROM} is neither dhcp nor static", "write one of them", word)
            yield self._need("dhcp", control.dhcp, [host for host in everybody if host.fact(ADDRESS_FROM) == "dhcp"])
        if control.dns and self._group(control.dns, "dns"):
            named = [host for host in everybody if is_name(host.bmc.address) or is_name(host.address)]
            yield self._need("dns", control.dns, named)
        for source, need in control.credentials.items():
            if self._group(need, "credentials", source):
                yield self._need("credential", need, [h for h in everybody if h.fact(CREDENTIAL_FROM) == source])
        if control.credentials:
            for host in self.hosts.values():
                if (word := host.fact(CREDENTIAL_FROM)) and word not in control.credentials:
                    close = get_close_matches(word, control.credentials, n=1)
                    known = ", ".join(control.credentials)
                    remedy = f"did you mean {close[0]}?" if close else f"sources of control.credentials: {known}"
                    self._host(host, f"{CREDENTIAL_FROM} {word!r} is not in control.credentials", remedy)
        for path, need in control.feeds.items():
            if self._group(need, "feeds", path):
                yield self._need("feed", need, [host for host in everybody if self._hangs_on(host, path)])

    def _need(self, control: str, need: GroupNeed, hosts: Sequence[Host]) -> _Need:
        return _Need(Requirement(need.group, need.quorum, control=control), [host.name for host in hosts])

    def _hangs_on(self, host: Host, path: str) -> bool:
        """Every cord needs something that switches it on, and the first one needs this."""
        switched = self.spec.control.feeds
        if not host.feeds or not _under(host.feeds[0], path):
            return False
        return all(any(_under(feed, other) for other in switched) for feed in host.feeds)

    def _switches(self) -> Iterator[_Need]:
        switch = self.spec.control.switch
        if switch is None:
            return
        where = self.spec.where("control", "switch")
        named: dict[str, list[str]] = {}  # by the group of the switch
        rest: list[Host] = []
        for host in self.hosts.values():
            name = host.fact(switch.fact) if switch.fact else ""
            if not name:
                rest.append(host)
            elif name in self.hosts:
                named.setdefault(self.hosts[name].group, []).append(host.name)
            else:
                close = get_close_matches(name, list(self.hosts)[:2000], n=1)
                remedy = f"did you mean {close[0]}?" if close else "name the switch as the inventory names it"
                self._host(host, f"the switch in {switch.fact} is no host of the plan", remedy, name)
        for group, names in named.items():
            yield _Need(
                Requirement(group, per_host=switch.fact, control="switch", parent_fact=OWN_NAME),
                names,
            )
        if switch.group and self._group(GroupNeed(switch.group, switch.quorum), "switch", sizes=False):
            known = Counter(self.hosts[name].fact(switch.per_host) for name in self.members[switch.group])
            del known[""]
            names = []
            for host in rest:
                value = host.fact(switch.per_host)
                if host.group == switch.group:
                    continue  # what a switch hangs on is said by ``fact`` only: never itself, because of its rack
                if value in known:
                    names.append(host.name)
                    if switch.quorum.needed(known[value]) > known[value]:
                        message = f"control.switch needs {switch.quorum} of {switch.group} per {switch.per_host}"
                        has = f"{switch.per_host} {value} has {known[value]}"
                        self.findings.host(host.name, f"{message}, and there are fewer", where, "lower the quorum", has)
                else:
                    why = f"{switch.per_host} {value}" if value else f"no {switch.per_host}"
                    message = f"hosts without a {switch.group} of their own {switch.per_host} wait for no switch"
                    self.warnings.host(host.name, message, where, f"check {switch.per_host}", why)
            yield _Need(
                Requirement(switch.group, switch.quorum, per_host=switch.per_host, control="switch"),
                names,
            )
        else:
            for host in rest:
                if host.group not in named:  # the switches themselves hang on something above the plan
                    message = f"no {switch.fact}: nothing says which switch these BMCs hang on"
                    self.warnings.host(host.name, message, where, f"set {switch.fact}, unless it is not in the plan")

    def _group(self, need: GroupNeed, *place: str, sizes: bool = True) -> bool:
        where = self.spec.where("control", *place)
        if need.group not in self.spec.groups:
            close = get_close_matches(need.group, self.spec.groups, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"groups of the plan: {', '.join(self.spec.groups)}"
            self.findings.add(f"control.{'.'.join(place)} is {need.group!r}, no group of the plan", where, remedy)
            return False
        size = len(self.members[need.group])
        if sizes and size and need.quorum.needed(size) > size:
            message = f"control.{'.'.join(place)} needs {need.quorum} of {need.group}, which has {size} hosts"
            self.findings.add(message, where, f"a quorum of at most {size}")
        return True

    def _host(self, host: Host, message: str, remedy: str, example: str = "") -> None:
        self.findings.host(host.name, message, self.spec.inventory_name, remedy, example)

    # -- breaks -----------------------------------------------------------------------------

    def breaks(self, needs: Sequence[_Need]) -> tuple[dict[str, set[str]], dict[str, Gate]]:
        """Hosts by the need that is broken for them, and the gates of manual steps."""
        having: dict[str, set[str]] = {}
        for need in needs:
            having.setdefault(need.requirement.control, set()).update(need.names)
        broken: dict[str, set[str]] = {}
        gates: dict[str, Gate] = {}
        for index, item in enumerate(self.spec.control.breaks):
            where = self.spec.where("control", "breaks", index)
            try:
                found = match(self.inventory, item.pattern)
            except PatternError as error:
                self.findings.add(f"control.breaks: {error}", where, "see Ansible's guide to host patterns")
                continue
            for term in found.unmatched:
                problem = no_match(self.inventory, term, where)
                self.findings.add(f"control.breaks: {problem.message}", where, problem.remedy)
            named = [name for name in found.hosts if name in self.hosts]
            hosts = [name for name in named if name in having.get(item.need, ())]
            if item.by == "hosts_entry":
                hosts = named  # with an entry they have no need any more
            elif not hosts and not found.unmatched:
                message = f"the break of {item.need} for {item.pattern} breaks nothing: none of them has that need"
                self.warnings.add(message, where, "remove it, or correct hosts")
            self._true(item.by, hosts, where)
            broken.setdefault(item.need, set()).update(hosts)
            if item.by == "manual_step" and hosts:
                name = self._gate_name(f"manual-{item.need}", gates)
                groups = tuple(dict.fromkeys(self.hosts[host].group for host in hosts))
                gates[name] = Gate(name, ask=item.ask, groups=groups, control=True)
        return broken, gates

    def _gate_name(self, stem: str, gates: Mapping[str, Gate]) -> str:
        name, number = stem, 1
        while name in gates or name in self.spec.gates:
            number += 1
            name = f"{stem}-{number}"
        return name

    def _true(self, by: str, names: Iterable[str], where: str) -> None:
        """A break must be true: what it says is there is looked for."""
        for name in names:
            host = self.hosts[name]
            if by == "static_address" and is_name(host.bmc.address):
                message = "static_address, but bmc_address is a name"
                self.findings.host(name, message, where, "state the fixed IP address", host.bmc.address)
            elif by == "hosts_entry" and (names_left := [a for a in (host.bmc.address, host.address) if is_name(a)]):
                message = "hosts_entry, but a name has no entry in control.hosts_file"
                remedy = f"add it to {self.spec.control.hosts_file or 'a file, and name that in control.hosts_file'}"
                self.findings.host(name, message, where, remedy, names_left[0])
            elif by == "cached_credential" and (
                host.bmc_password is None or host.bmc_password.kind is SecretKind.CREDENTIAL
            ):
                message = "cached_credential, but these hosts have no credential of their own here"
                remedy = (
                    "vault it (bmc_password) or keep it in a file (bmc_password_file): a systemd credential belongs to "
                    "one machine, and a plan cannot know that it is there"
                )
                self.findings.host(name, message, where, remedy)


def _under(feed: str, path: str) -> bool:
    return feed == path or feed.startswith(f"{path}/")


# -- circles --------------------------------------------------------------------------------


@dataclass
class _Step:
    """``hosts`` wait through ``wait``; ``wait.parent`` is where the next step's hosts are."""

    wait: Wait
    hosts: dict[str, None]


def circles(spec: PlanSpec, groups: Mapping[str, Group], hosts: Mapping[str, Host]) -> list[Problem]:
    """Every circle that goes through the control path, by its shortest way, equal ones of many hosts told once."""
    waits = Waits(groups, hosts)
    stuck = [alike for alike in waits.settle() if alike.unmet]
    below: dict[Wait, dict[Wait, dict[str, None]]] = {}  # a wait, what its members wait for, and who these are
    for alike in stuck:
        unmet = [wait for wait in alike.waits if not wait.holds]
        for wait in waits.counting(alike):
            if not wait.holds:
                for other in unmet:
                    below.setdefault(wait, {}).setdefault(other, {}).update(dict.fromkeys(wait.members[alike]))
    found: dict[tuple[tuple[str, ...], ...], list[_Step]] = {}
    for knot in _knots(below):
        inside = set(map(id, knot))
        seen: set[tuple[str, ...]] = set()
        for start in knot:
            if not start.control or start.key in seen:
                continue
            seen.add(start.key)
            path = _shortest(below, start, inside)
            steps = [
                _Step(wait, dict(below[before][wait]))
                for before, wait in zip([path[-1], *path[:-1]], path, strict=True)
            ]
            turn = min(range(len(steps)), key=lambda index: [step.wait.key for step in steps[index:] + steps[:index]])
            steps = steps[turn:] + steps[:turn]
            known = found.setdefault(tuple(step.wait.key for step in steps), steps)
            for first, again in zip(known, steps, strict=True):
                first.hosts.update(again.hosts)
    ordered = sorted(found.items(), key=lambda item: (len(item[0]), item[0]))
    return [_problem(spec, groups, steps) for _, steps in ordered]


def _problem(spec: PlanSpec, groups: Mapping[str, Group], steps: Sequence[_Step]) -> Problem:
    parts, remedies = [], []
    for step in steps:
        names = _short(step.hosts)
        control = step.wait.control
        if control:
            needs = "needs" if len(step.hosts) == 1 else "need"
            parts.append(f"{names} {needs} {_WHAT[control]} ({control}) from {step.wait.parent}")
            remedies += _remedies(spec, groups, control, list(step.hosts))
        else:
            parts.append(f"{names} {'waits' if len(step.hosts) == 1 else 'wait'} for {step.wait.parent}")
    control = next(step.wait.control for step in steps if step.wait.control)
    hosts = sorted({name for step in steps for name in step.hosts})
    place = ("credentials",) if control == "credential" else ("feeds",) if control == "feed" else (control,)
    return Problem(
        f"cycle through the control path: {'; '.join(parts)}, and so on for ever: none of them can be reached first",
        spec.where("control", *place),
        "choose one: " + "; or ".join(dict.fromkeys(remedies)),
        tuple(hosts),
    )


def _remedies(spec: PlanSpec, groups: Mapping[str, Group], control: str, names: Sequence[str]) -> list[str]:
    pattern = _pattern(spec, groups, names)
    shown = _short(names)
    found = []
    match control:
        case "dhcp":
            found.append(
                f"give the BMCs of {shown} static addresses and set bmc_address_from: static, or, where the address in "
                f"the inventory is known to be fixed, {_break('dhcp', pattern, 'static_address')}"
            )
        case "dns":
            found.append(f"write IP addresses for {shown}, or give their names entries in control.hosts_file")
        case "credential":
            found.append(
                f"keep the credential of {shown} here (bmc_password vaulted, or bmc_password_file) and add "
                f"{_break('credential', pattern, 'cached_credential')}"
            )
        case _:
            pass
    found.append(f"{_break(control, pattern, 'manual_step')} with ask: what a person has to do there")
    return found


def _break(need: str, pattern: str, by: str) -> str:
    return f'control.breaks: {{need: {need}, hosts: "{pattern}", by: {by}}}'


def _pattern(spec: PlanSpec, groups: Mapping[str, Group], names: Sequence[str]) -> str:
    """An Ansible host pattern for these hosts, or at least a hint of one."""
    wanted = set(names)
    whole = [name for name, group in groups.items() if wanted.issuperset(group.hosts)]
    if sum(len(groups[name].hosts) for name in whole) == len(wanted):
        return ":".join(spec.groups[name].pattern for name in whole)
    return ",".join(names) if len(names) <= 4 else "THESE HOSTS"


def _short(names: Iterable[str]) -> str:
    text = fold(names)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _knots(below: Mapping[Wait, Mapping[Wait, object]]) -> list[list[Wait]]:
    nodes = {str(index): wait for index, wait in enumerate(below)}
    number = {id(wait): name for name, wait in nodes.items()}
    links = {
        number[id(wait)]: [number[id(other)] for other in others if id(other) in number]
        for wait, others in below.items()
    }
    return [[nodes[name] for name in knot] for knot in graph.knots(links)]


def _shortest(below: Mapping[Wait, Mapping[Wait, object]], start: Wait, inside: set[int]) -> list[Wait]:
    """The shortest way from a wait of a knot back to itself, ``start`` first."""
    came_from: dict[Wait, Wait] = {}
    level = [start]
    while level:
        following: list[Wait] = []
        for wait in level:
            for other in below.get(wait, ()):
                if other is start:
                    path = [wait]
                    while path[-1] is not start:
                        path.append(came_from[path[-1]])
                    return path[::-1]
                if id(other) in inside and other not in came_from:
                    came_from[other] = wait
                    following.append(other)
        level = following
    raise AssertionError("a wait of a knot has no way back to itself")
