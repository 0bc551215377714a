"""The power commands put together: inventory or addresses, the IPMI engine, the terminal.

Implements ``ui.powerservices.PowerServices``. There is neither plan nor journal here, and no asyncio except for a
console: such a command is done in half a second and loads only what its verb needs.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bootorch.core.reasons import Reason
from bootorch.runtime import targets as found
from bootorch.runtime.targets import Selection, Target
from bootorch.ui import power
from bootorch.ui.powerservices import Limits, Request, Row, Verb

if TYPE_CHECKING:
    import typer

    from bootorch.drivers.bmc_net import BmcTarget, Ended
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
        if not request.wait:
            _ask(order, targets, limits, limits.timeout_s, ended)
            return
        begun = time.monotonic()
        accepted: dict[str, Row] = {}

        def first(row: Row) -> None:
            if row.state == powerverbs.ACCEPTED:
                accepted[row.target] = row
            else:
                ended(row)

        _ask(order, targets, limits, limits.timeout_s, first)
        waiting = [target for target in targets if target.name in accepted]
        _wait(request.verb, waiting, accepted, limits, begun + limits.timeout_s, ended)

    def console(self, request: Request, target: Target, limits: Limits) -> Row:
        from bootorch.ops.terminal import converse

        gc.enable()  # a console may stay open for days
        end, open_s = converse(request, target, limits.timeout_s)
        state = "console closed" if end.reason is Reason.OK else ""
        return Row(target.name, state, end.reason, "" if state else end.detail, 1, open_s)


def _ask(
    order: Order, targets: Sequence[Target], limits: Limits, timeout_s: float, ended: Callable[[Row], None]
) -> None:
    """One question to every target. The fence is the selection itself: no other address is ever sent to."""
    from bootorch.drivers.bmc_net import ask_all

    by_name = {target.name: target for target in targets}
    read, ok = order.read, Reason.OK

    def answered(end: Ended) -> None:
        bmc, reason, detail, value, attempts, elapsed_s = end
        if reason is ok:
            state, note, lines, data, watts = read(value)
            ended(Row(bmc.name, state, reason, note, attempts, elapsed_s, lines, data, watts))
        else:
            ended(Row(bmc.name, "", reason, detail, attempts, elapsed_s))

    ask_all(
        _bmcs(targets, limits.privilege),
        lambda bmc: order.script(by_name[bmc.name]),
        allows=frozenset([target.address for target in targets]).__contains__,
        timeout_s=timeout_s,
        pacing=_pacing(limits),
        ended=answered,
    )


def _wait(
    verb: Verb,
    waiting: Sequence[Target],
    accepted: dict[str, Row],
    limits: Limits,
    deadline: float,
    ended: Callable[[Row], None],
) -> None:
    """Read the power of those that accepted until it is as it should be, or time is up."""
    from bootorch.ops import powerverbs

    begun, goal = time.monotonic(), powerverbs.goal(verb)
    latest: dict[str, Row] = {}
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        _ask(powerverbs.STATUS, waiting, limits, left_s, lambda row: latest.update({row.target: row}))
        elapsed_s = time.monotonic() - begun
        still = []
        for target in waiting:
            row, first = latest[target.name], accepted[target.name]
            if row.state == goal:
                ended(row._replace(attempts=first.attempts + row.attempts, elapsed_s=first.elapsed_s + elapsed_s))
            else:
                still.append(target)
        waiting = still
        if waiting:
            time.sleep(max(0.0, min(WAIT_POLL_S, deadline - time.monotonic())))
    for target in waiting:
        first, last = accepted[target.name], latest.get(target.name)
        elapsed_s = first.elapsed_s + time.monotonic() - begun
        if last is None:
            reason, how = Reason.POWER_NO_EFFECT, "there was no time to read the power back"
        elif last.reason is Reason.OK:
            reason, how = Reason.POWER_NO_EFFECT, f"the power still reads {last.state}"
        else:
            reason, how = last.reason, last.detail
        ended(Row(target.name, "", reason, f"{verb} was accepted; {how}", first.attempts, elapsed_s))


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
