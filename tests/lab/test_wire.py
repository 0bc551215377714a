"""What the lab's network does to datagrams: by seed, within bounds, and nothing unless asked."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.lab import wire
from bootorch.lab.board import Board, Outgoing
from bootorch.lab.wire import Later, Wire, WireFaults

PEER = ("127.0.0.1", 40000)
HERE = b"\x7f\0\0\5"


class Echo:
    """A BMC that repeats what it hears, and counts; its console says ``tick`` at ``ticks``."""

    def __init__(self, *ticks: float) -> None:
        self.heard: list[bytes] = []
        self.ticks = list(ticks)

    def receive_datagram(self, data: bytes, peer: Hashable, now: float) -> list[bytes]:
        self.heard.append(data)
        return [b"echo " + data]

    def next_timer(self) -> float | None:
        return self.ticks[0] if self.ticks else None

    def handle_timer(self, now: float) -> list[tuple[bytes, Hashable]]:
        del self.ticks[0]
        return [(b"tick", PEER)]


def board(faults: WireFaults | None = None, bmc: Echo | None = None, seed: int = 1) -> Board:
    found = bmc or Echo()
    return Board(lambda asked, now: found if asked == HERE else None, faults or WireFaults(), seed)


def test_a_perfect_wire_delivers_once_and_at_once() -> None:
    plain = board()
    assert plain.wire.perfect
    assert list(plain.receive(b"a", PEER, HERE, 1.0)) == [b"echo a"]
    assert plain.due is None
    assert list(plain.receive(b"a", PEER, b"\x7f\0\0\6", 1.0)) == []
    assert plain.nobody == 1


@pytest.mark.parametrize("name", ["loss", "duplicates", "reorder", "truncated", "corrupt"])
def test_shares_are_kept_and_repeat_with_the_seed(name: str) -> None:
    def struck(seed: int) -> list[int]:
        faults = Wire(WireFaults(**{name: 0.2}), seed)
        return [n for n in range(2000) if faults.departures(b"0123456789") != [(0.0, b"0123456789")]]

    assert 320 <= len(struck(1)) <= 480
    assert struck(1) == struck(1)
    assert struck(1) != struck(2)


def test_what_each_fault_does_to_an_answer() -> None:
    answer = bytes(range(40))

    def one(**faults: float) -> list[tuple[float, bytes]]:
        return list(Wire(WireFaults(**faults), 3).departures(answer))

    assert one(loss=1.0) == []
    assert one(duplicates=1.0) == [(0.0, answer), (0.0, answer)]
    [(_, cut)] = one(truncated=1.0)
    assert answer.startswith(cut)
    assert len(cut) < len(answer)
    [(_, bad)] = one(corrupt=1.0)
    assert sum((a ^ b).bit_count() for a, b in zip(answer, bad, strict=True)) == 1
    assert one(latency_s=0.02) == [(0.02, answer)]
    [(late, _)] = one(latency_s=0.02, jitter_s=0.01)
    assert 0.02 < late < 0.03
    [(overtaken, _)] = one(latency_s=0.02, reorder=1.0)
    assert overtaken > 0.03
    assert Wire(WireFaults(corrupt=1.0, truncated=1.0), 3).departures(b"") == [(0.0, b"")]


def test_questions_are_lost_and_doubled_as_well() -> None:
    bmc = Echo()
    lossy = board(WireFaults(loss=1.0), bmc)
    assert list(lossy.receive(b"a", PEER, HERE, 0.0)) == []
    assert bmc.heard == []
    assert lossy.wire.lost == 1
    twice = board(WireFaults(duplicates=1.0), bmc)
    assert len(list(twice.receive(b"a", PEER, HERE, 0.0))) == 4
    assert bmc.heard == [b"a", b"a"]


def test_a_late_answer_leaves_at_its_time_and_in_order() -> None:
    late = board(WireFaults(latency_s=0.5))
    assert list(late.receive(b"a", PEER, HERE, 1.0)) == []
    assert list(late.receive(b"b", PEER, HERE, 1.0)) == []
    assert late.due == 1.5
    assert list(late.timers(1.4)) == []
    assert list(late.timers(1.5)) == [Outgoing(b"echo a", PEER, HERE), Outgoing(b"echo b", PEER, HERE)]
    assert late.due is None


def test_a_serial_console_is_called_at_its_time_through_the_same_wire() -> None:
    bmc = Echo(2.0, 3.0)
    near = board(bmc=bmc)
    list(near.receive(b"a", PEER, HERE, 1.0))
    list(near.receive(b"b", PEER, HERE, 1.1))
    assert near.due == 2.0
    assert list(near.timers(1.9)) == []
    assert list(near.timers(2.0)) == [Outgoing(b"tick", PEER, HERE)]
    assert near.due == 3.0
    bmc.ticks = [2.5]  # an answer to keys comes sooner
    list(near.receive(b"c", PEER, HERE, 2.2))
    assert near.due == 2.5
    assert [out.datagram for out in near.timers(4.0)] == [b"tick"], "the timer of before was put off"
    assert near.due is None
    far = board(WireFaults(latency_s=0.2), Echo(2.0))
    list(far.receive(b"a", PEER, HERE, 1.0))
    assert [out.datagram for out in far.timers(2.0)] == [b"echo a"]
    assert [out.datagram for out in far.timers(2.2)] == [b"tick"]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_WAITING", 10)
    late = board(WireFaults(latency_s=0.5))
    for n in range(25):
        list(late.receive(b"%d" % n, PEER, HERE, 0.0))
    assert late.dropped == 15
    assert len(list(late.timers(1.0))) == 10


@given(st.lists(st.tuples(st.floats(0, 10), st.integers()), max_size=50), st.floats(0, 10))
def test_later_gives_back_what_is_due_in_order(things: list[tuple[float, int]], now: float) -> None:
    later: Later[int] = Later()
    for due, thing in things:
        later.push(due, thing)
    got = []
    while (thing_due := later.pop(now)) is not None:
        got.append(thing_due)
    assert got == [thing for due, thing in sorted(things, key=lambda entry: entry[0]) if due <= now]
    assert later.due == min((due for due, _ in things if due > now), default=None)


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"corrupt": -0.1}, {"latency_s": -1.0}, {"jitter_s": 61.0}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WireFaults(**wrong)
