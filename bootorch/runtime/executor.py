"""From an intent to the driver that carries it out, and back to an answer. One exchange each; no policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from bootorch.core.acting import FATAL
from bootorch.core.events import Intent, Kind, Scalar
from bootorch.core.hostfacts import is_name
from bootorch.core.model import BootDevice, Check, Console, Group, Host, SshCheck, describe
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.drivers.meter import read_meter
from bootorch.drivers.names import Names, Unresolved
from bootorch.drivers.protocols import DrawDriver, PowerDriver, ReachDriver, RedeployDriver, Reply, Slice

_OF_BMC = (Kind.POWER_READ, Kind.POWER_ON, Kind.POWER_CYCLE, Kind.EVIDENCE, Kind.METER)

MOST_OUTPUTS = 20  # hosts of a slice whose failing task's output is kept: a playbook that fails everywhere fails alike
_AWAY = "nothing was sent: this process was away since it was decided"

_log = structlog.get_logger("bootorch.executor")


@dataclass(frozen=True, slots=True)
class Drivers:
    power: Mapping[str, PowerDriver]  # by the host's ``power``
    reach: ReachDriver
    redeploy: RedeployDriver
    redfish: DrawDriver | None = None  # None: nothing of the plan is measured by it

    async def aclose(self) -> None:
        for power in self.power.values():
            await power.aclose()
        await self.reach.aclose()
        await self.redeploy.aclose()
        if self.redfish is not None:
            await self.redfish.aclose()


@dataclass(frozen=True, slots=True)
class Result:
    reason: Reason
    detail: str = ""
    data: Mapping[str, Scalar] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Executor:
    def __init__(
        self,
        plan: Plan,
        drivers: Drivers,
        run_id: str,
        booting: Iterable[str] = (),
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        """``booting``: hosts whose boots another process began (``State.booting``). ``holds``: may anything be sent
        (``Lease.holds``)? It is asked when an effect begins, which may be long after it was decided."""
        self._plan = plan
        self._drivers = drivers
        self._run_id = run_id
        self._holds = holds
        self._booting = set(booting)  # hosts whose consoles are evidence
        self._names = Names(plan) if plan.dns_group else None

    async def perform(self, intent: Intent) -> Result:
        """Carry the intent out. Never raises but for cancellation: a driver's bug becomes ``Reason.INTERNAL``."""
        try:
            return await self._perform(intent)
        except Exception as error:  # noqa: BLE001 - one host's trouble must not take the fleet down; it is reported
            _log.exception("driver failed", kind=intent.kind, target=intent.target)
            detail = f"{type(error).__name__} in the driver: a fault of bootorch, see the log"
            verdicts = dict.fromkeys(intent.hosts, (Reason.SLICE_LOST.value, detail))
            return Result(Reason.INTERNAL, detail, {}, verdicts)

    async def _perform(self, intent: Intent) -> Result:
        timeout_s = float(intent.args["timeout_s"])
        if not self._holds():
            return _not_begun(intent)
        if intent.kind is Kind.GATE_CHECK:
            check = self._plan.gates[intent.target].check
            if check is None:
                raise AssertionError(f"gate {intent.target} has no check")
            return _result(await self._drivers.reach.check_url(check, timeout_s))
        if intent.kind is Kind.REDEPLOY:
            return await self._redeploy(intent, timeout_s)
        if intent.kind is Kind.FEED_METER:
            meter = self._plan.limits.feeds[intent.target].meter
            if meter is None:
                raise AssertionError(f"feed {intent.target} has no meter")
            if meter.redfish is not None:
                return _result(await self._redfish().feed(meter.redfish, timeout_s))
            return _result(await read_meter(meter, timeout_s))
        host = await self._resolved(self._plan.hosts[intent.target], timeout_s, bmc=intent.kind in _OF_BMC)
        if isinstance(host, Reply):
            return _result(host)
        if intent.kind is Kind.BOOT_PROBE and host.name in self._booting:  # its console is watched at its BMC
            known = await self._resolved(host, timeout_s, bmc=True)
            host = known if isinstance(known, Host) else host
        if not self._holds():  # a name took its time
            return _not_begun(intent)
        return _result(await self._on_host(intent, host, self._plan.groups[host.group], timeout_s))

    async def _resolved(self, host: Host, timeout_s: float, *, bmc: bool) -> Host | Reply:
        """The host with the address that its name has now; a driver never sees a name."""
        name = host.bmc.address if bmc else host.address
        if self._names is None or not is_name(name):
            return host
        try:
            address = await self._names.address(name, bmc=bmc, timeout_s=timeout_s)
        except Unresolved as error:
            return Reply(Reason.BMC_UNREACHABLE if bmc else Reason.UNREACHABLE, f"its name has no address: {error}")
        return replace(host, bmc=replace(host.bmc, address=address)) if bmc else replace(host, address=address)

    async def _on_host(self, intent: Intent, host: Host, group: Group, timeout_s: float) -> Reply:
        power, reach = self._drivers.power[host.power], self._drivers.reach
        match intent.kind:
            case Kind.POWER_READ:
                return await power.read(host, timeout_s)
            case Kind.POWER_ON:
                device = BootDevice(str(intent.args.get("device", BootDevice.NONE)))
                return self._begun(host, group, await power.on(host, device, timeout_s))
            case Kind.POWER_CYCLE:
                return self._begun(host, group, await power.cycle(host, timeout_s))
            case Kind.EVIDENCE:
                self._booting.discard(host.name)
                console = group.console is Console.BOOT
                return await power.evidence(host, float(intent.args["since_s"]), timeout_s, console=console)
            case Kind.METER:
                by_redfish = host.fact("draw_by") == "redfish"
                return await (self._redfish().host if by_redfish else power.meter)(host, timeout_s)
            case Kind.BOOT_PROBE:
                if group.proof_by_ssh:
                    reply = await reach.boot_evidence(host, timeout_s)
                else:
                    reply = await self._checks(host, group.ready[:1], timeout_s)
                if host.name in self._booting:
                    self._goes_on(host, reply)
                return reply
            case Kind.READY_CHECK:
                return await self._checks(host, group.ready, timeout_s)
            case Kind.VERIFY_CHECK:
                return await self._checks(host, group.verify or group.ready, timeout_s)
            case _:
                raise AssertionError(intent.kind)

    def _redfish(self) -> DrawDriver:
        assert self._drivers.redfish is not None, "the plan measures by it"
        return self._drivers.redfish

    def _begun(self, host: Host, group: Group, reply: Reply) -> Reply:
        """A boot may have begun: from now on its console is evidence."""
        sent = reply.data.get("sent", True)
        if sent and group.console is Console.BOOT and reply.reason in (Reason.OK, Reason.BMC_LOST):
            self._booting.add(host.name)
            self._drivers.power[host.power].watch(host, anew=True)
        return reply

    def _goes_on(self, host: Host, reply: Reply) -> None:
        """A boot was looked at. One that is over frees its console; else it is watched, whoever began it."""
        power = self._drivers.power[host.power]
        if reply.ok or reply.reason in FATAL:
            self._booting.discard(host.name)
            power.unwatch(host)
        elif self._plan.groups[host.group].console is Console.BOOT:
            power.watch(host, anew=False)

    async def _checks(self, host: Host, checks: tuple[Check, ...], timeout_s: float) -> Reply:
        """All checks in order; the first that does not hold is the answer."""
        for check in checks or (SshCheck(),):
            if not self._holds():
                return Reply(Reason.INTERRUPTED, _AWAY)
            reply = await self._drivers.reach.check(host, check, timeout_s)
            if not reply.ok:
                said = f": {reply.detail}" if reply.detail else ""
                return Reply(reply.reason, f"{describe(check)}{said}", reply.data)
        return Reply(Reason.OK)

    async def _redeploy(self, intent: Intent, timeout_s: float) -> Result:
        group = self._plan.groups[intent.target]
        found = [await self._resolved(self._plan.hosts[name], timeout_s, bmc=False) for name in intent.hosts]
        lost = {
            name: (Reason.DARK.value, host.detail)
            for name, host in zip(intent.hosts, found, strict=True)
            if isinstance(host, Reply)
        }
        if not self._holds():
            return _not_begun(intent)
        if len(lost) == len(intent.hosts):
            return Result(Reason.OK, "no host of the slice has an address", {}, lost)
        work = Slice(
            ident=f"{self._run_id}-{group.name}-{intent.id}-{intent.attempt}",
            playbook=group.redeploy[int(intent.args["playbook"])],
            hosts=tuple(host for host in found if isinstance(host, Host)),
            forks=int(intent.args["forks"]),
        )
        reply = await self._drivers.redeploy.run(work, timeout_s)
        verdicts = {name: (verdict.reason.value, verdict.detail) for name, verdict in reply.verdicts.items()} | lost
        for name in intent.hosts:
            verdicts.setdefault(name, (Reason.NEVER_RAN.value, reply.detail))
        wrote = [(name, verdict.output) for name, verdict in reply.verdicts.items() if verdict.output]
        return Result(reply.reason, reply.detail, dict(wrote[:MOST_OUTPUTS]), verdicts)


def _not_begun(intent: Intent) -> Result:
    return Result(Reason.INTERRUPTED, _AWAY, {}, dict.fromkeys(intent.hosts, (Reason.INTERRUPTED.value, _AWAY)))


def _result(reply: Reply) -> Result:
    return Result(reply.reason, reply.detail, reply.data)
