"""What a person may say of single hosts of a run, and of the run as a whole, as it stands at this moment.

The other half of ``core.words``: these words hang on outcomes, which only the running process knows for certain.
``narrow`` leaves those hosts for which a word makes a difference; ``check_run`` says the same of words about the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bootorch.core.clusters import scopes_of
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.events import (
    Aborted,
    BreakerReset,
    Continued,
    Lifted,
    OfHosts,
    Paused,
    Quarantined,
    Retried,
    ScopeAdded,
    Skipped,
)
from bootorch.core.hoststate import HostState
from bootorch.core.model import Outcome
from bootorch.core.nodesets import fold
from bootorch.core.steering import may_be_retried

if TYPE_CHECKING:
    from bootorch.core.state import State

Word = TypeVar("Word", bound=OfHosts)
OfRun = Paused | Continued | Aborted | BreakerReset
MOST_NAMES = 200  # characters of folded names in a sentence

_UP = (Outcome.READY, Outcome.ADOPTED)
_VERBS: Mapping[type[OfHosts], str] = {
    Quarantined: "quarantine", Skipped: "skip", Lifted: "lift", Retried: "retry",
}  # fmt: skip


def names(hosts: Iterable[str], most: int = MOST_NAMES) -> str:
    """Folded, and no longer than a line or two."""
    text = fold(hosts)
    return text if len(text) <= most else text[:most] + " …"


# -- words about hosts ---------------------------------------------------------------------


def _ends(host: HostState, outcome: Outcome) -> bool:
    return host.ending is not None and host.ending.outcome is outcome and not host.ending.abort


def _may_be_quarantined(host: HostState) -> bool:
    open_to_it = host.outcome in (None, Outcome.BLOCKED, *_UP)
    return open_to_it and not _ends(host, Outcome.QUARANTINED)


def _may_be_skipped(host: HostState) -> bool:
    return host.outcome in (None, Outcome.BLOCKED) and (host.ending is None or host.ending.abort)


def _may_be_lifted(host: HostState) -> bool:
    said = host.ending is not None and not host.ending.abort and host.outcome not in _UP
    return said or host.outcome is Outcome.QUARANTINED


_FITS: Mapping[type[OfHosts], Callable[[HostState], bool]] = {
    Quarantined: _may_be_quarantined, Skipped: _may_be_skipped, Lifted: _may_be_lifted, Retried: may_be_retried,
}  # fmt: skip


def narrow(event: Word, state: State) -> tuple[Word, str]:
    """The event with the hosts for which it makes a difference (without any named: of all hosts), and an empty text; or
    why that is so of all of them already. Raises InvalidInput where the word does not fit what they are."""
    refuse_while_aborting(event, state)
    asked = tuple(name for name in event.hosts or state.hosts if state.in_scope(name))
    if not asked:
        remedy = f"bootorch scope add {event.pattern} takes them in"
        raise InvalidInput(Problem("outside --limit: they are no part of this run", event.pattern, remedy, event.hosts))
    fits = _FITS[type(event)]
    found = tuple(name for name in asked if fits(state.hosts[name]))
    if found:
        return replace(event, hosts=found), ""
    if not event.hosts:
        return event, "no host has failed"
    return event, _already(event, [state.hosts[name] for name in asked])


def _already(event: OfHosts, hosts: list[HostState]) -> str:
    """Why the word changes nothing for any of the hosts. Raises InvalidInput where another word is meant."""
    whom, verb = names(host.name for host in hosts), _VERBS[type(event)]
    standing = ", ".join(dict.fromkeys(map(_standing, hosts)))
    is_are = "is" if len(hosts) == 1 else "are"
    match event:
        case Quarantined():
            if all(host.outcome is Outcome.QUARANTINED or _ends(host, Outcome.QUARANTINED) for host in hosts):
                return f"{whom} {is_are} quarantined already: {standing}"
            remedy = "nothing is sent to a host that is skipped; bootorch lift takes it back"
        case Skipped():
            if all(host.outcome is Outcome.SKIPPED or _ends(host, Outcome.SKIPPED) for host in hosts):
                return f"{whom} {is_are} skipped already: {standing}"
            remedy = "only what has no outcome yet can be skipped; bootorch quarantine sets aside what is up"
        case Lifted():
            return f"{whom} {is_are} not set aside: {standing}"
        case _:
            by_person = [host for host in hosts if _may_be_lifted(host)]
            if by_person:
                remedy = f"a person set it aside, and a person takes it back: bootorch lift {event.pattern}"
            elif any(host.outcome is Outcome.BLOCKED for host in hosts):
                remedy = "retry what failed, and what is blocked by it follows: bootorch retry"
            else:
                return f"no host of {whom} has failed: {standing}"
    raise InvalidInput(Problem(f"cannot {verb} {whom}: {standing}", event.pattern, remedy))


def _standing(host: HostState) -> str:
    if host.outcome is None:
        return host.ending.detail if host.ending is not None else f"in stage {host.stage}"
    detail = host.detail if host.outcome not in _UP else ""
    return f"{host.outcome}" + (f" ({detail})" if detail else "")


def effect(event: OfHosts, state: State, reopened: int) -> str:
    """What has come of it, folded already. ``reopened``: hosts that have no outcome any more."""
    hosts = [state.hosts[name] for name in event.hosts]
    whom = f"{names(event.hosts)} ({len(hosts):,})" if len(hosts) > 1 else names(event.hosts)
    match event:
        case Quarantined() | Skipped():
            word = "quarantined" if isinstance(event, Quarantined) else "skipped"
            busy = sum(1 for host in hosts if host.inflight)
            blocked = sum(1 for host in hosts if host.outcome is Outcome.BLOCKED)
            said = f"{whom} {word}: nothing more is sent"
            said += f"; {busy:,} of them after what is under way has ended" if busy else ""
            said += f"; {blocked:,} of them stay blocked, and have no turn" if blocked else ""
            return said
        case Lifted():
            going = len(hosts) - reopened
            said = f"{whom} lifted: "
            return said + ("what is under way goes on" if going >= len(hosts) else "looked at anew")
        case _:
            more = reopened - len(hosts)
            said = f"{whom} tried again" + (f", and {more:,} that were blocked because of them" if more > 0 else "")
            for scope, count in _held(state, hosts).items():
                said += f"; {count:,} of them held by the breaker {scope}: bootorch breaker reset {scope}"
            return said


def _held(state: State, hosts: list[HostState]) -> dict[str, int]:
    """Hosts that a tripped breaker holds, by its scope."""
    counts: dict[str, int] = {}
    for host in hosts if state.tripped else ():
        own = (f"group:{host.group.name}", f"model:{host.host.model}", *scopes_of(host.host))
        if scope := next((scope for scope in own if scope in state.tripped), ""):
            counts[scope] = counts.get(scope, 0) + 1
    return counts


# -- words about the run ---------------------------------------------------------------------


def check_run(event: OfRun, state: State) -> str:
    """Empty where the event changes something; else why it is so already. Raises InvalidInput where it cannot be."""
    match event:
        case Paused():
            refuse_while_aborting(event, state)
            return f"the run is paused already, by {state.paused}" if state.paused else ""
        case Continued():
            return "" if state.paused else "the run goes on already"
        case Aborted():
            waits = any(host.ending is not None and host.ending.after is not None for host in state.hosts.values())
            again = state.aborted and not (event.at_once and waits)
            return f"the run is being aborted already, by {state.aborted}" if again else ""
        case BreakerReset():
            if not state.tripped:
                return "no breaker has tripped"
            if event.scope and event.scope not in state.tripped:
                remedy = f"those that have: {', '.join(sorted(state.tripped))}"
                raise InvalidInput(Problem(f"no breaker {event.scope!r} has tripped", "breaker", remedy))
            return ""


def refuse_while_aborting(event: OfHosts | Paused | ScopeAdded, state: State) -> None:
    """A run that is being aborted begins nothing, and has to end."""
    if state.aborted and state.unsettled and isinstance(event, Paused | Lifted | Retried | ScopeAdded):
        remedy = "when it has ended: bootorch resume RUN --set retry"
        raise InvalidInput(Problem(f"the run is being aborted, by {state.aborted}", "", remedy))


def run_effect(event: OfRun, state: State) -> str:
    """What has come of it, folded already."""
    under_way = len(state.open)
    exchanges = "1 effect" if under_way == 1 else f"{under_way:,} effects"
    match event:
        case Paused():
            return "the run is paused" + (f" when {exchanges} under way have ended" if under_way else "")
        case Continued():
            return "the run goes on"
        case Aborted(at_once=True):
            return f"the run ends now: {exchanges} under way are left as they are" if under_way else "the run ends now"
        case Aborted():
            left = sum(1 for host in state.hosts.values() if host.outcome is None)
            return f"the run ends: no host begins another stage, {left:,} may finish the one they are in"
        case BreakerReset():
            return f"breaker {event.scope} is reset" if event.scope else "every breaker is reset"
