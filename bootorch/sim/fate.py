"""What the seed has in store for each host: its times, its faults, and what of the fleet fails together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import PurePath
from typing import NamedTuple
from zlib import crc32

from bootorch.core.model import Deadlines, Group, Host
from bootorch.core.plan import Plan
from bootorch.sim import draws as place
from bootorch.sim.distributions import Distribution
from bootorch.sim.draws import UNIT, Draws
from bootorch.sim.machine import FIRMWARE_SHARE, BootFailure, MachineSpec, PowerEvent
from bootorch.sim.parameters import ModelParameters, Parameters, PlaybookParameters

NEVER_S = 1e9
_USUAL = Deadlines()
_UPTIME_S = 9 * 86400.0  # of a server that was on already


class ImageServer:
    """Where hosts boot from: how many boots at once it bears, and when those under way will have their image."""

    __slots__ = ("bears", "ends")

    def __init__(self, bears: int, ends: list[float]) -> None:
        self.bears = bears
        self.ends = ends  # a heap


class _Asked:
    """What most questions to a server are about: CPython sets the slots of a class before those of its subclasses."""

    __slots__ = ("asked_at", "bmc_at", "boot_s", "boots", "failure", "on_at", "profile", "word")


class Server(_Asked):
    """The state of one simulated server; a fleet has tens of thousands, so it is small.

    ``bmc_at``: when its BMC answers or will (``NEVER_S``: not as things stand). ``on_at``: when its chassis came on, or
    will by itself or by what it was told; None: off. ``log``: its changes of power, where there was more than one
    start. ``failure``: what its boots end in. ``word``: what its numbers are drawn by. ``expected_s``: how long its
    boot is said to take (0: nobody says). ``image``: where it boots from, if boots from there may get lost.
    """

    __slots__ = (
        "busy_left", "expected_s", "host", "image", "log", "netboot_lost", "ready_s", "silent_left", "was_on",
    )  # fmt: skip

    def __init__(self, host: Host, profile: Profile, boot_s: float, bmc_at: float) -> None:
        self.host = host
        self.word = crc32(host.name.encode())
        self.profile = profile
        self.boot_s = boot_s
        self.bmc_at = bmc_at
        self.expected_s = host.boot_s
        self.image: ImageServer | None = None
        self.ready_s = 0.0
        self.on_at: float | None = None
        self.asked_at: float | None = None  # the latest accepted power-on
        self.boots = 0
        self.silent_left = 0
        self.busy_left = 0
        self.failure: BootFailure | None = None
        self.netboot_lost = False  # its failure is that of the present boot only
        self.was_on = False  # as its electricity went
        self.log: list[PowerEvent] | None = None

    @property
    def os_up_at(self) -> float | None:
        """When the operating system of the present boot takes its first login; None: it will not."""
        on_at = self.on_at
        return None if on_at is None or self.failure is not None else on_at + self.boot_s

    def go_dark(self) -> None:
        """Its electricity is gone."""
        self.on_at = None
        self.asked_at = None
        self.bmc_at = NEVER_S


class Profile:
    """What hosts of one group, model, firmware, age and vendor have in common."""

    __slots__ = ("bmc_boot", "bmc_scale", "boot", "boot_scale", "by_ssh", "dead_share", "epidemics", "power",
                 "power_scale", "tail_share", "vendor")  # fmt: skip

    def __init__(self, p: Parameters, group: Group, host: Host, epidemics: tuple[tuple[int, float], ...]):
        deadlines = group.deadlines
        self.by_ssh = group.proof_by_ssh
        model = p.models.get(host.model, ModelParameters()) if p.models else ModelParameters()
        scales = p.scale_to_deadlines
        self.bmc_boot, self.bmc_scale = p.bmc_boot, deadlines.bmc / _USUAL.bmc if scales else 1.0
        self.power, self.power_scale = p.power, deadlines.power / _USUAL.power if scales else 1.0
        self.boot, self.boot_scale = p.boot, deadlines.boot / _USUAL.boot if scales else 1.0
        if model.bmc_boot is not None:
            self.bmc_boot, self.bmc_scale = model.bmc_boot, 1.0
        if model.power is not None:
            self.power, self.power_scale = model.power, 1.0
        if model.boot is not None:
            self.boot, self.boot_scale = model.boot, 1.0
        self.tail_share = p.tail_share if model.tail_share is None else model.tail_share
        by_age = {"young": p.young_dead_share, "old": p.old_dead_share}.get(host.fact("age"))
        self.dead_share = p.no_post_share if by_age is None else by_age
        if model.dead_share is not None:
            self.dead_share = model.dead_share
        self.vendor = (model.vendor or host.fact("vendor")).lower()
        self.epidemics = epidemics


class PlaybookFate(NamedTuple):
    """What a playbook of a group is like."""

    takes: Distribution
    scale: float
    host_share: float
    round_share: float
    failed_share: float
    word: int


class Fates:
    """Draws what is drawn once for a host, and what is drawn for the fleet."""

    def __init__(self, plan: Plan, draws: Draws, p: Parameters, specs: Mapping[str, MachineSpec] | None = None) -> None:
        self._plan = plan
        self._draws = draws
        self._p = p
        self._specs = specs
        self._profiles: dict[tuple[str, ...], Profile] = {}
        self._playbooks: dict[tuple[str, int], PlaybookFate] = {}
        weights = {failure: weight for failure, weight in p.failures.items() if weight > 0}
        self._failures = tuple(weights) or (BootFailure.NO_POST,)
        self._failure_ends = list(accumulate(weights.values())) or [1.0]
        self._ready_delays = p.ready.quantile(1.0) > 0
        self._self_starts = p.restore_last_share + p.restore_on_share > 0
        self.epidemics = tuple(self._epidemics())
        self.storms = tuple(self._storms())

    # -- the fleet ----------------------------------------------------------------------------------

    def _epidemics(self) -> list[tuple[int, str, str, float]]:
        """(number, model, firmware or empty, share) of those that happen."""
        found = []
        for number, epidemic in enumerate(self._p.epidemics):
            if self._draws.named("epidemic", "", number) >= epidemic.probability:
                continue
            model, firmware = epidemic.model, epidemic.firmware
            if not model:
                hosts = self._plan.hosts.values()
                classes = sorted({(h.model, h.firmware) for h in hosts if h.model and firmware in ("", h.firmware)})
                if not classes:
                    continue
                model, firmware = classes[int(self._draws.named("epidemic-model", "", number) * len(classes))]
            share = epidemic.share.sample(self._draws.named("epidemic-share", "", number))
            found.append((number, model, firmware, share))
        return found

    def _storms(self) -> list[tuple[int, float, float, float, str]]:
        """(number, start, end, share, subnet or empty for all) of those that happen."""
        found = []
        for number, storm in enumerate(self._p.storms):
            if self._draws.named("storm", "", number) >= storm.probability:
                continue
            start = storm.at.sample(self._draws.named("storm-at", "", number))
            end = start + storm.lasts.sample(self._draws.named("storm-lasts", "", number))
            subnet = ""
            if not storm.everywhere:
                subnets = sorted({_subnet(host.bmc.address) for host in self._plan.hosts.values()})
                if not subnets:
                    continue
                subnet = subnets[int(self._draws.named("storm-subnet", "", number) * len(subnets))]
            found.append((number, start, end, storm.share, subnet))
        return found

    def storm_end(self, name: str, t: float) -> float:
        """When the storm ends that silences the host's BMC at ``t``; ``t`` when there is none."""
        for number, start, end, share, subnet in self.storms:
            if (
                start <= t < end
                and (not subnet or _subnet(self._plan.hosts[name].bmc.address) == subnet)
                and self._draws.named("storm-host", name, number) < share
            ):
                return end
        return t

    # -- a host ----------------------------------------------------------------------------------

    def server(self, host: Host) -> Server:
        """The host's server as the run begins, with electricity since 0.0."""
        profile = self._profile(host)
        drawn = self._draws.host(host.name)
        if self._specs is not None:
            server = self._from_spec(host, profile, self._specs[host.name])
        else:
            server = self._drawn(profile, host, drawn)
        p = self._p
        if drawn[place.BUSY] * UNIT < p.busy_share:
            server.busy_left = 1
        if self._ready_delays:
            server.ready_s = p.ready.sample(drawn[place.READY] * UNIT)
        if self._self_starts and server.on_at is None:
            starts_at = self._starts_at(profile, drawn, drawn[place.WAS_ON] * UNIT < p.was_on_share, 0.0)
            if starts_at is not None:
                server.on_at, server.boots = starts_at, 1
        return server

    def _from_spec(self, host: Host, profile: Profile, spec: MachineSpec) -> Server:
        server = Server(host, profile, spec.boot_s, NEVER_S if spec.dead_bmc else spec.bmc_boot_s)
        server.silent_left = spec.silent_power_ons
        server.failure = spec.boot_failure
        if spec.initially_on:
            server.on_at, server.boots = -(spec.initial_uptime_s + spec.boot_s * FIRMWARE_SHARE), 1
        return server

    def _drawn(self, profile: Profile, host: Host, drawn: tuple[int, ...]) -> Server:
        p = self._p
        if drawn[place.DEAD_BMC] * UNIT < p.dead_bmc_share:
            bmc_at = NEVER_S
        else:
            bmc_at = profile.bmc_boot.sample(drawn[place.BMC] * UNIT) * profile.bmc_scale
        server = Server(host, profile, self._boot_s(profile, host, drawn), bmc_at)
        if drawn[place.SILENT] * UNIT < p.silent_power_share:
            server.silent_left = 1
        if drawn[place.ON] * UNIT < p.on_share:
            server.on_at, server.boots = -(_UPTIME_S + server.boot_s * FIRMWARE_SHARE), 1
            return server
        if drawn[place.DEAD] * UNIT < profile.dead_share:
            drawn_failure = drawn[place.FAILURE] * UNIT * self._failure_ends[-1]
            server.failure = self._failures[
                min(bisect_right(self._failure_ends, drawn_failure), len(self._failures) - 1)
            ]
        for number, share in profile.epidemics:
            if self._draws.named("epidemic-host", host.name, number) < share:
                server.failure = BootFailure.NO_POST
        return server

    def _boot_s(self, profile: Profile, host: Host, drawn: tuple[int, ...]) -> float:
        p, uniform = self._p, drawn[place.BOOT] * UNIT
        known_s = (p.hosts.get(host.name, 0.0) or host.boot_s) if p.repeat is not None else 0.0
        if p.repeat is not None and known_s > 0:
            boot_s = known_s * p.repeat.sample(uniform)
        elif uniform < profile.tail_share:
            boot_s = p.tail.sample(uniform / profile.tail_share) * profile.boot_scale
        else:
            rest = (uniform - profile.tail_share) / (1 - profile.tail_share)
            boot_s = profile.boot.sample(rest) * profile.boot_scale
        if drawn[place.REBOOT] * UNIT < p.firmware_reboot_share:
            boot_s += p.firmware_reboot.sample(drawn[place.REBOOT_S] * UNIT) * profile.boot_scale
        return boot_s

    def _profile(self, host: Host) -> Profile:
        key: tuple[str, ...] = (host.group, host.model, host.firmware)
        if host.facts:
            key = (*key, host.facts.get("age", ""), host.facts.get("vendor", ""))
        profile = self._profiles.get(key)
        if profile is None:
            epidemics = tuple(
                (number, share)
                for number, model, firmware, share in self.epidemics
                if host.model == model and firmware in ("", host.firmware)
            )
            profile = Profile(self._p, self._plan.groups[host.group], host, epidemics)
            self._profiles[key] = profile
        return profile

    def _starts_at(self, profile: Profile, drawn: tuple[int, ...], was_on: bool, ac_at: float) -> float | None:
        """When its restore policy starts it (IPMI 2.0, 28.8): always on, last state, or stay off."""
        p, policy = self._p, drawn[place.POLICY] * UNIT
        acts = was_on if policy < p.restore_last_share else policy < p.restore_last_share + p.restore_on_share
        if not acts:
            return None
        delays = p.auto_on.get(profile.vendor)
        if delays is None:
            if not p.auto_on:
                return ac_at
            vendors = tuple(p.auto_on.values())
            delays = vendors[int(drawn[place.VENDOR] * UNIT * len(vendors))]
        return ac_at + delays.sample(drawn[place.AUTO_ON] * UNIT)

    def electricity_returns(self, name: str, server: Server, now: float) -> float | None:
        """Its BMC boots again. Gives the time at which its restore policy starts it, if it does."""
        drawn = self._draws.host(name)
        profile, p = server.profile, self._p
        spec = self._specs[name] if self._specs is not None else None
        dead = spec.dead_bmc if spec is not None else drawn[place.DEAD_BMC] * UNIT < p.dead_bmc_share
        if not dead:
            bmc_boot_s = (
                spec.bmc_boot_s if spec else profile.bmc_boot.sample(drawn[place.BMC] * UNIT) * profile.bmc_scale
            )
            server.bmc_at = now + bmc_boot_s
        was_on = server.was_on or (server.boots == 0 and drawn[place.WAS_ON] * UNIT < p.was_on_share)
        server.was_on = False
        return self._starts_at(profile, drawn, was_on, now)

    def power_s(self, server: Server, attempt: int) -> float:
        """From an accepted power-on to a chassis that is on."""
        p, profile, uniform = self._p, server.profile, self._draws.number(server.word, attempt * 16 + 8)
        slow = p.slow_power_share
        if uniform < slow:
            return p.slow_power.sample(uniform / slow) * profile.power_scale
        return profile.power.sample((uniform - slow) / (1 - slow)) * profile.power_scale

    def steady_watts(self, host: Host) -> float:
        """What it really draws once it is up."""
        return host.watts_steady * self.watts_factor(host.name)

    def watts_factor(self, name: str) -> float:
        return self._p.meter_factor.sample(self._draws.host(name)[place.METER] * UNIT)

    def spec(self, name: str, server: Server) -> MachineSpec:
        """The server in the words of ``sim.machine``."""
        drawn = self._draws.host(name)
        given = self._specs[name] if self._specs is not None else None
        dead = given.dead_bmc if given is not None else drawn[place.DEAD_BMC] * UNIT < self._p.dead_bmc_share
        on = given.initially_on if given is not None else drawn[place.ON] * UNIT < self._p.on_share
        return MachineSpec(
            name=name,
            boot_s=server.boot_s,
            bmc_boot_s=0.0 if server.bmc_at >= NEVER_S else server.bmc_at,
            initially_on=on,
            dead_bmc=dead,
            silent_power_ons=server.silent_left,
            boot_failure=server.failure,
            playbook_failures=given.playbook_failures if given is not None else 0,
        )

    # -- playbooks ----------------------------------------------------------------------------------

    def playbook_s(self, group: Group, playbook: int, leader: str, attempt: int) -> float:
        """A slice of the one host ``leader``, in seconds."""
        fate = self.playbook(group, playbook)
        return fate.takes.sample(self._draws.number(crc32(leader.encode()) ^ fate.word, attempt * 16 + 9)) * fate.scale

    def planned_failures(self, name: str) -> int:
        return self._specs[name].playbook_failures if self._specs is not None else 0

    def playbook(self, group: Group, playbook: int) -> PlaybookFate:
        found = self._playbooks.get((group.name, playbook))
        if found is None:
            p = self._p
            path = group.redeploy[playbook] if playbook < len(group.redeploy) else ""
            own = p.playbooks.get(PurePath(path).name, PlaybookParameters())
            scale = group.deadlines.redeploy / _USUAL.redeploy if p.scale_to_deadlines else 1.0
            found = PlaybookFate(
                takes=p.playbook if own.takes is None else own.takes,
                scale=scale if own.takes is None else 1.0,
                host_share=p.playbook_host_share if own.host_share is None else own.host_share,
                round_share=p.playbook_round_share if own.round_share is None else own.round_share,
                failed_share=p.task_failed_share if own.failed_share is None else own.failed_share,
                word=crc32(f"{group.name}\0{playbook}".encode()),
            )
            self._playbooks[group.name, playbook] = found
        return found


def _subnet(address: str) -> str:
    """The /24 (or, for IPv6, /64) that a BMC shares with its neighbours."""
    return ":".join(address.split(":")[:4]) if ":" in address else address.rpartition(".")[0]
