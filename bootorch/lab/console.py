"""The serial console of a simulated machine: what its boots write, and a login prompt that answers."""

from __future__ import annotations

from bootorch.sim import symptoms
from bootorch.sim.machine import Machine

_SCROLLBACK = 16384  # bytes of earlier boots: what a serial concentrator keeps of a server that is booted again
_TYPED = 4096  # bytes of answers to keys in one boot; then the terminal is deaf


class Console:
    """Everything the machine wrote since somebody first looked, at positions counted from the beginning.

    The machine's own text is a function of time and kept nowhere; kept are the end of earlier boots and what the
    terminal answered to keys.
    """

    __slots__ = ("_answers", "_asks_password", "_machine", "_past", "_start")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._past = b""  # earlier boots
        self._start = 0  # position of its first byte
        self._answers = bytearray()
        self._asks_password = False

    def read(self, position: int | None, now: float, limit: int) -> tuple[int, bytes]:
        """As ``Chassis.console_output``."""
        text = self._past + self.present(now)
        end = self._start + len(text)
        begin = self._start if position is None else min(max(position, self._start), end)
        return begin, text[begin - self._start : begin - self._start + limit]

    def present(self, now: float) -> bytes:
        """What the boot of now has written."""
        return symptoms.console(self._machine, now).encode() + self._answers

    def boot_ended(self, text: bytes) -> None:
        """Power has changed; ``text`` is what the boot before had written until then."""
        text = self._past + text
        self._past = text[-_SCROLLBACK:]
        self._start += len(text) - len(self._past)
        self._answers.clear()
        self._asks_password = False

    def type(self, data: bytes, now: float) -> None:
        """Keys. A login prompt echoes a name, asks for a password in silence, and lets nobody in."""
        if not self._machine.os_up(now):
            return  # a boot that runs, or waits for another key than these
        for key in data:
            if len(self._answers) >= _TYPED:
                return
            if key in b"\r\n":
                name = self._machine.spec.name
                answer = f"\r\n\r\nLogin incorrect\r\n{name} login: " if self._asks_password else "\r\nPassword: "
                self._answers += answer.encode()
                self._asks_password = not self._asks_password
            elif not self._asks_password:
                self._answers.append(key)
