"""Where the hosts of a run are, as counters that follow the events: an event costs the hosts that it names.

``Tally`` stands beside a ``State`` and is told every event after it was folded. A view that wants totals every second
reads them off here and looks at no host.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bootorch.core.dependencies import Leader, Status
from bootorch.core.events import (
    Adapted,
    Admitted,
    Answer,
    BootFailed,
    Continued,
    Event,
    GateOpened,
    Intent,
    Kind,
    LimitSet,
    Paused,
    RunEnded,
    RunResumed,
    RunStarted,
    Settled,
    TierSet,
    Tripped,
)
from bootorch.core.hoststate import HostState
from bootorch.core.model import Outcome
from bootorch.core.state import State
from bootorch.core.timeline import Phase, phase_of, touched

# Events that move the hosts they name, and events that move none. Whatever else there is may move any host.
_NAMED = frozenset({Intent, Answer, Settled, BootFailed, Admitted})
_NOBODY = frozenset({Adapted, GateOpened, LimitSet, Paused, RunEnded, RunResumed, TierSet, Tripped})
_UP = frozenset({Outcome.READY, Outcome.ADOPTED})

Place = tuple[Outcome | None, Phase | None]
Class = tuple[str, str, str]  # outcome (or "dark"), reason (or the feed), and what a blocked or skipped host says


@dataclass(slots=True)
class GroupTally:
    """One group: hosts by outcome, those without one by phase. Times are run seconds."""

    size: int
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    phases: dict[Phase, int] = field(default_factory=dict)
    began_s: float | None = None  # first exchange
    done_s: float | None = None  # last outcome, once every host has one


@dataclass(slots=True)
class Members:
    """Hosts that ended badly alike, or that are dark alike. ``version`` rises with every change."""

    hosts: dict[str, None] = field(default_factory=dict)
    version: int = 0


class Tally:
    """``tell`` it every event after it is folded into ``state``; read the rest at any time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._at: dict[str, tuple[Place, Class | None]] = {}
        self._waits: dict[int, tuple[Status, str]] = {}
        self.groups = {name: GroupTally(group.size) for name, group in state.groups.items()}
        self.classes: dict[Class, Members] = {}
        self.started: RunStarted | None = None
        self.resumes = 0
        self.paused_why = ""
        self.tripped_t: dict[str, float] = {}
        self.gate_said: dict[str, str] = {}  # what a gate's check said last
        self.power_ons = 0
        self.cycles = 0
        self._recount()

    def tell(self, event: Event) -> None:
        self.recall(event)
        kind = type(event)
        if kind in _NAMED:
            for name in touched(event):
                self._note(name)
            if isinstance(event, Settled):
                self._let_go(event.host)
        elif kind not in _NOBODY:
            self._recount()

    def recall(self, event: Event) -> None:
        """Take from an event what no state remembers. Enough for the events that a state was made of before."""
        match event:
            case Intent(kind=Kind.POWER_ON):
                self.power_ons += 1
            case Intent(kind=Kind.POWER_CYCLE):
                self.cycles += 1
            case Answer(kind=Kind.GATE_CHECK):
                self.gate_said[event.target] = event.detail
            case RunStarted():
                self.started = event
            case RunResumed():
                self.resumes += 1
                self.paused_why = ""
            case Paused():
                self.paused_why = event.why
            case Continued():
                self.paused_why = ""
            case Tripped():
                self.tripped_t[event.scope] = event.t
            case _:
                pass

    def _let_go(self, settled: str) -> None:
        """Who waited for the host may be held back by something else now."""
        for wait in self._state.dependencies.counting(settled, self._state.hosts[settled].group.name):
            now = (wait.status, wait.chosen if isinstance(wait, Leader) else "")
            if self._waits.get(id(wait)) != now:
                self._waits[id(wait)] = now
                for name in wait.children:
                    self._note(name)

    def _recount(self) -> None:
        self._waits.clear()  # any of them may be otherwise now
        for name in self._state.hosts:
            self._note(name)

    def _note(self, name: str) -> None:
        state = self._state
        host = state.hosts[name]
        outcome = host.outcome
        place: Place = (outcome, None) if outcome is not None else (None, phase_of(host))
        alike = _class_of(host) if host.dark or outcome is not None else None
        before = self._at.get(name)
        group = self.groups[host.group.name]
        if group.began_s is None:
            group.began_s = host.started_t
        if before is not None:
            if before[0] == place and before[1] == alike:
                return
            _count(group, before[0], -1)
            if before[1] is not None:
                self._leave(before[1], name)
        _count(group, place, 1)
        if alike is not None:
            members = self.classes.setdefault(alike, Members())
            members.hosts[name] = None
            members.version += 1
        self._at[name] = place, alike
        counts = state.groups[host.group.name]
        if counts.settled < counts.size:
            group.done_s = None  # a part of it belongs to the run again
        elif group.done_s is None:
            group.done_s = max(state.hosts[member].settled_t for member in counts.group.hosts)

    def _leave(self, alike: Class, name: str) -> None:
        members = self.classes[alike]
        del members.hosts[name]
        members.version += 1
        if not members.hosts:
            del self.classes[alike]


def _count(group: GroupTally, place: Place, more: int) -> None:
    outcome, phase = place
    if outcome is not None:
        group.outcomes[outcome] = group.outcomes.get(outcome, 0) + more
    elif phase is not None:
        group.phases[phase] = group.phases.get(phase, 0) + more


def _class_of(host: HostState) -> Class | None:
    outcome = host.outcome
    if outcome is None:
        return ("dark", host.dark, "")
    if outcome in _UP:
        return None
    return (outcome.value, host.reason.value, "" if outcome is Outcome.QUARANTINED else host.detail)
