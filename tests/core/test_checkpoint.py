"""A state that was written down and read again is the same state: compared object by object, by other means."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootorch.core.checkpoint import capture, restore
from bootorch.core.codec import encode
from bootorch.core.engine import Engine
from bootorch.core.events import Event
from bootorch.core.plan import Plan
from bootorch.core.recovery import replay, resume
from bootorch.core.state import State
from bootorch.sim.run import Simulation
from bootorch.sim.swarm import Case, case_of, play
from bootorch.sim.world import World
from tests.plans import cases

CACHES = {"_folds", "_by_weights", "_shares", "_now", "_keys"}  # functions, and answers that are found again


def alike(one: Any, other: Any, where: str = "state", seen: dict[int, int] | None = None) -> None:
    """Everything that can be reached is equal, of the same type, and shared where it was shared."""
    seen = {} if seen is None else seen
    assert type(one) is type(other), f"{where}: {type(one)} {type(other)}"
    if isinstance(one, str | int | float | bool | Enum | Plan | None):
        assert one == other, f"{where}: {one!r} {other!r}"
        return
    if id(one) in seen:
        assert seen[id(one)] == id(other), f"{where}: shared here, and not there"
        return
    if not isinstance(one, tuple | frozenset) and not where.endswith(".args"):  # an event's are never changed
        seen[id(one)] = id(other)
    if isinstance(one, Mapping):
        assert len(one) == len(other), where
        for key, its in zip(one, other, strict=True):
            alike(key, its, where, seen)
            alike(one[key], other[its], f"{where}[{key!r}]", seen)
    elif isinstance(one, list | tuple | deque):
        assert len(one) == len(other), f"{where}: {one} {other}"
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            alike(a, b, f"{where}[{number}]", seen)
    elif isinstance(one, set | frozenset):
        assert one == other, where
    else:
        names = [*getattr(one, "__dict__", ())]
        names += [name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ())]
        assert names or one == other, where
        for name in names:
            if name not in CACHES:
                alike(getattr(one, name), getattr(other, name), f"{where}.{name}", seen)


def again(state: State) -> State:
    """Through JSON, as a journal keeps it."""
    kept = json.dumps(capture(state, State(state.plan)), ensure_ascii=False)
    fresh = State(state.plan)
    restore(fresh, json.loads(kept))
    return fresh


def journalled(case: Case) -> list[Event]:
    return [event for event in play(case).events if getattr(event, "durable", True)]


def check(case: Case, cut: int) -> None:
    """Whatever prefix it was written after: the same as from all events, and the engine goes on alike."""
    events = journalled(case)
    kept = again(replay(case.plan, events[:cut]))
    alike(replay(case.plan, events[:cut]), kept)
    for event in events[cut:]:
        kept.fold(event)
    alike(replay(case.plan, events), kept)


def go_on(case: Case, state: State) -> list[str]:
    """What the engine makes of a state that a resumed process has."""
    engine = Engine(case.plan, state)
    first = resume(engine, state.t, 0.0, "", "test")
    simulation = Simulation(engine, World(case.plan, case.seed, case.parameters))
    steps = [event for _ in range(40) for event in simulation.step()]
    return [encode(event) for event in (*first, *steps)]


@pytest.mark.parametrize("part", range(5))
def test_any_prefix_of_any_run(part: int) -> None:
    for seed in range(part * 12, part * 12 + 12):
        case = case_of(seed)
        events = journalled(case)
        rng = random.Random(seed)
        for cut in {0, len(events), rng.randrange(len(events)), rng.randrange(len(events))}:
            try:
                check(case, cut)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, after event {cut} of {len(events)}: {error}") from error


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases(), st.floats(0, 1))
def test_whatever_a_plan_can_say(case: Case, share: float) -> None:
    check(case, int(share * len(journalled(case))))


@pytest.mark.parametrize("seed", range(20))
def test_the_engine_decides_the_same(seed: int) -> None:
    case = case_of(seed)
    events = journalled(case)
    half = random.Random(seed).randrange(1, len(events))
    end = half + (len(events) - half) // 2
    state = again(replay(case.plan, events[:half]))
    for event in events[half:end]:
        state.fold(event)
    assert go_on(case, state) == go_on(case, replay(case.plan, events[:end]))


def test_what_does_not_fit_is_refused() -> None:
    case, other = case_of(3), case_of(4)
    kept = capture(replay(case.plan, journalled(case)), State(case.plan))
    with pytest.raises(ValueError, match="another plan"):
        restore(State(other.plan), kept)
    with pytest.raises(ValueError, match="another version"):
        restore(State(case.plan), {**kept, "shape": "0"})


def test_what_cannot_be_written_is_an_error_and_never_left_out() -> None:
    case = case_of(3)
    state = State(case.plan)
    state.run_id = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="cannot be written down: object"):
        capture(state, State(case.plan))
