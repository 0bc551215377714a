"""Our console against BMCs that nobody here wrote: OpenIPMI's ipmi_sim and pyghmi's fakebmc (which VirtualBMC uses)."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from bootorch.core.model import BootDevice, Endpoint
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.drivers.bmc_net import BmcTarget, Ended, ask_all
from bootorch.drivers.console import Consoles, ConsoleSession, Tail
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts, sensors
from bootorch.ipmi.client import Exchange, Result, Script
from bootorch.ipmi.login import Credentials, Login
from bootorch.ipmi.messages import Privilege
from bootorch.ipmi.packet import decode_header
from bootorch.ipmi.sol import End
from tests.ipmi.test_login15 import exchange15
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
  sol "tcp:127.0.0.1:{serial}" 115200
  user 2 true "admin" "{password}" admin 10 none md2 md5 straight
"""
SIM_EMU = """
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
sel_add 0x20 0x02 0 0 0 0 0x20 0 4 0x0f 3 0x6f 0xa0 2 0xff
sel_add 0x20 0x02 0 0 0 0 0x20 0 4 0x0c 5 0x6f 0xa1 0xff 3
sel_add 0x20 0x02 0 0 0 0 0x20 0 4 0x01 7 0x01 0x59 91 90
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


class Serial:
    """The host behind ipmi_sim's serial port: greets, and answers each line that it is told."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.heard = bytearray()
        self._line: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._line, _ = self._server.accept()
            self._line.sendall(b"\x1b[2Jhello\r\n")
            while data := self._line.recv(256):
                self.heard += data
                if data.endswith(b"\r"):
                    self._line.sendall(b"you said " + bytes(self.heard) + b"\n")
                if b"flood" in data:
                    self._line.sendall(bytes(range(33, 127)) * 20)
        except OSError:
            return  # closed by the test's end

    def close(self) -> None:
        for sock in (self._server, self._line):
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        self._thread.join()


@contextmanager
def simulator(machine: Path) -> Iterator[tuple[Endpoint, Serial]]:
    """ipmi_sim with ``machine`` as the directory of its chassis."""
    assert IPMI_SIM is not None
    port, serial = free_port(), Serial()
    script = machine / "chassis.sh"
    script.write_text(CHASSIS_SH)
    script.chmod(0o755)
    (machine / "power").write_text("0\n")
    (machine / "boot").write_text("none\n")
    (machine / "state").mkdir()
    lan = LAN_CONF.format(port=port, script=script, password=PASSWORD, serial=serial.port)
    (machine / "lan.conf").write_text(lan)
    (machine / "sim1.emu").write_text(SIM_EMU)
    command = [IPMI_SIM, "-c", "lan.conf", "-f", "sim1.emu", "-s", "state", "-n", "-d"]
    output = (machine / "output").open("wb")
    with closing(serial), output, running(subprocess.Popen(command, cwd=machine, stdout=output, stderr=output)):
        yield Endpoint("127.0.0.1", port), serial


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is ipmi_sim's chassis."""
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def ipmi_sim(machine: Path) -> Iterator[Endpoint]:
    with simulator(machine) as (endpoint, _):
        yield endpoint


@pytest.fixture
def fresh_sim(tmp_path: Path) -> Iterator[tuple[Endpoint, Serial]]:
    """An instance of one test, with ``tmp_path`` as its machine."""
    with simulator(tmp_path) as running_one:
        yield running_one


@contextmanager
def pyghmi_server() -> Iterator[Endpoint]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", FAKE_BMC, str(port)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with running(process):
        process.stdin.write(PASSWORD.encode() + b"\n")
        process.stdin.flush()
        yield Endpoint("127.0.0.1", port)


@pytest.fixture(scope="module")
def fakebmc() -> Iterator[Endpoint]:
    with pyghmi_server() as endpoint:
        yield endpoint


@pytest.fixture
def fresh_fakebmc() -> Iterator[Endpoint]:
    with pyghmi_server() as endpoint:
        yield endpoint


CREDENTIALS = Credentials(b"admin", Secret(PASSWORD))


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


def ask(endpoint: Endpoint, script: Script, timeout_s: float = 10.0) -> Ended:
    """One script, the way commands run it."""
    ended: list[Ended] = []
    target = BmcTarget("sim", endpoint.address, endpoint.port, CREDENTIALS)
    scripts_of = iter((script,))  # a second attempt would need a second one
    ask_all([target], lambda _: next(scripts_of), allows=SITE.allows_bmc, timeout_s=timeout_s, ended=ended.append)
    return ended[0]


def value_of(endpoint: Endpoint, script: Script) -> object:
    ended = ask(endpoint, script)
    assert ended.reason is Reason.OK, ended
    return ended.value


@needs_ipmi_sim
async def test_ipmi_sim(driver: IpmiPower, ipmi_sim: Endpoint, machine: Path) -> None:
    await answering(driver, ipmi_sim)
    server = host(ipmi_sim)
    reply = await driver.read(server, 10)
    assert reply.data["power"] == "off"
    assert reply.data["suite"] == 3  # it has no 17
    assert (await driver.on(server, BootDevice.PXE, 10)).ok
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
    assert (await wrong.on(host(ipmi_sim), BootDevice.NONE, 10)).reason is Reason.BMC_AUTH_FAILED
    assert (await driver.read(host(ipmi_sim, user="nobody"), 10)).reason in (
        Reason.BMC_AUTH_FAILED,
        Reason.BMC_SILENT_AUTH,
    )
    await wrong.aclose()


@needs_ipmi_sim
async def test_ipmi_sim_event_log(driver: IpmiPower, fresh_sim: tuple[Endpoint, Serial]) -> None:
    ipmi_sim, _ = fresh_sim
    await answering(driver, ipmi_sim)
    log = value_of(ipmi_sim, scripts.read_sel())
    assert isinstance(log, scripts.SelLog)
    # Its clock counts from its start: no dates.
    assert list(log.lines) == [
        "0f.00.02.ff - System Firmware Error #3: no usable system memory",
        "0c.01.ff.03 - Memory #5: uncorrectable ECC error, module 3",
        "01/01.09.5b.5a - Temperature #7: upper critical, going high, raw reading 91 against 90",
    ]
    assert log.total == 3
    assert not log.truncated
    evidence = value_of(ipmi_sim, scripts.evidence(lambda: 3600.0))
    assert isinstance(evidence, scripts.Evidence)
    assert evidence.events == log.lines
    assert evidence.status is not None
    newest = value_of(ipmi_sim, scripts.read_sel(limit=1))
    assert isinstance(newest, scripts.SelLog)
    assert newest.lines == log.lines[2:]
    assert newest.truncated


@needs_ipmi_sim
async def test_ipmi_sim_answers_every_script(
    driver: IpmiPower, fresh_sim: tuple[Endpoint, Serial], tmp_path: Path
) -> None:
    ipmi_sim, _ = fresh_sim
    await answering(driver, ipmi_sim)
    assert value_of(ipmi_sim, scripts.identify(7)) == 7
    assert value_of(ipmi_sim, scripts.identify(None)) is None
    assert (tmp_path / "log").read_text().splitlines() == ["identify 7 0", "identify 0 1"]
    info = value_of(ipmi_sim, scripts.device_info())
    assert isinstance(info, scripts.DeviceInfo)
    assert (info.manufacturer, info.firmware, info.ipmi) == (0x1291, "9.08", "2.0")
    assert info.slots is not None
    assert info.slots.total == 63
    boot = value_of(ipmi_sim, scripts.boot_device(msg.BootSource.BIOS))
    assert isinstance(boot, scripts.BootSet)
    assert not boot.verified  # it keeps the device, and no valid bit
    assert (tmp_path / "boot").read_text() == "bios\n"
    assert value_of(ipmi_sim, sensors.sensors()) == sensors.Sensors((), True)
    assert ask(ipmi_sim, sensors.power_reading()).reason is Reason.BMC_UNSUPPORTED
    assert ask(ipmi_sim, scripts.set_restore_policy(msg.Policy.PREVIOUS)).reason is Reason.BMC_UNSUPPORTED


@needs_ipmi_sim
async def test_ipmi_sim_serial_console(driver: IpmiPower, fresh_sim: tuple[Endpoint, Serial]) -> None:
    endpoint, serial = fresh_sim
    await answering(driver, endpoint)
    consoles, others, tail = Consoles(SITE), Consoles(SITE), Tail()
    session = await consoles.open(endpoint, CREDENTIALS, tail.feed)
    assert isinstance(session, ConsoleSession), session
    session.write(b"good morning\r")
    async with asyncio.timeout(10):
        while "you said good morning" not in tail.text():
            await asyncio.sleep(0.05)
    assert bytes(serial.heard) == b"good morning\r"
    busy = await others.open(endpoint, CREDENTIALS, tail.feed)
    assert isinstance(busy, End)
    assert busy.reason is Reason.BMC_BUSY
    assert "by admin" in busy.detail
    tail.clear()
    session.write(b"flood")
    async with asyncio.timeout(20):
        while len(tail.text()) < 94 * 20:
            await asyncio.sleep(0.05)
    assert tail.text() == bytes(range(33, 127)).decode() * 20
    assert await session.close() == End(Reason.OK, "closed")
    again = await others.open(endpoint, CREDENTIALS, tail.feed)
    assert isinstance(again, ConsoleSession), again
    await consoles.aclose()
    await others.aclose()


def exchange_over(endpoint: Endpoint, exchange: Exchange) -> Result:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((endpoint.address, endpoint.port))
        exchange.start(time.monotonic())
        while exchange.result is None:
            for data in exchange.datagrams_to_send():
                sock.send(data)
            due = exchange.next_timer()
            assert due is not None
            if select.select([sock], [], [], max(0.0, due - time.monotonic()))[0]:
                exchange.receive_datagram(sock.recv(2048), time.monotonic())
            else:
                exchange.handle_timer(time.monotonic())
        for data in exchange.datagrams_to_send():
            sock.send(data)
        return exchange.result


@needs_ipmi_sim
async def test_ipmi_sim_over_ipmi_15(driver: IpmiPower, fresh_sim: tuple[Endpoint, Serial]) -> None:
    ipmi_sim, _ = fresh_sim
    await answering(driver, ipmi_sim)

    def talk(script: Script, password: str = PASSWORD, user: bytes = b"admin") -> Result:
        deadline = time.monotonic() + 20
        exchange = exchange15(script, password=Secret(password), user=user, random=os.urandom, deadline=deadline)
        return exchange_over(ipmi_sim, exchange)

    result = talk(scripts.chassis_control(msg.Action.ON))  # needs a raised privilege
    assert result.reason is Reason.OK, result
    result = talk(scripts.read_sel())
    assert isinstance(result.value, scripts.SelLog), result
    assert len(result.value.records) == 3
    for _ in range(70):  # more than it has slots: each session is closed
        assert talk(scripts.chassis_status()).reason is Reason.OK
    assert talk(scripts.chassis_status(), password="wrong").reason is Reason.BMC_SILENT_AUTH
    assert talk(scripts.chassis_status(), user=b"nobody").reason is Reason.BMC_AUTH_FAILED


def log_in(endpoint: Endpoint, sock: socket.socket, ident: int) -> Login:
    """A session that is left open."""
    out: list[bytes] = []
    login = Login(CREDENTIALS, out, random=os.urandom, console_id=lambda: ident, suites=(3,), privilege=Privilege.ADMIN)
    sock.connect((endpoint.address, endpoint.port))
    sock.settimeout(5)
    login.start(time.monotonic())
    while not login.established and login.failure is None:
        for data in out:
            sock.send(data)
        out.clear()
        data = sock.recv(2048)
        login.receive(decode_header(data), data, time.monotonic())
    return login


@needs_ipmi_sim
async def test_ipmi_sim_without_a_free_slot(driver: IpmiPower, fresh_sim: tuple[Endpoint, Serial]) -> None:
    """Its 63 slots are taken."""
    endpoint, _ = fresh_sim
    await answering(driver, endpoint)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        logins = [log_in(endpoint, sock, ident) for ident in range(1, 65)]
    assert [login.failure for login in logins[:63]] == [None] * 63
    assert logins[63].failure is not None
    assert logins[63].failure[0] is Reason.BMC_NO_SESSION
    ended = ask(endpoint, scripts.chassis_status(), timeout_s=1.0)
    assert ended.reason is Reason.BMC_NO_SESSION, ended
    reply = await driver.read(host(endpoint), 1)
    assert reply.reason is Reason.BMC_NO_SESSION, reply


@needs_pyghmi
async def test_fakebmc(driver: IpmiPower, fakebmc: Endpoint) -> None:
    """It answers a proposal of suite 17 with suite 3 and status 0, and keys its sessions by the client's address."""
    await answering(driver, fakebmc)
    server = host(fakebmc)
    reply = await driver.read(server, 10)
    assert reply.data["power"] == "off"
    assert reply.data["suite"] == 3
    assert (await driver.on(server, BootDevice.DISK, 10)).ok
    assert (await driver.read(server, 10)).data["power"] == "on"
    assert (await driver.on(server, BootDevice.DISK, 10)).data["sent"] is False


@needs_pyghmi
async def test_fakebmc_is_silent_on_an_unknown_user(driver: IpmiPower, fakebmc: Endpoint) -> None:
    await answering(driver, fakebmc)
    reply = await driver.read(host(fakebmc, user="nobody"), 3)
    assert reply.reason is Reason.BMC_SILENT_AUTH


@needs_pyghmi
async def test_fakebmc_serial_console(driver: IpmiPower, fresh_fakebmc: Endpoint) -> None:
    """It announces payloads of one byte, offers a console to a host that is on only, and echoes."""
    await answering(driver, fresh_fakebmc)
    assert (await driver.on(host(fresh_fakebmc), BootDevice.NONE, 10)).ok
    consoles, tail = Consoles(SITE), Tail()
    session = await consoles.open(fresh_fakebmc, CREDENTIALS, tail.feed)
    assert isinstance(session, ConsoleSession), session
    async with asyncio.timeout(10):
        while "hello fakebmc" not in tail.text():
            session.write(b"hello fakebmc\r\n")  # it echoes nothing of what comes while it opens
            await asyncio.sleep(0.2)
    assert (await session.close()).reason is Reason.OK
    await consoles.aclose()


@needs_pyghmi
async def test_fakebmc_answers_scripts(driver: IpmiPower, fresh_fakebmc: Endpoint) -> None:
    await answering(driver, fresh_fakebmc)
    boot = value_of(fresh_fakebmc, scripts.boot_device(msg.BootSource.PXE, efi=False))
    assert isinstance(boot, scripts.BootSet), boot
    assert boot.verified
    assert ask(fresh_fakebmc, scripts.read_sel()).reason is Reason.BMC_UNSUPPORTED
    assert ask(fresh_fakebmc, sensors.sensors()).reason is Reason.BMC_UNSUPPORTED
