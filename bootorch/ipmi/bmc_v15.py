"""IPMI 1.5 sessions on the BMC's side, MD5 only: Get Session Challenge, Activate Session, then commands (22.16-22.17).

A BMC has them only where they are asked for: their packets are signed, but anybody can read them.
"""

from __future__ import annotations

import hmac
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from bootorch.core.secret import Secret
from bootorch.ipmi.bmc_session import Session
from bootorch.ipmi.handshake import State
from bootorch.ipmi.messages import Completion, NetFn, Privilege
from bootorch.ipmi.packet15 import AUTH_MD5, MAX_PASSWORD, Channel15, decode_header, encode, verified
from bootorch.ipmi.wire import Request, decode_request, encode_response

if TYPE_CHECKING:
    from bootorch.ipmi.bmc import Bmc

GET_CHALLENGE: Final = 0x39
ACTIVATE: Final = 0x3A

Answer = tuple[int, bytes]

_PRIVILEGES: Final = {level.value: level for level in Privilege}
_BAD_NAME: Final[Answer] = (0x81, b"")  # 22.16


class Session15(Session):
    """``challenge`` is what the console has to send back; ``channel15`` is there when it has."""

    __slots__ = ("challenge", "channel15")

    def __init__(
        self, bmc_id: int, name: bytes, password: Secret, challenge: bytes, peer: Hashable, now: float
    ) -> None:
        super().__init__(bmc_id, 0, None, peer, now)
        self.name = bytes((0, len(name))) + name
        self.password = password
        self.challenge = challenge
        self.channel15: Channel15 | None = None


def challenge(bmc: Bmc, data: bytes, peer: Hashable, now: float) -> Answer:
    """Get Session Challenge (22.16): authentication type, user name of 16 bytes. Takes a slot, as Open Session does."""
    if len(data) != 17:
        return Completion.BAD_LENGTH, b""
    if data[0] & 0x0F != AUTH_MD5:
        return Completion.INVALID_FIELD, b""
    name = data[1:].rstrip(b"\0")
    password = bmc.users.get(name)
    if password is None or len(password.reveal()) > MAX_PASSWORD:
        return _BAD_NAME
    bmc_id = bmc.new_session_id(now)
    if bmc_id is None:
        return Completion.OUT_OF_SPACE, b""
    session = Session15(bmc_id, name, password, bmc.random(16), peer, now)
    bmc.sessions[bmc_id] = session
    return Completion.OK, bmc_id.to_bytes(4, "little") + session.challenge


def receive(bmc: Bmc, data: bytes, peer: Hashable, now: float) -> list[bytes]:
    """The answer to a signed packet; none to what was not signed with the password, or was seen before."""
    header = decode_header(data)
    session = bmc.find(header.session, now) if header is not None else None
    if header is None or not isinstance(session, Session15):
        return []
    if header.sequence == 0:  # Activate Session only: nothing else is taken without a number
        message = verified(session.password.reveal(), header, data)
        request = decode_request(message) if message is not None else None
        return _activated(bmc, session, request, peer, now) if request is not None else []
    channel = session.channel15
    message = channel.open(header, data) if channel is not None else None
    answer = bmc.answer(session, message, peer, now) if message is not None else None
    return [channel.seal(answer)] if channel is not None and answer is not None else []


def _activated(bmc: Bmc, session: Session15, request: Request, peer: Hashable, now: float) -> list[bytes]:
    if (request.netfn, request.command) != (NetFn.APP, ACTIVATE):
        return []
    data = request.data
    completion = _check(bmc, session, data)
    if completion != Completion.OK:
        message = encode_response(request, completion, b"")
        return [encode(session.password.reveal(), session.bmc_id, 0, message)]
    if session.channel15 is None:
        session.channel15 = Channel15(session.password, session.bmc_id, int.from_bytes(data[18:], "little"))
        session.limit = _PRIVILEGES[data[1] & 0x0F]
        session.state = State.ACTIVE
        session.seen_at = now
        session.peer = peer
    # The same request again, because this answer was lost, changes nothing: a fresh window would let old commands in.
    # The session keeps the id of the challenge, and the console's numbers start at 1.
    answer = bytes((AUTH_MD5,)) + session.bmc_id.to_bytes(4, "little") + b"\x01\0\0\0" + bytes((session.limit,))
    return [session.channel15.seal(encode_response(request, Completion.OK, answer))]


def _check(bmc: Bmc, session: Session15, data: bytes) -> int:
    """22.17: authentication type, highest privilege, challenge, number of the BMC's first packet. Completion code."""
    if len(data) != 22:
        return Completion.BAD_LENGTH
    level = data[1] & 0x0F
    if data[0] & 0x0F != AUTH_MD5 or level not in _PRIVILEGES or not hmac.compare_digest(session.challenge, data[2:18]):
        return Completion.INVALID_FIELD
    if not any(data[18:]):
        return 0x84  # sequence number out of range
    if level > bmc.privileges.get(session.name[2:], Privilege.ADMIN):
        return 0x86  # exceeds the user's limit
    return Completion.OK
