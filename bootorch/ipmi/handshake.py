"""The session handshake as one table for both roles, and its messages (IPMI 2.0, 13.17-13.24).

Everything that may happen is in ``TRANSITIONS``: what came in which state, the state that follows and the message
that is sent. What is not in the table is ignored: late packets, repetitions and inventions change nothing.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from bootorch.ipmi.crypto import MAX_USER, Suite
from bootorch.ipmi.packet import Payload


class _Word(Enum):
    """Looked up for every packet of a fleet: by identity, which is what Enum means, but not what its hash costs."""

    __hash__ = object.__hash__


class Role(_Word):
    CONSOLE = auto()
    BMC = auto()


class State(_Word):
    START = auto()  # no session, nothing proposed
    OPENING = auto()  # console: Open Session sent; BMC: answered, session id given out
    PROVING = auto()  # console: RAKP1 sent; BMC: RAKP2 sent
    CONFIRMING = auto()  # console: RAKP3 sent, BMC's proof was right
    ACTIVE = auto()
    CLOSED = auto()


class Event(_Word):
    """What happens to a role. ``*_ERROR`` is a message with a status other than 0."""

    BEGIN = auto()
    OPEN_REQUEST = auto()
    OPEN_RESPONSE = auto()
    OPEN_ERROR = auto()
    RAKP1 = auto()
    RAKP2 = auto()
    RAKP2_ERROR = auto()
    RAKP3 = auto()
    RAKP3_ERROR = auto()
    RAKP4 = auto()
    RAKP4_ERROR = auto()
    LOST = auto()  # no answer in time: the console starts again with a fresh session id, the BMC forgets
    CLOSE = auto()


class Step(NamedTuple):
    state: State
    send: Payload | None = None


_S, _E = State, Event

TRANSITIONS: Final[dict[Role, dict[State, dict[Event, Step]]]] = {
    Role.CONSOLE: {
        _S.START: {_E.BEGIN: Step(_S.OPENING, Payload.OPEN_REQUEST)},
        _S.OPENING: {
            _E.OPEN_RESPONSE: Step(_S.PROVING, Payload.RAKP1),
            _E.OPEN_ERROR: Step(_S.START),
            _E.LOST: Step(_S.START),
        },
        _S.PROVING: {
            # Only after the BMC's proof in RAKP2 was found right: a rogue BMC must get no hash of the password.
            _E.RAKP2: Step(_S.CONFIRMING, Payload.RAKP3),
            _E.RAKP2_ERROR: Step(_S.START),
            _E.LOST: Step(_S.START),
        },
        _S.CONFIRMING: {
            _E.RAKP4: Step(_S.ACTIVE),
            _E.RAKP4_ERROR: Step(_S.START),
            _E.LOST: Step(_S.START),
        },
        _S.ACTIVE: {_E.CLOSE: Step(_S.CLOSED), _E.LOST: Step(_S.CLOSED)},
        _S.CLOSED: {},
    },
    Role.BMC: {
        _S.START: {_E.OPEN_REQUEST: Step(_S.OPENING, Payload.OPEN_RESPONSE)},
        _S.OPENING: {_E.RAKP1: Step(_S.PROVING, Payload.RAKP2), _E.LOST: Step(_S.CLOSED)},
        _S.PROVING: {
            _E.RAKP1: Step(_S.PROVING, Payload.RAKP2),  # RAKP2 was lost and the console asks again
            _E.RAKP3: Step(_S.ACTIVE, Payload.RAKP4),
            _E.RAKP3_ERROR: Step(_S.CLOSED),
            _E.LOST: Step(_S.CLOSED),
        },
        _S.ACTIVE: {
            _E.RAKP3: Step(_S.ACTIVE, Payload.RAKP4),  # RAKP4 was lost
            _E.CLOSE: Step(_S.CLOSED),
            _E.LOST: Step(_S.CLOSED),
        },
        _S.CLOSED: {},
    },
}


def step(role: Role, state: State, event: Event) -> Step | None:
    """What follows, or None when ``event`` has no place in ``state`` and is to be ignored."""
    return TRANSITIONS[role][state].get(event)


# The messages. Session ids are numbers; GUID, randoms and proofs are bytes. Decoders return None for nonsense.

_OPEN_HEAD: Final = Struct("<BBxxI")
_OPEN_ANSWER: Final = Struct("<BBBxII")
_RAKP1: Final = Struct("<BxxxI16sBxxB")
_RAKP_HEAD: Final = Struct("<BBxxI")


@cache
def _algorithms(s: Suite) -> bytes:
    """Three records of 8 bytes: kind, 0, 0, length 8, algorithm, 0, 0, 0 (13.17)."""
    return b"".join(
        bytes((kind, 0, 0, 8, number, 0, 0, 0))
        for kind, number in enumerate((s.authentication, s.integrity, s.confidentiality))
    )


def parse_algorithms(data: bytes) -> tuple[int, int, int] | None:
    """Authentication, integrity and confidentiality numbers of a proposal or its echo, or None when malformed."""
    if len(data) < 24 or (data[0], data[8], data[16]) != (0, 1, 2):
        return None
    if (data[3], data[11], data[19]) != (8, 8, 8):  # length 0 leaves the choice to the BMC: never accepted here
        return None
    return data[4] & 0x3F, data[12] & 0x3F, data[20] & 0x3F


class OpenRequest(NamedTuple):
    tag: int
    privilege: int
    console_id: int
    algorithms: tuple[int, int, int] | None


class OpenResponse(NamedTuple):
    """With a status other than 0 only ``tag`` and ``status`` need be there: some BMCs send 2 bytes."""

    tag: int
    status: int
    console_id: int = 0
    bmc_id: int = 0
    algorithms: tuple[int, int, int] | None = None


class Rakp1(NamedTuple):
    tag: int
    bmc_id: int
    random: bytes
    name: bytes  # role, length and user name: the part that all proofs cover


class Rakp2(NamedTuple):
    tag: int
    status: int
    console_id: int
    random: bytes
    guid: bytes
    proof: bytes


class Rakp34(NamedTuple):
    """RAKP3 (``session`` is the BMC's id, ``proof`` the whole HMAC) or RAKP4 (the console's id, the cut one)."""

    tag: int
    status: int
    session: int
    proof: bytes


def encode_open_request(tag: int, privilege: int, console_id: int, s: Suite) -> bytes:
    return _OPEN_HEAD.pack(tag, privilege, console_id) + _algorithms(s)


def decode_open_request(data: bytes) -> OpenRequest | None:
    if len(data) < 32:
        return None
    tag, privilege, console_id = _OPEN_HEAD.unpack_from(data)
    return OpenRequest(tag, privilege & 0x0F, console_id, parse_algorithms(data[8:32]))


def encode_open_response(tag: int, privilege: int, console_id: int, bmc_id: int, s: Suite) -> bytes:
    return _OPEN_ANSWER.pack(tag, 0, privilege, console_id, bmc_id) + _algorithms(s)


def encode_error(tag: int, status: int, console_id: int) -> bytes:
    """Open Session Response, RAKP2 or RAKP4 that refuses: 8 bytes in all three."""
    return _RAKP_HEAD.pack(tag, status, console_id)


def decode_open_response(data: bytes) -> OpenResponse | None:
    # Status before length: an error may be two bytes long.
    if len(data) < 2:
        return None
    if data[1]:
        console_id = int.from_bytes(data[4:8], "little") if len(data) >= 8 else 0
        return OpenResponse(data[0], data[1], console_id)
    if len(data) < 36:
        return None
    tag, status, _, console_id, bmc_id = _OPEN_ANSWER.unpack_from(data)
    return OpenResponse(tag, status, console_id, bmc_id, parse_algorithms(data[12:36]))


def role_and_name(privilege: int, user: bytes) -> bytes:
    """Role byte with name-only lookup (bit 4, 13.20), length and name."""
    return bytes((0x10 | privilege, len(user))) + user


def encode_rakp1(tag: int, bmc_id: int, random: bytes, name: bytes) -> bytes:
    return _RAKP1.pack(tag, bmc_id, random, name[0], name[1]) + name[2:]


def decode_rakp1(data: bytes) -> Rakp1 | None:
    if len(data) < 28:
        return None
    tag, bmc_id, random, role, length = _RAKP1.unpack_from(data)
    if length > MAX_USER or len(data) < 28 + length:
        return None
    return Rakp1(tag, bmc_id, random, bytes((role, length)) + data[28 : 28 + length])


def encode_rakp2(tag: int, console_id: int, random: bytes, guid: bytes, proof: bytes) -> bytes:
    return _RAKP_HEAD.pack(tag, 0, console_id) + random + guid + proof


def decode_rakp2(data: bytes) -> Rakp2 | None:
    if len(data) < 8 or (data[1] == 0 and len(data) < 40):
        return None
    tag, status, console_id = _RAKP_HEAD.unpack_from(data)
    return Rakp2(tag, status, console_id, data[8:24], data[24:40], data[40:])


def encode_rakp34(tag: int, session: int, proof: bytes) -> bytes:
    return _RAKP_HEAD.pack(tag, 0, session) + proof


def decode_rakp34(data: bytes) -> Rakp34 | None:
    if len(data) < 8:
        return None
    tag, status, session = _RAKP_HEAD.unpack_from(data)
    return Rakp34(tag, status, session, data[8:])
