"""Host names folded for people, with their count and no longer than a line: ``web[001-480] (480)``."""

from __future__ import annotations

from collections.abc import Iterable

from bootorch.core.nodesets import fold, shorten


def fold_counted(names: Iterable[str], most_chars: int = 0) -> str:
    """Folded names with their count when there is more than one: ``web[001-480] (480)``.

    A text longer than ``most_chars`` (0: any length) is cut at a comma, and says so.
    """
    listed = tuple(names)
    text = fold(listed)
    if most_chars:
        text = shorten(text, most_chars)
    return text if len(listed) == 1 else f"{text} ({len(listed):,})"
