"""What keeps a run from beginning or going on, seen before anything is sent. Each names what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal
from bootorch.core.model import Environment

if TYPE_CHECKING:
    from bootorch.core.plan import Plan
    from bootorch.core.spec import PlanSpec
    from bootorch.runtime.journal import Journal

FINISHED = ("done", "aborted")  # verdicts after which only a retry goes on


def confirmed(plan: Plan, confirm: str) -> None:
    if plan.environment is not Environment.PRODUCTION or confirm == plan.name:
        return
    message = (
        f"{confirm!r} is not the name of this plan"
        if confirm
        else f"production: this would switch on up to {len(plan.hosts):,} hosts"
    )
    remedy = f"say so by its name: --confirm {plan.name}"
    raise SafetyRefusal(Problem(f"{message}; nothing was sent", f"plan {plan.name}", remedy))


def check_gates(plan: Plan, approve: Mapping[str, str]) -> None:
    unknown = [gate for gate in approve if gate not in plan.gates]
    if unknown:
        known = ", ".join(plan.gates) or "none"
        raise InvalidInput(
            [Problem(f"no gate {gate!r} in the plan", "--approve", f"gates: {known}") for gate in unknown]
        )


def check_ansible(plan: Plan, spec: PlanSpec) -> None:
    from importlib.util import find_spec

    if any(group.redeploy for group in plan.groups.values()) and find_spec("ansible") is None:
        groups = ", ".join(name for name, group in plan.groups.items() if group.redeploy)
        remedy = "pip install 'bootorch[ansible]'"
        raise InvalidInput(Problem(f"groups {groups} have playbooks, and Ansible is not installed", "", remedy))
    if spec.mitogen and find_spec("ansible_mitogen") is None:
        remedy = "pip install mitogen, or remove the key: playbooks run without it too"
        where = spec.where("ansible", "mitogen")
        raise InvalidInput(Problem("the plan wants Mitogen, which is not installed; nothing was sent", where, remedy))


def check_unfinished(path: Path, name: str) -> None:
    from bootorch.runtime.rundir import journals

    found = journals(path, name)
    if found and not finished(found[-1]):
        directory = found[-1].parent
        remedy = f"bootorch resume {directory}, or bootorch run --new to begin anew"
        raise SafetyRefusal(Problem("a run of this plan has not ended", str(directory), remedy))


def same_plan(plan: Plan, journal: Journal) -> None:
    from bootorch.core.events import RunStarted

    started = next(journal.events(RunStarted), None)
    if not isinstance(started, RunStarted):
        raise InvalidInput(Problem("the journal holds no run", str(journal.path), "bootorch run PLAN begins one"))
    if started.plan_digest != plan.digest:
        remedy = "resume with the bootorch that began the run"
        raise SafetyRefusal(Problem("the journal's plan reads differently in this version", str(journal.path), remedy))


def finished(journal: Path) -> bool:
    from bootorch.runtime.journal import Journal

    with Journal.open(journal, readonly=True) as opened:
        return has_ended(opened)


def has_ended(journal: Journal) -> bool:
    from bootorch.core.events import RunEnded

    last = journal.last_event()
    return isinstance(last, RunEnded) and last.verdict in FINISHED
