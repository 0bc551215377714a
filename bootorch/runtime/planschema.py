"""The plan file's shape. Published as JSON Schema by ``bootorch schema``; the docstrings below are its descriptions."""

# ruff: noqa: RUF012 - pydantic copies the defaults of its forms

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bootorch.core.model import ALL
from bootorch.runtime.controlschema import CONTROL_FORMS, ControlForm
from bootorch.runtime.limitschema import LIMIT_FORMS, LimitsForm
from bootorch.runtime.schemafields import (
    Duration,
    Form,
    Name,
    NetworkField,
    Port,
    QuorumField,
    Text,
    TextOrList,
    Tries,
    text_or_form,
)

_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)


def _text_list_or_form(value: object) -> str:
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "form"


_CHECKS = ("ssh", "tcp", "http", "dns", "command")


def _check_kind(value: object) -> str | None:
    if value == "ssh":
        return "ssh"
    if isinstance(value, Mapping) and len(value) == 1:
        kind = next(iter(value))
        return kind if kind in _CHECKS[1:] else None
    return None


class TcpForm(Form):
    """A TCP port accepts connections."""

    tcp: Port


class HttpArgs(Form):
    """An HTTP request and the status that it must have."""

    url: Text
    """URL; `{address}` stands for the host's own address. Otherwise an IP address inside the site."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """Expected status."""


HttpField = Annotated[
    Annotated[Text, Tag("text")] | Annotated[HttpArgs, Tag("form")],
    Discriminator(text_or_form),
]


class HttpForm(Form):
    """An HTTP request is answered with the expected status."""

    http: HttpField


class DnsArgs(Form):
    """A DNS query to the host itself."""

    name: Text
    """Name to ask for."""
    expect: str = ""
    """Address that must be in the answer; empty: any answer."""
    port: Port = 53


class DnsForm(Form):
    """The host answers a DNS query."""

    dns: DnsArgs


class CommandArgs(Form):
    """A command on the host, over SSH."""

    run: Text
    """Command; it must end with 0."""
    expect: str = ""
    """Text that its output must contain."""


class CommandForm(Form):
    """A command over SSH ends with 0."""

    command: Annotated[
        Annotated[Text, Tag("text")] | Annotated[CommandArgs, Tag("form")],
        Discriminator(text_or_form),
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


class RequirementForm(Form):
    """Hold back until a quorum of another group is ready."""

    group: Text
    """Group of this plan that must be ready first."""
    quorum: QuorumField = ALL
    """How many of its hosts: `all`, a count, or a share such as `50%`."""
    across_racks: Annotated[int, Field(ge=1)] | None = None
    """The ready hosts must stand in at least so many racks."""
    per_host: Name | None = None
    """A fact such as `rack`: each host waits only for the hosts of the group that share its value."""


class DeadlinesForm(Form):
    """How long a host may stay in each stage."""

    bmc: Duration | None = None
    power: Duration | None = None
    boot: Duration | None = None
    ready: Duration | None = None
    redeploy: Duration | None = None
    verify: Duration | None = None


class AttemptsForm(Form):
    """How often an action is tried for one host, the first try included."""

    power: Tries | None = None
    boot: Tries | None = None
    redeploy: Tries | None = None


class DefaultsForm(Form):
    """What groups inherit unless they say otherwise."""

    power: Text | None = None
    """Power driver: `ipmi`."""
    boot_device: Literal["none", "disk", "pxe", "cdrom", "bios"] | None = None
    """Boot device set for the next boot only; `none` leaves the server's own order alone."""
    console: Literal["boot", "none"] | None = None
    """Whether serial consoles are watched from the power-on to the proof of boot, as evidence; by default `boot`."""
    deadlines: DeadlinesForm = DeadlinesForm()
    attempts: AttemptsForm = AttemptsForm()


class FirstForm(Form):
    """A person names the member that starts first, while the run goes on."""

    ask: Text
    """Question for a person."""
    candidates: list[Text] = []
    """Members that may be named; empty: any of the group."""


FirstField = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Text], Field(min_length=1), Tag("list")]
    | Annotated[FirstForm, Tag("form")],
    Discriminator(_text_list_or_form),
]


class GroupForm(DefaultsForm):
    """Hosts that the plan treats as one service."""

    hosts: Text
    """Ansible host pattern, such as `web:!web_canary`."""
    tier: Annotated[int, Field(ge=0)] = 0
    """Importance, for people: 0 is what everything else stands on."""
    requires: list[
        Annotated[
            Annotated[Text, Tag("text")] | Annotated[RequirementForm, Tag("form")],
            Discriminator(text_or_form),
        ]
    ] = []
    """Groups that must be ready first, each by name or with a quorum."""
    after: list[Text] = []
    """Order only: groups that must have settled first, however they ended."""
    first: FirstField | None = None
    """The member that starts alone, the others when it is ready: a host, several that are tried in order, or
    `{ask: QUESTION}`."""
    ready: Annotated[list[CheckForm], Field(min_length=1)] | None = None
    """What proves that a host is ready; by default `ssh`."""
    verify: list[CheckForm] = []
    """What proves it again after the redeploy; by default the ready checks."""
    redeploy: list[Text] = []
    """Playbooks, in order; paths are relative to the plan file."""
    together: bool = False
    """Each playbook waits for all members that may still come, and has all of them in one play: for clusters whose
    members must see each other, such as a database that starts with its newest copy."""
    second_boot: Literal["none", "cycle"] = "none"
    """What may be done to a host that is on and did not boot; `cycle` allows an automatic power cycle."""
    adopted: Literal["verify", "redeploy"] = "verify"
    """What happens to a host that runs already: verified only, or redeployed too. It is never power-cycled."""


class SiteForm(Form):
    """The fence: the only addresses that the plan may talk to."""

    bmc_networks: Annotated[list[NetworkField], Field(min_length=1)]
    host_networks: Annotated[list[NetworkField], Field(min_length=1)]


class GateForm(Form):
    """A point where a person or a check must say yes, or a time must have come, before any power-on."""

    ask: str = ""
    """Question for a person."""
    check: HttpForm | None = None
    """Check that must hold."""
    wait: Duration | None = None
    """Time of the run that must have passed."""
    at: Annotated[str, Field(min_length=1)] | None = None
    """Wall-clock time: ISO 8601 with offset (`2026-11-26T06:00+09:00`), or `06:00`: the next one after the start."""
    groups: list[Text] = []
    """Groups that the gate holds back; empty: all."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in ("ask", "check", "wait", "at") if getattr(self, name) not in (None, "")]
        if not kinds:
            raise PydanticCustomError(
                "gate",
                "asks nobody and checks nothing: write ask: QUESTION, check: {http: URL}, wait: 20m or at: TIME",
            )
        if len(kinds) > 1:
            raise PydanticCustomError(
                "gate", "has {kinds}: a gate is of one kind, so write two gates", {"kinds": " and ".join(kinds)}
            )
        return self

    @field_validator("at")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None and not _CLOCK.fullmatch(value):
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                found = None
            if found is None or found.tzinfo is None:
                raise PydanticCustomError("time", "must be HH:MM, or ISO 8601 with offset: 2026-11-26T06:00+09:00")
        return value


class AnsibleForm(Form):
    """How playbooks are run."""

    mitogen: bool = False
    """Run them with Mitogen's strategy `mitogen_host_pinned`: less wall time. The package must be installed."""


class PlanForm(Form):
    """A bootorch plan: groups of hosts, what they wait for, and what proves that they are back."""

    name: Name
    """Name of the plan; production power needs it typed."""
    environment: Literal["production", "drill", "lab"]
    site: SiteForm
    inventory: TextOrList
    """Ansible inventory, or a list of them; paths are relative to the plan file."""
    known_hosts: Text | None = None
    """SSH host keys (OpenSSH known_hosts); by default the operator's own."""
    parameters: Text | None = None
    """Parameters that `bootorch forecast --fit` wrote: how long each host's boots took, for the order of power-ons."""
    limits: LimitsForm = LimitsForm()
    gates: dict[Name, GateForm] = {}
    control: ControlForm = ControlForm()
    ansible: AnsibleForm = AnsibleForm()
    defaults: DefaultsForm = DefaultsForm()
    groups: Annotated[dict[Name, GroupForm], Field(min_length=1)]


def plan_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the plan file, for editors and CI."""
    schema = PlanForm.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "bootorch plan"}


FORMS: tuple[type[BaseModel], ...] = (
    *(form for form in globals().values() if isinstance(form, type) and issubclass(form, Form)),
    *LIMIT_FORMS,
    *CONTROL_FORMS,
)
