"""Random numbers of the simulated world: by seed and name, the same whatever the order of the questions.

One digest a host gives all that is drawn once for it; what is drawn again and again (attempts, exchanges) comes from
an integer hash, a fifth as dear as a digest.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import unpack
from zlib import crc32

# Places of what is drawn once for a host, in its digest. The order is part of every seed: add at the end.
(
    BOOT, BMC, DEAD_BMC, SILENT, BUSY, DEAD, FAILURE, ON, POLICY, WAS_ON, AUTO_ON, VENDOR, METER, READY, REBOOT,
    REBOOT_S,
) = range(16)  # fmt: skip

UNIT = 1 / 4294967296  # times 32 bits: a number in [0, 1)


class Draws:
    """Numbers in [0, 1), or the 32 bits that they are made from."""

    __slots__ = ("_key", "seed")

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(16, "big", signed=True)
        self.seed = crc32(self._key)

    def host(self, name: str) -> tuple[int, ...]:
        """The 16 numbers of a host, of 32 bits each; see the places above."""
        return unpack("<16I", blake2b(name.encode(), key=self._key).digest())

    def bits(self, a: int, b: int = 0) -> int:
        """32 bits by two integers; an exchange has its id, an attempt the hash of its host's name."""
        # The mix of MurmurHash3 (Appleby, 2011), over 32 bits: Python's integers are slow above.
        z = (a * 0xCC9E2D51 + b * 0x9E3779B1 + self.seed) & 0xFFFFFFFF
        z = (z ^ z >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        z = (z ^ z >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        return z ^ z >> 16

    def number(self, a: int, b: int = 0) -> float:
        """The same as a number in [0, 1)."""
        return self.bits(a, b) * UNIT

    def named(self, word: str, name: str = "", number: int = 0) -> float:
        """By words and a number."""
        return self.number(crc32(f"{word}\0{name}".encode()), number)
