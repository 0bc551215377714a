"""Work beside a run, by processes of their own: niced, one at a time, and gone when the run is.

Nothing here may disturb the run: what goes wrong is a line in the log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

NICE = 10
_LOOK_S = 0.5


class Beside(ABC):
    """A thread that does ``work`` once in a while. Use as a context manager around the run."""

    def __init__(self, name: str, every_s: float, cost_share: float, give_up_s: float) -> None:
        """``cost_share``: the next work comes no sooner than after so many times what the last one took."""
        self._every_s = every_s
        self._cost_share = cost_share
        self._give_up_s = give_up_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @abstractmethod
    def work(self) -> None:
        """Do it once. Raises nothing: what goes wrong is said in the log."""

    def _loop(self) -> None:
        wait_s = self._every_s
        while not self._stop.wait(wait_s):
            began_s = time.monotonic()
            self.work()
            wait_s = max(self._every_s, self._cost_share * (time.monotonic() - began_s))

    def run(self, words: Sequence[str], output: int, errors: int) -> int | None:
        """A command's exit code; None when the run ended first. Raises OSError, and TimeoutError when given up."""
        # A session of its own: a signal from the terminal is the run's affair. The words are ours, and no shell's.
        process = subprocess.Popen(  # noqa: S603
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        given_up_s = time.monotonic() + self._give_up_s
        try:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            while process.poll() is None:
                if self._stop.wait(_LOOK_S):
                    return None
                if time.monotonic() > given_up_s:
                    raise TimeoutError(f"it took longer than {self._give_up_s:.0f} s")
            return process.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            process.wait()


def last_words(text: str) -> str:
    """The first line of what a process said before it failed."""
    return text.strip().splitlines()[0][:300] if text.strip() else "no word"
