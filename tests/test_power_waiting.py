"""``bootorch power on --wait``: what becomes of an order, reading by reading."""

from __future__ import annotations

import pytest

from bootorch.core.reasons import Reason
from bootorch.ops import powerverbs
from bootorch.power import WAIT_POLL_S, _Waiting
from bootorch.ui.powerservices import Row, Verb

ACCEPTED = Row("a", "accepted", Reason.OK, "", 1, 0.1)
LOST = Row("a", "", Reason.BMC_LOST, "no answer", 1, 5.0)


def reading(state: str) -> Row:
    return Row("a", state, Reason.OK, "", 1, 0.1)


@pytest.mark.parametrize("first", [ACCEPTED, LOST])
def test_an_order_is_read_back_until_it_is_done(first: Row) -> None:
    """Also one without an answer: it is never sent twice, but it may have been done."""
    rows: list[Row] = []
    waiting = _Waiting(Verb.ON, 20.0, rows.append)
    at_once, again = waiting.answered(first), waiting.answered(reading("off"))
    assert at_once is not None
    assert again is not None
    assert (at_once[0], at_once[1]) == (powerverbs.STATUS, 0.0)
    assert again[1] == WAIT_POLL_S
    assert 0 < again[2] < at_once[2] < 20.0  # the time of the order is part of it
    assert not rows
    assert waiting.answered(reading("on")) is None
    (row,) = rows
    assert (row.state, row.reason, row.attempts) == ("on", Reason.OK, 2)


@pytest.mark.parametrize(("first", "reason"), [(ACCEPTED, Reason.POWER_NO_EFFECT), (LOST, Reason.BMC_LOST)])
def test_an_order_that_is_not_done_in_time(first: Row, reason: Reason) -> None:
    rows: list[Row] = []
    waiting = _Waiting(Verb.ON, first.elapsed_s + WAIT_POLL_S / 2, rows.append)
    assert waiting.answered(first) is not None
    assert waiting.answered(reading("off")) is None  # there is no time for another reading
    assert rows[0].reason is reason
    assert "off" in rows[0].detail


def test_a_refusal_is_not_waited_for() -> None:
    rows: list[Row] = []
    refused = Row("a", "", Reason.BMC_REFUSED, "no", 1, 0.1)
    assert _Waiting(Verb.ON, 20.0, rows.append).answered(refused) is None
    assert rows == [refused]


def test_an_interrupt_between_readings_says_that_the_order_was_accepted() -> None:
    rows: list[Row] = []
    waiting = _Waiting(Verb.ON, 20.0, rows.append)
    waiting.answered(ACCEPTED)
    waiting.interrupted()
    waiting.interrupted()
    (row,) = rows
    assert row.reason is Reason.INTERRUPTED
    assert "on was accepted" in row.detail
