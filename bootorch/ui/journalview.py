"""Events of a journal as lines: for people, and as NDJSON that another program can check and read."""

from __future__ import annotations

import time
from typing import Any

from bootorch.core.changes import CHANGES, describe
from bootorch.core.events import (
    Adapted,
    Admitted,
    Answer,
    BootFailed,
    Event,
    GateOpened,
    Intent,
    MirrorBack,
    MirrorLost,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    Settled,
    TailCut,
    Tripped,
)
from bootorch.core.reasons import Reason
from bootorch.runtime.audit import Audit
from bootorch.runtime.chain import Row
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import STYLES, Lines, Piece, clock, hosts, span

_MOST_CHARS = 200  # of a line's text: a console's last words are in the export


def record(row: Row) -> str:
    """One line of the export. The event stands in it as its hash covers it, byte by byte."""
    seq, body, wall_s, boot_s, kept = row
    return f'{{"seq":{seq},"wall_s":{wall_s!r},"boot_s":{boot_s!r},"hash":"{kept.hex()}","event":{body}}}'


def line(row: Row, event: Event) -> tuple[Piece, ...]:
    """Number, wall clock, run time, and what happened to whom."""
    seq, _, wall_s, _, _ = row
    wall = time.strftime("%H:%M:%S", time.localtime(wall_s))
    text, style = _words(event)
    text = text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
    return (f"{seq:>7}  {wall}  {clock(event.t):>7}  ", "dim"), (text, style) if style else text


def _words(event: Event) -> tuple[str, str]:
    """What the event says, on one line, and its style."""
    text, style = event.type, ""
    match event:
        case Intent():
            whom = fold_counted(event.hosts) if event.hosts else event.target
            text = f"{event.kind} to {whom}" + (f", attempt {event.attempt}" if event.attempt > 1 else "")
        case Answer():
            said = "ok" if event.reason is Reason.OK else str(event.reason)
            power = event.data.get("power", "")
            told = event.detail or (str(power) if isinstance(power, str) else "")
            text = f"{event.kind} of {event.target}: {said}" + (f", {told}" if told else "")
            style = "" if event.reason is Reason.OK else "yellow"
        case Settled():
            told = ": ".join(part for part in (str(event.reason), event.detail) if part and part != Reason.OK)
            text, style = f"{event.host} is {event.outcome}" + (f": {told}" if told else ""), STYLES[event.outcome]
        case BootFailed():
            text, style = f"no proof of a boot of {event.host}: {event.reason} {event.detail}", "yellow"
        case Tripped():
            text, style = f"breaker of {event.scope} tripped: {event.detail}", "bold red"
        case Admitted():
            text = f"{event.host} " + ("has to wait again" if event.withdrawn else "has its watts and slots")
        case GateOpened():
            text, style = f"gate {event.gate} opened by {_who(event.by, event.why)}", "green"
        case Paused():
            text, style = f"paused by {_who(event.by, event.why)}", "bold yellow"
        case RunStarted():
            text, style = f"run {event.run_id} of {event.plan}, {hosts(event.hosts)}, by {event.by}", "bold"
        case RunResumed():
            text, style = f"resumed by {event.by} after {span(event.gap_s)} away", "bold"
        case RunEnded():
            text, style = f"run ended: {event.verdict}", "bold"
        case Adapted():
            text, style = f"{describe(event)}: {event.why}", "yellow"
        case TailCut() | MirrorLost() | MirrorBack():
            text, style = of_the_journal(event), "bold yellow"
        case _ if isinstance(event, CHANGES):
            text, style = f"{describe(event)}, said by {_who(event.by, event.why)}", "bold yellow"
    printable = "".join(letter if letter.isprintable() else " " for letter in text)  # machines that are broken wrote it
    return " ".join(printable.split()), style


def of_the_journal(event: TailCut | MirrorLost | MirrorBack) -> str:
    match event:
        case TailCut():
            return f"the journal's damaged end was cut at event {event.first} by {_who(event.by, event.why)}"
        case MirrorLost():
            return f"the mirror {event.where} is not kept up to date: {event.why}; the run goes on without it"
        case MirrorBack():
            return f"the mirror {event.where} is up to date again"


def _who(by: str, why: str) -> str:
    return f"{by}: {why}" if why else by


def audited(found: Audit) -> Lines:
    """The page of ``journal verify``."""
    page = Lines()
    until = ""
    if found.moment is not None:
        until = f", the last at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.moment.wall_s))}"
    chain = "its chain of hashes holds" if found.format > 1 else "format 1, which has no hashes: only read"
    if found.whole:
        page.add(("whole", "bold green"), f"  {found.good:,} events{until}; {chain}")
        page.add("  last hash  ", found.hash.hex() or "none")
        return page
    page.add(("damaged" if found.strange is None else "unreadable", "bold red"), f"  {found.path}")
    page.add("  good       ", f"{found.good:,} events{until}" if found.good else "nothing")
    if (damage := found.damage) is not None:
        where = f"event {damage.first:,}: " if damage.first else ""
        page.add("  wrong      ", f"{where}{damage.what}")
        if damage.whole_after:
            page.add("  after it   ", f"{damage.whole_after:,} whole events: the damage is in the middle, no torn end")
        elif damage.lost:
            page.add("  lost       ", f"{damage.lost:,} {'event' if damage.lost == 1 else 'events'}: the end is torn")
    if found.strange is not None:
        page.add("  not read   ", f"{found.strange.where}: {found.strange.message}")
    for complaint in found.complaints:
        page.add("  SQLite     ", complaint)
    page.add("  next       ", remedy(found))
    return page


def remedy(found: Audit) -> str:
    """What to do about it; empty where nothing is wrong."""
    if found.damage is not None:
        return found.damage.remedy
    if found.strange is not None:
        return found.strange.remedy
    if found.complaints:
        where, first = found.path.parent, found.good + 1
        return f"no event is hurt: bootorch journal cut {where} --confirm {first} writes the file anew"
    return ""


def audit_json(found: Audit) -> dict[str, Any]:
    damage = found.damage
    return {
        "schema": "bootorch.journal.verify/1",
        "journal": str(found.path),
        "whole": found.whole,
        "format": found.format,
        "good_events": found.good,
        "last_hash": found.hash.hex(),
        "last_wall_s": None if found.moment is None else found.moment.wall_s,
        "damage": None
        if damage is None
        else {
            "event": damage.first,
            "what": damage.what,
            "tail": damage.tail,
            "events_lost": damage.lost,
            "whole_after": damage.whole_after,
        },
        "unreadable": None
        if found.strange is None
        else {"where": found.strange.where, "message": found.strange.message},
        "sqlite": list(found.complaints),
        "remedy": remedy(found),
    }
