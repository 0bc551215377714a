"""Ending everything that a piece of work (a slice, a command on a lab host) started, in whatever session it is now.

A process group is not enough: ansible-core gives each of its forks a session (``WorkerProcess._detach``), and ssh's
connection masters detach themselves. What all of them keep is the environment they were started with, so the work is
marked there (proc(5), ``/proc/PID/environ``). Linux only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set
from pathlib import Path

# A killed process may have forked between the listing and the signal; its children are found in the next round. Three
# rounds are what a burst of forks took in practice; the bound is for what cannot be killed (an uninterruptible sleep).
_ROUNDS = 20
_PAUSE_S = 0.05


def marked(variable: str, values: Set[str]) -> list[int]:
    """Ids of the processes that carry ``variable`` with one of ``values`` in their environment, this one left out.

    Processes of other users cannot be read, and are none of ours.
    """
    mine = os.getpid()
    marks = _marks(variable, values)
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and int(entry.name) != mine and _carries(entry, marks)
    ]


def kill_marked(variable: str, values: Set[str]) -> bool:
    """SIGKILL every process that carries such a mark except this one; True when none is left."""
    for _ in range(_ROUNDS):
        found = marked(variable, values)
        if not found:
            return True
        for pid in found:
            _kill(pid, _marks(variable, values))
        time.sleep(_PAUSE_S)
    return not marked(variable, values)


def _marks(variable: str, values: Set[str]) -> frozenset[bytes]:
    return frozenset(f"{variable}={value}".encode() for value in values)


def _carries(process: Path, marks: frozenset[bytes]) -> bool:
    try:
        return not marks.isdisjoint((process / "environ").read_bytes().split(b"\0"))
    except OSError:  # ended meanwhile, or another user's
        return False


def _kill(pid: int, marks: frozenset[bytes]) -> None:
    """By descriptor, and looked at again through it: a number that was taken over by a stranger is never hit."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # ended meanwhile
        return
    try:
        if _carries(Path("/proc") / str(pid), marks):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
