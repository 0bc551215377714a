"""Registrations of who drives which BMCs on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootorch.core.errors import SafetyRefusal, ToolError
from bootorch.runtime import sitelock
from bootorch.runtime.sitelock import Owner, driving, endpoint

OTHERS = """
import sys, time
from pathlib import Path
from bootorch.runtime.sitelock import Owner, driving
import os
owner = Owner("run web", os.getpid(), "kim", "noon", "/runs/web", sys.argv[2])
with driving(owner, {name: name for name in sys.argv[3:]}, Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
MINE = Owner("run mail", os.getpid(), "lee", "now", "/runs/mail", "1:1")


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that drives three BMCs."""
    words = [sys.executable, "-c", OTHERS, str(tmp_path), "2:2", "10.0.0.1:623", "10.0.0.2:623", "10.0.0.3:6230"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_same_bmcs_are_refused_by_address_and_port(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    bmcs = {"10.0.0.2:623": "web2", "10.0.0.3:623": "web3", "10.0.0.9:623": "web9"}
    with (
        pytest.raises(
            SafetyRefusal, match=f"1 of these 3 hosts is being run by process {other.pid}: run web, by kim"
        ) as e,
        driving(MINE, bmcs, tmp_path),
    ):
        raise AssertionError("two drivers")
    (problem,) = e.value.problems
    assert problem.hosts == ("web2",)
    assert "/runs/web" in problem.remedy
    with driving(MINE, {"10.0.0.3:623": "web3"}, tmp_path):  # another port of that address
        pass


def test_another_process_of_the_same_run_is_its_leases_concern(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with driving(MINE._replace(ident="2:2"), {"10.0.0.1:623": "web1"}, tmp_path):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    with driving(MINE, {"10.0.0.1:623": "web1"}, tmp_path):
        mine = [path.name for path in tmp_path.glob("bootorch-*")]
        assert len(mine) == 1
        assert mine[0].startswith(f"bootorch-{os.getpid()}-")
    assert not list(tmp_path.glob("bootorch-*"))


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    words = [sys.executable, "-c", OTHERS, str(tmp_path), "2:2", "10.0.0.1:623"]
    racers = []
    for number in range(4):
        words[4] = f"2:{number}"
        racers.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    said = []
    for racer in racers:
        assert racer.stdout is not None
        said.append(racer.stdout.readline())
    for racer in racers:
        racer.kill()
        racer.communicate()
    assert sorted(said) == ["", "", "", "held\n"]


def test_what_strangers_put_there_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "bootorch-1-1").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "bootorch-1-2")
    (tmp_path / "bootorch-1-3").mkdir()
    (tmp_path / "bootorch-1-4").write_text("rubbish\n10.0.0.1:623")
    (tmp_path / "somebody-else").write_text("x")
    with driving(MINE, {"10.0.0.1:623": "web1"}, tmp_path):
        assert Path("/etc/passwd").exists()
        assert not (tmp_path / "bootorch-1-4").exists(), "held by nobody"
        assert (tmp_path / "somebody-else").exists()


def test_rubbish_that_somebody_holds_is_refused_without_a_name(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "bootorch-1-4"
    path.write_text("rubbish\n10.0.0.1:623")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SafetyRefusal, match="another version"), driving(MINE, {"10.0.0.1:623": "web1"}, tmp_path):
            raise AssertionError("two drivers")


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be registered"), driving(MINE, {}, tmp_path / "missing"):
        raise AssertionError("registered nowhere")


def test_the_place_is_the_same_for_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared"
    private.mkdir(mode=0o755)
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(sitelock, "PLACES", (private, shared))
    with driving(MINE, {"10.0.0.1:623": "web1"}):
        (found,) = shared.glob("bootorch-*-*")
        assert found.stat().st_mode & 0o777 == 0o644, "others must see it, and only see it"
    monkeypatch.setattr(sitelock, "PLACES", (private, tmp_path / "missing"))
    with pytest.raises(ToolError, match="neither"), driving(MINE, {}):
        raise AssertionError("registered nowhere")


def test_addresses_are_written_one_way() -> None:
    assert endpoint("FE80::1", 623) == endpoint("fe80::1", 623)
    assert endpoint("10.0.0.1", 623) != endpoint("10.0.0.1", 624)
