"""The invariants of the design, checked beside the engine by other means than the engine's own counters.

A checker sees only the plan and the events. It keeps plain sets and recomputes from scratch what the engine keeps
incrementally, so that the two can disagree.
"""

from __future__ import annotations

from bootorch.core.events import Answer, Event, Intent, Kind, RunEnded, RunStarted, Settled
from bootorch.core.limits import RAMP_WINDOW_S, feed_path
from bootorch.core.model import Outcome, Requirement
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason

_UP = (Outcome.READY, Outcome.ADOPTED)
_AGAIN = (Kind.POWER_ON, Kind.POWER_CYCLE)  # after these a boot may fail anew
_ACTING = (Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE)


class InvariantBroken(AssertionError):
    """The engine did what it must never do."""


class Checker:
    """Feed it every event in order, ephemeral ones included. Raises ``InvariantBroken``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._t = 0.0
        self._outcome: dict[str, Outcome] = {}
        self._off_read: set[str] = set()  # hosts whose latest word from the BMC is off, with no power-on since
        self._on_read: set[str] = set()
        self._asked: set[str] = set()  # hosts that we switched on
        self._examined: set[str] = set()  # hosts whose failed boot, or power-on in vain, has told its evidence
        self._watts: dict[str, float] = {}
        self._starts: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in plan.limits.feeds}
        self._open: dict[int, Intent] = {}
        self._busy: dict[str, int] = {}  # host -> effect under way
        self._cleared: set[str] = set()  # hosts whose dependencies were seen to hold: settled parents stay settled
        self._limit: frozenset[str] | None = None

    def __call__(self, event: Event) -> None:
        if event.t < self._t:
            raise InvariantBroken(f"time runs backwards: {event}")
        self._t = event.t
        match event:
            case RunStarted():
                self._limit = frozenset(event.selected) if event.selected else None
            case Intent():
                self._intent(event)
            case Answer():
                self._answer(event)
            case Settled():
                if event.host in self._outcome:
                    raise InvariantBroken(f"{event.host} settles twice: {event}")
                self._outcome[event.host] = event.outcome
                if event.host in self._off_read:
                    # Given up while off, as its BMC said after the last power-on: no power flowed.
                    self._watts.pop(event.host, None)
                    for starts in self._starts.values():
                        starts.pop(event.host, None)
            case RunEnded(verdict="done"):
                if self._outcome.keys() != self._plan.hosts.keys():
                    raise InvariantBroken("hosts without an outcome at the end (invariant 6)")

    def _intent(self, event: Intent) -> None:
        if event.id in self._open:
            raise InvariantBroken(f"effect {event.id} starts twice")
        self._open[event.id] = event
        for name in event.hosts or ((event.target,) if event.target in self._plan.hosts else ()):
            if name in self._outcome:
                raise InvariantBroken(f"effect for {name}, which has settled: {event}")
            if name in self._busy:
                raise InvariantBroken(f"two effects at once for {name}: {event}")
            self._busy[name] = event.id
            if event.kind is Kind.POWER_READ and "survey" in event.args:
                self._control_holds(name)  # read ahead: nothing of the service need be there
            elif name not in self._cleared:
                self._dependencies_hold(name)
                self._cleared.add(name)
        if event.kind in _ACTING or event.kind is Kind.REDEPLOY:
            for name in event.hosts or (event.target,):
                if self._limit is not None and name not in self._limit:
                    raise InvariantBroken(f"{name} is outside the limit: {event}")
        if event.kind in _AGAIN:
            self._examined.discard(event.target)
        if event.kind is Kind.POWER_ON:
            self._power_on(event)
        if event.kind is Kind.EVIDENCE and (event.target not in self._asked or event.target in self._examined):
            raise InvariantBroken(f"evidence of a boot that nobody asked for, or twice: {event}")
        if event.kind is Kind.POWER_CYCLE:
            group = self._plan.group_of(event.target)
            if group.second_boot.value != "cycle" or event.target not in self._on_read:
                raise InvariantBroken(f"a cycle that the plan does not allow (invariant 3): {event}")
            if event.target not in self._asked:
                raise InvariantBroken(f"an adopted host is cycled: {event}")

    def _power_on(self, event: Intent) -> None:
        name = event.target
        if name not in self._off_read:
            raise InvariantBroken(f"power-on without a reading that said off (invariant 3): {event}")
        self._off_read.discard(name)
        self._asked.add(name)
        host = self._plan.hosts[name]
        self._watts[name] = host.watts_boot_peak
        for feed in feed_path(host.feed):
            limit = self._plan.limits.feeds.get(feed)
            if limit is None:
                continue
            self._starts[feed][name] = (event.t, host.watts_boot_peak)  # a repeat: power flows at the last one
            self._feed_holds(feed)

    def _feed_holds(self, feed: str) -> None:
        limit = self._plan.limits.feeds[feed]
        draw = sum(watts for name, watts in self._watts.items() if feed in feed_path(self._plan.hosts[name].feed))
        if limit.budget_watts is not None and draw > limit.budget_watts + 1e-3:
            raise InvariantBroken(f"feed {feed} draws {draw} W of {limit.budget_watts} W at {self._t} (invariant 2)")
        ramp = sum(watts for t, watts in self._starts[feed].values() if t + RAMP_WINDOW_S > self._t)
        if limit.ramp_watts_per_min is not None and ramp > limit.ramp_watts_per_min + 1e-3:
            raise InvariantBroken(f"feed {feed} ramps {ramp} W in a minute at {self._t} (invariant 2)")

    def _answer(self, event: Answer) -> None:
        intent = self._open.pop(event.id, None)
        for name in intent.hosts or (intent.target,) if intent is not None else ():
            self._busy.pop(name, None)
        host = event.target
        if event.kind is Kind.EVIDENCE and event.reason is not Reason.INTERRUPTED:
            self._examined.add(host)
        if event.kind is Kind.POWER_READ and event.reason is Reason.OK:
            on = event.data["power"] == "on"
            if on and host in self._off_read:
                self._examined.discard(host)  # it came on after all
            (self._on_read.add if on else self._on_read.discard)(host)
            (self._off_read.discard if on else self._off_read.add)(host)
            if on and host not in self._asked:
                self._watts[host] = self._plan.hosts[host].watts_steady
        elif event.kind is Kind.BOOT_PROBE and event.reason is Reason.OK and host in self._watts:
            self._watts[host] = self._plan.hosts[host].watts_steady

    def _control_holds(self, name: str) -> None:
        for requirement in self._plan.group_of(name).requires:
            if requirement.control and (not requirement.hosts or name in requirement.hosts):
                self._requirement_holds(name, requirement)

    def _dependencies_hold(self, name: str) -> None:
        host = self._plan.hosts[name]
        for requirement in self._plan.groups[host.group].requires:
            if not requirement.hosts or name in requirement.hosts:
                self._requirement_holds(name, requirement)
        for parent in self._plan.groups[host.group].after:
            if any(member not in self._outcome for member in self._plan.groups[parent].hosts):
                raise InvariantBroken(f"effect for {name} before {parent} has settled (invariant 1)")

    def _requirement_holds(self, name: str, requirement: Requirement) -> None:
        members = [self._plan.hosts[member] for member in self._plan.groups[requirement.group].hosts]
        if requirement.per_host is not None:
            value = self._plan.hosts[name].fact(requirement.per_host)
            members = [member for member in members if member.fact(requirement.parent_key) == value]
        if not members:
            return  # no parents of its own: it waits for none
        up = [member for member in members if self._outcome.get(member.name) in _UP]
        if len(up) < requirement.quorum.needed(len(members)) or len({m.rack for m in up}) < requirement.across_racks:
            raise InvariantBroken(f"effect for {name} before {requirement.group} has its quorum (invariant 1)")
