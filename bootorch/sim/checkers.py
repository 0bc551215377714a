"""The invariants of the design, checked beside the engine by other means than the engine's own counters.

A checker sees only the plan and the events. It keeps plain sets and recomputes from scratch what the engine keeps
incrementally, so that the two can disagree. Electricity is in ``sim.checked_draw``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bootorch.core.clusters import subnet
from bootorch.core.dependencies import Dependencies
from bootorch.core.events import (
    Aborted,
    Adapted,
    Admitted,
    Answer,
    BootFailed,
    BreakerReset,
    Chosen,
    Continued,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    Lifted,
    LimitSet,
    Paused,
    Quarantined,
    Retried,
    RunEnded,
    RunResumed,
    RunStarted,
    ScopeAdded,
    Settled,
    Skipped,
    TierSet,
    Tripped,
)
from bootorch.core.model import Host, Outcome, Requirement
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.urgency import priorities
from bootorch.sim.checked_draw import Electricity, InvariantBroken, above

__all__ = ["Checker", "InvariantBroken"]

_UP = (Outcome.READY, Outcome.ADOPTED)
_ACTING = (Kind.POWER_ON, Kind.POWER_CYCLE)
_AT_BMC = (*_ACTING, Kind.POWER_READ, Kind.EVIDENCE, Kind.METER)
_AT_HOST = (Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK)
_SLACK_S = 2.0  # of a boot's own clock
_SURVEYS = 1024


class Checker:
    """Feed it every event in order, those that are not journalled included. Raises ``InvariantBroken``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._t = 0.0
        self._gap_s = 0.0
        self.outcome: dict[str, Outcome] = {}
        self.power = Electricity(plan)
        self._off_read: set[str] = set()  # hosts whose latest word from the BMC is off, with no power-on since
        self._on_read: set[str] = set()
        self._asked: dict[str, float] = {}  # hosts that we switched on for the present boot, and when
        self._real_t: dict[str, float] = {}  # first power-on of the present boot, or its cycle, gaps included
        self._before: dict[str, tuple[float | None, bool]] = {}  # asked and lit before the latest power-on
        self._down: set[str] = set()  # hosts that were seen down since the power-on
        self._unbooted: set[str] = set()  # whose boot was given up
        self._boots: dict[str, int] = {}
        self._lit: set[str] = set()  # hosts whose chassis was seen on since the power-on
        self._examined: set[str] = set()  # hosts whose failed boot, or power-on in vain, has told its evidence
        self._begun: set[str] = set()  # hosts that had their turn: their dependencies were seen to hold
        self._touched: set[str] = set()  # hosts that anything was ever sent to
        self._open: dict[int, Intent] = {}
        self._busy: dict[str, int] = {}  # host -> effect under way
        self._void: dict[str, int] = {}  # host -> effects before this one began before the electricity went or came
        self._latest = 0
        self._reserved: set[str] = set()  # hosts that hold watts for a power-on; who draws without was found on
        self._paused = False
        self._aborted = False
        self._said: dict[str, tuple[Outcome, bool]] = {}  # how a person said that a host ends; whether of all of them
        self._limit: frozenset[str] | None = None
        self._required: frozenset[str] = frozenset()  # hosts outside the limit that somebody inside needs
        self._settled_once: set[str] = set()  # groups all of whose members have settled
        self._left = {name: len(group.hosts) for name, group in plan.groups.items()}
        self._gates: set[str] = set()  # open ones
        self._tripped: set[str] = set()
        self._tiers = {name: group.tier for name, group in plan.groups.items()}
        self.tier: dict[str, int] = {}
        self._kinds = dict(plan.limits.slots)
        self._own: dict[str, int] = {}
        self._adapted: dict[str, int] = {}
        self._holders: dict[str, set[str]] = {}
        self._held: dict[str, set[str]] = {}  # host -> slots of its boot
        self._news = dict.fromkeys(plan.groups, 0)  # outcomes of a group that came or went: what was found out is old
        self._found: dict[tuple[int, str], tuple[list[Host], int, bool]] = {}
        self._forks = 0
        self._serving: dict[str, int] = {}  # forks of running slices, by the server that their hosts fetch from
        self._surveys = 0
        self._readings: dict[str, tuple[float, float]] = {}  # those of meters that are journalled
        # ``first``: whose turn it is, who else may follow, and the groups whose first member is ready.
        self.turn: dict[str, str] = {}
        self._candidates: dict[str, list[str]] = {}
        self._led: set[str] = set()
        for name, group in plan.groups.items():
            if group.first is not None:
                self._candidates[name] = list(group.first.candidates)
                self.turn[name] = self._candidates[name].pop(0) if group.first.candidates else ""
        self._order()

    def _order(self) -> None:
        """Who is how urgent, as the tiers stand. Only needed where power is kept for the urgent."""
        if not self._plan.limits.feeds:
            return
        dependencies = Dependencies(self._plan)
        for group, leader in dependencies.leaders.items():
            leader.chosen = self.turn[group]
        order = priorities(self._plan, dependencies, self._tiers)
        self.tier = {name: tier for tier, _, name in order}
        for name in self._plan.hosts:
            self._comes(name)

    def _comes(self, name: str) -> None:
        if self._plan.limits.feeds:
            still = self.outcome.get(name) is None and self.in_scope(name) and name not in self.power.level
            self.power.coming(name, self.tier[name] if still and not self.dark(name) else None)

    def __call__(self, event: Event) -> None:
        if event.t < self._t:
            raise InvariantBroken(f"time runs backwards: {event}")
        self._t = event.t
        self.power.advance(event.t)
        match event:
            case Intent():
                self._intent(event)
            case Answer():
                self._answer(event)
            case Settled():
                self._settled(event)
            case Admitted():
                self._admitted(event)
            case BootFailed():
                self._unbooted.add(event.host)
                self._off_read.discard(event.host)
            case Tripped():
                self._tripped.add(event.scope)
            case BreakerReset():
                self._tripped = self._tripped - {event.scope} if event.scope else set()
            case Paused():
                self._paused = True
            case Continued():
                self._nobody_looked()
            case Aborted():
                self._was_aborted()
            case Quarantined():
                self._set_aside(event, Outcome.QUARANTINED)
            case Skipped():
                self._set_aside(event, Outcome.SKIPPED)
            case Lifted():
                self._lifted(event)
            case Retried():
                self._again(event.hosts)
            case RunStarted():
                self._limit = frozenset(event.selected) if event.selected else None
                self._scope()
            case RunResumed():
                self._resumed(event)
            case GateOpened():
                self._gate_opened(event)
            case Chosen():
                self._chosen(event)
            case LimitSet() if event.kind == "feed":
                self.power.limit_set(event)
            case LimitSet():
                self._slot_set(event)
            case Adapted():
                self._adapt(event)
            case FeedLost():
                self._lost(event)
            case FeedReturned():
                self._returned(event)
            case ScopeAdded():
                self._scope_added(event)
            case TierSet():
                self._tiers[event.group] = event.tier
                self._order()
            case RunEnded(verdict="done" | "aborted"):
                if self.outcome.keys() != self._plan.hosts.keys():
                    raise InvariantBroken("hosts without an outcome at the end (invariant 6)")
            case _:
                pass

    # -- effects ---------------------------------------------------------------------

    def _intent(self, event: Intent) -> None:
        if event.id <= self._latest:
            raise InvariantBroken(f"effect {event.id} starts twice")
        self._latest = event.id
        self._open[event.id] = event
        kind = event.kind
        if self._paused:
            raise InvariantBroken(f"the run is paused: {event}")
        if self._aborted and kind in (*_ACTING, Kind.REDEPLOY):
            raise InvariantBroken(f"the run was aborted: {event}")
        if kind is Kind.GATE_CHECK or kind is Kind.FEED_METER:
            return
        survey = kind is Kind.POWER_READ and "survey" in event.args
        for name in event.hosts or (event.target,):
            if name in self.outcome:
                raise InvariantBroken(f"effect for {name}, which has settled: {event}")
            if not self._said.get(name, (None, True))[1]:
                raise InvariantBroken(f"effect for {name}, which a person has set aside: {event}")
            if self._aborted and kind is Kind.POWER_READ and name not in self._asked:
                raise InvariantBroken(f"{name} is begun with although the run was aborted: {event}")
            if name in self._busy:
                raise InvariantBroken(f"two effects at once for {name}: {event}")
            self._busy[name] = event.id
            self._may_be_asked(name, event, survey)
            self._touched.add(name)
        if kind in _AT_BMC:
            self._count(f"bmc:{subnet(self._plan.hosts[event.target].bmc.address)}", str(event.id), event)
        elif kind in _AT_HOST:
            self._count("logins", str(event.id), event)
        if survey:
            self._surveys += 1
            if self._surveys > _SURVEYS:
                raise InvariantBroken(f"more than {_SURVEYS} hosts read ahead: {event}")
        if kind is Kind.REDEPLOY:
            self._slice(event)
        elif kind is Kind.POWER_ON:
            self._power_on(event)
        elif kind is Kind.POWER_CYCLE:
            self._cycle(event)
        elif "admit" in event.args:
            self._reserve(event.target, event)
        elif kind is Kind.EVIDENCE and (event.target not in self._asked or event.target in self._examined):
            raise InvariantBroken(f"evidence of a boot that nobody asked for, or twice: {event}")

    def _slice(self, event: Intent) -> None:
        """Forks, and the servers that the hosts of a running slice fetch from: as many at once as it has forks."""
        forks = int(event.args["forks"])
        taken = {"forks": self._forks + forks}
        self._forks += forks
        for resource in self._served(event.hosts):
            taken[resource] = self._serving[resource] = self._serving.get(resource, 0) + forks
        for resource, count in taken.items():
            limit = self._slot_limit(resource)
            count += len(self._holders.get(resource, ()))  # hosts that boot from it
            if limit is not None and count > limit:
                raise InvariantBroken(f"{count} playbook forks at {resource} of {limit}: {event}")

    def _served(self, hosts: Iterable[str]) -> set[str]:
        kinds = [kind for kind, stages in self._plan.limits.during.items() if "redeploy" in stages]
        found = (f"{kind}:{self._plan.hosts[host].fact(kind)}" for kind in kinds for host in hosts)
        return {resource for resource in found if not resource.endswith(":")}

    def _may_be_asked(self, name: str, event: Intent, survey: bool) -> None:
        group = self._plan.hosts[name].group
        if self.dark(name):
            raise InvariantBroken(f"{name} is without electricity: {event}")
        if not self.in_scope(name) and (
            name not in self._required or event.kind in (*_ACTING, Kind.REDEPLOY, Kind.METER, Kind.EVIDENCE)
        ):
            raise InvariantBroken(f"{name} is outside the limit: {event}")
        if event.kind in _AT_BMC:
            self._gates_open(group, event, control=True)
        if survey:
            self._control_holds(name)  # read ahead: nothing of the service need be there
        elif name not in self._begun:
            self._dependencies_hold(name)
            self._begun.add(name)
        if event.kind in (Kind.POWER_ON, Kind.POWER_CYCLE, Kind.REDEPLOY) and (scope := self.breaker(name)):
            raise InvariantBroken(f"breaker {scope} has tripped, which {name} belongs to: {event}")

    def _power_on(self, event: Intent) -> None:
        name = event.target
        if name not in self._off_read:
            raise InvariantBroken(f"power-on without a reading that said off (invariant 3): {event}")
        self._gates_open(self._plan.hosts[name].group, event)
        self._reserve(name, event)
        if name not in self._asked:
            for what in self.power.over(name):
                raise InvariantBroken(f"{what} (invariant 2): {event}")
        self._before[name] = (self._asked.get(name), name in self._lit)
        if name not in self._asked:
            self._real_t[name] = self._t + self._gap_s  # a repeat may find what the first one has set going
        self._off_read.discard(name)
        self._examined.discard(name)
        self._requested(name)

    def _requested(self, name: str) -> None:
        self._asked[name] = self._t
        self._down.discard(name)
        self._lit.discard(name)

    def _cycle(self, event: Intent) -> None:
        name = event.target
        if self._plan.group_of(name).second_boot.value != "cycle" or name not in self._on_read:
            raise InvariantBroken(f"a cycle that the plan does not allow (invariant 3): {event}")
        if name not in self._asked:
            raise InvariantBroken(f"an adopted host is cycled: {event}")
        before = self.power.level.get(name)
        self.power.starts(name, self._t)
        for what in self.power.over(name) if before is None or before < 1.0 else ():
            raise InvariantBroken(f"{what} (invariant 2): {event}")
        self._boots[name] = self._boots.get(name, 1) + 1
        self._unbooted.discard(name)
        self._examined.discard(name)
        self._requested(name)
        self._real_t[name] = self._t + self._gap_s
        self._lit.add(name)  # its draw over time is known for power-ons only

    def _admitted(self, event: Admitted) -> None:
        name = event.host
        if name in self.outcome or self.dark(name) or not self.in_scope(name):
            raise InvariantBroken(f"a host that cannot be switched on: {event}")
        if event.withdrawn:
            self._release(name)
        else:
            if name not in self._begun:
                self._dependencies_hold(name)
                self._begun.add(name)
            self._reserve(name, event)

    def _reserve(self, name: str, event: Intent | Admitted) -> None:
        """Watts and slots are taken, or moved to now."""
        host = self._plan.hosts[name]
        if name not in self.power.level:
            self._gates_open(host.group, event)
            if scope := self.breaker(name):
                raise InvariantBroken(f"breaker {scope} has tripped, which {name} belongs to: {event}")
            for why in self.power.short(name, self.tier.get(name, 0), self._t):
                raise InvariantBroken(f"{why} (invariant 2): {event}")
        self._reserved.add(name)
        for resource in self._boot_slots(name):
            self._count(resource, name, event)
            self._held.setdefault(name, set()).add(resource)
        self.power.starts(name, self._t)
        self._comes(name)

    # -- answers ---------------------------------------------------------------------

    def _answer(self, event: Answer) -> None:
        intent = self._open.pop(event.id, None)
        kind, name = event.kind, event.target
        if kind is Kind.GATE_CHECK:
            if event.reason is Reason.OK:
                self._gates.add(name)
            return
        if kind is Kind.FEED_METER:
            if event.reason is Reason.OK:
                self.power.metered(name, float(event.data["watts"]), event.t)
                if event.durable:
                    self._readings[name] = float(event.data["watts"]), event.t
            return
        if intent is None:
            raise InvariantBroken(f"an answer to nothing: {event}")
        for host in intent.hosts or (name,):
            self._busy.pop(host, None)
        if kind is Kind.REDEPLOY:
            self._forks -= int(intent.args["forks"])
            for resource in self._served(intent.hosts):
                self._serving[resource] -= int(intent.args["forks"])
            return
        self._surveys -= "survey" in intent.args
        for holders in (
            self._holders.get(f"bmc:{subnet(self._plan.hosts[name].bmc.address)}"),
            self._holders.get("logins"),
        ):
            if holders is not None:
                holders.discard(str(event.id))
        if event.id < self._void.get(name, 0):
            return
        ok = event.reason is Reason.OK
        if kind is Kind.POWER_READ:
            self._power_read(name, event, ok)
        elif kind is Kind.POWER_ON and event.data.get("sent") is False:
            self._unsent(name, event)
        elif kind is Kind.BOOT_PROBE:
            self._probed(name, event, ok)
        elif kind is Kind.POWER_CYCLE and event.reason is Reason.INTERRUPTED:
            self._boots[name] -= 1  # perhaps it never left
        elif kind is Kind.EVIDENCE and event.reason is not Reason.INTERRUPTED:
            self._examined.add(name)
        elif kind is Kind.METER and ok and float(event.data["watts"]) > 0:
            self.power.measured(name, float(event.data["watts"]))

    def _unsent(self, name: str, event: Answer) -> None:
        """No power-on has left: all is as it was before, and what was read counts."""
        asked, lit = self._before[name]
        if asked is None:
            self._asked.pop(name, None)
        else:
            self._asked[name] = asked
        if lit:
            self._lit.add(name)
        power = event.data.get("power")
        if power == "on":
            self._power_read(name, event, True)
        elif power == "off":
            self._off_read.add(name)
        elif asked is None:
            self._release(name)

    def _power_read(self, name: str, event: Answer, ok: bool) -> None:
        if not ok:
            if name not in self._asked and name in self._reserved:
                self._release(name)  # admitted, but not switched on
            return
        if event.data["power"] == "on":
            if name in self._off_read:
                self._examined.discard(name)  # it came on after all
            self._on_read.add(name)
            self._off_read.discard(name)
            if name not in self._asked:
                if name in self._reserved or name not in self.power.level:
                    self._release(name)
                    self.power.set_level(name, 0.0)
                # else: a boot of ours that was given up may still go on, and counts until it is proven
                self._comes(name)
            elif name not in self._lit:
                self._lit.add(name)
                self.power.reads_on(name, event.t)
            return
        self._on_read.discard(name)
        self._off_read.add(name)
        if name not in self._asked and name not in self._reserved:
            self._release(name)  # it ran when it was first looked at, or may have before it was retried
        if name in self._unbooted and self._boots.get(name, 1) < self._plan.group_of(name).attempts.boot:
            self._boots[name] = self._boots.get(name, 1) + 1
            self._unbooted.discard(name)
            del self._asked[name]
            self._release(name)

    def _probed(self, name: str, event: Answer, ok: bool) -> None:
        if not ok:
            if event.reason is Reason.UNREACHABLE:
                self._down.add(name)
            return
        if name in self._asked:
            uptime_s = event.data.get("uptime_s")
            since_s = event.t + self._gap_s - self._real_t[name]
            if name not in self._down if uptime_s is None else float(uptime_s) > since_s + _SLACK_S:
                return  # up since before the request (invariant 4)
        self._unbooted.discard(name)
        self.power.set_level(name, 0.0)
        self._give_back(name)

    def _settled(self, event: Settled) -> None:
        name = event.host
        if name in self.outcome:
            raise InvariantBroken(f"{name} settles twice: {event}")
        host = self._plan.hosts[name]
        if name in self._busy:
            raise InvariantBroken(f"{name} settles while an effect is under way: {event}")
        said, for_all = self._said.get(name, (None, True))
        by_person = event.reason is Reason.OPERATOR
        if by_person and event.outcome is not said:
            raise InvariantBroken(f"nobody has said so: {event}")
        if not by_person and not for_all:
            raise InvariantBroken(f"a person has said that {name} is {said}: {event}")
        if event.outcome is Outcome.SKIPPED and self.in_scope(name) and not by_person:
            raise InvariantBroken(f"{name} is inside the limit: {event}")
        if event.outcome is Outcome.SKIPPED and name in self._required and name not in self._touched and not by_person:
            raise InvariantBroken(f"{name} is needed inside the limit, and nobody looked whether it is up: {event}")
        if event.outcome is Outcome.BLOCKED and not self.impossible(name):
            raise InvariantBroken(f"{name} is blocked, and what it needs may still come: {event}")
        if event.outcome in _UP and self.power.level.get(name) != 0.0:
            raise InvariantBroken(f"{name} is up, and was neither found on nor proven: {event}")
        self.outcome[name] = event.outcome
        self._news[host.group] += 1
        self._left[host.group] -= 1
        if not self._left[host.group]:
            self._settled_once.add(host.group)
        if event.outcome is not Outcome.READY and (
            name in self._off_read or (name not in self._asked and name in self._reserved)
        ):
            self.power.off(name)  # no power flowed
            self._reserved.discard(name)
        self._give_back(name)
        self._comes(name)
        group = host.group
        if group in self.turn and group not in self._led and self.turn[group] == name:
            if event.outcome in _UP:
                self._led.add(group)
            else:
                self._next(group)

    def _chosen(self, event: Chosen) -> None:
        group, before = event.group, self.turn.get(event.group)
        if before is None or group in self._led or event.host in self.outcome:
            return
        if self.impossible(event.host) and not self.dark(event.host):
            return  # about to be blocked; one in the dark is told so when its feed is back
        self.turn[group] = event.host
        if before not in ("", event.host) and before not in self._asked and self.power.level.get(before) != 0.0:
            self._release(before)  # it was not switched on yet, and waits like the others
            self._begun.discard(before)

    def _next(self, group: str) -> None:
        candidates = self._candidates[group]
        self.turn[group] = ""
        while candidates and not self.turn[group]:
            name = candidates.pop(0)
            self.turn[group] = "" if name in self.outcome else name

    # -- slots ---------------------------------------------------------------------

    def _slot_limit(self, resource: str) -> int | None:
        if resource in self._adapted:
            return self._adapted[resource]
        return self._most(resource)

    def _most(self, resource: str) -> int | None:
        kind = resource.partition(":")[0]
        kind = {"bmc": "bmc_per_subnet", "forks": "redeploy_forks"}.get(kind, kind)
        return self._own.get(resource, self._kinds.get(kind))

    def _count(self, resource: str, holder: str, event: Event) -> None:
        limit = self._slot_limit(resource)
        holders = self._holders.setdefault(resource, set())
        if holder not in holders:
            holders.add(holder)
            count = len(holders) + self._serving.get(resource, 0)
            if limit is not None and count > limit:
                raise InvariantBroken(f"slot {resource} is taken {count} times of {limit}: {event}")

    def no_cycle(self, name: str) -> str:
        """Why a host whose boot has failed cannot be cycled: a feed has no room for a second peak."""
        level = self.power.level.get(name)
        for feed, peak, steady in self.power.shares(name) if level is not None and name in self._asked else ():
            budget, ramp = self.power.budget[feed], self.power.ramp[feed]
            if (
                budget is not None
                and self.power.load(feed, self._t) + (peak - steady) * (1.0 - (level or 0.0)) > budget
            ):
                return f"feed {feed} has no room for a second boot"
            if ramp is not None and peak > ramp:
                return f"feed {feed} never ramps so much"
        return ""

    def full_slot(self, name: str) -> str:
        """A slot that the host needs for its boot and that has no room."""
        for resource in self._boot_slots(name):
            limit, holders = self._slot_limit(resource), self._holders.get(resource, set())
            taken = len(holders) + self._serving.get(resource, 0)
            if name not in holders and limit is not None and taken >= limit:
                return f"slot {resource} is full"
        host = self._plan.hosts[name]
        for resource in (f"bmc:{subnet(host.bmc.address)}", "logins", "forks"):
            if self._slot_limit(resource) == 0:
                return f"slot {resource} is closed"
        return ""

    def _boot_slots(self, name: str) -> Iterator[str]:
        """What the host holds from its power-on to the proof of its boot."""
        host = self._plan.hosts[name]
        for kind in self._plan.limits.slots:
            if kind == "boots":
                yield kind
            elif kind in ("bmc_per_subnet", "logins", "redeploy_forks", "consoles"):
                continue
            elif "boot" in self._plan.limits.during.get(kind, ("boot",)) and (value := host.fact(kind)):
                yield f"{kind}:{value}"

    def _give_back(self, name: str) -> None:
        for resource in self._held.pop(name, ()):
            self._holders[resource].discard(name)

    def _release(self, name: str) -> None:
        self.power.off(name)
        self._reserved.discard(name)
        self._give_back(name)
        self._comes(name)

    def _slot_set(self, event: LimitSet) -> None:
        limit, name = int(event.value or 0), event.name
        if name in self._kinds:
            self._kinds[name] = limit
            for limits in (self._own, self._adapted):
                for resource in [r for r in limits if r.partition(":")[0] in (name, _SHORT.get(name, name))]:
                    del limits[resource]
        else:
            self._own[name] = limit
            self._adapted.pop(name, None)

    def _adapt(self, event: Adapted) -> None:
        kind = event.slot.partition(":")[0]
        kind = {"bmc": "bmc_per_subnet", "forks": "redeploy_forks"}.get(kind, kind)
        least, most, now = self._plan.limits.adaptive.get(kind), self._most(event.slot), self._slot_limit(event.slot)
        if least is None or most is None or now is None:
            raise InvariantBroken(f"a slot that does not adapt: {event}")
        grows = event.limit == now + 1 and event.limit <= most
        shrinks = (
            event.limit < now and event.limit >= min(least, now) and (event.limit <= now // 2 or event.limit == least)
        )
        if not grows and not shrinks:
            raise InvariantBroken(f"slot {event.slot} goes from {now} (least {least}, most {most}): {event}")
        self._adapted[event.slot] = event.limit

    # -- gates, breakers, scope ---------------------------------------------------------------------

    def closed_gates(self, group: str, *, control: bool = False) -> Iterator[str]:
        for gate in self._plan.gates.values():
            concerned = (not gate.groups or group in gate.groups) and (gate.control or not control)
            if gate.name not in self._gates and concerned:
                yield gate.name

    def _gates_open(self, group: str, event: Event, *, control: bool = False) -> None:
        for gate in self.closed_gates(group, control=control):
            raise InvariantBroken(f"gate {gate} is closed: {event}")

    def _gate_opened(self, event: GateOpened) -> None:
        gate = self._plan.gates[event.gate]
        if event.by == "time" and gate.wait_s is not None and event.t < gate.wait_s:
            raise InvariantBroken(f"too early: {event}")
        self._gates.add(event.gate)

    def breaker(self, name: str) -> str:
        """A tripped breaker that the host belongs to."""
        if not self._tripped:
            return ""
        host = self._plan.hosts[name]
        own = {"model": host.model, "firmware": host.firmware, "rack": host.rack, "subnet": subnet(host.bmc.address)}
        for scope in sorted(self._tripped):
            what, _, value = scope.partition(":")
            if what == "class":
                facts = [word.partition("=") for word in value.split(",")]
                if all(v in host.feeds if fact == "feed" else own[fact] == v for fact, _, v in facts):
                    return scope
            elif value == (host.group if what == "group" else host.model):
                return scope
        return ""

    def in_scope(self, name: str) -> bool:
        return self._limit is None or name in self._limit

    def _scope(self) -> None:
        if self._limit is None:
            return
        found: set[str] = set()
        todo = sorted(self._limit)
        while todo:
            name = todo.pop()
            group = self._plan.group_of(name)
            members = [m.name for r in self._needs(name) for m in self._members(name, r)]
            if group.first is not None:
                members += group.hosts
            new = [member for member in dict.fromkeys(members) if member not in found]
            found.update(new)
            todo += new
        self._required = frozenset(found) - self._limit
        for name in self._plan.hosts:
            self._comes(name)

    def _scope_added(self, event: ScopeAdded) -> None:
        if self._limit is None:
            return
        new = [name for name in event.hosts if name not in self._limit]
        self._limit |= frozenset(event.hosts)
        self._scope()
        given_up = (Outcome.SKIPPED, Outcome.BLOCKED)
        unseen = [name for name in self._required if name not in self._touched]
        self._reopen([name for name in (*new, *unseen) if self.outcome.get(name) in given_up])

    def _reopen(self, again: list[str]) -> None:
        """Hosts that were given up have their turn again, and whoever was blocked by that alone."""
        while again:
            for name in again:
                del self.outcome[name]
                self._afresh(name)
                group = self._plan.hosts[name].group
                self._left[group] += 1
                self._news[group] += 1
                first = self._plan.groups[group].first
                if first is not None and name in first.candidates and group not in self._led:
                    left = {*self._candidates[group], name} - {self.turn[group]}
                    self._candidates[group] = [candidate for candidate in first.candidates if candidate in left]
            blocked = [name for name, outcome in self.outcome.items() if outcome is Outcome.BLOCKED]
            again = [name for name in blocked if not self.impossible(name)]
        for group in self.turn:
            if not self.turn[group] and group not in self._led:
                self._next(group)
        for name in self._plan.hosts:
            self._comes(name)

    # -- what people say ---------------------------------------------------------------------

    def _nobody_looked(self) -> None:
        self._paused = False
        self._down.update(self._asked)
        self._off_read.clear()  # no longer fresh

    def _was_aborted(self) -> None:
        if self._paused:
            self._nobody_looked()
        self._aborted = True
        for name in self._plan.hosts:
            self._said.setdefault(name, (Outcome.SKIPPED, True))

    def _set_aside(self, event: Quarantined | Skipped, outcome: Outcome) -> None:
        for name in event.hosts:
            self._said[name] = outcome, False
            if self.outcome.get(name) in _UP:
                self._unsettled(name)

    def _unsettled(self, name: str) -> None:
        group = self._plan.hosts[name].group
        del self.outcome[name]
        self._left[group] += 1
        self._news[group] += 1

    def _lifted(self, event: Lifted) -> None:
        ended = [name for name in event.hosts if self.outcome.get(name, Outcome.BLOCKED) is not Outcome.BLOCKED]
        for name in event.hosts:
            self._said.pop(name, None)
        self._again(ended)

    def _again(self, names: Iterable[str]) -> None:
        for name in names:
            if self.outcome.get(name) in (None, Outcome.BLOCKED, *_UP):
                raise InvariantBroken(f"{name} is {self.outcome.get(name)}, and is begun with anew")
            self._said.pop(name, None)
        if self._aborted:
            self._aborted = False
            for name, (_, for_all) in list(self._said.items()):
                if for_all and self.outcome.get(name) is not Outcome.SKIPPED:
                    del self._said[name]
        self._reopen(list(names))

    # -- electricity ---------------------------------------------------------------------

    def dark(self, name: str) -> bool:
        return self.power.dark(self._plan.hosts[name])

    def _afresh(self, name: str) -> None:
        """Nothing is known of it any more."""
        for known in (
            self._off_read,
            self._on_read,
            self._down,
            self._unbooted,
            self._lit,
            self._examined,
            self._begun,
            self._reserved,
        ):
            known.discard(name)
        for facts in (self._asked, self._real_t):
            facts.pop(name, None)
        self._boots.pop(name, None)

    def _hanging(self, feed: str) -> Iterable[Host]:
        return (host for host in self._plan.hosts.values() if any(feed in above(cord) for cord in host.feeds))

    def _lost(self, event: FeedLost) -> None:
        lit = [host for host in self._hanging(event.feed) if not self.power.dark(host)]
        self.power.lost.add(event.feed)
        for host in lit:
            name = host.name
            if not self.power.dark(host):
                self.power.reshare(name)
                self._comes(name)
                continue
            self.power.off(name)
            self._reserved.discard(name)
            self._give_back(name)
            outcome = self.outcome.get(name)
            if outcome is None or outcome in _UP:
                if outcome is not None:
                    self._unsettled(name)
                self._afresh(name)
                self._void[name] = self._latest + 1
            self._comes(name)

    def _returned(self, event: FeedReturned) -> None:
        dark = {host.name for host in self._hanging(event.feed) if self.power.dark(host)}
        self.power.lost.discard(event.feed)
        for host in self._hanging(event.feed):
            self.power.reshare(host.name)
            if host.name in dark and not self.power.dark(host):
                self._void[host.name] = self._latest + 1
            self._comes(host.name)

    def _resumed(self, event: RunResumed) -> None:
        self._gap_s += event.gap_s
        paused = self._paused
        self._nobody_looked()
        self._paused = paused and event.asleep
        if event.reset_breakers:
            self._tripped.clear()
        # Effects whose intents were not journalled are gone with the process.
        self._open.clear()
        self._busy.clear()
        self._void.clear()
        self._surveys = self._forks = 0
        self._serving.clear()
        for resource, holders in self._holders.items():
            if resource == "logins" or resource.startswith("bmc:"):
                holders.clear()
        self.power.forget_readings(self._readings)
        self._latest = 0

    # -- dependencies ---------------------------------------------------------------------

    def _needs(self, name: str) -> Iterator[Requirement]:
        for requirement in self._plan.group_of(name).requires:
            if not requirement.hosts or name in requirement.hosts:
                yield requirement

    def _value(self, name: str, requirement: Requirement) -> str:
        return self._plan.hosts[name].fact(requirement.per_host) if requirement.per_host is not None else ""

    def _members(self, name: str, requirement: Requirement) -> list[Host]:
        members = [self._plan.hosts[member] for member in self._plan.groups[requirement.group].hosts]
        if requirement.per_host is not None:
            value = self._value(name, requirement)
            members = [member for member in members if member.fact(requirement.parent_key) == value]
        return members

    def _control_holds(self, name: str) -> None:
        for requirement in self._needs(name):
            if requirement.control and not self.holds(name, requirement):
                raise InvariantBroken(f"{name} is asked before {requirement.group} has its quorum (invariant 1)")

    def _dependencies_hold(self, name: str) -> None:
        for what in self.waits_for(name):
            raise InvariantBroken(f"effect for {name} before {what} (invariant 1)")

    def waits_for(self, name: str) -> Iterator[str]:
        """What the host still waits for, in words."""
        group = self._plan.group_of(name)
        for requirement in self._needs(name):
            if not self.holds(name, requirement):
                yield f"{requirement.group} has its quorum"
        for parent in group.after:
            if self._plan.groups[parent].hosts and parent not in self._settled_once:
                yield f"{parent} has settled"
        if group.first is not None and group.name not in self._led and self.turn[group.name] != name:
            yield f"the first member of {group.name}"

    def holds(self, name: str, requirement: Requirement) -> bool:
        """Counted anew whenever a member's outcome came or went; shared by hosts that need the same."""
        key = id(requirement), self._value(name, requirement)
        members, news, held = self._found.get(key) or (self._members(name, requirement), -1, False)
        if news != self._news[requirement.group]:
            up = [member for member in members if self.outcome.get(member.name) in _UP]
            held = len(up) >= requirement.quorum.needed(len(members))
            held = held and len({member.rack for member in up}) >= requirement.across_racks
            held = held or not members  # no parents of its own: it waits for none
            self._found[key] = members, self._news[requirement.group], held
        return held

    def impossible(self, name: str) -> bool:
        """Something that the host needs can never come."""
        group = self._plan.group_of(name)
        first = group.first
        leads = group.name in self._led or group.name not in self.turn or bool(self.turn[group.name])
        if first is not None and not first.ask and not leads and not self._candidates[group.name]:
            return True
        for requirement in self._needs(name):
            members = self._members(name, requirement)
            left = [member for member in members if self.outcome.get(member.name) in (None, *_UP)]
            if members and len(left) < requirement.quorum.needed(len(members)):
                return True
            if members and len({member.rack for member in left}) < requirement.across_racks:
                return True
        return False


_SHORT = {"bmc_per_subnet": "bmc", "redeploy_forks": "forks"}
