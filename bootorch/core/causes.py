"""Root causes before what follows from them: clusters of failures, and blocked hosts with the failures behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootorch.core.dependencies import Wait
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.timeline import Timeline

READY = frozenset({Outcome.READY, Outcome.ADOPTED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Quarantined hosts that share reason, model and firmware, by rack: what remote hands take along."""

    reason: Reason
    model: str
    firmware: str
    hosts: tuple[str, ...]
    racks: Mapping[str, tuple[str, ...]]
    details: Mapping[str, tuple[str, ...]]  # detail -> hosts that say it
    blocks: tuple[str, ...]  # hosts that are blocked because of these


@dataclass(frozen=True, slots=True)
class Blocked:
    """Hosts that wait for the same thing in vain. ``roots`` are the hosts that failed (or were left out)."""

    waits_for: str
    hosts: tuple[str, ...]
    roots: tuple[str, ...]


def failures(timeline: Timeline) -> tuple[Failure, ...]:
    """Clusters of quarantined hosts, those first that stop the most others."""
    blocks: dict[str, list[str]] = {}
    for cluster in blocked_hosts(timeline):
        for root in cluster.roots:
            blocks.setdefault(root, []).extend(cluster.hosts)
    clusters: dict[tuple[Reason, str, str], list[str]] = {}
    for name, host in timeline.state.hosts.items():
        if host.outcome is Outcome.QUARANTINED:
            clusters.setdefault((host.reason, host.host.model, host.host.firmware), []).append(name)
    found = []
    for (reason, model, firmware), names in clusters.items():
        racks: dict[str, list[str]] = {}
        details: dict[str, list[str]] = {}
        for name in names:
            host = timeline.state.hosts[name]
            racks.setdefault(host.host.rack, []).append(name)
            details.setdefault(host.detail, []).append(name)
        stopped = dict.fromkeys(child for name in names for child in blocks.get(name, ()))
        found.append(
            Failure(reason, model, firmware, tuple(names), _tuples(racks), _tuples(details), tuple(sorted(stopped)))
        )
    return tuple(sorted(found, key=lambda failure: (-len(failure.blocks), -len(failure.hosts), failure.reason)))


def _tuples(lists: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(names) for key, names in sorted(lists.items())}


def blocked_hosts(timeline: Timeline) -> tuple[Blocked, ...]:
    """Blocked hosts by what they wait for, with the failures at the bottom of it."""
    state = timeline.state
    roots: dict[int, tuple[str, ...]] = {}
    clusters: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, host in state.hosts.items():
        if host.outcome is Outcome.BLOCKED and (wait := _culprit(timeline, name)) is not None:
            # Groups that wait for the same thing have a dependency each; it reads as one.
            clusters.setdefault((wait.title, _roots(timeline, wait, roots)), []).append(name)
    found = (Blocked(title, tuple(names), causes) for (title, causes), names in clusters.items())
    return tuple(sorted(found, key=lambda cluster: -len(cluster.hosts)))


def _culprit(timeline: Timeline, name: str) -> Wait | None:
    """The dependency that a blocked host waits for in vain: the one its outcome names."""
    detail = timeline.state.hosts[name].detail
    return next((wait for wait in timeline.state.dependencies.of[name] if wait.title == detail), None)


def _roots(timeline: Timeline, wait: Wait, known: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """The members at the bottom of a chain of blocked hosts. Plans have no cycle; a chain is as deep as its waves."""
    if id(wait) in known:
        return known[id(wait)]
    found: dict[str, None] = {}
    for member in wait.members:
        host = timeline.state.hosts[member]
        if host.outcome in READY:
            continue
        below = _culprit(timeline, member) if host.outcome is Outcome.BLOCKED else None
        if below is None:
            found[member] = None
        else:
            found.update(dict.fromkeys(_roots(timeline, below, known)))
    known[id(wait)] = tuple(found)
    return known[id(wait)]
