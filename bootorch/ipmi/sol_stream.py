"""Serial over LAN: the flow of characters between console and BMC (IPMI 2.0, section 15). Sans-IO, console's side."""

from __future__ import annotations

from collections import deque
from typing import Final

# Characters in one packet. BMCs announce sizes that they do not mean (pyghmi, ipmitool), so what they say is ignored;
# this fits the smallest buffers known, and people type slowly.
CHUNK: Final = 64
SEND_WAIT_S: Final = 0.5  # for the acknowledgement of characters; ipmitool waits 0.5-1 s
SEND_TRIES: Final = 20  # 10 s: then the BMC is gone
PAUSE_S: Final = 0.5  # the BMC cannot take characters now: when to offer them again
ZERO_TRIES: Final = 3  # acknowledgements of no character without a NACK: some BMCs never count

_NACK: Final = 0x40  # 15.9, both ways: characters were not taken
_UNAVAILABLE: Final = 0x20  # from the BMC: the serial port cannot take characters now
_DEACTIVATED: Final = 0x10  # from the BMC: this console is over


class Stream:
    """Characters both ways, one packet at a time under way to the BMC. ``timer``: when ``tick`` is due.

    Payloads are 4 bytes (sequence 1-15 or 0, acknowledged sequence, accepted characters, operation or status) and
    characters; sequence 0 only acknowledges.
    """

    __slots__ = (
        "_accepted",
        "_flight",
        "_heard",
        "_paused",
        "_queue",
        "_sequence",
        "_tries",
        "_zeros",
        "lost",
        "output",
        "over",
        "timer",
    )

    def __init__(self) -> None:
        self._queue = bytearray()
        self._flight = b""
        self._sequence = 0
        self._tries = 0
        self._paused = False
        self._zeros = 0
        self._heard: deque[int] = deque(maxlen=4)  # sequence numbers of the BMC's latest packets
        self._accepted = 0  # characters of the newest of them
        self.output = bytearray()
        self.over = False  # the BMC says that this console is over
        self.lost = False  # the BMC does not acknowledge any more
        self.timer = float("inf")

    def write(self, data: bytes, now: float) -> bytes | None:
        """Queue characters; a payload to send, where nothing is under way."""
        self._queue += data
        return self._next(now)

    def tick(self, now: float) -> bytes | None:
        """A payload to send: again, or on after a pause."""
        if now < self.timer:
            return None
        if self._paused:
            self._paused = False
            return self._next(now)
        if self._tries >= SEND_TRIES:
            self.lost = True
            self.timer = float("inf")
            return None
        return self._send(now)

    def receive(self, payload: bytes, now: float) -> list[bytes]:
        """A payload of the BMC; payloads to send: an acknowledgement, and the next characters."""
        if len(payload) < 4:
            return []
        sequence, acknowledged, count, status = payload[0] & 0x0F, payload[1] & 0x0F, payload[2], payload[3]
        if status & _DEACTIVATED:
            self.over = True
        answers = []
        if sequence:
            answers.append(self._take(sequence, payload[4:]))
        if acknowledged and acknowledged == self._sequence and self._flight and not self._paused:
            answers.append(self._acknowledged(count, status, now))
        return [answer for answer in answers if answer is not None]

    def _take(self, sequence: int, characters: bytes) -> bytes | None:
        """Characters from the BMC, each once: what is sent again may have grown meanwhile (ipmitool has met that)."""
        if self._heard and sequence == self._heard[-1]:
            self.output += characters[self._accepted :]
            self._accepted = max(self._accepted, len(characters))
        elif sequence in self._heard:
            return None  # late: acknowledged in its time
        else:
            self._heard.append(sequence)
            self._accepted = len(characters)
            self.output += characters
        return bytes((0, sequence, min(len(characters), 0xFF), 0))

    def _acknowledged(self, count: int, status: int, now: float) -> bytes | None:
        refused = bool(status & (_NACK | _UNAVAILABLE))
        if not count and not refused:
            self._zeros += 1
            if self._zeros >= ZERO_TRIES:
                count = len(self._flight)
        else:
            self._zeros = 0
        # 15.11: what was not accepted goes out again, in a packet of its own.
        self._queue[:0] = self._flight[count:]
        self._flight = b""
        self.timer = float("inf")
        if self._queue and (refused or not count):
            self._paused = True
            self.timer = now + PAUSE_S
            return None
        return self._next(now)

    def _next(self, now: float) -> bytes | None:
        if self._flight or self._paused or not self._queue:
            return None
        self._flight = bytes(self._queue[:CHUNK])
        del self._queue[:CHUNK]
        self._sequence = self._sequence % 15 + 1
        self._tries = 0
        return self._send(now)

    def _send(self, now: float) -> bytes:
        self._tries += 1
        self.timer = now + SEND_WAIT_S
        return bytes((self._sequence, 0, 0, 0)) + self._flight
