"""From a host's inventory variables to a :class:`Host`: what is missing or wrong is collected, never guessed."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, cast

from bootorch.core.errors import Problem
from bootorch.core.inventory import Json, Unresolved, is_vaulted, resolve
from bootorch.core.model import Endpoint, Host, Load
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.spec import SupplySpec
from bootorch.core.trust import parse_trust
from bootorch.core.units import seconds, watts

T = TypeVar("T")

IPMI_PORT = 623  # IPMI 2.0 section 13.1.2: primary RMCP port
REDFISH_PORT = 443  # DSP0266, 13.2: https
SSH_PORT = 22
CREDENTIAL = "bmc_password"  # name of the systemd credential that holds what the inventory does not
OWN_FACTS = ("rack", "feed", "model", "firmware")  # facts with a field of their own in Host
BMC_FACTS = (  # how to talk to a host's BMC
    "boot_mode", "bmc_ipmi", "bmc_suites", "bmc_kg_file",
    "draw_by", "redfish_port", "redfish_tls", "redfish_name", "redfish_chassis",
)  # fmt: skip
_BMC_FACTS = frozenset(BMC_FACTS)
DRAW_BY = ("ipmi", "redfish")  # what a host's own draw can be asked over
ENGINE_FACTS = ("image_server",)  # facts that slots ask for, whatever the plan names
WORLD_FACTS = ("age", "vendor", "netboot")  # what the simulated world asks for; forecasts do without what is missing
# Set in clear text these would end up in snapshot and journal. (Ansible's own names and their older spellings.)
PASSWORDS = (
    "bmc_password",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_become_pass",
    "ansible_become_password",
    "ansible_sudo_pass",
)

_CHASSIS = re.compile(r"[A-Za-z0-9._/:~-]{1,200}")
_BMC_USER = "set bmc_user to the login name of the BMC"
# RFC 1123, 2.1: letters, digits and hyphens; a name whose last label is a number would be a mistyped address.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*(?!\d+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_OCTETS = frozenset(map(str, range(256)))
_NOWHERE = ""  # stands for an address that is missing or wrong; such a plan is never returned


@dataclass
class Findings:
    """Collects problems; what is wrong with many hosts in the same way becomes one problem that names them."""

    problems: list[Problem] = field(default_factory=list)
    _hosts: dict[tuple[str, str, str], dict[str, str]] = field(default_factory=dict)

    def add(self, message: str, where: str = "", remedy: str = "", hosts: Iterable[str] = ()) -> None:
        self.problems.append(Problem(message, where, remedy, tuple(hosts)))

    def host(self, name: str, message: str, where: str, remedy: str, example: str = "") -> None:
        """A problem of one host. ``example`` (never a secret) is shown for the first host only."""
        self._hosts.setdefault((message, where, remedy), {})[name] = example

    def all(self) -> tuple[Problem, ...]:
        folded = []
        for (message, where, remedy), hosts in self._hosts.items():
            first, example = next(iter(hosts.items()))
            shown = f"{message} ({first}: {example})" if example else message
            folded.append(Problem(shown, where, remedy, tuple(sorted(hosts))))
        return (*self.problems, *folded)


@dataclass(frozen=True)
class HostReader:
    """Reads hosts of one inventory. ``where`` names the inventory; ``facts``: those that plan and engine name.

    ``names``: addresses of names (hosts entries); ``dns``: other names are kept, to be resolved when it is time.
    Equal values of different hosts become one object: a million hosts share some thousand racks, feeds and models.
    """

    findings: Findings
    where: str
    directory: str
    facts: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    dns: bool = False
    supplies: Mapping[str, SupplySpec] = field(default_factory=dict)
    _pool: dict[Any, Any] = field(default_factory=dict)
    _alike: dict[object, _Alike] = field(default_factory=dict)

    def shared(self, value: T) -> T:
        """The first value that equals this one."""
        found: T = self._pool.setdefault(value, value)
        return found

    def read(self, name: str, group: str, variables: Mapping[str, Json], power: str) -> Host:
        """A host as complete as its variables allow; every gap is in ``findings``."""
        values = _Variables(self, name, variables)
        alike = self._of_its_kind(values, power)
        return Host(
            name=name,
            group=group,
            bmc=self._bmc(values),
            bmc_user=alike.bmc_user,
            bmc_password=self._password(values),
            address=values.address("ansible_host", "set ansible_host to the IP address of the host", default=name),
            ssh_port=values.port("ansible_port", SSH_PORT),
            ssh_user=alike.ssh_user,
            ssh_key=alike.ssh_key,
            boot_evidence=alike.boot_evidence,
            power=alike.power,
            rack=self.shared(values.text("rack")),
            feeds=self._feeds(values),
            model=alike.model,
            firmware=self.shared(values.text("firmware")),
            watts_boot_peak=alike.watts_boot_peak,
            watts_steady=alike.watts_steady,
            watts_profile=alike.watts_profile,
            inrush_amps=alike.inrush_amps,
            loads=self._loads(values, alike.watts_boot_peak, alike.watts_steady) if self.supplies else (),
            boot_s=alike.boot_s,
            facts=self._shared_facts(
                self._world_facts(values) | self._facts(values, self.facts) | self._bmc_facts(values)
            ),
        )

    def _of_its_kind(self, values: _Variables, power: str) -> _Alike:
        """What the host has in common with others whose variables are the same: read once, unless there is something to
        say of it, or it refers to variables of the host's own."""
        key = (power, *map(values.variables.get, _ALIKE))
        if bool in map(type, key):
            return self._read_alike(values, power)  # as a key True is 1, and it is no number of watts
        try:
            known = self._alike.get(key)
        except TypeError:  # a list among them, as watts_profile is
            return self._read_alike(values, power)
        if known is None:
            known = self._read_alike(values, power)
            if not values.own:
                self._alike[key] = known
        return known

    def _read_alike(self, values: _Variables, power: str) -> _Alike:
        peak, steady = self._watts(values, "boot_peak"), self._watts(values, "steady")
        return _Alike(
            bmc_user=self.shared(values.needed_text("bmc_user", _BMC_USER)),
            ssh_user=self.shared(values.text("ansible_user")),
            ssh_key=self.shared(_from(self.directory, values.text("ansible_ssh_private_key_file"))),
            boot_evidence=self.shared(values.text("boot_evidence")),
            power=self.shared(values.text("power") or power),
            model=self.shared(values.text("model")),
            watts_boot_peak=peak,
            watts_steady=steady or peak,  # not stated: never less than what is known
            watts_profile=self._profile(values, peak),
            inrush_amps=values.number("inrush_amps", "write the amperes that it takes as it is switched on"),
            boot_s=self._boot_s(values),
        )

    def read_bmc(self, name: str, variables: Mapping[str, Json]) -> Host:
        """The BMC's side of a host only: all that a power command needs; the rest may be missing."""
        values = _Variables(self, name, variables)
        return Host(
            name=name,
            group="",
            bmc=self._bmc(values),
            bmc_user=values.needed_text("bmc_user", _BMC_USER),
            bmc_password=self._password(values),
            address=_NOWHERE,
            model=values.text("model"),
            facts=self._bmc_facts(values),
        )

    def _bmc(self, values: _Variables) -> Endpoint:
        address = values.address("bmc_address", "set bmc_address to the IP address of the host's BMC")
        return Endpoint(address, values.port("bmc_port", IPMI_PORT))

    def _watts(self, values: _Variables, what: str) -> float:
        """``watts_…`` as it is, or ``amps_…`` times ``volts``."""
        amps = f"amps_{what}"
        if amps not in values.variables:
            return values.watts(f"watts_{what}")
        if values.watts(f"watts_{what}"):
            values.problem(f"both watts_{what} and {amps}", "state one of them")
        if "volts" not in values.variables:
            values.problem(f"{amps} without volts", "state volts too, or watts instead")
            return 0.0
        return values.number(amps, "write amperes") * values.number("volts", "write volts")

    def _feeds(self, values: _Variables) -> tuple[str, ...]:
        """One path per cord, from ``feeds`` (a list, or text with commas) or ``feed``."""
        single = values.text("feed").strip("/")
        raw = values.get("feeds")
        if raw is None:
            return self.shared((single,)) if single else ()
        key = ("feeds", repr(raw), single)
        if (known := self._pool.get(key)) is not None:
            return cast("tuple[str, ...]", known)
        listed = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(listed, Sequence) or not all(isinstance(item, str) for item in listed):
            values.problem("feeds must be a list of texts", "write [hall-a/row-3, hall-b/row-3]")
            return ()
        found = tuple(dict.fromkeys(path for item in listed if (path := str(item).strip().strip("/"))))
        if single and single not in found:
            values.problem("feed is not among feeds", "state feeds only, one for each cord", single)
            return ()
        return cast("tuple[str, ...]", self._pool.setdefault(key, self.shared(found)))

    def _profile(self, values: _Variables, peak: float) -> tuple[tuple[float, float], ...]:
        raw = values.get("watts_profile")
        if raw is None:
            return ()
        key = ("watts_profile", repr(raw), peak)
        if (known := self._pool.get(key)) is not None:
            return cast("tuple[tuple[float, float], ...]", known)
        steps: list[tuple[float, float]] = []
        try:
            if not isinstance(raw, Sequence) or isinstance(raw, str):
                raise ValueError("no list")
            for item in raw:
                if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
                    raise ValueError("a step is no pair")
                steps.append((_seconds(item[0]), _watts(item[1])))
        except ValueError as error:
            remedy = "write [[45s, 420], [2m, 310]]: from so long after the power-on, at most so many watts"
            values.problem("watts_profile is no list of times and watts", remedy, str(error)[:80])
            return ()
        if any(later <= earlier for (earlier, _), (later, _) in pairwise(steps)):
            values.problem("the times of watts_profile do not rise", "put its steps in the order of time")
            return ()
        if peak and any(step > peak for _, step in steps):
            values.problem("watts_profile exceeds watts_boot_peak", "raise watts_boot_peak: it is the most of all")
            return ()
        return cast("tuple[tuple[float, float], ...]", self._pool.setdefault(key, tuple(steps)))

    def _loads(self, values: _Variables, peak: float, steady: float) -> tuple[Load, ...]:
        found = []
        for name, supply in self.supplies.items():
            source = values.text(supply.fact).strip("/")
            if not source:
                remedy = f"set the variable {supply.fact} of these hosts, such as {supply.fact}-1/zone-2"
                values.problem(f"no {supply.fact}, which the supply {name} needs", remedy)
            elif supply.draw == "watts":
                if not peak:
                    remedy = "set watts_boot_peak, as measured or from the server's name plate"
                    values.problem(f"no watts_boot_peak, which the supply {name} needs", remedy)
                found.append(Load(f"{name}:{source}", peak, steady))
            else:
                taken = supply.draw
                if isinstance(taken, str):
                    if values.get(taken) is None:
                        remedy = f"set the variable {taken} of these hosts to a number"
                        values.problem(f"no {taken}, which the supply {name} needs", remedy)
                    taken = values.number(taken, "write a number, such as 350 or 1.2k")
                found.append(Load(f"{name}:{source}", taken, taken))
        return self.shared(tuple(found)) if found else ()

    def _boot_s(self, values: _Variables) -> float:
        value = values.get("boot_estimate")
        if value is None:
            return 0.0
        try:
            return _seconds(value)
        except ValueError:
            values.problem("boot_estimate is no duration", "write 5m or 300", repr(value)[:40])
            return 0.0

    def _shared_facts(self, facts: dict[str, str]) -> Mapping[str, str]:
        found: Mapping[str, str] = self._pool.setdefault(tuple(facts.items()), facts)
        return found

    def _facts(self, values: _Variables, names: Iterable[str]) -> dict[str, str]:
        return {name: self.shared(value) for name in names if (value := values.text(name))}

    def _world_facts(self, values: _Variables) -> dict[str, str]:
        """Plain words only: where a site gives such a name to something else, or derives it, no run is refused."""
        found = {}
        for name in WORLD_FACTS:
            value = values.variables.get(name)
            if isinstance(value, str) and "{" not in value and (word := value.strip()):
                found[name] = self.shared(word)
        return found

    def _bmc_facts(self, values: _Variables) -> dict[str, str]:
        if _BMC_FACTS.isdisjoint(values.variables):
            return {}
        facts = self._facts(values, BMC_FACTS)
        if facts.get("bmc_ipmi", "2.0") not in ("1.5", "2.0"):
            values.problem(
                "bmc_ipmi is no version of IPMI", "write 2.0, or 1.5 for a board that has no better", facts["bmc_ipmi"]
            )
        suites = facts.get("bmc_suites", "17").replace(",", " ").split()
        if not suites or not {"17", "3"}.issuperset(suites):
            values.problem("bmc_suites names a suite that is not permitted", "write 17, 3 or 17,3", facts["bmc_suites"])
        if "bmc_kg_file" in facts:
            facts["bmc_kg_file"] = _from(self.directory, facts["bmc_kg_file"])
        self._check_redfish(values, facts)
        return facts

    def _check_redfish(self, values: _Variables, facts: Mapping[str, str]) -> None:
        if facts.get("draw_by", "ipmi") not in DRAW_BY:
            values.problem("draw_by is no way to ask a BMC", f"write {' or '.join(DRAW_BY)}", facts["draw_by"])
        if "redfish_port" in facts:
            values.port("redfish_port", REDFISH_PORT)
        try:
            parse_trust(facts.get("redfish_tls", ""))
        except ValueError as error:
            values.problem("redfish_tls trusts no certificate", str(error), facts["redfish_tls"][:40])
        if "redfish_chassis" in facts and not _CHASSIS.fullmatch(facts["redfish_chassis"]):
            remedy = "write the Id of the server's chassis, or its path below /redfish/v1/Chassis"
            values.problem("redfish_chassis is no chassis", remedy, facts["redfish_chassis"][:40])

    def _password(self, values: _Variables) -> SecretRef | None:
        value = values.get("bmc_password")
        if is_vaulted(value) and isinstance(value, Mapping):
            return self.shared(SecretRef(SecretKind.VAULT, str(next(iter(value.values())))))
        if isinstance(value, str) and value.startswith("$ANSIBLE_VAULT;"):
            return self.shared(SecretRef(SecretKind.VAULT, value))
        if value is not None:
            values.problem("bmc_password is in clear text", CLEAR_TEXT_REMEDY)
            return None
        if path := values.text("bmc_password_file"):
            key = ("bmc_password_file", path)
            known = self._pool.get(key)
            if known is None:
                known = self._pool[key] = SecretRef(SecretKind.FILE, _from(self.directory, path))
            return cast("SecretRef", known)
        return _DEFAULT_CREDENTIAL


_DEFAULT_CREDENTIAL = SecretRef(SecretKind.CREDENTIAL, CREDENTIAL)
CLEAR_TEXT_REMEDY = "encrypt it with `ansible-vault encrypt_string`, or use bmc_password_file or a systemd credential"


class _Alike(NamedTuple):
    """What hosts have in common whose variables named in ``_ALIKE`` are the same."""

    bmc_user: str
    ssh_user: str
    ssh_key: str
    boot_evidence: str
    power: str
    model: str
    watts_boot_peak: float
    watts_steady: float
    watts_profile: tuple[tuple[float, float], ...]
    inrush_amps: float
    boot_s: float


_ALIKE = (
    "bmc_user", "ansible_user", "ansible_ssh_private_key_file", "boot_evidence", "power", "model", "watts_boot_peak",
    "watts_steady", "amps_boot_peak", "amps_steady", "volts", "watts_profile", "inrush_amps", "boot_estimate",
)  # fmt: skip


@dataclass(slots=True)
class _Variables:
    reader: HostReader
    host: str
    variables: Mapping[str, Json]
    own: bool = False  # a problem was found, or a value that refers to others: no other host has the same

    def problem(self, message: str, remedy: str, example: str = "") -> None:
        self.own = True
        self.reader.findings.host(self.host, message, self.reader.where, remedy, example)

    def get(self, name: str) -> Json:
        value = self.variables.get(name)
        if not isinstance(value, str) or "{" not in value:
            return value
        self.own = True
        try:
            return resolve(self.host, self.variables, name)
        except Unresolved as error:
            self.problem(str(error), f"give {name} a plain value, or one plain {{{{ reference }}}}")
            return None

    def text(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            return ""
        if isinstance(value, str):
            if "{" not in value:
                return value.strip()
            value = self.get(name)
        if value is None or isinstance(value, str):
            return value.strip() if value else ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if is_vaulted(value):
            self.problem(f"{name} is vaulted, and only passwords may be", f"move {name} to a file in clear text")
        else:
            self.problem(f"{name} must be text", f"quote the value of {name}", example=type(value).__name__)
        return ""

    def needed_text(self, name: str, remedy: str) -> str:
        if self.variables.get(name) in (None, ""):
            self.problem(f"no {name}", remedy)
            return ""
        return self.text(name)

    def address(self, name: str, remedy: str, default: str = "") -> str:
        value = self.variables.get(name)
        if isinstance(value, str) and is_ipv4(value):
            return value
        if value in (None, ""):
            if (ip := parse_ip(default)) is not None:
                return str(ip)
            if (known := self.reader.names.get(default.lower())) is not None:
                return known  # Ansible takes the host's own name where ansible_host is not set
            self.problem(f"no {name}", remedy)
            return _NOWHERE
        text = self.text(name)
        if (ip := parse_ip(text)) is not None:
            return text if ip.version == 4 else str(ip)  # IPv4 has one spelling, IPv6 many
        if not text:
            return _NOWHERE
        if (known := self.reader.names.get(text.lower())) is not None:
            return known
        if self.reader.dns and _HOST_NAME.fullmatch(text):
            return text.lower()
        self.problem(
            f"{name} is no IP address",
            f"{remedy}, not to a name: there may be no DNS when everything is dark; or give the name an entry in "
            "control.hosts_file; or say which group answers for names (control.dns)",
            text,
        )
        return _NOWHERE

    def port(self, name: str, default: int) -> int:
        if name not in self.variables:
            return default
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
            return int(text)
        self.problem(f"{name} is no port number", "ports are 1 to 65535", text)
        return default

    def number(self, name: str, remedy: str) -> float:
        """A plain quantity; 0 where it is not stated."""
        value = self.variables.get(name)
        if value is None:
            return 0.0
        value = self.get(name)
        if value is None or value == 0:
            return 0.0
        try:
            return _watts(value)  # the same spelling, without a unit
        except ValueError:
            self.problem(f"{name} is no number", remedy, example=repr(value)[:40])
            return 0.0

    def watts(self, name: str) -> float:
        value = self.variables.get(name)
        if value is None:
            return 0.0
        value = self.get(name)
        if value is None or value == 0:
            return 0.0
        try:
            return _watts(value)
        except ValueError:
            self.problem(f"{name} is no power in watts", "write 750 or 1.2kW", example=repr(value)[:40])
            return 0.0


def _watts(value: Json) -> float:
    """``units.watts``; hosts state the same few values again and again."""
    return _watts_of(value) if isinstance(value, str) else watts(value)


@lru_cache(maxsize=1 << 10)
def _watts_of(text: str) -> float:
    return watts(text)


@lru_cache(maxsize=1 << 10)
def _seconds_of(text: str) -> float:
    return seconds(text)


def _seconds(value: Json) -> float:
    return _seconds_of(value) if isinstance(value, str) else seconds(value)


def is_ipv4(text: str) -> bool:
    """Whether a text is an IPv4 address in its one spelling. (As ``ipaddress`` decides, ten times as fast.)"""
    parts = text.split(".")
    return len(parts) == 4 and _OCTETS.issuperset(parts)


@lru_cache(maxsize=1 << 17)
def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text states, ``None`` for anything else (a name, an empty text)."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_missing(address: str) -> bool:
    """Whether an address stands for one that could not be read (reported already)."""
    return address == _NOWHERE


def is_name(address: str) -> bool:
    """Whether the address of a host is a name, which is resolved only when it is time.

    Only what was checked is an address of a host: the last label of a name is no number.
    """
    return address != _NOWHERE and ":" not in address and not address.rpartition(".")[2].isdigit()


def _from(directory: str, path: str) -> str:
    """A path of the inventory, relative ones against the plan's directory; ``~`` is left to whoever opens the file."""
    return path if not path or path.startswith("~") else posixpath.normpath(posixpath.join(directory, path))
