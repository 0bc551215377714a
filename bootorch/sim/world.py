"""The simulated world: what the drivers would find, at virtual time. No socket, no process, no clock.

Each host is a server with latencies and faults that are drawn from the seed by its name (``sim.fate``), so that the
same seed gives the same world whatever the order of the questions. Servers are made when first asked for.

A watch whose answer cannot change before a known time says so: the answer's data hold ``retry_after_s``, as a server
does with Retry-After (RFC 9110, 10.2.3), and the engine does not look before. The delay that real polling costs is in
it, drawn evenly from the time between two looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

from bootorch.core.events import Intent, Kind, Scalar
from bootorch.core.limits import feed_path
from bootorch.core.model import BootDevice, Console, Host, SecondBoot
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.retry import look_s, poll_s
from bootorch.core.slots import IN_FLIGHT
from bootorch.core.values import value
from bootorch.sim import symptoms
from bootorch.sim.distributions import Lognormal
from bootorch.sim.draw_meter import FeedMeters
from bootorch.sim.draws import Draws
from bootorch.sim.exchanges import Constant, Losses, Traffic
from bootorch.sim.fate import NEVER_S, Fates, ImageServer, Server
from bootorch.sim.machine import FIRMWARE_SHARE, BootFailure, Change, Machine, MachineSpec, PowerEvent
from bootorch.sim.parameters import CALM, FIELD, Parameters

__all__ = ["CALM", "FIELD", "NEVER_S", "HostTimes", "Lognormal", "Parameters", "World"]

# Requests of an exchange, login included: any of them, or its answer, may be lost. A power-on with a boot option reads
# the state first, then sets the option and reads it back.
_PACKETS, _PACKETS_ON = 8, 13
_READ_CAP_S = 15.0  # the engine's own backoff between reads of a BMC that does not answer
_FIRST_LOOK_S = 0.2  # the engine's first look after an accepted power-on
_RESTART_CAUSES = {0: "unknown", 1: "chassis control command", 6: "always on by restore policy"}  # IPMI 2.0, 28.11
_CHECKS = frozenset({Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK})
_NO_HOST = frozenset({Kind.GATE_CHECK, Kind.REDEPLOY, Kind.FEED_METER})
_COMMANDS = frozenset({Kind.POWER_ON, Kind.POWER_CYCLE})

# Members of enumerations by names of their own: Python looks an attribute of an Enum up in 50 ns, several a call.
_OK = Reason.OK
_GATE_CHECK = Kind.GATE_CHECK
_REDEPLOY = Kind.REDEPLOY
_FEED_METER = Kind.FEED_METER
_EVIDENCE = Kind.EVIDENCE
_BOOT_PROBE = Kind.BOOT_PROBE
_POWER_READ = Kind.POWER_READ
_POWER_ON = Kind.POWER_ON
_POWER_CYCLE = Kind.POWER_CYCLE
_METER = Kind.METER

Finished = tuple[Reason, str, dict[str, Scalar], dict[str, tuple[str, str]]]


@value(frozen=True, slots=True)
class HostTimes:
    """What the world has drawn for one host, in seconds. For whoever reckons without running anything.

    ``bmc_up_s``: run time of its BMC's first answer (infinite: never). ``power_s``: from the accepted power-on to a
    chassis that is on. ``boot_s``: from there to the first login. ``ready_s``: from there until its checks hold.
    ``redeploy_s``: each playbook of its group, in a slice that this host leads alone. ``self_start_s``: run time at
    which it starts whatever the engine does, or None. ``fails``: why it cannot become ready when everything it needs is
    there (empty: it can); ``failure_s``: how long, from the beginning of its first stage, until the deadlines say so.
    """

    bmc_up_s: float
    power_s: float
    boot_s: float
    ready_s: float
    redeploy_s: tuple[float, ...]
    self_start_s: float | None
    fails: str
    failure_s: float


class World:
    """Takes intents, says when each ends and what its answer is then. ``machines``: each host's model, by name.

    ``specs``: machines that are to be as they say, instead of drawn.
    """

    def __init__(
        self,
        plan: Plan,
        seed: int,
        parameters: Parameters | None = None,
        specs: Mapping[str, MachineSpec] | None = None,
    ) -> None:
        p = parameters if parameters is not None else Parameters()
        self._plan = plan
        self._seed = seed
        self._p = p
        self._draws = Draws(seed)
        self._fates = Fates(plan, self._draws, p, specs)
        self._hosts = list(plan.hosts.values())
        self._servers: list[Server | None] = [None] * len(plan.hosts)  # in the same order
        self._places: dict[str, int] = {}  # in it, by name: for those who have only that
        self._lost = {name for name, limit in plan.limits.feeds.items() if limit.dark}
        self._exchange = Traffic(p.exchange, p.exchange_slowdown, IN_FLIGHT)
        command = p.command if p.command is not None else p.exchange
        self._command = self._exchange if p.command is None else Traffic(command, p.command_slowdown, IN_FLIGHT)
        login = p.login if p.login is not None else p.exchange
        self._pace = p.pace.sample(self._draws.named("pace"))
        self._login = Traffic(login.scaled(self._pace), p.login_slowdown)
        self._refusal = Constant(p.refusal, self._draws)
        self._silence = Constant(p.silence, self._draws)
        self._storms = bool(self._fates.storms)
        self._lossy = bool(p.loss_share or p.loss_per_100)
        self._losses, self._losses_on = Losses(p, _PACKETS), Losses(p, _PACKETS_ON)
        self._given_up: set[int] = set()  # exchanges that too many lost packets end
        self._slices: list[float] = []  # when the slices under way end
        self._meters = FeedMeters(plan) if any(limit.meter for limit in plan.limits.feeds.values()) else None
        self._images: dict[tuple[str, int], ImageServer] = {}
        self._image_boots: dict[str, list[float]] = {}  # by image server: see ``ImageServer.ends``
        self._under: dict[str, list[str]] | None = None  # feed: hosts with a cord on it
        self.machines: Mapping[str, Machine] = _Machines(self)

    # -- intents ----------------------------------------------------------------------------------

    def ends_at(self, intent: Intent, now: float, place: int | None = None) -> float:
        """Run time at which the effect's answer is there. ``place``: the host's among those of the plan, for
        whoever has it at hand: a search by name among a million fetches memory from afar."""
        kind = intent.kind
        if kind is _REDEPLOY:
            return now + self._slice_s(intent, now)
        number = intent.id
        if kind is _GATE_CHECK or kind is _FEED_METER:
            return now + self._exchange.plain_s(self._draws.bits(number))
        timeout_s: float = intent.args["timeout_s"]  # type: ignore[assignment]
        if place is None:
            place = self._place(intent.target)
        server = self._servers[place] or self._made(place)
        if kind in _CHECKS:
            if server.on_at is None or server.failure is not None or now < server.on_at + server.boot_s:
                takes_s = self._refusal.plain_s(number)
            else:
                takes_s = self._login.takes_s(self._draws.bits(number))
        elif server.bmc_at > now or (self._storms and self._bmc_up_at(intent.target, server, now) > now):
            takes_s = self._silence.plain_s(number)
        elif kind is _EVIDENCE:
            takes_s = self._p.evidence.sample(self._draws.number(number))
        else:
            line = self._command if kind in _COMMANDS else self._exchange
            bits = self._draws.bits(number)
            takes_s = line.takes_s(bits)
            if self._lossy:
                losses = self._losses_on if kind is _POWER_ON and "device" in intent.args else self._losses
                # The low bits; the high ones have chosen the latency.
                takes_s += losses.cost_s((bits & 0x3FFFFF) / 0x400000, line.under_way)
                if takes_s >= timeout_s:
                    self._given_up.add(number)
        return now + (takes_s if takes_s < timeout_s else timeout_s)

    def _slice_s(self, intent: Intent, now: float) -> float:
        p = self._p
        group = self._plan.groups[intent.target]
        playbook, forks = int(intent.args["playbook"]), int(intent.args.get("forks", 1))
        size = len(intent.hosts)
        ends = self._slices
        while ends and ends[0] <= now:
            heappop(ends)
        takes_s = self._fates.playbook_s(group, playbook, intent.hosts[0], intent.attempt)
        rounds = -(-size // max(1, forks))
        fate = self._fates.playbook(group, playbook)
        takes_s *= 1 + fate.host_share * (size - 1) + fate.round_share * (rounds - 1)
        takes_s *= self._pace * (1 + p.playbook_slice_share * len(ends))
        heappush(ends, now + takes_s)
        return takes_s

    def finish(self, intent: Intent, now: float, place: int | None = None) -> Finished:
        """The answer at ``now``: reason, detail, data, verdicts. ``place``: as in ``ends_at``."""
        kind, name = intent.kind, intent.target
        if kind in _NO_HOST:
            return self._without_host(intent, now)
        if place is None:
            place = self._place(name)
        server = self._servers[place] or self._made(place)
        if kind in _CHECKS:
            if server.on_at is not None and intent.t >= server.on_at + server.boot_s:
                self._login.ended()
            return self._check(server, kind, now)
        if server.bmc_at <= intent.t:
            (self._command if kind in _COMMANDS else self._exchange).ended()
        if server.bmc_at > now or (self._storms and self._bmc_up_at(name, server, now) > now):
            up_at = self._bmc_up_at(name, server, now)
            delay_s = min(_READ_CAP_S, max(1.0, up_at / 2)) * 0.75 * self._draws.number(server.word, 2)
            retry_s = min(up_at - now + delay_s, NEVER_S)
            unanswered: dict[str, Scalar] = {"retry_after_s": retry_s}
            if kind is _POWER_ON:
                unanswered["sent"] = False
            return Reason.BMC_UNREACHABLE, "no answer", unanswered, {}
        if self._given_up and intent.id in self._given_up:
            self._given_up.discard(intent.id)
            reason = Reason.BMC_LOST if kind in _COMMANDS else Reason.BMC_UNREACHABLE
            return reason, "no answer", {}, {}
        if kind is _POWER_READ:
            return _OK, "", self._power(server, intent, now), {}
        if kind is _EVIDENCE:
            return _OK, "", self._evidence(name, intent, now), {}
        if kind is _METER:
            return _OK, "", {"watts": round(self._fates.steady_watts(server.host), 1)}, {}
        if kind is _POWER_ON:
            if server.busy_left:
                server.busy_left -= 1
                return Reason.BMC_BUSY, "busy", {}, {}
            if self._is_on(server, now):
                return _OK, "", {"sent": False, **self._power(server, intent, now)}, {}
            self._switch_on(server, intent.attempt, now)
            on_at = server.on_at
            if on_at is None:
                return _OK, "", {"retry_after_s": NEVER_S}, {}
            if on_at - now > _FIRST_LOOK_S:
                return _OK, "", self._retry(server, now, now, on_at), {}
        elif kind is _POWER_CYCLE and self._is_on(server, now):
            server.asked_at = None
            self._start(server, now, Change.CYCLE)
        return _OK, "", {}, {}

    def _without_host(self, intent: Intent, now: float) -> Finished:
        """A slice, a gate, a feed."""
        if intent.kind is _GATE_CHECK:
            return _OK, "", {}, {}
        if intent.kind is _REDEPLOY:
            return _OK, "", {}, {host: self._verdict(host, intent, now) for host in intent.hosts}
        return _OK, "", {"watts": round(self._feed_watts(intent.target, now), 1)}, {}

    def _check(self, server: Server, kind: Kind, now: float) -> Finished:
        up_at = server.os_up_at
        if up_at is None:
            return Reason.UNREACHABLE, "connection refused", {"retry_after_s": NEVER_S}, {}
        on_at = server.on_at if server.on_at is not None else now
        if kind is not _BOOT_PROBE and server.ready_s:
            ready_at = up_at + server.ready_s
            if now < ready_at:
                said = Reason.UNREACHABLE if now < up_at else Reason.CHECK_FAILED
                return said, "connection refused", self._retry(server, now, up_at, ready_at), {}
        if now < up_at:
            return Reason.UNREACHABLE, "connection refused", self._retry_boot(server, now, on_at, up_at), {}
        if kind is not _BOOT_PROBE or not server.profile.by_ssh:
            return _OK, "", {}, {}
        uptime_s = now - on_at - server.boot_s * FIRMWARE_SHARE
        return _OK, "", {"boot_id": self._boot_id(server), "uptime_s": round(uptime_s, 2)}, {}

    def _boot_id(self, server: Server) -> str:
        """As /proc/sys/kernel/random/boot_id: a UUID of version 4, new at every boot."""
        a, b = server.word ^ self._draws.seed, server.boots
        return f"{a:08x}-{b & 0xFFFF:04x}-4{a >> 20:03x}-a{a & 0xFFF:03x}-{a:08x}{b & 0xFFFF:04x}"

    def _retry(self, server: Server, now: float, since: float, at: float) -> dict[str, Scalar]:
        """When to look again: at the change, and as much later as a look in turn would have come, evenly."""
        drawn = self._draws.number(server.word, 3)
        return {"retry_after_s": at - now + poll_s(at - since if at > since else 0.0, 0.5) * drawn}

    def _retry_boot(self, server: Server, now: float, since: float, at: float) -> dict[str, Scalar]:
        """The same for a boot, at which the engine looks more closely towards the end that it expects."""
        drawn = self._draws.number(server.word, 3)
        return {"retry_after_s": at - now + look_s(at - since, 0.5, server.expected_s) * drawn}

    def _power(self, server: Server, intent: Intent, now: float) -> dict[str, Scalar]:
        if self._is_on(server, now):
            up_at = server.os_up_at
            if server.asked_at is None or not server.profile.by_ssh:
                return {"power": "on"}  # whose proof is a check that has failed before must be looked at
            if up_at is None:
                return {"power": "on", "retry_after_s": NEVER_S}
            since = server.on_at if server.on_at is not None else now
            return {"power": "on", **self._retry_boot(server, now, since, up_at)}
        data: dict[str, Scalar] = {"power": "off"}
        if server.asked_at is not None or intent.args.get("survey"):
            if server.on_at is None:
                data["retry_after_s"] = NEVER_S
            elif server.asked_at is None or server.on_at - server.asked_at > _FIRST_LOOK_S:
                since = server.asked_at if server.asked_at is not None else 0.0
                data.update(self._retry(server, now, since, server.on_at))
        return data

    # -- servers ----------------------------------------------------------------------------------

    def server(self, name: str) -> Server:
        """The host's server, made when first asked for."""
        place = self._place(name)
        return self._servers[place] or self._made(place)

    def _place(self, name: str) -> int:
        if not self._places:
            self._places = {name: place for place, name in enumerate(self._plan.hosts)}
        return self._places[name]

    def _made(self, place: int) -> Server:
        server = self._servers[place] = self._fates.server(self._hosts[place])
        if self._p.netboot_loss_share:
            server.image = self._image(server.host)
        if self._lost and self._is_dark(server.host):
            server.go_dark()
        elif server.on_at is not None:
            if server.on_at >= 0:
                self._image_boot(server)
            if self._meters is not None:
                self._meters.changed(server, self._fates, 0.0, self._shares(server.host))
        return server

    @staticmethod
    def _is_on(server: Server, now: float) -> bool:
        return server.on_at is not None and now >= server.on_at

    @staticmethod
    def _os_up(server: Server, now: float) -> bool:
        up_at = server.os_up_at
        return up_at is not None and now >= up_at

    def _bmc_up_at(self, name: str, server: Server, now: float) -> float:
        """From when on the BMC answers, as of ``now``: not later than ``now`` when it does."""
        up_at = server.bmc_at
        if self._storms:
            t = max(up_at, now)
            while t < NEVER_S and (end := self._fates.storm_end(name, t)) > t:
                t = up_at = end
        return up_at

    def _switch_on(self, server: Server, attempt: int, now: float) -> None:
        """An accepted power-on: no effect on a server that is on, nor while power-ons are silently lost."""
        on_at = server.on_at
        if on_at is not None and on_at <= now:
            return
        server.asked_at = now
        if server.silent_left:
            server.silent_left -= 1
            return
        if server.failure is BootFailure.POWER_FAULT:
            server.log = [*self._history(server), PowerEvent(now, Change.POWER_FAULT)]
            return
        starts_at = now + self._fates.power_s(server, attempt)
        if on_at is not None:  # it is about to start already, by itself or because it was told so
            starts_at = min(on_at, starts_at)
            server.on_at = None
            server.boots -= 1
            if server.log is not None:
                server.log = server.log[:-1]
        self._start(server, starts_at, Change.POWER_UP)

    def _start(self, server: Server, t: float, change: Change) -> None:
        if server.on_at is not None or server.log is not None:
            server.log = [*self._history(server), PowerEvent(t, change)]
        server.on_at = t
        server.boots += 1
        if server.failure is BootFailure.NETBOOT_FAILED and server.netboot_lost:
            server.failure = None  # that was the boot before
            server.netboot_lost = False
        self._image_boot(server)
        if self._meters is not None:
            self._meters.changed(server, self._fates, t, self._shares(server.host))

    def _image(self, host: Host) -> ImageServer | None:
        name = host.fact("image_server")
        if not name and self._plan.groups[host.group].boot_device is not BootDevice.PXE:
            return None
        bears = self._p.http_boots if host.fact("netboot") == "http" else self._p.pxe_boots
        image = self._images.get((name, bears))
        if image is None:
            ends = self._image_boots.setdefault(name, [])
            image = self._images[name, bears] = ImageServer(bears, ends)
        return image

    def _image_boot(self, server: Server) -> None:
        """Above what the image server bears, boots get lost."""
        image = server.image
        if image is None or server.on_at is None or server.failure is not None:
            return
        ends = image.ends
        while ends and ends[0] <= server.on_at:
            heappop(ends)
        lost = self._draws.number(server.word, 16 * server.boots + 6) < self._p.netboot_loss_share
        if len(ends) >= image.bears and lost:
            server.failure, server.netboot_lost = BootFailure.NETBOOT_FAILED, True
        else:
            heappush(ends, server.on_at + server.boot_s * FIRMWARE_SHARE)

    @staticmethod
    def _history(server: Server) -> list[PowerEvent]:
        if server.log is not None:
            return server.log
        return [PowerEvent(server.on_at, Change.POWER_UP)] if server.on_at is not None else []

    def machine(self, name: str) -> Machine:
        """The host's server as the model that symptoms and the lab know."""
        server = self.server(name)
        return Machine.after(self._fates.spec(name, server), self._seed, self._history(server), server.boots)

    # -- what else is asked --------------------------------------------------------------------------

    def _evidence(self, name: str, intent: Intent, now: float) -> dict[str, Scalar]:
        """As the machine's BMC would tell it. Its events have no time: nobody has set a clock here."""
        machine = self.machine(name)
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
        if self._plan.group_of(name).console is Console.BOOT:
            data["console"] = symptoms.console(machine, now)
        return data

    def _verdict(self, host: str, intent: Intent, now: float) -> tuple[str, str]:
        server = self.server(host)
        if not self._os_up(server, now):
            return Reason.DARK.value, "connection lost"
        playbook = int(intent.args["playbook"])
        drawn = self._draws.number(server.word, (playbook * 100 + intent.attempt) * 16 + 7)
        group = self._plan.groups[intent.target]
        failed = self._fates.playbook(group, playbook).failed_share
        if intent.attempt <= self._fates.planned_failures(host) or drawn < failed:
            return Reason.TASK_FAILED.value, "simulated task failure"
        if drawn < failed + self._p.dark_share:
            return Reason.DARK.value, "connection lost"
        return Reason.OK.value, ""

    def durations(self) -> dict[str, HostTimes]:
        """What is drawn for every host, without running anything."""
        return {name: self._times(name, host) for name, host in self._plan.hosts.items()}

    def _times(self, name: str, host: Host) -> HostTimes:
        fates, group = self._fates, self._plan.groups[host.group]
        fresh = fates.server(host)
        power_s = fates.power_s(fresh, 1)
        deadlines, attempts = group.deadlines, group.attempts
        boots = attempts.boot if group.second_boot is SecondBoot.CYCLE else 1
        fails, failure_s = "", 0.0
        if fresh.bmc_at >= NEVER_S:
            fails, failure_s = Reason.BMC_UNREACHABLE.value, deadlines.bmc
        elif fresh.on_at is not None and fresh.on_at < 0:
            pass
        elif fresh.silent_left >= attempts.power:
            fails, failure_s = Reason.POWER_NO_EFFECT.value, deadlines.power
        elif fresh.failure is BootFailure.POWER_FAULT:
            fails, failure_s = Reason.POWER_FAULT.value, deadlines.power
        elif fresh.failure is not None:
            fails, failure_s = fresh.failure.value, power_s + boots * deadlines.boot
        elif fresh.boot_s > deadlines.boot:
            fails, failure_s = Reason.NO_BOOT.value, power_s + boots * deadlines.boot
        return HostTimes(
            bmc_up_s=fresh.bmc_at,
            power_s=power_s,
            boot_s=fresh.boot_s,
            ready_s=fresh.ready_s,
            redeploy_s=tuple(fates.playbook_s(group, i, name, 1) for i in range(len(group.redeploy))),
            self_start_s=fresh.on_at,
            fails=fails,
            failure_s=failure_s,
        )

    # -- electricity ----------------------------------------------------------------------------------

    def power_lost(self, feed: str, now: float) -> None:
        """``feed`` and what hangs below it is dead: hosts without another live cord go off, their BMCs fall silent."""
        lit = [name for name in self._hanging(feed) if not self._is_dark(self._plan.hosts[name])]
        servers = {name: self.server(name) for name in lit}
        self._lost.add(feed)
        for name, server in servers.items():
            if self._is_dark(self._plan.hosts[name]):
                if self._is_on(server, now):
                    server.log = [*self._history(server), PowerEvent(now, Change.POWER_DOWN)]
                    server.was_on = True
                elif server.on_at is not None:
                    server.boots -= 1  # it was about to start
                    if server.log is not None:
                        server.log = server.log[:-1]
                server.go_dark()
            if self._meters is not None:
                self._meters.changed(server, self._fates, now, self._shares(server.host))

    def power_returned(self, feed: str, now: float) -> None:
        """``feed`` lives again: BMCs boot, and restore policies start servers, as at the beginning."""
        dark = [name for name in self._hanging(feed) if self._is_dark(self._plan.hosts[name])]
        servers = {name: self.server(name) for name in dark}
        self._lost.discard(feed)
        for name in self._hanging(feed):
            lit = not self._is_dark(self._plan.hosts[name])
            if name in servers and lit:
                server = servers[name]
                starts_at = self._fates.electricity_returns(name, server, now)
                if starts_at is not None:
                    self._start(server, starts_at, Change.POWER_UP)
            if lit and self._meters is not None:
                server = self.server(name)
                self._meters.changed(server, self._fates, now, self._shares(server.host))

    def _hanging(self, feed: str) -> list[str]:
        if self._under is None:
            self._under = {}
            for name, host in self._plan.hosts.items():
                for path in dict.fromkeys(path for cord in host.feeds for path in feed_path(cord)):
                    self._under.setdefault(path, []).append(name)
        return self._under.get(feed, [])

    def _is_lost(self, cord: str) -> bool:
        return any(path in self._lost for path in feed_path(cord))

    def _is_dark(self, host: Host) -> bool:
        return bool(host.feeds) and bool(self._lost) and all(self._is_lost(cord) for cord in host.feeds)

    def _shares(self, host: Host) -> dict[str, float]:
        """Feed, and what it is above: the share of the host's draw that flows through it."""
        live = [cord for cord in host.feeds if not self._lost or not self._is_lost(cord)]
        shares: dict[str, float] = {}
        for cord in live:
            for path in feed_path(cord):
                shares[path] = shares.get(path, 0.0) + 1 / len(live)
        return shares

    def _feed_watts(self, feed: str, now: float) -> float:
        if self._meters is None:
            self._meters = FeedMeters(self._plan, feed)
        if not self._meters.knows(feed):
            self._meters.add(feed)
            for server in self._servers:
                if server is not None:
                    self._meters.changed(server, self._fates, now, self._shares(server.host))
        return self._meters.watts(feed, now)


class _Machines(Mapping[str, Machine]):
    """Host -> its machine as it stands; made anew at each question."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getitem__(self, name: str) -> Machine:
        return self._world.machine(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._world._plan.hosts)

    def __len__(self) -> int:
        return len(self._world._plan.hosts)
