"""Work shared out to forked processes: each task in a process of its own, which has everything that was loaded."""

from __future__ import annotations

import ctypes
import os
import pickle
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from bootorch.core.errors import Problem, ToolError

Task = TypeVar("Task")
Result = TypeVar("Result")

_READ = 1 << 16
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends (prctl(2), PR_SET_PDEATHSIG; Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


def share_out(tasks: Sequence[Task], work: Callable[[Task], Result], jobs: int) -> list[Result]:
    """``work`` of every task, in the order of the tasks, at most ``jobs`` at once.

    A fork per task rather than a pool: what a task changes (a whole run's state) is gone with its process, so tasks
    cannot touch each other and memory does not grow. Results are pickled; keep them small. Raises ToolError when a
    task fails or its process is killed, with the others ended.
    """
    results: dict[int, Result] = {}
    running: dict[int, tuple[int, int, bytearray]] = {}  # read end -> task's index, process, what it wrote so far
    waiting = list(range(len(tasks)))[::-1]
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < max(1, jobs):
                    index = waiting.pop()
                    descriptor, process = _fork(tasks[index], work)
                    running[descriptor] = (index, process, bytearray())
                    selector.register(descriptor, selectors.EVENT_READ)
                for key, _ in selector.select():
                    index, process, written = running[key.fd]
                    if chunk := os.read(key.fd, _READ):
                        written += chunk
                        continue
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    del running[key.fd]
                    _, status = os.waitpid(process, 0)
                    results[index] = _result(bytes(written), status)
        finally:
            for descriptor, (_, process, _) in running.items():
                os.close(descriptor)
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
    return [results[index] for index in range(len(tasks))]


def _fork(task: Task, work: Callable[[Task], Result]) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        os.close(write_end)
        return read_end, process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says what was interrupted
        end_with_parent()
        os.close(read_end)
        try:
            said = pickle.dumps((True, work(task)))
            code = 0
        except Exception:  # noqa: BLE001 - whatever it was, the parent has to hear of it
            said = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(said)
    finally:
        os._exit(code)  # nothing of the parent's is flushed or closed twice


def _result(written: bytes, status: int) -> Result:  # type: ignore[type-var]
    if not written:
        signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        how = f"was killed by signal {signalled}" if signalled else f"ended with {os.waitstatus_to_exitcode(status)}"
        remedy = "out of memory? give fewer --jobs" if signalled == signal.SIGKILL else "run it again with --jobs 1"
        raise ToolError(Problem(f"a process of the forecast {how}", "", remedy))
    good, value = pickle.loads(written)  # noqa: S301 - written by our own child a moment ago
    if not good:
        last = str(value).strip().splitlines()[-1]
        remedy = "this is a fault of bootorch: run it again with --debug --jobs 1 and report what it prints"
        raise ToolError(Problem(f"a sample failed: {last}", "", remedy)) from RuntimeError(str(value))
    return value  # type: ignore[no-any-return]
