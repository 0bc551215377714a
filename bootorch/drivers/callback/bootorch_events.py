"""What ansible-playbook tells the worker of its slice: Ansible's own display is off, and this plugin in its place.

One JSON line a message, over a pipe whose descriptor is in ``BOOTORCH_EVENTS_FD``: ``["task", NAME]`` when another task
is started, ``["failure", HOST, FAILURE]`` with the fields of ``redeploy_failures.Failure``, and at the end
``["stats", {COUNTER: {HOST: COUNT}}]``. What succeeds is told by the statistics alone, so
that 10,000 results cost nothing.

It imports nothing of bootorch: an ansible-playbook that was installed apart has an interpreter of its own. It also ties
ansible-playbook and its forks to the worker, which may be killed in a way that lets it kill nobody.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
from collections.abc import Mapping
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: bootorch_events
type: stdout
short_description: Failures and statistics for bootorch
description: Writes failures and statistics as JSON lines into the pipe that bootorch reads. Shows nothing.
"""

HIDDEN = "output hidden (no_log)"
HELD_CHARS = 8192  # of each text of a result: it may be gigabytes, for whatever wrote it is broken
_EDGE_CHARS = 1024  # where a text was cut, so much more goes: longer than a secret that could have been cut in two
_PR_SET_PDEATHSIG = 1  # prctl(2)
_prctl = ctypes.CDLL(None).prctl  # looked up once: every fork calls it


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "bootorch_events"

    def __init__(self) -> None:
        super().__init__()
        self._pipe = int(os.environ["BOOTORCH_EVENTS_FD"])
        os.set_inheritable(self._pipe, False)
        self._task = ""
        _die_with_parent()
        os.register_at_fork(after_in_child=_die_with_parent)
        if _nobody_reads(self._pipe):  # the worker was killed before it could take anybody along
            os._exit(1)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        name = _name_of(task)
        if name != self._task:
            self._task = name
            self._tell("task", name)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._tell("failure", result._host.get_name(), failure_of(_name_of(result._task), result._result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._tell("failure", result._host.get_name(), failure_of(_name_of(result._task), result._result))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        names = ("changed", "dark", "failures", "processed", "rescued")
        self._tell("stats", {name: dict(getattr(stats, name)) for name in names})

    def _tell(self, *message: object) -> None:
        rest = json.dumps(message).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._pipe, rest) :]


def _name_of(task: Any) -> str:
    return str(task.name or task.action)


def failure_of(task: str, result: Mapping[str, Any]) -> dict[str, str | int | None]:
    """The fields of ``redeploy_failures.Failure``: bounded, and nothing of what ``no_log`` hides."""
    found = _innermost(result)
    if found is None:
        return {"task": task, "message": HIDDEN, "rc": None, "stderr": "", "stdout": ""}
    rc = found.get("rc")
    return {
        "task": task,
        "message": _text(found.get("msg") or "")[:HELD_CHARS],
        "rc": rc if isinstance(rc, int) else None,
        "stderr": _tail(_text(found.get("stderr") or found.get("module_stderr") or "")),
        "stdout": _tail(_text(found.get("stdout") or found.get("module_stdout") or "")),
    }


def _innermost(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result that failed: of a loop, its first item that did. None where it must not be told."""
    if "censored" in result or result.get("_ansible_no_log"):
        return None
    for item in result.get("results") or []:
        if isinstance(item, Mapping) and ("censored" in item or item.get("_ansible_no_log") or item.get("failed")):
            return _innermost(item)
    return result


def _text(value: object) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _tail(text: str) -> str:
    if len(text) <= HELD_CHARS:
        return text
    kept = text[-HELD_CHARS:]
    _, newline, lines = kept.partition("\n")
    return lines if newline and len(lines) > _EDGE_CHARS else kept[_EDGE_CHARS:]


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _nobody_reads(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))  # POLLERR is told without being asked for
