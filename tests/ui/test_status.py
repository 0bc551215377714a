"""Where a run stands, on a screen and as JSON: of one that goes on, is paused, was killed, has ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bootorch.core.events import Event, FeedLost, Paused, RunEnded, Tripped
from bootorch.core.state import State
from bootorch.runtime.keeper import Keeper
from bootorch.ui import status
from bootorch.ui.services import Status
from tests.ui.example import demo_world

RUN = Path("runs/lab 1")


def standing(*more: Event, running: bool = False, later: int = 0, outlook: str = "", **world: Any) -> Status:
    made = demo_world(**world)
    state = State(made.plan)
    keeper = Keeper(state)
    events = [*made.run(), *more]
    for event in events:
        state.fold(event)
        keeper.tell([event])
        keeper.changes.fold(event)
    keeper.foretell(outlook)
    document = json.loads(keeper.due(state.t, last=not running) or "")
    return Status(document, RUN, running, len(events), later, time.time() - 0.4)


def page(found: Status) -> str:
    return status.lines(found).plain()


def test_a_run_that_goes_on() -> None:
    found = standing(running=True, stop_t=330.0, outlook="done at about 14:01")
    text = page(found)
    assert text.startswith("lab-cold-boot · lab · run 20260301-0400 · running · 5:")
    assert "done at about 14:01" in text
    assert "in flight" in text
    assert f"{found.document['totals']['unknown']} unknown" in text
    assert "tier 0" in text
    assert f"as of event {found.event:,}, written at " in text
    assert "0.4 s ago" in text
    assert text.splitlines()[-1] == "next: bootorch pause 'runs/lab 1'"


def test_a_gate_is_told_with_how_to_approve_it() -> None:
    running = page(standing(running=True, stop_t=20.0))
    assert "gate  stable-power  Who attests stable power?  4 hosts held" in running
    assert "approve    bootorch gate approve 'runs/lab 1' stable-power --by PERSON" in running
    stopped = standing(RunEnded(20.0, "stopped", ""), stop_t=20.0)
    assert "approve    bootorch resume 'runs/lab 1' --approve stable-power=PERSON" in page(stopped)
    assert page(stopped).splitlines()[-1] == "next: bootorch resume 'runs/lab 1' --approve stable-power=PERSON"
    assert "stopped, can be resumed" in page(stopped)


def test_a_killed_run_says_how_many_events_it_does_not_show() -> None:
    text = page(standing(stop_t=330.0, later=57))
    assert "cut off: no process holds it; bootorch resume goes on" in text
    assert "57 events came after it: bootorch report shows them" in text
    assert "in flight" not in text, "nothing is: the process is gone"
    assert text.splitlines()[-1] == "next: bootorch resume 'runs/lab 1'"
    whole = page(standing(stop_t=330.0))
    assert "no event came after it" in whole


def test_a_run_whose_last_events_are_not_shown_is_not_called_done() -> None:
    assert "next: bootorch report" in page(standing())
    assert "next: bootorch resume" in page(standing(later=1))


def test_a_paused_run() -> None:
    paused = Paused(330.0, "kim", "smoke in hall a")
    assert "paused by kim (smoke in hall a) · 5:" in page(standing(paused, running=True, stop_t=330.0))
    ended = page(standing(paused, RunEnded(331.0, "paused", ""), stop_t=330.0))
    assert "paused by kim (smoke in hall a), can be resumed" in ended


def test_failures_breakers_and_the_dark() -> None:
    tripped = Tripped(600.0, "model:x1", "20 hosts of model x1 quarantined")
    text = page(standing(tripped, RunEnded(601.0, "stopped", ""), stop_t=600.0))
    assert "breaker  model:x1  20 hosts of model x1 quarantined, at 10:00" in text
    assert "quarantined  web07  bmc_unreachable: the BMC answers nothing" in text
    assert "next         Check that the rack has electricity" in text
    dark = standing(FeedLost(331.0, "hall-a", "lee", "fire"), running=True, stop_t=330.0)
    text = page(dark)
    assert "dark  feed hall-a since 5:31, said by lee: fire" in text
    assert f"({dark.document['dark'][0]['count']})" not in text  # the count is in the folded names' own place
    assert "bootorch feed returned hall-a" in text


def test_json_has_the_whole_of_it_and_what_is_known_besides() -> None:
    found = standing(stop_t=330.0, later=3)
    document = status.to_json(found)
    assert document["schema"] == "bootorch.status/1"
    known = {name: document[name] for name in ("running", "run_dir", "event", "later_events", "next")}
    assert known == {
        "running": False,
        "run_dir": "runs/lab 1",
        "event": found.event,
        "later_events": 3,
        "next": "bootorch resume 'runs/lab 1'",
    }
    assert json.loads(json.dumps(document)) == document
