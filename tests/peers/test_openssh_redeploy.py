"""ansible-playbook over real SSH: pipelining against OpenSSH's sshd, host keys verified whatever the inventory says."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice, Verdict
from bootorch.drivers.redeploy import AnsibleRedeploy, mitogen_strategies
from tests.drivers.sshd import MISSING, SSHD, Sshd, keygen, running_sshd

PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not SSHD, reason=MISSING),
    pytest.mark.skipif(
        not shutil.which("ansible-playbook", path=PROGRAMS),
        reason="no ansible-playbook: pip install 'bootorch[ansible]'",
    ),
]

SITE = Site(bmc_networks=(), host_networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd"), "127.0.0.2") as server:
        yield server


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "play.yml"
    path.write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy:\n"
        f"        {{content: '{{{{ inventory_hostname }}}}', dest: {tmp_path}/out, mode: '0600'}}\n"
    )
    return path


def variables(sshd: Sshd, **more: Any) -> dict[str, Any]:
    return {
        "ansible_host": sshd.address,
        "ansible_port": sshd.port,
        "ansible_user": sshd.user,
        "ansible_ssh_private_key_file": str(sshd.key),
        "ansible_python_interpreter": sys.executable,
        **more,
    }


async def redeploy(
    playbook: Path,
    sshd: Sshd,
    own: dict[str, Any],
    known_hosts: Path | None,
    run_dir: Path | None = None,
    *,
    mitogen: bool = False,
) -> Verdict:
    host = Host("n1", "web", Endpoint("127.0.0.1", 1), "", None, sshd.address)
    where = run_dir or playbook.parent / "run"
    driver = AnsibleRedeploy(SITE, {"n1": own}, {"web": ["n1"]}, where, known_hosts, None, mitogen=mitogen)
    reply = await driver.run(Slice("slice", str(playbook), (host,), 5), 60)
    assert list(where.iterdir()) == []
    return reply.verdicts["n1"]


def masters(run_dir: Path) -> list[str]:
    """Connection masters of ssh that still have a socket below the directory."""
    lines = (entry / "cmdline" for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [text for line in lines if (text := _read(line)) and str(run_dir) in text]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


async def test_a_host_is_redeployed_over_ssh_and_no_connection_stays(playbook: Path, sshd: Sshd) -> None:
    verdict = await redeploy(playbook, sshd, variables(sshd), sshd.known_hosts)
    assert verdict == Verdict(Reason.OK, "1 changed", 1)
    assert (playbook.parent / "out").read_text() == "n1"
    assert masters(playbook.parent) == []
    again = await redeploy(playbook, sshd, variables(sshd), sshd.known_hosts)
    assert again.changed == 0


async def test_a_long_run_directory_is_no_obstacle_to_ssh(playbook: Path, sshd: Sshd) -> None:
    run_dir = playbook.parent / ("deep" * 20) / ("deeper" * 10)
    assert (await redeploy(playbook, sshd, variables(sshd), sshd.known_hosts, run_dir)).reason is Reason.OK


async def test_the_inventorys_own_known_hosts_file_is_used(playbook: Path, sshd: Sshd) -> None:
    own = variables(sshd, ansible_ssh_common_args=f"-o UserKnownHostsFile={sshd.known_hosts}")
    empty = playbook.parent / "empty"
    empty.touch()
    assert (await redeploy(playbook, sshd, own, empty)).reason is Reason.OK
    assert (await redeploy(playbook, sshd, own, None)).reason is Reason.OK


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ansible_host_key_checking": False},
        {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"},
        {"ansible_ssh_args": "-o StrictHostKeyChecking=no"},
        {"ansible_ssh_extra_args": "-o StrictHostKeyChecking=accept-new"},
    ],
)
async def test_an_unknown_or_changed_host_key_is_never_accepted(
    playbook: Path, sshd: Sshd, more: dict[str, Any]
) -> None:
    other = keygen(playbook.parent / "other").with_suffix(".pub").read_text().split()
    known = playbook.parent / "known hosts 100%"
    known.write_text(f"[{sshd.address}]:{sshd.port} {other[0]} {other[1]}\n" if not more else "")
    verdict = await redeploy(playbook, sshd, variables(sshd, **more), known)
    assert verdict.reason is Reason.DARK
    said = "Host key verification failed" if more else "REMOTE HOST IDENTIFICATION HAS CHANGED"
    assert said in verdict.detail
    assert not (playbook.parent / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "-o ProxyJump=192.0.2.1",
        "-J 192.0.2.1",
        "-vJ 192.0.2.1",
        "-oProxyCommand='nc 192.0.2.1 22'",
        "-o 'proxycommand nc 192.0.2.1 22'",
        "-F other",
        "-o hostname=192.0.2.1",
        "{{ bastion }}",
        "-o 'unbalanced",
    ],
)
async def test_ssh_arguments_that_lead_elsewhere_are_refused(playbook: Path, sshd: Sshd, arguments: str) -> None:
    verdict = await redeploy_refused(playbook, variables(sshd, ansible_ssh_common_args=arguments))
    assert verdict.reason is Reason.OUTSIDE_SITE


async def redeploy_refused(playbook: Path, own: dict[str, Any]) -> Verdict:
    host = Host("n1", "web", Endpoint("127.0.0.1", 1), "", None, own["ansible_host"])
    driver = AnsibleRedeploy(SITE, {"n1": own}, {}, playbook.parent / "run", None, None)
    return (await driver.run(Slice("slice", str(playbook), (host,), 5), 60)).verdicts["n1"]


async def test_a_closed_port_is_a_dark_host(playbook: Path, sshd: Sshd) -> None:
    verdict = await redeploy(playbook, sshd, variables(sshd, ansible_port=20001), sshd.known_hosts)
    assert verdict.reason is Reason.DARK
    assert "Connection refused" in verdict.detail


async def test_a_refused_key_is_a_dark_host(playbook: Path, sshd: Sshd) -> None:
    own = variables(sshd, ansible_ssh_private_key_file=str(keygen(playbook.parent / "stranger")))
    verdict = await redeploy(playbook, sshd, own, sshd.known_hosts)
    assert verdict.reason is Reason.DARK
    assert "Permission denied" in verdict.detail


@pytest.mark.skipif(not mitogen_strategies(), reason="no Mitogen: pip install mitogen")
async def test_with_mitogen_a_host_is_redeployed_and_an_unknown_key_is_refused(playbook: Path, sshd: Sshd) -> None:
    playbook.write_text(
        playbook.read_text()
        + "    - ansible.builtin.assert: {that: \"lookup('config', 'DEFAULT_STRATEGY') == 'mitogen_host_pinned'\"}\n"
    )
    verdict = await redeploy(playbook, sshd, variables(sshd), sshd.known_hosts, mitogen=True)
    assert verdict == Verdict(Reason.OK, "1 changed", 1)
    assert masters(playbook.parent) == []
    (playbook.parent / "out").unlink()
    empty = playbook.parent / "empty"
    empty.touch()
    refused = await redeploy(playbook, sshd, variables(sshd), empty, mitogen=True)
    assert refused.reason is Reason.DARK
    assert not (playbook.parent / "out").exists()
