"""What the answer to an effect means to the state: functions over ``State``, called by its fold only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootorch.core import change
from bootorch.core.events import READ_ONLY, Answer, Intent
from bootorch.core.hoststate import METERS, NO_ANSWER, HostState
from bootorch.core.limits import OFF, STEADY
from bootorch.core.members import (
    K_BOOT_DEVICE,
    K_BOOT_PROBE,
    K_EVIDENCE,
    K_FEED_METER,
    K_GATE_CHECK,
    K_METER,
    K_POWER_CYCLE,
    K_POWER_ON,
    K_POWER_READ,
    K_READY_CHECK,
    K_REDEPLOY,
    K_VERIFY_CHECK,
    R_BMC_LOST,
    R_DARK,
    R_INTERRUPTED,
    R_OK,
    R_REDEPLOY_DEADLINE,
    R_SLICE_LOST,
    R_STALE_BOOT,
    R_TASK_FAILED,
    R_UNREACHABLE,
    S_BMC,
    S_BOOT,
    S_POWER,
    S_READY,
    S_REDEPLOY,
    S_VERIFY,
    S_WAIT,
)
from bootorch.core.model import SshCheck
from bootorch.core.reasons import Reason
from bootorch.core.retry import backoff_s, jitter, look_s, poll_s

if TYPE_CHECKING:
    from bootorch.core.state import State

# A host's boot may be timed by a clock that started a little before ours saw the intent committed; two seconds also
# cover the granularity of /proc/uptime on slow reads. Anything older was up before the request.
UPTIME_SLACK_S = 2.0
FIRST_LOOK_S = 0.2  # most chassis read on at once after an accepted power-on; later looks follow ``poll_s``
SURVEY_CAP_S = 60.0  # a waiting host's BMC that does not answer is asked once a minute in the end: nobody waits for it
DEPLOY_OVERLOAD = 0.2  # share of a slice: single hosts fail for themselves, many at once for their servers
DEPLOY_LEAST = 2  # one failed host is no overload


def answer(state: State, event: Answer) -> None:
    intent = state.open.pop(event.id, None)
    kind = event.kind
    if kind is K_REDEPLOY:
        _slice_answer(state, event, intent)
        return
    if kind is K_GATE_CHECK:
        _gate_answer(state, event)
        return
    if kind is K_FEED_METER:
        _feed_metered(state, event)
        return
    host = state.asked.pop(event.id, None) or state.hosts[event.target]
    host.inflight = 0
    state.dirty[host] = None
    if host.held:
        state.give_back(host, keep=host.boot_slots)
    if kind is K_POWER_READ and intent is not None and "survey" in intent.args:
        state.surveys -= 1
        state.free("slot", "survey")
    if event.id < host.void_id:
        return  # it was asked before the electricity went: whatever it said is history
    if kind is K_EVIDENCE:
        # Looked at once, and whatever came of it the host goes on: no attempt, no failure, no new latest answer.
        host.examined = event.reason is not R_INTERRUPTED
        host.symptoms = event.data
        return
    if kind is K_METER:
        _metered(state, host, event)
        return
    reason, t = event.reason, event.t
    ok = reason is R_OK
    if ok:
        host.last = NO_ANSWER if not event.detail else (reason, event.detail)
        host.tries = 0
    else:
        host.last = (reason, event.detail)
        host.tries += 1
        if reason is R_BMC_LOST and host.bmc_slot and state.slots.adaptive(host.bmc_slot):
            state.overloads.append((host.bmc_slot, intent.t if intent is not None else t, 1, f"{host.name} was lost"))
    if event.durable and kind in READ_ONLY:
        state.said(host, event)
    if kind is K_POWER_READ:
        _power_read(state, host, event, ok)
    elif kind is K_BOOT_PROBE:
        _boot_probe(state, host, event, ok)
    elif kind is K_POWER_ON:
        _power_on_ended(state, host, event, ok)
    elif kind is K_READY_CHECK:
        if ok:
            _after_ready(state, host, t)
        else:
            _look_again(state, host, event)
    elif kind is K_VERIFY_CHECK:
        host.proven = ok
        if not ok:
            _look_again(state, host, event)
    elif kind is K_BOOT_DEVICE:
        host.next_t = t if ok else _backoff(state, host, t)  # in journals of older versions: now a part of the power-on
    elif kind is K_POWER_CYCLE:
        host.boots -= reason is R_INTERRUPTED  # perhaps it never left: a boot that fails then is not held against it
        host.enter(S_BOOT, t)
    else:
        raise AssertionError(kind)


def _gate_answer(state: State, event: Answer) -> None:
    state.asking.discard(event.target)
    if event.reason is R_OK:
        state.gates_open[event.target] = "check"
        state.freed["gate", event.target] = None
        return
    tries = state.gate_tries[event.target] = state.gate_tries.get(event.target, 0) + 1
    state.gate_next_t[event.target] = event.t + backoff_s(tries, first_s=1.0, cap_s=15.0, jittered=1.0)
    state.wake_at(state.gate_next_t[event.target])


def _feed_metered(state: State, event: Answer) -> None:
    feed = event.target
    state.asking.discard(feed)
    meter = state.plan.limits.feeds[feed].meter
    every_s = meter.every_s if meter is not None else 0.0
    state.meter_next_t[feed] = event.t + every_s
    state.wake_at(event.t + every_s, METERS)
    state.meter_timers += 1
    if event.reason is R_OK:
        watts = float(event.data["watts"])
        state.feeds.metered(feed, watts, event.t)
        if event.durable:
            state.meter_said[feed] = watts
    else:
        state.feeds.metered(feed, None, event.t)
    state.freed["feed", feed] = None


def _metered(state: State, host: HostState, event: Answer) -> None:
    host.metered = event.reason is not R_INTERRUPTED
    if event.reason is R_OK and (watts := float(event.data["watts"])) > 0:
        live = tuple(feed for feed in host.host.feeds if not change.lost_by(state, feed)) or host.host.feeds
        state.reshare(host, live, watts)


def _power_on_ended(state: State, host: HostState, event: Answer, ok: bool) -> None:
    """Accepted, or perhaps so: a look soon, and time to have an effect. Refused: a look after a pause."""
    if event.data.get("sent") is False:
        _unsent(state, host, event, ok)
        return
    host.switched_on = True
    host.next_t = event.t + FIRST_LOOK_S if ok else _backoff(state, host, event.t)
    if event.reason is R_INTERRUPTED:
        # Perhaps it never left. bootorch may be killed any number of times: that uses up neither attempts nor time.
        host.on_attempts -= 1
        host.admitted_t = event.t
    _hinted(state, host, event)
    host.on_refused = None if ok else (event.reason, event.detail)
    if ok or event.reason in (R_BMC_LOST, R_INTERRUPTED):
        limits = host.group.deadlines.power / host.group.attempts.power
        host.resend_t = (host.on_t if host.on_t is not None else event.t) + limits
    else:
        host.resend_t = host.next_t


def _power_read(state: State, host: HostState, event: Answer, ok: bool) -> None:
    t = event.t
    waiting = host.stage is S_WAIT
    if not ok:
        if host.on_t is None and host.reserved:
            state.release(host)  # admitted, but not switched on: the next admission takes them again
        host.next_t = _backoff(state, host, t, SURVEY_CAP_S if waiting else 15.0)
        _hinted(state, host, event)
        return
    host.power = str(event.data["power"])
    host.read_t = t
    host.surveyed = True
    if host.power == "off":
        host.read_off_t = t
        if host.stage in (S_WAIT, S_BMC) and (host.adopted or host.draw.level != OFF):
            host.adopted = False  # it was on (or may have been, before it was retried), and is not any more
            state.release(host)
        if host.unbooted and host.boots < host.group.attempts.boot:
            # The server fell back to off: the next boot may begin, from a clean count.
            host.unbooted = None
            host.boots += 1
            host.retries += 1
            host.on_attempts = 0
            host.on_t = None
            host.admitted_t = None
            state.release(host)
            host.enter(S_POWER, t)
        elif host.stage is S_BMC:
            host.enter(S_POWER, t)
        elif host.stage is S_POWER and host.on_t is not None:
            host.next_t = t + poll_s(t - host.on_t, _jitter(state, host))
            _hinted(state, host, event)
        return
    _reads_on(state, host, event)


def _reads_on(state: State, host: HostState, event: Answer) -> None:
    t = event.t
    host.read_off_t = None
    if host.on_t is None:
        # On without our doing: adopted, verified, never cycled. Its draw counts from now on.
        # A boot of ours that was given up may still go on: it counts as it did until it is proven.
        host.adopted = True
        if host.reserved or host.draw.level < STEADY:
            state.release(host)
            state.feeds.hold(host.draw, STEADY)
    elif host.stage is S_POWER:
        for step_t in state.feeds.reads_on(host.draw, t):
            state.wake_at(step_t)
    if host.stage in (S_BMC, S_POWER):
        host.enter(S_BOOT, t)
        _hinted(state, host, event)


def _unsent(state: State, host: HostState, event: Answer, ok: bool) -> None:
    """Its BMC did not answer, or would not take the boot option, or said on: there was no power-on after all."""
    host.on_attempts -= 1
    host.retries -= host.on_attempts > 0
    host.on_t = host.on_before
    host.on_refused = None if ok else (event.reason, event.detail)
    power = event.data.get("power")
    if power == "on":
        host.power, host.read_t = "on", event.t
        _reads_on(state, host, event)
        return
    if power == "off":
        host.power, host.read_t, host.read_off_t = "off", event.t, event.t
    elif host.on_t is None:
        state.release(host)  # admitted, but not switched on: the next admission takes them again
    host.next_t = event.t if ok else _backoff(state, host, event.t)
    _hinted(state, host, event)


def _boot_probe(state: State, host: HostState, event: Answer, ok: bool) -> None:
    t = event.t
    if not ok:
        # A wrong answer is no down: an old boot may give it too.
        host.saw_down = host.saw_down or event.reason is R_UNREACHABLE
        _look_again(state, host, event)
        return
    if not host.adopted and not _fresh(state, host, event):
        host.last = (R_STALE_BOOT, "answers, but has been up since before the request")
        _look_again(state, host, event)
        return
    data = event.data
    if "boot_id" in data or "uptime_s" in data:
        uptime_s = data.get("uptime_s")
        host.proof = str(data.get("boot_id", "")), None if uptime_s is None else float(uptime_s)
    host.unbooted = None
    host.reserved = False
    state.feeds.hold(host.draw, STEADY)
    for slot in host.boot_slots:
        state.slots.success(slot)
        state.grown[slot] = None
    if host.held:
        state.give_back(host)
    state.free_feed(host.draw)
    checks = host.group.ready
    if host.group.proof_by_ssh and all(isinstance(check, SshCheck) for check in checks):
        _after_ready(state, host, t)  # the proof of boot was a verified login: the same check holds
    else:
        host.enter(S_READY, t)


def _fresh(state: State, host: HostState, event: Answer) -> bool:
    uptime_s = event.data.get("uptime_s")
    # Where only a wall clock told how long bootorch was away, it may be wrong by hours, and uptime proves nothing then.
    unsure = host.on_t is not None and host.on_t <= state.unsure_t
    if uptime_s is not None and not unsure:
        since_request_s = event.t + state.gap_s - host.on_real_t
        return float(uptime_s) <= since_request_s + UPTIME_SLACK_S
    return host.saw_down


def _after_ready(state: State, host: HostState, t: float) -> None:
    if host.redeploys and host.playbook < len(host.group.redeploy):
        host.enter(S_REDEPLOY, t)
    else:
        host.enter(S_VERIFY, t)
        host.proven = not (host.group.verify or host.playbook)


def _slice_answer(state: State, event: Answer, intent: Intent | None) -> None:
    slots: tuple[str, ...] = ()
    if intent is not None:
        forks = int(intent.args["forks"])
        slots = state.slice_slots(intent.hosts[0])
        state.groups[event.target].forks -= forks
        for slot in slots:
            state.slots.give(slot, forks)
            state.free("slot", slot)
    state.freed["slot", "forks"] = None
    state.dirty_groups[event.target] = None
    failed = 0
    for name, (word, detail) in event.verdicts.items():
        host = state.hosts[name]
        host.inflight = 0
        state.dirty[host] = None
        if event.id < host.void_id:
            continue
        reason = Reason(word)
        host.last = (reason, detail)
        if reason is R_OK:
            host.playbook += 1
            host.redeploy_attempts = 0
            if host.playbook == len(host.group.redeploy):
                host.enter(S_VERIFY, event.t)
                host.proven = False
            continue
        host.retries += 1
        failed += reason is R_TASK_FAILED or reason is R_DARK or event.reason is R_REDEPLOY_DEADLINE
        if reason is R_DARK:
            # Not the playbook's fault: back to waiting for SSH, and the attempt is not used up.
            host.dark_count += 1
            host.redeploy_attempts -= 1
            _read_back(host, event.t, event.t + 1.0)
        elif reason is R_INTERRUPTED:
            host.redeploy_attempts -= 1
            _read_back(host, event.t, event.t)
        else:
            wait_s = backoff_s(host.redeploy_attempts, first_s=2.0, cap_s=60.0, jittered=_jitter(state, host))
            host.next_t = event.t + wait_s
            if reason is R_SLICE_LOST and host.redeploy_attempts < host.group.attempts.redeploy:
                _read_back(host, event.t, host.next_t)
    for slot in slots:
        if state.slots.adaptive(slot) and intent is not None:
            forks = int(intent.args["forks"])
            if failed >= DEPLOY_LEAST and failed >= DEPLOY_OVERLOAD * len(event.verdicts):
                why = f"{failed} of {len(event.verdicts)} hosts of a slice of {event.target} failed"
                state.overloads.append((slot, intent.t, forks, why))
            elif not failed:
                state.slots.success(slot, forks)
                state.grown[slot] = None


def _read_back(host: HostState, t: float, next_t: float) -> None:
    """What its playbook has done is unknown: whether the host is there is looked at before it is run again."""
    host.stage = S_READY
    host.stage_t = t
    host.next_t = next_t


def _jitter(state: State, host: HostState) -> float:
    return jitter(state.seed, host.name, host.stage, host.tries, host.on_attempts)


def _backoff(state: State, host: HostState, t: float, cap_s: float = 15.0) -> float:
    return t + backoff_s(max(1, host.tries), first_s=1.0, cap_s=cap_s, jittered=_jitter(state, host))


def _look_again(state: State, host: HostState, event: Answer) -> None:
    hint = event.data.get("retry_after_s")
    if hint is not None:
        host.next_t = event.t + float(hint)
    elif host.on_t is not None and host.stage is S_BOOT:
        host.next_t = event.t + look_s(event.t - host.on_t, _jitter(state, host), host.host.boot_s)
    else:
        host.next_t = event.t + poll_s(event.t - host.stage_t, _jitter(state, host))


def _hinted(state: State, host: HostState, event: Answer) -> None:
    """Whoever was asked said when another look is worth while (as HTTP's Retry-After, RFC 9110, 10.2.3)."""
    hint = event.data.get("retry_after_s")
    if hint is not None and not host.unbooted:  # a failed boot is judged now, not when its BMC would like to
        host.next_t = max(host.next_t, event.t + float(hint))
