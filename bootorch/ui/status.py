"""Where a run stands, on a screen: drawn from the document that the run keeps in its journal (``core.standing``).

Loads neither plan nor state nor report: a status has to be there at once, however many hosts there are.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bootorch.core.advice import advice
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.ui import standing
from bootorch.ui.lines import STYLES, Lines, Piece, clock, hosts, span

if TYPE_CHECKING:
    from bootorch.ui.services import Status

MOST_GATES = 20
FRESH_S = 1800.0  # an estimate that is older says nothing of now
_UP = (Outcome.READY, Outcome.ADOPTED)


def to_json(status: Status) -> Mapping[str, Any]:
    """The kept document, with who holds the run now and what came after it was written."""
    return {
        **status.document,
        "run_dir": str(status.run_dir),
        "running": status.running,
        "written_wall_s": status.written_wall_s,
        "event": status.event,
        "later_events": status.later_events,
        "next": next_command(status),
    }


def lines(status: Status) -> Lines:
    document = status.document
    page = Lines()
    limit = f" · limit {document['limit']}" if document["limit"] else ""
    head = f" · {document['environment']} · run {document['run_id']}{limit} · {doing(status)}"
    page.add((document["plan"], "bold"), f"{head} · {clock(document['elapsed_s'])}")
    if document["outlook"] and status.running and document["elapsed_s"] - document["outlook_s"] < FRESH_S:
        page.add((document["outlook"], "bold"))
    page.blank()
    _groups(document, page)
    _tiers(document, page)
    if document["in_flight"] and status.running:
        flying = ", ".join(f"{count:,} {kind}" for kind, count in document["in_flight"].items())
        page.blank()
        page.add(("in flight", "bold"), f"  {flying}")
    _gates(status, page)
    _breakers(status, page)
    if document["limits"]:
        page.blank()
        standing.limits(document, page)
    standing.dark(document, page)
    standing.choices(document, page)
    standing.changes(document, page)
    _failures(document, page)
    _totals(status, page)
    return page


def doing(status: Status) -> str:
    """What a run is doing, in a few words."""
    document = status.document
    if document["paused"]:
        why = f" ({document['paused_why']})" if document["paused_why"] else ""
        return f"paused by {document['paused']}{why}" + ("" if status.running else ", can be resumed")
    if status.running:
        return "running"
    if status.done:
        return f"ended: {document['verdict']}" if document["verdict"] else "all settled"
    if document["verdict"]:
        return f"{document['verdict']}, can be resumed"
    return "cut off: no process holds it; bootorch resume goes on"


def next_command(status: Status) -> str:
    """The command that most likely comes next."""
    document = status.document
    where = shlex.quote(str(status.run_dir))
    feed = next((shlex.quote(feed["feed"]) for feed in document["dark"] if feed["hosts"]), "")
    closed = [gate["name"] for gate in document["gates"] if gate["ask"] and not gate["opened_by"]]
    if status.done and document["verdict"] == "aborted":
        return f"bootorch resume {where} --set retry"
    if status.done:
        return f"bootorch report {where} --html report.html"
    if status.running:
        if document["paused"]:
            return f"bootorch resume {where}"
        if document["choices"]:
            return f"bootorch choose {document['choices'][0]['group']} HOST --run {where}"
        if closed:
            return f"bootorch gate approve {where} {shlex.quote(closed[0])} --by PERSON"
        if document["tripped"]:
            return f"bootorch breaker reset --run {where}"
        return f"bootorch feed returned {feed} --run {where}" if feed else f"bootorch pause {where}"
    more = ""
    if document["verdict"] == "stopped":
        if feed:
            more = f" --returned {feed}"
        elif document["choices"]:
            more = f" --set 'choose {document['choices'][0]['group']} HOST'"
        elif document["tripped"]:
            more = " --reset-breakers"
        elif closed:
            more = f" --approve {shlex.quote(closed[0])}=PERSON"
    return f"bootorch resume {where}{more}"


def _groups(document: Mapping[str, Any], page: Lines) -> None:
    rows: list[tuple[Piece, ...]] = [("", "hosts", "ready", "quarantined", "blocked", "now")]
    rows += [_row(name, group) for name, group in document["groups"].items()]
    page.table(rows, right=(1, 2, 3, 4))


def _tiers(document: Mapping[str, Any], page: Lines) -> None:
    if len(document["tiers"]) > 1:
        page.blank()
        page.table((_row(f"tier {tier['tier']}", tier) for tier in document["tiers"]), right=(1, 2, 3, 4))


def _row(name: str, part: Mapping[str, Any]) -> tuple[Piece, ...]:
    outcomes, size = part["outcomes"], part["size"]
    ready = sum(outcomes.get(up, 0) for up in _UP)
    failed, blocked = outcomes.get(Outcome.QUARANTINED, 0), outcomes.get(Outcome.BLOCKED, 0)
    return (
        (name, "bold"),
        f"{size:,}",
        (f"{ready:,}", "green" if ready == size else ""),
        (f"{failed:,}", "red" if failed else ""),
        (f"{blocked:,}", "yellow" if blocked else ""),
        (", ".join(f"{count:,} {phase}" for phase, count in part["phases"].items()), "dim"),
    )


def _gates(status: Status, page: Lines) -> None:
    closed = [gate for gate in status.document["gates"] if not gate["opened_by"]]
    if not closed or status.done:
        return
    page.blank()
    rows: list[tuple[Piece, ...]] = []
    for gate in closed[:MOST_GATES]:
        held = f"{hosts(gate['held'])} held" if gate["held"] else ""
        rows.append((("gate", "yellow"), gate["name"], gate["ask"] or gate["last"] or gate["check"], (held, "dim")))
    page.table(rows, indent=0)
    if asked := next((gate["name"] for gate in closed if gate["ask"]), ""):
        where, name = shlex.quote(str(status.run_dir)), shlex.quote(asked)
        how = f"bootorch gate approve {where} {name} --by PERSON"
        page.add("  approve    ", how if status.running else f"bootorch resume {where} --approve {name}=PERSON")


def _breakers(status: Status, page: Lines) -> None:
    tripped = status.document["tripped"]
    if not tripped:
        return
    page.blank()
    page.table(
        (
            (("breaker", "bold red"), breaker["scope"], f"{breaker['detail']}, at {clock(breaker['t'])}")
            for breaker in tripped
        ),
        indent=0,
    )


def _failures(document: Mapping[str, Any], page: Lines) -> None:
    for failure in document["failures"]:
        page.blank()
        outcome, detail = failure["outcome"], failure["detail"]
        names = (failure["hosts"] + (f" ({failure['count']:,})" if failure["count"] > 1 else ""), "bold")
        if outcome != Outcome.QUARANTINED:
            waits = "waits for " if outcome == Outcome.BLOCKED else ""
            page.add((outcome, STYLES[outcome]), "  ", names, (f"  {waits}{detail}", "dim"))
            continue
        said = advice(Reason(failure["reason"]))
        page.add((outcome, STYLES[outcome]), "  ", names, f"  {failure['reason']}: {said.meaning}")
        if detail:
            page.add("  for example", f"  {detail}")
        if said.next_step:
            page.add("  next       ", f"  {said.next_step}")
    if document["more_failures"]:
        page.add((f"  … {document['more_failures']:,} more kinds of failure: see the report", "dim"))


def _totals(status: Status, page: Lines) -> None:
    document = status.document
    totals = document["totals"]
    page.blank()
    ready = sum(totals[up] for up in _UP)
    counts: list[Piece] = [(f"{ready:,} of {hosts(document['size'])} ready", "bold")]
    for outcome in (Outcome.ADOPTED, Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.SKIPPED, Outcome.UNKNOWN):
        if count := totals[outcome]:
            words = f"{count:,} of them adopted" if outcome is Outcome.ADOPTED else f"{count:,} {outcome}"
            counts += [", ", (words, STYLES[outcome])]
    on = f"; {document['power_ons']:,} power-ons, {document['cycles']:,} cycles"
    page.add(*counts, f" in {span(document['elapsed_s'])}{on}")
    page.add((_written(status), "dim"))
    page.add(("next: ", "dim"), next_command(status))


def _written(status: Status) -> str:
    """Which moment the page shows, and what it does not show."""
    if status.written_wall_s is None:
        return f"made from all {status.event:,} events just now: the journal keeps no status of its own"
    when = time.strftime("%H:%M:%S", time.localtime(status.written_wall_s))
    age_s = time.time() - status.written_wall_s
    ago = f", {span(age_s)} ago" if status.running and 0 <= age_s < 3600 else ""
    words = f"as of event {status.event:,}, written at {when}{ago}"
    if status.later_events:
        came = "1 event came" if status.later_events == 1 else f"{status.later_events:,} events came"
        words += f"; {came} after it: bootorch report shows them"
    elif not status.running:
        words += "; no event came after it"
    return words
