"""What a run shows while it goes: plain lines, the stream of events, the display."""

from __future__ import annotations

import io
import time

import pytest

from bootorch.core.codec import decode
from bootorch.core.events import Event
from bootorch.core.state import State
from bootorch.ui.live import LiveProgress
from bootorch.ui.news import held_back
from bootorch.ui.progress import Both, EventStream, PlainProgress
from tests.ui.example import demo_plan, demo_world
from tests.ui.services import batches
from tests.ui.world import World


@pytest.fixture(scope="module")
def demo() -> tuple[World, list[Event]]:
    world = demo_world()
    return world, world.run()


def play(world: World, events: list[Event], observer: PlainProgress | LiveProgress | EventStream) -> State:
    state = State(world.plan)
    for batch in batches(events):
        for event in batch:
            state.fold(event)
        observer.on_events(batch, state)
    return state


def test_plain_lines_say_what_changed_and_fold_it(demo: tuple[World, list[Event]]) -> None:
    world, events = demo
    stream = io.StringIO()
    with PlainProgress(stream, tick_s=3600) as progress:
        play(world, events, progress)
    lines = stream.getvalue().splitlines()
    assert "   0:00  run 20260301-0400: lab-cold-boot, 60 hosts" in lines
    assert "   0:25  gate stable-power opened by kim: voltage steady for 10 min" in lines
    assert any(line.endswith("switch: all 4 ready") for line in lines)
    assert any("quarantined  web07  bmc_unreachable: no answer from" in line for line in lines)
    assert any("adopted, was on already  db03" in line for line in lines)
    assert any("power-on again, attempt 2  web11" in line for line in lines)
    assert any("redeploy again  web19  task_failed" in line for line in lines)
    assert any(line.endswith("web: settled, 34 of 36 ready") for line in lines)
    assert lines[-1].endswith("run ended: incomplete")
    assert len(lines) < 40  # sixty hosts, six stages: told by what they mean
    assert "\x1b" not in stream.getvalue()


def test_lines_come_without_a_further_event(demo: tuple[World, list[Event]]) -> None:
    world, events = demo
    stream = io.StringIO()
    with PlainProgress(stream, tick_s=0.01) as progress:
        play(world, events[:1], progress)
        deadline = time.monotonic() + 5
        while not stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "lab-cold-boot" in stream.getvalue()


def test_a_closed_gate_is_news_once() -> None:
    world = World(demo_plan())  # nobody approves
    events = world.run()
    stream = io.StringIO()
    progress = PlainProgress(stream, tick_s=3600)
    progress.on_events(events, world.engine.state)  # the engine's own state: it knows who is parked
    progress.tick()
    progress.on_events([], world.engine.state)
    progress.tick()
    assert stream.getvalue().count("held back by gate stable-power: Who attests stable power?") == 1
    assert held_back(world.engine.state) == {("gate", "stable-power"): 4}


def test_a_silent_hour_still_says_where_the_run_stands() -> None:
    world = World(demo_plan())
    events = world.run()
    stream = io.StringIO()
    progress = PlainProgress(stream, tick_s=3600, heartbeat_s=0.0)
    progress.on_events(events, world.engine.state)
    progress.tick()
    before = stream.getvalue()
    progress.tick()
    said = stream.getvalue().removeprefix(before)
    assert "0 of 60 settled" in said
    assert "56 wait" in said
    assert "4 held by gate stable-power" in said


def test_the_stream_can_be_read_back(demo: tuple[World, list[Event]]) -> None:
    world, events = demo
    stream = io.StringIO()
    play(world, events, EventStream(stream))
    read = [decode(line) for line in stream.getvalue().splitlines()]
    assert [(type(a), a.t) for a in read] == [(type(b), b.t) for b in events]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_display_draws_and_leaves_a_clean_terminal(
    demo: tuple[World, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, events = demo
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    half = len(events) // 2
    with LiveProgress(stream, tick_s=3600) as display:
        state = play(world, events[:half], display)
        display.tick()
        middle = stream.getvalue()
        for event in events[half:]:
            state.fold(event)
        display.on_events(events[half:], state)
    assert "hall-a" in middle
    assert "web" in middle
    text = stream.getvalue()
    assert "\x1b[?25l" in text  # hidden cursor ...
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # ... and back
    assert "quarantined" in text


def test_the_outlook_is_a_line_once_and_again_when_it_changes() -> None:
    """Lines of a log tell when the run is expected to be done; observers that show no outlook are left alone."""
    stream = io.StringIO()
    world = demo_world(stop_t=60.0)
    state = State(world.plan)
    shown = PlainProgress(stream, heartbeat_s=1e9)
    both = Both([shown, EventStream(io.StringIO())])
    for event in world.run():
        state.fold(event)
    both.on_events([], state)
    for words in ("done at about 15:20, at worst 15:45", "done at about 15:20, at worst 15:45", "done at about 15:30"):
        both.on_outlook(words)
        shown.tick()
    said = [line.strip().split("  ", 1)[1] for line in stream.getvalue().splitlines() if "done at" in line]
    assert said == ["done at about 15:20, at worst 15:45", "done at about 15:30"]
