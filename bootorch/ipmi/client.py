"""The console's side of IPMI 2.0: one exchange with one BMC. Sans-IO: datagrams in, datagrams out, time is an argument.

An exchange opens a session, runs a script of commands and closes the session. Its owner calls ``start`` once,
then ``receive_datagram`` and ``handle_timer`` as things happen, sends what ``datagrams_to_send`` gives after each
call, and is done when ``result`` is there. Nothing that a BMC sends raises, and every loop has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.ipmi import messages as msg
from bootorch.ipmi.login import WAIT_S, Credentials, Login, close_packet
from bootorch.ipmi.messages import Command, Completion, NetFn, Privilege
from bootorch.ipmi.packet import Channel, Header
from bootorch.ipmi.wire import Response, decode_response, encode_request

if TYPE_CHECKING:
    from bootorch.ipmi.login15 import Login15
    from bootorch.ipmi.packet15 import Channel15

# Waits begin as those of the login; the answer to an earlier copy of a request counts as well.
COMMAND_GROWTH: Final = 1.4
COMMAND_MAX_WAIT_S: Final = 2.0
COMMAND_TRIES: Final = 12  # 15 s in all; ipmitool: 4 tries, 10 s
ONCE_WAIT_S: Final = 5.0  # for the answer to what must not be sent twice; slow BMCs take seconds for chassis control
BUSY_WAIT_S, BUSY_GROWTH = 1.0, 1.5
BUSY_TRIES: Final = 3  # in the session; the slot is given back after that

_RAISE: Final = {
    level: Command("set session privilege", NetFn.APP, 0x3B, msg.set_session_privilege(level))
    for level in (Privilege.OPERATOR, Privilege.ADMIN)
}


class Answer(NamedTuple):
    completion: int
    data: bytes


class Result(NamedTuple):
    """How an exchange ended.

    ``answers`` belong to the commands in order, as far as they were answered; ``value`` is what the script returned.
    ``suite`` and ``privilege`` are what the session used (0: there was none). ``unproven``: the BMC's proof in RAKP2
    did not fit our password. ``acted``: a command that may be sent only once has left, and was not refused as busy.
    """

    reason: Reason
    detail: str
    answers: tuple[Answer, ...]
    suite: int
    privilege: int
    unproven: bool
    value: object = None
    acted: bool = False


class Verdict(NamedTuple):
    """What a script returns when it ends otherwise than well; ``value`` becomes the result's."""

    reason: Reason
    detail: str
    value: object = None


# Yields commands, is sent the answer to each, and returns a value or a Verdict. It is sent only answers that are good,
# and any answer to a command that tolerates errors; every other one ends the exchange.
Script = Generator[Command, Answer, object]


def in_order(commands: Iterable[Command]) -> Generator[Command, Answer, None]:
    """The script of a fixed list of commands."""
    for command in commands:  # noqa: UP028 - not `yield from`: that would hand the answers to an iterator that takes none
        yield command


def _login_of(version: str) -> type[Login] | type[Login15]:
    if version == "2.0":
        return Login
    if version != "1.5":
        raise ValueError(f"IPMI {version} is neither 2.0 nor 1.5")
    from bootorch.ipmi.login15 import Login15  # for old boards only: others do not wait for it

    return Login15


class Exchange:
    """One session with one BMC, from the first packet to Close Session.

    ``script`` says what is asked. ``console_id`` gives fresh session ids, unique in the process and not 0;
    ``random(n)`` gives n bytes; ``suites`` are tried in order; ``privilege`` is ADMIN or OPERATOR; ``deadline`` is on
    the clock of ``now``; ``first_wait_s``: for an answer. ``version`` "1.5" is for old boards that have nothing better
    (MD5, no encryption). ValueError for a password that 1.5 cannot carry, and for suites other than 17 and 3.
    """

    __slots__ = (
        "_acted",
        "_answers",
        "_busy",
        "_command",
        "_deadline",
        "_first_wait_s",
        "_level",
        "_login",
        "_lost_answers",
        "_message",
        "_out",
        "_pending",
        "_privilege",
        "_random",
        "_result",
        "_rq_sequence",
        "_script",
        "_timer",
        "_tries",
        "_value",
    )

    def __init__(
        self,
        credentials: Credentials,
        script: Script,
        *,
        random: Callable[[int], bytes],
        console_id: Callable[[], int],
        deadline: float,
        suites: Sequence[int] = (17, 3),
        privilege: Privilege = Privilege.ADMIN,
        first_wait_s: float = WAIT_S,
        version: str = "2.0",
    ) -> None:
        self._script = script
        self._command: Command | None = None  # of the script: the one that runs, or waits for a busy BMC
        self._value: object = None
        self._acted = 0  # commands that may have had effect, and must not be sent again
        self._random = random
        self._deadline = deadline
        self._first_wait_s = first_wait_s
        self._out: list[bytes] = []
        self._login = _login_of(version)(
            credentials,
            self._out,
            random=random,
            console_id=console_id,
            suites=suites,
            privilege=privilege,
            first_wait_s=first_wait_s,
        )
        self._result: Result | None = None
        self._answers: list[Answer] = []
        self._privilege = privilege
        self._level = Privilege.USER  # 22.18: where every session starts
        self._pending: Command | None = None  # the request that waits for its answer
        self._message = b""
        self._rq_sequence = 0
        self._tries = 0
        self._busy = 0
        self._lost_answers = 0
        self._timer = 0.0

    @property
    def heard(self) -> bool:
        """Anything that made sense came from the BMC."""
        return self._login.heard

    @property
    def losses(self) -> int:
        """How often an answer did not come in time."""
        return self._login.losses + self._lost_answers

    @property
    def rtt_s(self) -> float:
        """The longest answer time of the login, in seconds: it holds the slow cryptography of BMCs."""
        return self._login.rtt_s

    @property
    def result(self) -> Result | None:
        """The end, or None while the exchange goes on."""
        return self._result

    def start(self, now: float) -> None:
        """Queue the first packet. Call it once."""
        self._login.start(now)
        self._timer = self._login.timer

    def datagrams_to_send(self) -> list[bytes]:
        """Datagrams for the BMC, oldest first; each is given out once."""
        out = self._out[:]
        self._out.clear()
        return out

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is due; None after the end."""
        return None if self._result is not None else min(self._timer, self._deadline)

    def handle_timer(self, now: float) -> None:
        """Call it at ``next_timer`` or later; earlier calls do nothing."""
        if self._result is not None or now < min(self._timer, self._deadline):
            return
        if not self._login.established:
            if now >= self._deadline:
                self._login.silence("no time left")
            else:
                self._login.lost(now)
            self._after_login_step(now)
        elif now >= self._deadline:
            self._close(*self._lost("no time left"))
        elif self._pending is None:  # the BMC was busy, and has had time to breathe
            self._run(now)
        elif self._pending.once or self._tries >= COMMAND_TRIES:
            self._close(*self._lost("no answer" if self._tries == 1 else f"no answer, sent {self._tries} times"))
        else:
            self._lost_answers += 1
            self._transmit(self._pending, now)

    def receive_datagram(self, data: bytes, now: float) -> None:
        """A datagram from the BMC's address. What does not belong to this exchange is ignored."""
        if self._result is not None:
            return
        login = self._login
        header = login.decode(data)
        if login.established:
            if header is not None and header.session == login.console_id:
                self._in_session(header, data, now)
        elif header is None or header.session == 0:
            login.receive(header, data, now)
            self._after_login_step(now)

    def abort(self) -> None:
        """Give up now. Queues Close Session where the BMC may hold a session; what was sent may have had effect."""
        if self._result is not None:
            return
        if self._login.established:
            self._send_close()
        else:
            self._login.leave()
        self._finish(Reason.INTERRUPTED, "given up by the caller")

    def _after_login_step(self, now: float) -> None:
        login = self._login
        if login.failure is not None:
            self._finish(*login.failure)
        elif login.established:
            self._privilege = login.privilege
            self._next(None, now)
        else:
            self._timer = login.timer

    def _next(self, answer: Answer | None, now: float) -> None:
        """Give the script its answer; run the command that it asks for next, or end with what it returns."""
        try:
            # A generator that has not begun takes None only; the type has no word for that.
            self._command = self._script.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            if isinstance(end.value, Verdict):
                self._value = end.value.value
                self._close(end.value.reason, end.value.detail)
            else:
                self._value = end.value
                self._close(Reason.OK, "")
            return
        self._busy = 0
        self._run(now)

    def _run(self, now: float) -> None:
        """Send the script's command, raising the privilege first where it needs more than the session has."""
        command = self._script_command
        needs_more = command.privilege > self._level and self._level < self._privilege
        self._request(_RAISE[self._privilege] if needs_more else command, now)

    def _request(self, command: Command, now: float) -> None:
        self._pending = command
        self._rq_sequence = (self._rq_sequence + 1) & 0x3F
        self._message = encode_request(command.netfn, command.command, self._rq_sequence, command.data)
        self._tries = 0
        self._transmit(command, now)

    def _transmit(self, command: Command, now: float) -> None:
        # The same request (rqSeq) in a new packet (session sequence): the BMC must not drop it as a replay, and the
        # answer to an earlier copy still counts.
        self._tries += 1
        self._acted += command.once
        self._out.append(self._channel.seal(self._message, self._random(16)))
        self._timer = now + (ONCE_WAIT_S if command.once else self._wait_s())

    def _wait_s(self) -> float:
        """How long to wait for an answer: growing, ±10 % so that thousands of BMCs are not asked in step."""
        wait_s = min(self._first_wait_s * COMMAND_GROWTH ** (self._tries - 1), COMMAND_MAX_WAIT_S)
        return wait_s * (0.9 + (self._login.console_id & 0xFF) / 1275)

    def _in_session(self, header: Header, data: bytes, now: float) -> None:
        message = self._channel.open(header, data)
        response = decode_response(message) if message is not None else None
        if response is None:
            return
        command = self._pending
        if command is None or (response.netfn, response.command) != (command.netfn | 1, command.command):
            return
        if response.sequence != self._rq_sequence or response.completion == Completion.DUPLICATE:
            return  # a late answer to an older request; or the BMC is still at it
        if command in _RAISE.values():
            self._raised(response, now)
        else:
            self._answered(command, response, now)

    def _raised(self, response: Response, now: float) -> None:
        if response.completion == Completion.OK:
            self._level = self._privilege
            self._run(now)
        elif response.completion in (0x80, 0x81) and self._privilege is Privilege.ADMIN:
            self._privilege = Privilege.OPERATOR  # 22.18: more than this user or channel may have
            self._request(_RAISE[self._privilege], now)
        elif response.completion in msg.BUSY_CODES and self._busy < BUSY_TRIES:
            self._breathe(now)
        else:
            text = f"Set Session Privilege {self._privilege.name}: {msg.completion_name(response.completion)}"
            self._close(Reason.BMC_BUSY if response.completion in msg.BUSY_CODES else Reason.BMC_REFUSED, text)

    def _breathe(self, now: float) -> None:
        """The BMC is busy: the same again in a while."""
        self._pending = None
        self._timer = now + BUSY_WAIT_S * BUSY_GROWTH**self._busy
        self._busy += 1

    def _answered(self, command: Command, response: Response, now: float) -> None:
        completion = response.completion
        reason = msg.reason_of(command, completion)
        if command.once and (reason is Reason.BMC_BUSY or completion == Completion.PRIVILEGE):
            self._acted -= 1  # not done, for certain: it may be sent again
        if completion == Completion.PRIVILEGE and self._level < self._privilege:
            self._request(_RAISE[self._privilege], now)  # this BMC asks for more than the specification does
            return
        if reason is Reason.BMC_BUSY and not (command.once or command.tolerate) and self._busy < BUSY_TRIES:
            self._breathe(now)
            return
        answer = Answer(completion, response.data)
        self._answers.append(answer)
        if reason is not Reason.OK and not command.tolerate:
            self._close(reason, f"{command.name}: {msg.completion_name(completion)}")
            return
        self._next(answer, now)

    @property
    def _script_command(self) -> Command:
        command = self._command
        assert command is not None, "an established session has asked its script"
        return command

    @property
    def _channel(self) -> Channel | Channel15:
        channel = self._login.channel
        assert channel is not None, "an established session has a channel"
        return channel

    def _lost(self, how: str) -> tuple[Reason, str]:
        command = self._pending
        if command is None:
            return Reason.BMC_BUSY, f"{self._script_command.name}: busy; {how}"
        effect = "; it may have had effect" if command.once else ""
        return Reason.BMC_LOST, f"{command.name}: {how}{effect}"

    def _close(self, reason: Reason, detail: str) -> None:
        """Close the session and end. Close Session is never sent again, so nothing would come of waiting for it."""
        self._send_close()
        self._finish(reason, detail)

    def _send_close(self) -> None:
        self._rq_sequence = (self._rq_sequence + 1) & 0x3F
        self._out.append(close_packet(self._channel, self._rq_sequence, self._random))

    def _finish(self, reason: Reason, detail: str) -> None:
        login = self._login
        used = login.established
        self._result = Result(
            reason,
            detail,
            tuple(self._answers),
            login.suite_ident if used else 0,
            self._privilege if used else 0,
            login.unproven,
            self._value,
            self._acted > 0,
        )
