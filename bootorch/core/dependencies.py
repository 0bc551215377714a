"""Which hosts wait for which, kept as counters: a host that settles touches only the counters it is a member of.

A *wait* is shared by all hosts that wait for the same thing (its ``children``). When its status changes, the children's
counters change by one; ``settle``, ``unsettle`` and ``choose`` say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bootorch.core.model import First, Group, Host, Outcome, Requirement
from bootorch.core.plan import Plan


class Status(StrEnum):
    PENDING = "pending"
    HOLDS = "holds"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Change:
    """``children`` wait for one thing ``more`` (+1) or less (-1); ``impossible``: why that can never hold (0)."""

    children: Sequence[str]
    more: int
    impossible: str = ""


class Members:
    """Hosts that others wait for, and their names in the same order."""

    __slots__ = ("hosts", "names")

    def __init__(self, hosts: Sequence[Host], names: Sequence[str]) -> None:
        self.hosts = hosts
        self.names = names

    def __len__(self) -> int:
        return len(self.names)


NOBODY = Members((), ())


class Need:
    """One ``requires``, for all hosts that share it: the quorum of its members, in enough racks."""

    __slots__ = ("_across", "_alive_by_rack", "_rack", "_ready_by_rack", "alive", "children", "control", "members",
                 "needed", "parent", "ready", "status", "title")  # fmt: skip

    def __init__(self, parent: str, requirement: Requirement, members: Members, value: str) -> None:
        self.parent = parent
        self.control = bool(requirement.control)
        self.members = members.names
        # A host without parents of its own (no switch in its rack) waits for none, whatever the quorum: plans warn.
        self.needed = requirement.quorum.needed(len(members)) if members else 0
        self.ready = 0
        self.alive = len(members)
        self._across = requirement.across_racks if members else 0
        self._rack = {host.name: host.rack for host in members.hosts} if self._across else {}  # by member
        self._alive_by_rack: dict[str, int] = {}
        for rack in self._rack.values():
            self._alive_by_rack[rack] = self._alive_by_rack.get(rack, 0) + 1
        self._ready_by_rack: dict[str, int] = {}
        self.children: Sequence[str] = ()
        place = f" with the same {requirement.per_host} ({value})" if requirement.per_host else ""
        spread = f" across {self._across} racks" if self._across else ""
        self.title = f"{parent}{place}: {self.needed} of {len(members)} ready{spread}"
        self.status = self._now()

    @property
    def across(self) -> int:
        return self._across

    def _now(self) -> Status:
        if self.ready >= self.needed and len(self._ready_by_rack) >= self._across:
            return Status.HOLDS
        if self.alive < self.needed or sum(1 for n in self._alive_by_rack.values() if n) < self._across:
            return Status.IMPOSSIBLE
        return Status.PENDING

    def settle(self, host: str, ready: bool) -> Change | None:
        """A member has its outcome."""
        if ready:
            self.ready += 1
            if self._across:
                rack = self._rack[host]
                self._ready_by_rack[rack] = self._ready_by_rack.get(rack, 0) + 1
        else:
            self.alive -= 1
            if self._across:
                self._alive_by_rack[self._rack[host]] -= 1
        if self.status is not Status.PENDING:
            return None
        now = self.status = self._now()
        if now is Status.HOLDS:
            return Change(self.children, -1)
        return Change(self.children, 0, self.title) if now is Status.IMPOSSIBLE else None

    def unsettle(self, host: str) -> Change | None:
        """A member that was ready is dark: whoever has not begun waits again."""
        self.ready -= 1
        if self._across:
            rack = self._rack[host]
            self._ready_by_rack[rack] -= 1
            if not self._ready_by_rack[rack]:
                del self._ready_by_rack[rack]
        if self.status is not Status.HOLDS or (now := self._now()) is Status.HOLDS:
            return None
        self.status = now
        return Change(self.children, 1)

    def revive(self, host: str) -> Change | None:
        """A member that was given up (skipped, blocked) has its turn after all."""
        self.alive += 1
        if self._across:
            self._alive_by_rack[self._rack[host]] += 1
        if self.status is not Status.IMPOSSIBLE:
            return None
        self.status = self._now()
        return Change([], 0)


class Order:
    """``after``: waits until every member of the parent has settled, however it ended. It holds for good then."""

    __slots__ = ("children", "control", "left", "members", "parent", "status", "title")

    def __init__(self, parent: str, members: Members) -> None:
        self.parent = parent
        self.control = False
        self.members = members.names
        self.left = len(members)
        self.children: Sequence[str] = ()
        self.status = Status.PENDING if members else Status.HOLDS
        self.title = f"after {parent}: all {len(members)} settled"

    def settle(self, host: str, ready: bool) -> Change | None:
        if self.status is Status.HOLDS:
            return None
        self.left -= 1
        if self.left:
            return None
        self.status = Status.HOLDS
        return Change(self.children, -1)

    def unsettle(self, host: str) -> Change | None:
        if self.status is Status.PENDING:
            self.left += 1
        return None

    revive = unsettle


class Leader:
    """``first``: one member of the group starts alone; the others wait until it is ready.

    ``chosen`` is the member whose turn it is, empty while a person has to name one. When it fails the next candidate
    has its turn; without another one a person is asked again, or the others are blocked.
    """

    __slots__ = (
        "_candidates",
        "_let",
        "_stated",
        "ask",
        "children",
        "chosen",
        "control",
        "members",
        "parent",
        "settled",
        "status",
        "title",
    )

    def __init__(self, group: Group, first: First) -> None:
        self.parent = group.name
        self.control = False
        self.members = list(group.hosts)
        self.children = list(group.hosts)
        self.ask = first.ask
        self._stated = first.candidates
        self._candidates = list(first.candidates)
        self.settled: set[str] = set()  # members that have an outcome already
        self.chosen = ""
        self.status = Status.PENDING
        self.title = f"first member of {group.name}"
        self._next()
        self._let = {self.chosen} - {""}  # members that no longer wait: they had their turn

    def _next(self) -> bool:
        """The next candidate's turn. False when there is none, and nobody to ask."""
        self.chosen = ""
        while self._candidates and not self.chosen:
            name = self._candidates.pop(0)
            self.chosen = "" if name in self.settled else name
        if not self.chosen and not self.ask:
            self.status = Status.IMPOSSIBLE
            return False
        return True

    def settle(self, host: str, ready: bool) -> Change | None:
        self.settled.add(host)
        if self.status is not Status.PENDING or host != self.chosen:
            return None
        if ready:
            self.status = Status.HOLDS
            others = [name for name in self.children if name not in self._let]
            self._let.update(others)
            return Change(others, -1)
        if not self._next():
            return Change(
                [name for name in self.children if name not in self.settled], 0, f"{self.title}: none is ready"
            )
        return self._turn(self.chosen) if self.chosen else None

    def _turn(self, host: str) -> Change | None:
        """It is the host's turn: it waits no longer."""
        self.chosen = host
        if host in self._let:
            return None
        self._let.add(host)
        return Change([host], -1)

    def unsettle(self, host: str) -> Change | None:
        self.settled.discard(host)
        return None  # once it has bootstrapped, any member has the data

    def revive(self, host: str) -> Change | None:
        self.settled.discard(host)
        if self.status is Status.HOLDS:
            return None
        if host in self._stated:
            left = {*self._candidates, host}
            self._candidates = [name for name in self._stated if name in left and name != self.chosen]
            self.status = Status.PENDING
        if host in self._let and host != self.chosen:
            self._let.discard(host)  # its turn is over
            return Change([host], 1)
        return Change([], 0)

    def resume(self) -> Change | None:
        """Candidates have come back: the first of them has its turn where nobody has."""
        if self.status is not Status.PENDING or self.chosen or not self._candidates or not self._next():
            return None
        return self._turn(self.chosen) if self.chosen else None

    def choose(self, host: str) -> Iterator[Change]:
        """A person named the member."""
        if self.status is not Status.PENDING or host in self.settled or host == self.chosen:
            return
        if self.chosen:
            self._let.discard(self.chosen)
            yield Change([self.chosen], 1)
        if (turn := self._turn(host)) is not None:
            yield turn


Wait = Need | Order | Leader


class Dependencies:
    """All waits of a plan. ``of[host]`` are the waits of a host."""

    def __init__(self, plan: Plan) -> None:
        self.of: dict[str, tuple[Wait, ...]] = {}
        self.leaders: dict[str, Leader] = {}
        self.all: list[Wait] = []  # those of groups that come later in the plan's waves come later
        self._plan = plan
        self._whole = {
            name: Members([plan.hosts[host] for host in group.hosts], group.hosts)
            for name, group in plan.groups.items()
        }
        self._divided: dict[tuple[str, str], dict[str, Members]] = {}  # a group's hosts by a fact
        self._of_group: dict[str, list[Wait]] = {name: [] for name in plan.groups}  # waits for all of its hosts
        self._of_some: dict[str, dict[str, list[Wait]]] = {}  # and for some of its hosts, by host
        for level in plan.waves:
            for name in level:
                self._add(plan.groups[name])

    def _add(self, group: Group) -> None:
        shared: list[Wait] = [
            *(Need(r.group, r, self._whole[r.group], "") for r in group.requires if not r.per_host and not r.hosts),
            *(Order(parent, self._whole[parent]) for parent in group.after),
        ]
        for wait in shared:
            wait.children = group.hosts
        waits = list(shared)
        last: tuple[Wait, ...] = ()
        if group.first is not None:
            leader = self.leaders[group.name] = Leader(group, group.first)
            self._of_group[group.name].append(leader)
            last = (leader,)
        apart = [r for r in group.requires if r.per_host or r.hosts]
        if apart:
            waits += self._apart(group, apart, tuple(shared), last)
        else:
            self.of.update(dict.fromkeys(group.hosts, (*shared, *last)))
        for wait in waits:
            if len(wait.members) == len(self._whole[wait.parent]):
                self._of_group[wait.parent].append(wait)
            else:
                of_some = self._of_some.setdefault(wait.parent, {})
                for member in wait.members:
                    of_some.setdefault(member, []).append(wait)
        self.all += waits

    def _apart(
        self, group: Group, requirements: Sequence[Requirement], shared: tuple[Wait, ...], last: tuple[Wait, ...]
    ) -> list[Need]:
        """The needs that hosts of the group differ in. Sets ``of``: what is ``shared``, those, and the ``last``."""
        found: list[Need] = []
        keyed: list[tuple[Requirement, frozenset[str], dict[str, Members], dict[str, tuple[Need, list[str]]]]] = [
            (r, frozenset(r.hosts), self._by_fact(r), {}) for r in requirements
        ]
        alike: dict[tuple[int, ...], tuple[Wait, ...]] = {}  # hosts with the same waits share one tuple
        for name in group.hosts:
            host = self._plan.hosts[name]
            own: list[Need] = []
            for requirement, only, parents, by_value in keyed:
                if only and name not in only:
                    continue
                value = host.fact(requirement.per_host) if requirement.per_host else ""
                known = by_value.get(value)
                if known is None:
                    need = Need(requirement.group, requirement, parents.get(value, NOBODY), value)
                    children: list[str] = []
                    need.children = children
                    known = by_value[value] = need, children
                    found.append(need)
                known[1].append(name)
                own.append(known[0])
            key = tuple(map(id, own))
            waits = alike.get(key)
            if waits is None:
                waits = alike[key] = (*shared, *own, *last)
            self.of[name] = waits
        return found

    def _by_fact(self, requirement: Requirement) -> dict[str, Members]:
        whole = self._whole[requirement.group]
        if not requirement.per_host:
            return {"": whole}
        key = requirement.group, requirement.parent_key
        known = self._divided.get(key)
        if known is None:
            parents: dict[str, list[Host]] = {}
            for host in whole.hosts:
                parents.setdefault(host.fact(requirement.parent_key), []).append(host)
            known = {value: Members(hosts, [host.name for host in hosts]) for value, hosts in parents.items()}
            self._divided[key] = known
        return known

    def counting(self, host: str, group: str) -> Sequence[Wait]:
        """The waits that ``host`` of ``group`` is a member of."""
        whole, some = self._of_group[group], self._of_some.get(group)
        return whole if some is None or (own := some.get(host)) is None else [*own, *whole]

    def settle(self, host: str, group: str, outcome: Outcome) -> Iterator[tuple[Wait, Change]]:
        """What changes for others because ``host`` of ``group`` has its outcome."""
        ready = outcome in (Outcome.READY, Outcome.ADOPTED)
        for wait in self.counting(host, group):
            change = wait.settle(host, ready)
            if change is not None:
                yield wait, change

    def unsettle(self, host: str, group: str) -> Iterator[tuple[Wait, Change]]:
        """What changes for others because ``host``, which was ready, is dark."""
        for wait in self.counting(host, group):
            change = wait.unsettle(host)
            if change is not None:
                yield wait, change

    def revive(self, host: str, group: str) -> Iterator[tuple[Wait, Change]]:
        """What changes for others because ``host``, which was given up, has its turn after all."""
        for wait in self.counting(host, group):
            change = wait.revive(host)
            if change is not None:
                yield wait, change

    def why_impossible(self, host: str) -> str:
        """The title of a wait that never can hold; empty where there is none."""
        return next((wait.title for wait in self.of[host] if wait.status is Status.IMPOSSIBLE), "")

    def ancestors(self, hosts: frozenset[str]) -> frozenset[str]:
        """Every host that some host of ``hosts`` requires, directly or through others."""
        found: set[str] = set()
        todo = sorted(hosts)
        seen: set[int] = set()
        while todo:
            for wait in self.of[todo.pop()]:
                if not isinstance(wait, Order) and id(wait) not in seen:
                    seen.add(id(wait))
                    new = [member for member in wait.members if member not in found]
                    found.update(new)
                    todo.extend(new)
        return frozenset(found) - hosts


def count(waits: Iterable[Wait]) -> tuple[int, int, str]:
    """How many of the waits do not hold, how many of those are the recovery's own (``control``), and the title of one
    that never will hold (empty: there is none)."""
    open_ = [wait for wait in waits if wait.status is not Status.HOLDS]
    impossible = next((wait.title for wait in open_ if wait.status is Status.IMPOSSIBLE), "")
    return len(open_), sum(wait.control for wait in open_), impossible
