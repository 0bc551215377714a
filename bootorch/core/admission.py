"""Who may be switched on now, and who waits for what.

A host that is held back is parked on the *one* resource that holds it: a gate, a breaker, a slot, a feed's budget,
its ramp or its inrush. When that resource has room again, its waiting hosts are tried most urgent first until one of
them is held by it again. So a release costs the hosts that it lets go, not the hosts that wait: no scan of 32,000 for
one watt.
"""

from __future__ import annotations

from collections.abc import Iterator

from bootorch.core.clusters import scopes_of
from bootorch.core.hoststate import HostState
from bootorch.core.limits import Resource
from bootorch.core.lines import Line, Turns
from bootorch.core.plan import Plan
from bootorch.core.slots import IN_FLIGHT
from bootorch.core.state import State

TIMED = ("ramp", "inrush")  # resources that time alone frees
_COUNTED = ("feed", "slot", *TIMED)
# Waiting hosts whose power state is read ahead, so that dead BMCs and running servers are known early: as many at once
# as may be in flight. BMCs that are not up yet are most of them, and cost nothing.
SURVEYS = IN_FLIGHT
SURVEY: Resource = ("slot", "survey")


class Admission:
    """A cache over the state: parked hosts can be found again by asking every unsettled host."""

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan = plan
        self._state = state
        self._waiting: dict[Resource, Line[HostState]] = {}
        self._ahead = Turns[HostState]()  # those that wait to be looked at ahead of their turn
        self._wake_t: dict[Resource, float] = {}
        self._closed: dict[str, list[str]] = {}  # gates that are not open yet, by the group that they hold back
        self._gates_seen = -1
        self._control_gates = [gate for gate in plan.gates.values() if gate.control]

    def held_back(self, host: HostState, now: float, *, passing: bool = False) -> Resource | None:
        """The first resource that keeps the host from being switched on, or None: go.

        A host that holds its watts and slots already (a repeated power-on) is held back by a ramp or a breaker only.
        ``passing``: whoever waits before it is passed by.
        """
        state = self._state
        if self._plan.gates and (gate := self._gate(host.group.name)):
            return ("gate", gate)
        if state.tripped and (breaker := self.breaker(host)) is not None:
            return breaker
        if host.reserved:
            return state.feeds.ramp_holds(host.draw, now) if state.feeds.any_ramp else None
        slots = state.slots
        for slot in host.boot_slots:
            if slots.full(slot) or (not passing and self._somebody_ahead(("slot", slot), host)):
                return ("slot", slot)
        for resource, full in state.feeds.held_back(host.draw, now):
            if full or (not passing and self._somebody_ahead(resource, host)):
                return resource
        return None

    def cycle_held(self, host: HostState, now: float) -> Resource | None:
        """What keeps a host that draws already from being power-cycled: its boot peak is to come once more."""
        for resource, full in self._state.feeds.held_back(host.draw, now):
            if full:
                return resource
        return None

    def parked(self) -> list[HostState]:
        """Hosts that wait for electricity or for a slot of their boot, most urgent first."""
        waiting = [host for host, resource in self.queued() if resource[0] in _COUNTED and not host.dark]
        return sorted(waiting, key=lambda host: host.priority)

    def queued(self) -> Iterator[tuple[HostState, Resource]]:
        """Every host that a resource holds back, and which. Costs what waits, not what there is.

        Who is to be looked at ahead of its turn is held back by nothing.
        """
        for queue, waiting in self._waiting.items():
            for host in dict.fromkeys(host for _, host in waiting):
                if host.parked is not None and queue_of(host.parked) == queue and host.outcome is None:
                    yield host, host.parked

    def _gate(self, group: str) -> str:
        """A closed gate before the group's power-ons."""
        opened = len(self._state.gates_open)
        if opened != self._gates_seen:
            self._gates_seen = opened
            self._closed = {name: [] for name in self._plan.groups}
            for gate in self._plan.gates.values():
                if gate.name not in self._state.gates_open:
                    for name in gate.groups or self._plan.groups:
                        self._closed[name].append(gate.name)
        closed = self._closed[group]
        return closed[0] if closed else ""

    def control_gate(self, group: str) -> str:
        """A closed gate before the group's BMCs: a manual step of the control path."""
        for gate in self._control_gates:
            if gate.name not in self._state.gates_open and (not gate.groups or group in gate.groups):
                return gate.name
        return ""

    def breaker(self, host: HostState) -> Resource | None:
        """The tripped breaker that stops this host's class, or None."""
        tripped = self._state.tripped
        if not tripped:
            return None
        for scope in (f"group:{host.group.name}", f"model:{host.host.model}", *scopes_of(host.host)):
            if scope in tripped:
                return ("breaker", scope)
        return None

    def bmc_slot(self, host: HostState) -> Resource | None:
        """The slot to wait for before a packet may go to this host's BMC, or None."""
        slot = host.bmc_slot
        return ("slot", slot) if slot and self._state.slots.full(slot) else None

    def login_slot(self) -> Resource | None:
        """The slot to wait for before a login may be tried, or None."""
        return ("slot", "logins") if self._state.logins_limited and self._state.slots.full("logins") else None

    def survey_slot(self) -> Resource | None:
        """The slot to wait for before the power state of a waiting host is read, or None."""
        return SURVEY if self._state.surveys >= SURVEYS else None

    def park(self, host: HostState, resource: Resource) -> None:
        """The host waits until ``resource`` is freed."""
        if host.parked == resource:
            return
        host.parked = resource
        queue = queue_of(resource)
        self._state.wanted.add(queue)
        if queue == SURVEY:
            self._ahead.push(host.priority[0], host)
            return
        waiting = self._waiting.get(queue)
        if waiting is None:
            waiting = self._waiting[queue] = Line()
        waiting.push(host.priority, host)
        if resource[0] in TIMED:
            self.wake_for(resource)

    def wake_for(self, resource: Resource) -> None:
        """Time alone frees a ramp: one timer for the whole queue."""
        frees_t = self._state.feeds.frees_at(resource)
        if frees_t is not None and self._wake_t.get(resource) != frees_t:
            self._wake_t[resource] = frees_t
            self._state.wake_at(frees_t)

    def full(self, queue: Resource) -> bool:
        """No place is left of what the queue waits for: its first host keeps its turn without being asked."""
        return queue[0] == "slot" and self._state.slots.full(queue[1])

    def pop(self, resource: Resource) -> HostState | None:
        """The most urgent host that waits in the queue of ``resource``, no longer parked."""
        queue = queue_of(resource)
        host = self._first(queue)
        if host is not None:
            self._waiting[queue].pop()
            host.parked = None
        return host

    def ahead(self) -> HostState | None:
        """The next host to be looked at ahead of its turn, no longer parked; None: there is none, or no place."""
        state = self._state
        if state.surveys >= SURVEYS:
            return None
        while self._ahead:
            host = self._ahead.pop()
            if host.parked == SURVEY and host.outcome is None:
                host.parked = None
                return host
        state.wanted.discard(SURVEY)
        return None

    def timed(self, now: float) -> list[Resource]:
        """The ramps and inrush limits whose time has come."""
        due = [resource for resource, t in self._wake_t.items() if t <= now]
        for resource in due:
            del self._wake_t[resource]
        return due

    def waiting(self) -> dict[Resource, int]:
        """How many hosts each resource holds back: what an operator wants to know first."""
        counts: dict[Resource, int] = {}
        for _, resource in self.queued():
            counts[resource] = counts.get(resource, 0) + 1
        return counts

    def _first(self, queue: Resource) -> HostState | None:
        """The most urgent host that waits in the queue. Who waits there no more is forgotten on the way."""
        waiting = self._waiting.get(queue)
        if not waiting:
            return None
        while (first := waiting.first()) is not None:
            priority, host = first
            parked = host.parked
            if parked is not None and queue_of(parked) == queue and host.outcome is None and host.priority == priority:
                return host
            waiting.pop()
        self._state.wanted.discard(queue)
        return None

    def _somebody_ahead(self, resource: Resource, host: HostState) -> bool:
        """A more urgent host waits for this resource already: a smaller one does not slip past and starve it."""
        first = self._first(queue_of(resource))
        return first is not None and first.priority < host.priority


def queue_of(resource: Resource) -> Resource:
    """A feed has one queue for its budget, its ramp and its inrush: whoever is held by one of them would only wander
    from queue to queue when another one is short too."""
    return ("feed", resource[1]) if resource[0] in TIMED else resource
