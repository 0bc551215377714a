"""How long exchanges of the simulated world take: by a distribution, by how many are under way, by the packets lost."""

from __future__ import annotations

from math import inf

from bootorch.core.slots import IN_FLIGHT
from bootorch.sim.distributions import Distribution
from bootorch.sim.draws import Draws
from bootorch.sim.parameters import Parameters

_PARTS, _PART_SHIFT = 1024, 22  # of a table of latencies: exchanges are too many for a logarithm each


class Traffic:
    """Exchanges that share something: how many are under way, and what that does to each. ``window``: how many may be
    in flight; the others of them wait for their turn."""

    __slots__ = ("_each_s", "_slowdown", "_table", "_window", "under_way")

    def __init__(self, distribution: Distribution, slowdown: float, window: float = inf) -> None:
        self._table = [distribution.sample((part + 0.5) / _PARTS) for part in range(_PARTS)]
        self._each_s = sum(self._table) / _PARTS / window  # from one that ends to the next, where some wait
        self._slowdown = slowdown
        self._window = window
        self.under_way = 0

    def plain_s(self, bits: int) -> float:
        """By 32 bits."""
        return self._table[bits >> _PART_SHIFT]

    def takes_s(self, bits: int) -> float:
        """The same, with the others that are under way; ``ended`` is to follow."""
        self.under_way += 1
        takes_s = self._table[bits >> _PART_SHIFT]
        if self._slowdown:
            takes_s *= 1 + self._slowdown * (self.under_way - 1)
        if self.under_way > self._window:
            takes_s += (self.under_way - self._window) * self._each_s  # those before it have to end first
        return takes_s

    def ended(self) -> None:
        # A run that is cut off and gone on with in the same world has answers that nobody fetches, or twice.
        if self.under_way:
            self.under_way -= 1


class Losses:
    """What the lost packets of an exchange cost. Each of its packets may be lost, and what is sent again too."""

    __slots__ = ("_by_16", "_p", "_packets", "_resend_s")

    def __init__(self, p: Parameters, packets: int) -> None:
        self._p = p
        self._packets = packets
        least_s, most_s = p.resend.quantile(0.0), p.resend.quantile(1.0)
        self._resend_s = least_s if least_s == most_s else None  # mostly it is always the same
        self._by_16: list[float] = []  # by 16 exchanges in flight: the chance that one loses a packet

    def cost_s(self, uniform: float, under_way: int) -> float:
        """By a number from 0 to 1. What is under way beyond the window waits, and loses nothing."""
        step, by_16, p = min(under_way, IN_FLIGHT) >> 4, self._by_16, self._p
        while len(by_16) <= step:
            lost = min(0.5, p.loss_share + p.loss_per_100 * 16 * len(by_16) / 100)
            by_16.append(1 - (1 - lost) ** self._packets)
        once = by_16[step]
        cost_s = 0.0
        while uniform < once and cost_s < 1000.0:
            uniform /= once  # a number below it, and even again
            cost_s += self._resend_s if self._resend_s is not None else p.resend.sample(uniform)
        return cost_s


class Constant:
    """What mostly takes the same time: drawn only where it does not."""

    __slots__ = ("_constant", "_distribution", "_draws")

    def __init__(self, distribution: Distribution, draws: Draws) -> None:
        self._distribution = distribution
        self._draws = draws
        same = distribution.quantile(0.0) == distribution.quantile(1.0)
        self._constant = distribution.quantile(0.0) if same else None

    def plain_s(self, number: int) -> float:
        return self._distribution.sample(self._draws.number(number)) if self._constant is None else self._constant
