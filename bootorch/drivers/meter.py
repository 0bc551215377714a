"""A feed's meter: a command of the operator's own machine that prints what the feed draws (``model.Meter``).

One exchange: the command is started without a shell, with nothing on stdin, three words of environment and a process
group of its own, and at its end or deadline nothing of that group is left. What it prints is data from outside: at most
4 KiB are read, and only a number that can be meant in one way is believed, because a budget hangs on it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from contextlib import suppress
from typing import Final

from bootorch.core.model import Meter
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Reply

MOST_BYTES: Final = 4096  # a meter prints a line; a page of HTML or a stack trace is no reading
MOST_WATTS: Final = 1e12  # as ``core.units``: a terawatt is a slip of whoever wrote the command
_MOST_SAID: Final = 200  # characters of what a failing command wrote
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG")
_SCALE: Final = {"": 1.0, "w": 1.0, "kw": 1e3, "mw": 1e6}
# A number and its unit. Not the end of a word (``pdu7``), and no comma after it: 12,345 and 12,5 mean different things
# in different countries.
_READING: Final = re.compile(r"(?<![\w.,+-])(?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[kKmM]?[wW]\b)?")
_GLUED: Final = re.compile(r"[\w.,:/+-]*")
_OTHER_UNIT: Final = re.compile(r"\s*(?:%|°|[kKmM]?(?:VA|V|A|Hz|C|Wh)\b)")


async def read_meter(meter: Meter, timeout_s: float) -> Reply:
    """``data["watts"]``: the first number that the command prints, in watts unless kW or MW follows it.

    ``UNREACHABLE``: it cannot be started, or has not ended in time; ``CHECK_FAILED``: it failed, or prints no number
    that can be believed. Ended by a signal to its whole group at the deadline, and when the call is cancelled.
    """
    command = meter.command[0] if meter.command else ""
    environment = {name: value for name in _ENVIRONMENT if (value := os.environ.get(name)) is not None}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        # Not asyncio's own: that reaps the process by itself, and then its group's number may belong to a stranger.
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - a fork's time; the operator's own argument list
            meter.command, stdin=nothing, stdout=pipe, stderr=pipe, start_new_session=True, env=environment
        )
    except (OSError, ValueError, IndexError) as error:  # not there, not executable, a NUL in it, no argument at all
        return Reply(Reason.UNREACHABLE, f"{command}: cannot be started: {error}")
    out, err = bytearray(), bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            if not await _finish(process, out, err):
                return Reply(Reason.CHECK_FAILED, f"{command}: prints more than {MOST_BYTES} bytes: no meter does")
    except TimeoutError:
        return Reply(Reason.UNREACHABLE, f"{command}: no reading within {timeout_s:g} s{_said(err)}")
    finally:
        _end(process)
    if code := process.returncode:
        how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
        return Reply(Reason.CHECK_FAILED, f"{command}: {how}{_said(err)}")
    watts = reading(out.decode(errors="replace"))
    if watts is None:
        return Reply(Reason.CHECK_FAILED, f"{command}: prints no power that can be believed{_said(out)}")
    return Reply(Reason.OK, f"draws {watts:g} W", {"watts": watts})


def reading(text: str) -> float | None:
    """The first number of ``text`` in watts; None where there is none, or none that is sure and possible.

    >>> reading("212.4 kW"), reading("total: 1.2MW"), reading("pdu7 load 830"), reading("12,345 W"), reading("-3 W")
    (212400.0, 1200000.0, 830.0, None, None)
    """
    found = _READING.search(text)
    if found is None:
        return None
    if not found["unit"]:
        # What is glued to a number makes it something else: 12,345, a date, 16A, 3:20; and 230 V is no power.
        glued = _GLUED.match(text, found.end("number"))
        if (glued is not None and glued[0].rstrip(".,:")) or _OTHER_UNIT.match(text, found.end("number")):
            return None
    watts = float(found["number"]) * _SCALE[(found["unit"] or "").lower()]
    return watts if 0 <= watts <= MOST_WATTS else None


async def _finish(process: subprocess.Popen[bytes], out: bytearray, err: bytearray) -> bool:
    """Until the command has ended and all it printed is read; False when that is too much."""
    assert process.stdout is not None, "a pipe"
    assert process.stderr is not None, "a pipe"
    ended = os.pidfd_open(process.pid)
    readers = [asyncio.ensure_future(_read(file.fileno(), into)) for file, into in
               ((process.stdout, out), (process.stderr, err))]  # fmt: skip
    watch = asyncio.ensure_future(_readable(ended))
    waiting: set[asyncio.Future[bool]] = {watch, *readers}
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not all(task.result() for task in done):
                return False
            if watch in done:
                _kill(process)  # whoever it left behind holds its pipes open, and is not waited for
        return True
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        os.close(ended)


async def _read(pipe: int, into: bytearray) -> bool:
    """Everything to the end; False when it is more than ``MOST_BYTES``, of which the rest is not waited for."""
    os.set_blocking(pipe, False)
    while True:
        try:
            chunk = os.read(pipe, MOST_BYTES)
        except BlockingIOError:
            await _readable(pipe)
            continue
        if not chunk:
            return True
        into += chunk
        if len(into) > MOST_BYTES:
            del into[MOST_BYTES:]
            return False


async def _readable(descriptor: int) -> bool:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(True)

    loop.add_reader(descriptor, wake)
    try:
        return await ready
    finally:
        loop.remove_reader(descriptor)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Everything in the command's group. It has not been reaped, so the number is its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the command's group is left running, and its first process is no zombie."""
    if process.returncode is None:
        _kill(process)
    process.wait()  # killed: at once
    for file in (process.stdout, process.stderr):
        if file is not None:
            file.close()


def _said(text: bytearray) -> str:
    """The first line of what was printed, bounded and without control characters, after a colon."""
    line = next((line for line in text.decode(errors="replace").splitlines() if line.strip()), "")
    plain = "".join(char if char.isprintable() else " " for char in line).strip()[:_MOST_SAID]
    return f": {plain}" if plain else ""
