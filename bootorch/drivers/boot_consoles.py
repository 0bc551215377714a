"""The serial consoles of hosts that are booting, watched so that a boot that fails has left its last words."""

from __future__ import annotations

import asyncio
from typing import Final

from bootorch.core.model import Host
from bootorch.drivers.console import Consoles, ConsoleSession, Tail
from bootorch.ipmi.login import Credentials

# Boots watched at a time: a kernel that prints at 115,200 baud sends some 60 packets a second, each of which costs us
# a tenth of a millisecond. Whoever comes later is listened to when the boot has failed.
MOST_WATCHED: Final = 64
LISTEN_S: Final = 3.0  # setup screens, PXE and boot loops paint or print again within that


class BootConsoles:
    """``watch`` returns at once and never fails: a console is evidence, and no boot waits for it."""

    def __init__(self, consoles: Consoles, most: int = MOST_WATCHED) -> None:
        self._consoles = consoles
        self._most = most
        self._watched: dict[str, tuple[Tail, asyncio.Task[None]]] = {}

    def watch(self, host: Host, credentials: Credentials) -> None:
        """Keep what the host writes from now on."""
        watched = self._watched.get(host.name)
        if watched is not None and not watched[1].done():
            watched[0].clear()  # another boot
            return
        if sum(not task.done() for _, task in self._watched.values()) >= self._most:
            return
        tail = Tail()
        self._watched[host.name] = tail, asyncio.create_task(self._follow(host, credentials, tail))

    async def unwatch(self, host: Host) -> None:
        """Forget what the host wrote and free its console."""
        await self._end(host)

    async def last_words(self, host: Host, credentials: Credentials) -> str | None:
        """The end of what the host wrote; where nobody watched, of what it writes within ``LISTEN_S``.

        None where the console cannot be had at all; "" where it is silent.
        """
        tail = await self._end(host)
        if tail is not None and (text := tail.text()):
            return text
        listened = Tail()
        session = await self._consoles.open(host.bmc, credentials, listened.feed)
        if not isinstance(session, ConsoleSession):
            return None if tail is None else ""
        try:
            await asyncio.wait((asyncio.ensure_future(session.ended()),), timeout=LISTEN_S)
        finally:
            session.abort()
        return listened.text()

    async def aclose(self) -> None:
        tasks = [task for _, task in self._watched.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()

    async def _follow(self, host: Host, credentials: Credentials, tail: Tail) -> None:
        session = await self._consoles.open(host.bmc, credentials, tail.feed)
        if not isinstance(session, ConsoleSession):
            return
        try:
            await session.ended()
        finally:
            session.abort()

    async def _end(self, host: Host) -> Tail | None:
        watched = self._watched.pop(host.name, None)
        if watched is None:
            return None
        tail, task = watched
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return tail
