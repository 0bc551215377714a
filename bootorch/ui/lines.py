"""Text for people as lines of styled pieces: made without knowing where it goes, coloured only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from bootorch.core.events import RunResumed
    from bootorch.core.report import Resume

Piece = str | tuple[str, str]  # text, or text and a style: "bold", "dim", "red", "bold green" (rich's words)

STYLES = {
    "ready": "green",
    "adopted": "cyan",
    "quarantined": "red",
    "blocked": "yellow",
    "skipped": "dim",
    "unknown": "magenta",
}


class Lines:
    """A page of text under construction."""

    def __init__(self) -> None:
        self._lines: list[tuple[Piece, ...]] = []

    def add(self, *pieces: Piece) -> None:
        self._lines.append(pieces)

    def blank(self) -> None:
        """An empty line, but never two, and never the first."""
        if self._lines and self._lines[-1]:
            self._lines.append(())

    def table(self, rows: Iterable[Sequence[Piece]], indent: int = 2, right: Sequence[int] = ()) -> None:
        """Rows in columns; the last column is as wide as it is. Columns whose index is in ``right`` align right."""
        listed = [list(row) for row in rows]
        widths = [max((len(text_of(row[i])) for row in listed if len(row) > i), default=0) for i in range(20)]
        for row in listed:
            pieces: list[Piece] = [" " * indent]
            for index, piece in enumerate(row):
                gap = " " * (widths[index] - len(text_of(piece)))
                if index in right:
                    pieces += [gap, piece]
                elif index + 1 < len(row):
                    pieces += [piece, gap]
                else:
                    pieces.append(piece)
                if index + 1 < len(row):
                    pieces.append("  ")
            self._lines.append(tuple(pieces))

    def plain(self) -> str:
        """The text without any style, each line ended."""
        return "".join("".join(map(text_of, line)).rstrip() + "\n" for line in self._lines)

    def write(self, stream: TextIO) -> None:
        """To a stream, with colours where it is a terminal and NO_COLOR is not set."""
        if not coloured(stream):
            stream.write(self.plain())
            stream.flush()
            return
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        for line in self._lines:
            console.print(Text.assemble(*line))


def text_of(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]


def coloured(stream: TextIO) -> bool:
    """A terminal that understands colours, and an operator who wants them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(*pieces: Piece) -> None:
    """One line of talk: stderr."""
    lines = Lines()
    lines.add(*pieces)
    lines.write(sys.stderr)


def clock(seconds: float) -> str:
    """Run time as a clock shows it.

    >>> clock(94.2), clock(7384)
    ('1:34', '2:03:04')
    """
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def span(seconds: float) -> str:
    """A length of time, in two units at most.

    >>> span(0.24), span(4.2), span(94.2), span(7384), span(200000)
    ('0.2 s', '4.2 s', '1 min 34 s', '2 h 03 min', '2 d 7 h')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def watts(value: float) -> str:
    """Power in the unit that reads best.

    >>> watts(450), watts(16000), watts(640000), watts(2.5e6)
    ('450 W', '16.0 kW', '640 kW', '2.50 MW')
    """
    if value < 1000:
        return f"{value:.0f} W"
    if value < 99_950:
        return f"{value / 1e3:.1f} kW"
    return f"{value / 1e3:.0f} kW" if value < 999_500 else f"{value / 1e6:.2f} MW"


def resumed(resume: RunResumed | Resume) -> str:
    """How a run went on."""
    away = span(resume.gap_s)
    if resume.asleep:
        return f"awake again after {away}: the process was stopped, or its machine suspended"
    how = f"taken over by {resume.by} from {resume.taken_from}" if resume.taken_from else f"resumed by {resume.by}"
    return f"{how} after {away} away" + (f": {resume.why}" if resume.why else "")


def hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count:,} hosts"
