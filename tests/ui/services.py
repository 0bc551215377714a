"""Services over the tests' world: the real engine, journalled in memory. What the composition root does, small."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bootorch.core import words
from bootorch.core.changes import Changes
from bootorch.core.errors import Exit, InvalidInput, Problem, SafetyRefusal
from bootorch.core.events import Event
from bootorch.core.model import Environment
from bootorch.core.plan import Plan
from bootorch.core.state import State
from bootorch.core.words import Order
from bootorch.runtime.keeper import Keeper
from bootorch.ui.services import (
    Answered,
    History,
    LoadRequest,
    Observer,
    PlanView,
    ResumeRequest,
    RunRequest,
    RunResult,
    Status,
)
from tests.ui.world import World


@dataclass
class WorldServices:
    world: World
    directory: Path
    warnings: tuple[Problem, ...] = ()
    asked: list[object] = field(default_factory=list)
    latest: History | None = None
    going_on: tuple[str, ...] = ()  # names of runs that go on
    said: list[Event] = field(default_factory=list)
    deaf: bool = False  # the process that runs it does not answer

    def plan(self, request: LoadRequest) -> PlanView:
        self.asked.append(request)
        if not request.plan.exists():
            raise InvalidInput(
                [
                    Problem("no such file", str(request.plan), "name a plan file"),
                    Problem("no BMC address", "hosts.yml:7", "set bmc_address", ("web02", "web01", "web03")),
                ]
            )
        return PlanView(self._plan, self.warnings, "snapshot of 2026-02-28")

    @property
    def _plan(self) -> Plan:
        return self.world.plan

    def schema(self) -> Mapping[str, object]:
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}

    def snapshot(self, request: LoadRequest) -> tuple[Path, str]:
        self.asked.append(request)
        return self.directory / "plan.snapshot", "60 hosts of 1 source"

    def run(self, request: RunRequest, observer: Observer) -> RunResult:
        self.asked.append(request)
        if self._plan.environment is Environment.PRODUCTION and request.confirm != self._plan.name:
            raise SafetyRefusal(Problem("production needs the plan's name", "--confirm", "give --confirm NAME"))
        return self._go(observer, self.directory)

    def dry_run(self, request: RunRequest, observer: Observer) -> RunResult:
        self.asked.append(request)
        return self._go(observer, None)

    def resume(self, request: ResumeRequest, observer: Observer) -> RunResult:
        self.asked.append(request)
        return self._go(observer, self.directory)

    def _go(self, observer: Observer, run_dir: Path | None) -> RunResult:
        events = replace(self.world).run()  # a world of its own for each run
        state = State(self._plan)
        for batch in batches(events):
            for event in batch:
                state.fold(event)
            observer.on_events(batch, state)
        if run_dir is not None:
            self.latest = History(state, events, run_dir, running=False)
        outcomes = {host.outcome for host in state.hosts.values()}
        code = Exit.STOPPED if None in outcomes else Exit.OK if outcomes <= {"ready", "adopted"} else Exit.INCOMPLETE
        return RunResult(code, state, events, run_dir)

    def status(self, target: Path) -> Status:
        history = self.history(target)
        state = State(self._plan)
        keeper = Keeper(state)
        for event in history.events:
            state.fold(event)
            keeper.tell([event])
            keeper.changes.fold(event)
        document = json.loads(keeper.due(0.0, last=True) or "")
        return Status(document, history.run_dir, history.running, len(history.events), 0, 1_700_000_000.0)

    def history(self, target: Path) -> History:
        if self.latest is None:
            raise InvalidInput(Problem("no run is there", str(target), "name a run's directory or its plan"))
        return self.latest

    def journal(self, target: Path) -> Path:
        return target

    def living(self, target: Path) -> Path | None:
        return self.directory / self.going_on[0] if self.going_on else None

    def running(self, directory: Path) -> Sequence[Path]:
        return [directory / name for name in self.going_on]

    def change(self, target: Path, order: Order) -> Answered:
        """As the real one, with a running process that takes what it hears at once, or never."""
        self.asked.append((target, order))
        changes = Changes.of(self._plan, self.said)
        event = words.event(order, changes, lambda pattern: fnmatch.filter(self._plan.hosts, pattern))
        if already := words.check(event, changes):
            return Answered(target, "already", already)
        if self.deaf:
            return Answered(target, "left", f"left for the process that runs {target}", event)
        self.said.append(event)
        changes.fold(event)
        return Answered(target, "effective", words.effect(event, changes, {"hall-a": 12000.0}), event)


def batches(events: Sequence[Event]) -> list[list[Event]]:
    """Events of the same moment together, as a runner commits them."""
    found: list[list[Event]] = []
    for event in events:
        if not found or found[-1][0].t != event.t:
            found.append([])
        found[-1].append(event)
    return found
