"""A run is steered from another terminal: a real lab, its BMCs' log as the witness, every command also twice, on a run
without a process, and as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bootorch.core.events import Aborted, BreakerReset, Continued, Event, Kind, Paused, Quarantined, Retried
from bootorch.lab.control import LabInfo
from bootorch.lab.site import read_lab
from bootorch.ops.demo import misdeeds, witnessed
from tests.e2e.conftest import LabFactory, bootorch, command, environment
from tests.e2e.test_change import crawling, ended, going, journal, ons, outcomes, run_dir, until


def change_plan(info: LabInfo, **sections: object) -> None:
    plan = yaml.safe_load(info.plan.read_text())
    for name, section in sections.items():
        plan[name] = {**plan.get(name, {}), **section} if isinstance(section, dict) else section
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))


def told(*words: str | Path) -> dict[str, Any]:
    """The document of a command."""
    done = bootorch(*words, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    document["code"] = done.returncode
    return document


def deaf_to_one_power_on(info: LabInfo) -> list[str]:
    return [host.name for host in read_lab(info.directory).hosts if host.machine.silent_power_ons]


def of(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_paused_run_stays_and_goes_on_by_a_word_from_another_terminal(lab: LabFactory) -> None:
    info = crawling(lab)
    with going(info, "--stay") as process:
        until(process, lambda: len(ons(info)) >= 2, "nothing was switched on")
        paused = told("pause", info.plan, "--by", "kim", "--why", "smoke in row 3")
        assert (paused["code"], paused["status"]) == (0, "effective")
        assert paused["event"]["e"] == "paused"
        again = told("pause", info.plan, "--by", "lee")
        assert (again["code"], again["said"]) == (0, "the run is paused already, by kim")
        until(process, lambda: "paused by kim" in bootorch("status", info.plan).stdout, "status does not say so")
        time.sleep(0.5)
        before = len(witnessed(info.bmc_log))
        time.sleep(1.5)
        assert len(witnessed(info.bmc_log)) == before, "the witness saw something sent to a BMC during the pause"
        assert process.poll() is None
        gone_on = bootorch("resume", info.plan, "--by", "lee", "--why", "all clear")
        assert gone_on.returncode == 0
        assert gone_on.stderr == "effective: the run goes on\n"
        twice = told("resume", info.plan)
        assert (twice["code"], twice["status"], twice["said"]) == (0, "already", "the run goes on already")
        assert bootorch("limit", "set", "feed", "hall", "300kW", "--run", info.plan).returncode == 0
        code, out, err = ended(process)
    assert code == 0, err
    assert "paused by kim: smoke in row 3; what is under way finishes; bootorch resume goes on" in err
    assert "goes on, said by lee: all clear" in err
    assert "kim: smoke in row 3" in out
    (word,) = of(journal(info), Paused)
    assert (word.by, word.why) == ("kim", "smoke in row 3")
    (on,) = of(journal(info), Continued)
    assert (on.by, on.why) == ("lee", "all clear")
    assert set(outcomes(info).values()) == {"ready"}
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []
    where = run_dir(info)
    late = bootorch("pause", where)
    assert late.returncode == 2
    assert "no process runs this journal now; nothing was changed" in late.stderr


def test_where_nobody_sits_a_pause_ends_the_process_and_resume_starts_one(lab: LabFactory) -> None:
    info = crawling(lab)
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 1, "nothing was switched on")
        assert bootorch("pause", info.plan, "--by", "kim").returncode == 0
        code, out, _ = ended(process)
    assert code == 5
    last = out.splitlines()[-1]
    assert last == f"next: bootorch resume {shlex.quote(str(run_dir(info)))}"
    nobody = bootorch("skip", "web", "--run", info.plan)
    assert nobody.returncode == 2
    assert f"bootorch resume {run_dir(info)} --set 'skip web'" in nobody.stderr
    done = bootorch("resume", info.plan, "--set", "feed hall 300kW")
    assert done.returncode == 0, done.stderr
    assert set(outcomes(info).values()) == {"ready"}


@contextmanager
def at_a_terminal(info: LabInfo) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A run whose keyboard and screen are a terminal of its own: Ctrl-C reaches it as it reaches an operator."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("run", info.plan), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**environment(), "TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_screen(ours: int, seconds: float) -> str:
    """What came on the terminal within some seconds."""
    os.set_blocking(ours, False)
    found, give_up = b"", time.monotonic() + seconds
    while time.monotonic() < give_up:
        try:
            found += os.read(ours, 65536)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # the other end is closed
            break
    return found.decode(errors="replace")


def test_ctrl_c_pauses_says_how_to_go_on_and_a_second_one_leaves_resumable(lab: LabFactory) -> None:
    info = crawling(lab)
    with at_a_terminal(info) as (process, keyboard):
        screen = ""
        give_up = time.monotonic() + 60
        while len(ons(info)) < 1:
            assert time.monotonic() < give_up, screen
            screen += read_screen(keyboard, 0.1)
        os.write(keyboard, b"\x03")
        screen += read_screen(keyboard, 3.0)
        assert process.poll() is None, screen
        assert "bootorch resume goes on, a second Ctrl-C leaves at once" in " ".join(screen.split())
        assert of(journal(info), Paused)[0].why == "Ctrl-C"
        os.write(keyboard, b"\x03")
        screen += read_screen(keyboard, 5.0)
        assert process.wait(20) == 5, screen
    assert f"bootorch resume {run_dir(info)}" in screen.replace("\r\n", "").replace("\n", "")
    done = bootorch("resume", info.plan, "--set", "feed hall 300kW")
    assert done.returncode == 0, done.stderr
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_an_abort_ends_the_run_with_an_outcome_for_every_host_and_a_retry_goes_on(lab: LabFactory) -> None:
    info = crawling(lab)
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 2, "nothing was switched on")
        said = bootorch("abort", info.plan, "--by", "kim", "--reason", "the room is hot")
        assert said.returncode == 0, said.stderr
        assert said.stderr.startswith("effective: the run ends: no host begins another stage, ")
        taken = len(ons(info))
        code, out, err = ended(process)
    assert code == 3, err
    assert len(ons(info)) == taken, "a power-on left after the word"
    assert "aborted by kim: the room is hot; no host begins another stage" in err
    assert "aborted, said by kim: the room is hot" in out
    assert f"bootorch resume {run_dir(info)} --set retry" in out.splitlines()[-1]
    found = outcomes(info)
    assert set(found.values()) == {"ready", "skipped"}
    assert len(found) == 12
    again = bootorch("resume", info.plan)
    assert again.returncode == 2
    assert "the run was aborted" in again.stderr
    assert f"bootorch resume {run_dir(info)} --set retry" in again.stderr
    done = bootorch("resume", run_dir(info), "--set", "retry", "--set", "feed hall 300kW", "--by", "lee", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {change["what"]: change["by"] for change in report["changes"]} == {
        "aborted": "kim", f"tried again: all that failed ({list(found.values()).count('skipped')})": "lee",
        "feed hall has 300 kW": "lee",
    }  # fmt: skip
    assert set(outcomes(info).values()) <= {"ready", "adopted"}
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_an_abort_at_once_kills_playbooks_and_leaves_nothing_behind(lab: LabFactory) -> None:
    info = crawling(lab)
    slow = info.directory / "slow.yml"
    slow.write_text(
        "- hosts: all\n  gather_facts: false\n  tasks: [{name: slow, ansible.builtin.command: sleep 120}]\n"
    )
    plan = yaml.safe_load(info.plan.read_text())
    for group in plan["groups"].values():
        group.pop("redeploy", None)
    plan["groups"]["switches"]["redeploy"] = [str(slow)]
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))

    def playing() -> list[int]:
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "ansible-playbook" in words and str(slow) in words:
                found.append(int(place.parent.name))
        return found

    with going(info) as process:
        until(process, lambda: bool(playing()), "no playbook was started")
        began = time.monotonic()
        said = told("abort", info.plan, "--now", "--by", "kim")
        assert (said["code"], said.get("status")) == (0, "effective"), said
        assert "under way are left as they are" in said["said"]
        code, _, err = ended(process)
        took_s = time.monotonic() - began
    assert code == 3, err
    assert took_s < 60.0, "the playbook would have taken two minutes"
    assert playing() == []
    assert "unknown" not in outcomes(info).values()
    (word,) = of(journal(info), Aborted)
    assert word.at_once
    events = journal(info)
    left = [event for event in events if event.type == "answer" and event.reason == "interrupted"]  # type: ignore[union-attr]
    assert any(event.kind is Kind.REDEPLOY for event in left)  # type: ignore[union-attr]


def test_hosts_are_set_aside_and_taken_back(lab: LabFactory) -> None:
    info = crawling(lab)
    change_plan(info, gates={"hold": {"ask": "Seen enough?", "groups": ["web", "deploy"]}})
    with going(info) as process:
        until(process, lambda: len(ons(info)) >= 1, "nothing was switched on")
        busy = ons(info)[-1].host
        # It may be on, so it keeps its watts: the others need more than one host's.
        assert bootorch("limit", "set", "feed", "hall", "1kW", "--run", info.plan).returncode == 0
        aside = told("quarantine", busy, "--reason", "smells of smoke", "--by", "kim", "--run", info.plan)
        assert (aside["code"], aside["status"]) == (0, "effective"), aside
        assert aside["event"]["hosts"] == [busy]
        twice = told("quarantine", busy, "--reason", "again", "--run", info.plan)
        assert (twice["code"], twice["status"]) == (0, "already")
        left_out = told("skip", "deploy", "--why", "not tonight", "--by", "lee", "--run", info.plan)
        assert left_out["status"] == "effective", left_out
        unknown = told("skip", "wbe", "--run", info.plan)
        assert unknown["code"] == 2
        assert "matches no group and no host" in unknown["problems"][0]["message"]
        until(process, lambda: outcomes(info)[busy] == "quarantined", "the word was not carried out")
        mark = len(witnessed(info.bmc_log))
        others = {name for name in info.expected if not name.startswith(("web", "deploy"))} - {busy}
        until(process, lambda: {s.host for s in ons(info)} >= others, "the others do not go on")
        assert busy not in {sighting.host for sighting in witnessed(info.bmc_log)[mark:]}
        refused = told("retry", busy, "--run", info.plan)
        assert refused["code"] == 2, refused
        assert f"bootorch lift {busy}" in refused["said"]
        mark = len(witnessed(info.bmc_log))
        back = told("lift", f"{busy},deploy", "--by", "kim", "--run", info.plan)
        assert (back["code"], back["status"]) == (0, "effective"), back
        none = told("lift", busy, "--run", info.plan)
        assert (none["code"], none["status"]) == (0, "already")
        assert bootorch("limit", "set", "feed", "hall", "300kW", "--run", info.plan).returncode == 0
        assert bootorch("gate", "approve", info.plan, "hold", "--by", "kim").returncode == 0
        opened = told("gate", "approve", info.plan, "hold", "--by", "lee")
        code, out, err = ended(process)
    assert code == 0, err
    assert (opened.get("said") or opened["problems"][0]["message"]).startswith(
        ("gate hold is open already", "no process")
    )
    first = next(s for s in witnessed(info.bmc_log)[mark:] if s.host == busy)
    assert first.command == "chassis status", "its state is read, and nothing is assumed"
    assert f"quarantined: {busy}, said by kim: smells of smoke" in err
    assert "skipped: deploy" in out
    assert set(outcomes(info).values()) <= {"ready", "adopted"}
    (word,) = of(journal(info), Quarantined)
    assert (word.by, word.why, word.hosts) == ("kim", "smells of smoke", (busy,))
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_what_failed_is_tried_again_after_the_end_and_only_that(lab: LabFactory) -> None:
    info = lab(10, silent_power=1)
    (silent,) = deaf_to_one_power_on(info)
    change_plan(info, defaults={"attempts": {"power": 1}})
    plan = yaml.safe_load(info.plan.read_text())
    plan["defaults"]["deadlines"]["power"] = "3s"
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    done = bootorch("run", info.plan)
    assert done.returncode == 3, done.stderr
    assert outcomes(info)[silent] == "quarantined"
    before = len(ons(info))
    nobody = bootorch("retry", "--run", run_dir(info))
    assert nobody.returncode == 2
    assert f"bootorch resume {run_dir(info)} --set retry" in nobody.stderr
    nothing = bootorch("resume", run_dir(info))
    assert nothing.returncode == 2
    assert "--set retry tries again what failed" in nothing.stderr
    wrong = bootorch("resume", run_dir(info), "--set", "retry switches")
    assert wrong.returncode == 2
    assert "nothing is left to resume" in wrong.stderr
    again = bootorch("resume", run_dir(info), "--set", "retry", "--by", "kim")
    assert again.returncode == 0, again.stderr
    assert {s.host for s in ons(info)[before:]} == {silent}
    (word,) = of(journal(info), Retried)
    assert (word.hosts, word.by) == ((silent,), "kim")
    assert list(misdeeds(witnessed(info.bmc_log), info.expected)) == []


def test_a_breaker_is_reset_while_the_run_goes_on(lab: LabFactory) -> None:
    info = lab(20, silent_power=2, boot_seconds=(0.3, 0.5))
    silent = deaf_to_one_power_on(info)
    plan = yaml.safe_load(info.plan.read_text())
    for group in plan["groups"].values():
        group.pop("requires", None)
    plan["defaults"]["attempts"] = {**plan["defaults"].get("attempts", {}), "power": 1}
    plan["defaults"]["deadlines"]["power"] = "3s"
    plan.setdefault("limits", {})["breaker"] = {"cluster_failures": 2}
    plan["gates"] = {"hold": {"ask": "Seen enough?", "groups": ["switches"]}}
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    with going(info) as process:
        until(process, lambda: list(outcomes_or(info).values()).count("quarantined") == len(silent), "none failed")
        tripped = json.loads(bootorch("status", info.plan, "--json").stdout)["tripped"]
        wrong = told("breaker", "reset", "model:none", "--run", info.plan)
        reset = told("breaker", "reset", "--by", "kim", "--why", "supplies are on", "--run", info.plan)
        if tripped:
            assert wrong["code"] == 2
            assert tripped[0]["scope"] in wrong["said"]
            assert (reset["status"], reset["said"]) == ("effective", "every breaker is reset")
        else:
            assert (reset["status"], reset["said"]) == ("already", "no breaker has tripped")
        assert told("breaker", "reset", "--run", info.plan)["status"] == "already"
        retried = told("retry", "--run", info.plan, "--by", "kim")
        assert sorted(retried["event"]["hosts"]) == sorted(silent) or retried["event"]["hosts"] == []
        assert bootorch("gate", "approve", info.plan, "hold", "--by", "kim").returncode == 0
        code, _, err = ended(process)
    assert code == 0, err
    assert len(of(journal(info), BreakerReset)) == len(tripped[:1])
    assert set(outcomes(info).values()) == {"ready"}


def outcomes_or(info: LabInfo) -> dict[str, str]:
    try:
        return outcomes(info)
    except (AssertionError, ValueError):
        return {}
