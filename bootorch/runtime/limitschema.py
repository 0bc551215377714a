"""Forms of ``limits``: feeds, supplies, slots and breakers."""

# ruff: noqa: RUF012 - pydantic copies the defaults of its forms

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from bootorch.core.model import FeedLimit, Meter, RedfishMeter
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.trust import parse_trust
from bootorch.runtime.schemafields import Count, Duration, Form, Name, Number, Share, Text, Watts


class MeterForm(Form):
    """Where the measured draw of a feed comes from."""

    command: Annotated[list[Text], Field(min_length=1)] | None = None
    """A command of the operator's own machine, as a list of arguments (no shell), that prints watts."""
    redfish: Text | None = None
    """Instead of a command: the https URL of a Redfish resource that measures power, such as
    `https://10.20.0.9/redfish/v1/PowerEquipment/RackPDUs/1`; the host is an IP address inside the site."""
    user: Text | None = None
    """Login name for `redfish`."""
    password_file: Text | None = None
    """File (0600) with its password, relative to the plan."""
    credential: Name | None = None
    """Instead of a file: name of the systemd credential that holds the password."""
    tls: Text | None = None
    """Whose certificate is trusted: `sha256:FINGERPRINT`, `ca:PATH`, `system` (default), or `insecure`."""
    server_name: Text | None = None
    """Name in the certificate, where it is not the address."""
    every: Duration = 30.0
    """How often it is asked; a reading older than three times that is no longer believed."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.command is None) == (self.redfish is None):
            raise PydanticCustomError("meter", "needs a command or a redfish URL, one of them")
        login = (self.user, self.password_file, self.credential, self.tls, self.server_name)
        if self.command is not None:
            if any(value is not None for value in login):
                raise PydanticCustomError(
                    "meter", "user, password_file, credential, tls, server_name belong to redfish"
                )
            return self
        if self.user is None or (self.password_file is None) == (self.credential is None):
            raise PydanticCustomError("meter", "redfish needs user, and password_file or credential")
        try:
            parse_trust(self.tls or "")
        except ValueError as error:
            raise PydanticCustomError("meter", "tls: {said}", {"said": str(error)}) from error
        return self

    def meter(self) -> Meter:
        if self.redfish is None:
            return Meter(tuple(self.command or ()), self.every)
        if self.password_file is not None:
            password = SecretRef(SecretKind.FILE, self.password_file)
        else:
            password = SecretRef(SecretKind.CREDENTIAL, self.credential or "")
        source = RedfishMeter(self.redfish, self.user or "", password, self.tls or "", self.server_name or "")
        return Meter((), self.every, source)


class FeedForm(Form):
    """A source of electricity; `hall-a/row-3` hangs on `hall-a`."""

    budget_watts: Watts | None = None
    """Most that may be drawn, hosts that are on already included."""
    budget_amps: Number | None = None
    """The same in amperes, with `volts`."""
    volts: Number | None = None
    """Volts from line to neutral, for `budget_amps`."""
    phases: Literal[1, 3] = 1
    """Conductors that carry `budget_amps` each."""
    ramp_watts_per_min: Watts | None = None
    """Most that the draw may rise in a minute."""
    inrush_amps: Number | None = None
    """Most inrush of all hosts that are switched on within one second."""
    failover: bool = True
    """Hosts with several cords count here whole, because their other feed may fail; `false`: by their share."""
    dark: bool = False
    """Without electricity as the run begins: nothing is sent to hosts that hang on it alone."""
    meter: MeterForm | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.budget_amps is not None:
            if self.budget_watts is not None:
                raise PydanticCustomError("feed", "has a budget in watts and one in amperes: write one of them")
            if self.volts is None:
                raise PydanticCustomError("feed", "budget_amps needs volts (line to neutral), and phases: 3 where so")
        elif self.volts is not None or self.phases != 1:
            raise PydanticCustomError("feed", "volts and phases belong to budget_amps, which is missing")
        if (
            self.budget is None
            and self.ramp_watts_per_min is None
            and self.inrush_amps is None
            and self.meter is None
            and not self.dark
        ):
            raise PydanticCustomError(
                "feed", "limits nothing: write budget_watts, ramp_watts_per_min, inrush_amps, or dark: true"
            )
        return self

    @property
    def budget(self) -> float | None:
        """Watts, however they were written."""
        if self.budget_amps is None or self.volts is None:
            return self.budget_watts
        return self.budget_amps * self.volts * self.phases

    def limit(self) -> FeedLimit:
        meter = self.meter.meter() if self.meter else None
        return FeedLimit(self.budget, self.ramp_watts_per_min, self.inrush_amps, self.failover, self.dark, meter)


class SupplyBudget(Form):
    """What one source of a supply can give."""

    budget: Watts | None = None
    """Most that may be taken, in the supply's own unit (200kW is 200000)."""
    ramp_per_min: Watts | None = None
    """Most that it may rise in a minute."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.budget is None and self.ramp_per_min is None:
            raise PydanticCustomError("supply", "limits nothing: write budget, ramp_per_min or both")
        return self


class SupplyForm(Form):
    """Something countable that works like a feed, such as cooling."""

    fact: Name
    """The host variable that names the source; sources form trees by path, as feeds do."""
    draw: Annotated[
        Annotated[Number, Tag("number")] | Annotated[Text, Tag("text")],
        Discriminator(lambda value: "text" if isinstance(value, str) else "number"),
    ]
    """What a host takes: `watts` (what it draws), a number, or the name of a host variable that holds a number."""
    budgets: Annotated[dict[Text, SupplyBudget], Field(min_length=1)]


class BreakerForm(Form):
    """When to stop by itself."""

    group_failed_share: Share | None = None
    """Share of a group's hosts in quarantine, 0 to 1."""
    same_model_failures: Count | None = None
    """Quarantined hosts of one model."""
    cluster_failures: Count | None = None
    """Quarantined hosts that share model, firmware, rack, feed or subnet, most of those tried and far more than
    elsewhere: exactly that class pauses."""


class SlotForm(Form):
    """A count that shrinks when what it protects shows overload, and grows again slowly."""

    limit: Count
    """Most at the same time."""
    adaptive: bool = False
    """Halved at once on overload (boot loss of an image server, errors of a deploy), grown slowly afterwards."""
    least: Count | None = None
    """The least that it shrinks to; by default a sixteenth of the limit."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least is not None and not self.adaptive:
            raise PydanticCustomError("slot", "least belongs to adaptive: true")
        if self.least is not None and self.least > self.limit:
            raise PydanticCustomError("slot", "least is more than limit")
        return self


SlotField = Annotated[
    Annotated[Count, Tag("count")] | Annotated[SlotForm, Tag("form")],
    Discriminator(lambda value: "form" if isinstance(value, dict | SlotForm) else "count"),
]


class LimitsForm(Form):
    """What may happen at the same time."""

    feeds: dict[Text, FeedForm] = {}
    supplies: dict[Name, SupplyForm] = {}
    """Cooling and anything else countable, by name."""
    slots: dict[str, SlotField] = {}
    """Counted resources: `bmc_per_subnet`, `consoles`, `image_server`, `redeploy_forks`, `logins`, `boots`, and any
    fact of hosts (`rack: 8`): so many hosts with the same value boot at the same time."""
    breaker: BreakerForm = BreakerForm()
    measure: bool = False
    """Each host's own BMC is asked for its draw once it is ready, and the answer replaces its modelled draw."""


LIMIT_FORMS: tuple[type[BaseModel], ...] = (
    MeterForm, FeedForm, SupplyBudget, SupplyForm, BreakerForm, SlotForm, LimitsForm,
)  # fmt: skip
