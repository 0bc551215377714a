"""What is decided for many hosts at once: breakers, gates, meters, and slots that adapt to what they protect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf

from bootorch.core.clusters import scope
from bootorch.core.events import Adapted, Event, GateOpened, Intent, Kind, Scalar, Tripped
from bootorch.core.hoststate import GroupState
from bootorch.core.model import Gate
from bootorch.core.plan import Plan
from bootorch.core.state import State

BREAKER_LEAST = 2  # one failure is no cluster, whatever share of a small group it is
GATE_CHECK_S = 10.0
METER_S = 15.0  # an SNMP request with its retries (net-snmp: 1 s, five retries), and a shell around it


class Oversight:
    """Looks at what the folds have left to be looked at. ``emit`` folds an event and hands it out."""

    def __init__(self, plan: Plan, state: State, emit: Callable[[Event], None]) -> None:
        self._plan = plan
        self._state = state
        self._emit = emit
        self._checked = [gate for gate in plan.gates.values() if gate.check is not None]
        self._timed = [gate for gate in plan.gates.values() if gate.wait_s is not None or gate.at]
        self._opened = -1  # gates that were open when the two were made
        self._woken: dict[str, float] = {}  # when a look at a gate was asked for
        self._meters = {name: limit.meter for name, limit in plan.limits.feeds.items() if limit.meter is not None}

        self._read_t: dict[str, float] = {}
        self._quiet_t: float | None = None  # since when nothing goes on but the reading of meters

        self.meters = bool(self._meters)
        self.watches = bool(self._checked or self._timed or self._meters)  # something to be asked without any event
        self.next_t = -inf if self.watches else inf  # a look before then has nothing to see but what folds have left,
        self.wall = state.wall  # as long as the clock is this one

    def look(self, now: float) -> None:
        """All of it, as far as there is something to see."""
        state = self._state
        if state.suspects:
            self._breakers(now)
        if state.overloads or state.grown:
            self._adapt(now)
        if self.watches:
            self._watch(now)

    def _watch(self, now: float) -> None:
        state = self._state
        if len(state.gates_open) != self._opened:  # a gate that is open stays open
            self._opened = len(state.gates_open)
            self._checked = [gate for gate in self._checked if gate.name not in state.gates_open]
            self._timed = [gate for gate in self._timed if gate.name not in state.gates_open]
            self.watches = bool(self._checked or self._timed or self._meters)
        self.wall = state.wall
        due = [self._time(gate, now) for gate in self._timed]
        self.next_t = -inf if self._checked or self._meters else min(due, default=inf)
        if not state.paused and state.unsettled:
            for gate in self._checked:
                if gate.name not in state.asking:
                    self._ask_gate(gate, now)
            if self._meters:
                self._read_meters(now)

    def _read_meters(self, now: float) -> None:
        """While anything else goes on, and once after it: what was read before may hold somebody back for nothing."""
        state = self._state
        reading = sum(1 for feed in self._meters if feed in state.asking)
        if len(state.open) > reading or len(state.timers) > state.meter_timers or state.dirty or state.left:
            self._quiet_t = None
        elif self._quiet_t is None:
            self._quiet_t = now
        for feed, meter in self._meters.items():
            wanted = self._quiet_t is None or self._read_t.get(feed, -1.0) < self._quiet_t
            wanted = wanted or (("feed", feed) in state.wanted and state.feeds.unread(feed, now))
            if wanted and feed not in state.asking and now >= state.meter_next_t.get(feed, 0.0):
                self._read_t[feed] = now
                args: dict[str, Scalar] = {"timeout_s": min(METER_S, meter.every_s)}
                durable = feed not in state.meter_next_t
                self._emit(Intent(now, state.next_id, Kind.FEED_METER, feed, 1, (), args, durable))

    # -- breakers ---------------------------------------------------------------------

    def _breakers(self, now: float) -> None:
        state, breaker = self._state, self._plan.limits.breaker
        suspects, state.suspects = state.suspects, []
        for name in suspects:
            host = state.hosts[name]
            if breaker.group_failed_share is not None:
                self._share(state.groups[host.group.name], breaker.group_failed_share, now)
            model = host.host.model
            if breaker.same_model_failures is not None and model:
                count = state.model_failed.get(model, 0)
                if count >= breaker.same_model_failures:
                    self._trip(f"model:{model}", f"{count} hosts of model {model} quarantined", now)
            if breaker.cluster_failures is not None:
                found = state.clusters.to_blame(host.host, breaker.cluster_failures)
                if found is not None:
                    self._trip(scope(found.found), str(found), now)

    def _share(self, group: GroupState, share: float, now: float) -> None:
        failed = group.failed - group.failed_base
        if failed >= BREAKER_LEAST and failed > share * group.size:
            detail = f"{failed} of {group.size} hosts quarantined, more than {share:.0%}"
            self._trip(f"group:{group.group.name}", detail, now)

    def _trip(self, what: str, detail: str, now: float) -> None:
        if what not in self._state.tripped:
            self._emit(Tripped(now, what, detail))

    # -- adaptive slots ---------------------------------------------------------------------

    def _adapt(self, now: float) -> None:
        state = self._state
        overloads, state.overloads = state.overloads, []
        for slot, began_t, count, why in overloads:
            smaller = state.slots.overload(slot, began_t, count)
            if smaller is not None:
                self._emit(Adapted(now, slot, smaller, why))
        grown, state.grown = state.grown, {}
        for slot in grown:
            larger = state.slots.growth(slot)
            if larger is not None:
                self._emit(Adapted(now, slot, larger, "as many in a row went well"))

    # -- gates ---------------------------------------------------------------------

    def _ask_gate(self, gate: Gate, now: float) -> None:
        state = self._state
        if now >= state.gate_next_t.get(gate.name, 0.0):
            args: dict[str, Scalar] = {"timeout_s": GATE_CHECK_S}
            durable = gate.name not in state.gate_tries
            self._emit(Intent(now, state.next_id, Kind.GATE_CHECK, gate.name, 1, (), args, durable))

    def _time(self, gate: Gate, now: float) -> float:
        """Open the gate where its time has come. When that is."""
        due_t = self.due_t(gate)
        if now >= due_t:
            self._emit(GateOpened(now, gate.name, "time", gate.at or f"{gate.wait_s:g} s have passed"))
        elif self._woken.get(gate.name) != due_t:
            self._woken[gate.name] = due_t
            self._state.wake_at(due_t)
        return due_t

    def due_t(self, gate: Gate) -> float:
        """Run time at which a gate opens by itself. Without a wall clock (a dry run) a time of day has come already."""
        if gate.wait_s is not None:
            return gate.wait_s
        if self._state.wall is None:
            return 0.0
        t, wall = self._state.wall
        return t + (next_time(gate.at, wall) - wall).total_seconds()


def next_time(at: str, after: datetime) -> datetime:
    """``06:00`` → the next such time after ``after``, in its time zone; an ISO 8601 time with offset is itself.

    Raises ValueError for anything else.
    """
    if len(at) == 5 and at[2] == ":":
        moment = after.replace(hour=int(at[:2]), minute=int(at[3:]), second=0, microsecond=0)
        return moment if moment >= after else moment + timedelta(days=1)
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError(f"{at} has no offset from UTC")
    return moment
