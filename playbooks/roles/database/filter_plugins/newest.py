"""Ansible filter: which member of a database cluster has the newest copy, or why nobody can say. Pure.

A position is what a member's copy holds: it is compared with the others' and with nothing else. Two copies of which
neither contains the other have diverged; starting one of them throws away what only the other has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict


class Choice(TypedDict):
    """``first`` starts (or "": the cluster serves already). ``problem`` is "" or why nobody may be started."""

    first: str
    problem: str


class Copy(NamedTuple):
    """``identity IDENTITY, POSITION [CONTENT]`` of one member, as its position command printed it."""

    identity: str
    position: str
    content: str


# holds(a, b): does a copy at position a contain all of one at position b?
Holds = Callable[[str, str], bool]


def _number(a: str, b: str) -> bool:
    return int(a) >= int(b)


def _lsn(a: str, b: str) -> bool:
    """``TIMELINE:HIGH/LOW`` of PostgreSQL. A later timeline left the earlier one somewhere before its own position, so
    what an earlier one has beyond that position is in nobody else's copy."""
    (line_a, at_a), (line_b, at_b) = _lsn_parts(a), _lsn_parts(b)
    return line_a >= line_b and at_a >= at_b


def _lsn_parts(text: str) -> tuple[int, int]:
    line, high, low = re.split("[:/]", text)
    return int(line), (int(high, 16) << 32) + int(low, 16)


def _gtid(a: str, b: str) -> bool:
    """GTID sets of MySQL: ``SOURCE:1-5:7-9,SOURCE:1-3``. ``-`` is the empty set."""
    have = _gtid_parts(a)
    return all(
        any(first <= low and high <= last for first, last in have.get(source, []))
        for source, ranges in _gtid_parts(b).items()
        for low, high in ranges
    )


def _gtid_parts(text: str) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for part in () if text == "-" else text.replace("\n", "").split(","):
        source, *ranges = part.strip().split(":")
        if not ranges:
            raise ValueError(text)
        for span in ranges:
            low, _, high = span.partition("-")
            found.setdefault(source.lower(), []).append((int(low), int(high or low)))
    return {source: _joined(ranges) for source, ranges in found.items()}


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], high)
        else:
            joined.append((low, high))
    return joined


KINDS: Mapping[str, Holds] = {"number": _number, "lsn": _lsn, "gtid": _gtid}


def newest(
    said: Mapping[str, str],
    serving: Sequence[str],
    members: Sequence[str],
    kind: str,
    named: str = "",
    accept_loss: bool = False,
    served_elsewhere: bool = False,
) -> Choice:
    """``said``: what each member's position command printed, "" where it could not; a member that is not in it was not
    seen. ``serving``: who serves already. ``named``: whom a person has chosen. ``served_elsewhere``: the cluster
    answers, by members that were not seen. ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"database_position_kind {kind} is none of {', '.join(KINDS)}")
    holds = KINDS[kind]
    copies: dict[str, Copy] = {}
    silent = sorted(set(members) - set(said))
    for member, line in sorted(said.items()):
        words = line.split()
        if len(words) in (2, 3) and _understood(holds, words[1]):
            copies[member] = Copy(words[0], words[1], words[2] if len(words) == 3 else "")
        else:
            silent.append(member)
    seen = ", ".join(f"{member} at {copy.position}" for member, copy in copies.items())
    if named and named not in members:
        return _refused(f"database_bootstrap names {named}, which is none of {', '.join(members)}")
    if not serving and (served_elsewhere or (named and named not in said)):
        # It was started by another play, as a recovery does with the plan's first member: who is here joins. An engine
        # refuses to let someone join who has more than the cluster.
        return Choice(first="", problem="")
    if named and named not in copies and named not in serving:
        return _refused(f"database_bootstrap names {named}, whose copy cannot be read ({seen or 'nobody was seen'})")
    if silent and not named and not serving:
        return _refused(
            f"the newest copy may be on {', '.join(silent)}, which cannot be read ({seen or 'nobody was seen'}): bring "
            "it up and run all members together, or name the one to start in database_bootstrap"
        )
    if not accept_loss and (problem := _disagreement(copies, serving, holds, named)):
        return _refused(f"{problem} ({seen})")
    if serving:
        return Choice(first="", problem="")
    return Choice(first=named or _best(copies, holds), problem="")


def _refused(problem: str) -> Choice:
    return Choice(first="", problem=problem)


def _understood(holds: Holds, position: str) -> bool:
    try:
        return holds(position, position)
    except ValueError:
        return False


def _best(copies: Mapping[str, Copy], holds: Holds) -> str:
    return next(
        (
            name
            for name, copy in copies.items()
            if all(holds(copy.position, other.position) for other in copies.values())
        ),
        "",
    )


def _disagreement(copies: Mapping[str, Copy], serving: Sequence[str], holds: Holds, named: str) -> str:
    """Why starting would lose something, or ""."""
    if len({copy.identity for copy in copies.values()}) > 1:
        clusters = ", ".join(f"{name}: {copy.identity}" for name, copy in copies.items())
        return f"these are copies of different clusters, {clusters}: find out who was set up anew"
    running = [name for name in copies if name in serving]
    if serving:
        # Those that serve were read one after the other while they move on: only who stands still is compared.
        for name, copy in copies.items():
            if running and name not in serving and not any(holds(copies[r].position, copy.position) for r in running):
                return (
                    f"{', '.join(running)} serves, and {name} has what it has not: stop writing to it now, and decide "
                    "whose copy is kept"
                )
        return ""
    first = named or _best(copies, holds)
    if not first:
        return (
            "the copies have diverged, each has what another has not: decide whose is kept, save the others, then name "
            "it in database_bootstrap with database_accept_loss: true"
        )
    for name, copy in copies.items():
        if not holds(copies[first].position, copy.position):
            return f"{first} is named, and {name} has what it has not: name {name}, or say database_accept_loss: true"
        same = holds(copy.position, copies[first].position)
        if same and copy.content != copies[first].content:
            return (
                f"{first} and {name} are equally far with different content: both have taken writes of their own; "
                "decide whose copy is kept, save the other, then name it in database_bootstrap with "
                "database_accept_loss: true"
            )
    return ""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"newest": newest}
