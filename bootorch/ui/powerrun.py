"""A power command from its options to its exit code: targets, a word of confirmation, the work, what is said."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from bootorch.core.errors import Exit, InvalidInput, OperatorError, Problem, SafetyRefusal, ToolError
from bootorch.core.reasons import Reason
from bootorch.runtime.targets import Selection, Target
from bootorch.ui import powerview
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import coloured
from bootorch.ui.powerservices import Limits, PowerServices, Request, Row, Verb

# What takes running servers down; more than one of them needs the typed count.
_DISRUPTIVE = {
    Verb.OFF: "power off",
    Verb.SOFT: "shut down",
    Verb.CYCLE: "power-cycle",
    Verb.RESET: "reset",
}
_MOST_CHARS = 400  # of folded names in a line of talk; data is never cut
_REDRAW_S = 0.1


class _Interrupted(OperatorError):
    """^C before anything was sent: exit 5."""

    exit_code = Exit.INTERRUPTED


def run(services: PowerServices, request: Request, selection: Selection, limits: Limits, *, as_json: bool) -> int:
    """Exit code: 0 all answered and did it, 3 some did not, 5 interrupted. Raises ``OperatorError`` kinds before any
    packet: 2 for what cannot be understood, 5 for ^C, 6 for what was not confirmed. ToolError where results cannot be
    written; a reader that has left (``| head``) is no error, and the code is that of the work."""
    try:
        targets = services.targets(selection, _ask_password if sys.stdin.isatty() else None)
    except KeyboardInterrupt:
        raise _Interrupted(Problem("interrupted; nothing was sent")) from None
    if request.verb is Verb.CONSOLE:
        return _console(services, request, targets, limits, as_json=as_json)
    _confirm(request, targets)
    begun = time.monotonic()
    rows: dict[str, Row] = {}
    interrupted = False
    with_progress = _Progress(len(targets), rows) if len(targets) > 1 and coloured(sys.stderr) else None

    def ended(row: Row) -> None:
        rows[row.target] = row
        if with_progress is not None:
            with_progress.show()

    try:
        with _termination_is_ctrl_c():
            services.perform(request, targets, limits, ended)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if with_progress is not None:
            with_progress.clear()
    elapsed_s = time.monotonic() - begun
    in_order = [rows.get(target.name) or _unfinished(target.name, elapsed_s) for target in targets]
    _show(request, in_order, elapsed_s, as_json=as_json)
    if interrupted:
        return int(Exit.INTERRUPTED)
    return int(Exit.OK if all(row.reason is Reason.OK for row in in_order) else Exit.INCOMPLETE)


def _show(request: Request, rows: Sequence[Row], elapsed_s: float, *, as_json: bool) -> None:
    if as_json:
        _write(sys.stdout, powerview.document(request.verb, rows, elapsed_s))
    else:
        _write(sys.stdout, powerview.listing(rows, colour=coloured(sys.stdout)))
        _write(sys.stderr, powerview.advices(rows) + powerview.totals(rows, elapsed_s))


def _write(stream: TextIO, text: str) -> None:
    """Also where nobody reads any more: what was asked of the BMCs is done all the same, and the exit code tells it."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # What is still in the buffer would fail again when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            message = f"the results cannot be written: {error.strerror}; the BMCs had been asked"
            remedy = "free some space or choose another place; read the status before any order is repeated"
            raise ToolError(Problem(message, stream.name, remedy)) from error


@contextmanager
def _termination_is_ctrl_c() -> Iterator[None]:
    """SIGTERM (``timeout 60 bootorch power …``) ends like ^C: what had ended is told."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unfinished(name: str, elapsed_s: float) -> Row:
    return Row(name, "", Reason.INTERRUPTED, "ended before it answered", 0, elapsed_s)


def _confirm(request: Request, targets: Sequence[Target]) -> None:
    """What takes more than one server down needs their number, typed or given."""
    what, count = _DISRUPTIVE.get(request.verb), len(targets)
    if what is None:
        return
    if request.confirm is not None:
        if request.confirm != count:
            message = f"--confirm says {request.confirm:,}, but this would {what} {_hosts(count)}; nothing was sent"
            raise SafetyRefusal(Problem(message, _named(targets), f"check the targets, then give --confirm {count}"))
        return
    if count < 2:
        return
    refusal = SafetyRefusal(
        Problem(f"this would {what} {_hosts(count)}; nothing was sent", _named(targets), f"say so: --confirm {count}")
    )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise refusal
    sys.stderr.write(f"{_named(targets)}\ntype {count} to {what} {_hosts(count)}: ")
    sys.stderr.flush()
    try:
        typed = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise refusal from None
    if typed != str(count):
        raise refusal


def _named(targets: Sequence[Target]) -> str:
    return fold_counted([target.name for target in targets], _MOST_CHARS)


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count:,} hosts"


def _ask_password(question: str) -> str:
    """From the terminal itself, without echo; the question goes there too."""
    import getpass

    return getpass.getpass(question)


def _console(
    services: PowerServices, request: Request, targets: Sequence[Target], limits: Limits, *, as_json: bool
) -> int:
    if len(targets) != 1:
        message = f"a console is of one host, and these are {len(targets):,}"
        raise InvalidInput(Problem(message, _named(targets), "name one host"))
    if as_json and request.log is None:
        remedy = "write the console to a file: --log FILE"
        raise InvalidInput(Problem("both want stdout", "--json and the console", remedy))
    row = services.console(request, targets[0], limits)
    if as_json:
        _write(sys.stdout, powerview.document(request.verb, [row], row.elapsed_s))
    else:
        _write(sys.stderr, powerview.listing([row], colour=coloured(sys.stderr)) + powerview.advices([row]))
    if row.reason is Reason.INTERRUPTED:
        return int(Exit.INTERRUPTED)
    return int(Exit.OK if row.reason is Reason.OK else Exit.INCOMPLETE)


class _Progress:
    """One line on the terminal that is written over: how many have ended."""

    def __init__(self, count: int, rows: dict[str, Row], clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._rows, self._clock = count, rows, clock
        self._next = clock() + _REDRAW_S  # a command that is done at once shows none
        self._shown = False

    def show(self) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _REDRAW_S
        self._shown = True
        sys.stderr.write(f"\r{len(self._rows):,} of {self._count:,}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
