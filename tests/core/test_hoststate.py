"""How a host lies in memory: what is touched together stands together, which a field more or less would undo."""

from __future__ import annotations

import platform
import sys

import pytest

from bootorch.core.hoststate import HostState
from bootorch.core.state import State
from tests.plans import group, make_plan

LINE = 64  # bytes of a line of the processor's cache
MOST = 512  # that CPython's own allocator gives out; what is larger lies wherever malloc has room


@pytest.mark.skipif(platform.python_implementation() != "CPython" or sys.maxsize < 2**32, reason="another layout")
def test_the_parts_of_a_host_begin_with_a_line_of_the_cache() -> None:
    host = State(make_plan({"web": (1, group())})).hosts["web1"]
    assert sys.getsizeof(host) <= MOST, "take a field away, or put two into one"
    for part in HostState.__mro__[1:-1]:
        assert part.__basicsize__ % LINE == 0, f"{part.__name__} ends within a line: move a field"
