"""``Timers`` against a sorted list."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.timers import Timers

# Few times and few names: equal ones, and both sides of a second, come together often.
TIMES = st.one_of(st.integers(0, 40).map(lambda n: n / 4), st.floats(0, 1e13), st.just(inf))
STEPS = st.lists(st.one_of(st.none(), st.tuples(TIMES, st.sampled_from(["", "a", "b", "c"]))))


@given(STEPS)
def test_timers_are_a_sorted_list(steps: list[tuple[float, str] | None]) -> None:
    timers, model = Timers[str | None](), list[tuple[float, str]]()
    for step in steps:
        if step is not None:
            t, name = step
            timers.push(t, name, name or None)
            model = sorted([*model, step])
        elif model:
            _, name = model.pop(0)
            assert timers.pop() == (name, name or None)
        assert timers.first_t == (model[0][0] if model else inf)
        assert sorted((t, name) for t, name, _ in timers) == model
        assert len(timers) == len(model)


def test_nothing_comes_out_of_none() -> None:
    with pytest.raises(IndexError):
        Timers[str | None]().pop()
