"""Failures that cluster: which class of hosts do they share? (GitHub 2016: one hardware class did not see its drives.)

A class is a value of model, firmware of a model, rack, feed or subnet. It is to blame when most of its hosts that were
tried have failed and elsewhere far fewer do; of several such classes the one that has all the failures and is smallest:
pausing exactly that one stops the damage, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bootorch.core.model import Host

FAILED_SHARE = 0.5  # of those tried in the class: below that the class still comes back better than it fails
ELSEWHERE = 0.5  # failures elsewhere must be rarer than this share of the class's own: else everything fails alike
EXPLAINS = 0.95  # a smaller class that has so much of a larger one's failures is the better word for them

Class = tuple[tuple[str, str], ...]  # (("model", "X"), ("firmware", "Y"))


def subnet(address: str) -> str:
    """The /24 (or, for IPv6, /64) that a BMC shares with its neighbours: what ``bmc_per_subnet`` counts in."""
    if ":" in address:
        return ":".join(address.split(":")[:4])
    return address.rsplit(".", 1)[0]


def classes_of(host: Host) -> Iterator[Class]:
    """The classes that a host belongs to, the most particular first."""
    if host.model and host.firmware:
        yield ("model", host.model), ("firmware", host.firmware)
    if host.model:
        yield (("model", host.model),)
    if host.rack:
        yield (("rack", host.rack),)
    for feed in host.feeds:
        yield (("feed", feed),)
    if host.bmc.address:
        yield (("subnet", subnet(host.bmc.address)),)


def scope(found: Class) -> str:
    """``class:model=X,firmware=Y``: how a tripped breaker names the class."""
    return "class:" + ",".join(f"{fact}={value}" for fact, value in found)


def scopes_of(host: Host) -> list[str]:
    return [scope(found) for found in classes_of(host)]


@dataclass(slots=True)
class Count:
    hosts: int = 0
    tried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    found: Class
    failed: int
    tried: int
    failed_elsewhere: int
    tried_elsewhere: int

    def __str__(self) -> str:
        words = " with ".join(f"{fact} {value}" for fact, value in self.found)
        return (
            f"{self.failed} of {self.tried} hosts tried of {words} failed; "
            f"elsewhere {self.failed_elsewhere} of {self.tried_elsewhere}"
        )


class Clusters:
    """Counts per class. An outcome costs the classes of its host."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._counts: dict[Class, Count] = {}
        self._alike: dict[tuple[object, ...], tuple[Count, ...]] = {}  # hosts of a rack are of few kinds
        for host in hosts.values():
            for count in self._of(host):
                count.hosts += 1
        self._tried = 0
        self._failed = 0

    def counts(self) -> Iterable[Count]:
        """Those of all classes."""
        return self._counts.values()

    def _of(self, host: Host) -> tuple[Count, ...]:
        """The counts of the host's classes."""
        key = (host.model, host.firmware, host.rack, host.feeds, subnet(host.bmc.address))
        known = self._alike.get(key)
        if known is None:
            known = tuple(self._counts.setdefault(found, Count()) for found in classes_of(host))
            self._alike[key] = known
        return known

    def settle(self, host: Host, failed: bool) -> None:
        self._tried += 1
        self._failed += failed
        for count in self._of(host):
            count.tried += 1
            count.failed += failed

    def retract(self, host: Host) -> None:
        """The failure of ``host`` counts no longer: it is tried again."""
        self._tried -= 1
        self._failed -= 1
        for count in self._of(host):
            count.tried -= 1
            count.failed -= 1

    def forgive(self) -> None:
        """A person has seen the failures: from now on only new ones count."""
        self._tried = self._failed = 0
        for count in self._counts.values():
            count.tried = count.failed = 0

    def to_blame(self, host: Host, least: int) -> Cluster | None:
        """The class that explains the failure of ``host``, once ``least`` of its hosts have failed."""
        guilty = []
        for found in classes_of(host):
            count = self._counts[found]
            if count.failed < least or count.failed < FAILED_SHARE * count.tried:
                continue
            failed, tried = self._failed - count.failed, self._tried - count.tried
            if tried and failed / tried > ELSEWHERE * count.failed / count.tried:
                continue
            guilty.append((found, count))
        if not guilty:
            return None
        most = max(count.failed for _, count in guilty)
        found, count = min(
            ((found, count) for found, count in guilty if count.failed >= EXPLAINS * most),
            key=lambda pair: (pair[1].hosts, -len(pair[0])),
        )
        return Cluster(found, count.failed, count.tried, self._failed - count.failed, self._tried - count.tried)
