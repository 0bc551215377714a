"""Partial power: what can be finished while some feeds are dark, and what waits for what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput
from bootorch.core.model import FeedLimit, First, Limits, Quorum, Requirement
from bootorch.core.partial import Held, dark_feeds, partial, with_dark
from bootorch.core.plan import Plan
from tests.plans import group, make_plan, plans


def plan(feeds: dict[str, tuple[str, ...]], groups: dict[str, Any], dark: tuple[str, ...] = ("hall-a",)) -> Plan:
    """``feeds``: host -> its cords; hosts are named for their group and numbered."""
    sizes = {name: sum(1 for host in feeds if host.rstrip("0123456789") == name) for name in groups}
    made = make_plan(
        {name: (sizes[name], group(**settings)) for name, settings in groups.items()},
        Limits(feeds={feed: FeedLimit(dark=True) for feed in dark}),
    )
    return replace(made, hosts={name: replace(host, feeds=feeds[name]) for name, host in made.hosts.items()})


A, B, BOTH = ("hall-a/row-1",), ("hall-b/row-1",), ("hall-a/row-1", "hall-b/row-1")


def test_without_a_dark_feed_there_is_nothing_to_say() -> None:
    assert partial(plan({"web1": A}, {"web": {}}, dark=())) is None


def test_hosts_on_dark_feeds_wait_and_those_with_another_cord_do_not() -> None:
    found = partial(plan({"web1": A, "web2": B, "web3": BOTH, "web4": ()}, {"web": {}}))
    assert found is not None
    assert found.now == {"web": ("web2", "web3", "web4")}
    assert found.dark == {"hall-a": ("web1",)}
    assert found.held == ()
    both = partial(plan({"web1": A, "web2": BOTH}, {"web": {}}, dark=("hall-a", "hall-b/row-1")))
    assert both is not None
    assert both.dark == {"hall-a": ("web1",), "hall-a or hall-b/row-1": ("web2",)}


def test_the_highest_dark_feed_is_what_is_waited_for() -> None:
    made = plan({"web1": A}, {"web": {}}, dark=("hall-a/row-1", "hall-a"))
    assert dark_feeds(made) == ("hall-a",)
    found = partial(made)
    assert found is not None
    assert found.dark == {"hall-a": ("web1",)}


CORDS = {"dns1": A, "dns2": B, "web1": B}


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        ({"requires": (Requirement("dns"),)}, "dns: 2 of 2 needed, 1 can be ready"),
        ({"requires": (Requirement("dns", Quorum(count=1)),)}, ""),
        ({"requires": (Requirement("dns", Quorum(share=0.5)),)}, ""),
        ({"requires": (Requirement("dns", Quorum(count=1), across_racks=2),)},
         "dns: 1 of 2 needed across 2 racks, 1 can be ready"),
        ({"after": ("dns",)}, "after dns"),
        ({"requires": (Requirement("dns", control="dns"),)}, "dns (dns): 2 of 2 needed, 1 can be ready"),
    ],
)  # fmt: skip
def test_only_what_live_members_cannot_meet_holds_back(settings: dict[str, Any], held: str) -> None:
    found = partial(plan(CORDS, {"dns": {}, "web": settings}))
    assert found is not None
    expected = (Held("web", ("web1",), (held,), ("hall-a",)),) if held else ()
    assert found.held == expected


def test_what_holds_back_is_followed_through_others_to_the_dark_feed() -> None:
    chain = {"dns": {}, "db": {"requires": (Requirement("dns"),)}, "web": {"requires": (Requirement("db"),)}}
    found = partial(plan({"dns1": A, "db1": B, "web1": B}, chain))
    assert found is not None
    assert found.now == {}
    assert [(held.group, held.feeds) for held in found.held] == [("db", ("hall-a",)), ("web", ("hall-a",))]


def test_each_host_waits_for_the_switch_of_its_own_rack() -> None:
    cords = {f"tor{n}": A if n % 4 == 1 else B for n in range(1, 5)} | {f"web{n}": B for n in range(1, 9)}
    own = {"tor": {}, "web": {"requires": (Requirement("tor", per_host="rack"),)}}
    found = partial(plan(cords, own))
    assert found is not None
    assert found.dark == {"hall-a": ("tor1",)}
    assert [held.hosts for held in found.held] == [("web1", "web5")]
    assert found.held[0].waits == ("tor with the same rack",)


@pytest.mark.parametrize(
    ("first", "held"),
    [(First(("db1",)), ("db2", "db3")), (First(("db1", "db2")), ()), (First((), "which has the newest copy?"), ())],
)
def test_a_dark_first_member_holds_the_others_back(first: First, held: tuple[str, ...]) -> None:
    found = partial(plan({"db1": A, "db2": B, "db3": B}, {"db": {"first": first}}))
    assert found is not None
    assert tuple(name for item in found.held for name in item.hosts) == held
    assert all(item.waits == ("the first member of db",) for item in found.held)


def test_dark_feeds_of_the_command_line() -> None:
    made = plan({"web1": A, "web2": B}, {"web": {}}, dark=())
    assert dark_feeds(with_dark(made, ["/hall-a/"])) == ("hall-a",)
    with pytest.raises(InvalidInput) as caught:
        with_dark(made, ["hall-c", "hall-a/row-11"])
    assert [problem.message for problem in caught.value.problems] == [
        "no host hangs on the feed 'hall-c'",
        "no host hangs on the feed 'hall-a/row-11'",
    ]
    assert caught.value.problems[1].remedy == "did you mean hall-a/row-1?"


@given(plans(), st.sets(st.sampled_from(["hall/row-0", "hall/row-1"])))
def test_every_host_is_in_exactly_one_place_and_now_means_now(made: Plan, dark: set[str]) -> None:
    """Against a plain fixed point, host by host."""
    made = with_dark(made, [feed for feed in sorted(dark) if any(host.feed == feed for host in made.hosts.values())])
    found = partial(made)
    if found is None:
        return
    places = [
        *(name for names in found.now.values() for name in names),
        *(name for names in found.dark.values() for name in names),
        *(name for held in found.held for name in held.hosts),
    ]
    assert sorted(places) == sorted(made.hosts)
    ready: set[str] = set()
    lit = {name for name, host in made.hosts.items() if not all(feed in found.feeds for feed in host.feeds)}
    while new := {name for name in lit - ready if all_hold(made, name, ready)}:
        ready |= new
    assert ready == {name for names in found.now.values() for name in names}


def all_hold(made: Plan, name: str, ready: set[str]) -> bool:
    own = made.group_of(name)
    for need in own.requires:
        members = [made.hosts[other] for other in made.groups[need.group].hosts]
        if need.per_host:
            members = [other for other in members if other.fact(need.per_host) == made.hosts[name].fact(need.per_host)]
        up = [other for other in members if other.name in ready]
        if members and len(up) < need.quorum.needed(len(members)):
            return False
        if members and len({other.rack for other in up}) < need.across_racks:
            return False
    return all(other in ready for parent in own.after for other in made.groups[parent].hosts)
