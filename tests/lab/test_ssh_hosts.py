"""SSH hosts of a lab: there while their machine's operating system is up, and real in what they run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from bootorch.core.model import BootDevice, Host, SshCheck
from bootorch.core.reasons import Reason
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.ipmi.messages import Action
from bootorch.lab import control, site
from bootorch.lab.process import identify
from bootorch.sim.machine import BootFailure
from tests.lab.conftest import SITE, RunningLab, Start


@contextlib.asynccontextmanager
async def powered(lab: RunningLab) -> AsyncIterator[IpmiPower]:
    power = IpmiPower(SITE, lab)
    try:
        yield power
    finally:
        await power.aclose()


async def until_up(lab: RunningLab, host: Host) -> dict[str, object]:
    reach = lab.reach()
    try:
        for _ in range(100):
            reply = await reach.boot_evidence(host, 5.0)
            if reply.ok:
                return dict(reply.data)
            assert reply.reason is Reason.UNREACHABLE, reply
            await asyncio.sleep(0.05)
    finally:
        await reach.aclose()
    raise AssertionError("never came up")


def login(
    lab: RunningLab, name: str, **options: object
) -> contextlib.AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    host = lab.host(name)
    return asyncssh.connect(
        host.address,
        host.ssh_port,
        **{
            "username": host.ssh_user,
            "client_keys": [host.ssh_key],
            "known_hosts": str(lab.directory / site.KNOWN_HOSTS),
            "config": None,
            **options,
        },
    )


@pytest.fixture
def running(start: Start) -> tuple[RunningLab, str]:
    """A lab with a host that is on already, and that host's name."""
    lab = start(already_on=1)
    return lab, lab.victim(initially_on=True).name


async def test_refused_before_power_and_during_boot_then_up_with_a_true_boot(start: Start) -> None:
    lab = start(boot_seconds=(0.8, 0.8))
    host = lab.host("dns-01")
    reach = lab.reach()
    async with powered(lab) as power:
        assert (await reach.boot_evidence(host, 2.0)).reason is Reason.UNREACHABLE
        asked = time.monotonic()
        assert (await power.on(host, BootDevice.NONE, 3.0)).ok
        assert (await reach.boot_evidence(host, 2.0)).reason is Reason.UNREACHABLE
        evidence = await until_up(lab, host)
        assert 0.75 < time.monotonic() - asked < 5.0
        assert 0.0 < float(str(evidence["uptime_s"])) < time.monotonic() - asked, "younger than the request"
        assert (await reach.check(host, SshCheck(), 5.0)).ok
        await asyncio.sleep(0.5)
        later = (await reach.boot_evidence(host, 5.0)).data
        assert later["boot_id"] == evidence["boot_id"]
        assert float(later["uptime_s"]) - float(str(evidence["uptime_s"])) == pytest.approx(0.5, abs=0.4)
        assert (await reach.boot_evidence(lab.host("web-01"), 2.0)).reason is Reason.UNREACHABLE
    await reach.aclose()


async def test_every_boot_has_a_new_id_the_same_host_key_and_the_same_disk(start: Start) -> None:
    lab = start()
    host = lab.host("dns-01")
    async with powered(lab) as power:
        await power.on(host, BootDevice.NONE, 3.0)
        first = await until_up(lab, host)
        async with login(lab, "dns-01") as connection:
            await connection.run("echo kept > on-disk", check=True)
        await power.cycle(host, 3.0)
        second = await until_up(lab, host)  # verified against the same known_hosts
        async with login(lab, "dns-01") as connection:
            assert (await connection.run("cat on-disk", check=True)).stdout == "kept\n"
    assert first["boot_id"] != second["boot_id"]
    assert float(str(second["uptime_s"])) < 3.0


async def test_a_host_that_never_posts_takes_power_and_nothing_else(start: Start) -> None:
    lab = start(20, no_post=1)
    host = lab.host(lab.victim(boot_failure=BootFailure.NO_POST).name)
    reach = lab.reach()
    async with powered(lab) as power:
        await power.on(host, BootDevice.NONE, 3.0)
        await asyncio.sleep(1.2)
        assert (await power.read(host, 3.0)).data["power"] == "on"
        assert (await reach.boot_evidence(host, 2.0)).reason is Reason.UNREACHABLE
    await reach.aclose()


async def test_a_host_that_was_on_has_been_up_for_days(running: tuple[RunningLab, str]) -> None:
    lab, name = running
    evidence = await until_up(lab, lab.host(name))
    assert float(str(evidence["uptime_s"])) == pytest.approx(9 * 86400, abs=60)
    async with powered(lab) as power:
        assert (await power.read(lab.host(name), 3.0)).data["power"] == "on"


async def test_commands_run_in_the_hosts_directory_with_an_environment_of_their_own(
    running: tuple[RunningLab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, name = running
    home = lab.directory / "hosts" / name
    async with login(lab, name) as connection:
        done = await connection.run("pwd; echo $HOME; command -v python3; exit 3")
        assert (done.exit_status, str(done.stdout).split()[:2]) == (3, [str(home), str(home)])
        variables = dict(line.split("=", 1) for line in str((await connection.run("env")).stdout).splitlines())
        assert set(variables) - {"_", "OLDPWD", "SHLVL"} == {
            "PATH", "HOME", "PWD", "TMPDIR", "USER", "LOGNAME", "SHELL", "LANG", site.LAB_MARK, site.HOST_MARK,
        }  # fmt: skip


async def test_input_output_error_status_and_signal_arrive_whole(running: tuple[RunningLab, str]) -> None:
    lab, name = running
    block = os.urandom(1 << 20) * 3
    async with login(lab, name) as connection:
        echoed = await connection.run("cat", input=block, encoding=None)
        assert echoed.stdout == block
        both = await connection.run("echo out; echo err >&2; (sleep 0.2; echo late) & exit 7")
        assert (both.stdout, both.stderr, both.exit_status) == ("out\nlate\n", "err\n", 7)
        killed = await connection.run("kill -TERM $$")
        assert killed.exit_signal is not None
        assert killed.exit_signal[0] == "TERM"
        unread = await connection.run("head -c 1", input=block, encoding=None)
        assert unread.stdout == block[:1]
        shell = await connection.run(None, input="echo from stdin\n")
        assert shell.stdout == "from stdin\n"


async def test_sftp_writes_where_commands_read(running: tuple[RunningLab, str], tmp_path: Path) -> None:
    lab, name = running
    home = lab.directory / "hosts" / name
    (tmp_path / "file").write_bytes(b"\0content")
    async with login(lab, name) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(str(tmp_path / "file"), "relative")
            await sftp.put(str(tmp_path / "file"), str(home / "absolute"))
            assert await sftp.realpath(".") == str(home)
        assert (await connection.run("cmp relative absolute && wc -c < relative")).stdout.strip() == "8"


async def test_one_user_with_one_key_and_a_host_key_that_is_listed(running: tuple[RunningLab, str]) -> None:
    lab, name = running
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(lab, name, username="root"):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(lab, name, client_keys=[asyncssh.generate_private_key("ssh-ed25519")]):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(lab, name, client_keys=None, password="lab", preferred_auth="password"):
            pass
    entry = lab.host(name)
    line = f"[{entry.address}]:{entry.ssh_port} "
    others = [text for text in (lab.directory / site.KNOWN_HOSTS).read_text().splitlines() if line not in text]
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with login(lab, name, known_hosts=asyncssh.import_known_hosts("\n".join(others))):
            pass


async def gone(pid: int) -> bool:
    for _ in range(100):
        if identify(pid) is None:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_commands_die_with_their_session(running: tuple[RunningLab, str]) -> None:
    lab, name = running
    async with login(lab, name) as connection:
        process = await connection.create_process("echo $$; sleep 300; true")
        pid = int(await process.stdout.readline())
        assert identify(pid) is not None
    assert await gone(pid)


async def test_power_off_cuts_connections_and_kills_even_daemons(running: tuple[RunningLab, str]) -> None:
    lab, name = running
    async with powered(lab) as power, login(lab, name) as connection:
        daemon = "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
        daemon_pid = int(str((await connection.run(daemon)).stdout))
        assert identify(daemon_pid) is not None, "as on a real host, it outlives its session"
        process = await connection.create_process("echo $$; sleep 300; true")
        pid = int(await process.stdout.readline())
        assert (await power._control(lab.host(name), Action.OFF, 3.0)).ok
        await asyncio.wait_for(connection.wait_closed(), 3.0)
        assert await gone(pid)
        assert await gone(daemon_pid)
        reach = lab.reach()
        assert (await reach.boot_evidence(lab.host(name), 2.0)).reason is Reason.UNREACHABLE
        await reach.aclose()
    assert not (lab.directory / "hosts" / name / site.EVIDENCE).exists()


def test_a_power_cut_during_boot_leaves_no_host(start: Start) -> None:
    async def scenario() -> None:
        lab = start(boot_seconds=(0.3, 0.3))
        host = lab.host("dns-01")
        async with powered(lab) as power:
            await power.on(host, BootDevice.NONE, 3.0)
            await asyncio.sleep(0.1)
            await power._control(host, Action.OFF, 3.0)
            await asyncio.sleep(0.6)
            reach = lab.reach()
            assert (await reach.boot_evidence(host, 2.0)).reason is Reason.UNREACHABLE
            await reach.aclose()

    asyncio.run(scenario())


@pytest.mark.peer
@pytest.mark.parametrize("pipelining", ["True", "False"])
def test_ansible_runs_modules_for_real(running: tuple[RunningLab, str], pipelining: str, tmp_path: Path) -> None:
    ansible = Path(sys.executable).parent / "ansible"
    if not ansible.exists():
        pytest.skip("needs ansible-core from PyPI")
    if shutil.which("ssh") is None:
        pytest.skip("needs the Debian package openssh-client")
    lab, name = running

    def run(module: str, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ANSIBLE_PIPELINING": pipelining,
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        command = [str(ansible), "-i", str(lab.info.inventory), name, "-o", "-m", module, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert '"ping": "pong"' in run("ping")
    target = lab.directory / "hosts" / name / "motd"
    copy = ["-a", "content=hello dest={{ redeploy_root }}/motd mode=0640"]
    assert "CHANGED" in run("copy", *copy)
    assert target.read_text() == "hello"
    assert target.stat().st_mode & 0o777 == 0o640
    assert "CHANGED" not in run("copy", *copy)
    assert sorted(path.name for path in (lab.directory / "hosts").iterdir()) == [name]


def test_nothing_is_left_of_hosts_that_ran(running: tuple[RunningLab, str]) -> None:
    lab, name = running

    async def scenario() -> int:
        async with login(lab, name) as connection:
            text = (await connection.run("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!")).stdout
            return int(str(text))

    daemon = asyncio.run(scenario())
    control.down(lab.directory)
    assert identify(daemon) is None
    assert not lab.directory.exists()
