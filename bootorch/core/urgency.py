"""Who goes first, among what may start: the tier, then the longest remaining path, then the name.

*Tier*: a host counts in the most urgent tier of whatever needs it, so that the smallest set that brings a business tier
back goes first. Of a quorum only as many members as it needs inherit the tier (the quickest, over enough racks); the
others keep their own (priority inheritance: Sha, Rajkumar and Lehoczky, IEEE Trans. Computers 1990).

*Remaining path*: expected seconds from this host's power-on to the end of the longest chain that hangs on it (critical
path priority: Hu, Operations Research 1961): who holds up most goes first, and slow boots before quick ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bootorch.core.dependencies import Dependencies, Need, Wait
from bootorch.core.model import Group, Host
from bootorch.core.plan import Plan

Priority = tuple[int, float, str]  # smaller goes first

# Where nothing is known of a boot: deadlines are written with room, some four times the usual (defaults: 20 min for a
# median of 5 min), and a playbook takes seconds to a minute of its half hour.
_BOOT_SHARE = 4.0
_PLAYBOOK_SHARE = 45.0


def expected_s(host: Host, group: Group) -> float:
    """Seconds from power-on to ready, as far as anything is known of it."""
    boot_s = host.boot_s or group.deadlines.boot / _BOOT_SHARE
    return boot_s + len(group.redeploy) * group.deadlines.redeploy / _PLAYBOOK_SHARE


def expectations(plan: Plan) -> list[float]:
    """What each host is expected to take, in the plan's order."""
    groups = plan.groups
    return [expected_s(host, groups[host.group]) for host in plan.hosts.values()]


def priorities(
    plan: Plan, dependencies: Dependencies, tiers: Mapping[str, int], own: Sequence[float] | None = None
) -> list[Priority]:
    """Every host's priority, in the plan's order. ``tiers``: the groups' own, as they are now; ``own``: what each host
    is expected to take."""
    return _Reckoning(plan, dependencies, tiers, expectations(plan) if own is None else own).all()


class _Reckoning:
    """Hosts stand here for their places in the plan: of a million, those that are beside each other there are so in
    memory, and a search by name fetches it from afar."""

    def __init__(self, plan: Plan, dependencies: Dependencies, tiers: Mapping[str, int], own: Sequence[float]) -> None:
        self._plan = plan
        self._dependencies = dependencies
        self._names = list(plan.hosts)
        self._places = dict(zip(self._names, range(len(self._names)), strict=True))
        self._of_group: dict[str, list[int]] = {name: [] for name in plan.groups}
        self._tier: list[int] = []
        for place, host in enumerate(plan.hosts.values()):
            self._of_group[host.group].append(place)
            self._tier.append(tiers[host.group])
        self._own = own
        self._path = list(own)

    def all(self) -> list[Priority]:
        waits: dict[str, list[Wait]] = {}
        for wait in self._dependencies.all:
            if wait.children:
                waits.setdefault(self._plan.hosts[wait.children[0]].group, []).append(wait)
        for level in reversed(self._plan.waves):  # everything that hangs on a group stands in a later wave
            for name in level:
                if (leader := self._dependencies.leaders.get(name)) is not None and leader.chosen:
                    others = [child for child in leader.children if child != leader.chosen] or [leader.chosen]
                    self._inherit([self._places[leader.chosen]], *self._demand(self._among(name, others)))
                whole = self._demand(self._of_group[name])
                for wait in waits.get(name, ()):
                    children = self._among(name, wait.children)
                    demand = whole if children is self._of_group[name] else self._demand(children)
                    self._inherit(self._helpers(wait), *demand)
        return [(tier, -path, name) for tier, path, name in zip(self._tier, self._path, self._names, strict=True)]

    def _among(self, group: str, names: Sequence[str]) -> list[int]:
        """The places of hosts of the group."""
        whole = self._of_group[group]
        if len(names) == len(whole):
            return whole
        places = self._places
        return [places[name] for name in names]

    def _demand(self, children: Sequence[int]) -> tuple[int, float]:
        """The most urgent tier and the longest path among those who wait."""
        tier, path = self._tier, self._path
        return min([tier[child] for child in children]), max([path[child] for child in children])

    def _inherit(self, members: Sequence[int], urgent: int, longest_s: float) -> None:
        tier, own, path = self._tier, self._own, self._path
        for member in members:
            if urgent < tier[member]:
                tier[member] = urgent
            if (reach_s := own[member] + longest_s) > path[member]:
                path[member] = reach_s

    def _helpers(self, wait: Wait) -> Sequence[int]:
        """The members that make a wait hold soonest: all of them, or as many as a quorum needs, over enough racks."""
        members = self._among(wait.parent, wait.members)
        if not isinstance(wait, Need) or wait.needed >= len(members):
            return members
        tier, own, names = self._tier, self._own, self._names
        quickest = sorted(members, key=lambda member: (tier[member], own[member], names[member]))
        if not wait.across:
            return quickest[: wait.needed]
        chosen: dict[int, None] = {}
        racks: set[str] = set()
        for member in quickest:
            rack = self._plan.hosts[names[member]].rack
            if rack not in racks and len(racks) < wait.across:
                racks.add(rack)
                chosen[member] = None
        for member in quickest:
            if len(chosen) >= wait.needed:
                break
            chosen[member] = None
        return list(chosen)
