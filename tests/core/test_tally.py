"""The counters agree with a count, whatever a run does; the document that is made of them agrees with the report."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bootorch.core.changes import Changes
from bootorch.core.events import Answer, Event, Intent, Kind
from bootorch.core.report import Report
from bootorch.core.standing import MOST_NAMES, Standing
from bootorch.core.state import State
from bootorch.core.tally import Tally
from bootorch.sim.swarm import case_of, play
from tests.ui.example import demo_world


def counted(tally: Tally) -> object:
    """All that a tally says, without what has become empty."""
    groups = {
        name: ({k: n for k, n in g.outcomes.items() if n}, {k: n for k, n in g.phases.items() if n}, g.done_s)
        for name, g in tally.groups.items()
    }
    return groups, {alike: set(members.hosts) for alike, members in tally.classes.items()}


@pytest.mark.parametrize("part", range(6))
def test_the_tally_agrees_with_a_count(part: int) -> None:
    """Plans, worlds, scripts of people and outages, kills: each with a random half of all there is."""
    looked = 0
    for seed in range(part * 15, part * 15 + 15):
        case = case_of(seed)
        played = play(case)
        state = State(case.plan)
        tally = Tally(state)
        for number, event in enumerate(played.events):
            state.fold(event)
            tally.tell(event)
            if number % 97 == 0 or number == len(played.events) - 1:
                assert counted(tally) == counted(Tally(state)), f"seed {seed}, after event {number}: {event}"
                looked += 1
    assert looked > 30


def standing(events: list[Event], state: State, *, whole: bool = True) -> dict[str, object]:
    tally, changes = Tally(state), Changes(state.plan)
    for event in events:
        state.advance(event.t)
        state.fold(event)
        tally.tell(event)
        changes.fold(event)
    return json.loads(json.dumps(Standing(state, tally, changes).document(whole=whole)))


@pytest.mark.parametrize("stop_t", [40.0, 330.0, 1e9])
def test_the_document_says_what_the_report_says(stop_t: float) -> None:
    world = demo_world(stop_t=stop_t)
    events = world.run()
    document, report = standing(events, State(world.plan)), Report.of(world.plan, events).to_json()
    same = ("plan", "run_id", "verdict", "size", "totals", "in_progress", "power_ons", "cycles", "changes", "choices")
    for key in same:
        assert document[key] == report[key], key
    for name, group in report["groups"].items():
        kept = document["groups"][name]  # type: ignore[index]
        assert (kept["size"], kept["outcomes"], kept["phases"]) == (group["size"], group["outcomes"], group["phases"])
    quarantined = [f for f in document["failures"] if f["outcome"] == "quarantined"]  # type: ignore[attr-defined]
    assert sum(f["count"] for f in quarantined) == report["totals"]["quarantined"]
    draws = {limit["name"]: limit["draw"] for limit in report["limits"] if limit["kind"] == "feed"}
    assert {x["name"]: x["draw"] for x in document["limits"] if x["kind"] == "feed"} == pytest.approx(draws)  # type: ignore[attr-defined]
    tiers = document["tiers"]
    assert sum(tier["size"] for tier in tiers) == report["size"]  # type: ignore[attr-defined]


def test_a_gate_says_who_waits_for_it_and_what_is_in_flight_is_told() -> None:
    world = demo_world(stop_t=20.0)
    document = standing(world.run(), State(world.plan))
    (gate,) = document["gates"]  # type: ignore[misc]
    assert (gate["name"], gate["opened_by"], gate["held"]) == ("stable-power", "", 4)
    events = demo_world().run()
    until = next(n for n, event in enumerate(events) if isinstance(event, Intent) and event.kind is Kind.POWER_ON)
    document = standing(events[: until + 1], State(world.plan))
    assert document["gates"][0]["opened_by"] == "kim"  # type: ignore[index]
    intents = Counter(event.kind.value for event in events[: until + 1] if isinstance(event, Intent))
    answers = Counter(event.kind.value for event in events[: until + 1] if isinstance(event, Answer))
    assert document["in_flight"] == intents - answers


def test_names_are_folded_to_a_bound_until_the_last_document() -> None:
    world = demo_world(stop_t=1e9)
    state = State(world.plan)
    tally, changes = Tally(state), Changes(world.plan)
    for event in world.run():
        state.fold(event)
        tally.tell(event)
    keeper = Standing(state, tally, changes)
    members = next(members for alike, members in tally.classes.items() if alike[0] == "quarantined")
    for number in range(2 * MOST_NAMES):
        members.hosts[f"odd{number:04d}"] = None
    members.version += 1
    (bounded,) = (f for f in keeper.document()["failures"] if f["count"] > MOST_NAMES)
    assert bounded["hosts"].endswith(",…")
    assert bounded["count"] == 2 * MOST_NAMES + 1
    (whole,) = (f for f in keeper.document(whole=True)["failures"] if f["count"] > MOST_NAMES)
    assert f"odd[0000-{2 * MOST_NAMES - 1:04d}]" in whole["hosts"]
