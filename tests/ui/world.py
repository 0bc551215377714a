"""A small deterministic world for the views: the real engine, driven in virtual time against modelled machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from ipaddress import IPv4Network

from bootorch.core.engine import Engine
from bootorch.core.events import Event, GateOpened, Intent, Kind, RunEnded, RunStarted, Scalar
from bootorch.core.graph import waves
from bootorch.core.model import Endpoint, Environment, Gate, Group, Host, Limits, Site
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.sim import symptoms
from bootorch.sim.machine import Machine, MachineSpec, draw

BMC_CLOCK = datetime(2026, 2, 28, 18, 50, tzinfo=UTC)  # when the electricity came back
WALL = "2026-03-01T04:00:00+09:00"


def make_host(name: str, group: str, number: int, **facts: object) -> Host:
    address = f"127.1.{number // 250}.{number % 250 + 1}"
    given: dict[str, object] = {"rack": f"r{number % 4 + 1}", "feeds": ("hall-a",), "watts_boot_peak": 400.0}
    given |= {"watts_steady": 250.0, "model": "R640", "firmware": "2.1", **facts}
    return Host(name, group, Endpoint(address, 20623), "admin", None, address, **given)  # type: ignore[arg-type]


def make_plan(
    groups: Iterable[Group], hosts: Iterable[Host], limits: Limits | None = None, gates: Iterable[Gate] = ()
) -> Plan:
    by_name = {group.name: group for group in groups}
    graph = {g.name: [*(r.group for r in g.requires), *g.after] for g in by_name.values()}
    return Plan(
        name="lab-cold-boot",
        environment=Environment.LAB,
        site=Site((IPv4Network("127.0.0.0/8"),), (IPv4Network("127.0.0.0/8"),)),
        hosts={host.name: host for host in sorted(hosts, key=lambda host: host.name)},
        groups=by_name,
        limits=limits or Limits(),
        gates={gate.name: gate for gate in gates},
        waves=waves(graph),
        digest="0123456789abcdef" * 4,
    )


@dataclass
class World:
    """Answers every intent after a while, as the machines stand then. ``run`` gives all events, in order."""

    plan: Plan
    specs: Mapping[str, MachineSpec] = field(default_factory=dict)
    approvals: Mapping[str, tuple[float, str]] = field(default_factory=dict)  # gate -> (when, by whom)
    seed: int = 1
    limit: tuple[str, ...] = ()
    stop_t: float = 1e9

    def __post_init__(self) -> None:
        self.machines = {
            name: Machine(self.specs.get(name) or self._usual(name), self.seed) for name in self.plan.hosts
        }
        self.playbook_failures = {name: machine.spec.playbook_failures for name, machine in self.machines.items()}
        self.engine = Engine(self.plan)

    def _usual(self, name: str) -> MachineSpec:
        return MachineSpec(name, boot_s=40.0 + 60.0 * draw(self.seed, name, "boot") ** 2)

    def run(self) -> list[Event]:
        engine = self.engine
        limit = "some" if self.limit else ""
        started = RunStarted(
            0.0, "20260301-0400", "lab-cold-boot", self.plan.digest, len(self.plan.hosts), self.seed, WALL, "kim",
            limit, self.limit,
        )  # fmt: skip
        events: list[Event] = [started]
        engine.apply(started)
        queue: list[tuple[float, int, Intent]] = []
        words = sorted((t, gate, by) for gate, (t, by) in self.approvals.items())
        now = 0.0
        for _ in range(2_000_000):
            batch = engine.decide(now)
            events += batch
            for event in batch:
                if isinstance(event, Intent):
                    heappush(queue, (now + self._takes(event), event.id, event))
            if not engine.state.unsettled:
                break
            timer = engine.next_timer()
            times = [
                t for t in (timer, queue[0][0] if queue else None, words[0][0] if words else None) if t is not None
            ]
            if not times or min(times) > self.stop_t:
                break
            now = max(now, min(times))
            while words and words[0][0] <= now:
                _, gate, by = words.pop(0)
                self._apply(GateOpened(now, gate, by, "voltage steady for 10 min"), events)
            while queue and queue[0][0] <= now:
                self._answer(heappop(queue)[2], now, events)
        ready = all(host.outcome in ("ready", "adopted") for host in engine.state.hosts.values())
        if not engine.state.unsettled:
            self._apply(RunEnded(now, "ready" if ready else "incomplete", "2026-03-01T04:12:00+09:00"), events)
        return events

    def _apply(self, event: Event, events: list[Event]) -> None:
        self.engine.apply(event)
        events.append(event)

    def _takes(self, intent: Intent) -> float:
        if intent.kind is Kind.REDEPLOY:
            return 12.0 + 20.0 * draw(self.seed, intent.id)
        machine = self.machines.get(intent.target)
        if machine is not None and machine.spec.dead_bmc:
            return float(intent.args["timeout_s"])
        return 0.1 + 0.2 * draw(self.seed, intent.id)

    def _answer(self, intent: Intent, now: float, events: list[Event]) -> None:
        reason, detail, data = Reason.OK, "", dict[str, Scalar]()
        verdicts: dict[str, tuple[str, str]] = {}
        if intent.kind is Kind.REDEPLOY:
            for name in intent.hosts:
                verdicts[name] = (Reason.OK, "")
                if self.playbook_failures[name]:
                    self.playbook_failures[name] -= 1
                    verdicts[name] = (Reason.TASK_FAILED, "task 'Install packages': mirror gave no answer")
        elif intent.kind is not Kind.GATE_CHECK:
            reason, detail, data = self._one(self.machines[intent.target], intent, now)
        self._apply(self.engine.answer(intent, now, reason, detail, data, verdicts), events)

    def _one(self, machine: Machine, intent: Intent, now: float) -> tuple[Reason, str, dict[str, Scalar]]:
        if intent.kind in (Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_CYCLE):
            if not machine.bmc_up(now):
                return Reason.BMC_UNREACHABLE, f"no answer from {self.plan.hosts[intent.target].bmc}", {}
            if intent.kind is Kind.POWER_ON:
                machine.power_on(now)
            elif intent.kind is Kind.POWER_CYCLE:
                machine.cycle(now)
            return Reason.OK, "", {"power": "on" if machine.is_on(now) else "off"}
        if intent.kind is Kind.EVIDENCE:
            since_t = now - float(intent.args["since_s"])
            events = [event.line(BMC_CLOCK) for event in symptoms.sel(machine, now) if event.t >= since_t]
            console = symptoms.console(machine, now)
            power = "on" if machine.is_on(now) else "off"
            return Reason.OK, "", {"power": power, "sel": "\n".join(events), "console": console}
        uptime_s = machine.uptime_s(now)
        if uptime_s is None:
            return Reason.UNREACHABLE, f"no answer from {self.plan.hosts[intent.target].address}:22", {}
        return Reason.OK, "", {"uptime_s": uptime_s, "boot_id": machine.boot_id(now) or ""}
