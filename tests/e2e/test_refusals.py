"""Bad input and dry runs: a clear error with place and remedy, the right exit code, and not one packet sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

INVENTORY = """
all:
  vars: {bmc_port: 26123, bmc_user: admin, bmc_password_file: password, ansible_port: 26122, rack: r1}
  children:
    dns: {hosts: {dns1: {bmc_address: 127.9.0.1, ansible_host: 127.9.1.1}}}
    web: {hosts: {web1: {bmc_address: 127.9.0.2, ansible_host: 127.9.1.2}}}
"""
PLAN = {
    "name": "small",
    "environment": "lab",
    "site": {"bmc_networks": ["127.9.0.0/24"], "host_networks": ["127.9.1.0/24"]},
    "inventory": "hosts.yml",
    "groups": {"dns": {"hosts": "dns"}, "web": {"hosts": "web", "requires": ["dns"]}},
}
Plan = dict[str, object]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    write(tmp_path, PLAN)
    return tmp_path


def write(site: Path, plan: object) -> Path:
    (site / "plan.yml").write_text(plan if isinstance(plan, str) else yaml.safe_dump(plan, sort_keys=False))
    return site / "plan.yml"


def sealed(allow: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.e2e.sealed", allow, "--", *map(str, words)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def changed(**changes: object) -> Callable[[Path], Path]:
    return lambda site: write(site, {**PLAN, **changes})


def unreadable_vault(site: Path) -> Path:
    text = (site / "hosts.yml").read_text().replace("bmc_password_file: password, ", "")
    (site / "hosts.yml").write_text(text)
    (site / "group_vars").mkdir()
    (site / "group_vars" / "all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3132\n")
    return site / "plan.yml"


def no_password(site: Path) -> Path:
    (site / "password").unlink()
    return site / "plan.yml"


def open_password(site: Path) -> Path:
    (site / "password").chmod(0o644)
    return site / "plan.yml"


def a_directory(site: Path) -> Path:
    (site / "folder").mkdir()
    return site / "folder"


@pytest.mark.parametrize(
    ("name", "prepare", "words", "code", "said"),
    [
        ("empty plan", lambda site: write(site, ""), (), 2, ["plan.yml", "empty"]),
        ("no such plan", lambda site: site / "nowhere.yml", (), 2, ["nowhere.yml"]),
        ("directory", a_directory, (), 2, ["folder", "directory"]),
        (
            "unknown group",
            changed(groups={"web": {"hosts": "web", "requires": ["dsn"]}, "dns": {"hosts": "dns"}}),
            (), 2, ["plan.yml:", "dsn", "dns"],
        ),
        (
            "cycle",
            changed(groups={a: {"hosts": a, "requires": [b]} for a, b in (("dns", "web"), ("web", "dns"))}),
            (), 2, ["plan.yml:", "dns", "web", "cycle"],
        ),
        (
            "outside the site",
            changed(site={"bmc_networks": ["127.8.0.0/24"], "host_networks": ["127.9.1.0/24"]}),
            (), 2, ["plan.yml:", "outside", "127.9.0.1"],
        ),
        ("missing password", no_password, (), 2, ["password"]),
        ("password for all to read", open_password, (), 2, ["chmod"]),
        ("unreadable vault", unreadable_vault, (), 2, ["vault"]),
        ("empty limit", lambda site: site / "plan.yml", ("--limit", ""), 2, ["empty", "never means all"]),
        ("limit of nobody", lambda site: site / "plan.yml", ("--limit", "mail"), 2, ["mail"]),
        ("limit outside the plan", changed(groups={"dns": {"hosts": "dns"}}), ("--limit", "web"), 2, ["web"]),
        ("unknown key", changed(gruops={}), (), 2, ["plan.yml:", "gruops"]),
        ("unknown gate", lambda site: site / "plan.yml", ("--approve", "power=kim"), 2, ["power"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_place_and_remedy(
    site: Path, name: str, prepare: Callable[[Path], Path], words: tuple[str, ...], code: int, said: list[str]
) -> None:
    plan = prepare(site)
    done = sealed("ansible", "run", plan, *words, cwd=site)
    assert "SEALED" not in done.stderr, name
    assert done.returncode == code, done.stderr
    assert "remedy:" in done.stderr, name
    for word in said:
        assert word in done.stderr, name
    assert done.stdout == ""
    assert not list(site.glob("runs/*/journal.sqlite"))


def test_all_errors_of_a_plan_come_at_once(site: Path) -> None:
    groups = {"dns": {"hosts": "dns", "requires": ["nobody"]}, "web": {"hosts": "wbe", "tier": "first"}}
    done = sealed("ansible", "plan", write(site, {**PLAN, "groups": groups, "extra": 1}), cwd=site)
    assert done.returncode == 2
    assert done.stderr.count("error") >= 2


def test_detailed_exit_codes_tell_error_from_something_to_do(site: Path) -> None:
    plan = site / "plan.yml"
    assert sealed("ansible", "plan", plan, "--detailed-exitcode", cwd=site).returncode == 2
    assert sealed("ansible", "plan", site / "nowhere.yml", "--detailed-exitcode", cwd=site).returncode == 1


def test_production_needs_a_snapshot_and_the_typed_name(site: Path) -> None:
    plan = write(site, {**PLAN, "environment": "production"})
    without = sealed("nothing", "run", plan, "--confirm", "small", cwd=site)
    assert without.returncode == 2, without.stderr
    assert "bootorch inventory snapshot" in without.stderr
    assert sealed("ansible", "inventory", "snapshot", plan, cwd=site).returncode == 0
    for words in ((), ("--confirm", "smal"), ("--confirm", "")):
        unsure = sealed("nothing", "run", plan, *words, cwd=site)
        assert unsure.returncode == 6, unsure.stderr
        assert "--confirm small" in unsure.stderr
    (site / "hosts.yml").write_text(INVENTORY + "\n# changed\n")
    stale = sealed("nothing", "run", plan, "--confirm", "small", cwd=site)
    assert stale.returncode == 6, stale.stderr
    assert "hosts.yml" in stale.stderr


def test_dry_run_opens_no_socket_and_starts_no_process(site: Path) -> None:
    plan = site / "plan.yml"
    without = sealed("nothing", "run", "--dry-run", plan, cwd=site)
    assert without.returncode == 2
    assert "bootorch inventory snapshot" in without.stderr
    assert sealed("ansible", "inventory", "snapshot", plan, cwd=site).returncode == 0
    done = sealed("nothing", "run", "--dry-run", plan, cwd=site)
    assert done.returncode == 0, done.stderr
    assert "dns" in done.stdout
    assert "web" in done.stdout
    again = sealed("nothing", "run", "--dry-run", plan, "--events", "-", cwd=site)
    assert again.stdout == sealed("nothing", "run", "--dry-run", plan, "--events", "-", cwd=site).stdout
    assert again.stdout.count("\n") > 10
    assert not (site / "runs").exists()


def test_the_seal_holds() -> None:
    """The guard itself can fail a test: a run that would send is caught."""
    code = "from tests.e2e.sealed import seal; seal(True); import socket; socket.socket()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 99


def test_a_plan_tells_what_its_playbooks_want_and_which_servers_they_share(site: Path) -> None:
    (site / "web.yml").write_text(
        "- hosts: all\n  tasks:\n    - ansible.builtin.get_url: {url: 'https://downloads.nginx.org/x', dest: /x}\n"
        "    - ansible.builtin.pip: {name: flask}\n"
    )
    (site / "hosts.yml").write_text(INVENTORY.replace("rack: r1}", "rack: r1, artefact_server: apt-1}"))
    groups = {"dns": {"hosts": "dns"}, "web": {"hosts": "web", "requires": ["dns"], "redeploy": ["web.yml"]}}
    slots = {"artefact_server": {"limit": 8, "adaptive": True}}
    plan = write(site, {**PLAN, "groups": groups, "limits": {"slots": slots}})
    command = [sys.executable, "-m", "bootorch.app", "plan", str(plan)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "web.yml:4: pip asks pypi.org" in " ".join(said.split())
    assert "web.yml:3: get_url wants downloads.nginx.org" in " ".join(said.split())
    assert "8 hosts of one artefact_server are redeployed at the same time" in " ".join(said.split())
    assert "50" in said, "forks that the plan does not name"
