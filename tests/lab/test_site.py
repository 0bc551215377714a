"""The files that a lab writes: Ansible and our own loader read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
import yaml

from bootorch.core.model import Deadlines, Environment, Quorum, Requirement
from bootorch.lab import control, site
from bootorch.lab.fleet import GROUPS, LabOptions, build
from bootorch.runtime.load import load_plan

OPTIONS = LabOptions(hosts=60, already_on=1, playbook_fails_once=2, redeploy=True, redfish=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return control.prepare(replace(OPTIONS, directory=tmp_path / "lab"))


def test_the_plan_loads_with_its_inventory_and_nothing_to_complain_about(directory: Path) -> None:
    loaded = load_plan(directory / site.PLAN)
    plan, lab = loaded.plan, site.read_lab(directory)
    assert not loaded.warnings
    assert plan.environment is Environment.LAB
    assert list(plan.groups) == list(GROUPS)
    assert len(plan.hosts) == 60
    assert Requirement("storage", Quorum(share=0.5), across_racks=2) in plan.groups["database"].requires
    assert plan.groups["web"].deadlines == Deadlines(bmc=12, power=12, boot=25, ready=20, redeploy=300, verify=20)
    assert all(Path(book).is_file() for group in plan.groups.values() for book in group.redeploy)
    assert all(group.redeploy for group in plan.groups.values())
    entry = next(host for host in lab.hosts if host.name == "storage-02")
    host = plan.hosts["storage-02"]
    assert (host.bmc.address, host.bmc.port, host.bmc_user) == (entry.bmc_address, lab.bmc_port, "admin")
    assert (host.address, host.ssh_port, host.ssh_user) == (entry.address, lab.ssh_port, "lab")
    assert (host.rack, host.feed, host.model, host.firmware) == (entry.rack, entry.feed, "lab-2u", "1.0")
    assert (host.watts_boot_peak, host.watts_steady) == entry.watts
    assert host.ssh_key == str(directory / site.USER_KEY)
    assert host.boot_evidence == "bin/boot-evidence"
    assert loaded.spec.known_hosts == str(directory / site.KNOWN_HOSTS)
    failing = [h.name for h in lab.hosts if h.playbook_fails_once]
    assert len(failing) == 2
    assert [n for n, v in loaded.inventory.hosts.items() if v.get("drill_fail_once") is True] == sorted(failing)


def test_feeds_have_a_budget_that_holds_everybody_at_rest_and_not_everybody_at_once(directory: Path) -> None:
    feeds = yaml.safe_load((directory / site.PLAN).read_text())["limits"]["feeds"]
    hosts = site.read_lab(directory).hosts
    assert set(feeds) == {"hall", "hall/a", "hall/b"}
    for feed, limit in feeds.items():
        on_it = [host for host in hosts if host.feed.startswith(feed)]
        assert sum(host.watts[1] for host in on_it) < limit["budget_watts"] < sum(host.watts[0] for host in on_it)


def test_only_their_owner_reads_the_secrets_and_no_other_file_holds_one(directory: Path) -> None:
    secrets = [(directory / path).read_text().strip() for path in site.PRIVATE]
    for path in directory.rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0
        elif path.relative_to(directory) in site.PRIVATE:
            assert path.stat().st_mode & 0o777 == 0o600
        else:
            assert not any(secret in path.read_text() for secret in secrets)


def test_known_hosts_lists_a_key_of_its_own_for_every_host(directory: Path) -> None:
    lab = site.read_lab(directory)
    known = asyncssh.read_known_hosts(str(directory / site.KNOWN_HOSTS))
    keys = set()
    for host in lab.hosts:
        trusted = known.match("", host.address, lab.ssh_port)[0]
        assert len(trusted) == 1
        keys.add(trusted[0].export_public_key())
    assert len(keys) == 60


def test_boots_longer_than_usual_get_a_longer_deadline() -> None:
    assert site.deadlines(OPTIONS).boot == 25.0
    assert site.deadlines(replace(OPTIONS, boot_seconds=(60.0, 120.0))).boot == 190.0


def test_lab_json_gives_the_same_hosts_back(directory: Path) -> None:
    assert site.read_lab(directory).hosts == build(OPTIONS).hosts


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 9}'])
def test_a_lab_json_that_is_none_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / site.LAB_JSON).write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - whichever words
        site.read_lab(tmp_path)
