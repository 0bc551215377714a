"""Forecasts: the same whatever the processes, honest about what cannot finish, and right about runs in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput, ToolError
from bootorch.core.events import Answer, Intent
from bootorch.core.forecast import difference
from bootorch.core.model import First, Gate, Group, Outcome
from bootorch.core.recovery import replay
from bootorch.core.whatif import parse
from bootorch.ops.forecast import Options, Stand, forecast_plan, forecast_run, imagine, sample_seed
from bootorch.ops.forks import share_out
from bootorch.sim.conditioned import condition
from bootorch.sim.parameters import CALM, FIELD
from bootorch.sim.run import Simulation
from bootorch.sim.world import World
from bootorch.ui.forecastview import to_json
from tests.ops.forecasts import fleet, of_run, through_a_journal, until
from tests.plans import group, make_plan

CAUTIOUS = replace(FIELD, epidemics=(), storms=())


def options(*what_ifs: str, samples: int = 4, jobs: int = 2, seed: int = 3, **more: object) -> Options:
    return Options(samples=samples, seed=seed, jobs=jobs, what_ifs=[parse(text) for text in what_ifs], **more)  # type: ignore[arg-type]


# -- samples ---------------------------------------------------------------------


def test_the_result_does_not_depend_on_the_number_of_processes() -> None:
    plan = fleet()
    one, two = (
        to_json(forecast_plan(plan, FIELD, options("feed hall 80%", jobs=jobs, start="2026-03-01T14:00:00+09:00")))
        for jobs in (1, 2)
    )
    assert one == two
    other = to_json(forecast_plan(plan, FIELD, options("feed hall 80%", seed=4)))
    assert other["base"]["sample_ready_s"] != one["base"]["sample_ready_s"]


def test_a_single_sample_in_this_process_is_the_first_of_many() -> None:
    plan = fleet()
    alone = forecast_plan(plan, FIELD, options(samples=1))
    many = forecast_plan(plan, FIELD, options(samples=3))
    assert alone.base.samples[0] == many.base.samples[0]
    assert len({sample_seed(3, index) for index in range(1000)}) == 1000


LEFT = """
import gc, weakref
from bootorch.ops import forecast
from bootorch.sim.parameters import CALM
from tests.ops.forecasts import fleet

worlds = []

class World(forecast.World):
    def __init__(self, *given):
        super().__init__(*given)
        worlds.append(weakref.ref(self))

forecast.World = World
plan = fleet()
whole = forecast.forecast_plan(plan, CALM, forecast.Options(samples=1)).base
assert gc.get_freeze_count() == 0 and gc.isenabled()
gc.collect()
assert worlds[0]() is None
forecast.LARGE = len(plan.hosts)
assert forecast.forecast_plan(plan, CALM, forecast.Options(samples=1)).base == whole
gc.collect()
assert worlds[1]() is not None, "it was taken apart"
"""


def test_a_large_plan_is_left_to_the_system_and_its_forecast_is_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failing_or_killed_process_is_an_error_with_a_remedy() -> None:
    def fail(task: int) -> int:
        if task == 2:
            raise ValueError("odd")
        return task * task

    assert share_out([0, 1], fail, 2) == [0, 1]
    with pytest.raises(ToolError, match="odd"):
        share_out([0, 1, 2, 3], fail, 2)
    with pytest.raises(ToolError, match="signal 9"):
        share_out([1], lambda _: os.kill(os.getpid(), signal.SIGKILL), 1)


# -- what a sample says ---------------------------------------------------------------------


def test_draws_stay_within_the_budget_and_touch_it_when_it_binds() -> None:
    plan = fleet(watts=17_000.0)
    found = forecast_plan(plan, CALM, options(samples=2)).base
    peaks = [watts for sample in found.samples for _, watts in sample.feeds["hall"]]
    assert max(peaks) <= 17_000.0 + 1e-6
    assert max(peaks) > 16_000.0
    assert any(resource == ("feed", "hall") for resource in found.held)


def test_the_whole_is_the_sum_of_its_parts_and_tiers_come_in_order() -> None:
    found = forecast_plan(fleet(), FIELD, options()).base
    for sample in found.samples:
        assert sample.whole.size == 64 == sum(part.size for part in sample.groups.values())
        assert sample.whole.ready == sum(part.ready for part in sample.tiers.values())
        assert sample.whole.ready + sample.whole.quarantined + sample.whole.blocked == 64
        assert sample.whole.ready_s == max(part.ready_s for part in sample.groups.values() if part.ready_s)
        assert sample.ready[-1][1] == sample.whole.ready
        assert sample.whole.ready_s is not None
        assert sample.whole.ready_s <= sample.end_s


def test_the_critical_path_has_no_hole_and_ends_with_the_last_ready_host() -> None:
    found = forecast_plan(fleet(), FIELD, options()).base
    for sample in found.samples:
        path = sample.path
        assert path[0].start_s == 0.0
        assert path[-1].end_s == sample.whole.ready_s
        for before, leg in pairwise(path):
            assert leg.start_s == before.end_s
            assert before.group in leg.waited_for
        for leg in path:
            ends = [leg.start_s, *(end for _, _, end in leg.spans)]
            assert [start for _, start, _ in leg.spans] == ends[:-1]
            assert ends[-1] == leg.end_s
        assert sample.binding is not None
        assert 0 < sample.binding.share <= 1 + 1e-9


@pytest.mark.parametrize(
    ("what", "kind", "word"),
    [
        ("ramp hall 500W", "ramp", "ramp of feed hall"),
        ("gate power opens at 3h", "gate", "gate power"),
        ("boot slow 1x", "chain", "chain switch → db → web"),
    ],
)
def test_what_binds_is_named(what: str, kind: str, word: str) -> None:
    plan = fleet(watts=60_000.0, gates=(Gate("power", ask="Who?"),))
    ample = replace(plan.limits.feeds["hall"], ramp_watts_per_min=60_000.0)
    plan = replace(plan, limits=replace(plan.limits, feeds={"hall": ample}))
    bound = forecast_plan(plan, CALM, options(what, samples=2)).what_ifs[0].bindings[0]
    assert (bound.kind, bound.title) == (kind, word)


def test_no_run_is_shorter_than_its_lower_bound() -> None:
    found = forecast_plan(fleet(), CAUTIOUS, options(bounds=4)).base
    assert found.ratio is not None
    assert found.ratio.p10 is not None
    assert found.ratio.p10 >= 1 - 1e-9


# -- what cannot finish ---------------------------------------------------------------------


def test_a_budget_that_is_too_small_is_no_makespan() -> None:
    found = forecast_plan(fleet(watts=9_000.0), CALM, options())
    assert found.base.unfinished == 4
    assert found.base.whole.ready_at.p50 is None
    assert found.base.left[0].why == "budget of feed hall"
    assert not found.base.left[0].waiting


def test_dark_feeds_leave_their_hosts_and_say_so() -> None:
    found = forecast_plan(fleet(), CALM, options(dark=["hall/row-1"]))
    assert found.base.unfinished == 4
    assert "hall/row-1" in found.base.left[0].why
    back = forecast_plan(fleet(), CALM, options("feed hall/row-1 lost at 5m, feed hall/row-1 returned at 30m")).what_ifs
    assert back[0].unfinished == 0


def test_a_gate_with_a_time_holds_until_then() -> None:
    plan = fleet(gates=(Gate("power", ask="Who attests it?"),))
    found = forecast_plan(plan, CALM, options("gate power opens at 1h"))
    assert found.gates == ("power",)
    change = difference(found.base, found.what_ifs[0])
    assert change.ready.p50 == pytest.approx(3600.0, abs=300.0)  # BMCs wake up meanwhile


def test_gates_that_a_run_has_not_opened_are_named_however_many_samples_there_are() -> None:
    plan = fleet(gates=(Gate("power", ask="Who attests it?"),))
    run = Simulation(Engine(plan), World(plan, 1, CALM))
    stand = Stand([*run.start(1, open_gates=False), *run.step()], run.now)
    for samples in (1, 2):
        assert forecast_run(plan, stand, CALM, options(samples=samples)).gates == ("power",)


def test_a_first_member_that_a_person_names_is_chosen() -> None:
    groups: dict[str, tuple[int, Group]] = {"store": (5, group(first=First(ask="Which has the newest copy?")))}
    found = forecast_plan(make_plan(groups), CALM, options(samples=2))
    assert found.base.whole.ready == 5
    assert found.firsts == ("store",)


# -- what if ---------------------------------------------------------------------


def test_common_random_numbers_make_differences_sharp() -> None:
    """A world that is no other differs by nothing; slower boots differ less, sample by sample, than samples do."""
    quick = imagine(CALM, parse("boot slow 0.4x"))  # far from the deadline, so that nobody fails in one world only
    found = forecast_plan(fleet(watts=60_000.0), quick, options("boot slow 1x", "boot slow 1.2x", samples=8))
    same, slow = (difference(found.base, other) for other in found.what_ifs)
    assert (same.ready.p10, same.ready.p90, same.hosts) == (0.0, 0.0, 0.0)
    assert slow.ready.p10 is not None
    assert slow.ready.p90 is not None
    assert slow.ready.p10 > 0
    times = sorted(s.whole.ready_s or 0.0 for s in found.base.samples)
    pairs = zip(found.base.samples, found.what_ifs[1].samples, strict=True)
    paired = sorted((other.whole.ready_s or 0.0) / (base.whole.ready_s or 1.0) for base, other in pairs)
    assert paired[-1] / paired[0] < times[-1] / times[0]


def test_every_change_of_the_world_reaches_it() -> None:
    plan = fleet(300, watts=1e6)
    base = FIELD
    changed = imagine(
        base, parse("bmc dead 10%, boot dead 5%, power silent 7%, on 30%, boot slow 2x, model m1 dead 80%")
    )
    assert (changed.dead_bmc_share, changed.no_post_share, changed.silent_power_share, changed.on_share) == (
        0.1, 0.05, 0.07, 0.3,
    )  # fmt: skip
    assert changed.boot.quantile(0.5) == pytest.approx(2 * base.boot.quantile(0.5))
    dead = World(plan, 1, imagine(CALM, parse("model m1 dead 80%"))).durations()
    assert sum(bool(times.fails) for times in dead.values()) / len(dead) == pytest.approx(0.8, abs=0.1)


def test_what_the_plan_lacks_is_refused_all_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        forecast_plan(fleet(), CALM, options("feed nope 50%", "slot nope 3, model x dead 5%", dark=["gone"]))
    said = " ".join(problem.message for problem in refused.value.problems)
    assert all(word in said for word in ("'nope' has no budget", "no slot 'nope'", "no model 'x'", "no feed 'gone'"))
    with pytest.raises(InvalidInput, match="samples"):
        forecast_plan(fleet(), CALM, options(samples=0))


# -- a run in the middle ---------------------------------------------------------------------


def test_a_run_in_the_middle_is_forecast_from_where_it_stands(tmp_path: Path) -> None:
    plan = fleet()
    errors = []
    for seed in range(1, 6):
        events, cut_s, truth_s = until(plan, seed, CAUTIOUS)
        (tmp_path / str(seed)).mkdir()
        kept = through_a_journal(events, tmp_path / str(seed))
        before = replay(plan, kept)
        found = of_run(plan, kept, cut_s).base
        ready = sum(host.outcome in ("ready", "adopted") for host in before.hosts.values())
        failed = sum(host.outcome is Outcome.QUARANTINED for host in before.hosts.values())
        assert 0 < ready < len(plan.hosts)
        for sample in found.samples:
            assert sample.whole.ready >= ready
            assert sample.whole.quarantined >= failed
            assert sample.whole.ready_s is not None
            assert sample.whole.ready_s > cut_s
        assert found.whole.ready_at.p50 is not None
        errors.append(abs(found.whole.ready_at.p50 - truth_s) / (truth_s - cut_s))
    assert median(errors) < 0.25  # of what was left


def test_what_is_known_of_a_run_holds_in_the_world_that_goes_on(tmp_path: Path) -> None:
    """Nobody who is up or booting is switched on again, nobody who was given up comes back."""
    plan = fleet()
    for seed in range(1, 4):
        events, cut_s, _ = until(plan, seed, CAUTIOUS)
        (tmp_path / str(seed)).mkdir()
        state = replay(plan, through_a_journal(events, tmp_path / str(seed)))
        world = World(plan, 99, CAUTIOUS)
        condition(world, state, cut_s, 99)
        for name, host in state.hosts.items():
            server = world.server(name)
            if host.outcome in ("ready", "adopted"):
                assert server.os_up_at is not None
                assert server.os_up_at <= cut_s
                assert server.bmc_at <= cut_s
            elif host.outcome is None and host.stage == "boot" and not host.unbooted:
                assert server.on_at == host.on_t
                assert server.os_up_at is None or server.os_up_at > cut_s
            elif host.outcome is None and host.stage == "power" and host.on_t is None:
                assert server.on_at is None or server.on_at > host.read_t
                assert server.bmc_at <= cut_s


def test_hosts_that_are_up_or_booting_get_no_other_power_on(tmp_path: Path) -> None:
    from bootorch.ops.forecast import _Trial

    plan = fleet()
    events, cut_s, _ = until(plan, 2, CAUTIOUS)
    state = replay(plan, through_a_journal(events, tmp_path))
    on = {n for n, h in state.hosts.items() if h.stage in ("boot", "ready", "redeploy", "verify") or h.outcome}
    world = World(plan, 7, CALM)
    condition(world, state, cut_s, 7)
    trial = _Trial(Engine(plan, state), world)
    trial.go_on(cut_s, frozenset())
    later = []
    while not trial.engine.verdict():
        later += trial.step()
    again = {event.target for event in later if isinstance(event, Intent) and event.kind == "power.on"}
    # A host whose boot never ends may get its second boot, and only after its BMC said off.
    off = {event.target for event in later if isinstance(event, Answer) and event.data.get("power") == "off"}
    assert again & on <= off
    assert again


def test_a_run_that_is_over_or_empty_is_refused() -> None:
    plan = fleet()
    events, _, ready_s = until(plan, 1, CALM, share=50.0)
    with pytest.raises(InvalidInput, match="nothing is left"):
        forecast_run(plan, Stand(events, ready_s * 50), FIELD, options())
    with pytest.raises(InvalidInput, match="holds no run"):
        forecast_run(plan, Stand([], 0.0), FIELD, options())


def test_a_what_if_of_a_run_happens_now() -> None:
    plan = fleet()
    events, cut_s, _ = until(plan, 1, CAUTIOUS)
    found = forecast_run(plan, Stand(events, cut_s), FIELD, options("feed hall lost", "feed hall 100MW"))
    lost, _ = found.what_ifs
    assert lost.unfinished == 4
    assert lost.whole.left > 0


def test_what_happens_at_the_same_time_happens_as_written() -> None:
    plan = fleet()
    events, cut_s, _ = until(plan, 1, CAUTIOUS)
    there_and_back = "feed hall lost at 1s, feed hall returned at 2s"  # both lie in the past: both happen now
    found = forecast_run(plan, Stand(events, cut_s), FIELD, options(there_and_back)).what_ifs[0]
    assert found.unfinished == 0


def test_a_gate_that_opens_by_the_clock_waits_for_it() -> None:
    plan = fleet(gates=(Gate("power", at="15:00"),))
    late, early = (
        forecast_plan(plan, CALM, options(start=f"2026-03-01T{start}:00+09:00")).base.whole.ready_at.p50
        for start in ("14:00", "14:59")
    )
    assert late is not None
    assert early is not None
    assert late - early > 3000
