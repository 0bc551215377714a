"""Kinds of values that plan files are made of: durations, watts, quorums, networks, and the base of all forms."""

from __future__ import annotations

import ast
import inspect
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from textwrap import dedent
from typing import Annotated, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    Tag,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from bootorch.core.model import ALL, Quorum
from bootorch.core.units import seconds, watts

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)

# What failed a hundred times fails for another reason (Ansible's own default is 3 retries, systemd's burst is 5).
MAX_ATTEMPTS = 100


def _quorum(value: object) -> Quorum:
    if value == "all":
        return ALL
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return Quorum(count=value)
    share: float | None = value if isinstance(value, float) else None
    if isinstance(value, str) and (percent := _PERCENT.fullmatch(value.strip())):
        share = float(percent[1]) / 100
    if share is None or not 0 < share <= 1:
        raise PydanticCustomError("quorum", "must be all, a count such as 2, or a share such as 50% or 0.5")
    return Quorum(share=share)


def _network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise PydanticCustomError("network", "must be a network such as 10.20.0.0/16")
    try:
        return ip_network(value)
    except ValueError as error:
        raise PydanticCustomError("network", "{said}", {"said": str(error)}) from error


def text_or_form(value: object) -> str:
    return "text" if isinstance(value, str) else "form"


def text_or_list(value: object) -> str:
    return "text" if isinstance(value, str) else "list"


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Tries = Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
Share = Annotated[float, Field(gt=0, le=1)]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "description": "90s, 5m, 1h30m, or a number of seconds",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\s*(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s?)?\s*$", "minLength": 1},
            ],
        }
    ),
]
Watts = Annotated[
    float,
    BeforeValidator(watts),
    WithJsonSchema(
        {
            "description": "400000, 300kW or 1.2MW",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[kKmM]?[wW]?\s*$"},
            ],
        }
    ),
]
QuorumField = Annotated[
    Quorum,
    PlainValidator(_quorum),
    WithJsonSchema(
        {
            "description": "all, a count, or a share of the parent's hosts",
            "anyOf": [
                {"const": "all"},
                {"type": "integer", "minimum": 1},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$"},
            ],
        }
    ),
]
NetworkField = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    WithJsonSchema({"type": "string", "description": "a network such as 10.20.0.0/16 or 2001:db8::/32"}),
]


class Form(BaseModel):
    """A mapping of the plan. A string below a field describes it in the JSON Schema.

    Pydantic could do so too (``use_attribute_docstrings``), but would read the sources of all forms at every start.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for base in reversed(cls.__mro__[: cls.__mro__.index(Form)]):
            for name, text in _described(base).items():
                properties[cls.model_fields[name].alias or name]["description"] = text
        return schema


def _described(form: type) -> dict[str, str]:
    """The string below each field of a class, by the field's name."""
    body = cast("ast.ClassDef", ast.parse(dedent(inspect.getsource(form))).body[0]).body
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                found[name] = inspect.cleandoc(words)
    return found


TextOrList = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Text], Field(min_length=1), Tag("list")],
    Discriminator(text_or_list),
]


class GroupNeed(Form):
    """Members of a group that must be ready."""

    group: Text
    """Group of this plan."""
    quorum: QuorumField = Quorum(count=1)
    """How many of its hosts: `all`, a count (by default 1: any of them serves), or a share such as `50%`."""


GroupNeedField = Annotated[
    Annotated[Text, Tag("text")] | Annotated[GroupNeed, Tag("form")],
    Discriminator(text_or_form),
]
