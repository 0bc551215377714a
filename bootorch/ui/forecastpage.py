"""A forecast as one page that needs nothing, in the style of the report: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from bootorch import __version__
from bootorch.core.critical import where_time_went
from bootorch.core.forecast import Forecast, Outcomes, PassageForecast, difference
from bootorch.ui import charts, forecastcharts
from bootorch.ui.forecastview import SCHEMA, Times, _later, _length, _more, assumptions, mean, times_of, usable, verdict
from bootorch.ui.html import Cell, _legend, _section, _table
from bootorch.ui.lines import clock, hosts, span, text_of
from bootorch.ui.summary import PHASE_WORDS

STYLE = """
svg .band { opacity: 0.26; } svg .bandline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .bandline.o-ready { stroke: var(--ok); } svg .bandline.p-boot { stroke: var(--boot); }
svg .ring { fill: var(--paper); stroke: var(--ok); stroke-width: 1.4; }
"""


def page(forecast: Forecast) -> str:
    """The whole page as HTML."""
    times = times_of(forecast)
    style = files("bootorch.ui").joinpath("report.css").read_text(encoding="utf-8") + STYLE
    scale = forecastcharts.scale_of([forecast.base])
    base, began_s = forecast.base, forecast.began_s
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(forecast.plan)} – forecast</title><style>{style}</style></head><body><main>",
        _header(forecast, times),
        _tiles(forecast, times),
        _unfinished(base),
        _what_ifs(forecast, times),
        _section(
            "Hosts ready over time",
            "The band holds eight of ten samples, the line is the median.",
            forecastcharts.ready(base, scale, began_s),
        ),
        _power(base, scale, began_s),
        _critical(base, scale),
        _groups(forecast, times, scale),
        _footer(forecast),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _header(forecast: Forecast, times: Times) -> str:
    chip = f'<span class="chip {escape(forecast.environment)}">{escape(forecast.environment)}</span>'
    chip += ' <span class="chip">simulated: nothing was sent</span>'
    facts = [
        ("run", forecast.run_id),
        ("from", clock(forecast.began_s) if forecast.run_id else ""),
        ("begins", times.wall(0.0) or ""),
        ("limit", forecast.limit),
        ("dark", ", ".join(forecast.dark)),
        ("samples", f"{forecast.samples:,}"),
        ("seed", str(forecast.seed)),
        ("plan", forecast.digest[:12]),
    ]
    row = "".join(f"<span>{name} <b>{escape(value)}</b></span>" for name, value in facts if value)
    base = forecast.base
    good = not base.unfinished and base.whole.ready_at.p50 is not None
    if not good:
        word, small = "Cannot be finished", f"in {base.unfinished} of {forecast.samples:,} samples"
        if not base.unfinished:
            word, small = "Nothing becomes ready", ""
    else:
        at = base.whole.ready_at
        word = f"Back {'at' if times.known else 'after'} {times.day(at.p50) or times.span(at.p50)}"
        small = f"at worst (P90) {times.day(at.p90) or times.span(at.p90)}"
    cls = "good" if good and base.whole.short < 0.05 else "open" if good else "bad"
    return (
        '<header><div><div class="over">Forecast</div>'
        f'<h1>{escape(forecast.plan)}</h1><div class="facts"><span>{chip}</span>{row}</div></div>'
        f'<div class="verdict {cls}">{escape(word)}<small>{escape(small)}</small></div></header>'
    )


def _tiles(forecast: Forecast, times: Times) -> str:
    base = forecast.base
    whole, at = base.whole, base.whole.ready_at
    tiles = [
        ("Ready", mean(whole.ready), f"of {hosts(whole.size)}", "ok"),
        ("Median", times.span(at.p50), times.day(at.p50) or "P50 of the last ready host", ""),
        ("At worst", times.span(at.p90), times.day(at.p90) or "P90 of the last ready host", ""),
        ("Quarantined", f"{whole.quarantined:,.1f}", "on average", "bad" if whole.quarantined >= 0.05 else ""),
        ("Blocked", f"{whole.blocked:,.1f}", "by what they depend on", "blocked" if whole.blocked >= 0.05 else ""),
    ]
    if base.bindings:
        bound = base.bindings[0]
        tiles.append(("Binding", f"{bound.share:.0%}", bound.title, ""))
    if base.bound is not None and base.bound.p50 is not None:
        ratio = (
            "" if base.ratio is None or base.ratio.p50 is None else f"the run ends at {base.ratio.p50:.2f} × of it: "
        )
        tiles.append(("Lower bound", span(base.bound.p50), f"{ratio}{base.bound_by}", ""))
    cells = "".join(
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="value {cls}">{escape(value)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
        for what, value, more, cls in tiles
    )
    said = "".join(map(text_of, verdict(base, times)))
    return f'<div class="tiles">{cells}</div><p class="note">{escape(said)}.</p>'


def _unfinished(base: Outcomes) -> str:
    if not base.unfinished:
        return ""
    rows = [
        (f"{left.hosts:,}", ("wait for " if left.waiting else "held by ") + left.why, ", ".join(left.examples))
        for left in base.left
    ]
    note = f"In {base.unfinished} of {len(base.samples)} samples hosts are left that nothing will move any more."
    return _section("What cannot be finished", note, _table(("Hosts", "Why", "Such as"), rows, numbers=(0,)))


def _what_ifs(forecast: Forecast, times: Times) -> str:
    if not forecast.what_ifs:
        return ""
    rows: list[Sequence[Cell | str]] = [_world_row("as planned", forecast.base, "", "", times)]
    for other in forecast.what_ifs:
        change = difference(forecast.base, other)
        rows.append(_world_row(other.what, other, text_of(_later(change.ready)), text_of(_more(change.hosts)), times))
    head = ("What if", "Later", "Hosts", "P50", "P90", "Not ready", "Binding")
    note = "Each beside the plan as it is, with the same seeds: who boots slowly does so in both."
    return _section("What if", note, _table(head, rows, numbers=(1, 3, 4, 5)))


def _world_row(name: str, world: Outcomes, later: str, more: str, times: Times) -> Sequence[Cell | str]:
    at = world.whole.ready_at
    bound = world.bindings[0].title if world.bindings else ""
    if world.unfinished:
        bound = f"cannot be finished in {world.unfinished} of {len(world.samples)} samples"
    row: list[Cell | str] = [("", f"<b>{escape(name)}</b>"), later, more, times.both(at.p50), times.both(at.p90)]
    return [*row, f"{world.whole.short:,.1f}", bound]


def _power(base: Outcomes, scale: charts.Scale, began_s: float) -> str:
    held = ""
    if base.held:
        rows = (
            (title, f"{most:,}", f"{host_s / 3600:,.1f}")
            for title, (host_s, most) in list(base.held_folded.items())[:20]
        )
        held = "<br>" + _table(("Held back by", "Hosts at once", "Host hours"), rows, numbers=(1, 2))
    pictures = [forecastcharts.power(feed, base, scale, began_s) for feed in base.budgets]
    if not pictures and not held:
        return ""
    note = "Modelled draw of the feeds that are asked for most, against their budgets; P10 to P90 over the samples."
    return _section("Power and what holds hosts back", note if pictures else "No feed has a budget.", *pictures, held)


def _critical(base: Outcomes, scale: charts.Scale) -> str:
    path = base.median.path
    if not path:
        return ""
    total = max(path[-1].end_s - path[0].start_s, 1e-9)
    entries = [
        (f"p-{phase}", f"{PHASE_WORDS[phase]} {span(seconds)} ({seconds / total:.0%})")
        for phase, seconds in where_time_went(path).items()
        if seconds / total >= 0.005
    ]
    return _section(
        "Critical path",
        "Of the median sample: the chain that determines when the last host is ready.",
        charts.critical_path(path, scale),
        _legend(entries),
    )


def _groups(forecast: Forecast, times: Times, scale: charts.Scale) -> str:
    base = forecast.base
    parts: list[PassageForecast] = [base.whole, *base.tiers, *base.groups]
    rows = [
        (
            ("", f"<b>{escape(part.name)}</b>"),
            f"{part.size:,}",
            f"{part.ready:,.1f}",
            f"{part.short:,.1f}" if part.short >= 0.05 else "",
            text_of(usable(part, times, members)),
            "–" if part.ready_at.p10 is None else times.span(part.ready_at.p10),
            text_of(_length(part.ready_at, 0.5, times)),
            text_of(_length(part.ready_at, 0.9, times)),
            " – ".join(day for day in (times.day(part.ready_at.p50), times.day(part.ready_at.p90)) if day),
        )
        for part, members in zip(parts, _members(base), strict=True)
    ]
    head = ("Group", "Hosts", "Ready", "Not ready", "Usable", "P10", "P50", "P90", "At, at worst")
    note = (
        "Usable: as many members are ready as those that depend on the group ask for, or nine of ten where nobody"
        " does. P10 to P90: when the last that will be ready is."
    )
    picture = forecastcharts.passages(parts, scale, forecast.began_s, "When each group is back, P10 to P90")
    return _section("Groups", note, picture, _table(head, rows, numbers=(1, 2, 3, 4, 5, 6, 7)))


def _members(base: Outcomes) -> list[Sequence[PassageForecast]]:
    """The groups of the whole, of each tier, and none for a group."""
    tiers = [[group for group in base.groups if group.tier == tier.tier] for tier in base.tiers]
    return [base.groups, *tiers, *([] for _ in base.groups)]


def _footer(forecast: Forecast) -> str:
    said = "; ".join(assumptions(forecast))
    return (
        f"<footer><p>Assumed: {escape(said)}. Times are run time.</p>"
        f"<p>plan and inventory <code>{escape(forecast.digest)}</code> · bootorch {escape(__version__)} ·"
        f" {escape(SCHEMA)}; the same as data: <code>bootorch forecast --json</code></p></footer>"
    )
