"""Consoles that nobody here wrote against our BMC: ipmitool, FreeIPMI's programs, pyghmi."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from bootorch.ipmi.chassis import Device, MemoryChassis
from bootorch.ipmi.messages import Action, BootSource
from tests.ipmi.udp import PASSWORD, Served, bmc
from tests.peers.terminal import Terminal

pytestmark = pytest.mark.peer

SUITES = ["3", "17"]
IPMITOOL = shutil.which("ipmitool")


def freeipmi(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")


needs_ipmitool = pytest.mark.skipif(IPMITOOL is None, reason="ipmitool is not installed (Debian package ipmitool)")
needs_freeipmi = pytest.mark.skipif(
    freeipmi("ipmipower") is None, reason="ipmipower is not installed (Debian package freeipmi-tools)"
)
needs_pyghmi = pytest.mark.skipif(
    importlib.util.find_spec("pyghmi") is None, reason="pyghmi is not installed (PyPI package pyghmi)"
)
PYGHMI = """
import json, sys
from pyghmi.ipmi.command import Command
console = Command("127.0.0.1", "admin", sys.stdin.readline().strip(), port=int(sys.argv[1]))
def say(value): print(json.dumps(value))
say(console.get_power())
console.set_bootdev("network", uefiboot=True)
say(console.get_bootdev())
console.set_power("on", wait=20)
say(console.get_power())
say([[entry["component_type"], entry["event"]] for entry in console.get_event_log(clear=True)])
say(list(console.get_event_log()))
say({sensor.name: [sensor.value, sensor.units] for sensor in console.get_sensor_data()})
say(console.get_system_power_watts())
say([user["name"] for user in console.get_users().values()])
console.ipmi_session.logout()
"""
PYGHMI_CONSOLE = """
import sys, time
from pyghmi.ipmi.console import Console
seen = b""
def printed(data):
    global seen
    seen += data if isinstance(data, bytes) else b""
console = Console("127.0.0.1", "admin", sys.stdin.readline().strip(), port=int(sys.argv[1]), iohandler=printed)
end = time.monotonic() + 20
typed = False
while time.monotonic() < end and b"exit" not in seen:
    Console.wait_for_rsp(0.1)
    if b"login: " in seen and not typed:
        typed = True
        console.send_data(b"root" * 100 + b" exit")
console.close()
sys.stdout.buffer.write(seen)
"""


def machine() -> MemoryChassis:
    """A server that is on and has seen something: memory errors and a hot processor, by a clock that is right."""
    chassis = MemoryChassis(
        on=True,
        epoch=time.time() - asyncio.get_running_loop().time(),
        device=Device(manufacturer=10876, product=0x0938, firmware=(3, 77)),
    )
    now = asyncio.get_running_loop().time()
    chassis.events.log(now, 0x0C, 0x40, bytes.fromhex("6f01ffff"))  # memory: uncorrectable error
    chassis.events.log(now, 0x01, 0x02, bytes.fromhex("0159605f"))  # temperature: upper critical, 96 over 95
    return chassis


def write_private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def ipmitool(served: Served, suite: str, tmp_path: Path) -> tuple[str, ...]:
    """The beginning of every ipmitool command."""
    secret = write_private(tmp_path / "password", PASSWORD)
    where = ("-H", served.endpoint.address, "-p", str(served.endpoint.port))
    return (str(IPMITOOL), "-I", "lanplus", *where, "-U", "admin", "-f", str(secret), "-C", suite)


def free(program: str, served: Served, suite: str, tmp_path: Path) -> tuple[str, ...]:
    """The beginning of every command of FreeIPMI."""
    config = write_private(tmp_path / "freeipmi.conf", f"username admin\npassword {PASSWORD}\n")
    where = f"{served.endpoint.address}:{served.endpoint.port}"
    return (str(freeipmi(program)), "-D", "LAN_2_0", "-I", suite, "-h", where, "--config-file", str(config))


async def run(*command: str | None, stdin: str = "") -> str:
    """Standard output of a command that ends with 0 within 30 s."""
    process = await asyncio.create_subprocess_exec(
        *(word for word in command if word is not None),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            out, error = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (command, out, error)
    return out.decode()


@needs_ipmitool
@pytest.mark.parametrize("suite", SUITES)
async def test_ipmitool_commands_a_chassis(suite: str, tmp_path: Path) -> None:
    async with bmc() as served:
        base = ipmitool(served, suite, tmp_path)
        assert await run(*base, "chassis", "power", "status") == "Chassis Power is off\n"
        await run(*base, "chassis", "bootdev", "pxe", "options=efiboot")
        flags = await run(*base, "chassis", "bootparam", "get", "5")
        assert "Boot Flag Valid" in flags
        assert "Force PXE" in flags
        await run(*base, "chassis", "power", "on")
        assert served.chassis.booted_from == BootSource.PXE
        status = await run(*base, "chassis", "status")
        assert "System Power         : on" in status
        assert "chassis power control command" in await run(*base, "chassis", "restart_cause")
        await run(*base, "chassis", "policy", "always-on")
        assert "always-on" in await run(*base, "chassis", "status")
        await run(*base, "chassis", "identify", "7")
        assert served.chassis.identify_s == 7
        assert "slot count                    : 15" in await run(*base, "session", "info", "active")
        await run(*base, "chassis", "power", "off")
        assert served.chassis.controls == [Action.ON, Action.OFF]
        assert served.commands.count("chassis control on") == 1
        assert served.bmc.session_count == 0


@needs_ipmitool
@pytest.mark.parametrize("suite", SUITES)
async def test_ipmitool_reads_a_machine(suite: str, tmp_path: Path) -> None:
    async with bmc(machine()) as served:
        base = ipmitool(served, suite, tmp_path)
        assert "Entries          : 2" in await run(*base, "sel", "info")
        first, second = (await run(*base, "sel", "elist")).splitlines()
        assert "Uncorrectable ECC" in first
        assert "Temperature CPU Temp | Upper Critical going high | Asserted | Reading 96 > Threshold 95" in second
        assert len((await run(*base, "sel", "list")).splitlines()) == 2
        assert (await run(*base, "sel", "time", "get"))[-5:] == " UTC\n"
        sensors = await run(*base, "sdr", "list")
        assert "Fan 1            | 8400 RPM          | ok" in sensors
        assert "Pwr Consumption  | 240 Watts         | ok" in sensors
        thresholds = await run(*base, "sensor", "list")
        assert "CPU Temp         | 51.000     | degrees C  | ok    |" in thresholds
        assert " 95.000 " in thresholds
        assert "Sensor Reading        : 12 (+/- 0) Volts" in await run(*base, "sensor", "get", "12V")
        assert "240 Watts" in await run(*base, "dcmi", "power", "reading")
        info = await run(*base, "mc", "info")
        assert "IPMI Version              : 2.0" in info
        assert "Firmware Revision         : 3.77" in info
        assert "Manufacturer ID           : 10876" in info
        assert "System GUID" in await run(*base, "mc", "guid")
        assert "passed" in await run(*base, "mc", "selftest")
        assert "ADMINISTRATOR" in await run(*base, "user", "list", "1")
        assert "Enabled                         : true" in await run(*base, "sol", "info", "1")
        await run(*base, "sel", "clear")
        assert "Entries          : 0" in await run(*base, "sel", "info")
        assert served.bmc.session_count == 0


@needs_ipmitool
async def test_ipmitool_finds_the_best_suite_by_itself(tmp_path: Path) -> None:
    async with bmc(suites=(17,)) as served:
        base = ipmitool(served, "17", tmp_path)[:-2]
        assert await run(*base, "chassis", "power", "status") == "Chassis Power is off\n"


@needs_ipmitool
@pytest.mark.parametrize("suite", SUITES)
async def test_ipmitool_has_the_serial_console(suite: str, tmp_path: Path) -> None:
    chassis = machine()
    chassis.console.write(b"history\r\n" * 80)  # more than a packet holds
    async with bmc(chassis) as served:
        base = ipmitool(served, suite, tmp_path)
        async with Terminal(*base, "sol", "activate") as terminal:
            assert (await terminal.until(b"history\r\n" * 80)).count(b"history") == 80
            chassis.console.write(b"web1 login: ")
            await terminal.until(b"web1 login: ")
            terminal.type(b"root\r")
            await terminal.until(b"root")
            assert chassis.typed == b"root\r"
            second = await asyncio.create_subprocess_exec(
                *base, "sol", "activate", stdin=asyncio.subprocess.DEVNULL, stdout=-1, stderr=-1
            )
            out, error = await second.communicate()
            assert b"already active" in out + error
            terminal.type(b"~.")
            assert await terminal.ended() is not None
        assert served.bmc.next_timer() is None
        # And somebody else can end it.
        async with Terminal(*base, "sol", "activate") as terminal:
            await terminal.until(b"login")
            await run(*base, "sol", "deactivate")
            assert served.bmc.next_timer() is None  # ipmitool takes no notice of being told


@needs_freeipmi
@pytest.mark.parametrize("suite", SUITES)
async def test_ipmipower_and_its_host_ranges(suite: str, tmp_path: Path) -> None:
    async with bmc() as served:
        base = free("ipmipower", served, suite, tmp_path)
        base = tuple(word.replace("127.0.0.1:", "127.0.0.[1-1]:") for word in base)
        assert await run(*base, "--stat") == "127.0.0.1: off\n"
        assert await run(*base, "--on") == "127.0.0.1: ok\n"
        assert await run(*base, "--stat") == "127.0.0.1: on\n"
        assert served.chassis.controls == [Action.ON]
        assert await run(*base, "--cycle") == "127.0.0.1: ok\n"
        assert served.chassis.controls == [Action.ON, Action.CYCLE]


@needs_freeipmi
@pytest.mark.parametrize("suite", SUITES)
async def test_freeipmi_reads_a_machine(suite: str, tmp_path: Path) -> None:
    async with bmc(machine()) as served:

        async def ask(program: str, *words: str, sdr: bool = True) -> str:
            cache = ("--sdr-cache-directory", str(tmp_path), "--quiet-cache") if sdr else ()
            return await run(*free(program, served, suite, tmp_path), *cache, *words)

        log = await ask("ipmi-sel", "--output-event-state")
        assert "Uncorrectable memory error" in log
        assert "Upper Critical - going high ; Sensor Reading = 96.00 C ; Threshold = 95.00 C" in log
        assert "Number of log entries                  : 2" in await ask("ipmi-sel", "--info")
        sensors = await ask("ipmi-sensors", "--comma-separated-output", "--no-header-output")
        assert "2,Fan 1,Fan,8400.00,RPM,'OK'" in sensors
        assert "1,CPU Temp,Temperature,51.00,C,'OK'" in sensors
        assert ": 240 Watts" in await ask("ipmi-dcmi", "--get-system-power-statistics", sdr=False)
        status = await ask("ipmi-chassis", "--get-chassis-status", sdr=False)
        assert "System Power                        : on" in status
        await ask("ipmi-sel", "--clear")
        assert len(served.chassis.events) == 0
        assert served.bmc.session_count == 0


@needs_ipmitool
async def test_ipmitool_over_ipmi_15(tmp_path: Path) -> None:
    async with bmc(machine(), ipmi_15=True) as served:
        base = ("lan" if word == "lanplus" else word for word in ipmitool(served, "", tmp_path)[:-2])
        md5 = (*base, "-A", "MD5")
        assert await run(*md5, "chassis", "power", "status") == "Chassis Power is on\n"
        await run(*md5, "chassis", "power", "cycle")
        assert served.chassis.controls == [Action.CYCLE]
        assert len((await run(*md5, "sel", "elist")).splitlines()) == 2
        assert "Fan 1            | 8400 RPM          | ok" in await run(*md5, "sdr", "list")
        assert served.bmc.session_count == 0


@needs_freeipmi
async def test_ipmipower_over_ipmi_15(tmp_path: Path) -> None:
    async with bmc(ipmi_15=True) as served:
        base = ("LAN" if word == "LAN_2_0" else word for word in free("ipmipower", served, "17", tmp_path))
        md5 = (*base, "--authentication-type", "MD5")
        assert await run(*md5, "--stat") == "127.0.0.1: off\n"
        assert await run(*md5, "--on") == "127.0.0.1: ok\n"
        assert served.chassis.controls == [Action.ON]


# ipmiconsole knows no port but 623, so it gets a network of its own, with a loopback that nobody else sees.
NAMESPACE = """
import asyncio, subprocess, sys
from bootorch.ipmi.chassis import MemoryChassis
from tests.ipmi.udp import bmc
from tests.peers.terminal import Terminal
async def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    chassis = MemoryChassis(on=True)
    chassis.console.write(b"web1 login: ")
    async with bmc(chassis, udp_port=623) as served, Terminal(*sys.argv[1:]) as terminal:
        await terminal.until(b"web1 login: ")
        terminal.type(b"root\\r")
        await terminal.until(b"root")
        terminal.type(b"&.")
        await terminal.ended()
        print(chassis.typed, served.bmc.next_timer(), *served.commands, sep=", ")
asyncio.run(main())
"""


@needs_freeipmi
@pytest.mark.parametrize("suite", SUITES)
async def test_ipmiconsole(suite: str, tmp_path: Path) -> None:
    unshare = (shutil.which("unshare"), "--map-root-user", "--net")
    probe = f"{unshare[0]} -rn ip link set lo up"
    if await (await asyncio.create_subprocess_shell(probe, stderr=asyncio.subprocess.DEVNULL)).wait() != 0:
        pytest.skip("no network namespace to be had (Debian packages util-linux, iproute2, and the kernel's leave)")
    config = write_private(tmp_path / "freeipmi.conf", f"username admin\npassword {PASSWORD}\n")
    program = (freeipmi("ipmiconsole"), "-I", suite, "-h", "127.0.0.1", "--config-file", str(config))
    typed, timer, *commands = (await run(*unshare, sys.executable, "-c", NAMESPACE, *program)).strip().split(", ")
    assert (typed, timer) == (r"b'root\r'", "None")
    assert commands[-3:] == ["activate payload", "deactivate payload", "close session"]


@needs_pyghmi
async def test_pyghmi() -> None:
    chassis = machine()
    chassis.on = False
    async with bmc(chassis) as served:
        out = await run(sys.executable, "-c", PYGHMI, str(served.endpoint.port), stdin=PASSWORD + "\n")
        off, boot, on, log, cleared, sensors, watts, users = map(json.loads, out.splitlines())
        assert (off, on) == ({"powerstate": "off"}, {"powerstate": "on"})
        assert (boot["bootdev"], boot["uefimode"]) == ("network", True)
        assert served.chassis.booted_from == BootSource.PXE
        assert served.chassis.controls == [Action.ON]
        assert log == [
            ["Memory", "Uncorrectable error"],
            ["Temperature", "Upper critical"],
        ]
        assert cleared == []
        assert sensors["Fan 1"] == [8400.0, "RPM"]
        assert sensors["12V"] == [12.0, "V"]
        assert watts == 240
        assert users == ["admin"]


@needs_pyghmi
async def test_pyghmi_has_the_serial_console() -> None:
    chassis = machine()
    chassis.console.write(b"web1 login: ")
    async with bmc(chassis) as served:
        out = await run(sys.executable, "-c", PYGHMI_CONSOLE, str(served.endpoint.port), stdin=PASSWORD + "\n")
        assert out == "web1 login: " + "root" * 100 + " exit"
        assert chassis.typed == b"root" * 100 + b" exit"
