"""``bootorch forecast``: of a plan from its beginning, of a run from where it stands; and parameters from runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootorch.core.errors import Exit, InvalidInput, Problem, ToolError
from bootorch.ui.lines import Lines, say
from bootorch.ui.services import History, Services

if TYPE_CHECKING:
    from bootorch.core.forecast import Forecast
    from bootorch.core.whatif import WhatIf
    from bootorch.ops.forecast import Options
    from bootorch.sim.parameters import Parameters

SAMPLES = 20


OWN = "the plan's own parameters"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for. ``start``: as written; empty: not given."""

    target: Path
    samples: int = SAMPLES
    seed: int = 0
    what_ifs: tuple[str, ...] = ()
    parameters: Path | None = None
    limit: str | None = None
    dark: tuple[str, ...] = ()
    start: str = ""
    jobs: int = 0  # 0: as many as there are cores
    bounds: int | None = None


def add_to(app: typer.Typer, services: Services) -> None:
    """Add the command to the application."""

    @app.command()
    def forecast(
        targets: Annotated[
            list[Path],
            typer.Argument(
                metavar="PLAN|RUN...", help="A plan file, or a run's directory or journal; several to --fit."
            ),
        ],
        samples: Annotated[int, typer.Option(min=1, help="Simulated runs, each with a seed of its own.")] = SAMPLES,
        seed: Annotated[int, typer.Option(help="Decides every sample.")] = 0,
        what_if: Annotated[
            list[str] | None,
            typer.Option("--what-if", metavar="CHANGES", help="Another world beside it, e.g. 'feed hall-a 60%'."),
        ] = None,
        parameters: Annotated[
            Path | None, typer.Option(metavar="FILE", help="What the world is like, such as --fit writes.")
        ] = None,
        limit: Annotated[
            str | None, typer.Option(metavar="PATTERN", help="Only these hosts (an Ansible host pattern).")
        ] = None,
        dark: Annotated[
            list[str] | None, typer.Option(metavar="FEED", help="This feed has no electricity. May be given again.")
        ] = None,
        start: Annotated[str, typer.Option(metavar="TIME", help="When the run begins: 14:00, now, or ISO 8601.")] = "",
        json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
        html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page to this file.")] = None,
        jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one for each core.")] = 0,
        bounds: Annotated[
            int | None, typer.Option(min=0, help="Samples to reckon the lower bound of; few if not given.")
        ] = None,
        child: Annotated[bool, typer.Option("--child", hidden=True, help="End with the parent process.")] = False,
        fit: Annotated[
            bool, typer.Option("--fit", help="Fit the world's parameters from these runs' journals.")
        ] = False,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where --fit writes the parameters.")
        ] = None,
    ) -> None:
        """When is what back? The engine of real runs over simulated worlds, many times. Sends nothing."""
        if child:
            from bootorch.ops.forks import end_with_parent

            end_with_parent()
        if fit or output is not None:
            if not fit or output is None:
                problem = Problem("--fit and -o FILE belong together", "", "bootorch forecast --fit RUN... -o FILE")
                raise InvalidInput(problem)
            fit_runs(services, targets, output)
            return
        if len(targets) != 1:
            remedy = "give one plan or run; several runs are for --fit"
            raise InvalidInput(Problem(f"{len(targets)} targets: a forecast is of one", "", remedy))
        request = Request(
            targets[0], samples, seed, tuple(what_if or ()), parameters, limit, tuple(dark or ()), start, jobs, bounds
        )
        raise typer.Exit(show(services, request, as_json=json, html=html))


def show(services: Services, request: Request, *, as_json: bool, html: Path | None) -> int:
    """Make the forecast and show it. Exit 4 where most samples cannot be finished, as the run would end."""
    from bootorch.ui import commands, forecastview

    found = make(services, request)
    if html is not None:
        from bootorch.ui.forecastpage import page

        try:
            html.write_text(page(found), encoding="utf-8")
        except OSError as error:
            problem = Problem(f"cannot write the page: {error.strerror}", str(html), "choose another file")
            raise ToolError(problem) from error
        say(("forecast: ", "dim"), str(html))
    if as_json:
        commands.print_json(forecastview.to_json(found))
    else:
        forecastview.lines(found, _next(request, found)).write(sys.stdout)
    return int(Exit.STOPPED if found.base.unfinished * 2 > found.samples else Exit.OK)


def _next(request: Request, found: Forecast) -> str:
    where = shlex.quote(str(request.target))
    return f"bootorch status {where}" if found.run_id else f"bootorch run --dry-run {where}"


def make(services: Services, request: Request) -> Forecast:
    """The forecast that a request asks for. Everything that is wrong with the request is said at once."""
    from bootorch.core.errors import OperatorError
    from bootorch.core.whatif import parse
    from bootorch.runtime.rundir import find_journal

    found: list[Problem] = []
    what_ifs: list[WhatIf] = []
    for text in request.what_ifs:
        try:
            what_ifs.append(parse(text))
        except InvalidInput as error:
            found += error.problems
    now = datetime.now().astimezone()
    start = ""
    try:
        start = start_of(request.start, now)
    except InvalidInput as error:
        found += error.problems
    parameters = None
    try:
        parameters = read_world(request.parameters)
    except OperatorError as error:
        found += error.problems
    if parameters is None or found:
        raise InvalidInput(found)
    if find_journal(request.target) is not None:
        return _of_run(services, request, what_ifs, parameters, now)
    return _of_plan(request, what_ifs, parameters, start)


def _of_plan(request: Request, what_ifs: Sequence[WhatIf], parameters: Parameters, start: str) -> Forecast:
    from bootorch.ops.forecast import Options, forecast_plan
    from bootorch.runtime.load import load_plan, no_collection, select_limit

    with no_collection():
        # Nothing is sent, so a snapshot that has aged is worth a word and no refusal.
        loaded = load_plan(request.target, require_snapshot=True, allow_stale=True)
        selected = select_limit(loaded, request.limit)
        notes = tuple(problem.message for problem in loaded.warnings) if loaded.changes else ()
        options = _options(Options(), request, what_ifs)
        if request.parameters is None and loaded.parameters_text:
            parameters = own_world(loaded.parameters_text, loaded.spec.parameters)
            options = replace(options, parameters_file=loaded.spec.parameters)
        options = replace(options, limit=request.limit or "", selected=selected, start=start, notes=notes)
        return forecast_plan(loaded.plan, parameters, options)


def _of_run(
    services: Services, request: Request, what_ifs: Sequence[WhatIf], parameters: Parameters, now: datetime
) -> Forecast:
    from bootorch.ops.forecast import Options, Stand, forecast_run

    refused = [
        Problem(f"{option} is for a plan: a run has begun already", option, remedy)
        for given, option, remedy in (
            (request.limit is not None, "--limit", "the forecast keeps the run's own limit"),
            (bool(request.dark), "--dark", "write --what-if 'feed NAME lost'"),
            (request.start not in ("", "now"), "--start", "the forecast of a run begins now"),
        )
        if given
    ]
    if refused:
        raise InvalidInput(refused)
    history = services.history(request.target)
    now_s = now_of(history)
    begun = (now - timedelta(seconds=now_s)).isoformat(timespec="seconds")
    options = replace(_options(Options(), request, what_ifs), start=begun, notes=_notes(history))
    if request.parameters is None and history.parameters_text:
        parameters = own_world(history.parameters_text, OWN)
        options = replace(options, parameters_file=OWN)
    return forecast_run(history.state.plan, Stand(history.events, now_s), parameters, options)


def _options(usual: Options, request: Request, what_ifs: Sequence[WhatIf]) -> Options:
    from bootorch.ops.forks import cores

    return replace(
        usual,
        samples=request.samples,
        seed=request.seed,
        jobs=request.jobs or cores(),
        bounds=request.bounds,
        what_ifs=tuple(what_ifs),
        dark=request.dark,
        parameters_file=str(request.parameters or ""),
    )


def _notes(history: History) -> tuple[str, ...]:
    return () if history.running else ("no process runs it now: the forecast is of a resume at this moment",)


def now_of(history: History) -> float:
    """The run time of this moment: that of the journal's last event, and while a process runs it, what has gone by
    since that was written."""
    from bootorch.runtime.journal import Journal, Moment
    from bootorch.runtime.rundir import JOURNAL

    t = max((event.t for event in history.events), default=0.0)
    if not history.running:
        return t
    with Journal.open(history.run_dir / JOURNAL, readonly=True) as journal:
        last = journal.last_moment()
    return t if last is None else t + max(0.0, Moment.now().boot_s - last.boot_s)


def start_of(text: str, now: datetime) -> str:
    """``--start`` as ISO 8601 with offset. A time of day is the next one, today's while it is yet to come.

    >>> from datetime import UTC
    >>> start_of("14:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    '2026-03-01T14:00:00+00:00'
    """
    words = text.strip()
    if not words:
        return ""
    if words == "now":
        return now.isoformat(timespec="seconds")
    try:
        if len(words) <= 5:
            at = datetime.strptime(words, "%H:%M")
            when = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
            return (when if when >= now.replace(second=0, microsecond=0) else when + timedelta(days=1)).isoformat()
        found = datetime.fromisoformat(words)
    except ValueError:
        remedy = "write 14:00, now, or 2026-03-01T14:00+09:00"
        raise InvalidInput(Problem(f"{text!r} is no time", "--start", remedy)) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=now.tzinfo)).isoformat(timespec="seconds")


# -- the world's parameters ---------------------------------------------------------------------


def read_world(path: Path | None) -> Parameters:
    """The parameters of a file, or those of the field. Raises InvalidInput for a file that holds none."""
    from bootorch.sim.parameters import FIELD

    if path is None:
        return FIELD
    from bootorch.runtime.parameterfile import read_parameters

    return read_parameters(path)


def own_world(text: str, name: str) -> Parameters:
    """The parameters that the plan itself names: what its drills have shown."""
    from bootorch.runtime.parameterfile import parse_parameters

    return parse_parameters(text, name)


def fit_runs(services: Services, targets: Sequence[Path], output: Path) -> None:
    """Fit the parameters from the journals of runs, and write them where ``forecast --parameters`` reads them."""
    from bootorch.runtime.parameterfile import write_parameters
    from bootorch.sim.fit import fit
    from bootorch.sim.parameters import FIELD

    histories = [services.history(target) for target in targets]
    fitted = fit([(history.state.plan, history.events) for history in histories], FIELD)
    try:
        output.write_text(write_parameters(fitted.parameters), encoding="utf-8")
    except OSError as error:
        problem = Problem(f"cannot write the parameters: {error.strerror}", str(output), "choose another file")
        raise ToolError(problem) from error
    page = Lines()
    samples = fitted.parameters.samples.items()
    page.table([(name, f"{count:,} samples") for name, count in samples], right=(1,))
    page.add(f"fitted from {len(histories)} run{'' if len(histories) == 1 else 's'}: ", (str(output), "bold"))
    page.add(("next: ", "dim"), f"bootorch forecast PLAN --parameters {shlex.quote(str(output))}")
    page.write(sys.stdout)
