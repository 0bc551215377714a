"""The bound of electricity with weights that are fitted to the hosts at hand, in place of exponential ones.

The proof is that of ``bounds.feed_bound_s``, and holds for every weight w(u) >= 0 of the moments of a run that ends at
C: a host that is switched on at t draws, weighted,

    cost(t) = g * integral of w from t to t + d  +  s * integral of w from t to C,

its t lies between its head and C - tail - d, and all hosts together draw at most B times the integral of w. So where
the sum of the least costs is more than that, C is too short, whoever makes the schedule.

Here w is constant on each of ``GRID`` equal parts of the run. Then cost(t) is linear between the moments at which t or
t + d passes from one part to the next, so the least of these moments and of the two ends of t's interval is the least
of all: :func:`_share` takes every host as it is, and what it says is exact but for the rounding of floats.

How w is found proves nothing and needs no proof: multiplicative weights (Arora, Hazan and Kale, Theory of Computing
2012) for the linear program whose dual this is. Every host goes where it costs least; moments that are overloaded by
that get more weight, and others less. For that, hosts that are nearly alike count as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

GRID = 200  # parts of a run
NEARLY_S, ABOUT_S = 6.0, 10.0  # boots, and heads and tails, that count as one while weights are fitted
ROUNDS = 3  # after each, the end for which weights are fitted moves to what is proven
AHEAD = 0.006  # and so much further
FIRST_STEP, SLOWER = 0.8, 8.0  # how strongly weights follow the load at first, steps until that has fallen by a third
_SURE = 1e-9  # more than the rounding of these sums
_LEAST = 1e-9  # of the weights of all: what is nothing cannot grow again

# (steady, surge, boot_s) -> (head_s, tail_s) -> hosts
_Kinds = Mapping[tuple[float, float, float], Mapping[tuple[float, float], int]]


@dataclass(frozen=True, slots=True)
class Draw:
    """One host on one feed: it may be switched on from ``head_s`` on, takes ``surge`` beyond its ``steady`` draw for
    ``boot_s``, and ``tail_s`` have to pass after that."""

    head_s: float
    tail_s: float
    boot_s: float
    steady: float
    surge: float

    @property
    def pace(self) -> float:
        """At which rate a feed full of such hosts alone fills up: its room shrinks by e in ``1 / pace`` seconds."""
        return math.log1p(self.steady / self.surge) / self.boot_s if self.surge > 0 and self.boot_s > 0 else 0.0


def fitted_bound_s(budget: float, draws: Sequence[Draw], known_s: float, steps: int) -> float:
    """``known_s``, or a longer time in which these hosts cannot all be brought up either. A step takes some 40 ms for
    8,000 hosts, the 3 rounds share them; more than some hundred gain little."""
    exact = _kinds(draws, 0.0, 0.0)
    about = _kinds(draws, NEARLY_S, ABOUT_S) if len(draws) > GRID else exact
    best = known_s
    weights = _exponential(budget, about, best)
    step = 0
    for _ in range(ROUNDS):
        end = best * (1 + AHEAD)
        top, chosen = 0.0, weights
        for _ in range(max(1, steps // ROUNDS)):
            load = [0.0] * (GRID + 1)
            share = _share(budget, about, weights, end, load)
            if share > top:
                top, chosen = share, weights
            follow = FIRST_STEP / math.sqrt(1 + step / SLOWER)
            weights = _moved(weights, [watts / budget - 1 for watts in accumulate(load[:GRID])], follow)
            step += 1
        found = _furthest(budget, exact, chosen, best)
        if found == best:
            break
        best, weights = found, chosen
    return best


def _moved(weights: Sequence[float], over: Sequence[float], follow: float) -> list[float]:
    moved = [weight * math.exp(follow * max(-3.0, min(3.0, much))) for weight, much in zip(weights, over, strict=True)]
    total = sum(moved)
    return [max(_LEAST, weight / total) for weight in moved]


def _furthest(budget: float, exact: _Kinds, weights: Sequence[float], known_s: float) -> float:
    """The longest run that these weights, stretched over it, prove too short."""
    found = known_s
    for step in (16.0, 4.0, 1.0):
        while _share(budget, exact, weights, found + step) > 1 + _SURE:
            found += step
    return found


def _exponential(budget: float, kinds: _Kinds, end: float) -> list[float]:
    """The best of some exponential weights, to begin with."""
    best, chosen = -1.0, [1.0 / GRID] * GRID
    for rate in (0.0, 2.0, 4.0, 6.0, 9.0, 12.0):  # in a whole run
        for start in (0.0, 0.2, 0.4, 0.6, 0.75):
            shape = [math.exp(rate * (part / GRID - 1)) if part >= start * GRID else 0.0 for part in range(GRID)]
            weights = _moved(shape, [0.0] * GRID, 0.0)
            if (share := _share(budget, kinds, weights, end)) > best:
                best, chosen = share, weights
    return chosen


def _kinds(draws: Sequence[Draw], boots_s: float, ends_s: float) -> _Kinds:
    """Hosts by what they are like: in classes of so many seconds (0: as they are)."""

    def about(seconds: float, grid: float) -> float:
        return seconds // grid * grid + grid / 2 if grid else seconds

    found: dict[tuple[float, float, float], dict[tuple[float, float], int]] = {}
    for draw in draws:
        kind = found.setdefault((draw.steady, draw.surge, about(draw.boot_s, boots_s)), {})
        # Downwards: a host whose own chain just fits must fit.
        ends = (
            (draw.head_s // ends_s * ends_s, draw.tail_s // ends_s * ends_s) if ends_s else (draw.head_s, draw.tail_s)
        )
        kind[ends] = kind.get(ends, 0) + 1
    return found


def _share(
    budget: float, kinds: _Kinds, weights: Sequence[float], end: float, load: list[float] | None = None
) -> float:
    """The least weighted draw of all hosts in a run that ends at ``end``, as a share of what the feed can carry:
    above 1 the run is too short. Infinite where a host's own chain does not fit.

    With ``load`` only starts at the parts' beginnings and the ends of intervals are looked at, so that the result is
    no proof, and the changes of the draw of all, each host at its best, are added there.
    """
    part_s = end / GRID
    upto = [0.0, *accumulate(weight * part_s for weight in weights)]
    whole = upto[-1]
    beyond = upto + [whole] * (GRID + 1)

    def until(t: float) -> float:
        """The integral of the weights from 0 to t."""
        place = int(t / part_s)
        return whole if place >= GRID else upto[place] + (t - place * part_s) * weights[place]

    total = 0.0
    for (steady, surge, boot_s), ends in kinds.items():
        parts = int(boot_s / part_s)
        if parts >= GRID:
            return math.inf
        over = boot_s / part_s - parts
        under = 1.0 - over
        # Starts at the beginning of a part: the boot ends within one.
        starting = [
            surge * (a * under + b * over - c) + steady * (whole - c)
            for a, b, c in zip(beyond[parts:], beyond[parts + 1 :], upto, strict=False)
        ]
        ending: list[float] = []
        if load is None:
            # Boots that end with a part, by that part: the start lies within one.
            starts = [0.0] * (parts + 1) + [a * over + b * under for a, b in pairwise(upto)]
            ending = [surge * (c - a) + steady * (whole - a) for a, c in zip(starts, upto, strict=False)]
        for (head_s, tail_s), count in ends.items():
            latest = end - tail_s - boot_s
            if latest < head_s:
                return math.inf
            at_s, least = head_s, math.inf
            for t in (head_s, latest):
                before = until(t)
                if (cost := surge * (until(t + boot_s) - before) + steady * (whole - before)) < least:
                    at_s, least = t, cost
            first, last = math.ceil(head_s / part_s), int(latest / part_s) + 1
            if first < last and (cost := min(starting[first:last])) < least:
                least = cost
                if load is not None:
                    at_s = starting.index(cost, first) * part_s
            if load is not None:
                _add(load, at_s / part_s, count * (steady + surge))
                _add(load, (at_s + boot_s) / part_s, -count * surge)
            else:
                first, last = math.ceil((head_s + boot_s) / part_s), int((latest + boot_s) / part_s) + 1
                if first < last:
                    least = min(least, min(ending[first:last]))
            total += count * least
    return total / (budget * whole)


def _add(load: list[float], place: float, watts: float) -> None:
    """A change within a part counts for the rest of it."""
    part = min(int(place), GRID)
    load[part] += watts * (1 - (place - part))
    if part < GRID:
        load[part + 1] += watts * (place - part)
