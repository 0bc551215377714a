"""Limits of a run as they are now, dark feeds and who waits for them, what was changed: for a screen and as JSON.

Drawn from plain documents, the status that a run keeps (``core.standing``) or one made of a report (``of``). So
``bootorch status`` loads no report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bootorch.core.units import quantity, title
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import Lines, Piece, clock

if TYPE_CHECKING:
    from bootorch.core.report import Report

MOST_CHARS = 400
MOST_CHANGES = 20

Document = Mapping[str, Any]


def to_json(report: Report) -> Document:
    """``limits``, ``dark`` and ``changes`` of the report's own document."""
    document = report.to_json()
    return {key: document[key] for key in ("limits", "dark", "changes")}


def of(report: Report) -> Document:
    """The parts of a status document that this page draws, with every limit."""
    from dataclasses import asdict

    dark = [
        {**asdict(feed), "count": len(feed.hosts), "hosts": fold_counted(feed.hosts, MOST_CHARS) if feed.hosts else ""}
        for feed in report.dark
    ]
    return {
        "limits": [asdict(limit) for limit in report.limits],
        "dark": dark,
        "choices": [asdict(choice) for choice in report.choices],
        "changes": [asdict(said) for said in report.changes],
    }


def lines(report: Report) -> Lines:
    """The page of ``limit show``."""
    page = Lines()
    document = of(report)
    if not report.limits:
        page.add("no limits")
    limits(document, page)
    dark(document, page)
    changes(document, page)
    return page


def limits(document: Document, page: Lines) -> None:
    """A line for each limit: what it is now, what is drawn, and what the plan says where that is something else."""
    if not document["limits"]:
        return
    lost = {feed["feed"] for feed in document["dark"]}
    page.table((_limit(limit, lost) for limit in document["limits"]), indent=0)
    if more := document.get("more_limits", 0):
        page.add((f"… {more:,} more limits: bootorch limit show", "dim"))


def _limit(limit: Document, lost: set[str]) -> tuple[Piece, ...]:
    name, value, planned = limit["name"], limit["value"], limit["planned"]
    feed = name if limit["kind"] == "feed" else ""

    def amount(value: float | None) -> str:
        if value is None:
            return "no budget" if feed else "no limit"
        return quantity(value, feed) if feed else f"{value:,.0f}"

    parts = []
    if (draw := limit.get("draw")) is not None:
        share = f" ({draw / value:.0%})" if value else ""
        parts.append(f"draws {quantity(draw, feed)}{share}")
    if used := limit.get("used"):
        parts.append(f"{used:,} in use")
    if (ramp := limit.get("ramp")) is not None:
        parts.append(f"ramp {quantity(ramp, feed)} a minute")
    if (inrush := limit.get("inrush")) is not None:
        parts.append(f"inrush {inrush:g} A")
    notes = ["dark"] if name in lost else []
    if value != planned:
        notes.append(f"the plan has {amount(planned)}")
    return (
        (title(name) if feed else f"slot {name}", "bold"),
        amount(value),
        ", ".join(parts),
        (", ".join(notes), "yellow"),
    )


def dark(document: Document, page: Lines) -> None:
    """Feeds without electricity, who said so, and the hosts that wait for them."""
    for feed in document["dark"]:
        page.blank()
        why = f": {feed['why']}" if feed["why"] else ""
        since = f"  {title(feed['feed'])} since {clock(feed['since_s'])}, said by {feed['by']}{why}"
        page.add(("dark", "bold red"), since)
        if feed["hosts"]:
            page.add("  waiting    ", feed["hosts"])
            page.add("  next       ", f"when it has electricity again: bootorch feed returned {feed['feed']}")


def choices(document: Document, page: Lines) -> None:
    """First members that a person has to name."""
    for choice in document["choices"]:
        page.blank()
        page.add(("choose", "bold yellow"), f"  first member of {choice['group']}: {choice['ask']}")
        page.add("  one of     ", fold_counted(choice["candidates"], MOST_CHARS))


def changes(document: Document, page: Lines) -> None:
    """What was changed while the run went on, latest last."""
    said = document["changes"][-MOST_CHANGES:]
    if not said:
        return
    page.blank()
    page.add(("changed under way", "bold"))
    if more := document.get("more_changes", 0) + len(document["changes"]) - len(said):
        page.add((f"  … {more:,} earlier changes: see the report", "dim"))
    page.table((clock(change["t"]), change["what"], (who(change["by"], change["why"]), "dim")) for change in said)


def who(by: str, why: str) -> str:
    """``kim: chiller 2 is back``."""
    return f"{by}: {why}" if why else by
