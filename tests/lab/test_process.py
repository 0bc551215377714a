"""Processes by identity."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bootorch.lab.process import ProcessId, end, identify, is_alive

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_its_pid_and_its_start(child: subprocess.Popen[bytes]) -> None:
    own = identify(child.pid)
    assert own is not None
    assert is_alive(own)
    assert not is_alive(ProcessId(own.pid, own.started + 1))


def test_a_pid_used_again_is_not_touched(child: subprocess.Popen[bytes]) -> None:
    own = identify(child.pid)
    assert own is not None
    assert not end(ProcessId(own.pid, own.started - 1), 1.0)
    assert child.poll() is None
    assert end(own, 5.0)
    assert child.wait(5) == -signal.SIGTERM
    assert not end(own, 1.0)


def test_who_does_not_hear_term_gets_kill() -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own = identify(process.pid)
        assert own is not None
        begin = time.monotonic()
        assert end(own, 0.3)
        assert time.monotonic() - begin >= 0.3
        assert process.wait(5) == -signal.SIGKILL


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as process:
        own = identify(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and left for Popen to reap
        assert identify(process.pid) is None
        assert own is None or not is_alive(own)
