"""Snapshots: the inventory once, compact, verified, and without a secret in clear text."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, ToolError
from bootorch.core.model import Environment, Site
from bootorch.core.secret import Secret
from bootorch.core.spec import GroupSpec, PlanSpec
from bootorch.runtime import snapshot as snapshots
from bootorch.runtime import vault
from bootorch.runtime.inventory import find_program
from bootorch.runtime.snapshot import load, parse, render, snapshot_path, stale

needs_ansible = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("ansible") is None, reason="needs ansible-core (PyPI ansible-core)"),
]
PASSWORD = "V4ult-mark"
MARKS = ("M4rk-inline", "M4rk-file", "M4rk-list", "M4rk-nested", "M4rk-host", "4711081512")


def spec_for(directory: Path, *inventory: str) -> PlanSpec:
    site = Site((ip_network("192.0.2.0/24"),), (ip_network("198.51.100.0/24"),))
    paths = tuple(os.path.normpath(directory / path) for path in inventory)
    return PlanSpec("t", Environment.PRODUCTION, site, paths, {"all": GroupSpec("all")}, directory=str(directory))


def fake(hosts: dict[str, dict[str, object]], groups: dict[str, list[str]]) -> bytes:
    meta = {
        "created": "2030-01-01T00:00:00+00:00",
        "bootorch": "1",
        "ansible": "2",
        "paths": ["hosts"],
        "files": {},
        "warnings": [],
    }
    return snapshots.serialise(meta, hosts, groups)  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
names = [f"h{n}" for n in range(4)]
fleets = st.fixed_dictionaries({name: st.dictionaries(st.sampled_from("abcd"), json_values) for name in names})
groupings = st.dictionaries(st.sampled_from(["g1", "g2", "g3"]), st.lists(st.sampled_from(names), unique=True))


@settings(max_examples=40, deadline=None)
@given(fleets, groupings)
def test_what_goes_in_comes_out(hosts: dict[str, dict[str, object]], groups: dict[str, list[str]]) -> None:
    found = parse(fake(hosts, groups), "t").inventory
    assert json.dumps(dict(found.hosts), sort_keys=True) == json.dumps(hosts, sort_keys=True)  # 1, 1.0 and true differ
    assert list(found.hosts) == list(hosts)
    assert {name: list(found.groups[name]) for name in groups} == groups


def test_the_file_is_json_and_shares_what_is_common() -> None:
    hosts: dict[str, dict[str, object]] = {f"h{n}": {"site": "x" * 1000, "n": n} for n in range(1000)}
    content = fake(hosts, {"g": list(hosts)})
    assert set(json.loads(content)) == {"bootorch_snapshot", "sha256", "meta", "inventory"}
    assert len(content) < 40_000


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content.replace(b'"n":1}', b'"n":2}'), "checksum"),
        (lambda content: content[:-10], "checksum"),
        (lambda content: b"", "no snapshot of bootorch"),
        (lambda content: b"{}", "no snapshot of bootorch"),
        (lambda content: content.replace(b'snapshot": 1', b'snapshot": 2', 1), "has format 2"),
    ],
)
def test_damaged_and_newer_files(tmp_path: Path, damage: object, said: str) -> None:
    path = tmp_path / "plan.snapshot.json"
    path.write_bytes(damage(fake({"h": {"n": 1}}, {})))  # type: ignore[operator]
    with pytest.raises(InvalidInput) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.where == str(path)
    assert "make it again" in problem.remedy


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path / "x.snapshot.json")
    assert "bootorch inventory snapshot" in caught.value.problems[0].remedy


def test_writing_is_private_and_whole(tmp_path: Path) -> None:
    path = snapshot_path(tmp_path / "site.yml")
    assert path.name == "site.snapshot.json"
    found = parse(fake({"h": {"n": 1}}, {}), "t")
    path.write_text("old")
    found.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == found
    assert [entry.name for entry in tmp_path.iterdir()] == ["site.snapshot.json"]
    with pytest.raises(ToolError, match="cannot be written"):
        found.write(tmp_path / "missing" / "x.json")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A plan's directory whose inventory has an inline vaulted value and wholly encrypted files."""
    inventory = tmp_path / "inventory"
    (inventory / "group_vars" / "web").mkdir(parents=True)
    (inventory / "host_vars").mkdir()
    password = Secret(PASSWORD)
    inline = vault.encrypt(MARKS[0].encode(), password).replace("\n", "\n  ")
    (inventory / "hosts.yml").write_text("web: {hosts: {w1: {rack: r1}, w2: {rack: r2}}}\n")
    (inventory / "group_vars" / "web" / "vars.yml").write_text(
        f"bmc_password: '{{{{ vault_bmc }}}}'\nother: !vault |\n  {inline}\n"
    )
    secrets = f"""\
vault_bmc: {MARKS[1]}
tokens: [{MARKS[2]}, {{key: {MARKS[3]}, enabled: true}}]
pin: {MARKS[5]}
also: !vault |
  {inline}
"""
    (inventory / "group_vars" / "web" / "vault.yml").write_text(vault.encrypt(secrets.encode(), password))
    (inventory / "host_vars" / "w2.yml").write_text(vault.encrypt(f"vault_bmc: {MARKS[4]}\n".encode(), password))
    (tmp_path / "vp").write_text(PASSWORD + "\n")
    (tmp_path / "vp").chmod(0o600)
    return tmp_path


class TestRendering:
    pytestmark = needs_ansible

    def test_vaulted_values_stay_encrypted(self, site: Path) -> None:
        found = render(spec_for(site, "inventory"), site / "vp")
        path = site / "plan.snapshot.json"
        found.write(path)
        text = path.read_text()
        assert not [mark for mark in (*MARKS, PASSWORD) if mark in text]
        hosts = load(path).inventory.hosts

        def clear(value: object) -> bytes:
            assert isinstance(value, dict)
            return vault.decrypt(value["__ansible_vault"], Secret(PASSWORD))

        assert clear(hosts["w1"]["vault_bmc"]) == MARKS[1].encode()
        assert clear(hosts["w2"]["vault_bmc"]) == MARKS[4].encode()
        assert clear(hosts["w1"]["other"]) == clear(hosts["w1"]["also"]) == MARKS[0].encode()
        assert clear(hosts["w1"]["pin"]) == MARKS[5].encode()
        first, second = hosts["w1"]["tokens"]  # type: ignore[misc]
        assert clear(first) == MARKS[2].encode()
        assert clear(second["key"]) == MARKS[3].encode()  # type: ignore[index, call-overload]
        assert second["enabled"] is True  # type: ignore[index, call-overload]
        assert hosts["w1"]["rack"] == "r1"
        assert hosts["w1"]["bmc_password"] == "{{ vault_bmc }}"

    def test_rendering_twice_gives_the_same_inventory(self, site: Path) -> None:
        spec = spec_for(site, "inventory")
        assert render(spec, site / "vp").inventory.digest == render(spec, site / "vp").inventory.digest

    def test_ansible_reads_what_was_sealed(self, site: Path) -> None:
        value = render(spec_for(site, "inventory"), site / "vp").inventory.hosts["w1"]["vault_bmc"]
        (site / "sealed").write_text(value["__ansible_vault"])  # type: ignore[index, call-overload, arg-type]
        program = find_program("ansible-vault")
        command = [program, "view", "--vault-password-file", str(site / "vp"), str(site / "sealed")]
        env = {"HOME": str(site), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, check=True, timeout=60, env=env)
        assert done.stdout.decode().rstrip() == MARKS[1]

    def test_changes_of_sources_are_named(self, site: Path) -> None:
        spec = spec_for(site, "inventory")
        found = render(spec, site / "vp")
        assert found.host_count == 2
        assert stale(found, spec) == []
        os.utime(site / "inventory" / "hosts.yml", ns=(1, 1))  # another time, the same content
        assert stale(found, spec) == []
        (site / "inventory" / "hosts.yml").write_text("web: {hosts: {w1: {rack: r1}, w2: {rack: r9}}}\n")
        (site / "inventory" / "host_vars" / "w2.yml").unlink()
        (site / "inventory" / "host_vars" / "w3.yml").write_text("a: 1\n")
        (site / "inventory" / "host_vars" / ".hidden.yml").write_text("a: 1\n")
        assert [str(change) for change in stale(found, spec)] == [
            "inventory/host_vars/w2.yml (gone)",
            "inventory/host_vars/w3.yml (new)",
            "inventory/hosts.yml (changed)",
        ]
        assert [str(change) for change in stale(found, spec_for(site, "inventory", "more"))] == [
            "more (not in the snapshot)"
        ]

    def test_vars_beside_an_inventory_file_and_ansible_cfg_are_sources(self, site: Path) -> None:
        (site / "ansible.cfg").write_text("[defaults]\n")
        files = render(spec_for(site, "inventory/hosts.yml"), site / "vp").files
        assert sorted(files) == [
            "ansible.cfg", "inventory/group_vars/web/vars.yml", "inventory/group_vars/web/vault.yml",
            "inventory/host_vars/w2.yml", "inventory/hosts.yml",
        ]  # fmt: skip

    def test_a_password_in_clear_text_is_refused(self, site: Path) -> None:
        (site / "inventory" / "host_vars" / "w1.yml").write_text(
            "bmc_password: Cl3arText\nansible_become_pass: Cl3arText\n"
        )
        with pytest.raises(InvalidInput) as caught:
            render(spec_for(site, "inventory"), site / "vp")
        assert [(p.message, p.hosts) for p in caught.value.problems] == [
            ("bmc_password is in clear text", ("w1",)),
            ("ansible_become_pass is in clear text", ("w1",)),
        ]
        assert "Cl3arText" not in str(caught.value.problems)


def refused(site: Path, *inventory: str, password: str | None = None) -> tuple[str, str, str]:
    with pytest.raises(InvalidInput) as caught:
        render(spec_for(site, *inventory), site / password if password else None)
    (problem,) = caught.value.problems
    return problem.message, problem.where, problem.remedy


def test_no_vault_password(site: Path) -> None:
    message, where, remedy = refused(site, "inventory")
    assert message == "a variables file is encrypted with ansible-vault, and there is no vault password"
    assert where.endswith("group_vars/web/vault.yml")
    assert "--vault-password-file" in remedy


def test_a_wrong_vault_password(site: Path) -> None:
    (site / "wrong").write_text("Wr0ng")
    (site / "wrong").chmod(0o600)
    message, where, _ = refused(site, "inventory", password="wrong")
    assert "does not decrypt" in message
    assert where.endswith("vault.yml")
    assert "Wr0ng" not in message


def test_a_source_encrypted_as_a_whole(site: Path) -> None:
    hosts = site / "inventory" / "hosts.yml"
    hosts.write_text(vault.encrypt(hosts.read_bytes(), Secret(PASSWORD)))
    assert refused(site, "inventory", password="vp")[0] == "an inventory source is encrypted as a whole"


def test_an_encrypted_file_with_broken_yaml_shows_nothing_of_it(site: Path) -> None:
    broken = site / "inventory" / "host_vars" / "w2.yml"
    broken.write_text(vault.encrypt(b"token: [M4rk-broken\n", Secret(PASSWORD)))
    with pytest.raises(InvalidInput) as caught:
        render(spec_for(site, "inventory"), site / "vp")
    assert "holds no valid YAML" in str(caught.value)
    assert caught.value.__cause__ is None
    assert "M4rk" not in str(caught.value.problems)


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    message, _, remedy = refused(tmp_path, "nowhere")
    assert message == f"there is no inventory {tmp_path}/nowhere"
    assert "relative to the plan file" in remedy


def test_an_inventory_directory_around_the_plan(tmp_path: Path) -> None:
    assert "contains the plan" in refused(tmp_path, ".")[0]
