"""Inventories as people have them, read by the real ansible-inventory."""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput, Problem, ToolError
from bootorch.runtime import inventory as module
from bootorch.runtime.inventory import Rendered, run_ansible_inventory

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("ansible") is None, reason="needs ansible-core (PyPI ansible-core)"),
]

SCRIPT = """#!/bin/sh
echo '{"web": {"hosts": ["w1", "w2"], "vars": {"rack": "'$RACK'"}}, "_meta": {"hostvars": {"w1": {"n": 1}}}}'
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def render(tmp_path: Path, *paths: Path, **options: object) -> Rendered:
    return run_ansible_inventory(paths, directory=tmp_path, **options)  # type: ignore[arg-type]


def refused(tmp_path: Path, *paths: Path) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInput) as caught:
        render(tmp_path, *paths)
    assert caught.value.exit_code == 2
    assert all(problem.remedy and problem.where for problem in caught.value.problems)
    return caught.value.problems


def test_yaml_ini_and_a_directory_with_group_and_host_vars(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for folder in ("group_vars", "host_vars"):
        (site / folder).mkdir(parents=True)
    (site / "a.yml").write_text("all: {children: {web: {hosts: {'web[01:03]': {rack: r1}}}, empty: {}}}\n")
    (site / "b").write_text("lone\n[db]\ndb1 rack=r2\n[prod:children]\nweb\ndb\n")
    (site / "group_vars" / "web.yml").write_text("model: X1\nrack: shadowed\n")
    (site / "host_vars" / "web02.yml").write_text("model: X2\nnested: {list: [1, two, true, null]}\n")
    found = render(tmp_path, site)
    assert found.hosts["web01"] == {"rack": "r1", "model": "X1"}
    assert found.hosts["web02"] == {"rack": "r1", "model": "X2", "nested": {"list": [1, "two", True, None]}}
    assert found.hosts["lone"] == {}
    assert found.groups["web"] == ("web01", "web02", "web03")
    assert found.groups["prod"] == ("web01", "web02", "web03", "db1")
    assert found.groups["ungrouped"] == ("lone",)
    assert found.groups["empty"] == ()
    assert sorted(found.groups["all"]) == sorted(found.hosts) == ["db1", "lone", "web01", "web02", "web03"]
    assert found.ansible.startswith("2.")


def test_a_dynamic_script_gets_only_what_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path / "dynamic", SCRIPT)
    monkeypatch.setenv("RACK", "r7")
    assert render(tmp_path, path).hosts["w2"] == {"rack": ""}
    assert render(tmp_path, path, pass_env=("RACK",)).hosts == {"w1": {"n": 1, "rack": "r7"}, "w2": {"rack": "r7"}}


def test_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\nw1 rack=r1\n")
    (tmp_path / "x.constructed.yml").write_text("plugin: constructed\nkeyed_groups: [{key: rack, prefix: rack}]\n")
    config = tmp_path / "ansible.cfg"
    config.write_text("[inventory]\nenable_plugins = constructed, ini, yaml\n")
    tmp_path.chmod(0o755)
    found = render(tmp_path, tmp_path / "hosts", tmp_path / "x.constructed.yml")
    assert found.groups["rack_r1"] == ("w1",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hosts.yml", "web:\n  host:\n    a: {}\n", "Skipping unexpected key (host) in group (web)"),
        ("hosts.yml", "web: [\n", "Failed to parse inventory with 'yaml' plugin"),
        ("hosts.ini", "[web\na b c=\n", "Completely failed to parse inventory source"),
        ("hosts.ini", "", "the inventory has no host"),
    ],
)
def test_breakage_does_not_look_like_nothing_to_do(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    found = refused(tmp_path, tmp_path / name)
    assert any(said in problem.message for problem in found), found


def test_one_broken_source_among_good_ones_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\nw1\n")
    broken = script(tmp_path / "cmdb", "#!/bin/sh\necho no route to host >&2\nexit 3\n")
    found = refused(tmp_path, tmp_path / "hosts", broken)
    assert any("Inventory script returned non-zero exit code 3" in problem.message for problem in found), found


def test_an_excerpt_of_a_broken_source_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("web:\n  vars:\n    token: S3cretMark\n   x: [\n")
    assert "S3cretMark" not in str(refused(tmp_path, tmp_path / "hosts.yml"))


def test_a_source_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    path = script(tmp_path / "slow", f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/child\nwait\n")
    with pytest.raises(ToolError, match="did not end within 3 s"):
        render(tmp_path, path, timeout_s=3.0)
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_without_ansible_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as caught:
        render(tmp_path, tmp_path / "hosts")
    assert "bootorch[ansible]" in caught.value.problems[0].remedy


def test_no_secret_of_our_environment_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "S3cretMark")
    path = script(
        tmp_path / "env",
        f"#!/bin/sh\nenv > {tmp_path}/seen\ntr '\\0' ' ' < /proc/$PPID/cmdline > {tmp_path}/argv\n" + SCRIPT[10:],
    )
    password = tmp_path / "vp"
    password.write_text("V4ultMark")
    password.chmod(0o600)
    render(tmp_path, path, vault_password_file=password)
    assert "S3cretMark" not in (tmp_path / "seen").read_text()
    assert "V4ultMark" not in (tmp_path / "seen").read_text() + (tmp_path / "argv").read_text()
    assert os.environ["BMC_PASSWORD"] == "S3cretMark"
