"""The hash chain over a journal's events, and the head: who has seen how far it goes.

Every event's hash (SHA-256) covers the hash before it, its text and its stamps; the first one's covers what the journal
was made of (``meta``). So an event that was changed, left out, put in or moved breaks the chain at its own number.

A chain cannot tell that its end is missing: a write-ahead log that was cut, lost or left behind by ``cp`` looks like an
event that never was. Therefore the last number and its hash are also kept in a small file beside the journal,
written after every commit and not synced: it survives the process, and after a power cut it may only be behind.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

HASH_BYTES = 32
_STAMPS = struct.Struct("<dd")


class Row(NamedTuple):
    """An event as the journal keeps it: ``body`` from ``core.codec.encode``, stamps in seconds."""

    seq: int
    body: str
    wall_s: float
    boot_s: float
    hash: bytes


def genesis(meta: Iterable[tuple[str, bytes]]) -> bytes:
    """The hash before the first event, over the keys and (packed) values of ``meta``."""
    digest = sha256()
    for key, value in sorted(meta):
        digest.update(f"{key} {len(value)}\n".encode())
        digest.update(value)
    return digest.digest()


def link(before: bytes, body: str, wall_s: float, boot_s: float) -> bytes:
    """The hash of an event after the one that has ``before``."""
    return sha256(before + _STAMPS.pack(wall_s, boot_s) + body.encode()).digest()


def follow(rows: Sequence[Row], seq: int, before: bytes) -> tuple[int, bytes, str]:
    """How many of ``rows`` follow from event ``seq`` with hash ``before``, the hash of the last that does, and what is
    wrong with the next (empty: nothing, all do). Without a hash before them only their numbers are looked at."""
    pack = _STAMPS.pack
    count = 0
    try:
        for count, (number, body, wall_s, boot_s, kept) in enumerate(rows):
            if number != seq + 1:
                return count, before, f"event {seq + 1} is missing, event {number} follows"
            if before:
                digest = sha256(before + pack(wall_s, boot_s) + body.encode()).digest()
                if digest != kept:
                    return count, before, "its hash does not fit what was written"
                before = digest
            seq = number
    except (TypeError, AttributeError, struct.error) as error:  # values of other types than an event's
        return count, before, f"what stands there is no event: {error}"
    return len(rows), before, ""


@dataclass(frozen=True, slots=True)
class Head:
    """How far a journal goes: number and hash of its last event; number 0 and the genesis where it has none."""

    seq: int
    hash: bytes

    @staticmethod
    def read(path: Path) -> Head | None:
        """None where there is no such file, or one that a power cut has left torn."""
        try:
            number, _, digits = path.read_text(encoding="ascii").strip().partition(" ")
            head = Head(int(number), bytes.fromhex(digits))
        except (OSError, ValueError):
            return None
        return head if len(head.hash) == HASH_BYTES else None


class HeadFile:
    """The head's file, held open by who writes the journal."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, head: Head) -> None:
        """Raises OSError. One write within a sector, always of the same length."""
        os.pwrite(self._descriptor, f"{head.seq:<20} {head.hash.hex()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._descriptor)


def head_path(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.head")
