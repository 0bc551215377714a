"""Recoveries that are killed again and again, and what must hold of them whenever that happens.

The judge is the lab: its BMCs' log says what was sent, its faults say how each host must end. The run's own journal is
asked only for the outcomes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bootorch.drivers.redeploy_slice import MARK
from bootorch.lab.control import LabInfo
from bootorch.ops.demo import misdeeds, witnessed
from tests.e2e.conftest import bootorch, command, environment

LEFT_S = 5.0  # how long a playbook's process may outlive the run that started it
MOST_S = 600.0  # of one process: a lab comes back in a fraction of it


@dataclass
class Killed:
    """What came of a recovery with kills."""

    kills: int
    left_s: float  # the longest that a process of a playbook outlived its run
    faults: list[str]


def at_random(info: LabInfo, moments: Random, kills: int, spread_s: float) -> Killed:
    """Kill the run ``kills`` times, each at a random moment of the first ``spread_s`` seconds of its process."""
    done, left_s = 0, 0.0
    process = _start(command("run", info.plan))
    _wait_for(info.bmc_log)
    while done < kills:
        time.sleep(moments.uniform(0.0, spread_s))
        process.kill()
        if process.wait(MOST_S) != -signal.SIGKILL:
            break  # it had ended by itself
        done += 1
        left_s = max(left_s, _outlived(info))
        process = _start(command("resume", info.plan))
    return _judged(info, process.wait(MOST_S), done, left_s)


def at_boundary(info: LabInfo, moment: str, number: int) -> Killed:
    """Kill the run around its commit ``number`` (``before`` or ``after`` it), then let it go on to its end."""
    dying = [sys.executable, "-m", "tests.e2e.dying", moment, str(number), "run", str(info.plan)]
    code = _start(dying).wait(MOST_S)
    if code != -signal.SIGKILL:
        return _judged(info, code, 0, 0.0)
    left_s = _outlived(info)
    return _judged(info, _start(command("resume", info.plan)).wait(MOST_S), 1, left_s)


def outcomes(target: Path) -> dict[str, tuple[str, str]]:
    """Host → outcome and reason."""
    done = bootorch("report", target, "--json")
    assert done.stdout, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    return {name: (host["outcome"], host["reason"]) for name, host in hosts.items()}


def _judged(info: LabInfo, code: int, kills: int, left_s: float) -> Killed:
    faults = list(misdeeds(witnessed(info.bmc_log), info.expected))
    found = outcomes(info.plan)
    for name, want in info.expected.items():
        if found.get(name) != (want.outcome.value, want.reason.value):
            faults.append(f"{name} ended {found.get(name)}, and not {want.outcome} ({want.reason})")
    good = all(want.outcome.value in ("ready", "adopted") for want in info.expected.values())
    if code != (0 if good else 3):
        faults.append(f"the last process ended with {code}")
    if left_s > LEFT_S:
        faults.append(f"a playbook's process outlived its run by {left_s:.1f} s")
    return Killed(kills, left_s, faults)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())


def _wait_for(log: Path) -> None:
    """Until the run has sent something."""
    give_up = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size):
        if time.monotonic() > give_up:
            raise AssertionError("the run did not begin")
        time.sleep(0.02)


def _outlived(info: LabInfo) -> float:
    """Seconds until the last process of a playbook was gone. Gives up when it has been too long already."""
    began = time.monotonic()
    mark = f"{MARK}={info.plan.parent}".encode()
    while _carriers(mark) and time.monotonic() - began < 2 * LEFT_S:
        time.sleep(0.05)
    return time.monotonic() - began


def _carriers(mark: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue  # ended meanwhile
            if any(value.startswith(mark) for value in environ.split(b"\0")):
                found.append(int(entry.name))
    return found
