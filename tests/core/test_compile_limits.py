"""Limits against hosts: cords, supplies, slots of any fact, and what hosts say of their draw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootorch.core.compile import compile_plan
from bootorch.core.errors import Problem
from bootorch.core.inventory import Inventory
from bootorch.core.model import FeedLimit, Host, Limits, Load
from bootorch.core.plan import Plan
from bootorch.core.spec import GroupSpec, PlanSpec, SupplySpec
from tests.core.test_compile import GROUPS, HOSTS, SPEC, host, inventory, only


def limited(supplies: dict[str, SupplySpec] | None = None, **limits: Any) -> PlanSpec:
    return replace(SPEC, limits=Limits(**limits), supplies=supplies or {})


def every(**others: Any) -> Inventory:
    """All hosts with these variables as well."""
    return Inventory({name: {**variables, **others} for name, variables in HOSTS.items()}, GROUPS)


def web1(**variables: Any) -> Host:
    return compile_plan(SPEC, inventory(web1=host(21, **variables))).plan.hosts["web1"]


def warned(spec: PlanSpec, inv: Inventory) -> Problem:
    (warning,) = compile_plan(spec, inv).warnings
    return warning


def test_who_belongs_together_fits_into_one_play() -> None:
    many = {f"db{n}": host(n + 30) for n in range(201)}
    hosts = Inventory({**HOSTS, **many}, {**GROUPS, "db": tuple(many)})
    groups = {**SPEC.groups, "db": GroupSpec("db", redeploy=("/site/db.yml",), together=True)}
    assert "group db has 201 hosts, too many" in only(replace(SPEC, groups=groups), hosts).message

    spec = limited(slots={"artefact_server": 4}, during={"artefact_server": ("redeploy",)})
    spec = replace(spec, groups={**spec.groups, "web": replace(spec.groups["web"], together=True)})
    apart = inventory(web1=host(21, artefact_server="a"), web2=host(22, artefact_server="b"))
    problem = only(spec, apart)
    assert "these differ in artefact_server" in problem.message
    assert compile_plan(spec, every(artefact_server="a")).plan.groups["web"].together


TWO_CORDS = every(feeds=["hall/a", "hall/b"], watts_boot_peak=400, watts_steady=300)  # six hosts: 1,800 W


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        # With failover each feed must carry all of them alone; what both cords hang on carries them once.
        ({"hall/a": FeedLimit(1700)}, "feed hall/a: its hosts draw 1800 W"),
        ({"hall": FeedLimit(1700)}, "feed hall: its hosts draw 1800 W"),
        ({"hall": FeedLimit(1900)}, ""),
        ({"hall": FeedLimit(1700, failover=False)}, "feed hall: its hosts draw 1800 W"),
        ({"hall/a": FeedLimit(950, failover=False)}, ""),  # half of 1,800 W, and 50 W more for the last one
        ({"hall/a": FeedLimit(940, failover=False)}, "feed hall/a: its hosts draw 900 W when all are up and 950 W"),
    ],
)
def test_hosts_with_two_cords(feeds: dict[str, FeedLimit], said: str) -> None:
    warnings = compile_plan(limited(feeds=feeds), TWO_CORDS).warnings
    assert [said in warning.message for warning in warnings] == ([True] if said else [])


def test_one_host_that_is_too_much_for_its_share() -> None:
    whole, share = (limited(feeds={"hall/a": FeedLimit(300, failover=failover)}) for failover in (True, False))
    assert "(sw1: 400 W of 300 W)" in only(whole, TWO_CORDS).message
    assert "draw 900 W" in warned(share, TWO_CORDS).message


def test_inrush_is_stated_where_it_is_limited_and_fits() -> None:
    spec = limited(feeds={"hall": FeedLimit(inrush_amps=100)})
    assert "no inrush_amps on a feed that limits inrush" in only(spec, every(feed="hall")).message
    too_much = only(spec, every(feed="hall", inrush_amps=120))
    assert "is below what one host takes as it is switched on (sw1: 120 A of 100 A)" in too_much.message
    assert compile_plan(spec, every(feed="hall", inrush_amps=100)).warnings == ()


def test_a_dark_feed_that_no_host_hangs_on_is_a_mistake() -> None:
    powered = every(feed="hall-a/row-1", watts_boot_peak=400)
    problem = only(limited(feeds={"hall-a/row-l": FeedLimit(dark=True)}), powered)
    assert "feed hall-a/row-l is dark, and no host hangs on it" in problem.message
    assert problem.remedy == "did you mean hall-a/row-1?"
    assert compile_plan(limited(feeds={"hall-a": FeedLimit(dark=True)}), powered).warnings == ()


COOLING = {"cooling": SupplySpec("crac", "watts")}
CRAC = {"cooling:crac-1": FeedLimit(3000), "cooling:crac-1/zone-2": FeedLimit(2500, 1000)}


def test_a_supply_is_a_feed_by_another_name() -> None:
    zone = every(crac="crac-1/zone-2/", watts_boot_peak=400, watts_steady=300)
    compiled = compile_plan(limited(COOLING, feeds=CRAC), zone)
    assert compiled.plan.hosts["web1"].loads == (Load("cooling:crac-1/zone-2", 400, 300),)
    assert compiled.plan.hosts["web1"].loads is compiled.plan.hosts["web2"].loads
    assert compiled.plan.limits.feeds == CRAC
    assert compiled.warnings == ()  # and no host needs a feed
    tight = limited(COOLING, feeds={"cooling:crac-1": FeedLimit(1500)})
    assert "supply cooling:crac-1: its hosts draw 1800 when all are up" in warned(tight, zone).message
    small = limited(COOLING, feeds={"cooling:crac-1": FeedLimit(ramp_watts_per_min=100)})
    assert "the ramp of supply cooling:crac-1 is below what one host takes" in only(small, zone).message


@pytest.mark.parametrize(
    ("draw", "variables", "expected"),
    [
        (2.5, {}, Load("racks:x", 2.5, 2.5)),
        ("weight", {"weight": 30}, Load("racks:x", 30, 30)),
        ("weight", {"weight": "1.5k"}, Load("racks:x", 1500, 1500)),
    ],
)
def test_what_a_host_takes_of_a_supply(draw: str | float, variables: dict[str, Any], expected: Load) -> None:
    spec = limited({"racks": SupplySpec("place", draw)}, feeds={"racks:x": FeedLimit(9000)})
    assert compile_plan(spec, every(place="x", **variables)).plan.hosts["sw1"].loads == (expected,)


@pytest.mark.parametrize(
    ("draw", "variables", "said"),
    [
        ("watts", {"watts_boot_peak": 400}, "no crac, which the supply cooling needs"),
        ("watts", {"crac": "c"}, "no watts_boot_peak, which the supply cooling needs"),
        ("heat", {"crac": "c"}, "no heat, which the supply cooling needs"),
        ("heat", {"crac": "c", "heat": "hot"}, "heat is no number (sw1: 'hot')"),
    ],
)
def test_what_is_missing_for_a_supply(draw: str, variables: dict[str, Any], said: str) -> None:
    spec = limited({"cooling": SupplySpec("crac", draw)}, feeds={"cooling:c": FeedLimit(9000)})
    problem = only(spec, every(**variables))
    assert said in problem.message
    assert len(problem.hosts) == 6


def test_a_feed_with_a_colon_is_no_supply() -> None:
    spec = limited(feeds={"hall:a": FeedLimit(9000)})
    assert "feed hall:a: a colon belongs to supplies" in only(spec, every(feed="hall:a", watts_boot_peak=4)).message


def slots(inv: Inventory, **counts: int) -> Plan:
    return compile_plan(limited(slots=counts), inv).plan


def test_any_fact_can_be_a_slot() -> None:
    plan = slots(every(switch="s1", model="m"), rack=8, switch=4, model=100, boots=50, logins=20)
    assert plan.limits.slots == {
        "rack": 8,
        "switch": 4,
        "model": 100,
        "boots": 50,
        "logins": 20,
        "redeploy_forks": 50,  # there are playbooks, and the plan does not say
    }
    assert plan.hosts["web1"].fact("switch") == "s1"  # the engine finds it there
    assert plan.hosts["web1"].facts is plan.hosts["web2"].facts


def test_a_slot_that_is_no_fact_of_any_host() -> None:
    problem = only(limited(slots={"swich": 4}), every(switch="s1"))
    assert problem.message == "unknown slot 'swich': no host has such a fact"
    assert problem.remedy == "did you mean switch?"
    warning = warned(limited(slots={"switch": 4}), inventory(web1=host(21, switch="s1")))
    assert "hosts without switch are counted by no slot switch" in warning.message
    assert len(warning.hosts) == 5


@pytest.mark.parametrize(
    ("variables", "field", "expected"),
    [
        ({"feed": "/hall/a/"}, "feeds", ("hall/a",)),
        ({"feeds": ["hall/a", "/hall/b/"]}, "feeds", ("hall/a", "hall/b")),
        ({"feeds": "hall/a, hall/b"}, "feeds", ("hall/a", "hall/b")),
        ({"feeds": ["a", "a"]}, "feeds", ("a",)),
        ({"feed": "b", "feeds": ["a", "b"]}, "feeds", ("a", "b")),
        ({"feeds": "{{ cords }}", "cords": ["a", "b"]}, "feeds", ("a", "b")),
        (
            {"watts_boot_peak": 450, "watts_profile": [["45s", 420], ["2m", "0.31kW"]]},
            "watts_profile",
            ((45.0, 420.0), (120.0, 310.0)),
        ),
        ({"inrush_amps": 30}, "inrush_amps", 30.0),
        ({"boot_estimate": "5m"}, "boot_s", 300.0),
        ({"amps_boot_peak": 2, "volts": 230}, "watts_boot_peak", 460.0),
        ({"amps_boot_peak": 2, "amps_steady": "1.5", "volts": 230}, "watts_steady", 345.0),
    ],
)
def test_what_hosts_say_of_their_power(variables: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(web1(**variables), field) == expected


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"feeds": [1, 2]}, "feeds must be a list of texts"),
        ({"feeds": {"a": "b"}}, "feeds must be a list of texts"),
        ({"feed": "c", "feeds": ["a", "b"]}, "feed is not among feeds (web1: c)"),
        ({"watts_profile": "45s"}, "watts_profile is no list of times and watts"),
        ({"watts_profile": [["45s"]]}, "watts_profile is no list of times and watts (web1: a step is no pair)"),
        ({"watts_profile": [["soon", 4]]}, "watts_profile is no list of times and watts (web1: 'soon' is no duration"),
        ({"watts_profile": [["2m", 4], ["1m", 3]]}, "the times of watts_profile do not rise"),
        ({"watts_boot_peak": 300, "watts_profile": [["2m", 400]]}, "watts_profile exceeds watts_boot_peak"),
        ({"inrush_amps": "many"}, "inrush_amps is no number (web1: 'many')"),
        ({"boot_estimate": "soon"}, "boot_estimate is no duration (web1: 'soon')"),
        ({"amps_boot_peak": 2}, "amps_boot_peak without volts"),
        ({"amps_steady": 2, "watts_steady": 400, "volts": 230}, "both watts_steady and amps_steady"),
    ],
)
def test_what_is_wrong_with_what_hosts_say(variables: dict[str, Any], said: str) -> None:
    problem = only(inv=inventory(web1=host(21, **variables)))
    assert said in problem.message
    assert (problem.hosts, problem.where) == (("web1",), "../inventory")
    # The same fault of another host is told too, although equal values are read once.
    both = only(inv=inventory(web1=host(21, **variables), web2=host(22, **variables)))
    assert both.hosts == ("web1", "web2")
