"""A run on a terminal: one display that stays in place, drawn a few times a second by a thread of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bootorch.core.events import Event
from bootorch.core.model import Outcome
from bootorch.core.state import State
from bootorch.core.tally import GroupTally, Tally
from bootorch.core.timeline import Phase
from bootorch.ui.lines import STYLES, Piece, clock, watts
from bootorch.ui.news import News, held_back, held_words, settled_share
from bootorch.ui.progress import Ticking

TICK_S = 0.25
BAR_CELLS = 32
NEWS_LINES = 6
MOST_GROUPS = 24  # rows of a usual terminal; groups that have something going on come first
MOST_FEEDS = 4

# From settled to untouched: the order of a bar from left to right.
BAR: Sequence[tuple[Outcome | Phase, str]] = (
    (Outcome.READY, "green"),
    (Outcome.ADOPTED, "cyan"),
    (Outcome.QUARANTINED, "red"),
    (Outcome.BLOCKED, "yellow"),
    (Outcome.SKIPPED, "bright_black"),
    (Phase.VERIFY, "bright_green"),
    (Phase.REDEPLOY, "magenta"),
    (Phase.READY, "bright_cyan"),
    (Phase.BOOT, "blue"),
    (Phase.POWER, "bright_white"),
    (Phase.HELD, "bright_yellow"),
    (Phase.BMC, "white"),
)
_NOW = (Phase.BMC, Phase.HELD, Phase.POWER, Phase.BOOT, Phase.READY, Phase.REDEPLOY, Phase.VERIFY)


class LiveProgress(Ticking):
    """Groups with bars, feeds against their budgets, what holds hosts back, and the last lines worth reading."""

    def __init__(self, stream: TextIO, tick_s: float = TICK_S) -> None:
        super().__init__(tick_s)
        self._console = Console(file=stream, highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._news = News()
        self._last: deque[Text] = deque(maxlen=NEWS_LINES)
        self._tally: Tally | None = None
        self._state: State | None = None
        self._stamp = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._live.stop()

    def on_events(self, events: Sequence[Event], state: State) -> None:
        with self.lock:
            if self._tally is None or self._state is not state:
                self._tally, self._state = Tally(state), state
            for event in events:
                self._news.tell(event, state)
                self._tally.tell(event)
            self._stamp = time.monotonic()

    def tick(self) -> None:
        """Draw the display. Lines about what went wrong also stay above it, for scrolling back."""
        with self.lock:
            state, tally = self._state, self._tally
            if state is None or tally is None:
                return
            held = held_back(state)
            self._news.held(held, state)
            for t, pieces in self._news.take():
                line = _text(((f"{clock(t):>7}  ", "dim"), *pieces))
                self._last.append(line)
                if _worth_keeping(pieces):
                    self._console.print(line, soft_wrap=True)
            page = Group(*self._page(state, tally, held))
        self._live.update(page, refresh=True)

    def _page(self, state: State, tally: Tally, held: dict[tuple[str, str], int]) -> Iterator[Text | Table]:
        now = state.t if state.ended else state.t + time.monotonic() - self._stamp
        yield Text.assemble(
            "\n",
            (state.plan.name, "bold"),
            f"  {state.plan.environment}  run {state.run_id}  ",
            (clock(now), "bold"),
            f"  {settled_share(state)}",
            (f"  paused by {state.paused}" if state.paused else "", "bold yellow"),
            (f"  aborted by {state.aborted}" if state.aborted else "", "bold red"),
            (f"  {self.outlook}" if self.outlook and not state.ended else "", "bold"),
        )
        yield _groups(state, tally, now)
        yield from _feeds(state)
        words = list(held_words(held))
        if words:
            yield Text.assemble(("held  ", "bold"), "; ".join(words))
        for gate in state.plan.gates.values():
            if gate.name not in state.gates_open:
                yield Text.assemble(("gate  ", "bold yellow"), f"{gate.name} is closed: {gate.ask or 'its check'}")
        for line in self._last:
            text = line.copy()
            text.truncate(max(20, self._console.width - 1), overflow="ellipsis")
            yield text


def _worth_keeping(pieces: Sequence[Piece]) -> bool:
    style = "" if isinstance(pieces[0], str) else pieces[0][1]
    return style in (STYLES["quarantined"], STYLES["blocked"], "bold red", "bold yellow")


def _text(pieces: Sequence[Piece]) -> Text:
    return Text.assemble(*pieces)


def _groups(state: State, tally: Tally, now: float) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for column in range(6):
        table.add_column(justify="right" if column in (3, 4) else "left", no_wrap=True)
    names = [(wave, name) for wave, groups in enumerate(state.plan.waves) for name in groups]
    for wave, name in _shown(names, tally, state):
        group = tally.groups[name]
        size = group.size
        ready = group.outcomes.get(Outcome.READY, 0) + group.outcomes.get(Outcome.ADOPTED, 0)
        table.add_row(
            Text(f"{wave}", style="dim"),
            Text(name, style="bold"),
            _bar(group),
            Text(f"{ready:,}/{size:,}", style="green" if ready == size else ""),
            Text(_took(group, now), style="dim"),
            _now(group),
        )
    if len(names) > MOST_GROUPS:
        table.add_row("", Text(f"… {len(names) - MOST_GROUPS} more groups", style="dim"))
    return table


def _shown(names: list[tuple[int, str]], tally: Tally, state: State) -> list[tuple[int, str]]:
    """The groups that fit, in plan order: those at work, then those that wait, then those that are done."""
    if len(names) <= MOST_GROUPS:
        return names

    def rank(item: tuple[int, str]) -> int:
        group = state.groups[item[1]]
        if group.settled == group.size:
            return 2
        return 1 if tally.groups[item[1]].phases.get(Phase.WAIT, 0) == group.size else 0

    chosen = set(sorted(names, key=rank)[:MOST_GROUPS])
    return [item for item in names if item in chosen]


def _took(group: GroupTally, now: float) -> str:
    if group.began_s is None:
        return ""
    return clock((now if group.done_s is None else group.done_s) - group.began_s)


def _bar(group: GroupTally) -> Text:
    """A bar of fixed length; what is there at all gets at least one cell."""
    bar = Text()
    used = 0
    for place, style in BAR:
        count = group.outcomes.get(place, 0) if isinstance(place, Outcome) else group.phases.get(place, 0)
        if count:
            cells = min(max(1, round(count / group.size * BAR_CELLS)), BAR_CELLS - used)
            bar.append("━" * cells, style=style)
            used += cells
    bar.append("╌" * (BAR_CELLS - used), style="bright_black")
    return bar


def _now(group: GroupTally) -> Text:
    """Where the hosts are that have no outcome, and how many ended badly."""
    text = Text()
    for phase in _NOW:
        if count := group.phases.get(phase, 0):
            text.append(f"{count:,} {phase}  ")
    for outcome in (Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.SKIPPED):
        if count := group.outcomes.get(outcome, 0):
            text.append(f"{count:,} {outcome}  ", style=STYLES[outcome])
    return text


def _feeds(state: State) -> Iterator[Text]:
    draws = state.feeds.draw_watts()
    budgets = ((name, state.feeds.limit(name)[0]) for name in draws)
    limited = [(draws[name] / budget, name, budget) for name, budget in budgets if budget]
    if state.lost:
        yield Text.assemble(("dark  ", "bold red"), ", ".join(state.lost))
    for share, name, budget in sorted(limited, reverse=True)[:MOST_FEEDS]:
        cells = min(BAR_CELLS, round(share * BAR_CELLS))
        yield Text.assemble(
            ("feed  ", "bold"),
            f"{name}  ",
            ("━" * cells, "yellow" if share > 0.9 else "blue"),
            ("╌" * (BAR_CELLS - cells), "bright_black"),
            f"  {watts(draws[name])} of {watts(budget)} ({share:.0%})",
        )
