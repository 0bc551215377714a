"""The console's escape character: heard at the beginning of a line, and nothing typed gets lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.ui.escape import Escape, Wish


@pytest.mark.parametrize(
    ("typed", "sent", "wishes"),
    [
        (b"~.", b"", (Wish.END,)),
        (b"~?", b"", (Wish.HELP,)),
        (b"~~", b"~", ()),
        (b"~x", b"~x", ()),
        (b"ls ~.\r", b"ls ~.\r", ()),
        (b"ls\r~.", b"ls\r", (Wish.END,)),
        (b"ls\n~?~.", b"ls\n", (Wish.HELP, Wish.END)),
        (b"a~\r~.", b"a~\r", (Wish.END,)),
        (b"~\r~.", b"~\r", (Wish.END,)),
        (b"~.rest", b"", (Wish.END,)),
        (b"~", b"", ()),
        (b"\x03\x00\xff", b"\x03\x00\xff", ()),
    ],
)
def test_what_is_typed(typed: bytes, sent: bytes, wishes: tuple[Wish, ...]) -> None:
    assert Escape().feed(typed) == (sent, wishes)


@given(st.binary(max_size=30).filter(lambda data: b"~" not in data))
def test_all_else_goes_through(typed: bytes) -> None:
    assert Escape().feed(typed) == (typed, ())


@given(st.lists(st.sampled_from([b"~", b".", b"?", b"\r", b"\n", b"a"]), max_size=12))
def test_keys_one_by_one_mean_what_they_mean_together(keys: list[bytes]) -> None:
    alone, sent, wishes = Escape(), b"", []
    for key in keys:
        out, found = alone.feed(key)
        sent += out
        wishes += found
        if Wish.END in found:
            break
    assert Escape().feed(b"".join(keys)) == (sent, tuple(wishes))
