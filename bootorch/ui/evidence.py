"""The evidence of boots and tasks that failed: a word on what there is, and all of it folded on the page.

Everything here was written by machines that are broken: ``core.evidence`` has taken out what could steer a terminal,
and the page escapes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from bootorch.core.evidence import Scalar
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.report import HostReport, Report
from bootorch.core.timeline import Examination
from bootorch.ui.lines import clock

MOST_HOSTS = 100  # on the page, at up to 8 KiB each; the JSON has them all

_FACTS = (
    ("power", "chassis"),
    ("fault", "power fault"),
    ("overload", "overload"),
    ("last_power_event", "last power event"),
    ("restart_cause", "last restart"),
    ("manufacturer", "made by"),
)


def held(examination: Examination) -> str:
    """What there is: ``event log (5 events), console (1,204 characters)``."""
    if examination.reason is not Reason.OK:
        return f"none: {examination.reason}" + (f", {examination.detail}" if examination.detail else "")
    parts = []
    if (sel := _text(examination, "sel")) is not None:
        events = len(sel.splitlines())
        parts.append(f"event log ({events} {'event' if events == 1 else 'events'})")
    if (console := _text(examination, "console")) is not None:
        parts.append(f"console ({len(console):,} characters)" if console else "console (silent)")
    return ", ".join(parts) or "chassis status only"


def folded(report: Report) -> list[str]:
    """HTML: an entry to unfold for every failed boot, those of quarantined hosts first; an example of many."""
    return _folded([host for host in report.hosts if host.examinations], _entries)


def tasks(report: Report) -> list[str]:
    """The same for every failed task that wrote something."""
    return _folded([host for host in report.hosts if any(trouble.output for trouble in host.troubles)], _wrote)


def _folded(found: list[HostReport], entries_of: Callable[[HostReport], Iterator[str]]) -> list[str]:
    found.sort(key=lambda host: host.outcome is not Outcome.QUARANTINED)
    entries = [entry for host in found[:MOST_HOSTS] for entry in entries_of(host)]
    if len(found) > MOST_HOSTS:
        rest = f"… and {len(found) - MOST_HOSTS:,} more hosts: <code>bootorch report --json</code>"
        entries.append(f'<p class="note">{rest}</p>')
    return entries


def _entries(host: HostReport) -> Iterator[str]:
    for examination in host.examinations:
        found = examination.found
        said = f"at {clock(examination.t)} <code>{found.reason}</code> {escape(found.detail)}"
        body = "".join(_body(examination))
        yield (f'<details class="evidence"><summary><b>{escape(host.name)}</b> {said}</summary>{body}</details>')


def _wrote(host: HostReport) -> Iterator[str]:
    for trouble in host.troubles:
        if trouble.output:
            said = f"at {clock(trouble.t)} <code>{trouble.reason}</code> {escape(trouble.detail)}"
            body = f"<pre>{escape(trouble.output)}</pre>"
            yield f'<details class="evidence"><summary><b>{escape(host.name)}</b> {said}</summary>{body}</details>'


def _body(examination: Examination) -> Iterator[str]:
    facts = [(word, examination.data.get(key)) for key, word in _FACTS]
    told = " · ".join(f"{word} {_word(value)}" for word, value in facts if value not in (None, ""))
    asked = "" if examination.reason is Reason.OK else f"{examination.reason}: "
    for line in (told, f"{asked}{examination.detail}" if asked or examination.detail else ""):
        if line:
            yield f'<p class="note">{escape(line)}</p>'
    for key, title in (("sel", "Event log"), ("console", "Console")):
        text = _text(examination, key)
        if text is not None:
            yield f"<div>{title}</div><pre>{escape(text) or '(nothing)'}</pre>"


def _word(value: Scalar | None) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _text(examination: Examination, key: str) -> str | None:
    value = examination.data.get(key)
    return value if isinstance(value, str) else None
