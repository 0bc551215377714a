"""Files with the simulated world's parameters: from text to values, or to every fault with its line; and back.

A key that is not in the file has the value of ``FIELD``, but for ``scale_to_deadlines``: a file holds measured times,
and those are absolute. A distribution is a number (a constant), ``{median: 5m, p95: 12m}``, ``{least: 2, most: 6}`` or
``{quantiles: [...]}`` from the least to the most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.spec import Place
from bootorch.core.units import seconds
from bootorch.runtime.yamlfile import Document, parse, read_text
from bootorch.sim.distributions import Distribution, Lognormal, Quantiles, Uniform
from bootorch.sim.machine import BootFailure
from bootorch.sim.parameters import (
    FIELD,
    Epidemic,
    ModelParameters,
    Parameters,
    PlaybookParameters,
    Storm,
)

__all__ = ["parameter_table", "parse_parameters", "read_parameters", "write_parameters"]

_EXAMPLE = "see docs/simulation.md"
_SECOND_QUANTILE = re.compile(r"p(\d{2}(?:\.\d+)?)", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_MOST_COUNT = 10**9
_DEFAULT = replace(FIELD, scale_to_deadlines=False)
_WIDTH = 118
_FACTORS = frozenset(
    {"host_share", "round_share", *(item.name for item in fields(Parameters) if item.metadata["unit"] == "factor")}
)


def read_parameters(path: Path) -> Parameters:
    """The parameters of a file. Raises InvalidInput with every problem found."""
    return parse_parameters(read_text(path, "parameter file"), str(path))


def parse_parameters(text: str, name: str = "parameters.yml") -> Parameters:
    """The parameters of a file's text; ``name`` is the file's name in messages. Raises InvalidInput."""
    document = parse(text, name)
    reader = _Reader(document, name)
    if document.data is None and not document.problems:
        return _DEFAULT
    parameters = reader.parameters(document.data)
    problems = [*document.problems, *reader.problems]
    if problems:
        raise InvalidInput(sorted(problems, key=lambda problem: int(problem.where.rpartition(":")[2] or 0)))
    return parameters


class _Wrong(ValueError):
    """A value that cannot be used; what it says is for the operator."""


class _Reader:
    """Reads values by the type of the field that they are for. Notes problems, and goes on to find more."""

    def __init__(self, document: Document, name: str) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._name = name

    def parameters(self, data: object) -> Parameters:
        if not isinstance(data, dict):
            self._problem("parameters are a mapping of keys to values", (), _EXAMPLE)
            return _DEFAULT
        return replace(_DEFAULT, **self._fields(Parameters, data, ()))

    def _fields(self, cls: type, data: Mapping[str, object], place: Place) -> dict[str, Any]:
        """Keyword arguments for ``cls`` from the keys of ``data``."""
        known = {item.name: item for item in fields(cls)}
        found: dict[str, Any] = {}
        for key, value in data.items():
            here = (*place, key)
            if key not in known:
                close = get_close_matches(key, known, n=1)
                remedy = f"did you mean {close[0]}?" if close else "remove it"
                where = f" in {_dotted(place)}" if place else ""
                self._problem(f"unknown key {key}{where}", here, remedy)
                continue
            try:
                found[key] = self._value(known[key], value, here)
            except _Wrong as error:
                self._problem(f"{_dotted(here)}: {error}", here, _EXAMPLE)
        return found

    def _value(self, item: Field[Any], value: object, place: Place) -> Any:
        kind = str(item.type)
        if value is None:
            if "None" in kind:
                return None
            raise _Wrong("has no value")
        match kind.removesuffix(" | None"):
            case "bool":
                if not isinstance(value, bool):
                    raise _Wrong("must be true or false")
                return value
            case "int":
                return _count(value)
            case "float":
                return _amount(value, item.name)
            case "str":
                if not isinstance(value, str):
                    raise _Wrong("must be text")
                return value
            case "Distribution":
                return self._distribution(value, place)
            case "tuple[Epidemic, ...]":
                return tuple(self._records(Epidemic, value, place))
            case "tuple[Storm, ...]":
                return tuple(self._records(Storm, value, place))
            case _:
                return self._mapping(kind, value, place)

    def _mapping(self, kind: str, value: object, place: Place) -> dict[Any, Any]:
        """``models``, ``playbooks``, ``failures``, ``auto_on``, ``hosts`` and ``samples``."""
        if not isinstance(value, dict):
            raise _Wrong("must be a mapping of keys to values")
        found: dict[Any, Any] = {}
        for key, entry in value.items():
            here = (*place, key)
            try:
                if kind.endswith("ModelParameters]"):
                    found[key] = ModelParameters(**self._record(ModelParameters, entry, here))
                elif kind.endswith("PlaybookParameters]"):
                    found[key] = PlaybookParameters(**self._record(PlaybookParameters, entry, here))
                elif kind.endswith("Distribution]"):
                    found[key] = self._distribution(entry, here)
                elif kind.startswith("Mapping[BootFailure"):
                    if key not in set(BootFailure):
                        raise _Wrong(f"is no failure of a boot: {', '.join(BootFailure)}")
                    found[BootFailure(key)] = _number(entry)
                elif kind.endswith("int]"):
                    found[key] = _count(entry)
                else:
                    found[key] = _seconds(entry)
            except _Wrong as error:
                self._problem(f"{_dotted(here)}: {error}", here, _EXAMPLE)
        return found

    def _record(self, cls: type, value: object, place: Place) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Wrong("must be a mapping of keys to values")
        return self._fields(cls, value, place)

    def _records(self, cls: type, value: object, place: Place) -> Iterator[Any]:
        if not isinstance(value, list):
            raise _Wrong("must be a list")
        for index, entry in enumerate(value):
            here = (*place, index)
            count = len(self.problems)
            try:
                record = self._record(cls, entry, here)
                if "probability" not in record and len(self.problems) == count:
                    raise _Wrong("probability is missing")
            except _Wrong as error:
                self._problem(f"{_dotted(here)}: {error}", here, _EXAMPLE)
                continue
            if "probability" in record:
                yield cls(**record)

    def _distribution(self, value: object, place: Place) -> Distribution:
        try:
            if not isinstance(value, dict):
                constant = _seconds(value)
                return Uniform(constant, constant)
            keys = set(value)
            if keys == {"least", "most"}:
                return Uniform(_seconds(value["least"]), _seconds(value["most"]))
            if keys == {"quantiles"} and isinstance(value["quantiles"], list):
                return Quantiles(tuple(_seconds(entry) for entry in value["quantiles"]))
            second = next((key for key in keys if _SECOND_QUANTILE.fullmatch(key)), None)
            if second is not None and keys == {"median", second}:
                return Lognormal(_seconds(value["median"]), _seconds(value[second]), _percent(second))
        except _Wrong:
            raise
        except ValueError as error:
            raise _Wrong(str(error)) from error
        raise _Wrong("must be a number, {median: 5m, p95: 12m}, {least: 2, most: 6} or {quantiles: [1, 2, 4]}")

    def _problem(self, message: str, place: Place, remedy: str) -> None:
        self.problems.append(Problem(message, self._where(place), remedy))

    def _where(self, place: Place) -> str:
        for end in range(len(place), -1, -1):
            if found := self._document.places.get(place[:end]):
                return found
        return self._name


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _percent(key: str) -> float:
    """``p99.9`` is 0.999, exactly as written: 99.9 / 100 is not."""
    return float(f"{key[1:]}e-2")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _Wrong(f"{str(value)[:20]!r} is no number of 0 or more")
    return float(value)


def _seconds(value: object) -> float:
    """Seconds, or a factor: a number, or a duration such as 5m."""
    if isinstance(value, str):
        try:
            return seconds(value)
        except ValueError as error:
            raise _Wrong(str(error)) from error
    return _number(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_COUNT:
        raise _Wrong(f"{str(value)[:20]!r} is no count")
    return value


def _amount(value: object, name: str) -> float:
    """A share or a probability lies between 0 and 1; factors that fields call shares of a time may be more."""
    number = _number(value)
    if number > 1 and not _is_factor(name):
        raise _Wrong(f"{value} is no share: it lies between 0 and 1")
    return number


def _is_factor(name: str) -> bool:
    return name in _FACTORS


# -- writing ----------------------------------------------------------------------------------


def write_parameters(parameters: Parameters) -> str:
    """The file that ``parse_parameters`` reads as ``parameters``: YAML, with a comment above each of them."""
    lines = [
        "# Parameters of the simulated world. Times are seconds, or such as 90s and 5m; shares lie between 0 and 1."
    ]
    for item in fields(Parameters):
        value = getattr(parameters, item.name)
        count = parameters.samples.get(item.name)
        source = f"fitted to {count} samples" if count else f"field: {item.metadata['source']}"
        if not count and value != getattr(FIELD, item.name):
            source = "as written or fitted"
        lines += ["", f"# {_sentence(item.metadata['about'])} ({item.metadata['unit']}). {_sentence(source)}."]
        lines.append(_yaml({item.name: _plain(value)}).rstrip())
    return "\n".join(lines) + "\n"


def parameter_table() -> str:
    """The table of docs/simulation.md: each parameter with unit, meaning, default and source."""
    rows = ["| parameter | unit | what it is | default | where it comes from |", "|---|---|---|---|---|"]
    for item in fields(Parameters):
        shown = _yaml({"x": _plain(getattr(_DEFAULT, item.name))}).removeprefix("x:").strip()
        shown = " ".join(shown.removeprefix("- ").split())
        said = item.metadata
        rows.append(f"| `{item.name}` | {said['unit']} | {said['about']} | `{shown}` | {said['source']} |")
    return "\n".join(rows) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: object) -> Any:
    """``value`` as YAML writes it."""
    match value:
        case Lognormal(median, high, at):
            digits = f"{at * 100:.10f}".rstrip("0").rstrip(".")
            return {"median": median, f"p{digits}": high}
        case Uniform(least, most):
            return least if least == most else {"least": least, "most": most}
        case Quantiles(values):
            return {"quantiles": list(values)}
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case tuple():
            return [_plain(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((item.name, getattr(value, item.name)) for item in fields(value))
        return {name: _plain(entry) for name, entry in pairs if entry is not None and entry != ""}
    return value


class _Dumper(yaml.SafeDumper):
    """Floats as the shortest text that is the same number, and always readable as one."""


def _float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Plain where no reader could take it for anything but text; PyYAML's own rule knows YAML 1.1's numbers."""
    plain = _WORD.fullmatch(value) and value.lower() not in ("null", "true", "false")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)


def _yaml(value: Mapping[str, Any]) -> str:
    """A key and its value: the innermost collections on one line."""
    nested = any(isinstance(entry, dict | list) for entry in value.values())
    style = None if nested else False
    return str(
        yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=style, width=_WIDTH, allow_unicode=True)
    )
