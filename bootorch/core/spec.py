"""A plan as its author wrote it: parsed and typed, not yet checked against an inventory."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from bootorch.core.model import (
    ALL,
    AdoptedPolicy,
    Attempts,
    BootDevice,
    Check,
    Console,
    Deadlines,
    Environment,
    First,
    Gate,
    Limits,
    Quorum,
    Requirement,
    SecondBoot,
    Site,
    SshCheck,
)

ONE = Quorum(count=1)

Place = tuple[str | int, ...]  # a path into the plan file: ("groups", "web", "requires", 0, "group")


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """``pattern`` is an Ansible host pattern; ``redeploy`` holds absolute paths of playbooks."""

    pattern: str
    tier: int = 0
    requires: tuple[Requirement, ...] = ()
    after: tuple[str, ...] = ()
    first: First | None = None
    ready: tuple[Check, ...] = (SshCheck(),)
    verify: tuple[Check, ...] = ()
    redeploy: tuple[str, ...] = ()
    together: bool = False
    power: str = "ipmi"
    boot_device: BootDevice = BootDevice.NONE
    second_boot: SecondBoot = SecondBoot.NONE
    console: Console = Console.BOOT
    adopted: AdoptedPolicy = AdoptedPolicy.VERIFY
    deadlines: Deadlines = field(default_factory=Deadlines)
    attempts: Attempts = field(default_factory=Attempts)


@dataclass(frozen=True, slots=True)
class SupplySpec:
    """``fact``: the host variable that names the source. ``draw``: ``watts``, a number, or a host variable's name."""

    fact: str
    draw: str | float


@dataclass(frozen=True, slots=True)
class GroupNeed:
    """Members of a group that must be ready; by default any one of them serves."""

    group: str
    quorum: Quorum = ONE


@dataclass(frozen=True, slots=True)
class SwitchSpec:
    """Which switch a host's BMC hangs on: those of ``group`` that share its fact ``per_host``, or, where a host has the
    variable ``fact``, the host of the plan that it names."""

    group: str = ""
    per_host: str = ""
    quorum: Quorum = ALL
    fact: str = ""


@dataclass(frozen=True, slots=True)
class BreakSpec:
    """How a need of the control path is met without what it waits for: ``by`` is one of ``controlpath.BREAKS``."""

    need: str
    pattern: str
    by: str
    ask: str = ""


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """What the recovery itself needs to reach a host; see ``core.controlpath``. ``hosts_file`` is an absolute path."""

    switch: SwitchSpec | None = None
    dhcp: GroupNeed | None = None
    dns: GroupNeed | None = None
    credentials: Mapping[str, GroupNeed] = field(default_factory=dict)
    feeds: Mapping[str, GroupNeed] = field(default_factory=dict)
    hosts_file: str = ""
    breaks: tuple[BreakSpec, ...] = ()


NO_CONTROL = ControlSpec()


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """``inventory``, ``known_hosts``, ``parameters``: absolute paths; ``places``: where in the file a path into it is.

    ``names``: addresses of names, from ``control.hosts_file``. ``to_read``: nothing will be sent, so names without an
    address may stay names (the hosts file of a run that is read elsewhere need not be there).
    """

    name: str
    environment: Environment
    site: Site
    inventory: tuple[str, ...]
    groups: Mapping[str, GroupSpec]
    limits: Limits = field(default_factory=Limits)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    known_hosts: str = ""
    parameters: str = ""  # absolute path of fitted parameters; empty: none
    directory: str = ""  # absolute; what relative paths in the inventory's variables are relative to
    places: Mapping[Place, str] = field(default_factory=dict)
    supplies: Mapping[str, SupplySpec] = field(default_factory=dict)
    control: ControlSpec = NO_CONTROL
    names: Mapping[str, str] = field(default_factory=dict)
    to_read: bool = False
    mitogen: bool = False  # playbooks run with Mitogen's strategy

    def where(self, *place: str | int) -> str:
        """The file and line of ``place``, or of the nearest thing around it."""
        for end in range(len(place), -1, -1):
            if found := self.places.get(place[:end]):
                return found
        return ".".join(map(str, place))

    def relative(self, path: str) -> str:
        """A path as the plan file would write it."""
        return posixpath.relpath(path, self.directory or "/")

    @property
    def inventory_name(self) -> str:
        """The inventory as the plan names it: the place of what is wrong with a host's variables."""
        return ", ".join(self.relative(path) for path in self.inventory)
