"""The BMC's side of IPMI 2.0: what the lab puts behind every address. Sans-IO: datagrams in, answers out.

It contents ipmitool, FreeIPMI and pyghmi. Whatever arrives, nothing is raised and memory stays bounded: at most
``max_sessions`` sessions, half-open ones for seconds only.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final

from bootorch.core.secret import Secret
from bootorch.ipmi import handshake as hs
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
from bootorch.ipmi.messages import Action, Completion, NetFn, Policy, Privilege, Status
from bootorch.ipmi.packet import (
    RMCP,
    Channel,
    Header,
    Payload,
    decode_header,
    decode_v15,
    encode_clear,
    encode_v15,
)
from bootorch.ipmi.wire import Request, decode_request, encode_response

IDLE_S: Final = 60.0  # 6.12.15: 60 s ± 3 s of silence end a session
HALF_OPEN_S: Final = 3.0  # OpenBMC: a handshake has 3 s
CROWDED_S: Final = 1.0  # and less when all slots are taken, or a flood of Open Session locks everybody out

# Numbers of the wire to the words here; what is not in them is refused (`in` an IntEnum needs Python 3.12).
_PRIVILEGES: Final = {level.value: level for level in Privilege}
_ACTIONS: Final = {action.value: action for action in Action}
_POLICIES: Final = {policy.value: policy for policy in Policy}

Answer = tuple[int, bytes]
Observer = Callable[[str, Hashable, int], None]


class _Session:
    __slots__ = (
        "bmc_id",
        "channel",
        "console_id",
        "limit",
        "name",
        "password",
        "privilege",
        "r_c",
        "r_m",
        "seen_at",
        "sik",
        "state",
        "suite",
    )

    def __init__(self, bmc_id: int, request: hs.OpenRequest, chosen: Suite, now: float) -> None:
        self.bmc_id = bmc_id
        self.console_id = request.console_id
        self.suite = chosen
        self.state = State.OPENING
        self.seen_at = now
        self.limit = Privilege.ADMIN
        self.privilege = Privilege.USER  # 22.18: where every session starts
        self.name = b""
        self.r_m = b""
        self.r_c = b""
        self.password = Secret(b"")
        self.sik = b""
        self.channel: Channel | None = None

    def expired(self, now: float, crowded: bool) -> bool:
        if self.state is State.ACTIVE:
            return now - self.seen_at >= IDLE_S
        return now - self.seen_at >= (CROWDED_S if crowded else HALF_OPEN_S)


class Bmc:
    """One BMC. ``users`` are names (at most 16 bytes) with passwords (at most 20); ``guid`` is 16 bytes.

    ``privileges`` limits users that are not administrators; ``channel_limit`` is what Set Session Privilege grants
    at most. ``k_g`` is the BMC's own key, for the rare site that sets
    one. ``observe(command, peer, completion)`` hears of every authenticated command after it was executed: the
    witness of what really reached the machine. ``random(n)`` gives n bytes.

    ValueError for a name or password that IPMI cannot carry, and for cipher suites other than 17 and 3.
    """

    __slots__ = (
        "_channel_limit",
        "_chassis",
        "_guid",
        "_k_g",
        "_max_sessions",
        "_observe",
        "_privileges",
        "_random",
        "_sessions",
        "_suites",
        "_users",
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
    ) -> None:
        if len(guid) != 16:
            raise ValueError(f"a GUID has 16 bytes, not {len(guid)}")
        for user, password in users.items():
            if len(user) > MAX_USER or len(password.reveal()) > MAX_PASSWORD:
                raise ValueError(f"user {user!r}: at most {MAX_USER} bytes of name and {MAX_PASSWORD} of password")
        if k_g is not None and len(k_g.reveal()) > MAX_PASSWORD:
            raise ValueError(f"K_g has at most {MAX_PASSWORD} bytes")
        self._users = users
        self._guid = guid
        self._chassis = chassis
        self._random = random
        self._suites = {(s.authentication, s.integrity, s.confidentiality): s for s in map(suite, suites)}
        self._max_sessions = max_sessions
        self._k_g = k_g
        self._privileges = privileges or {}
        self._channel_limit = channel_limit
        self._observe = observe
        self._sessions: dict[int, _Session] = {}

    @property
    def session_count(self) -> int:
        """Sessions and half-open handshakes that hold a slot, expired ones included until they are met."""
        return len(self._sessions)

    def reset(self) -> None:
        """The BMC itself restarts: every session is forgotten without a word."""
        self._sessions.clear()

    def receive_datagram(self, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        """The answers to one datagram from ``peer``, none for what a BMC ignores. Never raises for any ``data``."""
        header = decode_header(data)
        if header is None:
            message = decode_v15(data)
            if message is None:
                return [_pong(data[9])] if _is_ping(data) else []
            answer = self._outside(message)
            return [encode_v15(answer)] if answer is not None else []
        if header.kind == Payload.OPEN_REQUEST:
            return self._open(data[16 : 16 + header.length], now)
        if header.kind == Payload.RAKP1:
            return self._rakp1(data[16 : 16 + header.length], now)
        if header.kind == Payload.RAKP3:
            return self._rakp3(data[16 : 16 + header.length], now)
        if header.session == 0:
            # ipmitool asks for the cipher suites in RMCP+ framing outside a session.
            answer = self._outside(data[16 : 16 + header.length]) if header.kind == Payload.IPMI else None
            return [encode_clear(Payload.IPMI, answer)] if answer is not None else []
        session = self._find(header.session, now)
        if session is None or session.state is not State.ACTIVE:
            return []
        return self._in_session(session, header, data, peer, now)

    # Outside sessions

    def _outside(self, message: bytes) -> bytes | None:
        request = decode_request(message)
        if request is None or request.netfn != NetFn.APP:
            return None
        if request.command == 0x38:
            completion, answer = self._auth_capabilities(request.data)
        elif request.command == 0x54:
            completion, answer = self._cipher_suites(request.data)
        elif request.command == 0x37:
            completion, answer = Completion.OK, self._guid
        else:
            return None
        return encode_response(request, completion, answer)

    def _auth_capabilities(self, data: bytes) -> Answer:
        if len(data) != 2:
            return Completion.BAD_LENGTH, b""
        if data[0] & 0x0F not in (0x0E, 0x01):
            return Completion.INVALID_FIELD, b""
        # 22.13: channel 1; extended data follows; K_g in use and user names but no anonymous ones; 2.0 only.
        flags = (0x20 if self._k_g is not None else 0) | 0x04
        return Completion.OK, bytes((0x01, 0x80, flags, 0x02, 0, 0, 0, 0))

    def _cipher_suites(self, data: bytes) -> Answer:
        """22.15.1: records of suite number and algorithms, 16 bytes at a time."""
        if len(data) != 3:
            return Completion.BAD_LENGTH, b""
        records = b"".join(
            bytes((0xC0, s.ident, s.authentication, 0x40 | s.integrity, 0x80 | s.confidentiality))
            for s in self._suites.values()
        )
        start = 16 * (data[2] & 0x3F)
        return Completion.OK, b"\x01" + records[start : start + 16]

    # Handshake

    def _find(self, bmc_id: int, now: float) -> _Session | None:
        session = self._sessions.get(bmc_id)
        if session is not None and session.expired(now, crowded=False):
            del self._sessions[bmc_id]
            return None
        return session

    def _slot_free(self, now: float) -> bool:
        if len(self._sessions) >= self._max_sessions:
            gone = [ident for ident, session in self._sessions.items() if session.expired(now, crowded=True)]
            for ident in gone:
                del self._sessions[ident]
        return len(self._sessions) < self._max_sessions

    def _open(self, payload: bytes, now: float) -> list[bytes]:
        request = hs.decode_open_request(payload)
        if request is None or request.console_id == 0:
            return []
        chosen = self._suites.get(request.algorithms) if request.algorithms is not None else None
        status = Status.OK
        if chosen is None:
            status = Status.NO_SUITE_MATCH
        elif request.privilege > Privilege.ADMIN:
            status = Status.INVALID_ROLE
        elif not self._slot_free(now):
            status = Status.NO_RESOURCES
        if chosen is None or status:
            error = hs.encode_error(request.tag, status, request.console_id)
            return [encode_clear(Payload.OPEN_RESPONSE, error)]
        bmc_id = 0
        while bmc_id == 0 or bmc_id in self._sessions:
            bmc_id = int.from_bytes(self._random(4), "little")
        self._sessions[bmc_id] = _Session(bmc_id, request, chosen, now)
        # 13.18: 0 asks for the highest level there is.
        answer = hs.encode_open_response(
            request.tag, request.privilege or Privilege.ADMIN, request.console_id, bmc_id, chosen
        )
        return [encode_clear(Payload.OPEN_RESPONSE, answer)]

    def _rakp1(self, payload: bytes, now: float) -> list[bytes]:
        request = hs.decode_rakp1(payload)
        session = self._find(request.bmc_id, now) if request is not None else None
        if request is None or session is None:
            return []
        step = hs.step(Role.BMC, session.state, Event.RAKP1)
        if step is None:
            return []
        level, user = request.name[0] & 0x0F, request.name[2:]
        password = self._users.get(user)
        limit = self._privileges.get(user, Privilege.ADMIN)
        status = Status.OK
        if password is None:
            status = Status.UNAUTHORIZED_NAME
        elif level > limit:
            status = Status.UNAUTHORIZED_ROLE
        if password is None or status:
            del self._sessions[session.bmc_id]
            return [encode_clear(Payload.RAKP2, hs.encode_error(request.tag, status, session.console_id))]
        session.state = step.state
        session.limit = _PRIVILEGES.get(level, limit)  # 0: the highest there is
        session.password = password
        if (request.random, request.name) != (session.r_m, session.name):
            # A repeated RAKP1 keeps its answer, or the RAKP3 to the first answer would be taken for a wrong password.
            session.r_c = self._random(16)
        session.r_m = request.random
        session.name = request.name
        session_ids = _le32(session.console_id), _le32(session.bmc_id)
        proof = proof_rakp2(
            session.suite, password.reveal(), *session_ids, session.r_m, session.r_c, self._guid, session.name
        )
        answer = hs.encode_rakp2(request.tag, session.console_id, session.r_c, self._guid, proof)
        return [encode_clear(Payload.RAKP2, answer)]

    def _rakp3(self, payload: bytes, now: float) -> list[bytes]:
        request = hs.decode_rakp34(payload)
        session = self._find(request.session, now) if request is not None else None
        if request is None or session is None:
            return []
        step = hs.step(Role.BMC, session.state, Event.RAKP3_ERROR if request.status else Event.RAKP3)
        if step is None:
            return []
        if request.status:
            del self._sessions[session.bmc_id]
            return []
        password = session.password.reveal()
        expected = proof_rakp3(session.suite, password, session.r_c, _le32(session.console_id), session.name)
        if not hmac.compare_digest(expected, request.proof):
            if session.state is not State.ACTIVE:  # a forged repetition must not end somebody's session
                del self._sessions[session.bmc_id]
            error = hs.encode_error(request.tag, Status.INVALID_PROOF, session.console_id)
            return [encode_clear(Payload.RAKP4, error)]
        if session.channel is None:
            key = self._k_g.reveal() if self._k_g is not None else password
            session.sik = session_key(session.suite, key, session.r_m, session.r_c, session.name)
            session.channel = Channel(Keys(session.suite, session.sik), session.console_id)
            session.seen_at = now
        session.state = step.state
        icv = icv_rakp4(session.suite, session.sik, session.r_m, _le32(session.bmc_id), self._guid)
        return [encode_clear(Payload.RAKP4, hs.encode_rakp34(request.tag, session.console_id, icv))]

    # Inside a session

    def _in_session(self, session: _Session, header: Header, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        channel = session.channel
        assert channel is not None, "a session is ACTIVE only with keys"
        message = channel.open(header, data)
        request = decode_request(message) if message is not None else None
        if request is None:
            return []
        session.seen_at = now
        name, completion, answer = self._execute(session, request, now)
        if self._observe is not None:
            self._observe(name, peer, completion)
        return [channel.seal(encode_response(request, completion, answer), self._random(16))]

    def _execute(self, session: _Session, request: Request, now: float) -> tuple[str, int, bytes]:
        entry = _COMMANDS.get((request.netfn, request.command))
        if entry is None:
            return f"unknown {request.netfn:02x}/{request.command:02x}", Completion.INVALID_COMMAND, b""
        name, privilege, shortest, handler = entry
        data = request.data
        if request.netfn == NetFn.CHASSIS and request.command == 0x02 and len(data) == 1 and data[0] in _ACTIONS:
            name = f"{name} {_ACTIONS[data[0]].name.lower().replace('_', ' ')}"
        if session.privilege < privilege:
            return name, Completion.PRIVILEGE, b""
        if len(data) < shortest:
            return name, Completion.BAD_LENGTH, b""
        completion, answer = handler(self, session, data, now)
        return name, completion, answer

    def _device_id(self, session: _Session, data: bytes, now: float) -> Answer:
        # 20.1: device 0x20, firmware 1.00, IPMI 2.0, chassis device; manufacturer 0: none was assigned.
        return Completion.OK, bytes((0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0))

    def _system_guid(self, session: _Session, data: bytes, now: float) -> Answer:
        return Completion.OK, self._guid

    def _set_privilege(self, session: _Session, data: bytes, now: float) -> Answer:
        level = data[0] & 0x0F
        if level == 0:  # 22.18: tell the present level
            return Completion.OK, bytes((session.privilege,))
        if level not in _PRIVILEGES or level == Privilege.CALLBACK:
            return Completion.INVALID_FIELD, b""
        if level > min(session.limit, self._channel_limit):
            return 0x81, b""  # 22.18: exceeds channel or user limit
        session.privilege = _PRIVILEGES[level]
        return Completion.OK, bytes((level,))

    def _close(self, session: _Session, data: bytes, now: float) -> Answer:
        bmc_id = int.from_bytes(data[:4], "little")
        if bmc_id != session.bmc_id and session.privilege < Privilege.ADMIN:
            return Completion.PRIVILEGE, b""
        return (Completion.OK if self._sessions.pop(bmc_id, None) is not None else 0x87), b""  # 0x87: no such session

    def _session_info(self, session: _Session, data: bytes, now: float) -> Answer:
        active = sum(1 for other in self._sessions.values() if other.state is State.ACTIVE)
        return Completion.OK, bytes((1, self._max_sessions & 0x3F, active & 0x3F, 2, session.privilege, 0x11))

    def _auth_capabilities_again(self, session: _Session, data: bytes, now: float) -> Answer:
        return self._auth_capabilities(data)

    def _cipher_suites_again(self, session: _Session, data: bytes, now: float) -> Answer:
        return self._cipher_suites(data)

    def _capabilities(self, session: _Session, data: bytes, now: float) -> Answer:
        return Completion.OK, bytes((0, 0x20, 0x20, 0x20, 0x20))

    def _chassis_status(self, session: _Session, data: bytes, now: float) -> Answer:
        power = (1 if self._chassis.power_is_on(now) else 0) | (self._chassis.restore_policy() & 3) << 5
        return Completion.OK, bytes((power, 0, 0))

    def _chassis_control(self, session: _Session, data: bytes, now: float) -> Answer:
        action = _ACTIONS.get(data[0] & 0x0F)
        if action is None:
            return Completion.INVALID_FIELD, b""
        return self._chassis.control(action, now), b""

    def _identify(self, session: _Session, data: bytes, now: float) -> Answer:
        forced = len(data) > 1 and data[1] & 1
        seconds = None if forced else (data[0] if data else 15)  # 28.5: 15 s unless told
        return self._chassis.identify(seconds, now), b""

    def _restore_policy(self, session: _Session, data: bytes, now: float) -> Answer:
        policy = _POLICIES.get(data[0] & 7)
        if policy is None:
            return Completion.INVALID_FIELD, b""
        completion = 0 if policy is Policy.QUERY else self._chassis.set_restore_policy(policy)
        return completion, b"\x07" if completion == Completion.OK else b""

    def _restart_cause(self, session: _Session, data: bytes, now: float) -> Answer:
        return Completion.OK, bytes((self._chassis.restart_cause() & 0x0F, 0x01))

    def _set_boot_option(self, session: _Session, data: bytes, now: float) -> Answer:
        if len(data) == 1:  # 28.12: only the parameter's valid/lock bit, no value
            return Completion.OK, b""
        return self._chassis.set_boot_option(data[0] & 0x7F, data[1:], now), b""

    def _get_boot_option(self, session: _Session, data: bytes, now: float) -> Answer:
        parameter = data[0] & 0x7F
        value = self._chassis.boot_option(parameter, now)
        if value is None:
            return 0x80, b""
        return Completion.OK, bytes((0x01, parameter)) + value


def _le32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _is_ping(data: bytes) -> bool:
    """RMCP presence ping (13.2.3): ASF class, IANA 4542, type 0x80."""
    return len(data) >= 12 and data[3] == 0x06 and data[4:9] == b"\x00\x00\x11\xbe\x80"


def _pong(tag: int) -> bytes:
    """13.2.4: IPMI supported, ASF 1.0."""
    entity = b"\x00\x00\x11\xbe" + bytes(4) + b"\x81" + bytes(7)
    return RMCP[:3] + b"\x06\x00\x00\x11\xbe\x40" + bytes((tag, 0, len(entity))) + entity


_Handler = Callable[[Bmc, _Session, bytes, float], Answer]

# Commands inside a session: (name for the witness, least privilege (appendix G), shortest data, handler).
_COMMANDS: Final[dict[tuple[int, int], tuple[str, Privilege, int, _Handler]]] = {
    (NetFn.APP, 0x01): ("device id", Privilege.USER, 0, Bmc._device_id),
    (NetFn.APP, 0x37): ("system guid", Privilege.USER, 0, Bmc._system_guid),
    (NetFn.APP, 0x38): ("auth capabilities", Privilege.CALLBACK, 2, Bmc._auth_capabilities_again),
    (NetFn.APP, 0x3B): ("set session privilege", Privilege.CALLBACK, 1, Bmc._set_privilege),
    (NetFn.APP, 0x3C): ("close session", Privilege.CALLBACK, 4, Bmc._close),
    (NetFn.APP, 0x3D): ("session info", Privilege.USER, 1, Bmc._session_info),
    (NetFn.APP, 0x54): ("cipher suites", Privilege.CALLBACK, 3, Bmc._cipher_suites_again),
    (NetFn.CHASSIS, 0x00): ("chassis capabilities", Privilege.USER, 0, Bmc._capabilities),
    (NetFn.CHASSIS, 0x01): ("chassis status", Privilege.USER, 0, Bmc._chassis_status),
    (NetFn.CHASSIS, 0x02): ("chassis control", Privilege.OPERATOR, 1, Bmc._chassis_control),
    (NetFn.CHASSIS, 0x04): ("chassis identify", Privilege.OPERATOR, 0, Bmc._identify),
    (NetFn.CHASSIS, 0x06): ("restore policy", Privilege.OPERATOR, 1, Bmc._restore_policy),
    (NetFn.CHASSIS, 0x07): ("restart cause", Privilege.USER, 0, Bmc._restart_cause),
    (NetFn.CHASSIS, 0x08): ("boot option set", Privilege.OPERATOR, 1, Bmc._set_boot_option),
    (NetFn.CHASSIS, 0x09): ("boot option get", Privilege.OPERATOR, 3, Bmc._get_boot_option),
}
