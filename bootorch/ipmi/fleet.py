"""All BMCs of a process: who is asked when, what is tried again, what was learned. Sans-IO: datagrams in and out.

The owner gives a function that sends a datagram, calls ``receive`` for each that comes and ``handle_timers`` when
``next_timer`` is due. A BMC has one exchange at a time, so its address finds the exchange that a datagram belongs to;
the exchange itself checks session id and message tag. Datagrams of any other address are dropped.

Nothing here is a task or a timer of its own: 32,000 BMCs are 32,000 small objects and one heap.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from bootorch.core.reasons import Reason
from bootorch.ipmi.client import Exchange, Result, Script
from bootorch.ipmi.login import WAIT_S, Credentials
from bootorch.ipmi.messages import Privilege
from bootorch.ipmi.pacing import Pacing, Window

Address = tuple[str, int]  # IP address as the socket writes it, UDP port

# Whole exchanges again: FreeIPMI waits 1 s; free session slots come back after up to 60 s (6.12.15).
RETRY_FIRST_S: Final = 1.0
RETRY_GROWTH: Final = 2.0
RETRY_MAX_S: Final = 5.0  # Ironic leaves a BMC 5 s between two commands
MIN_ATTEMPT_S: Final = 1.0  # with less time left, the last definite answer is worth more than another try
SLOWEST_FIRST_WAIT_S: Final = 1.0  # ipmitool's

_TRANSIENT: Final = frozenset((Reason.BMC_BUSY, Reason.BMC_NO_SESSION, Reason.BMC_LOST))
_NEVER: Final = float("inf")


class Job:
    """One thing to ask of one BMC, with its time. ``done`` is called once, unless the job is cancelled.

    ``script`` makes a new script for each attempt; ``privilege`` is the most that its session asks for. ``timeout_s``
    counts from the first packet, so a job does not age while the windows hold it back. ``urgent``: it goes before those
    of its subnet that are not. ``attempts`` is the number of exchanges; ``started_at`` None until the first.
    """

    __slots__ = (
        "address",
        "attempts",
        "counted",
        "credentials",
        "deadline",
        "done",
        "due",
        "exchange",
        "latest",
        "losses",
        "permitted",
        "privilege",
        "script",
        "started_at",
        "subnet",
        "suites",
        "timeout_s",
        "tried_again_at",
        "urgent",
        "version",
    )

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        script: Callable[[], Script],
        timeout_s: float,
        done: Callable[[Job, Result, float], None],
        *,
        suites: tuple[int, ...] = (17, 3),
        privilege: Privilege = Privilege.ADMIN,
        version: str = "2.0",
        urgent: bool = False,
    ) -> None:
        self.urgent = urgent
        self.address = address
        self.credentials = credentials
        self.script = script
        self.timeout_s = timeout_s
        self.done = done
        self.suites = suites
        self.version = version
        self.privilege = privilege
        self.attempts = 0
        self.started_at: float | None = None
        self.deadline = _NEVER
        self.exchange: Exchange | None = None
        self.subnet: _Subnet | None = None
        self.counted = False  # it takes a place in the windows
        self.permitted = False  # its next repetition had its turn among those to silent BMCs
        self.losses = 0  # of its exchange, as far as the window knows them
        self.latest: Result | None = None  # of the exchange that is to be tried again
        self.due = _NEVER  # of its earliest entry in the timer heap
        self.tried_again_at = _NEVER  # waits until then for another exchange


class _Bmc:
    """What earlier exchanges taught about a BMC, and who is using it."""

    __slots__ = ("free_at", "job", "privilege", "proved", "suite", "waiting")

    def __init__(self) -> None:
        self.job: Job | None = None  # running, or the next to run
        self.waiting: deque[Job] | None = None
        self.free_at = 0.0
        self.suite = 0  # the one that worked last; 0: none yet
        self.privilege = Privilege.ADMIN
        self.proved: Credentials | None = None  # with a password that this BMC has proved to know


class _Subnet:
    __slots__ = ("queue", "ready", "urgent", "used")

    def __init__(self) -> None:
        self.queue: deque[Job] = deque()
        self.urgent: deque[Job] = deque()  # before those in ``queue``
        self.used = 0
        self.ready = False  # stands in the ring of those that have something to start


class Fleet:
    """``send(datagram, address)`` puts a datagram on the wire; ``random(n)`` gives n bytes; ``allows(ip)`` is the
    fence, asked right before the first packet of every exchange."""

    def __init__(
        self,
        send: Callable[[bytes, Address], None],
        *,
        random: Callable[[int], bytes],
        allows: Callable[[str], bool],
        pacing: Pacing | None = None,
    ) -> None:
        self._send = send
        self._random = random
        self._allows = allows
        self.pacing = pacing if pacing is not None else Pacing()
        self.window = Window(self.pacing)
        self._used = 0  # places of the window
        self._jobs: dict[Address, Job] = {}  # exchanges on the wire
        self._bmcs: dict[Address, _Bmc] = {}
        self._subnets: dict[str, _Subnet] = {}
        self._ring: deque[_Subnet] = deque()
        self._heap: list[tuple[float, int, Job]] = []
        self._entries = 0
        self._open = 0  # jobs that have not ended
        self._rtt_s = 0.0  # longest answer time of a login, smoothed over the fleet
        self._first_wait_s = WAIT_S
        self._unheard_at = 0.0  # when the next repetition to a silent BMC has its turn
        # Console session ids: a counter through a bijection of 32 bits, so unique in the process and not guessable.
        self._ids = int.from_bytes(random(4), "little")
        self._id_mask = int.from_bytes(random(4), "little")

    @property
    def open(self) -> int:
        """Jobs that have not ended."""
        return self._open

    def submit(self, job: Job, now: float) -> None:
        """Ask as soon as windows, interval and earlier jobs of the same BMC permit."""
        self._open += 1
        bmc = self._bmcs.get(job.address)
        if bmc is None:
            bmc = self._bmcs[job.address] = _Bmc()
        if bmc.job is not None:
            if bmc.waiting is None:
                bmc.waiting = deque()
            bmc.waiting.append(job)
            return
        bmc.job = job
        if now < bmc.free_at:
            self._sleep(job, bmc.free_at)
        else:
            self._queue(job)
            self._start_some(now)

    def cancel(self, job: Job, now: float) -> None:
        """Forget the job; a session that the BMC may hold is closed. ``done`` is not called."""
        bmc = self._bmcs[job.address]
        if bmc.job is not job:
            if bmc.waiting is not None and job in bmc.waiting:
                bmc.waiting.remove(job)
                self._open -= 1
            return
        exchange = job.exchange
        if exchange is not None:
            exchange.abort()
            self._flush(job, exchange)
            self._leave_wire(job)
        elif job.subnet is not None and job in (queue := job.subnet.urgent if job.urgent else job.subnet.queue):
            queue.remove(job)
        job.due = job.tried_again_at = _NEVER
        self._release(bmc, job, now)
        self._start_some(now)

    def abort(self, now: float) -> None:
        """End every job with ``INTERRUPTED`` and close what sessions there are."""
        jobs: list[Job] = []
        for bmc in list(self._bmcs.values()):
            jobs += [*([bmc.job] if bmc.job is not None else []), *(bmc.waiting or ())]
            bmc.job = bmc.waiting = None
        self._heap.clear()
        for job in jobs:
            if job.exchange is not None:
                job.exchange.abort()
                self._flush(job, job.exchange)
                self._leave_wire(job)
            self._open -= 1
            job.due = job.tried_again_at = _NEVER
        self._ring.clear()
        self._subnets.clear()
        for job in jobs:  # last: whoever is told may raise, or ask something new
            job.done(job, _no_exchange(Reason.INTERRUPTED, "given up by the caller"), now)

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """A datagram from ``source``. Nothing that comes raises."""
        job = self._jobs.get(source)
        if job is None:
            return
        exchange = job.exchange
        assert exchange is not None, "a job on the wire has an exchange"
        exchange.receive_datagram(data, now)
        if not job.counted and exchange.heard:
            self._found(job, now)
        self._after(job, exchange, now)

    def next_timer(self) -> float | None:
        """When ``handle_timers`` is due, or None."""
        return self._heap[0][0] if self._heap else None

    def handle_timers(self, now: float) -> None:
        """Call it at ``next_timer`` or later, after everything that has arrived was given to ``receive``."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, job = heappop(heap)
            if due != job.due:
                continue  # an earlier entry has taken its place, or the job has ended
            job.due = _NEVER
            exchange = job.exchange
            if exchange is None:
                if job.tried_again_at <= now:
                    job.tried_again_at = _NEVER
                    self._queue(job)
                continue
            timer = exchange.next_timer()
            if timer is not None and timer > now:  # it moved while it waited
                self._wake(job, timer)
                continue
            if not exchange.heard:
                self._uncount(job)  # it may be dead: it is asked on, but holds nobody's place
                if not self._permitted(job, now):
                    continue
            exchange.handle_timer(now)
            losses = exchange.losses
            if losses > job.losses:
                job.losses = losses
                if exchange.heard:
                    self.window.lost(now)
            self._after(job, exchange, now)
        self._start_some(now)

    # Timers

    def _wake(self, job: Job, due: float) -> None:
        job.due = due
        self._entries += 1
        heappush(self._heap, (due, self._entries, job))

    def _sleep(self, job: Job, until: float) -> None:
        job.tried_again_at = until
        self._wake(job, until)

    def _permitted(self, job: Job, now: float) -> bool:
        """Whether a repetition to a BMC that never answered may leave now; otherwise it is put off."""
        if job.permitted or now >= job.deadline:
            job.permitted = False
            return True
        turn = max(self._unheard_at, now)
        if turn >= job.deadline:
            self._wake(job, job.deadline)
            return False
        self._unheard_at = turn + 1.0 / (self.pacing.unheard_per_place * self.window.size)
        if turn <= now:
            return True
        job.permitted = True
        self._wake(job, turn)
        return False

    # Windows

    def _queue(self, job: Job) -> None:
        subnet = job.subnet
        if subnet is None:
            name = _subnet(job.address[0])
            subnet = self._subnets.get(name)
            if subnet is None:
                subnet = self._subnets[name] = _Subnet()
            job.subnet = subnet
        queue = subnet.urgent if job.urgent else subnet.queue
        if job.attempts:
            queue.appendleft(job)  # its time runs already
        else:
            queue.append(job)
        if not subnet.ready and subnet.used < self.pacing.subnet:
            subnet.ready = True
            self._ring.append(subnet)

    def _start_some(self, now: float) -> None:
        """Start what the windows permit, subnets in turn."""
        ring, most = self._ring, self.pacing.subnet
        while ring:
            if self._used >= self.window.size:
                self.window.full()
                return
            subnet = ring[0]
            queue = subnet.urgent or subnet.queue
            if not queue or subnet.used >= most:
                ring.popleft()
                subnet.ready = False
                continue
            if len(ring) > 1:
                ring.rotate(-1)
            self._start(queue.popleft(), subnet, now)

    def _found(self, job: Job, now: float) -> None:
        """It is alive: it takes a place again, though there may be none, and what it did not answer was lost."""
        subnet = job.subnet
        assert subnet is not None, "a job on the wire came from a subnet's queue"
        job.counted = True
        self._used += 1
        subnet.used += 1
        for _ in range(job.losses):
            self.window.lost(now)

    def _uncount(self, job: Job) -> None:
        if not job.counted:
            return
        job.counted = False
        self._used -= 1
        subnet = job.subnet
        assert subnet is not None, "a job that counts came from a subnet's queue"
        subnet.used -= 1
        if not subnet.ready and (subnet.urgent or subnet.queue):
            subnet.ready = True
            self._ring.append(subnet)

    # Exchanges

    def _start(self, job: Job, subnet: _Subnet, now: float) -> None:
        address = job.address
        if job.started_at is None:
            job.started_at = now
            job.deadline = now + job.timeout_s
        if not self._allows(address[0]):
            self._end(job, _no_exchange(Reason.OUTSIDE_SITE, "outside the site's BMC networks; nothing was sent"), now)
            return
        if job.latest is not None and job.deadline - now < MIN_ATTEMPT_S / 2:
            self._end(job, job.latest, now)  # the windows held it back for too long
            return
        bmc = self._bmcs[address]
        suites = job.suites
        if bmc.suite and bmc.suite in suites:
            suites = (bmc.suite, *(ident for ident in suites if ident != bmc.suite))
        exchange = job.exchange = Exchange(
            job.credentials,
            job.script(),
            random=self._random,
            console_id=self._console_id,
            deadline=job.deadline,
            suites=suites,
            privilege=min(bmc.privilege, job.privilege),
            first_wait_s=self._first_wait_s,
            version=job.version,
        )
        job.attempts += 1
        job.losses = 0
        job.counted = True
        self._used += 1
        subnet.used += 1
        self._jobs[address] = job
        exchange.start(now)
        self._after(job, exchange, now)

    def _flush(self, job: Job, exchange: Exchange) -> None:
        for data in exchange.datagrams_to_send():
            self._send(data, job.address)

    def _after(self, job: Job, exchange: Exchange, now: float) -> None:
        """After each call of an exchange: send what it has, note its timer, and its end."""
        self._flush(job, exchange)
        due = exchange.next_timer()
        if due is None:
            self._ended(job, exchange, now)
        elif due < job.due:
            self._wake(job, due)

    def _leave_wire(self, job: Job) -> None:
        self._uncount(job)
        job.exchange = None
        del self._jobs[job.address]

    def _ended(self, job: Job, exchange: Exchange, now: float) -> None:
        result = exchange.result
        assert result is not None, "an exchange without a timer has ended"
        self._leave_wire(job)
        job.due = _NEVER
        if result.privilege:
            self.window.good(3 + len(result.answers), now)
            self._measure(exchange.rtt_s)
        result = self._learn(job, result)
        wait_s = self._again_in(job, result, now)
        if wait_s:
            job.latest = result
            self._sleep(job, now + wait_s)
        else:
            self._end(job, result, now)
        self._start_some(now)

    def _measure(self, rtt_s: float) -> None:
        """Waits follow what this fleet needs: twice the usual longest answer time, within bounds."""
        self._rtt_s += (rtt_s - self._rtt_s) / 64
        self._first_wait_s = min(max(WAIT_S, 2 * self._rtt_s), SLOWEST_FIRST_WAIT_S)

    def _again_in(self, job: Job, result: Result, now: float) -> float:
        """Seconds until another exchange is worth it; 0 when the answer is definite, or too little time is left.

        What may have had effect is never tried again: the state has to be read first. Nonsense is asked for once
        more, because nobody signs what comes before a session.
        """
        reason = result.reason
        if result.acted:
            return 0.0
        nonsense = reason is Reason.BMC_PROTOCOL and not result.privilege and job.attempts == 1
        if not (reason in _TRANSIENT or nonsense):
            return 0.0
        wait_s = min(RETRY_FIRST_S * RETRY_GROWTH ** (job.attempts - 1), RETRY_MAX_S)
        wait_s *= 0.9 + self._random(1)[0] / 1275
        left_s = job.deadline - now - MIN_ATTEMPT_S
        return min(wait_s, left_s) if left_s >= RETRY_FIRST_S / 2 else 0.0  # the last one before the deadline

    def _learn(self, job: Job, result: Result) -> Result:
        bmc = self._bmcs[job.address]
        if result.privilege:
            bmc.suite = result.suite
            if result.privilege < job.privilege:
                bmc.privilege = Privilege(result.privilege)
            bmc.proved = job.credentials
        elif result.reason is not Reason.BMC_NO_SESSION:
            # What was learned may be wrong by now: the next exchange tries everything again.
            bmc.suite = 0
            bmc.privilege = Privilege.ADMIN
        if result.unproven and bmc.proved is not None:
            before, now = bmc.proved.password.reveal(), job.credentials.password.reveal()
            if hmac.compare_digest(before, now):
                detail = f"{result.detail}, though it did before: another machine has its address, or its password"
                return result._replace(reason=Reason.BMC_ROGUE, detail=f"{detail} changed")
        return result

    def _end(self, job: Job, result: Result, now: float) -> None:
        self._release(self._bmcs[job.address], job, now)
        job.done(job, result, now)

    def _release(self, bmc: _Bmc, job: Job, now: float) -> None:
        """The job has ended: the next one of this BMC follows after the interval."""
        self._open -= 1
        bmc.job = None
        if job.attempts:
            bmc.free_at = now + self.pacing.interval_s
        if bmc.waiting:
            following = bmc.waiting.popleft()
            bmc.job = following
            self._sleep(following, max(bmc.free_at, now))

    def _console_id(self) -> int:
        while True:
            self._ids += 1
            ident = (self._ids * 0x9E3779B1 ^ self._id_mask) & 0xFFFFFFFF
            if ident:
                return ident


def _no_exchange(reason: Reason, detail: str) -> Result:
    return Result(reason, detail, (), 0, 0, False)


def _subnet(ip: str) -> str:
    """The /24 of an IPv4 address; of an IPv6 address the /64, as far as its short spelling tells."""
    if ":" not in ip:
        return ip.rpartition(".")[0]
    head = ip.partition("%")[0].partition("::")[0].split(":")
    return ":".join(head[:4])
