"""What an engine can do to one host, whatever the stage: give it an outcome, start an exchange, look again later."""

from __future__ import annotations

from collections.abc import Mapping

from bootorch.core.admission import Admission
from bootorch.core.events import (
    READ_ONLY,
    Event,
    Intent,
    Kind,
    Scalar,
    Settled,
)
from bootorch.core.hoststate import HostState
from bootorch.core.members import (
    K_EVIDENCE,
    K_POWER_CYCLE,
    K_POWER_ON,
    K_POWER_READ,
    O_QUARANTINED,
    R_OK,
    S_POWER,
    S_WAIT,
)
from bootorch.core.model import Outcome
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.state import State

# Longest that one exchange may take before its driver gives it up, in seconds.
EXCHANGE_S: dict[Kind, float] = {
    Kind.POWER_READ: 10.0,  # a login is 8 packets; FreeIPMI gives a session 20 s, ipmitool 4 tries a packet
    Kind.POWER_ON: 20.0,  # the state, the boot option and the power-on, in one session
    Kind.POWER_CYCLE: 15.0,
    Kind.EVIDENCE: 20.0,  # a log of 500 records at 30 ms each; more of it than that is not worth a wait
    Kind.BOOT_PROBE: 10.0,  # a login on a host whose disks are still busy
    Kind.READY_CHECK: 30.0,
    Kind.VERIFY_CHECK: 30.0,
    Kind.METER: 10.0,
}
# Arguments of exchanges: thousands that are under way say the same, and nothing changes an event.
_TOLD: Mapping[Kind, Mapping[str, Scalar]] = {kind: {"timeout_s": limit_s} for kind, limit_s in EXCHANGE_S.items()}
FRESH_S = 15.0  # a power state older than this is read again before acting on it (Azure AU East 2023: stale requests)
SILENT_TRIES = 4  # silence after the user's name may be a wrong user or lost packets: a little more patience

# Nothing that time heals: end at once rather than at the deadline.
FATAL = frozenset(
    {
        Reason.OUTSIDE_SITE,
        Reason.NO_SECRET,
        Reason.BMC_NO_SUITE,
        Reason.BMC_ROGUE,
        Reason.BMC_AUTH_FAILED,  # the driver has tried the password twice already: accounts lock
        Reason.HOST_KEY,
    }
)


def hopeless(host: HostState) -> bool:
    """The last answer is one that asking again will not change, or must not."""
    reason, _ = host.last
    return reason in FATAL or (reason is Reason.BMC_SILENT_AUTH and host.tries >= SILENT_TRIES)


class Acting:
    """The means of a decision. Every event that it makes is folded at once and handed out by ``decide``."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.state = state
        self.admission = Admission(plan, state)
        self._out: list[Event] = []
        self._now = 0.0
        self._told: dict[tuple[object, ...], Mapping[str, Scalar]] = {}  # as ``_TOLD``, where there is more to say

    def _emit(self, event: Event) -> None:
        self.state.fold(event)
        self._out.append(event)

    def _settle(self, host: HostState, outcome: Outcome, reason: Reason = R_OK, detail: str = "") -> None:
        settled = Settled(self._now, host.name, outcome, reason, detail)
        self.state.settle(settled, host)
        self._out.append(settled)

    def _quarantine(self, host: HostState, reason: Reason, detail: str) -> None:
        self._settle(host, O_QUARANTINED, reason, detail)

    def _start(self, host: HostState, kind: Kind, deadline_t: float, **args: Scalar) -> None:
        state, now = self.state, self._now
        durable = (
            kind not in READ_ONLY
            or (host.stage is S_WAIT and "survey" not in args)  # its own turn, after it was read ahead
            or "admit" in args
            or host.watched != state.watch_key(host, kind)
        )
        limit_s = EXCHANGE_S[kind]
        told: Mapping[str, Scalar]
        if now + limit_s > deadline_t:
            told = {**args, "timeout_s": round(max(1.0, deadline_t - now), 1)}
        elif not args:
            told = _TOLD[kind]
        elif kind is K_EVIDENCE:
            told = {**args, "timeout_s": limit_s}
        else:
            key = (kind, *args.items())
            told = self._told.get(key) or self._told.setdefault(key, {**args, "timeout_s": limit_s})
        if kind is K_POWER_ON:
            attempt = host.on_attempts + 1
        elif kind is K_POWER_CYCLE:
            attempt = host.boots + 1
        else:
            attempt = host.tries + 1
        intent = Intent(now, state.next_id, kind, host.name, attempt, (), told, durable)
        state.begin(intent, host)
        self._out.append(intent)

    def _later(self, host: HostState, t: float) -> None:
        """Look at the host again at ``t``."""
        if host.timer_t != t:
            host.timer_t = t
            self.state.timers.push(t, host.name, host)

    def _poll(self, host: HostState, kind: Kind, deadline_t: float) -> None:
        """Start the exchange, or come back when it is due."""
        if self.state.paused:
            return
        if self._now < host.next_t:
            self._later(host, min(host.next_t, deadline_t))
        elif (slot := self.admission.login_slot()) is not None:
            self.admission.park(host, slot)
            self._later(host, deadline_t)
        else:
            self._start(host, kind, deadline_t)

    def _read(self, host: HostState, deadline_t: float, **args: Scalar) -> None:
        """Read the power state as soon as the BMC's subnet has a free slot."""
        if self.state.paused:
            return
        slot = self.admission.bmc_slot(host)
        if slot is not None:
            self.admission.park(host, slot)
        else:
            self._start(host, K_POWER_READ, deadline_t, **args)

    def _examine(self, host: HostState) -> None:
        """What does its BMC know of the failure? Asked once, for a while; no answer changes only what is known."""
        if self.state.paused:
            return
        slot = self.admission.bmc_slot(host)
        if slot is not None:
            self.admission.park(host, slot)
            return
        since_s = self._now + self.state.gap_s - host.on_real_t
        if host.stage is S_POWER and host.on_t is not None and host.admitted_t is not None:
            since_s += host.on_t - host.admitted_t  # all power-ons were in vain: since the first
        self._start(host, K_EVIDENCE, self._now + EXCHANGE_S[K_EVIDENCE], since_s=round(since_s, 1))
