"""A fleet under everything at once, in virtual time: what must hold whatever happens, from random seeds.

Loss, duplicates, dead, deaf and busy BMCs, few session slots, several jobs of a BMC, jobs cancelled at any moment, and
in some runs an abort in the middle.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Result, Script, in_order
from bootorch.ipmi.fleet import Address, Job
from bootorch.ipmi.messages import Command, Completion, NetFn
from bootorch.ipmi.pacing import Pacing

from .network import make_bmc
from .test_fleet import CREDENTIALS, Wire, ip

INTERVAL_S = 0.1
_QUESTION = Command("question", NetFn.CHASSIS, 0x04, b"\x00")


class Moody(MemoryChassis):
    """Counts who acted: the number in Chassis Identify is the job's. Refuses some as busy, and loses some inside."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.acts: Counter[int] = Counter()

    def identify(self, seconds: int | None, now: float) -> int:
        mood = self._random.random()
        if not seconds:
            return Completion.BUSY if mood < 0.6 else Completion.OK
        if mood < 0.15:
            return Completion.BUSY
        self.acts[seconds] += 1
        return Completion.TIMEOUT if mood < 0.2 else Completion.OK


class Storm(Wire):
    """Jobs come, and some go, at random; every exchange on the wire is watched."""

    def __init__(self, seed: int) -> None:
        chaos = self.chaos = Random(seed)
        window = chaos.choice((4, 16, 64))
        super().__init__(
            seed=seed,
            latency_s=chaos.choice((0.002, 0.05, 0.3)),
            loss=chaos.choice((0.0, 0.05, 0.2)),
            repeat=chaos.choice((0.0, 0.1)),
            dead=lambda address: int(address[0].rpartition(".")[2]) % 7 == 3,
            pacing=Pacing(window=window, most=window, least=2, subnet=chaos.choice((3, 64)), interval_s=INTERVAL_S),
        )
        self.count = chaos.randrange(1, 60)
        self.jobs: list[Job] = []
        self.ended: Counter[Job] = Counter()
        self.outcome: dict[Job, Result] = {}
        self.cancelled: set[Job] = set()
        self.running: dict[Address, Job] = {}
        self.free_at: dict[Address, float] = {}

    def _bmc(self, address: Address) -> Bmc:
        bmc = self.bmcs.get(address)
        if bmc is None:
            chassis = self.chassis[address] = Moody(Random(address[0]))
            bmc = self.bmcs[address] = make_bmc(chassis, seed=len(self.bmcs), max_sessions=self.chaos.choice((1, 4)))
        return bmc

    def submit(self) -> None:
        address = ip(self.chaos.randrange(self.count))
        number = 1 + len([job for job in self.jobs if job.address == address])
        act = Command("act", NetFn.CHASSIS, 0x04, bytes((number,)), once=True)
        plan = self.chaos.choice(((act,), (act.tolerant(), _QUESTION), (_QUESTION, act, _QUESTION), (_QUESTION,)))

        def script() -> Script:
            return in_order(plan)

        self.jobs.append(Job(address, CREDENTIALS, script, self.chaos.choice((0.2, 3.0, 20.0)), self.done))
        self.fleet.submit(self.jobs[-1], self.now)

    def done(self, job: Job, result: Result, now: float) -> None:
        self.ended[job] += 1
        self.outcome[job] = result

    def cancel(self) -> None:
        job = self.chaos.choice(self.jobs)
        if not self.ended[job]:
            self.cancelled.add(job)
        self.fleet.cancel(job, self.now)

    def check(self) -> None:
        """What must hold at every moment."""
        fleet = self.fleet
        on_wire = [job for job in self.jobs if job.exchange is not None]
        assert {job.address: job for job in on_wire} == fleet._jobs  # one exchange per BMC
        assert len(on_wire) == len(fleet._jobs)
        assert fleet._used == sum(job.counted for job in on_wire)
        used = Counter(id(job.subnet) for job in on_wire if job.counted)
        assert {id(subnet): subnet.used for subnet in fleet._subnets.values() if subnet.used} == dict(used)
        for job in on_wire:
            assert job.due < float("inf"), "an exchange without a timer never ends"
        assert fleet.open == sum(not self.ended[job] and job not in self.cancelled for job in self.jobs)

    def check_end(self) -> None:
        fleet = self.fleet
        self.check()
        assert fleet.open == fleet._used == 0
        assert not fleet._jobs
        assert not fleet._ring or not any(subnet.queue for subnet in fleet._subnets.values())
        assert all(bmc.job is None and not bmc.waiting for bmc in fleet._bmcs.values())
        for job in self.jobs:
            assert self.ended[job] == (job not in self.cancelled)
        for address, chassis in self.chassis.items():
            assert isinstance(chassis, Moody)
            assert all(times == 1 for times in chassis.acts.values()), (address, chassis.acts)

    def storm(self) -> None:
        at = 0.0
        for _ in range(self.chaos.randrange(5, 80)):
            at += self.chaos.choice((0.0, 0.01, 0.2, 1.5))
            self.run(until=at)
            self.now = max(self.now, at)
            if self.jobs and self.chaos.random() < 0.25:
                self.cancel()
            else:
                self.submit()
            self.check()


@pytest.mark.parametrize("seed", range(60))
def test_every_job_ends_once_and_nothing_is_left(seed: int) -> None:
    storm = Storm(seed)
    storm.storm()
    if storm.chaos.random() < 0.3:
        storm.fleet.abort(storm.now)
    while storm.fleet.open:
        storm.run(until=storm.now + 0.5)
        storm.now += 0.5
        storm.check()
    storm.check_end()
