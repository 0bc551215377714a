"""Commands that change a run: which run is meant, what is said to it, and what comes back."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bootorch.core.events import Event, FeedLost, LimitSet, TierSet
from bootorch.core.words import Order
from bootorch.runtime.rundir import JOURNAL, LOCK, running
from bootorch.ui.services import ResumeRequest, RunRequest
from tests.ui.example import demo_world
from tests.ui.services import WorldServices
from tests.ui.test_cli import Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(WorldServices(demo_world(), tmp_path, going_on=("runs/one",)), capsys)


def test_a_limit_is_set_in_the_run_that_goes_on_here(shell: Shell, tmp_path: Path) -> None:
    said = shell("limit", "set", "feed", "hall-a", "300kW", "--by", "kim", "--why", "chiller 2")
    assert (said.code, said.out) == (0, "")
    assert said.err == "effective: feed hall-a has 300 kW now (draws 12 kW)\n"
    assert shell.services.said == [LimitSet(0.0, "feed", "hall-a", 300_000.0, by="kim", why="chiller 2")]
    assert shell.services.asked[-1] == (
        tmp_path / "runs/one", Order(("limit", "feed", "hall-a", "300kW"), by="kim", why="chiller 2"),
    )  # fmt: skip


def test_what_is_so_already_is_no_failure(shell: Shell) -> None:
    assert shell("feed", "lost", "hall-a", "--why", "fire").code == 0
    said = shell("feed", "lost", "hall-a")
    assert said.code == 0
    assert "already: feed hall-a is without electricity already: said by " in said.err
    assert "(fire)" in said.err
    assert [type(event) for event in shell.services.said] == [FeedLost]


def test_json_tells_the_event_and_what_became_of_it(shell: Shell, tmp_path: Path) -> None:
    document = shell("tier", "set", "web", "0", "--by", "kim", "--json").json
    assert document == {
        "schema": "bootorch.change/1",
        "run_dir": str(tmp_path / "runs/one"),
        "status": "effective",
        "said": "group web has tier 0 now; what runs goes on",
        "by": "kim",
        "why": "",
        "event": {"e": "tier.set", "v": 1, "t": 0.0, "group": "web", "tier": 0, "by": "kim"},
    }
    assert shell.services.said == [TierSet(0.0, "web", 0, "kim")]


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (("limit", "set", "feed", "hall-b", "300kW"), "no feed 'hall-b'", "did you mean hall-a"),
        (("limit", "set", "feed", "hall-a", "-5kW"), "'-5kW' is below zero", "300kW"),
        (("limit", "set", "feed", "hall-a", "--rmap"), "no such option", "--help"),
        (("feed", "returned", "nowhere"), "no feed 'nowhere'", "the plan has hall-a"),
        (("tier", "set", "wbe", "0"), "no group 'wbe'", "did you mean web"),
        (("choose", "db", "web01"), "'web01' is no host of group db", "db0"),
        (("choose", "db", "db01"), "no first-member rule", "first:"),
    ],
)
def test_nonsense_is_refused_before_it_is_said(shell: Shell, words: tuple[str, ...], message: str, remedy: str) -> None:
    said = shell(*words, "--json")
    assert said.code == 2
    problem = said.json["problems"][0]  # type: ignore[index]
    assert message in problem["message"]
    assert remedy in problem["remedy"]
    assert message in said.err
    assert shell.services.said == []


def test_a_process_that_does_not_answer_is_5(shell: Shell) -> None:
    shell.services.deaf = True
    said = shell("limit", "set", "feed", "hall-a", "300kW")
    assert said.code == 5
    assert said.err.startswith("left: left for the process that runs ")
    assert "bootorch status" in said.err.splitlines()[-1]


def test_none_or_several_runs_are_told_with_the_command_to_write(shell: Shell) -> None:
    shell.services.going_on = ()
    none = shell("feed", "lost", "hall-a")
    assert none.code == 2
    assert "bootorch feed lost hall-a --run RUN" in none.err
    shell.services.going_on = ("runs/one", "lab 2/runs/two")
    several = shell("limit", "set", "feed", "hall-a", "300kW", "--ramp", "60kW")
    assert several.code == 2
    assert "bootorch limit set feed hall-a 300kW --ramp 60kW --run runs/one\n" in several.err
    assert "--run 'lab 2/runs/two'" in several.err
    assert shell("limit", "set", "feed", "hall-a", "300kW", "--run", "runs/one").code == 0


def test_limit_show_tells_the_limits_as_they_are_now(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "plan.yml").write_text("name: x\n")
    shell("run", "plan.yml")
    services = shell.services
    assert services.latest is not None
    changed: list[Event] = [
        LimitSet(5.0, "feed", "hall-a", 20_000.0, by="kim", why="more"),
        FeedLost(6.0, "hall-a", "lee", "fire"),
    ]
    services.latest = replace(services.latest, events=[*services.latest.events, *changed])
    said = shell("limit", "show")
    assert said.code == 0
    assert "feed hall-a  20 kW" in said.out
    assert "dark, the plan has 16 kW" in said.out
    assert "dark  feed hall-a since 0:06, said by lee: fire" in said.out
    document = shell("limit", "show", "--json").json
    assert document["schema"] == "bootorch.limits/1"
    limit = document["limits"][0]  # type: ignore[index]
    assert (limit["name"], limit["value"], limit["planned"]) == ("hall-a", 20_000.0, 16_000.0)
    assert document["dark"][0]["by"] == "lee"  # type: ignore[index]
    status = shell("status", "plan.yml").out
    assert "feed hall-a  20 kW" in status
    assert "feed hall-a has 20 kW" in status
    assert "kim: more" in status


def test_run_and_resume_take_the_same_words(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "plan.yml").write_text("name: x\n")
    shell.services.going_on = ()
    shell("run", "plan.yml", "--dark", "hall-a", "--dark", "hall-b")
    request = next(asked for asked in shell.services.asked if isinstance(asked, RunRequest))
    assert request.dark == ("hall-a", "hall-b")
    shell(
        "resume", "runs/one", "--lost", "hall-c", "--set", "feed hall-a 300kW ramp=60kW", "--set", "tier web 0",
        "--returned", "hall-b", "--by", "kim", "--why", "repaired",
    )  # fmt: skip
    resumed = shell.services.asked[-1]
    assert isinstance(resumed, ResumeRequest)
    assert resumed.orders == (
        Order(("returned", "hall-b"), by="kim", why="repaired"),
        Order(("lost", "hall-c"), by="kim", why="repaired"),
        Order(("limit", "feed", "hall-a", "300kW"), ramp="60kW", by="kim", why="repaired"),
        Order(("tier", "web", "0"), by="kim", why="repaired"),
    )
    wrong = shell("resume", "runs/one", "--set", "the world on fire")
    assert wrong.code == 2
    assert "--set 'feed hall-a 300kW'" in wrong.err


def test_a_run_that_a_process_holds_is_told_to_go_on_after_what_else_is_said(shell: Shell, tmp_path: Path) -> None:
    said = shell(
        "resume", "runs/one", "--returned", "hall-a", "--set", "retry web*", "--approve", "stable-power=lee",
        "--reset-breakers", "--by", "kim", "--why", "fixed", "--json",
    )  # fmt: skip
    run = tmp_path / "runs/one"
    orders = [asked[1] for asked in shell.services.asked if isinstance(asked, tuple) and asked[0] == run]
    assert orders[:3] == [
        Order(("breaker",), by="kim"),
        Order(("gate", "stable-power"), by="lee"),
        Order(("returned", "hall-a"), by="kim", why="fixed"),
    ]
    # The feed was not lost: what is so already stops nothing.
    assert said.code == 0
    assert said.json["event"] == {"e": "continued", "v": 1, "t": 0.0, "by": "kim", "why": "fixed"}
    assert [document["status"] for document in said.json["before"]] == [
        "effective", "effective", "already", "effective",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (("pause",), ("pause",)),
        (("abort", "--reason", "smoke"), ("abort",)),
        (("abort", "--now"), ("abort", "now")),
        (("retry",), ("retry",)),
        (("retry", "web"), ("retry", "web")),
        (("quarantine", "web", "--reason", "smoke"), ("quarantine", "web")),
        (("lift", "web"), ("lift", "web")),
        (("skip", "web"), ("skip", "web")),
        (("breaker", "reset"), ("breaker",)),
        (("breaker", "reset", "model:x"), ("breaker", "model:x")),
    ],
)
def test_each_word_becomes_one_order(
    shell: Shell, tmp_path: Path, words: tuple[str, ...], order: tuple[str, ...]
) -> None:
    document = shell(*words, "--by", "kim", "--json").json
    assert document["schema"] == "bootorch.change/1"
    assert document["status"] == "effective"
    why = "smoke" if "--reason" in words else ""
    assert shell.services.asked[-1] == (tmp_path / "runs/one", Order(order, by="kim", why=why))
    assert shell.services.said[-1].by == "kim"  # type: ignore[union-attr]


def test_a_quarantine_says_why(shell: Shell) -> None:
    said = shell("quarantine", "web")
    assert said.code == 2
    assert "--reason" in said.err


# -- which run goes on ---------------------------------------------------------------------


@pytest.fixture
def locks() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def a_run(directory: Path, locks: ExitStack | None = None) -> Path:
    directory.mkdir(parents=True)
    (directory / JOURNAL).touch()
    lock = (directory / LOCK).open("w")
    if locks is None:
        lock.close()
    else:
        locks.enter_context(lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return directory


def test_only_runs_that_a_process_holds_go_on_here_or_one_level_below(tmp_path: Path, locks: ExitStack) -> None:
    a_run(tmp_path / "runs/ended")
    assert running(tmp_path) == []
    here = a_run(tmp_path / "runs/x-1", locks)
    below = a_run(tmp_path / "lab/runs/x-2", locks)
    a_run(tmp_path / "far/away/runs/x-3", locks)
    assert running(tmp_path) == [here, below]
    assert running(here) == [here], "in a run's own directory it is that one"
