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
from functools import cached_property

from bootorch.core.events import Intent, Kind
from bootorch.core.hoststate import HostState
from bootorch.core.model import Outcome, Stage
from bootorch.core.state import State
from bootorch.sim.fate import NEVER_S, Server
from bootorch.sim.machine import BootFailure, draw
from bootorch.sim.world import HostTimes, World

POOL_LEAST = 20  # a group with fewer hosts draws from the whole plan
SILENT_S = 30.0  # a chassis that is not on so long after an accepted power-on will not come on by it
SOON_S = 2.0  # until a power-on that was just accepted takes effect
LONGER_SHARE = 0.3  # what a host takes at most beyond the slowest of its group, where that one is passed already
UPTIME_S = 9 * 86400.0  # of a host that was found running
_UP = (Stage.READY, Stage.REDEPLOY, Stage.VERIFY)
_BOOT_FAILURES = frozenset(BootFailure) - {BootFailure.POWER_FAULT}


def condition(world: World, state: State, now: float, seed: int) -> None:
    """Change the world's servers to what the state at run time ``now`` says of them."""
    pools = _Pools(world, state, seed)
    for name, host in state.hosts.items():
        if host.started_t is not None or host.adopted:
            _know(world.server(name), host, state, now, pools)


def remaining(world: World, intent: Intent, now: float) -> float:
    """When an effect that is under way at ``now`` ends. Playbooks have been at it since the intent left; an exchange
    with a BMC or a host takes a moment, so it is begun anew."""
    if intent.kind is not Kind.REDEPLOY:
        return max(now, world.ends_at(intent, now))
    for attempt in range(64):
        # Durations are drawn by the attempt: other numbers, other draws of the same distribution.
        ends_s = world.ends_at(replace(intent, attempt=intent.attempt + attempt * 1009), intent.t)
        if ends_s > now:
            return ends_s
    return now + (now - intent.t) * 0.05  # longer than 64 of its kind: nobody knows


def _know(server: Server, host: HostState, state: State, now: float, pools: _Pools) -> None:
    if host.outcome in (Outcome.READY, Outcome.ADOPTED) or (host.outcome is None and host.stage in _UP):
        since = -UPTIME_S if host.adopted else _on_t(host)
        _on(server, since)
        server.failure = None
        server.boot_s = min(server.boot_s, max(0.0, now - since))
        server.ready_s = 0.0 if host.stage is not Stage.READY else server.ready_s
    elif host.outcome is not None:
        return  # given up: nobody asks it any more
    elif host.stage is Stage.BOOT:
        since = _on_t(host)
        _on(server, since)
        if host.unbooted:
            server.failure = server.failure or BootFailure.NO_POST
        else:
            server.boot_s, server.failure = pools.boot(server, host, now - since)
    elif host.power == "off" or host.stage is Stage.POWER:
        _off(server, host, state, now)
    elif not host.power:
        server.bmc_at = pools.bmc(host, now)  # asked, and it has not answered yet


def _off(server: Server, host: HostState, state: State, now: float) -> None:
    """Its BMC answers, and the last reading said off."""
    server.bmc_at = 0.0
    if server.on_at is not None and server.on_at <= max(host.read_t, host.stage_t):
        server.on_at, server.boots, server.log = None, 0, None  # it has not started by itself, as was seen
    if host.on_t is None or _in_flight(host, state, Kind.POWER_ON):
        return
    server.silent_left = server.busy_left = 0
    server.asked_at = host.on_t
    if now - host.on_t <= SILENT_S:
        _on(server, now + SOON_S)  # otherwise that one was lost, and the next is a new try


def _on_t(host: HostState) -> float:
    """When its chassis came on, as far as the run knows."""
    if host.on_t is not None:
        return host.on_t
    return min(host.stage_t, host.started_t if host.started_t is not None else host.stage_t)


def _in_flight(host: HostState, state: State, kind: Kind) -> bool:
    intent = state.open.get(host.inflight)
    return intent is not None and intent.kind is kind


def _on(server: Server, at: float) -> None:
    server.bmc_at = 0.0
    server.on_at = at
    server.asked_at = None
    server.boots = max(1, server.boots)
    server.silent_left = server.busy_left = 0
    server.log = None


_Pool = tuple[Sequence[float], Sequence[HostTimes]]


class _Pools:
    """What the world has drawn for its hosts, sorted: the distribution to draw the rest from."""

    def __init__(self, world: World, state: State, seed: int) -> None:
        self._world = world
        self._state = state
        self._seed = seed
        self._boots: dict[str, _Pool] = {}
        self._bmcs: dict[str, _Pool] = {}

    @cached_property
    def _times(self) -> dict[str, HostTimes]:
        return self._world.durations()

    def boot(self, server: Server, host: HostState, waited_s: float) -> tuple[float, BootFailure | None]:
        """A boot that takes longer than ``waited_s``, or what it ends in."""
        drawn = self._draw(self._boots, _boot_s, host, waited_s, "rest of boot")
        if drawn is None:
            return self._longer(waited_s, host), None
        failed = drawn.fails in _BOOT_FAILURES
        return (server.boot_s, BootFailure(drawn.fails)) if failed else (drawn.boot_s, None)

    def bmc(self, host: HostState, now: float) -> float:
        """When a BMC answers that has not answered before ``now``."""
        drawn = self._draw(self._bmcs, _bmc_s, host, now, "rest of bmc")
        if drawn is None:
            return self._longer(now, host)
        return drawn.bmc_up_s

    def _longer(self, waited_s: float, host: HostState) -> float:
        """Longer than anybody's in this world, and nobody is dead: some time more, as the longest of a crowd are."""
        return waited_s * (1.0 + LONGER_SHARE * draw(self._seed, "longer", host.name)) + 1.0

    def _draw(
        self, pools: dict[str, _Pool], of: Callable[[HostTimes], float], host: HostState, longer_s: float, word: str
    ) -> HostTimes | None:
        group = host.group.name if len(host.group.hosts) >= POOL_LEAST else ""
        if group not in pools:
            names = self._state.plan.groups[group].hosts if group else self._state.plan.hosts
            ordered = sorted(((of(self._times[name]), name) for name in names), key=lambda pair: pair)
            pools[group] = ([seconds for seconds, _ in ordered], [self._times[name] for _, name in ordered])
        keys, times = pools[group]
        at = bisect_right(keys, longer_s)
        if at == len(times):
            return None
        return times[at + int(draw(self._seed, word, host.name) * (len(times) - at))]


def _boot_s(times: HostTimes) -> float:
    return math.inf if times.fails in _BOOT_FAILURES else times.boot_s


def _bmc_s(times: HostTimes) -> float:
    return math.inf if times.bmc_up_s >= NEVER_S else times.bmc_up_s
