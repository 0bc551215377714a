"""The console's way into a session: discovery, suite and privilege negotiation, Open Session and RAKP (13.17-13.24).

Sans-IO. What may follow what is in ``handshake.TRANSITIONS``; here is the policy: what to propose next when a BMC
refuses or stays silent, and what to call it when there is nothing left to propose.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Final

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.crypto import (
    MAX_PASSWORD,
    MAX_USER,
    Keys,
    icv_rakp4,
    proof_rakp2,
    proof_rakp3,
    session_key,
    suite,
)
from bootorch.ipmi.handshake import Event, Role, State
from bootorch.ipmi.messages import Completion, NetFn, Privilege, Status
from bootorch.ipmi.packet import Channel, Header, Payload, decode_v15, encode_clear, encode_v15
from bootorch.ipmi.wire import decode_response, encode_request

DISCOVERIES: Final = 2  # unanswered ones; then Open Session goes without: some BMCs ignore IPMI 1.5 framing
WAIT_S: Final = 1.0  # pyghmi logs in again after 0.5-1 s; a RAKP step takes a slow BMC some 0.3 s
LOSSES: Final = 6  # with growth 1.5 and cap 5 s: 18 s in all; FreeIPMI gives a session 20 s
MAX_HANDSHAKES: Final = 12  # losses, two suites at two privileges, and the second chance
GROWTH: Final = 1.5
MAX_WAIT_S: Final = 5.0

_NO_SLOT: Final = frozenset((Status.NO_RESOURCES, Status.NO_RESOURCES_AT_ROLE))
_NO_SUITE: Final = frozenset(
    (
        Status.INVALID_AUTHENTICATION,
        Status.INVALID_INTEGRITY,
        Status.NO_AUTHENTICATION_MATCH,
        Status.NO_INTEGRITY_MATCH,
        Status.INVALID_CONFIDENTIALITY,
        Status.NO_SUITE_MATCH,
        # What some BMCs say for a suite that was disabled:
        Status.UNAUTHORIZED_ROLE,
        Status.ILLEGAL_PARAMETER,
    )
)
_NO_ROLE: Final = frozenset((Status.INVALID_ROLE, Status.UNAUTHORIZED_ROLE))
_STALE: Final = frozenset((Status.INVALID_SESSION, Status.INACTIVE_SESSION))


class Credentials:
    """Who logs in. ValueError for what IPMI cannot carry: too long is refused, never cut.

    ``user`` at most 16 bytes, ``password`` and ``k_g`` (the BMC's own key, where it has one) at most 20.
    """

    __slots__ = ("k_g", "password", "user")

    def __init__(self, user: bytes, password: Secret, k_g: Secret | None = None) -> None:
        if len(user) > MAX_USER:
            raise ValueError(f"the BMC user name has {len(user)} bytes; IPMI takes at most {MAX_USER}")
        if len(password.reveal()) > MAX_PASSWORD:
            raise ValueError(f"the BMC password is longer than the {MAX_PASSWORD} bytes that IPMI takes")
        if k_g is not None and len(k_g.reveal()) > MAX_PASSWORD:
            raise ValueError(f"the BMC key K_g is longer than the {MAX_PASSWORD} bytes that IPMI takes")
        self.user = user
        self.password = password
        self.k_g = k_g


class Login:
    """A login in progress. It ends with ``established`` or with ``failure``; packets to send are put into ``out``.

    ``channel`` is there as soon as the BMC has proved itself (RAKP2). ``timer`` is when ``lost`` is due.
    """

    __slots__ = (
        "_bmc_id",
        "_console_id",
        "_credentials",
        "_discover",
        "_extended",
        "_guid",
        "_handshakes",
        "_heard",
        "_losses",
        "_name",
        "_new_id",
        "_out",
        "_r_c",
        "_r_m",
        "_random",
        "_refused",
        "_sik",
        "_silent_after",
        "_state",
        "_suite_index",
        "_suites",
        "_tag",
        "_undiscovered",
        "channel",
        "failure",
        "privilege",
        "timer",
        "unproven",
    )

    def __init__(
        self,
        credentials: Credentials,
        out: list[bytes],
        *,
        random: Callable[[int], bytes],
        console_id: Callable[[], int],
        suites: Sequence[int],
        privilege: Privilege,
    ) -> None:
        self._credentials = credentials
        self._out = out
        self._random = random
        self._new_id = console_id
        self._suites = tuple(map(suite, suites))
        self._suite_index = 0
        self._discover = True  # the next packet is Get Channel Authentication Capabilities
        self._undiscovered = 0  # how many of those had no answer
        self._extended = True
        self._state = State.START
        self._heard = False  # anything that made sense came from the BMC
        self._losses = 0
        self._silent_after = ""  # the RAKP message that a BMC answering Open Session left without an answer
        self._handshakes = 0
        self._refused = False  # user or password were refused once: accounts lock
        self._tag = random(1)[0]
        self._forget()
        self.privilege = privilege
        self.failure: tuple[Reason, str] | None = None
        self.unproven = False
        self.timer = 0.0

    def _forget(self) -> None:
        self._console_id = 0
        self._bmc_id = 0
        self._r_m = b""
        self._r_c = b""
        self._guid = b""
        self._name = b""
        self._sik = b""
        self.channel: Channel | None = None

    @property
    def established(self) -> bool:
        return self._state is State.ACTIVE

    @property
    def console_id(self) -> int:
        """Our id of the session; packets that carry another one are none of ours."""
        return self._console_id

    @property
    def suite_ident(self) -> int:
        return self._suites[self._suite_index].ident

    def start(self, now: float) -> None:
        """Send the first, or the next, discovery or Open Session."""
        if self._discover:
            # Always asked, though the answer is not believed: it shows who is silent at which point, and servers that
            # key sessions by the client's address (pyghmi, and so VirtualBMC) take it for the end of the old one.
            request = encode_request(NetFn.APP, 0x38, self._tag, msg.auth_capabilities(self._extended))
            self._out.append(encode_v15(request))
            self.timer = now + wait_s(WAIT_S, self._losses, self._random)
            return
        if self._handshakes >= MAX_HANDSHAKES:
            self._fail(Reason.BMC_PROTOCOL, f"no session after {MAX_HANDSHAKES} handshakes, though the BMC answers")
            return
        self._handshakes += 1
        self._forget()
        self._console_id = self._new_id()
        assert 0 < self._console_id < 1 << 32, "a console session id has 32 bits and is not 0"
        self._advance(Event.BEGIN, now)

    def lost(self, now: float) -> None:
        """No answer came in time: the handshake starts again with a fresh session id, its messages are never resent."""
        self._losses += 1
        if self._losses >= LOSSES:
            self.silence(f"no answer after {self._losses} tries")
            return
        self.leave()
        self._silent_after = self._silent_step() or self._silent_after
        if self._state is State.START:
            self._undiscovered += 1
        else:
            self._advance(Event.LOST, now)
        self._discover = self._undiscovered < DISCOVERIES
        self.start(now)

    def leave(self) -> None:
        """RAKP4 is missing, so the BMC may hold a session that nobody will use: close it."""
        if self._state is State.CONFIRMING and self.channel is not None:
            self._out.append(close_packet(self.channel, 0, self._random))

    def silence(self, how: str) -> None:
        """Fail, and say which silence it is: they have different remedies."""
        # An earlier handshake may have come further than the one that time ran out for.
        step = self._silent_step() or self._silent_after
        if step:
            self.leave()
            self._fail(Reason.BMC_SILENT_AUTH, f"answers Open Session, silent after {step}; {how}")
        elif self._heard:
            self._fail(Reason.BMC_NO_SESSION, f"answers, but not to Open Session (no free session?); {how}")
        else:
            self._fail(Reason.BMC_UNREACHABLE, f"nothing answers; {how}")

    def _silent_step(self) -> str:
        return {State.PROVING: "RAKP1 (unknown user?)", State.CONFIRMING: "RAKP3"}.get(self._state, "")

    def receive(self, header: Header | None, packet: bytes, now: float) -> None:
        """A packet outside a session; ``header`` is None for IPMI 1.5 framing. Foreign and late ones are ignored."""
        if header is None:
            self._discovered(packet, now)
            return
        payload = packet[16 : 16 + header.length]
        if header.kind == Payload.OPEN_RESPONSE:
            self._open_response(payload, now)
        elif header.kind == Payload.RAKP2:
            self._rakp2(payload, now)
        elif header.kind == Payload.RAKP4:
            self._rakp4(payload, now)

    def _fail(self, reason: Reason, detail: str) -> None:
        self.failure = reason, detail

    def _advance(self, event: Event, now: float) -> None:
        """Take the table's step and send what it says."""
        step = hs.step(Role.CONSOLE, self._state, event)
        assert step is not None, f"{event} in {self._state} was checked before"
        self._state = step.state
        if step.send is None:
            return
        self._tag = (self._tag + 1) & 0xFF
        chosen = self._suites[self._suite_index]
        if step.send is Payload.OPEN_REQUEST:
            payload = hs.encode_open_request(self._tag, self.privilege, self._console_id, chosen)
        elif step.send is Payload.RAKP1:
            # The privilege of Open Session again, explicitly: several BMCs hash that one (Supermicro X8, Intel, Dell).
            self._r_m = self._random(16)
            self._name = hs.role_and_name(self.privilege, self._credentials.user)
            payload = hs.encode_rakp1(self._tag, self._bmc_id, self._r_m, self._name)
        else:
            password = self._credentials.password.reveal()
            proof = proof_rakp3(chosen, password, self._r_c, _le32(self._console_id), self._name)
            payload = hs.encode_rakp34(self._tag, self._bmc_id, proof)
        self._out.append(encode_clear(step.send, payload))
        self.timer = now + wait_s(WAIT_S, self._losses, self._random)

    def _again(self, event: Event, now: float) -> None:
        """This handshake is over; the next one begins."""
        self._advance(event, now)
        self.start(now)

    def _expected(self, state: State, tag: int, console_id: int, status: int) -> bool:
        """Whether an answer is the one that is waited for; a refusal may come without our session id."""
        ours = console_id == self._console_id or (status != 0 and console_id == 0)
        return self._state is state and tag == self._tag and ours

    def _discovered(self, packet: bytes, now: float) -> None:
        message = decode_v15(packet)
        response = decode_response(message) if message is not None else None
        if response is None or (response.netfn, response.command) != (NetFn.APP | 1, 0x38):
            return
        self._heard = True
        if self._state is not State.START:
            return  # late: Open Session is on its way already
        if response.completion == Completion.INVALID_FIELD and self._extended:
            self._extended = False
        else:
            # Whatever the flags say: they are wrong on Asus, Intel and Sun. Open Session will tell.
            self._discover = False
        self.start(now)

    def _open_response(self, payload: bytes, now: float) -> None:
        answer = hs.decode_open_response(payload)
        if answer is None or not self._expected(State.OPENING, answer.tag, answer.console_id, answer.status):
            return
        self._heard = True
        if answer.status:
            self._open_refused(answer.status, now)
            return
        chosen = self._suites[self._suite_index]
        proposed = (chosen.authentication, chosen.integrity, chosen.confidentiality)
        if answer.algorithms != proposed or answer.bmc_id == 0:
            # Some servers answer status 0 with suite 3 whatever was proposed: propose it, or do without.
            self._step_suite(f"proposed suite {chosen.ident}, answered with other algorithms", now)
            return
        self._bmc_id = answer.bmc_id
        self._advance(Event.OPEN_RESPONSE, now)

    def _open_refused(self, status: int, now: float) -> None:
        text = f"Open Session: {msg.status_name(status)}"
        if status in _NO_SLOT:
            self._fail(Reason.BMC_NO_SESSION, f"{text}; idle sessions expire after about 60 s")
        elif status in _NO_ROLE and self._last_suite() and self._lower_privilege():
            self._suite_index = 0
            self._again(Event.OPEN_ERROR, now)
        elif status in _NO_SUITE:
            self._step_suite(text, now)
        elif status in _STALE:
            self._stale(text, Event.OPEN_ERROR, now)
        else:
            self._fail(Reason.BMC_REFUSED if status in _NO_ROLE else Reason.BMC_PROTOCOL, text)

    def _rakp2(self, payload: bytes, now: float) -> None:
        answer = hs.decode_rakp2(payload)
        if answer is None or not self._expected(State.PROVING, answer.tag, answer.console_id, answer.status):
            return
        if answer.status:
            self._rakp_refused("RAKP2", answer.status, Event.RAKP2_ERROR, now)
            return
        chosen = self._suites[self._suite_index]
        self._r_c = answer.random
        self._guid = answer.guid
        password = self._credentials.password.reveal()
        session_ids = _le32(self._console_id), _le32(self._bmc_id)
        proof = proof_rakp2(chosen, password, *session_ids, self._r_m, self._r_c, self._guid, self._name)
        if not hmac.compare_digest(proof, answer.proof):
            # Not one byte that depends on the password may leave from here on.
            if self._first_refusal():
                self._again(Event.RAKP2_ERROR, now)
            else:
                self.unproven = True
                self._fail(Reason.BMC_AUTH_FAILED, "RAKP2: the BMC's proof does not fit the password that we hold")
            return
        key = password if self._credentials.k_g is None else self._credentials.k_g.reveal()
        self._sik = session_key(chosen, key, self._r_m, self._r_c, self._name)
        self.channel = Channel(Keys(chosen, self._sik), self._bmc_id)
        self._advance(Event.RAKP2, now)

    def _rakp4(self, payload: bytes, now: float) -> None:
        answer = hs.decode_rakp34(payload)
        if answer is None or not self._expected(State.CONFIRMING, answer.tag, answer.session, answer.status):
            return
        if answer.status:
            self._rakp_refused("RAKP4", answer.status, Event.RAKP4_ERROR, now)
            return
        chosen = self._suites[self._suite_index]
        icv = icv_rakp4(chosen, self._sik, self._r_m, _le32(self._bmc_id), self._guid)
        if not hmac.compare_digest(icv, answer.proof[: chosen.icv_size]):
            self._fail(Reason.BMC_AUTH_FAILED, "RAKP4: password right, session key wrong (has the BMC a K_g?)")
            return
        self._sik = b""
        self._advance(Event.RAKP4, now)

    def _rakp_refused(self, what: str, status: int, event: Event, now: float) -> None:
        text = f"{what}: {msg.status_name(status)}"
        if status in _NO_SLOT:
            self._fail(Reason.BMC_NO_SESSION, text)
        elif (status in _NO_ROLE or status == Status.UNAUTHORIZED_NAME) and self._lower_privilege():
            # Xyratex and others want exactly the user's own maximum, and say "unauthorized name" otherwise.
            self._again(event, now)
        elif status in _NO_ROLE:
            self._fail(Reason.BMC_REFUSED, text)
        elif status in _STALE:
            self._stale(text, event, now)
        elif status == Status.INVALID_PROOF and self._first_refusal():
            self._again(event, now)
        elif status in (Status.INVALID_PROOF, Status.UNAUTHORIZED_NAME, Status.INVALID_NAME_LENGTH):
            self._fail(Reason.BMC_AUTH_FAILED, text)
        else:
            self._fail(Reason.BMC_PROTOCOL, text)

    def _stale(self, text: str, event: Event, now: float) -> None:
        """The BMC has forgotten this handshake: as good as a lost message."""
        self._losses += 1
        if self._losses >= LOSSES:
            self._fail(Reason.BMC_PROTOCOL, text)
        else:
            self._again(event, now)

    def _last_suite(self) -> bool:
        return self._suite_index + 1 >= len(self._suites)

    def _step_suite(self, why: str, now: float) -> None:
        if self._last_suite():
            permitted = " or ".join(str(s.ident) for s in self._suites)
            self._fail(Reason.BMC_NO_SUITE, f"cipher suite {permitted} is needed: {why}")
        else:
            self._suite_index += 1
            self._again(Event.OPEN_ERROR, now)

    def _lower_privilege(self) -> bool:
        """ADMIN to OPERATOR, once: enough for power, and all that some users have."""
        if self.privilege is not Privilege.ADMIN:
            return False
        self.privilege = Privilege.OPERATOR
        return True

    def _first_refusal(self) -> bool:
        """True once: a refused password is tried a second time, never a third."""
        first = not self._refused
        self._refused = True
        return first


def close_packet(channel: Channel, rq_sequence: int, random: Callable[[int], bytes]) -> bytes:
    """Close Session (22.19): sent once, never again."""
    message = encode_request(NetFn.APP, 0x3C, rq_sequence, msg.close_session(channel.peer_id))
    return channel.seal(message, random(16))


def wait_s(first_s: float, n: int, random: Callable[[int], bytes]) -> float:
    """The n-th wait in seconds: growing, capped, ±10 % so that thousands of BMCs are not asked in step."""
    return min(first_s * GROWTH**n, MAX_WAIT_S) * (0.9 + random(1)[0] / 1275)


def _le32(number: int) -> bytes:
    return number.to_bytes(4, "little")
