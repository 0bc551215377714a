"""The report as one page that needs nothing: no script, no font, no network; light and dark, on screen and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from bootorch import __version__
from bootorch.core.advice import advice
from bootorch.core.critical import where_time_went
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.report import SCHEMA, HostReport, Report
from bootorch.core.timeline import SITE, Phase
from bootorch.ui import charts, evidence
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import clock, hosts, resumed, span, watts
from bootorch.ui.summary import PHASE_WORDS

MOST_FEEDS = 6  # drawn; the fullest first
MOST_HOST_ROWS = 1500  # hosts listed one by one; the JSON has them all
MOST_ROWS = 60
FIRST_ROWS = 10  # of what needs a person; the rest opens with a click
MOST_CHARS = 1200

Cell = tuple[str, str]  # class and HTML


def page(report: Report) -> str:
    """The whole page as HTML."""
    title = f"{report.plan} – {'dry run' if report.simulated else report.run_id}"
    style = files("bootorch.ui").joinpath("report.css").read_text(encoding="utf-8")
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
        _header(report),
        _tiles(report),
        _people(report),
        _failed_boots(report),
        _failed_tasks(report),
        _timeline(report),
        _power(report),
        _critical(report),
        _again(report),
        _changes(report),
        _gates(report),
        _groups(report),
        _hosts(report),
        _footer(report),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part)


# -- pieces ---------------------------------------------------------------------


def _section(title: str, note: str, *body: str) -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{''.join(body)}</section>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Cell | str]], numbers: Sequence[int] = (), style: str = ""
) -> str:
    """Cells are texts, escaped here, or a class and HTML made by the caller. ``numbers``: columns that align right."""
    columns = "".join(
        f'<th class="n">{escape(h)}</th>' if i in numbers else f"<th>{escape(h)}</th>" for i, h in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            cls, html = ("", escape(cell)) if isinstance(cell, str) else cell
            cls = f"{cls} n".strip() if index in numbers else cls
            cells.append(f'<td class="{cls}">{html}</td>' if cls else f"<td>{html}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<thead><tr>{columns}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table class="{style}">{body}</table></div>'


def _nodes(names: Iterable[str]) -> Cell:
    return ("nodes", _folded(names, MOST_CHARS))


def _folded(names: Iterable[str], most_chars: int) -> str:
    """Folded names that may break after a comma only."""
    return escape(fold_counted(names, most_chars)).replace(",", ",<wbr>")


def _badge(outcome: Outcome) -> Cell:
    return ("t", f'<span class="badge o-{outcome}">{escape(outcome.value)}</span>')


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<span><i class="{cls}"></i>{escape(word)}</span>' for cls, word in entries)
    return f'<div class="legend">{items}</div>'


# -- head ---------------------------------------------------------------------


def _header(report: Report) -> str:
    chip = f'<span class="chip {escape(report.environment)}">{escape(report.environment)}</span>'
    if report.simulated:
        chip += ' <span class="chip">dry run: simulated, in virtual time</span>'
    facts = [
        ("run", report.run_id),
        ("began", report.started_wall.replace("T", " ")),
        ("by", report.by),
        ("limit", report.limit),
        ("plan", report.plan_digest[:12]),
        ("seed", str(report.seed)),
    ]
    row = "".join(f"<span>{name} <b>{escape(value)}</b></span>" for name, value in facts if value)
    return (
        '<header><div><div class="over">Recovery report</div>'
        f"<h1>{escape(report.plan)}</h1>"
        f'<div class="facts"><span>{chip}</span>{row}</div></div>{_verdict(report)}</header>'
    )


def _verdict(report: Report) -> str:
    open_hosts = sum(report.in_progress.values())
    left_out = sum(1 for h in report.hosts if h.outcome is Outcome.SKIPPED and h.reason is Reason.LIMIT)
    if open_hosts:
        cls, word = "open", f"{hosts(open_hosts)} without an outcome"
    elif report.ready + left_out == report.size:
        cls, word = "good", "All ready" if not left_out else "All of the limit ready"
    else:
        missing = report.size - report.ready - left_out
        cls, word = "bad", f"{hosts(missing)} not ready"
    ended = f"run ended: {report.verdict}" if report.verdict else "the run has no end yet"
    if report.paused:
        ended = f"paused by {report.paused}"
    return f'<div class="verdict {cls}">{escape(word)}<small>{escape(ended)}</small></div>'


def _tiles(report: Report) -> str:
    totals = report.totals
    last_s = max((group.passage.ready_s or 0.0 for group in report.groups), default=0.0)
    retried = sum(1 for host in report.hosts if host.retries and host.outcome in charts.GOOD)
    feed = max((f for f in report.power if f.budget_watts), key=lambda f: f.peak_share or 0.0, default=None)
    tiles = [
        ("Ready", f"{report.ready:,}", f"of {hosts(report.size)}", "ok" if report.ready else ""),
        ("Adopted", f"{totals[Outcome.ADOPTED]:,}", "were on, never switched", ""),
        ("Ready after a retry", f"{retried:,}", "something was done again", ""),
        (
            "Quarantined",
            f"{totals[Outcome.QUARANTINED]:,}",
            "each with its reason",
            "bad" if totals[Outcome.QUARANTINED] else "",
        ),
        (
            "Blocked",
            f"{totals[Outcome.BLOCKED]:,}",
            "by what they depend on",
            "blocked" if totals[Outcome.BLOCKED] else "",
        ),
        ("Last host ready", clock(last_s) if last_s else "–", f"run took {clock(report.elapsed_s)}", ""),
    ]
    if feed is not None:
        of = f" of {watts(feed.budget_watts or 0)}" if len(feed.budgets) < 2 else f" on {feed.feed}"
        tiles.append(("Peak of a feed", f"{feed.peak_share or 0:.0%}", f"{watts(feed.peak_watts)}{of}", ""))
    cells = "".join(
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="value {cls}">{escape(value)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
        for what, value, more, cls in tiles
    )
    bars = "".join(
        f'<i class="o-{outcome}" style="flex:{count}" title="{count:,} {outcome}"></i>'
        for outcome, count in totals.items()
        if count
    )
    entries = [(f"o-{outcome}", f"{count:,} {outcome}") for outcome, count in totals.items() if count]
    return f'<div class="tiles">{cells}</div><div class="sum">{bars}</div>{_legend(entries)}'


# -- what needs a person ---------------------------------------------------------------------


def _people(report: Report) -> str:
    rows: list[tuple[Cell | str, ...]] = []
    for failure in report.failures[:MOST_ROWS]:
        said = advice(failure.reason)
        details = list(failure.details)
        evidence = escape(details[0] or "no detail")
        if len(details) > 1:
            evidence += f' <span class="soft">(and {len(details) - 1:,} like it)</span>'
        where = " · ".join(part for part in (failure.model, failure.firmware) if part)
        racks = [rack for rack in failure.racks if rack]
        blocks = f'<br><span class="soft">blocks {_folded(failure.blocks, 200)}</span>' if failure.blocks else ""
        rack_words = f"rack {_folded(racks, 200).partition(' (')[0]}" if racks else ""
        rows.append(
            (
                _badge(Outcome.QUARANTINED),
                ("nodes", f"<b>{_folded(failure.hosts, MOST_CHARS)}</b>{blocks}"),
                ("", f"<b>{escape(said.meaning)}</b><br><code>{escape(failure.reason.value)}</code> {evidence}"),
                ("", f"{escape(where)}<br>{rack_words}"),
                said.next_step,
            )
        )
    for cluster in report.blocked[:MOST_ROWS]:
        because = f"because of {_folded(cluster.roots, 300)}" if cluster.roots else ""
        rows.append(
            (
                _badge(Outcome.BLOCKED),
                _nodes(cluster.hosts),
                ("", f"<b>waits in vain for {escape(cluster.waits_for)}</b><br>{because}"),
                "",
                "Repair the cause, then run again: what is on is adopted.",
            )
        )
    for outcome in (Outcome.UNKNOWN,):
        names = [host.name for host in report.hosts if host.outcome is outcome]
        if names:
            where_now = ", ".join(f"{count:,} in {PHASE_WORDS[phase]}" for phase, count in report.in_progress.items())
            rows.append((_badge(outcome), _nodes(names), ("", escape(where_now)), "", "Resume the run."))
    if not rows:
        return ""
    head = ("", "Hosts", "What is known", "Where", "Next")
    more = len(rows) - FIRST_ROWS
    return _section(
        "What needs a person",
        "Root causes first; what only follows from them stands below.",
        _table(head, rows[:FIRST_ROWS], style="people"),
        f"<details><summary>{more:,} more</summary>{_table(head, rows[FIRST_ROWS:], style='people')}</details>"
        * (more > 0),
    )


def _failed_boots(report: Report) -> str:
    folded = evidence.folded(report)
    note = "What the BMCs of these hosts had to tell: event log since the request, and the last words of the console."
    return _section("Failed boots", note, *folded) if folded else ""


def _failed_tasks(report: Report) -> str:
    folded = evidence.tasks(report)
    note = "What failing tasks of playbooks wrote last. Vaulted values are taken out; what no_log hides is not there."
    return _section("Failed tasks", note, *folded) if folded else ""


# -- pictures ---------------------------------------------------------------------


def _timeline(report: Report) -> str:
    used = {phase for host in report.hosts for phase, _, _ in host.spans}
    entries = [(f"p-{phase}", PHASE_WORDS[phase]) for phase in Phase if phase in used]
    entries.append(("o-ready", "ready"))
    entries += [
        (f"o-{o}", o.value) for o in (Outcome.ADOPTED, Outcome.QUARANTINED, Outcome.BLOCKED) if report.totals[o]
    ]
    note = "A wave is for reading only: a host goes as soon as what it needs is ready."
    if any(host.troubles and host.outcome in charts.GOOD for host in report.hosts):
        note += " ▲ something was done again."
    if report.size > charts.BAR_HOSTS:
        note += " A large group is shown as how many of its hosts are where, ready at the bottom."
    return _section("Timeline", note, _legend(entries), charts.timeline(report))


def _power(report: Report) -> str:
    limited = [feed for feed in report.power if feed.feed != SITE]
    limited.sort(key=lambda feed: -(feed.peak_share or 0.0))
    whole = [feed for feed in report.power if feed.feed == SITE]
    # One limited feed that carries everything says it all.
    shown = (
        limited[:MOST_FEEDS]
        if any(f.points == w.points for f in limited for w in whole)
        else whole + limited[:MOST_FEEDS]
    )
    if not any(feed.peak_watts for feed in shown):
        return ""
    scale = charts.scale_of(report)
    note = "Modelled draw: the boot peak of a host from its power-on, its steady draw from its proof of boot."
    if len(limited) > MOST_FEEDS:
        note += f" The {MOST_FEEDS} fullest of {len(limited):,} feeds."
    holds = [hold for hold in report.holds if hold.longest_s >= 1.0][:MOST_ROWS]
    held = ""
    if holds:
        rows = (
            (hold.resource, f"{hold.hosts:,}", span(hold.longest_s), span(hold.total_s / hold.hosts)) for hold in holds
        )
        held = "<br>" + _table(("Held back by", "Hosts", "Longest", "On average"), rows, numbers=(1, 2, 3))
    return _section("Power and what held hosts back", note, *(charts.power(feed, scale) for feed in shown), held)


def _critical(report: Report) -> str:
    path = report.critical_path
    if not path:
        return ""
    total = max(path[-1].end_s, 1e-9)
    seconds = where_time_went(path)
    bars = "".join(
        f'<i class="p-{phase}" style="flex:{share:.4f}"></i>'
        for phase, share in ((phase, s / total) for phase, s in seconds.items())
        if share >= 0.001
    )
    entries = [
        (f"p-{phase}", f"{PHASE_WORDS[phase]} {span(s)} ({s / total:.0%})")
        for phase, s in seconds.items()
        if s / total >= 0.005
    ]
    return _section(
        "Critical path",
        "The chain that determined when the run ended. Shortening anything else would not have ended it earlier.",
        charts.critical_path(path, charts.scale_of(report)),
        f'<div class="sum">{bars}</div>{_legend(entries)}',
    )


# -- tables ---------------------------------------------------------------------


def _again(report: Report) -> str:
    rows: dict[tuple[str, str, str], list[HostReport]] = {}
    for host in report.hosts:
        if host.outcome in charts.GOOD:
            for trouble in host.troubles:
                rows.setdefault((trouble.what, trouble.reason.value, trouble.detail), []).append(host)
    if not rows:
        return ""
    ordered = sorted(rows.items(), key=lambda item: -len(item[1]))[:MOST_ROWS]
    return _section(
        "Done again, and worked",
        "",
        _table(
            ("What", "Hosts", "Why"),
            (
                (
                    what,
                    _nodes(dict.fromkeys(host.name for host in found)),
                    ("", f"<code>{escape(reason)}</code> {escape(detail)}"),
                )
                for (what, reason, detail), found in ordered
            ),
        ),
    )


def _changes(report: Report) -> str:
    """What was said to the run while it went on, and which feeds are still dark."""
    if not (report.changes or report.dark):
        return ""
    body = []
    if report.changes:
        rows = [(("t", escape(clock(said.t))), said.what, said.by, said.why) for said in report.changes]
        body.append(_table(("At", "What", "By", "Why"), rows[:MOST_ROWS]))
        if more := rows[MOST_ROWS:]:
            table = _table(("At", "What", "By", "Why"), more)
            body.append(f"<details><summary>{len(more):,} more</summary>{table}</details>")
    if report.dark:
        feeds: list[Sequence[Cell | str]] = [
            (("", f"<b>{escape(feed.feed)}</b>"), ("t", escape(clock(feed.since_s))), feed.by, feed.why,
             _nodes(feed.hosts) if feed.hosts else "nobody")
            for feed in report.dark
        ]  # fmt: skip
        body.append(_table(("Dark feed", "Since", "By", "Why", "Hosts that wait"), feeds))
    return _section("Changed under way", "What a person said while the run went on, and limits that adapted.", *body)


def _gates(report: Report) -> str:
    if not (report.gates or report.resumes or report.tripped):
        return ""
    body = []
    if report.gates:
        rows = []
        for gate in report.gates:
            if gate.opened_s is None:
                passed: Cell = ("", '<span class="badge o-blocked">closed</span>')
                who = gate.last
            else:
                passed = ("t", f'<span class="badge o-ready">open</span> {escape(clock(gate.opened_s))}')
                how = f"its check held (asked {gate.checks:,} times)" if gate.by == "check" else gate.by
                who = f"{how}: {gate.why}" if gate.why else how
            before = ", ".join(gate.groups) or "any power-on"
            rows.append(
                (("", f"<b>{escape(gate.name)}</b>"), gate.ask or gate.check, passed, who, before, f"{gate.waited:,}")
            )
        body.append(_table(("Gate", "Question", "", "Passed by", "Guards", "Hosts waited"), rows, numbers=(5,)))
    marks = [(r.t, f"{resumed(r)} ({r.wall})") for r in report.resumes]
    marks += [(t, f"breaker of {scope} tripped: {detail}") for t, scope, detail in report.tripped]
    if marks:
        body.append(_table(("At", "What"), ((("t", escape(clock(t))), what) for t, what in sorted(marks))))
    return _section("Gates and interventions", "", *body)


def _groups(report: Report) -> str:
    def at(t: float | None) -> str:
        return "–" if t is None else clock(t)

    rows = [
        (
            str(group.wave),
            ("", f"<b>{escape(group.passage.name)}</b>"),
            f"{group.passage.size:,}",
            f"{group.passage.ready:,}",
            at(group.passage.started_s),
            at(group.passage.first_ready_s),
            at(group.passage.ready_s),
            ", ".join(group.waits_for) or "nothing",
            ", ".join(group.ready_checks),
        )
        for group in report.groups
    ]
    head = ("Wave", "Group", "Hosts", "Ready", "Started", "First ready", "Last ready", "Waits for", "Proof")
    return _section("Groups", "", _table(head, rows, numbers=(2, 3, 4, 5, 6)))


def _hosts(report: Report) -> str:
    if report.size > MOST_HOST_ROWS:
        return ""

    def seconds(host: HostReport, phase: Phase) -> str:
        total = sum(end - start for p, start, end in host.spans if p is phase)
        return span(total) if total >= 0.05 else "–"

    rows = [
        (
            ("nodes", escape(host.name)),
            host.group,
            _badge(host.outcome),
            seconds(host, Phase.HELD),
            seconds(host, Phase.BOOT),
            seconds(host, Phase.REDEPLOY),
            "–" if host.settled_s is None else clock(host.settled_s),
            str(host.retries or ""),
            ("nodes", escape(_evidence(host))),
        )
        for host in report.hosts
    ]
    head = ("Host", "Group", "Outcome", "Held", "Boot", "Redeploy", "Settled", "Retries", "Evidence")
    table = _table(head, rows, numbers=(3, 4, 5, 6, 7))
    return f"<section><details><summary>Every host, with its evidence</summary>{table}</details></section>"


def _evidence(host: HostReport) -> str:
    if boot_id := host.evidence.get("boot_id"):
        uptime = host.evidence.get("uptime_s")
        since = f", up {span(float(uptime))}" if uptime is not None else ""
        return f"boot {boot_id}{since}"
    return "" if host.outcome in charts.GOOD else f"{host.reason}: {host.detail}"


def _footer(report: Report) -> str:
    ended = f"ended {escape(report.ended_wall.replace('T', ' '))}; " if report.ended_wall else ""
    return (
        f"<footer><p>{ended}{report.power_ons:,} power-ons and {report.cycles:,} power cycles were sent. Times are run"
        " time: time that bootorch was awake, from the first event.</p>"
        f"<p>plan and inventory <code>{escape(report.plan_digest)}</code> · bootorch {escape(__version__)} ·"
        f" {escape(SCHEMA)}; the same as data: <code>bootorch report --json</code></p></footer>"
    )
