"""Processes by identity: a pid counts only together with its start time, so that a pid used again is never touched."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """``started``: clock ticks between the kernel's boot and the process's start (proc(5), stat field 22)."""

    pid: int
    started: int


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now; None where there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold blanks and parentheses itself: fields count from after the last one.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else ProcessId(pid, int(fields[18]))


def is_alive(process: ProcessId) -> bool:
    return identify(process.pid) == process


def end(process: ProcessId, timeout_s: float) -> bool:
    """TERM, and KILL after ``timeout_s`` seconds. False when it was not running. Waits until it is gone."""
    try:
        handle = os.pidfd_open(process.pid)  # from here on the pid cannot come to mean another process
    except ProcessLookupError:
        return False
    try:
        if not is_alive(process):
            return False
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience_s)[0]:
                return True
        return True
    finally:
        os.close(handle)
