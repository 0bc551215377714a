"""Packets on UDP port 623: RMCP, IPMI 1.5 outside a session, RMCP+ in clear and sealed (IPMI 2.0, 13.6, 13.27).

RMCP      06 00 ff 07
1.5       authtype 00, sequence (4), session id (4), length (1), message
RMCP+     authtype 06, payload type (1), session id (4), sequence (4), length (2), payload
          and in a session: pad ff…, pad length, next header 07, authentication code
All numbers are little-endian.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from bootorch.ipmi.crypto import Keys

RMCP: Final = b"\x06\x00\xff\x07"
RMCP_PORT: Final = 623
MAX_PACKET: Final = 2048  # longer datagrams are dropped unread; ipmitool's buffer is 1024, pyghmi's 3072

_V15_HEAD: Final = RMCP + bytes(9)
_PLUS: Final = Struct("<4xBBIIH")
_PLUS_HEAD: Final = Struct("<4sBBIIH")
_SEALED: Final = 0xC0  # encrypted and authenticated: the only kind a session here sends or accepts


class Payload(IntEnum):
    """Payload types (13.27.3)."""

    IPMI = 0x00
    SOL = 0x01
    OPEN_REQUEST = 0x10
    OPEN_RESPONSE = 0x11
    RAKP1 = 0x12
    RAKP2 = 0x13
    RAKP3 = 0x14
    RAKP4 = 0x15


class Header(NamedTuple):
    """The start of an RMCP+ packet. ``kind`` still has bit 7 (encrypted) and bit 6 (authenticated)."""

    kind: int
    session: int
    sequence: int
    length: int


def encode_v15(message: bytes) -> bytes:
    """An IPMI 1.5 packet outside any session: authentication type, sequence and session id are 0."""
    return _V15_HEAD + bytes((len(message),)) + message


def decode_v15(packet: bytes) -> bytes | None:
    """The message of an IPMI 1.5 packet outside any session, or None."""
    if not packet.startswith(_V15_HEAD) or len(packet) < 14:
        return None
    end = 14 + packet[13]
    # A legacy pad byte may follow (13.6); a shorter packet was cut on its way.
    return packet[14:end] if len(packet) >= end else None


def decode_header(packet: bytes) -> Header | None:
    """The header of an RMCP+ packet, or None when it is none or shorter than it says."""
    if not 16 <= len(packet) <= MAX_PACKET or packet[:5] != b"\x06\x00\xff\x07\x06":
        return None
    _, kind, session, sequence, length = _PLUS.unpack_from(packet)
    if len(packet) < 16 + length:
        return None
    return Header(kind, session, sequence, length)


def encode_clear(payload_type: Payload, payload: bytes) -> bytes:
    """Open Session and RAKP messages travel in clear, with session id and sequence 0."""
    return _PLUS_HEAD.pack(RMCP, 6, payload_type, 0, 0, len(payload)) + payload


def seal(keys: Keys, session: int, sequence: int, message: bytes, noise: bytes, kind: Payload = Payload.IPMI) -> bytes:
    """An encrypted and signed packet (13.28). ``session`` is the receiver's id, ``noise`` 16 random bytes."""
    payload = keys.encrypt(message, noise)
    # IV and ciphertext are multiples of 4, so head (12), payload, pad (2), pad length and next header are as well.
    packet = _PLUS_HEAD.pack(RMCP, 6, _SEALED | kind, session, sequence, len(payload)) + payload + b"\xff\xff\x02\x07"
    return packet + keys.sign(packet[4:])


def unseal(keys: Keys, header: Header, packet: bytes, kind: Payload = Payload.IPMI) -> bytes | None:
    """The message of a sealed packet; None when kind, signature, encryption or length are not in order."""
    if header.kind != _SEALED | kind or keys.verify(packet) is None:
        return None
    return keys.decrypt(packet[16 : 16 + header.length])


class SequenceWindow:
    """Session sequence numbers seen from the peer: each is accepted once (6.12.13).

    A bitmap of the last 32 numbers, for reordered packets. Any jump forward is accepted, because the signature was
    checked before and some BMCs skip numbers; the first number may be anything but 0.
    """

    __slots__ = ("_highest", "_seen")

    SIZE: Final = 32

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0  # bit n: highest - n was seen

    def accept(self, sequence: int) -> bool:
        """True exactly once for each number that is new or within the window. Call it after the signature check."""
        ahead = sequence - self._highest
        if sequence == 0:
            return False
        if ahead > 0:
            self._seen = ((self._seen << min(ahead, self.SIZE)) | 1) & 0xFFFFFFFF
            self._highest = sequence
            return True
        bit = 1 << -ahead if -ahead < self.SIZE else 0
        if not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True


class Channel:
    """An established session's packets, for either role: keys, the peer's session id, counters of both directions."""

    __slots__ = ("_keys", "_sequence", "_window", "peer_id")

    def __init__(self, keys: Keys, peer_id: int) -> None:
        self._keys = keys
        self.peer_id = peer_id
        self._sequence = 0
        self._window = SequenceWindow()

    def seal(self, message: bytes, noise: bytes, kind: Payload = Payload.IPMI) -> bytes:
        """The packet, with a session sequence number of its own: an identical one would be dropped as a replay."""
        self._sequence += 1
        return seal(self._keys, self.peer_id, self._sequence, message, noise, kind)

    def open(self, header: Header, packet: bytes, kind: Payload = Payload.IPMI) -> bytes | None:
        """The message, once; None for repetitions, other kinds and what the peer did not sign."""
        message = unseal(self._keys, header, packet, kind)
        # The signature first: nobody else may move the window.
        return message if message is not None and self._window.accept(header.sequence) else None
