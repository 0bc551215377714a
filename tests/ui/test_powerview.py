"""How a power command ends on the screen and in JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.ui import powerview
from bootorch.ui.powerservices import Row


def good(target: str, state: str = "on", **more: Any) -> Row:
    return Row(target, state, Reason.OK, more.pop("detail", ""), 1, 0.25, **more)


def bad(target: str, reason: Reason = Reason.BMC_UNREACHABLE, detail: str = "nothing answers") -> Row:
    return Row(target, "", reason, detail, 2, 4.0)


FLEET = [good(f"web{n:03d}") for n in range(1, 481)] + [good("db2", "off"), bad("db1"), bad("db3")]


def test_equal_results_are_one_line_and_failures_follow() -> None:
    assert powerview.listing(FLEET).splitlines() == [
        "web[001-480] (480): on",
        "db2: off",
        "db[1,3] (2): bmc_unreachable: nothing answers",
    ]


def test_totals_come_with_what_failed() -> None:
    assert powerview.totals(FLEET, 1.24) == "480 on, 1 off, 2 failed; 483 in 1.2 s\n"
    assert powerview.totals([good("a")], 0.0) == "1 on; 1 in 0.0 s\n"


def test_advice_once_for_each_reason_and_none_where_all_is_well() -> None:
    text = powerview.advices([*FLEET, bad("x", Reason.BMC_AUTH_FAILED)])
    assert [line.partition(":")[0] for line in text.splitlines()] == ["bmc_unreachable", "bmc_auth_failed"]
    assert all(line.endswith(".") and ".." not in line for line in text.splitlines())
    assert powerview.advices([good("a")]) == ""


def test_no_advice_speaks_of_runs_that_there_are_none_of() -> None:
    reasons = [reason for reason in Reason if reason.startswith("bmc_") or reason is Reason.POWER_NO_EFFECT]
    assert len(reasons) > 10
    assert "resume" not in powerview.advices([bad("a", reason) for reason in reasons])


def test_lines_fold_when_they_are_equal() -> None:
    events = ("0f.00.02.ff - System Firmware Error #3: no usable system memory",)
    rows = [good("a1", "1 event", lines=events), good("a2", "1 event", lines=events), good("b", "no events")]
    assert powerview.listing(rows) == f"a[1-2] (2): 1 event\n  {events[0]}\nb: no events\n"
    assert powerview.totals(rows, 1) == "2 answered, 1 no events; 3 in 1.0 s\n"


def test_many_different_states_are_not_counted_one_by_one() -> None:
    rows = [good(f"a{n}", f"{n} W", watts=n) for n in range(100, 110)]
    assert powerview.totals(rows, 1) == "10 answered; 10 in 1.0 s; 1.0 kW drawn by 10\n"


def test_many_ways_to_fail_for_one_reason_stay_short() -> None:
    rows = [bad(f"a{n}", Reason.BMC_PROTOCOL, f"byte {n}") for n in range(9)]
    lines = powerview.listing(rows).splitlines()
    assert lines[:3] == [f"a{n}: bmc_protocol: byte {n}" for n in range(3)]
    assert lines[3] == "a[3-8] (6): bmc_protocol, in other words each"


def test_colour_only_where_it_is_asked_for() -> None:
    assert "\x1b[" not in powerview.listing(FLEET)
    assert "\x1b[31mbmc_unreachable\x1b[0m" in powerview.listing(FLEET, colour=True)


def test_the_document_in_the_order_given() -> None:
    rows = [bad("b"), good("a", data={"n": 1}, watts=250.5), good("c", detail='it said "no"\n')]
    document = json.loads(powerview.document("status", rows, 1.5))
    assert document["schema"] == "bootorch.power/1"
    assert (document["verb"], document["answered"], document["failed"], document["elapsed_s"]) == ("status", 2, 1, 1.5)
    assert document["watts"] == 250.5
    first, second, third = document["targets"]
    assert first == {
        "target": "b",
        "state": None,
        "error": "bmc_unreachable",
        "attempts": 2,
        "elapsed_s": 4.0,
        "detail": "nothing answers",
    }
    assert second == {
        "target": "a",
        "state": "on",
        "error": None,
        "attempts": 1,
        "elapsed_s": 0.25,
        "data": {"n": 1},
        "watts": 250.5,
    }
    assert third["detail"] == 'it said "no"\n'


@given(st.lists(st.tuples(st.text(), st.text(), st.sampled_from(Reason), st.text()), max_size=5))
def test_any_text_makes_a_sound_document(ends: list[tuple[str, str, Reason, str]]) -> None:
    rows = [Row(target, state, reason, detail, 1, 0.1) for target, state, reason, detail in ends]
    found = json.loads(powerview.document("sel", rows, 0.1))["targets"]
    assert [entry["target"] for entry in found] == [end[0] for end in ends]
    assert [entry.get("detail", "") for entry in found] == [end[3] for end in ends]


def test_a_document_without_targets_is_one_too() -> None:
    assert json.loads(powerview.document("status", [], 0.0))["targets"] == []
