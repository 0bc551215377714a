"""What the commands do: ask the services, make the view's value, write it in the form that was asked for."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bootorch.core.errors import Exit, OperatorError, Problem, SafetyRefusal, ToolError
from bootorch.core.model import Environment
from bootorch.ui.lines import Lines, hosts, say
from bootorch.ui.services import History, LoadRequest, Observer, ResumeRequest, RunRequest, RunResult, Services

if TYPE_CHECKING:
    from bootorch.core.report import Report

PAGE = "report.html"  # written into a run's directory at its end
RECORD = "report.json"


def print_json(value: Mapping[str, Any]) -> None:
    """One document on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def show_error(error: OperatorError, *, as_json: bool) -> None:
    """Every problem with its place and remedy: for people on stderr, with ``--json`` on stdout too."""
    from bootorch.ui.planview import problems

    page = Lines()
    problems(error.problems, page, "error")
    page.write(sys.stderr)
    if as_json:
        print_error(error.problems, error.exit_code)


def print_error(problems: Iterable[Problem], exit_code: Exit) -> None:
    """The document of a command that did nothing, on stdout."""
    from bootorch.ui.planview import problem_json

    found = [problem_json(problem) for problem in problems]
    print_json({"schema": "bootorch.error/1", "exit_code": int(exit_code), "problems": found})


def login_name() -> str:
    """Who is at the keyboard; the number of the user where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid {os.getuid()}"


def at_terminal() -> bool:
    """A person sits there and sees what happens: a run may wait for a word."""
    return sys.stdin.isatty() and sys.stderr.isatty()


# -- plan ---------------------------------------------------------------------


def show_plan(
    services: Services, request: LoadRequest, *, as_json: bool, detailed: bool, dark: Sequence[str] = ()
) -> int:
    from bootorch.ui import planview

    view = services.plan(request)
    if dark:
        from bootorch.core.partial import with_dark

        view = dataclasses.replace(view, plan=with_dark(view.plan, dark))
    if as_json:
        print_json(planview.to_json(view))
    else:
        planview.lines(view, quoted(request.plan)).write(sys.stdout)
    if detailed and not _nothing_to_do(services, request.plan, view.plan.digest):
        return int(Exit.INVALID)  # 2, as terraform's -detailed-exitcode: there is something to do
    return int(Exit.OK)


def _nothing_to_do(services: Services, plan: Path, digest: str) -> bool:
    """The latest run of exactly this plan has ended, over all its hosts, and every one of them is ready."""
    try:
        history = services.history(plan)
    except OperatorError:
        return False  # no run, or none that can be read: then there is something to do
    state = history.state
    same = state.plan.digest == digest and bool(state.ended) and not history.running
    return same and all(host.outcome in ("ready", "adopted") for host in state.hosts.values())


# -- runs ---------------------------------------------------------------------


def dry_run(services: Services, request: RunRequest, *, events: str, as_json: bool) -> int:
    from bootorch.core.report import Report
    from bootorch.ui import summary

    with _observer(events, quiet=True) as observer:
        result = services.dry_run(request, observer)
    report = Report.of(result.state.plan, result.events, simulated=True)
    if as_json:
        print_json(report.to_json())
    else:
        page = summary.timetable(report)
        summary.outcomes(report, page)
        summary.totals(report, page, f"bootorch run {quoted(request.load.plan)}")
        page.write(_summary_stream(events))
    return int(result.exit_code)


def run(services: Services, request: RunRequest, *, events: str, as_json: bool) -> int:
    confirmed = _confirm(services, request)
    with _observer(events, quiet=False) as observer:
        result = services.run(confirmed, observer)
    return _finish(result, events=events, as_json=as_json)


def resume(services: Services, request: ResumeRequest, *, events: str, as_json: bool) -> int:
    """A run that a process holds is told to go on; else this process goes on with it."""
    if not request.take_over and (living := services.living(request.target)) is not None:
        from bootorch.ui import changecommands

        return changecommands.go_on(services, request, living, as_json=as_json)
    with _observer(events, quiet=False) as observer:
        result = services.resume(request, observer)
    return _finish(result, events=events, as_json=as_json)


def _confirm(services: Services, request: RunRequest) -> RunRequest:
    """Production's power needs the typed plan name. Asked for at a terminal; a script passes ``--confirm``."""
    if request.confirm or not at_terminal():
        return request
    plan = services.plan(request.load).plan
    if plan.environment is not Environment.PRODUCTION:
        return request
    limit = "" if request.limit is None else f" (limited to {request.limit!r})"
    say(("production: ", "bold red"), f"this switches on up to {hosts(len(plan.hosts))} of plan ", (plan.name, "bold"))
    sys.stderr.write(f"type the plan's name to go on{limit}: ")
    sys.stderr.flush()
    try:
        typed = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        typed = ""
    if typed != plan.name:
        remedy = f"type {plan.name} when asked, or give --confirm {plan.name}"
        raise SafetyRefusal(Problem("the plan's name was not typed; nothing was sent", plan.name, remedy))
    return dataclasses.replace(request, confirm=typed)


def _finish(result: RunResult, *, events: str, as_json: bool) -> int:
    from bootorch.core.report import Report
    from bootorch.ui import summary

    report = Report.of(result.state.plan, result.events)
    where = _keep(report, result)
    if as_json:
        print_json(report.to_json())
    else:
        page = summary.lines(report, next_command(result, report))
        page.write(_summary_stream(events))
    if result.mirror:
        say(("mirror: ", "dim"), result.mirror)
    if where is not None:
        say(("report: ", "dim"), str(where))
    return int(result.exit_code)


def _keep(report: Report, result: RunResult) -> Path | None:
    """The page and the record in the run's directory, if the services have not written theirs. A full disk is no
    reason to lose the run's exit code: it is said, and the journal has everything."""
    if result.report is not None or result.run_dir is None:
        return result.report
    from bootorch.ui.html import page

    try:
        (result.run_dir / RECORD).write_text(json.dumps(report.to_json(), ensure_ascii=False), encoding="utf-8")
        (result.run_dir / PAGE).write_text(page(report), encoding="utf-8")
    except OSError as error:
        say(("warning: ", "yellow"), f"the report was not written: {error}")
        return None
    return result.run_dir / PAGE


def next_command(result: RunResult, report: Report) -> str:
    """The command that most likely comes next."""
    if result.run_dir is None:
        return ""
    where = quoted(result.run_dir)
    if result.exit_code is Exit.STOPPED:
        closed = [gate.name for gate in report.gates if gate.opened_s is None]
        if feed := _waited_for(report):
            return f"bootorch resume {where} --returned {feed}"
        if report.choices:
            return f"bootorch resume {where} --set 'choose {report.choices[0].group} HOST'"
        if result.state.tripped:
            return f"bootorch resume {where} --reset-breakers"
        if closed:
            return f"bootorch resume {where} --approve {shlex.quote(closed[0])}=PERSON"
        return f"bootorch report {where}"
    if result.exit_code is Exit.INTERRUPTED:
        return f"bootorch resume {where}"
    if report.verdict == "aborted":
        return f"bootorch resume {where} --set retry"
    return f"bootorch report {where}"


# -- records ---------------------------------------------------------------------


def show_status(services: Services, target: Path, *, as_json: bool) -> None:
    from bootorch.ui import status

    found = services.status(target)
    if as_json:
        print_json(status.to_json(found))
    else:
        status.lines(found).write(sys.stdout)


def show_report(services: Services, target: Path, *, html: Path | None, as_json: bool) -> None:
    from bootorch.core.report import Report
    from bootorch.ui import summary

    history = services.history(target)
    report = Report.of(history.state.plan, history.events)
    if html is not None:
        from bootorch.ui.html import page

        try:
            html.write_text(page(report), encoding="utf-8")
        except OSError as error:
            raise ToolError(
                Problem(f"cannot write the page: {error.strerror}", str(html), "choose another file")
            ) from error
        say(("report: ", "dim"), str(html))
    if as_json:
        print_json(report.to_json())
    elif html is None:
        summary.lines(report, _next_for(history, report)).write(sys.stdout)


def _next_for(history: History, report: Report) -> str:
    where = quoted(history.run_dir)
    if history.running:
        return f"bootorch status {where}"
    if report.verdict == "aborted":
        return f"bootorch resume {where} --set retry"
    if report.done:
        return f"bootorch report {where} --html report.html"
    feed = _waited_for(report)
    return f"bootorch resume {where}" + (f" --returned {feed}" if feed else "")


def _waited_for(report: Report) -> str:
    """The first dark feed that hosts wait for, as an argument; empty: none."""
    return next((shlex.quote(feed.feed) for feed in report.dark if feed.hosts), "")


# -- streams ---------------------------------------------------------------------


@contextmanager
def _observer(events: str, *, quiet: bool) -> Iterator[Observer]:
    """Who watches the run: the screen or a log on stderr, and the stream of events where one is asked for."""
    from bootorch.ui.lines import coloured
    from bootorch.ui.progress import Both, EventStream, PlainProgress

    with ExitStack() as stack:
        observers: list[Observer] = []
        if events == "-":
            observers.append(EventStream(sys.stdout))
        elif events:
            try:
                file = stack.enter_context(Path(events).open("w", encoding="utf-8"))
            except OSError as error:
                problem = Problem(f"cannot be written: {error.strerror}", events, "choose another file for --events")
                raise ToolError(problem) from error
            observers.append(EventStream(file))
        if quiet:
            pass
        elif coloured(sys.stderr):
            from bootorch.ui.live import LiveProgress

            observers.append(stack.enter_context(LiveProgress(sys.stderr)))
        else:
            observers.append(stack.enter_context(PlainProgress(sys.stderr)))
        yield Both(observers)


def _summary_stream(events: str) -> TextIO:
    """Where the summary goes: stdout, unless that is taken by the events."""
    return sys.stderr if events == "-" else sys.stdout


def quoted(path: Path) -> str:
    return shlex.quote(str(path))
