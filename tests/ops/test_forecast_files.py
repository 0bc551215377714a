"""Forecasts of files: a plan with its snapshot, and the journal of a run, through the program itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bootorch import app
from bootorch.core.engine import Engine
from bootorch.core.events import Event
from bootorch.ops.estimator import SAMPLES, command
from bootorch.runtime.journal import Journal
from bootorch.runtime.load import LoadedPlan, load_plan
from bootorch.runtime.snapshot import render, snapshot_path
from bootorch.sim.parameters import CALM
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

EXAMPLE = Path(__file__).parents[2] / "inventory" / "minimal"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("ansible") is None, reason="needs ansible-core (PyPI ansible-core)"),
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example site, with its snapshot."""
    site = tmp_path_factory.mktemp("forecast") / "site"
    shutil.copytree(EXAMPLE, site, ignore=shutil.ignore_patterns("*.snapshot.json"))
    path = site / "plan.yml"
    render(load_plan(path).spec).write(snapshot_path(path))
    return path


def half_a_run(plan: Path, directory: Path, share: float = 0.5) -> LoadedPlan:
    """The journal of a run that was cut off."""
    loaded = load_plan(plan, require_snapshot=True)
    simulation = Simulation(Engine(loaded.plan), World(loaded.plan, 1, CALM))
    events: list[Event] = [*simulation.start(1), *simulation.run()]
    cut_s = events[-1].t * share
    meta = {
        "plan": loaded.plan_text.encode(),
        "plan_path": str(plan).encode(),
        "snapshot": loaded.snapshot.content,
        "machine_boot": b"",
    }
    with Journal.create(directory / "journal.sqlite", meta) as journal:
        journal.append([event for event in events if event.t <= cut_s])
    return loaded


def test_a_plan_from_its_snapshot(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["forecast", str(plan), "--samples", "3", "--start", "2026-03-01T14:00+09:00", "--json"]
    assert app.main([*words, "--limit", "web", "--what-if", "feed hall-a lost"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["limit"] == "web"
    assert document["base"]["whole"]["skipped_hosts"] > 0
    assert not document["what_ifs"][0]["finishes"]
    assert app.main(["forecast", str(plan), "--samples", "2", "--dark", "hall-a"]) == 4
    assert "hall-a without electricity" in capsys.readouterr().out
    assert app.main(["forecast", str(plan), "--limit", ""]) == 2


def test_the_command_that_renews_a_run_s_estimate(plan: Path, tmp_path: Path) -> None:
    loaded = half_a_run(plan, tmp_path)
    before = (tmp_path / "journal.sqlite").read_bytes()
    done = subprocess.run(command(tmp_path), capture_output=True, check=True, timeout=120)
    document = json.loads(done.stdout)
    assert document["samples"] == SAMPLES
    assert document["hosts"] == len(loaded.plan.hosts)
    assert document["base"]["whole"]["ready"]["p50_wall"]
    assert (tmp_path / "journal.sqlite").read_bytes() == before


def test_a_dry_run_takes_parameters(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half_a_run(plan, tmp_path, 1.0)
    world = tmp_path / "world.yml"
    assert app.main(["forecast", "--fit", str(tmp_path), "-o", str(world)]) == 0
    assert app.main(["run", "--dry-run", str(plan), "--parameters", str(world), "--json"]) in (0, 3)
    capsys.readouterr()
    world.write_text("boot: {median: -1}\n")
    assert app.main(["run", "--dry-run", str(plan), "--parameters", str(world)]) == 2
    assert "world.yml" in capsys.readouterr().err
