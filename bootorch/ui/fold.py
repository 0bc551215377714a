"""Host names folded for people: ``web[001-480]``. ClusterShell does it; it is loaded when the first name is folded."""

from __future__ import annotations

from collections.abc import Iterable

# Characters that mean something in a node set; a host that has one in its name is listed as it is.
_SPECIAL = frozenset("[],!&^@%\"'") | frozenset(" \t\n")


def fold(names: Iterable[str]) -> str:
    """Names as one node set; those that no node set can hold follow unfolded.

    >>> fold(["web003", "web001", "web002", "odd,name"])
    'web[001-003],odd,name'
    """
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    plain: list[str] = []
    odd: list[str] = []
    for name in names:
        (odd if _SPECIAL.intersection(name) or not name else plain).append(name)
    parts = []
    if len(plain) == 1:
        parts.append(plain[0])
    elif plain:
        try:
            parts.append(str(NodeSet.fromlist(plain, resolver=RESOLVER_NOGROUP)))
        except NodeSetException:
            odd = plain + odd
    return ",".join(parts + sorted(odd))


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
