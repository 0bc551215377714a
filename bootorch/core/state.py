"""The state of a run: a fold over its events, and nothing else changes it.

``State.fold`` is mechanical: what an event means. What to do next is decided in ``engine``. Fields of hosts are of two
kinds: *durable* ones, which the journalled events alone determine, and *soft* ones (next look, consecutive failures),
which a resumed run simply begins anew. Folds also leave hints for the engine (``dirty``, ``freed``): who may now act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from bootorch.core import answers, change, steering
from bootorch.core.clusters import Clusters, subnet
from bootorch.core.dependencies import Dependencies, Leader, Wait, count
from bootorch.core.diagnosis import FOUND
from bootorch.core.events import (
    READ_ONLY,
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
    MirrorBack,
    MirrorLost,
    Paused,
    Quarantined,
    Retried,
    RunEnded,
    RunResumed,
    RunStarted,
    ScopeAdded,
    Settled,
    Skipped,
    TailCut,
    TierSet,
    Tripped,
)
from bootorch.core.hoststate import METERS, Alike, GroupState, HostState
from bootorch.core.limits import OFF, Draw, Feeds, Resource
from bootorch.core.members import (
    K_BOOT_DEVICE,
    K_FEED_METER,
    K_GATE_CHECK,
    K_POWER_CYCLE,
    K_POWER_ON,
    K_POWER_READ,
    K_REDEPLOY,
    O_QUARANTINED,
    O_READY,
    O_UNKNOWN,
    R_NETBOOT_FAILED,
    R_NEVER_REACHED,
    R_NO_BOOT,
    R_OPERATOR,
    R_STALE_BOOT,
    S_BMC,
    S_BOOT,
    S_POWER,
    S_WAIT,
)
from bootorch.core.model import Outcome
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.slots import BOOT, REDEPLOY, Slots, kind_of, kinds_during, slots_of
from bootorch.core.timers import Timers
from bootorch.core.urgency import expectations, priorities

__all__ = ["GroupState", "HostState", "State", "subnet"]

Key = tuple[object, ...]
AT_THE_BMC = frozenset({Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE, Kind.EVIDENCE, Kind.METER})


class State:
    """Everything known about a run. Changed by ``fold`` only."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.t = 0.0
        self.gap_s = 0.0  # real time that passed while bootorch was away
        self.unsure_t = -1.0  # the latest such time that only the wall clock has told ended here
        self.run_id = ""
        self.seed = 0
        self.started = False
        self.ended = ""
        self.paused = ""  # by whom
        self.paused_t = 0.0
        self.aborted = ""  # by whom
        self.limit: frozenset[str] | None = None
        self.wall: tuple[float, datetime] | None = None  # a run time and the wall clock's word for it
        self.dependencies = Dependencies(plan)
        self.tiers = {name: group.tier for name, group in plan.groups.items()}
        self.feeds = Feeds(plan.limits.feeds)
        self.slots = Slots(plan.limits.slots, plan.limits.adaptive)
        self.logins_limited = "logins" in plan.limits.slots
        self.bmcs_limited = "bmc_per_subnet" in plan.limits.slots
        self.expected = expectations(plan)
        order = priorities(plan, self.dependencies, self.tiers, self.expected)
        kinds = kinds_during(plan.limits, BOOT)
        self.redeploy_kinds = kinds_during(plan.limits, REDEPLOY)
        self.hosts: dict[str, HostState] = {}
        self.by_cords: dict[tuple[str, ...], list[HostState]] = {}
        self.peaks: dict[tuple[str, ...], float] = {}  # watts as the hosts of these cords boot, all together
        names: dict[str, str] = {}
        known_slots: dict[tuple[str, ...], tuple[str, ...]] = {}
        of, leaders = self.dependencies.of, self.dependencies.leaders
        by_waits: dict[int, Alike] = {}  # those who wait for the same have the same tuple of it
        self.waiting: dict[Wait, list[Alike]] = {}  # who waits for what, but for the first members of groups
        for place, ((name, host), priority) in enumerate(zip(plan.hosts.items(), order, strict=True)):
            draw = self.feeds.draw_of(host, priority[0])
            bmc = f"bmc:{subnet(host.bmc.address)}" if self.bmcs_limited else ""
            bmc = names.setdefault(bmc, bmc)
            slots = slots_of(host, kinds)
            slots = known_slots.setdefault(slots, slots)
            waits = of[name]
            alike = by_waits.get(id(waits))
            if alike is None:
                alike = by_waits[id(waits)] = self._alike(waits)
            leader = leaders.get(host.group)
            behind = int(leader is not None and leader.chosen != name)
            state = HostState(
                name=name, place=place, host=host, group=plan.groups[host.group], draw=draw, bmc_slot=bmc,
                boot_slots=slots, alike=alike, behind=behind, priority=priority,
            )  # fmt: skip
            self.hosts[name] = state
            alike.hosts.append(state)
            self.by_cords.setdefault(host.feeds, []).append(state)
            self.peaks[host.feeds] = self.peaks.get(host.feeds, 0.0) + host.watts_boot_peak
            self.feeds.keep(draw, True)
        self.alike = list(by_waits.values())
        self.groups = {name: GroupState(group, len(group.hosts)) for name, group in plan.groups.items()}
        self.lost: dict[str, str] = {}  # feeds without electricity, and who said so
        self.clusters = Clusters(plan.hosts if plan.limits.breaker.cluster_failures else {})
        self.open: dict[int, Intent] = {}
        self.asked: dict[int, HostState] = {}  # by the same ids: the host, where it is for one
        self._keys: dict[Key, Key] = {}  # of watches and answers: hosts have few different ones
        self.surveys = 0  # power states of waiting hosts that are being read
        self.next_id = 1
        self.unsettled = len(plan.hosts)
        self.gates_open: dict[str, str] = {}
        self.gate_next_t: dict[str, float] = {}
        self.gate_tries: dict[str, int] = {}
        self.asking: set[str] = set()  # gates and meters that are being asked
        self.meter_next_t: dict[str, float] = {}
        self.meter_timers = 0  # those of ``timers`` that are for meters only
        self.meter_said: dict[str, float] = {}  # latest reading that is in the journal
        self.tripped: dict[str, str] = {}
        self.model_failed: dict[str, int] = {}
        self.suspects: list[str] = []  # hosts whose failure no breaker has looked at yet
        # Adaptive slot, when what failed began, how much of the slot it had, why.
        self.overloads: list[tuple[str, float, int, str]] = []
        self.grown: dict[str, None] = {}  # adaptive slots with successes
        # hints for the engine: ordered sets
        self.dirty: dict[HostState, None] = {}
        self.left: list[HostState] = []  # of those, what a decision has left for the next one; the first one is last
        self.dirty_groups: dict[str, None] = {}
        self.freed: dict[Resource, None] = {}
        self.wanted: set[Resource] = set()  # resources that somebody waits for: others need not be freed
        self.timers: Timers[HostState | None] = Timers()  # of hosts; "": a look at groups, feeds and gates
        for feed, limit in plan.limits.feeds.items():
            if limit.dark:
                change.lose(self, feed, "plan", 0.0)
        self._folds: dict[type[Any], Callable[[Any], None]] = {
            Intent: self._intent,
            Answer: partial(answers.answer, self),
            Settled: lambda event: self.settle(event, self.hosts[event.host]),
            BootFailed: self._boot_failed,
            RunStarted: self._run_started,
            RunResumed: self._resumed,
            RunEnded: self._run_ended,
            GateOpened: self._gate_opened,
            Tripped: self._was_tripped,
            Paused: partial(steering.paused, self),
            Continued: partial(steering.continued, self),
            Aborted: partial(steering.aborted, self),
            Quarantined: lambda event: steering.ended(self, event, Outcome.QUARANTINED),
            Skipped: lambda event: steering.ended(self, event, Outcome.SKIPPED),
            Lifted: partial(steering.lifted, self),
            Retried: partial(steering.retried, self),
            BreakerReset: partial(steering.breaker_reset, self),
            Admitted: self._admitted,
            Chosen: partial(change.chosen, self),
            LimitSet: partial(change.limit_set, self),
            FeedLost: partial(change.feed_lost, self),
            FeedReturned: partial(change.feed_returned, self),
            ScopeAdded: partial(change.scope_added, self),
            TierSet: partial(change.tier_set, self),
            Adapted: partial(change.adapted, self),
            # Of the journal itself: they change nothing in the world.
            TailCut: lambda event: None,
            MirrorLost: lambda event: None,
            MirrorBack: lambda event: None,
        }

    def _alike(self, waits: Sequence[Wait]) -> Alike:
        own = [wait for wait in waits if not isinstance(wait, Leader)]
        unmet, control, _ = count(own)
        alike = Alike(unmet, control, count(waits)[2])
        for wait in own:
            self.waiting.setdefault(wait, []).append(alike)
        return alike

    # -- fold ---------------------------------------------------------------------

    # To search for one of a million hosts by its name fetches four lines of memory from afar: ``begin`` and ``settle``
    # are ``fold`` for whoever has the host at hand.

    def fold(self, event: Event) -> None:
        """Apply one event. The only way that state changes."""
        if event.t > self.t:
            self.t = event.t
        self._folds[type(event)](event)

    def advance(self, now: float) -> None:
        """Follow the hosts' power profiles: time alone lowers what a booting host may draw."""
        for draw in self.feeds.advance(now):
            self.free_feed(draw)

    def _run_started(self, event: RunStarted) -> None:
        self.started = True
        self.run_id = event.run_id
        self.seed = event.seed
        self._told(event.t, event.wall)
        if event.selected:
            self.limit = frozenset(event.selected)
            self.observe()
            for name, host in self.hosts.items():
                if name not in self.limit:
                    self.feeds.keep(host.draw, False)
            self.wake_all()
        else:  # nothing can be done yet for those whose BMCs the recovery cannot reach
            begin = (alike for alike in self.alike if not alike.control_waits or alike.impossible)
            self.dirty = dict.fromkeys(host for alike in begin for host in alike.hosts)
            self.dirty_groups = dict.fromkeys(self.groups)

    def observe(self) -> None:
        """Mark the hosts outside the limit that somebody inside requires."""
        if self.limit is not None:
            for name in self.dependencies.ancestors(self.limit):
                self.hosts[name].observed = True

    def _told(self, t: float, wall: str) -> None:
        if wall:
            self.wall = (t, datetime.fromisoformat(wall))

    def _run_ended(self, event: RunEnded) -> None:
        self.ended = event.verdict

    def _gate_opened(self, event: GateOpened) -> None:
        self.gates_open[event.gate] = event.by
        self.freed["gate", event.gate] = None

    def _admitted(self, event: Admitted) -> None:
        host = self.hosts[event.host]
        if event.withdrawn:
            self.release(host)
            if host.on_t is None:
                host.admitted_t = None  # the power deadline runs from the next admission
        else:
            if host.stage is S_WAIT:
                host.enter(S_POWER, event.t)
            self.reserve(host, event.t)
        self.dirty[host] = None

    def _was_tripped(self, event: Tripped) -> None:
        self.tripped[event.scope] = event.detail

    def _boot_failed(self, event: BootFailed) -> None:
        host = self.hosts[event.host]
        # Up since before the request and what was diagnosed are worth their own words; all else is no boot.
        own = event.reason is R_STALE_BOOT or event.reason in FOUND
        host.unbooted = (event.reason if own else R_NO_BOOT, event.detail)
        host.power = ""
        host.tries = 0
        host.next_t = event.t
        self.dirty[host] = None
        if event.reason is R_NETBOOT_FAILED:
            self.overloaded(host, host.on_t, f"{event.host} found no boot image")

    def overloaded(self, host: HostState, began_t: float | None, why: str) -> None:
        for slot in host.boot_slots:
            if self.slots.adaptive(slot):
                self.overloads.append((slot, began_t if began_t is not None else 0.0, 1, why))

    def wake_all(self) -> None:
        self.dirty = dict.fromkeys(host for host in self.hosts.values() if host.outcome is None)
        self.dirty_groups = dict.fromkeys(self.groups)

    def _resumed(self, event: RunResumed) -> None:
        self.gap_s += event.gap_s
        if event.told_by == "wall":
            self.unsure_t = event.t
        self.ended = ""
        self._told(event.t, event.wall)
        if event.reset_breakers:
            steering.forgive_all(self)
        steering.look_again(self, event.t, still_paused=event.asleep)
        self.suspects.clear()
        self.overloads.clear()
        self.grown.clear()
        self.gate_next_t.clear()
        self.meter_timers = sum(1 for _, name, _ in self.timers if name == METERS)
        self.meter_next_t.clear()

    # -- intents ---------------------------------------------------------------------

    def _intent(self, event: Intent) -> None:
        kind = event.kind
        if kind is K_GATE_CHECK or kind is K_FEED_METER:
            self._opened(event)
            self.asking.add(event.target)
        elif kind is K_REDEPLOY:
            self._opened(event)
            self._slice_intent(event)
        else:
            self.begin(event, self.hosts[event.target])

    def _opened(self, event: Intent) -> None:
        self.open[event.id] = event
        if event.id >= self.next_id:
            self.next_id = event.id + 1

    def begin(self, event: Intent, host: HostState) -> None:
        """Fold the intent of an exchange with ``host``."""
        kind, t = event.kind, event.t
        if t > self.t:
            self.t = t
        self._opened(event)
        self.asked[event.id] = host
        host.inflight = event.id
        if host.started_t is None:
            host.started_t = t
        if event.durable and kind in READ_ONLY:
            key = self.watch_key(host, kind)
            host.watched = self._keys.setdefault(key, key)
        if kind in AT_THE_BMC:
            if host.asked_t is None:
                host.asked_t = t
            if self.bmcs_limited:
                self.take(host, host.bmc_slot)
        elif self.logins_limited:
            self.take(host, "logins")
        if kind is K_POWER_READ:
            if "survey" in event.args:
                self.surveys += 1
            elif host.stage is S_WAIT:
                host.enter(S_BMC, t)
            if "admit" in event.args:
                self.reserve(host, t)
        elif kind is K_BOOT_DEVICE:
            self.reserve(host, t)
        elif kind is K_POWER_ON:
            if host.stage is S_WAIT:
                host.enter(S_POWER, t)  # its state was read ahead
            self.reserve(host, t)
            host.read_off_t = None
            host.on_attempts += 1
            if host.on_t is None:
                host.on_real_t = t + self.gap_s  # a repeat may find what the first one has set going
            host.retries += host.on_attempts > 1
            host.cycled = False
            self._requested(host, t)
        elif kind is K_POWER_CYCLE:
            host.boots += 1
            host.retries += 1
            host.unbooted = None
            host.on_real_t = t + self.gap_s
            self.feeds.start(host.draw, t)
            host.cycled = True
            self._requested(host, t)

    def _requested(self, host: HostState, t: float) -> None:
        host.on_before = host.on_t
        host.on_t = t
        host.saw_down = False
        host.adopted = False

    def slice_slots(self, host: str) -> tuple[str, ...]:
        """What every fork of a slice with this host takes; all hosts of a slice take the same."""
        return ("forks", *slots_of(self.hosts[host].host, self.redeploy_kinds))

    def _slice_intent(self, event: Intent) -> None:
        forks = int(event.args["forks"])
        self.groups[event.target].forks += forks
        for slot in self.slice_slots(event.hosts[0]):
            self.slots.take(slot, forks)
        for name in event.hosts:
            host = self.hosts[name]
            host.inflight = event.id
            host.redeploy_attempts += 1
            if host.redeploy_t is None:
                host.redeploy_t = event.t

    def watch_key(self, host: HostState, kind: Kind) -> tuple[object, ...]:
        """Identifies a watch: exchanges with the same key are repeats of one that is journalled."""
        given_up = host.unbooted is not None
        return (kind, host.stage, host.on_attempts, host.boots, given_up, host.playbook, host.redeploy_attempts)

    def answer_key(self, host: HostState, kind: Kind, reason: Reason, power: object) -> tuple[object, ...]:
        """Two answers with the same key say the same thing."""
        return (*self.watch_key(host, kind), reason, power)

    # -- answers ---------------------------------------------------------------------

    def reshare(self, host: HostState, live: tuple[str, ...], steady: float | None = None) -> None:
        """Other shares from now on: a cord has lost or got back its feed, or the draw was measured."""
        draw = host.draw  # which windows and profiles know
        shares = self.feeds.shares_of(host.host, live, draw.measured if steady is None else steady)
        if shares is draw.shares:
            return
        level, keeps = draw.level, draw.keeps
        self.feeds.keep(draw, False)
        self.feeds.hold(draw, OFF)
        self.free_feed(draw)
        if steady is not None:
            draw.measured = steady
        draw.shares = shares
        self.feeds.hold(draw, level)
        self.feeds.keep(draw, keeps)
        self.free_feed(draw)

    def said(self, host: HostState, event: Answer) -> None:
        """What the host's BMC, or the host, has said: the same again is no news."""
        key = self.answer_key(host, event.kind, event.reason, event.data.get("power"))
        host.answer = self._keys.setdefault(key, key)

    def settle(self, event: Settled, host: HostState) -> None:
        """Fold the outcome of ``host``."""
        if event.t > self.t:
            self.t = event.t
        host.outcome = event.outcome
        host.reason = event.reason
        host.detail = event.detail
        host.settled_t = event.t
        self.unsettled -= 1
        if host.held:
            self.give_back(host)
        if event.outcome is not O_READY:
            # Who draws without watts reserved was found on, or was switched on before it was retried: it still counts.
            never_on = host.on_t is None and host.reserved
            if never_on or host.read_off_t is not None:
                self.release(host)
            if host.draw.keeps:
                self.feeds.keep(host.draw, False)
                self.free_feed(host.draw)
        group_name = host.group.name
        group = self.groups[group_name]
        group.settled += 1
        self.dirty_groups[group_name] = None
        failed = event.outcome is O_QUARANTINED and event.reason is not R_OPERATOR
        if failed:
            host.blamed = True
            group.failed += 1
            if host.host.model:
                self.model_failed[host.host.model] = self.model_failed.get(host.host.model, 0) + 1
            self.suspects.append(event.host)
        if self.plan.limits.breaker.cluster_failures and (failed or event.outcome is O_READY):
            self.clusters.settle(host.host, failed)
        for wait, changed in self.dependencies.settle(event.host, group_name, event.outcome):
            change.waits_change(self, wait, changed)

    def retract(self, host: HostState) -> None:
        """The host is tried again: its failure, if it had one, is none for breakers until it fails again."""
        if host.blamed:
            host.blamed = False
            self.groups[host.group.name].failed -= 1
            if host.host.model:
                self.model_failed[host.host.model] -= 1
            if self.plan.limits.breaker.cluster_failures:
                self.clusters.retract(host.host)

    # -- helpers ---------------------------------------------------------------------

    def wake_at(self, t: float, name: str = "") -> None:
        """Ask the engine for another look at groups, feeds and gates (or at meters) at run time ``t``."""
        self.timers.push(t, name, None)

    def reserve(self, host: HostState, t: float) -> None:
        if host.admitted_t is None or not (host.reserved or host.on_t is not None or host.tries):
            host.admitted_t = t  # time that it waited without watts and slots is none of its own
        self.feeds.start(host.draw, t)
        if not host.reserved:
            host.reserved = True
            for slot in host.boot_slots:
                if slot not in host.held:
                    self.take(host, slot)

    def release(self, host: HostState) -> None:
        """No power flows because of us: give the watts and the place in the ramp back."""
        host.reserved = False
        if host.draw.level != OFF:
            self.feeds.hold(host.draw, OFF)
            self.feeds.forget(host.draw)
            self.free_feed(host.draw)
        if host.outcome is None and not host.draw.keeps and not host.dark and self.in_scope(host.name):
            self.feeds.keep(host.draw, True)
        if host.held:
            self.give_back_boot(host)

    def give_back_boot(self, host: HostState) -> None:
        """All but what an exchange that is under way has taken: it ends by itself."""
        self.give_back(host, keep=(host.bmc_slot, "logins") if host.inflight else ())

    def in_scope(self, name: str) -> bool:
        return self.limit is None or name in self.limit

    def free(self, kind: str, name: str) -> None:
        # Slices that wait are no hosts that are parked: nobody has said that they want it.
        if (kind, name) in self.wanted or (self.redeploy_kinds and kind_of(name) in self.redeploy_kinds):
            self.freed[kind, name] = None

    def free_feed(self, draw: Draw) -> None:
        if self.wanted:
            for share in draw.shares:
                self.free("feed", share.feed.name)

    def take(self, host: HostState, slot: str) -> None:
        self.slots.take(slot)
        host.held = (*host.held, slot)

    def give_back(self, host: HostState, keep: tuple[str, ...] = ()) -> None:
        held = host.held
        if len(held) == 1 and held[0] not in keep:  # mostly
            host.held = ()
            self.slots.give(held[0])
            self.free("slot", held[0])
            return
        kept = []
        for slot in held:
            if slot in keep:
                kept.append(slot)
            else:
                self.slots.give(slot)
                self.free("slot", slot)
        host.held = tuple(kept)

    # -- views ---------------------------------------------------------------------

    def booting(self) -> Iterator[str]:
        """Hosts that were switched on or cycled, and whose boot has neither been proven nor given up."""
        for name, host in self.hosts.items():
            under_way = host.stage in (S_POWER, S_BOOT) and host.outcome is None and not host.unbooted
            if under_way and host.on_t is not None and not host.adopted:
                yield name

    def outcomes(self) -> Iterator[tuple[str, Outcome, Reason, str]]:
        """Every host of the plan with its outcome; a host that has none yet is ``unknown``."""
        for name, host in self.hosts.items():
            if host.outcome is None:
                waits = f"feed {host.dark} is without electricity" if host.dark else f"stopped in stage {host.stage}"
                yield name, O_UNKNOWN, R_NEVER_REACHED, waits
            else:
                yield name, host.outcome, host.reason, host.detail

    def durable(self) -> Iterable[tuple[object, ...]]:
        """The part of the state that the journal alone determines, for comparing a replay with the original."""
        for name, h in self.hosts.items():
            yield (name, h.stage, h.outcome, h.reason, h.detail, h.adopted, h.power, h.on_attempts, h.boots)
            yield (h.playbook, h.redeploy_attempts, h.dark_count, h.retries, h.proven, h.unbooted, h.examined)
            yield (h.ending, h.blamed, h.switched_on)
            yield (dict(h.symptoms), h.reserved, h.dark, h.metered, h.waits, round(h.draw.level, 6))
