"""Words, numbers and folded names on screens."""

from __future__ import annotations

import doctest
import io

from ClusterShell.NodeSet import NodeSet
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.nodesets import fold
from bootorch.ui import lines
from bootorch.ui.fold import fold_counted
from bootorch.ui.lines import Lines


def test_the_examples_in_the_docstrings() -> None:
    for module in (lines,):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


@given(st.sets(st.from_regex(r"(web|r[0-9]{1,2}-n)[0-9]{1,4}(\.example)?", fullmatch=True), min_size=1, max_size=60))
def test_folding_loses_nobody(names: set[str]) -> None:
    assert set(NodeSet(fold(names))) == names


def test_a_cut_tears_no_range() -> None:
    names = [f"{group}{i}" for group in ("web", "db", "cache") for i in range(1, 9, 2)]
    text = fold_counted(names, 24)
    assert text.endswith(",… (12)")
    assert text.count("[") == text.count("]")


def test_lines_are_plain_off_a_terminal() -> None:
    page = Lines()
    page.add(("red words", "bold red"), " and plain ones")
    page.blank()
    page.blank()
    page.table([("a", "1", "x"), ("bbb", "22", "y")], right=(1,))
    stream = io.StringIO()
    page.write(stream)
    assert stream.getvalue() == "red words and plain ones\n\n  a     1  x\n  bbb  22  y\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_color_is_respected(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    page = Lines()
    page.add(("red", "red"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    page.write(coloured)
    assert coloured.getvalue() == "\x1b[31mred\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    page.write(plain)
    assert plain.getvalue() == "red\n"
