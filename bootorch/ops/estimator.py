"""The estimate of a run that goes on, renewed once in a while by a process of its own.

A thread beside the run's loop starts ``bootorch forecast RUN`` (niced, one sample at a time), which reads the journal,
the run's only consistent copy, like any other reader. The answer becomes ``forecast.json`` in the run's directory and a
few words for whoever watches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from bootorch.core.errors import Exit
from bootorch.ops.beside import Beside, last_words
from bootorch.ui.forecastview import FORECAST, outlook

EVERY_S = 30.0
COST_SHARE = 20.0  # a forecast may take a twentieth of one core's time: renewed after so many times what it cost
SAMPLES = 8
HOSTS_LEAST = 20  # fewer are over before anybody asks
GIVE_UP_S = 900.0  # a forecast that takes longer is of no use to a run

_log = structlog.get_logger("bootorch.estimator")


class Estimator(Beside):
    """Use as a context manager around the run, where ``wanted``. ``tell`` is called from the estimator's thread."""

    def __init__(
        self,
        run_dir: Path,
        tell: Callable[[str], None] | None = None,
        parameters: Path | None = None,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """``parameters``: the file that the simulated world is made from; the field's numbers without one."""
        super().__init__("estimator", every_s, COST_SHARE, GIVE_UP_S)
        self._run_dir = run_dir
        self._parameters = parameters
        self._tell = tell

    def work(self) -> None:
        try:
            self._renew()
        except (OSError, ValueError, KeyError) as error:
            _log.warning("the estimate was not renewed", error=str(error), run=str(self._run_dir))

    def _renew(self) -> None:
        part = self._run_dir / f".{FORECAST}.part"
        said = self._run_dir / f".{FORECAST}.log"
        try:
            with part.open("wb") as output, said.open("wb") as errors:
                code = self.run(command(self._run_dir, self._parameters), output.fileno(), errors.fileno())
            if code is None:
                return  # the run has ended
            if code not in (Exit.OK, Exit.STOPPED):
                last = last_words(said.read_text(encoding="utf-8", errors="replace"))
                _log.warning("the estimate was not renewed", exit=code, error=last, run=str(self._run_dir))
                return
            document = json.loads(part.read_text(encoding="utf-8"))
            part.replace(self._run_dir / FORECAST)
            if self._tell is not None and (words := outlook(document)):
                self._tell(words)
        finally:
            part.unlink(missing_ok=True)
            said.unlink(missing_ok=True)


def wanted(hosts: int) -> bool:
    return hosts >= HOSTS_LEAST


def command(run_dir: Path, parameters: Path | None = None) -> Sequence[str]:
    """The forecast of a run as a command line; ``--child`` ends it with the process that started it."""
    return (
        sys.executable, "-m", "bootorch.app", "forecast", str(run_dir), "--samples", str(SAMPLES), "--jobs", "1",
        "--json", "--child", *(("--parameters", str(parameters)) if parameters is not None else ()),
    )  # fmt: skip
