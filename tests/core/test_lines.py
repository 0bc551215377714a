"""``Line`` against a sorted list, ``Turns`` against one that keeps the order of coming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core import lines
from bootorch.core.lines import Line, Turns
from bootorch.core.urgency import Priority

# Of each tier several, so that equal ones and both kinds of order come together often.
PRIORITIES = st.tuples(st.integers(0, 3), st.sampled_from([-2.0, -1.0, 0.0]), st.sampled_from(["a", "b", "c"]))
LEAVES = st.none()
STEPS = st.lists(st.one_of(LEAVES, st.lists(PRIORITIES, max_size=8)), max_size=60)


@given(steps=STEPS, few=st.integers(1, 12))
def test_a_line_is_a_sorted_list(steps: list[list[Priority] | None], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_FEW", few)  # late comers are sorted in early and late
        line, model = Line[str](), list[tuple[Priority, str]]()
        for step in steps:
            if step is not None:
                for priority in step:
                    line.push(priority, priority[2])
                model = sorted([*model, *((priority, priority[2]) for priority in step)])
                assert sorted(line) == model
            elif model:
                line.pop()
                del model[0]
            assert line.first() == (model[0] if model else None)
            assert bool(line) == bool(model)


@given(STEPS)
def test_turns_are_taken_by_tier_and_then_by_coming(steps: list[list[Priority] | None]) -> None:
    turns, model = Turns[Priority](), list[Priority]()
    for step in steps:
        if step is not None:
            for priority in step:
                turns.push(priority[0], priority)
            model = sorted([*model, *step], key=lambda priority: priority[0])
        elif model:
            assert turns.pop() == model.pop(0)
        assert bool(turns) == bool(model)


def test_nobody_leaves_an_empty_line() -> None:
    with pytest.raises(IndexError):
        Line[str]().pop()
    with pytest.raises(ValueError, match="empty"):
        Turns[Priority]().pop()
