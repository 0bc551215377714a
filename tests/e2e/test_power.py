"""``bootorch power`` against the lab's BMCs over UDP, through the command line; the BMCs' own log is the witness."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from bootorch.lab.control import LabInfo
from bootorch.ops.demo import witnessed
from tests.e2e.conftest import LabFactory, bootorch, command, environment


@pytest.fixture
def info(lab: LabFactory) -> LabInfo:
    return lab(16, already_on=1, dead_bmc=1, boot_seconds=(2.0, 3.0))


def power(info: LabInfo, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return bootorch("power", verb, "-i", info.inventory, *words)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str | None, str | None]]:
    return {entry["target"]: (entry["state"], entry["error"]) for entry in document(done)["targets"]}


def hosts_of(info: LabInfo, *, dead: bool) -> list[str]:
    return [name for name, end in info.expected.items() if (end.reason.value == "bmc_unreachable") is dead]


def living(info: LabInfo) -> str:
    return ",".join(hosts_of(info, dead=False))


def raw(info: LabInfo, *last: int) -> list[str]:
    """Options for BMCs by address, as an operator without an inventory has them."""
    base = info.network.rpartition(".")[0]
    numbers = ",".join(map(str, last))
    password = info.directory / "secrets" / "bmc_password"
    words = f"--bmc {base}.[{numbers}] --port {info.bmc_port} --user admin --password-file {password}"
    return words.split()


def test_status_of_hosts_and_of_addresses(info: LabInfo) -> None:
    (dead,) = hosts_of(info, dead=True)
    done = power(info, "status", "all", "--json", "--timeout", "3")
    assert done.returncode == 3, done.stderr
    found = states(done)
    assert found.pop(dead) == (None, "bmc_unreachable")
    on = [name for name, end in info.expected.items() if end.outcome.value == "adopted"]
    assert found == {name: ("on" if name in on else "off", None) for name in found}
    assert len(found) == 15
    entry = document(done)["targets"][0]
    assert set(entry) >= {"target", "state", "error", "attempts", "elapsed_s"}

    human = power(info, "status", living(info))
    assert human.returncode == 0, human.stderr
    assert re.search(r"\(14\): off$", human.stdout, re.MULTILINE)
    assert "14 off, 1 on; 15 in " in human.stderr
    addresses = bootorch("power", "status", *raw(info, 3, 1, 2), "--suite", "17", "--json", "--timeout", "3")
    assert [entry["target"].rpartition(".")[2] for entry in document(addresses)["targets"]] == ["3", "1", "2"]


def test_on_and_off_are_done_and_read_back(info: LabInfo) -> None:
    few = [name for name in hosts_of(info, dead=False) if name.startswith("web")][:3]
    on = power(info, "on", *few, "--wait", "--json")
    assert on.returncode == 0, on.stderr
    assert states(on) == dict.fromkeys(few, ("on", None))
    assert states(power(info, "status", *few, "--json")) == dict.fromkeys(few, ("on", None))
    refused = power(info, "off", *few)
    assert refused.returncode == 6
    assert "type" not in refused.stderr  # nobody is there to type
    assert states(power(info, "status", *few, "--json")) == dict.fromkeys(few, ("on", None))
    off = power(info, "off", *few, "--confirm", "3", "--wait", "--json")
    assert off.returncode == 0, off.stderr
    assert states(off) == dict.fromkeys(few, ("off", None))
    cycled = power(info, "cycle", few[0], "--json")
    assert (cycled.returncode, states(cycled)[few[0]][1]) == (3, "bmc_refused")
    controls = [(s.host, s.argument) for s in witnessed(info.bmc_log) if s.command == "chassis control"]
    wanted = [(host, what) for host in few for what in ("on", "off")]
    assert sorted(control for control in controls if control[1] != "cycle") == sorted(wanted)


def test_waiting_is_not_held_up_by_a_dead_bmc(info: LabInfo) -> None:
    (dead,) = hosts_of(info, dead=True)
    found = states(power(info, "on", "all", "--wait", "--json", "--timeout", "8"))
    assert found.pop(dead) == (None, "bmc_unreachable")
    assert set(found.values()) == {("on", None)}


def test_output_that_nobody_takes(info: LabInfo) -> None:
    """A reader that has left changes nothing; a full disk is told. A closed stdout is as good as /dev/null."""
    host = hosts_of(info, dead=False)[0]
    words = " ".join(command("power", "status", "-i", info.inventory, host, "--json"))
    pipe = f"set -o pipefail; {words} | true"
    for line, code, told in ((pipe, 0, ""), (f"{words} >/dev/full", 1, "No space left"), (f"{words} >&-", 0, "")):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), timeout=60)
        assert done.returncode == code, done.stderr
        assert told in done.stderr
        assert "unexpected" not in done.stderr


def test_a_console_that_does_not_open_is_interrupted_at_once(info: LabInfo, tmp_path: Path) -> None:
    (dead,) = hosts_of(info, dead=True)
    log = str(tmp_path / "log")
    words = command("power", "console", "-i", info.inventory, dead, "--log", log, "--json", "--timeout", "600")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        deadline = time.monotonic() + 60
        while not Path(log).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 5
    assert json.loads(out)["targets"][0]["error"] == "interrupted"


def test_a_console_onto_a_full_disk_fails(info: LabInfo) -> None:
    host = next(name for name in hosts_of(info, dead=False) if name.startswith("web"))
    words = command("power", "console", "-i", info.inventory, host, "--log", "/dev/full", "--for", "30")
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stderr is not None
        assert "console of" in process.stderr.readline()
        assert power(info, "on", host).returncode == 0
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "No space left" in told


def test_a_soft_off_that_no_operating_system_hears_is_no_success(lab: LabFactory) -> None:
    info = lab(8, boot_seconds=(300.0, 400.0))
    host = hosts_of(info, dead=False)[0]
    assert power(info, "on", host, "--wait").returncode == 0
    soft = power(info, "soft", host, "--wait", "--timeout", "2", "--json")
    assert soft.returncode == 3
    assert states(soft) == {host: (None, "power_no_effect")}
    assert "still reads on" in document(soft)["targets"][0]["detail"]


def test_settings_are_set_and_read(info: LabInfo) -> None:
    host = hosts_of(info, dead=False)[0]
    assert states(power(info, "policy", host, "--set", "always-on", "--json"))[host] == ("always-on", None)
    assert states(power(info, "policy", host, "--json"))[host] == ("always-on", None)
    boot = power(info, "bootdev", "pxe", host, "--persistent", "--json")
    assert states(boot)[host] == ("pxe (always, EFI)", None)
    assert document(boot)["targets"][0]["data"]["verified"] is True
    assert states(power(info, "bootdev", "none", host, "--json"))[host] == ("own boot order", None)
    assert states(power(info, "identify", host, "--seconds", "9", "--json"))[host] == ("blinks for 9 s", None)
    assert states(power(info, "identify", host, "--off", "--json"))[host] == ("light out", None)


def test_what_a_bmc_knows(info: LabInfo) -> None:
    on = next(name for name, end in info.expected.items() if end.outcome.value == "adopted")
    told = power(info, "info", on, "--json")
    (entry,) = document(told)["targets"]
    assert entry["data"]["ipmi"] == "2.0"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", entry["data"]["guid"])
    sensors = power(info, "sensors", living(info), "--json")
    draws = [entry["watts"] for entry in document(sensors)["targets"]]
    assert all(watts > 0 for watts in draws)
    assert document(sensors)["watts"] == pytest.approx(sum(draws), rel=1e-3)
    assert "drawn by 15" in power(info, "sensors", living(info)).stderr
    log = power(info, "sel", on, "--last", "2", "--json")
    assert len(document(log)["targets"][0]["data"]["events"]) == 2


def test_a_wrong_password_is_told_and_not_shown(info: LabInfo, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("Wr0ngMark\n")
    wrong.chmod(0o600)
    words = raw(info, 1, 2)
    words[-1] = str(wrong)
    done = bootorch("power", "status", *words, "--timeout", "5")
    assert done.returncode == 3
    assert "bmc_auth_failed" in done.stdout
    assert "Wr0ngMark" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_tells_what_had_ended(info: LabInfo, number: signal.Signals) -> None:
    words = command("power", "status", "-i", info.inventory, "all", "--json", "--timeout", "60")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        deadline = time.monotonic() + 60
        while len(witnessed_hosts(info)) < 15 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 5
    ends = [entry["error"] for entry in json.loads(out)["targets"]]
    assert sorted(ends, key=str) == [None] * 15 + ["interrupted"]


def witnessed_hosts(info: LabInfo) -> set[str]:
    return {sighting.host for sighting in witnessed(info.bmc_log)} if info.bmc_log.exists() else set()


# Consoles


class Screen:
    """A process on a terminal of its own, as a person at one sees it."""

    def __init__(self, words: list[str]) -> None:
        self.master, self.terminal = pty.openpty()
        self.process = subprocess.Popen(
            words, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, env=environment()
        )
        self.seen = ""

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no {text!r} on the screen:\n{self.seen}"
            if select.select([self.master], [], [], left_s)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.terminal)


def test_a_console_on_a_terminal(info: LabInfo) -> None:
    host = next(name for name in hosts_of(info, dead=False) if name.startswith("web"))
    screen = Screen(command("power", "console", "-i", info.inventory, host))
    try:
        before = termios.tcgetattr(screen.terminal)
        screen.wait_for("~. ends it")
        assert termios.tcgetattr(screen.terminal) != before  # raw: keys go to the host one by one
        assert power(info, "on", host).returncode == 0
        screen.wait_for("Linux version")
        screen.type("\r~?")
        screen.wait_for("send one tilde")
        screen.type("~.")
        screen.wait_for("console closed")
        assert screen.process.wait(20) == 0
        assert termios.tcgetattr(screen.terminal) == before
    finally:
        screen.close()


def test_a_terminal_is_put_back_when_the_console_is_killed_politely(info: LabInfo) -> None:
    screen = Screen(command("power", "console", "-i", info.inventory, hosts_of(info, dead=False)[0]))
    try:
        before = termios.tcgetattr(screen.terminal)
        screen.wait_for("~. ends it")
        screen.process.send_signal(signal.SIGTERM)
        screen.wait_for("console closed")
        assert screen.process.wait(20) == 0
        assert termios.tcgetattr(screen.terminal) == before
    finally:
        screen.close()


def test_a_console_into_a_file(info: LabInfo, tmp_path: Path) -> None:
    host = next(name for name in hosts_of(info, dead=False) if name.startswith("web"))
    log = tmp_path / "console.log"
    words = command("power", "console", "-i", info.inventory, host, "--log", str(log), "--for", "8")
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stderr is not None
        assert "console of" in process.stderr.readline()
        assert power(info, "on", host).returncode == 0
        process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert b"Linux version" in log.read_bytes()
    assert log.stat().st_mode & 0o777 == 0o600
    assert power(info, "console", host, "--for", "0.2").returncode == 0  # the console was given back
