"""The lab's BMCs on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from bootorch.core.model import BootDevice
from bootorch.core.reasons import Reason
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi.messages import Action, Completion
from bootorch.lab import control, site
from bootorch.lab.bmcs import BmcSocket, LabBmc, Witness
from bootorch.lab.chassis import LabChassis
from bootorch.lab.pktinfo import is_loopback
from bootorch.sim.machine import Machine, MachineSpec
from tests.lab.conftest import SITE, RunningLab, Start

PING = b"\x06\x00\xff\x06\x00\x00\x11\xbe\x80\x01\x00\x00"


def witnessed(lab: RunningLab) -> list[dict[str, object]]:
    return [json.loads(line) for line in lab.info.bmc_log.read_text().splitlines()]


async def test_power_over_real_packets_and_the_witness_saw_it(start: Start) -> None:
    lab = start()
    power = IpmiPower(SITE, lab)
    try:
        host = lab.host("dns-01")
        assert (await power.read(host, 3.0)).data["power"] == "off"
        assert (await power.on(host, BootDevice.NONE, 3.0)).ok
        assert (await power.read(host, 3.0)).data["power"] == "on"
        assert (await power.read(lab.host("web-01"), 3.0)).data["power"] == "off", "every address is another machine"
    finally:
        await power.aclose()
    seen = [r for r in witnessed(lab) if r["host"] == "dns-01" and str(r["command"]).startswith("chassis")]
    assert [(r["command"], r["argument"], r["state"]) for r in seen] == [
        ("chassis status", "", "off"),
        ("chassis status", "", "off"),
        ("chassis control", "on", "on"),
        ("chassis status", "", "on"),
    ]
    times = [float(str(r["t"])) for r in witnessed(lab)]
    assert times == sorted(times)
    assert times[0] > 0


async def test_a_dead_bmc_is_silent_and_a_silent_power_on_has_no_effect_once(start: Start) -> None:
    lab = start(20, dead_bmc=1, silent_power=1)
    dead, silent = lab.victim(dead_bmc=True).name, lab.victim(silent_power_ons=1).name
    power = IpmiPower(SITE, lab)
    try:
        assert (await power.read(lab.host(dead), 1.0)).reason is Reason.BMC_UNREACHABLE
        host = lab.host(silent)
        assert (await power.on(host, BootDevice.NONE, 3.0)).ok
        assert (await power.read(host, 3.0)).data["power"] == "off"
        assert (await power.on(host, BootDevice.NONE, 3.0)).ok
        assert (await power.read(host, 3.0)).data["power"] == "on"
    finally:
        await power.aclose()
    assert dead not in {record["host"] for record in witnessed(lab)}


async def test_exchange_after_exchange_with_one_bmc_never_waits_for_a_timer(start: Start) -> None:
    lab = start()
    power, loop = IpmiPower(SITE, lab), asyncio.get_running_loop()
    host, slow = lab.host("dns-01"), 0
    end = loop.time() + 4.0  # longer than any retransmission timer of a finished exchange
    try:
        while (begin := loop.time()) < end:
            assert (await power.read(host, 5.0)).ok
            slow += loop.time() - begin > 0.4
    finally:
        await power.aclose()
    assert slow <= 1, "a lost answer costs half a second at least; once, the machine may have had other work"


async def test_a_wrong_password_reaches_no_machine(start: Start) -> None:
    lab = start()
    (lab.directory / site.BMC_PASSWORD).write_text("another one\n")
    power = IpmiPower(SITE, lab)
    try:
        assert not (await power.on(lab.host("dns-01"), BootDevice.NONE, 2.0)).ok
    finally:
        await power.aclose()
    assert witnessed(lab) == []


def pings(lab: RunningLab, name: str, count: int) -> int:
    """How many presence pings are answered, by the address that was asked: a connected socket hears no other."""
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((lab.named(name).bmc_address, lab.info.bmc_port))
        client.settimeout(0.02)
        for _ in range(count):
            client.send(PING)
            try:
                answered += bool(client.recv(64))
            except TimeoutError:
                continue
    return answered


def test_loss_strikes_both_ways(start: Start) -> None:
    assert pings(start(), "web-01", 50) == 50
    # Half of the questions and half of the answers: a quarter gets through. Seeded, so always as many.
    assert 10 <= pings(start(loss=0.5, seed=3), "web-01", 100) <= 40


def test_nobody_answers_at_an_address_without_a_bmc(start: Start) -> None:
    lab = start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.32.99.99", lab.info.bmc_port))
        client.settimeout(0.3)
        client.send(PING)
        with pytest.raises(TimeoutError):
            client.recv(64)


async def test_packets_from_elsewhere_are_dropped(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "bmc.log", time.monotonic)
    bmc = LabBmc(Machine(MachineSpec("a", 1.0), 1), lambda: None, {}, witness)
    port = control._free_port(socket.SOCK_DGRAM, 0)
    bmcs = BmcSocket(port, {"127.0.0.5": bmc}, lambda: 1.0)
    bmcs.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.9", 0))
            client.setblocking(False)
            peer = client.getsockname()
            asked = socket.inet_aton("127.0.0.5")
            bmcs._received(PING, ("192.0.2.7", peer[1]), asked)
            assert bmcs.strangers == 1
            bmcs._received(PING, peer, asked)
            data, source = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(client, 64), 2.0)
            assert source == ("127.0.0.5", port)
            assert data[8] == 0x40, "a presence pong"
            assert bmcs.strangers == 1
    finally:
        bmcs.close()
        witness.close()


def test_what_loopback_is() -> None:
    assert is_loopback("127.200.3.4")
    assert not is_loopback("10.0.0.127")
    assert not is_loopback("192.0.2.1")


def chassis(**faults: object) -> tuple[LabChassis, Machine, list[str]]:
    changes: list[str] = []
    machine = Machine(MachineSpec("a", 10.0, **faults), 1)  # type: ignore[arg-type]
    return LabChassis(machine, lambda: changes.append("changed")), machine, changes


def test_a_chassis_says_what_happened_to_power_and_only_then() -> None:
    box, machine, changes = chassis()
    assert box.control(Action.RESET, 0.0) == Completion.NOT_NOW
    assert box.control(Action.CYCLE, 0.0) == Completion.NOT_NOW
    assert box.control(Action.NMI, 0.0) == Completion.NOT_NOW
    assert box.control(Action.OFF, 0.0) == Completion.OK
    assert changes == []
    assert box.control(Action.ON, 1.0) == Completion.OK
    assert box.control(Action.ON, 2.0) == Completion.OK
    assert changes == ["changed"]
    assert machine.boots == 1
    assert box.control(Action.SOFT_OFF, 3.0) == Completion.OK
    assert box.power_is_on(3.0), "no operating system hears it yet"
    assert box.control(Action.RESET, 4.0) == Completion.OK
    assert box.control(Action.SOFT_OFF, 14.0) == Completion.OK
    assert not box.power_is_on(14.0)
    assert len(changes) == 3


def test_a_chassis_that_loses_a_power_on_accepts_it_all_the_same() -> None:
    box, _, changes = chassis(silent_power_ons=1)
    assert box.control(Action.ON, 0.0) == Completion.OK
    assert not box.power_is_on(0.0)
    assert changes == []


# Programs that nobody here wrote


@pytest.mark.peer
@pytest.mark.parametrize("suite", ["3", "17"])
def test_ipmitool_drives_a_lab_bmc(start: Start, suite: str) -> None:
    if shutil.which("ipmitool") is None:
        pytest.skip("needs the Debian package ipmitool")
    lab = start()

    def ipmitool(*words: str) -> str:
        address = lab.named("web-01").bmc_address
        base = ["ipmitool", "-I", "lanplus", "-H", address, "-p", str(lab.info.bmc_port), "-U", "admin", "-C", suite]
        command = [*base, "-f", str(lab.directory / site.BMC_PASSWORD), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Power is off" in ipmitool("chassis", "power", "status")
    ipmitool("chassis", "bootdev", "pxe")
    assert "Force PXE" in ipmitool("chassis", "bootparam", "get", "5")
    ipmitool("chassis", "power", "on")
    assert "Power is on" in ipmitool("chassis", "power", "status")
    ipmitool("chassis", "power", "off")
    assert "Power is off" in ipmitool("chassis", "power", "status")
    controls = [r["argument"] for r in witnessed(lab) if r["command"] == "chassis control"]
    assert controls == ["on", "off"]


@pytest.mark.peer
@pytest.mark.parametrize("suite", ["3", "17"])
def test_ipmipower_drives_many_lab_bmcs(start: Start, suite: str, tmp_path: Path) -> None:
    if shutil.which("ipmipower") is None:
        pytest.skip("needs the Debian package freeipmi-tools")
    lab = start()
    config = tmp_path / "freeipmi.conf"
    config.write_text(f"username admin\npassword {lab.bmc_password(lab.host('web-01')).reveal().decode()}\n")
    config.chmod(0o600)

    def ipmipower(*words: str) -> list[str]:
        hosts = f"127.32.0.[1-8]:{lab.info.bmc_port}"
        command = ["ipmipower", "-D", "LAN_2_0", "-I", suite, "-h", hosts, "--config-file", str(config), *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stderr + done.stdout
        return [line.rpartition(": ")[2] for line in done.stdout.splitlines()]

    assert ipmipower("--stat") == ["off"] * 8
    assert ipmipower("--on") == ["ok"] * 8
    assert ipmipower("--stat") == ["on"] * 8
