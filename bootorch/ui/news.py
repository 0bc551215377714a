"""What in a run is worth a line: the meaning of events, collected until somebody reads it, equal things together.

The screen's last lines and the plain log both come from here. A line costs the hosts that it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bootorch.core.changes import Change, choices, describe
from bootorch.core.events import (
    Aborted,
    Adapted,
    Answer,
    BootFailed,
    BreakerReset,
    Chosen,
    Continued,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    LimitSet,
    MirrorBack,
    MirrorLost,
    OfHosts,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    ScopeAdded,
    Settled,
    TailCut,
    TierSet,
    Tripped,
)
from bootorch.core.limits import Resource
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.state import State
from bootorch.core.timeline import resource_title
from bootorch.ui.fold import fold_counted
from bootorch.ui.journalview import of_the_journal
from bootorch.ui.lines import STYLES, Piece, hosts, resumed

FOLD_CHARS = 72


@dataclass(slots=True)
class _Item:
    """One line in the making. ``example``: what the first of its hosts said."""

    t: float
    style: str
    text: str
    example: str = ""
    hosts: list[str] = field(default_factory=list)


class News:
    """``tell`` it every event after it is folded; ``take`` what has come together since the last time."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, ...], _Item] = {}
        self._started: set[str] = set()
        self._done: set[str] = set()
        self._held: dict[Resource, int] = {}
        self._asked: dict[str, str] = {}

    @property
    def pending(self) -> bool:
        return bool(self._items)

    def take(self) -> list[tuple[float, tuple[Piece, ...]]]:
        """Lines with their run time, oldest first. What was taken is forgotten."""
        items, self._items = self._items, {}
        return [(item.t, _line(item)) for item in items.values()]

    def tell(self, event: Event, state: State) -> None:
        match event:
            case Intent():
                self._intent(event, state)
            case Answer(kind=Kind.REDEPLOY):
                for name, (word, detail) in event.verdicts.items():
                    if word not in (Reason.OK, Reason.INTERRUPTED):
                        self._host(event.t, "yellow", "redeploy again", name, f"{word}: {detail}", word, event.target)
            case Answer(kind=Kind.GATE_CHECK, reason=Reason.OK):
                self._add(event.t, "green", f"gate {event.target} is open: its check holds", event.target)
            case BootFailed():
                detail = f"{event.reason}: {event.detail}"
                self._host(event.t, "yellow", "no proof of a boot", event.host, detail, event.reason)
            case Settled():
                self._settled(event, state)
            case GateOpened():
                self._add(event.t, "green", f"gate {event.gate} opened by {_who(event)}", event.gate)
            case Tripped():
                self._add(event.t, "bold red", f"breaker of {event.scope} tripped: {event.detail}", event.scope)
            case Paused():
                more = "what is under way finishes; bootorch resume goes on, a second Ctrl-C leaves at once"
                self._add(event.t, "bold yellow", f"paused by {_who(event)}; {more}", "paused")
            case Continued():
                self._add(event.t, "bold", f"goes on, said by {_who(event)}", "paused")
            case Aborted():
                what = "what is under way is left" if event.at_once else "no host begins another stage"
                self._add(event.t, "bold red", f"aborted by {_who(event)}; {what}", "aborted")
            case BreakerReset():
                self._add(event.t, "bold yellow", f"{describe(event)}, said by {_who(event)}", "reset", event.scope)
            case OfHosts():
                self._done -= {state.hosts[name].group.name for name in event.hosts}
                item = _Item(event.t, "bold yellow", f"{describe(event)}, said by {_who(event)}", "", [*event.hosts])
                self._items[("said", str(event.t), event.type, event.pattern)] = item
            case RunStarted():
                self._add(event.t, "bold", f"run {event.run_id}: {event.plan}, {hosts(event.hosts)}", "start")
            case RunResumed():
                style = "bold yellow" if event.asleep or event.taken_from else "bold"
                self._add(event.t, style, resumed(event), "start")
            case RunEnded():
                self._add(event.t, "bold", f"run ended: {event.verdict}", "end")
            case LimitSet() | FeedLost() | FeedReturned() | ScopeAdded() | TierSet() | Chosen():
                if isinstance(event, ScopeAdded):
                    self._done -= {state.hosts[name].group.name for name in event.hosts}
                style = "bold red" if isinstance(event, FeedLost) else "bold yellow"
                what = describe(event)
                self._add(event.t, style, f"{what}, said by {_who(event)}", event.type, what)
            case Adapted():
                self._add(event.t, "yellow", f"{describe(event)} by itself: {event.why}", event.type, event.slot)
            case TailCut() | MirrorLost() | MirrorBack():
                style = "bold yellow" if isinstance(event, MirrorBack) else "bold red"
                self._add(event.t, style, of_the_journal(event), event.type)
            case _:
                pass

    def held(self, counts: dict[Resource, int], state: State) -> None:
        """Tell what holds hosts back now; only what was not there before is news."""
        for resource, count in counts.items():
            if resource not in self._held and resource[0] in ("gate", "breaker", "dark", "choice"):
                gate = state.plan.gates.get(resource[1]) if resource[0] == "gate" else None
                ask = f": {gate.ask}" if gate and gate.ask else ""
                title = resource_title(resource)
                self._add(state.t, "bold yellow", f"{hosts(count)} held back by {title}{ask}", *resource)
        self._held = counts
        asked = {choice.group: choice.ask for choice in choices(state)}
        for group, ask in asked.items():
            if group not in self._asked:
                title = resource_title(("choice", group))
                self._add(state.t, "bold yellow", f"{title}: {ask} bootorch choose {group} HOST", "choice", group)
        self._asked = asked

    def _intent(self, event: Intent, state: State) -> None:
        if event.kind is Kind.POWER_ON and event.attempt > 1:
            self._host(event.t, "yellow", f"power-on again, attempt {event.attempt}", event.target, "", event.kind)
        elif event.kind is Kind.POWER_CYCLE:
            self._host(event.t, "yellow", "power cycle, as the plan allows", event.target, "", event.kind)
        elif event.kind in (Kind.POWER_READ, Kind.POWER_ON):
            name = state.hosts[event.target].group.name
            if name not in self._started:
                self._started.add(name)
                self._add(event.t, "dim", f"{name}: started, {hosts(state.groups[name].size)}", name, "started")

    def _settled(self, event: Settled, state: State) -> None:
        group = state.groups[state.hosts[event.host].group.name]
        name = group.group.name
        if event.outcome is Outcome.QUARANTINED:
            detail = f"{event.reason}: {event.detail}" if event.detail else event.reason.value
            self._host(event.t, STYLES["quarantined"], "quarantined", event.host, detail, event.reason, name)
        elif event.outcome is Outcome.BLOCKED:
            self._host(event.t, STYLES["blocked"], "blocked", event.host, event.detail, event.detail)
        elif event.outcome is Outcome.SKIPPED and event.reason is Reason.OPERATOR:
            self._host(event.t, STYLES["skipped"], "skipped", event.host, event.detail, name)
        elif event.outcome is Outcome.ADOPTED:
            self._host(event.t, STYLES["adopted"], "adopted, was on already", event.host, "", name)
        if group.settled == group.size and name not in self._done:
            self._done.add(name)
            # Counted once a group: a group settles once.
            ready = sum(
                1 for host in group.group.hosts if state.hosts[host].outcome in (Outcome.READY, Outcome.ADOPTED)
            )
            if ready == group.size:
                self._add(event.t, "green", f"{name}: all {group.size:,} ready", name, "done")
            else:
                self._add(event.t, "yellow", f"{name}: settled, {ready:,} of {group.size:,} ready", name, "done")

    def _add(self, t: float, style: str, text: str, *key: str) -> None:
        self._items[("", *key)] = _Item(t, style, text)

    def _host(self, t: float, style: str, text: str, host: str, example: str, *key: str) -> None:
        item = self._items.setdefault((text, *key), _Item(t, style, text, example))
        item.hosts.append(host)


def _who(event: Change) -> str:
    return event.by + (f": {event.why}" if event.why else "")


def _line(item: _Item) -> tuple[Piece, ...]:
    if not item.hosts:
        return ((item.text, item.style),)
    example = f"  {item.example}" if item.example else ""
    if example and len(item.hosts) > 1:
        example = f"  e.g. {item.example}"
    return (item.text, item.style), f"  {fold_counted(item.hosts, FOLD_CHARS)}", (example, "dim")


def held_back(state: State) -> dict[Resource, int]:
    """How many hosts each resource holds back at this moment. Looks at every host: not for every event."""
    counts: dict[Resource, int] = {}
    for host in state.hosts.values():
        if host.parked is not None and host.outcome is None:
            counts[host.parked] = counts.get(host.parked, 0) + 1
    return counts


def settled_share(state: State) -> str:
    """``412 of 32,000 settled``."""
    size = len(state.hosts)
    return f"{size - state.unsettled:,} of {size:,} settled"


def held_words(counts: dict[Resource, int], most: int = 3) -> Iterable[str]:
    """The resources that hold most hosts back, in words."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return (f"{count:,} held by {resource_title(resource)}" for resource, count in ordered[:most])
