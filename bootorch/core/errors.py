"""What bootorch says when it will not go on: problems with a place and a remedy, and the exit code of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command (docs/architecture.md, commands and exit codes)."""

    OK = 0
    TOOL_ERROR = 1
    INVALID = 2
    INCOMPLETE = 3
    STOPPED = 4
    INTERRUPTED = 5
    REFUSED = 6


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, said for the operator.

    ``where`` is a place that an editor can open (``plan.yml:12``) or the name of what is meant; ``hosts`` are the
    affected host names, folded by the views; ``remedy`` says what to do next.
    """

    message: str
    where: str = ""
    remedy: str = ""
    hosts: tuple[str, ...] = ()


class OperatorError(Exception):
    """The command cannot go on. Carries every problem found at once and the exit code to leave with."""

    exit_code: Exit = Exit.TOOL_ERROR

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


class InvalidInput(OperatorError):
    """The plan, inventory or command line is wrong: exit 2."""

    exit_code = Exit.INVALID


class SafetyRefusal(OperatorError):
    """Well-formed but refused for safety; nothing was sent: exit 6."""

    exit_code = Exit.REFUSED


class ToolError(OperatorError):
    """Something bootorch itself depends on failed (a disk, a missing program): exit 1."""

    exit_code = Exit.TOOL_ERROR
