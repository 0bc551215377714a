"""The words of the house as values: hosts, groups, dependencies, limits. Frozen; units are in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address

from bootorch.core.secret import SecretRef
from bootorch.core.values import value


class Environment(StrEnum):
    PRODUCTION = "production"
    DRILL = "drill"
    LAB = "lab"


class Stage(StrEnum):
    """Stages of a host, in order. ``WAIT`` is before the first: dependencies do not hold yet."""

    WAIT = "wait"
    BMC = "bmc"
    POWER = "power"
    BOOT = "boot"
    READY = "ready"
    REDEPLOY = "redeploy"
    VERIFY = "verify"


class Outcome(StrEnum):
    """How a host ends. Every host of a plan is in exactly one of these at the end of a run."""

    READY = "ready"
    ADOPTED = "adopted"
    QUARANTINED = "quarantined"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class BootDevice(StrEnum):
    NONE = "none"  # leave the server's own boot order alone
    DISK = "disk"
    PXE = "pxe"
    CDROM = "cdrom"
    BIOS = "bios"


class SecondBoot(StrEnum):
    """What may be done to a host that is on and did not boot. ``CYCLE`` is the only automatic power cycle there is."""

    NONE = "none"
    CYCLE = "cycle"


class Console(StrEnum):
    """From when a host's serial console is watched, so that a failed boot can be diagnosed."""

    NONE = "none"
    BOOT = "boot"  # from its power-on to its proof of boot


class AdoptedPolicy(StrEnum):
    """What happens to a host found running: verified only (default), or redeployed like the others."""

    VERIFY = "verify"
    REDEPLOY = "redeploy"


@value(frozen=True, slots=True)
class Endpoint:
    """An address literal and a port, so that no DNS is needed in the dark; a name only where the plan says which of its
    own groups answers for names (``Plan.dns_group``). Such a name is resolved before a driver sees it."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Site:
    """The fence: the only addresses that a plan may talk to. Checked at planning and again at connect time."""

    bmc_networks: tuple[Network, ...]
    host_networks: tuple[Network, ...]

    def allows_bmc(self, address: str) -> bool:
        return _inside(address, self.bmc_networks)

    def allows_host(self, address: str) -> bool:
        return _inside(address, self.host_networks)


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip.version == network.version and ip in network for network in networks)


# Readiness checks. ``{address}`` in a URL stands for the host's own address.


@dataclass(frozen=True, slots=True)
class SshCheck:
    """A login over SSH with a verified host key, and a command that ends with 0."""


@dataclass(frozen=True, slots=True)
class TcpCheck:
    port: int


@dataclass(frozen=True, slots=True)
class HttpCheck:
    url: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """The host answers a query for ``name`` with ``expect`` (an address); an open port is no proof."""

    name: str
    expect: str = ""
    port: int = 53


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """A command over SSH that ends with 0 and, where ``expect`` is given, prints text containing it."""

    command: str
    expect: str = ""


Check = SshCheck | TcpCheck | HttpCheck | DnsCheck | CommandCheck


def describe(check: Check) -> str:
    """The check as an operator wrote it."""
    match check:
        case SshCheck():
            return "ssh"
        case TcpCheck(port=port):
            return f"tcp {port}"
        case HttpCheck(url=url):
            return f"http {url}"
        case DnsCheck(name=name):
            return f"dns {name}"
        case CommandCheck(command=command):
            return f"command {command!r}"


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many members of a parent must be ready: all, a count, or a share (0 < share <= 1), rounded up."""

    count: int | None = None
    share: float | None = None

    def needed(self, members: int) -> int:
        if self.count is not None:
            return self.count
        if self.share is not None:
            # Guard against 0.1 * 30 = 3.0000000000000004 asking for a fourth member.
            return max(1, -int(-(self.share * members - 1e-9) // 1))
        return members

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        return "all" if self.share is None else f"{self.share:.0%}"


ALL = Quorum()


@dataclass(frozen=True, slots=True)
class Requirement:
    """``requires``: holds back until the quorum of ``group`` is ready, spread over at least ``across_racks`` racks.

    With ``per_host`` (a fact's name, such as ``rack``) a host waits only for the parents that share its value; with
    ``parent_fact`` as well, for those whose ``parent_fact`` has the value of the host's ``per_host``.

    ``control`` names what the recovery itself needs (``switch``, ``dhcp``, ``dns``, ``credential``, ``feed``; see
    ``core.controlpath``): such a host's BMC is not even read before. Empty: a dependency of the service, which holds
    back the power-on only. ``hosts``: the hosts of the group that have the need; empty: all of them.
    """

    group: str
    quorum: Quorum = ALL
    across_racks: int = 0
    per_host: str | None = None
    control: str = ""
    hosts: tuple[str, ...] = ()
    parent_fact: str = ""  # empty: the same fact

    @property
    def parent_key(self) -> str:
        """The fact by which parents are told apart; empty where a host waits for the whole group."""
        return self.parent_fact or self.per_host or ""


@dataclass(frozen=True, slots=True)
class First:
    """Which member of a group starts alone, the others when it is ready: stores that bootstrap from the newest copy.

    ``candidates`` are tried in this order, the next when one has failed. ``ask``: a person names the member while the
    run goes on (``events.Chosen``), and again when that one has failed.
    """

    candidates: tuple[str, ...] = ()
    ask: str = ""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a host may spend in each stage."""

    bmc: float = 300.0
    power: float = 120.0
    boot: float = 1200.0
    ready: float = 600.0
    redeploy: float = 1800.0
    verify: float = 600.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often an action may be tried for one host, the first try included."""

    power: int = 4
    boot: int = 2
    redeploy: int = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts that a plan treats as one service."""

    name: str
    hosts: tuple[str, ...]
    tier: int = 0
    requires: tuple[Requirement, ...] = ()
    after: tuple[str, ...] = ()
    first: First | None = None
    ready: tuple[Check, ...] = (SshCheck(),)
    verify: tuple[Check, ...] = ()  # empty: the ready checks again
    redeploy: tuple[str, ...] = ()  # absolute paths of playbooks, run in this order
    together: bool = False  # each playbook waits for all members that may still come, and has all of them in one play
    boot_device: BootDevice = BootDevice.NONE
    second_boot: SecondBoot = SecondBoot.NONE
    console: Console = Console.BOOT
    adopted: AdoptedPolicy = AdoptedPolicy.VERIFY
    deadlines: Deadlines = Deadlines()
    attempts: Attempts = Attempts()

    @property
    def proof_by_ssh(self) -> bool:
        """A boot is proven by boot id and uptime where hosts are reached over SSH at all, else by the first check."""
        if not self.ready or self.redeploy:
            return True
        return any(isinstance(check, SshCheck | CommandCheck) for check in self.ready)


@dataclass(frozen=True, slots=True)
class Load:
    """What a host takes of one supply, such as ``cooling:crac-1``: ``peak`` while it boots, ``steady`` afterwards, in
    the supply's own unit. Supplies form a tree by path, as feeds do."""

    path: str
    peak: float
    steady: float


@value(frozen=True, slots=True)
class Host:
    """A server: how to reach its BMC and itself, and the facts that limits and dependencies use."""

    name: str
    group: str
    bmc: Endpoint
    bmc_user: str
    bmc_password: SecretRef | None
    address: str
    ssh_port: int = 22
    ssh_user: str = ""  # empty: the operator's own login name
    ssh_key: str = ""  # path of a private key; empty: ssh-agent and the default keys
    boot_evidence: str = ""  # command printing boot id and uptime; empty: /proc (see drivers.reach)
    power: str = "ipmi"
    rack: str = ""
    feeds: tuple[str, ...] = ()  # one per cord: each carries the host alone when the others fail
    model: str = ""
    firmware: str = ""
    watts_boot_peak: float = 0.0
    watts_steady: float = 0.0
    # What it draws at most from so many seconds after its chassis reads on, step by step, until its boot is proven:
    # ((45.0, 420.0), (120.0, 310.0)). Before the first step, and where there is none: the boot peak.
    watts_profile: tuple[tuple[float, float], ...] = ()
    inrush_amps: float = 0.0  # for some 20 ms when its supplies are switched on
    loads: tuple[Load, ...] = ()  # what it takes of things other than electricity, such as cooling
    boot_s: float = 0.0  # from power-on to proof, as fitted or stated; 0: not known
    facts: Mapping[str, str] = field(default_factory=dict)  # the facts that the plan's per_host and slots name

    @property
    def feed(self) -> str:
        """The feed of the first cord; empty where none is stated."""
        return self.feeds[0] if self.feeds else ""

    def fact(self, name: str) -> str:
        """The value of a fact by name, empty where the inventory states none."""
        match name:
            case "rack":
                return self.rack
            case "feed":
                return self.feed
            case "model":
                return self.model
            case "firmware":
                return self.firmware
            case "inventory_hostname":
                return self.name
            case _:
                return self.facts.get(name, "")


@dataclass(frozen=True, slots=True)
class RedfishMeter:
    """A resource of a PDU's Redfish service that tells watts: ``url`` is https, its host an address inside the site.

    ``password`` and the path in ``tls`` (see ``core.trust``) are as the plan writes them, relative to it.
    ``server_name``: the name in the certificate; empty: the address.
    """

    url: str
    user: str
    password: SecretRef
    tls: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Meter:
    """Where the measured draw of a feed comes from: a command of the operator's own machine that prints watts, or a
    Redfish service.

    ``command`` is an argument list, no shell. Read every ``every_s`` seconds; a reading older than three times that is
    no longer believed.
    """

    command: tuple[str, ...] = ()
    every_s: float = 30.0
    redfish: RedfishMeter | None = None

    @property
    def source(self) -> str:
        """What is asked, for people."""
        return self.redfish.url if self.redfish is not None else self.command[0]


@dataclass(frozen=True, slots=True)
class FeedLimit:
    """A source of electricity, or another supply. They form trees by path: ``hall-a/row-3`` hangs on ``hall-a``.

    Supplies other than electricity have their name before a colon (``cooling:crac-1``); their budget and ramp are in
    their own unit, whatever the fields are called.
    """

    budget_watts: float | None = None
    ramp_watts_per_min: float | None = None
    inrush_amps: float | None = None  # of all hosts that are switched on within one second
    failover: bool = True  # hosts with several cords count here whole, because their other feed may fail
    dark: bool = False  # without electricity as the run begins: nothing is sent to hosts that hang on it alone
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop by itself.

    ``group_failed_share``: share of quarantined hosts in a group. ``same_model_failures``: quarantined hosts of one
    model. ``cluster_failures``: so many quarantined hosts that share model, firmware, rack, feed or subnet, most of
    those tried and far more than elsewhere, pause exactly that class.
    """

    group_failed_share: float | None = None
    same_model_failures: int | None = None
    cluster_failures: int | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """A named point that holds back every power-on of ``groups`` (empty: all) until a person (``ask``) or a ``check``
    says yes, or a time has come: ``wait_s`` seconds of the run, or ``at``, a wall-clock time in ISO 8601 with offset
    (or ``HH:MM``, the next one after the run began).

    ``control``: a manual step of the control path: the BMCs of ``groups`` are not even read before."""

    name: str
    ask: str = ""
    check: Check | None = None
    groups: tuple[str, ...] = ()
    wait_s: float | None = None
    at: str = ""
    control: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``slots``: counted resources by name, see ``core.slots``; ``adaptive``: those that shrink when what they protect
    shows overload, with the least that they shrink to. ``during``: where a fact's slot is held in other stages than
    ``boot``: which, of ``boot`` and ``redeploy``. ``measure``: each host's own BMC is asked for its draw once it is
    ready, and the answer replaces its modelled steady draw."""

    feeds: Mapping[str, FeedLimit] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    adaptive: Mapping[str, int] = field(default_factory=dict)
    breaker: Breaker = Breaker()
    measure: bool = False
    during: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
