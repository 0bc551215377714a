"""Serial over LAN, the console's side (IPMI 2.0, section 15 and 24). Sans-IO, in the manner of ``client.Exchange``.

``Console`` logs in, activates the payload and then carries characters both ways until somebody ends it. It does not
come back by itself: whether to try again is its owner's word.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.client import Answer, Verdict
from bootorch.ipmi.login import Credentials, Login, close_packet
from bootorch.ipmi.messages import Command, Completion, NetFn, Privilege
from bootorch.ipmi.packet import Channel, Header, Payload, decode_header
from bootorch.ipmi.sol_stream import Stream
from bootorch.ipmi.wire import decode_response, encode_request

KEEP_ALIVE_S: Final = 25.0  # pyghmi: sessions may end after 30 s (6.12.15 says 60 s)
COMMAND_WAIT_S: Final = 1.0
COMMAND_TRIES: Final = 8
BUSY_TRIES: Final = 5  # a second apart
STEALS: Final = 3  # failed deactivations; somebody comes back as fast as we end him
CLOSE_TRIES: Final = 2

_SOL, _INSTANCE = 1, 1
_ACTIVATE: Final = Command("activate console", NetFn.APP, 0x48, bytes((_SOL, _INSTANCE, 0xC0, 0, 0, 0)), tolerate=True)
_DEACTIVATE: Final = Command("deactivate console", NetFn.APP, 0x49, bytes((_SOL, _INSTANCE, 0, 0, 0, 0)), tolerate=True)
_INSTANCE_INFO: Final = Command("console holder", NetFn.APP, 0x4B, bytes((_SOL, _INSTANCE)), tolerate=True)  # 24.5
_ALREADY_ACTIVE: Final = 0x80
_REFUSALS: Final = {  # 24.1
    0x81: "serial over LAN is disabled on this BMC",
    0x82: "no further console can be opened",
    0x83: "the BMC refuses encryption",
    0x84: "the BMC wants encryption",
}


class End(NamedTuple):
    """How a console ended. ``OK``: closed by its owner."""

    reason: Reason
    detail: str


def _opening(steal: bool, session: Callable[[], int]) -> Generator[Command, Answer, Verdict | None]:
    """The commands up to an active payload; a Verdict where there will be none. ``session``: the BMC's id of ours."""
    for level in (Privilege.ADMIN, Privilege.OPERATOR):  # what a console needs is the BMC's own setting (26.2)
        raised = yield Command(
            "set session privilege", NetFn.APP, 0x3B, msg.set_session_privilege(level), tolerate=True
        )
        if raised.completion == Completion.OK:
            break
    for left in range(STEALS, -1, -1):
        answer = yield _ACTIVATE
        completion = answer.completion
        if completion == Completion.OK:
            return None
        if completion != _ALREADY_ACTIVE:
            text = _REFUSALS.get(completion) or msg.completion_name(completion)
            reason = Reason.BMC_UNSUPPORTED if completion == 0x81 else msg.reason_of(_ACTIVATE, completion)
            return Verdict(reason, f"{_ACTIVATE.name}: {text}")
        info = yield _INSTANCE_INFO
        holder = _holder_of(info)
        if holder and holder == session():
            return None  # the answer to an earlier copy of the request was lost
        if not steal:
            who = yield from _holder(holder)
            return Verdict(Reason.BMC_BUSY, f"the console is in use{who}; ask for it, or take it over")
        if left:
            yield _DEACTIVATE
    return Verdict(Reason.BMC_BUSY, f"the console is in use, and is taken again whenever it is freed ({STEALS} times)")


def _holder_of(info: Answer) -> int:
    """The BMC's id of the session that has the console (24.5); 0: nobody, or it is not told."""
    return int.from_bytes(info.data[:4], "little") if info.completion == Completion.OK else 0


def _holder(ident: int) -> Generator[Command, Answer, str]:
    """`` by admin from 192.0.2.7``, as far as the BMC tells: 22.20 has user and address of a session."""
    if not ident:
        return ""
    asked = b"\xff" + ident.to_bytes(4, "little")
    session = yield Command("console holder", NetFn.APP, 0x3D, asked, tolerate=True)
    if session.completion != Completion.OK or len(session.data) < 6:
        return ""
    number = session.data[3] & 0x3F
    name = yield Command("user name", NetFn.APP, 0x46, bytes((number,)), tolerate=True)  # 22.29
    text = name.data[:16].split(b"\0")[0].decode("latin-1") if name.completion == Completion.OK else ""
    who = text if text and text.isprintable() else f"user {number}"
    address = session.data[6:10]
    return f" by {who} from {IPv4Address(address)}" if len(address) == 4 and any(address) else f" by {who}"


class _Phase(Enum):
    LOGIN = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    ENDED = auto()


class Console:
    """A serial console over one session.

    The owner calls ``start`` once, then ``receive_datagram`` and ``handle_timer`` as things happen, and after each
    call (of ``write`` and ``close`` too) sends what ``datagrams_to_send`` gives and takes ``output``. ``end`` is there
    when it is over. ``open_by``: when the console must be open, on the clock of ``now``. ``steal``: end another
    console that holds the port. The other parameters are those of ``client.Exchange``.
    """

    __slots__ = (
        "_busy",
        "_command_timer",
        "_end",
        "_heard_at",
        "_keep_alive",
        "_login",
        "_message",
        "_open_by",
        "_out",
        "_pending",
        "_phase",
        "_random",
        "_rq_sequence",
        "_script",
        "_stream",
        "_tries",
        "_why",
    )

    def __init__(
        self,
        credentials: Credentials,
        *,
        random: Callable[[int], bytes],
        console_id: Callable[[], int],
        open_by: float,
        suites: Sequence[int] = (17, 3),
        privilege: Privilege = Privilege.ADMIN,
        steal: bool = False,
    ) -> None:
        self._random = random
        self._open_by = open_by
        self._out: list[bytes] = []
        self._login = Login(
            credentials, self._out, random=random, console_id=console_id, suites=suites, privilege=privilege
        )
        self._script = _opening(steal, lambda: self._channel.peer_id)
        self._stream = Stream()
        self._phase = _Phase.LOGIN
        self._end: End | None = None
        self._why = End(Reason.OK, "")  # what the end will be, while the session is being closed
        self._pending: Command | None = None
        self._message = b""
        self._rq_sequence = 0
        self._tries = 0
        self._busy = 0
        self._command_timer = float("inf")
        self._heard_at = 0.0

    @property
    def open(self) -> bool:
        """Characters can flow."""
        return self._phase is _Phase.OPEN

    @property
    def end(self) -> End | None:
        """How it ended; None while it goes on."""
        return self._end

    @property
    def console_id(self) -> int:
        """Our id of the session at present: what the BMC's packets carry, but not before it is established."""
        return self._login.console_id

    def start(self, now: float) -> None:
        """Queue the first packet. Call it once."""
        self._login.start(now)

    def datagrams_to_send(self) -> list[bytes]:
        """Datagrams for the BMC, oldest first; each is given out once."""
        out = self._out[:]
        self._out.clear()
        return out

    def output(self) -> bytes:
        """What the host has written since the last call."""
        out = bytes(self._stream.output)
        self._stream.output.clear()
        return out

    def write(self, data: bytes, now: float) -> None:
        """Type. Before the console is open, and after its end, characters are dropped."""
        if self._phase is _Phase.OPEN and data:
            self._send_sol([self._stream.write(data, now)])

    def close(self, now: float) -> None:
        """Free the console and close the session; ``end`` comes with the BMC's answer, or soon after."""
        self._leave(End(Reason.OK, "closed"), now)

    def abort(self) -> None:
        """Free the console and close the session without waiting for anything."""
        if self._phase is _Phase.LOGIN:
            self._login.leave()
        elif self._phase is not _Phase.ENDED:
            if self._phase is _Phase.OPEN:
                self._ask(_DEACTIVATE)
            self._send_close()
        self._finish(self._why if self._phase is _Phase.CLOSING else End(Reason.INTERRUPTED, "given up by the caller"))

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is due; None after the end."""
        match self._phase:
            case _Phase.ENDED:
                return None
            case _Phase.LOGIN:
                return min(self._login.timer, self._open_by)
            case _Phase.OPENING:
                return min(self._command_timer, self._open_by)
            case _Phase.CLOSING:
                return self._command_timer
            case _Phase.OPEN:
                quiet = self._heard_at + KEEP_ALIVE_S if self._pending is None else float("inf")
                return min(self._command_timer, self._stream.timer, quiet)

    def handle_timer(self, now: float) -> None:
        """Call it at ``next_timer`` or later; earlier calls do nothing."""
        due = self.next_timer()
        if due is None or now < due:
            return
        if self._phase is _Phase.LOGIN:
            if now >= self._open_by:
                self._login.silence("no time left")
            else:
                self._login.lost(now)
            self._after_login_step(now)
        elif self._phase is _Phase.OPENING and now >= self._open_by:
            self._leave(End(Reason.BMC_LOST, f"{self._command_name}: no time left"), now)
        else:
            if now >= self._command_timer:
                self._command_late(now)
            if self._phase is _Phase.OPEN:
                self._idle(now)

    def receive_datagram(self, data: bytes, now: float) -> None:
        """A datagram from the BMC's address. What does not belong to this console is ignored."""
        if self._phase is _Phase.ENDED:
            return
        header = decode_header(data)
        if self._phase is _Phase.LOGIN:
            if header is None or header.session == 0:
                self._login.receive(header, data, now)
                self._after_login_step(now)
        elif header is not None and header.session == self._login.console_id:
            self._in_session(header, data, now)

    # The phases

    def _after_login_step(self, now: float) -> None:
        if self._login.failure is not None:
            self._finish(End(*self._login.failure))
        elif self._login.established:
            self._phase = _Phase.OPENING
            self._heard_at = now
            self._advance(None, now)

    def _advance(self, answer: Answer | None, now: float) -> None:
        """The next step of opening."""
        try:
            # A generator that has not begun takes None only; the type has no word for that.
            command = self._script.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            if isinstance(end.value, Verdict):
                self._send_close()
                self._finish(End(end.value.reason, end.value.detail))
            else:
                self._phase = _Phase.OPEN
            return
        self._busy = 0
        self._request(command, now)

    def _in_session(self, header: Header, data: bytes, now: float) -> None:
        if header.kind & 0x3F == Payload.SOL:
            payload = self._channel.open(header, data, Payload.SOL)
            # A packet may overtake the answer to Activate Payload; unacknowledged it will come again.
            if payload is not None and self._phase is _Phase.OPEN:
                self._heard_at = now
                self._send_sol(self._stream.receive(payload, now))
                if self._stream.over:
                    self._taken_over()
            return
        message = self._channel.open(header, data)
        response = decode_response(message) if message is not None else None
        if response is None:
            return
        self._heard_at = now
        command = self._pending
        if command is None or (response.netfn, response.command) != (command.netfn | 1, command.command):
            return
        if response.sequence != self._rq_sequence or response.completion == Completion.DUPLICATE:
            return
        self._pending = None
        self._command_timer = float("inf")
        if self._phase is _Phase.CLOSING:
            self._send_close()
            self._finish(self._why)
        elif self._phase is _Phase.OPENING:
            if response.completion in msg.BUSY_CODES and self._busy < BUSY_TRIES:
                self._busy += 1
                self._pending = command
                self._command_timer = now + COMMAND_WAIT_S
                self._tries = 0
            else:
                self._advance(Answer(response.completion, response.data), now)
        elif _holder_of(Answer(response.completion, response.data)) not in (0, self._channel.peer_id):
            self._taken_over()  # ipmi_sim tells nobody that his console was deactivated

    def _idle(self, now: float) -> None:
        """An open console: characters again, and a word to keep the session, which also shows whose console it is."""
        self._send_sol([self._stream.tick(now)])
        if self._stream.lost:
            self._leave(End(Reason.BMC_LOST, "the BMC acknowledges no characters any more"), now)
        elif self._pending is None and now >= self._heard_at + KEEP_ALIVE_S:
            self._request(_INSTANCE_INFO, now)

    def _command_late(self, now: float) -> None:
        tries = CLOSE_TRIES if self._phase is _Phase.CLOSING else COMMAND_TRIES
        if self._tries < tries:
            self._transmit(now)
        elif self._phase is _Phase.CLOSING:
            self._send_close()
            self._finish(self._why)
        else:
            self._leave(End(Reason.BMC_LOST, f"{self._command_name}: no answer, sent {self._tries} times"), now)

    def _taken_over(self) -> None:
        """Over, and not to be deactivated: it may be another's by now."""
        self._send_close()
        self._finish(End(Reason.BMC_BUSY, "the BMC ended the console: another one took it over?"))

    def _leave(self, why: End, now: float) -> None:
        """Free the console, then close the session; the verdict is known."""
        match self._phase:
            case _Phase.LOGIN:
                self._login.leave()
                self._finish(why)
            case _Phase.OPENING:  # the end of the session ends the payload too, if we have it
                self._send_close()
                self._finish(why)
            case _Phase.OPEN:
                self._phase = _Phase.CLOSING
                self._why = why
                self._request(_DEACTIVATE, now)
            case _Phase.CLOSING | _Phase.ENDED:
                pass

    def _finish(self, end: End) -> None:
        if self._end is None:
            self._end = end
        self._phase = _Phase.ENDED
        self._pending = None

    # Packets

    @property
    def _channel(self) -> Channel:
        channel = self._login.channel
        assert channel is not None, "an established session has a channel"
        return channel

    @property
    def _command_name(self) -> str:
        return self._pending.name if self._pending is not None else "console"

    def _send_sol(self, payloads: Sequence[bytes | None]) -> None:
        for payload in payloads:
            if payload is not None:
                self._out.append(self._channel.seal(payload, self._random(16), Payload.SOL))

    def _request(self, command: Command, now: float) -> None:
        self._pending = command
        self._tries = 0
        self._rq_sequence = (self._rq_sequence + 1) & 0x3F
        self._message = encode_request(command.netfn, command.command, self._rq_sequence, command.data)
        self._transmit(now)

    def _transmit(self, now: float) -> None:
        self._tries += 1
        self._out.append(self._channel.seal(self._message, self._random(16)))
        self._command_timer = now + COMMAND_WAIT_S

    def _ask(self, command: Command) -> None:
        """Send without waiting for an answer."""
        self._rq_sequence = (self._rq_sequence + 1) & 0x3F
        message = encode_request(command.netfn, command.command, self._rq_sequence, command.data)
        self._out.append(self._channel.seal(message, self._random(16)))

    def _send_close(self) -> None:
        self._rq_sequence = (self._rq_sequence + 1) & 0x3F
        self._out.append(close_packet(self._channel, self._rq_sequence, self._random))
