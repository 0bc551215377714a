"""Which hosts wait for which, kept as counters: a host that settles touches only the counters it is a member of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from bootorch.core.model import Group, Host, Outcome, Requirement
from bootorch.core.plan import Plan


class Status(StrEnum):
    PENDING = "pending"
    HOLDS = "holds"
    IMPOSSIBLE = "impossible"


class Need:
    """One ``requires``, for all hosts that share it: the quorum of its members, in enough racks."""

    __slots__ = ("_across", "_alive_by_rack", "_ready_racks", "alive", "children", "members", "needed", "parent",
                 "ready", "status", "title")  # fmt: skip

    def __init__(self, parent: str, requirement: Requirement, members: list[Host], value: str) -> None:
        self.parent = parent
        self.members = [host.name for host in members]
        # A host without parents of its own (no switch in its rack) waits for none, whatever the quorum: plans warn.
        self.needed = requirement.quorum.needed(len(members)) if members else 0
        self.ready = 0
        self.alive = len(members)
        self._across = requirement.across_racks if members else 0
        self._alive_by_rack: dict[str, int] = {}
        for host in members if self._across else ():
            self._alive_by_rack[host.rack] = self._alive_by_rack.get(host.rack, 0) + 1
        self._ready_racks: set[str] = set()
        self.children: list[str] = []
        self.status = Status.PENDING
        place = f" with the same {requirement.per_host} ({value})" if requirement.per_host else ""
        spread = f" across {self._across} racks" if self._across else ""
        self.title = f"{parent}{place}: {self.needed} of {len(members)} ready{spread}"
        self._update()

    def _update(self) -> bool:
        before = self.status
        if self.ready >= self.needed and len(self._ready_racks) >= self._across:
            self.status = Status.HOLDS
        elif self.alive < self.needed or sum(1 for n in self._alive_by_rack.values() if n) < self._across:
            self.status = Status.IMPOSSIBLE
        return self.status is not before

    def settle(self, host: Host, ready: bool) -> bool:
        """A member has its outcome. True when the status changed."""
        if ready:
            self.ready += 1
            self._ready_racks.add(host.rack)
        else:
            self.alive -= 1
            if self._across:
                self._alive_by_rack[host.rack] -= 1
        return self.status is Status.PENDING and self._update()


class Order:
    """``after``: waits until every member of the parent has settled, however it ended."""

    __slots__ = ("children", "left", "members", "parent", "status", "title")

    def __init__(self, parent: str, members: list[Host]) -> None:
        self.parent = parent
        self.members = [host.name for host in members]
        self.left = len(members)
        self.children: list[str] = []
        self.status = Status.PENDING if members else Status.HOLDS
        self.title = f"after {parent}: all {len(members)} settled"

    def settle(self, host: Host, ready: bool) -> bool:
        self.left -= 1
        if self.left == 0:
            self.status = Status.HOLDS
            return True
        return False


Wait = Need | Order


class Dependencies:
    """All waits of a plan. ``of[host]`` are the waits of a host; ``feeds[host]`` those that count it as a member."""

    def __init__(self, plan: Plan) -> None:
        self.of: dict[str, tuple[Wait, ...]] = {}
        self._member_of: dict[str, list[Wait]] = {}
        self.downstream: Mapping[str, int] = _downstream(plan.groups)
        for group in plan.groups.values():
            shared: list[Wait] = [
                *(Need(r.group, r, _members(plan, r.group), "") for r in group.requires if not r.per_host),
                *(Order(parent, _members(plan, parent)) for parent in group.after),
            ]
            keyed: list[tuple[Requirement, dict[str, list[Host]], dict[str, Need]]]
            keyed = [(r, _by_fact(plan, r), {}) for r in group.requires if r.per_host]
            waits: list[Wait] = list(shared)
            for name in group.hosts:
                own: list[Wait] = list(shared)
                for requirement, parents, by_value in keyed:
                    value = plan.hosts[name].fact(requirement.per_host or "")
                    if value not in by_value:
                        by_value[value] = Need(requirement.group, requirement, parents.get(value, []), value)
                        waits.append(by_value[value])
                    own.append(by_value[value])
                for wait in own:
                    wait.children.append(name)
                self.of[name] = tuple(own)
            for wait in waits:
                for member in wait.members:
                    self._member_of.setdefault(member, []).append(wait)

    def settle(self, host: Host, outcome: Outcome) -> Iterator[Wait]:
        """The waits whose status changes because ``host`` has its outcome."""
        ready = outcome in (Outcome.READY, Outcome.ADOPTED)
        for wait in self._member_of.get(host.name, ()):
            if wait.settle(host, ready):
                yield wait

    def ancestors(self, hosts: frozenset[str]) -> frozenset[str]:
        """Every host that some host of ``hosts`` requires, directly or through others."""
        found: set[str] = set()
        todo = list(hosts)
        seen: set[int] = set()
        while todo:
            for wait in self.of[todo.pop()]:
                if isinstance(wait, Need) and id(wait) not in seen:
                    seen.add(id(wait))
                    new = [member for member in wait.members if member not in found]
                    found.update(new)
                    todo.extend(new)
        return frozenset(found) - hosts


def _members(plan: Plan, group: str) -> list[Host]:
    return [plan.hosts[name] for name in plan.groups[group].hosts]


def _by_fact(plan: Plan, requirement: Requirement) -> dict[str, list[Host]]:
    parents: dict[str, list[Host]] = {}
    for host in _members(plan, requirement.group):
        parents.setdefault(host.fact(requirement.per_host or ""), []).append(host)
    return parents


def _downstream(groups: Mapping[str, Group]) -> Mapping[str, int]:
    """How many levels of groups still hang on each group: the longest way down."""
    children: dict[str, list[str]] = {name: [] for name in groups}
    for group in groups.values():
        for parent in (*(r.group for r in group.requires), *group.after):
            children[parent].append(group.name)
    levels: dict[str, int] = {}
    # Repeated passes instead of recursion: a chain may be longer than Python's stack. The plan has no cycle.
    todo = list(groups)
    while todo:
        name = todo[-1]
        missing = [child for child in children[name] if child not in levels]
        if missing:
            todo.extend(missing)
        else:
            todo.pop()
            levels[name] = 1 + max((levels[child] for child in children[name]), default=-1)
    return levels
