"""The state of a run: a fold over its events, and nothing else changes it.

``State.fold`` is mechanical: what an event means. What to do next is decided in ``engine``. Fields of hosts are of two
kinds: *durable* ones, which the journalled events alone determine, and *soft* ones (next look, consecutive failures),
which a resumed run simply begins anew. Folds also leave hints for the engine (``dirty``, ``freed``): who may now act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heappush
from typing import Any

from bootorch.core import change
from bootorch.core.clusters import Clusters, subnet
from bootorch.core.dependencies import Dependencies
from bootorch.core.diagnosis import FOUND
from bootorch.core.events import (
    READ_ONLY,
    Adapted,
    Admitted,
    Answer,
    BootFailed,
    Chosen,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    LimitSet,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    ScopeAdded,
    Settled,
    TierSet,
    Tripped,
)
from bootorch.core.hoststate import NO_ANSWER, GroupState, HostState
from bootorch.core.limits import OFF, STEADY, Draw, Feeds, Resource
from bootorch.core.model import Outcome, SshCheck, Stage
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.retry import backoff_s, jitter, look_s, poll_s
from bootorch.core.slots import Slots, boot_slots
from bootorch.core.urgency import expected_s, priorities

__all__ = ["GroupState", "HostState", "State", "subnet"]

# A host's boot may be timed by a clock that started a little before ours saw the intent committed; two seconds also
# cover the granularity of /proc/uptime on slow reads. Anything older was up before the request.
UPTIME_SLACK_S = 2.0
AT_THE_BMC = frozenset({Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_CYCLE, Kind.BOOT_DEVICE, Kind.EVIDENCE, Kind.METER})
AT_THE_HOST = frozenset({Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK})
FIRST_LOOK_S = 0.2  # most chassis read on at once after an accepted power-on; later looks follow ``poll_s``
METERS = "\n"  # in place of a host's name: a timer for meters
SURVEY_CAP_S = 60.0  # a waiting host's BMC that does not answer is asked once a minute in the end: nobody waits for it
DEPLOY_OVERLOAD = (
    0.2  # share of a slice that fails: a task that is wrong fails everywhere, an overloaded server for many
)
DEPLOY_LEAST = 2  # one failed host is no overload


class State:
    """Everything known about a run. Changed by ``fold`` only."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.t = 0.0
        self.gap_s = 0.0  # real time that passed while bootorch was away
        self.run_id = ""
        self.seed = 0
        self.started = False
        self.ended = ""
        self.paused = ""
        self.limit: frozenset[str] | None = None
        self.wall: tuple[float, datetime] | None = None  # a run time and the wall clock's word for it
        self.dependencies = Dependencies(plan)
        self.tiers = {name: group.tier for name, group in plan.groups.items()}
        self.feeds = Feeds(plan.limits.feeds)
        self.slots = Slots(plan.limits.slots, plan.limits.adaptive)
        self.logins_limited = "logins" in plan.limits.slots
        self.bmcs_limited = "bmc_per_subnet" in plan.limits.slots
        self.expected = {name: expected_s(host, plan.groups[host.group]) for name, host in plan.hosts.items()}
        order = priorities(plan, self.dependencies, self.tiers, self.expected)
        kinds = tuple(plan.limits.slots)
        self.hosts: dict[str, HostState] = {}
        self.by_cords: dict[tuple[str, ...], list[HostState]] = {}
        names: dict[str, str] = {}
        alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        for name, host in plan.hosts.items():
            waits, control, impossible = self.dependencies.counts(name)
            draw = self.feeds.draw_of(host, order[name][0])
            bmc = f"bmc:{subnet(host.bmc.address)}" if self.bmcs_limited else ""
            bmc = names.setdefault(bmc, bmc)
            slots = boot_slots(host, kinds)
            slots = alike.setdefault(slots, slots)
            state = HostState(host, plan.groups[host.group], draw, bmc, slots, waits, control, order[name], impossible)
            self.hosts[name] = state
            self.by_cords.setdefault(host.feeds, []).append(state)
            self.feeds.keep(draw, True)
        self.groups = {name: GroupState(group, len(group.hosts)) for name, group in plan.groups.items()}
        self.lost: dict[str, str] = {}  # feeds without electricity, and who said so
        self.clusters = Clusters(plan.hosts if plan.limits.breaker.cluster_failures else {})
        self.open: dict[int, Intent] = {}
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
        self.dirty: dict[str, None] = {}
        self.dirty_groups: dict[str, None] = {}
        self.freed: dict[Resource, None] = {}
        self.wanted: set[Resource] = set()  # resources that somebody waits for: others need not be freed
        self.timers: list[tuple[float, str]] = []  # (run time, host or "" for a look at groups, feeds and gates)
        for feed, limit in plan.limits.feeds.items():
            if limit.dark:
                change.lose(self, feed, "plan", 0.0)
        self._folds: dict[type[Any], Callable[[Any], None]] = {
            Intent: self._intent,
            Answer: self._answer,
            Settled: self._settled,
            BootFailed: self._boot_failed,
            RunStarted: self._run_started,
            RunResumed: self._resumed,
            RunEnded: self._run_ended,
            GateOpened: self._gate_opened,
            Tripped: self._was_tripped,
            Paused: self._was_paused,
            Admitted: self._admitted,
            Chosen: lambda event: change.chosen(self, event),
            LimitSet: lambda event: change.limit_set(self, event),
            FeedLost: lambda event: change.feed_lost(self, event),
            FeedReturned: lambda event: change.feed_returned(self, event),
            ScopeAdded: lambda event: change.scope_added(self, event),
            TierSet: lambda event: change.tier_set(self, event),
            Adapted: lambda event: change.adapted(self, event),
        }
        for feed, limit in plan.limits.feeds.items():
            if limit.dark:
                change.lose(self, feed, "plan", 0.0)

    # -- fold ---------------------------------------------------------------------

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
            self.reserve(host, event.t)
        self.dirty[event.host] = None

    def _was_tripped(self, event: Tripped) -> None:
        self.tripped[event.scope] = event.detail

    def _was_paused(self, event: Paused) -> None:
        self.paused = event.by

    def _boot_failed(self, event: BootFailed) -> None:
        host = self.hosts[event.host]
        host.unbooted = True
        # Up since before the request and what was diagnosed are worth their own words; all else is no boot.
        own = event.reason is Reason.STALE_BOOT or event.reason in FOUND
        host.unbooted_reason = event.reason if own else Reason.NO_BOOT
        host.unbooted_detail = event.detail
        host.power = ""
        host.tries = 0
        host.next_t = event.t
        self.dirty[event.host] = None
        if event.reason is Reason.NETBOOT_FAILED:
            self.overloaded(host, host.on_t, f"{event.host} found no boot image")

    def overloaded(self, host: HostState, began_t: float | None, why: str) -> None:
        for slot in host.boot_slots:
            if self.slots.adaptive(slot):
                self.overloads.append((slot, began_t if began_t is not None else 0.0, 1, why))

    def wake_all(self) -> None:
        self.dirty = dict.fromkeys(name for name, host in self.hosts.items() if host.outcome is None)
        self.dirty_groups = dict.fromkeys(self.groups)

    def _resumed(self, event: RunResumed) -> None:
        self.gap_s += event.gap_s
        self.paused = ""
        self.ended = ""
        self._told(event.t, event.wall)
        if event.reset_breakers:
            for group in self.groups.values():
                group.failed_base = group.failed
            self.model_failed.clear()
            self.clusters.forgive()
            for scope in self.tripped:
                self.freed["breaker", scope] = None
            self.tripped.clear()
        for host in self.hosts.values():
            host.next_t = 0.0
            host.tries = 0
            host.parked = None
            host.asked_t = None
            # Nobody looked while bootorch was away: the off reading before the request has to stand for the down.
            host.saw_down = host.saw_down or host.on_t is not None
            # An off reading from before the gap is no longer fresh. The next word is news, even if it says the same.
            host.read_off_t = None
            host.answer = host.watched = ()
        self.suspects.clear()
        self.overloads.clear()
        self.grown.clear()
        self.gate_next_t.clear()
        self.meter_timers = sum(1 for _, name in self.timers if name == METERS)
        self.meter_next_t.clear()
        self.wake_all()

    # -- intents ---------------------------------------------------------------------

    def _intent(self, event: Intent) -> None:
        self.open[event.id] = event
        if event.id >= self.next_id:
            self.next_id = event.id + 1
        kind, t = event.kind, event.t
        if kind is Kind.GATE_CHECK or kind is Kind.FEED_METER:
            self.asking.add(event.target)
            return
        if kind is Kind.REDEPLOY:
            self._slice_intent(event)
            return
        host = self.hosts[event.target]
        host.inflight = event.id
        if host.started_t is None:
            host.started_t = t
        if event.durable and kind in READ_ONLY:
            host.watched = self.watch_key(host, kind)
        if kind in AT_THE_BMC:
            if host.asked_t is None:
                host.asked_t = t
            if self.bmcs_limited:
                self.take(host, host.bmc_slot)
        elif self.logins_limited:
            self.take(host, "logins")
        if kind is Kind.POWER_READ:
            if "survey" in event.args:
                self.surveys += 1
            elif host.stage is Stage.WAIT:
                host.enter(Stage.BMC, t)
            if "admit" in event.args:
                self.reserve(host, t)
        elif kind is Kind.BOOT_DEVICE:
            self.reserve(host, t)
        elif kind is Kind.POWER_ON:
            self.reserve(host, t)
            host.read_off_t = None
            host.on_attempts += 1
            host.retries += host.on_attempts > 1
            self._requested(host, t)
        elif kind is Kind.POWER_CYCLE:
            host.boots += 1
            host.retries += 1
            host.unbooted = False
            self.feeds.start(host.draw, t)
            self._requested(host, t)

    def _requested(self, host: HostState, t: float) -> None:
        host.on_t = t
        host.on_real_t = t + self.gap_s
        host.saw_down = False
        host.adopted = False

    def _slice_intent(self, event: Intent) -> None:
        self.slots.take("forks", int(event.args["forks"]))
        for name in event.hosts:
            host = self.hosts[name]
            host.inflight = event.id
            host.redeploy_attempts += 1
            if host.redeploy_t is None:
                host.redeploy_t = event.t

    def watch_key(self, host: HostState, kind: Kind) -> tuple[object, ...]:
        """Identifies a watch: exchanges with the same key are repeats of one that is journalled."""
        return (kind, host.stage, host.on_attempts, host.boots, host.unbooted, host.playbook, host.redeploy_attempts)

    def answer_key(self, host: HostState, kind: Kind, reason: Reason, power: object) -> tuple[object, ...]:
        """Two answers with the same key say the same thing."""
        return (*self.watch_key(host, kind), reason, power)

    # -- answers ---------------------------------------------------------------------

    def _answer(self, event: Answer) -> None:
        intent = self.open.pop(event.id, None)
        kind = event.kind
        if kind is Kind.REDEPLOY:
            self._slice_answer(event, intent)
            return
        if kind is Kind.GATE_CHECK:
            self._gate_answer(event)
            return
        if kind is Kind.FEED_METER:
            self._feed_metered(event)
            return
        name = event.target
        host = self.hosts[name]
        host.inflight = 0
        self.dirty[name] = None
        if host.held:
            self.give_back(host, keep=host.boot_slots)
        if kind is Kind.POWER_READ and intent is not None and "survey" in intent.args:
            self.surveys -= 1
            self.free("slot", "survey")
        if event.id < host.void_id:
            return  # it was asked before the electricity went: whatever it said is history
        if kind is Kind.EVIDENCE:
            # Looked at once, and whatever came of it the host goes on: no attempt, no failure, no new latest answer.
            host.examined = event.reason is not Reason.INTERRUPTED
            host.symptoms = event.data
            return
        if kind is Kind.METER:
            self._metered(host, event)
            return
        reason, t = event.reason, event.t
        ok = reason is Reason.OK
        if ok:
            host.last = NO_ANSWER if not event.detail else (reason, event.detail)
            host.tries = 0
        else:
            host.last = (reason, event.detail)
            host.tries += 1
            if reason is Reason.BMC_LOST and host.bmc_slot and self.slots.adaptive(host.bmc_slot):
                self.overloads.append((host.bmc_slot, intent.t if intent is not None else t, 1, f"{name} was lost"))
        if event.durable and kind in READ_ONLY:
            host.answer = self.answer_key(host, kind, reason, event.data.get("power"))
        if kind is Kind.POWER_READ:
            self._power_read(host, event, ok)
        elif kind is Kind.BOOT_PROBE:
            self._boot_probe(host, event, ok)
        elif kind is Kind.POWER_ON:
            self._power_on_ended(host, event, ok)
        elif kind is Kind.READY_CHECK:
            if ok:
                self._after_ready(host, t)
            else:
                self._look_again(host, event)
        elif kind is Kind.VERIFY_CHECK:
            host.proven = ok
            if not ok:
                self._look_again(host, event)
        elif kind is Kind.BOOT_DEVICE:
            host.bootdev_t = t if ok or reason is Reason.BMC_UNSUPPORTED else None
            host.next_t = t if ok else self._backoff(host, t)
        elif kind is Kind.POWER_CYCLE:
            host.enter(Stage.BOOT, t)
        else:
            raise AssertionError(kind)

    def _gate_answer(self, event: Answer) -> None:
        self.asking.discard(event.target)
        if event.reason is Reason.OK:
            self.gates_open[event.target] = "check"
            self.freed["gate", event.target] = None
            return
        tries = self.gate_tries[event.target] = self.gate_tries.get(event.target, 0) + 1
        self.gate_next_t[event.target] = event.t + backoff_s(tries, first_s=1.0, cap_s=15.0, jittered=1.0)
        self.wake_at(self.gate_next_t[event.target], "")

    def _feed_metered(self, event: Answer) -> None:
        feed = event.target
        self.asking.discard(feed)
        meter = self.plan.limits.feeds[feed].meter
        every_s = meter.every_s if meter is not None else 0.0
        self.meter_next_t[feed] = event.t + every_s
        self.wake_at(event.t + every_s, METERS)
        self.meter_timers += 1
        if event.reason is Reason.OK:
            watts = float(event.data["watts"])
            self.feeds.metered(feed, watts, event.t)
            if event.durable:
                self.meter_said[feed] = watts
        else:
            self.feeds.metered(feed, None, event.t)
        self.freed["feed", feed] = None

    def _metered(self, host: HostState, event: Answer) -> None:
        host.metered = event.reason is not Reason.INTERRUPTED
        if event.reason is Reason.OK and (watts := float(event.data["watts"])) > 0:
            live = tuple(feed for feed in host.host.feeds if not change.lost_by(self, feed)) or host.host.feeds
            self.reshare(host, live, watts)

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

    def _power_on_ended(self, host: HostState, event: Answer, ok: bool) -> None:
        """Accepted, or perhaps so: a look soon, and time to have an effect. Refused: a look after a pause."""
        host.next_t = event.t + FIRST_LOOK_S if ok else self._backoff(host, event.t)
        self._hinted(host, event)
        host.on_refused = None if ok else (event.reason, event.detail)
        if ok or event.reason in (Reason.BMC_LOST, Reason.INTERRUPTED):
            limits = host.group.deadlines.power / host.group.attempts.power
            host.resend_t = (host.on_t if host.on_t is not None else event.t) + limits
        else:
            host.resend_t = host.next_t

    def _power_read(self, host: HostState, event: Answer, ok: bool) -> None:
        t = event.t
        waiting = host.stage is Stage.WAIT
        if not ok:
            if host.on_t is None:
                self.release(host)  # admitted, but not switched on: the next admission takes them again
            host.next_t = self._backoff(host, t, SURVEY_CAP_S if waiting else 15.0)
            return self._hinted(host, event)
        host.power = str(event.data["power"])
        host.read_t = t
        host.surveyed = True
        if host.power == "off":
            host.read_off_t = t
            if host.adopted and host.stage in (Stage.WAIT, Stage.BMC):
                host.adopted = False  # it was on when it was looked at first, and is not any more
                self.release(host)
            if host.unbooted and host.boots < host.group.attempts.boot:
                # The server fell back to off: the next boot may begin, from a clean count.
                host.unbooted = False
                host.boots += 1
                host.retries += 1
                host.on_attempts = 0
                host.on_t = None
                host.admitted_t = None
                host.bootdev_t = None
                self.release(host)
                host.enter(Stage.POWER, t)
            elif host.stage is Stage.BMC:
                host.enter(Stage.POWER, t)
            elif host.stage is Stage.POWER and host.on_t is not None:
                host.next_t = t + poll_s(t - host.on_t, self._jitter(host))
                self._hinted(host, event)
            return None
        host.read_off_t = None
        if host.on_t is None:
            # On without our doing: adopted, verified, never cycled. Its draw counts from now on.
            host.adopted = True
            self.release(host)
            self.feeds.hold(host.draw, STEADY)
        elif host.stage is Stage.POWER:
            for step_t in self.feeds.reads_on(host.draw, t):
                self.wake_at(step_t, "")
        if host.stage in (Stage.BMC, Stage.POWER):
            host.enter(Stage.BOOT, t)
            self._hinted(host, event)
        return None

    def _boot_probe(self, host: HostState, event: Answer, ok: bool) -> None:
        t = event.t
        if not ok:
            # A wrong answer is no down: an old boot may give it too.
            host.saw_down = host.saw_down or event.reason is Reason.UNREACHABLE
            self._look_again(host, event)
            return
        if not host.adopted and not self._fresh(host, event):
            host.last = (Reason.STALE_BOOT, "answers, but has been up since before the request")
            self._look_again(host, event)
            return
        data = event.data
        if "boot_id" in data or "uptime_s" in data:
            host.evidence = {name: data[name] for name in ("boot_id", "uptime_s") if name in data}
        host.unbooted = False
        host.reserved = False
        self.feeds.hold(host.draw, STEADY)
        for slot in host.boot_slots:
            self.slots.success(slot)
            self.grown[slot] = None
        if host.held:
            self.give_back(host)
        self.free_feed(host.draw)
        checks = host.group.ready
        if host.group.proof_by_ssh and all(isinstance(check, SshCheck) for check in checks):
            self._after_ready(host, t)  # the proof of boot was a verified login: the same check holds
        else:
            host.enter(Stage.READY, t)

    def _fresh(self, host: HostState, event: Answer) -> bool:
        uptime_s = event.data.get("uptime_s")
        if uptime_s is not None:
            since_request_s = event.t + self.gap_s - host.on_real_t
            return float(uptime_s) <= since_request_s + UPTIME_SLACK_S
        return host.saw_down

    def _after_ready(self, host: HostState, t: float) -> None:
        if host.redeploys and host.playbook < len(host.group.redeploy):
            host.enter(Stage.REDEPLOY, t)
        else:
            host.enter(Stage.VERIFY, t)
            host.proven = not (host.group.verify or host.playbook)

    def _slice_answer(self, event: Answer, intent: Intent | None) -> None:
        if intent is not None:
            self.slots.give("forks", int(intent.args["forks"]))
        self.freed["slot", "forks"] = None
        self.dirty_groups[event.target] = None
        failed = 0
        for name, (word, detail) in event.verdicts.items():
            host = self.hosts[name]
            host.inflight = 0
            self.dirty[name] = None
            if event.id < host.void_id:
                continue
            reason = Reason(word)
            host.last = (reason, detail)
            if reason is Reason.OK:
                host.playbook += 1
                host.redeploy_attempts = 0
                if host.playbook == len(host.group.redeploy):
                    host.enter(Stage.VERIFY, event.t)
                    host.proven = False
                continue
            host.retries += 1
            failed += reason is not Reason.INTERRUPTED
            if reason is Reason.DARK:
                # Not the playbook's fault: back to waiting for SSH, and the attempt is not used up.
                host.dark_count += 1
                host.redeploy_attempts -= 1
                host.stage = Stage.READY
                host.stage_t = event.t
                host.next_t = event.t + 1.0
            elif reason is Reason.INTERRUPTED:
                host.redeploy_attempts -= 1
                host.next_t = event.t
            else:
                wait_s = backoff_s(host.redeploy_attempts, first_s=2.0, cap_s=60.0, jittered=self._jitter(host))
                host.next_t = event.t + wait_s
        if self.slots.adaptive("forks") and intent is not None:
            if failed >= DEPLOY_LEAST and failed >= DEPLOY_OVERLOAD * len(event.verdicts):
                why = f"{failed} of {len(event.verdicts)} hosts of a slice of {event.target} failed"
                self.overloads.append(("forks", intent.t, int(intent.args["forks"]), why))
            elif not failed:
                self.slots.success("forks", int(intent.args["forks"]))
                self.grown["forks"] = None

    def _settled(self, event: Settled) -> None:
        host = self.hosts[event.host]
        host.outcome = event.outcome
        host.reason = event.reason
        host.detail = event.detail
        host.settled_t = event.t
        self.unsettled -= 1
        if host.held:
            self.give_back(host)
        if event.outcome is not Outcome.READY:
            # At the level STEADY without our doing: found on, perhaps before it was blocked for the first time.
            never_on = host.on_t is None and host.draw.level != STEADY
            if never_on or host.read_off_t is not None:
                self.release(host)
            if host.draw.keeps:
                self.feeds.keep(host.draw, False)
                self.free_feed(host.draw)
        group = self.groups[host.group.name]
        group.settled += 1
        self.dirty_groups[host.group.name] = None
        if event.outcome is Outcome.QUARANTINED:
            group.failed += 1
            if host.host.model:
                self.model_failed[host.host.model] = self.model_failed.get(host.host.model, 0) + 1
            self.suspects.append(event.host)
        if self.plan.limits.breaker.cluster_failures and event.outcome in (Outcome.QUARANTINED, Outcome.READY):
            self.clusters.settle(host.host, event.outcome is Outcome.QUARANTINED)
        for wait, changed in self.dependencies.settle(host.host, event.outcome):
            change.waits_change(self, wait, changed)

    # -- helpers ---------------------------------------------------------------------

    def wake_at(self, t: float, host: str) -> None:
        """Ask the engine for another look at ``host`` (empty: at groups, feeds and gates) at run time ``t``."""
        heappush(self.timers, (t, host))

    def _jitter(self, host: HostState) -> float:
        return jitter(self.seed, host.host.name, host.stage, host.tries, host.on_attempts)

    def _backoff(self, host: HostState, t: float, cap_s: float = 15.0) -> float:
        return t + backoff_s(max(1, host.tries), first_s=1.0, cap_s=cap_s, jittered=self._jitter(host))

    def _look_again(self, host: HostState, event: Answer) -> None:
        hint = event.data.get("retry_after_s")
        if hint is not None:
            host.next_t = event.t + float(hint)
        elif host.on_t is not None and host.stage is Stage.BOOT:
            host.next_t = event.t + look_s(event.t - host.on_t, self._jitter(host), host.host.boot_s)
        else:
            host.next_t = event.t + poll_s(event.t - host.stage_t, self._jitter(host))

    def _hinted(self, host: HostState, event: Answer) -> None:
        """Whoever was asked said when another look is worth while (as HTTP's Retry-After, RFC 9110, 10.2.3)."""
        hint = event.data.get("retry_after_s")
        if hint is not None and not host.unbooted:  # a failed boot is judged now, not when its BMC would like to
            host.next_t = max(host.next_t, event.t + float(hint))

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
        if host.outcome is None and not host.draw.keeps and not host.dark and self.in_scope(host.host.name):
            self.feeds.keep(host.draw, True)
        if host.held:
            self.give_back_boot(host)

    def give_back_boot(self, host: HostState) -> None:
        """All but what an exchange that is under way has taken: it ends by itself."""
        self.give_back(host, keep=(host.bmc_slot, "logins") if host.inflight else ())

    def in_scope(self, name: str) -> bool:
        return self.limit is None or name in self.limit

    def free(self, kind: str, name: str) -> None:
        if (kind, name) in self.wanted:
            self.freed[kind, name] = None

    def free_feed(self, draw: Draw) -> None:
        if self.wanted:
            for share in draw.shares:
                self.free("feed", share.feed.name)

    def take(self, host: HostState, slot: str) -> None:
        self.slots.take(slot)
        host.held = (*host.held, slot)

    def give_back(self, host: HostState, keep: tuple[str, ...] = ()) -> None:
        kept = []
        for slot in host.held:
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
            under_way = host.stage in (Stage.POWER, Stage.BOOT) and host.outcome is None and not host.unbooted
            if under_way and host.on_t is not None and not host.adopted:
                yield name

    def outcomes(self) -> Iterator[tuple[str, Outcome, Reason, str]]:
        """Every host of the plan with its outcome; a host that has none yet is ``unknown``."""
        for name, host in self.hosts.items():
            if host.outcome is None:
                waits = f"feed {host.dark} is without electricity" if host.dark else f"stopped in stage {host.stage}"
                yield name, Outcome.UNKNOWN, Reason.NEVER_REACHED, waits
            else:
                yield name, host.outcome, host.reason, host.detail

    def durable(self) -> Iterable[tuple[object, ...]]:
        """The part of the state that the journal alone determines, for comparing a replay with the original."""
        for name, h in self.hosts.items():
            yield (name, h.stage, h.outcome, h.reason, h.detail, h.adopted, h.power, h.on_attempts, h.boots)
            yield (h.playbook, h.redeploy_attempts, h.dark_count, h.retries, h.proven, h.unbooted, h.examined)
            yield (dict(h.symptoms), h.reserved, h.dark, h.metered, h.waits, round(h.draw.level, 6))
