"""A whole fleet in virtual time: windows, loss, silence, order, and who is not made to wait for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Result, Script, in_order
from bootorch.ipmi.fleet import Address, Fleet, Job
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.pacing import Pacing, Window
from bootorch.ipmi.packet import Payload, encode_clear

from .network import PASSWORD, USER, make_bmc

CONSOLE = ("127.0.0.1", 40000)
CREDENTIALS = Credentials(USER, PASSWORD)


def ip(number: int) -> Address:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 623


class Wire:
    """A management network in virtual time. ``loss`` and ``repeat``: shares of datagrams, each way.

    ``capacity``: datagrams a second that the uplink carries, ``buffer`` of which may wait; the rest is dropped.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        latency_s: float = 0.005,
        loss: float = 0.0,
        repeat: float = 0.0,
        capacity: float = 0.0,
        buffer: int = 50,
        dead: Callable[[Address], bool] = lambda address: False,
        pacing: Pacing | None = None,
    ) -> None:
        self._random = Random(seed)
        self._latency_s, self._loss, self._repeat = latency_s, loss, repeat
        self._capacity, self._buffer = capacity, buffer
        self._uplink_free = 0.0
        self._dead = dead
        self._heap: list[tuple[float, int, Address, bytes, bool]] = []
        self._order = count()
        self.now = 0.0
        self.bmcs: dict[Address, Bmc] = {}
        self.chassis: dict[Address, MemoryChassis] = {}
        self.results: dict[Address, list[tuple[float, Result, Job]]] = {}
        self.sent: list[tuple[float, Address, bytes]] = []
        self.dropped = 0
        self.flying: Counter[Address] = Counter()
        self.most_flying = 0
        self.fleet = Fleet(self._send, random=Random(seed + 1).randbytes, allows=lambda ip: True, pacing=pacing)

    def ask(
        self,
        address: Address,
        script: Callable[[], Script] | None = None,
        timeout_s: float = 30.0,
        *,
        urgent: bool = False,
    ) -> Job:
        made = script or (lambda: in_order((msg.CHASSIS_STATUS,)))
        job = Job(address, CREDENTIALS, made, timeout_s, self._done, urgent=urgent)
        self.fleet.submit(job, self.now)
        return job

    def _done(self, job: Job, result: Result, now: float) -> None:
        self.results.setdefault(job.address, []).append((now, result, job))

    def _send(self, data: bytes, address: Address) -> None:
        self.sent.append((self.now, address, data))
        self._post(data, address, to_bmc=True)

    def _post(self, data: bytes, address: Address, to_bmc: bool) -> None:
        for _ in range(1 + (self._random.random() < self._repeat)):
            at = self.now
            if self._capacity:
                begin = max(self.now, self._uplink_free)
                if (begin - self.now) * self._capacity > self._buffer:
                    self.dropped += 1
                    continue
                self._uplink_free = at = begin + 1 / self._capacity
            if self._random.random() >= self._loss:
                due = at + self._latency_s * self._random.uniform(0.9, 1.1)
                heappush(self._heap, (due, next(self._order), address, data, to_bmc))

    def run(self, until: float = 1e9) -> None:
        for _ in range(5_000_000):
            timer = self.fleet.next_timer()
            packet_at = self._heap[0][0] if self._heap else None
            if (timer is None and packet_at is None) or not self.fleet.open:
                return
            if packet_at is not None and (timer is None or packet_at <= timer):
                if packet_at > until:
                    return
                self.now, _, address, data, to_bmc = heappop(self._heap)
                if not to_bmc:
                    self.fleet.receive(data, address, self.now)
                elif not self._dead(address):
                    for answer in self._bmc(address).receive_datagram(data, CONSOLE, self.now):
                        self._post(answer, address, to_bmc=False)
            else:
                assert timer is not None
                if timer > until:
                    return
                self.now = max(self.now, timer)
                self.fleet.handle_timers(self.now)
        raise AssertionError("the fleet does not come to an end")

    def _bmc(self, address: Address) -> Bmc:
        bmc = self.bmcs.get(address)
        if bmc is None:
            self.chassis[address] = MemoryChassis()
            bmc = self.bmcs[address] = make_bmc(self.chassis[address], seed=hash(address) & 0xFFFF)
        return bmc

    def reasons(self) -> Counter[Reason]:
        return Counter(result.reason for entries in self.results.values() for _, result, _ in entries)


def test_what_is_urgent_does_not_wait_for_thousands_of_reads() -> None:
    wire = Wire(latency_s=0.02, pacing=Pacing(window=64, most=64))
    for n in range(2000):
        wire.ask(ip(n))
    urgent = [wire.ask(ip(2000 + n), urgent=True) for n in range(50)]
    wire.run()
    assert wire.reasons() == {Reason.OK: 2050}
    ended = sorted((entries[0][0], address) for address, entries in wire.results.items())
    places = {address: place for place, (_, address) in enumerate(ended)}
    # Those that were on the wire already (the window), and one more of each subnet in its turn.
    assert max(places[job.address] for job in urgent) < 64 + 50 * 10
    assert wire.fleet._used == 0
    assert all(not subnet.queue and not subnet.urgent for subnet in wire.fleet._subnets.values())


def test_an_urgent_job_that_waits_can_be_cancelled() -> None:
    wire = Wire(latency_s=0.02, pacing=Pacing(window=8, most=8))
    for n in range(20):
        wire.ask(ip(n))
    job = wire.ask(ip(30), urgent=True)
    wire.fleet.cancel(job, wire.now)
    wire.run()
    assert job.address not in wire.results
    assert wire.reasons() == {Reason.OK: 20}


def test_every_bmc_of_a_fleet_answers_once() -> None:
    wire = Wire()
    for n in range(2000):
        wire.ask(ip(n))
    wire.run()
    assert wire.reasons() == {Reason.OK: 2000}
    assert all(len(entries) == 1 for entries in wire.results.values())
    assert len(wire.sent) == 2000 * 5  # Open Session, RAKP1, RAKP3, the command, Close Session
    wire.run(wire.now + 1)
    assert wire.fleet.open == 0
    assert wire.fleet._used == 0
    assert all(subnet.used == 0 and not subnet.queue for subnet in wire.fleet._subnets.values())


@pytest.mark.parametrize(("loss", "repeat"), [(0.02, 0.01), (0.1, 0.1), (0.2, 0.0)])
def test_loss_and_duplicates_cost_time_and_no_answer(loss: float, repeat: float) -> None:
    wire = Wire(latency_s=0.01, loss=loss, repeat=repeat, seed=7)
    for n in range(1000):
        wire.ask(ip(n))
    wire.run()
    assert wire.reasons() == {Reason.OK: 1000}


def test_the_dead_end_at_their_own_deadline_and_nobody_waits_for_them() -> None:
    def run(dead: Callable[[Address], bool]) -> Wire:
        wire = Wire(latency_s=0.01, dead=dead, pacing=Pacing(window=64, most=64))
        for n in range(1000):
            wire.ask(ip(n), timeout_s=10)
        wire.run()
        return wire

    def every_fifth(address: Address) -> bool:
        return int(address[0].rpartition(".")[2]) % 5 == 0

    healthy, sick = run(lambda address: False), run(every_fifth)
    for address, [(at, result, job)] in sick.results.items():
        if every_fifth(address):
            assert result.reason is Reason.BMC_UNREACHABLE
            assert job.started_at is not None
            assert at - job.started_at == pytest.approx(10.0)
        else:
            assert result.reason is Reason.OK
    last = {
        name: max(at for address, [(at, _, _)] in wire.results.items() if not every_fifth(address))
        for name, wire in (("healthy", healthy), ("sick", sick))
    }
    # A dead one holds a place for one wait (a quarter of a second) and not for its deadline: 200 of 64 x 0.28 s.
    assert last["sick"] <= last["healthy"] + 200 / 64 * 0.28 + 0.5


def test_repetitions_to_a_dark_network_are_limited() -> None:
    wire = Wire(dead=lambda address: True, pacing=Pacing(window=50, most=50, unheard_per_place=4.0))
    for n in range(2000):
        wire.ask(ip(n), timeout_s=20)
    wire.run()
    assert wire.reasons() == {Reason.BMC_UNREACHABLE: 2000}
    first: set[Address] = set()
    repeats: Counter[int] = Counter()
    for at, address, _ in wire.sent:
        if address in first:
            repeats[int(at)] += 1
        first.add(address)
    assert max(repeats.values()) <= 201


def test_a_fleet_that_is_mostly_dark_holds_up_nobody() -> None:
    """95 of 100 BMCs are dark: the others are found as fast as first questions may leave, not when the dark give up."""
    wire = Wire(dead=lambda address: int(address[0].rpartition(".")[2]) % 20 != 0, pacing=Pacing(window=64, most=64))
    for n in range(4096):
        wire.ask(ip(n), timeout_s=30)
    wire.run()
    reasons = wire.reasons()
    alive = [at for entries in wire.results.values() for at, result, _ in entries if result.reason is Reason.OK]
    assert len(alive) == 13 * 16
    assert reasons[Reason.BMC_UNREACHABLE] == 4096 - len(alive)
    assert max(alive) < 4096 / 64 * 0.28 + 1  # a place is held for one wait
    assert wire.now < 4096 / 64 * 0.28 + 31


def test_a_narrow_uplink_is_not_driven_into_collapse() -> None:
    """600 datagrams a second and a buffer of 50: with the window open, most of what is sent would be thrown away."""
    steady = Wire(latency_s=0.002, capacity=600, pacing=Pacing(window=256, most=256, least=256))
    paced = Wire(latency_s=0.002, capacity=600, pacing=Pacing(window=256, most=256))
    for wire in (steady, paced):
        for n in range(1500):
            wire.ask(ip(n), timeout_s=120)
        wire.run()
        assert wire.reasons() == {Reason.OK: 1500}
    assert paced.fleet.window.size < 64
    assert paced.dropped < steady.dropped / 2
    assert paced.now <= steady.now


def test_loss_that_is_not_ours_does_not_close_the_window() -> None:
    wire = Wire(latency_s=0.01, loss=0.15, seed=5)
    sizes = []
    for n in range(3000):
        wire.ask(ip(n))
    for second in range(1, 200):
        wire.run(until=second / 4)
        sizes.append(wire.fleet.window.size)
        if not wire.fleet.open:
            break
    wire.run()
    assert wire.reasons() == {Reason.OK: 3000}
    assert sum(size >= 256 for size in sizes) > len(sizes) / 2


def test_windows_of_process_and_subnet_hold() -> None:
    wire = Wire(pacing=Pacing(window=50, most=50, subnet=8))
    most: Counter[str] = Counter()
    busy: set[Address] = set()

    def script_of(address: Address) -> Callable[[], Script]:
        def script() -> Script:
            busy.add(address)
            most["all"] = max(most["all"], len(busy))
            per_subnet = Counter(name.rpartition(".")[0] for name, _ in busy)
            most["subnet"] = max(most["subnet"], *per_subnet.values())
            yield msg.CHASSIS_STATUS
            busy.discard(address)
            return None

        return script

    for n in range(1000):
        wire.ask(ip(n), script_of(ip(n)))
    wire.run()
    assert wire.reasons() == {Reason.OK: 1000}
    assert most == {"all": 4 * 8, "subnet": 8}  # four subnets


def test_subnets_take_turns() -> None:
    wire = Wire(pacing=Pacing(window=10, most=10, subnet=10))
    for n in range(600):
        wire.ask(ip(n))
    wire.run()
    done = [address for address, entries in sorted(wire.results.items(), key=lambda item: item[1][0][0])]
    half = Counter(address[0].rpartition(".")[0] for address in done[:200])
    assert min(half[f"10.0.{n}"] for n in range(3)) >= 60  # none after the last of another


def test_one_exchange_and_an_interval_per_bmc() -> None:
    wire = Wire(pacing=Pacing(interval_s=0.5))
    jobs = [wire.ask(ip(1)) for _ in range(4)]
    wire.run()
    assert [job for _, _, job in wire.results[ip(1)]] == jobs
    for (ended, _, _), (_, _, following) in zip(wire.results[ip(1)], wire.results[ip(1)][1:], strict=False):
        assert following.started_at is not None
        assert following.started_at >= ended + 0.5 - 1e-9
    late = wire.ask(ip(1))  # and after a silence of none
    wire.run()
    assert late.started_at is not None
    assert late.started_at >= wire.results[ip(1)][3][0] + 0.5 - 1e-9


def test_a_cancelled_job_closes_its_session_and_lets_the_next_one_in() -> None:
    wire = Wire()
    running, waiting, last = (wire.ask(ip(1)) for _ in range(3))
    wire.run(until=0.033)  # the session is open
    assert wire.bmcs[ip(1)].session_count == 1
    wire.fleet.cancel(waiting, wire.now)
    wire.fleet.cancel(running, wire.now)
    wire.run()
    assert [job for _, _, job in wire.results[ip(1)]] == [last]
    assert wire.fleet.open == 0


def test_what_may_have_had_effect_is_never_tried_again() -> None:
    wire = Wire()
    on = msg.chassis_control(msg.Action.ON)

    def deaf_after(address: Address) -> bool:
        return address in wire.chassis and bool(wire.chassis[address].controls)

    wire._dead = deaf_after
    wire.ask(ip(1), lambda: in_order((msg.CHASSIS_STATUS, on)), timeout_s=40)
    real = wire._post

    def mute(data: bytes, address: Address, to_bmc: bool) -> None:
        if to_bmc or not wire.chassis[address].controls:
            real(data, address, to_bmc)

    wire._post = mute  # type: ignore[method-assign]
    wire.run()
    [(_, result, job)] = wire.results[ip(1)]
    assert result.reason is Reason.BMC_LOST
    assert job.attempts == 1
    assert wire.chassis[ip(1)].controls == [msg.Action.ON]


class Reluctant(Bmc):
    """Answers Open Session with ``status`` until ``until``."""

    until = 0.0
    status = 0x01

    def receive_datagram(self, data: bytes, peer: object, now: float) -> list[bytes]:  # type: ignore[override]
        if now < self.until and data[5] == Payload.OPEN_REQUEST:
            return [encode_clear(Payload.OPEN_RESPONSE, bytes((data[16], self.status)))]
        return super().receive_datagram(data, CONSOLE, now)


def reluctant(until: float, status: int) -> Reluctant:
    bmc = Reluctant(users={USER: PASSWORD}, guid=bytes(16), chassis=MemoryChassis(), random=Random(1).randbytes)
    bmc.until, bmc.status = until, status
    return bmc


@pytest.mark.parametrize(("until", "attempts"), [(4.0, 4), (27.5, 9)])
def test_a_bmc_without_free_sessions_is_left_alone_until_there_are_some(until: float, attempts: int) -> None:
    wire = Wire()
    wire.bmcs[ip(1)] = reluctant(until, 0x01)
    wire.ask(ip(1), timeout_s=30)
    wire.run()
    [(at, result, job)] = wire.results[ip(1)]
    assert result.reason is Reason.OK
    assert until < at < 30  # the last try is before the deadline
    assert job.attempts <= attempts  # after 1, 2, 4, 5, 5 s: it is not knocked on all the time
    opens = [data for _, _, data in wire.sent if data[5] == Payload.OPEN_REQUEST]
    assert len(opens) == job.attempts


def test_nonsense_before_a_session_is_asked_for_once_more() -> None:
    wire = Wire()
    wire.bmcs[ip(1)] = reluctant(0.5, 0x77)
    wire.bmcs[ip(2)] = reluctant(1e9, 0x77)
    for n in (1, 2):
        wire.ask(ip(n))
    wire.run()
    [(_, once, _)], [(_, always, job)] = wire.results[ip(1)], wire.results[ip(2)]
    assert (once.reason, always.reason, job.attempts) == (Reason.OK, Reason.BMC_PROTOCOL, 2)


def test_outside_the_fence_not_one_packet_leaves_and_many_of_them_are_no_trouble() -> None:
    wire = Wire()
    wire.fleet = Fleet(wire._send, random=Random(1).randbytes, allows=lambda ip: ip.endswith(".7"))
    for n in range(5000):
        wire.ask(ip(n))
    wire.run()
    assert wire.reasons()[Reason.OUTSIDE_SITE] == 5000 - 20
    assert {address[0].rpartition(".")[2] for _, address, _ in wire.sent} == {"7"}


def test_datagrams_from_elsewhere_and_for_nobody_are_ignored() -> None:
    wire = Wire()
    wire.ask(ip(1))
    refusal = encode_clear(Payload.OPEN_RESPONSE, b"\x01\x01")
    wire.fleet.receive(refusal, ip(2), 0.0)
    wire.fleet.receive(refusal, (ip(1)[0], 664), 0.0)
    wire.run()
    wire.fleet.receive(refusal, ip(1), wire.now)  # late
    assert wire.reasons() == {Reason.OK: 1}


def test_what_was_learned_is_used_and_forgotten_when_it_fails() -> None:
    wire = Wire()
    users = {USER: PASSWORD}
    wire.bmcs[ip(1)] = make_bmc(suites=(3,), users=users)
    for _ in range(2):
        wire.ask(ip(1))
        wire.run()
    opens = [data for _, _, data in wire.sent if data[5] == Payload.OPEN_REQUEST]
    assert len(opens) == 3  # 17 refused, 3; and then 3 at once
    users[USER] = Secret("somebody else's")
    wire.ask(ip(1))
    wire.run()
    assert wire.results[ip(1)][-1][1].reason is Reason.BMC_ROGUE


def test_abort_tells_everybody_and_closes_sessions() -> None:
    wire = Wire(pacing=Pacing(window=5, most=5))
    for n in range(20):
        wire.ask(ip(n))
    wire.run(until=0.033)
    open_before = sum(bmc.session_count for bmc in wire.bmcs.values())
    assert open_before == 5
    wire.fleet.abort(wire.now)
    assert wire.reasons()[Reason.INTERRUPTED] == 20
    assert wire.fleet.open == 0
    for _, _, address, data, to_bmc in sorted(wire._heap):
        if to_bmc:
            wire.bmcs[address].receive_datagram(data, CONSOLE, wire.now)
    assert sum(bmc.session_count for bmc in wire.bmcs.values()) == 0


def test_the_window_grows_only_where_it_holds_something_back() -> None:
    window = Window(Pacing(window=64, most=512))
    now = 0.0
    for _ in range(50):
        now += 0.3
        window.good(300, now)
    assert window.size == 64
    for _ in range(50):
        now += 0.3
        window.full()
        window.good(300, now)
    assert window.size == 512


@pytest.mark.parametrize("one_way_s", [0.2, 0.35, 0.6])
def test_slow_bmcs_are_recognised_by_late_answers(one_way_s: float) -> None:
    """Answers to handshakes that were given up say that the BMC is slow and nothing was lost: the waits double.

    Slower ones cannot be had: half-open sessions live 3 s, here as in OpenBMC.
    """
    wire = Wire(latency_s=one_way_s)
    for n in range(50):
        wire.ask(ip(n))
    wire.run()
    assert wire.reasons() == {Reason.OK: 50}
    opens = Counter(address for _, address, data in wire.sent if data[5] == Payload.OPEN_REQUEST)
    assert max(opens.values()) <= 10


def test_a_command_that_was_done_is_not_repeated_because_a_later_one_found_the_bmc_busy() -> None:
    class BusyReader(MemoryChassis):
        def identify(self, seconds: int | None, now: float) -> int:
            return msg.Completion.BUSY

    wire = Wire()
    chassis = wire.chassis[ip(1)] = BusyReader()
    wire.bmcs[ip(1)] = make_bmc(chassis)
    wire.ask(ip(1), lambda: in_order((msg.chassis_control(msg.Action.ON), msg.identify(5))))
    wire.run()
    [(_, result, job)] = wire.results[ip(1)]
    assert (result.reason, result.acted, job.attempts) == (Reason.BMC_BUSY, True, 1)
    assert chassis.controls == [msg.Action.ON]


def test_a_command_that_was_refused_as_busy_has_not_acted_and_is_sent_again() -> None:
    class BusyOnce(MemoryChassis):
        def control(self, action: msg.Action, now: float) -> int:
            done = super().control(action, now)
            return msg.Completion.BUSY if len(self.controls) == 1 else done

    wire = Wire()
    wire.bmcs[ip(1)] = make_bmc(BusyOnce())
    wire.ask(ip(1), lambda: scripts.chassis_control(msg.Action.ON))
    wire.run()
    [(_, result, job)] = wire.results[ip(1)]
    assert (result.reason, result.acted, job.attempts) == (Reason.OK, True, 2)


def test_who_tries_again_goes_first_and_keeps_its_reason_when_there_was_no_place_in_time() -> None:
    """The window is full of others until its time is up: it was refused a session, and not unreachable."""
    wire = Wire(pacing=Pacing(window=1, most=1, least=1))
    wire.bmcs[ip(1)] = reluctant(1e9, 0x01)
    asked = wire.ask(ip(1), timeout_s=4)
    for n in range(2, 9):
        wire.bmcs[ip(n)] = make_bmc(Slow())
        wire.ask(ip(n), lambda: in_order((msg.chassis_control(msg.Action.ON),)))  # each holds the place for 5 s
    wire.run(until=5.5)
    assert [(result.reason, job) for _, result, job in wire.results[ip(1)]] == [(Reason.BMC_NO_SESSION, asked)]
    assert asked.attempts == 1
    assert sum(len(entries) for entries in wire.results.values()) == 2


class Slow(MemoryChassis):
    """Answers "duplicate request", which is no answer."""

    def control(self, action: msg.Action, now: float) -> int:
        return msg.Completion.DUPLICATE


def test_an_abort_closes_every_session_even_where_the_one_who_is_told_raises() -> None:
    wire = Wire()
    for n in range(20):
        wire.ask(ip(n))
    wire.run(until=0.033)

    def done(job: Job, result: Result, now: float) -> None:
        raise BrokenPipeError

    for job in wire.fleet._jobs.values():
        job.done = done
    sent = len(wire.sent)
    with pytest.raises(BrokenPipeError):
        wire.fleet.abort(wire.now)
    assert len({address for _, address, _ in wire.sent[sent:]}) == 20
    assert (wire.fleet.open, wire.fleet._used) == (0, 0)


def test_a_dead_bmc_is_unreachable_however_long_it_is_asked() -> None:
    wire = Wire(dead=lambda address: True)
    wire.ask(ip(1), timeout_s=3600)
    wire.run()
    assert wire.reasons() == {Reason.BMC_UNREACHABLE: 1}


def test_a_window_that_was_opened_again_often_still_closes_when_the_network_is_crowded() -> None:
    """A run that ends soon after a halving looks as if that had done harm; days later a crowded network must count."""
    window = Window(Pacing(window=256, most=256))
    now = 0.0

    def crowded() -> None:
        for _ in range(199):
            window.lost(now)
        window.good(1000, now)

    for _ in range(12):
        now += 50_000
        window.good(300, now)
        now += 1
        crowded()
        assert window.size == 128
        now += 60  # and then next to nothing is asked
        window.good(200, now)
        assert window.size == 256
    now += 300
    window.good(300, now)
    now += 1
    crowded()
    assert window.size == 128


def test_silence_at_open_session_is_no_nonsense_however_long_it_lasts() -> None:
    class Occupied(Bmc):
        """Answers discovery, as boards whose session slots are all taken do."""

        def receive_datagram(self, data: bytes, peer: object, now: float) -> list[bytes]:  # type: ignore[override]
            return [] if data[4] == 6 else super().receive_datagram(data, CONSOLE, now)

    wire = Wire()
    wire.bmcs[ip(1)] = Occupied(users={USER: PASSWORD}, guid=bytes(16), chassis=MemoryChassis(), random=bytes)
    wire.ask(ip(1), timeout_s=1200)
    wire.run()
    [(at, result, _)] = wire.results[ip(1)]
    assert result.reason is Reason.BMC_NO_SESSION
    assert at > 1190
