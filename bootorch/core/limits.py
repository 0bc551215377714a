"""Electricity and whatever else is counted along a tree: budgets, ramps, inrush. Pure bookkeeping: who goes first is
the engine's affair.

A resource is named by a word pair such as ``("feed", "hall-a/row-3")``. A host that cannot start is told the one
resource that holds it back, so that only a change of that resource needs another look.

A host counts on a feed at a *level*: ``OFF`` (nothing), ``STEADY``, ``PEAK``, or in between as its profile says.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from bootorch.core.model import FeedLimit, Host, Load

Resource = tuple[str, str]
_Key = tuple[tuple[str, ...], float, float, tuple[Load, ...]]  # cords, peak and steady watts, loads
_Alike = tuple[tuple[tuple[str, float], ...], float, float, tuple[Load, ...]]  # weights in place of the cords

OFF, STEADY, PEAK = -1.0, 0.0, 1.0
RAMP_WINDOW_S = 60.0  # a ramp is stated in watts per minute: it holds in every window of this length
INRUSH_WINDOW_S = 1.0  # inrush lasts 20-40 ms, but a BMC takes up to a second to act: starts closer than that may meet
METER_TRUST = 3.0  # a reading is believed for so many of its intervals
_EPSILON = 1e-6  # sums of floats: a millionth of a watt trips no breaker


def feed_path(feed: str) -> tuple[str, ...]:
    """``hall-a/row-3/rack-7`` → its ancestors and itself, the root first."""
    parts = [part for part in feed.split("/") if part]
    return tuple("/".join(parts[: depth + 1]) for depth in range(len(parts)))


def feed_weights(feeds: tuple[str, ...], limits: Mapping[str, FeedLimit], live: Iterable[str] = ()) -> dict[str, float]:
    """How much of a host counts on each limited feed above its cords: 1.0 is the whole host.

    With ``failover`` (default) a feed carries the whole host, because the other cord's feed may fail. Without, its
    share of the ``live`` cords (all of ``feeds`` unless given). A feed above all cords carries the host once.
    """
    cords = [feed_path(feed) for feed in (tuple(live) or feeds)]
    weights: dict[str, float] = {}
    for path in cords:
        for name in path:
            if name in limits:
                weights[name] = weights.get(name, 0.0) + 1.0 / len(cords)
    return {name: 1.0 if limits[name].failover else min(1.0, weight) for name, weight in weights.items()}


class Feed:
    """One limited feed or supply: what is drawn now, and what was switched on a moment ago."""

    __slots__ = ("base", "budget", "draw", "inrush", "inrush_now", "inrush_window", "kept", "meter_s", "metered",
                 "metered_t", "mute_t", "name", "ramp", "steady", "surge", "window", "window_now")  # fmt: skip

    def __init__(self, name: str, limit: FeedLimit) -> None:
        self.name = name
        self.budget = limit.budget_watts
        self.ramp = limit.ramp_watts_per_min
        self.inrush = limit.inrush_amps
        self.meter_s = limit.meter.every_s if limit.meter is not None else 0.0
        self.metered = 0.0
        self.metered_t: float | None = None
        self.mute_t: float | None = None  # when its meter gave no reading last
        self.draw = 0.0  # all hosts at their levels
        self.steady = 0.0  # those of them at the level STEADY
        self.base = 0.0  # what all of them will draw steadily, once those that boot have booted
        self.surge = 0.0  # the most that one host draws more while it boots
        self.kept: dict[int, float] = {}  # by tier: steady draw of hosts still to be switched on
        self.window: deque[list[float]] = deque()  # [time, watts] of each start, oldest first
        self.window_now = 0.0
        self.inrush_window: deque[list[float]] = deque()  # [time, amperes]
        self.inrush_now = 0.0

    def load(self, now: float) -> float:
        """What is drawn at ``now``, as far as the budget is concerned.

        A fresh reading replaces the model of those that run steadily: they cannot draw more than all together do. Who
        boots counts with what it may still reach, because the reading was taken before it got there. A reading above
        the model is the truth whatever the model says.
        """
        if self.metered_t is None or now - self.metered_t > METER_TRUST * self.meter_s:
            return self.draw
        booting = self.draw - self.steady
        return max(self.metered, booting + min(self.steady, self.metered))

    def unread(self, now: float) -> bool:
        """It has a meter, and nothing that is fresh is known of it: a reading comes before anything is switched on."""
        if not self.meter_s:
            return False
        known_t = max(t for t in (self.metered_t, self.mute_t, -math.inf) if t is not None)
        return now - known_t > METER_TRUST * self.meter_s

    def slide(self, now: float) -> None:
        window = self.window
        while window and window[0][0] + RAMP_WINDOW_S <= now:
            stamp = window.popleft()
            self.window_now -= stamp[1]
            stamp[1] = 0.0
        if not window:
            self.window_now = 0.0
        inrush = self.inrush_window
        while inrush and inrush[0][0] + INRUSH_WINDOW_S <= now:
            stamp = inrush.popleft()
            self.inrush_now -= stamp[1]
            stamp[1] = 0.0
        if not inrush:
            self.inrush_now = 0.0

    def kept_for(self, tier: int) -> float:
        """Steady draw of hosts of more urgent tiers that are still to come."""
        return sum([watts for other, watts in self.kept.items() if other < tier])


@dataclass(slots=True)
class Share:
    """What one host takes of one feed or supply, in its unit."""

    feed: Feed
    peak: float
    steady: float


class Draw:
    """One host's place in all of it. ``level``: see the module; ``stamps``: its latest start in the windows."""

    __slots__ = ("amps", "boot_id", "keeps", "level", "measured", "profile", "shares", "stamps", "tier")

    def __init__(self, shares: tuple[Share, ...], tier: int, amps: float) -> None:
        self.shares = shares
        self.tier = tier
        self.amps = amps
        self.level = OFF
        self.measured: float | None = None  # steady watts as its own BMC said
        self.keeps = False  # counts among those that are still to be switched on
        self.profile: tuple[tuple[float, float], ...] = ()  # (seconds after it reads on, level)
        self.boot_id = 0  # which boot the scheduled steps of the profile belong to
        self.stamps: tuple[tuple[Feed, bool, list[float]], ...] = ()  # feed, ramp (or inrush)?, [time, amount]


class Feeds:
    """Modelled draw of every limited feed. A host counts on the feeds above its cords and on the supplies it loads."""

    def __init__(self, limits: Mapping[str, FeedLimit]) -> None:
        self._limits = limits
        self._feeds = {name: Feed(name, limit) for name, limit in limits.items()}
        self._shares: dict[_Key, tuple[Share, ...]] = {}
        self._by_weights: dict[_Alike, tuple[Share, ...]] = {}  # the same for all cords below the same limits
        self.steps: list[tuple[float, int, Draw, int, float]] = []  # (t, order, draw, its boot, level)
        self._order = 0
        self.any_ramp = any(feed.ramp is not None or feed.inrush is not None for feed in self._feeds.values())

    def shares_of(self, host: Host, live: tuple[str, ...], steady: float | None = None) -> tuple[Share, ...]:
        """What a host takes of which feed. ``live``: the cords that have electricity; ``steady``: measured watts."""
        cords = live
        watts_steady = host.watts_steady if steady is None else steady
        peak = host.watts_boot_peak if steady is None else max(host.watts_boot_peak, steady)
        key = (cords, peak, watts_steady, host.loads)
        shares = self._shares.get(key)
        if shares is None:
            weights = tuple(feed_weights(cords, self._limits).items())
            shares = self._by_weights.get((weights, *key[1:]))
            if shares is None:
                found = [Share(self._feeds[name], weight * peak, weight * watts_steady) for name, weight in weights]
                for load in host.loads:
                    prefix, _, path = load.path.rpartition(":")
                    names = (f"{prefix}:{part}" if prefix else part for part in feed_path(path))
                    found += [Share(self._feeds[name], load.peak, load.steady) for name in names if name in self._feeds]
                shares = self._by_weights[(weights, *key[1:])] = tuple(found)
            self._shares[key] = shares
            for share in shares:
                share.feed.surge = max(share.feed.surge, share.peak - share.steady)
        return shares

    def draw_of(self, host: Host, tier: int) -> Draw:
        """A host's place on all feeds above its cords and on the supplies that it loads."""
        draw = Draw(self.shares_of(host, host.feeds), tier, host.inrush_amps)
        surge = host.watts_boot_peak - host.watts_steady
        if host.watts_profile and surge > 0:
            draw.profile = tuple(
                (after_s, min(PEAK, max(STEADY, (watts - host.watts_steady) / surge)))
                for after_s, watts in host.watts_profile
            )
        return draw

    # -- may it start? ---------------------------------------------------------------------

    def held_back(self, draw: Draw, now: float) -> Iterator[tuple[Resource, bool]]:
        """Every budget, ramp and inrush limit above the host, and whether a start now would break it."""
        level = draw.level
        tier = draw.tier
        for share in draw.shares:
            feed = share.feed
            if feed.budget is not None:
                if level >= STEADY:
                    more = (share.peak - share.steady) * (PEAK - level)
                    full = more > 0 and feed.load(now) + more > feed.budget + _EPSILON
                else:
                    # What boots eases by itself; what runs does not, and less urgent tiers leave room for the others.
                    full = feed.load(now) + share.peak > feed.budget + _EPSILON or (
                        tier > 0
                        and (kept := feed.kept_for(tier)) > _EPSILON
                        and feed.base + share.steady + kept + feed.surge > feed.budget
                    )
                yield ("feed", feed.name), full or feed.unread(now)
            if feed.ramp is not None:
                yield ("ramp", feed.name), self._ramp_full(feed, draw, share.peak, now)
            if feed.inrush is not None and draw.amps:
                yield ("inrush", feed.name), self._inrush_full(feed, draw, now)

    def over(self, draw: Draw, now: float) -> Resource | None:
        """A feed above the host that draws more than its budget, the host's own share included."""
        for share in draw.shares:
            feed = share.feed
            if feed.budget is not None and feed.load(now) > feed.budget + _EPSILON:
                return ("feed", feed.name)
        return None

    def ramp_holds(self, draw: Draw, now: float) -> Resource | None:
        """The ramp or inrush limit that a repeated power-on would break: its watts are held already."""
        for share in draw.shares:
            feed = share.feed
            if feed.ramp is not None and self._ramp_full(feed, draw, share.peak, now):
                return ("ramp", feed.name)
            if feed.inrush is not None and draw.amps and self._inrush_full(feed, draw, now):
                return ("inrush", feed.name)
        return None

    def _ramp_full(self, feed: Feed, draw: Draw, watts: float, now: float) -> bool:
        feed.slide(now)
        if any(ramp and stamp[1] for on, ramp, stamp in draw.stamps if on is feed):
            watts = 0.0  # counted in this window already: a repeated power-on moves the stamp
        return feed.ramp is not None and feed.window_now + watts > feed.ramp + _EPSILON

    def _inrush_full(self, feed: Feed, draw: Draw, now: float) -> bool:
        feed.slide(now)
        amps = 0.0 if any(stamp[1] for on, ramp, stamp in draw.stamps if on is feed and not ramp) else draw.amps
        return feed.inrush is not None and feed.inrush_now + amps > feed.inrush + _EPSILON

    def frees_at(self, resource: Resource) -> float | None:
        """When the oldest start leaves the window of a ramp or of inrush, in run time."""
        feed = self._feeds[resource[1]]
        if resource[0] == "inrush":
            return feed.inrush_window[0][0] + INRUSH_WINDOW_S if feed.inrush_window else None
        return feed.window[0][0] + RAMP_WINDOW_S if feed.window else None

    # -- what changes ---------------------------------------------------------------------

    def start(self, draw: Draw, now: float) -> None:
        """The host is about to be switched on: boot peak from now on, and counted in ramp and inrush.

        Called again for the same host, the earlier stamps are moved to ``now``: they count when the power flows.
        """
        draw.boot_id += 1
        self.hold(draw, PEAK)
        if not self.any_ramp:
            return
        self.forget(draw)
        stamps: list[tuple[Feed, bool, list[float]]] = []
        for share in draw.shares:
            feed = share.feed
            if feed.ramp is not None:
                feed.slide(now)
                stamp = [now, share.peak]
                feed.window.append(stamp)
                feed.window_now += share.peak
                stamps.append((feed, True, stamp))
            if feed.inrush is not None and draw.amps:
                feed.slide(now)
                stamp = [now, draw.amps]
                feed.inrush_window.append(stamp)
                feed.inrush_now += draw.amps
                stamps.append((feed, False, stamp))
        draw.stamps = tuple(stamps)

    def forget(self, draw: Draw) -> None:
        """The start did not happen (or is being moved): its stamps no longer count."""
        for feed, ramp, stamp in draw.stamps:
            if ramp:
                feed.window_now -= stamp[1]
            else:
                feed.inrush_now -= stamp[1]
            stamp[1] = 0.0
        draw.stamps = ()

    def reads_on(self, draw: Draw, now: float) -> list[float]:
        """The chassis reads on: from now on its profile counts. Returns the run times of its steps."""
        times = []
        for after_s, level in draw.profile:
            self._order += 1
            heappush(self.steps, (now + after_s, self._order, draw, draw.boot_id, level))
            times.append(now + after_s)
        return times

    def advance(self, now: float) -> list[Draw]:
        """Follow the profiles up to ``now``. Returns the hosts that draw less than before."""
        eased = []
        steps = self.steps
        while steps and steps[0][0] <= now:
            _, _, draw, boot_id, level = heappop(steps)
            if draw.boot_id == boot_id and draw.level > level:
                self.hold(draw, level)
                eased.append(draw)
        return eased

    def hold(self, draw: Draw, level: float) -> None:
        """The modelled draw of a host changes to ``level``."""
        before = draw.level
        if level == before:
            return
        draw.level = level
        for share in draw.shares:
            surge = share.peak - share.steady
            old = 0.0 if before < STEADY else share.steady + surge * before
            new = 0.0 if level < STEADY else share.steady + surge * level
            feed = share.feed
            feed.draw += new - old
            if before < STEADY:
                feed.base += share.steady
            elif level < STEADY:
                feed.base -= share.steady
            if before == STEADY:
                feed.steady -= old
            if level == STEADY:
                feed.steady += new
        if draw.keeps and level >= STEADY:
            self.keep(draw, False)

    def keep(self, draw: Draw, keeps: bool) -> None:
        """Whether the host is still to be switched on: power for it is kept from less urgent tiers."""
        if keeps == draw.keeps:
            return
        draw.keeps = keeps
        tier = draw.tier
        for share in draw.shares:
            kept = share.feed.kept
            kept[tier] = kept.get(tier, 0.0) + (share.steady if keeps else -share.steady)

    def metered(self, feed: str, watts: float | None, now: float) -> None:
        """A reading of the feed's own meter, in watts; ``None``: it gave none, and the model has to do."""
        found = self._feeds[feed]
        if watts is None:
            found.mute_t = now
        else:
            found.metered, found.metered_t = watts, now

    def unread(self, feed: str, now: float) -> bool:
        """Whether the feed's meter has to be read before anything is switched on."""
        return self._feeds[feed].unread(now)

    def set_limit(self, feed: str, budget: float | None, ramp: float | None, inrush: float | None) -> None:
        """New values from now on; ``None`` leaves a limit as it is."""
        found = self._feeds[feed]
        if budget is not None:
            found.budget = budget
        if ramp is not None:
            found.ramp = ramp
        if inrush is not None:
            found.inrush = inrush
        self.any_ramp = self.any_ramp or ramp is not None or inrush is not None

    # -- views ---------------------------------------------------------------------

    def above(self, draw: Draw) -> Iterator[Feed]:
        """The limited feeds and supplies that a host counts on."""
        return (share.feed for share in draw.shares)

    def all(self) -> Iterable[Feed]:
        """Every limited feed and supply."""
        return self._feeds.values()

    def named(self, feed: str) -> Feed:
        return self._feeds[feed]

    def cords(self) -> Mapping[int, tuple[str, ...]]:
        """By the identity of a host's shares: the cords that they were first made for; others may have the same."""
        found: dict[int, tuple[str, ...]] = {}
        for (cords, *_), shares in self._shares.items():
            found.setdefault(id(shares), cords)
        return found

    def limit(self, feed: str) -> tuple[float | None, float | None, float | None]:
        """Budget, ramp and inrush as they are now."""
        found = self._feeds[feed]
        return found.budget, found.ramp, found.inrush

    def draw_watts(self) -> Mapping[str, float]:
        """Modelled draw of every limited feed."""
        return {name: feed.draw for name, feed in self._feeds.items()}
