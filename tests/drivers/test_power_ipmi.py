"""The driver against our BMC over real UDP sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_network
from typing import ClassVar

import pytest

from bootorch.core.model import BootDevice, Endpoint, Host, Site
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.drivers.bmc_net import SOCKETS
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.drivers.protocols import PowerDriver
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.messages import Action, BootSource
from bootorch.ipmi.packet import Payload
from tests.ipmi.udp import PASSWORD, SITE, Secrets, bmc, host, nothing


@pytest.fixture
async def driver() -> AsyncIterator[IpmiPower]:
    power = IpmiPower(SITE, Secrets())
    yield power
    await power.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def is_driver(power: IpmiPower) -> PowerDriver:
    return power  # the type checker's proof that the Protocol is met


@pytest.mark.parametrize("ident", [17, 3])
async def test_a_cold_boot(driver: IpmiPower, ident: int) -> None:
    async with bmc(suites=(ident,)) as served:
        server = host(served.endpoint)
        reply = await driver.read(server, 5)
        assert reply.ok
        assert reply.data == {
            "power": "off",
            "fault": False,
            "overload": False,
            "last_power_event": "",
            "restore_policy": "stay_off",
            "suite": ident,
        }
        on = await driver.on(server, BootDevice.PXE, 5)
        assert (on.reason, on.data) == (Reason.OK, {"power": "off", "suite": ident})
        assert served.chassis.booted_from == BootSource.PXE
        assert len(served.peers) == 1
        before = [name for name in served.commands if "boot" in name]
        again = await driver.on(server, BootDevice.DISK, 5)
        assert (again.reason, again.data) == (Reason.OK, {"power": "on", "sent": False, "suite": ident})
        assert [name for name in served.commands if "boot" in name] == before != [], "a running host boots as ever"
        assert (await driver.read(server, 5)).data["power"] == "on"
        assert (await driver.cycle(server, 5)).ok
        assert served.chassis.controls == [Action.ON, Action.CYCLE]
        assert served.chassis.booted_from is None  # the boot device was for one boot
        await until(lambda: served.bmc.session_count == 0)  # Close Session is not waited for
        assert len(served.peers) == 1


async def test_outside_the_site_not_one_packet_leaves() -> None:
    power = IpmiPower(Site((ip_network("127.1.0.0/16"),), ()), Secrets())
    async with bmc() as served:
        server = host(served.endpoint)
        for reply in (
            await power.read(server, 1),
            await power.on(server, BootDevice.NONE, 1),
            await power.cycle(server, 1),
            await power.read(replace(server, bmc=Endpoint("not-an-address", 623)), 1),
        ):
            assert reply.reason is Reason.OUTSIDE_SITE
        await asyncio.sleep(0.05)
        assert served.datagrams == 0
    await power.aclose()


async def test_a_process_that_lost_its_lease_in_the_middle_of_an_exchange_sends_no_further_datagram() -> None:
    """Stopped after any of its datagrams, and woken when another process drives: power-on and goodbye stay here."""

    async def stopped_after(count: int) -> tuple[int, list[Action], Reason]:
        sent = 0

        def holds() -> bool:
            nonlocal sent
            sent += 1
            return sent <= count

        power = IpmiPower(SITE, Secrets(), holds=holds)
        async with bmc() as served:
            reply = await power.on(host(served.endpoint), BootDevice.NONE, 2)
            await power.aclose()
            await asyncio.sleep(0.05)
            assert served.datagrams <= count
            return served.datagrams, served.chassis.controls, reply.reason

    ends = await asyncio.gather(*(stopped_after(count) for count in range(12)))
    switched = [bool(controls) for _, controls, _ in ends]
    assert switched == sorted(switched), "once it has left, it has left"
    assert not switched[0]
    assert switched[-1]
    for datagrams, controls, reason in ends:
        if not controls:
            assert reason is not Reason.OK, datagrams


async def test_no_secret_and_secrets_that_ipmi_cannot_carry() -> None:
    async with bmc() as served:
        for password, detail in ((None, "the vault is sealed"), ("x" * 21, "20 bytes")):
            power = IpmiPower(SITE, Secrets(password))
            reply = await power.read(host(served.endpoint), 1)
            assert reply.reason is Reason.NO_SECRET
            assert detail in reply.detail
            assert "xxxx" not in repr(reply)
            await power.aclose()
        assert served.datagrams == 0


async def test_the_facts_of_a_host_say_which_suites_and_which_key() -> None:
    class Keys(Secrets):
        key: Secret | None = Secret("the BMC's own")

        def bmc_key(self, host: Host) -> Secret | None:
            return self.key if host.fact("bmc_kg_file") else None

    secrets = Keys()
    power = IpmiPower(SITE, secrets)
    async with bmc(k_g=Secret("the BMC's own")) as served:
        assert (await power.read(host(served.endpoint), 5)).reason is Reason.BMC_AUTH_FAILED
        keyed = host(served.endpoint, bmc_kg_file="/kg", bmc_suites="3")
        reply = await power.read(keyed, 5)
        assert (reply.reason, reply.data["suite"]) == (Reason.OK, 3)
        secrets.key = None
        before = served.datagrams
        assert (await power.read(keyed, 5)).reason is Reason.NO_SECRET
        assert served.datagrams == before
    await power.aclose()


async def test_an_old_board_by_ipmi_15_where_the_inventory_asks_for_it(driver: IpmiPower) -> None:
    async with bmc(ipmi_15=True) as served:
        old = host(served.endpoint, bmc_ipmi="1.5")
        assert (await driver.read(old, 5)).data["power"] == "off"
        assert (await driver.on(old, BootDevice.NONE, 5)).ok
        assert (await driver.read(old, 5)).data["power"] == "on"
        assert (await driver.evidence(old, 60.0, 5, console=True)).data["power"] == "on"
        await until(lambda: served.bmc.session_count == 0)
    long = IpmiPower(SITE, Secrets("p" * 17))
    async with bmc(ipmi_15=True) as served:
        reply = await long.read(host(served.endpoint, bmc_ipmi="1.5"), 5)
        assert (reply.reason, served.datagrams) == (Reason.NO_SECRET, 0)
    await long.aclose()


async def test_a_wrong_password() -> None:
    power = IpmiPower(SITE, Secrets("Xq7-wrong"))
    async with bmc() as served:
        reply = await power.read(host(served.endpoint), 5)
        assert reply.reason is Reason.BMC_AUTH_FAILED
        assert str(served.endpoint) in reply.detail
        assert "Xq7" not in repr(reply)
        assert served.datagrams == 4  # Open Session and RAKP1 twice: no RAKP3
    await power.aclose()


async def test_a_bmc_that_suddenly_does_not_know_the_password_is_rogue(driver: IpmiPower) -> None:
    users = {b"admin": Secret(PASSWORD)}
    async with bmc(users=users) as served:
        assert (await driver.read(host(served.endpoint), 5)).ok
        users[b"admin"] = Secret("somebody else's")
        assert (await driver.read(host(served.endpoint), 5)).reason is Reason.BMC_ROGUE
        assert (await driver.read(host(served.endpoint, user="nobody"), 5)).reason is Reason.BMC_AUTH_FAILED


async def test_one_exchange_at_a_time_with_a_bmc(driver: IpmiPower) -> None:
    async with bmc(max_sessions=1) as served:
        server = host(served.endpoint)
        replies = await asyncio.gather(*(driver.read(server, 5) for _ in range(8)))
        assert all(reply.ok for reply in replies)
        assert served.commands == ["chassis status", "close session"] * 8


async def test_a_call_that_waits_for_its_turn_is_not_late(driver: IpmiPower) -> None:
    async with bmc() as served:
        served.swallow = lambda data: True
        slow = asyncio.create_task(driver.read(host(served.endpoint), 0.5))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(driver.read(host(served.endpoint), 0.4))
        assert (await slow).reason is Reason.BMC_UNREACHABLE
        served.swallow = nothing
        assert (await waiting).ok


async def test_a_cancelled_call_gives_its_turn_away(driver: IpmiPower) -> None:
    async with bmc() as served:
        served.swallow = lambda data: True
        calls = [asyncio.create_task(driver.read(host(served.endpoint), 30)) for _ in range(3)]
        await asyncio.sleep(0.05)
        served.swallow = nothing
        for call in calls[:2]:
            call.cancel()
        assert (await calls[2]).ok


async def test_many_bmcs_over_few_sockets(driver: IpmiPower) -> None:
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(bmc(address=f"127.0.{n // 100}.{n % 100 + 1}")) for n in range(150)]
        replies = await asyncio.gather(*(driver.on(host(served.endpoint), BootDevice.NONE, 10) for served in fleet))
        assert {reply.reason for reply in replies} == {Reason.OK}
        assert all(served.chassis.controls == [Action.ON] for served in fleet)
        assert len(set.union(*({port for _, port in served.peers} for served in fleet))) <= SOCKETS


async def test_no_free_session_is_waited_for(driver: IpmiPower) -> None:
    async with bmc(max_sessions=1) as served:
        served.swallow = lambda data: data[5] == Payload.RAKP1 and served.datagrams < 5
        half_open = asyncio.create_task(driver.read(host(served.endpoint), 0.2))
        assert (await half_open).reason is Reason.BMC_SILENT_AUTH
        assert served.bmc.session_count == 1
        reply = await driver.read(host(served.endpoint), 8)
        assert reply.ok, reply


class Busy(MemoryChassis):
    refusals = 1

    def control(self, action: Action, now: float) -> int:
        if self.refusals:
            self.refusals -= 1
            return 0xC0
        return super().control(action, now)


async def test_a_busy_bmc_is_asked_again(driver: IpmiPower) -> None:
    async with bmc(Busy()) as served:
        assert (await driver.on(host(served.endpoint), BootDevice.NONE, 8)).ok
        assert served.chassis.controls == [Action.ON]
        assert served.commands.count("chassis control on") == 2


async def test_busy_until_there_is_no_time(driver: IpmiPower) -> None:
    chassis = Busy()
    chassis.refusals = 100
    async with bmc(chassis) as served:
        reply = await driver.on(host(served.endpoint), BootDevice.NONE, 1.5)
        assert reply.reason is Reason.BMC_BUSY
        assert "0xc0" in reply.detail
        assert "sent" not in reply.data, "it left, whatever the BMC made of it"


async def test_a_power_on_whose_answer_is_lost_is_not_repeated(driver: IpmiPower) -> None:
    async with bmc() as served:
        served.swallow = lambda data: bool(served.chassis.controls)
        reply = await driver.on(host(served.endpoint), BootDevice.NONE, 1.2)
        assert reply.reason is Reason.BMC_LOST
        assert "may have had effect" in reply.detail
        assert served.chassis.controls == [Action.ON]
        assert served.commands.count("chassis control on") == 1
        await asyncio.sleep(0.05)
        assert served.bmc.session_count == 0


async def test_unreachable_and_silent(driver: IpmiPower) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        reply = await driver.read(host(Endpoint(*nobody.getsockname())), 0.3)
    assert reply.reason is Reason.BMC_UNREACHABLE
    async with bmc() as served:
        served.swallow = lambda data: data[5] == Payload.RAKP1
        assert (await driver.read(host(served.endpoint), 0.3)).reason is Reason.BMC_SILENT_AUTH


class KeepsOwnOrder(MemoryChassis):
    """Says yes to a boot device and keeps its own."""

    def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
        return super().set_boot_option(parameter, bytes(len(value)) if parameter == 5 else value, now)


async def test_refused_and_unsupported(driver: IpmiPower) -> None:
    class NoBootOptions(MemoryChassis):
        def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
            return 0x80

    async with bmc(NoBootOptions()) as served:
        server = host(served.endpoint)
        reply = await driver.cycle(server, 5)  # it is off
        assert reply.reason is Reason.BMC_REFUSED
        assert "0xd5" in reply.detail
        on = await driver.on(server, BootDevice.PXE, 5)
        assert on.ok, "a BMC without boot options is no reason to stay dark"
        assert "0x80" in on.detail
        assert served.chassis.controls == [Action.CYCLE, Action.ON]
    async with bmc(KeepsOwnOrder()) as served:
        on = await driver.on(host(served.endpoint), BootDevice.PXE, 5)
        assert on.reason is Reason.BMC_REFUSED
        assert on.data["sent"] is False
        assert on.data["power"] == "off"
        assert served.chassis.controls == []


async def test_a_silent_bmc_was_sent_no_power_on(driver: IpmiPower) -> None:
    async with bmc() as served:
        served.swallow = lambda data: True
        reply = await driver.on(host(served.endpoint), BootDevice.NONE, 0.5)
        assert (reply.reason, reply.data["sent"]) == (Reason.BMC_UNREACHABLE, False)
        assert "power" not in reply.data


async def test_boot_device_tolerates_a_missing_parameter_3(driver: IpmiPower) -> None:
    class OnlyFlags(MemoryChassis):
        seen: ClassVar[list[bytes]] = []

        def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
            if parameter == 5:
                self.seen.append(value)
            return super().set_boot_option(parameter, value, now) if parameter == 5 else 0x80

    async with bmc(OnlyFlags()) as served:
        supermicro = replace(host(served.endpoint), model="Supermicro SYS-6029")
        for server, device, flags in (
            (host(served.endpoint), BootDevice.DISK, "a008"),
            (host(served.endpoint, boot_mode="legacy"), BootDevice.DISK, "8008"),
            (supermicro, BootDevice.DISK, "a024"),
            (supermicro, BootDevice.CDROM, "a014"),
        ):
            served.chassis.seen.clear()
            assert (await driver.on(server, device, 5)).ok
            assert served.chassis.seen[-1].hex().startswith(flags)
            served.chassis.control(Action.OFF, asyncio.get_running_loop().time())


async def test_a_cancelled_call_leaves_nothing_behind(driver: IpmiPower) -> None:
    async with bmc() as served:
        served.swallow = lambda data: data[4:6] == b"\x06\xc0"  # the session opens, commands stay unanswered
        call = asyncio.create_task(driver.read(host(served.endpoint), 30))
        await until(lambda: "chassis status" in served.commands)
        assert served.bmc.session_count == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.05)
        assert served.bmc.session_count == 0
        assert driver._fleet.open == 0
        served.swallow = nothing
        assert (await driver.read(host(served.endpoint), 5)).ok


async def test_closing_ends_calls_and_sockets() -> None:
    power = IpmiPower(SITE, Secrets())
    async with bmc() as served:
        served.swallow = lambda data: True
        call = asyncio.create_task(power.read(host(served.endpoint), 30))
        waiting = asyncio.create_task(power.on(host(served.endpoint), BootDevice.NONE, 30))
        await asyncio.sleep(0.05)
        await power.aclose()
        assert (await call).reason is Reason.INTERRUPTED
        assert (await waiting).reason is Reason.INTERRUPTED
        with pytest.raises(RuntimeError, match="closed"):
            await power.read(host(served.endpoint), 1)
        await power.aclose()


async def test_timers_of_ended_exchanges_do_not_touch_the_next_one(driver: IpmiPower) -> None:
    async with bmc() as served:
        assert (await driver.read(host(served.endpoint), 5)).ok
        until_s = asyncio.get_running_loop().time() + 1.3  # past every timer of the first exchange
        served.swallow = lambda data: data[4:6] == b"\x06\xc0" and asyncio.get_running_loop().time() < until_s
        reply = await driver.read(host(served.endpoint), 5)
        assert reply.ok, reply


async def test_strangers_are_not_heard(driver: IpmiPower) -> None:
    """Answers that would be right but come from another address change nothing."""
    async with bmc() as served:
        held: list[bytes] = []

        def hold(data: bytes) -> bool:
            if data[5] != Payload.OPEN_REQUEST:
                return False
            held.append(data)
            return True

        served.swallow = hold
        call = asyncio.create_task(driver.read(host(served.endpoint), 0.5))
        await until(lambda: bool(held))
        (peer,) = served.peers
        # A forged refusal with the right tag and session id: from the BMC's own address it would end the call.
        refusal = bytes.fromhex("0600ff07 06 11 00000000 00000000 0800".replace(" ", ""))
        refusal += held[0][16:17] + b"\x01\x00\x00" + held[0][20:24]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            for _ in range(100):
                stranger.sendto(refusal, ("127.0.0.1", peer[1]))
        reply = await call
        assert reply.reason is Reason.BMC_NO_SESSION
        assert "no answer" in reply.detail or "no time left" in reply.detail


# Evidence of a boot that failed

# 32.1: a system event, sensor type memory (0x0C) number 7, sensor-specific event 1: uncorrectable ECC.
MEMORY_ERROR = bytes((0, 0, 0x02, 0, 0, 0, 0, 0x20, 0, 0x04, 0x0C, 7, 0x6F, 0x01, 0xFF, 0xFF))


async def test_evidence_holds_events_since_the_request_and_the_last_words_of_the_console(driver: IpmiPower) -> None:
    chassis = MemoryChassis(epoch=1.8e9 - asyncio.get_running_loop().time())
    async with bmc(chassis) as served:
        server = host(served.endpoint)
        now = asyncio.get_running_loop().time()
        chassis.events.add(MEMORY_ERROR, now - 3600)  # of another day
        assert (await driver.on(server, BootDevice.NONE, 5)).ok
        driver.watch(server, anew=True)
        await until(lambda: "activate payload" in served.commands)
        chassis.events.add(MEMORY_ERROR, now)
        chassis.console.write(b"\x1b[2JPOST\r\n[    1.2] Kernel panic - not syncing: VFS\r\n")
        await asyncio.sleep(0.3)
        reply = await driver.evidence(server, 60.0, 5, console=True)
        assert reply.ok, reply
        assert reply.data["power"] == "on"
        assert reply.data["restart_cause"] == "chassis control command"
        (event,) = str(reply.data["sel"]).splitlines()
        assert event.startswith("0c.01.")
        assert str(reply.data["console"]).splitlines()[-1] == "[    1.2] Kernel panic - not syncing: VFS"
        await until(lambda: served.bmc.session_count == 0)


async def test_a_console_that_nobody_watched_is_listened_to(driver: IpmiPower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootorch.drivers.boot_consoles.LISTEN_S", 0.6)
    chassis = MemoryChassis(on=True)
    async with bmc(chassis) as served:
        asking = asyncio.create_task(driver.evidence(host(served.endpoint), 60.0, 5, console=True))
        await until(lambda: "activate payload" in served.commands)
        chassis.console.write(b"Press F1 to run SETUP\r\n")
        reply = await asking
        assert reply.data["console"] == "Press F1 to run SETUP"
        await until(lambda: served.bmc.session_count == 0)


async def test_silence_is_told_only_of_a_console_that_was_watched(
    driver: IpmiPower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootorch.drivers.boot_consoles.LISTEN_S", 0.2)
    async with bmc(MemoryChassis(on=True)) as served:
        server = host(served.endpoint)
        # It may have said before why it stands still.
        assert "console" not in (await driver.evidence(server, 60.0, 5, console=True)).data
        activated = served.commands.count("activate payload")
        for anew in (False, True):
            driver.watch(server, anew=anew)
            await until(lambda activated=activated: served.commands.count("activate payload") > activated)
            await asyncio.sleep(0.2)
            data = (await driver.evidence(server, 60.0, 5, console=True)).data
            assert data.get("console") == ("" if anew else None), "of a boot that is under way the beginning is missing"
            activated = served.commands.count("activate payload")


async def test_a_proven_boot_frees_the_console(driver: IpmiPower) -> None:
    async with bmc(MemoryChassis(on=True)) as served:
        server = host(served.endpoint)
        driver.watch(server, anew=True)
        await until(lambda: "activate payload" in served.commands)
        driver.unwatch(server)
        await until(lambda: served.bmc.session_count == 0)


async def test_at_most_so_many_boots_are_watched_and_closing_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    power = IpmiPower(SITE, Secrets())
    power._boots._most = 2
    async with AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(bmc(MemoryChassis(on=True), address=f"127.0.3.{n}")) for n in range(1, 5)
        ]
        for served in fleet:
            power.watch(replace(host(served.endpoint), name=f"h{served.endpoint.address}"), anew=True)
        await until(lambda: sum("activate payload" in served.commands for served in fleet) == 2)
        await power.aclose()
        await until(lambda: all(served.bmc.session_count == 0 for served in fleet))
        assert [served.commands.count("activate payload") for served in fleet] == [1, 1, 0, 0]


async def test_a_console_that_somebody_else_holds_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of a process of ours that was killed, until the BMC gives it up (IPMI 2.0, 6.12.15)."""
    monkeypatch.setattr("bootorch.drivers.boot_consoles.RETRY_S", 0.2)
    monkeypatch.setattr("bootorch.drivers.boot_consoles.LISTEN_S", 0.2)
    killed, power = IpmiPower(SITE, Secrets()), IpmiPower(SITE, Secrets())
    chassis = MemoryChassis(on=True)
    async with bmc(chassis) as served:
        server = host(served.endpoint)
        killed.watch(server, anew=True)
        await until(lambda: "activate payload" in served.commands)
        await asyncio.sleep(0.2)
        power.watch(server, anew=False)
        await until(lambda: served.commands.count("activate payload") == 2)
        await until(lambda: served.bmc.session_count == 1)
        power.watch(server, anew=False)  # not that soon
        await killed.aclose()
        await until(lambda: served.bmc.session_count == 0)
        await asyncio.sleep(0.2)
        power.watch(server, anew=False)
        await until(lambda: served.commands.count("activate payload") == 3)
        await asyncio.sleep(0.2)
        chassis.console.write(b"login: ")
        await asyncio.sleep(0.2)
        power.watch(server, anew=False)  # watched already: nothing is forgotten
        assert (await power.evidence(server, 60.0, 5, console=True)).data["console"] == "login:"
        await power.aclose()


async def test_a_console_is_opened_with_the_hosts_own_suites_and_not_again_where_it_was_refused(
    driver: IpmiPower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootorch.drivers.boot_consoles.RETRY_S", 0.0)
    async with bmc(MemoryChassis(on=True), suites=(3,)) as served:
        server = replace(host(served.endpoint), facts={"bmc_suites": "17"})
        driver.watch(server, anew=True)
        await until(lambda: driver._boots._open == 0)
        assert "activate payload" not in served.commands, "suite 3 is not permitted for this host"
        assert not driver._boots.wants(server, anew=False)
        assert driver._boots.wants(server, anew=True)
        assert "console" not in (await driver.evidence(server, 60.0, 5, console=True)).data
        assert "activate payload" not in served.commands


async def test_where_many_boots_fail_at_once_each_console_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootorch.drivers.boot_consoles.LISTEN_S", 0.2)
    monkeypatch.setattr("bootorch.drivers.power_ipmi.MOST_OPEN", 1)
    power = IpmiPower(SITE, Secrets(), consoles=0)
    power._boots._listening = asyncio.Semaphore(1)
    async with AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(bmc(MemoryChassis(on=True), address=f"127.0.3.{n}")) for n in range(1, 4)
        ]
        for served in fleet:
            served.chassis.console.write(b"Press F1 to run SETUP")
        asked = [power.evidence(host(served.endpoint), 60.0, 10, console=True) for served in fleet]
        replies = await asyncio.gather(*asked)
        assert [reply.data.get("console") for reply in replies] == ["Press F1 to run SETUP"] * 3
        await power.aclose()


async def test_no_console_is_opened_where_none_is_wanted(driver: IpmiPower) -> None:
    async with bmc(MemoryChassis(on=True)) as served:
        reply = await driver.evidence(host(served.endpoint), 60.0, 5, console=False)
        assert reply.data["power"] == "on"
        assert "console" not in reply.data
        assert "activate payload" not in served.commands


async def test_no_console_and_no_event_log_is_no_obstacle(driver: IpmiPower) -> None:
    async with bmc(MemoryChassis(on=True), max_sessions=1) as served:
        first = asyncio.create_task(driver.evidence(host(served.endpoint), 60.0, 5, console=True))
        reply = await first
        assert reply.ok
        assert reply.data["power"] == "on"
    async with bmc() as served:
        served.swallow = lambda data: True
        reply = await driver.evidence(host(served.endpoint), 60.0, 0.3, console=True)
        assert reply.reason is Reason.BMC_UNREACHABLE
        assert reply.data == {"suite": 0}
