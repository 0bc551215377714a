"""What the playbooks are there to find, on hosts that have it: each is found, and the operator is told what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from bootorch.core.reasons import Reason
from tests.playbooks.conftest import PLAYBOOKS, Hosts
from tests.playbooks.made import archive, certificate

# A clock that is 7 h behind until it is set.
SLOW_CLOCK = """
date=$(PATH=${PATH#*:} command -v date)
behind=$(cat "$HOME/behind" 2>/dev/null || echo 25200)
case $* in
  *--set*) echo $(($("$date" +%s) - $("$date" -d "$3" +%s))) >"$HOME/behind" ;;
  *) exec "$date" -d "$behind seconds ago" "$@" ;;
esac
"""

# Python with mounts and a network of its own: what a module sees there is the kernel's own view of a sick host.
APART = """
exec unshare --map-root-user --mount --net sh -c '
  cd "$HOME" || exit
  for directory in full stuck there; do mount -t tmpfs -o size=64k tmpfs "$HOME/$directory" || exit; done
  head -c 65536 /dev/zero >full/file
  mount -o remount,ro stuck
  exec {python} "$@"
' python "$@"
"""

# Real output of a gluster pool of three, with one split brain in it, and of ceph's mon stat.
GLUSTER = r"""
case $* in
  *pool*) printf 'UUID\tHostname\tState\n1a\ts2\tSTATE\n2b\ts3\tDisconnected\n3c\tlocalhost\tConnected\n' ;;
  *heal*) printf 'Brick s1:/b\n/mail/box\nStatus: Connected\nNumber of entries in split-brain: 1\n' ;;
esac
"""
CEPH = """
echo 'e3: 3 mons at {a=[v2:10.0.0.1:3300/0],b=[v2:10.0.0.2:3300/0],c=[v2:10.0.0.3:3300/0]}, election epoch 6, \
leader 0 a, quorum 0,2 a,c'
"""


@dataclass(frozen=True)
class Sick:
    """A host, the role that must find what it has, and what the operator must read. No words: the role must pass."""

    name: str
    role: str
    variables: dict[str, Any]
    says: tuple[str, ...]


async def found(hosts: Hosts, tmp_path: Path, cases: list[Sick]) -> None:
    """One run for all: a play for each role, as in the role's own playbook."""
    plays = [
        {
            "hosts": [case.name for case in cases if case.role == role],
            "gather_facts": False,
            "strategy": "linear",
            "roles": [role],
        }
        for role in dict.fromkeys(case.role for case in cases)
    ]
    (tmp_path / "roles").symlink_to(PLAYBOOKS / "roles")
    (tmp_path / "all.yml").write_text(yaml.safe_dump(plays))
    verdicts = await hosts.recover(tmp_path / "all.yml", {case.name: case.variables for case in cases})
    for case in cases:
        verdict = verdicts[case.name]
        assert verdict.reason is (Reason.TASK_FAILED if case.says else Reason.OK), (case, verdict)
        for words in case.says:
            assert words in verdict.detail, (case.role, words, verdict.detail)


async def test_a_host_that_nothing_should_be_built_on(hosts: Hosts, tmp_path: Path) -> None:
    slow, stepped, ahead, sick = (hosts.take() for _ in range(4))

    for name in (slow, stepped):
        hosts.program(name, "date", SLOW_CLOCK)
    log = hosts.root(ahead) / "var/log/kern.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, (time.time() + 86400,) * 2)

    cases = [
        Sick(slow, "clock", {}, ("the clock is 25", "timedatectl set-time")),
        Sick(stepped, "clock", {"clock_step": True}, ()),
        Sick(ahead, "clock", {}, ("kern.log was written 86", "compare both with a watch")),
    ]
    if shutil.which("unshare") and not subprocess.run(["unshare", "-Urmn", "true"], capture_output=True).returncode:
        root = hosts.root(sick)
        for directory in ("full", "stuck", "there", "never"):
            (root / directory).mkdir()
        (root / "etc").mkdir(exist_ok=True)
        lines = [f"tmpfs {root}/{directory} tmpfs defaults 0 0\n" for directory in ("full", "stuck", "there", "never")]
        (root / "etc/fstab").write_text("".join(lines))
        hosts.program(sick, "python-apart", APART.format(python=sys.executable))
        variables = {"ansible_python_interpreter": f"{root}/bin/python-apart"}
        cases.append(Sick(sick, "base", variables, ("problems: ", "never is not mounted", "full is 100 % full")))
    await found(hosts, tmp_path, cases)
    assert int((hosts.root(stepped) / "behind").read_text()) in range(-1, 300), (
        "it was set, at the pace of this machine"
    )
    assert not (hosts.root(sick) / "etc/motd").exists()


async def test_what_a_service_would_trip_over(hosts: Hosts, tmp_path: Path, podman_store: list[str]) -> None:
    """Certificates, storage, the deploy system and images: each on a host that is ill and on one that is well."""

    def certificates(says: tuple[str, ...], write: Callable[[Path], None] = lambda root: None) -> Sick:
        name = hosts.take()
        write(hosts.root(name) / "etc/ssl")
        return Sick(name, "certificates", {"certificates_paths": ["/etc/ssl"]}, says)

    def storage(says: tuple[str, ...], program: str, text: str, more: dict[str, Any]) -> Sick:
        name = hosts.take()
        hosts.program(name, program, text)
        return Sick(name, "storage", {"storage_wait_s": 0, **more}, says)

    def old(root: Path) -> None:
        certificate(root / "old.pem", -400, -40)
        certificate(root / "bundle.pem")
        certificate(root / "bundle.pem", ends_days=2.6)
        certificate(root / "early.crt", 3, 300, form=Encoding.DER)
        (root / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")

    def well(root: Path) -> None:
        certificate(root / "a/good.pem")
        certificate(root / "soon.pem", -1, 20)

    gluster: dict[str, Any] = {"storage_cluster": "gluster"}
    own: dict[str, Any] = {"storage_members_command": ["own-quorum"]}
    cases = [
        certificates(
            (
                "4 problems",
                "old.pem (CN = old) expired 40 days ago: renew it",
                "early.crt (CN = early) is not valid for another 3 days",
                "bundle.pem (CN = bundle) expires in 3 days: renew it now",
                "torn.pem is damaged",
            ),
            old,
        ),
        certificates((), well),
        certificates(("0 certificates found, 1 expected", "certificates_paths"), lambda root: root.mkdir(parents=True)),
        certificates(("/etc/ssl is missing",)),
        storage(
            ("1 of 3 members are up (localhost), 2 are needed", "never form a new cluster from the few"),
            "gluster",
            GLUSTER.replace("STATE", "Disconnected"),
            gluster,
        ),
        storage(
            ("1 entries differ between copies: /mail/box", "say for each which copy is right"),
            "gluster",
            GLUSTER.replace("STATE", "Connected"),
            gluster,
        ),
        storage((), "ceph", CEPH, {"storage_cluster": "ceph"}),
        storage(("own-quorum failed: no answer",), "own-quorum", "echo no answer >&2; exit 1\n", own),
    ]

    torn = hosts.take()
    (hosts.root(torn) / "srv/deploy/images").mkdir(parents=True)
    (hosts.root(torn) / "srv/deploy/images/vmlinuz").write_bytes(b"ker")
    expected = {name: hashlib.sha256(b"kernel").hexdigest() for name in ("vmlinuz", "initrd")}
    cases.append(Sick(torn, "deploy", {"deploy_expected": expected}, ("initrd, vmlinuz: missing or damaged",)))
    # Somebody who is well in every play but the last: Ansible stops where nobody is left.
    cases.append(Sick(hosts.take(), "deploy", {}, ()))

    if shutil.which("podman"):
        wrong = hosts.take()
        images = hosts.root(wrong) / "srv/images"
        inside = archive(images / "app.tar", "registry.internal/app:1", b"app")
        (images / "torn.tar").write_bytes((images / "app.tar").read_bytes()[:700])
        wanted = [
            {"name": "registry.internal/torn:1", "id": inside, "archive": "torn.tar"},
            {"name": "registry.internal/app:1", "id": "sha256:" + "0" * 64, "archive": "app.tar"},
            {"name": "registry.internal/no:1", "id": inside, "archive": "no.tar"},
        ]
        variables = {"containers_images": wanted, "containers_arguments": podman_store}
        says = ("torn.tar is not an archive of one image", f"app.tar holds sha256:{inside[:9]}")
        cases.append(Sick(wrong, "containers", variables, says))
    await found(hosts, tmp_path, cases)


@pytest.mark.peer
async def test_an_image_under_another_name_is_not_taken_for_the_one_that_was_asked_for(
    hosts: Hosts, tmp_path: Path, podman_store: list[str]
) -> None:
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    name = hosts.take()
    inside = archive(hosts.root(name) / "srv/images/app.tar", "registry.internal/other:1", b"app")
    image = {"name": "registry.internal/app:1", "id": inside, "archive": "app.tar"}
    variables = {"containers_images": [image], "containers_arguments": podman_store}
    says = ("app.tar was loaded and registry.internal/app:1 is still missing: the archive has it under another name",)
    await found(hosts, tmp_path, [Sick(name, "containers", variables, says)])
