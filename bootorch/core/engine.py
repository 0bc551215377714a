"""What to do next. ``Engine.decide`` looks at the state and the run time and returns events: intents and outcomes.

It reads no clock, draws no random number and does no I/O, so the same state and time give the same decision: in a real
run, a dry run and a replay. What it returns is folded already; the caller commits it and only then lets the effects of
the intents leave. It looks only at hosts that an event or a timer has touched, never at all of them.

The rules, in the order in which a host meets them (invariants of docs/architecture.md in brackets):

1. Nothing that acts before its dependencies hold [1]; blocked as soon as one never can; nothing while it is dark.
   Its power state is read ahead as soon as the recovery can reach its BMC: servers that run count on their feeds from
   then on, and a dead BMC is known before its turn.
2. ``bmc``: read the power state. On: adopted. Off: on to ``power``. A refused password is never tried again.
3. ``power``: admitted when gates are open, breakers closed, and feeds and slots have room [2]; highest priority first,
   and less urgent tiers never take the power that more urgent ones will need. A power-on leaves only on a reading that
   said off and that no power-on has used up, and its driver reads once more in the same session, right before it [3].
   One whose answer is lost is read back, at the deadline too.
4. ``boot``: proof newer than the request [4]. At the deadline the BMC's evidence of the failure is taken, once; then
   the power state decides: off, another boot; on, a cycle only where the plan says ``second_boot: cycle``, never for an
   adopted host.
5. ``ready``, ``redeploy`` in slices, ``verify``; then the outcome.
6. At any time a person's word (``HostState.ending``) is carried out as soon as nothing is under way for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush

from bootorch.core.acting import EXCHANGE_S, hopeless
from bootorch.core.admission import SURVEY, queue_of
from bootorch.core.booting import Booting
from bootorch.core.diagnosis import diagnose
from bootorch.core.events import (
    Admitted,
    Answer,
    Event,
    Intent,
    Kind,
    Scalar,
)
from bootorch.core.evidence import bounded
from bootorch.core.hoststate import METERS, HostState
from bootorch.core.limits import Resource
from bootorch.core.members import (
    K_EVIDENCE,
    K_FEED_METER,
    K_GATE_CHECK,
    K_POWER_ON,
    K_POWER_READ,
    K_REDEPLOY,
    O_ADOPTED,
    O_BLOCKED,
    O_READY,
    O_SKIPPED,
    R_BMC_LOST,
    R_BMC_UNREACHABLE,
    R_DEPENDENCY,
    R_INTERRUPTED,
    R_LIMIT,
    R_NO_BOOT,
    R_NO_SECRET,
    R_OK,
    R_OPERATOR,
    R_OUTSIDE_SITE,
    R_POWER_NO_EFFECT,
    R_REDEPLOY_DEADLINE,
    S_BMC,
    S_BOOT,
    S_POWER,
    S_READY,
    S_REDEPLOY,
    S_VERIFY,
    S_WAIT,
)
from bootorch.core.model import BootDevice, SecondBoot, Stage
from bootorch.core.oversight import Oversight
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.slices import FORKS, Slices
from bootorch.core.slots import kind_of
from bootorch.core.state import State
from bootorch.core.urgency import Priority

MOST_LOOKS = 1000  # at hosts in one decision: some 20 ms; what is left comes with the next, at the same time
MOST_TIMERS = 5000
KNOWN_SILENT_S = 60.0  # a BMC that was silent all the time that its host waited gets no new deadline, but this
MOST_ELSEWHERE = 64  # hosts in a row that wait for something else too: a decision is done in milliseconds
UNFINISHED_S = 0.05  # and the rest of them a moment later
SURVEY_PAUSE_S = 1.0  # a subnet that is busy with those whose turn it is is left alone for a while
METER_CHANGE = 0.05  # a feed's reading is worth a journal line when it has changed by so much


class Engine(Booting):
    """Decides for one run. ``state`` may come from a replay; ``decide`` goes on from wherever it stands."""

    def __init__(self, plan: Plan, state: State | None = None) -> None:
        super().__init__(plan, state if state is not None else State(plan))
        self._unfinished: dict[Resource, None] = {}  # has room, and more in its queue than one decision may look at
        self._candidates: list[tuple[Priority, HostState]] = []  # hosts that want to be switched on in this decision
        self._slices = Slices(plan, self.state, self.admission)
        self._looks = 0  # at hosts, that this decision has left
        self._stands = False  # nothing moved when it was last tried who could pass by
        self._oversight = Oversight(plan, self.state, self._emit)
        self._steps: dict[Stage, Callable[[HostState], None]] = {
            S_WAIT: self._wait,
            S_BMC: self._bmc,
            S_POWER: self._power,
            S_BOOT: self._boot,
            S_READY: self._ready,
            S_REDEPLOY: self._redeploy,
            S_VERIFY: self._verify,
        }

    # -- what the runner calls ---------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Fold an event that came from outside."""
        self.state.fold(event)

    def answer(
        self,
        intent: Intent,
        now: float,
        reason: Reason,
        detail: str = "",
        data: Mapping[str, Scalar] | None = None,
        verdicts: Mapping[str, tuple[str, str]] | None = None,
    ) -> Answer:
        """The event for the end of an effect. An answer of a watch that says what the last one said is not durable."""
        kind = intent.kind
        evidence = data or {}
        # What was said to begin is said to have ended. What was asked before the electricity went says nothing.
        host = self.state.asked.get(intent.id)
        void = host is not None and intent.id < host.void_id
        durable = intent.durable or (not void and self._says_something(intent, kind, reason, evidence))
        if kind is K_EVIDENCE:
            evidence = bounded(evidence)
        return Answer(now, intent.id, kind, intent.target, reason, detail, evidence, verdicts or {}, durable)

    def _says_something(self, intent: Intent, kind: Kind, reason: Reason, data: Mapping[str, Scalar]) -> bool:
        """Whether the answer of a repeated look is news."""
        if kind is K_GATE_CHECK:
            return reason is R_OK
        if kind is K_FEED_METER:
            said = self.state.meter_said.get(intent.target)
            watts = float(data.get("watts", 0.0))
            return reason is R_OK and (said is None or abs(watts - said) > METER_CHANGE * max(said, 1.0))
        if reason is R_OK and kind is not K_POWER_READ:
            return True  # a success ends the watch, so it is always worth a line
        host = self.state.asked.get(intent.id) or self.state.hosts[intent.target]
        return self.state.answer_key(host, kind, reason, data.get("power")) != host.answer

    def held_back(self) -> Iterator[tuple[HostState, Resource]]:
        """Every host that waits for a resource, and which: a queue for forks too."""
        yield from self.admission.queued()
        forks = FORKS if "redeploy_forks" in self.plan.limits.slots else ("slice", "")
        for host in self._slices.queued():
            yield host, forks

    def decide(self, now: float) -> list[Event]:
        """All that can be decided at ``now``: intents to commit and start, and outcomes. Already folded."""
        self._out = []
        self._now = now
        state = self.state
        if state.ended or not state.started:
            return self._out
        if state.feeds.steps:
            state.advance(now)
        self._looks = MOST_LOOKS
        timers = state.timers
        pops = MOST_TIMERS if state.paused else 0  # nobody looks during a pause, so no deadline passes in it
        while timers.first_t <= now and pops < MOST_TIMERS:
            pops += 1
            name, host = timers.pop()
            if host is not None:
                state.dirty[host] = None
            elif name == METERS:
                state.meter_timers -= 1  # oversight looks at them every time
            else:
                state.dirty_groups.update(dict.fromkeys(self._slices.waiting_groups()))
                state.freed.update(dict.fromkeys(self.admission.timed(now)))
                state.freed.update(self._unfinished)
                self._unfinished = {}
        oversight = self._oversight
        if (
            now >= oversight.next_t
            or oversight.wall is not state.wall
            or state.suspects
            or state.overloads
            or state.grown
        ):
            oversight.look(now)
        steps = self._steps
        while (state.dirty or state.left or state.freed or state.dirty_groups or self._candidates) and self._looks > 0:
            self._stands = False
            # Touched hosts first: what they free and who joins a queue is known before places are given away.
            if state.dirty or state.left:
                if not state.left and len(state.dirty) <= self._looks:
                    now_on, state.dirty = list(state.dirty), {}
                else:
                    if not state.left:
                        state.left, state.dirty = list(state.dirty)[::-1], {}
                    now_on = state.left[: -self._looks - 1 : -1]
                    del state.left[-self._looks :]
                self._looks -= len(now_on)
                for host in now_on:
                    if host.outcome is None and not host.inflight:
                        if host.ending is not None:
                            self._end(host)
                        elif not host.dark:
                            steps[host.stage](host)
                if self._looks <= 0:
                    break  # the others first: the most urgent of all of them is to go
            if self._candidates:
                self._admit_candidates()
            if state.freed and not self._candidates:
                freed, state.freed = state.freed, {}
                for resource in freed:
                    if self._looks > 0:
                        self._give_away(resource)
                    else:
                        state.freed[resource] = None
            if state.dirty_groups:
                groups, state.dirty_groups = state.dirty_groups, {}
                self._redeploy_groups(groups)
            if state.suspects or state.overloads or state.grown:
                self._oversight.look(now)
            if not state.open:
                self._stand_still()
        if self._oversight.meters:
            self._oversight.look(now)  # somebody may be held by a meter that was not read for long
        if not state.open:
            self._stand_still()
        return self._out

    def _stand_still(self) -> None:
        """Nothing is under way and nothing will be: once, whoever fits may pass by those that do not."""
        state = self.state
        goes_on = state.open or len(state.timers) > state.meter_timers or self.unfinished
        if not self._stands and state.unsettled and not state.paused and not goes_on:
            self._stands = True
            self._pass_by()
            self._slices.let_go()
            if self._oversight.watches:
                self._oversight.look(self._now)

    @property
    def unfinished(self) -> bool:
        """A decision has done as much as one may: ``decide`` is to be called again at once, at the same time."""
        state = self.state
        return bool(state.dirty or state.left or state.freed or state.dirty_groups or self._candidates)

    def _give_away(self, resource: Resource) -> None:
        """Somebody who waits for the resource goes, most urgent first, until one is held by it again."""
        if resource == SURVEY:
            self._look_ahead()
            return
        state = self.state
        if resource[0] == "slot" and (resource == FORKS or kind_of(resource[1]) in state.redeploy_kinds):
            state.dirty_groups.update(dict.fromkeys(self._slices.waiting_groups()))
        queue = queue_of(resource)
        elsewhere = 0
        while not state.paused and not self.admission.full(queue) and (waiter := self.admission.pop(queue)) is not None:
            if waiter.inflight or waiter.dark:
                continue
            self._take_turn(waiter)
            self._admit_candidates()
            if self._looks <= 0:
                state.freed[resource] = None  # goes on with the next decision
                break
            if waiter.parked is None:
                elsewhere = 0
            elif queue_of(waiter.parked) == queue:
                break
            else:
                elsewhere += 1
                if elsewhere == MOST_ELSEWHERE:
                    self._unfinished[queue] = None
                    state.wake_at(self._now + UNFINISHED_S)
                    break

    def _take_turn(self, host: HostState) -> None:
        self._looks -= 1
        if host.ending is not None:
            self._end(host)
        else:
            self._steps[host.stage](host)

    def _look_ahead(self) -> None:
        """The power state of those whose turn has not come is read, of as many at once as may be."""
        state = self.state
        while not state.paused and (host := self.admission.ahead()) is not None:
            if host.inflight or host.dark:
                continue
            self._take_turn(host)
            if self._looks <= 0:
                state.freed[SURVEY] = None  # goes on with the next decision
                break
        self._admit_candidates()

    def next_timer(self) -> float | None:
        """Run time at which ``decide`` wants to look again without any event, or None."""
        if self.unfinished and not self.state.ended:
            return self._now
        return self.state.timers.first_t if self.state.timers and not self.state.paused else None

    def verdict(self) -> str:
        """How the run ends if it ends now: ``done``, ``aborted``, ``paused``, ``stopped``; empty while it goes on."""
        state = self.state
        if not state.unsettled:
            return "aborted" if state.aborted else "done"
        if state.paused:
            return "" if state.open else "paused"
        return "stopped" if self.idle else ""

    @property
    def idle(self) -> bool:
        """Nothing is under way and no timer runs: without a word from outside the run will not move again."""
        state = self.state
        return not (state.open or state.timers or self.unfinished)

    # -- one host ---------------------------------------------------------------------

    def _end(self, host: HostState) -> None:
        """A person has said how the host ends, and nothing is under way for it. A stage is finished first where the
        word allows that."""
        ending = host.ending
        assert ending is not None
        if ending.abort and host.stage is S_VERIFY and host.proven:
            self._settle(host, O_ADOPTED if host.adopted else O_READY)  # all is done but the word for it
        elif ending.after is host.stage and not host.dark and self._finishes(host):
            self._steps[host.stage](host)
        else:
            reason, said = host.last
            where = f"; was in stage {host.stage}" if host.stage is not S_WAIT else ""
            known = reason is not R_OK and reason is not R_INTERRUPTED
            last = f"; last answer {reason}" + (f": {said}" if said else "") if known else ""
            self._settle(host, ending.outcome, R_OPERATOR, f"{ending.detail}{where}{last}")

    def _finishes(self, host: HostState) -> bool:
        """Its stage ends by looking alone: no power-on, no cycle and no playbook that has not left yet."""
        group = host.group
        if host.stage is S_POWER:
            off_again = host.read_off_t is not None and host.read_off_t >= host.resend_t
            return host.on_t is not None and (not off_again or host.on_attempts >= group.attempts.power)
        if host.stage is S_BOOT:
            boots_again = group.second_boot is SecondBoot.CYCLE and host.boots < group.attempts.boot
            return not (host.unbooted is not None and boots_again and host.power == "on")
        return host.stage is S_READY or host.stage is S_VERIFY

    def _wait(self, host: HostState) -> None:
        state = self.state
        if state.limit is not None and host.name not in state.limit and not host.observed:
            self._settle(host, O_SKIPPED, R_LIMIT, "outside --limit")
        elif host.alike.impossible:
            self._settle(host, O_BLOCKED, R_DEPENDENCY, host.alike.impossible)
        elif host.alike.control_waits == 0 and (gate := self.admission.control_gate(host.group.name)):
            self.admission.park(host, ("gate", gate))
        elif host.alike.waits == 0 and not host.behind:
            if host.read_off_t is not None and not host.observed:
                self._admit(host)  # read ahead, and the power-on reads once more
            else:
                self._read(host, self._now + host.group.deadlines.bmc)
        elif host.alike.control_waits == 0 and not host.surveyed and not state.paused:
            self._survey(host)

    def _survey(self, host: HostState) -> None:
        """Read ahead, for as long as a host may take to answer; after that its turn will tell."""
        now = self._now
        until_t = (host.asked_t if host.asked_t is not None else now) + host.group.deadlines.bmc
        if now >= until_t or hopeless(host):
            return
        if now < host.next_t:
            self._later(host, min(host.next_t, until_t))
            return
        slot = self.admission.survey_slot()
        if slot is not None:
            self.admission.park(host, slot)
        elif (slot := self.admission.bmc_slot(host)) is not None:
            if self.state.slots.limit(slot[1]):
                self._later(host, now + SURVEY_PAUSE_S)
            else:
                self.admission.park(host, slot)  # closed until a person says otherwise
        else:
            self._start(host, K_POWER_READ, until_t, survey=True)

    def _bmc(self, host: HostState) -> None:
        reason, detail = host.last
        deadline_t = host.stage_t + host.group.deadlines.bmc
        if not host.surveyed and host.asked_t is not None and host.asked_t < host.stage_t:
            known_t = max(host.asked_t + host.group.deadlines.bmc, host.stage_t + KNOWN_SILENT_S)
            deadline_t = min(deadline_t, known_t)
        if hopeless(host):
            self._quarantine(host, reason, detail)
        elif self._now >= deadline_t:
            self._quarantine(host, reason if reason is not R_OK else R_BMC_UNREACHABLE, detail)
        elif self._now < host.next_t:
            self._later(host, min(host.next_t, deadline_t))
        else:
            self._read(host, deadline_t)

    # -- power ---------------------------------------------------------------------

    def _power(self, host: HostState) -> None:
        if host.observed:
            self._settle(host, O_SKIPPED, R_LIMIT, "outside --limit, and off")
            return
        reason, detail = host.last
        if hopeless(host):
            self._quarantine(host, reason, detail)
            return
        limits, attempts = host.group.deadlines, host.group.attempts.power
        if host.admitted_t is not None and (host.reserved or host.on_t is not None or host.tries):
            deadline_t = host.admitted_t + limits.power
            if reason is R_BMC_LOST and host.on_t is not None:
                deadline_t += EXCHANGE_S[K_POWER_READ]  # what was sent last may have had effect: it is read back
            if self._now >= deadline_t:
                self._give_up_power(host)
                return
        else:
            deadline_t = self._now + limits.power
        if host.on_t is None:
            if self._now < host.next_t:
                self._later(host, min(host.next_t, deadline_t))
            else:
                self._admit(host)
            return
        # A power-on has left. Look until the chassis is on; send again when it had time enough and one is left.
        if host.read_off_t is not None and host.read_off_t >= host.resend_t:
            if host.on_attempts >= attempts:
                self._give_up_power(host)
            else:
                self._admit(host)
            return
        due_t = host.next_t if host.tries else min(host.next_t, max(host.resend_t, self._now))
        if self._now < due_t:
            self._later(host, min(due_t, deadline_t))
        else:
            self._read(host, deadline_t)

    def _give_up_power(self, host: HostState) -> None:
        """The latest trouble is the reason: the BMC does not answer, or refused the power-on, or it had no effect."""
        reason, detail = host.last
        if reason is R_OK and host.on_t is not None and not host.examined:
            self._examine(host)
            return
        if reason is R_OK:
            reason, said = host.on_refused if host.on_refused is not None else (R_POWER_NO_EFFECT, "")
            tried = f"after {host.on_attempts} power-ons" if host.on_attempts else "and no power-on could be sent"
            detail = f"still {host.power or 'unknown'} {tried}" + (f": {said}" if said else "")
            found = diagnose(host.symptoms)
            came_on = host.symptoms.get("power") == "on"  # only now: too early to say anything of its boot
            if found.sure and found.reason is not R_NO_BOOT and not came_on:
                reason, detail = found.reason, f"{found.detail}; {detail}"
            elif found.detail:
                detail = f"{detail}; {found.detail}"
        self._quarantine(host, reason, detail)

    def _admit(self, host: HostState) -> None:
        """The host may be switched on as far as it is concerned: it competes with the others of this decision."""
        if not self.state.paused:
            heappush(self._candidates, (host.priority, host))

    def _admit_candidates(self) -> None:
        """Most urgent first: start the power-on, or park the host on the one resource that holds it back."""
        if self.state.paused:
            self._candidates.clear()
        while self._candidates and self._looks > 0:
            _, host = heappop(self._candidates)
            self._looks -= 1
            if host.inflight or host.parked is not None or host.dark or host.outcome or not host.may_go:
                continue  # asked twice (started already, or held), or otherwise now
            self._admit_one(host)

    def _admit_one(self, host: HostState, *, passing: bool = False) -> bool:
        """Whether it was admitted."""
        held = self.admission.held_back(host, self._now, passing=passing)
        if held is None and host.reserved and host.on_t is None:
            # Since its admission a budget was lowered, or a running server was found.
            held = self.state.feeds.over(host.draw, self._now)
            if held is not None:
                self._emit(Admitted(self._now, host.name, withdrawn=True))
        if held is None and (held := self.admission.bmc_slot(host)) is not None and not host.reserved:
            self._emit(Admitted(self._now, host.name))
        if held is None:
            self._switch_on(host)
            return True
        if not host.reserved and host.on_t is None:
            host.tries = 0
        self.admission.park(host, held)
        return host.reserved

    def _pass_by(self) -> None:
        """Nothing moves any more: who fits goes now, although a more urgent host that does not fit waits before it."""
        refused: set[tuple[object, ...]] = set()
        for host in self.admission.parked():
            alike = (id(host.draw.shares), host.draw.tier, host.boot_slots, host.group.name, host.draw.amps)
            if not host.may_go or host.reserved or alike in refused:
                continue
            held = self.admission.held_back(host, self._now, passing=True)
            if held is not None:
                refused.add(alike)
                if held != host.parked:
                    self.admission.park(host, held)  # its meter may have to be read first
                continue
            host.parked = None
            self._admit_one(host, passing=True)

    def _switch_on(self, host: HostState) -> None:
        """The next step of an admitted host: the power-on, after a reading where none that said off is left."""
        deadline_t = (host.admitted_t if host.admitted_t is not None else self._now) + host.group.deadlines.power
        if host.read_off_t is None:
            self._read(host, deadline_t, admit=True)
        elif host.group.boot_device is BootDevice.NONE:
            self._start(host, K_POWER_ON, deadline_t)
        else:
            self._start(host, K_POWER_ON, deadline_t, device=host.group.boot_device.value)

    # -- redeploy ---------------------------------------------------------------------

    def _redeploy(self, host: HostState) -> None:
        group = host.group
        reason, detail = host.last
        if reason is R_OUTSIDE_SITE or reason is R_NO_SECRET:
            self._quarantine(host, reason, detail)
        elif host.redeploy_attempts >= group.attempts.redeploy:
            self._quarantine(host, reason, detail)
        elif host.redeploy_t is not None and self._now >= host.redeploy_t + group.deadlines.redeploy:
            self._quarantine(host, R_REDEPLOY_DEADLINE, detail)
        elif self._now < host.next_t:
            self._later(host, host.next_t)
        else:
            breaker = self.admission.breaker(host)
            if breaker is not None:
                self.admission.park(host, breaker)
            else:
                self._slices.add(host, self._now)

    def _redeploy_groups(self, groups: Iterable[str]) -> None:
        if self.state.paused:
            return
        for order in self._slices.form(groups, self._now):
            args: dict[str, Scalar] = {
                "playbook": order.playbook,
                "forks": order.forks,
                "timeout_s": self.plan.groups[order.group].deadlines.redeploy,
            }
            intent = Intent(self._now, self.state.next_id, K_REDEPLOY, order.group, order.attempt, order.hosts, args)
            self._emit(intent)
