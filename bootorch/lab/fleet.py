"""What a lab consists of: groups, racks, addresses, boot times, faults; all from options and a seed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from pathlib import Path

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.model import Attempts
from bootorch.core.secret import Secret
from bootorch.sim.faults import Expected, Fault, assign, expected, machine_spec
from bootorch.sim.machine import MachineSpec

LOOPBACK = IPv4Network("127.0.0.0/8")
LOCALHOST = IPv4Network("127.0.0.0/24")  # where the machine's own services listen: a lab stays out of it
MIN_HOSTS = 8  # one of each group, and two where a quorum spreads over two racks
MAX_HOSTS = 32512  # host addresses of a /17 whose last byte is 1-254
MIN_PORT = 1024

SWITCHES, DNS, STORAGE, DATABASE, DEPLOY, WEB = "switches", "dns", "storage", "database", "deploy", "web"
GROUPS = (SWITCHES, DNS, STORAGE, DATABASE, DEPLOY, WEB)
_PREFIX = {SWITCHES: "switch"}  # of host names; the group's own name otherwise

# Who may be broken without taking others along: nothing depends on web, and one deploy host can wait for a retry.
CANDIDATES: Mapping[Fault, tuple[str, ...]] = {
    Fault.DEAD_BMC: (WEB,),
    Fault.NO_POST: (WEB,),
    Fault.PLAYBOOK_FAILS_ONCE: (WEB,),
    Fault.SILENT_POWER: (WEB, DEPLOY),
    Fault.ALREADY_ON: (STORAGE, DATABASE),
    Fault.KERNEL_PANIC: (WEB,),
    Fault.NO_BOOT_DEVICE: (WEB,),
    Fault.MEMORY_ERROR: (WEB,),
    Fault.IN_SETUP: (WEB,),
    Fault.NETBOOT_FAILED: (WEB,),
    Fault.EMERGENCY_SHELL: (WEB,),
    Fault.POWER_FAULT: (WEB,),
}


@dataclass(frozen=True, slots=True)
class LabOptions:
    """What ``lab up`` is asked for. Ports of 0 mean: choose free ones. ``boot_seconds``: shortest and longest boot.

    ``loss`` is the share of IPMI datagrams dropped in each direction; ``lifetime_s`` ends a forgotten lab;
    ``password``: that of every BMC, at most 20 bytes (drawn at random when not given). ``redfish``: BMCs speak Redfish
    too, a PDU measures the feeds, and the plan counts with what both measure.
    """

    hosts: int
    directory: Path = Path("lab")
    seed: int = 1
    boot_seconds: tuple[float, float] = (2.0, 6.0)
    dead_bmc: int = 0
    silent_power: int = 0
    no_post: int = 0
    already_on: int = 0
    playbook_fails_once: int = 0
    kernel_panic: int = 0
    no_boot_device: int = 0
    memory_error: int = 0
    in_setup: int = 0
    netboot_failed: int = 0
    emergency_shell: int = 0
    power_fault: int = 0
    loss: float = 0.0
    redeploy: bool = False
    redfish: bool = False
    bmc_port: int = 0
    ssh_port: int = 0
    redfish_port: int = 0
    network: str = "127.32.0.0/16"
    lifetime_s: float = 7200.0
    password: Secret | None = None

    def faults(self) -> dict[Fault, int]:
        return {
            Fault.DEAD_BMC: self.dead_bmc,
            Fault.SILENT_POWER: self.silent_power,
            Fault.NO_POST: self.no_post,
            Fault.ALREADY_ON: self.already_on,
            Fault.PLAYBOOK_FAILS_ONCE: self.playbook_fails_once,
            Fault.KERNEL_PANIC: self.kernel_panic,
            Fault.NO_BOOT_DEVICE: self.no_boot_device,
            Fault.MEMORY_ERROR: self.memory_error,
            Fault.IN_SETUP: self.in_setup,
            Fault.NETBOOT_FAILED: self.netboot_failed,
            Fault.EMERGENCY_SHELL: self.emergency_shell,
            Fault.POWER_FAULT: self.power_fault,
        }


@dataclass(frozen=True, slots=True)
class LabHost:
    name: str
    group: str
    rack: str
    feed: str
    bmc_address: str
    address: str
    machine: MachineSpec
    expected: Expected
    playbook_fails_once: bool = False

    @property
    def watts(self) -> tuple[float, float]:
        """Peak while it boots, and steady."""
        return (180.0, 150.0) if self.group == SWITCHES else (450.0, 250.0)

    @property
    def model(self) -> str:
        return {SWITCHES: "lab-switch", STORAGE: "lab-2u", DATABASE: "lab-2u"}.get(self.group, "lab-1u")


@dataclass(frozen=True, slots=True)
class Fleet:
    """``bmc_network`` and ``host_network`` are the two halves of the lab's network: the plan's fence."""

    hosts: tuple[LabHost, ...]
    bmc_network: IPv4Network
    host_network: IPv4Network

    @property
    def pdu_address(self) -> str:
        return pdu_address(self.bmc_network)

    def group(self, name: str) -> tuple[LabHost, ...]:
        return tuple(host for host in self.hosts if host.group == name)


def build(options: LabOptions) -> Fleet:
    """The fleet that these options describe: always the same one. Raises InvalidInput with every problem at once."""
    if problems := list(_problems(options)):
        raise InvalidInput(problems)
    bmc_network, host_network = IPv4Network(options.network).subnets(prefixlen_diff=1)
    sizes = _sizes(options.hosts)
    racks = sizes[SWITCHES]
    named = [
        (f"{_PREFIX.get(group, group)}-{number + 1:0{max(2, len(str(size)))}}", group, number % racks)
        for group, size in sizes.items()
        for number in range(size)
    ]
    members = {group: [name for name, of, _ in named if of == group] for group in sizes}
    candidates = {fault: [name for group in groups for name in members[group]] for fault, groups in CANDIDATES.items()}
    try:
        victims = assign(options.seed, options.faults(), candidates)
    except ValueError as error:
        remedy = f"ask for fewer, or for more hosts than {options.hosts}"
        raise InvalidInput(Problem(f"too many faults for this lab: {error}", "lab up", remedy)) from None
    attempts = Attempts()
    hosts = []
    for (name, group, rack), bmc, own in zip(
        named, host_addresses(bmc_network), host_addresses(host_network), strict=False
    ):
        fault = victims.get(name)
        machine = machine_spec(name, options.seed, options.boot_seconds, fault)
        hosts.append(
            LabHost(
                name=name,
                group=group,
                rack=f"r{rack + 1:02}",
                feed=f"hall/{'ab'[rack % 2]}",
                bmc_address=str(bmc),
                address=str(own),
                machine=machine,
                expected=expected(machine, attempts, redeploy=options.redeploy),
                playbook_fails_once=fault is Fault.PLAYBOOK_FAILS_ONCE,
            )
        )
    return Fleet(tuple(hosts), bmc_network, host_network)


def pdu_address(bmc_network: IPv4Network) -> str:
    """The last address of the BMCs' network that a server could have."""
    return str(bmc_network.broadcast_address - 1)


def _sizes(hosts: int) -> dict[str, int]:
    """Group -> number of hosts. A rack holds some ten hosts in small labs and forty in large ones; a switch each."""
    sizes = {
        SWITCHES: max(2, min(hosts // 10, 20), hosts // 40),
        DNS: 3 if hosts >= 20 else 1,
        STORAGE: max(2, hosts // 10),
        DATABASE: max(1, hosts // 12),
        DEPLOY: max(1, min(hosts // 30, 12)),
    }
    return {**sizes, WEB: hosts - sum(sizes.values())}


def host_addresses(network: IPv4Network) -> Iterator[IPv4Address]:
    """Addresses in order whose last byte is neither 0 nor 255, which some tools take for networks and broadcasts."""
    first = int(network.network_address)
    return (IPv4Address(n) for n in range(first, first + network.num_addresses) if n % 256 not in (0, 255))


def _problems(options: LabOptions) -> Iterator[Problem]:
    def problem(option: str, message: str, remedy: str) -> Problem:
        return Problem(message, f"lab up {option}", remedy)

    if not MIN_HOSTS <= options.hosts <= MAX_HOSTS:
        yield problem(
            "--hosts", f"a lab has {MIN_HOSTS} to {MAX_HOSTS} hosts, not {options.hosts}", "give another number"
        )
    for fault, count in options.faults().items():
        if count < 0:
            yield problem(f"--{fault.replace('_', '-')}", f"a number of hosts is not {count}", "give 0 or more")
    if options.playbook_fails_once and not options.redeploy:
        yield problem("--playbook-fails-once", "no playbook can fail where none is run", "add --redeploy")
    shortest, longest = options.boot_seconds
    if not 0 <= shortest <= longest <= 3600:
        message = f"boot times from {shortest} to {longest} s make no sense"
        yield problem("--boot-seconds", message, "give MIN-MAX in seconds, at most an hour")
    if not 0 <= options.loss < 1:
        yield problem("--loss", f"a share of lost datagrams is not {options.loss}", "give a share from 0 to 0.99")
    if options.lifetime_s <= 0:
        yield problem("--lifetime", f"a lab cannot live {options.lifetime_s} s", "give a time in seconds")
    for option, port in (
        ("--bmc-port", options.bmc_port),
        ("--ssh-port", options.ssh_port),
        ("--redfish-port", options.redfish_port),
    ):
        if port != 0 and not MIN_PORT <= port <= 65535:
            yield problem(option, f"port {port} is not one a lab may use", f"choose one from {MIN_PORT} to 65535")
    if options.password is not None and not 0 < len(options.password.reveal()) <= 20:
        yield problem("password", "IPMI carries passwords of 1 to 20 bytes", "choose another one")
    yield from _network_problems(options)


def _network_problems(options: LabOptions) -> Iterator[Problem]:
    where = "lab up --network"
    try:
        network = IPv4Network(options.network)
    except ValueError as error:
        yield Problem(f"{options.network} is no network: {error}", where, "give one such as 127.32.0.0/16")
        return
    if not network.subnet_of(LOOPBACK) or network.overlaps(LOCALHOST):
        message = f"{network} is not inside 127.0.0.0/8, or takes 127.0.0.0/24 from this machine's own services"
        yield Problem(message, where, "give one such as 127.32.0.0/16")
        return
    if network.prefixlen > 30:
        yield Problem(f"{network} is too small for any lab", where, "give one such as 127.32.0.0/16")
        return
    half = next(network.subnets(prefixlen_diff=1))
    wanted = options.hosts + options.redfish  # its PDU
    if len(list(islice(host_addresses(half), max(wanted, 0)))) < wanted:
        message = f"{network} has no room for {options.hosts} BMCs and as many hosts"
        yield Problem(message, where, "give a larger network, such as a /16")


def outcome_counts(hosts: Sequence[LabHost]) -> dict[str, int]:
    """Outcome -> hosts that must end in it."""
    return dict(Counter(str(host.expected.outcome) for host in hosts))
