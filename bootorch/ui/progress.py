"""What a run shows while it goes: plain lines when something changes meaning, or NDJSON of its events.

``bootorch.ui.live`` is the same on a terminal, with a display that stays in place.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from bootorch.core.codec import encode
from bootorch.core.events import Event
from bootorch.core.limits import Resource
from bootorch.core.state import State
from bootorch.core.timeline import phase_of
from bootorch.ui.lines import Lines, clock
from bootorch.ui.news import News, held_back, held_words, settled_share
from bootorch.ui.services import Observer, OutlookObserver

FLUSH_S = 1.0  # lines come at most once a second, what came together in it folded
HEARTBEAT_S = 60.0  # a log that is silent for longer than a minute reads like a hang


class Both:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_events(self, events: Sequence[Event], state: State) -> None:
        for observer in self._observers:
            observer.on_events(events, state)

    def on_outlook(self, words: str) -> None:
        for observer in self._observers:
            if isinstance(observer, OutlookObserver):
                observer.on_outlook(words)


class EventStream:
    """One JSON object per event and line (``core.codec``), as the events are committed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def on_events(self, events: Sequence[Event], state: State) -> None:
        del state
        for event in events:
            self._stream.write(encode(event) + "\n")
        self._stream.flush()


class Ticking(ABC):
    """A view that is drawn by a thread of its own, once in a while, so that ``on_events`` returns at once."""

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)
        self.lock = threading.Lock()
        self.outlook = ""  # when the run is expected to be done

    def on_outlook(self, words: str) -> None:
        with self.lock:
            self.outlook = words

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.tick()

    def _loop(self) -> None:
        while not self._stop.wait(self._tick_s):
            self.tick()

    @abstractmethod
    def tick(self) -> None:
        """Draw."""


class PlainProgress(Ticking):
    """Lines with the run's time in front, for logs and pipes."""

    def __init__(self, stream: TextIO, tick_s: float = FLUSH_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        super().__init__(tick_s)
        self._stream = stream
        self._heartbeat_s = heartbeat_s
        self._news = News()
        self._wrote = time.monotonic()
        self._state: State | None = None
        self._foretold = ""

    def on_events(self, events: Sequence[Event], state: State) -> None:
        with self.lock:
            self._state = state
            for event in events:
                self._news.tell(event, state)

    def tick(self) -> None:
        """Write what is new; after a long silence, where the run stands."""
        with self.lock:
            state = self._state
            if state is None:
                return
            held = held_back(state)
            self._news.held(held, state)
            now = time.monotonic()
            if self.outlook != self._foretold and not state.ended:
                self._foretold = self.outlook
                self._foretell(state)
            if self._news.pending:
                self._write()
                self._wrote = now
            elif now - self._wrote >= self._heartbeat_s and not state.ended:
                self._heartbeat(state, held)
                self._wrote = now

    def _write(self) -> None:
        lines = Lines()
        for t, pieces in self._news.take():
            lines.add((f"{clock(t):>7}  ", "dim"), *pieces)
        lines.write(self._stream)

    def _foretell(self, state: State) -> None:
        lines = Lines()
        lines.add((f"{clock(state.t):>7}  ", "dim"), self.outlook)
        lines.write(self._stream)

    def _heartbeat(self, state: State, held: dict[Resource, int]) -> None:
        counts: dict[str, int] = {}
        for host in state.hosts.values():
            if host.outcome is None:
                phase = phase_of(host)
                counts[phase] = counts.get(phase, 0) + 1
        parts = [settled_share(state), *(f"{count:,} {phase}" for phase, count in counts.items())]
        lines = Lines()
        lines.add((f"{clock(state.t):>7}  ", "dim"), ", ".join([*parts, *held_words(held)]))
        lines.write(self._stream)
