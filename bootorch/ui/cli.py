"""The command line. Data goes to stdout, talk to stderr; totals and the next command come last.

``build`` makes the application from services (see ``services``); ``run`` turns what went wrong into words and exit
codes. Only typer is loaded at the top, the rest inside the commands: ``--help`` does not wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from bootorch import __version__
from bootorch.core.errors import Exit, InvalidInput, OperatorError, Problem
from bootorch.ui.logs import LogFormat, LogLevel

if TYPE_CHECKING:
    from bootorch.ui.services import Services

Extra = Callable[[typer.Typer], None]  # adds commands of another package to the application

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.")]
Target = Annotated[
    Path, typer.Argument(metavar="TARGET", help="A run's directory or journal, or a plan: its latest run.")
]
VaultFile = Annotated[
    Path | None,
    typer.Option("--vault-password-file", metavar="FILE", help="The ansible-vault password (mode 0600)."),
]
Stale = Annotated[bool, typer.Option("--allow-stale", help="Use a snapshot although its sources have changed since.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Approve = Annotated[
    list[str] | None,
    typer.Option("--approve", metavar="GATE=PERSON", help="PERSON attests this gate. May be given again."),
]
MirrorDir = Annotated[
    Path | None,
    typer.Option("--mirror", metavar="DIR", help="Keep a copy of the journal up to date there, on another disk."),
]
NoWait = Annotated[bool, typer.Option("--no-wait-gates", help="Stop (exit 4) when only an unanswered gate is left.")]
World = Annotated[
    Path | None,
    typer.Option(
        "--parameters",
        metavar="FILE",
        help="What the simulated world is like, of a dry run and of the estimate while a run goes on (forecast --fit).",
    ),
]
NoForecast = Annotated[bool, typer.Option("--no-forecast", help="Renew no estimate of the end while it goes on.")]
Stay = Annotated[
    bool | None,
    typer.Option(
        "--stay/--no-stay",
        help="A paused run waits for `resume`, or ends with exit 5; waits at a terminal unless said otherwise.",
    ),
]
Confirm = Annotated[
    str, typer.Option("--confirm", metavar="NAME", help="The plan's name: needed where power is production's.")
]
Events = Annotated[
    str, typer.Option("--events", metavar="FILE", help="Write every event as a line of JSON; - is stdout.")
]
By = Annotated[str, typer.Option("--by", metavar="PERSON", help="Who says so; your login name if not given.")]


@dataclass(frozen=True, slots=True)
class _Settings:
    log_format: LogFormat
    log_level: LogLevel


def _logs(context: typer.Context) -> None:
    """Set logs up; only for commands that talk to the world, because structlog takes its time to load."""
    from bootorch.ui.logs import configure

    settings: _Settings = context.obj
    configure(settings.log_format, settings.log_level)


def build(services: Services, extras: Sequence[Extra] = ()) -> typer.Typer:
    """The application. ``extras`` add commands of packages that views may not import, such as the lab's."""
    app = _typer("Brings a dark data centre back: powers servers on in dependency order, proves each boot, redeploys.")
    _global_options(app)
    _plan_commands(app, services)
    _run_commands(app, services)
    _record_commands(app, services)
    _change_commands(app, services)
    for extra in extras:
        extra(app)

    @app.command()
    def version() -> None:
        """Print the version."""
        typer.echo(__version__)

    return app


def _typer(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _global_options(app: typer.Typer) -> None:
    @app.callback()
    def options(
        context: typer.Context,
        log_format: Annotated[LogFormat, typer.Option(help="How logs look on stderr.")] = LogFormat.CONSOLE,
        log_level: Annotated[LogLevel, typer.Option(help="The least important log worth a line.")] = LogLevel.WARNING,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        del debug, version  # --debug is read by ``main``, where the error arrives
        context.obj = _Settings(log_format, log_level)


def _plan_commands(app: typer.Typer, services: Services) -> None:
    inventory = _typer("The inventory that plans are made of.")
    app.add_typer(inventory, name="inventory")

    @app.command()
    def plan(
        plan: PlanPath,
        vault_password_file: VaultFile = None,
        allow_stale: Stale = False,
        dark: Annotated[
            list[str] | None,
            typer.Option("--dark", metavar="FEED", help="As if this feed were dark. May be given again."),
        ] = None,
        json: Json = False,
        detailed_exitcode: Annotated[
            bool,
            typer.Option(
                "--detailed-exitcode",
                help="Exit 0 when the latest run of exactly this plan left nothing to do, 2 when there is something.",
            ),
        ] = False,
    ) -> None:
        """Check a plan and show its waves, what each group waits for, limits, gates and warnings. Sends nothing."""
        from bootorch.ui import commands
        from bootorch.ui.services import LoadRequest

        request = LoadRequest(plan, vault_password_file, allow_stale)
        raise typer.Exit(
            commands.show_plan(services, request, as_json=json, detailed=detailed_exitcode, dark=dark or ())
        )

    @inventory.command()
    def snapshot(plan: PlanPath, vault_password_file: VaultFile = None) -> None:
        """Render the plan's inventory once into a file beside it: what a run reads when everything is dark."""
        from bootorch.ui.services import LoadRequest

        path, what = services.snapshot(LoadRequest(plan, vault_password_file))
        typer.echo(path)
        typer.echo(what, err=True)

    @app.command()
    def schema() -> None:
        """Print the JSON Schema of plan files, for editors."""
        from bootorch.ui import commands

        commands.print_json(services.schema())


def _run_commands(app: typer.Typer, services: Services) -> None:
    @app.command()
    def run(
        context: typer.Context,
        plan: PlanPath,
        dry_run: Annotated[
            bool,
            typer.Option("--dry-run", help="The same engine in a simulated world and virtual time. Sends nothing."),
        ] = False,
        limit: Annotated[
            str | None, typer.Option(metavar="PATTERN", help="Only these hosts (an Ansible host pattern).")
        ] = None,
        confirm: Confirm = "",
        seed: Annotated[int, typer.Option(help="Seed of jitter and of the simulated world.")] = 0,
        new: Annotated[bool, typer.Option("--new", help="Begin anew although a run of this plan can go on.")] = False,
        run_dir: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Where the run is kept; runs/ beside the plan if not given.")
        ] = None,
        mirror: MirrorDir = None,
        approve: Approve = None,
        dark: Annotated[
            list[str] | None,
            typer.Option(
                "--dark", metavar="FEED", help="A feed without electricity: its hosts wait. May be given again."
            ),
        ] = None,
        no_wait_gates: NoWait = False,
        stay: Stay = None,
        no_forecast: NoForecast = False,
        parameters: World = None,
        events: Events = "",
        json: Json = False,
        by: By = "",
        vault_password_file: VaultFile = None,
        allow_stale: Stale = False,
    ) -> None:
        """Power on, prove and redeploy what the plan says, in dependency order."""
        from bootorch.ui import commands
        from bootorch.ui.services import LoadRequest, RunRequest

        request = RunRequest(
            load=LoadRequest(plan, vault_password_file, allow_stale),
            limit=limit,
            confirm=confirm,
            seed=seed,
            new=new,
            run_dir=run_dir,
            mirror=mirror,
            approve=_approvals(approve),
            dark=tuple(dark or ()),
            wait_gates=not no_wait_gates,
            stay=commands.at_terminal() if stay is None else stay,
            forecast=not no_forecast,
            parameters=parameters,
            by=by or commands.login_name(),
        )
        _one_document(json, events)
        if dry_run:
            code = commands.dry_run(services, request, events=events, as_json=json)
        else:
            _logs(context)
            code = commands.run(services, request, events=events, as_json=json)
        raise typer.Exit(code)

    @app.command()
    def resume(
        context: typer.Context,
        target: Target,
        confirm: Confirm = "",
        reset_breakers: Annotated[
            bool, typer.Option("--reset-breakers", help="Forgive the failures that tripped a breaker.")
        ] = False,
        mirror: MirrorDir = None,
        approve: Approve = None,
        setting: Annotated[
            list[str] | None,
            typer.Option(
                "--set", metavar="WORDS", help="Said first: 'feed hall-a 300kW', 'slot image_server 100', 'retry web'."
            ),
        ] = None,
        returned: Annotated[
            list[str] | None, typer.Option("--returned", metavar="FEED", help="This feed has electricity again.")
        ] = None,
        lost: Annotated[
            list[str] | None, typer.Option("--lost", metavar="FEED", help="This feed is without electricity.")
        ] = None,
        take_over: Annotated[
            bool,
            typer.Option(
                "--take-over", help="From a process that may still live: one that hangs, or one of another machine."
            ),
        ] = False,
        why: Annotated[str, typer.Option(help="Why: of what is said with it, and of going on.")] = "",
        no_wait_gates: NoWait = False,
        stay: Stay = None,
        no_forecast: NoForecast = False,
        parameters: World = None,
        events: Events = "",
        json: Json = False,
        by: By = "",
        vault_password_file: VaultFile = None,
    ) -> None:
        """Go on with a run that was paused, interrupted or stopped: in its own process where that still lives."""
        from bootorch.ui import changecommands, commands
        from bootorch.ui.services import ResumeRequest

        request = ResumeRequest(
            target=target,
            vault_password_file=vault_password_file,
            confirm=confirm,
            reset_breakers=reset_breakers,
            mirror=mirror,
            approve=_approvals(approve),
            orders=changecommands.orders(setting, returned, lost, by or commands.login_name(), why),
            take_over=take_over,
            why=why,
            wait_gates=not no_wait_gates,
            stay=commands.at_terminal() if stay is None else stay,
            forecast=not no_forecast,
            parameters=parameters,
            by=by or commands.login_name(),
        )
        _one_document(json, events)
        _logs(context)
        raise typer.Exit(commands.resume(services, request, events=events, as_json=json))


def _record_commands(app: typer.Typer, services: Services) -> None:
    @app.command()
    def status(target: Target, json: Json = False) -> None:
        """Show where a run stands."""
        from bootorch.ui import commands

        commands.show_status(services, target, as_json=json)

    @app.command()
    def report(
        target: Target,
        html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page to this file.")] = None,
        json: Json = False,
    ) -> None:
        """Report on a run: outcomes, causes, retries, critical path, power."""
        from bootorch.ui import commands

        commands.show_report(services, target, html=html, as_json=json)


def _change_commands(app: typer.Typer, services: Services) -> None:
    from bootorch.ui import changecommands, journalcommands

    changecommands.add(app, services, _typer)
    journalcommands.add(app, services, _typer)


def _approvals(given: list[str] | None) -> dict[str, str]:
    approvals: dict[str, str] = {}
    for words in given or ():
        gate, _, person = words.partition("=")
        if not gate.strip() or not person.strip():
            remedy = "write the gate's name, an equals sign and the person: --approve stable-power=kim"
            raise InvalidInput(Problem(f"{words!r} names no gate and person", "--approve", remedy))
        approvals[gate.strip()] = person.strip()
    return approvals


def _one_document(as_json: bool, events: str) -> None:
    if as_json and events == "-":
        raise InvalidInput(
            Problem("both want stdout", "--json and --events -", "write the events to a file: --events run.ndjson")
        )


def main(services: Services, argv: Sequence[str] | None = None, extras: Sequence[Extra] = ()) -> int:
    """Run one command line (of this process, if none is given) and return its exit code."""
    return run(lambda: build(services, extras), list(sys.argv[1:] if argv is None else argv))


def power(add: Extra, words: Sequence[str]) -> int:
    """As ``main``, for a command line that begins with ``power``: nothing else is declared, nothing else is loaded."""

    def build_power() -> typer.Typer:
        app = _typer("Brings a dark data centre back.")
        _global_options(app)
        add(app)
        return app

    return run(build_power, words)


def run(application: Callable[[], typer.Typer], words: Sequence[str]) -> int:
    """Run a command line of an application and return its exit code.

    What goes wrong for the operator is said on stderr, every problem at once, and as JSON on stdout where ``--json``
    was asked for. A mistake of ours goes to ``sys.excepthook``: a short message, and the traceback with ``--debug``.
    """
    if "--debug" not in words:
        sys.excepthook = _unexpected
    try:
        # Not through typer.Typer.__call__, which puts its own excepthook in place.
        typer.main.get_command(application())(args=list(words), prog_name="bootorch")
    except OperatorError as error:
        from bootorch.ui import commands

        commands.show_error(error, as_json="--json" in words)
        if "--detailed-exitcode" in words:
            return int(Exit.TOOL_ERROR)  # there, 2 says that something is to be done
        return int(error.exit_code)
    except SystemExit as leaving:
        # What typer has shown on stderr: an option that is none, a number out of range.
        message = getattr(leaving.__context__, "format_message", None)
        if "--json" in words and message is not None:
            from bootorch.ui import commands

            commands.print_error([Problem(message())], Exit.INVALID)
        return leaving.code if isinstance(leaving.code, int) else int(Exit.OK)
    return int(Exit.OK)


def _unexpected(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Python leaves with 1 (``Exit.TOOL_ERROR``) after this."""
    del traceback
    if issubclass(kind, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return
    typer.echo(f"error: unexpected {kind.__name__}: {error}", err=True)
    typer.echo("  remedy: this is a fault of bootorch; run it again with --debug and report what it prints", err=True)
