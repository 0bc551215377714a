"""What a failing task leaves as evidence: task, message, return code and the last lines that it wrote. Pure.

Bounded at every step, for whatever wrote it is broken: ``Failure`` holds at most some 20 KiB of a result (made where it
arises, ``callback.bootorch_events``), ``told`` makes a line and a few short lines of it. What ``no_log`` hides never
gets here; vaulted values are taken out in between, before anything is cut, so that no half of one stays at an edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bootorch.core.evidence import clean, printable

MESSAGE_CHARS = 400  # on a report's line; the messages of `assert` and apt stay below
OUTPUT_LINES = 8
OUTPUT_CHARS = 200  # of each line


class Failure(NamedTuple):
    """A failed or unreachable result, as far as it may be told."""

    task: str
    message: str
    rc: int | None
    stderr: str
    stdout: str


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
