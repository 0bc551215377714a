#!/usr/bin/env python3
"""A site of 32,000 hosts as an Ansible inventory script: 1,000 racks in 4 halls, 120 services. Python alone.

    ./hosts.py --list          what Ansible asks for
    ./hosts.py --summary       what the site is made of

``services.txt`` beside it says what there is, ``site.cfg`` how much of it and with which seed; PANGYO_HOSTS and
PANGYO_SEED in the environment win over the file. The same seed gives the same site, on every machine.

A hall has rows, a row 25 racks, a rack 31 servers and the switch that they hang on. Electricity comes down the same
way: ``hall-a/row-03/rack-07``. Services that all stand on (tiers 0 and 1) have a second cord to the next hall. Each
rack has a /24 for its BMCs and one for its hosts.
"""

from __future__ import annotations

import configparser
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
FULL_SIZE = 32_000  # hosts that the sizes in services.txt are for
RACK_HOSTS = 32  # with the switch
ROW_RACKS = 25
HALLS = "abcd"
CLUSTER_FROM = 250  # services of this size fill racks by the half; smaller ones have one host in a rack
HALF_RACK = 16
DUAL_CORDED_TIERS = (0, 1)
IMAGE_SERVICE = "image"
NETWORK = ("core", "mgmt-switch", "spine", "tor")
YOUNG_YEARS, OLD_YEARS = 2, 7  # hosts up to the one are young, from the other on old


class Model(NamedTuple):
    """Watts at most while it boots, and idle afterwards; seconds from power-on to a login."""

    peak: int
    steady: int
    boot_s: int
    firmware: tuple[str, ...]
    oldest: int  # years
    youngest: int


# Idle after boot is 35 to 45 % of the peak (SPECpower's idle of two-socket servers); memory training and many disks
# are what makes a boot long.
MODELS = {
    "sw-core": Model(900, 380, 180, ("9.3.10",), 6, 2),
    "sw-mgmt": Model(350, 150, 90, ("4.28.3", "4.30.1"), 8, 3),
    "sw-tor": Model(350, 150, 120, ("4.28.3", "4.30.1"), 8, 1),
    "s1-g9": Model(350, 140, 210, ("2.8.1", "2.9.4"), 8, 6),
    "s1-g10": Model(400, 155, 240, ("2.12.2", "2.15.0"), 6, 4),
    "s1-g11": Model(450, 170, 300, ("1.4.4", "1.6.10"), 3, 1),
    "s2-g10": Model(550, 210, 330, ("2.12.2", "2.15.0"), 6, 4),
    "s2-g11": Model(650, 245, 390, ("1.4.4", "1.6.10"), 3, 1),
    "db-g10": Model(700, 280, 540, ("2.12.2", "2.15.0"), 6, 3),
    "st-g8": Model(600, 255, 480, ("3.1", "3.4"), 9, 7),
    "st-g9": Model(650, 270, 510, ("2.8.1", "2.9.4"), 7, 5),
    "gpu-g10": Model(900, 330, 600, ("5.12", "5.14"), 4, 1),
}


@dataclass(frozen=True)
class Need:
    """One word of the last column of services.txt; ``order`` is ``after``."""

    service: str
    quorum: str = ""
    racks: int = 0
    order: bool = False


@dataclass(frozen=True)
class Service:
    name: str
    tier: int
    size: int | None  # at FULL_SIZE; None takes the rest
    model: str
    boots_from: str
    playbook: str
    needs: tuple[Need, ...]
    first: bool

    @property
    def group(self) -> str:
        """The Ansible group: no dashes in those."""
        return self.name.replace("-", "_")


class Placed(NamedTuple):
    """A host and where it stands: ``rack`` and ``row`` count from 0 over the whole site, ``unit`` from 1 in a rack."""

    name: str
    service: Service
    rack: int
    row: int
    unit: int
    firmware: str
    age_years: int


def read_services(path: Path = HERE / "services.txt") -> list[Service]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            left, _, right = line.partition("|")
            name, tier, size, model, boots_from, playbook = left.split()
            words = right.split()
            number = None if size == "*" else int(size)
            needs = tuple(_need(word) for word in words if word != "!")
            found.append(Service(name, int(tier), number, model, boots_from, playbook, needs, "!" in words))
    return found


def _need(word: str) -> Need:
    if word.startswith(">"):
        return Need(word[1:], order=True)
    service, _, quorum = word.partition("=")
    quorum, _, racks = quorum.partition("/")
    return Need(service, quorum, int(racks or 0))


class Site:
    """Everything that is drawn once: sizes of the services and the places of their hosts."""

    def __init__(self, hosts: int = FULL_SIZE, seed: int = 1, services: list[Service] | None = None) -> None:
        self.seed = seed
        self.services = services if services is not None else read_services()
        self.racks = max(len(HALLS), hosts // RACK_HOSTS)
        self.rows = -(-self.racks // ROW_RACKS)
        self.sizes = self._sizes(hosts)
        self.halls = min(len(HALLS), self.rows)

    def _sizes(self, hosts: int) -> dict[str, int]:
        """As in services.txt by share; never fewer than what others need of them."""
        least: dict[str, int] = {}
        for service in self.services:
            for need in service.needs:
                if need.quorum.isdigit():
                    least[need.service] = max(least.get(need.service, 0), int(need.quorum))
        sizes: dict[str, int] = {}
        rest = hosts
        for service in self.services:
            if service.name == "tor":
                size = self.racks
            elif service.name == "mgmt-switch":
                size = self.rows
            elif service.size is None:
                size = max(rest, 1)
            else:
                size = max(round(service.size * hosts / FULL_SIZE), least.get(service.name, 1))
            sizes[service.name] = size
            rest -= size
        while rest < 0:  # a small site: what the least sizes have taken too much, the largest services give
            largest = max((name for name in sizes if name not in least and name != "tor"), key=lambda name: sizes[name])
            if sizes[largest] == 1:
                raise SystemExit(f"{hosts} hosts are too few for {len(sizes)} services")
            sizes[largest] -= 1
            rest += 1
        return sizes

    def row_of(self, rack: int) -> int:
        """Racks that follow one another stand in different halls: a service that is spread is spread over those."""
        return rack % self.rows

    def hall_of_row(self, row: int) -> str:
        return HALLS[row % self.halls]

    def hall(self, rack: int) -> str:
        return self.hall_of_row(self.row_of(rack))

    def feed_of_row(self, row: int) -> str:
        return f"hall-{self.hall_of_row(row)}/row-{row // self.halls + 1:02}"

    def feed(self, rack: int) -> str:
        return f"{self.feed_of_row(self.row_of(rack))}/rack-{rack // self.rows + 1:02}"

    def second_feed(self, rack: int) -> str:
        """The busbar of the same row of the next hall."""
        row = self.row_of(rack)
        return self.feed_of_row(row - row % self.halls + (row + 1) % self.halls) if self.halls > 1 else ""

    def rack_name(self, rack: int) -> str:
        row = self.row_of(rack)
        return f"{self.hall_of_row(row)}{row // self.halls + 1:02}-{rack // self.rows + 1:02}"

    def row_name(self, row: int) -> str:
        return f"{self.hall_of_row(row)}{row // self.halls + 1:02}"

    def image_server(self, rack: int) -> str:
        """The one that the rack's hosts boot from, by name: the racks are dealt out to all of them in turn."""
        return self.name(IMAGE_SERVICE, rack % self.sizes[IMAGE_SERVICE])

    def dual_corded(self, service: Service) -> bool:
        return service.tier in DUAL_CORDED_TIERS and service.name not in ("tor", "mgmt-switch") and self.halls > 1

    def name(self, service: str, number: int) -> str:
        """``number`` counts from 0, names from 1."""
        return f"{service}-{number + 1:0{max(3, len(str(self.sizes[service])))}}"

    def feeds(self, host: Placed) -> tuple[str, ...]:
        """One path for each cord."""
        first = self.feed(host.rack)
        return (first, self.second_feed(host.rack)) if self.dual_corded(host.service) else (first,)

    def place(self) -> Iterator[Placed]:
        """Every host, service by service."""
        drawn = random.Random(self.seed)  # noqa: S311 - an example site, no secret
        room = [0] * self.racks
        per_rack = -(-sum(size for name, size in self.sizes.items() if name != "tor") // self.racks)
        at = 0
        for service in self.services:
            size, model = self.sizes[service.name], MODELS[service.model]
            chunk = HALF_RACK if size >= CLUSTER_FROM * self.racks / 1000 and size > self.racks // 8 else 1
            left = 0
            for number in range(size):
                if service.name == "tor":
                    rack, unit = number, 1
                else:
                    if service.name == "mgmt-switch":
                        at = number
                    elif not left:
                        at = (at + 1) % self.racks
                    while room[at] >= per_rack:
                        at, left = (at + 1) % self.racks, 0
                    left = (left or chunk) - 1
                    rack, unit = at, room[at] + 2
                    room[at] += 1
                firmware = model.firmware[int(drawn.random() ** 2 * len(model.firmware))]
                age = model.youngest + int(drawn.random() * (model.oldest - model.youngest + 1))
                yield Placed(self.name(service.name, number), service, rack, self.row_of(rack), unit, firmware, age)


def age_of(years: int) -> str:
    """``young``, ``old`` or neither: what is known to die of a power cycle less often, and more."""
    return "young" if years <= YOUNG_YEARS else "old" if years >= OLD_YEARS else ""


def addresses(rack: int, unit: int) -> tuple[str, str]:
    """BMC and host: 10.20.0.0/14 and 10.32.0.0/13, a /24 of each for every rack."""
    return f"10.{20 + (rack >> 8)}.{rack & 255}.{unit}", f"10.{32 + (rack >> 8)}.{rack & 255}.{unit}"


def inventory(site: Site) -> dict[str, object]:
    """What ``ansible-inventory`` expects: variables that hosts share stand in their groups."""
    members: dict[str, list[str]] = {service.group: [] for service in site.services}
    models: dict[str, list[str]] = {}
    hostvars: dict[str, dict[str, object]] = {}
    for host in site.place():
        bmc, address = addresses(host.rack, host.unit)
        members[host.service.group].append(host.name)
        models.setdefault(host.service.model, []).append(host.name)
        facts: dict[str, object] = {"ansible_host": address, "bmc_address": bmc, "rack": site.rack_name(host.rack)}
        facts |= {"row": site.row_name(host.row), "firmware": host.firmware}
        feeds = site.feeds(host)
        facts |= {"feed": feeds[0]} if len(feeds) == 1 else {"feeds": list(feeds)}
        if age := age_of(host.age_years):
            facts["age"] = age
        if host.service.boots_from == "pxe":
            facts["image_server"] = site.image_server(host.rack)
        hostvars[host.name] = facts
    groups: dict[str, object] = {name: {"hosts": hosts} for name, hosts in members.items()}
    for name, hosts in sorted(models.items()):
        model = MODELS[name]
        shared: dict[str, object] = {"model": name, "watts_boot_peak": model.peak, "watts_steady": model.steady}
        shared["boot_estimate"] = model.boot_s
        groups[f"model_{name.replace('-', '_')}"] = {"hosts": hosts, "vars": shared}
    return {"_meta": {"hostvars": hostvars}, "all": {"children": ["ungrouped", *groups]}, **groups}


def has_rack_switch(service: Service) -> bool:
    """Everything but the network itself hangs on the switch of its rack."""
    return service.name not in NETWORK


def configured() -> Site:
    """The site that ``site.cfg`` and the environment ask for."""
    parser = configparser.ConfigParser()
    parser.read(HERE / "site.cfg", encoding="utf-8")
    hosts = os.environ.get("PANGYO_HOSTS") or parser["site"]["hosts"]
    seed = os.environ.get("PANGYO_SEED") or parser["site"]["seed"]
    return Site(int(hosts), int(seed))


def main() -> int:
    site = configured()
    if sys.argv[1:] == ["--list"]:
        json.dump(inventory(site), sys.stdout)
        return 0
    if sys.argv[1:] == ["--summary"]:
        hosts = sum(site.sizes.values())
        print(f"{hosts} hosts, {site.racks} racks, {site.rows} rows, {site.halls} halls, {len(site.sizes)} services")
        for tier in sorted({service.tier for service in site.services}):
            named = [(service.name, site.sizes[service.name]) for service in site.services if service.tier == tier]
            print(f"tier {tier}: {sum(size for _, size in named)} hosts: " + ", ".join(f"{n} {s}" for n, s in named))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
