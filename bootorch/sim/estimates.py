"""What is known of the hosts' boots, put into a plan: the engine orders power-ons by it, and looks when it is time."""

from __future__ import annotations

from dataclasses import replace

from bootorch.core.model import Host
from bootorch.core.plan import Plan
from bootorch.sim.parameters import ModelParameters, Parameters

_NO_MODEL = ModelParameters()


def known_hosts(plan: Plan, parameters: Parameters) -> int:
    """How many of the plan's hosts have a boot that was measured, of their own or of their model."""
    return sum(_estimate_s(host, parameters) > 0 for host in plan.hosts.values())


def with_estimates(plan: Plan, parameters: Parameters) -> Plan:
    """The plan with measured boots in place of what its inventory says: the host's own, else those of its model.

    ``Host.boot_s`` is from power-on to proof, so what the chassis takes to come on is in it.
    """
    hosts = {}
    for name, host in plan.hosts.items():
        estimate_s = _estimate_s(host, parameters)
        hosts[name] = replace(host, boot_s=round(estimate_s, 3)) if estimate_s > 0 else host
    return replace(plan, hosts=hosts)


def _estimate_s(host: Host, parameters: Parameters) -> float:
    """Seconds; 0: nothing was measured."""
    model = parameters.models.get(host.model, _NO_MODEL)
    own_s = parameters.hosts.get(host.name)
    if own_s is None and model.boot is not None:
        own_s = model.boot.quantile(0.5)
    power = model.power if model.power is not None else parameters.power
    return own_s + power.quantile(0.5) if own_s else 0.0
