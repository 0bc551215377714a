"""The serial consoles of hosts that are booting, watched so that a boot that fails has left its last words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from bootorch.core.model import Host
from bootorch.drivers.console import Consoles, ConsoleSession, Tail
from bootorch.ipmi.login import Credentials

# Boots watched at a time: a kernel that prints at 115,200 baud sends some 60 packets a second, each of which costs us
# a tenth of a millisecond. Whoever comes later is listened to when the boot has failed.
MOST_WATCHED: Final = 64
LISTEN_S: Final = 3.0  # setup screens, PXE and boot loops paint or print again within that


@dataclass(slots=True)
class _Watch:
    tail: Tail
    task: asyncio.Task[None] | None = None
    open: bool = False  # characters come in; False before that, and after an end that nobody asked for

    @property
    def over(self) -> bool:
        return self.task is None or self.task.done()


class BootConsoles:
    """``watch`` returns at once and never fails: a console is evidence, and no boot waits for it."""

    def __init__(self, consoles: Consoles, most: int = MOST_WATCHED) -> None:
        self._consoles = consoles
        self._most = most
        self._watched: dict[str, _Watch] = {}

    def watch(self, host: Host, credentials: Credentials) -> None:
        """Keep what the host writes from now on."""
        watched = self._watched.get(host.name)
        if watched is not None and not watched.over:
            watched.tail.clear()  # another boot
            return
        if sum(not other.over for other in self._watched.values()) >= self._most:
            return
        watched = self._watched[host.name] = _Watch(Tail())
        watched.task = asyncio.create_task(self._follow(host, credentials, watched))

    async def unwatch(self, host: Host) -> None:
        """Forget what the host wrote and free its console."""
        await self._end(host)

    async def last_words(self, host: Host, credentials: Credentials) -> str | None:
        """The end of what the host wrote; where nobody watched, of what it writes within ``LISTEN_S``.

        "" where it was watched all the time and was silent. None where that is not known: a host that has nothing to
        say now may have said why before.
        """
        tail, whole = await self._end(host)
        if tail is not None and (text := tail.text()):
            return text
        silent = "" if whole else None
        listened = Tail()
        session = await self._consoles.open(host.bmc, credentials, listened.feed)
        if not isinstance(session, ConsoleSession):
            return silent
        try:
            await asyncio.wait((asyncio.ensure_future(session.ended()),), timeout=LISTEN_S)
        finally:
            session.abort()
        return listened.text() or silent

    async def aclose(self) -> None:
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()

    async def _follow(self, host: Host, credentials: Credentials, watched: _Watch) -> None:
        session = await self._consoles.open(host.bmc, credentials, watched.tail.feed)
        if not isinstance(session, ConsoleSession):
            return
        watched.open = True
        try:
            await session.ended()
        finally:
            watched.open = False
            session.abort()

    async def _end(self, host: Host) -> tuple[Tail | None, bool]:
        """What the host wrote, and whether it was heard to the end: a watch that ended by itself missed the rest."""
        watched = self._watched.pop(host.name, None)
        if watched is None or watched.task is None:
            return None, False
        whole = watched.open
        watched.task.cancel()
        await asyncio.gather(watched.task, return_exceptions=True)
        return watched.tail, whole
