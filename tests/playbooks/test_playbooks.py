"""The redeploy playbooks on a lab's hosts: check mode foretells, the first run changes, the second does not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootorch.core.reasons import Reason
from tests.playbooks.conftest import PLAYBOOKS, PROGRAMS, SOURCE, Hosts
from tests.playbooks.made import archive, certificate

NAMES = sorted(path.stem for path in PLAYBOOKS.glob("*.yml"))
ROLES = sorted(path.name for path in (PLAYBOOKS / "roles").iterdir() if (path / "defaults").is_dir())

SITE: dict[str, Any] = {
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
    "certificates_paths": ["/etc/ssl/own"],
}

# What each playbook leaves below the host's root: path, and a line that must be in the file.
LEFT = {
    "base": {
        "etc/hosts": "10.30.0.1 dns1",
        "etc/security/limits.d/60-redeploy.conf": "* hard nofile 65536",
        "etc/motd": "Redeployed by bootorch. Changes made by hand are overwritten by the next redeploy.",
    },
    "certificates": {},
    "containers": {},
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
        "srv/www/index.html": "<p>{name} serves release 2026.1.</p>",
        "srv/www/health": "check content: ok",
    },
    "database": {"etc/postgresql/15/main/conf.d/60-redeploy.conf": "fsync = on"},
}


def test_every_playbook_is_tested() -> None:
    assert sorted(LEFT) == NAMES


def written(root: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not {".ansible", "bin", "tmp"} & set(path.relative_to(root).parts)
    }


def test_check_mode_foretells_the_first_run_and_the_second_changes_nothing(
    hosts: Hosts, tmp_path: Path, podman_store: list[str]
) -> None:
    """All of them in one process, on one host, three times."""
    name = hosts.take()
    root = hosts.root(name)
    carried = tmp_path / "carried"
    (carried / "images").mkdir(parents=True)
    (carried / "images/vmlinuz").write_bytes(b"kernel")
    certificate(root / "etc/ssl/own/site.pem")
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (root / "etc/systemd/system").mkdir(parents=True)  # as on every host: two playbooks see to it
    (root / "etc/nginx/sites-enabled").mkdir(parents=True)
    (root / "etc/nginx/sites-enabled/default").write_text("server { listen 80 default_server; }\n")
    variables = {
        **SITE,
        "deploy_source": str(carried),
        "deploy_expected": {"vmlinuz": hashlib.sha256(b"kernel").hexdigest()},
    }
    if podman := shutil.which("podman"):
        image_id = archive(root / "srv/images/app.tar", "registry.internal/app:1", b"app")
        image = {"name": "registry.internal/app:1", "id": image_id, "archive": "app.tar"}
        variables |= {"containers_images": [image], "containers_arguments": podman_store}
    before = written(root)

    foretold = hosts.by_hand(NAMES, {name: variables}, "--check")
    assert foretold.returncode == 0, foretold.output
    assert written(root) == before

    first = hosts.by_hand(NAMES, {name: variables})
    assert first.returncode == 0, first.output
    assert first.changed == foretold.changed
    for playbook, files in LEFT.items():
        for path, line in files.items():
            assert line.replace("{name}", name) in (root / path).read_text().splitlines(), (playbook, path)
    assert (root / "srv/home").is_dir()
    assert not (root / "etc/nginx/sites-enabled/default").exists()
    asked = [line for line in (root / "etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")]
    assert asked == ["nameserver 127.0.0.1", "nameserver 192.0.2.1"], "a server from before the blackout comes last"
    if podman:
        seen = subprocess.run(
            [podman, *podman_store, "images", "--quiet", "--no-trunc"], capture_output=True, text=True
        )
        assert seen.stdout.split() == [f"sha256:{image_id}"]

    after = written(root)
    second = hosts.by_hand(NAMES, {name: variables})
    assert (second.returncode, second.changed) == (0, []), second.output
    assert written(root) == after


def test_checks_alone_only_look(hosts: Hosts) -> None:
    name = hosts.take()
    certificate(hosts.root(name) / "etc/ssl/own/site.pem")
    before = written(hosts.root(name))
    looked = hosts.by_hand(["base", "certificates", "deploy", "storage"], {name: SITE}, "--tags", "check")
    assert (looked.returncode, looked.changed) == (0, []), looked.output
    assert written(hosts.root(name)) == before
    assert "Look at links, routes and names" in looked.output


async def test_a_change_by_hand_is_put_right_and_lines_beside_the_block_stay(hosts: Hosts) -> None:
    """And an island serves its own clock; a drill fails once, and says so."""
    client, island, drilled = hosts.take(), hosts.take(), hosts.take()
    given = {client: SITE, island: {}, drilled: {"drill_fail_once": True}}
    first = await hosts.recover(PLAYBOOKS / "time.yml", given)
    assert [first[name].reason for name in given] == [Reason.OK, Reason.OK, Reason.TASK_FAILED], first
    assert "local stratum 10\n" in (hosts.root(island) / "etc/chrony/chrony.conf").read_text()
    assert "drill_fail_once is set; the next run passes" in first[drilled].detail
    assert not (hosts.root(drilled) / "etc/chrony").exists()

    path = hosts.root(client) / "etc/chrony/chrony.conf"
    path.write_text("# mine\n" + path.read_text().replace("10.30.0.1", "192.0.2.66"))
    again = await hosts.recover(PLAYBOOKS / "time.yml", given)
    assert {name: (verdict.reason, verdict.changed) for name, verdict in again.items()} == {
        client: (Reason.OK, 1),
        island: (Reason.OK, 0),
        drilled: (Reason.OK, 1),
    }
    assert path.read_text().startswith("# mine\n")
    assert "server 10.30.0.1 iburst prefer\n" in path.read_text()
    assert "192.0.2.66" not in path.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_has_a_default_a_type_and_a_row_in_the_readme(role: str) -> None:
    defaults = yaml.safe_load((PLAYBOOKS / "roles" / role / "defaults/main.yml").read_text())
    specs = yaml.safe_load((PLAYBOOKS / "roles" / role / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    assert list(options) == list(defaults)
    readme = (PLAYBOOKS / "README.md").read_text()
    for name, option in options.items():
        assert name.startswith(f"{role}_")
        assert [line for line in readme.splitlines() if f"| `{name}` |" in line and option["description"] in line], name


@pytest.mark.peer
def test_the_services_own_programs_accept_what_was_written(hosts: Hosts, tmp_path: Path) -> None:
    """nginx, BIND and chrony, as on a real host; whoever is not installed is left out."""
    name = hosts.take()
    root = hosts.root(name)
    done = hosts.by_hand(["time", "dns", "web"], {name: SITE})
    assert done.returncode == 0, done.output
    checks = {
        "nginx": ["nginx", "-t", "-q", "-c", str(tmp_path / "nginx.conf")],
        "named-checkzone": ["named-checkzone", "-q", "internal", str(root / "etc/bind/zones/db.internal")],
        "named-checkconf": ["named-checkconf", str(root / "etc/bind/named.conf.local")],
        "chronyd": ["chronyd", "-p", "-f", str(root / "etc/chrony/chrony.conf")],
    }
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nerror_log {tmp_path}/log;\nevents {{}}\nhttp {{\naccess_log off;\n"
        f"include {root}/etc/nginx/conf.d/site.conf;\n}}\n"
    )
    path = f"{PROGRAMS}:/usr/sbin"
    there = {program: words for program, words in checks.items() if shutil.which(program, path=path)}
    for words in there.values():
        read = subprocess.run(words, capture_output=True, text=True, env={"PATH": path}, check=False)
        assert read.returncode == 0, (words, read.stdout, read.stderr)
    if not there:
        pytest.skip("none of nginx-light, bind9-utils, chrony is installed")


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
