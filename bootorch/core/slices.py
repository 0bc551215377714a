"""Slices: which hosts go into one ansible-playbook process, and when it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootorch.core.admission import Admission
from bootorch.core.model import Stage
from bootorch.core.plan import Plan
from bootorch.core.state import GroupState, HostState, State

SLICE_HOSTS = 200  # hosts in one ansible-playbook process (100-250: memory flat, statistics in one piece)
SLICE_FORKS = 50  # forks of one process: about 4 a core in all
SLICE_LINGER_S = 3.0  # wait for more hosts of the group before a slice leaves: about twice the start of Ansible itself


@dataclass(frozen=True, slots=True)
class SliceOrder:
    group: str
    playbook: int  # index in the group's list
    hosts: tuple[str, ...]
    forks: int
    attempt: int


class Slices:
    """Hosts that wait for a playbook, by group. A cache: a resumed run fills it again from the hosts' stages."""

    def __init__(self, plan: Plan, state: State, admission: Admission) -> None:
        self._plan = plan
        self._state = state
        self._admission = admission
        self._queues: dict[str, dict[int, dict[str, None]]] = {}
        self._oldest_t: dict[tuple[str, int], float] = {}
        self._wake_t: dict[tuple[str, int], float] = {}

    def add(self, host: HostState, now: float) -> None:
        group = host.group.name
        queue = self._queues.setdefault(group, {}).setdefault(host.playbook, {})
        if not queue:
            self._oldest_t[group, host.playbook] = now
        queue[host.host.name] = None
        self._state.dirty_groups[group] = None

    def waiting_groups(self) -> Iterator[str]:
        return (group for group, queues in self._queues.items() if any(queues.values()))

    def form(self, group: GroupState, now: float) -> Iterator[SliceOrder]:
        """Slices that may leave now: enough hosts came, nobody else is coming, or the oldest has waited long enough.

        The caller folds each order's intent before it asks for the next, so that forks are counted.
        """
        name = group.group.name
        queues = self._queues.get(name, {})
        for playbook in sorted(queues):
            queue = queues[playbook]
            order: list[str] = []  # of the queue, by name, the last first
            while queue:
                to_come = group.size - group.settled - len(queue)
                leave_t = self._oldest_t[name, playbook] + SLICE_LINGER_S
                if len(queue) < SLICE_HOSTS and to_come and now < leave_t:
                    if self._wake_t.get((name, playbook)) != leave_t:
                        self._wake_t[name, playbook] = leave_t
                        self._state.wake_at(leave_t, "")
                    break
                limit = self._state.slots.limit("forks")
                most = SLICE_FORKS if limit is None else min(limit, SLICE_FORKS)
                if most < 1 or self._state.slots.full("forks", min(len(queue), most)):
                    return  # all of the forks or none: half a slice now keeps the rest waiting behind a second start
                order = order or sorted(queue, reverse=True)
                hosts = tuple(self._next(queue, order, playbook))
                if not hosts:
                    continue
                forks = min(len(hosts), most)
                attempt = 1 + max(self._state.hosts[host].redeploy_attempts for host in hosts)
                yield SliceOrder(name, playbook, hosts, forks, attempt)

    def _next(self, queue: dict[str, None], order: list[str], playbook: int) -> Iterator[str]:
        """The next hosts of the queue that still wait for the playbook. A tripped breaker keeps its own."""
        found = 0
        while order and found < SLICE_HOSTS:
            name = order.pop()
            del queue[name]
            host = self._state.hosts[name]
            waits = host.stage is Stage.REDEPLOY and host.playbook == playbook and not host.inflight
            if not waits or host.outcome is not None or host.dark:
                continue
            breaker = self._admission.breaker(host)
            if breaker is not None:
                self._admission.park(host, breaker)
                continue
            found += 1
            yield name
