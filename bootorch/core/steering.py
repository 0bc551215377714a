"""Steering: what the words of a person about a whole run, or about single hosts, mean to the state.

Functions over ``State``, called by its fold only. What may be said when is in ``core.words`` and ``core.hostwords``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootorch.core import change
from bootorch.core.events import Aborted, BreakerReset, Continued, Lifted, Paused, Quarantined, Retried, Skipped
from bootorch.core.hoststate import Ending
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason

if TYPE_CHECKING:
    from bootorch.core.hoststate import HostState
    from bootorch.core.state import State


def said_by(event: Aborted | Quarantined | Skipped) -> str:
    return f"said by {event.by}" + (f": {event.why}" if event.why else "")


# -- the run ---------------------------------------------------------------------


def paused(state: State, event: Paused) -> None:
    if not state.paused:
        state.paused_t = event.t
    state.paused = event.by


def continued(state: State, event: Continued) -> None:
    if state.paused:
        look_again(state, event.t)


def look_again(state: State, t: float, *, still_paused: bool = False) -> None:
    """Nobody has looked for a while: what was read before is old, and deadlines do not count a pause."""
    since_t = state.paused_t if state.paused else t
    state.paused_t = t
    if not still_paused:
        state.paused = ""
    for host in state.hosts.values():
        host.next_t = 0.0
        host.tries = 0
        host.parked = None
        host.asked_t = None
        # The off reading before a power-on has to stand for the down that nobody was there to see.
        host.saw_down = host.saw_down or (host.on_t is not None and not host.cycled)
        # An off reading from before is no longer fresh. The next word is news, even if it says the same.
        host.read_off_t = None
        host.answer = host.watched = ()
        if t > since_t and host.outcome is None:
            host.stage_t += t - max(host.stage_t, since_t)
            if host.admitted_t is not None:
                host.admitted_t += t - max(host.admitted_t, since_t)
            if host.redeploy_t is not None:
                host.redeploy_t += t - max(host.redeploy_t, since_t)
    state.wake_all()


def aborted(state: State, event: Aborted) -> None:
    """Hosts that are up, or blocked, have what they have; but should they come undone, they are not begun again."""
    if state.paused:
        look_again(state, event.t)  # stages can only end where somebody looks
    state.aborted = event.by
    detail = f"aborted, {said_by(event)}"
    for host in state.hosts.values():
        if host.ending is None or host.ending.abort:
            after = host.stage if host.outcome is None and not event.at_once else None
            host.ending = Ending(Outcome.SKIPPED, detail, abort=True, after=after)
    state.wake_all()


def _goes_on(state: State) -> None:
    """Somebody wants more of a run that was aborted: who was not left out by that may begin again."""
    if state.aborted:
        state.aborted = ""
        for host in state.hosts.values():
            if host.ending is not None and host.ending.abort and host.outcome is not Outcome.SKIPPED:
                host.ending = None


# -- hosts ---------------------------------------------------------------------


def ended(state: State, event: Quarantined | Skipped, outcome: Outcome) -> None:
    """A host that is blocked stays so; should its turn come after all, the word is carried out then."""
    ending = Ending(outcome, said_by(event))
    for name in event.hosts:
        host = state.hosts[name]
        if host.outcome in change.UP and outcome is Outcome.QUARANTINED:
            change.unsettle(state, host)
        if host.outcome is None or host.outcome is Outcome.BLOCKED:
            host.ending = ending
            state.dirty[host] = None


def lifted(state: State, event: Lifted) -> None:
    _goes_on(state)
    again = []
    for name in event.hosts:
        host = state.hosts[name]
        if host.outcome is None or host.outcome is Outcome.BLOCKED:
            host.ending = None  # it was not carried out yet: what is under way goes on
            state.dirty[host] = None
        elif host.outcome not in change.UP:
            host.ending = None
            again.append(name)
    change.reopen(state, again, event.t)


def retried(state: State, event: Retried) -> None:
    _goes_on(state)
    again = [name for name in event.hosts if may_be_retried(state.hosts[name])]
    for name in again:
        state.hosts[name].ending = None
    change.reopen(state, again, event.t)


def may_be_retried(host: HostState) -> bool:
    """It failed by itself, or the end of the run came first. Who was set aside by a person waits to be lifted."""
    if host.outcome is Outcome.QUARANTINED:
        return host.reason is not Reason.OPERATOR
    return host.outcome is Outcome.SKIPPED and host.ending is not None and host.ending.abort


# -- breakers ---------------------------------------------------------------------


def breaker_reset(state: State, event: BreakerReset) -> None:
    if event.scope:
        _forgive(state, event.scope)
    else:
        forgive_all(state)


def _forgive(state: State, scope: str) -> None:
    """Failures so far are forgiven to what the breaker watches; a class shares its counts with all others."""
    state.tripped.pop(scope, None)
    state.freed["breaker", scope] = None
    kind, _, value = scope.partition(":")
    if kind == "group" and value in state.groups:
        group = state.groups[value]
        group.failed_base = group.failed
        forgiven = [state.hosts[name] for name in group.group.hosts]
    elif kind == "model":
        state.model_failed.pop(value, None)
        forgiven = [host for host in state.hosts.values() if host.host.model == value]
    else:
        state.clusters.forgive()
        forgiven = list(state.hosts.values())
    for host in forgiven:
        host.blamed = False


def forgive_all(state: State) -> None:
    """As if every breaker had been reset, and those that have not tripped as well."""
    for scope in list(state.tripped):
        _forgive(state, scope)
    for group in state.groups.values():
        group.failed_base = group.failed
    state.model_failed.clear()
    state.clusters.forgive()
    for host in state.hosts.values():
        host.blamed = False
