"""The console's way into an IPMI 1.5 session, for old boards and only where a host asks for it (6.12, 22.16-17).

MD5 only. ``Login15`` is what ``login.Login`` is for IPMI 2.0, and an exchange uses it in the same way. What 1.5 lacks:
anyone who reads along sees every command, gets a hash of the password that can be attacked offline, and a BMC that is
not the real one gets that hash too, because the console proves itself first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi import packet15
from bootorch.ipmi.login import WAIT_S, Credentials
from bootorch.ipmi.messages import Completion, NetFn, Privilege
from bootorch.ipmi.packet import Header, decode_v15, encode_v15
from bootorch.ipmi.packet15 import AUTH_MD5, MAX_PASSWORD, Channel15
from bootorch.ipmi.wire import Response, decode_response, encode_request

GROWTH, MAX_WAIT_S = 1.5, 5.0
UNHEARD_MAX_S: Final = 2.0  # as ``login``: dead BMCs are asked less and less often
# A wrong password is answered by silence (13.6: packets with a wrong code are dropped), and accounts lock after some
# tries, mostly from 3 to 5: so silence after Activate Session is not believed to be loss for long.
SILENT_ACTIVATIONS: Final = 3
ACTIVATION_WAIT_S: Final = 2.0  # at least: what comes later is an answer to a challenge that is no more
MAX_ATTEMPTS: Final = 20  # bound for a BMC that answers and never comes to an end

_MD5_OFFERED: Final = 1 << AUTH_MD5
_NO_SLOT: Final = frozenset((0x81, 0x82, 0x83))  # 22.17: none free; none for this user; none at this privilege
_TOO_HIGH: Final = 0x86  # 22.17: privilege exceeds the user's or the channel's limit
_RESTART: Final = frozenset((0x84, 0x85))  # 22.17: sequence out of range, session id unknown: the challenge expired


def check_password(credentials: Credentials) -> None:
    """ValueError for a password that IPMI 1.5 cannot carry: too long is refused, never cut."""
    if len(credentials.password.reveal()) > MAX_PASSWORD:
        raise ValueError(f"the BMC password is longer than the {MAX_PASSWORD} bytes that IPMI 1.5 takes")


class _State(Enum):
    ASKING = auto()  # Get Channel Authentication Capabilities sent
    CHALLENGED = auto()  # Get Session Challenge sent
    ACTIVATING = auto()  # Activate Session sent
    ACTIVE = auto()


_COMMANDS: Final = {_State.ASKING: 0x38, _State.CHALLENGED: 0x39, _State.ACTIVATING: 0x3A}


class Login15:
    """A login in progress; see ``login.Login``. ``suites`` mean nothing here. ValueError from ``check_password``.

    ``console_id`` is the session's one id, which the BMC chooses; ``suite_ident`` is 0: there is none.
    """

    __slots__ = (
        "_attempts",
        "_challenge",
        "_credentials",
        "_first_wait_s",
        "_jitter",
        "_out",
        "_random",
        "_sent_at",
        "_session",
        "_silent",
        "_state",
        "_tag",
        "channel",
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
        suites: Sequence[int] = (),
        privilege: Privilege,
        first_wait_s: float = WAIT_S,
    ) -> None:
        check_password(credentials)
        self._credentials = credentials
        self._out = out
        self._random = random
        self._first_wait_s = first_wait_s
        self._jitter = 0.9 + (console_id() & 0xFF) / 1275  # ±10 %, so that thousands of BMCs are not asked in step
        self._state = _State.ASKING
        self._session = 0  # temporary until Activate Session was answered
        self._challenge = b""
        self._tag = 0
        self._sent_at = 0.0
        self._silent = 0
        self._attempts = 0
        self.channel: Channel15 | None = None
        self.privilege = privilege
        self.failure: tuple[Reason, str] | None = None
        self.unproven = False  # the code of the answer to Activate Session is all that a BMC proves
        self.timer = 0.0
        self.losses = 0
        self.heard = False
        self.rtt_s = 0.0

    @property
    def established(self) -> bool:
        return self._state is _State.ACTIVE

    @property
    def console_id(self) -> int:
        return self._session

    @property
    def suite_ident(self) -> int:
        return 0

    def decode(self, packet: bytes) -> Header | None:
        """The header of a packet of the session; None before there is one: then the packet is for ``receive``."""
        return packet15.decode_header(packet) if self.established else None

    def start(self, now: float) -> None:
        """Send the first packet, or begin again."""
        if self._attempts >= MAX_ATTEMPTS:
            self._fail(Reason.BMC_PROTOCOL, f"no session after {self._attempts} attempts, though the BMC answers")
        elif not self.heard:
            self._send(_State.ASKING, msg.auth_capabilities(extended=False), now)
        else:
            self._attempts += 1
            self._send(_State.CHALLENGED, bytes((AUTH_MD5,)) + self._credentials.user.ljust(16, b"\0"), now)

    def lost(self, now: float) -> None:
        """No answer came in time: begin again with a new challenge."""
        self.losses += 1
        if self._state is _State.ACTIVATING:
            self._silent += 1
            if self._silent >= SILENT_ACTIVATIONS:
                self.silence(f"{self._silent} times")
                return
        self.start(now)

    def leave(self) -> None:
        """Nothing to be done: a session that may have begun has no number yet to be closed by, and expires."""

    def silence(self, how: str) -> None:
        """Fail, and say which silence it is."""
        if self._silent or self._state is _State.ACTIVATING:
            self._fail(Reason.BMC_SILENT_AUTH, f"silent after Activate Session (wrong password?); {how}")
        elif self.heard:
            self._fail(Reason.BMC_SILENT_AUTH, f"silent after Get Session Challenge (unknown user?); {how}")
        else:
            self._fail(Reason.BMC_UNREACHABLE, f"nothing answers to IPMI 1.5; {how}")

    def receive(self, header: Header | None, packet: bytes, now: float) -> None:
        """A packet of the login. Foreign and late ones are ignored."""
        message = self._activating(packet) if self._state is _State.ACTIVATING else decode_v15(packet)
        response = decode_response(message) if message is not None else None
        if response is None or self.established or self.failure is not None:
            return
        if (response.netfn, response.command) != (NetFn.APP | 1, _COMMANDS[self._state]):
            return
        if response.sequence != self._tag:
            return
        self.heard = True
        self.rtt_s = max(self.rtt_s, now - self._sent_at)
        match self._state:
            case _State.ASKING:
                self._capabilities(response, now)
            case _State.CHALLENGED:
                self._challenged(response, now)
            case _State.ACTIVATING:
                self._activated(response, now)

    def _activating(self, packet: bytes) -> bytes | None:
        """The answer to Activate Session: signed, but a refusal may come without a code."""
        header = packet15.decode_header(packet)
        if header is not None:
            return packet15.verified(self._credentials.password.reveal(), header, packet)
        message = decode_v15(packet)
        return message if message is not None and len(message) > 6 and message[6] != Completion.OK else None

    def _capabilities(self, response: Response, now: float) -> None:
        if response.completion != Completion.OK or len(response.data) < 2:
            text = f"Get Channel Authentication Capabilities: {msg.completion_name(response.completion)}"
            self._fail(Reason.BMC_PROTOCOL, text)
        elif not response.data[1] & _MD5_OFFERED:
            self._fail(Reason.BMC_NO_SUITE, "the BMC offers no MD5 authentication for IPMI 1.5, and less is refused")
        else:
            self.start(now)

    def _challenged(self, response: Response, now: float) -> None:
        completion, data = response.completion, response.data
        if completion in (0x81, 0x82):  # 22.16
            self._fail(Reason.BMC_AUTH_FAILED, f"Get Session Challenge: user name unknown (0x{completion:02x})")
        elif completion in msg.BUSY_CODES:
            self._fail(Reason.BMC_BUSY, f"Get Session Challenge: {msg.completion_name(completion)}")
        elif completion != Completion.OK or len(data) < 20 or not any(data[:4]):
            self._fail(Reason.BMC_PROTOCOL, f"Get Session Challenge: {msg.completion_name(completion)}")
        else:
            self._session = int.from_bytes(data[:4], "little")
            self._challenge = data[4:20]
            self._activate(now)

    def _activate(self, now: float) -> None:
        # The first number that the BMC uses: not 0, and far enough from the end of 32 bits.
        first = bytes((1,)) + self._random(2) + b"\0"
        data = bytes((AUTH_MD5, self.privilege)) + self._challenge + first
        self._send(_State.ACTIVATING, data, now)

    def _activated(self, response: Response, now: float) -> None:
        completion, data = response.completion, response.data
        text = f"Activate Session: {msg.completion_name(completion)}"
        self._silent = 0
        if completion == Completion.OK and len(data) >= 10:
            if data[0] & 0x0F != AUTH_MD5:
                self._fail(Reason.BMC_NO_SUITE, "per-message authentication is off on this BMC: switch it on")
                return
            self._session = int.from_bytes(data[1:5], "little")
            sequence = int.from_bytes(data[5:9], "little")
            self.channel = Channel15(self._credentials.password, self._session, sequence)
            self._state = _State.ACTIVE
        elif completion in _NO_SLOT:
            self._fail(Reason.BMC_NO_SESSION, f"{text}: no free session; idle ones expire after about 60 s")
        elif completion == _TOO_HIGH and self.privilege is Privilege.ADMIN:
            self.privilege = Privilege.OPERATOR
            self.start(now)
        elif completion in _RESTART:
            self.start(now)
        elif completion in msg.BUSY_CODES:
            self._fail(Reason.BMC_BUSY, text)
        elif completion == _TOO_HIGH:
            self._fail(Reason.BMC_REFUSED, text)
        else:
            self._fail(Reason.BMC_PROTOCOL if completion == Completion.OK else Reason.BMC_AUTH_FAILED, text)

    def _send(self, state: _State, data: bytes, now: float) -> None:
        self._state = state
        self._tag = (self._tag + 1) & 0x3F
        message = encode_request(NetFn.APP, _COMMANDS[state], self._tag, data)
        if state is _State.ACTIVATING:
            password = self._credentials.password.reveal()
            self._out.append(packet15.encode(password, self._session, 0, message))
        else:
            self._out.append(encode_v15(message))
        self._sent_at = now
        most = MAX_WAIT_S if self.heard else UNHEARD_MAX_S
        wait = min(self._first_wait_s * GROWTH ** min(self.losses, 10), most)
        self.timer = now + (max(wait, ACTIVATION_WAIT_S) if state is _State.ACTIVATING else wait) * self._jitter

    def _fail(self, reason: Reason, detail: str) -> None:
        self.failure = reason, detail
