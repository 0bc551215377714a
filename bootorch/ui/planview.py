"""What ``bootorch plan`` shows, for people and as JSON: waves, what each group waits for, limits, gates, warnings."""

from __future__ import annotations

from typing import Any

from bootorch.core.errors import Problem
from bootorch.core.model import Gate, describe
from bootorch.core.nodesets import fold
from bootorch.core.plan import Plan
from bootorch.core.report import waits_for
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import Lines, Piece, hosts, watts
from bootorch.ui.services import PlanView

SCHEMA = "bootorch.plan/1"


def to_json(view: PlanView) -> dict[str, Any]:
    """Stable within a version of ``schema``."""
    plan = view.plan
    limits = plan.limits
    return {
        "schema": SCHEMA,
        "name": plan.name,
        "environment": plan.environment.value,
        "digest": plan.digest,
        "snapshot": view.snapshot,
        "hosts": len(plan.hosts),
        "site": {
            "bmc_networks": [str(network) for network in plan.site.bmc_networks],
            "host_networks": [str(network) for network in plan.site.host_networks],
        },
        "waves": [list(wave) for wave in plan.waves],
        "groups": {name: _group_json(plan, name) for wave in plan.waves for name in wave},
        "gates": {
            gate.name: {
                "ask": gate.ask,
                "check": describe(gate.check) if gate.check else "",
                "groups": list(gate.groups),
            }
            for gate in plan.gates.values()
        },
        "limits": {
            "feeds": {
                name: {"budget_watts": feed.budget_watts, "ramp_watts_per_min": feed.ramp_watts_per_min}
                for name, feed in limits.feeds.items()
            },
            "slots": dict(limits.slots),
            "breaker": {
                "group_failed_share": limits.breaker.group_failed_share,
                "same_model_failures": limits.breaker.same_model_failures,
            },
        },
        "warnings": [problem_json(problem) for problem in view.warnings],
    }


def _group_json(plan: Plan, name: str) -> dict[str, Any]:
    group = plan.groups[name]
    return {
        "wave": plan.wave_of[name],
        "tier": group.tier,
        "hosts": len(group.hosts),
        "nodes": fold(group.hosts),
        "waits_for": list(waits_for(plan, name)),
        "ready": [describe(check) for check in group.ready],
        "redeploy": list(group.redeploy),
        "boot_device": group.boot_device.value,
        "second_boot": group.second_boot.value,
        "console": group.console.value,
        "watts_boot_peak": sum(plan.hosts[host].watts_boot_peak for host in group.hosts),
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.message,
        "where": problem.where,
        "remedy": problem.remedy,
        "hosts": list(problem.hosts),
    }


def lines(view: PlanView, plan_path: str) -> Lines:
    """For people: totals and the next command last."""
    plan, page = view.plan, Lines()
    page.add((plan.name, "bold"), f" · {plan.environment} · {hosts(len(plan.hosts))} · {view.snapshot}")
    for number, wave in enumerate(plan.waves):
        page.blank()
        size = sum(len(plan.groups[name].hosts) for name in wave)
        page.add((f"wave {number}", "bold"), f"  {hosts(size)}")
        page.table((_group_row(plan, name) for name in wave), right=(1,))
    _limits(plan, page)
    _gates(plan, page)
    problems(view.warnings, page, "warning")
    page.blank()
    noun = "group" if len(plan.groups) == 1 else "groups"
    page.add(
        f"{hosts(len(plan.hosts))} in {len(plan.groups)} {noun} and {len(plan.waves)} waves, ",
        f"{len(view.warnings)} warning{'' if len(view.warnings) == 1 else 's'}; plan ",
        (plan.digest[:12], "bold"),
    )
    # Without a snapshot there is no dry run, and in the dark no run at all.
    following = "run --dry-run" if view.from_snapshot else "inventory snapshot"
    page.add(("next: ", "dim"), f"bootorch {following} {plan_path}")
    return page


def _group_row(plan: Plan, name: str) -> tuple[Piece, ...]:
    group = plan.groups[name]
    waits = "; ".join(waits_for(plan, name))
    checks = ", ".join(describe(check) for check in group.ready)
    does = f"{len(group.redeploy)} playbook{'' if len(group.redeploy) == 1 else 's'}" if group.redeploy else ""
    parts = [f"waits for {waits}" if waits else "waits for nothing", f"ready: {checks}" if checks else "", does]
    return (
        (name, "bold"),
        f"{len(group.hosts):,}",
        fold_counted(group.hosts, 40).partition(" (")[0],
        ("  ·  ".join(part for part in parts if part), "dim"),
    )


def _limits(plan: Plan, page: Lines) -> None:
    limits = plan.limits
    rows: list[tuple[Piece, ...]] = []
    for name, feed in limits.feeds.items():
        parts = []
        if feed.budget_watts is not None:
            parts.append(f"at most {watts(feed.budget_watts)}")
        if feed.ramp_watts_per_min is not None:
            parts.append(f"{watts(feed.ramp_watts_per_min)} more a minute")
        rows.append((f"feed {name}", ", ".join(parts)))
    rows += [(f"slots {name}", f"{count:,}") for name, count in limits.slots.items()]
    if limits.breaker.group_failed_share is not None:
        rows.append(("breaker", f"more than {limits.breaker.group_failed_share:.0%} of a group quarantined"))
    if limits.breaker.same_model_failures is not None:
        rows.append(("breaker", f"{limits.breaker.same_model_failures} hosts of one model quarantined"))
    if rows:
        page.blank()
        page.add(("limits", "bold"))
        page.table(rows)


def _gates(plan: Plan, page: Lines) -> None:
    if plan.gates:
        page.blank()
        page.add(("gates", "bold"))
        page.table((gate.name, *_gate_words(gate)) for gate in plan.gates.values())


def _gate_words(gate: Gate) -> tuple[str, str]:
    how = f"check {describe(gate.check)}" if gate.check else f"asks: {gate.ask}"
    return how, f"before {', '.join(gate.groups)}" if gate.groups else "before any power-on"


def problems(found: tuple[Problem, ...], page: Lines, word: str) -> None:
    """Every problem with its place, hosts and remedy."""
    style = "bold red" if word == "error" else "yellow"
    for problem in found:
        page.blank()
        where = f"{problem.where}: " if problem.where else ""
        page.add((f"{word}: ", style), (where, "bold"), problem.message)
        if problem.hosts:
            page.add("  hosts:  ", fold_counted(problem.hosts, 400))
        if problem.remedy:
            page.add("  remedy: ", problem.remedy)
