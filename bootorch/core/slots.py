"""Slots: counted resources, each with a limit that may change under way.

A slot has a *kind*, the key in the plan's ``limits.slots``, and where it is counted per value of a fact, a value:

==================  ==========================================  =====================================================
kind                resource                                    taken
==================  ==========================================  =====================================================
``boots``           ``boots``                                   from the power-on to the proof of boot
any host fact       ``image_server:pxe-1``, ``rack:r7``         the same; or, where the plan says so, by every fork of
                                                                a slice that runs (``artefact_server:apt-1``); or both
``bmc_per_subnet``  ``bmc:10.20.3``                             for one exchange with a BMC
``logins``          ``logins``                                  for one exchange with a host
``redeploy_forks``  ``forks``                                   while a slice runs
==================  ==========================================  =====================================================

An adaptive slot is a congestion window (additive increase, multiplicative decrease; Chiu and Jain 1989, RFC 5681):
halved at once when what it protects shows overload, grown by one after a full window of successes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bootorch.core.model import Host, Limits

BOOT, REDEPLOY = "boot", "redeploy"  # stages in which a fact's slot may be held
IN_FLIGHT = 1024  # exchanges with BMCs at once, of one process: a datagram of each on the wire is some 100 KB in all
PLAIN = {"bmc_per_subnet": "bmc", "redeploy_forks": "forks"}  # kinds whose resources have a shorter name
EXCHANGES = frozenset({"bmc_per_subnet", "consoles", "logins", "redeploy_forks"})  # not held by a booting host
_KINDS = {short: kind for kind, short in PLAIN.items()}


def kind_of(resource: str) -> str:
    """The key of ``limits.slots`` that a resource belongs to."""
    kind = resource.partition(":")[0]
    return _KINDS.get(kind, kind)


def kinds_during(limits: Limits, stage: str) -> tuple[str, ...]:
    """The kinds that hosts hold in ``stage``: ``BOOT`` or ``REDEPLOY``."""
    return tuple(k for k in limits.slots if k not in EXCHANGES and stage in limits.during.get(k, (BOOT,)))


def slots_of(host: Host, kinds: Iterable[str]) -> tuple[str, ...]:
    """The resources of these kinds that ``host`` holds: from its power-on to the proof of its boot, or while its slice
    runs."""
    found = []
    for kind in kinds:
        if kind == "boots":
            found.append(kind)
        elif value := host.fact(kind):
            found.append(f"{kind}:{value}")
    return tuple(found)


@dataclass(slots=True)
class Window:
    limit: int
    successes: int = 0
    shrunk_t: float = -1.0


class Slots:
    """What is taken, and the limits as they are now."""

    def __init__(self, limits: Mapping[str, int], adaptive: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._least = dict(adaptive)
        self._own: dict[str, int] = {}  # limits of single resources, set by a person
        self._windows: dict[str, Window] = {}
        self._used: dict[str, int] = {}
        self._now: dict[str, int | None] = {}  # limits as they are now, of resources that were asked for

    def limit(self, resource: str) -> int | None:
        """The limit now; ``None``: not limited."""
        try:
            return self._now[resource]
        except KeyError:
            window = self._windows.get(resource)
            found = self._now[resource] = window.limit if window is not None else self.most(resource)
            return found

    def most(self, resource: str) -> int | None:
        """The limit as stated, which an adaptive slot may stay below."""
        return self._own.get(resource, self._limits.get(kind_of(resource)))

    def full(self, resource: str, count: int = 1) -> bool:
        limit = self.limit(resource)
        return limit is not None and self._used.get(resource, 0) + count > limit

    def free(self, resource: str) -> int | None:
        limit = self.limit(resource)
        return None if limit is None else limit - self._used.get(resource, 0)

    def take(self, resource: str, count: int = 1) -> None:
        self._used[resource] = self._used.get(resource, 0) + count

    def give(self, resource: str, count: int = 1) -> None:
        left = self._used[resource] - count
        if left < 0:
            raise AssertionError(f"slot {resource} given back more often than taken")
        self._used[resource] = left

    def set_limit(self, name: str, limit: int) -> None:
        """``name``: a kind, or one resource. What an adaptive slot had shrunk to is forgotten."""
        if name in self._limits or ":" not in name:
            self._limits[name] = limit
            for resource in [own for own in self._own if kind_of(own) == name]:
                del self._own[resource]
            for resource in [adapted for adapted in self._windows if kind_of(adapted) == name]:
                del self._windows[resource]
        else:
            self._own[name] = limit
            self._windows.pop(name, None)
        self._now.clear()

    # -- adaptive ---------------------------------------------------------------------

    def adaptive(self, resource: str) -> bool:
        return kind_of(resource) in self._least

    def overload(self, resource: str, began_t: float, count: int = 1) -> int | None:
        """What the limit shrinks to because something that began at ``began_t`` failed by overload; ``None``: as it is.
        ``count``: how much it had, and may have given back already.

        What began before the last shrink tells of the time before it: one overload shrinks once.
        """
        now = self.limit(resource)
        window = self._windows.get(resource)
        if now is None or not self.adaptive(resource) or (window is not None and began_t <= window.shrunk_t):
            return None
        # From what was really in use: a limit far above it protects nothing.
        smaller = max(self._least[kind_of(resource)], min(now, self._used.get(resource, 0) + count) // 2)
        return smaller if smaller < now else None

    def success(self, resource: str, count: int = 1) -> None:
        window = self._windows.get(resource)
        if window is not None:
            window.successes += count

    def growth(self, resource: str) -> int | None:
        """What the limit may grow to after a full window of successes; ``None``: as it is."""
        window = self._windows.get(resource)
        most = self.most(resource)
        if window is None or most is None or window.successes < window.limit or window.limit >= most:
            return None
        return window.limit + 1

    def adapt(self, resource: str, limit: int, t: float) -> None:
        """The engine decided so."""
        before = self.limit(resource) or 0
        del self._now[resource]
        window = self._windows.setdefault(resource, Window(limit))
        window.limit = limit
        window.successes = 0
        if limit < before:
            window.shrunk_t = t
        if limit == self.most(resource):
            del self._windows[resource]

    def used(self) -> Mapping[str, int]:
        return {name: count for name, count in self._used.items() if count}
