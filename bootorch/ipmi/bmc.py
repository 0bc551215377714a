"""The BMC's side of IPMI 2.0: what the lab puts behind every address. Sans-IO: datagrams in, answers out.

It contents ipmitool, FreeIPMI and pyghmi. Whatever arrives, nothing is raised and memory stays bounded: at most
``max_sessions`` sessions, half-open ones for seconds only. Handshake and dispatch are here, the commands in
``bmc_commands``, the serial console in ``bmc_sol``.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from bootorch.core.secret import Secret
from bootorch.ipmi import bmc_v15 as v15
from bootorch.ipmi import handshake as hs
from bootorch.ipmi.bmc_commands import Answer, execute, is_lan_channel, name_of
from bootorch.ipmi.bmc_session import Behaviour, Session
from bootorch.ipmi.bmc_sol import Sol
from bootorch.ipmi.chassis import Chassis
from bootorch.ipmi.crypto import (
    MAX_PASSWORD,
    MAX_USER,
    Keys,
    Suite,
    icv_rakp4,
    proof_rakp2,
    proof_rakp3,
    session_key,
    suite,
)
from bootorch.ipmi.handshake import Event, Role, State
from bootorch.ipmi.messages import Completion, NetFn, Privilege, Status
from bootorch.ipmi.packet import (
    RMCP,
    RMCP_PORT,
    Channel,
    Header,
    Payload,
    decode_header,
    decode_v15,
    encode_clear,
    encode_v15,
)
from bootorch.ipmi.packet15 import AUTH_MD5
from bootorch.ipmi.wire import decode_request, encode_response

Observer = Callable[[str, Hashable, int], None]

_PRIVILEGES: Final = {level.value: level for level in Privilege}
_NO_PRIVILEGES: Final[Mapping[bytes, Privilege]] = MappingProxyType({})


@lru_cache
def _suites(idents: tuple[int, ...]) -> Mapping[tuple[int, int, int], Suite]:
    """By the algorithms of Open Session. One table for all BMCs that are alike. ValueError as ``crypto.suite``."""
    return {(s.authentication, s.integrity, s.confidentiality): s for s in map(suite, idents)}


class Bmc:
    """One BMC. ``users`` are names (at most 16 bytes) with passwords (at most 20); ``guid`` is 16 bytes.

    ``privileges`` limits users that are not administrators; ``channel_limit`` is what Set Session Privilege grants
    at most. ``k_g`` is the BMC's own key, for the rare site that sets one. ``observe(command, peer, completion)``
    hears of every authenticated command after it was executed: the witness of what really reached the machine.
    ``random(n)`` gives n bytes. ``port`` is the UDP port that consoles reach it at: serial over LAN names it.
    ``behaviour``: faults on purpose. ``ipmi_15``: sessions of IPMI 1.5 with MD5 as well, for passwords of at most
    16 bytes.

    The owner of the socket calls ``handle_timer`` when ``next_timer`` says so. That is None for a BMC without a
    serial console, and changes only in ``receive_datagram`` and ``handle_timer``.

    ValueError for a name or password that IPMI cannot carry, and for cipher suites other than 17 and 3.
    """

    # Without underscore: what the commands in bmc_*.py work on.
    __slots__ = (
        "_k_g",
        "_observe",
        "_suites",
        "behaviour",
        "channel_limit",
        "chassis",
        "guid",
        "ipmi_15",
        "max_sessions",
        "port",
        "privileges",
        "random",
        "sessions",
        "sol",
        "users",
    )

    def __init__(
        self,
        *,
        users: Mapping[bytes, Secret],
        guid: bytes,
        chassis: Chassis,
        random: Callable[[int], bytes],
        suites: Sequence[int] = (17, 3),
        max_sessions: int = 15,
        k_g: Secret | None = None,
        privileges: Mapping[bytes, Privilege] | None = None,
        channel_limit: Privilege = Privilege.ADMIN,
        observe: Observer | None = None,
        port: int = RMCP_PORT,
        behaviour: Behaviour | None = None,
        ipmi_15: bool = False,
    ) -> None:
        if len(guid) != 16:
            raise ValueError(f"a GUID has 16 bytes, not {len(guid)}")
        for user, password in users.items():
            if len(user) > MAX_USER or len(password.reveal()) > MAX_PASSWORD:
                raise ValueError(f"user {user!r}: at most {MAX_USER} bytes of name and {MAX_PASSWORD} of password")
        if k_g is not None and len(k_g.reveal()) > MAX_PASSWORD:
            raise ValueError(f"K_g has at most {MAX_PASSWORD} bytes")
        self.users = users
        self.guid = guid
        self.chassis = chassis
        self.random = random
        self._suites = _suites(tuple(suites))
        self.max_sessions = max_sessions
        self._k_g = k_g
        self.privileges = privileges or _NO_PRIVILEGES
        self.channel_limit = channel_limit
        self._observe = observe
        self.port = port
        self.behaviour = behaviour
        self.ipmi_15 = ipmi_15
        self.sessions: dict[int, Session] = {}
        self.sol: Sol | None = None

    @property
    def session_count(self) -> int:
        """Sessions and half-open handshakes that hold a slot, expired ones included until they are met."""
        return len(self.sessions)

    def reset(self) -> None:
        """The BMC itself restarts: every session is forgotten without a word."""
        self.sessions.clear()
        self.sol = None

    def receive_datagram(self, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        """The answers to one datagram from ``peer``, none for what a BMC ignores. Never raises for any ``data``."""
        header = decode_header(data)
        if header is None:
            return self._legacy(data, peer, now)
        kind = header.kind
        if kind in _SEALED_KINDS:
            session = self.find(header.session, now)
            return self._in_session(session, header, data, peer, now) if session is not None else []
        payload = data[16 : 16 + header.length]
        if kind == _OPEN_REQUEST:
            return self._open(payload, peer, now)
        if kind == _RAKP1:
            return self._rakp1(payload, now)
        if kind == _RAKP3:
            return self._rakp3(payload, now)
        # ipmitool asks for the cipher suites in RMCP+ framing outside a session.
        answer = self._outside(payload, peer, now) if kind == _IPMI and header.session == 0 else None
        return [encode_clear(Payload.IPMI, answer)] if answer is not None else []

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is to be called, on the caller's clock; a time in the past means now."""
        return self.sol.due if self.sol is not None else None

    def handle_timer(self, now: float) -> list[tuple[bytes, Hashable]]:
        """What the BMC sends unasked, output of the serial console: packets and where to."""
        sol = self.sol
        if sol is None:
            return []
        session = self.find(sol.session.bmc_id, now)
        if session is not sol.session or session.channel is None:
            self.sol = None
            return []
        payload = sol.poll(now)
        if sol.over:
            self.sol = None
        return [] if payload is None else [(self._seal_sol(session.channel, payload), session.peer)]

    # Outside sessions

    def _legacy(self, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        message = decode_v15(data)
        if message is not None:
            answer = self._outside(message, peer, now)
            return [encode_v15(answer)] if answer is not None else []
        if _is_ping(data):
            return [_pong(data[9])]
        return v15.receive(self, data, peer, now) if self.ipmi_15 else []

    def _outside(self, message: bytes, peer: Hashable, now: float) -> bytes | None:
        request = decode_request(message)
        if request is None or request.netfn != NetFn.APP:
            return None
        if request.command == 0x38:
            completion, answer = self.auth_capabilities(request.data)
        elif request.command == 0x54:
            completion, answer = self.cipher_suites(request.data)
        elif request.command == 0x37:
            completion, answer = Completion.OK, self.guid
        elif request.command == v15.GET_CHALLENGE and self.ipmi_15:
            completion, answer = v15.challenge(self, request.data, peer, now)
        else:
            return None
        return encode_response(request, completion, answer)

    def auth_capabilities(self, data: bytes) -> Answer:
        """Get Channel Authentication Capabilities (22.13)."""
        if len(data) != 2:
            return Completion.BAD_LENGTH, b""
        if not is_lan_channel(data[0]):
            return Completion.INVALID_FIELD, b""
        # Channel 1; extended data follows; K_g in use and user names but no anonymous ones; 1.5 only where wanted.
        types = 0x80 | (1 << AUTH_MD5 if self.ipmi_15 else 0)
        flags = (0x20 if self._k_g is not None else 0) | 0x04
        return Completion.OK, bytes((0x01, types, flags, 0x03 if self.ipmi_15 else 0x02, 0, 0, 0, 0))

    def cipher_suites(self, data: bytes) -> Answer:
        """22.15.1: records of suite number and algorithms, 16 bytes at a time."""
        if len(data) != 3:
            return Completion.BAD_LENGTH, b""
        records = b"".join(
            bytes((0xC0, s.ident, s.authentication, 0x40 | s.integrity, 0x80 | s.confidentiality))
            for s in self._suites.values()
        )
        start = 16 * (data[2] & 0x3F)
        return Completion.OK, b"\x01" + records[start : start + 16]

    # Sessions

    def find(self, bmc_id: int, now: float) -> Session | None:
        """The session or handshake of this id, if it has not expired."""
        session = self.sessions.get(bmc_id)
        if session is not None and session.expired(now):
            self.drop(bmc_id)
            return None
        return session

    def drop(self, bmc_id: int) -> bool:
        """Forget a session and its serial console. Whether there was one."""
        if self.sol is not None and self.sol.session.bmc_id == bmc_id:
            self.sol = None
        return self.sessions.pop(bmc_id, None) is not None

    def _slot_free(self, now: float) -> bool:
        """Whether a handshake may begin. When it gets tight, who has most handshakes under way loses the oldest.

        So a peer that floods takes slots from itself only, and established sessions lose nothing.
        """
        if len(self.sessions) < self.max_sessions:
            return True
        for session in [session for session in self.sessions.values() if session.expired(now, crowded=True)]:
            self.drop(session.bmc_id)
        if len(self.sessions) >= self.max_sessions:
            half_open = [session for session in self.sessions.values() if session.state is not State.ACTIVE]
            for peer, count in Counter(session.peer for session in half_open).most_common(1):
                if count > 1:
                    self.drop(next(session.bmc_id for session in half_open if session.peer == peer))
        return len(self.sessions) < self.max_sessions

    def new_session_id(self, now: float) -> int | None:
        """For a handshake that begins; None when there is no slot for it."""
        if (self.behaviour is not None and self.behaviour.refuses_session()) or not self._slot_free(now):
            return None
        bmc_id = 0
        while bmc_id == 0 or bmc_id in self.sessions:
            bmc_id = int.from_bytes(self.random(4), "little")
        return bmc_id

    # Handshake

    def _open(self, payload: bytes, peer: Hashable, now: float) -> list[bytes]:
        request = hs.decode_open_request(payload)
        if request is None or request.console_id == 0:
            return []
        chosen = self._suites.get(request.algorithms) if request.algorithms is not None else None
        if self.behaviour is not None and self.behaviour.downgrade:
            chosen = suite(3)
        status, bmc_id = Status.OK, None
        if chosen is None:
            status = Status.NO_SUITE_MATCH
        elif request.privilege > Privilege.ADMIN:
            status = Status.INVALID_ROLE
        elif (bmc_id := self.new_session_id(now)) is None:
            status = Status.NO_RESOURCES
        if chosen is None or bmc_id is None:
            error = hs.encode_error(request.tag, status, request.console_id)
            return [encode_clear(Payload.OPEN_RESPONSE, error)]
        self.sessions[bmc_id] = Session(bmc_id, request.console_id, chosen, peer, now)
        # 13.18: 0 asks for the highest level there is.
        answer = hs.encode_open_response(
            request.tag, request.privilege or Privilege.ADMIN, request.console_id, bmc_id, chosen
        )
        return [encode_clear(Payload.OPEN_RESPONSE, answer)]

    def _rakp1(self, payload: bytes, now: float) -> list[bytes]:
        request = hs.decode_rakp1(payload)
        session = self.find(request.bmc_id, now) if request is not None else None
        if request is None or session is None or session.suite is None:
            return []
        step = hs.step(Role.BMC, session.state, Event.RAKP1)
        if step is None:
            return []
        level, user = request.name[0] & 0x0F, request.name[2:]
        password = self.users.get(user)
        limit = self.privileges.get(user, Privilege.ADMIN)
        status = Status.OK
        if password is None:
            status = Status.UNAUTHORIZED_NAME
        elif level > limit:
            status = Status.UNAUTHORIZED_ROLE
        if password is None or status:
            self.drop(session.bmc_id)
            return [encode_clear(Payload.RAKP2, hs.encode_error(request.tag, status, session.console_id))]
        session.state = step.state
        session.limit = _PRIVILEGES.get(level, limit)  # 0: the highest there is
        session.password = password
        if (request.random, request.name) != (session.r_m, session.name):
            # A repeated RAKP1 keeps its answer, or the RAKP3 to the first answer would be taken for a wrong password.
            session.r_c = self.random(16)
        session.r_m = request.random
        session.name = request.name
        session_ids = _le32(session.console_id), _le32(session.bmc_id)
        proof = proof_rakp2(
            session.suite, password.reveal(), *session_ids, session.r_m, session.r_c, self.guid, session.name
        )
        if self.behaviour is not None and self.behaviour.rogue:
            proof = bytes(byte ^ 0xFF for byte in proof)
        answer = hs.encode_rakp2(request.tag, session.console_id, session.r_c, self.guid, proof)
        return [encode_clear(Payload.RAKP2, answer)]

    def _rakp3(self, payload: bytes, now: float) -> list[bytes]:
        request = hs.decode_rakp34(payload)
        session = self.find(request.session, now) if request is not None else None
        if request is None or session is None or session.suite is None:
            return []
        step = hs.step(Role.BMC, session.state, Event.RAKP3_ERROR if request.status else Event.RAKP3)
        if step is None:
            return []
        if request.status:
            self.drop(session.bmc_id)
            return []
        password = session.password.reveal()
        expected = proof_rakp3(session.suite, password, session.r_c, _le32(session.console_id), session.name)
        if not hmac.compare_digest(expected, request.proof):
            if session.state is not State.ACTIVE:  # a forged repetition must not end somebody's session
                self.drop(session.bmc_id)
            error = hs.encode_error(request.tag, Status.INVALID_PROOF, session.console_id)
            return [encode_clear(Payload.RAKP4, error)]
        if session.channel is None:
            key = self._k_g.reveal() if self._k_g is not None else password
            session.sik = session_key(session.suite, key, session.r_m, session.r_c, session.name)
            session.channel = Channel(Keys(session.suite, session.sik), session.console_id)
            session.seen_at = now
        session.state = step.state
        icv = icv_rakp4(session.suite, session.sik, session.r_m, _le32(session.bmc_id), self.guid)
        return [encode_clear(Payload.RAKP4, hs.encode_rakp34(request.tag, session.console_id, icv))]

    # Inside a session

    def _in_session(self, session: Session, header: Header, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        channel = session.channel
        if channel is None:  # the handshake is not done
            return []
        if header.kind == _SEALED_SOL:
            return self._serial(session, channel, header, data, peer, now)
        message = channel.open(header, data)
        answer = self.answer(session, message, peer, now) if message is not None else None
        return [channel.seal(answer, self.random(16))] if answer is not None else []

    def answer(self, session: Session, message: bytes, peer: Hashable, now: float) -> bytes | None:
        """Execute a message that came through ``session``, signed and once. None for what is no request."""
        request = decode_request(message)
        if request is None:
            return None
        session.seen_at = now
        session.peer = peer
        completion, answer = execute(self, session, request.netfn, request.command, request.data, now)
        if self._observe is not None:
            self._observe(name_of(request.netfn, request.command, request.data), peer, completion)
        return encode_response(request, completion, answer)

    def _serial(
        self, session: Session, channel: Channel, header: Header, data: bytes, peer: Hashable, now: float
    ) -> list[bytes]:
        payload = channel.open(header, data, Payload.SOL)
        sol = self.sol
        if payload is None or sol is None or sol.session is not session:
            return []
        session.seen_at = now
        session.peer = peer
        answers = (sol.receive(payload, now), sol.poll(now))
        if sol.over:
            self.sol = None
        return [self._seal_sol(channel, answer) for answer in answers if answer is not None]

    def _seal_sol(self, channel: Channel, payload: bytes) -> bytes:
        return channel.seal(payload, self.random(16), Payload.SOL)


_IPMI: Final = Payload.IPMI.value
_OPEN_REQUEST: Final = Payload.OPEN_REQUEST.value
_RAKP1: Final = Payload.RAKP1.value
_RAKP3: Final = Payload.RAKP3.value
_SEALED_SOL: Final = 0xC0 | Payload.SOL.value
_SEALED_KINDS: Final = frozenset((0xC0 | _IPMI, _SEALED_SOL))


def _le32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _is_ping(data: bytes) -> bool:
    """RMCP presence ping (13.2.3): ASF class, IANA 4542, type 0x80."""
    return len(data) >= 12 and data[3] == 0x06 and data[4:9] == b"\x00\x00\x11\xbe\x80"


def _pong(tag: int) -> bytes:
    """13.2.4: IPMI supported, ASF 1.0."""
    entity = b"\x00\x00\x11\xbe" + bytes(4) + b"\x81" + bytes(7)
    return RMCP[:3] + b"\x06\x00\x00\x11\xbe\x40" + bytes((tag, 0, len(entity))) + entity
