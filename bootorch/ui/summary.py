"""The end of a run on a screen: outcomes with folded hosts, root causes before what follows from them, what to do next.

Made from the same ``Report`` as the JSON and the page. Totals and the next command come last.
"""

from __future__ import annotations

from collections.abc import Iterable

from bootorch.core.advice import advice
from bootorch.core.causes import Failure
from bootorch.core.critical import Leg, where_time_went
from bootorch.core.model import Outcome
from bootorch.core.report import GroupReport, HostReport, Report
from bootorch.core.timeline import Phase
from bootorch.ui import evidence, standing
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import STYLES, Lines, Piece, clock, hosts, span, watts

MOST_CHARS = 400  # of one folded list on a screen; the JSON and the page have all of it
MOST_DETAILS = 3  # details that differ only in an address are given as examples past this many
MOST_ROWS = 20

# For people, where the word alone does not say it.
PHASE_WORDS = {
    Phase.WAIT: "waiting for dependencies",
    Phase.BMC: "reaching the BMC",
    Phase.HELD: "held back",
    Phase.POWER: "power-on",
    Phase.BOOT: "boot",
    Phase.READY: "readiness",
    Phase.REDEPLOY: "redeploy",
    Phase.VERIFY: "verification",
}


def headline(report: Report) -> str:
    """One line: what, where, how far."""
    what = "dry run" if report.simulated else f"run {report.run_id}"
    return f" · {report.environment} · {what}" + (f" · limit {report.limit}" if report.limit else "")


def lines(report: Report, next_command: str = "") -> Lines:
    """The summary of a run that ended or stopped."""
    page = Lines()
    page.add((report.plan, "bold"), headline(report))
    outcomes(report, page)
    _again(report, page)
    _critical(report, page)
    _held(report, page)
    now = standing.of(report)
    standing.changes(now, page)
    standing.dark(now, page)
    standing.choices(now, page)
    totals(report, page, next_command)
    return page


def outcomes(report: Report, page: Lines) -> None:
    for outcome in (Outcome.READY, Outcome.ADOPTED):
        names = [host.name for host in report.hosts if host.outcome is outcome]
        if names:
            page.blank()
            note = "  was on already: verified, never switched" if outcome is Outcome.ADOPTED else ""
            page.add((outcome.value, STYLES[outcome]), "  ", fold_counted(names, MOST_CHARS), (note, "dim"))
    for failure in report.failures:
        _failure(report, failure, page)
    for cluster in report.blocked[:MOST_ROWS]:
        page.blank()
        page.add(("blocked", STYLES["blocked"]), "  ", fold_counted(cluster.hosts, MOST_CHARS))
        page.add("  waits for  ", cluster.waits_for)
        page.add("  because of ", fold_counted(cluster.roots, MOST_CHARS))
    _more(page, len(report.blocked) - MOST_ROWS, "more dependencies that cannot hold")
    for outcome in (Outcome.SKIPPED, Outcome.UNKNOWN):
        for detail, names in _by_detail(host for host in report.hosts if host.outcome is outcome):
            page.blank()
            page.add((outcome.value, STYLES[outcome]), "  ", fold_counted(names, MOST_CHARS), (f"  {detail}", "dim"))


def _by_detail(found: Iterable[HostReport]) -> list[tuple[str, list[str]]]:
    """Hosts by detail; details that most hosts have first, the rest together."""
    by_detail: dict[str, list[str]] = {}
    for host in found:
        by_detail.setdefault(host.detail, []).append(host.name)
    ordered = sorted(by_detail.items(), key=lambda item: -len(item[1]))
    shown, rest = ordered[:MOST_ROWS], [name for _, names in ordered[MOST_ROWS:] for name in names]
    return [*shown, ("other details", rest)] if rest else shown


def _failure(report: Report, failure: Failure, page: Lines) -> None:
    page.blank()
    said = advice(failure.reason)
    page.add(
        ("quarantined", STYLES["quarantined"]),
        "  ",
        (fold_counted(failure.hosts, MOST_CHARS), "bold"),
        f"  {failure.reason}: {said.meaning}",
    )
    details = list(failure.details.items())
    if len(details) > MOST_DETAILS:
        page.add("  last word  ", details[0][0], (f"  (and {len(details) - 1} like it)", "dim"))
    else:
        for detail, names in details:
            whose = f"  {fold_counted(names, 80)}" if len(details) > 1 else ""
            page.add("  last word  ", detail or "none", (whose, "dim"))
    examined = [name for name in failure.hosts if report.by_name[name].examinations]
    if examined:
        what = evidence.held(report.by_name[examined[0]].examinations[-1])
        page.add("  evidence   ", f"{fold_counted(examined, 80)}  {what}", (", in the report (--json, --html)", "dim"))
    place = ", ".join(part for part in (failure.model, f"firmware {failure.firmware}" * bool(failure.firmware)) if part)
    racks = [rack for rack in failure.racks if rack]
    if racks:
        place += f"{', ' if place else ''}{'rack' if len(racks) == 1 else 'racks'} {fold_counted(racks, 80)}"
    if place:
        page.add("  where      ", place)
    if failure.blocks:
        page.add("  blocks     ", fold_counted(failure.blocks, MOST_CHARS))
    if said.next_step:
        page.add("  next       ", said.next_step)


def _again(report: Report, page: Lines) -> None:
    """What had to be done again, and worked."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for host in report.hosts:
        if host.outcome in (Outcome.READY, Outcome.ADOPTED):
            for trouble in host.troubles:
                rows.setdefault((trouble.what, trouble.reason.value, trouble.detail), []).append(host.name)
    if not rows:
        return
    page.blank()
    page.add(("done again", "bold"))
    ordered = sorted(rows.items(), key=lambda item: -len(item[1]))
    page.table(
        (what, fold_counted(dict.fromkeys(names), 80), (f"{reason}: {detail}" if detail else reason, "dim"))
        for (what, reason, detail), names in ordered[:MOST_ROWS]
    )
    _more(page, len(ordered) - MOST_ROWS, "more kinds of retry")


def _more(page: Lines, count: int, what: str) -> None:
    if count > 0:
        page.add((f"  … {count:,} {what}: see the report", "dim"))


def _critical(report: Report, page: Lines) -> None:
    path = report.critical_path
    if not path:
        return
    shares = ", ".join(
        f"{seconds / max(report.elapsed_s, 1e-9):.0%} {PHASE_WORDS[phase]}"
        for phase, seconds in where_time_went(path).items()
        if seconds >= 0.01 * report.elapsed_s
    )
    page.blank()
    page.add(("critical path", "bold"), f"  {span(path[-1].end_s)}", (f"  {shares}", "dim"))
    page.table((_leg(leg) for leg in path), right=(0,))


def _leg(leg: Leg) -> tuple[Piece, ...]:
    least_s = max(0.05, leg.seconds / 50)
    parts = [f"{PHASE_WORDS[phase]} {span(end - start)}" for phase, start, end in leg.spans if end - start >= least_s]
    after = (f"after {leg.waited_for}", "dim") if leg.waited_for else ""
    return f"{clock(leg.start_s)} – {clock(leg.end_s)}", leg.host, ", ".join(parts), after


def _held(report: Report, page: Lines) -> None:
    """What held hosts back long enough to care: a tenth of a second of a host is none."""
    worth = [hold for hold in report.holds if hold.longest_s >= 1.0]
    power = [feed for feed in report.power if feed.budget_watts]
    if not worth and not power:
        return
    page.blank()
    page.add(("held back by", "bold"))
    rows: list[tuple[Piece, ...]] = [
        (hold.resource, hosts(hold.hosts), f"longest {span(hold.longest_s)}") for hold in worth[:MOST_ROWS]
    ]
    if not worth:
        rows.append(("nothing", "", ""))
    page.table(rows)
    for feed in power[:MOST_ROWS]:
        # Of one that was changed: the share says enough.
        of = f" of {watts(feed.budget_watts or 0.0)}" if len(feed.budgets) < 2 else ""
        share = "" if feed.peak_share is None else f" ({feed.peak_share:.0%})"
        page.add(f"  peak of feed {feed.feed}: {watts(feed.peak_watts)}{of}", (share, "dim"))


def totals(report: Report, page: Lines, next_command: str = "") -> None:
    """The last lines: the sum, and what to type next."""
    page.blank()
    counts: list[Piece] = [(f"{report.ready:,} of {hosts(report.size)} ready", "bold")]
    for outcome in (Outcome.ADOPTED, Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.SKIPPED, Outcome.UNKNOWN):
        if count := report.totals[outcome]:
            piece = f"{count:,} of them adopted" if outcome is Outcome.ADOPTED else f"{count:,} {outcome}"
            counts += [", ", (piece, STYLES[outcome])]
    took = f" in {span(report.elapsed_s)}" + (" of virtual time" if report.simulated else "")
    last_s = max((group.passage.ready_s or 0.0 for group in report.groups), default=0.0)
    last = f", the last ready one at {clock(last_s)}" if 0.0 < last_s < report.elapsed_s - 1.0 else ""
    page.add(*counts, f"{took}{last}; {report.power_ons:,} power-ons, {report.cycles:,} cycles")
    if next_command:
        page.add(("next: ", "dim"), next_command)


def timetable(report: Report) -> Lines:
    """The forecast of a dry run: when each group starts and is ready, in run time."""
    page = Lines()
    page.add((report.plan, "bold"), headline(report))
    by_name = {group.passage.name: group for group in report.groups}
    for number, wave in enumerate(report.waves):
        page.blank()
        page.add((f"wave {number}", "bold"), f"  {hosts(wave.passage.size)}")
        page.table((_group_times(by_name[name]) for name in wave.groups), right=(1,))
    _critical(report, page)
    _held(report, page)
    return page


def _group_times(group: GroupReport) -> tuple[Piece, ...]:
    passage = group.passage

    def at(t: float | None) -> str:
        return "–" if t is None else clock(t)

    times = f"starts {at(passage.started_s):>7}  first ready {at(passage.first_ready_s):>7}  "
    times += f"last ready {at(passage.ready_s):>7}"
    bad = passage.size - passage.ready
    note: Piece = (f"{bad:,} not ready", "red") if bad else ""
    return (passage.name, "bold"), f"{passage.size:,}", times, note
