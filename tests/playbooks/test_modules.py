"""The playbooks' own modules and filter, without Ansible around them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.playbooks.conftest import PLAYBOOKS
from tests.playbooks.made import archive
from tests.playbooks.test_failures import APART

ROLES = PLAYBOOKS / "roles"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


disks = load("base/library/host_disks.py")
network = load("base/library/host_network.py")
images = load("containers/library/container_images.py")
newest = load("database/filter_plugins/newest.py")


# Disks and network


def answer(module: Path, home: Path, **arguments: Any) -> dict[str, Any]:
    """The module in a process with mounts and a network of its own, as Ansible would run it."""
    (home / "bin").mkdir(exist_ok=True)
    apart = home / "bin/python-apart"
    apart.write_text("#!/bin/sh\n" + APART.format(python=sys.executable))
    for directory in ("full", "stuck", "there", "never"):
        (home / directory).mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", apart, module],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    pytest.importorskip("ansible", reason="no ansible-core: pip install 'bootorch[ansible]'")
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urmn", "true"], capture_output=True).returncode:
        pytest.skip("no unshare (util-linux), or no user namespaces")
    return tmp_path


def test_real_mounts_full_read_only_and_missing(apart: Path) -> None:
    (apart / "bin").mkdir()
    (apart / "bin/smartctl").write_text(
        '#!/bin/sh\n[ "$1" = --scan ] && echo "/dev/sdy -d scsi" && echo "/dev/sdz -d scsi" && exit\n'
        '[ "$2" = /dev/sdz ] && exit 8\nexit 0\n'
    )
    (apart / "bin/smartctl").chmod(0o755)
    lines = [f"tmpfs {apart}/{name} tmpfs defaults 0 0\n" for name in ("full", "stuck")]
    (apart / "fstab").write_text(
        "".join([*lines, "# a comment\n", "/dev/sr0 /media auto noauto 0 0\n", "LABEL=s none swap sw 0 0\n"])
    )
    mounts = [f"{apart}/there/", f"{apart}/never"]
    said = answer(ROLES / "base/library/host_disks.py", apart, fstab=f"{apart}/fstab", mounts=mounts, full_percent=100)
    assert said["problems"] == [
        f"{apart}/never is not mounted: is its disk there (lsblk)? mount {apart}/never",
        f"{apart}/full is 100 % full: make room before anything is written there",
        f"{apart}/stuck (tmpfs) is read-only: look for its error (dmesg), fsck it, then remount it",
        "/dev/sdz says that it is failing (smartctl --all /dev/sdz): copy its data, replace it",
    ]


def test_a_read_only_view_is_no_read_only_file_system_and_who_wants_it_read_only_gets_it() -> None:
    mountinfo = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 8:1 /x /view ro,relatime - ext4 /dev/sda1 rw\n"
        "24 22 8:2 / /bad\\040disk rw - xfs /dev/sdb1 ro\n"
        "25 22 8:3 / /usr ro - ext4 /dev/sdc1 ro\n"
        "26 22 7:1 / /snap/x ro - squashfs /dev/loop1 ro\n"
        "27 22 0:9 / /mnt/nfs rw - nfs4 server:/x ro\n"
    )
    mounts = disks.mounts_of(mountinfo)
    fstab = disks.wanted("/dev/sdc1 /usr ext4 ro 0 2\nserver:/x /mnt/nfs nfs4 defaults 0 0\n")
    problems = [text for text in disks.problems_of(mounts, fstab, [], 101) if "read-only" in text]
    assert [text.split(" is ")[0] for text in problems] == ["/bad disk (/dev/sdb1)", "/mnt/nfs (server:/x)"]


def test_a_host_without_network_says_all_that_it_has_not(apart: Path) -> None:
    said = answer(
        ROLES / "base/library/host_network.py",
        apart,
        links=["lo", "eno9"],
        routes=["10.77.0.1"],
        names={"localhost": "192.0.2.7"},
    )
    problems = "\n".join(said["problems"])
    assert "there is no default route" in problems
    assert "there is no interface eno9" in problems
    assert "no route leads to 10.77.0.1 (Network is unreachable)" in problems
    assert "localhost resolves to " in problems
    assert "not to 192.0.2.7: a stale zone, cache or hosts file" in problems


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "switched off: ip link set eno1 up"),
        ({"carrier": "0"}, "has no carrier"),
        ({"carrier": "1", "speed": "100"}, "runs at 100 Mbit/s, not 10000"),
        ({"carrier": "1", "speed": "-1"}, ""),
        ({"carrier": "1", "speed": "25000"}, ""),
    ],
)
def test_a_link_by_what_sysfs_says(tmp_path: Path, files: dict[str, str], says: str) -> None:
    (tmp_path / "eno1").mkdir()
    for name, text in files.items():
        (tmp_path / "eno1" / name).write_text(text + "\n")
    problems = network.link_problems("eno1", 10000, tmp_path)
    assert [says in problem for problem in problems] == ([True] if says else [])


def test_routes_and_bonds_as_the_kernel_prints_them() -> None:
    routes = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eno1\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eno2\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    routes6 = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"
    assert network.default_interfaces(routes, routes6) == ["eno1"]
    bond = (
        "Ethernet Channel Bonding Driver: v6.1\n\nBonding Mode: IEEE 802.3ad\nMII Status: up\n\n"
        "Slave Interface: eno1\nMII Status: up\nSpeed: 25000 Mbps\n\nSlave Interface: eno2\nMII Status: down\n"
    )
    assert network.bond_problems("bond0", bond) == [
        "bond0 has lost eno2: it works, and has no spare; look at cable and switch port"
    ]
    assert network.bond_problems("bond0", bond.replace("down", "up")) == []


# Storage


@pytest.mark.parametrize(
    ("quorum", "up"), [("0,1,2 a,b,c", ["a", "b", "c"]), ("0,2 mon-1,mon.3", ["mon-1", "mon.3"]), ("1 b", ["b"])]
)
def test_members_of_a_ceph_quorum_are_counted(quorum: str, up: list[str]) -> None:
    """As ``ceph mon stat`` prints them, with both addresses of each."""
    clusters = yaml.safe_load((ROLES / "storage/vars/main.yml").read_text())["storage_clusters"]
    addresses = ",".join(f"{name}=[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]" for name in "abc")
    said = f"e3: 3 mons at {{{addresses}}} removed_ranks: {{}}, election epoch 6, leader 0 a, quorum {quorum}"
    assert re.findall(clusters["ceph"]["member"], said, re.MULTILINE) == up


# Images


def test_the_id_in_an_archive_of_either_form(tmp_path: Path) -> None:
    inside = archive(tmp_path / "docker.tar", "registry.internal/app:1", b"app")
    assert images.id_in_archive(tmp_path / "docker.tar") == inside
    (tmp_path / "torn.tar").write_bytes((tmp_path / "docker.tar").read_bytes()[:600])
    with pytest.raises(images.Trouble, match="copy it again"):
        images.id_in_archive(tmp_path / "torn.tar")


@pytest.mark.peer
def test_the_id_in_an_oci_archive_is_what_podman_says_after_loading_it(tmp_path: Path, podman_store: list[str]) -> None:
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")

    def podman(*words: str | Path) -> str:
        done = subprocess.run(["podman", *podman_store, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    name = "registry.internal/app:1"
    archive(tmp_path / "docker.tar", name, b"app")
    podman("load", "-q", "-i", tmp_path / "docker.tar")
    podman("save", "-q", "--format", "oci-archive", "-o", tmp_path / "oci.tar", name)
    podman("rmi", "-f", name)
    podman("load", "-q", "-i", tmp_path / "oci.tar")
    assert images.id_in_archive(tmp_path / "oci.tar") == podman("image", "inspect", "--format", "{{.Id}}", name)


# Newest copy


def choose(said: dict[str, str], serving: tuple[str, ...] = (), kind: str = "number", **more: Any) -> tuple[str, str]:
    choice = newest.newest(said, serving, more.pop("members", sorted(said)), kind, **more)
    return choice["first"], choice["problem"]


@pytest.mark.parametrize(
    ("kind", "said", "first"),
    [
        ("number", {"a": "u 5", "b": "u 11", "c": "u 7"}, "b"),
        ("number", {"b": "u 5", "a": "u 5"}, "a"),
        ("lsn", {"a": "u 1:0/FF000000", "b": "u 1:1/0", "c": "u 1:0/0"}, "b"),
        ("lsn", {"a": "u 1:0/100", "b": "u 2:0/100"}, "b"),
        ("gtid", {"a": "u X:1-5", "b": "u X:1-3:4-7,Y:1", "c": "u -"}, "b"),
    ],
)
def test_the_newest_copy_starts(kind: str, said: dict[str, str], first: str) -> None:
    assert choose(said, kind=kind) == (first, "")


@pytest.mark.parametrize(
    ("said", "more", "says"),
    [
        ({"a": "u 5", "b": "v 5"}, {}, "copies of different clusters, a: u, b: v"),
        ({"a": "u 5 x", "b": "u 5 y"}, {}, "a and b are equally far with different content"),
        ({"a": "u X:1-5,Y:1", "b": "u X:1-6"}, {"kind": "gtid"}, "the copies have diverged"),
        ({"a": "u 2:0/100", "b": "u 1:0/200"}, {"kind": "lsn"}, "the copies have diverged"),
        (
            {"a": "u 5"},
            {"members": ["a", "b"]},
            "the newest copy may be on b, which cannot be read (a at 5): bring it up",
        ),
        ({"a": "u 5", "b": ""}, {}, "may be on b"),
        ({"a": "u 5", "b": "u five"}, {}, "may be on b"),
        ({"a": "u 5", "b": "u 9"}, {"named": "a"}, "a is named, and b has what it has not"),
        ({"a": "u 5"}, {"named": "z"}, "names z, which is none of a"),
        ({"a": "u 5", "b": ""}, {"named": "b"}, "names b, whose copy cannot be read"),
        ({"a": "u 5", "b": "u 9"}, {"serving": ("a",)}, "a serves, and b has what it has not: stop writing to it now"),
    ],
)
def test_who_cannot_tell_says_why_and_what_to_do(said: dict[str, str], more: dict[str, Any], says: str) -> None:
    first, problem = choose(said, **more)
    assert first == ""
    assert says in problem


def test_a_person_may_decide() -> None:
    assert choose({"a": "u 5"}, members=["a", "b"], named="a") == ("a", "")
    assert choose({"a": "u 5", "b": "u 9"}, named="a", accept_loss=True) == ("a", "")
    assert choose({"a": "u 5"}, members=["a", "b"], named="b") == ("", ""), "b was started by another play: a joins"
    assert choose({"a": "u 5"}, members=["a", "b"], served_elsewhere=True) == ("", ""), "so does who is late"
    assert choose({"a": "u 5", "b": "u 9"}, ("b",)) == ("", ""), "it serves already: the others join"
    assert choose({"a": "", "b": "u 9"}, ("a", "b")) == ("", ""), "an open copy need not be readable"
    with pytest.raises(ValueError, match="none of number, lsn, gtid"):
        choose({"a": "u 5"}, kind="age")


transactions = st.sets(st.tuples(st.sampled_from("xyz"), st.integers(1, 12)), max_size=20)


def gtid(done: set[tuple[str, int]]) -> str:
    parts = [f"{source}:{':'.join(str(n) for s, n in sorted(done) if s == source)}" for source in {s for s, _ in done}]
    return ",".join(parts) or "-"


@settings(deadline=None)
@given(transactions, transactions)
def test_a_gtid_set_holds_another_as_a_set_of_transactions_does(
    one: set[tuple[str, int]], other: set[tuple[str, int]]
) -> None:
    assert newest.KINDS["gtid"](gtid(one), gtid(other)) == (one >= other)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcde"), transactions, min_size=1))
def test_whoever_starts_loses_nothing(copies: dict[str, set[tuple[str, int]]]) -> None:
    first, problem = choose({name: f"u {gtid(done)}" for name, done in copies.items()}, kind="gtid")
    assert bool(first) != bool(problem)
    assert bool(first) == any(all(a >= b for b in copies.values()) for a in copies.values())
    if first:
        assert all(copies[first] >= done for done in copies.values())
