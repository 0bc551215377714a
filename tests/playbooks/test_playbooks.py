"""The redeploy playbooks, run for real into a directory: first run changes, second does not, files are read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice, Verdict
from bootorch.drivers.redeploy import AnsibleRedeploy

SOURCE = Path(__file__).parents[2]
PLAYBOOKS = SOURCE / "playbooks"
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

pytestmark = pytest.mark.skipif(
    not shutil.which("ansible-playbook", path=PROGRAMS), reason="no ansible-playbook: pip install 'bootorch[ansible]'"
)

NAMES = sorted(path.stem for path in PLAYBOOKS.glob("*.yml"))


def variables(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "ansible_connection": "local",
        "ansible_host": "127.0.0.1",
        "ansible_python_interpreter": sys.executable,
        "redeploy_root": str(root),
        "redeploy_services": False,
        "base_directories": ["/srv/shared", "/srv/home"],
        "base_site_hosts": {"dns1": "10.30.0.1", "web1": "10.30.0.9"},
        "time_sources": ["10.30.0.1", "10.30.0.2"],
        "time_allow": ["10.30.0.0/16"],
        "dns_zone": "internal",
        "dns_servers": {"ns1": "10.30.0.1"},
        "dns_records": {"web": "10.30.0.9", "six": "fd00::9"},
        "dns_serial": 7,
        "storage_mount_point": "/srv/big-data",
        "web_release": "2026.1",
        **more,
    }


async def run(name: str, root: Path, **more: Any) -> Verdict:
    host = Host("web1", "web", Endpoint("127.0.0.1", 1), "", None, "127.0.0.1")
    site = Site((), (ip_network("127.0.0.0/8"),))
    driver = AnsibleRedeploy(site, {"web1": variables(root, **more)}, {}, root.parent / "run", None, None)
    reply = await driver.run(Slice("slice", str(PLAYBOOKS / f"{name}.yml"), (host,), 1), 120)
    return reply.verdicts["web1"]


# What each playbook leaves below the root: path, and a line that must be in the file.
LEFT = {
    "base": {
        "etc/hosts": "10.30.0.1 dns1",
        "etc/security/limits.d/60-redeploy.conf": "* hard nofile 65536",
        "etc/motd": "Redeployed by bootorch. Changes made by hand are overwritten by the next redeploy.",
    },
    "time": {"etc/chrony/chrony.conf": "server 10.30.0.1 iburst prefer"},
    "dns": {
        "etc/bind/zones/db.internal": "six IN AAAA fd00::9",
        "etc/bind/named.conf.local": 'zone "internal" {',
        "etc/resolv.conf": "nameserver 127.0.0.1",
    },
    "storage": {"etc/systemd/system/srv-big\\x2ddata.mount": "Where=/srv/big-data"},
    "deploy": {
        "srv/deploy/SHA256SUMS": f"{hashlib.sha256(b'kernel').hexdigest()}  ./images/vmlinuz",
        "etc/systemd/system/deploy-repository.service": "ExecStart=/usr/bin/python3 -m http.server "
        "--directory /srv/deploy 8080",
    },
    "web": {
        "etc/nginx/conf.d/site.conf": "    root /srv/www;",
        "srv/www/index.html": "<p>web1 serves release 2026.1.</p>",
        "srv/www/health": "check content: ok",
    },
    "database": {"etc/postgresql/15/main/conf.d/60-redeploy.conf": "fsync = on"},
}


def test_every_playbook_is_tested() -> None:
    assert sorted(LEFT) == NAMES


@pytest.mark.parametrize("name", NAMES)
async def test_the_first_run_changes_and_the_second_does_not(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    if name == "deploy":
        (root / "srv/deploy/images").mkdir(parents=True)
        (root / "srv/deploy/images/vmlinuz").write_bytes(b"kernel")
    first = await run(name, root)
    assert first.reason is Reason.OK, first
    assert first.changed > 0
    for path, line in LEFT[name].items():
        assert line in (root / path).read_text().splitlines(), path
    assert name != "base" or (root / "srv/home").is_dir()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    second = await run(name, root)
    assert (second.reason, second.changed) == (Reason.OK, 0), second
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


async def test_a_change_by_hand_is_put_right_and_lines_beside_the_block_stay(tmp_path: Path) -> None:
    root = tmp_path / "root"
    await run("time", root)
    path = root / "etc/chrony/chrony.conf"
    path.write_text("# mine\n" + path.read_text().replace("10.30.0.1", "192.0.2.66"))
    again = await run("time", root)
    assert again.changed == 1
    assert path.read_text().startswith("# mine\n")
    assert "server 10.30.0.1 iburst prefer\n" in path.read_text()
    assert "192.0.2.66" not in path.read_text()


async def test_an_island_serves_its_own_clock(tmp_path: Path) -> None:
    await run("time", tmp_path / "root", time_sources=[])
    assert "local stratum 10\n" in (tmp_path / "root/etc/chrony/chrony.conf").read_text()


async def test_a_drill_fails_once_and_says_so(tmp_path: Path) -> None:
    failed = await run("time", tmp_path / "root", drill_fail_once=True)
    assert failed.reason is Reason.TASK_FAILED
    assert "drill_fail_once is set; the next run passes" in failed.detail
    assert not (tmp_path / "root/etc/chrony").exists()
    passed = await run("time", tmp_path / "root", drill_fail_once=True)
    assert passed.reason is Reason.OK, passed


async def test_a_clock_that_is_wrong_stops_the_base(tmp_path: Path) -> None:
    """The operator's clock is this machine's; a tolerance below zero stands for a host that is off."""
    verdict = await run("base", tmp_path / "root", base_clock_tolerance_s=-1)
    assert verdict.reason is Reason.TASK_FAILED
    assert "the clock is" in verdict.detail
    assert "timedatectl" in verdict.detail
    assert not (tmp_path / "root").exists()


def test_check_mode_goes_through_and_changes_nothing(tmp_path: Path) -> None:
    """All of them in one process, on an empty root: each would change something, none does."""
    root = tmp_path / "root"
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"web1": variables(root, drill_fail_once=True)}}}))
    done = subprocess.run(
        ["ansible-playbook", "--check", "-i", inventory, *(PLAYBOOKS / f"{name}.yml" for name in NAMES)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": PROGRAMS, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed=0" in done.stdout
    assert "changed=0" not in done.stdout
    assert not root.exists()


@pytest.mark.slow
def test_ansible_lint_has_nothing_to_say(tmp_path: Path) -> None:
    program = shutil.which("ansible-lint", path=PROGRAMS)
    if not program:
        pytest.skip("no ansible-lint: pip install 'bootorch[dev]'")
    copy = tmp_path / "project"
    shutil.copytree(PLAYBOOKS, copy / "playbooks")
    shutil.copy(SOURCE / ".ansible-lint", copy)
    done = subprocess.run(
        [program, "--offline", "--strict", "--nocolor", "playbooks"],
        capture_output=True,
        text=True,
        cwd=copy,
        env=os.environ | {"PATH": PROGRAMS, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
