"""What-if: a sentence such as ``feed hall-a 60%, bmc dead 10%`` read, and what of it concerns the plan applied to it.

One sentence is one alternative world; its changes are parted by commas. What concerns the simulated world (who is
dead, how slow boots are) is left to whoever makes that world, what happens at a time to whoever runs the simulation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bootorch.core import units
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import Event, FeedLost, FeedReturned, GateOpened
from bootorch.core.limits import feed_path
from bootorch.core.model import FeedLimit, Gate
from bootorch.core.plan import Plan

BY = "what-if"  # who opens a gate or loses a feed in an imagined world
FORKS = "redeploy_forks"

EXAMPLES = (
    "feed hall-a 60%", "feed hall-a 300kW", "feed hall-a lost", "feed hall-a lost at 20m",
    "feed hall-a returned at 40m", "ramp hall-a 50%", "ramp hall-a 60kW", "slot image_server 100", "forks 20",
    "bmc dead 10%", "boot dead 5%", "boot slow 2x", "model R640 dead 80%", "power silent 5%", "on 30%",
    "gate cooling opens at 30m",
)  # fmt: skip


class Chance(StrEnum):
    """What a share of all hosts may be like."""

    BMC_DEAD = "bmc dead"
    BOOT_DEAD = "boot dead"
    POWER_SILENT = "power silent"
    ON = "on"


@dataclass(frozen=True, slots=True)
class FeedChange:
    """Another budget (or, with ``ramp``, ramp): ``share`` of the plan's, or ``watts`` (watts per minute)."""

    name: str
    share: float | None = None
    watts: float | None = None
    ramp: bool = False


@dataclass(frozen=True, slots=True)
class FeedOutage:
    """The feed is lost at run time ``at_s`` (0: as the forecast begins), or, with ``returned``, there again."""

    name: str
    at_s: float = 0.0
    returned: bool = False


@dataclass(frozen=True, slots=True)
class SlotChange:
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class ShareChange:
    """So many of the hosts are so, drawn by the world's seed."""

    what: Chance
    share: float


@dataclass(frozen=True, slots=True)
class ModelDead:
    """``share`` of the hosts of a model never boot."""

    model: str
    share: float


@dataclass(frozen=True, slots=True)
class BootSlow:
    """Every boot takes ``factor`` times as long."""

    factor: float


@dataclass(frozen=True, slots=True)
class GateOpens:
    """The gate is closed until run time ``at_s``, and open from then on."""

    name: str
    at_s: float


Change = FeedChange | FeedOutage | SlotChange | ShareChange | ModelDead | BootSlow | GateOpens


@dataclass(frozen=True, slots=True)
class WhatIf:
    """``text`` as it was written; it names this world in every view."""

    text: str
    changes: tuple[Change, ...]


_NAME = r"(?P<name>\S+)"
_SHARE = r"(?P<share>\d+(?:\.\d+)?)\s*%"
_FORMS: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (word, re.compile(pattern, re.ASCII | re.IGNORECASE))
    for word, pattern in (
        ("feed lost", rf"feed {_NAME} lost(?: at (?P<at>\S+))?"),
        ("feed returned", rf"feed {_NAME} returned at (?P<at>\S+)"),
        ("feed share", rf"feed {_NAME} {_SHARE}"),
        ("feed watts", rf"feed {_NAME} (?P<watts>\d\S*(?: ?[kMm]?W)?)"),
        ("ramp share", rf"ramp {_NAME} {_SHARE}"),
        ("ramp watts", rf"ramp {_NAME} (?P<watts>\d\S*(?: ?[kMm]?W)?)"),
        ("slot", rf"slot {_NAME} (?P<count>\d{{1,9}})"),
        ("slot", r"(?P<name>forks) (?P<count>\d{1,9})"),
        ("chance", rf"(?P<what>bmc dead|boot dead|power silent|on) {_SHARE}"),
        ("boot slow", r"boot slow (?P<factor>\d+(?:\.\d+)?)\s*x"),
        ("model dead", rf"model (?P<name>.+?) dead {_SHARE}"),
        ("gate", rf"gate {_NAME} opens at (?P<at>\S+)"),
    )
)


def parse(text: str, where: str = "--what-if") -> WhatIf:
    """Raises InvalidInput with every change that cannot be read, each with examples of the nearest form.

    >>> parse("feed hall-a 60%, forks 20").changes
    (FeedChange(name='hall-a', share=0.6, watts=None, ramp=False), SlotChange(name='redeploy_forks', count=20))
    """
    changes: list[Change] = []
    found: list[Problem] = []
    for part in text.split(","):
        words = " ".join(part.split())
        try:
            changes.append(_change(words))
        except ValueError as error:
            found.append(Problem(str(error), where, f"write for example: {'; '.join(_examples(words))}"))
    if found:
        raise InvalidInput(found)
    return WhatIf(" ".join(text.split()), tuple(changes))


def _change(words: str) -> Change:
    for word, form in _FORMS:
        if (match := form.fullmatch(words)) is None:
            continue
        part = match.groupdict()
        match word:
            case "feed lost" | "feed returned":
                at_s = _at(part["at"]) if part["at"] else 0.0
                return FeedOutage(part["name"], at_s, word == "feed returned")
            case "feed share" | "ramp share":
                return FeedChange(part["name"], share=_positive(_share(part["share"], most=10.0)), ramp=word[0] == "r")
            case "feed watts" | "ramp watts":
                return FeedChange(part["name"], watts=units.watts(part["watts"]), ramp=word[0] == "r")
            case "slot":
                count = int(part["count"])
                if count < 1:
                    raise ValueError(f"{words!r}: nothing could ever go with 0 of them; the least is 1")
                return SlotChange(FORKS if part["name"].lower() == "forks" else part["name"], count)
            case "chance":
                return ShareChange(Chance(part["what"].lower()), _share(part["share"]))
            case "boot slow":
                factor = float(part["factor"])
                if not 0.1 <= factor <= 100.0:
                    raise ValueError(f"{words!r}: boots can be made 0.1 to 100 times as long")
                return BootSlow(factor)
            case "model dead":
                return ModelDead(part["name"], _share(part["share"]))
            case _:
                return GateOpens(part["name"], _at(part["at"]))
    if not words:
        raise ValueError("there is an empty change: nothing stands before, after or between the commas")
    raise ValueError(f"{words[:60]!r} is no change that can be imagined")


def _share(text: str, most: float = 1.0) -> float:
    share = round(float(text) / 100.0, 9)
    if share > most:
        raise ValueError(f"{text}% is more than {most:.0%}")
    return share


def _positive(share: float) -> float:
    if share <= 0.0:
        raise ValueError("0% of a feed is none: write lost")
    return share


def _at(text: str) -> float:
    if text in ("0", "0s", "0m"):
        return 0.0
    return units.seconds(text)


def _examples(words: str) -> tuple[str, ...]:
    """Those that begin with the same word, else one of each kind."""
    first = words.partition(" ")[0].lower()
    near = tuple(example for example in EXAMPLES if example.partition(" ")[0] == first)
    return near or EXAMPLES


# -- what concerns the plan ---------------------------------------------------------------------


def apply(what: WhatIf, plan: Plan, where: str = "--what-if") -> Plan:
    """The plan with other limits and gates. Raises InvalidInput with every name that the plan does not have.

    A gate that ``opens at`` a time becomes one that asks, and ``happenings`` answers it then.
    """
    found = _unknown(what.changes, plan, where)
    if found:
        raise InvalidInput(found)
    feeds, slots, gates = dict(plan.limits.feeds), dict(plan.limits.slots), dict(plan.gates)
    for change in what.changes:
        match change:
            case FeedChange():
                feeds[change.name] = _limited(feeds.get(change.name, FeedLimit()), change)
            case SlotChange():
                slots[change.name] = change.count
            case GateOpens():
                gate = gates[change.name]
                ask = gate.ask or f"{BY}: opens at {change.at_s:g} s"
                gates[change.name] = Gate(gate.name, ask=ask, groups=gate.groups)
            case _:
                pass
    return replace(plan, limits=replace(plan.limits, feeds=feeds, slots=slots), gates=gates)


def outages(feeds: Iterable[str], plan: Plan, where: str = "--dark") -> tuple[Change, ...]:
    """These feeds are without electricity from the beginning. Raises InvalidInput for feeds that the plan lacks."""
    changes = tuple(FeedOutage(name) for name in feeds)
    if found := _unknown(changes, plan, where):
        raise InvalidInput(found)
    return changes


def happenings(what: WhatIf, now: float = 0.0) -> tuple[Event, ...]:
    """What happens at a time of the run, in order of time: events from outside, for whoever runs the simulation. What
    should have happened before ``now`` happens then."""
    events: list[Event] = []
    for change in what.changes:
        match change:
            case FeedOutage(returned=True):
                events.append(FeedReturned(max(now, change.at_s), change.name, BY))
            case FeedOutage():
                events.append(FeedLost(max(now, change.at_s), change.name, BY))
            case GateOpens():
                events.append(GateOpened(max(now, change.at_s), change.name, BY))
            case _:
                pass
    return tuple(sorted(events, key=lambda event: event.t))


def held_gates(what: WhatIf) -> frozenset[str]:
    """The gates that are not taken as answered at the beginning."""
    return frozenset(change.name for change in what.changes if isinstance(change, GateOpens))


def _limited(limit: FeedLimit, change: FeedChange) -> FeedLimit:
    before = limit.ramp_watts_per_min if change.ramp else limit.budget_watts
    value = change.watts if change.watts is not None else (before or 0.0) * (change.share or 0.0)
    return replace(limit, ramp_watts_per_min=value) if change.ramp else replace(limit, budget_watts=value)


def _unknown(changes: Sequence[Change], plan: Plan, where: str) -> list[Problem]:
    found: list[Problem] = []
    hung: dict[str, None] | None = None
    for change in changes:
        match change:
            case FeedChange(share=share) if share is not None:
                limit = plan.limits.feeds.get(change.name)
                what = "ramp" if change.ramp else "budget"
                if limit is None or (limit.ramp_watts_per_min if change.ramp else limit.budget_watts) is None:
                    having = [n for n, f in plan.limits.feeds.items() if _value(f, ramp=change.ramp) is not None]
                    remedy = f"feeds with a {what}: {_some(having)}; or give it in watts"
                    found.append(Problem(f"feed {change.name!r} has no {what} to take a share of", where, remedy))
            case FeedChange() | FeedOutage():
                hung = _hung(plan) if hung is None else hung
                if change.name not in plan.limits.feeds and change.name not in hung:
                    found.append(_no("feed", change.name, [*plan.limits.feeds, *hung], where))
            case SlotChange():
                if change.name not in plan.limits.slots and change.name != FORKS:
                    found.append(_no("slot", change.name, plan.limits.slots, where))
            case ModelDead():
                models = dict.fromkeys(host.model for host in plan.hosts.values() if host.model)
                if change.model not in models:
                    found.append(_no("model", change.model, models, where))
            case GateOpens():
                if change.name not in plan.gates:
                    found.append(_no("gate", change.name, plan.gates, where))
            case _:
                pass
    return found


def _value(limit: FeedLimit, *, ramp: bool) -> float | None:
    return limit.ramp_watts_per_min if ramp else limit.budget_watts


def _hung(plan: Plan) -> dict[str, None]:
    """Every feed that a host hangs on, and those above it."""
    cords = dict.fromkeys(feed for host in plan.hosts.values() for feed in host.feeds)
    return dict.fromkeys(part for cord in cords for part in feed_path(cord))


def _no(kind: str, name: str, known: Iterable[str] | Mapping[str, object], where: str) -> Problem:
    return Problem(f"the plan has no {kind} {name!r}", where, f"{kind}s: {_some(list(dict.fromkeys(known)))}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:8]) or "none"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
