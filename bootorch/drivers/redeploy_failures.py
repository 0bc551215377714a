"""What a failing task leaves as evidence: task, message, return code and the last lines that it wrote. Pure.

Bounded at every step, for whatever wrote it is broken: ``Failure`` holds at most some 20 KiB of a result, ``told``
makes a line and a few short lines of it. What ``no_log`` hides never gets here; vaulted values are taken out in
between, before anything is cut, so that no half of one stays at an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bootorch.core.evidence import clean, printable

HIDDEN = "output hidden (no_log)"
TOO_LARGE = "failed, and wrote too much to be kept"  # see MAX_EVENT_RES in redeploy_slice
MESSAGE_CHARS = 400  # on a report's line; the messages of `assert` and apt stay below
OUTPUT_LINES = 8
OUTPUT_CHARS = 200  # of each line
_HELD_CHARS = 8192  # of each text of a result
_EDGE_CHARS = 1024  # where a text was cut, so much more goes: longer than a value that could have been cut in two


class Failure(NamedTuple):
    """A failed or unreachable result, as far as it may be told."""

    task: str
    message: str
    rc: int | None
    stderr: str
    stdout: str


def failure_of(data: Mapping[str, Any]) -> Failure:
    """``data``: ``event_data`` of ansible-runner's ``runner_on_failed`` or ``runner_on_unreachable``."""
    task = _text(data.get("task") or "a task")
    if not data.get("res"):
        return Failure(task, TOO_LARGE, None, "", "")
    result = _innermost(data["res"])
    if result is None:
        return Failure(task, HIDDEN, None, "", "")
    rc = result.get("rc")
    stderr = result.get("stderr") or result.get("module_stderr") or ""
    stdout = result.get("stdout") or result.get("module_stdout") or ""
    message = _text(result.get("msg") or "")[:_HELD_CHARS]
    return Failure(task, message, rc if isinstance(rc, int) else None, _tail(_text(stderr)), _tail(_text(stdout)))


def _innermost(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result that failed: of a loop, its first item that did. None where it must not be told."""
    if "censored" in result or result.get("_ansible_no_log"):
        return None
    for item in result.get("results") or []:
        if isinstance(item, dict) and ("censored" in item or item.get("_ansible_no_log") or item.get("failed")):
            return _innermost(item)
    return result


def _text(value: object) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _tail(text: str) -> str:
    if len(text) <= _HELD_CHARS:
        return text
    kept = text[-_HELD_CHARS:]
    _, newline, lines = kept.partition("\n")
    return lines if newline and len(lines) > _EDGE_CHARS else kept[_EDGE_CHARS:]


def told(failure: Failure, redact: Callable[[str], str]) -> tuple[str, str]:
    """``TASK: MESSAGE`` on one line, and what the task wrote: a few lines, empty where it wrote nothing."""
    task, message, stderr, stdout = map(redact, (failure.task, failure.message, failure.stderr, failure.stdout))
    said = clean(stderr).splitlines() or clean(stdout).splitlines()
    line = one_line(message)
    if said and (last := one_line(said[-1])) and last not in line:
        line = f"{line} ({last})" if line else last
    lines = [f"return code {failure.rc}"] if failure.rc is not None else []
    lines += [printable(line)[:OUTPUT_CHARS] for line in said[-OUTPUT_LINES:] if line.strip()]
    return one_line(f"{task}: {line or 'failed without a message'}"), "\n".join(lines) if said else ""


def one_line(text: str) -> str:
    line = " ".join(printable(text.replace("@@@@@", "").replace("\n", " ")).split())  # ssh's frame around a warning
    return line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 1] + "…"
