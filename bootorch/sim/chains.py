"""Every host's least times along the dependencies, forwards, and what must follow each, backwards.

For ``sim.bounds``, by code of its own: nothing here comes from the engine's bookkeeping of waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from bootorch.core.limits import feed_path
from bootorch.core.model import AdoptedPolicy, Group, Host
from bootorch.core.plan import Plan

MARGIN_S = 30.0  # longest look or exchange between a deadline and what the engine knows: polls 11 s, evidence 20 s
NEVER_S = 1e9  # a moment that never comes, as worlds write it
_NEVER_ON = frozenset({"power_no_effect", "power_fault"})  # failures that leave the chassis off
_EPSILON = 1e-6


class Times(Protocol):
    """What is drawn for one host, seconds; ``sim.world.HostTimes`` says what each is."""

    @property
    def bmc_up_s(self) -> float: ...
    @property
    def power_s(self) -> float: ...
    @property
    def boot_s(self) -> float: ...
    @property
    def ready_s(self) -> float: ...
    @property
    def redeploy_s(self) -> tuple[float, ...]: ...
    @property
    def self_start_s(self) -> float | None: ...
    @property
    def fails(self) -> str: ...
    @property
    def failure_s(self) -> float: ...


@dataclass(slots=True, eq=False)
class _Wait:
    """``members`` of which ``needed`` must be ready in ``across`` racks; ``needed`` None: all must have settled."""

    members: list[Job]
    needed: int | None
    across: int = 0
    control: bool = False
    children: list[Job] = field(default_factory=list)
    unknown: int = 0  # members whose times are not yet reckoned
    holds_s: float = 0.0  # not before
    may: bool = True  # it can hold
    surely: bool = True  # it will
    decisive: str = ""  # the member that lets it hold
    able: int = -1  # members that may become ready; -1: not counted yet

    def reckon(self) -> None:
        if self.needed is None:
            last = max(self.members, key=lambda job: job.settled_s)
            self.holds_s, self.decisive = last.settled_s, last.host.name
            self.surely = not any(job.stuck for job in self.members)
            return
        able = sorted((job for job in self.members if job.may), key=lambda job: job.ready_s)
        sure = [job for job in self.members if job.surely]
        self.may = len(able) >= self.needed and len({job.host.rack for job in able}) >= self.across
        self.surely = len(sure) >= self.needed and len({job.host.rack for job in sure}) >= self.across
        if not self.may:
            return
        last = able[self.needed - 1] if self.needed else able[0]
        if self.across:
            racks: dict[str, Job] = {}
            for job in able:
                racks.setdefault(job.host.rack, job)
            last = max(last, list(racks.values())[self.across - 1], key=lambda job: job.ready_s)
        self.holds_s, self.decisive = last.ready_s, last.host.name

    def needs_all(self) -> bool:
        """No member can be spared: the children wait for each of them."""
        if self.needed is None:
            return True
        if self.able < 0:
            self.able = sum(1 for job in self.members if job.may)
        return self.needed >= self.able


@dataclass(slots=True, eq=False)
class Job:
    """One host: least times in seconds of the run.

    ``head_s``: it cannot be switched on before. ``place_s``: from then to the proof of its boot, or until it is given
    up. ``tail_s``: from there to the end of the run, at least. ``may``, ``surely``: it can, and it will become ready.
    """

    host: Host
    group: Group
    waits: list[_Wait] = field(default_factory=list)
    counted_in: list[_Wait] = field(default_factory=list)
    unknown: int = 0
    control_s: float = 0.0
    head_s: float = 0.0
    power_s: float = 0.0
    place_s: float = 0.0
    redeploy_s: float = 0.0
    after_s: float = 0.0  # ready checks and redeploy
    ready_s: float = math.inf
    settled_s: float = 0.0
    tail_s: float = 0.0
    may: bool = False
    surely: bool = False
    ends: bool = False  # its way to the end is known: it counts
    runs: bool = False  # it is surely switched on
    never_on: bool = False
    stuck: bool = False  # it may never settle


class Chains:
    """Every host's least times, forwards along the dependencies, then how much must follow each, backwards."""

    def __init__(self, plan: Plan, times: Mapping[str, Times]) -> None:
        self._plan = plan
        self._times = times
        self.jobs = {name: Job(host, plan.groups[host.group]) for name, host in plan.hosts.items()}
        self._gate_s = {name: _gate_s(plan, name) for name in plan.groups}
        self._playbooks_s = {name: self._playbook_s(group) for name, group in plan.groups.items()}
        for group in plan.groups.values():
            self._waits_of(group)
        self._order: list[Job] = []
        self._forwards()
        self._backwards()

    def longest(self) -> tuple[float, str]:
        """The latest least end, and the hosts on the way there."""
        ends = [job for job in self.jobs.values() if job.ends]
        if not ends:
            return 0.0, ""
        job = max(ends, key=lambda job: job.settled_s)
        seconds, way = job.settled_s, [job.host.name]
        while job.waits:
            wait = max(job.waits, key=lambda wait: wait.holds_s)
            if not wait.decisive or wait.holds_s < job.head_s - _EPSILON:
                break
            job = self.jobs[wait.decisive]
            way.append(job.host.name)
        way.reverse()
        if len(way) > 5:
            way[2:-2] = ["…"]
        return seconds, " → ".join(way)

    def _playbook_s(self, group: Group) -> float:
        """A slice takes what its first host draws: which that is, is not known."""
        drawn = [self._times[name].redeploy_s for name in group.hosts]
        return sum(min(each) for each in zip(*drawn, strict=True)) if drawn else 0.0

    def _waits_of(self, group: Group) -> None:
        hosts = [self.jobs[name] for name in group.hosts]
        for requirement in group.requires:
            members = [self.jobs[name] for name in self._plan.groups[requirement.group].hosts]
            needy = set(requirement.hosts)
            children = [job for job in hosts if not needy or job.host.name in needy]
            fact, parent_fact = requirement.per_host, requirement.parent_key
            parents: dict[str, list[Job]] = {}
            for job in members:
                parents.setdefault(job.host.fact(parent_fact) if parent_fact else "", []).append(job)
            waiting: dict[str, list[Job]] = {}
            for job in children:
                waiting.setdefault(job.host.fact(fact) if fact else "", []).append(job)
            for value, own in waiting.items():
                if found := parents.get(value):
                    needed = requirement.quorum.needed(len(found))
                    wait = _Wait(found, needed, requirement.across_racks, bool(requirement.control))
                    self._add(wait, own)
        for parent in group.after:
            if names := self._plan.groups[parent].hosts:
                self._add(_Wait([self.jobs[name] for name in names], None), hosts)
        if group.first is not None:
            candidates = [self.jobs[name] for name in group.first.candidates]
            for before, following in pairwise(candidates):
                self._add(_Wait([before], None), [following])  # its turn comes when the one before has failed
            if candidates:
                others = [job for job in hosts if job.host.name not in group.first.candidates]
                self._add(_Wait(candidates, 1), others)

    def _add(self, wait: _Wait, children: Iterable[Job]) -> None:
        wait.children = list(children)
        wait.unknown = len(wait.members)
        for job in wait.children:
            job.waits.append(wait)
            job.unknown += 1
        for job in wait.members:
            job.counted_in.append(wait)

    def _forwards(self) -> None:
        todo = [job for job in self.jobs.values() if not job.unknown]
        while todo:
            job = todo.pop()
            self._reckon(job)
            self._order.append(job)
            for wait in job.counted_in:
                wait.unknown -= 1
                if not wait.unknown:
                    wait.reckon()
                    for child in wait.children:
                        child.unknown -= 1
                        if not child.unknown:
                            todo.append(child)

    def _reckon(self, job: Job) -> None:
        drawn, group = self._times[job.host.name], job.group
        deadlines = group.deadlines
        job.stuck = any(member.stuck for wait in job.waits if not wait.surely for member in wait.members)
        if job.host.feeds and all(self._dark(cord) for cord in job.host.feeds):
            job.stuck = True  # it waits for a word from outside
            return
        free_s = max((wait.holds_s for wait in job.waits), default=0.0)
        control_s = max((wait.holds_s for wait in job.waits if wait.control), default=0.0)
        allowed = all(wait.surely for wait in job.waits)
        if not all(wait.may for wait in job.waits) and drawn.self_start_s is None:
            return  # blocked, as soon as that is known: perhaps at once
        resend_s = deadlines.power / max(1, group.attempts.power)
        job.power_s = min(drawn.power_s, resend_s)  # a lost power-on is sent again then, and that one may be quicker
        job.head_s = max(drawn.bmc_up_s, free_s, self._gate_s[group.name])
        adopted = drawn.self_start_s is not None
        redeploys = not adopted or group.adopted is AdoptedPolicy.REDEPLOY
        job.redeploy_s = self._playbooks_s[group.name] if redeploys else 0.0
        job.after_s = drawn.ready_s + job.redeploy_s
        near_bmc = drawn.bmc_up_s > deadlines.bmc - MARGIN_S
        if drawn.bmc_up_s >= NEVER_S:
            job.settled_s = control_s + drawn.failure_s
            job.ends = allowed and not adopted
            return
        if adopted:
            self._reckon_adopted(job, drawn, allowed and not near_bmc)
            return
        if drawn.fails in _NEVER_ON or _over(drawn.power_s, deadlines.power):
            job.never_on = True
            job.place_s = drawn.failure_s if drawn.fails else deadlines.power
        elif drawn.fails:
            job.place_s = drawn.failure_s - drawn.power_s + job.power_s  # its boots, from when it was on
        else:
            job.place_s = job.power_s + drawn.boot_s
        near = near_bmc or any(
            abs(seconds - limit) <= MARGIN_S
            for seconds, limit in ((drawn.power_s, deadlines.power), (drawn.boot_s, deadlines.boot))
        )
        fails = bool(drawn.fails) or job.never_on
        if near and not near_bmc and not fails:
            # Proven or given up at about the same time: the sooner of the two.
            job.place_s = min(job.place_s, deadlines.power if job.never_on else job.power_s + deadlines.boot)
        job.may = not fails or near
        job.surely = allowed and not fails and not near
        job.ends = allowed and not near
        job.runs = job.ends
        if fails and near:
            job.place_s = min(job.place_s, job.power_s + drawn.boot_s)
        job.ready_s = job.head_s + job.place_s + job.after_s if job.may else math.inf
        job.settled_s = job.head_s + job.place_s + (0.0 if fails else job.after_s)
        if not job.ends:
            job.settled_s = 0.0  # blocked, perhaps, or given up early

    def _reckon_adopted(self, job: Job, drawn: Times, sure: bool) -> None:
        """On without a power-on, whatever it waits for."""
        own_s = drawn.self_start_s if drawn.self_start_s is not None else 0.0
        boot_s = 0.0 if own_s < 0 else drawn.boot_s
        job.head_s = max(0.0, min(own_s, job.head_s))
        up_s = max(drawn.bmc_up_s, job.head_s + boot_s)
        job.place_s = up_s - job.head_s
        job.may = True
        job.surely = job.ends = sure and not drawn.fails
        job.ready_s = up_s + job.after_s
        job.settled_s = job.ready_s if job.ends else 0.0

    def _dark(self, cord: str) -> bool:
        feeds = self._plan.limits.feeds
        return any(name in feeds and feeds[name].dark for name in feed_path(cord))

    def _backwards(self) -> None:
        follows: dict[int, float] = {}  # wait -> what must follow at least once it holds
        for job in reversed(self._order):
            if job.ends:
                job.tail_s = job.after_s if job.may else 0.0
                for wait in job.counted_in:
                    if (job.may or wait.needed is None) and wait.needs_all():
                        if id(wait) not in follows:
                            follows[id(wait)] = max(
                                (child.place_s + child.tail_s for child in wait.children if child.runs), default=0.0
                            )
                        job.tail_s = max(job.tail_s, (job.after_s if job.may else 0.0) + follows[id(wait)])


def _over(seconds: float, limit: float) -> bool:
    return seconds > limit + MARGIN_S


def _gate_s(plan: Plan, group: str) -> float:
    """Gates that open at a time of the run: no power-on before."""
    waits = (gate.wait_s for gate in plan.gates.values() if not gate.groups or group in gate.groups)
    return max((wait_s for wait_s in waits if wait_s is not None), default=0.0)
