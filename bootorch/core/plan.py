"""A checked plan: every host in exactly one group, every reference resolved, no cycle, everything inside the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bootorch.core.model import Environment, Gate, Group, Host, Limits, Site


@dataclass(frozen=True)
class Plan:
    """What the engine runs. ``hosts`` is in name order; ``waves`` are group names level by level, for people."""

    name: str
    environment: Environment
    site: Site
    hosts: Mapping[str, Host]
    groups: Mapping[str, Group]
    limits: Limits
    gates: Mapping[str, Gate]
    waves: tuple[tuple[str, ...], ...]
    digest: str  # SHA-256 over plan and inventory, hexadecimal
    dns_group: str = ""  # whose hosts are asked for addresses that are names; empty: every address is a literal

    @cached_property
    def wave_of(self) -> Mapping[str, int]:
        return {group: level for level, groups in enumerate(self.waves) for group in groups}

    def group_of(self, host: str) -> Group:
        return self.groups[self.hosts[host].group]
