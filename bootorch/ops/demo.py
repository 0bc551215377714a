"""``bootorch lab demo``: a whole recovery of a loopback lab with injected faults, judged by what they must lead to.

Everything is real but the servers: IPMI packets, SSH logins, Ansible. The judge knows the faults from the lab, and
reads what the BMCs saw from the lab's own log, the witness, rather than from the run's journal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootorch.core.errors import Exit, InvalidInput, Problem
from bootorch.core.model import Outcome
from bootorch.lab import control
from bootorch.lab.fleet import LabOptions
from bootorch.lab.site import LAB_JSON, Lab, read_lab
from bootorch.sim.faults import Expected
from bootorch.ui import commands
from bootorch.ui.lines import say
from bootorch.ui.services import LoadRequest, RunRequest, Services

if TYPE_CHECKING:
    from bootorch.core.state import State

_MARK = ".bootorch-demo"  # what makes a directory ours to remove


@dataclass(frozen=True, slots=True)
class Sighting:
    """A line of the lab's BMC log: an authenticated command, and when it came in seconds of the lab's clock."""

    t: float
    host: str
    command: str  # "chassis status", "chassis control", …
    argument: str  # of chassis control: "on", "off", "cycle", …


def run(services: Services, options: LabOptions) -> int:
    """Rehearse. Returns 0 exactly when every outcome is the one that the injected faults must lead to.

    ``options.directory`` holds the lab and the run.
    """
    directory = options.directory
    _clear(directory)
    directory.mkdir(parents=True)
    (directory / _MARK).touch()
    lab = directory / "lab"
    options = replace(options, directory=lab)
    info = control.up(options)
    try:
        say(("lab: ", "dim"), f"{info.hosts} hosts in {info.network}, IPMI and SSH on loopback; plan {info.plan}")
        services.snapshot(LoadRequest(info.plan))
        request = RunRequest(
            LoadRequest(info.plan), seed=options.seed, run_dir=directory / "run", by=commands.login_name()
        )
        code = commands.run(services, request, events="", as_json=False)
        if code not in (Exit.OK, Exit.INCOMPLETE):
            return code
        state = services.history(directory / "run").state
        faults = [
            *differences(state, info.expected),
            *unretried(state, read_lab(info.directory)),
            *misdeeds(witnessed(info.bmc_log), info.expected),
        ]
    finally:
        control.down(lab)
    for fault in faults:
        say(("demo: ", "bold red"), fault)
    if faults:
        return int(Exit.TOOL_ERROR)
    say(("demo: ", "bold green"), f"all {info.hosts} outcomes are the ones that the injected faults must lead to")
    say(("page: ", "dim"), str(directory / "run" / commands.PAGE))
    return int(Exit.OK)


def differences(state: State, expected: Mapping[str, Expected]) -> Iterator[str]:
    """Hosts that did not end as the faults say."""
    for name, outcome, reason, detail in state.outcomes():
        want = expected[name]
        if outcome is not want.outcome or (outcome is Outcome.QUARANTINED and reason is not want.reason):
            yield f"{name} ended {outcome} ({reason}: {detail}), expected {want.outcome} ({want.reason})"
    for name in expected.keys() - state.hosts.keys():
        yield f"{name} is in the lab and not in the run"


def unretried(state: State, lab: Lab) -> Iterator[str]:
    """Hosts whose fault shows only once, and that came up all the same: something must have been done again."""
    for host in lab.hosts:
        once = host.machine.silent_power_ons or host.playbook_fails_once
        if once and host.expected.outcome is Outcome.READY and not state.hosts[host.name].retries:
            yield f"{host.name} fails once, and nothing was done again"


def witnessed(log: Path) -> list[Sighting]:
    """What the BMCs saw, in order."""
    lines = log.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return [Sighting(float(r["t"]), str(r["host"]), str(r["command"]), str(r["argument"])) for r in records]


def misdeeds(seen: list[Sighting], expected: Mapping[str, Expected]) -> Iterator[str]:
    """What a recovery must never do to a server, whatever its journal says."""
    read: set[str] = set()
    for sighting in seen:
        name = sighting.host
        if sighting.command == "chassis status":
            read.add(name)
        elif sighting.command == "chassis control":
            what = f"chassis control {sighting.argument} at {sighting.t:.1f} s"
            if sighting.argument != "on":
                yield f"{name} got {what}: nothing but power-on is automatic"
            if expected[name].outcome is Outcome.ADOPTED:
                yield f"{name} was on already and got {what}"
            if name not in read:
                yield f"{name} got {what} with no reading of its state since the last"
            read.discard(name)


def _clear(directory: Path) -> None:
    """Remove an earlier demo, its lab included; nothing else is ever removed."""
    if not directory.exists():
        return
    if not (directory / _MARK).exists():
        remedy = "give another --directory, or remove it yourself"
        raise InvalidInput(Problem("the directory is not a demo's", str(directory), remedy))
    if (directory / "lab" / LAB_JSON).exists():
        control.down(directory / "lab")
    shutil.rmtree(directory)
