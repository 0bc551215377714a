"""Who may be switched on now, and who waits for what.

A host that is held back is parked on the *one* resource that holds it: a gate, a breaker, a slot, a feed's budget or
its ramp. When that resource has room again, its waiting hosts are tried most urgent first until one of them is held
by it again. So a release costs the hosts that it lets go, not the hosts that wait: no scan of 32,000 for one watt.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from bootorch.core.limits import Resource
from bootorch.core.model import Gate, Host
from bootorch.core.plan import Plan
from bootorch.core.state import HostState, State, subnet

Priority = tuple[int, int, str]


class Admission:
    """A cache over the state: parked hosts can be found again by asking every unsettled host."""

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan = plan
        self._state = state
        self._waiting: dict[Resource, list[tuple[Priority, str]]] = {}
        self._ramp_wake_t: dict[Resource, float] = {}

    def held_back(self, host: HostState, now: float) -> Resource | None:
        """The first resource that keeps the host from being switched on, or None: go.

        A host that holds its watts and slots already (a repeated power-on) is held back by a ramp or a breaker only.
        """
        for gate in self._plan.gates.values():
            if gate.name not in self._state.gates_open and _guards(gate, host.host):
                return ("gate", gate.name)
        breaker = self.breaker(host)
        if breaker is not None:
            return breaker
        if host.reserved:
            feeds = self._state.feeds
            ramps = (resource for resource in feeds.resources(host.host) if resource[0] == "ramp")
            return next((ramp for ramp in ramps if feeds.held_back_by(host.host, ramp, now)), None)
        for resource, full in self._counted(host, now):
            if full or self._somebody_ahead(resource, host):
                return resource
        return None

    def _counted(self, host: HostState, now: float) -> Iterator[tuple[Resource, bool]]:
        limits, used = self._plan.limits.slots, self._state.slots
        image = host.host.fact("image_server")
        if image and "image_server" in limits:
            name = f"image:{image}"
            yield ("slot", name), used.free(name, limits["image_server"]) <= 0
        if "bmc_per_subnet" in limits:
            name = f"bmc:{subnet(host.host.bmc.address)}"
            yield ("slot", name), used.free(name, limits["bmc_per_subnet"]) <= 0
        feeds = self._state.feeds
        for resource in feeds.resources(host.host):
            yield resource, feeds.held_back_by(host.host, resource, now)

    def breaker(self, host: HostState) -> Resource | None:
        """The tripped breaker that stops this host's class, or None."""
        for scope in (f"group:{host.group.name}", f"model:{host.host.model}"):
            if scope in self._state.tripped:
                return ("breaker", scope)
        return None

    def bmc_slot(self, host: HostState) -> Resource | None:
        """The slot to wait for before a packet may go to this host's BMC, or None."""
        limit = self._plan.limits.slots.get("bmc_per_subnet")
        name = f"bmc:{subnet(host.host.bmc.address)}"
        if limit is None or self._state.slots.free(name, limit) > 0:
            return None
        return ("slot", name)

    def park(self, host: HostState, resource: Resource) -> None:
        """The host waits until ``resource`` is freed."""
        if host.parked == resource:
            return
        host.parked = resource
        heappush(self._waiting.setdefault(resource, []), (host.priority, host.host.name))
        if resource[0] == "ramp":
            # Time alone frees a ramp: one timer for the whole queue.
            frees_t = self._state.feeds.ramp_frees_at(resource)
            if frees_t is not None and self._ramp_wake_t.get(resource) != frees_t:
                self._ramp_wake_t[resource] = frees_t
                self._state.wake_at(frees_t, "")

    def pop(self, resource: Resource) -> HostState | None:
        """The most urgent host that waits for ``resource``, no longer parked."""
        waiting = self._prune(resource)
        if not waiting:
            return None
        host = self._state.hosts[heappop(waiting)[1]]
        host.parked = None
        return host

    def ramps(self) -> list[Resource]:
        """The ramps that somebody waits for."""
        return [resource for resource in self._waiting if resource[0] == "ramp" and self._prune(resource)]

    def waiting(self) -> dict[Resource, int]:
        """How many hosts each resource holds back: what an operator wants to know first."""
        counts: dict[Resource, int] = {}
        for host in self._state.hosts.values():
            if host.parked is not None and host.outcome is None:
                counts[host.parked] = counts.get(host.parked, 0) + 1
        return counts

    def _prune(self, resource: Resource) -> list[tuple[Priority, str]]:
        waiting = self._waiting.get(resource, [])
        while waiting:
            host = self._state.hosts[waiting[0][1]]
            if host.parked == resource and host.outcome is None:
                break
            heappop(waiting)
        return waiting

    def _somebody_ahead(self, resource: Resource, host: HostState) -> bool:
        """A more urgent host waits for this resource already: a smaller one does not slip past and starve it."""
        waiting = self._prune(resource)
        return bool(waiting) and waiting[0][0] < host.priority


def _guards(gate: Gate, host: Host) -> bool:
    return not gate.groups or host.group in gate.groups
