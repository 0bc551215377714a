"""The loop of a real run: decide, commit, then act.

One turn: fold the answers that came, let the engine decide, commit everything in one transaction, tell the observers,
and only then start the effects. So an intent is on disk before its first packet, and the number of syncs follows the
number of turns, not of events. If the commit fails, nothing of that turn leaves.

Every commit is conditional on the run's lease. A process that was away (stopped, suspended with the machine, held up by
a disk) for longer than the lease lets go of everything that was under way, and goes on as a resumed run does: nothing
that was decided before is sent after. If somebody has taken the run meanwhile, it ends (``lease.Fenced``).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from bootorch.core import words
from bootorch.core.changes import choices
from bootorch.core.codec import encode
from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput
from bootorch.core.events import Aborted, Event, Intent, Paused
from bootorch.core.recovery import close_interrupted, resume
from bootorch.core.state import State
from bootorch.core.words import Select
from bootorch.runtime.awake import AwakeClock
from bootorch.runtime.executor import Executor, Result
from bootorch.runtime.journal import Journal
from bootorch.runtime.keeper import Keeper
from bootorch.runtime.lease import Lease

# How often words from other processes are looked for: what is said has effect within a second, however busy the loop.
COMMAND_POLL_S = 0.25
SUSPENDED_S = 1.0  # a suspend of the machine; its clocks differ by less for other reasons
CLOSE_S = 10.0  # cancelled effects must let go of sockets and processes within this


class Observer(Protocol):
    def on_events(self, events: Sequence[Event], state: State) -> None: ...


class Runner:
    """Drives one run to its verdict: ``done``, ``aborted``, ``stopped``, ``paused`` or ``interrupted``."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        executor: Executor,
        observer: Observer,
        clock: AwakeClock,
        lease: Lease,
        keeper: Keeper,
        *,
        wait_gates: bool,
        stay: bool,
        by: str,
        select: Select,
        news: Callable[[float], Sequence[Event]] = lambda _: (),
    ) -> None:
        """``clock`` gives run time in seconds, continuing where the state stands. The executor asks the same lease.
        ``stay``: a paused run waits for the word to go on, instead of ending resumable. ``select`` reads the host
        patterns of orders. ``news`` is asked with every
        look for commands what else happened, such as to the journal's mirror: events of the time that it is given."""
        self._engine = engine
        self._journal = journal
        self._executor = executor
        self._observer = observer
        self._clock = clock
        self._lease = lease
        self._wait_gates = wait_gates
        self._stay = stay
        self._by = by
        self._news = news
        self._select = select
        self._ended: asyncio.Queue[tuple[Intent, Result]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leave = False
        self._abandon = False  # what is under way is not waited for any more
        self._words: list[Event] = []  # of a signal: they have their turn with the answers
        self._keeper = keeper
        self._changes = keeper.changes
        self._taken: dict[int, dict[str, str]] = {}  # command -> what is said to it, with the next commit
        self._wake = asyncio.Event()

    async def run(self, first: Sequence[Event] = ()) -> str:
        """``first``: what this process has folded and committed before the loop starts, for the observer."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            self._observer.on_events(first, self._engine.state)
            return await self._loop()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            await self._cancel_all()

    async def _loop(self) -> str:
        engine = self._engine
        heard_t = self._clock() - COMMAND_POLL_S  # what was said while the process began comes before the first packet
        now = self._clock()
        while True:
            if not self._lease.holds() or self._clock.suspended_s() > SUSPENDED_S:
                await self._woken(now)
            now = self._clock()
            events = self._answers(now)
            if self._abandon:
                self._abandon = False
                events += close_interrupted(engine, now, "left under way by bootorch abort --now")
            for word in self._words:
                self._fold(word, events)
            self._words.clear()
            if now - heard_t >= COMMAND_POLL_S:
                heard_t = now
                self._hear(now, events)
                for word in self._news(now):
                    self._fold(word, events)
            decided = engine.decide(now)
            for event in decided:
                self._changes.fold(event)
            events += decided
            self._keeper.tell(events)
            status = self._keeper.due(now, last=self._leave)
            if events or self._taken or status is not None or self._lease.due():
                self._journal.append(events, taken=self._taken, status=status, guard=self._lease.renew)
            self._taken.clear()
            if events:
                self._observer.on_events(events, engine.state)
            for event in events:
                if isinstance(event, Intent):
                    self._start(event)
            verdict = engine.verdict()
            if self._leave:
                return "paused" if verdict == "paused" else "interrupted"
            if verdict and self._ended.empty() and not self._waits_for_a_word(verdict):
                return verdict
            if any(isinstance(event, Aborted) and event.at_once for event in events):
                # The word is on disk and answered; playbooks and their hosts' sessions end before the rest is settled.
                await self._cancel_all()
                self._abandon = True
                continue
            await self._sleep(now)

    def _answers(self, now: float) -> list[Event]:
        events: list[Event] = []
        while not self._ended.empty():
            intent, result = self._ended.get_nowait()
            if intent.id not in self._engine.state.open:
                continue  # it was let go of
            data, verdicts = dict(result.data), dict(result.verdicts)
            answer = self._engine.answer(intent, now, result.reason, result.detail, data, verdicts)
            self._engine.apply(answer)
            events.append(answer)
        return events

    async def _woken(self, t: float) -> None:
        """The process was away since run time ``t``. What was under way ends here, with nothing more sent, because it
        was decided about a world of long ago; what had its answer before that keeps it."""
        await self._cancel_all()
        gap_s = self._clock.wake(t)
        events = self._answers(t)
        wall = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        events += resume(self._engine, t, gap_s, wall, self._by, asleep=True)
        self._keeper.tell(events)
        self._journal.append(events, status=self._keeper.due(t), guard=self._lease.reassume)
        self._observer.on_events(events, self._engine.state)

    def _start(self, intent: Intent) -> None:
        async def perform() -> None:
            result = await self._executor.perform(intent)
            self._ended.put_nowait((intent, result))
            self._wake.set()

        task = asyncio.create_task(perform(), name=f"{intent.kind} {intent.target}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sleep(self, now: float) -> None:
        """Until an answer, a word, the engine's next timer, or the next look for commands."""
        timer_t = self._engine.next_timer()
        wait_s = COMMAND_POLL_S if timer_t is None else min(COMMAND_POLL_S, max(0.0, timer_t - now))
        if self._ended.empty() and wait_s > 0:
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)
        self._wake.clear()

    def _waits_for_a_word(self, verdict: str) -> bool:
        """A person's word is all that is missing (go on, a gate, a first member), and the operator waits with us."""
        state = self._engine.state
        if verdict == "paused":
            return self._stay
        if verdict != "stopped" or not self._wait_gates:
            return False
        asked = any(kind == "gate" for kind, _ in self._engine.admission.waiting())
        return asked or next(choices(state), None) is not None

    def _fold(self, word: Event, events: list[Event]) -> None:
        self._engine.apply(word)
        self._changes.fold(word)
        events.append(word)

    def _hear(self, now: float, events: list[Event]) -> None:
        """Take the commands of other processes: each becomes an event of this turn, or is told why not."""
        for ident, command in self._journal.heard():
            try:
                self._taken[ident] = self._obey(command, now, events)
            except InvalidInput as error:
                self._taken[ident] = {"status": "invalid", "problems": words.pack_problems(error.problems)}
            except (ValueError, KeyError, TypeError) as error:
                # Another process's words, perhaps of another version: no reason to stop the run.
                said = f"not understood ({error}): said by another bootorch?"
                self._taken[ident] = {"status": "refused", "said": said}

    def _obey(self, command: Mapping[str, str], now: float, events: list[Event]) -> dict[str, str]:
        """``effective`` with what holds now and the event, ``already``, or ``refused`` as the run stands. Raises where
        it cannot be meant for this plan."""
        state = self._engine.state
        said = words.event(words.unpack(command["order"]), self._changes, self._select)
        try:
            event, already = words.consider(replace(said, t=now), self._changes, state)
        except InvalidInput as error:
            why = "; ".join(f"{problem.message}: {problem.remedy}" for problem in error.problems)
            return {"status": "refused", "said": why}
        if already:
            return {"status": "already", "said": already}
        unsettled = state.unsettled
        self._fold(event, events)
        told = words.told(event, self._changes, state, state.unsettled - unsettled)
        return {"status": "effective", "said": told, "event": encode(event)}

    def _signalled(self, number: int) -> None:
        """First: finish what is under way and start nothing. Second, or SIGTERM: leave at once, resumable."""
        state = self._engine.state
        if number == signal.SIGTERM or state.paused or state.aborted or self._words:
            self._leave = True
        else:
            self._words.append(Paused(self._clock(), self._by, "Ctrl-C"))
        self._wake.set()

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
