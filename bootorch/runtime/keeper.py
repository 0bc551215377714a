"""Keeps the status of a run that goes on (``core.standing``), as the journal takes it (``runtime.standing``).

At most once a second, and it costs the run groups and feeds, not hosts. Written in full when a process lets go of the
run, so that of an ended or paused run nothing is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from bootorch.core.changes import CHANGES, Changes
from bootorch.core.events import Adapted, Event, Paused, RunResumed, RunStarted, Tripped
from bootorch.core.standing import Standing
from bootorch.core.state import State
from bootorch.core.tally import Tally
from bootorch.runtime.standing import SCHEMA

EVERY_S = 1.0  # after an event that is journalled
QUIET_S = 10.0  # where nothing is: what is in flight changes, and that the run is alive is worth a line

# What no state remembers: a keeper of a resumed run is told these, and how often power was switched.
REMEMBERED: tuple[type[Event], ...] = (RunStarted, RunResumed, Paused, Tripped, Adapted, *CHANGES)


class Keeper:
    """Beside one run's loop: told what was folded, asked with every commit for what is to be kept with it."""

    def __init__(self, state: State, past: Iterable[Event] = (), power_ons: int = 0, cycles: int = 0) -> None:
        """``past``: of the events that led to ``state``, those of ``REMEMBERED`` (or all, without the counts)."""
        self.changes = Changes(state.plan)  # folded by the caller: some of them have to be before they are committed
        self._state = state
        self._outlook = ("", 0.0)
        self._tally = Tally(state)
        for event in past:
            self._tally.recall(event)
            self.changes.fold(event)
        self._tally.power_ons += power_ons
        self._tally.cycles += cycles
        self._standing = Standing(state, self._tally, self.changes)
        self._written_s: float | None = None
        self._durable = True  # something journalled has happened since the last writing

    def tell(self, events: Iterable[Event]) -> None:
        """Right after they were folded."""
        for event in events:
            self._tally.tell(event)
            self._durable = self._durable or getattr(event, "durable", True)

    def foretell(self, outlook: str) -> None:
        """When the run is expected to be done, in words. From any thread."""
        self._outlook = outlook, self._state.t

    def due(self, now: float, *, last: bool = False) -> str | None:
        """The document to write with this commit, or None. ``last``: this process lets go of the run."""
        since_s = now - self._written_s if self._written_s is not None else QUIET_S
        if not last and since_s < (EVERY_S if self._durable else QUIET_S):
            return None
        self._written_s = now
        self._durable = False
        document = {"schema": SCHEMA, **self._standing.document(*self._outlook, whole=last)}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
