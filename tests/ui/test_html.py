"""The page: complete, escaped, self-contained, and small."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bootorch.core.events import Answer, Kind, Scalar
from bootorch.core.model import Group, Limits
from bootorch.core.reasons import Reason
from bootorch.core.report import Report
from bootorch.sim.machine import MachineSpec
from bootorch.ui.charts import LEFT, RIGHT, Scale
from bootorch.ui.html import page
from tests.core.test_report import dead_switch
from tests.ui.example import demo_world
from tests.ui.world import World, make_host, make_plan

VOID = {"meta", "br", "wbr", "link", "img"}


class Structure(HTMLParser):
    """Checks that every element is closed in order, and collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def read(html: str) -> Structure:
    structure = Structure()
    structure.feed(html)
    structure.close()
    assert structure.open == []
    return structure


@pytest.fixture(scope="module")
def demo() -> Report:
    world = demo_world()
    return Report.of(world.plan, world.run())


def test_the_page_has_everything_and_needs_nothing(demo: Report) -> None:
    html = page(demo)
    structure = read(html)
    assert not structure.tags & {"script", "link", "img", "iframe", "object", "use", "image"}
    assert not structure.attributes & {"src", "href", "xlink:href", "onclick", "onload"}
    assert not re.search(r"url\(|@import|https?://", html)
    for words in (
        "lab-cold-boot", "20260301-0400", "0123456789ab", "2 hosts not ready", "run ended: incomplete",
        "What needs a person", "bmc_unreachable", "no_post", "remote hands", "Timeline", "WAVE 4", "web36",
        "Failed boots", "gate stable-power", "Critical path", "Done again, and worked", "mirror gave no answer", "kim",
        "16.0 kW", "was on: adopted", "Every host, with its evidence",
    ):  # fmt: skip
        assert words in structure.text, words
    assert str(demo.by_name["web01"].evidence["boot_id"]) in structure.text
    assert len(html) < 200_000


def test_light_dark_and_paper(demo: Report) -> None:
    html = page(demo)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_evidence_is_folded_and_whatever_it_says_stays_text() -> None:
    world = demo_world()
    bad = '</pre><script>alert("x")</script>&amp;'
    data: dict[str, Scalar] = {"power": "on", "fault": True, "sel": f"0c.01.ff.02 - Memory #1: {bad}", "console": bad}
    events = [
        replace(event, data=data) if isinstance(event, Answer) and event.kind is Kind.EVIDENCE else event
        for event in world.run()
    ]
    html = page(Report.of(world.plan, events))
    assert re.search(r"\.evidence summary \{[^}]*overflow-wrap: anywhere", html), "one long word makes no page wider"
    structure = read(html)
    assert not structure.tags & {"script"}
    assert {"details", "pre"} <= structure.tags
    assert structure.text.count(bad) >= 4, "two boots, event log and console"
    assert "chassis on · power fault yes" in structure.text
    data.clear()
    failed = [
        replace(event, reason=Reason.BMC_LOST, detail="10.0.0.1:623: gone", data={})
        if isinstance(event, Answer) and event.kind is Kind.EVIDENCE
        else event
        for event in events
    ]
    assert "bmc_lost: 10.0.0.1:623: gone" in read(page(Report.of(world.plan, failed))).text


def test_what_a_failing_task_wrote_is_folded_and_stays_text() -> None:
    world = demo_world()
    bad = 'return code 2\n</pre><script>alert("x")</script>'
    events = [
        replace(event, data={name: bad for name, (word, _) in event.verdicts.items() if word == Reason.TASK_FAILED})
        if isinstance(event, Answer) and event.kind is Kind.REDEPLOY
        else event
        for event in world.run()
    ]
    report = Report.of(world.plan, events)
    structure = read(page(report))
    assert not structure.tags & {"script"}
    assert "Failed tasks" in structure.text
    assert bad in structure.text
    assert report.to_json()["hosts"]["web19"]["troubles"][0]["output"] == bad


def test_hostile_words_stay_words() -> None:
    bad = '<script>alert("x")</script>&amp;'
    host = make_host("web'1<b>", "g", 0, model=bad, rack=bad)
    plan = make_plan([Group("g", (host.name,))], [host])
    plan = replace(plan, name=bad)
    world = World(plan, {host.name: MachineSpec(host.name, 10.0, dead_bmc=True)})
    html = page(Report.of(plan, world.run()))
    structure = read(html)
    assert "script" not in structure.tags
    assert "b" in structure.tags  # ours; the host's is text
    assert bad in structure.text
    assert "web'1<b>" in structure.text


def test_blocked_hosts_and_their_cause() -> None:
    _, report = dead_switch()
    structure = read(page(report))
    assert "waits in vain for db: 2 of 2 ready" in structure.text
    assert "because of sw0" in structure.text


@pytest.mark.parametrize("stop_t", [0.0, 20.0, 330.0])
def test_a_run_without_an_end_has_a_page(stop_t: float) -> None:
    world = demo_world(stop_t=stop_t)
    structure = read(page(Report.of(world.plan, world.run())))
    assert "without an outcome" in structure.text
    assert "the run has no end yet" in structure.text


def test_a_large_fleet_fits_in_a_small_page() -> None:
    """Size must not follow the hosts: a group is a picture of its sums."""

    def size(hosts: int) -> int:
        fleet = [make_host(f"n{i:05d}", f"g{i % 6}", i) for i in range(hosts)]
        groups = [Group(f"g{k}", tuple(h.name for h in fleet if h.group == f"g{k}")) for k in range(6)]
        plan = make_plan(groups, fleet, Limits())
        # Most are on already, which spares the engine their boots.
        specs = {h.name: MachineSpec(h.name, 60.0, initially_on=i % 10 > 0) for i, h in enumerate(fleet)}
        return len(page(Report.of(plan, World(plan, specs).run())))

    # More than are listed one by one, and more than are drawn as bars.
    assert size(3200) < 1.2 * size(1600) < 600_000


@pytest.mark.parametrize(
    ("end_s", "last_ready_s"), [(0.0, 0.0), (3.2, 3.0), (600.0, 590.0), (2756.0, 539.0), (5e5, 4e5)]
)
def test_the_time_axis_is_monotonic_and_can_be_read_backwards(end_s: float, last_ready_s: float) -> None:
    scale = Scale(end_s, last_ready_s)
    xs = [scale.x(end_s * i / 50) for i in range(51)]
    assert xs == sorted(xs)
    assert xs[0] == pytest.approx(LEFT)
    if end_s:
        assert xs[-1] == pytest.approx(RIGHT)
        assert [scale.t(x) for x in xs] == pytest.approx([end_s * i / 50 for i in range(51)])
    assert 2 <= len(scale.ticks()) <= 12
