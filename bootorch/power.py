"""The power commands put together: inventory or addresses, the IPMI engine, the terminal.

Implements ``ui.powerservices.PowerServices``. There is neither plan nor journal here, and no asyncio except for a
console: such a command is done in half a second and loads only what its verb needs.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from bootorch.core.reasons import Reason
from bootorch.runtime import targets as found
from bootorch.runtime.targets import Selection, Target
from bootorch.ui import power
from bootorch.ui.powerservices import Limits, Request, Row, Verb

if TYPE_CHECKING:
    import typer

    from bootorch.drivers.bmc_net import BmcTarget, Ended, Follow
    from bootorch.ipmi.login import Credentials
    from bootorch.ipmi.pacing import Pacing
    from bootorch.ops.powerverbs import Order

WAIT_POLL_S = 1.0  # between two readings while --wait waits; ipmipower's --wait-until polls every 0.4-1 s


class Power:
    """The services, over real BMCs."""

    def targets(self, selection: Selection, ask: Callable[[str], str] | None) -> Sequence[Target]:
        return found.resolve(selection, ask)

    def perform(
        self, request: Request, targets: Sequence[Target], limits: Limits, ended: Callable[[Row], None]
    ) -> None:
        from bootorch.ops import powerverbs

        order = powerverbs.order(request)
        with _alone(request, targets):
            self._perform(order, request, targets, limits, ended)

    def _perform(
        self, order: Order, request: Request, targets: Sequence[Target], limits: Limits, ended: Callable[[Row], None]
    ) -> None:
        if request.wait:
            waiting = _Waiting(request.verb, limits.timeout_s, ended)
            try:
                _ask(order, targets, limits, waiting.answered)
            except KeyboardInterrupt:
                waiting.interrupted()
                raise
        else:
            _ask(order, targets, limits, ended)

    def console(self, request: Request, target: Target, limits: Limits) -> Row:
        from bootorch.ops.terminal import converse

        gc.enable()  # a console may stay open for days
        end, open_s = converse(request, target, limits.timeout_s)
        state = "console closed" if end.reason is Reason.OK else ""
        return Row(target.name, state, end.reason, "" if state else end.detail, 1, open_s)


def _alone(request: Request, targets: Sequence[Target]) -> AbstractContextManager[None]:
    """No run drives these hosts meanwhile, unless the operator said that it does not matter."""
    if not request.acts or request.despite_run:
        return nullcontext()
    import os
    import pwd

    from bootorch.runtime import sitelock

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid {os.getuid()}"
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    owner = sitelock.Owner(f"bootorch power {request.verb}", os.getpid(), user, since)
    return sitelock.driving(owner, {sitelock.endpoint(target.address, target.port): target.name for target in targets})


def _ask(
    order: Order, targets: Sequence[Target], limits: Limits, ended: Callable[[Row], tuple[Order, float, float] | None]
) -> None:
    """One question to every target, and to each what ``ended`` asks for next: an order, after how many seconds, and for
    how long at most. The fence is the selection itself: no other address is ever sent to."""
    from bootorch.drivers.bmc_net import Follow, ask_all

    by_name = {target.name: target for target in targets}
    ok = Reason.OK
    asked: dict[str, Order] = {}  # what came after the first order, by target

    def answered(end: Ended) -> Follow | None:
        bmc, reason, detail, value, attempts, elapsed_s = end
        if reason is ok:
            state, note, lines, data, watts = (asked.get(bmc.name, order) if asked else order).read(value)
            row = Row(bmc.name, state, reason, note, attempts, elapsed_s, lines, data, watts)
        else:
            if reason is Reason.INTERRUPTED:
                detail = "ended before it answered"
            row = Row(bmc.name, "", reason, detail, attempts, elapsed_s)
        more = ended(row)
        if more is None:
            return None
        following, after_s, timeout_s = more
        asked[bmc.name] = following
        return Follow(lambda bmc: following.script(by_name[bmc.name]), after_s, timeout_s)

    ask_all(
        _bmcs(targets, limits.privilege),
        lambda bmc: order.script(by_name[bmc.name]),
        allows=frozenset([target.address for target in targets]).__contains__,
        timeout_s=limits.timeout_s,
        pacing=_pacing(limits),
        ended=answered,
    )


class _Waiting:
    """Each target that has accepted is read until the power is as it should be, or its own time is up; one that never
    answers holds up nobody."""

    def __init__(self, verb: Verb, timeout_s: float, ended: Callable[[Row], None]) -> None:
        from bootorch.ops import powerverbs

        self._verb = verb
        self._timeout_s = timeout_s
        self._ended = ended
        self._goal = powerverbs.goal(verb)
        self._accepted: dict[str, tuple[Row, float]] = {}  # how its order ended, and when that began, while it waits

    def answered(self, row: Row) -> tuple[Order, float, float] | None:
        """What is to be asked next of the target of ``row``, after how many seconds, and for how long."""
        from bootorch.ops import powerverbs

        now = time.monotonic()
        if row.target not in self._accepted:
            # An order without an answer is never sent twice, but it may have been done: that can be read.
            if row.state != powerverbs.ACCEPTED and row.reason is not Reason.BMC_LOST:
                self._ended(row)
                return None
            self._accepted[row.target] = row, now - row.elapsed_s
            pause_s, read = 0.0, False
        else:
            pause_s, read = WAIT_POLL_S, True
        first, begun = self._accepted[row.target]
        left_s = begun + self._timeout_s - now - pause_s
        if read and row.state == self._goal:
            del self._accepted[row.target]
            self._ended(row._replace(attempts=first.attempts + row.attempts, elapsed_s=now - begun))
        elif left_s > 0 and row.reason is not Reason.INTERRUPTED:
            return powerverbs.STATUS, pause_s, left_s
        else:
            del self._accepted[row.target]
            self._ended(self._never(first, row if read else None)._replace(elapsed_s=now - begun))
        return None

    def interrupted(self) -> None:
        """Those that were between two readings."""
        now = time.monotonic()
        for name, (first, begun) in self._accepted.items():
            last = Row(name, "", Reason.INTERRUPTED, "ended before the power was read again", 0, 0.0)
            self._ended(self._never(first, last)._replace(elapsed_s=now - begun))
        self._accepted.clear()

    def _never(self, first: Row, last: Row | None) -> Row:
        if first.reason is not Reason.OK:  # the order itself had no answer
            how = f"; the power reads {last.state}" if last is not None and last.reason is Reason.OK else ""
            return first._replace(detail=first.detail + how)
        if last is None:
            reason, how = Reason.POWER_NO_EFFECT, "there was no time to read the power back"
        elif last.reason is Reason.OK:
            reason, how = Reason.POWER_NO_EFFECT, f"the power still reads {last.state}"
        else:
            reason, how = last.reason, last.detail
        return Row(first.target, "", reason, f"{self._verb} was accepted; {how}", first.attempts, 0.0)


def _bmcs(targets: Sequence[Target], level: str) -> list[BmcTarget]:
    from bootorch.drivers.bmc_net import BmcTarget
    from bootorch.ipmi.login import Credentials
    from bootorch.ipmi.messages import Privilege

    privilege = Privilege[level.upper()] if level else Privilege.ADMIN
    shared: dict[tuple[str, int, int], Credentials] = {}  # most targets have the same login: one object for them
    bmcs = []
    for name, address, port, user, password, k_g, suites, version, model, _ in targets:
        key = user, id(password), id(k_g)
        credentials = shared.get(key)
        if credentials is None:
            credentials = shared[key] = Credentials(user.encode(), password, k_g)
        bmcs.append(BmcTarget(name, address, port, credentials, suites, version, model, privilege))
    return bmcs


def _pacing(limits: Limits) -> Pacing | None:
    if limits.window is None:
        return None
    from bootorch.ipmi.pacing import Pacing

    return Pacing(window=limits.window, most=limits.window, least=min(limits.window, Pacing().least))


def add_to(app: typer.Typer) -> None:
    """Add the power commands to the application."""
    power.add_to(app, Power())


def main(words: Sequence[str]) -> int:
    """A command line that begins with ``power``."""
    from bootorch.ui import cli

    gc.disable()  # nothing here lives in circles, and looking for them costs a tenth of a short command
    verb = next((word for word in words[1:] if not word.startswith("-")), "")
    return cli.power(lambda app: power.add_to(app, Power(), verb), words)


if __name__ == "__main__":
    sys.exit(main(["power", *sys.argv[1:]]))
