"""Meters of feeds: real commands, good and bad; and what a host's own BMC measures."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.model import Meter, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.meter import MOST_BYTES, MOST_WATTS, read_meter, reading
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi.chassis import MemoryChassis
from tests.ipmi.udp import SITE, Secrets, bmc, host


def python(code: str) -> Meter:
    return Meter((sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("text", "watts"),
    [
        ("212400", 212400.0),
        ("212.4 kW\n", 212400.0),
        ("total load: 1.2MW, of 3 feeds", 1_200_000.0),
        ('{"watts": 830.5, "amps": 4}', 830.5),
        ("pdu7 load 830 watts", 830.0),
        ("0", 0.0),
        ("1.5e3 W", 1500.0),
        ("12,345 W", None),  # twelve thousand, or twelve and a bit
        ("12,5 kW", None),
        ("-3 W", None),
        ("2026-11-25 212 kW", None),
        ("230 V, 830 W", None),
        ("85 %", None),
        ("16A", None),
        ("10.20.0.5 is down", None),
        ("no data", None),
        ("", None),
        ("1e999", None),
        ("2000000 MW", None),
    ],
)
def test_a_number_is_believed_when_it_can_mean_one_thing(text: str, watts: float | None) -> None:
    assert reading(text) == watts


@given(st.text())
def test_nothing_that_is_printed_raises_or_gives_an_impossible_power(text: str) -> None:
    watts = reading(text)
    assert watts is None or 0 <= watts <= MOST_WATTS


@given(st.floats(0, 9e5, allow_nan=False), st.sampled_from([("", 1.0), ("W", 1.0), (" kW", 1e3), ("mw", 1e6)]))
def test_every_power_is_read_back(number: float, unit: tuple[str, float]) -> None:
    written = f"{number:.3f}"
    assert reading(f"feed hall-a draws {written}{unit[0]}") == float(written) * unit[1]


async def test_a_command_is_run_without_a_shell_and_with_three_words_of_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "s3cret")
    code = "import os, sys; assert not sys.stdin.read(); print(212, 'kW', sys.argv[1], sorted(os.environ))"
    meter = Meter((sys.executable, "-c", code, "$HOME;exit 1"))
    assert (await read_meter(meter, 20)).data == {"watts": 212000.0}
    told = await read_meter(python("import os, sys; sys.exit(' '.join(os.environ))"), 20)
    assert told.reason is Reason.CHECK_FAILED
    assert set(told.detail.split(": ")[-1].split()) <= {"PATH", "HOME", "LANG", "LC_CTYPE"}  # CPython adds the last
    assert "s3cret" not in told.detail


@pytest.mark.parametrize(
    ("meter", "reason", "said"),
    [
        (Meter(("/nowhere/meter",)), Reason.UNREACHABLE, "cannot be started"),
        (Meter(("/etc/hostname",)), Reason.UNREACHABLE, "cannot be started"),
        (Meter(("a\0b",)), Reason.UNREACHABLE, "cannot be started"),
        (Meter(()), Reason.UNREACHABLE, "cannot be started"),
        (
            python("import sys; sys.exit('no route\\x1b[2J to pdu\\nmore')"),
            Reason.CHECK_FAILED,
            "exit code 1: no route",
        ),
        (python("import os; os.kill(os.getpid(), 9)"), Reason.CHECK_FAILED, "ended by signal 9"),
        (python("print('load unknown')"), Reason.CHECK_FAILED, "no power that can be believed: load unknown"),
        (python("print('1' * 100_000)"), Reason.CHECK_FAILED, f"more than {MOST_BYTES} bytes"),
        (python("import sys\nwhile True: sys.stderr.write('x' * 1000)"), Reason.CHECK_FAILED, "more than"),
    ],
)
async def test_whatever_a_command_does_is_a_value(meter: Meter, reason: Reason, said: str) -> None:
    reply = await read_meter(meter, 20)
    assert (reply.reason, reply.data) == (reason, {})
    assert said in reply.detail
    assert "\x1b" not in reply.detail


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            await asyncio.sleep(0.02)


FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
if sys.argv[2] == "stay": time.sleep(300)
print("830 W")
"""


@pytest.mark.parametrize("how", ["deadline", "cancelled", "left behind"])
async def test_nothing_of_a_command_is_left(tmp_path: Path, how: str) -> None:
    told = tmp_path / "pids"
    meter = Meter((sys.executable, "-c", FAMILY, str(told), "go" if how == "left behind" else "stay"))
    task = asyncio.ensure_future(read_meter(meter, 2.0 if how == "deadline" else 60.0))
    if how == "cancelled":
        async with asyncio.timeout(20):
            while not told.exists() or len(told.read_text().split()) != 2:
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "deadline":
        assert (await task).reason is Reason.UNREACHABLE
    else:
        assert (await task).data == {"watts": 830.0}, "whoever holds the pipe is not waited for"
    for pid in map(int, told.read_text().split()):
        await gone(pid)
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if _is_pidfd(fd)]


def _is_pidfd(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("anon_inode:[pidfd]")
    except OSError:  # the one that listed them
        return False


# What a host's BMC measures


async def test_a_bmc_tells_what_its_host_draws() -> None:
    power = IpmiPower(SITE, Secrets())
    machine = MemoryChassis(on=True)
    machine.watts = 312
    async with bmc(machine) as served:
        reply = await power.meter(host(served.endpoint), 5)
        assert (reply.reason, reply.data) == (Reason.OK, {"watts": 312.0, "source": "dcmi"})
    await power.aclose()


async def test_a_bmc_that_measures_nothing_says_so_and_outside_the_site_nobody_is_asked() -> None:
    power = IpmiPower(SITE, Secrets())
    machine = MemoryChassis(on=True)
    machine.watts = None
    async with bmc(machine) as served:
        reply = await power.meter(host(served.endpoint), 5)
        assert (reply.reason, reply.data.get("watts")) == (Reason.BMC_UNSUPPORTED, None)
        asked = served.datagrams
        fenced = IpmiPower(Site((), ()), Secrets())
        assert (await fenced.meter(host(served.endpoint), 5)).reason is Reason.OUTSIDE_SITE
        assert served.datagrams == asked
        await fenced.aclose()
    await power.aclose()
