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
    timers, model = Timers(), list[tuple[float, str]]()
    for step in steps:
        if step is not None:
            timers.push(*step)
            model = sorted([*model, step])
        elif model:
            assert timers.pop() == model.pop(0)[1]
        assert timers.first_t == (model[0][0] if model else inf)
        assert sorted(timers) == model
        assert len(timers) == len(model)


def test_nothing_comes_out_of_none() -> None:
    with pytest.raises(IndexError):
        Timers().pop()
