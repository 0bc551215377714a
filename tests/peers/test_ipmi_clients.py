"""Consoles that nobody here wrote against our BMC: ipmitool, FreeIPMI's ipmipower, pyghmi."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from bootorch.ipmi.messages import Action, BootSource
from tests.ipmi.udp import PASSWORD, bmc

pytestmark = pytest.mark.peer

IPMITOOL = shutil.which("ipmitool")
IPMIPOWER = shutil.which("ipmipower") or shutil.which("ipmipower", path="/usr/sbin")
needs_ipmitool = pytest.mark.skipif(IPMITOOL is None, reason="ipmitool is not installed (Debian package ipmitool)")
needs_ipmipower = pytest.mark.skipif(
    IPMIPOWER is None, reason="ipmipower is not installed (Debian package freeipmi-tools)"
)
needs_pyghmi = pytest.mark.skipif(
    importlib.util.find_spec("pyghmi") is None, reason="pyghmi is not installed (PyPI package pyghmi)"
)
PYGHMI = """
import sys
from pyghmi.ipmi.command import Command
console = Command("127.0.0.1", "admin", sys.stdin.readline().strip(), port=int(sys.argv[1]))
print(console.get_power()["powerstate"])
console.set_bootdev("network", uefiboot=True)
print(console.get_bootdev())
console.set_power("on", wait=20)
print(console.get_power()["powerstate"])
console.ipmi_session.logout()
"""


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
@pytest.mark.parametrize("suite", ["3", "17"])
async def test_ipmitool(suite: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    async with bmc() as served:
        base = (IPMITOOL, "-I", "lanplus", "-H", "127.0.0.1", "-p", str(served.endpoint.port))
        base += ("-U", "admin", "-f", str(secret), "-C", suite)
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
        assert "IPMI Version              : 2.0" in await run(*base, "mc", "info")
        assert "slot count                    : 15" in await run(*base, "session", "info", "active")
        await run(*base, "chassis", "power", "off")
        assert served.chassis.controls == [Action.ON, Action.OFF]
        assert served.commands.count("chassis control on") == 1
        assert served.bmc.session_count == 0


@needs_ipmitool
async def test_ipmitool_finds_the_best_suite_by_itself(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    async with bmc(suites=(17,)) as served:
        base = (IPMITOOL, "-I", "lanplus", "-H", "127.0.0.1", "-p", str(served.endpoint.port), "-U", "admin")
        assert await run(*base, "-f", str(secret), "chassis", "power", "status") == "Chassis Power is off\n"


@needs_ipmipower
@pytest.mark.parametrize("suite", ["3", "17"])
async def test_ipmipower_and_its_host_ranges(suite: str, tmp_path: Path) -> None:
    config = tmp_path / "freeipmi.conf"
    config.write_text(f"username admin\npassword {PASSWORD}\n")
    config.chmod(0o600)
    async with bmc() as served:
        base = (IPMIPOWER, "-D", "LAN_2_0", "-I", suite, "-h", f"127.0.0.[1-1]:{served.endpoint.port}")
        base += ("--config-file", str(config))
        assert await run(*base, "--stat") == "127.0.0.1: off\n"
        assert await run(*base, "--on") == "127.0.0.1: ok\n"
        assert await run(*base, "--stat") == "127.0.0.1: on\n"
        assert served.chassis.controls == [Action.ON]
        assert await run(*base, "--cycle") == "127.0.0.1: ok\n"
        assert served.chassis.controls == [Action.ON, Action.CYCLE]


@needs_pyghmi
async def test_pyghmi() -> None:
    async with bmc() as served:
        out = await run(sys.executable, "-c", PYGHMI, str(served.endpoint.port), stdin=PASSWORD + "\n")
        off, boot, on = out.splitlines()
        assert (off, on) == ("off", "on")
        assert "network" in boot
        assert "'uefimode': True" in boot
        assert served.chassis.booted_from == BootSource.PXE
        assert served.chassis.controls == [Action.ON]
