"""Forecasts: the engine of real runs over simulated worlds, in virtual time, again and again with other seeds.

``forecast_plan`` looks ahead from the beginning of a run, ``forecast_run`` from where one stands. Sample ``i`` depends
on the seed and ``i`` only, never on how many processes shared the work; every what-if uses the same seeds as the base.
"""

from __future__ import annotations

import gc
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heappush

from bootorch.core.dependencies import Status
from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import Chosen, Event, FeedLost, FeedReturned, GateOpened, RunResumed, RunStarted
from bootorch.core.forecast import Forecast, Outcomes
from bootorch.core.gauge import Gauge, Sample
from bootorch.core.plan import Plan
from bootorch.core.recovery import replay
from bootorch.core.state import State
from bootorch.core.whatif import (
    BootSlow,
    Chance,
    Change,
    FeedOutage,
    ModelDead,
    ShareChange,
    WhatIf,
    apply,
    happenings,
    held_gates,
    outages,
)
from bootorch.ops.forks import share_out
from bootorch.sim.bounds import lower_bound
from bootorch.sim.conditioned import condition, remaining
from bootorch.sim.parameters import ModelParameters, Parameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

MOST_SAMPLES = 10_000
MOST_S = 30 * 86_400.0  # of virtual time: a run that still polls after a month will poll for ever
SMALL = 5_000  # hosts of a plan whose lower bound is a matter of a second
STATES_KEPT = 500_000  # hosts of all worlds together, at some 3 KB each
LARGE = 10_000  # hosts of a plan that takes a noticeable time to be taken apart: 0.2 s; a million take 24
BY = "forecast"


@dataclass(frozen=True, slots=True)
class Options:
    samples: int = 20
    seed: int = 0
    jobs: int = 1
    bounds: int | None = None  # samples of each world that the lower bound is reckoned for; None: see ``usual_bounds``
    what_ifs: Sequence[WhatIf] = ()
    dark: Sequence[str] = ()
    limit: str = ""
    selected: tuple[str, ...] = ()  # the hosts that ``limit`` means
    start: str = ""  # see core.forecast.Forecast
    parameters_file: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stand:
    """Where a run stands: its events, and what time of the run it is now (the last event may be a while ago)."""

    events: Sequence[Event]
    now: float


@dataclass(frozen=True)
class Scenario:
    """One world to sample: the plan as it is, or as a what-if has it. ``state``: where its run stands (``running``), or
    where each sample begins, made once and used up by each sample in a process of its own."""

    plan: Plan
    parameters: Parameters
    options: Options
    what: WhatIf = field(default_factory=lambda: WhatIf("", ()))
    state: State | None = None
    running: bool = False
    now: float = 0.0
    outages: tuple[Event, ...] = ()  # of that run: feeds lost and returned


# -- what to forecast ---------------------------------------------------------------------


def forecast_plan(plan: Plan, parameters: Parameters, options: Options) -> Forecast:
    """From the beginning. Raises InvalidInput with everything in the options that the plan does not have."""
    return _forecast(plan, parameters, options, None)


def forecast_run(plan: Plan, stand: Stand, parameters: Parameters, options: Options) -> Forecast:
    """From where the run stands. Raises InvalidInput where nothing is left to forecast."""
    if not any(isinstance(event, RunStarted) for event in stand.events):
        raise InvalidInput(Problem("the journal holds no run", "", "bootorch forecast PLAN looks ahead from the start"))
    if stand.now < max((event.t for event in stand.events), default=0.0):
        raise ValueError("now is before the run's last event")
    return _forecast(plan, parameters, options, stand)


def _forecast(plan: Plan, parameters: Parameters, options: Options, stand: Stand | None) -> Forecast:
    if not 1 <= options.samples <= MOST_SAMPLES:
        remedy = "20 samples give a usable P90; 1 is one run"
        raise InvalidInput(Problem(f"{options.samples} samples: between 1 and {MOST_SAMPLES:,}", "--samples", remedy))
    worlds = [WhatIf("", ()), *options.what_ifs]
    scenarios = _scenarios(plan, parameters, options, stand, worlds)
    first = scenarios[0]
    if first.running and first.state is not None and not first.state.unsettled:
        remedy = "bootorch report shows how it ended"
        raise InvalidInput(Problem("every host of the run has its outcome: nothing is left to forecast", "", remedy))
    tasks = [(number, index) for number in range(len(scenarios)) for index in range(options.samples)]
    open_gates = dict(first.state.gates_open) if first.state is not None else {}  # a sample uses the state up
    alone = None
    large = len(plan.hosts) >= LARGE
    with _frozen(shared=len(tasks) > 1, for_good=large):
        if len(tasks) == 1:  # here: a process of its own would copy every page of the plan that it counts references on
            alone = Sampling(first, 0)
            samples = [alone.sample()]
        else:
            samples = share_out(tasks, lambda task: Sampling(scenarios[task[0]], task[1]).sample(), options.jobs)
        if large:
            leave(scenarios, alone)
    outcomes = [
        _outcomes(scenario, samples[number * options.samples : (number + 1) * options.samples])
        for number, scenario in enumerate(scenarios)
    ]
    started = next((event for event in stand.events if isinstance(event, RunStarted)), None) if stand else None
    asked = tuple(group.name for group in plan.groups.values() if group.first is not None and group.first.ask)
    return Forecast(
        plan=plan.name,
        environment=plan.environment,
        digest=plan.digest,
        hosts=len(plan.hosts),
        seed=options.seed,
        base=outcomes[0],
        what_ifs=tuple(outcomes[1:]),
        run_id=started.run_id if started is not None else "",
        began_s=first.now,
        start=options.start,
        limit=started.limit if started is not None else options.limit,
        dark=tuple(options.dark),
        gates=tuple(gate.name for gate in plan.gates.values() if gate.ask and gate.name not in open_gates),
        firsts=asked,
        parameters=options.parameters_file,
        notes=options.notes,
    )


def _scenarios(
    plan: Plan, parameters: Parameters, options: Options, stand: Stand | None, worlds: Sequence[WhatIf]
) -> list[Scenario]:
    """One for each world; every name that the plan does not have is said at once."""
    found: list[Problem] = []
    scenarios: list[Scenario] = []
    dark: tuple[Change, ...] = ()
    try:
        dark = outages(options.dark, plan)
    except InvalidInput as error:
        found += error.problems
    for what in worlds:
        try:
            changed = apply(what, plan)
        except InvalidInput as error:
            found += error.problems
            continue
        state = replay(changed, stand.events) if stand is not None else None
        if state is None and options.samples > 1 and len(plan.hosts) * len(worlds) <= STATES_KEPT:
            state = State(changed)
        imagined = imagine(parameters, what)
        now = stand.now if stand is not None else 0.0
        what = replace(what, changes=(*dark, *what.changes))
        outage = [event for event in stand.events if isinstance(event, FeedLost | FeedReturned)] if stand else []
        scenarios.append(Scenario(changed, imagined, options, what, state, stand is not None, now, tuple(outage)))
    if found:
        raise InvalidInput(found)
    return scenarios


def _outcomes(scenario: Scenario, samples: Iterable[Sample]) -> Outcomes:
    plan = scenario.plan
    found = tuple(samples)
    budgets = {name: plan.limits.feeds[name].budget_watts or 0.0 for name in found[0].feeds}
    tiers = {name: group.tier for name, group in plan.groups.items()}
    return Outcomes(scenario.what.text, found, tiers, budgets)


# -- one sample ---------------------------------------------------------------------


def usual_bounds(hosts: int, samples: int) -> int:
    """How many lower bounds are worth their time: one costs as much as a sample or two, and they differ little."""
    if hosts <= SMALL:
        return 3
    return 1 if samples > 1 else 0


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample ``index``: independent of all others, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"forecast {seed} {index}".encode()).digest()[:4], "big") >> 1


class Sampling:
    """One simulated run of a scenario. Uses the scenario's state up: one of them per process where there is one."""

    def __init__(self, scenario: Scenario, index: int) -> None:
        self._scenario = scenario
        self._index = index
        self._seed = sample_seed(scenario.options.seed, index)
        self._engine = _Measured(scenario.plan, scenario.state)
        self._world = World(scenario.plan, self._seed, scenario.parameters)

    def sample(self) -> Sample:
        """Run to the end, and measured."""
        scenario, engine, world, seed = self._scenario, self._engine, self._world, self._seed
        if scenario.running:
            for event in scenario.outages:
                _electricity(world, event)
            condition(world, engine.state, scenario.now, seed)
        wanted = scenario.options.bounds
        if wanted is None:
            wanted = usual_bounds(len(scenario.plan.hosts), scenario.options.samples)
        bound = _bound(scenario, world) if self._index < wanted else None
        trial = _Trial(engine, world, happenings(scenario.what, scenario.now))
        held = held_gates(scenario.what)
        if scenario.running:
            trial.go_on(scenario.now, held)
        else:
            trial.begin(seed, scenario.options, held)
        measured = engine.gauge.measure(seed, trial.to_the_end())
        return measured if bound is None else measured.with_bound(*bound)


class _Measured(Engine):
    """The engine, looked at after each of its decisions."""

    def __init__(self, plan: Plan, state: State | None) -> None:
        super().__init__(plan, state)
        self.gauge = Gauge(self.state, self.held_back)

    def decide(self, now: float) -> list[Event]:
        decided = super().decide(now)
        self.gauge.look(now, decided)
        return decided


class _Trial(Simulation):
    """A simulation that may begin in the middle, and to which things happen from outside."""

    def begin(self, seed: int, options: Options, held: frozenset[str]) -> None:
        plan = self.engine.plan
        self.engine.apply(
            RunStarted(
                self.now,
                BY,
                plan.name,
                plan.digest,
                len(plan.hosts),
                seed,
                options.start,
                BY,
                options.limit,
                options.selected,
            )
        )
        self._open_gates(held)
        self._at_once()

    def go_on(self, now: float, held: frozenset[str]) -> None:
        """From a replayed state: what was under way goes on, what waits is looked at again."""
        self.now = max(self.now, now)
        for intent in self.engine.state.open.values():
            heappush(self._under_way, (remaining(self.world, intent, self.now), intent.id, intent))
        self.engine.apply(RunResumed(self.now, 0.0, "", BY))
        self._open_gates(held)
        self._at_once()

    def _at_once(self) -> None:
        """What happens as it begins comes before the first decision."""
        self._choose()
        while self._script and self._script[-1].t <= self.now:
            self.say(self._script.pop())

    def _choose(self) -> bool:
        """Where a person names the first member: the first by name that is still to come. False: nobody was asked."""
        chosen = False
        for group, leader in self.engine.state.dependencies.leaders.items():
            if leader.ask and not leader.chosen and leader.status is Status.PENDING:
                for name in leader.members:
                    if name not in leader.settled:
                        self.engine.apply(Chosen(self.now, group, name, BY))
                        chosen = True
                        break
        return chosen

    def _open_gates(self, held: frozenset[str]) -> None:
        for gate in self.engine.plan.gates.values():
            if gate.ask and gate.name not in held and gate.name not in self.engine.state.gates_open:
                self.engine.apply(GateOpened(self.now, gate.name, BY))

    def to_the_end(self) -> str:
        """Run until nothing moves any more; how it ends: ``done``, ``stopped``, ``paused``, ``endless``."""
        state, step = self.engine.state, self.step
        while True:
            before = self.now
            moved = step()
            # The verdict costs more than a step's glance at what it depends on.
            if (not state.unsettled or state.paused or not state.open) and (verdict := self.verdict()):
                if verdict == "stopped" and self._choose():
                    continue
                return verdict
            if self.now > MOST_S or (not moved and self.now == before and self.engine.idle):
                return "endless"


def _electricity(world: World, event: Event) -> None:
    """What an event does to the world's feeds."""
    match event:
        case FeedLost():
            world.power_lost(event.feed, event.t)
        case FeedReturned():
            world.power_returned(event.feed, event.t)
        case _:
            pass


# -- the world as a what-if has it ---------------------------------------------------------------------


def imagine(parameters: Parameters, what: WhatIf) -> Parameters:
    """The parameters as a what-if changes them."""
    for change in what.changes:
        match change:
            case ShareChange(what=Chance.BMC_DEAD, share=share):
                parameters = replace(parameters, dead_bmc_share=share)
            case ShareChange(what=Chance.BOOT_DEAD, share=share):
                # Of all hosts, whatever their age.
                parameters = replace(parameters, no_post_share=share, young_dead_share=None, old_dead_share=None)
            case ShareChange(what=Chance.POWER_SILENT, share=share):
                parameters = replace(parameters, silent_power_share=share)
            case ShareChange(what=Chance.ON, share=share):
                parameters = replace(parameters, on_share=share)
            case BootSlow(factor=factor):
                parameters = _slower(parameters, factor)
            case ModelDead(model=model, share=share):
                own = replace(parameters.models.get(model, ModelParameters()), dead_share=share)
                parameters = replace(parameters, models={**parameters.models, model: own})
            case _:
                pass
    return parameters


def _slower(parameters: Parameters, factor: float) -> Parameters:
    models = {
        name: own if own.boot is None else replace(own, boot=own.boot.scaled(factor))
        for name, own in parameters.models.items()
    }
    return replace(
        parameters,
        boot=parameters.boot.scaled(factor),
        tail=parameters.tail.scaled(factor),
        models=models,
        hosts={name: seconds * factor for name, seconds in parameters.hosts.items()},
    )


def _bound(scenario: Scenario, world: World) -> tuple[float, str] | None:
    """The least that this world's recovery can take, and what says so. None where part of the plan does not take part,
    or none can ever end."""
    plan, what = scenario.plan, scenario.what
    partial = scenario.options.selected or any(limit.dark for limit in plan.limits.feeds.values())
    if scenario.running or partial or any(isinstance(change, FeedOutage) for change in what.changes):
        return None
    bound = lower_bound(plan, world.durations(), thorough=len(plan.hosts) <= SMALL)
    if not math.isfinite(bound.seconds):
        return None
    detail = f" ({bound.binding.detail})" if bound.binding.detail else ""
    return bound.seconds, bound.binding.what + detail


@contextmanager
def _frozen(*, shared: bool, for_good: bool) -> Iterator[None]:
    """Nothing of the plan becomes garbage, and a sample makes little: looking for it costs a third of the time, and
    writes to every page that forked processes share (``shared``). ``for_good``: the process is about to end, and to
    look through what there is would take seconds."""
    enabled = gc.isenabled()
    if shared:
        gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not for_good:
            gc.unfreeze()
            if enabled:
                gc.enable()


def leave(*things: object) -> None:
    """Not to be taken apart, object by object, when nobody uses them any more: the process is about to end, and the
    system takes its memory at once (as clang leaves its own, ``-disable-free``)."""
    kept = list(things)
    kept.append(kept)  # a circle: only the collector could free it
    gc.freeze()  # and it does not look there
