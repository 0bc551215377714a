"""The page's pictures as inline SVG: the timeline, power over time, the critical path. One time axis for all of them.

Sizes are SVG user units, which are pixels on a wide screen. Every text is escaped; nothing is drawn by a script.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from bootorch.core.critical import Leg
from bootorch.core.events import FeedLost, FeedReturned, LimitSet, ScopeAdded
from bootorch.core.model import Outcome
from bootorch.core.report import GroupReport, HostReport, PowerReport, Report
from bootorch.core.timeline import Phase
from bootorch.ui.lines import clock, span, watts

WIDTH = 1200.0
LEFT = 168.0  # where the plot begins: names stand before it
RIGHT = 1188.0
TAIL_SHARE = 0.18  # of the plot's width for the time after the last ready host, when that is long
LABEL_HOSTS = 200  # runs up to this size show every host with its name
BAR_HOSTS = 400  # runs up to this size show every host
BAR_GROUP = 64  # of a larger run, groups up to this size do
SMALL_GROUP = 8
FLOW_STEPS = 240  # columns of an aggregated group: finer than the eye at this width
MOST_ROWS = 120  # groups drawn one by one; past that a wave is a row

GOOD = (Outcome.READY, Outcome.ADOPTED)


class Scale:
    """Run time to x. Where a few hosts ran into their deadlines long after the rest was ready, that tail is squeezed
    behind a knee, so that the recovery itself stays readable."""

    def __init__(self, end_s: float, last_ready_s: float) -> None:
        self.end_s = max(end_s, 1e-9)
        self.knee_s = self.end_s
        self.knee_x = RIGHT
        if 0 < last_ready_s * 1.08 < self.end_s * (1 - TAIL_SHARE * 2):
            self.knee_s = last_ready_s * 1.08
            self.knee_x = RIGHT - (RIGHT - LEFT) * TAIL_SHARE

    @property
    def bent(self) -> bool:
        return self.knee_s < self.end_s

    def x(self, t: float) -> float:
        t = min(max(t, 0.0), self.end_s)
        if t <= self.knee_s:
            return LEFT + (self.knee_x - LEFT) * t / self.knee_s
        return self.knee_x + (RIGHT - self.knee_x) * (t - self.knee_s) / (self.end_s - self.knee_s)

    def t(self, x: float) -> float:
        if x <= self.knee_x:
            return (x - LEFT) / (self.knee_x - LEFT) * self.knee_s
        return self.knee_s + (x - self.knee_x) / (RIGHT - self.knee_x) * (self.end_s - self.knee_s)

    def ticks(self) -> list[float]:
        """Round times, eight or so before the knee, and the end."""
        step = next((s for s in _STEPS if self.knee_s / s <= 9), _STEPS[-1])
        marks = [step * i for i in range(int(self.knee_s / step) + 1)]
        if self.bent:
            marks = [t for t in marks if self.x(t) < self.knee_x - 20]
        marks = [t for t in marks if self.x(t) < RIGHT - 66 or t == 0]
        return [*marks, self.end_s]


_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800)


def scale_of(report: Report) -> Scale:
    last_ready = max((group.passage.ready_s or 0.0 for group in report.groups), default=0.0)
    return Scale(report.elapsed_s, last_ready)


def _n(value: float) -> str:
    """A coordinate: a tenth of a pixel, no needless zero."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _rect(x: float, y: float, width: float, height: float, cls: str, title: str = "") -> str:
    inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'<rect class="{cls}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0.4))}" height="{_n(height)}"{inside}'


def _text(x: float, y: float, text: str, cls: str = "", anchor: str = "") -> str:
    at = f' text-anchor="{anchor}"' if anchor else ""
    word = f' class="{cls}"' if cls else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{word}{at}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    return f'<line class="{cls}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _svg(parts: Iterable[str], height: float, title: str) -> str:
    head = f'<svg viewBox="0 0 {_n(WIDTH)} {_n(height)}" role="img" aria-label="{escape(title, quote=True)}">'
    return head + "".join(parts) + "</svg>"


def _axis(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    """Grid lines behind, times above."""
    if scale.bent:
        yield _rect(scale.knee_x, top, RIGHT - scale.knee_x, bottom - top, "knee")
        middle = (scale.knee_x + RIGHT) / 2
        yield _text(middle, top + 10, "time squeezed", "soft tiny", "middle")
    for t in scale.ticks():
        x = scale.x(t)
        yield _line(x, top, x, bottom, "grid")
        yield _text(
            x, top - 6, clock(t) if scale.end_s >= 20 else f"{t:g} s", "soft", "end" if x > RIGHT - 20 else "middle"
        )


# -- timeline ---------------------------------------------------------------------


def timeline(report: Report) -> str:
    """A row per group, wave by wave: hosts as bars, large groups as how many are where."""
    scale = scale_of(report)
    rows: list[str] = []
    y = 40.0
    groups = {group.passage.name: group for group in report.groups}
    by_group: dict[str, list[HostReport]] = {}
    for host in report.hosts:
        by_group.setdefault(host.group, []).append(host)
    for number, wave in enumerate(report.waves):
        passage = wave.passage
        times = (
            f"{clock(passage.started_s)} – {clock(passage.settled_s or report.elapsed_s)}"
            if passage.started_s is not None
            else ""
        )
        rows.append(_line(0, y, RIGHT, y, "rule"))
        rows.append(_text(0, y + 14, f"WAVE {number}", "wave"))
        rows.append(_text(LEFT - 12, y + 14, times, "soft tiny", "end"))
        y += 22
        if len(report.groups) > MOST_ROWS:
            members = [host for name in wave.groups for host in by_group.get(name, ())]
            parts, height = _flow(f"{len(wave.groups):,} groups", members, scale, y, 40.0)
            rows += parts
            y += height + 8
            continue
        for name in wave.groups:
            parts, height = _group(groups[name], by_group.get(name, []), report, scale, y)
            rows += parts
            y += height + 8
        y += 2
    behind = list(_axis(scale, 30.0, y))
    return _svg([*behind, *_marks(report, scale, y), *rows], y + 4, "Timeline of every group by wave")


def _marks(report: Report, scale: Scale, bottom: float) -> Iterator[str]:
    """Gates, resumes and breakers as lines across everything."""
    marks = [(gate.opened_s, f"gate {gate.name}", "") for gate in report.gates if gate.opened_s is not None]
    marks += [(resume.t, f"resumed after {span(resume.gap_s)}", "") for resume in report.resumes]
    marks += [(t, f"breaker {scope}", " bad") for t, scope, _ in report.tripped]
    marks += [(said.t, said.what, " bad") for said in report.changes if said.kind == FeedLost.type]
    shown = (FeedReturned.type, LimitSet.type, ScopeAdded.type)
    marks += [(said.t, said.what, "") for said in report.changes if said.kind in shown]
    edge = -100.0
    for t, label, cls in sorted(marks):
        x = scale.x(t)
        yield _line(x, 16, x, bottom, f"mark{cls}")
        if x >= edge:
            anchor = "end" if x > RIGHT - 120 else "start"
            yield _text(x + (-4 if anchor == "end" else 4), 12, label, "soft tiny", anchor)
            edge = x + 5.2 * len(label) + 8


def _group(
    group: GroupReport, hosts: list[HostReport], report: Report, scale: Scale, y: float
) -> tuple[list[str], float]:
    small = SMALL_GROUP if report.size > BAR_HOSTS else BAR_GROUP
    if len(hosts) > small:
        return _flow(group.passage.name, hosts, scale, y, 56.0 if len(report.groups) <= 40 else 30.0)
    named = report.size <= LABEL_HOSTS
    pitch, thick = (10.0, 6.4) if named else (6.0, 4.4)
    parts = [_text(0, y + 10, group.passage.name, "strong"), _text(0, y + 23, _count(hosts), "soft tiny")]
    ordered = sorted(hosts, key=lambda host: host.name)
    for index, host in enumerate(ordered):
        top = y + index * pitch + 1.5
        if named:
            parts.append(_text(LEFT - 8, top + thick, host.name, "soft tiny", "end"))
        parts += _bar(host, scale, top, thick)
    return parts, max(len(hosts) * pitch, 26.0)


def _count(hosts: Sequence[HostReport]) -> str:
    ready = sum(1 for host in hosts if host.outcome in GOOD)
    return f"{ready:,} of {len(hosts):,} ready"


def _bar(host: HostReport, scale: Scale, top: float, thick: float) -> Iterator[str]:
    """One host: its phases, then what became of it."""
    middle = top + thick / 2
    for phase, start, end in host.spans:
        x1, x2 = scale.x(start), scale.x(end)
        if phase is Phase.WAIT:
            yield _rect(x1, middle - 0.4, x2 - x1, 0.8, "p-wait")
        elif x2 - x1 >= 0.25:
            yield _rect(x1, top, x2 - x1, thick, f"p-{phase}", f"{host.name}: {phase} {span(end - start)}")
    for trouble in host.troubles:
        if host.outcome in GOOD:
            x = scale.x(trouble.t)
            words = f"{host.name}: {trouble.what} again ({trouble.reason})"
            yield (
                f'<path class="again" d="M{_n(x - 4)} {_n(top + thick)}h8l-4 -7.5z">'
                f"<title>{escape(words)}</title></path>"
            )
    if host.settled_s is None:
        return
    x = scale.x(host.settled_s)
    if host.outcome in GOOD:
        if host.outcome is Outcome.ADOPTED:
            yield _text(x + 5, top + thick, "was on: adopted", "note-adopted")
            x = min(x + 82, RIGHT)
        yield _rect(x, middle - 1, RIGHT - x, 2, f"up o-{host.outcome}")
    elif host.outcome is Outcome.QUARANTINED:
        yield f'<circle class="o-quarantined" cx="{_n(x)}" cy="{_n(middle)}" r="3.6"/>'
        yield _beside(host, scale, top + thick, host.reason.value, "note-bad halo")
    elif host.outcome is Outcome.BLOCKED:
        yield f'<circle class="o-blocked" cx="{_n(x)}" cy="{_n(middle)}" r="3"/>'
        yield _beside(host, scale, top + thick, "blocked", "note-blocked halo")


def _beside(host: HostReport, scale: Scale, y: float, text: str, cls: str) -> str:
    """Words after the end of a bar, or before its beginning where there is no room."""
    x = scale.x(host.settled_s or 0.0)
    if x + 8 + 5.6 * len(text) < RIGHT:
        return _text(x + 7, y, text, cls)
    return _text(scale.x(host.started_s or 0.0) - 6, y, text, cls, "end")


# From settled at the bottom to what has hardly begun at the top.
_LAYERS: tuple[str, ...] = (
    *(f"o-{outcome}" for outcome in (Outcome.READY, Outcome.ADOPTED, Outcome.QUARANTINED, Outcome.BLOCKED)),
    *(f"o-{outcome}" for outcome in (Outcome.SKIPPED, Outcome.UNKNOWN)),
    *(
        f"p-{phase}"
        for phase in (Phase.VERIFY, Phase.REDEPLOY, Phase.READY, Phase.BOOT, Phase.POWER, Phase.HELD, Phase.BMC)
    ),
)


def _flow(name: str, hosts: list[HostReport], scale: Scale, y: float, height: float) -> tuple[list[str], float]:
    """How many of the hosts are where at each moment: a cumulative flow, the settled at the bottom."""
    parts = [_text(0, y + 10, name, "strong"), _text(0, y + 23, _count(hosts), "soft tiny")]
    step = (RIGHT - LEFT) / FLOW_STEPS
    xs = [LEFT + step * index for index in range(FLOW_STEPS + 1)]
    times = [scale.t(x) for x in xs]
    counts = _counts(hosts, times)
    base = [0.0] * len(times)
    unit = height / max(len(hosts), 1)
    parts.append(_rect(LEFT, y, RIGHT - LEFT, height, "knee"))
    for layer in _LAYERS:
        column = counts.get(layer)
        if column is None:
            continue
        top = [low + count * unit for low, count in zip(base, column, strict=True)]
        parts.append(f'<path class="flow {layer}" d="{_area(xs, base, top, y + height)}"/>')
        base = top
    return parts, height


def _counts(hosts: list[HostReport], times: list[float]) -> dict[str, list[int]]:
    """Hosts in each layer at each of the times."""
    change: dict[str, list[int]] = {}

    def count(layer: str, start: float, end: float | None) -> None:
        row = change.get(layer)
        if row is None:
            row = change[layer] = [0] * (len(times) + 1)
        row[bisect_left(times, start)] += 1
        if end is not None:
            row[bisect_left(times, end)] -= 1

    for host in hosts:
        for phase, start, end in host.spans:
            if phase is not Phase.WAIT:
                count(f"p-{phase}", start, end)
        if host.settled_s is not None:
            # The last column is the end of the run: whoever settles then counts in it.
            count(f"o-{host.outcome}", min(host.settled_s, times[-1]), None)
    totals: dict[str, list[int]] = {}
    for layer, row in change.items():
        level, column = 0, []
        for step in row[:-1]:
            level += step
            column.append(level)
        totals[layer] = column
    return totals


def _area(xs: list[float], low: list[float], high: list[float], bottom: float) -> str:
    """The band between two curves; points on a straight line are left out."""
    upper = _corners([(x, bottom - value) for x, value in zip(xs, high, strict=True)])
    lower = _corners([(x, bottom - value) for x, value in zip(xs, low, strict=True)])
    points = [*upper, *reversed(lower)]
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + "z"


def _corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = points[:1]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        if abs((here[1] - before[1]) - (after[1] - here[1])) > 0.05:
            kept.append(here)
    return [*kept, *points[-1:]] if len(points) > 1 else kept


# -- power ---------------------------------------------------------------------


def power(feed: PowerReport, scale: Scale, height: float = 104.0) -> str:
    """Modelled draw of one feed against its budget."""
    top, bottom = 26.0, 26.0 + height
    most = max(feed.peak_watts, feed.highest_budget, 1.0) * 1.08

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / most

    parts = list(_axis(scale, top, bottom))
    steps = []
    level = y(0.0)
    for t, value in feed.points:
        steps.append(f"L{_n(scale.x(t))} {_n(level)}")
        level = y(value)
        steps.append(f"L{_n(scale.x(t))} {_n(level)}")
    steps.append(f"L{_n(RIGHT)} {_n(level)}")
    path = "".join(steps)
    parts.append(f'<path class="draw" d="M{_n(LEFT)} {_n(bottom)}{path}L{_n(RIGHT)} {_n(bottom)}z"/>')
    parts.append(f'<path class="drawline" d="M{_n(LEFT)} {_n(bottom)}{path}"/>')
    parts.append(_line(LEFT, bottom, RIGHT, bottom, "rule"))
    parts.append(_text(0, top + 12, feed.feed or "all hosts", "strong"))
    parts.append(_text(0, top + 27, f"peak {watts(feed.peak_watts)} at {clock(feed.peak_s)}", "soft"))
    parts += _budget(feed, scale, y)
    if feed.budget_watts is not None:
        used = "" if feed.peak_share is None else f" ({feed.peak_share:.0%} used)"
        parts.append(_text(0, top + 42, f"budget {watts(feed.budget_watts)}{used}", "soft"))
    if feed.ramp_watts_per_min is not None:
        parts.append(_text(0, top + 57, f"ramp {watts(feed.ramp_watts_per_min)} a minute", "soft"))
    return _svg(parts, bottom + 6, f"Power of {feed.feed or 'all hosts'} over time")


def _budget(feed: PowerReport, scale: Scale, y: Callable[[float], float]) -> Iterator[str]:
    """The budget over time: a level line for each value that it had, joined where it was changed."""
    steps = feed.budgets or ((0.0, feed.budget_watts),)
    before: float | None = None
    for index, (t, budget) in enumerate(steps):
        left = scale.x(t) if index else LEFT
        right = scale.x(steps[index + 1][0]) if index + 1 < len(steps) else RIGHT
        if budget is not None:
            if before is not None and budget != before:
                yield _line(left, y(before), left, y(budget), "budget")
            yield _line(left, y(budget), right, y(budget), "budget")
        before = budget


# -- critical path ---------------------------------------------------------------------


def critical_path(path: Sequence[Leg], scale: Scale) -> str:
    """The chain as a waterfall: each host begins where the one above let it go."""
    pitch = 34.0
    bottom = 30.0 + pitch * len(path) + 4
    parts = list(_axis(scale, 26.0, bottom))
    for index, leg in enumerate(path):
        top = 36.0 + pitch * index
        parts.append(_text(0, top + 8, leg.host, "strong"))
        parts.append(_text(0, top + 20, leg.group, "soft tiny"))
        for phase, start, end in leg.spans:
            x1, x2 = scale.x(start), scale.x(end)
            parts.append(_rect(x1, top, x2 - x1, 11, f"p-{phase}", f"{leg.host}: {phase} {span(end - start)}"))
        start_x, end_x = scale.x(leg.start_s), scale.x(leg.end_s)
        if index + 1 < len(path):
            parts.append(f'<path class="link" d="M{_n(end_x)} {_n(top + 11)}V{_n(top + pitch)}"/>')
        words = span(leg.seconds)
        if leg.waited_for:
            words += f" · had waited for {leg.waited_for}"
        if leg.held_by:
            words += f" · held by {', '.join(leg.held_by)}"
        if end_x + 8 + 5.4 * len(words) < RIGHT:
            parts.append(_text(end_x + 7, top + 9, words, "soft halo"))
        elif start_x - 8 - 5.4 * len(words) > LEFT:
            parts.append(_text(start_x - 7, top + 9, words, "soft halo", "end"))
        else:
            parts.append(_text(max(start_x, LEFT) + 2, top + 22, words, "soft halo"))
    return _svg(parts, bottom + 4, "The chain of hosts that determined when the run ended")
