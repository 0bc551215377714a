"""The serial consoles of hosts that are booting, watched so that a boot that fails has left its last words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bootorch.core.model import Host
from bootorch.core.reasons import Reason
from bootorch.drivers.console import MOST_OPEN, Consoles, ConsoleSession, Tail
from bootorch.ipmi.login import Credentials

# Boots watched at a time: a kernel that prints at 115,200 baud sends some 60 packets a second, each of which costs us
# a tenth of a millisecond. Whoever comes later is listened to when the boot has failed.
MOST_WATCHED: Final = 64
LISTEN_S: Final = 3.0  # setup screens, PXE and boot loops paint or print again within that
# A console that is held by another session, often that of a process of ours which was killed, is free when the BMC
# has given that session up: 60 s after its last packet (IPMI 2.0, 6.12.15).
RETRY_S: Final = 20.0
_PASSING: Final = frozenset({Reason.BMC_BUSY, Reason.BMC_LOST, Reason.BMC_NO_SESSION, Reason.BMC_UNREACHABLE})


@dataclass(slots=True)
class _Watch:
    tail: Tail
    whole: bool = False  # nothing was missed since the boot began
    task: asyncio.Task[None] | None = None
    open: bool = False  # characters come in; False before that, and after an end that nobody asked for
    retry_at: float = 0.0  # after an end that nobody asked for: when another try may do better

    @property
    def over(self) -> bool:
        return self.task is None or self.task.done()


class BootConsoles:
    """``watch`` returns at once and never fails: a console is evidence, and no boot waits for it."""

    def __init__(self, consoles: Consoles, most: int = MOST_WATCHED, most_listened: int = MOST_OPEN) -> None:
        """``consoles`` has room for ``most`` that are watched and ``most_listened`` that are listened to."""
        self._consoles = consoles
        self._most = most
        self._watched: dict[str, _Watch] = {}
        self._open = 0
        self._over = False
        self._listening = asyncio.Semaphore(most_listened)

    def wants(self, host: Host, *, anew: bool) -> bool:
        """Whether ``watch`` should follow. ``anew``: another boot begins, what was written before is forgotten."""
        watched = self._watched.get(host.name) or _Watch(Tail())
        if anew:
            watched.tail.clear()
            watched.retry_at = 0.0
        if not watched.over:
            watched.whole = watched.whole or anew
            return False
        watched.whole = anew  # else the beginning is missing, or what came since the last watch ended
        if self._open >= self._most or asyncio.get_running_loop().time() < watched.retry_at:
            return False
        self._watched[host.name] = watched
        return True

    def watch(self, host: Host, credentials: Credentials, suites: Sequence[int]) -> None:
        """Keep what the host writes from now on; only where ``wants`` has said so."""
        watched = self._watched[host.name]
        self._open += 1
        watched.task = asyncio.create_task(self._follow(host, credentials, suites, watched))
        watched.task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open -= 1

    async def unwatch(self, host: Host) -> None:
        """Forget what the host wrote and free its console."""
        await self._end(host)

    async def last_words(self, host: Host, credentials: Credentials, suites: Sequence[int]) -> str | None:
        """The end of what the host wrote; where nobody watched, of what it writes within ``LISTEN_S``.

        "" where it was watched all the time and was silent. None where that is not known: a host that has nothing to
        say now may have said why before.
        """
        tail, whole = await self._end(host)
        if tail is not None and (text := tail.text()):
            return text
        silent = "" if whole else None
        listened = Tail()
        async with self._listening:  # where many fail at once, all of them have their turn
            if self._over:
                return silent
            session = await self._consoles.open(host.bmc, credentials, listened.feed, suites=suites)
            if not isinstance(session, ConsoleSession):
                return silent
            try:
                await asyncio.wait((asyncio.ensure_future(session.ended()),), timeout=LISTEN_S)
            finally:
                session.abort()
        return listened.text() or silent

    async def aclose(self) -> None:
        self._over = True
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()

    async def _follow(self, host: Host, credentials: Credentials, suites: Sequence[int], watched: _Watch) -> None:
        end = await self._consoles.open(host.bmc, credentials, watched.tail.feed, suites=suites)
        if isinstance(end, ConsoleSession):
            session = end
            watched.open = True
            try:
                end = await session.ended()
            finally:
                watched.open = False
                session.abort()
        watched.whole = False
        # What was refused for good, a password above all, is not tried again: accounts lock.
        passing = end.reason in _PASSING
        watched.retry_at = asyncio.get_running_loop().time() + RETRY_S if passing else float("inf")

    async def _end(self, host: Host) -> tuple[Tail | None, bool]:
        """What the host wrote, and whether it was heard to the end: a watch that ended by itself missed the rest."""
        watched = self._watched.pop(host.name, None)
        if watched is None or watched.task is None:
            return None, False
        whole = watched.open and watched.whole
        watched.task.cancel()
        await asyncio.gather(watched.task, return_exceptions=True)
        return watched.tail, whole
