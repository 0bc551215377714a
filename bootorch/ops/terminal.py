"""One host's serial console on this terminal, or into a file. The terminal is put back whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

from bootorch.core.errors import InvalidInput, Problem, ToolError
from bootorch.core.model import Endpoint, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.console import Consoles, ConsoleSession
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.sol import End
from bootorch.runtime.targets import Target
from bootorch.ui.escape import HELP, Escape, Wish
from bootorch.ui.powerservices import Request

_READ = 4096
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOSE_S = 5.0  # for the BMC to say goodbye; then the console is left without


def converse(request: Request, target: Target, timeout_s: float) -> tuple[End, float]:
    """Until the console ends, ``~.`` is typed, or the time of the request is up: how it ended, and seconds it took.

    Keys go to the host only where both stdin and stdout are a terminal and no file is written. Raises InvalidInput;
    ToolError where the output could not be written, after the console was closed.
    """
    if target.version == "1.5":
        message = "a console (SOL) needs IPMI 2.0"
        raise InvalidInput(Problem(message, target.name, "leave out --ipmi 1.5, or bmc_ipmi in the inventory"))
    with ExitStack() as stack:
        interactive = request.log is None and sys.stdin.isatty() and sys.stdout.isatty()
        if request.log is None:
            write = _writer(sys.stdout.fileno())
        else:
            descriptor = _open_log(request.log)
            stack.callback(os.close, descriptor)
            write = _writer(descriptor)
        return asyncio.run(_Conversation(request, target, timeout_s, write, interactive).run())


class _Conversation:
    def __init__(
        self,
        request: Request,
        target: Target,
        timeout_s: float,
        write: Callable[[bytes], None],
        interactive: bool,
    ) -> None:
        self._request = request
        self._target = target
        self._timeout_s = timeout_s
        self._write = write
        self._interactive = interactive
        self._escape = Escape()
        self._unwritten: OSError | None = None
        self._newline = "\n"

    async def run(self) -> tuple[End, float]:
        loop, target = asyncio.get_running_loop(), self._target
        self._stop: asyncio.Future[str] = loop.create_future()
        # The fence is this one BMC.
        consoles = Consoles(Site((ip_network(target.address),), ()))
        credentials = Credentials(target.user.encode(), target.password, target.k_g)
        begun = loop.time()
        try:
            for number in _STOPPING:
                loop.add_signal_handler(number, self._end, "stopped")
            opening = asyncio.ensure_future(
                consoles.open(
                    Endpoint(target.address, target.port),
                    credentials,
                    self._output,
                    timeout_s=self._timeout_s,
                    suites=target.suites,
                    steal=self._request.steal,
                )
            )
            await asyncio.wait((opening, self._stop), return_when="FIRST_COMPLETED")
            if not opening.done():
                opening.cancel()
                await asyncio.wait((opening,))
                return End(Reason.INTERRUPTED, "ended before the console was open"), loop.time() - begun
            session = opening.result()
            end = session if isinstance(session, End) else await self._attend(session)
            if self._unwritten is not None:
                message = f"the console cannot be written: {self._unwritten.strerror}; it was closed"
                raise ToolError(
                    Problem(
                        message, str(self._request.log or "stdout"), "free some space, or choose another file for --log"
                    )
                )
            return end, loop.time() - begun
        finally:
            await consoles.aclose()

    async def _attend(self, session: ConsoleSession) -> End:
        with ExitStack() as stack:
            if self._interactive:
                stack.enter_context(_raw(sys.stdin.fileno()))
                self._newline = "\r\n"
                self._listen(session, stack)
            self._say(f"console of {self._target.name}" + ("; ~. ends it, ~? is help" if self._interactive else ""))
            over = asyncio.ensure_future(session.ended())
            await asyncio.wait((over, self._stop), timeout=self._request.for_s, return_when="FIRST_COMPLETED")
            if over.done():
                return over.result()
            over.cancel()
            try:
                async with asyncio.timeout(_CLOSE_S):
                    return await session.close()
            except TimeoutError:
                return End(Reason.OK, "closed without the BMC's answer")

    def _listen(self, session: ConsoleSession, stack: ExitStack) -> None:
        loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()

        def typed() -> None:
            data = os.read(keyboard, _READ)
            if not data:
                self._end("end of input")
                return
            out, wishes = self._escape.feed(data)
            session.write(out)
            for wish in wishes:
                if wish is Wish.END:
                    self._end("closed")
                else:
                    self._say(self._newline.join(("", *HELP)))

        loop.add_reader(keyboard, typed)
        stack.callback(loop.remove_reader, keyboard)

    def _output(self, data: bytes) -> None:
        try:
            self._write(data)
        except BrokenPipeError:  # its reader has had enough
            self._end("no reader")
        except OSError as error:  # a full disk
            self._unwritten = self._unwritten or error
            self._end("no output")

    def _end(self, why: str) -> None:
        if not self._stop.done():
            self._stop.set_result(why)

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}{self._newline}")
        sys.stderr.flush()


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Keys arrive one by one and unechoed, ^C among them; as it was before in the end."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _writer(descriptor: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


def _open_log(path: Path) -> int:
    """Appends. For its owner only: what is typed at a login prompt may be echoed."""
    try:
        return os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "choose another file for --log"
        raise InvalidInput(Problem(f"cannot be written: {error.strerror}", str(path), remedy)) from error
