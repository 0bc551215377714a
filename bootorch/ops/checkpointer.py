"""Keeps checkpoints coming while a run goes on: once replay would get slow, a process of its own writes one.

It loads the plan from the journal and folds it as ``resume`` would (from the checkpoint before), so the run is not held
up for a moment, and what it writes is exactly what a replay gives.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import structlog

from bootorch.core.errors import OperatorError
from bootorch.ops.beside import Beside, last_words
from bootorch.runtime.checkpoint import EVERY, behind
from bootorch.runtime.journal import Journal

EVERY_S = 10.0  # between looks at how many events have come
COST_SHARE = 20.0  # at most a twentieth of one core's time
GIVE_UP_S = 300.0

_log = structlog.get_logger("bootorch.checkpoint")


class Checkpointer(Beside):
    """Use as a context manager around the run."""

    def __init__(self, journal: Path, *, every: int = EVERY, every_s: float = EVERY_S) -> None:
        super().__init__("checkpointer", every_s, COST_SHARE, GIVE_UP_S)
        self._journal = journal
        self._every = every

    def work(self) -> None:
        try:
            with Journal.open(self._journal, readonly=True) as journal:
                due = behind(journal) >= self._every
            if due:
                self._write()
        except (OSError, OperatorError) as error:
            _log.warning("no checkpoint was written", error=str(error), journal=str(self._journal))

    def _write(self) -> None:
        with TemporaryFile() as said:
            code = self.run(command(self._journal), subprocess.DEVNULL, said.fileno())
            if code:
                said.seek(0)
                last = last_words(said.read().decode(errors="replace"))
                _log.warning("no checkpoint was written", exit=code, error=last, journal=str(self._journal))


def command(journal: Path) -> Sequence[str]:
    """``--child`` ends it with the process that started it."""
    return (sys.executable, "-m", "bootorch.app", "checkpoint", str(journal), "--child")
