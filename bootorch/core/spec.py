"""A plan as its author wrote it: parsed and typed, not yet checked against an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootorch.core.model import (
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
    Requirement,
    SecondBoot,
    Site,
    SshCheck,
)

Place = tuple[str | int, ...]  # a path into the plan file: ("groups", "web", "requires", 0, "group")


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """``pattern`` is an Ansible host pattern; ``redeploy`` holds absolute paths of playbooks."""

    pattern: str
    tier: int = 0
    requires: tuple[Requirement, ...] = ()
    after: tuple[str, ...] = ()
    first: First | None = field(default=None, repr=False)
    ready: tuple[Check, ...] = (SshCheck(),)
    verify: tuple[Check, ...] = ()
    redeploy: tuple[str, ...] = ()
    power: str = "ipmi"
    boot_device: BootDevice = BootDevice.NONE
    second_boot: SecondBoot = SecondBoot.NONE
    console: Console = field(default=Console.BOOT, repr=False)  # no part of the digest unless it is given, see compile
    adopted: AdoptedPolicy = AdoptedPolicy.VERIFY
    deadlines: Deadlines = field(default_factory=Deadlines)
    attempts: Attempts = field(default_factory=Attempts)


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """``inventory`` and ``known_hosts`` are absolute paths; ``places``: where in the file a path into it stands."""

    name: str
    environment: Environment
    site: Site
    inventory: tuple[str, ...]
    groups: Mapping[str, GroupSpec]
    limits: Limits = field(default_factory=Limits)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    known_hosts: str = ""
    directory: str = ""  # absolute; what relative paths in the inventory's variables are relative to
    places: Mapping[Place, str] = field(default_factory=dict)

    def where(self, *place: str | int) -> str:
        """The file and line of ``place``, or of the nearest thing around it."""
        for end in range(len(place), -1, -1):
            if found := self.places.get(place[:end]):
                return found
        return ".".join(map(str, place))
