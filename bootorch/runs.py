"""Plans and runs put together: the only place that chooses real or simulated for them, and that knows every layer.

Implements ``ui.services.Services``. Heavy parts (pydantic, asyncssh, cryptography) load in the methods that need them,
so that ``bootorch --help`` does not wait for what it does not use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bootorch.core.errors import Exit, InvalidInput, Problem
from bootorch.core.model import Environment, Outcome
from bootorch.core.reasons import Reason
from bootorch.ops import refusals
from bootorch.ui.services import (
    Answered,
    History,
    LoadRequest,
    Observer,
    OutlookObserver,
    PlanView,
    ResumeRequest,
    RunRequest,
    RunResult,
    Status,
)

if TYPE_CHECKING:
    from bootorch.core.changes import Change
    from bootorch.core.engine import Engine
    from bootorch.core.events import Event
    from bootorch.core.plan import Plan
    from bootorch.core.state import State
    from bootorch.core.words import Order, Select
    from bootorch.runtime.executor import Drivers
    from bootorch.runtime.journal import Journal, Moment
    from bootorch.runtime.keeper import Keeper
    from bootorch.runtime.lease import Holder, Lease
    from bootorch.runtime.load import LoadedPlan
    from bootorch.runtime.mirror import Mirror
    from bootorch.runtime.secrets import Secrets

ANSWER_S = 3.0  # how long a command waits for the running process, which looks for words four times a second

# What a journal keeps besides its events: enough to load the same plan on another machine.
_PLAN, _PLAN_PATH, _SNAPSHOT = "plan", "plan_path", "snapshot"
_MACHINE_BOOT = "machine_boot"  # where there was no lease yet to tell it
_PARAMETERS = "parameters"  # only where the plan names a file of them


class Runs:
    """The services, over the real world or the simulated one."""

    # -- before a run ---------------------------------------------------------------

    def plan(self, request: LoadRequest) -> PlanView:
        loaded = _load(request, require_snapshot=False)
        wants = _wants(loaded)
        return PlanView(loaded.plan, (*loaded.warnings, *wants), _origin(loaded), loaded.from_file)

    def schema(self) -> Mapping[str, object]:
        from bootorch.runtime.planfile import plan_schema

        return plan_schema()

    def snapshot(self, request: LoadRequest) -> tuple[Path, str]:
        from bootorch.runtime import snapshot as snapshots
        from bootorch.runtime.load import find_vault_password_file
        from bootorch.runtime.planfile import read_plan

        spec, _ = read_plan(request.plan)
        snapshot = snapshots.render(spec, find_vault_password_file(request.vault_password_file))
        path = snapshots.snapshot_path(request.plan)
        snapshot.write(path)
        return path, f"{snapshot.host_count:,} hosts, {snapshot.created}"

    # -- runs -------------------------------------------------------------------------

    def dry_run(self, request: RunRequest, observer: Observer) -> RunResult:
        from bootorch.core.engine import Engine
        from bootorch.ops.forecastcommand import read_world
        from bootorch.sim.run import Simulation
        from bootorch.sim.world import CALM, World

        # Nothing is sent, so a snapshot that has aged is worth a warning and no refusal.
        loaded = _load(replace(request.load, allow_stale=True), require_snapshot=True)
        selected = _select(loaded, request.limit)
        dark = _dark(loaded, request)
        world = CALM if request.parameters is None else read_world(request.parameters)
        engine = Engine(loaded.plan)
        simulation = Simulation(engine, World(loaded.plan, request.seed, world))
        events: list[Event] = simulation.start(request.seed, request.limit or "", selected)
        for lost in dark:
            engine.apply(lost)
        events += dark
        observer.on_events(events, engine.state)
        events.extend(simulation.run(lambda batch: observer.on_events(batch, engine.state)))
        observer.on_events(events[-1:], engine.state)
        return RunResult(_exit_code(engine.state), engine.state, events, None)

    def run(self, request: RunRequest, observer: Observer) -> RunResult:
        from secrets import randbits

        from bootorch.core.engine import Engine
        from bootorch.core.events import GateOpened, RunStarted
        from bootorch.runtime.journal import Journal
        from bootorch.runtime.keeper import Keeper
        from bootorch.runtime.lease import driving
        from bootorch.runtime.planfile import read_plan
        from bootorch.runtime.rundir import JOURNAL, discard_empty, new_run_dir

        spec, _ = read_plan(request.load.plan)
        loaded = _load(request.load, require_snapshot=spec.environment is Environment.PRODUCTION)
        plan = loaded.plan
        selected = _select(loaded, request.limit)
        refusals.confirmed(plan, request.confirm)
        refusals.check_gates(plan, request.approve)
        dark = _dark(loaded, request)
        _check_mirror(request.mirror)
        refusals.check_ansible(plan, loaded.spec)
        _secrets(loaded, request.load.vault_password_file).require(plan)
        with ExitStack() as stack:
            directory = new_run_dir(request.load.plan, plan.name, request.run_dir)
            stack.callback(discard_empty, directory)
            # By their BMCs: another plan, or another directory, may have the same hosts.
            stack.enter_context(_site(plan, directory, request.by))
            if not request.new:
                refusals.check_unfinished(request.load.plan, plan.name)
            meta = {
                _PLAN: loaded.plan_text.encode(),
                _PLAN_PATH: str(request.load.plan.absolute()).encode(),
                _SNAPSHOT: loaded.snapshot.content,
            }
            if loaded.parameters_text:
                meta[_PARAMETERS] = loaded.parameters_text.encode()
            journal = stack.enter_context(Journal.create(directory / JOURNAL, meta))
            lease, _ = stack.enter_context(driving(journal, request.by, _wall(), take_over=False, waits=_waits))
            mirror = _mirror(journal, request.mirror, lease)
            engine = Engine(plan)
            started = RunStarted(
                0.0,
                directory.name,
                plan.name,
                plan.digest,
                len(plan.hosts),
                request.seed or randbits(31),
                _wall(),
                request.by,
                request.limit or "",
                selected,
            )
            first: list[Event] = [
                started,
                *(GateOpened(0.0, gate, person) for gate, person in request.approve.items()),
                *dark,
            ]
            for event in first:
                engine.apply(event)
            keeper = Keeper(engine.state, first)
            journal.append(first, status=keeper.due(0.0), guard=lease.renew)
            vault = request.load.vault_password_file
            return self._drive(engine, journal, lease, mirror, loaded, first, observer, request, vault, keeper)

    def resume(self, request: ResumeRequest, observer: Observer) -> RunResult:
        from bootorch.core.changes import FOLDED
        from bootorch.core.engine import Engine
        from bootorch.core.events import GateOpened, Lifted, Retried
        from bootorch.core.recovery import resume
        from bootorch.drivers.redeploy import end_leftovers
        from bootorch.runtime.checkpoint import recover
        from bootorch.runtime.journal import Journal, Moment
        from bootorch.runtime.lease import driving

        path = _journal(request.target, unfinished=True)
        with ExitStack() as stack:
            journal = stack.enter_context(Journal.open(path))
            loaded = _load_from(journal)
            plan = loaded.plan
            refusals.confirmed(plan, request.confirm)
            refusals.check_gates(plan, request.approve)
            refusals.check_ansible(plan, loaded.spec)
            _secrets(loaded, request.vault_password_file).require(plan)
            stack.enter_context(_site(plan, path.parent, request.by))
            lease, taken_from = stack.enter_context(
                driving(journal, request.by, _wall(), take_over=request.take_over, waits=_waits)
            )
            end_leftovers(path.parent)
            refusals.same_plan(plan, journal)
            state = recover(journal, plan).state
            said = _events_of(request.orders, loaded, journal.events(*FOLDED), state)
            if state.ended in refusals.FINISHED and not any(isinstance(event, Retried | Lifted) for event in said):
                where = path.parent
                remedy = f"bootorch report {where}; bootorch resume {where} --set retry tries again what failed"
                ended = "was aborted" if state.ended == "aborted" else "has ended, nothing is left to resume"
                raise InvalidInput(Problem(f"the run {ended}", str(where), remedy))
            mirror = _mirror(journal, request.mirror, lease)
            engine = Engine(plan, state)
            journal.forget_commands()
            gap_s, told_by = _gap_s(journal, lease.before, Moment.now())
            first = resume(
                engine,
                state.t,
                gap_s,
                _wall(),
                request.by,
                reset_breakers=request.reset_breakers,
                told_by=told_by,
                taken_from=taken_from,
                why=request.why,
            )
            for gate, person in request.approve.items():
                opened = GateOpened(state.t, gate, person)
                engine.apply(opened)
                first.append(opened)
            for change in said:
                engine.apply(change)
            first += said
            keeper = _keeper(engine, journal, first)
            journal.append(first, status=keeper.due(state.t), guard=lease.renew)
            vault = request.vault_password_file
            return self._drive(engine, journal, lease, mirror, loaded, first, observer, request, vault, keeper)

    def _drive(
        self,
        engine: Engine,
        journal: Journal,
        lease: Lease,
        mirror: Mirror | None,
        loaded: LoadedPlan,
        first: Sequence[Event],
        observer: Observer,
        request: RunRequest | ResumeRequest,
        vault_password_file: Path | None,
        keeper: Keeper,
    ) -> RunResult:
        import asyncio
        import gc

        from bootorch.core.events import RunEnded
        from bootorch.ops.checkpointer import Checkpointer
        from bootorch.ops.estimator import Estimator, wanted
        from bootorch.runtime.awake import AwakeClock
        from bootorch.runtime.executor import Executor
        from bootorch.runtime.journal import JournalError
        from bootorch.runtime.runner import Runner

        clock = AwakeClock(engine.state.t)

        async def drive() -> str:
            drivers = _drivers(loaded, journal.path.parent, vault_password_file, lease.holds)
            try:
                booting = engine.state.booting()
                executor = Executor(loaded.plan, drivers, engine.state.run_id, booting, lease.holds)
                news = {} if mirror is None else {"news": mirror.news}
                gates, by = request.wait_gates, request.by
                runner = Runner(
                    engine,
                    journal,
                    executor,
                    observer,
                    clock,
                    lease,
                    keeper,
                    wait_gates=gates,
                    stay=request.stay,
                    by=by,
                    select=_selecting(loaded),
                    **news,
                )
                return await runner.run(first)
            finally:
                await drivers.aclose()

        def tell(outlook: str) -> None:
            keeper.foretell(outlook)
            if isinstance(observer, OutlookObserver):
                observer.on_outlook(outlook)

        with ExitStack() as beside:
            if mirror is not None:
                beside.enter_context(mirror)
            if request.forecast and wanted(len(loaded.plan.hosts)):
                beside.enter_context(Estimator(journal.path.parent, tell, request.parameters))
            beside.enter_context(Checkpointer(journal.path))
            # Plan and state live as long as the run: looking through them for garbage costs 100 ms at 32,000 hosts.
            gc.freeze()
            try:
                verdict = asyncio.run(drive())
                if verdict != "interrupted":
                    end = RunEnded(clock(), verdict, _wall())
                    engine.apply(end)
                    keeper.tell([end])
                    journal.append([end], status=keeper.due(end.t, last=True), guard=lease.renew)
                    observer.on_events([end], engine.state)
            except JournalError as error:
                raise (error if mirror is None else mirror.instead(error)) from error
            gc.unfreeze()
        events = list(journal.events())
        code = Exit.INTERRUPTED if verdict == "interrupted" else _exit_code(engine.state)
        words = "" if mirror is None else mirror.lag().words()
        return RunResult(code, engine.state, events, journal.path.parent, mirror=words)

    # -- records and words --------------------------------------------------------------

    def status(self, target: Path) -> Status:
        from bootorch.runtime.journal import Journal
        from bootorch.runtime.rundir import is_held

        path = _journal(target)
        with Journal.open(path, readonly=True) as journal:
            kept = journal.kept()
        if kept is None:
            return _status_of(self.history(target))
        running = is_held(path.parent)
        return Status(kept.document, path.parent, running, kept.event, kept.events - kept.event, kept.wall_s)

    def checkpoint(self, target: Path) -> int:
        from bootorch.runtime import checkpoint
        from bootorch.runtime.journal import Journal

        path = _journal(target)
        with Journal.open(path, readonly=True) as journal:
            plan = _load_from(journal, to_read=True).plan
        return checkpoint.write(path, plan)

    def history(self, target: Path) -> History:
        from bootorch.core.recovery import replay
        from bootorch.runtime.journal import Journal
        from bootorch.runtime.rundir import is_held

        path = _journal(target)
        with Journal.open(path, readonly=True) as journal:
            loaded = _load_from(journal, to_read=True)
            events = list(journal.events())
        state, running = replay(loaded.plan, events), is_held(path.parent)
        return History(state, events, path.parent, running, loaded.parameters_text)

    def journal(self, target: Path) -> Path:
        return _journal(target)

    def living(self, target: Path) -> Path | None:
        from bootorch.runtime.rundir import is_held

        directory = _journal(target, unfinished=True).parent
        return directory if is_held(directory) else None

    def running(self, directory: Path) -> Sequence[Path]:
        from bootorch.runtime.rundir import running

        return running(directory)

    def change(self, target: Path, order: Order) -> Answered:
        from bootorch.core import words
        from bootorch.core.codec import decode
        from bootorch.runtime.journal import Journal
        from bootorch.runtime.rundir import is_held

        path = _journal(target)
        if not is_held(path.parent):
            return _nobody_hears(path, order)
        # The running process has plan, inventory and state in memory: reading them here would take longer than it does.
        with Journal.open(path) as journal:
            ident = journal.say({"order": words.pack(order)})
            give_up = time.monotonic() + ANSWER_S
            held = True
            while (answer := journal.answer(ident)) is None and held and time.monotonic() < give_up:
                time.sleep(0.05)
                held = is_held(path.parent)  # asked first: what it said to the end is read once more
        if answer is None and not held:
            remedy = f"bootorch resume {path.parent} {order.option()}".rstrip()
            raise InvalidInput(
                Problem("the process ended before it took the word; nothing was changed", str(path.parent), remedy)
            )
        if answer is None:
            said = f"left for the process that runs {path.parent}, which has not taken it within {ANSWER_S:g} s"
            return Answered(path.parent, "left", said)
        if "problems" in answer:
            raise InvalidInput(words.unpack_problems(answer["problems"]))
        event = cast("Change", decode(answer["event"])) if "event" in answer else None
        return Answered(path.parent, answer["status"], answer["said"], event)


# -- loading ------------------------------------------------------------------------------


def _load(request: LoadRequest, *, require_snapshot: bool) -> LoadedPlan:
    from bootorch.runtime.load import load_plan

    return load_plan(
        request.plan,
        vault_password_file=request.vault_password_file,
        require_snapshot=require_snapshot,
        allow_stale=request.allow_stale,
    )


def _load_from(journal: Journal, *, to_read: bool = False) -> LoadedPlan:
    from bootorch.runtime.load import load_from_parts

    path, text = Path(journal.meta(_PLAN_PATH).decode()), journal.meta(_PLAN).decode()
    kept = journal.meta(_PARAMETERS).decode() if journal.has_meta(_PARAMETERS) else ""
    snapshot = journal.meta(_SNAPSHOT)
    return load_from_parts(text, path.parent, snapshot, path.name, parameters_text=kept, to_read=to_read)


def _origin(loaded: LoadedPlan) -> str:
    if loaded.from_file:
        return f"snapshot of {loaded.snapshot.created}"
    return "rendered just now through Ansible; no snapshot"


def _select(loaded: LoadedPlan, pattern: str | None) -> tuple[str, ...]:
    from bootorch.runtime.load import select_limit

    return select_limit(loaded, pattern)


def _selecting(loaded: LoadedPlan) -> Select:
    from bootorch.runtime.targets import select_hosts

    return lambda pattern: select_hosts(loaded.inventory, (pattern,))


def _dark(loaded: LoadedPlan, request: RunRequest) -> list[Change]:
    """The feeds that ``--dark`` names, as events of the run's beginning."""
    from bootorch.core.state import State
    from bootorch.core.words import Order

    orders = tuple(Order(("lost", feed), by=request.by, why="dark at the start") for feed in request.dark)
    return _events_of(orders, loaded, (), State(loaded.plan))


def _events_of(orders: Sequence[Order], loaded: LoadedPlan, past: Iterable[Event], state: State) -> list[Change]:
    """Orders that come with a run's start or resume, one on top of the other; what holds already is no event. ``past``:
    what ``Changes`` folds of the events before; ``state``: where they lead to, and where each order finds the run."""
    from bootorch.core import words
    from bootorch.core.changes import Changes

    changes = Changes.of(loaded.plan, past)
    found: list[Change] = []
    problems: list[Problem] = []
    for order in orders:
        try:
            event, already = words.consider(
                replace(words.event(order, changes, _selecting(loaded)), t=state.t), changes, state
            )
            if not already:
                changes.fold(event)
                found.append(event)
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput(problems)
    return found


def _nobody_hears(path: Path, order: Order) -> Answered:
    """What is to be said of an order where no process runs the journal: that it holds already. Raises InvalidInput with
    what is wrong with it, or with how to say it."""
    from bootorch.core import words
    from bootorch.core.changes import FOLDED, Changes
    from bootorch.runtime.journal import Journal

    with Journal.open(path, readonly=True) as journal:
        loaded = _load_from(journal, to_read=True)
        changes = Changes.of(loaded.plan, journal.events(*FOLDED))
        finished = refusals.has_ended(journal)
    if already := words.check(words.event(order, changes, _selecting(loaded)), changes):
        return Answered(path.parent, "already", already)
    again = f"bootorch resume {path.parent} {order.option()}".rstrip()
    reopens = order.words[0] in ("retry", "lift")
    remedy = "bootorch run --new begins another run" if finished and not reopens else again
    raise InvalidInput(Problem("no process runs this journal now; nothing was changed", str(path.parent), remedy))


def _journal(target: Path, *, unfinished: bool = False) -> Path:
    """The journal of a run's directory, of a journal's path, or of a plan's latest (unfinished) run."""
    from bootorch.runtime.rundir import find_journal, journals

    found = find_journal(target)
    if found is not None:
        return found
    from bootorch.runtime.planfile import read_plan

    spec, _ = read_plan(target)
    candidates = journals(target, spec.name)
    if unfinished:
        candidates = [path for path in candidates if not refusals.finished(path)] or candidates
    if not candidates:
        remedy = f"bootorch run {target}, or give the directory of a run"
        raise InvalidInput(Problem(f"no run of plan {spec.name} is kept here", str(target), remedy))
    return candidates[-1]


def _keeper(engine: Engine, journal: Journal, first: Sequence[Event]) -> Keeper:
    """Of a run that goes on: the journal has what its state does not remember. ``first`` is not committed yet."""
    from bootorch.core.events import Kind
    from bootorch.runtime.keeper import REMEMBERED, Keeper

    past = [*journal.events(*REMEMBERED), *first]
    return Keeper(engine.state, past, journal.count(Kind.POWER_ON), journal.count(Kind.POWER_CYCLE))


def _status_of(history: History) -> Status:
    """Of a run whose process kept no status that this version reads: made of all its events."""
    import json

    from bootorch.core.state import State
    from bootorch.runtime.keeper import Keeper

    state = State(history.state.plan)
    keeper = Keeper(state)
    for event in history.events:
        state.advance(event.t)
        state.fold(event)
        keeper.tell([event])
        keeper.changes.fold(event)
    document = json.loads(keeper.due(state.t, last=True) or "{}")
    return Status(document, history.run_dir, history.running, len(history.events), 0, None)


def _wants(loaded: LoadedPlan) -> tuple[Problem, ...]:
    """What the playbooks want that will not be there."""
    from bootorch.runtime.playbookcheck import check_playbooks

    playbooks = [playbook for group in loaded.plan.groups.values() for playbook in group.redeploy]
    addresses = {name: host.address for name, host in loaded.plan.hosts.items()} if playbooks else {}
    return check_playbooks(playbooks, loaded.plan.site, addresses)


def _check_mirror(directory: Path | None) -> None:
    if directory is not None:
        from bootorch.runtime.mirror import check_directory

        check_directory(directory)


def _mirror(journal: Journal, directory: Path | None, lease: Lease) -> Mirror | None:
    if directory is None:
        return None
    from bootorch.runtime.mirror import Mirror

    return Mirror(journal, directory, lease.holds)


# -- the real world ---------------------------------------------------------------------------


def _secrets(loaded: LoadedPlan, vault_password_file: Path | None) -> Secrets:
    from bootorch.runtime.load import find_vault_password_file
    from bootorch.runtime.secrets import Secrets

    return Secrets(find_vault_password_file(vault_password_file), Path(loaded.spec.directory))


def _drivers(loaded: LoadedPlan, run_dir: Path, vault_password_file: Path | None, holds: Callable[[], bool]) -> Drivers:
    from bootorch.drivers.boot_consoles import MOST_WATCHED
    from bootorch.drivers.power_ipmi import IpmiPower
    from bootorch.drivers.reach import Reach
    from bootorch.drivers.redeploy import AnsibleRedeploy
    from bootorch.drivers.redfish import RedfishDraw
    from bootorch.runtime.executor import Drivers
    from bootorch.runtime.load import find_vault_password_file

    site = loaded.plan.site
    known_hosts = Path(loaded.spec.known_hosts) if loaded.spec.known_hosts else None
    redeploy = AnsibleRedeploy(
        site,
        loaded.inventory.hosts,
        loaded.inventory.groups,
        run_dir,
        known_hosts,
        find_vault_password_file(vault_password_file),
        holds,
        mitogen=loaded.spec.mitogen,
    )
    consoles = loaded.plan.limits.slots.get("consoles", MOST_WATCHED)
    secrets, directory = _secrets(loaded, vault_password_file), Path(loaded.spec.directory)
    power = IpmiPower(site, secrets, consoles=consoles, holds=holds)
    redfish = RedfishDraw(site, secrets, secrets, directory)
    return Drivers({"ipmi": power}, Reach(site, known_hosts), redeploy, redfish)


def _wall() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def _site(plan: Plan, run_dir: Path, by: str) -> AbstractContextManager[None]:
    """Nobody else on this machine drives a host of the plan meanwhile. The whole plan, also with --limit: its scope may
    grow under way, and its feeds are one."""
    import os

    from bootorch.runtime import sitelock

    where, ident = str(run_dir.absolute()), sitelock.identity(run_dir)
    owner = sitelock.Owner(f"run {run_dir.name}", os.getpid(), by, _wall(), where, ident)
    bmcs = {sitelock.endpoint(host.bmc.address, host.bmc.port): name for name, host in plan.hosts.items()}
    return sitelock.driving(owner, bmcs)


def _waits(who: str) -> None:
    import structlog

    from bootorch.runtime.lease import LEASE_S, MARGIN_S

    what = f"taken over from {who}: what it had under way may go on for {LEASE_S + MARGIN_S:g} s, and is waited for"
    structlog.get_logger("bootorch.lease").warning(what)


def _gap_s(journal: Journal, before: Holder | None, now: Moment) -> tuple[float, str]:
    """Real time since the journal's last line, and the clock that told it. Within one boot of the machine of the last
    driver (``before``) its boot clock knows; the wall clock may have been wrong after the blackout and is asked only
    when the machine was restarted or is another one."""
    from bootorch.runtime.journal import machine_boot_id

    last = journal.last_moment()
    if last is None:
        return 0.0, "boot"
    if before is not None:
        boot = before.boot
    else:
        boot = journal.meta(_MACHINE_BOOT).decode() if journal.has_meta(_MACHINE_BOOT) else ""
    if boot and boot == machine_boot_id():
        return max(0.0, round(now.boot_s - last.boot_s, 3)), "boot"
    return max(0.0, round(now.wall_s - last.wall_s, 3)), "wall"


def _exit_code(state: State) -> Exit:
    if state.ended == "paused":
        return Exit.INTERRUPTED
    if state.ended == "stopped":
        return Exit.STOPPED
    for _, outcome, reason, _ in state.outcomes():
        # Outside --limit is as it was asked for; what a person left out under way is not what was asked for.
        left_out = outcome is Outcome.SKIPPED and reason is Reason.LIMIT
        if outcome not in (Outcome.READY, Outcome.ADOPTED) and not left_out:
            return Exit.INCOMPLETE
    return Exit.OK
