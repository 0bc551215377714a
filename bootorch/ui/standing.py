"""Limits of a run as they are now, dark feeds and who waits for them: for a screen and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bootorch.core.changes import Said, quantity, title
from bootorch.core.report import LimitReport, Report
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import Lines, Piece, clock

MOST_CHARS = 400
MOST_LIMITS = 40  # a site has a feed per rack: those that are changed, dark or fullest come first
MOST_CHANGES = 20


def to_json(report: Report) -> Mapping[str, Any]:
    """``limits``, ``dark`` and ``changes`` of the report's own document."""
    document = report.to_json()
    return {key: document[key] for key in ("limits", "dark", "changes")}


def lines(report: Report) -> Lines:
    """The page of ``limit show``."""
    page = Lines()
    if not report.limits:
        page.add("no limits")
    limits(report, page, len(report.limits))
    dark(report, page)
    changes(report, page)
    return page


def limits(report: Report, page: Lines, most: int = MOST_LIMITS) -> None:
    """A line for each limit: what it is now, what is drawn, and what the plan says where that is something else."""
    if not report.limits:
        return
    lost = {feed.feed for feed in report.dark}

    def rank(limit: LimitReport) -> tuple[bool, float]:
        share = (limit.draw or 0.0) / limit.value if limit.value else 0.0
        return limit.name not in lost and limit.value == limit.planned, -share

    chosen = {id(limit) for limit in sorted(report.limits, key=rank)[:most]}
    page.table((_limit(limit, lost) for limit in report.limits if id(limit) in chosen), indent=0)
    if len(report.limits) > most:
        page.add((f"… {len(report.limits) - most:,} more limits: bootorch limit show", "dim"))


def _limit(limit: LimitReport, lost: set[str]) -> tuple[Piece, ...]:
    feed = limit.name if limit.kind == "feed" else ""

    def amount(value: float | None) -> str:
        if value is None:
            return "no budget" if feed else "no limit"
        return quantity(value, feed) if feed else f"{value:,.0f}"

    parts = []
    if limit.draw is not None:
        share = f" ({limit.draw / limit.value:.0%})" if limit.value else ""
        parts.append(f"draws {quantity(limit.draw, feed)}{share}")
    if limit.ramp is not None:
        parts.append(f"ramp {quantity(limit.ramp, feed)} a minute")
    if limit.inrush is not None:
        parts.append(f"inrush {limit.inrush:g} A")
    notes = ["dark"] if limit.name in lost else []
    if limit.value != limit.planned:
        notes.append(f"the plan has {amount(limit.planned)}")
    name = title(limit.name) if feed else f"slot {limit.name}"
    return (name, "bold"), amount(limit.value), ", ".join(parts), (", ".join(notes), "yellow")


def dark(report: Report, page: Lines) -> None:
    """Feeds without electricity, who said so, and the hosts that wait for them."""
    for feed in report.dark:
        page.blank()
        why = f": {feed.why}" if feed.why else ""
        page.add(("dark", "bold red"), f"  {title(feed.feed)} since {clock(feed.since_s)}, said by {feed.by}{why}")
        if feed.hosts:
            page.add("  waiting    ", fold_counted(feed.hosts, MOST_CHARS))
            page.add("  next       ", f"when it has electricity again: bootorch feed returned {feed.feed}")


def choices(report: Report, page: Lines) -> None:
    """First members that a person has to name."""
    for choice in report.choices:
        page.blank()
        page.add(("choose", "bold yellow"), f"  first member of {choice.group}: {choice.ask}")
        page.add("  one of     ", fold_counted(choice.candidates, MOST_CHARS))


def changes(report: Report, page: Lines) -> None:
    """What was changed while the run went on, latest last."""
    if not report.changes:
        return
    page.blank()
    page.add(("changed under way", "bold"))
    if len(report.changes) > MOST_CHANGES:
        page.add((f"  … {len(report.changes) - MOST_CHANGES:,} earlier changes: see the report", "dim"))
    page.table((clock(said.t), said.what, (who(said), "dim")) for said in report.changes[-MOST_CHANGES:])


def who(said: Said) -> str:
    """``kim: chiller 2 is back``."""
    return f"{said.by}: {said.why}" if said.why else said.by
