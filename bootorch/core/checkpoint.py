"""The state of a run as plain JSON, so that a long journal need not be folded from its beginning.

``capture`` writes down what differs from the state at the plan's beginning, ``restore`` sets it on another such state.
Nothing is listed field by field: whatever the parts of a state are made of is compared and taken along, so a new field
cannot be forgotten. What cannot be written (an object of a class that is not known here) raises ``TypeError``: there is
no checkpoint then, and the events are folded as ever. Events remain the truth; a checkpoint is a cache over them.

Values: numbers, strings and None stand for themselves; ``[7]`` is the eighth entry of the ``pool``, where what is never
changed (enumerations, tuples, dates) stands once; other containers and objects begin with a word for their kind, and a
host is its name after such a word. What two places share and change (a start that is counted in a feed's window and
kept with its host) is linked by its place.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib import import_module
from typing import Any

from bootorch.core.clusters import Clusters, Count
from bootorch.core.dependencies import Leader, Need, Order
from bootorch.core.hoststate import Alike, GroupState, HostState
from bootorch.core.limits import Draw, Feed, Feeds
from bootorch.core.slots import Slots
from bootorch.core.state import State
from bootorch.core.timers import Timers

# References from part to part, what the plan alone determines, and caches: a fresh state has them already.
_GIVEN: Mapping[type, frozenset[str]] = {
    State: frozenset(
        {
            "plan",
            "dependencies",
            "feeds",
            "slots",
            "hosts",
            "groups",
            "by_cords",
            "peaks",
            "clusters",
            "expected",
            "timers",
            "alike",
            "waiting",
            "_keys",
            "_folds",
        }
    ),
    HostState: frozenset({"name", "place", "host", "group", "draw", "bmc_slot", "boot_slots", "alike"}),
    Alike: frozenset({"hosts"}),
    GroupState: frozenset({"group", "size"}),
    Draw: frozenset({"shares", "stamps", "profile"}),  # shares and stamps: see ``_links``
    Feed: frozenset({"name"}),
    Feeds: frozenset({"_by_weights", "_limits", "_feeds", "_shares", "steps"}),
    Slots: frozenset({"_now"}),
    Clusters: frozenset({"_counts", "_alike"}),
    Timers: frozenset(),
    Count: frozenset(),
    Need: frozenset({"members", "children", "parent", "title"}),
    Order: frozenset({"members", "children", "parent", "title"}),
    Leader: frozenset({"members", "children", "parent", "title"}),
}
_PLAIN = frozenset({str, int, float, bool, type(None)})


# What is taken along of a part. Of a class without slots its instance tells.
_FIELDS: Mapping[type, tuple[str, ...]] = {
    cls: tuple(
        name
        for name in ([f.name for f in fields(cls)] if is_dataclass(cls) else getattr(cls, "__slots__", ()))
        if name not in given
    )
    for cls, given in _GIVEN.items()
}


def shape(fresh: State) -> str:
    """Identifies what a state is made of: another shape is another version, whatever it calls itself."""
    parts = {type(part).__name__: _names(part) for part in _parts(fresh)}
    return sha256(repr(sorted(parts.items())).encode()).hexdigest()[:16]


def capture(state: State, fresh: State) -> dict[str, Any]:
    """All in which ``state`` differs from ``fresh``, a new state of the same plan. Raises TypeError."""
    writer = _Writer()
    parts: list[Any] = []
    for number, (part, beginning) in enumerate(zip(_parts(state), _parts(fresh), strict=True)):
        changed = {}
        for name in _names(part):
            value, before = getattr(part, name), getattr(beginning, name)
            if value != before or (type(value) is dict and list(value) != list(before)):  # the order is part of it
                changed[name] = writer.value(value)
        if changed:
            parts.append([number, changed])
    links = {name: writer.value(value) for name, value in _links(state, fresh).items()}
    return {"shape": shape(fresh), "plan": state.plan.digest, "pool": writer.pool, "parts": parts, "links": links}


def restore(fresh: State, kept: Mapping[str, Any]) -> None:
    """Make ``fresh``, a new state of the same plan, the one that was captured. Raises ValueError where it does not fit:
    ``fresh`` is of no use then."""
    if kept["shape"] != shape(fresh) or kept["plan"] != fresh.plan.digest:
        raise ValueError("it was written for another plan, or by another version")
    read = _Reader(kept["pool"], fresh.hosts).value
    links = {name: read(value) for name, value in kept["links"].items()}
    for name, cords, measured in links["shares"]:
        host = fresh.hosts[name]
        host.draw.shares = fresh.feeds.shares_of(host.host, cords, measured)
    parts = list(_parts(fresh))
    for number, changed in kept["parts"]:
        part = parts[number]
        for name, value in changed.items():
            setattr(part, name, read(value))
    for name, feed, ramp, place, t, amount in links["stamps"]:
        on = fresh.feeds.named(feed)
        window = on.window if ramp else on.inrush_window
        draw = fresh.hosts[name].draw
        draw.stamps = (*draw.stamps, (on, ramp, [t, amount] if place is None else window[place]))
    fresh.feeds.steps = [
        (t, order, fresh.hosts[name].draw, boot, level) for t, order, name, boot, level in links["steps"]
    ]


def _parts(state: State) -> Iterator[Any]:
    """Everything that a fold may change, always in the same order."""
    yield state
    yield state.feeds
    yield from state.feeds.all()
    yield state.slots
    yield state.timers
    yield state.clusters
    yield from state.clusters.counts()
    yield from state.dependencies.all
    yield from state.dependencies.leaders.values()
    yield from state.alike
    yield from state.groups.values()
    for host in state.hosts.values():
        yield host
        yield host.draw


def _names(part: object) -> tuple[str, ...]:
    return _FIELDS[type(part)] or tuple(name for name in vars(part) if name not in _GIVEN[type(part)])


def _links(state: State, fresh: State) -> dict[str, list[Any]]:
    """What is shared: hosts' shares (of the cords that live), starts in the windows, steps of the profiles."""
    places = {
        id(stamp): place
        for feed in state.feeds.all()
        for window in (feed.window, feed.inrush_window)
        for place, stamp in enumerate(window)
    }
    shares, stamps = [], []
    of_draw = {}
    # Hosts without shares have no cords of their own here: whichever are found make none for them either.
    made_for, made_first = state.feeds.cords(), fresh.feeds.cords()
    for name, host in state.hosts.items():
        draw = host.draw
        of_draw[id(draw)] = name
        cords, before = made_for.get(id(draw.shares), ()), made_first.get(id(fresh.hosts[name].draw.shares), ())
        if cords != before or draw.measured is not None:
            shares.append((name, cords, draw.measured))
        for feed, ramp, stamp in draw.stamps:
            place = places.get(id(stamp))
            stamps.append((name, feed.name, ramp, place, *stamp))
    steps = [(t, order, of_draw[id(draw)], boot, level) for t, order, draw, boot, level in state.feeds.steps]
    return {"shares": shares, "stamps": stamps, "steps": steps}


_CORE = "bootorch.core."


def _name(cls: type) -> str:
    """``bootorch.core.events:Kind``; empty for a class that is none of the core's values."""
    known = cls.__module__.startswith(_CORE) and (is_dataclass(cls) or issubclass(cls, StrEnum))
    return f"{cls.__module__}:{cls.__qualname__}" if known else ""


@cache
def _class(name: str) -> Any:
    """The class that ``_name`` named. Raises ValueError for any other."""
    module, _, word = name.partition(":")
    found = getattr(import_module(module), word, None) if module.startswith(_CORE) else None
    if not isinstance(found, type) or _name(found) != name:
        raise ValueError(f"there is no {name}")
    return found


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class _Writer:
    def __init__(self) -> None:
        self.pool: list[Any] = []
        self._placed: dict[object, int] = {}

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is HostState:
            return ["host", value.name]
        if kind is list or kind is deque or kind is set:
            word = {list: "list", deque: "deque", set: "set"}[kind]
            return [word, *map(self.value, sorted(value) if kind is set else value)]
        if kind is array:
            return ["times", *value]
        if kind is dict:
            return ["dict", *(self.value(part) for item in value.items() for part in item)]
        if is_dataclass(kind) and not _hashable(value):  # one that changes, or holds a mapping
            return self._object(value)
        return [self._place(value)]

    def _object(self, value: Any) -> list[Any]:
        name = _name(type(value))
        if not name or type(value) in _GIVEN:
            raise TypeError(f"a state cannot be written down: {type(value).__name__}")
        return ["object", name, *(part for f in fields(value) for part in (f.name, self.value(getattr(value, f.name))))]

    def _place(self, value: Any) -> int:
        # 1, 1.0 and True are equal and not the same; so are the stage, the kind and the word "redeploy".
        key = (type(value), value, *map(type, value)) if type(value) is tuple else (type(value), value)
        place = self._placed.get(key)
        if place is None:
            made = self._made(value)
            place = self._placed[key] = len(self.pool)
            self.pool.append(made)
        return place

    def _made(self, value: Any) -> list[Any]:
        if isinstance(value, StrEnum):
            return ["enum", _name(type(value)), value.value]
        if is_dataclass(value):
            return self._object(value)
        if type(value) is tuple:
            return ["tuple", *map(self.value, value)]
        if type(value) is frozenset:
            return ["frozenset", *map(self.value, sorted(value))]
        if type(value) is datetime:
            return ["date", value.isoformat()]
        raise TypeError(f"a state cannot be written down: {type(value).__name__}")


class _Reader:
    def __init__(self, pool: list[Any], hosts: Mapping[str, HostState]) -> None:
        self._hosts = hosts
        self._pool: list[Any] = []
        for made in pool:  # an entry's parts stand before it
            self._pool.append(self._make(made))

    def value(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        head = value[0]
        if type(head) is int:
            return self._pool[head]
        rest = map(self.value, value[1:])
        match head:
            case "list":
                return list(rest)
            case "dict":
                return dict(zip(rest, rest, strict=True))
            case "set":
                return set(rest)
            case "times":
                return array("d", rest)
            case "host":
                return self._hosts[next(rest)]
            case "deque":
                return deque(rest)
            case "object":
                return _class(next(rest))(**dict(zip(rest, rest, strict=True)))
            case _:
                raise ValueError(f"unknown word {head!r}")

    def _make(self, made: list[Any]) -> Any:
        match made:
            case ["enum", name, value]:
                return _class(name)(value)
            case ["object", *_]:
                return self.value(made)
            case ["tuple", *parts]:
                return tuple(map(self.value, parts))
            case ["frozenset", *parts]:
                return frozenset(map(self.value, parts))
            case ["date", text]:
                return datetime.fromisoformat(text)
            case _:
                raise ValueError(f"unknown word {made[:1]!r}")
