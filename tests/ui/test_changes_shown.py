"""What was changed under way as the views show it: news, summary, page, charts."""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from pathlib import Path

import pytest

from bootorch.core.errors import Exit
from bootorch.core.events import (
    Adapted,
    Chosen,
    Event,
    FeedLost,
    FeedReturned,
    LimitSet,
    ScopeAdded,
    TierSet,
)
from bootorch.core.limits import Resource
from bootorch.core.report import Report
from bootorch.core.state import State
from bootorch.core.timeline import resource_title, touched
from bootorch.ui import charts, commands, standing, summary
from bootorch.ui.html import page
from bootorch.ui.lines import Lines
from bootorch.ui.news import News
from bootorch.ui.progress import PlainProgress
from bootorch.ui.services import RunResult
from tests.ui.example import demo_plan, demo_world

SAID: tuple[Event, ...] = (
    LimitSet(30.0, "feed", "hall-a", 12_000.0, 6000.0, by="kim", why="chiller <2> is out"),
    FeedLost(60.0, "hall-a", "lee", "fire"),
    FeedReturned(90.0, "hall-a", "lee"),
    LimitSet(120.0, "feed", "hall-a", 20_000.0, by="kim"),
    TierSet(150.0, "web", 0, "kim", "mail first"),
    Adapted(160.0, "image_server:pxe-1", 25, "3 of 10 boots lost"),
)


@pytest.fixture(scope="module")
def changed() -> tuple[list[Event], Report]:
    world = demo_world()
    events = list(world.run())
    for event in SAID:
        events.insert(bisect_left([e.t for e in events], event.t), event)
    return events, Report.of(world.plan, events)


def test_the_report_has_every_change_with_who_when_and_why(changed: tuple[list[Event], Report]) -> None:
    _, report = changed
    document = report.to_json()
    assert [(said["t"], said["kind"], said["by"], said["why"]) for said in document["changes"]] == [
        (30.0, "limit.set", "kim", "chiller <2> is out"),
        (60.0, "feed.lost", "lee", "fire"),
        (90.0, "feed.returned", "lee", ""),
        (120.0, "limit.set", "kim", ""),
        (150.0, "tier.set", "kim", "mail first"),
        (160.0, "slot.adapted", "bootorch", "3 of 10 boots lost"),
    ]
    hall = next(feed for feed in document["power"] if feed["feed"] == "hall-a")
    assert hall["budgets"] == [[0.0, 16_000.0], [30.0, 12_000.0], [120.0, 20_000.0]]
    assert hall["budget_watts"] == 20_000.0
    assert {(limit["kind"], limit["name"], limit["value"]) for limit in document["limits"]} == {
        ("feed", "hall-a", 20_000.0), ("slot", "image_server:pxe-1", 25),
    }  # fmt: skip
    assert document["dark"] == []


def test_the_share_of_a_peak_is_that_of_the_budget_of_its_time(changed: tuple[list[Event], Report]) -> None:
    _, report = changed
    hall = next(feed for feed in report.power if feed.feed == "hall-a")
    held = [budget for t, budget in hall.budgets if t <= hall.peak_s][-1]
    assert held
    assert hall.peak_share == pytest.approx(hall.peak_watts / held)
    assert hall.highest_budget == 20_000.0


def test_the_chart_draws_the_budget_as_steps(changed: tuple[list[Event], Report]) -> None:
    _, report = changed
    hall = next(feed for feed in report.power if feed.feed == "hall-a")
    drawn = re.findall(r'<line class="budget" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"/>',
                       charts.power(hall, charts.scale_of(report)))  # fmt: skip
    lines = [tuple(map(float, line)) for line in drawn]
    level = [line for line in lines if line[1] == line[3]]
    joins = [line for line in lines if line[1] != line[3]]
    assert (len(level), len(joins)) == (3, 2)
    assert [line[0] for line in level] == [charts.LEFT, level[0][2], level[1][2]]
    assert level[-1][2] == charts.RIGHT
    heights = [line[1] for line in level]
    assert heights[2] < heights[0] < heights[1], "more watts stand higher"


def test_the_page_tells_the_changes_and_escapes_what_people_write(changed: tuple[list[Event], Report]) -> None:
    text = page(changed[1])
    assert "Changed under way" in text
    assert "chiller &lt;2&gt; is out" in text
    assert "chiller <2>" not in text
    assert "feed hall-a is without electricity" in text
    assert "slot image_server:pxe-1 has 25" in text


def test_the_summary_names_them_and_stays_quiet_without(changed: tuple[list[Event], Report]) -> None:
    text = summary.lines(changed[1]).plain()
    assert re.search(r"0:30  feed hall-a has 12 kW, ramp 6 kW a minute +kim: chiller <2> is out", text)
    assert re.search(r"2:30  group web has tier 0 +kim: mail first", text)
    assert "dark" not in text
    world = demo_world()
    assert "changed under way" not in summary.lines(Report.of(world.plan, world.run())).plain()
    quiet = Lines()
    standing.changes(standing.of(Report.of(world.plan, ())), quiet)
    assert quiet.plain() == ""


def test_a_run_that_stopped_because_of_a_dark_feed_names_it_and_the_next_command() -> None:
    plan = demo_plan()
    world = demo_world(stop_t=0.0)
    events = [*world.run()[:1], FeedLost(5.0, "hall-a", "lee", "fire")]
    report = Report.of(plan, events)
    (dark,) = report.dark
    assert (dark.feed, dark.since_s, dark.by, len(dark.hosts)) == ("hall-a", 5.0, "lee", 60)
    text = summary.lines(report, "").plain()
    assert "dark  feed hall-a since 0:05, said by lee: fire" in text
    assert "waiting    db[01-08],deploy[01-02],dns[01-04]" in text
    state = State(plan)
    for event in events:
        state.fold(event)
    result = RunResult(Exit.STOPPED, state, events, Path("runs/one"))
    assert commands.next_command(result, report) == "bootorch resume runs/one --returned hall-a"


def test_news_tells_each_change_in_a_line_of_its_own() -> None:
    plan = demo_plan()
    state = State(plan)
    news = News()
    scope = ScopeAdded(7.0, "web", ("web01", "web02"), "kim", "all of it")
    for event in (*SAID, scope, Chosen(8.0, "db", "db03", "kim", "newest copy")):
        news.tell(event, state)
    texts = ["".join(piece if isinstance(piece, str) else piece[0] for piece in pieces) for _, pieces in news.take()]
    assert texts == [
        "feed hall-a has 12 kW, ramp 6 kW a minute, said by kim: chiller <2> is out",
        "feed hall-a is without electricity, said by lee: fire",
        "feed hall-a has electricity again, said by lee",
        "feed hall-a has 20 kW, said by kim",
        "group web has tier 0, said by kim: mail first",
        "slot image_server:pxe-1 has 25 by itself: 3 of 10 boots lost",
        "web belongs to the run: 2 hosts, said by kim: all of it",
        "db03 is the first member of db, said by kim: newest copy",
    ]


def test_a_log_has_them_as_they_are_said() -> None:
    world = demo_world()
    events = list(world.run())
    state = State(world.plan)
    stream = io.StringIO()
    progress = PlainProgress(stream)
    for event in [events[0], *SAID]:
        state.fold(event)
        progress.on_events([event], state)
    progress.tick()
    assert "   1:00  feed hall-a is without electricity, said by lee: fire" in stream.getvalue()


@pytest.mark.parametrize(
    ("resource", "title"),
    [
        (("dark", "hall-b"), "feed hall-b without electricity"),
        (("first", "db"), "first member of db"),
        (("choice", "db"), "nobody has chosen the first member of db"),
        (("inrush", "hall-b"), "inrush of feed hall-b"),
        (("tier", "hall-b"), "power kept for more urgent tiers on feed hall-b"),
        (("feed", "cooling:crac-1"), "budget of cooling:crac-1"),
        (("slot", "rack:r7"), "boots per rack r7"),
        (("slot", "image_server:pxe-1"), "boots per image server pxe-1"),
        (("slot", "bmc:10.20.3"), "BMC slots of subnet 10.20.3"),
        (("slot", "forks"), "playbook forks"),
        (("slot", "logins"), "logins at the same time"),
        (("slot", "boots"), "boots at the same time"),
        (("slot", "survey"), "BMCs read ahead"),
        (("breaker", "class:model=X firmware=Y"), "breaker of model X firmware Y"),
        (("breaker", "group:web"), "breaker of group web"),
    ],
)
def test_what_holds_a_host_back_has_words(resource: Resource, title: str) -> None:
    assert resource_title(resource) == title


def test_a_change_touches_the_hosts_that_it_names() -> None:
    assert touched(ScopeAdded(1.0, "web", ("web01",), "kim")) == ("web01",)
    assert touched(FeedLost(1.0, "hall-a", "kim")) == ()
