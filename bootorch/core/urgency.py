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


def priorities(
    plan: Plan, dependencies: Dependencies, tiers: Mapping[str, int], own: Mapping[str, float] | None = None
) -> dict[str, Priority]:
    """Every host's priority. ``tiers``: the groups' own, as they are now; ``own``: what each is expected to take."""
    tier = {name: tiers[host.group] for name, host in plan.hosts.items()}
    if own is None:
        own = {name: expected_s(host, plan.groups[host.group]) for name, host in plan.hosts.items()}
    path = dict(own)
    waits: dict[str, list[Wait]] = {}
    for wait in dependencies.all:
        if wait.children:
            waits.setdefault(plan.hosts[wait.children[0]].group, []).append(wait)
    for level in reversed(plan.waves):  # everything that hangs on a group stands in a later wave
        for name in level:
            if (leader := dependencies.leaders.get(name)) is not None and leader.chosen:
                others = [child for child in leader.children if child != leader.chosen] or [leader.chosen]
                _inherit([leader.chosen], *_demand(others, tier, path), tier, own, path)
            whole = _demand(plan.groups[name].hosts, tier, path)
            for wait in waits.get(name, ()):
                everybody = len(wait.children) == len(plan.groups[name].hosts)
                demand = whole if everybody else _demand(wait.children, tier, path)
                _inherit(_helpers(wait, plan, tier, own), *demand, tier, own, path)
    return {name: (tier[name], -path[name], name) for name in plan.hosts}


def _demand(children: Sequence[str], tier: Mapping[str, int], path: Mapping[str, float]) -> tuple[int, float]:
    """The most urgent tier and the longest path among those who wait."""
    return min([tier[child] for child in children]), max([path[child] for child in children])


def _inherit(
    members: Sequence[str],
    urgent: int,
    longest_s: float,
    tier: dict[str, int],
    own: Mapping[str, float],
    path: dict[str, float],
) -> None:
    for member in members:
        if urgent < tier[member]:
            tier[member] = urgent
        if (reach_s := own[member] + longest_s) > path[member]:
            path[member] = reach_s


def _helpers(wait: Wait, plan: Plan, tier: Mapping[str, int], own: Mapping[str, float]) -> Sequence[str]:
    """The members that make a wait hold soonest: all of them, or as many as a quorum needs, over enough racks."""
    if not isinstance(wait, Need) or wait.needed >= len(wait.members):
        return wait.members
    quickest = sorted(wait.members, key=lambda name: (tier[name], own[name], name))
    if not wait.across:
        return quickest[: wait.needed]
    chosen: dict[str, None] = {}
    racks: set[str] = set()
    for name in quickest:
        rack = plan.hosts[name].rack
        if rack not in racks and len(racks) < wait.across:
            racks.add(rack)
            chosen[name] = None
    for name in quickest:
        if len(chosen) >= wait.needed:
            break
        chosen[name] = None
    return list(chosen)
