"""Slices: which hosts go into one ansible-playbook process, with how many forks, and when it leaves.

All slices share one budget of forks. Most urgent tier first; within a tier the group that has the fewest forks goes
first, so that a large one starves nobody. A long queue is divided among ``LANES`` slices that run side by side: one of
them ends soon enough for whoever comes next, and the start of one (some 1.5 s of a single core) is hidden behind the
work of the others. Each takes its share of what waits, so that the last ones are short and all end together (guided
self-scheduling; Polychronopoulos and Kuck 1987). A short queue goes in one piece, a fork to each host.

A slice is of one group and one playbook, of hosts that take the same counted servers, and as far as it can be of few
racks: a rack that is lost then spoils few slices. Groups whose members belong ``together`` are never cut, and wait for
whoever may still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from bootorch.core.admission import Admission
from bootorch.core.hoststate import HostState
from bootorch.core.limits import Resource
from bootorch.core.model import Stage
from bootorch.core.plan import Plan
from bootorch.core.state import State

SLICE_HOSTS = 200  # hosts in one ansible-playbook process (100-250: memory flat, statistics in one piece)
SLICE_FORKS = 50  # forks of one process: more of them wait for its one event loop
SLICE_ROUNDS = 20  # hosts to a fork, at most: a slice ends, and its verdicts come, in the time of so many playbooks
SLICE_LINGER_S = 3.0  # wait for more hosts of the group before a slice leaves: about twice the start of Ansible itself
LANES = 4  # slices that share the forks while many hosts wait
WORTH_A_START = 40  # hosts that are worth a process of their own: its start is then a few percent of their work
SLACK = 0.25  # by how much a slice may be smaller or larger, so that it ends with a rack
LAST_SLACK = 0.05  # and where it is one of the last

FORKS: Resource = ("slot", "forks")


@dataclass(frozen=True, slots=True)
class SliceOrder:
    group: str
    playbook: int  # index in the group's list
    hosts: tuple[str, ...]
    forks: int
    attempt: int


# Of a group: the playbook, and the counted servers that its hosts take. Only hosts with the same go together.
Kind = tuple[int, tuple[str, ...]]


@dataclass(slots=True)
class _Queue:
    oldest_t: float
    hosts: dict[str, None] = field(default_factory=dict)  # an ordered set
    wake_t: float | None = None


@dataclass(slots=True)
class _Share:
    """What is left of the forks that a queue would like to have, and the slices to divide it among."""

    lanes: int
    forks: int

    @property
    def next(self) -> int:
        return -(-self.forks // self.lanes)


_BEFORE_REDEPLOY = frozenset((Stage.WAIT, Stage.BMC, Stage.POWER, Stage.BOOT, Stage.READY))


class Slices:
    """Hosts that wait for a playbook, by group. A cache: a resumed run fills it again from the hosts' stages."""

    def __init__(self, plan: Plan, state: State, admission: Admission) -> None:
        self._plan = plan
        self._state = state
        self._admission = admission
        self._queues: dict[str, dict[Kind, _Queue]] = {}
        self._short: dict[str, None] = {}  # groups that have found no fork: nobody behind them passes by
        self._head = ""  # the most urgent of them, and the limit and the free forks when it found too few
        self._head_room: tuple[int | None, int | None] = (None, None)

    def add(self, host: HostState, now: float) -> None:
        group, name = host.group.name, host.name
        kind = host.playbook, self._state.slice_slots(name)[1:]
        queue = self._queues.setdefault(group, {}).setdefault(kind, _Queue(now))
        if not queue.hosts:
            queue.oldest_t = now
        queue.hosts[name] = None
        self._state.dirty_groups[group] = None

    def waiting_groups(self) -> Iterator[str]:
        return (group for group in self._queues if self._queued(group))

    def queued(self) -> Iterator[HostState]:
        """Every host that waits for a slice."""
        for queues in self._queues.values():
            for (playbook, _), queue in queues.items():
                for name in queue.hosts:
                    host = self._state.hosts[name]
                    if host.playbook == playbook and self._waits(host):
                        yield host

    def let_go(self) -> None:
        """Nothing moves any more: who waits now waits for nobody else. Said once of each queue, or it would be said for
        ever where something else, such as a breaker, holds its hosts."""
        for name, queues in self._queues.items():
            if self._plan.groups[name].together:
                for queue in queues.values():
                    if queue.hosts and queue.oldest_t > -inf:
                        queue.oldest_t = -inf
                        self._state.dirty_groups[name] = None

    def form(self, groups: Iterable[str], now: float) -> Iterator[SliceOrder]:
        """Slices of ``groups``, and of those that found no fork before, that may leave now.

        The caller folds each order's intent before it asks for the next, so that forks are counted.
        """
        queued = [name for name in groups if self._queued(name)]
        if (not queued and not self._short) or self._stuck(queued):
            return
        turns = [(self._turn(name), name) for name in dict.fromkeys((*queued, *self._short))]
        heapify(turns)
        self._short = {}
        shares: dict[tuple[str, Kind], _Share] = {}  # of the queues of which a slice has left at this moment
        while turns:
            _, name = heappop(turns)
            order = self._order(name, now, shares)
            if order is not None:
                yield order
                heappush(turns, (self._turn(name), name))
            elif name in self._short:
                self._short.update((other, None) for _, other in turns)
                self._head, self._head_room = name, self._room()
                return

    def _queued(self, group: str) -> bool:
        return any(queue.hosts for queue in self._queues.get(group, {}).values())

    def _room(self) -> tuple[int | None, int | None]:
        return self._state.slots.limit("forks"), self._state.slots.free("forks")

    def _stuck(self, queued: Iterable[str]) -> bool:
        """There is no more room than when the most urgent group found too little, and none of ``queued`` goes before
        it: they join those behind it, and nobody is looked at. (A thousand groups may wait behind it.)"""
        if self._head not in self._short:
            return False
        (limit, free), (limit_then, free_then) = self._room(), self._head_room
        if limit != limit_then or free is None or free_then is None or free > free_then:
            return False
        head = self._turn(self._head)
        if any(self._turn(name) < head for name in queued):
            return False
        self._short.update(dict.fromkeys(queued))
        return True

    def _turn(self, group: str) -> tuple[int, int, int, str]:
        return (self._state.tiers[group], self._state.groups[group].forks, self._plan.wave_of[group], group)

    def _order(self, name: str, now: float, shares: dict[tuple[str, Kind], _Share]) -> SliceOrder | None:
        """The next slice of the group; None: nothing may leave, for want of forks where the group is ``_short`` now."""
        if f"group:{name}" in self._state.tripped:
            return None
        queues = self._queues.get(name, {})
        for kind in sorted(queues, key=self._order_of):
            queue = queues[kind]
            if not queue.hosts or not ((name, kind) in shares or self._leaves(name, kind, queue, now)):
                continue
            playbook, servers = kind
            together = self._plan.groups[name].together
            share = shares.get((name, kind)) or (_Share(1, SLICE_FORKS) if together else self._share(len(queue.hosts)))
            forks = self._forks(len(queue.hosts), share)
            if forks < 1:
                self._short[name] = None
                return None
            forks = min(forks, self._free(servers))
            if forks >= 1 and (waiting := self._waiting(queue.hosts, playbook)):
                shares[name, kind] = share
                about = -(-len(waiting) * share.next // share.forks)
                racks = [(self._state.hosts[host].host.rack, host) for host in waiting]
                chosen = tuple(sorted(waiting)) if together else _cut(racks, about, forks)
                share.lanes, share.forks = max(1, share.lanes - 1), max(1, share.forks - share.next)
                for host in chosen:
                    del queue.hosts[host]
                attempt = 1 + max(self._state.hosts[host].redeploy_attempts for host in chosen)
                return SliceOrder(name, playbook, chosen, min(forks, len(chosen)), attempt)
        return None

    def _order_of(self, kind: Kind) -> tuple[int, int, tuple[str, ...]]:
        """Who is nearest to the end first, for others may wait for them; then where there is most room."""
        playbook, servers = kind
        return (-playbook, -self._free(servers), servers)

    def _leaves(self, name: str, kind: Kind, queue: _Queue, now: float) -> bool:
        """Enough hosts came, nobody else is coming, or the oldest has waited long enough."""
        if self._plan.groups[name].together:
            return queue.oldest_t == -inf or not self._somebody_comes(name, kind[0])
        group = self._state.groups[name]
        leave_t = queue.oldest_t + SLICE_LINGER_S
        if len(queue.hosts) >= SLICE_HOSTS or now >= leave_t or not group.size - group.settled - len(queue.hosts):
            return True
        if queue.wake_t != leave_t:
            queue.wake_t = leave_t
            self._state.wake_at(leave_t)
        return False

    def _somebody_comes(self, group: str, playbook: int) -> bool:
        """A member does not wait for the playbook yet, and may do so without anything being repaired."""
        waiting = {name for kind, queue in self._queues[group].items() if kind[0] == playbook for name in queue.hosts}
        for name in self._plan.groups[group].hosts:
            host = self._state.hosts[name]
            over = host.outcome is not None or host.dark or name in waiting or not self._state.in_scope(name)
            if not over and (
                host.stage in _BEFORE_REDEPLOY or (host.stage is Stage.REDEPLOY and host.playbook <= playbook)
            ):
                return True
        return False

    def _share(self, queued: int) -> _Share:
        lanes = min(LANES, -(-queued // WORTH_A_START))
        budget = self._state.slots.limit("forks")
        return _Share(lanes, SLICE_FORKS * lanes if budget is None else max(budget, 1))

    def _forks(self, queued: int, share: _Share) -> int:
        """Forks for the next slice of so many hosts; 0: none now. Less than half of a lane is left until there is more:
        the rest would wait behind a second start."""
        wanted = min(queued, SLICE_FORKS, share.next)
        free = self._state.slots.free("forks")
        if free is None:
            return wanted
        least = max(1, min(wanted, (self._state.slots.limit("forks") or 0) // LANES) // 2)
        return min(wanted, free) if free >= least else 0

    def _free(self, servers: tuple[str, ...]) -> int:
        """Forks that these servers have room for."""
        free = [self._state.slots.free(server) for server in servers]
        return max(0, min((count for count in free if count is not None), default=SLICE_FORKS))

    @staticmethod
    def _waits(host: HostState) -> bool:
        return host.stage is Stage.REDEPLOY and not host.inflight and host.outcome is None and not host.dark

    def _waiting(self, queue: dict[str, None], playbook: int) -> list[str]:
        """The hosts of the queue that still wait for the playbook. Who does not any more is dropped from it. A tripped
        breaker keeps its own."""
        found = []
        for name in list(queue):
            host = self._state.hosts[name]
            waits = host.playbook == playbook and self._waits(host)
            breaker = self._admission.breaker(host) if waits else None
            if not waits or breaker is not None:
                del queue[name]
            else:
                found.append(name)
            if breaker is not None:
                self._admission.park(host, breaker)
        return found


def _cut(hosts: list[tuple[str, str]], about: int, forks: float) -> tuple[str, ...]:
    """About so many of the hosts (rack, name), rack by rack, that end with a rack where that is near.

    >>> _cut([("r2", "d"), ("r1", "a"), ("r1", "b"), ("r1", "c"), ("r2", "e"), ("r2", "f"), ("r2", "g")], 9, 0.4)
    ('a', 'b', 'c')
    >>> _cut([("r1", "a"), ("r1", "b"), ("r1", "c")], 2, 1)
    ('a', 'b')
    """
    hosts.sort()
    most = min(SLICE_HOSTS, int(forks * SLICE_ROUNDS))
    # More of them follow and make up for it: else all slices of the queue are to end together.
    slack = int(most * SLACK) if about > most else int(about * LAST_SLACK)
    about = max(1, min(about, most))
    if len(hosts) <= about:
        return tuple(name for _, name in hosts)
    near = range(about - slack, min(about + slack, most, len(hosts) - 1) + 1)
    ends = [end for end in near if end > 0 and hosts[end - 1][0] != hosts[end][0]]
    end = min(ends, key=lambda end: abs(end - about), default=about)
    return tuple(name for _, name in hosts[:end])
