"""Processes by identity: a pid counts only together with its start time, so that a pid used again is never touched."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection
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


def kill_marked(name: str, values: Collection[str]) -> int:
    """Kill every process of ours that was started with ``name=value`` in its environment; how many there were.

    Commands of a lab host may have left their process group (a daemon, an Ansible job with ``async``): the mark in
    their environment stays.
    """
    marks = {f"{name}={value}".encode() for value in values}
    killed: set[int] = set()
    for _ in range(3):  # a process may fork while the list is read
        found = {pid for pid in _own_pids() if pid not in killed and marks & _environment(pid) and _kill(pid, marks)}
        if not found:
            break
        killed |= found
    return len(killed)


def _kill(pid: int, marks: set[bytes]) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not marks & _environment(pid):  # the pid meant another process by the time it was opened
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def _own_pids() -> list[int]:
    user = os.getuid()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(FileNotFoundError, ProcessLookupError):
                if entry.stat().st_uid == user:
                    pids.append(int(entry.name))
    return pids


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()  # gone, or a process that the kernel guards: none of ours
