"""Values that are made by the hundred thousand: immutable for the type checker, plain for the interpreter.

A frozen dataclass sets each field past its own ``__setattr__``, which takes two thirds of the time of making one; a run
of 32,000 hosts makes 400,000 events, a resume reads as many. ``mypy`` refuses an assignment to a field of either kind.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen, slots):
        """``dataclass(frozen=True, slots=True)`` that trusts the type checker."""
        return dataclasses.dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["value"]
