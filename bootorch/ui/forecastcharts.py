"""The pictures of a forecast as inline SVG: bands over samples on the time axis of the report's own pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from bootorch.core.forecast import Band, Outcomes, PassageForecast
from bootorch.ui.charts import LEFT, RIGHT, Scale, _axis, _corners, _line, _n, _rect, _svg, _text
from bootorch.ui.lines import watts

MOST_GROUPS = 120  # drawn one by one
_SAMPLE = "M{x} {y1}V{y2}"


def scale_of(worlds: Iterable[Outcomes]) -> Scale:
    """One axis for all pictures: to the end of the longest sample, the tail of dead hosts' deadlines squeezed."""
    listed = list(worlds)
    end_s = max((world.horizon_s for world in listed), default=0.0)
    ready = [sample.whole.ready_s or 0.0 for world in listed for sample in world.samples]
    return Scale(end_s, max(ready, default=0.0))


def _band(found: Band, scale: Scale, top: float, bottom: float, most: float, cls: str) -> Iterator[str]:
    """P10 to P90 as an area, the median as a line."""

    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        return [
            (scale.x(t), bottom - (bottom - top) * value / most) for t, value in zip(found.times, values, strict=True)
        ]

    high, low = _corners(points(found.p90)), _corners(points(found.p10))
    area = "L".join(f"{_n(x)} {_n(y)}" for x, y in [*high, *reversed(low)])
    middle = "L".join(f"{_n(x)} {_n(y)}" for x, y in _corners(points(found.p50)))
    yield f'<path class="band {cls}" d="M{area}z"/>'
    yield f'<path class="bandline {cls}" d="M{middle}"/>'


def _now(scale: Scale, began_s: float, bottom: float) -> Iterator[str]:
    if began_s > 0:
        x = scale.x(began_s)
        yield _line(x, 16, x, bottom, "mark")
        yield _text(x + 4, 12, "now", "soft tiny")


def ready(world: Outcomes, scale: Scale, began_s: float, height: float = 150.0) -> str:
    """Hosts ready over time."""
    top, bottom = 26.0, 26.0 + height
    size = world.whole.size
    parts = [*_axis(scale, top, bottom), *_now(scale, began_s, bottom)]
    parts += _band(world.ready_band(scale.end_s), scale, top, bottom, size * 1.04, "o-ready")
    parts.append(_line(LEFT, bottom, RIGHT, bottom, "rule"))
    parts.append(_text(0, top + 12, "Hosts ready", "strong"))
    parts.append(_text(0, top + 27, f"{world.whole.ready:,.0f} of {size:,} in the end", "soft"))
    return _svg(parts, bottom + 6, "Hosts ready over time, P10 to P90 over the samples")


def power(feed: str, world: Outcomes, scale: Scale, began_s: float, height: float = 96.0) -> str:
    """Modelled draw of a feed against its budget."""
    top, bottom = 26.0, 26.0 + height
    found = world.feed_band(feed, scale.end_s)
    budget = world.budgets[feed]
    peak = max(found.p90, default=0.0)
    most = max(peak, budget, 1.0) * 1.08
    parts = [*_axis(scale, top, bottom), *_now(scale, began_s, bottom)]
    parts += _band(found, scale, top, bottom, most, "p-boot")
    parts.append(_line(LEFT, bottom, RIGHT, bottom, "rule"))
    parts.append(_text(0, top + 12, feed, "strong"))
    parts.append(_text(0, top + 27, f"peak {watts(peak)}", "soft"))
    if budget:
        y = bottom - (bottom - top) * budget / most
        parts.append(_line(LEFT, y, RIGHT, y, "budget"))
        parts.append(_text(0, top + 42, f"budget {watts(budget)} ({peak / budget:.0%} used)", "soft"))
    return _svg(parts, bottom + 6, f"Power of {feed} over time, P10 to P90 over the samples")


def passages(parts: Sequence[PassageForecast], scale: Scale, began_s: float, label: str) -> str:
    """A row each: from P10 to P90 of when it is back, the median marked, usable as a ring."""
    shown = list(parts)[:MOST_GROUPS]
    pitch, top = 17.0, 30.0
    bottom = top + pitch * len(shown) + 4
    drawn = [*_axis(scale, 26.0, bottom), *_now(scale, began_s, bottom)]
    for index, part in enumerate(shown):
        y = top + pitch * index + 9
        at = part.ready_at
        drawn.append(_text(0, y + 4, part.name, "strong" if part.name.startswith(("all", "tier ")) else ""))
        if part.usable_at.p50 is not None:
            x = scale.x(part.usable_at.p50)
            title = f"<title>{escape(part.name)} usable</title>"
            drawn.append(f'<circle class="ring" cx="{_n(x)}" cy="{_n(y)}" r="3.4">{title}</circle>')
        if at.p50 is None:
            drawn.append(_text(RIGHT, y + 4, f"not back in {at.never} of {at.samples} samples", "note-bad", "end"))
            continue
        first = scale.x(at.p10 if at.p10 is not None else at.p50)
        last = scale.x(at.p90) if at.p90 is not None else RIGHT
        drawn.append(_rect(first, y - 3.5, last - first, 7, "band o-ready", part.name))
        middle = scale.x(at.p50)
        drawn.append(f'<path class="bandline o-ready" d="{_SAMPLE.format(x=_n(middle), y1=_n(y - 6), y2=_n(y + 6))}"/>')
    return _svg(drawn, bottom + 4, label)
