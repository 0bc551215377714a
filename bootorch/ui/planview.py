"""What ``bootorch plan`` shows, for people and as JSON: waves, what each group waits for, limits, gates, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bootorch.core.compile_limits import SLOTS
from bootorch.core.errors import Problem
from bootorch.core.model import First, Gate, Meter, describe
from bootorch.core.nodesets import fold
from bootorch.core.partial import partial
from bootorch.core.plan import Plan
from bootorch.core.report import waits_for
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import Lines, Piece, hosts, span, watts
from bootorch.ui.services import PlanView

SCHEMA = "bootorch.plan/1"


def to_json(view: PlanView) -> dict[str, Any]:
    """Stable within a version of ``schema``."""
    plan = view.plan
    service = _service(plan)
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
        "groups": {name: _group_json(plan, service, name) for wave in plan.waves for name in wave},
        "tiers": _tiers(plan),
        "gates": {
            gate.name: {
                "ask": gate.ask,
                "check": describe(gate.check) if gate.check else "",
                "wait_s": gate.wait_s,
                "at": gate.at,
                "control": gate.control,
                "groups": list(gate.groups),
            }
            for gate in plan.gates.values()
        },
        "limits": {
            "feeds": {
                name: {
                    "budget_watts": feed.budget_watts,
                    "ramp_watts_per_min": feed.ramp_watts_per_min,
                    "inrush_amps": feed.inrush_amps,
                    "failover": feed.failover,
                    "dark": feed.dark,
                    "meter": _meter(feed.meter),
                }
                for name, feed in limits.feeds.items()
                if ":" not in name
            },
            "supplies": {
                name: {"budget": supply.budget_watts, "ramp_per_min": supply.ramp_watts_per_min}
                for name, supply in limits.feeds.items()
                if ":" in name
            },
            "slots": dict(limits.slots),
            "adaptive": dict(limits.adaptive),
            "measure": limits.measure,
            "breaker": {
                "group_failed_share": limits.breaker.group_failed_share,
                "same_model_failures": limits.breaker.same_model_failures,
                "cluster_failures": limits.breaker.cluster_failures,
            },
        },
        "partial": _partial_json(plan),
        "warnings": [problem_json(problem) for problem in view.warnings],
    }


def _tiers(plan: Plan) -> dict[str, int]:
    """Hosts of each tier, by its number as text."""
    sizes: dict[int, int] = {}
    for group in plan.groups.values():
        sizes[group.tier] = sizes.get(group.tier, 0) + len(group.hosts)
    return {str(tier): sizes[tier] for tier in sorted(sizes)}


def _meter(meter: Meter | None) -> list[str] | str | None:
    """A command as a list of arguments, a Redfish resource as its URL."""
    if meter is None:
        return None
    return list(meter.command) or meter.source


def _partial_json(plan: Plan) -> dict[str, Any] | None:
    found = partial(plan)
    if found is None:
        return None
    return {
        "dark_feeds": list(found.feeds),
        "now": {group: {"hosts": len(names), "nodes": fold(names)} for group, names in found.now.items()},
        "dark": {feed: {"hosts": len(names), "nodes": fold(names)} for feed, names in found.dark.items()},
        "held": [
            {
                "group": held.group,
                "hosts": len(held.hosts),
                "nodes": fold(held.hosts),
                "waits_for": list(held.waits),
                "feeds": list(held.feeds),
            }
            for held in found.held
        ],
    }


def _group_json(plan: Plan, service: Plan, name: str) -> dict[str, Any]:
    group = plan.groups[name]
    return {
        "wave": plan.wave_of[name],
        "tier": group.tier,
        "hosts": len(group.hosts),
        "nodes": fold(group.hosts),
        "waits_for": list(waits_for(service, name)),
        "control": [
            {
                "need": need.control,
                "group": need.group,
                "quorum": str(need.quorum),
                "per_host": need.per_host,
                "hosts": len(need.hosts) or len(group.hosts),
            }
            for need in group.requires
            if need.control
        ],
        "first": _first_json(group.first),
        "ready": [describe(check) for check in group.ready],
        "redeploy": list(group.redeploy),
        "boot_device": group.boot_device.value,
        "second_boot": group.second_boot.value,
        "console": group.console.value,
        "watts_boot_peak": sum(plan.hosts[host].watts_boot_peak for host in group.hosts),
    }


def _first_json(first: First | None) -> dict[str, Any] | None:
    return {"candidates": list(first.candidates), "ask": first.ask} if first else None


def _service(plan: Plan) -> Plan:
    """The plan without the needs of the control path, which are told apart."""
    if not any(need.control for group in plan.groups.values() for need in group.requires):
        return plan
    groups = {
        name: replace(group, requires=tuple(need for need in group.requires if not need.control))
        for name, group in plan.groups.items()
    }
    return replace(plan, groups=groups)


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
    service = _service(plan)
    for number, wave in enumerate(plan.waves):
        page.blank()
        size = sum(len(plan.groups[name].hosts) for name in wave)
        page.add((f"wave {number}", "bold"), f"  {hosts(size)}")
        page.table((_group_row(service, name) for name in wave), right=(1,))
    _tier_lines(plan, page)
    _control(plan, page)
    _firsts(plan, page)
    _limits(plan, page)
    _gates(plan, page)
    _partial(plan, page)
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


def _tier_lines(plan: Plan, page: Lines) -> None:
    """Which groups are urgent, where the plan says so at all."""
    by_tier: dict[int, list[str]] = {}
    for wave in plan.waves:
        for name in wave:
            by_tier.setdefault(plan.groups[name].tier, []).append(name)
    if len(by_tier) < 2:
        return
    page.blank()
    page.add(("tiers", "bold"), "  the lower, the more urgent")
    page.table(
        (
            (
                f"tier {tier}",
                f"{sum(len(plan.groups[name].hosts) for name in by_tier[tier]):,}",
                (_listed(by_tier[tier]), "dim"),
            )
            for tier in sorted(by_tier)
        ),
        right=(1,),
    )


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _control(plan: Plan, page: Lines) -> None:
    """What the recovery itself needs, one line for each kind and source."""
    needs: dict[tuple[str, str], dict[str, int]] = {}
    for group in plan.groups.values():
        for need in group.requires:
            if need.control:
                own = f", own {need.per_host}" if need.per_host else ""
                key = (need.control, f"{need.group} ({need.quorum}{own})")
                groups = needs.setdefault(key, {})
                groups[group.name] = groups.get(group.name, 0) + (len(need.hosts) or len(group.hosts))
    if not needs:
        return
    page.blank()
    page.add(("control path", "bold"), "  before these hosts' BMCs are asked")
    page.table(
        (
            (f"{control} from {source}", hosts(sum(groups.values())), ("for " + _listed(list(groups)), "dim"))
            for (control, source), groups in needs.items()
        )
    )


def _firsts(plan: Plan, page: Lines) -> None:
    rows = [
        (group.name, f"asks: {first.ask}" if first.ask else f"{', then '.join(first.candidates)} first, then the rest")
        for group in plan.groups.values()
        if (first := group.first)
    ]
    if rows:
        page.blank()
        page.add(("first members", "bold"))
        page.table(rows)


def _partial(plan: Plan, page: Lines) -> None:
    found = partial(plan)
    if found is None:
        return
    ready = sum(map(len, found.now.values()))
    page.blank()
    page.add(("partial power", "bold"), f"  dark: {', '.join(found.feeds)}; nothing is sent to hosts that hang on it")
    page.add(f"  {hosts(ready)} can be finished now")
    page.table(
        (
            (name, f"{len(names):,} of {len(plan.groups[name].hosts):,}", (_folded(names), "dim"))
            for name, names in found.now.items()
        ),
        indent=4,
    )
    if found.dark:
        page.add(f"  {hosts(sum(map(len, found.dark.values())))} wait for their feed")
        page.table(((feed, f"{len(names):,}", (_folded(names), "dim")) for feed, names in found.dark.items()), indent=4)
    if found.held:
        page.add(f"  {hosts(sum(len(held.hosts) for held in found.held))} have electricity and wait for dark hosts")
        page.table(
            (
                (
                    held.group,
                    f"{len(held.hosts):,}",
                    _folded(held.hosts),
                    ("waits for " + "; ".join(held.waits), "dim"),
                    (f"dark: {', '.join(held.feeds)}" if held.feeds else "", "dim"),
                )
                for held in found.held
            ),
            indent=4,
        )


def _folded(names: Sequence[str]) -> str:
    return fold_counted(names, 60).partition(" (")[0]


def _limits(plan: Plan, page: Lines) -> None:
    limits = plan.limits
    rows: list[tuple[Piece, ...]] = []
    for name, feed in limits.feeds.items():
        parts, amount = [], _plain if ":" in name else watts
        if feed.budget_watts is not None:
            parts.append(f"at most {amount(feed.budget_watts)}")
        if feed.ramp_watts_per_min is not None:
            parts.append(f"{amount(feed.ramp_watts_per_min)} more a minute")
        if feed.inrush_amps is not None:
            parts.append(f"at most {feed.inrush_amps:g} A of inrush")
        if not feed.failover:
            parts.append("no headroom for failover")
        if feed.meter is not None:
            parts.append(f"measured by {feed.meter.source}")
        if feed.dark:
            parts.append("dark")
        rows.append((f"supply {name}" if ":" in name else f"feed {name}", ", ".join(parts)))
    for name, count in limits.slots.items():
        what = f"{count:,}" if name in SLOTS else f"{count:,} hosts of one {name} boot at the same time"
        least = limits.adaptive.get(name)
        rows.append((f"slots {name}", what if least is None else f"{what}, down to {least:,} on overload"))
    if limits.measure:
        rows.append(("measure", "each host's BMC is asked for its draw once it is ready"))
    if limits.breaker.group_failed_share is not None:
        rows.append(("breaker", f"more than {limits.breaker.group_failed_share:.0%} of a group quarantined"))
    if limits.breaker.same_model_failures is not None:
        rows.append(("breaker", f"{limits.breaker.same_model_failures} hosts of one model quarantined"))
    if limits.breaker.cluster_failures is not None:
        count = limits.breaker.cluster_failures
        rows.append(("breaker", f"{count} hosts quarantined that share model, firmware, rack, feed or subnet"))
    if rows:
        page.blank()
        page.add(("limits", "bold"))
        page.table(rows)


def _plain(value: float) -> str:
    """An amount of a supply, in its own unit."""
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _gates(plan: Plan, page: Lines) -> None:
    if plan.gates:
        page.blank()
        page.add(("gates", "bold"))
        page.table((gate.name, *_gate_words(gate)) for gate in plan.gates.values())


def _gate_words(gate: Gate) -> tuple[str, str]:
    if gate.check:
        how = f"check {describe(gate.check)}"
    elif gate.wait_s is not None:
        how = f"opens {span(gate.wait_s)} after the start"
    else:
        how = f"opens at {gate.at}" if gate.at else f"asks: {gate.ask}"
    if gate.control:
        return how, f"before the BMCs of {', '.join(gate.groups)} are asked"
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
