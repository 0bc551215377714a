"""A run in virtual time: the engine of real runs, a simulated world, and a clock that jumps to what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from bootorch.core.engine import Engine
from bootorch.core.events import Event, GateOpened, Intent, RunEnded, RunStarted
from bootorch.sim.world import World

Listener = Callable[[Sequence[Event]], None]


class Simulation:
    """One run, step by step. ``now`` is virtual run time in seconds; the wall clock stays empty: none was looked at."""

    def __init__(self, engine: Engine, world: World) -> None:
        self.engine = engine
        self.world = world
        self.now = engine.state.t
        self._under_way: list[tuple[float, int, Intent]] = []

    def start(self, seed: int, limit: str = "", selected: tuple[str, ...] = ()) -> list[Event]:
        """Begin. Gates that ask a person are taken as answered: a dry run shows what comes after them."""
        plan = self.engine.plan
        events: list[Event] = [
            RunStarted(
                self.now, "dry-run", plan.name, plan.digest, len(plan.hosts), seed, "", "dry run", limit, selected
            ),
            *(GateOpened(self.now, gate.name, "dry run") for gate in plan.gates.values() if gate.ask),
        ]
        for event in events:
            self.engine.apply(event)
        return events

    def step(self) -> list[Event]:
        """Decide, then jump to the next answer or timer. Empty when nothing will ever happen again."""
        decided = self.engine.decide(self.now)
        for event in decided:
            if isinstance(event, Intent):
                heappush(self._under_way, (self.world.ends_at(event, self.now), event.id, event))
        timer_t = self.engine.next_timer()
        moments = [t for t in (timer_t, self._under_way[0][0] if self._under_way else None) if t is not None]
        if self.engine.verdict() or not moments:
            return decided
        self.now = max(self.now, min(moments))
        answers: list[Event] = []
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, intent = heappop(self._under_way)
            reason, detail, data, verdicts = self.world.finish(intent, self.now)
            answer = self.engine.answer(intent, self.now, reason, detail, data, verdicts)
            self.engine.apply(answer)
            answers.append(answer)
        return decided + answers

    def interrupted(self) -> list[Intent]:
        """What is under way at this moment: lost when the process ends here."""
        return [intent for _, _, intent in sorted(self._under_way)]

    def run(self, listener: Listener | None = None) -> Iterator[Event]:
        """All events to the end, the last one ``RunEnded``."""
        while not (verdict := self.engine.verdict()):
            events = self.step()
            if listener is not None:
                listener(events)
            yield from events
        end = RunEnded(self.now, verdict, "")
        self.engine.apply(end)
        yield end
