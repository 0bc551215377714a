"""The evidence of a boot that failed: what its BMC tells, cut to what a journal should hold and safe to show.

Keys, each only where the BMC has it: ``power`` ("on", "off"), ``fault`` and ``overload`` (bool, chassis status),
``last_power_event``, ``restart_cause`` and ``manufacturer`` (text), ``sel`` (the event log since the request, a line
each, ``CODE TIME TEXT``, oldest first) and ``console`` (the tail of what the host wrote). An empty ``sel`` or
``console`` says that it was looked at and held nothing; a missing one says nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

Scalar = str | int | float | bool

MOST_CONSOLE = 4096  # bytes: two screens of 80 by 25
MOST_SEL = 20  # lines: a boot that goes well logs some ten (Intel and Lenovo log every step of the self-test)
MOST_LINE = 200  # characters of an event's line, and of every other text
WORDS = ("last_power_event", "restart_cause", "manufacturer")

_CODE = re.compile(
    r"([0-9a-f]{2}(?:/[0-9a-f]{2})?)\.([0-9a-f]{2})\.([0-9a-f]{2})\.([0-9a-f]{2})(\.d)?(?: (\S+) ?(.*))?", re.ASCII
)
# ECMA-48: control strings (OSC, DCS and the like), control sequences, and the short escapes.
_ESCAPES = re.compile(
    r"\x1b[PX\]^_][^\x07\x1b]*(?:\x07|\x1b\\)?|(?:\x1b\[|\x9b)[0-?]*[ -/]*(?P<final>[@-~])?|\x1b[ -/]*[0-~]?"
)
_MOVES = frozenset("ABEFHJdf")  # cursor to another line, display erased: what follows is another line
_LINE_ENDS = re.compile(r"\r\n|\r|\x0b|\x0c|\x85|\u2028|\u2029")


class SelEvent(NamedTuple):
    """A record of the event log, in hexadecimal as its line has it.

    ``kind`` is the sensor type, with ``/`` and the event type where that is a generic one (a threshold, redundancy):
    the same offset means something else there. ``step`` is event data 2, which says more about some events.
    """

    kind: str
    offset: str
    step: str
    deasserted: bool
    text: str

    @property
    def code(self) -> str:
        """``tt.oo.d2``: what rules name."""
        return f"{self.kind}.{self.offset}.{self.step}"


def parse_sel(lines: str) -> list[SelEvent]:
    """The events of ``sel``, oldest first; lines without a code (OEM records) are left out."""
    matches = map(_CODE.fullmatch, lines.split("\n"))
    return [SelEvent(m[1], m[2], m[3], m[5] is not None, m[7] or "") for m in matches if m]


def bounded(data: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What of an answer goes into the journal: known keys of the right type, cut and without control characters."""
    kept: dict[str, Scalar] = {}
    if (power := data.get("power")) in ("on", "off"):
        kept["power"] = power
    for key in ("fault", "overload"):
        if isinstance(flag := data.get(key), bool):
            kept[key] = flag
    for key in WORDS:
        if isinstance(word := data.get(key), str):
            kept[key] = printable(word)[:MOST_LINE]
    if isinstance(sel := data.get("sel"), str):
        lines = [printable(line)[:MOST_LINE] for line in sel.split("\n")]
        kept["sel"] = "\n".join(_relevant([line for line in lines if line.strip()]))
    if isinstance(console := data.get("console"), str):
        kept["console"] = tail(clean(console[-4 * MOST_CONSOLE :]))
    return kept


def _relevant(lines: list[str]) -> list[str]:
    """At most ``MOST_SEL`` lines in their order: the newest, but steps of the self-test give way to what went wrong."""
    if len(lines) <= MOST_SEL:
        return lines
    newest = range(len(lines) - 1, -1, -1)
    steps = {index for index in newest if lines[index].startswith("0f.02.")}
    last_step = {max(steps)} if steps else set()
    wanted = [*sorted(last_step), *(i for i in newest if i not in steps), *(i for i in newest if i in steps)]
    kept = dict.fromkeys(wanted)
    return [lines[index] for index in sorted([*kept][:MOST_SEL])]


def clean(text: str) -> str:
    """Console output as plain lines: no escape sequence, no control character, no blank lines in a row.

    A screen that firmware paints with cursor movements becomes lines in the order in which it was painted.
    """
    text = _ESCAPES.sub(lambda match: "\n" if match["final"] in _MOVES else "", text)
    text = _LINE_ENDS.sub("\n", text)
    lines: list[str] = []
    for line in text.split("\n"):
        shown = printable(line).rstrip()
        if shown or (lines and lines[-1]):
            lines.append(shown)
    return "\n".join(lines).rstrip("\n")


def tail(text: str) -> str:
    """The last ``MOST_CONSOLE`` bytes of UTF-8, from a whole character on."""
    data = text.encode()
    return text if len(data) <= MOST_CONSOLE else data[-MOST_CONSOLE:].decode(errors="ignore").lstrip("\n")


def printable(text: str) -> str:
    """The text without what could steer a terminal or break an encoder; tabs become spaces."""
    if text.isprintable():
        return text
    return "".join(char for char in text.replace("\t", "    ") if char.isprintable())
