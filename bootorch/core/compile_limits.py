"""Limits of a plan against its hosts: slots that mean something, feeds and supplies that their hosts fit into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from bootorch.core.hostfacts import OWN_FACTS, Findings
from bootorch.core.inventory import Inventory
from bootorch.core.limits import feed_path, feed_weights
from bootorch.core.model import FeedLimit, Group, Host, Limits
from bootorch.core.spec import PlanSpec

# Slots that count something of the recovery itself. Any other name is a fact of hosts: so many with the same value of
# it boot at the same time.
SLOTS = ("bmc_per_subnet", "boots", "consoles", "image_server", "logins", "redeploy_forks")
DEFAULT_FORKS = 50  # of all playbooks together, where the plan does not say: some 5 GB of memory at most


def check_limits(
    spec: PlanSpec, hosts: Mapping[str, Host], inventory: Inventory, findings: Findings, warnings: Findings
) -> Limits:
    """The limits with normalised names; what is wrong with them is in ``findings``."""
    limits = normalised(spec.limits)
    _check_slots(spec, hosts, inventory, findings, warnings)
    for path in spec.limits.feeds:
        supply, colon, _ = path.partition(":")
        if colon and supply not in spec.supplies:
            remedy = "rename the feed, or write it under limits.supplies"
            findings.add(f"feed {path}: a colon belongs to supplies", spec.where("limits", "feeds", path), remedy)
    _Feeds(spec, limits.feeds, findings, warnings).check(hosts)
    return limits


def with_forks(limits: Limits, groups: Iterable[Group]) -> Limits:
    """Playbooks always share a budget of forks: a laptop that starts a process per host is one more outage."""
    if "redeploy_forks" in limits.slots or not any(group.redeploy for group in groups):
        return limits
    return replace(limits, slots={**limits.slots, "redeploy_forks": DEFAULT_FORKS})


def normalised(limits: Limits) -> Limits:
    """Names of feeds as ``feed_path`` gives them."""
    return replace(limits, feeds={path.strip("/"): limit for path, limit in limits.feeds.items()})


def _check_slots(
    spec: PlanSpec, hosts: Mapping[str, Host], inventory: Inventory, findings: Findings, warnings: Findings
) -> None:
    for slot in spec.limits.slots:
        if slot in SLOTS:
            continue
        where = spec.where("limits", "slots", slot)
        without = [host.name for host in hosts.values() if not host.fact(slot)]
        if hosts and len(without) == len(hosts):
            known = sorted({*SLOTS, *OWN_FACTS, *(name for found in inventory.hosts.values() for name in found)})
            close = get_close_matches(slot, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"known slots: {', '.join(SLOTS)}, and any fact of hosts"
            findings.add(f"unknown slot {slot!r}: no host has such a fact", where, remedy)
        elif without:
            message = f"hosts without {slot} are counted by no slot {slot}"
            warnings.add(message, where, f"set the variable {slot} of these hosts in the inventory", without)


class _Feeds:
    """Sums over hosts: what each feed carries when all are up, and how much more while one boots."""

    def __init__(self, spec: PlanSpec, feeds: Mapping[str, FeedLimit], findings: Findings, warnings: Findings) -> None:
        self.spec, self.feeds = spec, feeds
        self.findings, self.warnings = findings, warnings
        self.steady: Counter[str] = Counter()
        self.surge: dict[str, float] = {}  # by how much a host draws more while it boots
        self._paths: dict[tuple[str, ...], tuple[tuple[str, float], ...]] = {}
        self._asks: dict[tuple[str, ...], tuple[bool, bool]] = {}
        self._inventory = spec.inventory_name

    def check(self, hosts: Mapping[str, Host]) -> None:
        electric = any(":" not in path for path in self.feeds)
        if not self.feeds:
            return
        self._check_dark(hosts)
        for host in hosts.values():
            if electric:
                self._electricity(host)
            for load in host.loads:
                self._count(host, (load.path,), load.peak, load.steady, 0.0)
        for path, total in self.steady.items():
            budget, last = self.feeds[path].budget_watts, total + round(self.surge[path])
            if budget is not None and last > budget:
                what, unit = _what(path)
                self.warnings.add(
                    f"{what}: its hosts draw {total}{unit} when all are up and {last}{unit} while the last one boots, "
                    f"over the budget of {budget:.0f}{unit}",
                    self._where(path),
                    "the last hosts will not be powered on unless the budget is raised",
                )

    def _check_dark(self, hosts: Mapping[str, Host]) -> None:
        """A dark feed that is misspelt would leave hosts to be switched on."""
        dark = [path for path, limit in self.feeds.items() if limit.dark]
        if not dark:
            return
        cords = dict.fromkeys(feed for host in hosts.values() for feed in host.feeds)
        known = dict.fromkeys(path for cord in cords for path in feed_path(cord))
        for path in dark:
            if path not in known:
                close = get_close_matches(path, known, n=1)
                remedy = f"did you mean {close[0]}?" if close else "name a feed of hosts, or one that they hang on"
                self.findings.add(f"feed {path} is dark, and no host hangs on it", self._where(path), remedy)

    def _electricity(self, host: Host) -> None:
        where = self._inventory
        if not host.feeds:
            self.findings.host(host.name, "no feed, and the plan limits feeds", where, "set feed, such as hall-a/row-3")
            return
        watts, inrush = self._asked(host.feeds)
        if watts and not host.watts_boot_peak:
            remedy = "set watts_boot_peak, as measured or from the server's name plate"
            self.findings.host(host.name, "no watts_boot_peak on a limited feed", where, remedy)
        if inrush and not host.inrush_amps:
            remedy = "set inrush_amps, as measured or from the data sheet of its power supplies"
            self.findings.host(host.name, "no inrush_amps on a feed that limits inrush", where, remedy)
        self._count(host, host.feeds, host.watts_boot_peak, host.watts_steady, host.inrush_amps)

    def _count(self, host: Host, feeds: tuple[str, ...], peak: float, steady: float, inrush: float) -> None:
        for path, share in self._limited(feeds):
            limit = self.feeds[path]
            self.steady[path] += round(steady * share)
            self.surge[path] = max(self.surge.get(path, 0.0), (peak - steady) * share)
            if limit.ramp_watts_per_min is not None and peak * share > limit.ramp_watts_per_min:
                self._small(host, path, "ramp", peak * share, limit.ramp_watts_per_min)
            if limit.budget_watts is not None and peak * share > limit.budget_watts:
                self._small(host, path, "budget", peak * share, limit.budget_watts)
            if limit.inrush_amps is not None and inrush * share > limit.inrush_amps:
                self._small(host, path, "inrush", inrush * share, limit.inrush_amps)

    def _small(self, host: Host, path: str, what: str, taken: float, most: float) -> None:
        """A host that could never be switched on, even alone."""
        thing, unit = _what(path)
        if what == "inrush":
            message = f"the inrush of {thing} is below what one host takes as it is switched on"
            remedy, unit, each = "correct inrush_amps of the feed or of these hosts", " A", ""
        elif unit:
            message = f"the {what} of {thing} is below what one host draws while it boots"
            remedy = f"correct {'ramp_watts_per_min' if what == 'ramp' else 'budget_watts'} or watts_boot_peak"
            each = " per minute" if what == "ramp" else ""
        else:
            message = f"the {what} of {thing} is below what one host takes while it boots"
            remedy, each = f"correct the {what}, or what these hosts take", ""
        self.findings.host(
            host.name, message, self._where(path), remedy, f"{taken:.0f}{unit} of {most:.0f}{unit}{each}"
        )

    def _asked(self, feeds: tuple[str, ...]) -> tuple[bool, bool]:
        """Whether hosts on these feeds must state their watts, and their inrush."""
        found = self._asks.get(feeds)
        if found is None:
            limits = [self.feeds[path] for path, _ in self._limited(feeds)]
            watts = any(limit.budget_watts is not None or limit.ramp_watts_per_min is not None for limit in limits)
            found = self._asks[feeds] = (watts, any(limit.inrush_amps is not None for limit in limits))
        return found

    def _limited(self, feeds: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
        found = self._paths.get(feeds)
        if found is None:
            found = self._paths[feeds] = tuple(feed_weights(feeds, self.feeds).items())
        return found

    def _where(self, path: str) -> str:
        supply, colon, name = path.partition(":")
        if colon:
            return self.spec.where("limits", "supplies", supply, "budgets", name)
        return self.spec.where("limits", "feeds", path)


def _what(path: str) -> tuple[str, str]:
    """What a limited thing is called, and the unit of its budget."""
    return (f"supply {path}", "") if ":" in path else (f"feed {path}", " W")
