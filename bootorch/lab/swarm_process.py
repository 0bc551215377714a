"""``lab bmcs`` as a child process, for tests and benchmarks: its CPU and memory are not the measurer's.

with swarm_process.running(count=1000, password=secret, loss=0.02) as fleet:
    ...  # fleet.addresses, fleet.port
    assert fleet.stats()["sessions"] == 0
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bootorch.core.errors import Problem, ToolError
from bootorch.core.secret import Secret
from bootorch.lab.swarm import addresses

_READY_S = 30.0  # 32,000 BMCs are named in half a second; a busy machine takes its time
_ANSWER_S = 30.0  # a fleet that answers tens of thousands of datagrams first
_END_S = 10.0


class SwarmProcess:
    """A running fleet. ``final`` are its last counters, once it has ended."""

    def __init__(self, child: subprocess.Popen[bytes], said: IO[bytes], addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self._child = child
        self._said = said
        ready = self._line(_READY_S)
        self.port = int(ready["port"])
        self.final: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        return self._child.pid

    def stats(self) -> dict[str, Any]:
        """Its counters now; ``sessions`` are those open and under way in all BMCs."""
        self._child.send_signal(signal.SIGUSR1)  # to a process that has ended it sends nothing
        return self._line(_ANSWER_S)

    def end(self) -> None:
        """TERM, and its last counters. Does nothing where it has ended."""
        if self._child.poll() is None:
            self._child.terminate()
            self.final = self._line(_END_S)
            self._child.wait(_END_S)

    def _line(self, patience_s: float) -> dict[str, Any]:
        """The next line that it says. ToolError when none comes: it has ended, or hangs."""
        line = b""
        if select.select([self._said], [], [], patience_s)[0]:
            line = self._said.readline()
        if not line:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1.0)  # its end is seen a moment after that of its output
            code = self._child.returncode
            state = "says nothing" if code is None else f"has ended with exit code {code}"
            raise ToolError(Problem(f"the fleet of BMCs {state}", f"process {self.pid}", "see its standard error"))
        record: dict[str, Any] = json.loads(line)
        return record


@contextmanager
def running(
    *, password: Secret, count: int = 1000, network: str = "127.64.0.0/16", bmc: str = "", **options: object
) -> Iterator[SwarmProcess]:
    """Start ``lab bmcs`` and end it. ``options`` are the command's others, with underscores: ``slow_boot="2%"``.

    ``port`` is a free one and ``lifetime`` ten minutes unless given. ToolError when it does not start, ValueError
    when count, network or folded addresses name no BMCs.
    """
    asked = addresses(bmc, network, count)
    where = {"bmc": bmc} if bmc else {"network": network, "count": count}
    options = {"port": 0, "lifetime": 600, **where, **options}
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bootorch-bmcs-"))
        path = Path(directory) / "password"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(password.reveal())
        words = [sys.executable, "-m", "bootorch.lab.swarm_commands", "--password-file", str(path)]
        for name, value in options.items():
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
        # Unbuffered, so that select() sees every line that has not been read.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, process_group=0
        )
        stack.callback(_reap, child)
        assert child.stdout is not None, "asked for a pipe"
        stack.enter_context(child.stdout)
        fleet = SwarmProcess(child, child.stdout, asked)
        yield fleet
        fleet.end()


def _reap(child: subprocess.Popen[bytes]) -> None:
    """Nothing is left behind, whatever happened."""
    if child.poll() is None:
        child.kill()
        child.wait()
