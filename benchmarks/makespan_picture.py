"""The picture of docs/makespan.md: for each scenario the lower bound and what each way of going about it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WAYS = (
    ("bootorch_s", "bootorch", "#2b6cb0"),
    ("racks_s", "rack order", "#b7791f"),
    ("rate_s", "300 hosts a minute", "#718096"),
    ("barriers_s", "strict barriers", "#9b2c2c"),
)
LEFT, WIDTH, BAR, GAP, TOP = 195, 560, 13, 20, 56


def bars(rows: Sequence[Mapping[str, object]]) -> str:
    """An SVG. Bars are minutes; the line through each group of bars is the lower bound."""
    longest = max(_value(row, key) for row in rows for key, _, _ in WAYS)
    scale = WIDTH / (longest / 60)
    step = next(step for step in (15, 30, 60, 120, 240, 480, 960) if longest / 60 / step <= 10)
    block = BAR * len(WAYS) + GAP
    height = TOP + block * len(rows) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 70} {height}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Makespan of six scenarios against the lower bound</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    x = float(LEFT)
    for _, name, colour in WAYS:
        out.append(f'<rect x="{x:.0f}" y="14" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 17:.0f}" y="24">{name}</text>')
        x += 35 + 6.6 * len(name)
    out.append(f'<path d="M{x + 4:.0f} 12v16" stroke="#000000" stroke-width="2"/>')
    out.append(f'<text x="{x + 12:.0f}" y="24">lower bound</text>')
    for minutes in range(0, int(longest / 60) + 1, step):
        x = LEFT + minutes * scale
        out.append(f'<path d="M{x:.1f} {TOP - 10}V{height - 28}" stroke="#e2e8f0"/>')
        out.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{minutes}</text>')
    out.append(f'<text x="{LEFT + WIDTH + 8}" y="{height - 12}">min</text>')
    y = float(TOP)
    for row in rows:
        middle = y + BAR * len(WAYS) / 2 + 4
        out.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(str(row["title"]))}</text>')
        for place, (key, _, colour) in enumerate(WAYS):
            value = _value(row, key)
            if value:
                top = y + place * BAR
                out.append(
                    f'<rect x="{LEFT}" y="{top:.1f}" width="{value / 60 * scale:.1f}" height="{BAR - 2}" '
                    f'fill="{colour}"/>'
                )
                times = f"{value / _value(row, 'bound_s'):.2f} ×"
                end = LEFT + value / 60 * scale + 5
                out.append(f'<text x="{end:.1f}" y="{top + BAR - 3:.1f}" font-size="10">{times}</text>')
        x = LEFT + _value(row, "bound_s") / 60 * scale
        out.append(f'<path d="M{x:.1f} {y - 3:.1f}v{BAR * len(WAYS) + 4}" stroke="#000000" stroke-width="2"/>')
        y += block
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _value(row: Mapping[str, object], key: str) -> float:
    """Seconds; 0 where there is none, or no end."""
    value = row.get(key)
    return value if isinstance(value, float) and math.isfinite(value) else 0.0
