"""Tens of thousands of BMCs and nothing else: which there are, which are broken and how. Sans-IO; sockets elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from itertools import islice

from bootorch.core.nodesets import expand_addresses
from bootorch.core.secret import Secret
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.bmc_session import Behaviour
from bootorch.ipmi.crypto import MAX_PASSWORD, MAX_USER, suite
from bootorch.lab.chassis import LabChassis
from bootorch.lab.fleet import LOOPBACK, MAX_HOSTS, host_addresses
from bootorch.lab.wire import WireFaults
from bootorch.sim.machine import Machine, MachineSpec, draw

Amount = int | float  # of BMCs: an int counts them, a float is a share of all, in [0, 1]

BOOT_S = 60.0  # of every machine, unless told


class BmcFault(StrEnum):
    """Ways in which one BMC differs from a good one. A BMC has at most one of them."""

    DEAD = "dead"  # never answers
    SLOW_BOOT = "slow_boot"  # the BMC itself boots: silent for ``slow_boot_s`` seconds
    SILENT_POWER = "silent_power"  # accepts one power-on without effect
    BUSY = "busy"  # ``busy_times`` commands are answered 0xC0
    NO_SLOTS = "no_slots"  # ``no_slots_times`` Open Session Requests are refused: all slots taken
    WRONG_SUITE = "wrong_suite"  # echoes suite 3 whatever was proposed
    ROGUE = "rogue"  # does not know the password


@dataclass(frozen=True, slots=True)
class SwarmOptions:
    """``addresses``: of 127.0.0.0/8, each once. ``on``: machines that are on from the start.

    ``boot_s``: the shortest and the longest boot, drawn evenly for each machine (``boot_of``), in seconds.
    ``ipmi_15``: sessions of IPMI 1.5 with MD5 as well. ``busy_times`` and ``no_slots_times`` may be ``math.inf``.
    ValueError for what makes no fleet.
    """

    addresses: Sequence[str]
    password: Secret
    user: str = "admin"
    seed: int = 1
    suites: tuple[int, ...] = (17, 3)
    max_sessions: int = 15
    ipmi_15: bool = False
    wire: WireFaults = field(default_factory=WireFaults)
    faults: Mapping[BmcFault, Amount] = field(default_factory=dict)
    on: Amount = 0
    busy_times: float = 3
    no_slots_times: float = 3
    slow_boot_s: float = 10.0
    boot_s: tuple[float, float] = (BOOT_S, BOOT_S)

    def __post_init__(self) -> None:
        if not 0 < len(self.addresses) <= MAX_HOSTS:
            raise ValueError(f"a fleet has 1 to {MAX_HOSTS} BMCs, not {len(self.addresses)}")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("an address is given twice")
        for address in self.addresses:
            if IPv4Address(address) not in LOOPBACK:
                raise ValueError(f"{address} is not in {LOOPBACK}: the lab is for this machine only")
        for ident in self.suites:
            suite(ident)
        if len(self.user.encode()) > MAX_USER or not 0 < len(self.password.reveal()) <= MAX_PASSWORD:
            raise ValueError(f"IPMI carries names of at most {MAX_USER} bytes and passwords of 1 to {MAX_PASSWORD}")
        if sum(count(amount, len(self.addresses)) for amount in self.faults.values()) > len(self.addresses):
            raise ValueError("there are more faults than BMCs")
        count(self.on, len(self.addresses))
        if not 0 <= self.boot_s[0] <= self.boot_s[1]:
            raise ValueError(f"boots from {self.boot_s[0]:g} to {self.boot_s[1]:g} s make no sense")


def addresses(folded: str, network: str, number: int) -> list[str]:
    """What a folded range means; without one, the network's first ``number`` host addresses (last byte 1-254).

    ValueError where there are none, or fewer.
    """
    if folded:
        return expand_addresses(folded)
    found = [str(address) for address in islice(host_addresses(IPv4Network(network)), max(number, 0))]
    if len(found) < number:
        raise ValueError(f"{network} has {len(found)} addresses for {number} BMCs")
    return found


def count(amount: Amount, total: int) -> int:
    """How many of ``total`` BMCs an amount means. ValueError for a negative one, and one beyond them all."""
    wanted = amount if isinstance(amount, int) else round(amount * total)
    if not 0 <= wanted <= total:
        raise ValueError(f"{amount} is no number of {total} BMCs, and no share of them")
    return wanted


class Swarm:
    """The BMCs by packed address. Each is made when its first datagram comes.

    ``random(n)`` gives n bytes; ``epoch``: the BMCs' clocks at 0.0, in seconds since 1970.
    """

    def __init__(self, options: SwarmOptions, random: Callable[[int], bytes], port: int, epoch: float = 0.0) -> None:
        self.options = options
        self._random = random
        self._port = port
        self._epoch = epoch
        self._users = {options.user.encode(): options.password}
        self.faults = assign(options)
        on = count(options.on, len(options.addresses))
        self.changed: Callable[[bytes], None] | None = None  # told the address of a server whose power changed
        self._on = frozenset(IPv4Address(address).packed for address in (_order("on", options)[:on] if on else ()))
        # Packed address -> its BMC, None until it is asked. A dead one is not even here.
        self.bmcs: dict[bytes, Bmc | None] = {
            IPv4Address(address).packed: None
            for address in options.addresses
            if self.faults.get(address) is not BmcFault.DEAD
        }
        self._booting = {
            IPv4Address(address).packed for address, fault in self.faults.items() if fault is BmcFault.SLOW_BOOT
        }

    def find(self, asked: bytes, now: float) -> Bmc | None:
        """The BMC at this address; None: nobody is there, or it does not answer (yet)."""
        if self._booting and now < self.options.slow_boot_s and asked in self._booting:
            return None
        try:
            return self.bmcs[asked] or self._make(asked)
        except KeyError:
            return None

    def _make(self, asked: bytes) -> Bmc:
        options, address = self.options, str(IPv4Address(asked))
        fault = self.faults.get(address)
        behaviour = None
        if fault is BmcFault.BUSY:
            behaviour = Behaviour(busy=options.busy_times)
        elif fault is BmcFault.NO_SLOTS:
            behaviour = Behaviour(no_slots=options.no_slots_times)
        elif fault is BmcFault.WRONG_SUITE:
            behaviour = Behaviour(downgrade=True)
        elif fault is BmcFault.ROGUE:
            behaviour = Behaviour(rogue=True)
        spec = MachineSpec(
            address,
            boot_of(options.seed, options.boot_s, address),
            initially_on=asked in self._on,
            silent_power_ons=1 if fault is BmcFault.SILENT_POWER else 0,
        )
        bmc = self.bmcs[asked] = Bmc(
            users=self._users,
            guid=sha256(b"bmc guid " + address.encode()).digest()[:16],
            chassis=LabChassis(Machine(spec, options.seed), partial(self._power_changed, asked), epoch=self._epoch),
            random=self._random,
            suites=options.suites,
            max_sessions=options.max_sessions,
            port=self._port,
            behaviour=behaviour,
            ipmi_15=options.ipmi_15,
        )
        return bmc

    def _power_changed(self, asked: bytes) -> None:
        if self.changed is not None:
            self.changed(asked)

    def up_at(self, asked: bytes) -> float | None:
        """When the present boot of the server at this address is over; None: it is off, or nobody has asked for it."""
        bmc = self.bmcs.get(asked)
        return bmc.chassis.machine.os_up_at if bmc is not None and isinstance(bmc.chassis, LabChassis) else None

    def sessions(self, now: float) -> int:
        """Open ones and handshakes under way, in all BMCs. What has expired is dropped."""
        total = 0
        for bmc in self.bmcs.values():
            if bmc is not None and bmc.session_count:
                for ident in list(bmc.sessions):
                    bmc.find(ident, now)
                total += bmc.session_count
        return total

    def power_ons(self) -> int:
        """Power-on commands that reached a machine."""
        return sum(
            bmc.chassis.machine.power_ons
            for bmc in self.bmcs.values()
            if bmc is not None and isinstance(bmc.chassis, LabChassis)
        )

    def on(self, now: float) -> int:
        """Machines that are on, those included that nobody has asked about; not those of dead BMCs."""
        return sum(
            packed in self._on if bmc is None else bmc.chassis.power_is_on(now) for packed, bmc in self.bmcs.items()
        )


def boot_of(seed: int, boot_s: tuple[float, float], address: str) -> float:
    """Seconds that the machine at this address takes to boot: even between the two, and the same at every power-on."""
    least, most = boot_s
    return least if least == most else round(least + (most - least) * draw(seed, "boot", address), 3)


def assign(options: SwarmOptions) -> dict[str, BmcFault]:
    """Address -> its fault, for the BMCs that have one: by seed, as many as were asked for."""
    total = len(options.addresses)
    wanted = [fault for fault in BmcFault for _ in range(count(options.faults.get(fault, 0), total))]
    return dict(zip(_order("fault", options)[: len(wanted)] if wanted else (), wanted, strict=True))


def _order(word: str, options: SwarmOptions) -> list[str]:
    return sorted(options.addresses, key=lambda address: (draw(options.seed, word, address), address))
