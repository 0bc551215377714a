"""The estimate of a run that goes on, renewed once in a while by a process of its own.

A thread beside the run's loop starts ``bootorch forecast RUN`` (niced, one sample at a time), which reads the journal,
the run's only consistent copy, like any other reader. The answer becomes ``forecast.json`` in the run's directory and a
few words for whoever watches. Nothing here may disturb the run: what goes wrong is a line in the log, and the process
ends with the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from bootorch.core.errors import Exit
from bootorch.ui.forecastview import FORECAST, outlook

EVERY_S = 30.0
COST_SHARE = 20.0  # a forecast may take a twentieth of one core's time: renewed after so many times what it cost
SAMPLES = 8
HOSTS_LEAST = 20  # fewer are over before anybody asks
NICE = 10
GIVE_UP_S = 900.0  # a forecast that takes longer is of no use to a run

_LOOK_S = 0.5
_log = structlog.get_logger("bootorch.estimator")


class Estimator:
    """Use as a context manager around the run. ``tell`` is called from the estimator's thread."""

    def __init__(
        self,
        run_dir: Path,
        hosts: int,
        tell: Callable[[str], None] | None = None,
        parameters: Path | None = None,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """``parameters``: the file that the simulated world is made from; the field's numbers without one."""
        self._run_dir = run_dir
        self._parameters = parameters
        self._tell = tell
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="estimator", daemon=True) if _wanted(hosts) else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        wait_s = self._every_s
        while not self._stop.wait(wait_s):
            began_s = time.monotonic()
            try:
                self._renew()
            except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                _log.warning("the estimate was not renewed", error=str(error), run=str(self._run_dir))
            wait_s = max(self._every_s, COST_SHARE * (time.monotonic() - began_s))

    def _renew(self) -> None:
        part = self._run_dir / f".{FORECAST}.part"
        said = self._run_dir / f".{FORECAST}.log"
        try:
            with part.open("wb") as output, said.open("wb") as errors:
                process = _start(command(self._run_dir, self._parameters), output.fileno(), errors.fileno())
                code = self._wait(process)
            if code is None:
                return  # the run has ended
            if code not in (Exit.OK, Exit.STOPPED):
                text = said.read_text(encoding="utf-8", errors="replace").strip()
                last = text.splitlines()[0][:300] if text else "no word"
                _log.warning("the estimate was not renewed", exit=code, error=last, run=str(self._run_dir))
                return
            document = json.loads(part.read_text(encoding="utf-8"))
            part.replace(self._run_dir / FORECAST)
            if self._tell is not None and (words := outlook(document)):
                self._tell(words)
        finally:
            part.unlink(missing_ok=True)
            said.unlink(missing_ok=True)

    def _wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """Its exit code; None when the run ended first."""
        given_up_s = time.monotonic() + GIVE_UP_S
        try:
            while process.poll() is None:
                if self._stop.wait(_LOOK_S):
                    return None
                if time.monotonic() > given_up_s:
                    raise TimeoutError(f"a forecast took longer than {GIVE_UP_S:.0f} s")
            return process.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its samples too
            process.wait()


def _wanted(hosts: int) -> bool:
    return hosts >= HOSTS_LEAST


def command(run_dir: Path, parameters: Path | None = None) -> Sequence[str]:
    """The forecast of a run as a command line; ``--child`` ends it with the process that started it."""
    return (
        sys.executable, "-m", "bootorch.app", "forecast", str(run_dir), "--samples", str(SAMPLES), "--jobs", "1",
        "--json", "--child", *(("--parameters", str(parameters)) if parameters is not None else ()),
    )  # fmt: skip


def _start(words: Sequence[str], output: int, errors: int) -> subprocess.Popen[bytes]:
    # A session of its own: a signal from the terminal is the run's affair. Arguments are ours, nothing is a shell's.
    process = subprocess.Popen(  # noqa: S603
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
    )
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    return process
