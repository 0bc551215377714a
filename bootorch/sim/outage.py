"""Feeds that are lost and return, as simulated machines feel it: no electricity, no BMC; back, and it boots anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bootorch.core.limits import feed_path
from bootorch.core.plan import Plan
from bootorch.sim.machine import MachineSpec
from bootorch.sim.world import World


class Outages:
    """Which feeds of a world are without electricity. A host with several cords is dark when all of them are."""

    def __init__(self, world: World, plan: Plan, dark: Iterable[str], now: float) -> None:
        self._world = world
        self._plan = plan
        self._dark = set(dark)
        self._before: dict[str, MachineSpec] = {}  # host without electricity -> what it is like with it
        if self._dark:
            self._look(now)

    def lost(self, feed: str, now: float) -> None:
        self._dark.add(feed)
        self._look(now)

    def returned(self, feed: str, now: float) -> None:
        """The feed, and everything that hangs on it, has electricity again."""
        self._dark = {name for name in self._dark if name != feed and not name.startswith(f"{feed}/")}
        self._look(now)

    def _look(self, now: float) -> None:
        verdicts: dict[tuple[str, ...], bool] = {}
        for name, host in self._plan.hosts.items():
            dark = verdicts.get(host.feeds)
            if dark is None:
                dark = verdicts[host.feeds] = bool(host.feeds) and all(map(self._is_dark, host.feeds))
            machine = self._world.machines[name]
            if dark and name not in self._before:
                self._before[name] = machine.spec
                machine.spec = replace(machine.spec, dead_bmc=True)
                machine.power_off(now)
            elif not dark and name in self._before:
                spec = self._before.pop(name)
                machine.spec = replace(spec, bmc_boot_s=now + spec.bmc_boot_s)

    def _is_dark(self, cord: str) -> bool:
        return any(part in self._dark for part in feed_path(cord))
