"""Serial over LAN with a lab's hosts: a boot is watched from the first character to the login, or to where it ends."""

from __future__ import annotations

import asyncio

from bootorch.core.model import BootDevice
from bootorch.core.reasons import Reason
from bootorch.drivers.bmc_net import BmcTarget, Ended, ask_all
from bootorch.drivers.console import Consoles, ConsoleSession
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi import scripts
from bootorch.ipmi.login import Credentials
from bootorch.sim.machine import BootFailure
from tests.lab.conftest import SITE, RunningLab, Start


async def watched(lab: RunningLab, name: str, end: bytes) -> bytes:
    """What the console of a dark host says when it is powered on, up to ``end``."""
    host = lab.host(name)
    seen, enough = bytearray(), asyncio.Event()

    def output(data: bytes) -> None:
        seen.extend(data)
        if end in seen:
            enough.set()

    consoles, power = Consoles(SITE), IpmiPower(SITE, lab)
    try:
        session = await consoles.open(host.bmc, Credentials(b"admin", lab.bmc_password(host)), output)
        assert isinstance(session, ConsoleSession), session
        while (await power.on(host, BootDevice.NONE, 2.0)).reason is Reason.BMC_LOST:
            pass  # its answer was lost; a second one does nothing to a host that is on
        await asyncio.wait_for(enough.wait(), 20.0)
        if b"login: " in end:
            enough.clear()
            end = b"Password: "
            session.write(b"root\r")
            await asyncio.wait_for(enough.wait(), 20.0)
        assert (await session.close()).reason is Reason.OK
    finally:
        await power.aclose()
        await consoles.aclose()
    return bytes(seen)


async def test_a_boot_is_seen_from_self_test_to_login_and_keys_arrive(start: Start) -> None:
    lab = start()
    seen = await watched(lab, "web-01", b"web-01 login: ")
    assert seen.index(b"Initializing memory") < seen.index(b"Linux version") < seen.index(b"web-01 login: ")
    assert seen.endswith(b"web-01 login: root\r\nPassword: ")
    assert seen.count(b"login: ") == 1, "every character comes once"


async def test_a_panic_is_seen_even_where_packets_are_lost(start: Start) -> None:
    lab = start(20, kernel_panic=1, loss=0.1)
    victim = lab.victim(boot_failure=BootFailure.KERNEL_PANIC).name
    seen = await watched(lab, victim, b"end Kernel panic - not syncing")
    assert seen.count(b"Linux version") == 1
    assert b"login: " not in seen


async def test_a_lab_bmc_tells_why_its_host_did_not_boot(start: Start) -> None:
    lab = start(20, memory_error=1)
    victim = lab.victim(boot_failure=BootFailure.MEMORY_ERROR)
    host = lab.host(victim.name)
    power = IpmiPower(SITE, lab)
    try:
        assert (await power.on(host, BootDevice.NONE, 5.0)).ok
    finally:
        await power.aclose()
    await asyncio.sleep(2 * victim.machine.boot_s)
    credentials = Credentials(b"admin", lab.bmc_password(host))
    target = BmcTarget(host.name, victim.bmc_address, lab.info.bmc_port, credentials)
    ended: list[Ended] = []

    def ask() -> None:
        everybody = lambda address: True  # noqa: E731
        ask_all(
            [target], lambda _: scripts.evidence(lambda: 60.0), allows=everybody, timeout_s=10.0, ended=ended.append
        )

    await asyncio.get_running_loop().run_in_executor(None, ask)
    [end] = ended
    assert end.reason is Reason.OK
    assert isinstance(end.value, scripts.Evidence)
    assert end.value.events is not None
    codes = [line.split()[0] for line in end.value.events]
    assert any(code.startswith("0c.01.ff.") for code in codes)
    assert not any(code.startswith("09.04") for code in codes if not code.endswith(".d")), "the outage is old news"
    assert "command" in end.value.restart_cause
