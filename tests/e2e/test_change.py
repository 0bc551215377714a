"""A run is changed while it goes on, from the command line: a real lab, its BMCs' log as the witness."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootorch.core.events import (
    Answer,
    Chosen,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Intent,
    Kind,
    LimitSet,
    ScopeAdded,
    Settled,
)
from bootorch.lab.control import LabInfo
from bootorch.lab.site import read_lab
from bootorch.ops.demo import Sighting, misdeeds, witnessed
from bootorch.runtime.journal import Journal
from tests.e2e.conftest import LabFactory, bootorch, command, environment

BOOTS = (1.2, 1.5)
CRAWL_W = 500  # one boot at a time: a host takes 450 W while it boots, and next to nothing afterwards


def crawling(lab: LabFactory, gated: str = "") -> LabInfo:
    """A lab whose plan has no dependency and electricity for one boot at a time.

    ``gated``: a group whose hosts wait for a person, so that the run goes on until the test has seen enough.
    """
    info = lab(12, boot_seconds=BOOTS)
    plan = yaml.safe_load(info.plan.read_text())
    for group in plan["groups"].values():
        group.pop("requires", None)
    plan["limits"]["feeds"] = {"hall": {"budget_watts": CRAWL_W}, "hall/a": {"budget_watts": 9000}}
    plan["limits"]["feeds"]["hall/b"] = {"budget_watts": 9000}
    if gated:
        plan["gates"] = {"hold": {"ask": "Seen enough?", "groups": [gated]}}
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    hosts = info.inventory.read_text()
    for steady in ("watts_steady: 250.0", "watts_steady: 150.0"):
        hosts = hosts.replace(steady, "watts_steady: 1.0")
    hosts = hosts.replace("watts_boot_peak: 180.0", "watts_boot_peak: 450.0")
    info.inventory.write_text(hosts)
    return info


@contextmanager
def going(info: LabInfo, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, killed when the test is over."""
    process = subprocess.Popen(
        command("run", info.plan, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(process: subprocess.Popen[str], condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


def ons(info: LabInfo, of: frozenset[str] | None = None) -> list[Sighting]:
    seen = witnessed(info.bmc_log) if info.bmc_log.exists() else []
    return [s for s in seen if s.command == "chassis control" and (of is None or s.host in of)]


def run_dir(info: LabInfo) -> Path:
    (found,) = (path.parent for path in (info.directory / "runs").glob("*/journal.sqlite"))
    return found


def journal(info: LabInfo) -> list[Event]:
    with Journal.open(run_dir(info) / "journal.sqlite", readonly=True) as opened:
        return list(opened.events())


def on_feed(info: LabInfo, feed: str) -> frozenset[str]:
    return frozenset(host.name for host in read_lab(info.directory).hosts if host.feed == feed)


def boots_under_way(events: list[Event]) -> list[tuple[Event, int]]:
    """After each power-on: how many boots were under way, as the journal tells it."""
    under_way: set[str] = set()
    found: list[tuple[Event, int]] = []
    for event in events:
        if isinstance(event, Intent) and event.kind is Kind.POWER_ON:
            under_way.add(event.target)
            found.append((event, len(under_way)))
        elif isinstance(event, Answer) and event.kind is Kind.BOOT_PROBE and event.reason == "ok":
            under_way.discard(event.target)
    return found


def outcomes(info: LabInfo) -> dict[str, str]:
    done = bootorch("report", run_dir(info), "--json")
    assert done.returncode == 0, done.stderr
    return {name: host["outcome"] for name, host in json.loads(done.stdout)["hosts"].items()}


def test_a_budget_that_is_raised_lets_go_at_once_who_waited_for_it(lab: LabFactory) -> None:
    info = crawling(lab)
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 2, "nothing was switched on")
        # Literally as an operator types it, in the directory that the run is kept in.
        done = bootorch(
            "limit", "set", "feed", "hall", "300kW", "--by", "kim", "--why", "chiller 2 is back", cwd=info.directory
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("effective: feed hall has 300 kW now (draws ")
        again = bootorch("limit", "set", "feed", "hall", "300kW", "--run", run_dir(info), "--json")
        assert again.returncode == 0
        assert json.loads(again.stdout)["status"] == "already"
        code, out, err = ended(process)
    assert code == 0, err
    assert "feed hall has 300 kW, said by kim: chiller 2 is back" in err
    assert "feed hall has 300 kW  kim: chiller 2 is back" in out
    events = journal(info)
    (said,) = (event for event in events if isinstance(event, LimitSet))
    assert (said.value, said.by, said.why) == (300_000.0, "kim", "chiller 2 is back")
    at = events.index(said)
    before = [count for event, count in boots_under_way(events) if events.index(event) < at]
    after = [count for event, count in boots_under_way(events) if events.index(event) > at]
    assert len(before) >= 2
    assert set(before) == {1}, "one boot at a time while the budget was small"
    assert max(after) >= len(after), "all the others at once afterwards"
    order = [event.target for event in events if isinstance(event, Intent) and event.kind is Kind.POWER_ON]
    assert [s.host for s in ons(info)][: len(before)] == order[: len(before)]
    assert set(outcomes(info).values()) == {"ready"}
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    report = json.loads((run_dir(info) / "report.json").read_text())
    assert report["changes"][0]["by"] == "kim"
    hall = next(feed for feed in report["power"] if feed["feed"] == "hall")
    assert [budget for _, budget in hall["budgets"]] == [500.0, 300_000.0]
    assert "chiller 2 is back" in (run_dir(info) / "report.html").read_text()


def test_nothing_is_sent_to_a_feed_between_its_loss_and_its_return(lab: LabFactory) -> None:
    info = crawling(lab, gated="deploy")
    dark, others = on_feed(info, "hall/b"), on_feed(info, "hall/a")
    gated = {host.name for host in read_lab(info.directory).hosts if host.group == "deploy"}
    assert dark
    assert gated
    assert gated < others, "else nothing keeps the run going"
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 1, "nothing was switched on")
        lost = bootorch("feed", "lost", "hall/b", "--by", "kim", "--why", "fire", "--run", info.plan)
        assert lost.returncode == 0, lost.stderr
        assert f"{len(dark)} hosts dark, nothing is sent to them" in lost.stderr
        repeated = bootorch("feed", "lost", "hall/b", "--run", info.plan)
        assert repeated.returncode == 0
        assert "without electricity already: said by kim (fire)" in repeated.stderr
        # What had left before the word came ends by itself; then there is silence.
        until(process, lambda: not _open(info, dark), "an exchange did not end")
        mark = len(witnessed(info.bmc_log))
        rest = others - gated
        until(process, lambda: {s.host for s in ons(info, rest)} == rest, "the rest did not go on")
        silence = witnessed(info.bmc_log)[mark:]
        status = bootorch("status", info.plan)
        assert "dark  feed hall/b since" in status.stdout
        assert "feed returned hall/b" in status.stdout
        back = bootorch("feed", "returned", "hall/b", "--by", "lee", "--run", info.plan)
        assert back.returncode == 0, back.stderr
        assert bootorch("gate", "approve", info.plan, "hold", "--by", "kim").returncode == 0
        code, _, err = ended(process)
    assert code == 0, err
    assert [s for s in silence if s.host in dark] == [], "the witness saw packets to dark hosts"
    assert [s for s in silence if s.host in others] != []
    events = journal(info)
    kinds = [type(event) for event in events]
    between = events[kinds.index(FeedLost) : kinds.index(FeedReturned)]
    assert [event for event in between if isinstance(event, Intent) and event.target in dark] == []
    assert [event for event in between if isinstance(event, Intent) and event.target in others] != []
    assert set(outcomes(info).values()) <= {"ready", "adopted"}
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def _open(info: LabInfo, hosts: frozenset[str]) -> bool:
    open_ids = {}
    for event in journal(info):
        if isinstance(event, Intent) and event.target in hosts:
            open_ids[event.id] = event
        elif isinstance(event, Answer):
            open_ids.pop(event.id, None)
    return bool(open_ids)


def test_partial_power_from_the_start_finishes_what_it_can_and_names_the_rest(lab: LabFactory) -> None:
    info = crawling(lab)
    dark, others = on_feed(info, "hall/b"), on_feed(info, "hall/a")
    wrong = bootorch("run", info.plan, "--dark", "hall/c")
    assert wrong.returncode == 2
    assert "no feed 'hall/c'" in wrong.stderr
    assert "did you mean hall/" in wrong.stderr
    done = bootorch("run", info.plan, "--dark", "hall/b")
    assert done.returncode == 4, done.stderr
    assert {s.host for s in witnessed(info.bmc_log)} == others, "nothing is sent to the dark rows"
    assert "dark  feed hall/b since 0:00" in done.stdout
    assert "dark at the start" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == f"next: bootorch resume {shlex.quote(str(run_dir(info)))} --returned hall/b"
    refused = bootorch("feed", "returned", "hall/b", "--run", run_dir(info))
    assert refused.returncode == 2
    assert f"bootorch resume {run_dir(info)} --returned hall/b" in refused.stderr
    resumed = bootorch(*shlex.split(last.removeprefix("next: bootorch ")), "--set", "feed hall 20kW", "--why", "fixed")
    assert resumed.returncode == 0, resumed.stderr
    assert set(outcomes(info).values()) == {"ready"}
    assert {s.host for s in ons(info)} == dark | others
    events = journal(info)
    kinds = [event.type for event in events]
    assert kinds.index("run.resumed") < kinds.index("feed.returned") < kinds.index("limit.set")
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_hosts_outside_the_limit_are_added_while_it_goes_on(lab: LabFactory) -> None:
    info = crawling(lab, gated="deploy")
    with going(info, "--limit", "switches:deploy") as process:
        until(process, lambda: len(ons(info)) >= 1, "nothing was switched on")
        nonsense = bootorch("scope", "add", "dsn", "--run", info.plan)
        assert nonsense.returncode == 2
        assert "did you mean dns" in nonsense.stderr
        done = bootorch("scope", "add", "dns", "--why", "names first", "--run", info.plan)
        assert done.returncode == 0, done.stderr
        assert bootorch("gate", "approve", info.plan, "hold", "--by", "kim").returncode == 0
        code, _, err = ended(process)
    assert code == 0, err
    found = outcomes(info)
    names = {name for name, outcome in found.items() if outcome == "ready"}
    assert {name.split("-")[0] for name in names} == {"switch", "deploy", "dns"}
    assert set(found.values()) == {"ready", "skipped"}
    assert {s.host for s in ons(info)} == names
    (said,) = (event for event in journal(info) if isinstance(event, ScopeAdded))
    assert (said.pattern, said.why) == ("dns", "names first")
    assert {name.split("-")[0] for name in said.hosts} == {"dns"}


def test_a_run_that_does_not_listen_is_left_a_word_and_the_command_says_so(lab: LabFactory) -> None:
    info = crawling(lab)
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 1, "nothing was switched on")
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            left = bootorch("limit", "set", "feed", "hall", "20kW", "--json", cwd=info.directory.parent)
            process.send_signal(signal.SIGCONT)
            assert left.returncode == 5, left.stderr
            document: dict[str, Any] = json.loads(left.stdout)
            if document["schema"] == "bootorch.change/1":
                break
            # It was stopped in the middle of a commit: then nothing can be left for it either.
            assert "holds it for more than 5 s; nothing was written" in left.stderr
        assert (document["status"], document["event"]) == ("left", None)
        assert ended(process)[0] == 0
    assert [event.value for event in journal(info) if isinstance(event, LimitSet)] == [20_000.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limit", "set", "feed", "hall", "300kW"), "no run goes on in this directory"),
        (("choose", "web", "web-1"), "name it: bootorch choose web web-1 --run RUN"),
        (("limit", "show"), "bootorch limit show --run RUN"),
    ],
)
def test_where_no_run_goes_on_the_command_says_what_to_write(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = bootorch(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_person_names_the_member_that_starts_first(lab: LabFactory) -> None:
    info = crawling(lab)
    plan = yaml.safe_load(info.plan.read_text())
    plan["groups"]["storage"]["first"] = {"ask": "Who has the newest copy?"}
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    storage = {host.name for host in read_lab(info.directory).hosts if host.group == "storage"}
    chosen = max(storage)
    others = frozenset(host.name for host in read_lab(info.directory).hosts) - storage
    with going(info) as process:
        until(process, lambda: {s.host for s in ons(info, others)} == others, "the rest did not start")
        stranger = bootorch("choose", "storage", min(others), "--run", info.plan)
        assert stranger.returncode == 2
        assert f"is no host of group storage\n  remedy: the plan has {min(storage)}" in stranger.stderr
        assert not ons(info, frozenset(storage))
        status = bootorch("status", info.plan)
        assert "choose  first member of storage: Who has the newest copy?" in status.stdout
        done = bootorch("choose", "storage", chosen, "--by", "kim", "--why", "highest epoch", "--run", info.plan)
        assert done.returncode == 0, done.stderr
        code, _, err = ended(process)
    assert code == 0, err
    assert "nobody has chosen the first member of storage: Who has the newest copy?" in err
    assert next(s.host for s in ons(info, frozenset(storage))) == chosen
    events = journal(info)
    ready = next(n for n, event in enumerate(events) if isinstance(event, Settled) and event.host == chosen)
    started = [
        n for n, e in enumerate(events) if isinstance(e, Intent) and e.kind is Kind.POWER_ON and e.target in storage
    ]
    assert [n > ready for n in started] == [False] + [True] * (len(storage) - 1)
    (said,) = (event for event in events if isinstance(event, Chosen))
    assert (said.group, said.host, said.by, said.why) == ("storage", chosen, "kim", "highest epoch")


def test_what_a_feeds_meter_measures_counts_and_every_host_is_measured_once_it_is_ready(lab: LabFactory) -> None:
    info = crawling(lab)
    reading = info.directory.parent / "reading"
    reading.write_text("99 kW\n")
    plan = yaml.safe_load(info.plan.read_text())
    plan["limits"]["measure"] = True
    plan["limits"]["feeds"]["hall"] = {
        "budget_watts": "20kW", "meter": {"command": ["/bin/cat", str(reading)], "every": "1s"},
    }  # fmt: skip
    plan["gates"] = {"hold": {"ask": "Was the meter read?"}}
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))

    def measured(kind: Kind) -> list[Answer]:
        return [event for event in journal(info) if isinstance(event, Answer) and event.kind is kind]

    with going(info) as process:
        until(process, lambda: info.bmc_log.stat().st_size > 0, "nobody was looked at")
        until(process, lambda: bool(measured(Kind.FEED_METER)), "the meter was not read")
        assert bootorch("gate", "approve", info.plan, "hold", "--by", "kim").returncode == 0
        until(process, lambda: any(isinstance(event, GateOpened) for event in journal(info)), "the gate stayed closed")
        assert ons(info) == [], "more is drawn than the feed has"
        reading.write_text("0.2 kW\n")
        code, _, err = ended(process)
    assert code == 0, err
    events = journal(info)
    fell = events.index(next(event for event in measured(Kind.FEED_METER) if event.data["watts"] == 200.0))
    ons_at = [n for n, event in enumerate(events) if isinstance(event, Intent) and event.kind is Kind.POWER_ON]
    assert len(ons_at) == 12
    assert min(ons_at) > fell, "nothing was switched on before the meter said that there is room"
    readings = [event.data["watts"] for event in measured(Kind.FEED_METER)]
    assert readings[0] == 99_000.0
    assert set(readings) <= {99_000.0, 200.0}
    own = {event.target: event.data for event in measured(Kind.METER)}
    assert {data["source"] for data in own.values()} == {"dcmi"}
    assert {data["watts"] for data in own.values()} == {150.0, 250.0}, "what the lab's BMCs tell"
    assert set(own) == set(info.expected)
    assert {s.command for s in witnessed(info.bmc_log)} >= {"power reading"}
