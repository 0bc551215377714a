"""A simulated world that begins where a run stands: what is known stays so, the rest is drawn given what is known.

A host that has booted stays up, one that was switched on goes on booting, and how long it still takes is drawn from
those boot times of its group (in this very world) that are longer than it has been at it; those that never boot count
among them, so that a host that is late is more likely to be dead. The same holds for BMCs that have not answered yet.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from bootorch.core.events import Intent, Kind
from bootorch.core.model import Outcome, Stage
from bootorch.core.state import HostState, State
from bootorch.sim.machine import BootFailure, Machine, MachineSpec, draw
from bootorch.sim.world import World

POOL_LEAST = 20  # a group with fewer hosts draws from the whole plan
SILENT_S = 30.0  # a chassis that is not on so long after an accepted power-on will not come on by it
LONGER_SHARE = 0.3  # what a host takes at most beyond the slowest of its group, where that one is passed already
SOON_S = 2.0  # until a power-on that was just accepted takes effect
_UP = (Stage.READY, Stage.REDEPLOY, Stage.VERIFY)


def condition(world: World, state: State, now: float, seed: int) -> None:
    """Change the world's machines to what the state at run time ``now`` says of them."""
    pools = _Pools(world, state)
    for name, host in state.hosts.items():
        world.machines[name] = _machine(world.machines[name], host, state, now, seed, pools)


def remaining(world: World, intent: Intent, now: float) -> float:
    """When an effect that is under way at ``now`` ends. Playbooks have been at it since the intent left; an exchange
    with a BMC or a host takes a moment, so it is begun anew."""
    if intent.kind is not Kind.REDEPLOY:
        return max(now, world.ends_at(intent, now))
    for attempt in range(64):
        # Durations are drawn by the intent's id: other ids, other draws of the same distribution.
        ends_s = world.ends_at(replace(intent, id=intent.id + attempt * 1_000_000_007), intent.t)
        if ends_s > now:
            return ends_s
    return now + (now - intent.t) * 0.05  # longer than 64 of its kind: nobody knows


def _machine(before: Machine, host: HostState, state: State, now: float, seed: int, pools: _Pools) -> Machine:
    spec = before.spec
    up = host.outcome in (Outcome.READY, Outcome.ADOPTED) or (host.stage in _UP and host.outcome is None)
    if host.stage is Stage.WAIT or (host.outcome is not None and not up):
        return before
    if up:
        spec = replace(_answers(spec), boot_failure=None, boot_s=min(spec.boot_s, max(0.0, now - _on_t(host))))
        return _on(spec, seed, _on_t(host)) if not host.adopted else _running(spec, seed)
    if host.stage is Stage.BMC:
        return Machine(pools.bmc(spec, host, now, seed), seed)  # asked, and no power state has been read yet
    spec = _answers(spec)
    if host.stage is Stage.POWER:
        spec = replace(spec, initially_on=False)
        if host.on_t is None or _in_flight(host, state, Kind.POWER_ON):
            return Machine(spec, seed)
        if now - host.on_t > SILENT_S:
            return Machine(replace(spec, silent_power_ons=0), seed)  # this one was lost; the next is a new try
        return _on(replace(spec, silent_power_ons=0), seed, now + SOON_S)
    # Booting: on since ``on_t``, or found on and not answering yet.
    began_s = _on_t(host)
    if host.unbooted:
        return _on(replace(spec, boot_failure=spec.boot_failure or BootFailure.NO_POST), seed, began_s)
    return _on(pools.boot(spec, host, now - began_s, seed), seed, began_s)


def _on_t(host: HostState) -> float:
    """When its chassis came on, as far as the run knows."""
    if host.on_t is not None:
        return host.on_t
    return min(host.stage_t, host.started_t if host.started_t is not None else host.stage_t)


def _answers(spec: MachineSpec) -> MachineSpec:
    return replace(spec, dead_bmc=False, bmc_boot_s=0.0)


def _in_flight(host: HostState, state: State, kind: Kind) -> bool:
    intent = state.open.get(host.inflight)
    return intent is not None and intent.kind is kind


def _on(spec: MachineSpec, seed: int, at: float) -> Machine:
    machine = Machine(replace(spec, silent_power_ons=0, initially_on=False), seed)
    machine.power_on(at)
    return machine


def _running(spec: MachineSpec, seed: int) -> Machine:
    return Machine(replace(spec, initially_on=True, silent_power_ons=0), seed)


class _Pools:
    """What the world's own machines are like, sorted: the distribution to draw the rest from."""

    def __init__(self, world: World, state: State) -> None:
        self._world = world
        self._state = state
        self._boots: dict[str, tuple[Sequence[float], Sequence[MachineSpec]]] = {}
        self._bmcs: dict[str, tuple[Sequence[float], Sequence[MachineSpec]]] = {}
        self._first = {name: machine.spec for name, machine in world.machines.items()}

    def boot(self, spec: MachineSpec, host: HostState, waited_s: float, seed: int) -> MachineSpec:
        """``spec`` with a boot that takes longer than ``waited_s``, or never ends."""
        drawn = self._draw(self._boots, _boot_s, host, waited_s, seed, "rest of boot")
        if drawn is None:
            return replace(spec, boot_failure=None, boot_s=self._longer(waited_s, seed, host))
        return replace(spec, boot_s=drawn.boot_s, boot_failure=drawn.boot_failure)

    def bmc(self, spec: MachineSpec, host: HostState, now: float, seed: int) -> MachineSpec:
        """``spec`` with a BMC that does not answer before ``now``, or never does."""
        drawn = self._draw(self._bmcs, _bmc_s, host, now, seed, "rest of bmc")
        if drawn is None:
            return replace(spec, dead_bmc=False, bmc_boot_s=self._longer(now, seed, host))
        return replace(spec, bmc_boot_s=drawn.bmc_boot_s, dead_bmc=drawn.dead_bmc)

    def _longer(self, waited_s: float, seed: int, host: HostState) -> float:
        """Longer than anybody's in this world, and nobody is dead: some time more, as the longest of a crowd are."""
        return waited_s * (1.0 + LONGER_SHARE * draw(seed, "longer", host.host.name)) + 1.0

    def _draw(
        self,
        pools: dict[str, tuple[Sequence[float], Sequence[MachineSpec]]],
        of: Callable[[MachineSpec], float],
        host: HostState,
        longer_than: float,
        seed: int,
        word: str,
    ) -> MachineSpec | None:
        group = host.group.name if len(host.group.hosts) >= POOL_LEAST else ""
        if group not in pools:
            names = self._state.plan.groups[group].hosts if group else self._first
            ordered = sorted((self._first[name] for name in names), key=lambda spec: (of(spec), spec.name))
            pools[group] = ([of(spec) for spec in ordered], ordered)
        keys, specs = pools[group]
        at = bisect_right(keys, longer_than)
        if at == len(specs):
            return None
        return specs[at + int(draw(seed, word, host.host.name) * (len(specs) - at))]


def _boot_s(spec: MachineSpec) -> float:
    return math.inf if spec.boot_failure is not None else spec.boot_s


def _bmc_s(spec: MachineSpec) -> float:
    return math.inf if spec.dead_bmc else spec.bmc_boot_s
