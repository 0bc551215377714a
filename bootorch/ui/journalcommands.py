"""``bootorch journal``: verify, export and tail, which only read, and cut."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootorch.core.errors import Exit, Problem, SafetyRefusal

if TYPE_CHECKING:
    from bootorch.runtime.chain import Row
    from bootorch.runtime.journal import Journal
    from bootorch.ui.services import Services

FOLLOW_S = 0.25

Target = Annotated[
    Path, typer.Argument(metavar="TARGET", help="A run's directory or journal, or a plan: its latest run.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def add(app: typer.Typer, services: Services, make: Callable[[str], typer.Typer]) -> None:
    """Declare the commands. ``make`` makes a sub-application with a help text."""
    journal = make("The record of a run: check it, read it, cut off a torn end.")
    app.add_typer(journal, name="journal")

    @journal.command()
    def verify(target: Target, json: Json = False) -> None:
        """Check every event, its hash and the file. Exit 0: it is what was written; 2: it is not."""
        from bootorch.runtime.audit import audit
        from bootorch.ui import commands, journalview

        found = audit(services.journal(target))
        if json:
            commands.print_json(journalview.audit_json(found))
        else:
            journalview.audited(found).write(sys.stdout)
        raise typer.Exit(int(Exit.OK if found.whole else Exit.INVALID))

    @journal.command()
    def export(
        target: Target,
        after: Annotated[int, typer.Option(min=0, metavar="N", help="Only events after number N.")] = 0,
    ) -> None:
        """Write every event as a line of JSON, with its number, time and hash, checked on the way."""
        from bootorch.runtime.journal import Journal
        from bootorch.ui import journalview

        with Journal.open(services.journal(target), readonly=True) as opened, _reader_may_leave():
            for page in opened.checked(after):
                sys.stdout.write("".join(f"{journalview.record(row)}\n" for row in page))
            sys.stdout.flush()

    @journal.command()
    def tail(
        target: Target,
        lines: Annotated[int, typer.Option("-n", "--lines", min=0, metavar="N", help="How many events.")] = 20,
        follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run's process ends.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Lines of JSON, as export writes them.")] = False,
    ) -> None:
        """Show the latest events."""
        from bootorch.runtime.journal import Journal

        path = services.journal(target)
        with Journal.open(path, readonly=True) as opened, _reader_may_leave():
            last = opened.tail().seq
            for page in _pages(opened, max(0, last - lines), path.parent if follow else None):
                _show(opened, page, as_json=json)

    @journal.command()
    def cut(
        target: Target,
        confirm: Annotated[
            int, typer.Option(min=0, metavar="N", help="The number of the first event that goes, as verify says.")
        ] = 0,
        by: Annotated[str, typer.Option("--by", metavar="PERSON", help="Who says so.")] = "",
        why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why: it goes into the journal.")] = "",
    ) -> None:
        """Give up the torn end of a damaged journal, so that the run can be resumed. The damaged one is kept beside."""
        from bootorch.runtime import audit
        from bootorch.ui import commands
        from bootorch.ui.lines import say

        path = services.journal(target)
        if not confirm:
            raise _unconfirmed(path)
        lost, kept = audit.cut(path, confirm, by or commands.login_name(), why)
        say(
            ("cut: ", "yellow"), f"{lost:,} {'event' if lost == 1 else 'events'}; the damaged journal is kept as {kept}"
        )
        say(("next: ", "dim"), f"bootorch resume {commands.quoted(path.parent)}")


def _unconfirmed(path: Path) -> SafetyRefusal:
    from bootorch.runtime.audit import audit
    from bootorch.ui import journalview

    found = audit(path)
    if found.whole:
        return SafetyRefusal(Problem("the journal is whole; nothing was cut", str(path), "bootorch resume goes on"))
    what = found.damage.what if found.damage is not None else "; ".join(found.complaints) or "it cannot be read"
    return SafetyRefusal(Problem(f"{what}; nothing was cut", str(path), journalview.remedy(found)))


def _pages(journal: Journal, after: int, run_dir: Path | None) -> Iterator[list[Row]]:
    """Events after number ``after``; with ``run_dir`` also those that come while a process holds it."""
    from bootorch.runtime.rundir import is_held

    while True:
        held = run_dir is not None and is_held(run_dir)  # before the look: what it wrote at its end is seen
        for page in journal.checked(after):
            yield page
            after = page[-1][0]
        if not held:
            return
        time.sleep(FOLLOW_S)


def _show(journal: Journal, page: list[Row], *, as_json: bool) -> None:
    from bootorch.ui import journalview
    from bootorch.ui.lines import Lines

    if as_json:
        sys.stdout.write("".join(f"{journalview.record(row)}\n" for row in page))
        sys.stdout.flush()
        return
    lines = Lines()
    for row in page:
        lines.add(*journalview.line(row, journal.decoded(row[0], row[1])))
    lines.write(sys.stdout)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """``| head`` and Ctrl-C end it in silence: nothing was changed."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, sys.stdout.fileno())  # what is still in the buffer would fail again when Python ends
        os.close(nowhere)
    except KeyboardInterrupt:
        return
