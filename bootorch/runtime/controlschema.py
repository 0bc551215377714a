"""Forms of ``control``: what the recovery itself needs to reach a host."""

# ruff: noqa: RUF012 - pydantic copies the defaults of its forms

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError

from bootorch.core.controlpath import BREAKS
from bootorch.core.model import ALL
from bootorch.runtime.schemafields import Form, GroupNeedField, Name, QuorumField, Text


class SwitchForm(Form):
    """The switch that a host's BMC hangs on."""

    group: Text | None = None
    """Group of the switches, with `per_host`."""
    per_host: Name | None = None
    """A fact such as `rack`: a host hangs on the switches of the group that share its value."""
    quorum: QuorumField = ALL
    """How many of these switches must be ready; by default all."""
    fact: Name | None = None
    """A host variable that names the switch, a host of the plan. Where a host has it, it counts instead of `group`."""

    @model_validator(mode="after")
    def _names_a_switch(self) -> Self:
        if (self.group is None) is not (self.per_host is None):
            raise PydanticCustomError("switch", "group and per_host belong together: {group: tor, per_host: rack}")
        if self.group is None and self.fact is None:
            raise PydanticCustomError("switch", "names no switch: write {group: tor, per_host: rack} or {fact: NAME}")
        return self


class BreakForm(Form):
    """How a need of the control path is met without what it waits for."""

    need: Literal["switch", "dhcp", "dns", "credential", "feed"]
    hosts: Text
    """Ansible host pattern: the hosts whose need it is."""
    by: Literal["static_address", "hosts_entry", "cached_credential", "manual_step"]
    ask: str = ""
    """What a person has to do, and attests (`manual_step`)."""

    @model_validator(mode="after")
    def _breaks(self) -> Self:
        if self.by not in BREAKS[self.need]:
            known = " or ".join(BREAKS[self.need])
            raise PydanticCustomError(
                "break",
                "{by} does not break the need of a {need}: write {known}",
                {"by": self.by, "need": self.need, "known": known},
            )
        if (self.by == "manual_step") is not bool(self.ask.strip()):
            raise PydanticCustomError(
                "break", "manual_step needs ask, what a person has to do; the other breaks ask nobody"
            )
        return self


class ControlForm(Form):
    """What the recovery itself needs to reach a host; each need is waited for before the host's BMC is asked."""

    switch: SwitchForm | None = None
    dhcp: GroupNeedField | None = None
    """Group of the DHCP servers, for hosts whose variable `bmc_address_from` is `dhcp`."""
    dns: GroupNeedField | None = None
    """Group of the DNS servers, for hosts whose `bmc_address` or `ansible_host` is a name without a hosts entry."""
    credentials: dict[Name, GroupNeedField] = {}
    """Where credentials come from, by the value of the host variable `credential_from`."""
    feeds: dict[Text, GroupNeedField] = {}
    """A feed that carries nothing before this group is ready: a switched PDU, a transfer switch."""
    hosts_file: Text | None = None
    """Addresses of names in the format of /etc/hosts; the path is relative to the plan file."""
    breaks: list[BreakForm] = []


CONTROL_FORMS: tuple[type[BaseModel], ...] = (SwitchForm, BreakForm, ControlForm)
