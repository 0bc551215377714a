"""Whose turn it is when calls come in crowds and are given up: timers and tasks of the driver, over real UDP."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bootorch.core.model import BootDevice, Endpoint
from bootorch.core.reasons import Reason
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi.pacing import Pacing
from tests.ipmi.udp import SITE, Secrets, bmc, host


async def test_the_timer_of_who_follows_a_cancelled_call_is_kept() -> None:
    """A power-on waits 5 s for its answer; the call behind it begins after the interval, not after those."""
    power = IpmiPower(SITE, Secrets())
    async with bmc() as served:
        served.swallow = lambda data: bool(served.chassis.controls)
        first = asyncio.create_task(power.on(host(served.endpoint), BootDevice.NONE, 30))
        async with asyncio.timeout(5):
            while not served.chassis.controls:
                await asyncio.sleep(0.01)
        second = asyncio.create_task(power.read(host(served.endpoint), 30))
        await asyncio.sleep(0.6)  # until only the timer of the answer is left
        served.swallow = lambda data: False
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        due = power._fleet.next_timer()
        assert due is not None
        assert power._wake is not None
        assert power._wake.when() <= due
        assert (await second).ok
    await power.aclose()


async def test_a_crowd_at_once_half_of_which_is_given_up() -> None:
    """60 calls for one BMC and 60 dead ones, in windows of 8: everyone gets an answer, nothing is left."""
    power = IpmiPower(SITE, Secrets(), Pacing(window=8, most=8, subnet=4, interval_s=0.0))
    async with bmc() as served:
        alive = host(served.endpoint)
        dead = [replace(alive, bmc=Endpoint(f"127.9.0.{n + 1}", 20009)) for n in range(60)]
        calls = [asyncio.create_task(power.read(alive, 30)) for _ in range(60)]
        calls += [asyncio.create_task(power.read(target, 0.3)) for target in dead]
        await asyncio.sleep(0.1)
        given_up = calls[::2]
        for call in given_up:
            call.cancel()
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for n, reply in enumerate(replies):
            if isinstance(reply, asyncio.CancelledError):
                assert n % 2 == 0
            else:
                assert not isinstance(reply, BaseException)
                assert reply.reason is (Reason.OK if n < 60 else Reason.BMC_UNREACHABLE)
        assert (power._fleet.open, power._fleet._used, power._fleet._jobs) == (0, 0, {})
    await power.aclose()


async def test_evidence_that_is_under_way_when_all_is_closed_ends_as_interrupted() -> None:
    power = IpmiPower(SITE, Secrets())
    async with bmc() as served:
        served.swallow = lambda data: True
        asked = asyncio.create_task(power.evidence(host(served.endpoint), 60, 30, console=True))
        async with asyncio.timeout(5):
            while not served.datagrams:
                await asyncio.sleep(0.01)
        await power.aclose()
        assert (await asked).reason is Reason.INTERRUPTED
