"""Commands that change a run while it goes on: pause and abort, hosts, gates and breakers, limits, feeds, scope, tiers,
first members.

Every one names the run, or means the one that goes on in the current directory; is checked before it is said; and
waits until the running process has taken it. What they do is in ``core.words`` and ``services.change``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bootorch.core.errors import Exit, InvalidInput, Problem

if TYPE_CHECKING:
    from bootorch.core.words import Order
    from bootorch.ui.services import Answered, ResumeRequest, Services

Run = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="TARGET",
        help="A run's directory or journal, or a plan; if not given, the one that goes on here.",
    ),
]
By = Annotated[str, typer.Option("--by", metavar="PERSON", help="Who says so; your login name if not given.")]
Why = Annotated[
    str, typer.Option("--why", "--reason", metavar="TEXT", help="Why: it goes into the journal and the report.")
]
Target = Annotated[
    Path | None,
    typer.Argument(metavar="[TARGET]", help="A run's directory or journal, or a plan; else the one that goes on here."),
]
Hosts = Annotated[
    str, typer.Argument(metavar="HOSTS", help="A group of the plan, a host pattern, or folded names: web[1-9,12].")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Feed = Annotated[str, typer.Argument(metavar="FEED", help="A feed of the plan, such as hall-b or hall-b/row-3.")]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="A group of the plan.")]


def add(app: typer.Typer, services: Services, make: Callable[[str], typer.Typer]) -> None:
    """Declare the commands. ``make`` makes a sub-application with a help text."""
    gate = make("Named points where a person or a check must say yes.")
    breaker = make("Breakers that have tripped, and hold back what they watch.")
    limit = make("Limits of a run that goes on: budgets, ramps, slots.")
    feed = make("Feeds that are lost and return while a run goes on.")
    scope = make("What belongs to a run that was begun with --limit.")
    tier = make("Who goes first.")
    for name, sub in (
        ("gate", gate),
        ("breaker", breaker),
        ("limit", limit),
        ("feed", feed),
        ("scope", scope),
        ("tier", tier),
    ):
        app.add_typer(sub, name=name)

    def say(words: tuple[str, ...], run: Path | None, by: str, why: str, as_json: bool, **more: str) -> None:
        from bootorch.core.words import Order
        from bootorch.ui import commands

        order = Order(words, by=by or commands.login_name(), why=why, **more)
        raise typer.Exit(_say(services, order, run, as_json=as_json))

    @app.command()
    def pause(run: Target = None, by: By = "", why: Why = "", json: Json = False) -> None:
        """Let what is under way finish and start nothing new; `resume` goes on."""
        say(("pause",), run, by, why, json)

    @app.command()
    def abort(
        run: Target = None,
        now: Annotated[bool, typer.Option("--now", help="Leave what is under way; playbooks are killed.")] = False,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """End the run: every host finishes the stage that it is in and begins no other. Nothing is switched off."""
        say(("abort", "now") if now else ("abort",), run, by, why, json)

    @app.command()
    def retry(
        hosts: Annotated[
            str, typer.Argument(metavar="[HOSTS]", help="As for quarantine; without, every host that has failed.")
        ] = "",
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Try hosts again that failed, from their state read on, and who was blocked because of them."""
        say(("retry", hosts) if hosts else ("retry",), run, by, why, json)

    @app.command()
    def quarantine(
        hosts: Hosts,
        why: Annotated[
            str, typer.Option("--reason", "--why", metavar="TEXT", help="Why: it goes into the journal and the report.")
        ],
        run: Run = None,
        by: By = "",
        json: Json = False,
    ) -> None:
        """Set hosts aside: what is under way for them ends, and nothing more is sent to them."""
        say(("quarantine", hosts), run, by, why, json)

    @app.command()
    def lift(hosts: Hosts, run: Run = None, by: By = "", why: Why = "", json: Json = False) -> None:
        """Take hosts back that were quarantined or skipped: their state is read, and nothing is assumed."""
        say(("lift", hosts), run, by, why, json)

    @app.command()
    def skip(hosts: Hosts, run: Run = None, by: By = "", why: Why = "", json: Json = False) -> None:
        """Leave hosts out of the run that have no outcome yet."""
        say(("skip", hosts), run, by, why, json)

    @gate.command()
    def approve(
        run: Annotated[
            Path, typer.Argument(metavar="TARGET", help="A run's directory or journal, or a plan: its latest run.")
        ],
        name: Annotated[str, typer.Argument(metavar="GATE", help="The gate's name.")],
        by: Annotated[str, typer.Option("--by", metavar="PERSON", help="The person who attests.")],
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Open a gate, in the name of a person."""
        say(("gate", name), run, by, why, json)

    @breaker.command()
    def reset(
        name: Annotated[str, typer.Argument(metavar="[NAME]", help="As status names it; without, all of them.")] = "",
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Forgive the failures that tripped a breaker: what it holds back goes on, and only new failures count."""
        say(("breaker", name) if name else ("breaker",), run, by, why, json)

    # -5kW is a value that is wrong, and no option: the order says so.
    @limit.command("set", context_settings={"ignore_unknown_options": True})
    def limit_set(
        kind: Annotated[str, typer.Argument(metavar="KIND", help="feed or slot.")],
        name: Annotated[str, typer.Argument(metavar="NAME", help="The feed (hall-a, cooling:crac-1) or slot.")],
        value: Annotated[str, typer.Argument(metavar="VALUE", help="300kW for a feed, a number for a slot.")] = "",
        ramp: Annotated[str, typer.Option(metavar="POWER", help="What may be added in a minute: 60kW.")] = "",
        inrush: Annotated[str, typer.Option(metavar="AMPERES", help="Of all hosts switched on in one second.")] = "",
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Give a feed or slot another limit from now on. A lower one switches nothing off: fewer hosts start."""
        for word in (kind, name, value):
            if word.startswith("--"):
                raise InvalidInput(Problem("no such option", word, "bootorch limit set --help shows what there is"))
        say(("limit", kind, name, *((value,) if value else ())), run, by, why, json, ramp=ramp, inrush=inrush)

    @limit.command("show")
    def limit_show(run: Run = None, json: Json = False) -> None:
        """Show the limits as they are now, and what is drawn and used."""
        _show(services, run, as_json=json)

    @feed.command()
    def lost(feed: Feed, run: Run = None, by: By = "", why: Why = "", json: Json = False) -> None:
        """A feed is without electricity: nothing is sent to hosts that hang on it alone until it returns."""
        say(("lost", feed), run, by, why, json)

    @feed.command()
    def returned(feed: Feed, run: Run = None, by: By = "", why: Why = "", json: Json = False) -> None:
        """A lost feed has electricity again: its hosts are looked at anew."""
        say(("returned", feed), run, by, why, json)

    @scope.command("add")
    def scope_add(
        pattern: Annotated[
            str, typer.Argument(metavar="PATTERN", help="A group of the plan, or an Ansible host pattern.")
        ],
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Hosts that are outside --limit belong to the run from now on."""
        say(("scope", pattern), run, by, why, json)

    @tier.command("set")
    def tier_set(
        group: GroupName,
        number: Annotated[str, typer.Argument(metavar="N", help="0 is the most urgent.")],
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Give a group another tier: among what may start, the lowest tier goes first."""
        say(("tier", group, number), run, by, why, json)

    @app.command()
    def choose(
        group: GroupName,
        host: Annotated[str, typer.Argument(metavar="HOST", help="The member that starts first.")],
        run: Run = None,
        by: By = "",
        why: Why = "",
        json: Json = False,
    ) -> None:
        """Name the member of a group that starts first, such as the one with the newest copy of the data."""
        say(("choose", group, host), run, by, why, json)


def orders(
    setting: Iterable[str] | None, returned: Iterable[str] | None, lost: Iterable[str] | None, by: str, why: str
) -> tuple[Order, ...]:
    """What ``resume`` was told with ``--set``, ``--returned`` and ``--lost``. A returned feed comes before a lost one:
    then a part of it can be lost."""
    from bootorch.core.words import Order, parse

    return (
        *(Order(("returned", feed), by=by, why=why) for feed in returned or ()),
        *(Order(("lost", feed), by=by, why=why) for feed in lost or ()),
        *(parse(text, by, why) for text in setting or ()),
    )


def find_run(services: Services, command: str, here: Path) -> Path:
    """The one run that goes on in the directory or one below. InvalidInput names several, with the command to type."""
    found = services.running(here)
    if len(found) == 1:
        return found[0]
    if not found:
        remedy = f"name it: bootorch {command} --run RUN; bootorch resume RUN goes on with one that has stopped"
        raise InvalidInput(Problem("no run goes on in this directory or one below it", str(here), remedy))
    import shlex

    raise InvalidInput(
        Problem("several runs go on here", str(path), f"bootorch {command} --run {shlex.quote(_short(path, here))}")
        for path in found
    )


def _short(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _say(services: Services, order: Order, run: Path | None, *, as_json: bool) -> int:
    target = run if run is not None else find_run(services, order.command(), Path.cwd())
    return say_all(services, (order,), target, as_json=as_json)


def go_on(services: Services, request: ResumeRequest, run: Path, *, as_json: bool) -> int:
    """A process runs the journal: it is told what ``resume`` was told, and then to go on, if it was paused."""
    from bootorch.core.words import Order

    by = request.by
    orders = [
        *(Order(("breaker",), by=by) for _ in range(request.reset_breakers)),
        *(Order(("gate", gate), by=person) for gate, person in request.approve.items()),
        *request.orders,
        Order(("continue",), by=by, why=request.why),
    ]
    code = say_all(services, orders, run, as_json=as_json)
    if code == Exit.INTERRUPTED and not as_json:
        from bootorch.ui.lines import say

        say(("next: ", "dim"), f"where it hangs for good: bootorch resume {run} --take-over --why WHY")
    return code


def say_all(services: Services, orders: Sequence[Order], target: Path, *, as_json: bool) -> int:
    """One after the other, each with its answer; the first that is not taken is the last that is said."""
    from bootorch.ui import commands
    from bootorch.ui.lines import say

    documents = []
    code = Exit.OK
    for order in orders:
        answered = services.change(target, order)
        code = {"refused": Exit.INVALID, "left": Exit.INTERRUPTED}.get(answered.status, Exit.OK)
        if as_json:
            documents.append(to_json(answered, order))
        else:
            style = {"effective": "green", "already": "dim", "refused": "red", "left": "yellow"}[answered.status]
            say((f"{answered.status}: ", style), answered.said)
            if answered.status == "left":
                where = commands.quoted(answered.run_dir)
                say(("next: ", "dim"), f"bootorch status {where} shows whether it took effect")
        if code is not Exit.OK:
            break
    if as_json:
        # One document: the last word, with those before it that made the way.
        commands.print_json({**documents[-1], **({"before": documents[:-1]} if len(documents) > 1 else {})})
    return int(code)


def to_json(answered: Answered, order: Order) -> dict[str, Any]:
    """The document of a change. ``event`` is what has come of it in the journal; null where nothing has (yet)."""
    import json

    from bootorch.core.codec import encode

    return {
        "schema": "bootorch.change/1",
        "run_dir": str(answered.run_dir),
        "status": answered.status,
        "said": answered.said,
        "by": order.by,
        "why": order.why,
        "event": None if answered.event is None else json.loads(encode(answered.event)),
    }


def _show(services: Services, run: Path | None, *, as_json: bool) -> None:
    import sys

    from bootorch.core.report import Report
    from bootorch.ui import commands, standing

    target = run if run is not None else find_run(services, "limit show", Path.cwd())
    history = services.history(target)
    report = Report.of(history.state.plan, history.events)
    if as_json:
        head = {"schema": "bootorch.limits/1", "run_dir": str(history.run_dir), "running": history.running}
        commands.print_json({**head, **standing.to_json(report)})
    else:
        standing.lines(report).write(sys.stdout)
