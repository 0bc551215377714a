"""Packets of an IPMI 1.5 session with MD5 authentication (IPMI 2.0, 13.6 and 22.17.1).

RMCP 06 00 ff 07, authentication type 02, sequence (4), session id (4), code (16), length (1), message; little-endian.
Nothing is encrypted, and the code is a hash over a password of at most 16 bytes: for boards that have nothing better.
"""

from __future__ import annotations

import hashlib
import hmac
from struct import Struct
from typing import Final

from bootorch.core.secret import Secret
from bootorch.ipmi.packet import MAX_PACKET, RMCP, Header, Payload, SequenceWindow

AUTH_MD5: Final = 2
MAX_PASSWORD: Final = 16  # 22.30: bytes, in 1.5

_HEAD: Final = Struct("<4sBII")
_CODE, _LENGTH, _MESSAGE = 13, 29, 30  # offsets


def md5_code(password: bytes, session: int, sequence: int, message: bytes) -> bytes:
    """22.17.1: H(password, session id, message, sequence, password), the password filled up with zeros."""
    padded = password.ljust(MAX_PASSWORD, b"\0")
    parts = (padded, session.to_bytes(4, "little"), message, sequence.to_bytes(4, "little"), padded)
    return hashlib.md5(b"".join(parts), usedforsecurity=False).digest()  # not our choice: 1.5 knows nothing better


def encode(password: bytes, session: int, sequence: int, message: bytes) -> bytes:
    """A signed packet. ``session`` is the BMC's id, ``sequence`` 0 only for Activate Session."""
    code = md5_code(password, session, sequence, message)
    return _HEAD.pack(RMCP, AUTH_MD5, sequence, session) + code + bytes((len(message),)) + message


def decode_header(packet: bytes) -> Header | None:
    """The header of a packet with an MD5 code, or None when it is none or shorter than it says."""
    if not _MESSAGE <= len(packet) <= MAX_PACKET or packet[:5] != b"\x06\x00\xff\x07\x02":
        return None
    _, kind, sequence, session = _HEAD.unpack_from(packet)
    if len(packet) < _MESSAGE + packet[_LENGTH]:
        return None
    return Header(kind, session, sequence, packet[_LENGTH])


def verified(password: bytes, header: Header, packet: bytes) -> bytes | None:
    """The message of a packet whose code is right. A legacy pad byte may follow it (13.6)."""
    message = packet[_MESSAGE : _MESSAGE + header.length]
    code = md5_code(password, header.session, header.sequence, message)
    return message if hmac.compare_digest(code, packet[_CODE:_LENGTH]) else None


class Channel15:
    """``packet.Channel`` for an IPMI 1.5 session. ``sequence`` is the first number that the BMC wants from us."""

    __slots__ = ("_password", "_sequence", "_window", "peer_id")

    def __init__(self, password: Secret, peer_id: int, sequence: int) -> None:
        self._password = password
        self.peer_id = peer_id
        self._sequence = sequence or 1
        self._window = SequenceWindow()

    def seal(self, message: bytes, noise: bytes = b"", kind: Payload = Payload.IPMI) -> bytes:
        """The signed packet; there is no use for noise, and no other kind of payload."""
        packet = encode(self._password.reveal(), self.peer_id, self._sequence, message)
        self._sequence = self._sequence % 0xFFFFFFFF + 1  # 6.12.8: 0 is left out
        return packet

    def open(self, header: Header, packet: bytes, kind: Payload = Payload.IPMI) -> bytes | None:
        """The message, once; None for repetitions and for what the BMC did not sign."""
        if kind is not Payload.IPMI or header.session != self.peer_id:
            return None
        message = verified(self._password.reveal(), header, packet)
        return message if message is not None and self._window.accept(header.sequence) else None
