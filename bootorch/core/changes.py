"""What of a plan is otherwise now than its file says: a fold over the events by which a run is changed under way.

``Changes`` knows limits, dark feeds, tiers, chosen first members and scope as they stand, and who said so. It decides
nothing: what the engine makes of the same events is in ``core.state``. Commands are checked against it
(``core.words``), and the views show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bootorch.core.dependencies import Status
from bootorch.core.events import (
    Aborted,
    Adapted,
    BreakerReset,
    Chosen,
    Continued,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Lifted,
    LimitSet,
    OfHosts,
    Paused,
    Quarantined,
    Retried,
    RunStarted,
    ScopeAdded,
    Skipped,
    TierSet,
)
from bootorch.core.limits import feed_path
from bootorch.core.model import FeedLimit, Host
from bootorch.core.plan import Plan
from bootorch.core.units import quantity, title

if TYPE_CHECKING:
    from bootorch.core.state import State

# What a person may say while a run goes on.
Change = (
    Chosen | LimitSet | FeedLost | FeedReturned | ScopeAdded | TierSet | GateOpened | BreakerReset
    | Paused | Continued | Aborted | Quarantined | Skipped | Lifted | Retried
)  # fmt: skip
CHANGES: tuple[type[Change], ...] = (
    Chosen, LimitSet, FeedLost, FeedReturned, ScopeAdded, TierSet, GateOpened, BreakerReset,
    Paused, Continued, Aborted, Quarantined, Skipped, Lifted, Retried,
)  # fmt: skip
FOLDED: tuple[type[Event], ...] = (RunStarted, *CHANGES, Adapted)  # all that ``Changes.fold`` looks at
ITSELF = "bootorch"  # who changed a limit that adapts by itself


@dataclass(frozen=True, slots=True)
class Said:
    """One change, for people. ``kind`` is the event's type; ``by`` is ``bootorch`` for a limit that adapts itself."""

    t: float
    kind: str
    what: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Dark:
    """A feed without electricity: since when (run seconds), and who said so."""

    feed: str
    since_s: float
    by: str
    why: str


class Changes:
    """Fold the events of a run, in order; read at any time. Costs nothing for events that change nothing."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.feeds: dict[str, FeedLimit] = dict(plan.limits.feeds)
        self.slots: dict[str, int] = dict(plan.limits.slots)
        self.adapted: dict[str, int] = {}  # slot -> what it shrank to by itself
        self.tiers = {name: group.tier for name, group in plan.groups.items()}
        self.dark = {
            name: Dark(name, 0.0, "the plan", "dark in the plan file")
            for name, limit in plan.limits.feeds.items()
            if limit.dark
        }
        self._above: dict[str, str] = {}  # answers of ``dark_above``: a site has far fewer feeds than hosts
        self.chosen: dict[str, str] = {}
        self.gates: dict[str, str] = {}  # open ones, and by whom
        self.scope: frozenset[str] | None = None  # None: every host of the plan
        self.budgets: dict[str, list[tuple[float, float | None]]] = {
            name: [(0.0, limit.budget_watts)] for name, limit in plan.limits.feeds.items()
        }
        self.said: list[Said] = []

    @classmethod
    def of(cls, plan: Plan, events: Iterable[Event]) -> Changes:
        changes = cls(plan)
        for event in events:
            changes.fold(event)
        return changes

    def fold(self, event: Event) -> None:
        if not isinstance(event, FOLDED):
            return
        match event:
            case RunStarted():
                self.scope = frozenset(event.selected) if event.selected else None
                return
            case LimitSet(kind="feed"):
                self._feed_limit(event)
            case LimitSet():
                if event.value is not None:
                    self.slots[event.name] = int(event.value)
                self.adapted.pop(event.name, None)
            case FeedLost():
                self.dark[event.feed] = Dark(event.feed, event.t, event.by, event.why)
                self._above.clear()
            case FeedReturned():
                self.dark.pop(event.feed, None)
                self._above.clear()
            case ScopeAdded():
                if self.scope is not None:
                    self.scope |= frozenset(event.hosts)
            case TierSet():
                self.tiers[event.group] = event.tier
            case Chosen():
                self.chosen[event.group] = event.host
            case Adapted():
                self.adapted[event.slot] = event.limit
            case GateOpened():
                self.gates[event.gate] = event.by
                return  # gates have a place of their own in every view
            case Paused() | Continued() | Aborted() | BreakerReset() | OfHosts():
                pass  # the state knows
            case _:
                raise AssertionError(event)
        by = ITSELF if isinstance(event, Adapted) else event.by
        self.said.append(Said(event.t, event.type, describe(event), by, event.why))

    def _feed_limit(self, event: LimitSet) -> None:
        limit = self.feeds.get(event.name, FeedLimit())
        if event.value is not None:
            limit = replace(limit, budget_watts=event.value)
            self.budgets.setdefault(event.name, [(0.0, None)]).append((event.t, event.value))
        if event.ramp is not None:
            limit = replace(limit, ramp_watts_per_min=event.ramp)
        if event.inrush is not None:
            limit = replace(limit, inrush_amps=event.inrush)
        self.feeds[event.name] = limit

    @cached_property
    def known_feeds(self) -> Mapping[str, None]:
        """Every feed and supply of the plan: those with limits, those that hosts hang on, and all above them."""
        paths = dict.fromkeys(path for host in self.plan.hosts.values() for path in _paths(host))
        return dict.fromkeys((*self.plan.limits.feeds, *(part for path in paths for part in feed_path(path))))

    def is_dark(self, host: Host) -> bool:
        """Has no cord with electricity; a host that states no feed is never dark."""
        return bool(host.feeds) and all(self.dark_above(feed) for feed in host.feeds)

    def dark_above(self, feed: str) -> str:
        """The feed itself or the one above it that is dark; empty: neither is."""
        above = self._above.get(feed)
        if above is None:
            above = self._above[feed] = next((part for part in feed_path(feed) if part in self.dark), "")
        return above

    def dark_hosts(self) -> Iterator[str]:
        """Names of the hosts that are dark, in the plan's order. Looks at every host of the plan."""
        if self.dark:
            yield from (name for name, host in self.plan.hosts.items() if self.is_dark(host))

    def below(self, feed: str) -> Iterator[str]:
        """Hosts with a cord (or a load) on the feed or on one that hangs on it."""
        for name, host in self.plan.hosts.items():
            if any(under(path, feed) for path in _paths(host)):
                yield name


def under(path: str, feed: str) -> bool:
    """``path`` is the feed, or hangs on it."""
    return path == feed or (path.startswith(feed) and path[len(feed)] == "/")


@dataclass(frozen=True, slots=True)
class Choice:
    """A person has to name the first member of ``group`` before anything of it can start."""

    group: str
    ask: str
    candidates: tuple[str, ...]  # who may be named


def choices(state: State) -> Iterator[Choice]:
    """Questions for a person that members wait for, and for nothing else."""
    for group, leader in state.dependencies.leaders.items():
        if not leader.ask or leader.chosen or leader.status is not Status.PENDING:
            continue
        waiting = (state.hosts[name] for name in leader.members if name not in leader.settled)
        if any(host.outcome is None and host.waits == 1 and not host.dark for host in waiting):
            first = state.plan.groups[group].first
            named = first.candidates if first is not None else ()
            candidates = tuple(name for name in named or leader.members if name not in leader.settled)
            yield Choice(group, leader.ask, candidates)


def _paths(host: Host) -> Iterator[str]:
    yield from host.feeds
    yield from (load.path for load in host.loads)


def describe(event: Change | Adapted) -> str:
    """The change as an operator says it, without who and why."""
    match event:
        case LimitSet(kind="feed"):
            parts = [quantity(event.value, event.name)] if event.value is not None else []
            if event.ramp is not None:
                parts.append(f"ramp {quantity(event.ramp, event.name)} a minute")
            if event.inrush is not None:
                parts.append(f"inrush {event.inrush:g} A")
            return f"{title(event.name)} has {', '.join(parts)}"
        case LimitSet():
            return f"slot {event.name} has {int(event.value or 0):,}"
        case FeedLost():
            return f"{title(event.feed)} is without electricity"
        case FeedReturned():
            return f"{title(event.feed)} has electricity again"
        case ScopeAdded():
            return f"{event.pattern} belongs to the run: {len(event.hosts):,} {'host' + 's' * (len(event.hosts) != 1)}"
        case TierSet():
            return f"group {event.group} has tier {event.tier}"
        case Chosen():
            return f"{event.host} is the first member of {event.group}"
        case Adapted():
            return f"slot {event.slot} has {event.limit:,}"
        case GateOpened():
            return f"gate {event.gate} is open"
        case BreakerReset():
            return f"breaker {event.scope} reset" if event.scope else "every breaker reset"
        case Paused():
            return "paused"
        case Continued():
            return "goes on"
        case Aborted():
            return "aborted at once" if event.at_once else "aborted"
        case OfHosts():
            return f"{_DONE[type(event)]}: {_named(event)}"


_DONE: Mapping[type[OfHosts], str] = {
    Quarantined: "quarantined", Skipped: "skipped", Lifted: "lifted", Retried: "tried again",
}  # fmt: skip


def _named(event: OfHosts) -> str:
    count = f" ({len(event.hosts):,})" if len(event.hosts) > 1 else ""
    return f"{event.pattern or 'all that failed'}{count}"
