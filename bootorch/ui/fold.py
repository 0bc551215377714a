"""Host names folded for people, with their count and no longer than a line: ``web[001-480] (480)``."""

from __future__ import annotations

from collections.abc import Iterable

from bootorch.core.nodesets import fold


def fold_counted(names: Iterable[str], most_chars: int = 0) -> str:
    """Folded names with their count when there is more than one: ``web[001-480] (480)``.

    A text longer than ``most_chars`` (0: any length) is cut at a comma, and says so.
    """
    listed = tuple(names)
    text = fold(listed)
    if most_chars and len(text) > most_chars:
        cut = _last_comma(text, most_chars)
        text = f"{text[:cut]},…"
    return text if len(listed) == 1 else f"{text} ({len(listed):,})"


def _last_comma(text: str, most_chars: int) -> int:
    """Where to cut: the last comma outside brackets, so that no range is torn."""
    depth, last = 0, 0
    for index, letter in enumerate(text[:most_chars]):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            last = index
    return last or most_chars
