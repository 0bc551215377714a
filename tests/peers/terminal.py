"""A program on a terminal of its own: some will not talk to a pipe."""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from typing import Self

DEADLINE_S = 20.0


class Terminal:
    """``async with Terminal(program, …)``: what is not over at the end is killed."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._seen = b""
        self._came = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        try:
            tty.setraw(slave)  # no echo of the terminal's own: what is seen was sent by the program
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        finally:
            os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _readable(self) -> None:
        try:
            self._seen += os.read(self._master, 4096)
        except OSError:  # EIO: the program has gone
            asyncio.get_running_loop().remove_reader(self._master)
        self._came.set()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def until(self, text: bytes) -> bytes:
        """Everything up to and with ``text``, which has to come in time; it is not seen again."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while text not in self._seen:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} did not come, but {self._seen!r}") from None
        seen, _, self._seen = self._seen.partition(text)
        return seen + text

    async def ended(self) -> int:
        """Its exit status, in time."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()
