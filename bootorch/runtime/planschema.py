"""The plan file's shape. Published as JSON Schema by ``bootorch schema``; the docstrings below are its descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

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


def _text_or_form(value: object) -> str:
    return "text" if isinstance(value, str) else "form"


def _text_or_list(value: object) -> str:
    return "text" if isinstance(value, str) else "list"


_CHECKS = ("ssh", "tcp", "http", "dns", "command")


def _check_kind(value: object) -> str | None:
    if value == "ssh":
        return "ssh"
    if isinstance(value, Mapping) and len(value) == 1:
        kind = next(iter(value))
        return kind if kind in _CHECKS[1:] else None
    return None


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Tries = Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
Share = Annotated[float, Field(gt=0, le=1)]
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


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class TcpForm(_Form):
    """A TCP port accepts connections."""

    tcp: Port


class HttpArgs(_Form):
    """An HTTP request and the status that it must have."""

    url: Text
    """URL; `{address}` stands for the host's own address. Otherwise an IP address inside the site."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """Expected status."""


HttpField = Annotated[
    Annotated[Text, Tag("text")] | Annotated[HttpArgs, Tag("form")],
    Discriminator(_text_or_form),
]


class HttpForm(_Form):
    """An HTTP request is answered with the expected status."""

    http: HttpField


class DnsArgs(_Form):
    """A DNS query to the host itself."""

    name: Text
    """Name to ask for."""
    expect: str = ""
    """Address that must be in the answer; empty: any answer."""
    port: Port = 53


class DnsForm(_Form):
    """The host answers a DNS query."""

    dns: DnsArgs


class CommandArgs(_Form):
    """A command on the host, over SSH."""

    run: Text
    """Command; it must end with 0."""
    expect: str = ""
    """Text that its output must contain."""


class CommandForm(_Form):
    """A command over SSH ends with 0."""

    command: Annotated[
        Annotated[Text, Tag("text")] | Annotated[CommandArgs, Tag("form")],
        Discriminator(_text_or_form),
    ]


CheckForm = Annotated[
    Annotated[Literal["ssh"], Tag("ssh")]
    | Annotated[TcpForm, Tag("tcp")]
    | Annotated[HttpForm, Tag("http")]
    | Annotated[DnsForm, Tag("dns")]
    | Annotated[CommandForm, Tag("command")],
    Discriminator(
        _check_kind,
        custom_error_type="check",
        custom_error_message="must be ssh, {tcp: 22}, {http: URL}, {dns: {name: NAME}} or {command: TEXT}",
    ),
]


class RequirementForm(_Form):
    """Hold back until a quorum of another group is ready."""

    group: Text
    """Group of this plan that must be ready first."""
    quorum: QuorumField = ALL
    """How many of its hosts: `all`, a count, or a share such as `50%`."""
    across_racks: Annotated[int, Field(ge=1)] | None = None
    """The ready hosts must stand in at least so many racks."""
    per_host: Name | None = None
    """A fact such as `rack`: each host waits only for the hosts of the group that share its value."""


class DeadlinesForm(_Form):
    """How long a host may stay in each stage."""

    bmc: Duration | None = None
    power: Duration | None = None
    boot: Duration | None = None
    ready: Duration | None = None
    redeploy: Duration | None = None
    verify: Duration | None = None


class AttemptsForm(_Form):
    """How often an action is tried for one host, the first try included."""

    power: Tries | None = None
    boot: Tries | None = None
    redeploy: Tries | None = None


class DefaultsForm(_Form):
    """What groups inherit unless they say otherwise."""

    power: Text | None = None
    """Power driver: `ipmi`."""
    boot_device: Literal["none", "disk", "pxe", "cdrom", "bios"] | None = None
    """Boot device set for the next boot only; `none` leaves the server's own order alone."""
    console: Literal["boot", "none"] | None = None
    """Whether serial consoles are watched from the power-on to the proof of boot, as evidence; by default `boot`."""
    deadlines: DeadlinesForm = DeadlinesForm()
    attempts: AttemptsForm = AttemptsForm()


class GroupForm(DefaultsForm):
    """Hosts that the plan treats as one service."""

    hosts: Text
    """Ansible host pattern, such as `web:!web_canary`."""
    tier: Annotated[int, Field(ge=0)] = 0
    """Importance, for people: 0 is what everything else stands on."""
    requires: list[
        Annotated[
            Annotated[Text, Tag("text")] | Annotated[RequirementForm, Tag("form")],
            Discriminator(_text_or_form),
        ]
    ] = []
    """Groups that must be ready first, each by name or with a quorum."""
    after: list[Text] = []
    """Order only: groups that must have settled first, however they ended."""
    ready: Annotated[list[CheckForm], Field(min_length=1)] | None = None
    """What proves that a host is ready; by default `ssh`."""
    verify: list[CheckForm] = []
    """What proves it again after the redeploy; by default the ready checks."""
    redeploy: list[Text] = []
    """Playbooks, in order; paths are relative to the plan file."""
    second_boot: Literal["none", "cycle"] = "none"
    """What may be done to a host that is on and did not boot; `cycle` allows an automatic power cycle."""
    adopted: Literal["verify", "redeploy"] = "verify"
    """What happens to a host that runs already: verified only, or redeployed too. It is never power-cycled."""


class SiteForm(_Form):
    """The fence: the only addresses that the plan may talk to."""

    bmc_networks: Annotated[list[NetworkField], Field(min_length=1)]
    host_networks: Annotated[list[NetworkField], Field(min_length=1)]


class FeedForm(_Form):
    """A source of electricity; `hall-a/row-3` hangs on `hall-a`."""

    budget_watts: Watts | None = None
    """Most that may be drawn, hosts that are on already included."""
    ramp_watts_per_min: Watts | None = None
    """Most that the draw may rise in a minute."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.budget_watts is None and self.ramp_watts_per_min is None:
            raise PydanticCustomError("feed", "limits nothing: write budget_watts, ramp_watts_per_min or both")
        return self


class BreakerForm(_Form):
    """When to stop by itself."""

    group_failed_share: Share | None = None
    """Share of a group's hosts in quarantine, 0 to 1."""
    same_model_failures: Count | None = None
    """Quarantined hosts of one model."""


class LimitsForm(_Form):
    """What may happen at the same time."""

    feeds: dict[Text, FeedForm] = {}
    slots: dict[str, Count] = {}
    """Counted resources: `bmc_per_subnet`, `consoles`, `image_server`, `redeploy_forks`."""
    breaker: BreakerForm = BreakerForm()


class GateForm(_Form):
    """A point where a person or a check must say yes before any power-on."""

    ask: str = ""
    """Question for a person."""
    check: HttpForm | None = None
    """Check that must hold."""
    groups: list[Text] = []
    """Groups that the gate holds back; empty: all."""

    @model_validator(mode="after")
    def _asks_somebody(self) -> Self:
        if not self.ask and self.check is None:
            raise PydanticCustomError(
                "gate", "asks nobody and checks nothing: write ask: QUESTION or check: {http: URL}"
            )
        return self


class PlanForm(_Form):
    """A bootorch plan: groups of hosts, what they wait for, and what proves that they are back."""

    name: Name
    """Name of the plan; production power needs it typed."""
    environment: Literal["production", "drill", "lab"]
    site: SiteForm
    inventory: Annotated[
        Annotated[Text, Tag("text")] | Annotated[list[Text], Field(min_length=1), Tag("list")],
        Discriminator(_text_or_list),
    ]
    """Ansible inventory, or a list of them; paths are relative to the plan file."""
    known_hosts: Text | None = None
    """SSH host keys (OpenSSH known_hosts); by default the operator's own."""
    limits: LimitsForm = LimitsForm()
    gates: dict[Name, GateForm] = {}
    defaults: DefaultsForm = DefaultsForm()
    groups: Annotated[dict[Name, GroupForm], Field(min_length=1)]


def plan_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the plan file, for editors and CI."""
    schema = PlanForm.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "bootorch plan"}


FORMS: tuple[type[BaseModel], ...] = tuple(
    form for form in globals().values() if isinstance(form, type) and issubclass(form, _Form)
)
