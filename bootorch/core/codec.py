"""How an event is written and read: one line of JSON, versioned, in the journal and in every stream.

The codec is a hot path: 20,000 events a second are written, a million are read back to go on with a big run. So the
encoder of json is made once (``json.dumps`` makes one for each call), and members are looked up instead of made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, get_origin, get_type_hints

from bootorch.core.events import TYPES, Event


class EventError(ValueError):
    """The bytes are no event that this version can read."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_ASCII = json.JSONEncoder(separators=(",", ":"))
_MAKE = getattr(json.encoder, "c_make_encoder", None)  # what JSONEncoder.encode itself uses where it is there
_CHUNKS = _MAKE and _MAKE(
    None, _ENCODER.default, json.encoder.encode_basestring, None, ":", ",", False, False, True
)  # fmt: skip
_PARSE = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a class of events is written and read. ``get`` takes all values at once, in the order of ``names``."""

    cls: type[Event]
    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    get: Callable[[Event], tuple[Any, ...]]
    read: tuple[tuple[str, Callable[[Any], Any]], ...]  # fields whose value JSON has otherwise, and how to make it


def _shape(cls: type[Event]) -> _Shape:
    own = [f for f in fields(cls) if f.name != "durable"]
    names = tuple(f.name for f in own)
    types = get_type_hints(cls)
    read: list[tuple[str, Callable[[Any], Any]]] = []
    for name in names:
        if isinstance(types[name], type) and issubclass(types[name], StrEnum):
            read.append((name, {str(member): member for member in types[name]}.__getitem__))
        elif get_origin(types[name]) is tuple:
            read.append((name, tuple))
        elif name == "verdicts":
            read.append((name, _verdicts))
    defaults: tuple[Any, ...] = tuple({} if f.default_factory is dict else f.default for f in own)
    return _Shape(cls, names, defaults, attrgetter(*names), tuple(read))


def _verdicts(value: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {host: (pair[0], pair[1]) for host, pair in value.items()}


_SHAPES: Mapping[str, _Shape] = {word: _shape(cls) for word, cls in TYPES.items()}


def encode(event: Event) -> str:
    """One line of JSON; fields that hold their default are left out, keys in the order of the class. A string that is
    no Unicode text (bytes of another program's output) is written with escapes."""
    word = event.type
    shape = _SHAPES[word]
    record: dict[str, Any] = {"e": word, "v": event.version}
    record |= {
        name: value
        for name, value, default in zip(shape.names, shape.get(event), shape.defaults, strict=True)
        if value != default
    }
    line = "".join(_CHUNKS(record, 0)) if _CHUNKS else _ENCODER.encode(record)
    if not line.isascii():
        try:
            line.encode()
        except UnicodeEncodeError:
            return _ASCII.encode(record)
    return line


def decode(line: str) -> Event:
    """The event that ``encode`` wrote. Raises ``EventError`` naming what cannot be read."""
    try:
        record, end = _PARSE(line)
    except (ValueError, RecursionError) as error:
        raise EventError(f"not JSON: {error}") from error
    if end != len(line):
        raise EventError(f"not JSON: more than one value, at character {end}")
    if not isinstance(record, dict):
        raise EventError("not an object")
    word, version = record.pop("e", None), record.pop("v", None)
    shape = _SHAPES.get(word) if isinstance(word, str) else None
    if shape is None:
        raise EventError(f"unknown event type {word!r}: written by a newer bootorch?")
    cls = shape.cls
    if type(version) is not int or version > cls.version:
        raise EventError(f"event {word} has version {version}, this bootorch reads up to {cls.version}")
    try:
        for name, made_of in shape.read:
            if name in record:
                record[name] = made_of(record[name])
        return cls(**record)
    except KeyError as error:
        raise EventError(f"event {word}: {error.args[0]!r} is no word that this bootorch knows") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise EventError(f"event {word}: {error}") from error
