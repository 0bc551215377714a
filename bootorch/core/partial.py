"""Partial power as a view: with some feeds dark, who can be finished now, who waits for a feed, who for dark hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.limits import feed_path
from bootorch.core.model import FeedLimit, Host
from bootorch.core.plan import Plan
from bootorch.core.waits import Alike, Wait, Waits


@dataclass(frozen=True, slots=True)
class Held:
    """Hosts with electricity that cannot start: ``waits``, what for, a line each; ``feeds``: dark ones behind that."""

    group: str
    hosts: tuple[str, ...]
    waits: tuple[str, ...]
    feeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    """``feeds``: the dark ones, of several that hang on each other the highest. ``now``: hosts that can be finished, by
    group. ``dark``: hosts without electricity, by the feeds that they wait for (``hall-a``, or ``hall-a or hall-b``
    where a host has two cords and one would do)."""

    feeds: tuple[str, ...]
    now: Mapping[str, tuple[str, ...]]
    dark: Mapping[str, tuple[str, ...]]
    held: tuple[Held, ...]


def dark_feeds(plan: Plan) -> tuple[str, ...]:
    """Dark feeds as the plan names them, without those that hang on a dark one."""
    named = {path for path, limit in plan.limits.feeds.items() if limit.dark}
    return tuple(path for path in plan.limits.feeds if path in named and _above(path, named) == path)


def with_dark(plan: Plan, feeds: Iterable[str]) -> Plan:
    """The plan with further feeds dark. Raises InvalidInput for a feed that no host hangs on."""
    known: dict[str, None] = {}
    for cords in dict.fromkeys(host.feeds for host in plan.hosts.values()):
        for feed in cords:
            known.update(dict.fromkeys(feed_path(feed)))
    changed = dict(plan.limits.feeds)
    problems = []
    for feed in feeds:
        path = feed.strip("/")
        if path not in known:
            close = get_close_matches(path, known, n=1)
            shown = ", ".join([name for name in known if "/" not in name][:8])
            remedy = f"did you mean {close[0]}?" if close else f"feeds of its hosts: {shown or 'none'}"
            problems.append(Problem(f"no host hangs on the feed {feed!r}", "--dark", remedy))
        changed[path] = replace(changed.get(path, FeedLimit()), dark=True)
    if problems:
        raise InvalidInput(problems)
    return replace(plan, limits=replace(plan.limits, feeds=changed))


def partial(plan: Plan) -> Partial | None:
    """What can be done while the plan's dark feeds are dark; ``None`` when none is.

    Only what nothing can bring up holds others back: a quorum that live hosts can still reach does not wait for dark
    members. ``after`` waits for its dark members, because they have not settled.
    """
    feeds = dark_feeds(plan)
    if not feeds:
        return None
    named = set(feeds)
    waits_for: dict[tuple[str, ...], str] = {}
    dark: dict[str, str] = {}
    for host in plan.hosts.values():
        if host.feeds not in waits_for:
            waits_for[host.feeds] = _waits_for(host, named)
        if found := waits_for[host.feeds]:
            dark[host.name] = found
    waits = Waits(plan.groups, plan.hosts, dark)
    waits.settle()
    by_feed: dict[str, list[str]] = {}
    for name, feed in dark.items():
        by_feed.setdefault(feed, []).append(name)
    return Partial(
        feeds=feeds,
        now={
            group: tuple(sorted(names))
            for group, classes in waits.alike.items()
            if (names := [name for alike in classes if alike.ready for name in alike.hosts])
        },
        dark={feed: tuple(by_feed[feed]) for feed in sorted(by_feed)},
        held=tuple(_held(waits, dark)),
    )


def _held(waits: Waits, dark: Mapping[str, str]) -> list[Held]:
    behind = _Behind(waits, dark)
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for group, classes in waits.alike.items():
        for alike in classes:
            if alike.live and not alike.ready:
                unmet = [wait for wait in alike.waits if not wait.holds]
                key = (group, tuple(dict.fromkeys(map(_title, unmet))), behind.feeds(unmet))
                found.setdefault(key, []).extend(alike.hosts)
    return [Held(group, tuple(sorted(names)), said, feeds) for (group, said, feeds), names in found.items()]


class _Behind:
    """The dark feeds behind waits, through the hosts that these wait for."""

    def __init__(self, waits: Waits, dark: Mapping[str, str]) -> None:
        self._waits, self._dark = waits, dark
        self._of: dict[Alike, tuple[str, ...]] = {}
        self._known: dict[tuple[Wait, ...], tuple[str, ...]] = {}

    def feeds(self, unmet: Sequence[Wait]) -> tuple[str, ...]:
        key = tuple(unmet)
        if key not in self._known:
            self._known[key] = self._search(unmet)
        return self._known[key]

    def _search(self, unmet: Sequence[Wait]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        seen: set[Alike] = set()
        todo = [member for wait in unmet for member in wait.members if not member.ready]
        while todo:
            alike = todo.pop()
            if alike in seen:
                continue
            seen.add(alike)
            if not alike.live:
                found.update(dict.fromkeys(self._feeds(alike)))
            todo += [member for wait in alike.waits if not wait.holds for member in wait.members if not member.ready]
        return tuple(sorted(found))

    def _feeds(self, alike: Alike) -> tuple[str, ...]:
        if alike not in self._of:
            self._of[alike] = tuple(dict.fromkeys(self._dark[name] for name in alike.hosts))
        return self._of[alike]


def _title(wait: Wait) -> str:
    if wait.requirement is None:
        return f"the first member of {wait.parent}" if wait.key[1:] == ("first",) else f"after {wait.parent}"
    place = f" with the same {wait.requirement.per_host}" if wait.requirement.per_host else ""
    why = f" ({wait.requirement.control})" if wait.requirement.control else ""
    lit = sum(len(names) for member, names in wait.members.items() if member.ready)
    if wait.requirement.per_host:
        return f"{wait.parent}{place}{why}"
    spread = f" across {wait.across} racks" if wait.across else ""
    return f"{wait.parent}{why}: {wait.needed} of {wait.size} needed{spread}, {lit} can be ready"


def _waits_for(host: Host, dark: set[str]) -> str:
    """The dark feeds that a host waits for, any of which would do; empty where a cord has electricity."""
    above = [_above(feed, dark) for feed in host.feeds]
    return " or ".join(dict.fromkeys(above)) if above and all(above) else ""


def _above(feed: str, dark: set[str]) -> str:
    """The highest dark feed that a feed hangs on (or is)."""
    return next((path for path in feed_path(feed) if path in dark), "")
