"""The report against runs of the real engine in a small world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.advice import ADVICE
from bootorch.core.critical import where_time_went
from bootorch.core.events import Event, Kind
from bootorch.core.model import Attempts, Deadlines, Group, Limits, Outcome, Quorum, Requirement
from bootorch.core.reasons import Reason
from bootorch.core.report import POWER_POINTS, SCHEMA, Report, downsample
from bootorch.core.state import State
from bootorch.core.timeline import SITE, Phase, Timeline
from bootorch.sim.machine import MachineSpec
from tests.ui.example import demo_world
from tests.ui.world import World, make_host, make_plan


def durable(events: Sequence[Event]) -> list[Event]:
    """What a journal keeps."""
    return [event for event in events if getattr(event, "durable", True)]


@pytest.fixture(scope="module")
def demo() -> tuple[World, list[Event], Report]:
    world = demo_world()
    events = world.run()
    return world, events, Report.of(world.plan, events)


def dead_switch() -> tuple[World, Report]:
    """Rack r1's switch is dead: its servers are blocked, and what needs all of them."""
    hosts = [make_host(f"sw{i}", "switch", i) for i in (0, 1)]
    hosts += [make_host(f"db{i}", "db", i) for i in range(4)]  # racks r1..r4; switches in r1 and r2
    hosts = [host for host in hosts if host.rack in ("r1", "r2")]
    hosts += [make_host(f"web{i}", "web", i) for i in range(3)]
    names = {g: tuple(h.name for h in hosts if h.group == g) for g in ("switch", "db", "web")}
    plan = make_plan(
        [
            Group("switch", names["switch"]),
            Group("db", names["db"], 0, (Requirement("switch", per_host="rack"),)),
            Group("web", names["web"], 0, (Requirement("db"),)),
        ],
        hosts,
    )
    world = World(plan, {"sw0": MachineSpec("sw0", 40.0, dead_bmc=True)})
    return world, Report.of(plan, world.run())


def test_the_demo_ends_as_injected(demo: tuple[World, list[Event], Report]) -> None:
    _, _, report = demo
    assert report.totals == {
        Outcome.READY: 57,
        Outcome.ADOPTED: 1,
        Outcome.QUARANTINED: 2,
        Outcome.BLOCKED: 0,
        Outcome.SKIPPED: 0,
        Outcome.UNKNOWN: 0,
    }
    assert report.by_name["db03"].outcome is Outcome.ADOPTED
    assert report.by_name["db03"].actions == ()
    assert report.by_name["web07"].reason is Reason.BMC_UNREACHABLE
    assert report.by_name["web23"].reason is Reason.NO_POST
    assert [t.what for t in report.by_name["web11"].troubles] == ["power-on"]
    assert [t.reason for t in report.by_name["web19"].troubles] == [Reason.TASK_FAILED]
    assert report.by_name["db01"].evidence["boot_id"]


@pytest.mark.parametrize("seed", range(4))
def test_spans_cover_every_host_from_the_start_to_its_outcome(seed: int) -> None:
    world = demo_world(seed=seed)
    report = Report.of(world.plan, world.run())
    assert sum(report.totals.values()) == report.size == len(world.plan.hosts)
    for host in report.hosts:
        assert host.spans[0][1] == 0.0
        assert host.spans[-1][2] == host.settled_s
        for (_, _, end), (_, start, _) in pairwise(host.spans):
            assert end == start


def test_a_journal_tells_the_same_as_the_live_events(demo: tuple[World, list[Event], Report]) -> None:
    world, events, report = demo
    assert len(durable(events)) < len(events)
    assert Report.of(world.plan, durable(events)).to_json() == report.to_json()


def test_groups_and_waves_add_up(demo: tuple[World, list[Event], Report]) -> None:
    _, _, report = demo
    assert sum(group.passage.size for group in report.groups) == report.size
    assert sum(wave.passage.size for wave in report.waves) == report.size
    for group in report.groups:
        hosts = [host for host in report.hosts if host.group == group.passage.name]
        assert group.passage.settled_s == max(host.settled_s or 0.0 for host in hosts)
        assert group.passage.started_s == min(host.started_s or 0.0 for host in hosts)
        assert sum(group.passage.outcomes.values()) == group.passage.size
        assert group.passage.first_ready_s <= group.passage.ready_s <= group.passage.settled_s  # type: ignore[operator]


def test_the_critical_path_has_no_hole(demo: tuple[World, list[Event], Report]) -> None:
    world, _, report = demo
    path = report.critical_path
    assert path[0].start_s == 0.0
    assert path[-1].end_s == max(host.settled_s or 0.0 for host in report.hosts)
    for before, leg in pairwise(path):
        assert before.end_s == leg.start_s
        assert before.group in {r.group for r in world.plan.groups[leg.group].requires}
        assert before.group in leg.waited_for
    assert sum(where_time_went(path).values()) == pytest.approx(path[-1].end_s)
    assert path[0].held_by == ("gate stable-power",)


def test_power_is_what_the_engine_counted(demo: tuple[World, list[Event], Report]) -> None:
    world, events, report = demo
    feeds = {feed.feed: feed for feed in report.power}
    assert set(feeds) == {SITE, "hall-a"}
    budget = world.plan.limits.feeds["hall-a"].budget_watts
    assert budget is not None
    assert 0 < feeds["hall-a"].peak_watts <= budget
    state = State(world.plan)
    highest = 0.0
    for event in events:
        if event.t > state.t:
            highest = max(highest, state.feeds.draw_watts()["hall-a"])
        state.fold(event)
    assert feeds["hall-a"].peak_watts == pytest.approx(highest)
    assert feeds["hall-a"].points[-1][1] == pytest.approx(state.feeds.draw_watts()["hall-a"])


def test_what_held_hosts_back_is_named(demo: tuple[World, list[Event], Report]) -> None:
    _, _, report = demo
    holds = {hold.resource: hold for hold in report.holds}
    assert holds["gate stable-power"].hosts == 4
    assert holds["gate stable-power"].longest_s == pytest.approx(25.0, abs=0.5)
    assert holds["ramp of feed hall-a"].hosts > 0
    (gate,) = report.gates
    assert (gate.opened_s, gate.by, gate.waited) == (25.0, "kim", 4)


def test_bmc_commands_are_all_there(demo: tuple[World, list[Event], Report]) -> None:
    world, _, report = demo
    assert report.power_ons == sum(machine.power_ons for machine in world.machines.values())
    assert report.cycles == sum(machine.cycles for machine in world.machines.values()) == 1
    cycled = [host.name for host in report.hosts if any(a.kind is Kind.POWER_CYCLE for a in host.actions)]
    assert cycled == ["web23"]


def test_root_causes_stand_before_what_follows() -> None:
    _, report = dead_switch()
    assert report.totals[Outcome.QUARANTINED] == 1
    (failure,) = report.failures
    assert failure.hosts == ("sw0",)
    assert failure.blocks == ("db0", "web0", "web1", "web2")
    by_wait = {cluster.waits_for: cluster for cluster in report.blocked}
    assert by_wait["switch with the same rack (r1): 1 of 1 ready"].roots == ("sw0",)
    web = by_wait["db: 2 of 2 ready"]
    assert web.hosts == ("web0", "web1", "web2")
    assert web.roots == ("sw0",)  # the switch, not the database that is only blocked


def test_a_blocked_end_leads_back_to_its_cause() -> None:
    _, report = dead_switch()
    assert report.critical_path[-1].host == "sw0"
    assert report.by_name["web0"].settled_s == report.by_name["sw0"].settled_s


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_unfinished_run_can_be_reported(demo: tuple[World, list[Event], Report], share: float) -> None:
    world, events, _ = demo
    report = Report.of(world.plan, events[: int(len(events) * share)])
    assert sum(report.totals.values()) == report.size
    assert report.totals[Outcome.UNKNOWN] == sum(report.in_progress.values()) == report.size - report.settled > 0
    assert report.verdict == ""
    assert report.critical_path == ()
    assert all(host.spans[-1][2] == report.elapsed_s for host in report.hosts if host.settled_s is None)
    json.dumps(report.to_json(), allow_nan=False)


def test_nothing_has_happened_yet() -> None:
    world = demo_world()
    report = Report.of(world.plan, [])
    assert report.totals[Outcome.UNKNOWN] == report.size
    assert report.in_progress == {Phase.WAIT: 60}
    assert report.groups[0].passage.started_s is None


def test_hosts_outside_the_limit_are_skipped() -> None:
    world = demo_world(limit=("switch01",))
    report = Report.of(world.plan, world.run())
    assert report.totals[Outcome.READY] == 1
    assert report.totals[Outcome.SKIPPED] == 59
    assert report.limit == "some"


def test_json_is_versioned_and_plain(demo: tuple[World, list[Event], Report]) -> None:
    _, _, report = demo
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["schema"] == SCHEMA == "bootorch.report/1"
    # These keys are a promise to scripts: add, never rename.
    assert set(document) == {
        "blocked", "by", "changes", "choices", "critical_path", "cycles", "dark", "elapsed_s", "ended_wall",
        "environment", "failures", "gates", "groups", "holds", "hosts", "in_progress", "limit", "limits", "paused",
        "plan", "plan_digest", "power", "power_ons", "resumes", "run_id", "schema", "seed", "simulated", "size",
        "started_wall", "totals", "tripped", "verdict", "waves",
    }  # fmt: skip
    assert set(document["hosts"]["web07"]) == {
        "actions", "bmc", "detail", "evidence", "examinations", "feed", "firmware", "group", "held", "model", "outcome",
        "rack", "reason", "retries", "settled_s", "spans", "started_s", "troubles",
    }  # fmt: skip
    examined = document["hosts"]["web23"]["examinations"]
    assert [set(item) for item in examined] == [{"t", "reason", "detail", "found", "data"}] * 2
    assert examined[0]["found"] == {"reason": "no_post", "detail": examined[0]["found"]["detail"], "sure": True}
    assert set(examined[0]["data"]) == {"power", "sel", "console"}
    assert document["hosts"]["web07"]["outcome"] == "quarantined"
    assert document["hosts"]["web07"]["spans"][-1]["phase"] == "bmc"
    assert document["totals"]["ready"] == 57
    assert document["failures"][0]["racks"]


def test_every_reason_has_words_for_a_person() -> None:
    assert set(ADVICE) == set(Reason)
    assert all(said.meaning for said in ADVICE.values())


def test_a_quorum_is_let_go_by_the_host_that_completed_it() -> None:
    hosts = [make_host(f"a{i}", "a", i) for i in range(3)] + [make_host("b0", "b", 9)]
    plan = make_plan(
        [Group("a", ("a0", "a1", "a2")), Group("b", ("b0",), 0, (Requirement("a", Quorum(count=2)),))], hosts
    )
    specs = {f"a{i}": MachineSpec(f"a{i}", 50.0 + 100 * i) for i in range(3)}
    timeline = Timeline(plan)
    for event in World(plan, specs).run():
        timeline.add(event)
    assert timeline.tracks["b0"].released_by == "a1"


def test_a_slow_power_on_is_named_before_its_reason_is_known() -> None:
    """A host that stays off ends with the reason, and its power-ons are all in the record."""
    host = make_host("a0", "a", 0)
    group = Group("a", ("a0",), attempts=Attempts(power=3), deadlines=Deadlines(power=60.0))
    plan = make_plan([group], [host], Limits())
    report = Report.of(plan, World(plan, {"a0": MachineSpec("a0", 10.0, silent_power_ons=9)}).run())
    assert report.by_name["a0"].reason is Reason.POWER_NO_EFFECT
    assert [action.attempt for action in report.by_name["a0"].actions] == [1, 2, 3]
    assert all(action.reason is Reason.OK for action in report.by_name["a0"].actions)
    assert report.by_name["a0"].spans[-1][0] is Phase.POWER


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 1e6)), min_size=1, max_size=1500))
def test_downsampling_hides_no_peak(steps: list[tuple[float, float]]) -> None:
    t, points = 0.0, [(0.0, 0.0)]
    for wait, watts in steps:
        t += wait
        points.append((t, watts))
    kept = downsample(points, t)
    assert len(kept) <= POWER_POINTS * 2 + 2
    assert max(watts for _, watts in kept) == max(watts for _, watts in points)
    assert kept[-1][1] >= points[-1][1]
    assert all(a[0] <= b[0] for a, b in pairwise(kept))
