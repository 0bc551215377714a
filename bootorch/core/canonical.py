"""The digest's view of a plan: what it says, without what depends on where its file lies.

Settings that came after the first release count only where they are used: a plan without them keeps its digest, so
that a run that an earlier release began can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any

from bootorch.core.model import Breaker, Console, FeedLimit, Gate, Limits, Meter, Requirement
from bootorch.core.spec import NO_CONTROL, GroupSpec, PlanSpec

# Fields that are written always, because the first release did; the others only where they differ from their default.
_FIRST_RELEASE: Mapping[type, frozenset[str]] = {
    FeedLimit: frozenset({"budget_watts", "ramp_watts_per_min"}),
    Breaker: frozenset({"group_failed_share", "same_model_failures"}),
    Gate: frozenset({"name", "ask", "check", "groups"}),
    Meter: frozenset({"command", "every_s"}),
    Requirement: frozenset({"group", "quorum", "across_racks", "per_host"}),
    GroupSpec: frozenset(field.name for field in fields(GroupSpec)) - {"console", "first", "together"},
}


def canonical(spec: PlanSpec, limits: Limits) -> object:
    """Plain values for ``inventory.digest_of``. ``limits`` are those of the plan, with normalised names."""
    return {
        "name": spec.name,
        "environment": spec.environment,
        "site": [[str(net) for net in spec.site.bmc_networks], [str(net) for net in spec.site.host_networks]],
        "feeds": {path: text_of(limit) for path, limit in limits.feeds.items()},
        "slots": dict(limits.slots),
        "breaker": text_of(limits.breaker),
        "gates": {name: text_of(gate) for name, gate in spec.gates.items()},
        "groups": {name: _group(spec, group) for name, group in spec.groups.items()},
        **_later(spec, limits),
    }


def _group(spec: PlanSpec, group: GroupSpec) -> list[object]:
    text = text_of(replace(group, redeploy=(), console=Console.BOOT))
    # The console was the first setting to come later, and is written in a way of its own.
    console = [f"console={group.console}"] if group.console is not Console.BOOT else []
    return [text, [spec.relative(path) for path in group.redeploy], *console]


def _later(spec: PlanSpec, limits: Limits) -> dict[str, object]:
    found: dict[str, object] = {}
    if limits.adaptive:
        found["adaptive"] = dict(limits.adaptive)
    if limits.during:
        found["during"] = {kind: list(stages) for kind, stages in sorted(limits.during.items())}
    if limits.measure:
        found["measure"] = True
    if spec.supplies:
        found["supplies"] = {name: text_of(supply) for name, supply in spec.supplies.items()}
    if (control := replace(spec.control, hosts_file="")) != NO_CONTROL:
        found["control"] = text_of(control)
    if spec.names:
        found["names"] = dict(spec.names)
    return found


def text_of(value: Any) -> str:
    """As ``repr``, without the fields that were not there in the first release and hold their default.

    >>> text_of(FeedLimit(400.0)), text_of(FeedLimit(400.0, dark=True))
    ('FeedLimit(budget_watts=400.0, ramp_watts_per_min=None)', \
'FeedLimit(budget_watts=400.0, ramp_watts_per_min=None, dark=True)')
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(text_of, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {text_of(value[key])}' for key in sorted(value))}}}"
    if not is_dataclass(value):
        return repr(value)
    always = _FIRST_RELEASE.get(type(value))
    parts = [
        f"{field.name}={text_of(found)}"
        for field in fields(value)
        if (found := getattr(value, field.name)) != _default(field) or always is None or field.name in always
    ]
    return f"{type(value).__name__}({', '.join(parts)})"


def _default(field: Field[Any]) -> object:
    return field.default
