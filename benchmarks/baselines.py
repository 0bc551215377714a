"""How else a site is brought back: strict barriers, a fixed rate, rack by rack. A small simulator of its own.

The baselines get what the engine gets: the same sampled durations, dependencies, feeds and slots. They get more, too:
they learn the end of a boot in the instant in which it ends, no exchange costs them anything, each host is redeployed
by itself, and forks are not counted. What differs is who starts next.

- ``barriers``: wave after wave, in the plan's order; a wave begins when every host of the one before has settled.
- ``rate``: in the plan's order, at most 300 hosts a minute, evenly (Slurm's default ResumeRate is 300 nodes a minute).
- ``racks``: rack after rack: all hosts of a rack whose dependencies hold are switched on together, as soon as the
  limits have room for all of them; racks whose hosts still wait come again.

A host or rack that does not fit waits for the resource that holds it, and nobody less urgent for the same resource
passes it, as in the engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from bootorch.core.dependencies import Dependencies, Leader, count
from bootorch.core.limits import OFF, PEAK, RAMP_WINDOW_S, STEADY, Draw, Feeds, Resource
from bootorch.core.model import Host, Outcome
from bootorch.core.plan import Plan
from bootorch.core.slots import BOOT, kinds_during, slots_of
from bootorch.sim.chains import Times

POLICIES = ("barriers", "rate", "racks")
RATE_PER_MIN = 300
_NEVER_ON = frozenset({"power_no_effect", "power_fault"})
_NEVER_S = 1e9
_RATE: Resource = ("rate", "")


@dataclass(frozen=True, slots=True)
class Result:
    """``settled_s``: host -> when it settled; hosts that never could are not in it."""

    seconds: float
    settled_s: Mapping[str, float]
    ready: int


class Baseline:
    """One run under one policy. A *gang* is what is switched on together: a host, or the waiting hosts of a rack."""

    def __init__(self, plan: Plan, times: Mapping[str, Times], policy: str) -> None:
        self._plan = plan
        self._times = times
        self._policy = policy
        self._dependencies = Dependencies(plan)
        self._waits: dict[str, int] = {}
        self._feeds = Feeds(plan.limits.feeds)
        self._draws: dict[str, Draw] = {}
        self._slots: dict[str, int] = {}
        self._boot_slots: dict[str, tuple[str, ...]] = {}
        self._settled: dict[str, float] = {}
        self._ready = 0
        self._events: list[tuple[float, int, str, str]] = []  # (t, order, what, host or rack)
        self._number = 0
        self._order = self._orders()
        self._waiting: dict[Resource, list[tuple[int, str]]] = {}
        self._queue: list[tuple[int, str]] = []  # gangs to be tried now
        self._freed: dict[Resource, None] = {}
        self._booting_on: dict[str, int] = {}  # by feed
        self._last_start_s: dict[str, float] = {}
        self._queued: set[str] = set()  # gangs that wait in a queue or for a resource
        self._gangs: dict[str, list[str]] = {}
        self._next_start_s = 0.0
        self._timers: set[tuple[float, Resource]] = set()
        self._wave = 0
        self._left_in_wave = [sum(len(plan.groups[name].hosts) for name in wave) for wave in plan.waves]
        self._held: dict[int, list[str]] = {}  # by wave: hosts that wait for the barrier only

    def _orders(self) -> dict[str, int]:
        """Smaller goes first. By gang: a rack, or a host."""
        if self._policy == "racks":
            racks = dict.fromkeys(host.rack for host in self._plan.hosts.values())
            return {rack: number for number, rack in enumerate(sorted(racks))}
        names = [name for group in self._plan.groups.values() for name in group.hosts]
        if self._policy == "barriers":
            names = [name for wave in self._plan.waves for group in wave for name in self._plan.groups[group].hosts]
        return {name: number for number, name in enumerate(names)}

    def run(self) -> Result:
        now = 0.0
        hosts = self._plan.hosts
        for name, host in hosts.items():
            own = self._dependencies.of[name]
            waits, _, impossible = count(wait for wait in own if not (isinstance(wait, Leader) and wait.chosen == name))
            self._waits[name] = waits
            self._draws[name] = self._feeds.draw_of(host, 0)
            self._boot_slots[name] = slots_of(host, kinds_during(self._plan.limits, BOOT))
            if impossible:
                self._push(0.0, "blocked", name)
            elif not waits:
                self._free(name, 0.0)
        self._dispatch(0.0)
        while self._events:
            now = self._events[0][0]
            while self._events and self._events[0][0] <= now:
                _, _, what, name = heappop(self._events)
                self._happened(what, name, now)
            self._dispatch(now)
        return Result(max(self._settled.values(), default=0.0), self._settled, self._ready)

    # -- events ---------------------------------------------------------------------

    def _push(self, t: float, what: str, name: str) -> None:
        self._number += 1
        heappush(self._events, (t, self._number, what, name))

    def _happened(self, what: str, name: str, now: float) -> None:
        match what:
            case "startable":
                self._enqueue(name, now)
            case "proven":
                self._end_boot(name, STEADY)
                times, group = self._times[name], self._plan.group_of(name)
                after_s = times.ready_s + (sum(times.redeploy_s) if group.redeploy else 0.0)
                self._push(now + after_s, "ready", name)
            case "ready":
                self._ready += 1
                self._settle(name, Outcome.READY, now)
            case "given up":
                self._end_boot(name, PEAK)  # its chassis is on, and nobody knows what it draws
                self._settle(name, Outcome.QUARANTINED, now)
            case "no power":
                self._end_boot(name, OFF)
                self._settle(name, Outcome.QUARANTINED, now)
            case "no bmc":
                self._settle(name, Outcome.QUARANTINED, now)
            case "blocked":
                if name not in self._settled:
                    self._settle(name, Outcome.BLOCKED, now)
            case "timer":
                kind, _, own = name.partition(":")
                self._release((kind, own))
                if (kind, own) == _RATE:
                    self._freed[_RATE] = None

    def _settle(self, name: str, outcome: Outcome, now: float) -> None:
        self._settled[name] = now
        for _, change in self._dependencies.settle(name, self._plan.hosts[name].group, outcome):
            for child in change.children:
                if change.impossible and child not in self._settled:
                    self._push(now, "blocked", child)
                self._waits[child] += change.more
                if change.more < 0 and self._waits[child] == 0 and child not in self._settled:
                    self._free(child, now)
        wave = self._plan.wave_of[self._plan.hosts[name].group]
        self._left_in_wave[wave] -= 1
        while self._wave < len(self._left_in_wave) and not self._left_in_wave[self._wave]:
            self._wave += 1
            for held in self._held.pop(self._wave, ()):
                self._free(held, now)

    def _free(self, name: str, now: float) -> None:
        """Its dependencies hold. It can start once its BMC answers, its gates are open, its wave has begun."""
        group = self._plan.hosts[name].group
        wave = self._plan.wave_of[group]
        if self._policy == "barriers" and wave > self._wave:
            self._held.setdefault(wave, []).append(name)
            return
        times = self._times[name]
        if times.bmc_up_s >= _NEVER_S:
            self._push(max(now, times.failure_s), "no bmc", name)
            return
        gates = (gate for gate in self._plan.gates.values() if not gate.groups or group in gate.groups)
        opens_s = max((gate.wait_s or 0.0 for gate in gates), default=0.0)
        self._push(max(now, times.bmc_up_s, opens_s), "startable", name)

    # -- starting ---------------------------------------------------------------------

    def _enqueue(self, name: str, now: float) -> None:
        gang = self._plan.hosts[name].rack if self._policy == "racks" else name
        self._gangs.setdefault(gang, []).append(name)
        if gang not in self._queued:
            self._queued.add(gang)
            heappush(self._queue, (self._order[gang], gang))

    def _dispatch(self, now: float) -> None:
        while self._queue or self._freed:
            while self._queue:
                self._try(*heappop(self._queue), now)
            if self._freed:
                resource = next(iter(self._freed))
                del self._freed[resource]
                waiting = self._waiting.get(resource)
                while waiting and self._try(*heappop(waiting), now) not in (resource, _RATE):
                    pass
                if resource == _RATE:  # those behind the next one in turn were not looked at before
                    self._freed.update(dict.fromkeys(other for other in self._waiting if other != _RATE))

    def _try(self, order: int, gang: str, now: float) -> Resource | None:
        """Switch the gang on, or have it wait for what holds it."""
        held = self._held_by(gang, order, now)
        if held is not None:
            heappush(self._waiting.setdefault(held, []), (order, gang))
            self._wake(held, now)
            return held
        self._queued.discard(gang)
        for name in self._gangs.pop(gang):
            self._start(name, now)
        return None

    def _held_by(self, gang: str, order: int, now: float) -> Resource | None:
        """The resource that has no room for the gang. More than a limit can ever hold goes in parts."""
        taken: list[str] = []
        found: Resource | None = None
        for name in self._gangs[gang]:
            found = self._room(name, order, now)
            if found is not None:
                break
            self._take(name, now)
            taken.append(name)
        rest = self._gangs[gang][len(taken) :]
        for name in taken:
            self._put_back(name)
        if found is not None and taken and not self._busy(found, now):
            # Nothing else is under way there: what fits goes now, or the rack would never go.
            self._gangs[gang] = taken
            for name in rest:
                self._push(now, "startable", name)
            return None
        if found is None and self._policy == "rate" and (now < self._next_start_s - 1e-9 or self._ahead(_RATE, order)):
            return _RATE
        return found

    def _busy(self, resource: Resource, now: float) -> bool:
        kind, name = resource
        if kind == "slot":
            return self._slots.get(name, 0) > 0
        if kind == "ramp":
            return now < self._last_start_s.get(name, -math.inf) + RAMP_WINDOW_S
        return self._booting_on.get(name, 0) > 0

    def _room(self, name: str, order: int, now: float) -> Resource | None:
        limits = self._plan.limits.slots
        for slot in self._boot_slots[name]:
            kind = slot.partition(":")[0]
            resource = ("slot", slot)
            if self._slots.get(slot, 0) >= limits[kind] or self._ahead(resource, order):
                return resource
        for resource, full in self._feeds.held_back(self._draws[name], now):
            if full or self._ahead(resource, order):
                return resource
        return None

    def _ahead(self, resource: Resource, order: int) -> bool:
        waiting = self._waiting.get(resource)
        return bool(waiting and waiting[0][0] < order)

    def _take(self, name: str, now: float) -> None:
        self._feeds.start(self._draws[name], now)
        for slot in self._boot_slots[name]:
            self._slots[slot] = self._slots.get(slot, 0) + 1

    def _put_back(self, name: str) -> None:
        self._feeds.hold(self._draws[name], OFF)
        self._feeds.forget(self._draws[name])
        for share in self._draws[name].shares:
            window = share.feed.window
            while window and not window[-1][1]:
                window.pop()  # it was only asked whether there is room: nothing that a timer should wait for
        for slot in self._boot_slots[name]:
            self._slots[slot] -= 1

    def _start(self, name: str, now: float) -> None:
        self._take(name, now)
        self._next_start_s = max(now, self._next_start_s) + 60.0 / RATE_PER_MIN
        times, host = self._times[name], self._plan.hosts[name]
        for feed in self._feeds_of(host):
            self._booting_on[feed] = self._booting_on.get(feed, 0) + 1
            self._last_start_s[feed] = now
        if times.fails in _NEVER_ON:
            self._push(now + times.failure_s, "no power", name)
        elif times.fails:
            self._push(now + times.failure_s, "given up", name)
        else:
            self._push(now + times.power_s + times.boot_s, "proven", name)

    def _feeds_of(self, host: Host) -> list[str]:
        return [share.feed.name for share in self._draws[host.name].shares]

    def _end_boot(self, name: str, level: float) -> None:
        self._feeds.hold(self._draws[name], level)
        for feed in self._feeds_of(self._plan.hosts[name]):
            self._booting_on[feed] -= 1
            self._release(("feed", feed))
        for slot in self._boot_slots[name]:
            self._slots[slot] -= 1
            self._release(("slot", slot))

    def _release(self, resource: Resource) -> None:
        """Whoever waits for it is tried again, the first one first, until one of them is held by it again."""
        if self._waiting.get(resource):
            self._freed[resource] = None

    def _wake(self, resource: Resource, now: float) -> None:
        if resource[0] == "rate":
            due = self._next_start_s
        elif resource[0] in ("ramp", "inrush"):
            frees_s = self._feeds.frees_at(resource)
            if frees_s is None:
                return
            due = frees_s if frees_s > now else now + 0.001  # sums of floats: not quite out of the window
        else:
            return
        if (due, resource) not in self._timers and due > now:
            self._timers.add((due, resource))
            self._push(due, "timer", ":".join(resource))
