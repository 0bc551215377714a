"""The console's way into a session: suite and privilege negotiation, Open Session and RAKP (13.17-13.24).

Sans-IO. What may follow what is in ``handshake.TRANSITIONS``; what a refusal means is in ``quirks``; here is the
policy: what to propose next when a BMC refuses or stays silent, and what to call it when nothing is left to propose.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

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
from bootorch.ipmi.messages import Completion, NetFn, Privilege
from bootorch.ipmi.packet import Channel, Header, Payload, decode_header, decode_v15, encode_clear, encode_v15
from bootorch.ipmi.quirks import Do, steps
from bootorch.ipmi.wire import decode_response, encode_request

if TYPE_CHECKING:
    from bootorch.ipmi.packet15 import Channel15

# Waits for an answer, in seconds. FreeIPMI starts at 0.4 s and ends at 20 s in all, ipmitool waits 1, 2, 3, 4 s, pyghmi
# logs in again after 0.5-1 s. A BMC that answers has lost a packet and is hardly slow, so its waits stay short. One
# that needs long for its cryptography gives itself away by answers to handshakes that were given up: they double the
# waits. So does, in the end, being silent at the same step again and again.
WAIT_S: Final = 0.25
HEARD_GROWTH, HEARD_MAX_S = 1.3, 0.6
SLOW_MAX_S: Final = 5.0
STUCK_AFTER: Final = 8
STUCK_GROWTH: Final = 1.5
# One that never answered is dead or dark: asked less and less often, for a network full of such is the rule here.
UNHEARD_GROWTH, UNHEARD_MAX_S = 2.0, 2.0

_STEPS: Final = hs.TRANSITIONS[Role.CONSOLE]
MAX_HANDSHAKES: Final = (
    100  # bound for a BMC that answers and never comes to an end: 30 s at 20 % loss each way need 50
)
SILENT_STEPS: Final = 12  # silences after RAKP1, or RAKP3, in a row: at 20 % loss each way a chance of 5 in a million


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

    ``channel`` is there as soon as the BMC has proved itself (RAKP2). ``timer`` is when ``lost`` is due, ``losses`` how
    often it was called; ``heard``: anything that made sense came from the BMC; ``rtt_s``: its longest answer time.
    """

    __slots__ = (
        "_bmc_id",
        "_console_id",
        "_credentials",
        "_discover",
        "_extended",
        "_first_wait_s",
        "_guid",
        "_handshakes",
        "_late",
        "_name",
        "_new_id",
        "_out",
        "_r_c",
        "_r_m",
        "_random",
        "_refused",
        "_sent_at",
        "_sik",
        "_silent_after",
        "_state",
        "_stuck",
        "_stuck_at",
        "_suite_index",
        "_suites",
        "_tag",
        "channel",
        "established",
        "failure",
        "heard",
        "losses",
        "privilege",
        "rtt_s",
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
        first_wait_s: float = WAIT_S,
    ) -> None:
        self._credentials = credentials
        self._out = out
        self._random = random
        self._new_id = console_id
        self._suites = tuple(map(suite, suites))
        self._suite_index = 0
        self._first_wait_s = first_wait_s
        # Discovery tells what Open Session does not: that the BMC is there at all when Open Session stays unanswered.
        # Until then it would be one packet in six, for flags that nobody believes.
        self._discover = False
        self._extended = True
        self._state = State.START
        self._stuck = 0  # handshakes in a row that ended in silence at the same step
        self._stuck_at = State.START
        self._silent_after = ""  # the RAKP message that was left without an answer
        self._handshakes = 0
        self._late = False  # an answer to an earlier handshake came during this one
        self._refused = False  # user or password were refused once: accounts lock
        self._tag = 0
        self._sent_at = 0.0
        self._console_id = 0
        self._bmc_id = 0
        self._r_m = self._r_c = self._guid = self._name = self._sik = b""
        self.channel: Channel | None = None
        self.privilege = privilege
        self.failure: tuple[Reason, str] | None = None
        self.unproven = False
        self.timer = 0.0
        self.established = False
        self.losses = 0
        self.heard = False
        self.rtt_s = 0.0

    decode = staticmethod(decode_header)  # of a packet that may belong to this login or its session

    @property
    def console_id(self) -> int:
        """Our id of the session; packets that carry another one are none of ours."""
        return self._console_id

    @property
    def suite_ident(self) -> int:
        return self._suites[self._suite_index].ident

    def start(self, now: float) -> None:
        """Send the first, or the next, Open Session or discovery."""
        if self._discover:
            # It has a second use: servers that key sessions by the client's address (pyghmi, and so VirtualBMC) take
            # it for the end of the old one.
            request = encode_request(NetFn.APP, 0x38, self._tag, msg.auth_capabilities(self._extended))
            self._out.append(encode_v15(request))
            self._sent(now)
            return
        if self._handshakes >= MAX_HANDSHAKES:
            if self._stuck > STUCK_AFTER:
                self.silence(f"{self._stuck} times in a row")
                return
            self._fail(Reason.BMC_PROTOCOL, f"no session after {MAX_HANDSHAKES} handshakes, though the BMC answers")
            return
        self._handshakes += self.heard  # one that never answers has its deadline
        self._late = False
        self._console_id = self._new_id()
        assert 0 < self._console_id < 1 << 32, "a console session id has 32 bits and is not 0"
        self.channel = None
        self._tag = self._console_id >> 24  # not known to those who only know that we are asking
        self._advance(Event.BEGIN, now)

    def lost(self, now: float) -> None:
        """No answer came in time: the handshake starts again with a fresh session id, its messages are never resent."""
        self.losses += 1
        self.leave()
        state = self._state
        if state is State.START:
            self._discover = False
        else:
            self._stuck = self._stuck + 1 if state is self._stuck_at else 1
            self._stuck_at = state
            if state is State.OPENING:
                self._discover = True
            else:
                self._silent_after = self._silent_step()
                if self._stuck >= SILENT_STEPS:
                    self.silence(f"{self._stuck} times in a row")
                    return
            self._advance(Event.LOST, now)
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
        elif self.heard:
            self._fail(Reason.BMC_NO_SESSION, f"answers, but not to Open Session (no free session?); {how}")
        else:
            self._fail(Reason.BMC_UNREACHABLE, f"nothing answers; {how}")

    def _silent_step(self) -> str:
        if self._state is State.PROVING:
            return "RAKP1 (unknown user?)"
        return "RAKP3" if self._state is State.CONFIRMING else ""

    def receive(self, header: Header | None, packet: bytes, now: float) -> None:
        """A packet outside a session; ``header`` is None for IPMI 1.5 framing. Foreign and late ones are ignored."""
        if header is None:
            self._discovered(packet, now)
        elif header.kind == Payload.OPEN_RESPONSE:
            self._open_response(packet[16 : 16 + header.length], now)
        elif header.kind == Payload.RAKP2:
            self._rakp2(packet[16 : 16 + header.length], now)
        elif header.kind == Payload.RAKP4:
            self._rakp4(packet[16 : 16 + header.length], now)

    def _fail(self, reason: Reason, detail: str) -> None:
        self.failure = reason, detail

    def _advance(self, event: Event, now: float) -> None:
        """Take the table's step and send what it says."""
        step = _STEPS[self._state].get(event)
        assert step is not None, f"{event} in {self._state} was checked before"
        self._state = step.state
        send = step.send
        if send is None:
            return
        self._tag = (self._tag + 1) & 0xFF
        chosen = self._suites[self._suite_index]
        if send is Payload.OPEN_REQUEST:
            payload = hs.encode_open_request(self._tag, self.privilege, self._console_id, chosen)
        elif send is Payload.RAKP1:
            # The privilege of Open Session again, explicitly: several BMCs hash that one (Supermicro X8, Intel, Dell).
            self._r_m = self._random(16)
            self._name = hs.role_and_name(self.privilege, self._credentials.user)
            payload = hs.encode_rakp1(self._tag, self._bmc_id, self._r_m, self._name)
        else:
            password = self._credentials.password.reveal()
            proof = proof_rakp3(chosen, password, self._r_c, _le32(self._console_id), self._name)
            payload = hs.encode_rakp34(self._tag, self._bmc_id, proof)
        self._out.append(encode_clear(send, payload))
        self._sent(now)

    def _sent(self, now: float) -> None:
        n = self.losses
        if not n:
            wait = self._first_wait_s
        elif not self.heard:
            wait = min(self._first_wait_s * UNHEARD_GROWTH ** min(n, 8), UNHEARD_MAX_S)
        else:
            wait = max(min(self._first_wait_s * HEARD_GROWTH ** min(n, 8), HEARD_MAX_S), self._first_wait_s)
            if self._stuck > STUCK_AFTER:
                wait = min(wait * STUCK_GROWTH ** min(self._stuck - STUCK_AFTER, 8), SLOW_MAX_S)
        self._sent_at = now
        # ±10 %, so that thousands of BMCs are not asked in step; ids are as good as random.
        self.timer = now + wait * (0.9 + (self._console_id & 0xFF) / 1275)

    def _again(self, event: Event, now: float) -> None:
        """This handshake is over; the next one begins."""
        self._advance(event, now)
        self.start(now)

    def _expected(self, state: State, tag: int, console_id: int, status: int, now: float) -> bool:
        """Whether an answer is the one that is waited for; a refusal may come without our session id."""
        foreign = console_id != self._console_id and (status == 0 or console_id != 0)
        if foreign or self._state is State.START:  # the answer to a handshake that was given up
            if not self._late:  # once a handshake
                self._late = True
                self._first_wait_s = min(2 * self._first_wait_s, SLOW_MAX_S)
            return False
        if self._state is not state or tag != self._tag:
            return False
        self.heard = True
        if now - self._sent_at > self.rtt_s:
            self.rtt_s = now - self._sent_at
        return True

    def _discovered(self, packet: bytes, now: float) -> None:
        message = decode_v15(packet)
        response = decode_response(message) if message is not None else None
        if response is None or (response.netfn, response.command) != (NetFn.APP | 1, 0x38):
            return
        self.heard = True
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
        if answer is None or not self._expected(State.OPENING, answer.tag, answer.console_id, answer.status, now):
            return
        if answer.status:
            self._refused_with("Open Session", "open", answer.status, Event.OPEN_ERROR, now)
            return
        chosen = self._suites[self._suite_index]
        if answer.algorithms != chosen.algorithms or answer.bmc_id == 0:
            # Some servers answer status 0 with suite 3 whatever was proposed: propose it, or do without.
            if not self._next_suite():
                self._fail(*self._no_suite(f"proposed suite {chosen.ident}, answered with other algorithms"))
            else:
                self._again(Event.OPEN_ERROR, now)
            return
        self._bmc_id = answer.bmc_id
        self._advance(Event.OPEN_RESPONSE, now)

    def _rakp2(self, payload: bytes, now: float) -> None:
        answer = hs.decode_rakp2(payload)
        if answer is None or not self._expected(State.PROVING, answer.tag, answer.console_id, answer.status, now):
            return
        if answer.status:
            self._refused_with("RAKP2", "rakp", answer.status, Event.RAKP2_ERROR, now)
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
        if answer is None or not self._expected(State.CONFIRMING, answer.tag, answer.session, answer.status, now):
            return
        if answer.status:
            self._refused_with("RAKP4", "rakp", answer.status, Event.RAKP4_ERROR, now)
            return
        chosen = self._suites[self._suite_index]
        icv = icv_rakp4(chosen, self._sik, self._r_m, _le32(self._bmc_id), self._guid)
        if not hmac.compare_digest(icv, answer.proof[: chosen.icv_size]):
            if self._first_refusal():  # the packet may have been damaged; what may lock an account was right already
                self.leave()
                self._again(Event.RAKP4_ERROR, now)
                return
            self._fail(Reason.BMC_AUTH_FAILED, "RAKP4: password right, session key wrong (has the BMC a K_g?)")
            return
        self._sik = b""
        self._advance(Event.RAKP4, now)
        self.established = True

    def _refused_with(self, what: str, where: str, status: int, event: Event, now: float) -> None:
        """Do what the table of quirks says about this status; the last step that is impossible names the failure."""
        text = f"{what}: {msg.status_name(status)}"
        failure: tuple[Reason, str] = Reason.BMC_PROTOCOL, text
        for step in steps(where, status):
            match step:
                case Do.RESTART:
                    self.losses += 1  # as good as a lost message
                    self._again(event, now)
                    return
                case Do.NEXT_SUITE if self._next_suite():
                    self._again(event, now)
                    return
                case Do.LOWER_PRIVILEGE if self._lower_privilege():
                    self._suite_index = 0
                    self._again(event, now)
                    return
                case Do.PASSWORD if self._first_refusal():
                    self._again(event, now)
                    return
                case Do.NEXT_SUITE:
                    failure = self._no_suite(text)
                case Do.WAIT:
                    failure = Reason.BMC_NO_SESSION, f"{text}; idle sessions expire after about 60 s"
                case Do.LOWER_PRIVILEGE:
                    failure = Reason.BMC_REFUSED, text
                case Do.PASSWORD | Do.USER:
                    failure = Reason.BMC_AUTH_FAILED, text
        self._fail(*failure)

    def _next_suite(self) -> bool:
        if self._suite_index + 1 >= len(self._suites):
            return False
        self._suite_index += 1
        return True

    def _no_suite(self, why: str) -> tuple[Reason, str]:
        permitted = " or ".join(str(s.ident) for s in self._suites)
        return Reason.BMC_NO_SUITE, f"cipher suite {permitted} is needed: {why}"

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


def close_packet(channel: Channel | Channel15, rq_sequence: int, random: Callable[[int], bytes]) -> bytes:
    """Close Session (22.19): sent once, never again."""
    message = encode_request(NetFn.APP, 0x3C, rq_sequence, msg.close_session(channel.peer_id))
    return channel.seal(message, random(16))


def _le32(number: int) -> bytes:
    return number.to_bytes(4, "little")
