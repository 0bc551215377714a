"""The console's side of serial over LAN: the flow of characters, and the console against our BMC in virtual time."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Answer
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.packet import Payload
from bootorch.ipmi.sol import KEEP_ALIVE_S, STEALS, Console, _opening
from bootorch.ipmi.sol_stream import CHUNK, PAUSE_S, SEND_TRIES, SEND_WAIT_S, ZERO_TRIES, Stream

from .network import PASSWORD, USER, make_bmc
from .scripted import play

NACK = 0x40

# The flow of characters


def test_characters_are_acknowledged_and_come_once() -> None:
    stream = Stream()
    assert stream.receive(b"\x01\0\0\0login: ", 0.0) == [b"\0\x01\x07\0"]
    assert stream.receive(b"\x01\0\0\0login: ", 0.1) == [b"\0\x01\x07\0"]  # our acknowledgement was lost
    assert stream.receive(b"\x02\0\0\0x", 0.2) == [b"\0\x02\x01\0"]
    assert stream.receive(b"\x01\0\0\0login: ", 0.3) == []  # late
    assert bytes(stream.output) == b"login: x"


def test_what_has_grown_meanwhile_brings_its_new_end_only() -> None:
    stream = Stream()
    stream.receive(b"\x05\0\0\0log", 0.0)
    assert stream.receive(b"\x05\0\0\0login", 0.1) == [b"\0\x05\x05\0"]
    assert bytes(stream.output) == b"login"


def test_a_bmc_that_counts_from_1_again_is_heard() -> None:
    stream = Stream()
    for number in (7, 8, 9, 10, 1):
        stream.receive(bytes((number, 0, 0, 0)) + b"x", 0.0)
    assert len(stream.output) == 5


def test_typing_goes_one_packet_at_a_time() -> None:
    stream = Stream()
    assert stream.write(b"ls", 0.0) == b"\x01\0\0\0ls"
    assert stream.write(b" -l", 0.1) is None
    assert stream.receive(b"\0\x01\x02\0", 0.2) == [b"\x02\0\0\0 -l"]
    assert stream.receive(b"\0\x01\x02\0", 0.3) == []  # an old acknowledgement
    assert stream.receive(b"\0\x02\x03\0", 0.4) == []
    assert stream.timer == float("inf")


def test_what_is_not_acknowledged_goes_again_until_it_is_lost() -> None:
    stream = Stream()
    stream.write(b"x", 0.0)
    now = 0.0
    for _ in range(SEND_TRIES - 1):
        now = stream.timer
        assert stream.tick(now - 0.01) is None
        assert stream.tick(now) == b"\x01\0\0\0x"
    assert stream.tick(stream.timer) is None
    assert stream.lost


def test_a_part_that_was_accepted_is_not_sent_again() -> None:
    stream = Stream()
    stream.write(b"abcdef", 0.0)
    assert stream.receive(b"\0\x01\x02\0", 0.1) == [b"\x02\0\0\0cdef"]
    # A NACK: not now.
    assert stream.receive(bytes((0, 2, 1, NACK)), 0.2) == []
    assert stream.write(b"g", 0.3) is None
    assert stream.timer == 0.2 + PAUSE_S
    assert stream.tick(0.2 + PAUSE_S) == b"\x03\0\0\0defg"


def test_a_bmc_that_never_counts_is_understood() -> None:
    stream = Stream()
    stream.write(b"x", 0.0)
    now, sent = 0.0, 1
    while stream.timer < float("inf"):
        number = (sent - 1) % 15 + 1
        stream.receive(bytes((0, number, 0, 0)), now)
        if stream.timer < float("inf"):
            now = stream.timer
            assert stream.tick(now) == bytes((number + 1, 0, 0, 0)) + b"x"
            sent += 1
    assert sent == ZERO_TRIES


def test_long_input_goes_in_pieces() -> None:
    stream = Stream()
    text = bytes(range(256)) * 2
    payload = stream.write(text, 0.0)
    seen = b""
    for n in range(100):
        if payload is None:
            break
        assert payload[0] == n % 15 + 1
        assert len(payload) <= CHUNK + 4
        seen += payload[4:]
        answers = stream.receive(bytes((0, payload[0], len(payload) - 4, 0)), 0.0)
        payload = answers[0] if answers else None
    assert seen == text


@given(st.lists(st.one_of(st.binary(max_size=12), st.just(None)), max_size=60))
def test_nonsense_changes_nothing_for_the_worse(payloads: list[bytes | None]) -> None:
    stream = Stream()
    now = 0.0
    for payload in payloads:
        if payload is None:
            stream.write(b"typed", now)
        else:
            assert len(stream.receive(payload, now)) <= 2
        now += SEND_WAIT_S
        stream.tick(now)
    assert len(stream.output) <= 12 * len(payloads)


# The whole console


class Desk:
    """Consoles at one BMC, in virtual time; datagrams get lost each way by ``loss``."""

    def __init__(self, bmc: Bmc, *, loss: float = 0.0, seed: int = 0) -> None:
        self.bmc = bmc
        self.now = 0.0
        self.deaf = False  # the BMC hears nothing any more
        self._random = Random(seed)
        self._loss = loss
        self._heap: list[tuple[float, int, Console, bool, bytes]] = []
        self._entries = count()
        self._consoles: dict[int, Console] = {}
        self._ids = count(1 + seed * 1000)
        self.outputs: dict[Console, bytes] = {}

    def console(self, *, password: Secret = PASSWORD, open_within_s: float = 20.0, **options: object) -> Console:
        console = Console(
            Credentials(USER, password),
            random=self._random.randbytes,
            console_id=self._ids.__next__,
            open_by=self.now + open_within_s,
            **options,  # type: ignore[arg-type]
        )
        self._consoles[id(console)] = console
        self.outputs[console] = b""
        console.start(self.now)
        self._flush(console)
        return console

    def opened(self, **options: object) -> Console:
        console = self.console(**options)  # type: ignore[arg-type]
        self.run(20.0, until=console)
        assert console.open, console.end
        return console

    def type(self, console: Console, data: bytes) -> None:
        console.write(data, self.now)
        self._flush(console)

    def close(self, console: Console) -> None:
        console.close(self.now)
        self._flush(console)

    def run(self, seconds: float, until: Console | None = None) -> None:
        """Let time pass, or until this console has opened or ended."""
        end = self.now + seconds
        for _ in range(200_000):
            if until is not None and (until.open or until.end is not None):
                return
            timers = [t for c in self._consoles.values() if (t := c.next_timer()) is not None]
            served = self.bmc.next_timer()
            due = min([*timers, end] + ([max(served, self.now)] if served is not None else []))
            if self._heap and self._heap[0][0] <= due:
                self._deliver()
                continue
            if due >= end:
                self.now = end
                return
            self.now = max(self.now, due)
            for console in self._consoles.values():
                console.handle_timer(self.now)
                self._flush(console)
            for data, peer in self.bmc.handle_timer(self.now):
                self._post(self._consoles[peer], False, data)  # type: ignore[index]
        raise AssertionError("time does not pass")

    def _deliver(self) -> None:
        self.now, _, console, to_bmc, data = heappop(self._heap)
        if not to_bmc:
            console.receive_datagram(data, self.now)
            self._flush(console)
        elif not self.deaf:
            for answer in self.bmc.receive_datagram(data, id(console), self.now):
                self._post(console, False, answer)

    def _flush(self, console: Console) -> None:
        for data in console.datagrams_to_send():
            self._post(console, True, data)
        self.outputs[console] += console.output()

    def _post(self, console: Console, to_bmc: bool, data: bytes) -> None:
        if self._random.random() >= self._loss:
            heappush(self._heap, (self.now + 0.001, next(self._entries), console, to_bmc, data))


@pytest.fixture
def chassis() -> MemoryChassis:
    return MemoryChassis(on=True)


@pytest.fixture
def desk(chassis: MemoryChassis) -> Desk:
    return Desk(make_bmc(chassis))


def test_both_ways(desk: Desk, chassis: MemoryChassis) -> None:
    console = desk.opened()
    chassis.console.write(b"web1 login: ")
    desk.run(1.0)
    desk.type(console, b"root\r")
    desk.run(1.0)
    assert chassis.typed == b"root\r"
    assert desk.outputs[console] == b"web1 login: root\r"  # it echoes


def test_closing_frees_everything(desk: Desk) -> None:
    console = desk.opened()
    desk.close(console)
    desk.run(1.0)
    assert console.end == (Reason.OK, "closed")
    assert console.next_timer() is None
    assert desk.bmc.session_count == 0
    assert desk.bmc.sol is None
    desk.opened()


def test_an_idle_console_stays_open(desk: Desk, chassis: MemoryChassis) -> None:
    """The BMC ends sessions that are silent for 60 s."""
    console = desk.opened()
    desk.run(600.0)
    assert console.open
    chassis.console.write(b"panic")
    desk.run(1.0)
    assert desk.outputs[console] == b"panic"


def test_a_console_in_use_is_not_taken(desk: Desk) -> None:
    first = desk.opened()
    second = desk.console()
    desk.run(5.0)
    assert second.end is not None
    assert second.end.reason is Reason.BMC_BUSY
    assert second.end.detail.startswith("the console is in use")
    assert first.open
    assert desk.bmc.session_count == 1


def test_a_console_is_taken_over_where_that_was_asked_for(desk: Desk, chassis: MemoryChassis) -> None:
    first = desk.opened()
    second = desk.opened(steal=True)
    desk.run(1.0)
    assert first.end is not None
    assert first.end.reason is Reason.BMC_BUSY
    assert "another one took it over" in first.end.detail
    chassis.console.write(b"mine")
    desk.run(1.0)
    assert second.open
    assert desk.outputs[second] == b"mine"
    assert desk.bmc.session_count == 1


def test_a_bmc_that_dies_is_noticed_without_typing(desk: Desk) -> None:
    console = desk.opened()
    desk.deaf = True
    desk.run(KEEP_ALIVE_S + 20)
    assert console.end is not None
    assert console.end.reason is Reason.BMC_LOST


def test_typing_to_a_bmc_that_is_gone_is_lost(desk: Desk) -> None:
    console = desk.opened()
    desk.bmc.reset()
    desk.type(console, b"x")
    desk.run(15.0)
    assert console.end is not None
    assert console.end.reason is Reason.BMC_LOST


def test_a_wrong_password(desk: Desk) -> None:
    console = desk.console(password=Secret("wrong"))
    desk.run(25.0)
    assert console.end is not None
    assert console.end.reason is Reason.BMC_AUTH_FAILED


def test_nobody_there(desk: Desk) -> None:
    desk.deaf = True
    console = desk.console(open_within_s=10.0)
    desk.run(9.9)
    assert console.next_timer() is not None
    desk.run(0.2)
    assert console.end is not None
    assert console.end.reason is Reason.BMC_UNREACHABLE


def test_aborting_at_any_moment_leaves_nothing_behind(chassis: MemoryChassis) -> None:
    for step in range(14):
        desk = Desk(make_bmc(chassis), seed=step)
        console = desk.console()
        desk.run(step * 0.001 + 0.0005)
        console.abort()
        desk._flush(console)
        desk.run(0.1)
        assert console.end is not None
        assert desk.bmc.sol is None
        assert all(session.channel is None for session in desk.bmc.sessions.values()), step


@pytest.mark.parametrize("seed", range(8))
def test_a_bad_network_loses_and_repeats_no_character(seed: int, chassis: MemoryChassis) -> None:
    """10 % loss each way. The BMC gives a packet 7 repetitions before it takes the console for gone."""
    desk = Desk(make_bmc(chassis), loss=0.1, seed=seed)
    console = desk.opened()
    typed, printed = b"", b""
    for n in range(30):
        chassis.console.write(line := b"line %d\r\n" % n)
        printed += line
        desk.type(console, key := b"%c" % (97 + n % 26))
        typed += key
        desk.run(1.5)
    desk.run(20.0)
    assert console.open, console.end
    assert chassis.typed == typed
    # The host echoes what is typed, somewhere in between.
    assert sorted(desk.outputs[console]) == sorted(printed + typed)


def test_the_answer_that_was_lost_is_no_other_console() -> None:
    """Activate Payload is asked again, and refused as active: by ourselves."""
    answers = iter([(0, b""), (0x80, b""), (0, (77).to_bytes(4, "little") + bytes(8))])
    value, sent = play(_opening(False, lambda: 77), lambda command: next(answers))
    assert value is None
    assert [command.command for command in sent] == [0x3B, 0x48, 0x4B]


def test_who_holds_the_console() -> None:
    answers = iter(
        [
            (0, b""),
            (0x80, b""),
            (0, b"\x01\x02\x03\x04" + bytes(8)),
            (0, b"\x01\x0f\x02\x03\x04\x11" + bytes((192, 0, 2, 7)) + bytes(8)),
            (0, b"operator\0\0\0\0\0\0\0\0"),
        ]
    )
    value, _ = play(_opening(False, lambda: 77), lambda command: next(answers))
    assert value is not None
    assert value.detail == "the console is in use by operator from 192.0.2.7; ask for it, or take it over"


def test_a_console_that_is_always_taken_again_is_left() -> None:
    value, sent = play(_opening(True, lambda: 77), lambda command: (0x80 if command.command == 0x48 else 0, b""))
    assert value is not None
    assert value.reason is Reason.BMC_BUSY
    assert sum(command.command == 0x49 for command in sent) == STEALS


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (0x81, Reason.BMC_UNSUPPORTED),
        (0x82, Reason.BMC_REFUSED),
        (0xC1, Reason.BMC_UNSUPPORTED),
        (0xD4, Reason.BMC_REFUSED),
    ],
)
def test_refusals_of_the_console(completion: int, reason: Reason) -> None:
    value, _ = play(_opening(True, lambda: 77), lambda command: (completion if command.command == 0x48 else 0, b""))
    assert value is not None
    assert value.reason is reason


@given(st.lists(st.tuples(st.sampled_from([0, 0, 0x80, 0xC0, 0xC1]), st.binary(max_size=20)), min_size=1, max_size=8))
def test_nonsense_opens_no_exception(answers: list[tuple[int, bytes]]) -> None:
    turn = count()
    play(_opening(True, lambda: 77), lambda command: Answer(*answers[next(turn) % len(answers)]), most=20)
    play(_opening(False, lambda: 77), lambda command: Answer(*answers[next(turn) % len(answers)]), most=20)


@given(st.lists(st.tuples(st.sampled_from([Payload.IPMI, Payload.SOL]), st.binary(max_size=30)), max_size=20))
def test_signed_nonsense_raises_nothing(payloads: list[tuple[Payload, bytes]]) -> None:
    """A BMC that knows the password and sends anything at all, while the console is open and while it is closed."""
    desk = Desk(make_bmc(MemoryChassis(on=True)))
    console = desk.opened()
    (session,) = desk.bmc.sessions.values()
    assert session.channel is not None
    desk.deaf = True
    for n, (kind, payload) in enumerate(payloads):
        if n == len(payloads) // 2:
            desk.close(console)
        console.receive_datagram(session.channel.seal(payload, bytes(16), kind), desk.now)
        desk._flush(console)
        desk.run(1.0)
    desk.close(console)
    desk.run(10.0)
    assert console.end is not None
    assert len(desk.outputs[console]) <= 30 * len(payloads)
