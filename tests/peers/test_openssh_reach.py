"""Our SSH side against OpenSSH's sshd: host keys verified, key login, evidence of /proc, commands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from bootorch.core.model import CommandCheck, Endpoint, Host, Site, SshCheck
from bootorch.core.reasons import Reason
from bootorch.drivers.reach import Reach
from tests.drivers.sshd import MISSING, SSHD, Sshd, keygen, running_sshd

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not SSHD, reason=MISSING)]

SITE = Site(bmc_networks=(), host_networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def host(sshd: Sshd) -> Host:
    return Host(
        name="n1",
        group="web",
        bmc=Endpoint("127.0.0.1", 1),
        bmc_user="",
        bmc_password=None,
        address=sshd.address,
        ssh_port=sshd.port,
        ssh_user=sshd.user,
        ssh_key=str(sshd.key),
    )


@pytest.fixture
async def reach(sshd: Sshd) -> AsyncIterator[Reach]:
    driver = Reach(SITE, sshd.known_hosts)
    yield driver
    await driver.aclose()


async def test_the_evidence_is_that_of_this_kernel(reach: Reach, host: Host) -> None:
    reply = await reach.boot_evidence(host, 10)
    assert reply.ok, reply
    assert reply.data["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert float(reply.data["uptime_s"]) == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=10)


async def test_a_host_may_have_a_command_of_its_own_for_its_evidence(reach: Reach, host: Host) -> None:
    reply = await reach.boot_evidence(replace(host, boot_evidence="printf 'b-1\\n42.5 7\\n'"), 10)
    assert (reply.reason, dict(reply.data)) == (Reason.OK, {"boot_id": "b-1", "uptime_s": 42.5})


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("true", "line 1"),
        ("echo id; echo soon", "line 2"),
        ("echo id; echo -3", "line 2"),
        ("echo id; echo nan", "line 2"),
        ("echo two words; echo 3", "line 1"),
        ("cat /nonexistent", "ended with 1: "),
        ("kill -9 $$", "signal"),
        ("yes", "without end"),
    ],
)
async def test_evidence_that_makes_no_sense_is_none(reach: Reach, host: Host, command: str, says: str) -> None:
    reply = await reach.boot_evidence(replace(host, boot_evidence=command), 10)
    assert reply.reason is Reason.CHECK_FAILED
    assert says in reply.detail
    assert "\n" not in reply.detail
    assert len(reply.detail) < 300


async def test_checks_over_ssh(reach: Reach, host: Host) -> None:
    assert (await reach.check(host, SshCheck(), 10)).ok
    assert (await reach.check(host, CommandCheck("echo HEALTH_OK", expect="HEALTH_OK"), 10)).ok
    refused = await reach.check(host, CommandCheck("echo HEALTH_WARN", expect="HEALTH_OK"), 10)
    assert refused.reason is Reason.CHECK_FAILED
    assert "HEALTH_WARN" in refused.detail
    failed = await reach.check(host, CommandCheck("echo no quorum >&2; exit 3"), 10)
    assert failed.reason is Reason.CHECK_FAILED
    assert "ended with 3: 'no quorum'" in failed.detail


async def test_a_changed_host_key_is_refused(sshd: Sshd, host: Host, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{sshd.address}]:{sshd.port} {other[0]} {other[1]}\n")
    reply = await Reach(SITE, known).boot_evidence(host, 10)
    assert reply.reason is Reason.HOST_KEY
    assert "not the one in known_hosts" in reply.detail


async def test_an_unknown_host_key_is_refused_and_a_key_that_was_added_is_seen(
    sshd: Sshd, host: Host, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    reach = Reach(SITE, known)
    assert (await reach.check(host, SshCheck(), 10)).reason is Reason.HOST_KEY  # no file at all
    known.write_text("# empty\n")
    reply = await reach.check(host, SshCheck(), 10)
    assert reply.reason is Reason.HOST_KEY
    assert "no host key in known_hosts" in reply.detail
    known.write_text(sshd.known_hosts.read_text())
    assert (await reach.check(host, SshCheck(), 10)).ok


async def test_a_server_that_has_only_another_kind_of_key_is_refused(sshd: Sshd, host: Host, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "ecdsa"], check=True)
    public = (tmp_path / "ecdsa.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{sshd.address}]:{sshd.port} {public[0]} {public[1]}\n")
    assert (await Reach(SITE, known).check(host, SshCheck(), 10)).reason is Reason.HOST_KEY


async def test_a_login_with_an_unknown_key_is_refused(reach: Reach, host: Host, tmp_path: Path) -> None:
    reply = await reach.boot_evidence(replace(host, ssh_key=str(keygen(tmp_path / "unknown"))), 10)
    assert reply.reason is Reason.AUTH_FAILED
    assert host.ssh_user in reply.detail


async def test_a_key_file_that_cannot_be_used_is_named(reach: Reach, host: Host, tmp_path: Path) -> None:
    missing = await reach.boot_evidence(replace(host, ssh_key=str(tmp_path / "nowhere")), 10)
    assert missing.reason is Reason.AUTH_FAILED
    assert "nowhere: no such file" in missing.detail
    garbage = tmp_path / "garbage"
    garbage.write_text("no key\n")
    unusable = await reach.boot_evidence(replace(host, ssh_key=str(garbage)), 10)
    assert unusable.reason is Reason.AUTH_FAILED
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "words", "-f", locked], check=True)
    encrypted = await reach.boot_evidence(replace(host, ssh_key=str(locked)), 10)
    assert encrypted.reason is Reason.AUTH_FAILED
    assert "locked" in encrypted.detail


async def test_the_users_ssh_configuration_cannot_redirect_a_login(
    sshd: Sshd, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        f"Host {sshd.address}\n  HostName 192.0.2.1\n  ProxyCommand touch {tmp_path}/redirected\n  User nobody\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (await Reach(SITE, sshd.known_hosts).check(host, SshCheck(), 10)).ok
    assert not (tmp_path / "redirected").exists()


async def test_a_command_that_hangs_ends_at_the_timeout(reach: Reach, host: Host) -> None:
    started = time.monotonic()
    reply = await reach.check(host, CommandCheck("sleep 600"), 1.5)
    assert reply.reason is Reason.CHECK_FAILED
    assert "waiting for the command" in reply.detail
    assert time.monotonic() - started < 8


async def test_a_host_that_freezes_in_mid_command_does_not_hold_us(host: Host, tmp_path: Path) -> None:
    with running_sshd(tmp_path) as server:
        frozen = replace(host, ssh_port=server.port, ssh_key=str(server.key))
        # The session's own sshd stops itself's parent: no packet is answered from then on.
        command = CommandCheck("echo $PPID > " + str(tmp_path / "pid") + "; kill -STOP $PPID; sleep 600")
        started = time.monotonic()
        reply = await Reach(SITE, server.known_hosts).check(frozen, command, 2)
        assert time.monotonic() - started < 8
        assert not reply.ok
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_logins_are_bounded_and_the_wait_for_one_is_named(sshd: Sshd, host: Host) -> None:
    reach = Reach(SITE, sshd.known_hosts, logins_at_once=2)
    replies = await asyncio.gather(*(reach.boot_evidence(host, 20) for _ in range(12)))
    assert all(reply.ok for reply in replies), replies


async def test_a_cancelled_exchange_leaves_no_socket(sshd: Sshd, host: Host) -> None:
    reach = Reach(SITE, sshd.known_hosts)
    await reach.check(host, SshCheck(), 10)  # imports and threads are there
    before = _sockets()
    for delay in (0.0, 0.001, 0.005, 0.02, 0.05, 0.2, 0.5):
        task = asyncio.create_task(reach.check(host, CommandCheck("sleep 600"), 30))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.2)
    assert _sockets() == before


def _sockets() -> int:
    files = (str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
    return sum(name.startswith("socket:") for name in files)


def test_nothing_is_logged_by_the_ssh_library(sshd: Sshd, tmp_path: Path) -> None:
    """In a process of its own, with every logger open: user names, addresses and commands must not appear."""
    code = f"""
import asyncio, logging, sys
from ipaddress import ip_network
logging.basicConfig(level=logging.DEBUG)
from bootorch.core.model import CommandCheck, Endpoint, Host, Site
from bootorch.drivers.reach import Reach
assert "asyncssh" not in sys.modules and "aiohttp" not in sys.modules and "dns" not in sys.modules
login = ({sshd.address!r}, {sshd.port}, {sshd.user!r}, {str(sshd.key)!r})
host = Host("n1", "web", Endpoint("127.0.0.1", 1), "", None, *login)
reach = Reach(Site((), (ip_network("127.0.0.0/8"),)), __import__("pathlib").Path({str(sshd.known_hosts)!r}))
print(asyncio.run(reach.check(host, CommandCheck("echo marked-word"), 10)).reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"
    assert "marked-word" not in done.stderr
    assert "asyncssh" not in done.stderr
