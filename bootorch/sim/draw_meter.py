"""What flows through a feed of the simulated world, kept up to date change by change instead of summed at each look."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

from bootorch.core.plan import Plan
from bootorch.sim.fate import Fates, Server


class FeedMeters:
    """Watts of each metered feed: those with a meter in the plan, and those that somebody asked for."""

    def __init__(self, plan: Plan, *feeds: str) -> None:
        metered = [name for name, limit in plan.limits.feeds.items() if limit.meter is not None]
        self._watts = dict.fromkeys([*metered, *feeds], 0.0)
        self._drawn: dict[str, tuple[float, Mapping[str, float]]] = {}  # host: watts counted, and through which feeds
        self._turn: dict[str, int] = {}  # host: which of its steps are still to come true
        self._steps: list[tuple[float, str, int, float]] = []  # (time, host, turn, watts from then on)

    def knows(self, feed: str) -> bool:
        return feed in self._watts

    def add(self, feed: str) -> None:
        """``feed`` is metered from now on; every host on it has to be told of anew (``changed``)."""
        self._watts[feed] = 0.0

    def changed(self, server: Server, fates: Fates, now: float, shares: Mapping[str, float]) -> None:
        """The host was switched, or its cords live or died. ``shares``: part of its draw by feed."""
        ours = {feed: share for feed, share in shares.items() if feed in self._watts}
        name = server.host.name
        if not ours and name not in self._drawn:
            return
        self._count(name, 0.0)
        self._turn[name] = turn = self._turn.get(name, 0) + 1
        self._drawn[name] = (0.0, ours)
        for t, watts in _steps(server, fates.watts_factor(name)):
            heappush(self._steps, (t, name, turn, watts))

    def watts(self, feed: str, now: float) -> float:
        steps = self._steps
        while steps and steps[0][0] <= now:
            _, name, turn, watts = heappop(steps)
            if self._turn[name] == turn:
                self._count(name, watts)
        return max(0.0, self._watts[feed])

    def _count(self, name: str, watts: float) -> None:
        before, shares = self._drawn.get(name, (0.0, {}))
        for feed, share in shares.items():
            self._watts[feed] += (watts - before) * share
        self._drawn[name] = (watts, shares)


def _steps(server: Server, factor: float) -> list[tuple[float, float]]:
    """From when on the host draws what: the boot peak, its profile, the steady draw once it is up."""
    if server.on_at is None:
        return []
    host = server.host
    up_at = server.os_up_at
    steps = [(server.on_at, host.watts_boot_peak * factor)]
    for after_s, watts in host.watts_profile:
        if up_at is None or server.on_at + after_s < up_at:
            steps.append((server.on_at + after_s, watts * factor))
    if up_at is not None:
        steps.append((up_at, host.watts_steady * factor))
    return steps
