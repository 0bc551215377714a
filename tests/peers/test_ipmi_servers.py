"""Our console against BMCs that nobody here wrote: OpenIPMI's ipmi_sim and pyghmi's fakebmc (which VirtualBMC uses)."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootorch.core.model import BootDevice, Endpoint
from bootorch.core.reasons import Reason
from bootorch.drivers.power_ipmi import IpmiPower
from tests.ipmi.udp import PASSWORD, SITE, Secrets, host

pytestmark = pytest.mark.peer

IPMI_SIM = shutil.which("ipmi_sim")
needs_ipmi_sim = pytest.mark.skipif(IPMI_SIM is None, reason="ipmi_sim is not installed (Debian package openipmi)")
needs_pyghmi = pytest.mark.skipif(
    importlib.util.find_spec("pyghmi") is None, reason="pyghmi is not installed (PyPI package pyghmi)"
)

LAN_CONF = """
name "sim1"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script} 0x20"
  user 2 true "admin" "{password}" admin 10 none md2 md5 straight
"""
SIM_EMU = """
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""
# chassis.sh DEVICE get NAME… | set NAME VALUE: files power and boot are the machine, log is the witness.
CHASSIS_SH = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
shift
case "$1" in
get) shift; for name; do echo "$name:$(cat "$name")"; done ;;
set) echo "$2 $3" >> log; case "$2" in power|boot) echo "$3" > "$2" ;; esac ;;
esac
"""
FAKE_BMC = """
import sys
import pyghmi.ipmi.bmc
from pyghmi.cmd.fakebmc import FakeBmc
class Loopback(FakeBmc):
    def __init__(self, port, password):
        pyghmi.ipmi.bmc.Bmc.__init__(self, {"admin": password}, port, address="127.0.0.1")
        self.powerstate, self.bootdevice = "off", "default"
Loopback(int(sys.argv[1]), sys.stdin.readline().strip()).listen()
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is ipmi_sim's chassis."""
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def ipmi_sim(machine: Path) -> Iterator[Endpoint]:
    assert IPMI_SIM is not None
    port = free_port()
    script = machine / "chassis.sh"
    script.write_text(CHASSIS_SH)
    script.chmod(0o755)
    (machine / "power").write_text("0\n")
    (machine / "boot").write_text("none\n")
    (machine / "state").mkdir()
    (machine / "lan.conf").write_text(LAN_CONF.format(port=port, script=script, password=PASSWORD))
    (machine / "sim1.emu").write_text(SIM_EMU)
    command = [IPMI_SIM, "-c", "lan.conf", "-f", "sim1.emu", "-s", "state", "-n", "-d"]
    output = (machine / "output").open("wb")
    with output, running(subprocess.Popen(command, cwd=machine, stdout=output, stderr=output)):
        yield Endpoint("127.0.0.1", port)


@pytest.fixture(scope="module")
def fakebmc() -> Iterator[Endpoint]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", FAKE_BMC, str(port)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with running(process):
        process.stdin.write(PASSWORD.encode() + b"\n")
        process.stdin.flush()
        yield Endpoint("127.0.0.1", port)


@pytest.fixture
async def driver() -> AsyncIterator[IpmiPower]:
    power = IpmiPower(SITE, Secrets())
    yield power
    await power.aclose()


async def answering(driver: IpmiPower, endpoint: Endpoint) -> None:
    """Wait until a server that was just started reads."""
    give_up = time.monotonic() + 20
    while not (await driver.read(host(endpoint), 2)).ok:
        assert time.monotonic() < give_up, f"nothing answers at {endpoint}"
        await asyncio.sleep(0.1)


@needs_ipmi_sim
async def test_ipmi_sim(driver: IpmiPower, ipmi_sim: Endpoint, machine: Path) -> None:
    await answering(driver, ipmi_sim)
    server = host(ipmi_sim)
    reply = await driver.read(server, 10)
    assert reply.data["power"] == "off"
    assert reply.data["suite"] == 3  # it has no 17
    assert (await driver.boot_device(server, BootDevice.PXE, 10)).ok
    assert (await driver.on(server, 10)).ok
    assert (await driver.read(server, 10)).data["power"] == "on"
    assert (machine / "log").read_text().splitlines() == ["boot pxe", "power 1"]


@needs_ipmi_sim
async def test_ipmi_sim_has_slots_left_after_many_exchanges(driver: IpmiPower, ipmi_sim: Endpoint) -> None:
    """It opens at most 63 sessions: an exchange that left one behind would show."""
    await answering(driver, ipmi_sim)
    for _ in range(80):
        reply = await driver.read(host(ipmi_sim), 5)
        assert reply.ok, reply


@needs_ipmi_sim
async def test_ipmi_sim_with_a_wrong_password(ipmi_sim: Endpoint, driver: IpmiPower) -> None:
    await answering(driver, ipmi_sim)
    wrong = IpmiPower(SITE, Secrets("wrong"))
    assert (await wrong.on(host(ipmi_sim), 10)).reason is Reason.BMC_AUTH_FAILED
    assert (await driver.read(host(ipmi_sim, user="nobody"), 10)).reason in (
        Reason.BMC_AUTH_FAILED,
        Reason.BMC_SILENT_AUTH,
    )
    await wrong.aclose()


@needs_pyghmi
async def test_fakebmc(driver: IpmiPower, fakebmc: Endpoint) -> None:
    """It answers a proposal of suite 17 with suite 3 and status 0, and keys its sessions by the client's address."""
    await answering(driver, fakebmc)
    server = host(fakebmc)
    reply = await driver.read(server, 10)
    assert reply.data["power"] == "off"
    assert reply.data["suite"] == 3
    assert (await driver.on(server, 10)).ok
    assert (await driver.read(server, 10)).data["power"] == "on"
    assert (await driver.boot_device(server, BootDevice.DISK, 10)).reason in (Reason.OK, Reason.BMC_UNSUPPORTED)


@needs_pyghmi
async def test_fakebmc_is_silent_on_an_unknown_user(driver: IpmiPower, fakebmc: Endpoint) -> None:
    await answering(driver, fakebmc)
    reply = await driver.read(host(fakebmc, user="nobody"), 3)
    assert reply.reason is Reason.BMC_SILENT_AUTH
