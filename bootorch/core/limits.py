"""Counted things: electricity in a tree of feeds, and slots. Pure bookkeeping; who goes first is the engine's affair.

A resource is named by a word pair such as ``("feed", "hall-a/row-3")``. A host that cannot start is told the one
resource that holds it back, so that only a change of that resource needs another look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from bootorch.core.model import FeedLimit, Host

Resource = tuple[str, str]

RAMP_WINDOW_S = 60.0  # a ramp is stated in watts per minute: it holds in every window of this length
_WATT_EPSILON = 1e-6  # sums of floats: a millionth of a watt trips no breaker


def feed_path(feed: str) -> tuple[str, ...]:
    """``hall-a/row-3/rack-7`` → its ancestors and itself, the root first."""
    parts = [part for part in feed.split("/") if part]
    return tuple("/".join(parts[: depth + 1]) for depth in range(len(parts)))


class _Feed:
    """One limited feed: modelled draw now, and the power-ons of the last minute."""

    __slots__ = ("budget_watts", "draw_watts", "name", "ramp_watts_per_min", "window", "window_watts")

    def __init__(self, name: str, limit: FeedLimit) -> None:
        self.name = name
        self.budget_watts = limit.budget_watts
        self.ramp_watts_per_min = limit.ramp_watts_per_min
        self.draw_watts = 0.0
        self.window: deque[list[float]] = deque()  # [time, watts] of each start, oldest first
        self.window_watts = 0.0

    def slide(self, now: float) -> None:
        while self.window and self.window[0][0] <= now - RAMP_WINDOW_S:
            self.window_watts -= self.window.popleft()[1]


class Feeds:
    """Modelled draw of every limited feed. Watts of a host count on its feed and on all that feed hangs on."""

    def __init__(self, limits: Mapping[str, FeedLimit]) -> None:
        self._feeds = {name: _Feed(name, limit) for name, limit in limits.items()}
        self._chains: dict[str, tuple[_Feed, ...]] = {}
        self._held: dict[str, float] = {}
        self._stamps: dict[str, list[list[float]]] = {}

    def _chain(self, feed: str) -> tuple[_Feed, ...]:
        chain = self._chains.get(feed)
        if chain is None:
            chain = tuple(self._feeds[name] for name in feed_path(feed) if name in self._feeds)
            self._chains[feed] = chain
        return chain

    def resources(self, host: Host) -> Iterator[Resource]:
        for feed in self._chain(host.feed):
            if feed.budget_watts is not None:
                yield ("feed", feed.name)
            if feed.ramp_watts_per_min is not None:
                yield ("ramp", feed.name)

    def held_back_by(self, host: Host, resource: Resource, now: float) -> bool:
        """Would a start of ``host`` now break this budget or ramp?"""
        kind, name = resource
        feed = self._feeds[name]
        watts = host.watts_boot_peak
        if kind == "feed":
            more = watts - self._held.get(host.name, 0.0)
            return feed.draw_watts + more > (feed.budget_watts or 0.0) + _WATT_EPSILON
        feed.slide(now)
        own = sum(stamp[1] for stamp in self._stamps.get(host.name, ()) if stamp[0] > now - RAMP_WINDOW_S)
        if own:
            watts = 0.0  # counted in this window already: a repeated power-on moves the stamp
        return feed.window_watts + watts > (feed.ramp_watts_per_min or 0.0) + _WATT_EPSILON

    def ramp_frees_at(self, resource: Resource) -> float | None:
        """When the oldest start leaves the ramp's window, in run time."""
        window = self._feeds[resource[1]].window
        return window[0][0] + RAMP_WINDOW_S if window else None

    def start(self, host: Host, now: float) -> None:
        """The host is about to be switched on: boot peak from now on, and counted in the ramp.

        Called again for the same host, the earlier stamp is moved to ``now``: the ramp counts when the power flows.
        """
        self.hold(host, host.watts_boot_peak)
        self.forget_ramp(host)
        stamps = self._stamps[host.name] = []
        for feed in self._chain(host.feed):
            if feed.ramp_watts_per_min is not None:
                feed.slide(now)
                stamp = [now, host.watts_boot_peak]
                feed.window.append(stamp)
                feed.window_watts += stamp[1]
                stamps.append(stamp)

    def forget_ramp(self, host: Host) -> None:
        """The start did not happen (or is being moved): its stamp no longer counts."""
        stamps = self._stamps.pop(host.name, None)
        if not stamps:
            return
        ramped = (feed for feed in self._chain(host.feed) if feed.ramp_watts_per_min is not None)
        for feed, stamp in zip(ramped, stamps, strict=True):
            if feed.window and stamp[0] >= feed.window[0][0]:
                feed.window_watts -= stamp[1]
                stamp[1] = 0.0

    def hold(self, host: Host, watts: float) -> None:
        """The modelled draw of a host becomes ``watts``."""
        more = watts - self._held.get(host.name, 0.0)
        if more:
            self._held[host.name] = watts
            for feed in self._chain(host.feed):
                feed.draw_watts += more

    def held_watts(self, host: Host) -> float:
        return self._held.get(host.name, 0.0)

    def draw_watts(self) -> Mapping[str, float]:
        """Modelled draw of every limited feed."""
        return {name: feed.draw_watts for name, feed in self._feeds.items()}


class Slots:
    """Counted resources by name: ``bmc:10.20.3.0/24``, ``image:pxe-1``, ``forks``. Absent means unlimited."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def free(self, name: str, limit: int) -> int:
        return limit - self._used.get(name, 0)

    def take(self, name: str, count: int = 1) -> None:
        self._used[name] = self._used.get(name, 0) + count

    def give(self, name: str, count: int = 1) -> None:
        left = self._used[name] - count
        if left < 0:
            raise AssertionError(f"slot {name} given back more often than taken")
        self._used[name] = left

    def used(self) -> Mapping[str, int]:
        return {name: count for name, count in self._used.items() if count}
