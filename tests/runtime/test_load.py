"""Loading a plan from end to end: with Ansible in peacetime, from files alone in the dark."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from bootorch.core.errors import InvalidInput, SafetyRefusal
from bootorch.runtime.load import find_vault_password_file, load_from_parts, load_plan
from bootorch.runtime.snapshot import render, snapshot_path

EXAMPLE = Path(__file__).parents[2] / "inventory" / "minimal"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("ansible") is None, reason="needs ansible-core (PyPI ansible-core)"),
]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A copy of the example site."""
    shutil.copytree(EXAMPLE, tmp_path / "site", ignore=shutil.ignore_patterns("*.snapshot.json"))
    return tmp_path / "site" / "plan.yml"


def snapshot(plan: Path) -> None:
    render(load_plan(plan).spec).write(snapshot_path(plan))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> NoReturn:
        raise AssertionError("no process and no socket may be opened")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)


def test_the_example_site_is_accepted(plan: Path) -> None:
    loaded = load_plan(plan)
    assert loaded.plan.waves == (("switches",), ("dns",), ("web",), ("canary",))
    assert len(loaded.plan.hosts) == 8
    assert loaded.plan.groups["canary"].hosts == ("web-4",)
    assert loaded.warnings == ()
    assert not loaded.from_file
    assert not snapshot_path(plan).exists()


def test_from_a_snapshot_without_process_and_socket(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_plan(plan)
    snapshot(plan)
    forbid(monkeypatch)
    for required in (True, False):
        loaded = load_plan(plan, require_snapshot=required)
        assert loaded.from_file
        assert loaded.plan == expected.plan


def test_a_required_snapshot_that_is_missing(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    with pytest.raises(InvalidInput) as caught:
        load_plan(plan, require_snapshot=True)
    (problem,) = caught.value.problems
    assert problem.message == "the plan has no snapshot of its inventory"
    assert problem.remedy == f"bootorch inventory snapshot {plan}"


def test_an_outdated_snapshot(plan: Path) -> None:
    snapshot(plan)
    with (plan.parent / "group_vars" / "all.yml").open("a") as file:
        file.write("model: X9\n")
    with pytest.raises(SafetyRefusal) as caught:
        load_plan(plan, require_snapshot=True)
    assert caught.value.exit_code == 6
    assert "group_vars/all.yml (changed)" in caught.value.problems[0].message
    allowed = load_plan(plan, require_snapshot=True, allow_stale=True)
    assert allowed.plan.hosts["web-1"].model == ""
    assert [str(change) for change in allowed.changes] == ["group_vars/all.yml (changed)"]
    assert "out of date" in allowed.warnings[0].message
    assert load_plan(plan).plan.hosts["web-1"].model == "X9"  # not required: rendered again
    plan.write_text(plan.read_text().replace("environment: production", "environment: drill"))
    assert load_plan(plan, require_snapshot=True).changes == allowed.changes  # only production refuses


def test_a_journal_loads_the_same_plan_again(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_plan(plan)
    shutil.rmtree(plan.parent / "group_vars")
    forbid(monkeypatch)
    again = load_from_parts(loaded.plan_text, plan.parent, loaded.snapshot.content)
    assert again.plan == loaded.plan


def test_a_plan_takes_measured_boots_from_a_file_and_a_journal_keeps_them(plan: Path) -> None:
    unknown = load_plan(plan).plan
    plan.write_text(plan.read_text() + "parameters: fitted.yml\n")
    line = len(plan.read_text().splitlines())
    with pytest.raises(InvalidInput) as caught:
        load_plan(plan)
    (problem,) = caught.value.problems
    assert problem.where == f"{plan}:{line}"
    assert "forecast --fit" in problem.remedy
    fitted = plan.with_name("fitted.yml")
    fitted.write_text("hosts: {web-1: 3 minutes}\n")
    with pytest.raises(InvalidInput) as caught:
        load_plan(plan)
    assert caught.value.problems[0].where == f"{fitted}:1"
    fitted.write_text("hosts: {elsewhere-1: 180}\n")
    (warning,) = load_plan(plan).warnings
    assert "none of the plan's hosts" in warning.message
    fitted.write_text("hosts: {web-1: 180, elsewhere-1: 5}\npower: 4\n")
    loaded = load_plan(plan)
    assert loaded.warnings == ()
    assert loaded.plan.hosts["web-1"].boot_s == 184.0
    assert loaded.plan.hosts["web-2"] == unknown.hosts["web-2"]
    assert loaded.plan.digest == unknown.digest  # what a plan says is the same, whatever was measured
    parts = (loaded.plan_text, plan.parent, loaded.snapshot.content)
    fitted.unlink()
    assert load_from_parts(*parts, parameters_text=loaded.parameters_text).plan == loaded.plan


def test_faults_of_files_and_of_the_plan_come_together(plan: Path) -> None:
    text = plan.read_text().replace("    after: [web]", "    after: [wbe]\n    redeploy: [missing.yml]")
    plan.write_text(text)
    line = next(number for number, content in enumerate(text.splitlines(), 1) if "wbe" in content)
    with pytest.raises(InvalidInput) as caught:
        load_plan(plan)
    assert [(p.where, p.message) for p in caught.value.problems] == [
        (f"{plan}:{line + 1}", f"group canary: there is no playbook {plan.parent}/missing.yml"),
        (f"{plan}:{line}", "group canary waits for 'wbe', which is no group of the plan"),
    ]


def test_ansibles_own_variable_for_the_vault_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    assert find_vault_password_file() is None
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/x/vp")
    assert find_vault_password_file() == Path("/x/vp")
    assert find_vault_password_file(Path("/y")) == Path("/y")


def test_names_of_the_hosts_file_are_taken_at_load_and_need_not_be_there_to_read_a_run(plan: Path) -> None:
    hosts = plan.with_name("hosts.yml")
    hosts.write_text(hosts.read_text().replace("bmc_address: 192.0.2.1,", "bmc_address: tor-1.mgmt,"))
    with pytest.raises(InvalidInput, match="bmc_address is no IP address"):
        load_plan(plan)
    plan.write_text(plan.read_text() + "control: {hosts_file: etc-hosts}\n")
    plan.with_name("etc-hosts").write_text("192.0.2.1 tor-1.mgmt\n")
    loaded = load_plan(plan)
    assert loaded.plan.hosts["tor-1"].bmc.address == "192.0.2.1"
    parts = (loaded.plan_text, plan.parent, loaded.snapshot.content)
    assert load_from_parts(*parts).plan == loaded.plan
    plan.with_name("etc-hosts").unlink()
    with pytest.raises(InvalidInput, match="there is no such hosts file"):
        load_from_parts(*parts)
    assert load_from_parts(*parts, to_read=True).plan.hosts["tor-1"].bmc.address == "tor-1.mgmt"


def test_circles_of_the_control_path_are_refused_unless_something_else_is_wrong_too(plan: Path) -> None:
    text = plan.read_text() + "control: {dhcp: dns}\n"
    plan.write_text(text)
    hosts = plan.with_name("hosts.yml")
    hosts.write_text(hosts.read_text().replace("    dns:\n", "    dns:\n      vars: {bmc_address_from: dhcp}\n"))
    with pytest.raises(SafetyRefusal, match=r"dns-\[1-2\] need DHCP for BMC addresses \(dhcp\) from dns"):
        load_plan(plan)
    plan.write_text(text.replace("hosts: dns\n", "hosts: dns\n    redeploy: [absent.yml]\n"))
    with pytest.raises(InvalidInput) as caught:
        load_plan(plan)
    first, second = caught.value.problems
    assert "there is no playbook" in first.message
    assert "cycle through the control path" in second.message
