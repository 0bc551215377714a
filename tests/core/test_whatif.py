"""What-if: what can be said, and what is said to whoever says something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import FeedLost, FeedReturned, GateOpened
from bootorch.core.model import FeedLimit, Gate, Limits
from bootorch.core.plan import Plan
from bootorch.core.whatif import (
    EXAMPLES,
    FeedChange,
    FeedOutage,
    ShareChange,
    SlotChange,
    WhatIf,
    apply,
    happenings,
    held_gates,
    outages,
    parse,
)
from tests.plans import group, make_plan

NAMES = st.from_regex(r"[a-z][a-z0-9/_-]{0,12}", fullmatch=True)
SHARES = st.integers(1, 100)
SENTENCES = st.one_of(
    st.builds("feed {} {}%".format, NAMES, SHARES),
    st.builds("feed {} {}kW".format, NAMES, st.integers(1, 9999)),
    st.builds("feed {} lost at {}m".format, NAMES, st.integers(1, 600)),
    st.builds("feed {} returned at {}s".format, NAMES, st.integers(1, 600)),
    st.builds("ramp {} {}%".format, NAMES, SHARES),
    st.builds("slot {} {}".format, NAMES, st.integers(1, 10**6)),
    st.builds("forks {}".format, st.integers(1, 500)),
    st.builds("{} {}%".format, st.sampled_from(["bmc dead", "boot dead", "power silent", "on"]), SHARES),
    st.builds("model {} dead {}%".format, NAMES, SHARES),
    st.builds("boot slow {}x".format, st.integers(1, 100)),
    st.builds("gate {} opens at {}m".format, NAMES, st.integers(1, 600)),
)


def plan() -> Plan:
    limits = Limits(
        feeds={"hall": FeedLimit(budget_watts=9000.0, ramp_watts_per_min=600.0), "hall/row-0": FeedLimit()},
        slots={"image_server": 40},
    )
    gates = (Gate("power", ask="Who?"), Gate("cooling", wait_s=60.0, groups=("web",)))
    return make_plan({"web": (6, group())}, limits, gates)


def test_every_example_can_be_said() -> None:
    for example in EXAMPLES:
        assert len(parse(example).changes) == 1


@given(st.lists(SENTENCES, min_size=1, max_size=4), st.sampled_from([",", ", ", " ,  "]))
def test_sentences_are_read_change_by_change(sentences: list[str], comma: str) -> None:
    together = parse(comma.join(sentences))
    assert together.changes == tuple(parse(sentence).changes[0] for sentence in sentences)
    assert parse(together.text) == together  # what is shown can be typed again


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused_with_examples(text: str) -> None:
    said: tuple[Problem, ...] = ()
    try:
        found = parse(text).changes
    except InvalidInput as refused:
        found, said = (), refused.problems
    assert bool(found) != bool(said)
    assert all("write for example: " in problem.remedy for problem in said)


def test_values() -> None:
    assert parse("feed hall-a 60%").changes == (FeedChange("hall-a", share=0.6),)
    assert parse("feed hall-a 300 kW").changes == (FeedChange("hall-a", watts=300_000.0),)
    assert parse("Feed hall-a Lost").changes == (FeedOutage("hall-a"),)
    assert parse("forks 20").changes == (SlotChange("redeploy_forks", 20),)
    assert isinstance(parse("bmc dead 0%").changes[0], ShareChange)


@pytest.mark.parametrize(
    ("text", "words", "example"),
    [
        ("feed hall", "no change that can be imagined", "feed hall-a 60%"),
        ("feed hall 0%", "write lost", "feed hall-a lost"),
        ("feed hall lost at noon", "no duration", "feed hall-a lost at 20m"),
        ("bmc dead 110%", "more than 100%", "bmc dead 10%"),
        ("boot slow 900x", "0.1 to 100 times", "boot slow 2x"),
        ("slot image_server 0", "the least is 1", "slot image_server 100"),
        ("bmc dead 5%,", "empty change", "gate cooling opens at 30m"),
        ("dance", "no change", "forks 20"),
    ],
)
def test_refusals_say_what_to_write(text: str, words: str, example: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    problem = refused.value.problems[0]
    assert words in problem.message
    assert example in problem.remedy


def test_limits_and_gates_of_the_plan_change() -> None:
    before = plan()
    what = parse("feed hall 50%, ramp hall 25%, feed hall/row-0 2kW, slot image_server 9, gate cooling opens at 30m")
    after = apply(what, before)
    assert after.limits.feeds["hall"] == replace(
        before.limits.feeds["hall"], budget_watts=4500.0, ramp_watts_per_min=150.0
    )
    assert after.limits.feeds["hall/row-0"].budget_watts == 2000.0
    assert after.limits.slots == {"image_server": 9}
    assert after.gates["cooling"].ask
    assert after.gates["cooling"].wait_s is None
    assert after.gates["cooling"].groups == ("web",)
    assert held_gates(what) == {"cooling"}
    assert before == plan()  # and nothing of it was changed
    assert after.hosts is before.hosts


def test_what_happens_at_a_time_comes_in_order_and_never_before_now() -> None:
    what = parse("gate power opens at 30m, feed hall returned at 20m, feed hall lost")
    assert [(type(event), event.t) for event in happenings(what)] == [
        (FeedLost, 0.0), (FeedReturned, 1200.0), (GateOpened, 1800.0),
    ]  # fmt: skip
    assert [event.t for event in happenings(what, 1500.0)] == [1500.0, 1500.0, 1800.0]
    assert isinstance(happenings(what, 1500.0)[0], FeedReturned)  # as written: lost and back


def test_names_that_the_plan_lacks_are_all_said() -> None:
    with pytest.raises(InvalidInput) as refused:
        apply(parse("feed hall/row-9 lost, slot x 3, gate y opens at 1m, model z dead 5%, ramp hall/row-0 50%"), plan())
    assert len(refused.value.problems) == 5
    assert "image_server" in refused.value.problems[1].remedy
    assert apply(parse("feed hall/row-1 lost"), plan()).limits.feeds == plan().limits.feeds  # hosts hang on it
    with pytest.raises(InvalidInput, match="no feed"):
        outages(["hal"], plan())
    assert outages(["hall"], plan()) == (FeedOutage("hall"),)
    assert apply(WhatIf("", ()), plan()) == plan()
