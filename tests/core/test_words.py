"""The words of a command, made into an event: what is refused, what is so already, and what holds afterwards."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core import words
from bootorch.core.changes import CHANGES, Change, Changes
from bootorch.core.codec import decode, encode
from bootorch.core.errors import InvalidInput
from bootorch.core.events import (
    Adapted,
    Chosen,
    Event,
    FeedLost,
    FeedReturned,
    LimitSet,
    RunStarted,
    ScopeAdded,
    TierSet,
)
from bootorch.core.model import FeedLimit, First, Limits, Load
from bootorch.core.plan import Plan
from bootorch.core.units import quantity, watts
from bootorch.core.words import Order
from tests.plans import group, make_plan


def a_plan() -> Plan:
    """Hosts on ``hall/row-0`` and ``hall/row-1``, web1 on both; a cooling supply; an image server as a fact."""
    both: dict[str, object] = {"feeds": ("hall/row-0", "hall/row-1"), "loads": (Load("cooling:crac-1", 2.0, 1.0),)}
    facts: dict[str, dict[str, object]] = {"web1": both, "web2": {"facts": {"image_server": "pxe-1"}}}
    limits = Limits(
        feeds={
            "hall": FeedLimit(budget_watts=9000.0),
            "hall/row-0": FeedLimit(dark=True),
            "cooling:crac-1": FeedLimit(budget_watts=200.0),
        },
        slots={"image_server": 50, "bmc_per_subnet": 64, "rack": 4, "consoles": 8},
    )
    groups = {"store": (3, group(first=First(ask="Who has the newest copy?"))), "web": (4, group(tier=2))}
    return make_plan(groups, limits, facts=facts)


PLAN = a_plan()


def started(*selected: str) -> RunStarted:
    return RunStarted(0.0, "run", "test", "", len(PLAN.hosts), 1, "", "kim", "some" if selected else "", selected)


def changes(*events: Event) -> Changes:
    return Changes.of(PLAN, events)


def limit(kind: str, name: str, value: float) -> LimitSet:
    return LimitSet(0.0, kind, name, value, by="kim", why="drill")


def nobody(pattern: str) -> tuple[str, ...]:
    raise AssertionError("no pattern was to be asked for")


def read(*typed: str, now: Changes | None = None, ramp: str = "", inrush: str = "") -> Change:
    return words.event(Order(typed, ramp, inrush, "kim", "drill"), now or changes(), nobody)


@pytest.mark.parametrize(
    ("typed", "event"),
    [
        (("limit", "feed", "hall", "300kW"), limit("feed", "hall", 300_000.0)),
        (("limit", "feed", "hall", "0"), limit("feed", "hall", 0.0)),
        (("limit", "feed", "hall/row-0", "1 MW"), limit("feed", "hall/row-0", 1e6)),
        (("limit", "feed", "cooling:crac-1", "150"), limit("feed", "cooling:crac-1", 150.0)),
        (("limit", "slot", "image_server", "100"), limit("slot", "image_server", 100.0)),
        (("limit", "slot", "image_server:pxe-1", "8"), limit("slot", "image_server:pxe-1", 8.0)),
        (("limit", "slot", "rack:r3", "2"), limit("slot", "rack:r3", 2.0)),
        (("limit", "slot", "bmc_per_subnet:127.1.0", "2"), limit("slot", "bmc:127.1.0", 2.0)),
        (("lost", "hall/row-1"), FeedLost(0.0, "hall/row-1", "kim", "drill")),
        (("returned", "hall/row-0"), FeedReturned(0.0, "hall/row-0", "kim", "drill")),
        (("tier", "web", "0"), TierSet(0.0, "web", 0, "kim", "drill")),
        (("choose", "store", "store2"), Chosen(0.0, "store", "store2", "kim", "drill")),
    ],
)  # fmt: skip
def test_words_become_an_event_that_the_journal_can_hold(typed: tuple[str, ...], event: Change) -> None:
    found = read(*typed)
    assert found == event
    assert decode(encode(found)) == found
    now = changes()
    assert words.check(found, now) == ""
    now.fold(replace(found, t=5.0))
    assert words.check(found, now), "said twice, it changes nothing"
    assert [(said.t, said.kind, said.by, said.why) for said in now.said] == [(5.0, event.type, "kim", "drill")]


def test_ramp_and_inrush_go_with_a_budget_or_alone() -> None:
    event = read("limit", "feed", "hall", "300kW", ramp="60kW", inrush="200A")
    assert event == LimitSet(0.0, "feed", "hall", 3e5, 6e4, 200.0, "kim", "drill")
    now = changes(read("limit", "feed", "hall", ramp="60kW"))
    assert now.feeds["hall"] == FeedLimit(budget_watts=9000.0, ramp_watts_per_min=6e4)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("limit", "feed", "hal", "3kW"), "no feed 'hal'.*did you mean hall"),
        (("limit", "feed", "attic", "3kW"), "no feed 'attic'.*the plan has hall, hall/row-0"),
        (("limit", "feed", "hall", "much"), "'much' is no power.*300kW"),
        (("limit", "feed", "hall", "-5kW"), "below zero"),
        (("limit", "feed", "hall", "nan"), "is no power"),
        (("limit", "feed", "hall"), "nothing is set"),
        (("limit", "feed", "hall/row-1", "3kW"), "has no limit in the plan.*set that of hall"),
        (("limit", "slot", "model:m1", "3"), "no slot 'model:m1'.*the plan has image_server, bmc_per_subnet, rack$"),
        (("limit", "slot", "consoles", "3"), "no slot 'consoles'"),
        (("limit", "fed", "hall", "3kW"), "'fed' is no kind of limit"),
        (("limit", "slot", "image_servr", "3"), "no slot 'image_servr'.*did you mean image_server"),
        (("limit", "slot", "image_server:pxe-2", "3"), "no image_server 'pxe-2'.*did you mean pxe-1"),
        (("limit", "slot", "image_server", "3.5"), "is no number from 0"),
        (("limit", "slot", "image_server", "9999999999"), "is no number from 0"),
        (("limit", "slot", "image_server"), "how many"),
        (("lost", "row-1"), "no feed 'row-1'"),
        (("returned", "hall/row-9"), "no feed 'hall/row-9'.*did you mean hall/row-"),
        (("tier", "wbe", "1"), "no group 'wbe'.*did you mean web"),
        (("tier", "web", "-1"), "is no number from 0"),
        (("choose", "store", "web1"), "'web1' is no host of group store.*store1, store2, store3"),
        (("choose", "web", "web1"), "no first-member rule"),
        (("lost",), "is no change of a run.*feed lost NAME"),
        (("limit", "feed", "hall", "3", "kW"), "is no change of a run.*300kW"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_the_plan_has_instead(typed: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(*typed)
    problem = refused.value.problems[0]
    assert problem.remedy
    assert re.search(said, f"{problem.message} | {problem.remedy}"), problem


def test_everything_that_is_wrong_with_a_limit_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        read("limit", "feed", "hall", "much", ramp="fast", inrush="-2")
    assert [problem.where for problem in refused.value.problems] == [
        "budget of feed hall", "ramp of feed hall", "inrush of feed hall",
    ]  # fmt: skip


@given(st.text(max_size=12))
def test_no_text_is_taken_for_an_amount_that_it_does_not_say(text: str) -> None:
    try:
        value = words.amount(text, zero=True)
    except ValueError:
        return
    assert 0 <= value <= 1e12
    bare = text.strip().removesuffix("A").removesuffix("a").strip()
    assert value == 0 or value == watts(bare)


@given(
    st.floats(0.001, 999_999, allow_nan=False), st.sampled_from([("W", 1.0), ("kW", 1e3), (" kw", 1e3), ("MW", 1e6)])
)
def test_amounts_are_read_in_their_unit(number: float, unit: tuple[str, float]) -> None:
    text = f"{number:.3f}"
    if float(text):
        assert words.amount(text + unit[0]) == float(text) * unit[1]
    with pytest.raises(ValueError, match="below zero"):
        words.amount("-" + text + unit[0])


@given(st.floats(1, 1e9, allow_nan=False))
def test_what_is_shown_can_be_typed(value: float) -> None:
    assert words.amount(quantity(value)) == pytest.approx(value, rel=1e-3)


def test_a_lost_feed_is_lost_once_and_a_part_of_it_may_be_lost_by_itself() -> None:
    now = changes(FeedLost(3.0, "hall", "kim", "fire"))
    assert (
        words.check(FeedLost(4.0, "hall", "lee"), now) == "feed hall is without electricity already: said by kim (fire)"
    )
    assert words.check(FeedLost(4.0, "hall/row-1", "lee"), now) == ""
    with pytest.raises(InvalidInput, match="feed hall, which hall/row-1 hangs on, is dark"):
        words.check(FeedReturned(4.0, "hall/row-1", "lee"), now)
    now.fold(FeedLost(4.0, "hall/row-1", "lee"))
    now.fold(FeedReturned(5.0, "hall", "kim"))
    assert list(now.dark) == ["hall/row-0", "hall/row-1"], "the one of the plan, and the one that lee named"
    assert words.check(FeedReturned(6.0, "hall", "kim"), now) == "feed hall has electricity already"


def test_a_host_of_two_feeds_is_dark_when_both_are() -> None:
    now = changes()
    row_0 = [name for name, host in PLAN.hosts.items() if host.feeds == ("hall/row-0",)]
    assert row_0
    assert list(now.dark_hosts()) == row_0, "row-0 is dark in the plan; web1 hangs on row-1 as well"
    now.fold(FeedLost(1.0, "hall/row-1", "kim"))
    assert list(now.dark_hosts()) == list(PLAN.hosts)
    said = words.effect(FeedReturned(2.0, "hall/row-1", "kim"), changes(), {})
    assert said == "feed hall/row-1 has electricity again: 3 hosts looked at anew"


def test_scope_takes_a_group_of_the_plan_before_a_pattern_and_only_what_is_new() -> None:
    limited = changes(started("web1", "web2"))
    event = read("scope", "web", now=limited)
    assert event == ScopeAdded(0.0, "web", ("web3", "web4"), "kim", "drill")
    by_pattern = Order(("scope", "store[1:2]"), by="kim")
    found = words.event(by_pattern, limited, lambda pattern: ("store2", "elsewhere", "store3"))
    assert found == ScopeAdded(0.0, "store[1:2]", ("store2", "store3"), "kim")
    limited.fold(event)
    assert limited.scope == frozenset(("web1", "web2", "web3", "web4"))
    assert words.check(event, limited) == "every host of web belongs to the run already"
    assert "has no --limit" in words.check(read("scope", "web", now=changes(started())), changes(started()))
    with pytest.raises(InvalidInput, match="means no host of the plan"):
        words.event(by_pattern, limited, lambda pattern: ("elsewhere",))
    with pytest.raises(InvalidInput, match="hosts that the plan does not have"):
        words.check(ScopeAdded(0.0, "x", ("elsewhere",), "kim"), limited)


def test_the_effect_says_what_is_drawn_and_that_nothing_is_switched_off() -> None:
    now = changes(read("limit", "feed", "hall", "300kW"))
    said = words.effect(LimitSet(1.0, "feed", "hall", 3e5), now, {"hall": 212_000.0})
    assert said == "feed hall has 300 kW now (draws 212 kW)"
    now.fold(lower := LimitSet(2.0, "feed", "hall", 1e5))
    said = words.effect(lower, now, {"hall": 212_000.0})
    assert said.startswith("feed hall has 100 kW now (draws 212 kW); nothing is switched off, and nothing more starts")
    lost = FeedLost(3.0, "hall/row-1", "kim")
    now.fold(lost)
    assert words.effect(lost, now, {}) == (
        "feed hall/row-1 is without electricity now: 3 hosts dark, nothing is sent to them"
    )


def test_an_adapted_slot_can_be_set_back_to_what_the_plan_says() -> None:
    now = changes(Adapted(4.0, "image_server:pxe-1", 25, "3 of 10 boots lost"))
    assert now.said[0].by == "bootorch"
    now.fold(LimitSet(5.0, "slot", "image_server:pxe-1", 50.0, by="kim"))
    assert now.adapted == {}
    assert now.slots["image_server:pxe-1"] == 50


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("feed hall 300kW", Order(("limit", "feed", "hall", "300kW"))),
        ("feed hall 300kW ramp=60kW inrush=200", Order(("limit", "feed", "hall", "300kW"), "60kW", "200")),
        ("slot image_server 100", Order(("limit", "slot", "image_server", "100"))),
        ("tier web 0", Order(("tier", "web", "0"))),
        ("choose store store2", Order(("choose", "store", "store2"))),
        ("scope 'web:!web1'", Order(("scope", "web:!web1"))),
    ],
)
def test_set_takes_the_same_words_and_orders_tell_how_they_are_typed(text: str, order: Order) -> None:
    assert words.parse(text) == order
    option = order.option()
    assert option.startswith("--set ")
    assert words.parse(shlex.split(option)[1]) == order


def test_orders_say_the_command_that_says_the_same() -> None:
    assert Order(("limit", "feed", "hall a", "3kW"), ramp="1kW").command() == "limit set feed 'hall a' 3kW --ramp 1kW"
    assert Order(("lost", "hall-b")).command() == "feed lost hall-b"
    assert Order(("returned", "hall-b")).option() == "--returned hall-b"


@given(st.text(max_size=30))
def test_any_text_of_set_is_an_order_or_refused(text: str) -> None:
    try:
        order = words.parse(text)
    except InvalidInput:
        return
    try:
        event = words.event(order, changes(started("web1")), lambda pattern: ())
    except InvalidInput:
        return
    assert isinstance(event, CHANGES)
