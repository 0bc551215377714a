"""Ansible's host patterns: the same hosts in the same order as ``ansible --list-hosts`` gives.

``web:db`` or ``web,db`` union, ``web:&east`` intersection, ``web:!canary`` difference, ``web*`` wildcard, ``~web\\d+``
regular expression, ``web[0]``, ``web[-1]``, ``web[0:2]`` (both ends included) positions, ``all``, ``ungrouped``. Unions
come first, then intersections, then differences, wherever they stand (Ansible, "Patterns: targeting hosts and groups").
Two differences, both on purpose: ``localhost`` is no host unless the inventory has it, and a term that matches nothing
is named rather than ignored.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.inventory import Inventory

_SUBSCRIPT = re.compile(r"(?P<base>.+)\[(?:(?P<index>-?\d+)|(?P<start>\d+)[:-](?P<end>\d*))\]", re.ASCII)
_TERMS = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")  # split at colons, but not inside brackets
_GLOB = (".", "?", "*", "[")  # a term with one of these is looked up among hosts even when it matched a group
_MOST_COMPARED = 2_000  # names compared to guess a slip of the keyboard: difflib takes some 20 µs for each
_LABEL = re.compile(r"\w[\w-]*(?<![_-])")
_RANGE = re.compile(r"\[(?:[A-Za-z]:[A-Za-z]|\d+:\d+)(?::\d+)?\]", re.ASCII)


class PatternError(ValueError):
    """The text is no host pattern, or a position lies outside its group."""


@dataclass(frozen=True, slots=True)
class Match:
    """``hosts`` in Ansible's order; ``unmatched``: the terms that name no host and no group."""

    hosts: tuple[str, ...]
    unmatched: tuple[str, ...] = ()


def match(inventory: Inventory, pattern: str) -> Match:
    """Evaluate a pattern as Ansible does. Raises :class:`PatternError`, also for a pattern with no term at all."""
    terms = split(pattern)
    if not terms:
        raise PatternError("the pattern is empty, and an empty pattern never means all")
    included = [term for term in terms if term[0] not in "&!"] or ["all"]
    required = [term for term in terms if term[0] == "&"]
    excluded = [term for term in terms if term[0] == "!"]
    unmatched: list[str] = []

    def hosts_of(term: str) -> Sequence[str]:
        if term in inventory.hosts:  # a host's name wins over everything, even over the meaning of & and !
            return (term,)
        found, known = _one(inventory, term.removeprefix(term[0]) if term[0] in "&!" else term)
        if not known:
            unmatched.append(term)
        return found

    hosts: dict[str, None] = {}
    for term in included:
        hosts.update(dict.fromkeys(hosts_of(term)))
    for term in required:
        keep = set(hosts_of(term))
        hosts = {host: None for host in hosts if host in keep}
    for term in excluded:
        drop = set(hosts_of(term))
        hosts = {host: None for host in hosts if host not in drop}
    return Match(tuple(hosts), tuple(unmatched))


def select(inventory: Inventory, pattern: str) -> tuple[str, ...]:
    """Hosts for an operator's ``--limit``. Raises InvalidInput when a term matches nothing or nothing is selected."""
    where = f"host pattern {pattern!r}"
    try:
        found = match(inventory, pattern)
    except PatternError as error:
        raise InvalidInput(Problem(str(error), where, remedy="write all to mean every host")) from error
    if found.unmatched:
        raise InvalidInput([no_match(inventory, term, where) for term in found.unmatched])
    if not found.hosts:
        raise InvalidInput(Problem("selects no host", where, remedy="an empty selection never means all"))
    return found.hosts


def no_match(inventory: Inventory, term: str, where: str) -> Problem:
    """The problem of a term that matches nothing, with the names that the operator may have meant."""
    name = term.lstrip("&!~")
    alike = [host for host in inventory.hosts if host[:2] == name[:2]][:_MOST_COMPARED]
    close = get_close_matches(name, [*inventory.groups, *alike], n=3)
    return Problem(
        f"{name!r} matches no group and no host of the inventory",
        where=where,
        remedy=f"did you mean {' or '.join(close)}?" if close else "ansible-inventory --graph shows what there is",
    )


def split(pattern: str) -> tuple[str, ...]:
    """Terms of a pattern: at commas when there is one, else at colons outside brackets; an address is one term.

    >>> split("web:&east:!web[0:2]")
    ('web', '&east', '!web[0:2]')
    >>> split("2001:db8::1")
    ('2001:db8::1',)
    """
    if "," in pattern:
        terms: Iterable[str] = pattern.split(",")
    elif _is_address(pattern):
        terms = (pattern,)
    else:
        terms = _TERMS.findall(pattern)
    return tuple(stripped for term in terms if (stripped := term.strip()))


def _is_address(text: str) -> bool:
    """An IPv6 address, or ``name:port``: colons that separate no terms."""
    if _is_ip(text):
        return True
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return False
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return _is_ip(host) or _is_name(host)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_name(text: str) -> bool:
    return all(_LABEL.fullmatch(label) for label in _RANGE.sub("x", text).split("."))


def _one(inventory: Inventory, term: str) -> tuple[Sequence[str], bool]:
    """Hosts of one term, and whether the term names anything that exists (a group may exist and be empty)."""
    if not term:
        raise PatternError("a lone & or ! has nothing to apply to")
    subscript = None if term.startswith("~") else _SUBSCRIPT.fullmatch(term)
    hosts, known = _enumerate(inventory, subscript["base"] if subscript else term)
    if subscript is None or not hosts:
        return hosts, known
    if subscript["index"] is not None:
        return (_at(hosts, int(subscript["index"]), term),), known
    start, end = int(subscript["start"]), subscript["end"]
    if not end:
        return hosts[start:], known
    if int(end) == 0:  # Ansible reads [n:0] as [n]
        return (_at(hosts, start, term),), known
    return hosts[start : int(end) + 1], known


def _at(hosts: Sequence[str], index: int, term: str) -> str:
    try:
        return hosts[index]
    except IndexError:
        raise PatternError(f"{term} asks for a position that {len(hosts)} hosts do not have") from None


def _enumerate(inventory: Inventory, term: str) -> tuple[Sequence[str], bool]:
    """Hosts of a term without its position. May hold a host twice: Ansible counts positions before it drops repeats."""
    try:
        expression = re.compile(term[1:] if term.startswith("~") else fnmatch.translate(term))
    except re.error as error:
        raise PatternError(f"{term!r} is no regular expression: {error}") from error
    groups = [name for name in inventory.groups if expression.match(name)]
    hosts = [host for group in groups for host in inventory.groups[group]]
    if not groups or term.startswith("~") or any(mark in term for mark in _GLOB):
        hosts.extend(name for name in inventory.hosts if expression.match(name))
    return hosts, bool(groups or hosts)
