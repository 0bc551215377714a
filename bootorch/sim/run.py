"""A run in virtual time: the engine of real runs, a simulated world, and a clock that jumps to what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from bootorch.core.engine import Engine
from bootorch.core.events import Event, FeedLost, FeedReturned, GateOpened, Intent, RunEnded, RunStarted
from bootorch.sim.world import World

Listener = Callable[[Sequence[Event]], None]


class Simulation:
    """One run, step by step. ``now`` is virtual run time in seconds; the wall clock stays empty: none was looked at."""

    def __init__(self, engine: Engine, world: World, script: Iterable[Event] = ()) -> None:
        """``script``: what people will do, each at its ``t`` (run seconds): limits set, feeds lost, gates opened."""
        self.engine = engine
        self.world = world
        self.now = engine.state.t
        self._under_way: list[tuple[float, int, Intent]] = []
        self._script = sorted(script, key=lambda event: -event.t)

    def start(
        self, seed: int, limit: str = "", selected: tuple[str, ...] = (), *, wall: str = "", open_gates: bool = True
    ) -> list[Event]:
        """Begin. With ``open_gates``, gates that ask a person are taken as answered: what comes after them is shown."""
        plan = self.engine.plan
        events: list[Event] = [
            RunStarted(
                self.now, "dry-run", plan.name, plan.digest, len(plan.hosts), seed, wall, "dry run", limit, selected
            ),
            *(GateOpened(self.now, gate.name, "dry run") for gate in plan.gates.values() if gate.ask and open_gates),
        ]
        for event in events:
            self.engine.apply(event)
        for feed in self.engine.state.lost:
            self.world.power_lost(feed, self.now)
        return events

    def step(self) -> list[Event]:
        """Decide, then jump to the next answer or timer. Empty when nothing will ever happen again."""
        engine, world, under_way, now = self.engine, self.world, self._under_way, self.now
        events = engine.decide(now)
        for event in events:
            if type(event) is Intent:
                heappush(under_way, (world.ends_at(event, now), event.id, event))
        state = engine.state
        timers = state.timers if not state.paused else ()
        if engine.unfinished:
            moment = now
        elif under_way:
            moment = under_way[0][0]
            if timers and timers[0][0] < moment:
                moment = timers[0][0]
        elif timers:
            moment = timers[0][0]
        elif self._script:
            moment = self._script[-1].t
        else:
            return events
        if not state.unsettled or (state.paused and not state.open):
            return events
        if self._script and self._script[-1].t < moment:
            moment = self._script[-1].t
        if moment > now:
            now = self.now = moment
        while under_way and under_way[0][0] <= now:
            intent = heappop(under_way)[2]
            answer = engine.answer(intent, now, *world.finish(intent, now))
            state.fold(answer)
            events.append(answer)
        while self._script and self._script[-1].t <= now:
            events.append(self._happens(replace(self._script.pop(), t=now)))
        return events

    def _happens(self, event: Event) -> Event:
        """Somebody, or the electricity company, did something."""
        self.engine.apply(event)
        if isinstance(event, FeedLost):
            self.world.power_lost(event.feed, self.now)
        elif isinstance(event, FeedReturned):
            self.world.power_returned(event.feed, self.now)
        return event

    def interrupted(self) -> list[Intent]:
        """What is under way at this moment: lost when the process ends here."""
        return [intent for _, _, intent in sorted(self._under_way)]

    def to_come(self) -> list[Event]:
        """What of the script has not happened yet."""
        return self._script[::-1]

    def verdict(self) -> str:
        """As the engine's, but that a script may still change what stands still."""
        verdict = self.engine.verdict()
        return "" if verdict == "stopped" and self._script else verdict

    def finish(self, listener: Listener) -> RunEnded:
        """To the end, keeping nothing: each turn's events are told and forgotten."""
        state, step = self.engine.state, self.step
        while True:
            events = step()
            if events:
                listener(events)
            if (not state.unsettled or state.paused or not state.open) and (verdict := self.verdict()):
                end = RunEnded(self.now, verdict, "")
                self.engine.apply(end)
                listener([end])
                return end

    def run(self, listener: Listener | None = None) -> Iterator[Event]:
        """All events to the end, the last one ``RunEnded``."""
        while not (verdict := self.verdict()):
            events = self.step()
            if listener is not None:
                listener(events)
            yield from events
        end = RunEnded(self.now, verdict, "")
        self.engine.apply(end)
        yield end
