"""What a server or a feed draws, read over Redfish: scripts for ``client.exchange``, and the pure parts below them.

A budget hangs on what is read, so nothing is guessed: where several resources could be meant, none is believed, and a
sum counts only when each of its parts could be read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.redfish.client import Answer, Verdict
from bootorch.redfish.wire import Json, Request, link, links, part, same, watts

MOST_CHASSIS: Final = 16  # looked at; blades and drive enclosures included
MOST_PARTS: Final = 96  # circuits or outlets that are added up; a rack's PDU has 24 to 60 outlets
# Of Status.State (DSP2046, Resource): what is not there counts nothing, what is in another state is not believed.
_BELIEVED: Final = (None, "Enabled", "StandbySpare", "Quiesced")
_ABSENT: Final = "Absent"
_UNITS: Final = {"W": 1.0, "kW": 1e3, "MW": 1e6}  # of Sensor.ReadingUnits (UCUM)


class Draw(NamedTuple):
    """``source``: the path of what was read, with the property."""

    watts: float
    source: str


Reading = Generator[Request, Answer, "Draw | Verdict"]
_Parts = Generator[Request, Answer, "Draw | None"]


class _Looked:
    """What stood in the way, so that the last word can be said about it."""

    def __init__(self) -> None:
        self.found: list[tuple[Reason, str]] = []

    def get(self, path: str) -> Generator[Request, Answer, Json | None]:
        """A resource; None where it is none, with the reason kept."""
        if not path:
            return None
        answer = yield Request("GET", path)
        if answer.body is None:
            self.found.append((answer.reason, answer.detail))
        return answer.body

    def no(self, detail: str) -> None:
        self.found.append((Reason.BMC_UNSUPPORTED, detail))

    def verdict(self, what: str) -> Verdict:
        """Trouble before absence: what is refused or garbled may be there all the same."""
        for reason, detail in self.found:
            if reason is not Reason.BMC_UNSUPPORTED:
                return Verdict(reason, f"{what}: {detail}")
        said = "; ".join(detail for _, detail in self.found[:4])
        return Verdict(Reason.BMC_UNSUPPORTED, f"{what}{': ' if said else ''}{said}")


# Servers


def host_draw(root: Json, chassis: str = "") -> Reading:
    """What the server draws, by the meter of its own chassis. ``chassis``: its Id, or path, where there are several."""
    looked = _Looked()
    collection = yield from looked.get(link(part(root, "Chassis")))
    if collection is None:
        return looked.verdict("no Chassis collection")
    members = links(part(collection, "Members"))
    if chassis:
        members = tuple(path for path in members if same(path, chassis) or path.rstrip("/").endswith(f"/{chassis}"))
        if not members:
            return Verdict(Reason.BMC_UNSUPPORTED, f"no chassis {chassis}")
    if len(members) > MOST_CHASSIS:
        return Verdict(Reason.BMC_UNSUPPORTED, f"{len(members)} chassis: name the server's own (redfish_chassis)")
    found: dict[str, Json] = {}
    for path in members:
        if (body := (yield from looked.get(path))) is not None:
            found[path] = body
    own = own_chassis(found)
    if len({systems for path in own if (systems := _systems(found[path]))}) > 1:
        return _ambiguous(own)
    draws: list[Draw] = []
    for path in own:
        draw = yield from _chassis(path, found[path], looked)
        if draw is not None and draw.watts > 0:
            draws.append(draw)
        elif draw is not None:
            looked.no(f"{draw.source} is 0, and nothing that runs draws nothing")
    if len(draws) > 1:
        return _ambiguous(draw.source for draw in draws)
    return draws[0] if draws else looked.verdict("no chassis tells what it draws")


def own_chassis(found: Mapping[str, Json]) -> list[str]:
    """Of all chassis of a service (path → resource) those that hold one server, the outermost of nested ones.

    A blade's service may show the enclosure, which draws for all its servers: it lists several, and does not count.
    """
    serving = [path for path, body in found.items() if _systems(body)]
    own = [path for path in serving if len(_systems(found[path])) == 1] if serving else list(found)
    return [
        path
        for path in own
        if not any(same(link(part(found[path], "Links", "ContainedBy")), other) for other in own if other != path)
    ]


def _systems(chassis: Json) -> tuple[str, ...]:
    return links(part(chassis, "Links", "ComputerSystems") or [])


def _ambiguous(names: Iterable[str]) -> Verdict:
    shown = ", ".join(list(names)[:4])
    return Verdict(
        Reason.BMC_UNSUPPORTED, f"several chassis could be the server's: {shown}; name its own (redfish_chassis)"
    )


def _chassis(path: str, body: Json, looked: _Looked) -> _Parts:
    """EnvironmentMetrics (2020.4) first, then the older Power, then the sum of the power supplies' inputs."""
    metrics_path = _linked(body, "EnvironmentMetrics")
    metrics = yield from looked.get(metrics_path)
    if metrics is not None and (draw := _excerpt(metrics_path, metrics, "PowerWatts", looked)):
        return draw
    power_path = _linked(body, "Power")
    power = yield from looked.get(power_path)
    if power is not None and (draw := power_control(power_path, power, (path, *_systems(body)), looked.no)):
        return draw
    subsystem = yield from looked.get(_linked(body, "PowerSubsystem"))
    if subsystem is not None and (supplies := link(part(subsystem, "PowerSupplies"))):
        return (yield from _sum(supplies, "InputPowerWatts", looked))
    return None


def _linked(chassis: Json, name: str) -> str:
    return link(part(chassis, name)) or link(part(chassis, "Links", name))


def power_control(path: str, power: Json, own: Iterable[str], no: Callable[[str], None]) -> Draw | None:
    """Of the entries of PowerControl the one that says what is consumed; of several, the one related to ``own``."""
    listed = part(power, "PowerControl")
    entries = [
        (index, entry, value)
        for index, entry in enumerate(listed if isinstance(listed, list) else [])
        if (value := watts(part(entry, "PowerConsumedWatts"))) is not None
    ]
    if len(entries) > 1:
        related = [
            item for item in entries if any(same(a, b) for a in links(part(item[1], "RelatedItem")) for b in own)
        ]
        if len(related) != 1:
            no(f"{path}: {len(entries)} PowerControl, and none says that it is the whole")
            return None
        entries = related
    if not entries:
        no(f"{path}: no PowerConsumedWatts")
        return None
    ((index, _, value),) = entries
    return Draw(value, f"{path}#/PowerControl/{index}/PowerConsumedWatts")


# Feeds


def feed_draw(root: Json, path: str) -> Reading:
    """What the resource at ``path`` measures: a sensor, metrics, a circuit, an outlet, a PDU, a chassis."""
    del root  # the path is the operator's own
    looked = _Looked()
    body = yield from looked.get(path)
    if body is None:
        return looked.verdict("no reading")
    kind = _kind(body)
    draw: Draw | None = None
    if kind == "Sensor":
        draw = sensor(path, body, looked.no)
    elif kind in _EXCERPTS:
        draw = _excerpt(path, body, _EXCERPTS[kind], looked)
    elif kind == "PowerDistribution":
        draw = yield from _distribution(path, body, looked)
    elif kind in ("CircuitCollection", "OutletCollection"):
        draw = yield from _sum(path, "PowerWatts", looked)
    elif kind == "Chassis":
        draw = yield from _chassis(path, body, looked)
    elif kind == "Power":
        draw = power_control(path, body, (), looked.no)
    else:
        looked.no(f"{path} is {kind or 'of no type'}, which measures no power")
    return draw or looked.verdict("no reading")


_EXCERPTS: Final = {
    "PowerDistributionMetrics": "PowerWatts",
    "EnvironmentMetrics": "PowerWatts",
    "Circuit": "PowerWatts",
    "Outlet": "PowerWatts",
    "OutletGroup": "PowerWatts",
    "PowerSupplyMetrics": "InputPowerWatts",
}


def _kind(body: Json) -> str:
    """``#PowerDistribution.v1_3_0.PowerDistribution`` → ``PowerDistribution``."""
    named = part(body, "@odata.type")
    return named.removeprefix("#").partition(".")[0][:60] if isinstance(named, str) else ""


def _distribution(path: str, body: Json, looked: _Looked) -> _Parts:
    """A PDU, switchgear or transfer switch: its own metrics, else the sum of its mains, else of its outlets."""
    metrics_path = link(part(body, "Metrics"))
    metrics = yield from looked.get(metrics_path)
    if metrics is not None and (draw := _excerpt(metrics_path, metrics, "PowerWatts", looked)):
        return draw
    for name in ("Mains", "Outlets"):
        if (collection := link(part(body, name))) and (
            draw := (yield from _sum(collection, "PowerWatts", looked))
        ) is not None:
            return draw
    return None


def _sum(collection_path: str, name: str, looked: _Looked) -> _Parts:
    """The members of a collection added up: each that is there, or nothing. Metrics may be apart (power supplies)."""
    collection = yield from looked.get(collection_path)
    members = links(part(collection, "Members")) if collection is not None else ()
    if collection is not None and (
        not members or len(members) > MOST_PARTS or part(collection, "Members@odata.nextLink")
    ):
        looked.no(f"{collection_path}: {len(members)} members cannot be added up")
        return None
    total = 0.0
    for member in members:
        body = yield from looked.get(member)
        if body is not None and part(body, "Status", "State") == _ABSENT:
            continue
        where = member
        if body is not None and name not in body and (metrics := link(part(body, "Metrics"))):
            where, body = metrics, (yield from looked.get(metrics))
        draw = _excerpt(where, body, name, looked) if body is not None else None
        if draw is None:
            return None
        total += draw.watts
    return Draw(total, f"{collection_path}: {len(members)} × {name}") if members else None


def _excerpt(path: str, body: Json, name: str, looked: _Looked) -> Draw | None:
    """A sensor's excerpt, ``{"Reading": 212.4, ...}``: its unit is fixed by the property."""
    state, value = part(body, "Status", "State"), watts(part(body, name, "Reading"))
    if value is None or state not in _BELIEVED:
        looked.no(f"{path}: no {name}" if value is None else f"{path} is {str(state)[:20]}")
        return None
    return Draw(value, f"{path}#/{name}/Reading")


def sensor(path: str, body: Json, no: Callable[[str], None]) -> Draw | None:
    """A Sensor resource whose unit is one of power."""
    unit, state, value = part(body, "ReadingUnits"), part(body, "Status", "State"), watts(part(body, "Reading"))
    scale = _UNITS.get(unit) if isinstance(unit, str) else None
    if scale is None:
        no(f"{path}: its unit {str(unit)[:10]!r} is none of power")
    elif value is None or state not in _BELIEVED:
        no(f"{path}: no reading" if value is None else f"{path} is {str(state)[:20]}")
    else:
        return Draw(value * scale, f"{path}#/Reading")
    return None
