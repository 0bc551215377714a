"""Starting, stopping and looking at a lab: what it refuses, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootorch.core.errors import Exit, InvalidInput, OperatorError, ToolError
from bootorch.core.secret import Secret
from bootorch.lab import control, site
from bootorch.lab.fleet import LabOptions
from bootorch.lab.process import ProcessId, identify, is_alive
from tests.lab.conftest import Start


def said(error: pytest.ExceptionInfo[OperatorError]) -> str:
    (problem,) = error.value.problems
    assert problem.where
    assert problem.remedy
    return problem.message


def until_gone(process: ProcessId) -> bool:
    for _ in range(200):
        if not is_alive(process):
            return True
        time.sleep(0.05)
    return False


def test_up_status_down_leave_no_process_no_socket_no_file(start: Start, tmp_path: Path) -> None:
    lab = start(already_on=1)
    info = lab.info
    assert info.running
    assert info.pid is not None
    process = identify(info.pid)
    assert process is not None
    assert control.status(info.directory) == info
    assert (info.hosts, dict(info.outcomes)) == (8, {"ready": 7, "adopted": 1})
    assert info.plan.is_file()
    gone = control.down(info.directory)
    assert (gone.stopped, gone.left) == (True, ())
    assert not is_alive(process)
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("0.0.0.0", info.bmc_port))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sessions that have ended linger in TIME_WAIT
        tcp.bind(("0.0.0.0", info.ssh_port))


def test_two_labs_live_side_by_side_and_one_ends_without_the_other(start: Start) -> None:
    one, two = start(), start()
    assert one.info.bmc_port != two.info.bmc_port
    control.down(one.directory)
    assert control.status(two.directory).running


def test_a_second_up_is_refused_and_the_first_goes_on(start: Start) -> None:
    lab = start()
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, lab.directory))
    assert "a lab that is running is there already" in said(caught)
    assert caught.value.exit_code is Exit.INVALID
    assert control.status(lab.directory) == lab.info


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, tmp_path))
    assert "not empty" in said(caught)
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, tmp_path / "thesis.txt"))
    assert "not a directory" in said(caught)
    for command in (control.down, control.status):
        with pytest.raises(InvalidInput) as caught:
            command(tmp_path)
        assert "no lab is there" in said(caught)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_paths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, tmp_path / "my lab"))
    assert "blanks" in said(caught)
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, tmp_path / "not" / "there"))
    assert "cannot be made" in said(caught)
    assert list(tmp_path.iterdir()) == []


def test_ports_in_use_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        with pytest.raises(ToolError) as caught:
            control.up(LabOptions(8, tmp_path / "lab", bmc_port=taken.getsockname()[1]))
    assert "UDP port" in said(caught)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with pytest.raises(ToolError) as caught:
            control.up(LabOptions(8, tmp_path / "lab", ssh_port=taken.getsockname()[1]))
    assert "TCP port" in said(caught)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_the_labs_stays_and_is_named(start: Start) -> None:
    lab = start()
    (lab.directory / "report.html").write_text("kept")
    (lab.directory / "inventory" / "mine.yml").write_text("kept")
    gone = control.down(lab.directory)
    assert [path.name for path in gone.left] == ["inventory", "report.html"]
    assert (lab.directory / "inventory" / "mine.yml").read_text() == "kept"


def test_a_directory_that_was_there_before_stays(start: Start, tmp_path: Path) -> None:
    (tmp_path / "lab0").mkdir()
    lab = start()
    control.down(lab.directory)
    assert list(tmp_path.iterdir()) == [lab.directory]
    assert list(lab.directory.iterdir()) == []


def test_a_lab_whose_server_was_killed_is_known_as_ended_and_can_be_removed(start: Start) -> None:
    lab = start()
    assert lab.info.pid is not None
    process = identify(lab.info.pid)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert until_gone(process)
    state = control.status(lab.directory)
    assert (state.running, state.pid) == (False, None)
    with pytest.raises(InvalidInput) as caught:
        control.up(LabOptions(8, lab.directory))
    assert "has ended" in said(caught)
    assert not control.down(lab.directory).stopped
    assert not lab.directory.exists()


def test_another_process_with_the_servers_pid_is_left_alone(start: Start) -> None:
    lab = start()
    assert lab.info.pid is not None
    process = identify(lab.info.pid)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert until_gone(process)
    with subprocess.Popen(["sleep", "60"]) as other:
        started = identify(other.pid)
        assert started is not None
        (lab.directory / site.LOCK).write_text(f"{other.pid} {started.started}\n")
        assert not control.status(lab.directory).running
        assert not control.down(lab.directory).stopped
        assert other.poll() is None
        other.kill()


def test_a_forgotten_lab_ends_by_itself(start: Start) -> None:
    lab = start(lifetime_s=0.5)
    process = identify(lab.info.pid or 0)
    assert process is None or until_gone(process)
    assert not control.status(lab.directory).running
    log = [json.loads(line)["event"] for line in (lab.directory / site.SERVER_LOG).read_text().splitlines()]
    assert log[-2:] == ["lifetime over", "lab down"]


def test_a_password_of_ones_own_is_in_one_file_only(start: Start) -> None:
    lab = start(password=Secret("marked-Secret-42"))
    holders = [p for p in lab.directory.rglob("*") if p.is_file() and "marked-Secret-42" in p.read_text()]
    assert holders == [lab.directory / site.BMC_PASSWORD]
    proc = Path(f"/proc/{lab.info.pid}")
    assert b"marked-Secret-42" not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()


def test_in_the_foreground_it_lives_until_interrupted_and_is_gone_after(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bootorch.lab import control; "
        "from bootorch.lab.fleet import LabOptions; "
        "print(control.foreground(LabOptions(8, Path(sys.argv[1])), lambda i: print(i.running, i.pid, flush=True)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lab")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["True", str(process.pid)]
        process.send_signal(signal.SIGINT)
        assert "LabDown" in process.stdout.read()
        assert process.wait(10) == 0
    assert list(tmp_path.iterdir()) == []
