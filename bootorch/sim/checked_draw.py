"""What every feed and supply must bear, told from plan and events alone: the electrical half of ``sim.checkers``.

Each host's share of each feed is written down plainly; totals are sums over all hosts. In large plans the sums are kept
and counted anew every so often, in small ones they are counted at every question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

from bootorch.core.events import LimitSet
from bootorch.core.limits import INRUSH_WINDOW_S, METER_TRUST, RAMP_WINDOW_S
from bootorch.core.model import Host
from bootorch.core.plan import Plan

SMALL = 200  # hosts: sums over so few are counted at every question
RECOUNT = 5_000  # changes, in a large plan, after which kept sums are compared with counted ones
NEAR = 1e-3  # watts

Key = tuple[str, int]


class InvariantBroken(AssertionError):
    """The engine did what it must never do."""


def above(feed: str) -> list[str]:
    """``cooling:hall/crac-1`` → ``cooling:hall``, ``cooling:hall/crac-1``."""
    kind, colon, path = feed.rpartition(":")
    parts = path.split("/")
    return [f"{kind}{colon}{'/'.join(parts[:depth])}" for depth in range(1, len(parts) + 1)]


class Sums:
    """Amounts of hosts by key, and their sum per key."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._amounts: dict[str, Mapping[Key, float]] = {}
        self._totals: dict[Key, float] = {}
        self._changes = 0

    def put(self, host: str, amounts: Mapping[Key, float]) -> None:
        before = self._amounts.pop(host, {})
        if amounts:
            self._amounts[host] = amounts
        if self._exact:
            return
        for key, amount in before.items():
            self._totals[key] -= amount
        for key, amount in amounts.items():
            self._totals[key] = self._totals.get(key, 0.0) + amount
        self._changes += 1
        if self._changes % RECOUNT == 0:
            for key, total in self._totals.items():
                if abs(total - self._count(key)) > NEAR:
                    raise AssertionError(f"the checker lost count of {key}: {total}, {self._count(key)}")

    def _count(self, key: Key) -> float:
        return sum(amounts.get(key, 0.0) for amounts in self._amounts.values())

    def total(self, key: Key) -> float:
        return self._count(key) if self._exact else self._totals.get(key, 0.0)


class Electricity:
    """Draw of every limited feed and supply. A host is off, or at a level from 0.0 (steady) to 1.0 (boot peak)."""

    def __init__(self, plan: Plan) -> None:
        exact = len(plan.hosts) <= SMALL
        self._hosts = plan.hosts
        self._limits = plan.limits.feeds
        self.budget = {name: limit.budget_watts for name, limit in self._limits.items()}
        self.ramp = {name: limit.ramp_watts_per_min for name, limit in self._limits.items()}
        self.inrush = {name: limit.inrush_amps for name, limit in self._limits.items()}
        self._draw = Sums(exact=exact)
        self._steady = Sums(exact=exact)  # of those that run
        self._base = Sums(exact=exact)  # steady draw of all that run or boot
        self._coming = Sums(exact=exact)  # steady draw of those that are still to be switched on, by tier
        self._tiers: set[int] = set()
        self.level: dict[str, float] = {}  # of the hosts that are not off
        self._measured: dict[str, float] = {}
        self._starts: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in self._limits}
        self._inrushes: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in self._limits}
        self._metered: dict[str, tuple[float, float]] = {}  # feed -> watts, when
        self.believing = False  # the latest reading counts, however old
        self._steps: list[tuple[float, int, str, int, float]] = []
        self._boot: dict[str, int] = {}
        self._order = 0
        self.lost = {name for name, limit in self._limits.items() if limit.dark}
        self._surge: dict[str, float] = {}
        if self._limits:
            for name in self._hosts:
                for feed, peak, steady in self.shares(name):
                    self._surge[feed] = max(self._surge.get(feed, 0.0), peak - steady)

    # -- one host ---------------------------------------------------------------------

    def dark(self, host: Host) -> bool:
        return bool(self.lost) and bool(host.feeds) and all(self._is_lost(cord) for cord in host.feeds)

    def _is_lost(self, cord: str) -> bool:
        return any(feed in self.lost for feed in above(cord))

    def shares(self, name: str) -> Iterator[tuple[str, float, float]]:
        """Every limit above the host, with its boot peak and steady draw there."""
        host = self._hosts[name]
        live = [cord for cord in host.feeds if not (self.lost and self._is_lost(cord))] or list(host.feeds)
        steady = self._measured.get(name, host.watts_steady)
        peak = max(host.watts_boot_peak, steady) if name in self._measured else host.watts_boot_peak
        for feed in dict.fromkeys(feed for cord in live for feed in above(cord)):
            if feed in self._limits:
                share = sum(1 for cord in live if feed in above(cord)) / len(live)
                weight = 1.0 if self._limits[feed].failover else share
                yield feed, weight * peak, weight * steady
        for load in host.loads:
            for supply in above(load.path):
                if supply in self._limits:
                    yield supply, load.peak, load.steady

    def set_level(self, name: str, level: float | None) -> None:
        """``None``: off."""
        if level is None:
            self.level.pop(name, None)
        else:
            self.level[name] = level
        if not self._limits:
            return
        draw: dict[Key, float] = {}
        base: dict[Key, float] = {}
        for feed, peak, steady in self.shares(name) if level is not None else ():
            draw[feed, 0] = draw.get((feed, 0), 0.0) + steady + (peak - steady) * (level or 0.0)
            base[feed, 0] = base.get((feed, 0), 0.0) + steady
        self._draw.put(name, draw)
        self._base.put(name, base)
        self._steady.put(name, draw if level == 0.0 else {})

    def off(self, name: str) -> None:
        """No power flows because of us: neither its watts nor its place in ramp and inrush count."""
        if name in self.level:
            self.set_level(name, None)
            for starts in (*self._starts.values(), *self._inrushes.values()):
                starts.pop(name, None)

    def coming(self, name: str, tier: int | None) -> None:
        """Whether (and how urgently) the host is still to be switched on."""
        if not self._limits:
            return
        self._tiers.add(tier or 0)
        amounts: dict[Key, float] = {}
        for feed, _, steady in self.shares(name) if tier is not None else ():
            amounts[feed, tier or 0] = amounts.get((feed, tier or 0), 0.0) + steady
        self._coming.put(name, amounts)

    def reads_on(self, name: str, now: float) -> None:
        """Its chassis is on: its draw over time counts from here."""
        host = self._hosts[name]
        surge = host.watts_boot_peak - host.watts_steady
        for after_s, watts in host.watts_profile if surge > 0 else ():
            level = min(1.0, max(0.0, (watts - host.watts_steady) / surge))
            self._order += 1
            heappush(self._steps, (now + after_s, self._order, name, self._boot.get(name, 0), level))

    def advance(self, now: float) -> None:
        while self._steps and self._steps[0][0] <= now:
            _, _, name, boot, level = heappop(self._steps)
            if self._boot.get(name) == boot and self.level.get(name, 0.0) > level:
                self.set_level(name, level)

    def measured(self, name: str, watts: float) -> None:
        self._measured[name] = watts
        for feed, peak, steady in self.shares(name):
            self._surge[feed] = max(self._surge.get(feed, 0.0), peak - steady)
        if name in self.level:
            self.set_level(name, self.level[name])

    def reshare(self, name: str) -> None:
        """One of its cords is dead or alive again."""
        if name in self.level:
            self.set_level(name, self.level[name])

    # -- limits ---------------------------------------------------------------------

    def limit_set(self, event: LimitSet) -> None:
        for limits, value in ((self.budget, event.value), (self.ramp, event.ramp), (self.inrush, event.inrush)):
            if value is not None:
                limits[event.name] = value

    def metered(self, feed: str, watts: float, now: float) -> None:
        self._metered[feed] = watts, now

    def forget_readings(self, journalled: Mapping[str, tuple[float, float]]) -> None:
        self._metered = dict(journalled)

    def load(self, feed: str, now: float) -> float:
        """A fresh reading of the feed stands for those that run steadily, and is the least that it draws."""
        draw = self._draw.total((feed, 0))
        reading = self._metered.get(feed)
        meter = self._limits[feed].meter
        if reading is None or meter is None or (not self.believing and now - reading[1] > METER_TRUST * meter.every_s):
            return draw
        steady = self._steady.total((feed, 0))
        return max(reading[0], draw - steady + min(steady, reading[0]))

    def kept(self, feed: str, tier: int) -> float:
        """Steady draw of more urgent hosts that are still to come."""
        return sum(self._coming.total((feed, other)) for other in self._tiers if other < tier)

    def short(self, name: str, tier: int, now: float) -> Iterator[str]:
        """Everything that forbids to switch the host on now, which is off."""
        for feed, peak, steady in self.shares(name):
            budget, ramp, inrush = self.budget[feed], self.ramp[feed], self.inrush[feed]
            if budget is not None:
                load = self.load(feed, now)
                if load + peak > budget + NEAR:
                    yield f"feed {feed} draws {load:g}, and {peak:g} more is above {budget:g}"
                kept = self.kept(feed, tier)
                if kept > NEAR:
                    all_steady = self._base.total((feed, 0)) + steady + kept + self._surge.get(feed, 0.0)
                    if all_steady > budget + NEAR:
                        yield f"feed {feed}: {kept:g} are kept for the urgent, in all {all_steady:g} of {budget:g}"
            if (
                ramp is not None
                and (recent := self._recent(self._starts[feed], RAMP_WINDOW_S, now)) + peak > ramp + NEAR
            ):
                yield f"feed {feed} ramps {recent:g} in a minute, and {peak:g} more is above {ramp:g}"
            amps = self._hosts[name].inrush_amps
            if inrush is not None and amps:
                recent = self._recent(self._inrushes[feed], INRUSH_WINDOW_S, now)
                if recent + amps > inrush + NEAR:
                    yield f"feed {feed} has inrush of {recent:g} A, and {amps:g} A more is above {inrush:g} A"

    @staticmethod
    def _recent(starts: Mapping[str, tuple[float, float]], window_s: float, now: float) -> float:
        return sum(amount for t, amount in starts.values() if t + window_s > now)

    def starts(self, name: str, now: float) -> None:
        """Boot peak from now on; ramp and inrush count from here, and no longer from an earlier try."""
        self._boot[name] = self._boot.get(name, 0) + 1
        self.set_level(name, 1.0)
        amps = self._hosts[name].inrush_amps
        for feed, peak, _ in self.shares(name):
            for starts, limit, amount, window_s in (
                (self._starts[feed], self.ramp[feed], peak, RAMP_WINDOW_S),
                (self._inrushes[feed], self.inrush[feed], amps, INRUSH_WINDOW_S),
            ):
                starts.pop(name, None)
                if limit is None or not amount:
                    continue
                while starts and next(iter(starts.values()))[0] + window_s <= now:
                    del starts[next(iter(starts))]
                starts[name] = now, amount
                if self._recent(starts, window_s, now) > limit + NEAR:
                    raise InvariantBroken(f"feed {feed}: more than {limit:g} start within {window_s:g} s at {now}")

    def over(self, name: str) -> Iterator[str]:
        """The feeds above the host that draw more than their budget by the model alone."""
        for feed, _, _ in self.shares(name):
            budget, draw = self.budget[feed], self._draw.total((feed, 0))
            if budget is not None and self._limits[feed].meter is None and draw > budget + NEAR:
                yield f"feed {feed} draws {draw:g} of {budget:g}"
