"""A run in virtual time: the engine of real runs, a simulated world, and a clock that jumps to what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import inf

from bootorch.core import hostwords
from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput
from bootorch.core.events import (
    Aborted,
    BreakerReset,
    Continued,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    OfHosts,
    Paused,
    RunEnded,
    RunStarted,
    ScopeAdded,
)
from bootorch.core.recovery import close_interrupted
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
        self._script = sorted(script, key=lambda event: event.t)[::-1]  # what comes next is last

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
        state = engine.state
        asked = state.asked
        for event in events:
            if type(event) is Intent:
                place = asked[event.id].place if event.id in asked else None
                heappush(under_way, (world.ends_at(event, now, place), event.id, event))
        timer_t = state.timers.first_t if not state.paused else inf
        if engine.unfinished:
            moment = now
        elif under_way:
            moment = under_way[0][0]
            if timer_t < moment:
                moment = timer_t
        elif timer_t < inf:
            moment = timer_t
        elif self._script:
            moment = self._script[-1].t
        else:
            return events
        if not state.unsettled:
            return events
        if self._script and self._script[-1].t < moment:
            moment = self._script[-1].t
        if moment > now:
            now = self.now = moment
        while under_way and under_way[0][0] <= now:
            intent = heappop(under_way)[2]
            place = asked[intent.id].place if intent.id in asked else None
            answer = engine.answer(intent, now, *world.finish(intent, now, place))
            state.fold(answer)
            events.append(answer)
        while self._script and self._script[-1].t <= now:
            events += self.say(self._script.pop())
        return events

    def say(self, event: Event) -> list[Event]:
        """Somebody, or the electricity company, does something now. As in a real run, what cannot be said has no
        effect, and an abort at once leaves what is under way; every other effect of it had already happened."""
        said, now = self._taken(replace(event, t=self.now)), self.now
        if said is None:
            return []
        self.engine.apply(said)
        if isinstance(said, FeedLost):
            self.world.power_lost(said.feed, now)
        elif isinstance(said, FeedReturned):
            self.world.power_returned(said.feed, now)
        elif isinstance(said, Aborted) and said.at_once:
            for _, ident, intent in self._under_way:
                if ident % 2 and intent.kind in (Kind.POWER_ON, Kind.POWER_CYCLE):
                    self.world.finish(intent, now)
            self._under_way.clear()
            return [said, *close_interrupted(self.engine, now)]
        return [said]

    def _taken(self, event: Event) -> Event | None:
        """The event as a running process would fold it; None where it would refuse it, or it is so already."""
        state, already = self.engine.state, ""
        try:
            if isinstance(event, OfHosts):
                event, already = hostwords.narrow(event, state)
            elif isinstance(event, Paused | Continued | Aborted | BreakerReset):
                already = hostwords.check_run(event, state)
            elif isinstance(event, ScopeAdded):
                hostwords.refuse_while_aborting(event, state)
        except InvalidInput:
            return None
        return None if already else event

    def interrupted(self) -> list[Intent]:
        """What is under way at this moment: lost when the process ends here."""
        return [intent for _, _, intent in sorted(self._under_way)]

    def to_come(self) -> list[Event]:
        """What of the script has not happened yet."""
        return self._script[::-1]

    def verdict(self) -> str:
        """As the engine's, but that a script may still change what stands still."""
        verdict = self.engine.verdict()
        return "" if verdict in ("stopped", "paused") and self._script else verdict

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
