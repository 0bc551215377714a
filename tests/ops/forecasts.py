"""A fleet to forecast, and runs of it that stand in the middle."""

from __future__ import annotations

from pathlib import Path

from bootorch.core.engine import Engine
from bootorch.core.events import Event, Intent
from bootorch.core.forecast import Forecast
from bootorch.core.model import FeedLimit, Gate, Group, Limits, Quorum, Requirement
from bootorch.core.plan import Plan
from bootorch.ops.forecast import Options, Stand, forecast_run
from bootorch.runtime.journal import Journal
from bootorch.sim.parameters import FIELD, Parameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import World
from tests.plans import group, make_plan

SELECTED = ("db1", "db2")


def fleet(size: int = 60, watts: float = 18_000.0, gates: tuple[Gate, ...] = ()) -> Plan:
    """Switches, then databases that each need theirs, then a front end that needs most of the databases."""
    groups: dict[str, tuple[int, Group]] = {
        "switch": (4, group(tier=0)),
        "db": (size // 3, group(tier=1, requires=(Requirement("switch", per_host="rack"),))),
        "web": (size - size // 3, group(tier=2, requires=(Requirement("db", Quorum(share=0.8)),))),
    }
    limits = Limits(feeds={"hall": FeedLimit(budget_watts=watts, ramp_watts_per_min=4_000.0)})
    return make_plan(groups, limits, gates)


def until(
    plan: Plan, seed: int, parameters: Parameters = FIELD, share: float = 0.5
) -> tuple[list[Event], float, float]:
    """A run cut off at ``share`` of its time: its events, the time it was cut, the time its last host was ready."""
    whole = Simulation(Engine(plan), World(plan, seed, parameters))
    events: list[Event] = [*whole.start(seed), *whole.run()]
    ready_s = max(host.settled_t for host in whole.engine.state.hosts.values() if host.outcome in ("ready", "adopted"))
    cut_s = ready_s * share
    return [event for event in events if event.t <= cut_s], cut_s, ready_s


def through_a_journal(events: list[Event], directory: Path) -> list[Event]:
    """What a journal keeps of them."""
    path = directory / "journal.sqlite"
    with Journal.create(path, {"plan": b"x"}) as journal:
        journal.append(events)
        return list(journal.events())


def of_run(plan: Plan, events: list[Event], now: float, samples: int = 8, seed: int = 1) -> Forecast:
    return forecast_run(plan, Stand(events, now), FIELD, Options(samples=samples, seed=seed, jobs=2))


def power_ons(events: list[Event]) -> list[str]:
    return [event.target for event in events if isinstance(event, Intent) and event.kind == "power.on"]
