"""YAML that remembers its lines: plain values, and for each of them the place in the file.

Scalars follow YAML 1.2's core schema, as editors do: ``no``, ``on`` and ``1:30`` are text. Unlike PyYAML's loader it
finds keys that are written twice, and the rest of the file is still read, so that its other faults are told too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.spec import Place

# A plan of 120 groups is some 10 kB. These bound a wrong file and an alias that multiplies itself ("billion laughs").
MAX_BYTES = 8 << 20
MAX_NODES = 500_000

_MERGE = "tag:yaml.org,2002:merge"
_BOOL, _INT, _FLOAT, _NULL, _STR = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "str"))


@dataclass(frozen=True, slots=True)
class Document:
    """``places`` maps the path of each value (mapping keys and list positions) to ``file:line``.

    ``problems``: faults that the reader could go on after; with any of them ``data`` is good only to find more.
    """

    data: object
    places: Mapping[Place, str]
    problems: tuple[Problem, ...] = ()


def read_text(path: Path, what: str) -> str:
    """The text of a file. Raises InvalidInput, naming ``what`` (such as ``plan``), when it is none."""
    where = str(path)
    if path.is_dir():
        candidates = sorted(entry.name for entry in path.iterdir() if entry.suffix in (".yml", ".yaml"))
        remedy = f"give the file itself: {' or '.join(candidates[:3])}" if candidates else "give the file itself"
        raise InvalidInput(Problem(f"the {what} is a directory", where, remedy))
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(Problem(f"there is no such {what}", where, "check the path")) from None
    except OSError as error:
        raise InvalidInput(Problem(f"the {what} cannot be read: {error.strerror}", where)) from error
    if len(raw) > MAX_BYTES:
        raise InvalidInput(Problem(f"the {what} has {len(raw)} bytes; at most {MAX_BYTES} are read", where))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput(Problem(f"the {what} is not UTF-8 text", f"{where}:{line}", "save it as UTF-8")) from error


def parse(text: str, name: str) -> Document:
    """One YAML document; an empty one is ``None``. ``name`` is the file's name in places. Raises InvalidInput."""
    _check_printable(text, name)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise InvalidInput(_syntax_problem(error, name)) from error
    except RecursionError:
        raise InvalidInput(Problem("this is nested too deeply to be a plan", name)) from None
    finally:
        loader.dispose()
    reader = _Reader(name)
    data = None if node is None else reader.value(node, ())
    return Document(data, reader.places, tuple(reader.problems))


# libyaml's parser where PyYAML was built with it: the plan of the example site takes 0.1 s otherwise.
if TYPE_CHECKING:
    _Base = yaml.SafeLoader
else:
    _Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """PyYAML's parser with the implicit types of YAML 1.2's core schema (section 10.3.2)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute


for _tag, _pattern, _first in (
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    (_NULL, r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    (_MERGE, r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})\\Z"), list(_first))


class _Reader:
    """Turns nodes into values, noting places and problems."""

    def __init__(self, name: str) -> None:
        self.places: dict[Place, str] = {}
        self.problems: list[Problem] = []
        self._name = name
        self._nodes = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> object:
        self.places.setdefault(place, self._where(node))
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidInput(Problem(f"more than {MAX_NODES} values, aliases included", self._name))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            self._problem("an alias refers to what contains it", node, "remove the alias")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: list[yaml.Node] = []
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged.extend(value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _STR:
                shown = f" {key_node.value}" if isinstance(key_node, yaml.ScalarNode) else ""
                self._problem(f"the key{shown} is not text", key_node, "put it in quotes")
                continue
            key = str(key_node.value)
            if key in lines:
                self._problem(
                    f"the key {key} is here twice (first in line {lines[key]})", key_node, "remove one of them"
                )
                continue
            lines[key] = key_node.start_mark.line + 1
            self.places[(*place, key)] = self._where(key_node)
            found[key] = self.value(value_node, (*place, key))
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                self._problem("<< takes a mapping", source, "refer to a mapping with *name")
                continue
            others = self.value(source, place)  # places of keys that are set here already stay as they are
            assert isinstance(others, dict)
            found = {**others, **found}
        return found

    def _scalar(self, node: yaml.ScalarNode) -> object:
        text = str(node.value)
        match node.tag:
            case t if t == _STR:
                return text
            case t if t == _NULL:
                return None
            case t if t == _BOOL and text.lower() in ("true", "false"):
                return text.lower() == "true"
            case t if t in (_INT, _FLOAT):
                try:
                    return _number(text)
                except ValueError:
                    self._problem(f"{text[:40]} is no number that can be read", node, "correct it")
                    return None
        self._problem(f"the tag {node.tag} has no meaning here", node, "remove the tag")
        return None

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _problem(self, message: str, node: yaml.Node, remedy: str) -> None:
        self.problems.append(Problem(message, self._where(node), remedy))


def _number(text: str) -> int | float:
    """A number of the core schema. Raises ValueError, also for more digits than Python converts."""
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _check_printable(text: str, name: str) -> None:
    """Raises InvalidInput for a character that YAML forbids (section 5.1), such as a NUL of a binary file."""
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InvalidInput(Problem(f"the character U+{ord(found[0]):04X} is not allowed in YAML", f"{name}:{line}"))


def _syntax_problem(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = name if mark is None else f"{name}:{mark.line + 1}"
    said = ", ".join(part for part in (error.context, error.problem) if part)
    if "nesting depth" in said:  # libyaml stops where Python's own parser runs out of stack
        return Problem("this is nested too deeply to be a plan", where)
    remedy = "indent with spaces" if "\\t" in said else "correct the YAML at this line or just above it"
    return Problem(f"this is not valid YAML: {said}", where, remedy)
