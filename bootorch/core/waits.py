"""Who could ever start, reckoned once before a run: hosts that wait for the same things are taken together.

The engine counts the same waits as a run goes on (``core.dependencies``); here everybody who can come up does, and what
is left over shows what holds it back: a circle of waits, or hosts without electricity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bootorch.core.model import Group, Host, Requirement


@dataclass(slots=True, eq=False)
class Alike:
    """Hosts of one group that wait for the same things. ``live``: they have electricity."""

    group: str
    live: bool
    waits: tuple[Wait, ...]
    hosts: list[str] = field(default_factory=list)
    ready: bool = False
    unmet: int = 0


@dataclass(slots=True, eq=False)
class Wait:
    """One thing that hosts wait for: a quorum of (some) hosts of ``parent``.

    ``requirement`` is ``None`` for order only (``after``) and for a group's first member. ``key`` tells equal kinds of
    wait: those that differ only in the value of a fact have the same.
    """

    parent: str
    requirement: Requirement | None
    key: tuple[str, ...]
    value: str = ""
    members: dict[Alike, list[str]] = field(default_factory=dict)  # which of them it counts
    needed: int = 0
    across: int = 0
    ready: int = 0
    racks: set[str] = field(default_factory=set)
    children: list[Alike] = field(default_factory=list)

    @property
    def control(self) -> str:
        return self.requirement.control if self.requirement else ""

    @property
    def size(self) -> int:
        return sum(map(len, self.members.values()))

    @property
    def holds(self) -> bool:
        return self.ready >= self.needed and len(self.racks) >= self.across


class Waits:
    """All waits of a plan; ``settle`` lets everybody come up who can."""

    def __init__(
        self, groups: Mapping[str, Group], hosts: Mapping[str, Host], dark: Iterable[str] = (), *, firsts: bool = True
    ) -> None:
        """``dark``: hosts that cannot be switched on. ``firsts``: a group's other members wait for its first one."""
        self._groups, self._hosts = groups, hosts
        self._dark = frozenset(dark)
        self._firsts = firsts
        self._waits: dict[tuple[object, ...], Wait] = {}
        self.alike: dict[str, list[Alike]] = {name: self._classes(group) for name, group in groups.items()}
        self._fill()
        self._member_of: dict[Alike, list[Wait]] = defaultdict(list)
        for wait in self._waits.values():
            for member in wait.members:
                self._member_of[member].append(wait)

    def counting(self, alike: Alike) -> Sequence[Wait]:
        """The waits that count these hosts as members."""
        return self._member_of.get(alike, ())

    def settle(self) -> list[Alike]:
        """Let everybody come up whose waits hold, again and again. Returns those that never can."""
        everybody = [alike for classes in self.alike.values() for alike in classes]
        for alike in everybody:
            alike.unmet = sum(1 for wait in alike.waits if not wait.holds)
        todo = [alike for alike in everybody if not alike.unmet and alike.live]
        while todo:
            alike = todo.pop()
            alike.ready = True
            for wait in self.counting(alike):
                held = not wait.holds
                counted = wait.members[alike]
                wait.ready += len(counted)
                if wait.across:
                    wait.racks.update(self._hosts[name].rack for name in counted)
                if held and wait.holds:
                    for child in wait.children:
                        child.unmet -= 1
                        if not child.unmet and child.live:
                            todo.append(child)
        return [alike for alike in everybody if not alike.ready]

    def _classes(self, group: Group) -> list[Alike]:
        shared = [self._whole(requirement) for requirement in group.requires if not _apart(requirement)]
        shared += [self._after(parent) for parent in group.after]
        apart: list[tuple[Requirement, frozenset[str], dict[str, Wait]]] = [
            (r, frozenset(r.hosts), {}) for r in group.requires if _apart(r)
        ]
        candidates = frozenset(group.first.candidates) if group.first and self._firsts else frozenset()
        first = self._first(group.name, candidates) if candidates else None
        found: dict[tuple[object, ...], Alike] = {}
        for name in group.hosts:
            own: list[Wait] = []
            for requirement, only, by_value in apart:
                if only and name not in only:
                    continue
                value = self._hosts[name].fact(requirement.per_host) if requirement.per_host else ""
                if (wait := by_value.get(value)) is None:
                    wait = by_value[value] = self._whole(requirement, value)
                own.append(wait)
            if first is not None and name not in candidates:
                own.append(first)
            live = name not in self._dark
            # The candidates are told apart from the others, so that they can be members of a wait.
            key = (live, name in candidates, *map(id, own))
            alike = found.get(key)
            if alike is None:
                alike = found[key] = Alike(group.name, live, (*shared, *own))
                for waited in alike.waits:
                    waited.children.append(alike)
            alike.hosts.append(name)
        return list(found.values())

    def _whole(self, requirement: Requirement, value: str = "") -> Wait:
        quorum = str(requirement.quorum)
        kind = (requirement.group, requirement.control, quorum, str(requirement.across_racks), requirement.parent_key)
        wait = self._waits.get((kind, value))
        if wait is None:
            wait = self._waits[kind, value] = Wait(requirement.group, requirement, kind, value)
            wait.across = requirement.across_racks
        return wait

    def _after(self, parent: str) -> Wait:
        kind = (parent, "after")
        return self._waits.setdefault((kind,), Wait(parent, None, kind))

    def _first(self, group: str, candidates: frozenset[str]) -> Wait:
        kind = (group, "first")
        return self._waits.setdefault((kind, candidates), Wait(group, None, kind))

    def _fill(self) -> None:
        """Members and quorums, now that all classes are known."""
        by_fact: dict[tuple[str, str], dict[str, dict[Alike, list[str]]]] = {}
        for key, wait in self._waits.items():
            classes = self.alike.get(wait.parent, [])
            fact = wait.requirement.parent_key if wait.requirement else ""
            if wait.key[1:] == ("first",):
                candidates = key[1]
                wait.members = {alike: alike.hosts for alike in classes if alike.hosts[0] in candidates}  # type: ignore[operator]
                wait.needed = 1
                continue
            if not fact:
                wait.members = {alike: alike.hosts for alike in classes}
            else:
                if (wait.parent, fact) not in by_fact:
                    by_fact[wait.parent, fact] = self._by_fact(classes, fact)
                wait.members = by_fact[wait.parent, fact].get(wait.value, {})
            size = wait.size
            if wait.requirement is None or not size:
                wait.needed = size  # who has no parents of its own waits for none
                wait.across = 0
            else:
                wait.needed = wait.requirement.quorum.needed(size)

    def _by_fact(self, classes: Sequence[Alike], fact: str) -> dict[str, dict[Alike, list[str]]]:
        found: dict[str, dict[Alike, list[str]]] = {}
        for alike in classes:
            for name in alike.hosts:
                found.setdefault(self._hosts[name].fact(fact), {}).setdefault(alike, []).append(name)
        return found


def _apart(requirement: Requirement) -> bool:
    """Whether hosts of one group may differ in this wait."""
    return bool(requirement.hosts) or requirement.per_host is not None
