"""Forecasts against recoveries of real packets: five labs, each forecast before its run begins.

    python benchmarks/forecast_lab.py [--hosts 300] [--only plain ...] [--json FILE] [--keep DIR] [--phases]

First a drill of each kind (with and without redeploy), on labs of another seed, whose journals are fitted. Then for
each of the five: the lab is started, its plan is forecast (20 samples) with the fitted parameters and what is known to
be different (shares of broken hosts, loss, slower boots), the forecast is written to a file with the time of day, and
only then the plan is run. *Makespan*: from the run's beginning to the last host that becomes ready, which is what
``bootorch forecast`` gives as the whole's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bootorch.core.engine import Engine
from bootorch.core.events import Event
from bootorch.core.forecast import quantile
from bootorch.core.plan import Plan
from bootorch.core.report import Report
from bootorch.lab import control
from bootorch.lab.fleet import LabOptions
from bootorch.runs import Runs
from bootorch.runtime.parameterfile import read_parameters, write_parameters
from bootorch.sim.parameters import Parameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

SAMPLES = 20
BOOTS = (2.0, 10.0)  # seconds
LIFETIME_S = 1800.0
WITHIN_LEAST, ERROR_MOST = 4, 0.15

Document = dict[str, Any]


def unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Recovery:
    """``lab``: what ``lab up`` is asked for. ``limit`` changes the plan that it writes, ``known`` fitted parameters."""

    name: str
    title: str
    seed: int
    lab: dict[str, Any] = field(default_factory=dict)
    limit: Callable[[Document], Document] = unchanged
    known: Callable[[Parameters, int], Parameters] = lambda parameters, hosts: parameters
    what_if: str = ""
    redeploy: bool = False


def feeds_at(share: float) -> Callable[[Document], Document]:
    """Less electricity: ``share`` of what the lab's own plan has, on every feed."""

    def limit(plan: Document) -> Document:
        for feed in plan["limits"]["feeds"].values():
            feed["budget_watts"] = round(feed["budget_watts"] * share)
        return plan

    return limit


def boots_at_once(slots: int) -> Callable[[Document], Document]:
    def limit(plan: Document) -> Document:
        plan["limits"]["slots"]["boots"] = slots
        return plan

    return limit


BROKEN = {"dead_bmc": 6, "no_post": 6, "silent_power": 9, "loss": 0.02}


def broken(parameters: Parameters, hosts: int) -> Parameters:
    """The same faults as shares. A packet is lost on its way there or back."""
    return replace(
        parameters,
        dead_bmc_share=BROKEN["dead_bmc"] / hosts,
        no_post_share=BROKEN["no_post"] / hosts,
        silent_power_share=BROKEN["silent_power"] / hosts,
        loss_share=1 - (1 - BROKEN["loss"]) ** 2,
    )


def sound(parameters: Parameters, hosts: int) -> Parameters:
    """Nobody is broken, and that is known; a fit of some hundred hosts cannot tell none from one in a thousand."""
    del hosts
    return replace(
        parameters,
        dead_bmc_share=0.0,
        no_post_share=0.0,
        silent_power_share=0.0,
        busy_share=0.0,
        task_failed_share=0.0,
        dark_share=0.0,
        young_dead_share=None,
        old_dead_share=None,
        epidemics=(),
        storms=(),
    )


def broken_only(parameters: Parameters, hosts: int) -> Parameters:
    return broken(sound(parameters, hosts), hosts)


RECOVERIES = (
    Recovery("plain", "power and boots", 11, known=sound),
    Recovery("faults", "faults and loss", 12, lab=BROKEN, known=broken_only),
    Recovery("power", "70 % power", 13, limit=feeds_at(0.7), known=sound),
    Recovery("slots", "boots twice as slow, 40 at once", 14, {"boot_seconds": (BOOTS[0] * 2, BOOTS[1] * 2)},
             boots_at_once(40), sound, "boot slow 2x"),
    Recovery("redeploy", "with playbooks", 15, known=sound, redeploy=True),
)  # fmt: skip
DRILLS = (
    Recovery("drill", "drill", 1),
    Recovery("drill-redeploy", "drill with playbooks", 2, redeploy=True),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds. ``forecast_at`` and ``run_at``: ISO 8601."""

    name: str
    title: str
    forecast_at: str
    run_at: str
    p10_s: float
    p50_s: float
    p90_s: float
    measured_s: float
    end_p50_s: float
    end_s: float
    load: float

    @property
    def within(self) -> bool:
        return self.p10_s <= self.measured_s <= self.p90_s

    @property
    def error(self) -> float:
        """Of the median, as a share of what was measured."""
        return self.p50_s / self.measured_s - 1


# -- one lab ----------------------------------------------------------------------------------


@contextlib.contextmanager
def running(recovery: Recovery, hosts: int, directory: Path) -> Iterator[Path]:
    """A lab that is up, with its plan limited and its inventory rendered. Its runs stay when it ends."""
    options: dict[str, Any] = {"boot_seconds": BOOTS, "redeploy": recovery.redeploy, **recovery.lab}
    info = control.up(
        LabOptions(hosts=hosts, directory=directory, seed=recovery.seed, lifetime_s=LIFETIME_S, **options)
    )
    try:
        plan = recovery.limit(yaml.safe_load(info.plan.read_text()))
        info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
        bootorch("inventory", "snapshot", str(info.plan))
        yield info.plan
    finally:
        control.down(directory)


def bootorch(*words: str) -> str:
    command = [sys.executable, "-m", "bootorch.app", *words]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode not in (0, 3):  # 3: some hosts were not brought back, as the lab's faults ask for
        raise SystemExit(f"bootorch {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def recover(plan: Path, run_dir: Path) -> tuple[Plan, list[Event]]:
    bootorch("run", str(plan), "--new", "--no-forecast", "--json", "--run-dir", str(run_dir))
    history = Runs().history(run_dir)
    return history.state.plan, list(history.events)


def drill(recovery: Recovery, hosts: int, work: Path) -> Path:
    """Fitted parameters of one recovery."""
    run_dir, fitted = work / f"run-{recovery.name}", work / f"{recovery.name}.yml"
    with running(recovery, hosts, work / recovery.name) as plan:
        began = now()
        _, events = recover(plan, run_dir)
        bootorch("forecast", "--fit", str(run_dir), "-o", str(fitted))
    say(f"{recovery.name}: began {began}, took {max(event.t for event in events):.1f} s; load {os.getloadavg()[0]:.1f}")
    return fitted


def compare(recovery: Recovery, hosts: int, work: Path, fitted: Path, phases: bool) -> Compared:
    parameters = recovery.known(read_parameters(fitted), hosts)
    file = work / f"{recovery.name}.yml"
    file.write_text(write_parameters(parameters))
    with running(recovery, hosts, work / recovery.name) as plan:
        words = ["forecast", str(plan), "--samples", str(SAMPLES), "--seed", str(recovery.seed), "--json"]
        words += ["--parameters", str(file), "--bounds", "0"]
        words += ["--what-if", recovery.what_if] if recovery.what_if else []
        found = json.loads(bootorch(*words))
        forecast_at = now()
        (work / f"{recovery.name}.forecast.json").write_text(json.dumps({"made": forecast_at, **found}) + "\n")
        load = os.getloadavg()[0]
        run_at = now()
        loaded, events = recover(plan, work / f"run-{recovery.name}")
    outcomes = found["what_ifs"][0] if recovery.what_if else found["base"]
    report = Report.of(loaded, events)
    ready = sorted(outcomes["sample_ready_s"])
    if phases and not recovery.what_if:  # a what-if is no part of the parameters
        show_phases(report, loaded, parameters, recovery)
    return Compared(
        recovery.name,
        recovery.title,
        forecast_at,
        run_at,
        quantile(ready, 0.1) or 0.0,
        quantile(ready, 0.5) or 0.0,
        quantile(ready, 0.9) or 0.0,
        max(host.settled_s or 0.0 for host in report.hosts if host.outcome.value in ("ready", "adopted")),
        outcomes["end"]["p50_s"],
        max(host.settled_s or 0.0 for host in report.hosts),
        load,
    )


def show_phases(report: Report, plan: Plan, parameters: Parameters, recovery: Recovery) -> None:
    """Mean seconds of a host in each phase: of the run, and of one simulated run with the same parameters."""
    simulation = Simulation(Engine(plan), World(plan, recovery.seed, parameters))
    events = [*simulation.start(recovery.seed), *simulation.run()]
    simulated = Report.of(plan, events)
    for title, one in (("measured", report), ("simulated", simulated)):
        sums: dict[str, float] = {}
        for host in one.hosts:
            for phase, begun_s, ended_s in host.spans:
                sums[phase.value] = sums.get(phase.value, 0.0) + ended_s - begun_s
        shown = ", ".join(f"{name} {total / len(one.hosts):.2f}" for name, total in sums.items())
        groups = ", ".join(f"{group.passage.name} {group.passage.ready_s or 0:.1f}" for group in one.groups)
        say(f"  {title:9}: {shown}; ready: {groups}")


# -- what is shown ----------------------------------------------------------------------------


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Compared]) -> str:
    head = ("recovery", "P10", "P50", "P90", "measured", "error", "within", "all settled (P50)")
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        times = (f"{value:.1f}" for value in (row.p10_s, row.p50_s, row.p90_s, row.measured_s))
        end = f"{row.end_s:.1f} ({row.end_p50_s:.1f})"
        cells.append((row.title, *times, f"{row.error:+.1%}", "yes" if row.within else "no", end))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=[r.name for r in RECOVERIES], default=[])
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--keep", type=Path, help="a new directory for forecasts, parameters and journals, to be kept")
    parser.add_argument("--phases", action="store_true", help="where the time went, measured and simulated")
    given = parser.parse_args()
    chosen = [r for r in RECOVERIES if not given.only or r.name in given.only]
    with tempfile.TemporaryDirectory(prefix="bootorch-forecast-") as temporary:
        work = given.keep if given.keep else Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        fitted = {
            d.redeploy: drill(d, given.hosts, work) for d in DRILLS if any(r.redeploy == d.redeploy for r in chosen)
        }
        rows = []
        for recovery in chosen:
            rows.append(compare(recovery, given.hosts, work, fitted[recovery.redeploy], given.phases))
            say(table(rows[-1:]))
    print(f"{given.hosts} hosts; seconds to the last ready host; {SAMPLES} samples each")
    print(table(rows))
    within, error = sum(row.within for row in rows), median(abs(row.error) for row in rows)
    print(f"within P10 to P90: {within} of {len(rows)}; median error {error:.1%}")
    if given.json:
        figures = [{**asdict(row), "within": row.within, "error": row.error} for row in rows]
        given.json.write_text(json.dumps({"hosts": given.hosts, "recoveries": figures}, indent=1) + "\n")
    return 0 if within >= min(WITHIN_LEAST, len(rows)) and error < ERROR_MOST else 1


if __name__ == "__main__":
    sys.exit(main())
