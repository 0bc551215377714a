"""The process of one slice: ``python -m bootorch.drivers.redeploy_worker``, started by ``drivers.redeploy``.

It reads one JSON line (``Order``) from stdin, runs ansible-playbook with ansible-runner, prints one ``SliceReport`` on
stdout, and ends. Stdin stays open as the leash: when it closes, the driver is gone or has changed its mind, by whatever
way it went (kill -9 included), and everything below this process is killed at once. The same when nothing comes over it
for ``leash_s``: then the driver is stopped, and another one may have taken the run. Nothing of a run stays behind: no
process, no file.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, TypedDict

from bootorch.drivers import processes
from bootorch.drivers.redeploy_slice import MARK, SliceReport

HIDDEN = "output hidden (no_log)"
_MESSAGE_LIMIT_CHARS = 400  # a failing task's message on a report's line; `assert` and apt's messages stay below
ORDER_S = 15.0  # a driver that was stopped before it gave its order is waited for no longer
_STATS = ("changed", "dark", "failures", "processed", "rescued")


class Order(TypedDict):
    directory: str  # this slice's own, mode 0700: inventory and artifacts, removed at the end
    control_directory: str  # of ssh's sockets, whose paths must be short (unix(7): 108 bytes); removed at the end
    playbook: str
    forks: int
    timeout_s: float
    leash_s: float
    inventory: dict[str, Any]


class Collector:
    """Keeps of the events what the report needs. The handler does nothing slow: ansible-runner calls it between two
    reads of ansible-playbook's output, and unread output ends in a timeout of pexpect (ansible-runner #1343)."""

    def __init__(self) -> None:
        self.report = SliceReport(end="error", stats=None, trouble={}, task="", error="")

    def __call__(self, event: dict[str, Any]) -> bool:
        """False: no file for this event (ansible-runner writes one for each by default)."""
        data = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_stats" if data:
                self.report["stats"] = {name: data.get(name) or {} for name in _STATS}
            case "playbook_on_task_start":
                self.report["task"] = one_line(str(data.get("task") or ""))
            case "runner_on_failed" if not data.get("ignore_errors"):
                self.report["trouble"][data["host"]] = describe_failure(data)
            case "runner_on_unreachable":
                self.report["trouble"][data["host"]] = describe_failure(data)
            case "verbose" | "error" | "system_warning" | None:
                self._error(str(event.get("stdout") or ""))
        return False

    def _error(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(("ERROR", "[ERROR]")):
                self.report["error"] = one_line(line)


def describe_failure(data: dict[str, Any]) -> str:
    """``TASK: MESSAGE`` of a failed or unreachable result. What no_log hides stays hidden."""
    task = one_line(str(data.get("task") or "a task"))
    return f"{task}: {one_line(_message(data.get('res') or {}))}"


def _message(result: dict[str, Any]) -> str:
    if "censored" in result:
        return HIDDEN
    for item in result.get("results") or []:  # of a loop, the first item that failed
        if isinstance(item, dict) and ("censored" in item or item.get("failed")):
            return _message(item)
    message = str(result.get("msg") or "")
    said = str(result.get("stderr") or result.get("module_stderr") or "").strip()
    if said and said.splitlines()[-1] not in message:
        message = f"{message} ({said.splitlines()[-1]})" if message else said.splitlines()[-1]
    return message or "failed without a message"


def one_line(text: str) -> str:
    line = " ".join(text.replace("@@@@@", "").split())  # the frame around ssh's warning of a changed host key
    return line if len(line) <= _MESSAGE_LIMIT_CHARS else line[: _MESSAGE_LIMIT_CHARS - 1] + "…"


class Leash(threading.Thread):
    """Kills what is below when the driver lets go of stdin or the deadline passes. A thread, for the main one sits in
    ansible-runner; polling the parent's id covers a descriptor that another child of the driver inherited."""

    def __init__(self, order: Order) -> None:
        super().__init__(name="leash", daemon=True)
        self._order = order
        self._deadline = time.monotonic() + order["timeout_s"]
        self._parent = os.getppid()
        self._heard_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.deadline_passed = False

    def run(self) -> None:
        while not self._let_go():
            if time.monotonic() >= self._deadline:
                self.deadline_passed = True
                processes.kill_marked(MARK, {self._order["directory"]})
                self._deadline = float("inf")
        processes.kill_marked(MARK, {self._order["directory"]})
        clean(self._order)
        os._exit(1)

    def _let_go(self) -> bool:
        readable, _, _ = select.select([0], [], [], max(0.0, min(1.0, self._deadline - time.monotonic())))
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)  # as the driver's lease, which goes on in a suspend
        if readable:
            if not os.read(0, 4096):
                return True
            self._heard_s = now_s
        return now_s - self._heard_s > self._order["leash_s"] or os.getppid() != self._parent


def clean(order: Order) -> None:
    for name in ("directory", "control_directory"):
        shutil.rmtree(order[name], ignore_errors=True)


def run(order: Order, collector: Collector) -> None:
    """ansible-playbook in a pseudo-terminal of ansible-runner, until it ends or is killed."""
    import ansible_runner

    directory = Path(order["directory"])
    path = directory / "inventory.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(order["inventory"], file)
    ansible_runner.run(
        private_data_dir=str(directory),
        ident="run",
        playbook=order["playbook"],
        inventory=str(path),
        forks=order["forks"],
        event_handler=collector,
        quiet=True,
        # Not only_failed_event_data, which would be less to write: it empties the statistics too (ansible-runner 2.4).
        settings={"suppress_output_file": True, "suppress_ansible_output": True},
        fact_cache_type="memory",
    )


def main() -> int:
    report_fd = os.dup(1)
    os.dup2(2, 1)  # a stray print must not end up in the report
    line = _read_line()
    if not line:
        return 1
    order: Order = json.loads(line)
    collector = Collector()
    try:
        import ansible_runner  # noqa: F401 - is it there?
    except ImportError:
        installed = False
    else:
        installed = shutil.which("ansible-playbook") is not None
    leash = Leash(order)
    leash.start()
    try:
        if installed:
            run(order, collector)
            collector.report["end"] = "deadline" if leash.deadline_passed else "finished"
        else:
            collector.report["end"] = "not_installed"
    finally:
        processes.kill_marked(MARK, {order["directory"]})  # ssh's connection masters outlive ansible-playbook
        clean(order)
    with os.fdopen(report_fd, "w", encoding="utf-8") as out:
        json.dump(collector.report, out)
    return 0


def _read_line() -> bytes:
    """The order, without a buffer that could swallow what the leash waits for; empty where none comes."""
    parts = []
    while select.select([0], [], [], ORDER_S)[0] and (part := os.read(0, 65536)):
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
    return b""


if __name__ == "__main__":
    sys.exit(main())
