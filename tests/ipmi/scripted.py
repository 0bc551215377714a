"""A script against answers in memory, by the rules of an exchange: bad completions only where they are tolerated."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.client import Answer
from bootorch.ipmi.messages import Command

T = TypeVar("T")
Bmc = Callable[[Command], tuple[int, bytes]]


class Ended(Exception):
    """The exchange ended, because of a completion that its command does not tolerate."""

    def __init__(self, command: Command, reason: Reason) -> None:
        super().__init__(command.name, reason)
        self.reason = reason


def play(script: Generator[Command, Answer, T], bmc: Bmc, most: int = 10_000) -> tuple[T, list[Command]]:
    """What the script returns, and what it sent. A script that goes on and on fails the test."""
    sent: list[Command] = []
    try:
        command = next(script)
        for _ in range(most):
            sent.append(command)
            answer = Answer(*bmc(command))
            reason = msg.reason_of(command, answer.completion)
            if reason is not Reason.OK and not command.tolerate:
                raise Ended(command, reason)
            command = script.send(answer)
    except StopIteration as end:
        return end.value, sent
    raise AssertionError("the script does not end")


def table(answers: Mapping[tuple[int, int], tuple[int, bytes] | list[tuple[int, bytes]]]) -> Bmc:
    """Answers by network function and command; lists give one answer after the other. The rest is not supported."""
    left = {key: list(value) if isinstance(value, list) else value for key, value in answers.items()}

    def bmc(command: Command) -> tuple[int, bytes]:
        answer = left.get((command.netfn, command.command), (msg.Completion.INVALID_COMMAND.value, b""))
        return answer.pop(0) if isinstance(answer, list) else answer

    return bmc
