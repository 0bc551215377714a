"""From a host's inventory variables to a :class:`Host`: what is missing or wrong is collected, never guessed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from bootorch.core.errors import Problem
from bootorch.core.inventory import Json, Unresolved, is_vaulted, resolve
from bootorch.core.model import Endpoint, Host
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.units import watts

IPMI_PORT = 623  # IPMI 2.0 section 13.1.2: primary RMCP port
SSH_PORT = 22
CREDENTIAL = "bmc_password"  # name of the systemd credential that holds what the inventory does not
OWN_FACTS = ("rack", "feed", "model", "firmware")  # facts with a field of their own in Host
BMC_FACTS = ("boot_mode", "bmc_ipmi", "bmc_suites", "bmc_kg_file")  # how to talk to a host's BMC
ENGINE_FACTS = ("image_server",)  # facts that slots ask for, whatever the plan names
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

_BMC_USER = "set bmc_user to the login name of the BMC"
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
    """Reads hosts of one inventory. ``where`` names the inventory; ``facts``: the extra facts that the plan names."""

    findings: Findings
    where: str
    directory: str
    facts: tuple[str, ...] = ()

    def read(self, name: str, group: str, variables: Mapping[str, Json], power: str) -> Host:
        """A host as complete as its variables allow; every gap is in ``findings``."""
        values = _Variables(self, name, variables)
        peak = values.watts("watts_boot_peak")
        return Host(
            name=name,
            group=group,
            bmc=self._bmc(values),
            bmc_user=values.needed_text("bmc_user", _BMC_USER),
            bmc_password=self._password(values),
            address=values.address("ansible_host", "set ansible_host to the IP address of the host", default=name),
            ssh_port=values.port("ansible_port", SSH_PORT),
            ssh_user=values.text("ansible_user"),
            ssh_key=_from(self.directory, values.text("ansible_ssh_private_key_file")),
            boot_evidence=values.text("boot_evidence"),
            power=values.text("power") or power,
            rack=values.text("rack"),
            feeds=(feed,) if (feed := values.text("feed").strip("/")) else (),
            model=values.text("model"),
            firmware=values.text("firmware"),
            watts_boot_peak=peak,
            watts_steady=values.watts("watts_steady") or peak,  # not stated: never less than what is known
            facts={**self._facts(values, (*self.facts, *ENGINE_FACTS)), **self._bmc_facts(values)},
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

    def _facts(self, values: _Variables, names: Iterable[str]) -> dict[str, str]:
        return {name: value for name in names if (value := values.text(name))}

    def _bmc_facts(self, values: _Variables) -> dict[str, str]:
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
        return facts

    def _password(self, values: _Variables) -> SecretRef | None:
        value = values.get("bmc_password")
        if is_vaulted(value) and isinstance(value, Mapping):
            return SecretRef(SecretKind.VAULT, str(next(iter(value.values()))))
        if isinstance(value, str) and value.startswith("$ANSIBLE_VAULT;"):
            return SecretRef(SecretKind.VAULT, value)
        if value is not None:
            values.problem("bmc_password is in clear text", CLEAR_TEXT_REMEDY)
            return None
        if path := values.text("bmc_password_file"):
            return SecretRef(SecretKind.FILE, _from(self.directory, path))
        return SecretRef(SecretKind.CREDENTIAL, CREDENTIAL)


CLEAR_TEXT_REMEDY = "encrypt it with `ansible-vault encrypt_string`, or use bmc_password_file or a systemd credential"


@dataclass(frozen=True)
class _Variables:
    reader: HostReader
    host: str
    variables: Mapping[str, Json]

    def problem(self, message: str, remedy: str, example: str = "") -> None:
        self.reader.findings.host(self.host, message, self.reader.where, remedy, example)

    def get(self, name: str) -> Json:
        value = self.variables.get(name)
        if not isinstance(value, str) or "{" not in value:
            return value
        try:
            return resolve(self.host, self.variables, name)
        except Unresolved as error:
            self.problem(str(error), f"give {name} a plain value, or one plain {{{{ reference }}}}")
            return None

    def text(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            return ""
        if isinstance(value, str) and "{" in value:
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
        if self.variables.get(name) in (None, ""):
            if (ip := parse_ip(default)) is not None:
                return str(ip)
            self.problem(f"no {name}", remedy)
            return _NOWHERE
        text = self.text(name)
        if (ip := parse_ip(text)) is not None:
            return text if ip.version == 4 else str(ip)  # IPv4 has one spelling, IPv6 many
        if text:
            self.problem(
                f"{name} is no IP address",
                f"{remedy}, not to a name: there may be no DNS when everything is dark",
                text,
            )
        return _NOWHERE

    def port(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
            return int(text)
        self.problem(f"{name} is no port number", "ports are 1 to 65535", text)
        return default

    def watts(self, name: str) -> float:
        value = self.get(name)
        if value is None or value == 0:
            return 0.0
        try:
            return watts(value)
        except ValueError:
            self.problem(f"{name} is no power in watts", "write 750 or 1.2kW", example=repr(value)[:40])
            return 0.0


@lru_cache(maxsize=1 << 17)  # each address of 32,000 hosts is looked at again by the fence
def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text states, ``None`` for anything else (a name, an empty text)."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_missing(address: str) -> bool:
    """Whether an address stands for one that could not be read (reported already)."""
    return address == _NOWHERE


def _from(directory: str, path: str) -> str:
    """A path of the inventory, relative ones against the plan's directory; ``~`` is left to whoever opens the file."""
    return path if not path or path.startswith("~") else posixpath.normpath(posixpath.join(directory, path))
