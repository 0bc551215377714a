"""Random recoveries with the checkers beside the engine: 200 seeds here, thousands by ``benchmarks/swarm.py``."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bootorch.core.events import Kind
from bootorch.core.model import Breaker
from bootorch.sim.swarm import FEATURES, Case, CaseFailed, case_of, make_case, play
from bootorch.sim.world import CALM
from tests.plans import cases

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS, PARTS = 200, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_seeds(part: int) -> None:
    for seed in range(part * RUNS // PARTS, (part + 1) * RUNS // PARTS):
        try:
            play(case_of(seed))
        except CaseFailed as error:
            raise AssertionError(f"{error}\nagain by: python benchmarks/swarm.py --replay {seed}") from error


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_whatever_a_plan_can_say(case: Case) -> None:
    """The same cases, shrunk by hypothesis when one fails."""
    play(case)


@pytest.mark.parametrize("seed", [3, 17, 40, 77])
def test_a_seed_gives_the_same_run_byte_for_byte(seed: int) -> None:
    assert play(case_of(seed)).log() == play(case_of(seed)).log()


def test_another_process_has_the_same_run() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "swarm.py"), "--replay", "17"]
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "the same, byte for byte" in said.stdout


def test_kills_change_no_outcome() -> None:
    """Where nothing hangs on luck or on the moment: no deadline is near, no breaker and no limit changes."""
    compared = 0
    for seed in range(60):
        features = [name for name in FEATURES if random.Random(f"{seed} {name}").random() < 0.5]
        steady = {"breakers", "clusters", "adaptive", "faults", "field", "storms", "meter", "dark", "gates"}
        on = [name for name in features if name not in steady and not name.startswith("say_")]
        case = make_case(random.Random(seed), seed, [*on, "kills"])
        case = replace(case, parameters=replace(CALM, on_share=0.2, no_post_share=0.1, dead_bmc_share=0.1))
        limits = replace(case.plan.limits, breaker=Breaker())
        case = replace(case, plan=replace(case.plan, limits=limits))
        whole, killed = play(case, kills=False), play(case)
        if whole.verdict == killed.verdict == "done":
            assert whole.checker.outcome == killed.checker.outcome, f"seed {seed}"
            compared += 1
    assert compared > 20


def test_the_features_do_what_they_are_for() -> None:
    """A swarm that never sees a feature at work tests nothing of it."""
    seen: set[str] = set()
    kinds: set[Kind] = set()
    for seed in range(200):
        played = play(case_of(seed))
        seen.update(event.type for event in played.events)
        kinds.update(getattr(event, "kind", None) for event in played.events)  # type: ignore[arg-type]
    assert {
        "first.chosen", "admitted", "limit.set", "feed.lost", "feed.returned", "scope.added", "tier.set",
        "slot.adapted", "breaker.tripped", "gate.opened", "boot.failed", "run.resumed", "paused", "continued",
        "aborted", "hosts.quarantined", "hosts.skipped", "hosts.lifted", "hosts.retried", "breaker.reset",
    } <= seen  # fmt: skip
    assert set(Kind) - {Kind.BOOT_DEVICE} <= kinds, "that one is in older journals only"
