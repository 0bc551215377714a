"""The critical path: the chain of hosts whose waits and stages determined when the run ended."""

from __future__ import annotations

from dataclasses import dataclass

from bootorch.core.model import Outcome
from bootorch.core.timeline import Phase, Timeline, resource_title


@dataclass(frozen=True, slots=True)
class Leg:
    """One host's part of the path, from the moment it was let go until its own outcome let the next one go."""

    host: str
    group: str
    waited_for: str  # the dependency that let it go last; empty at the start of the run
    start_s: float
    end_s: float
    spans: tuple[tuple[Phase, float, float], ...]  # start to end without a hole
    held_by: tuple[str, ...]
    outcome: Outcome
    retries: int

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def critical_path(timeline: Timeline) -> tuple[Leg, ...]:
    """The legs from the start of the run to the last host that settled; empty while hosts are without an outcome.

    Shortening anything that is not on it would not have ended the run earlier.
    """
    state = timeline.state
    if state.unsettled or not state.hosts:
        return ()
    # A blocked or skipped host settles in the same instant as its cause: the cause is the end of the path.
    weight = {Outcome.BLOCKED: 0, Outcome.SKIPPED: 0}
    last = max(state.hosts.values(), key=lambda host: (host.settled_t, weight.get(host.outcome or Outcome.UNKNOWN, 1)))
    legs: list[Leg] = []
    name = last.host.name
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        host, track = state.hosts[name], timeline.tracks[name]
        before = state.hosts.get(track.released_by)
        start = before.settled_t if before is not None else 0.0
        spans = tuple((phase, max(start, a), b) for phase, a, b in track.spans(state.t) if b > start)
        waited_for = next(
            (wait.title for wait in state.dependencies.of[name] if track.released_by in wait.members),
            "",
        )
        legs.append(
            Leg(
                host=name,
                group=host.group.name,
                waited_for=waited_for,
                start_s=start,
                end_s=host.settled_t,
                spans=spans,
                held_by=tuple(dict.fromkeys(resource_title(r) for _, r in track.held if r[0] != "slice")),
                outcome=host.outcome or Outcome.UNKNOWN,
                retries=host.retries,
            )
        )
        name = track.released_by
    return tuple(reversed(legs))


def where_time_went(path: tuple[Leg, ...]) -> dict[Phase, float]:
    """Seconds of the critical path by phase, the longest first."""
    seconds: dict[Phase, float] = {}
    for leg in path:
        for phase, start, end in leg.spans:
            seconds[phase] = seconds.get(phase, 0.0) + end - start
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))
