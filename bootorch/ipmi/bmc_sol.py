"""Serial over LAN, the BMC's side: payload type 1 (IPMI 2.0, section 15). Sans-IO: payloads in, payloads out.

Each packet has its sequence number (1-15, 0: nothing but an acknowledgement), the number it acknowledges, how many
characters of that one were accepted, and a byte of operations or status. One packet at a time is under way each way.
"""

from __future__ import annotations

from typing import Final

from bootorch.ipmi.bmc_session import Session
from bootorch.ipmi.chassis import Chassis

# 06/48 announces the size; the count of accepted characters is one byte. FreeIPMI and ipmitool take this much.
MAX_PAYLOAD: Final = 255
MAX_CHARACTERS: Final = MAX_PAYLOAD - 4
_MAX_COUNT: Final = 255
POLL_S: Final = 0.05  # 26.2 parameter 3, character accumulate interval: 10 × 5 ms
RETRY_S: Final = 0.5  # 26.2 parameter 7 (interval and count); ipmitool has acknowledged long before
RETRIES: Final = 7  # the largest count that the parameter can hold; then the console is taken for gone

NACK: Final = 0x40  # 15.9: both ways: no (further) characters can be taken now
DEACTIVATED: Final = 0x10  # 15.9: status to the console: the payload ended from elsewhere


class Sol:
    """The payload of one ``session``, from Activate Payload to its end.

    ``due``: when ``poll`` is to be called. ``ending``: somebody else deactivated the payload; the console is still to
    be told. ``over``: nothing more will come, because it was told or because it acknowledges nothing any more.
    """

    __slots__ = (
        "_chassis",
        "_flight",
        "_heard",
        "_heard_count",
        "_position",
        "_sequence",
        "_tries",
        "due",
        "ending",
        "over",
        "session",
    )

    def __init__(self, chassis: Chassis, session: Session, now: float) -> None:
        self._chassis = chassis
        self.session = session
        self._position: int | None = None  # of the console's output, to be sent next; None: nothing was read yet
        self._sequence = 0  # of the latest packet with characters
        self._flight = b""  # its characters, while they are not acknowledged
        self._tries = 0
        self._heard = 0  # sequence number and accepted characters of the latest packet from the console
        self._heard_count = 0
        self.due = now
        self.ending = False
        self.over = False

    def end(self, now: float) -> None:
        """Somebody else deactivates the payload."""
        self.ending = True
        self.due = now

    def poll(self, now: float) -> bytes | None:
        """The packet that is to leave now, if any."""
        if now < self.due:
            return None
        if self.ending:
            self.over = True
            return bytes((0, 0, 0, DEACTIVATED))
        if self._flight:
            self._tries += 1
            if self._tries > RETRIES:
                self.over = True
                return None
        else:
            start, self._flight = self._chassis.console_output(self._position, now, MAX_CHARACTERS)
            self._position = start
            if not self._flight:
                self.due = now + POLL_S
                return None
            self._sequence = self._sequence % 15 + 1
            self._tries = 0
        self.due = now + RETRY_S
        return bytes((self._sequence, 0, 0, 0)) + self._flight

    def receive(self, payload: bytes, now: float) -> bytes | None:
        """The acknowledgement of one payload from the console, if it asks for one. Break and flushes do nothing."""
        if len(payload) < 4:
            return None
        sequence, acknowledged, count, operation = payload[0] & 0x0F, payload[1] & 0x0F, payload[2], payload[3]
        if acknowledged and acknowledged == self._sequence and self._flight:
            self._acknowledged(min(count, len(self._flight)), bool(operation & NACK), now)
        if sequence == 0:
            return None
        if sequence != self._heard:
            if self._heard and (sequence - self._heard) % 15 > 7:
                return None  # late: a packet of before, which was acknowledged in its time
            keys = payload[4 : 4 + _MAX_COUNT]  # pyghmi does not count the 4 bytes before as payload
            self._heard, self._heard_count = sequence, len(keys)
            if keys:
                self._chassis.console_input(keys, now)
                self.due = now if not self._flight else self.due  # the echo need not wait
        return bytes((0, sequence, self._heard_count, 0))

    def _acknowledged(self, count: int, refused: bool, now: float) -> None:
        """15.11: what was not accepted goes out again in a packet of its own, at once or when the console had time."""
        assert self._position is not None, "something is under way"
        self._position += count
        self._flight = b""
        self._tries = 0
        self.due = now + RETRY_S if refused or not count else now
