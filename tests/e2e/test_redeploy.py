"""The playbooks of this repository, run by a recovery on hosts of a lab: what they changed is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import LabFactory, bootorch


def files(directory: Path) -> dict[str, int]:
    """Everything that playbooks wrote below the hosts' directories, with the time of its last change."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if path.is_file() and not {".ansible", "bin", "tmp"} & set(path.relative_to(directory).parts)
    }


@pytest.mark.slow
def test_playbooks_change_the_lab_once(lab: LabFactory) -> None:
    info = lab(8, redeploy=True, playbook_fails_once=1)
    done = bootorch("run", info.plan, "--json")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    again = [name for name, host in hosts.items() if host["retries"]]
    assert len(again) == 1, "one host's playbook failed once and was run again"
    assert again[0].startswith("web")

    root = info.directory / "hosts"
    for path, said in {
        "switch-01/etc/hosts": "127.",
        "switch-01/etc/motd": "Redeployed by bootorch",
        "dns-01/etc/bind/zones/db.internal": "SOA",
        "dns-01/etc/chrony/chrony.conf": "driftfile",
        "storage-02/etc/systemd/system/srv-data.mount": "[Mount]",
        "database-01/etc/postgresql/15/main/conf.d/60-redeploy.conf": "listen_addresses",
        "deploy-01/etc/systemd/system/deploy-repository.service": "ExecStart",
        "web-01/etc/nginx/conf.d/site.conf": "listen",
        "web-01/srv/www/health": "ok",
    }.items():
        assert said in (root / path).read_text(), path
    written = files(root)

    # Once more over hosts that run: adopted, redeployed because the plan says so, and nothing changes.
    text = info.plan.read_text()
    info.plan.write_text(text.replace("    hosts:", "    adopted: redeploy\n    hosts:"))
    done = bootorch("run", info.plan, "--json")
    assert done.returncode == 0, done.stderr
    assert {host["outcome"] for host in json.loads(done.stdout)["hosts"].values()} == {"adopted"}
    assert files(root) == written
