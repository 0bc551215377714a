"""Going on after an interruption: from the events of a journal to an engine that can decide again."""

from __future__ import annotations

from collections.abc import Iterable

from bootorch.core.engine import Engine
from bootorch.core.events import Answer, Event, RunResumed
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.state import State


def replay(plan: Plan, events: Iterable[Event]) -> State:
    """The state that the events lead to."""
    state = State(plan)
    for event in events:
        state.fold(event)
    return state


def close_interrupted(
    engine: Engine, now: float, detail: str = "bootorch was away while this was under way"
) -> list[Answer]:
    """Answers for the effects that were under way: interrupted, so their result is unknown and will be read back."""
    answers = []
    for intent in list(engine.state.open.values()):
        verdicts = dict.fromkeys(intent.hosts, (Reason.INTERRUPTED.value, ""))
        durable = intent.durable
        answer = Answer(
            now, intent.id, intent.kind, intent.target, Reason.INTERRUPTED, detail, {}, verdicts, durable,
        )  # fmt: skip
        engine.apply(answer)
        answers.append(answer)
    return answers


def resume(
    engine: Engine,
    now: float,
    gap_s: float,
    wall: str,
    by: str,
    *,
    reset_breakers: bool = False,
    told_by: str = "boot",
    asleep: bool = False,
    taken_from: str = "",
    why: str = "",
) -> list[Event]:
    """Everything to journal before the first decision of a run that goes on (see ``RunResumed``). Folded already."""
    events: list[Event] = [*close_interrupted(engine, now)]
    resumed = RunResumed(now, gap_s, wall, by, reset_breakers, told_by, asleep, taken_from, why)
    engine.apply(resumed)
    events.append(resumed)
    return events
