"""IPMI 1.5 sessions with MD5: against a server written here from the specification alone, in virtual time."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.ipmi import messages as msg
from bootorch.ipmi import packet15, scripts
from bootorch.ipmi.client import Exchange, Result, Script
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.login15 import SILENT_ACTIVATIONS, check_password

from .network import PASSWORD, USER, Network, Server


def exchange15(
    script: Script,
    *,
    password: Secret = PASSWORD,
    user: bytes = USER,
    seed: int = 1,
    random: Callable[[int], bytes] | None = None,
    deadline: float = 60.0,
) -> Exchange:
    """An exchange over an IPMI 1.5 session."""
    random = random or Random(seed).randbytes
    credentials = Credentials(user, password)
    return Exchange(credentials, script, random=random, console_id=lambda: 128, deadline=deadline, version="1.5")


def code(password: bytes, session: bytes, sequence: bytes, message: bytes) -> bytes:
    key = password + bytes(16 - len(password))
    return hashlib.md5(key + session + message + sequence + key).digest()


class OldBoard:
    """An IPMI 1.5 BMC with one user; what is peculiar about it can be set."""

    def __init__(self, password: bytes = b"s3cretpw", seed: int = 7) -> None:
        self.password = password
        self.random = Random(seed)
        self.offered = 0x14  # MD5 and straight password
        self.activation = 0  # completion code of Activate Session
        self.limit = 4
        self.session_type = 2
        self.skip = 1  # by how much its own sequence numbers grow
        self.pad = b""  # legacy pad
        self.challenges: dict[bytes, bytes] = {}
        self.sessions: dict[bytes, list[int]] = {}  # id: next number of ours, next number of its own
        self.activations = 0
        self.commands: list[tuple[int, int]] = []
        self.privilege = 2

    def __call__(self, data: bytes, now: float) -> list[bytes]:
        assert data[:4] == b"\x06\x00\xff\x07"
        kind, sequence, session = data[4], data[5:9], data[9:13]
        if kind == 0:
            assert sequence + session == bytes(8)
            message = data[14 : 14 + data[13]]
            answer = self.outside(message)
            return [data[:13] + bytes((len(answer),)) + answer + self.pad]
        assert kind == 2, "nothing but MD5"
        message = data[30 : 30 + data[29]]
        if code(self.password, session, sequence, message) != data[13:29]:
            return []  # 13.6: dropped
        if message[5] == 0x3A and session in self.challenges:
            return self.activate(session, sequence, message)
        if session not in self.sessions or struct.unpack("<I", sequence)[0] < self.sessions[session][0]:
            return []
        self.sessions[session][0] = struct.unpack("<I", sequence)[0] + 1
        return [self.seal(session, self.inside(session, message))]

    def seal(self, session: bytes, message: bytes) -> bytes:
        number = struct.pack("<I", self.sessions[session][1])
        self.sessions[session][1] += self.skip
        head = b"\x06\x00\xff\x07\x02" + number + session
        return head + code(self.password, session, number, message) + bytes((len(message),)) + message + self.pad

    def reply(self, message: bytes, completion: int, data: bytes = b"") -> bytes:
        first = bytes((0x81, message[1] | 4))
        tail = bytes((0x20, message[4], message[5], completion)) + data
        return first + bytes((-sum(first) & 0xFF,)) + tail + bytes((-sum(tail) & 0xFF,))

    def outside(self, message: bytes) -> bytes:
        data = message[6:-1]
        if message[5] == 0x38:
            return self.reply(message, 0, bytes((1, self.offered, 0x04, 0, 0, 0, 0, 0)))
        if message[5] == 0x39:
            if data[0] != 2 or data[1:].rstrip(b"\0") != USER:
                return self.reply(message, 0x81)
            session, challenge = self.random.randbytes(4), self.random.randbytes(16)
            self.challenges[session] = challenge
            return self.reply(message, 0, session + challenge)
        return self.reply(message, 0xC1)

    def activate(self, session: bytes, sequence: bytes, message: bytes) -> list[bytes]:
        self.activations += 1
        data = message[6:-1]
        assert sequence == bytes(4)
        assert data[0] == 2
        assert data[2:18] == self.challenges[session]
        first = struct.unpack("<I", data[18:22])[0]
        assert first
        completion = self.activation or (0x86 if data[1] > self.limit else 0)
        answer = self.reply(message, completion)
        if completion:
            return [b"\x06\x00\xff\x07" + bytes(9) + bytes((len(answer),)) + answer]
        del self.challenges[session]
        own, start = self.random.randbytes(4), self.random.randrange(1, 1000)
        answer = self.reply(message, 0, bytes((self.session_type,)) + own + struct.pack("<I", start) + data[1:2])
        self.sessions[own] = [start, first]
        return [self.seal(own, answer)]

    def inside(self, session: bytes, message: bytes) -> bytes:
        netfn, command, data = message[1] >> 2, message[5], message[6:-1]
        self.commands.append((netfn, command))
        if (netfn, command) == (6, 0x3B):
            self.privilege = data[0]
            return self.reply(message, 0, data)
        if (netfn, command) == (0, 0x02):
            return self.reply(message, 0 if self.privilege >= 3 else 0xD4)
        if (netfn, command) == (0, 0x01):
            return self.reply(message, 0, b"\x01\x00\x00")
        if (netfn, command) == (6, 0x3C):
            assert data == session
            return self.reply(message, 0)
        return self.reply(message, 0xC1)


def talk(serve: Server, script: Script | None = None, **options: object) -> Result:
    network = Network()
    return network.run(exchange15(script or scripts.chassis_status(), **options), serve)  # type: ignore[arg-type]


def test_status_and_power() -> None:
    board = OldBoard()
    result = talk(board)
    assert result.reason is Reason.OK, result
    assert isinstance(result.value, msg.ChassisStatus)
    assert result.value.power_on
    assert result.suite == 0
    result = talk(board, scripts.chassis_control(msg.Action.ON))
    assert result.reason is Reason.OK, result
    assert board.commands == [(0, 1), (6, 0x3C), (6, 0x3B), (0, 2), (6, 0x3C)]


@pytest.mark.parametrize("skip", [1, 3])
@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_boards_that_skip_numbers_and_pad(skip: int, pad: bytes) -> None:
    board = OldBoard()
    board.skip, board.pad = skip, pad
    assert talk(board, scripts.chassis_control(msg.Action.ON)).reason is Reason.OK


def test_without_md5_there_is_no_session() -> None:
    board = OldBoard()
    board.offered = 0x11  # none and straight password
    result = talk(board)
    assert result.reason is Reason.BMC_NO_SUITE
    assert not board.challenges


def test_without_authentication_per_message_there_is_none_either() -> None:
    board = OldBoard()
    board.session_type = 0
    result = talk(board)
    assert result.reason is Reason.BMC_NO_SUITE
    assert "per-message" in result.detail
    assert not board.commands


@pytest.mark.parametrize("completion", [0x81, 0x82, 0x83])
def test_no_free_session(completion: int) -> None:
    board = OldBoard()
    board.activation = completion
    assert talk(board).reason is Reason.BMC_NO_SESSION


def test_a_user_who_is_operator_at_most() -> None:
    board = OldBoard()
    board.limit = 3
    result = talk(board, scripts.chassis_control(msg.Action.ON))
    assert result.reason is Reason.OK
    assert (result.privilege, board.privilege) == (3, 3)
    board.limit = 2
    assert talk(board).reason is Reason.BMC_REFUSED


def test_a_wrong_password_is_silence_and_not_tried_for_long() -> None:
    board = OldBoard(b"another")
    sent: list[bytes] = []

    def serve(data: bytes, now: float) -> list[bytes]:
        sent.append(data)
        return board(data, now)

    result = talk(serve)
    assert result.reason is Reason.BMC_SILENT_AUTH
    assert "wrong password?" in result.detail
    assert sum(data[4] == 2 for data in sent) == SILENT_ACTIVATIONS


def test_an_unknown_user() -> None:
    assert talk(OldBoard(), user=b"nobody").reason is Reason.BMC_AUTH_FAILED


def test_nobody_there() -> None:
    result = talk(lambda data, now: [], deadline=20.0)
    assert result.reason is Reason.BMC_UNREACHABLE


def test_an_answer_with_a_wrong_code_is_no_session() -> None:
    """It is ignored: who cannot sign it does not know the password."""
    board = OldBoard()

    def serve(data: bytes, now: float) -> list[bytes]:
        answers = board(data, now)
        if board.sessions:
            return [answer[:13] + bytes(16) + answer[29:] for answer in answers]
        return answers

    assert talk(serve).reason is Reason.BMC_SILENT_AUTH


def test_forged_and_repeated_answers_are_ignored() -> None:
    board = OldBoard()
    status_on = {True: b"\x01\x00\x00", False: b"\x00\x00\x00"}
    kept: list[bytes] = []

    def serve(data: bytes, now: float) -> list[bytes]:
        answers = board(data, now)
        if board.commands and board.commands[-1] == (0, 1):
            forged = [answer.replace(status_on[True], status_on[False]) for answer in answers]
            assert forged != answers
            kept.extend(answers)
            return [*forged, *kept[:1], *answers]
        return answers

    result = talk(serve)
    assert isinstance(result.value, msg.ChassisStatus)
    assert result.value.power_on


@pytest.mark.parametrize("seed", range(10))
def test_a_bad_network(seed: int) -> None:
    """Loss, repetition and reordering; only the wrong-password rule may end it early, and says what it was."""
    board = OldBoard(seed=seed)
    network = Network(seed, loss=0.1, repeat=0.1, delay_s=0.05)
    result = network.run(exchange15(scripts.chassis_status(), seed=seed), board)
    assert result.reason is Reason.OK, result


def test_passwords_are_16_bytes_at_most() -> None:
    check_password(Credentials(b"admin", Secret("x" * 16)))
    with pytest.raises(ValueError, match="16 bytes"):
        check_password(Credentials(b"admin", Secret("x" * 17)))
    with pytest.raises(ValueError, match="16 bytes"):
        exchange15(scripts.chassis_status(), password=Secret("x" * 17))


def test_the_sequence_leaves_out_zero() -> None:
    channel = packet15.Channel15(PASSWORD, 5, 0xFFFFFFFF)
    numbers = [packet15.decode_header(channel.seal(b"message")) for _ in range(2)]
    assert [header.sequence for header in numbers if header is not None] == [0xFFFFFFFF, 1]


@given(st.binary(max_size=80))
def test_nonsense_never_raises(data: bytes) -> None:
    channel = packet15.Channel15(PASSWORD, 5, 1)
    for packet in (data, b"\x06\x00\xff\x07\x02" + data, b"\x06\x00\xff\x07" + bytes(9) + data):
        header = packet15.decode_header(packet)
        if header is not None:
            assert channel.open(header, packet) is None
        exchange = exchange15(scripts.chassis_status())
        exchange.start(0.0)
        exchange.receive_datagram(packet, 0.1)


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(0, 1 << 32))
def test_a_hostile_board_ends_nothing_but_the_exchange(answers: list[bytes], seed: int) -> None:
    """Real answers up to some point, then nonsense under a right code."""
    board = OldBoard(seed=seed)
    random = Random(seed)

    def serve(data: bytes, now: float) -> list[bytes]:
        real = board(data, now)
        if not answers or random.random() < 0.5:
            return real
        nonsense = random.choice(answers)
        head = b"\x06\x00\xff\x07\x02" + random.randbytes(4) + random.choice([data[9:13], *board.sessions])
        signed = head + code(board.password, head[9:13], head[5:9], nonsense) + bytes((len(nonsense),)) + nonsense
        return [signed, *real]

    assert talk(serve, seed=seed).reason in Reason
