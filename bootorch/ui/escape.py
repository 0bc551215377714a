"""The escape character of a console, as in ssh and ipmitool: at the beginning of a line, and only there. Pure."""

from __future__ import annotations

from enum import Enum

HELP = (
    "~.  end this console",
    "~?  this help",
    "~~  send one tilde",
    "(only at the beginning of a line)",
)


class Wish(Enum):
    END = "end"
    HELP = "help"


class Escape:
    """Parts what is typed into what goes to the host and what is meant for us.

    A tilde at the beginning of a line waits for what follows it; any other character after it lets both through.
    """

    __slots__ = ("_fresh", "_tilde")

    def __init__(self) -> None:
        self._fresh = True  # at the beginning of a line
        self._tilde = False

    def feed(self, typed: bytes) -> tuple[bytes, tuple[Wish, ...]]:
        """Characters for the host, and wishes in their order; after END nothing more is looked at."""
        out = bytearray()
        wishes: list[Wish] = []
        for byte in typed:
            if self._tilde:
                self._tilde = False
                if byte == 0x2E:  # .
                    return bytes(out), (*wishes, Wish.END)
                if byte == 0x3F:  # ?
                    wishes.append(Wish.HELP)
                    continue
                if byte != 0x7E:
                    out.append(0x7E)
            elif byte == 0x7E and self._fresh:
                self._tilde = True
                continue
            out.append(byte)
            self._fresh = byte in (0x0D, 0x0A)
        return bytes(out), tuple(wishes)
