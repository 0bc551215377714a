"""The end of a run and a plan on a screen."""

from __future__ import annotations

import json

import pytest

from bootorch.core.errors import Problem
from bootorch.core.report import Report
from bootorch.ui import planview, summary
from bootorch.ui.services import PlanView
from tests.core.test_report import dead_switch
from tests.ui.example import demo_plan, demo_world


@pytest.fixture(scope="module")
def report() -> Report:
    world = demo_world()
    return Report.of(world.plan, world.run())


def test_totals_and_the_next_command_come_last(report: Report) -> None:
    lines = summary.lines(report, "bootorch report runs/1").plain().splitlines()
    assert lines[-1] == "next: bootorch report runs/1"
    assert lines[-2].startswith("58 of 60 hosts ready, 1 of them adopted, 2 quarantined in ")
    assert lines[0] == "lab-cold-boot · lab · run 20260301-0400"


def test_every_host_stands_in_one_folded_outcome(report: Report) -> None:
    text = summary.lines(report).plain()
    assert "switch[01-04],web[01-06,08-22,24-36] (57)" in text
    assert "adopted  db03" in text
    assert "quarantined  web07  bmc_unreachable: the BMC answers nothing" in text
    assert "next       Check that the rack has electricity" in text
    assert "quarantined  web23  no_post: has power, but its firmware does not finish the self-test" in text
    assert "evidence   web23  event log (4 events), console (silent), in the report (--json, --html)" in text
    assert "redeploy  web19  task_failed: task 'Install packages'" in text
    assert "gate stable-power" in text


def test_root_causes_come_before_the_blocked() -> None:
    _, report = dead_switch()
    text = summary.lines(report).plain()
    assert text.index("quarantined  sw0") < text.index("blocked  web[0-2] (3)")
    assert "blocks     db0,web[0-2] (4)" in text
    assert "because of sw0" in text


def test_the_forecast_says_when_each_group_starts(report: Report) -> None:
    text = summary.timetable(report).plain()
    assert "wave 4  36 hosts" in text
    assert "starts    0:00" in text
    assert "2 not ready" in text


def test_a_plan_shows_what_it_would_wait_for() -> None:
    warning = Problem("no rack", "hosts.yml:4", "set rack", ("web02", "web01"))
    view = PlanView(demo_plan(), (warning,), "snapshot of 2026-02-28")
    text = planview.lines(view, "plan.yml").plain()
    assert "switch (own rack, all)" in text
    assert "dns (2 of 4) across 2 racks" in text
    assert "warning: hosts.yml:4: no rack\n  hosts:  web[01-02] (2)\n  remedy: set rack" in text
    assert text.splitlines()[-2] == "60 hosts in 6 groups and 5 waves, 1 warning; plan 0123456789ab"
    assert text.splitlines()[-1] == "next: bootorch run --dry-run plan.yml"
    document = json.loads(json.dumps(planview.to_json(view)))
    assert document["schema"] == "bootorch.plan/1"
    assert document["waves"] == [["switch"], ["dns"], ["storage", "deploy"], ["db"], ["web"]]
    assert document["groups"]["web"]["nodes"] == "web[01-36]"
    assert document["warnings"][0]["hosts"] == ["web02", "web01"]
