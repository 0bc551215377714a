"""Folded names and addresses, both ways: ``web[001-480]``, ``127.0.[0-3].[1-250]``, ``10.0.0.0/24``.

The notation is ClusterShell's (and pdsh's and FreeIPMI's): brackets hold numbers and ranges, both ends included, parted
by commas; several brackets multiply, the last one fastest; leading zeros are kept. Here rather than by the library,
because a power command of one second must not spend a tenth of it on loading and 32,000 names on folding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from itertools import product

MOST = 1 << 17  # what one expression may mean: four times the largest fleet; a slip must not fill the memory

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_ITEM = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
_NUMBER = re.compile(r"(\d{1,18})", re.ASCII)
_SPECIAL = re.compile(r"[\[\],\s]")  # a name that has one of these cannot be written in this notation


class NodeSetError(ValueError):
    """The text is no folded name or address. The message says which part, and why."""


def split(text: str) -> list[str]:
    """Terms of a comma-separated list; commas inside brackets part none.

    >>> split("web[1-3,5],db1")
    ['web[1-3,5]', 'db1']
    """
    terms, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            terms.append(text[start:index])
            start = index + 1
    terms.append(text[start:])
    return [term.strip() for term in terms]


def expand(term: str) -> list[str]:
    """Names of one term, in its order. Raises NodeSetError: malformed, empty, backwards, or more than ``MOST``.

    >>> expand("rack[1-2]-node[08-10]")[:4]
    ['rack1-node08', 'rack1-node09', 'rack1-node10', 'rack2-node08']
    """
    if "[" not in term and "]" not in term:
        if not term:
            raise NodeSetError("a name is missing")
        return [term]
    pieces = _BRACKETS.split(term)  # text, inside of brackets, text, ...
    if any("[" in text or "]" in text for text in pieces[::2]):
        raise NodeSetError(f"the brackets of {term!r} do not pair")
    ranges = [_numbers(inside, term) for inside in pieces[1::2]]
    count = 1
    for found in ranges:
        count *= len(found)
    _bounded(count, term)
    frame = "%s".join(text.replace("%", "%%") for text in pieces[::2])
    return [frame % numbers for numbers in product(*ranges)]


def expand_addresses(text: str) -> list[str]:
    """Address literals that a comma-separated list of addresses, folded IPv4 ranges and networks means.

    In the order given, each once. A network means its usable addresses (RFC 950: not the first and not the last).
    Raises NodeSetError; also for a list that means nothing, because that is never what was meant.

    >>> expand_addresses("10.0.[0-1].7,10.0.0.7,10.1.0.0/30")
    ['10.0.0.7', '10.0.1.7', '10.1.0.1', '10.1.0.2']
    """
    found: dict[str, None] = {}
    for term in split(text):
        found.update(dict.fromkeys(_addresses(term)))
        _bounded(len(found), text)
    return list(found)


def fold(names: Iterable[str]) -> str:
    """Names or addresses as one text that ``split`` and ``expand`` read back: the same ones, in natural order.

    Exact: only names that differ in one number by whole ranges become one term. A name that the notation cannot hold
    follows as it is.

    >>> fold(["web003", "web001", "web002", "127.0.1.1", "127.0.1.2", "127.0.0.1", "127.0.0.2", "odd,name"])
    '127.0.[0-1].[1-2],web[001-003],odd,name'
    """
    frames: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    odd: list[str] = []
    for name in dict.fromkeys(names):
        if _SPECIAL.search(name) or not name:
            odd.append(name)
        else:
            pieces = tuple(_NUMBER.split(name))
            frames.setdefault(pieces[::2], []).append(pieces[1::2])
    terms = [term for frame in sorted(frames) for term in _fold_frame(frame, frames[frame])]
    return ",".join(terms + odd)


def _fold_frame(frame: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Terms of names that have the same text around their numbers.

    From the last number to the first: rows that agree in all the others become one row, which has a range there.
    """
    for index in reversed(range(len(frame) - 1)):
        # 100 beside 099 is three wide as well; numbers of different width are never in one range.
        widths = {len(row[index]) for row in rows if row[index][0] == "0" and len(row[index]) > 1}
        groups: dict[tuple[tuple[str, ...], tuple[str, ...], int], list[int]] = {}
        for row in rows:
            number = row[index]
            width = len(number) if len(number) in widths else 0
            groups.setdefault((row[:index], row[index + 1 :], width), []).append(int(number))
        rows = [
            (*before, _ranges(sorted(numbers), width), *after) for (before, after, width), numbers in groups.items()
        ]
    rows.sort(key=lambda row: [int(text.partition(",")[0].partition("-")[0]) for text in row])
    return [_joined(frame, row) for row in rows]


def _joined(frame: Sequence[str], texts: Sequence[str]) -> str:
    parts = [frame[0]]
    for text, after in zip(texts, frame[1:], strict=True):
        parts.append(text if text.isdigit() else f"[{text}]")
        parts.append(after)
    return "".join(parts)


def _ranges(numbers: list[int], width: int) -> str:
    """``1-3,7`` of sorted numbers."""
    parts: list[str] = []
    first = last = numbers[0]
    for number in [*numbers[1:], -1]:
        if number == last + 1:
            last = number
            continue
        parts.append(f"{first:0{width}d}" if first == last else f"{first:0{width}d}-{last:0{width}d}")
        first = last = number
    return ",".join(parts)


def _numbers(inside: str, term: str) -> list[str]:
    numbers: list[str] = []
    for item in inside.split(","):
        found = _ITEM.fullmatch(item.strip())
        if found is None:
            what = f"{item.strip()!r} is no number and no range" if item.strip() else "a number is missing"
            raise NodeSetError(f"{what} in {term!r}: write [1-250] or [1,3,5-9]")
        start, end = found[1], found[2] or found[1]
        low, high = int(start), int(end)
        if high < low:
            raise NodeSetError(f"the range {item.strip()} in {term!r} runs backwards")
        _bounded(high - low + 1 + len(numbers), term)
        width = len(start) if start[0] == "0" and len(start) > 1 else 0
        if width and len(end) != width:
            raise NodeSetError(f"the ends of {item.strip()} in {term!r} differ in width: write both with leading zeros")
        numbers.extend([f"{value:0{width}d}" for value in range(low, high + 1)])
    return numbers


def _addresses(term: str) -> list[str]:
    if not term:
        raise NodeSetError("an address is missing: the list is empty, or a comma has nothing beside it")
    if "/" in term:
        return _network(term)
    if "[" not in term and "]" not in term:
        try:
            return [str(ip_address(term))]
        except ValueError:
            raise NodeSetError(f"{term!r} is no IP address") from None
    octets = _octets(term)
    count = 1
    for octet in octets:
        count *= len(octet)
    _bounded(count, term)
    return list(map(".".join, product(*octets)))


def _octets(term: str) -> list[list[str]]:
    """The four numbers of a folded IPv4 address, each with all that it may be."""
    pieces = term.split(".")
    if len(pieces) != 4:
        raise NodeSetError(f"{term!r} is no folded IPv4 address: four numbers or brackets, with dots between them")
    octets = [expand(piece) if piece else [] for piece in pieces]
    for octet in octets:
        for text in octet or [""]:
            if not text.isdigit() or not text.isascii() or int(text) > 255 or (text[0] == "0" and len(text) > 1):
                raise NodeSetError(f"{text!r} in {term!r} is no number from 0 to 255 without leading zeros")
    return octets


def _network(term: str) -> list[str]:
    try:
        network = ip_network(term)
    except ValueError as error:
        raise NodeSetError(f"{term!r} is no network: {error}") from None
    _bounded(network.num_addresses - 2, term)
    return [str(address) for address in network.hosts()]


def _bounded(count: int, what: str) -> None:
    if count > MOST:
        shown = what if len(what) <= 60 else f"{what[:60]}…"
        raise NodeSetError(f"{shown!r} means more than {MOST:,} names")


def shorten(text: str, most_chars: int) -> str:
    """Folded names of at most about ``most_chars``: cut at a comma, and it says so.

    >>> shorten("db01,web[001-480,482]", 12)
    'db01,…'
    """
    if len(text) <= most_chars:
        return text
    return f"{text[: _last_comma(text, most_chars)]},…"


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
