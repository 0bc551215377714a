"""The simulated world: what the drivers would find, at virtual time. No socket, no process, no clock.

A machine per host (``sim.machine``), its latencies and faults drawn from the seed by name, so that the same seed gives
the same world whatever the order of the questions. Distributions are those of mass cold boots seen in the field; they
scale with the plan's own deadlines, because whoever writes ``boot: 20m`` expects boots of about five minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from bootorch.core.events import Intent, Kind, Scalar
from bootorch.core.model import Console, Deadlines, Host
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.sim import symptoms
from bootorch.sim.machine import BootFailure, Machine, MachineSpec, draw

_NORMAL = NormalDist()
_RESTART_CAUSES = {0: "unknown", 1: "chassis control command", 6: "always on by restore policy"}  # IPMI 2.0, 28.11


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A positive quantity by its median and one more quantile, both in the same unit."""

    median: float
    quantile: float
    at: float

    def sample(self, uniform: float) -> float:
        sigma = math.log(self.quantile / self.median) / _NORMAL.inv_cdf(self.at)
        return self.median * math.exp(sigma * _NORMAL.inv_cdf(min(max(uniform, 1e-6), 1 - 1e-6)))


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the field sees (seconds and shares). Times hold for the default deadlines and scale with the plan's."""

    bmc_boot: Lognormal = Lognormal(60.0, 300.0, 0.99)  # BMC usable after AC: 20 s Intel, 30 s HPE by manual
    power: Lognormal = Lognormal(3.0, 20.0, 0.95)  # chassis control until the chassis says on
    boot: Lognormal = Lognormal(300.0, 720.0, 0.95)
    silent_power_share: float = 0.01  # power-on accepted without effect; polls and re-sends elsewhere show it
    no_post_share: float = 0.015  # dead after a power cycle: no trustworthy figure, 0.2-5 % by age
    dead_bmc_share: float = 0.005
    on_share: float = 0.0  # found running: electricity that returned by itself
    exchange: Lognormal = Lognormal(0.05, 0.5, 0.99)  # one exchange with a BMC or a host that answers
    evidence: Lognormal = Lognormal(1.0, 10.0, 0.99)  # a read of the event log: 20 to 100 records at 20 to 50 ms
    playbook: Lognormal = Lognormal(40.0, 120.0, 0.95)  # one playbook on one slice
    task_failed_share: float = 0.01  # a host's playbook fails on one attempt


CALM = Parameters(silent_power_share=0.0, no_post_share=0.0, dead_bmc_share=0.0, task_failed_share=0.0)


class World:
    """Takes intents, says when each ends and what its answer is then."""

    def __init__(
        self,
        plan: Plan,
        seed: int,
        parameters: Parameters | None = None,
        specs: Mapping[str, MachineSpec] | None = None,
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._p = parameters if parameters is not None else Parameters()
        self.machines: dict[str, Machine] = {}
        for name, host in plan.hosts.items():
            spec = specs[name] if specs is not None else self._spec(host)
            self.machines[name] = Machine(spec, seed)

    def _spec(self, host: Host) -> MachineSpec:
        name, p = host.name, self._p
        scale = _scales(self._plan.groups[host.group].deadlines)

        def chance(word: str, share: float) -> bool:
            return share > 0 and draw(self._seed, word, name) < share

        spec = MachineSpec(
            name=name,
            boot_s=p.boot.sample(draw(self._seed, "boot", name)) * scale.boot,
            bmc_boot_s=p.bmc_boot.sample(draw(self._seed, "bmc", name)) * scale.bmc,
            initially_on=chance("on", p.on_share),
            dead_bmc=chance("dead-bmc", p.dead_bmc_share),
            silent_power_ons=1 if chance("silent", p.silent_power_share) else 0,
            boot_failure=BootFailure.NO_POST if chance("no-post", p.no_post_share) else None,
        )
        return replace(spec, boot_failure=None) if spec.initially_on else spec

    def ends_at(self, intent: Intent, now: float) -> float:
        """Run time at which the effect's answer is there."""
        uniform = draw(self._seed, "latency", intent.id)
        p = self._p
        if intent.kind is Kind.REDEPLOY:
            scale = _scales(self._plan.groups[intent.target].deadlines)
            return now + p.playbook.sample(uniform) * scale.redeploy
        if intent.kind is Kind.GATE_CHECK:
            return now + p.exchange.sample(uniform)
        machine = self.machines[intent.target]
        timeout_s = float(intent.args["timeout_s"])
        if intent.kind in (Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK):
            answers = machine.os_up(now)
        else:
            answers = machine.bmc_up(now)
        if not answers:
            # A host that is down refuses or swallows the connection; three seconds is a usual connect timeout.
            return now + min(timeout_s, 3.0)
        takes = p.evidence if intent.kind is Kind.EVIDENCE else p.exchange
        return now + min(timeout_s, takes.sample(uniform))

    def finish(self, intent: Intent, now: float) -> tuple[Reason, str, dict[str, Scalar], dict[str, tuple[str, str]]]:
        """The answer at ``now``: reason, detail, data, verdicts."""
        if intent.kind is Kind.GATE_CHECK:
            return Reason.OK, "", {}, {}
        if intent.kind is Kind.REDEPLOY:
            return Reason.OK, "", {}, {host: self._verdict(host, intent, now) for host in intent.hosts}
        machine = self.machines[intent.target]
        if intent.kind is Kind.BOOT_PROBE:
            uptime_s = machine.uptime_s(now)
            if uptime_s is None:
                return Reason.UNREACHABLE, "connection refused", {}, {}
            return Reason.OK, "", {"boot_id": str(machine.boot_id(now)), "uptime_s": round(uptime_s, 2)}, {}
        if intent.kind in (Kind.READY_CHECK, Kind.VERIFY_CHECK):
            up = machine.os_up(now)
            return (Reason.OK, "", {}, {}) if up else (Reason.UNREACHABLE, "connection refused", {}, {})
        if not machine.bmc_up(now):
            return Reason.BMC_UNREACHABLE, "no answer", {}, {}
        if intent.kind is Kind.EVIDENCE:
            return Reason.OK, "", self._evidence(machine, intent, now), {}
        return self._bmc(machine, intent, now), "", self._power(machine, intent, now), {}

    def _bmc(self, machine: Machine, intent: Intent, now: float) -> Reason:
        if intent.kind is Kind.POWER_ON:
            name = intent.target
            scale = _scales(self._plan.group_of(name).deadlines)
            machine.power_on(now + self._p.power.sample(draw(self._seed, "power", name, intent.attempt)) * scale.power)
        elif intent.kind is Kind.POWER_CYCLE:
            machine.cycle(now)
        return Reason.OK

    def _power(self, machine: Machine, intent: Intent, now: float) -> dict[str, Scalar]:
        return {"power": "on" if machine.is_on(now) else "off"} if intent.kind is Kind.POWER_READ else {}

    def _evidence(self, machine: Machine, intent: Intent, now: float) -> dict[str, Scalar]:
        """As the machine's BMC would tell it. Its events have no time: nobody has set a clock here."""
        flags = symptoms.power_flags(machine, now)
        since_t = now - float(intent.args["since_s"])
        events = [event for event in symptoms.sel(machine, now) if event.t >= since_t]
        data: dict[str, Scalar] = {
            "power": "on" if machine.is_on(now) else "off",
            "fault": flags.power_fault or flags.control_fault,
            "overload": False,
            "restart_cause": _RESTART_CAUSES[symptoms.restart_cause(machine)],
            "sel": "\n".join(f"{event.code} - {event.text}" for event in events),
        }
        if self._plan.group_of(intent.target).console is Console.BOOT:
            data["console"] = symptoms.console(machine, now)
        return data

    def _verdict(self, host: str, intent: Intent, now: float) -> tuple[str, str]:
        machine = self.machines[host]
        if not machine.os_up(now):
            return Reason.DARK.value, "connection lost"
        attempt = int(intent.args["playbook"]) * 100 + intent.attempt
        planned = intent.attempt <= machine.spec.playbook_failures
        if planned or draw(self._seed, "playbook", host, attempt) < self._p.task_failed_share:
            return Reason.TASK_FAILED.value, "simulated task failure"
        return Reason.OK.value, ""


@dataclass(frozen=True, slots=True)
class _Scales:
    bmc: float
    power: float
    boot: float
    redeploy: float


def _scales(deadlines: Deadlines) -> _Scales:
    usual = Deadlines()
    return _Scales(
        deadlines.bmc / usual.bmc,
        deadlines.power / usual.power,
        deadlines.boot / usual.boot,
        deadlines.redeploy / usual.redeploy,
    )
