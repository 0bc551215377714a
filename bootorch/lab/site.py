"""The files of a lab: inventory, plan, keys, known_hosts, and ``lab.json``, from which the server works.

Paths are relative to the lab's directory; ``files`` gives every text that a lab starts with.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from math import ceil
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bootorch.core.model import Deadlines, Outcome
from bootorch.core.reasons import Reason
from bootorch.lab.chassis import STANDBY_WATTS
from bootorch.lab.fleet import (
    DATABASE,
    DEPLOY,
    DNS,
    GROUPS,
    STORAGE,
    SWITCHES,
    WEB,
    Fleet,
    LabHost,
    LabOptions,
    pdu_address,
)
from bootorch.lab.redfish import PDU, self_signed
from bootorch.lab.share import playbooks_dir
from bootorch.sim.faults import Expected
from bootorch.sim.machine import BootFailure, MachineSpec

LAB_JSON = Path("lab.json")
PLAN = Path("plan.yml")
INVENTORY = Path("inventory/hosts.yml")
KNOWN_HOSTS = Path("known_hosts")
BMC_PASSWORD = Path("secrets/bmc_password")
HOST_SECRET = Path("secrets/host_key_secret")  # every host key is derived from it
USER_KEY = Path("secrets/id_ed25519")
USER_KEY_PUBLIC = Path("secrets/id_ed25519.pub")
TLS_KEY = Path("secrets/redfish.pem")  # key and certificate of all Redfish services
HOSTS = Path("hosts")  # a directory per host
BMC_LOG = Path("bmc.log")
SERVER_LOG = Path("lab.log")
LOCK = Path("lab.lock")  # held by the server; its text says which process that is

BMC_USER = b"admin"
SSH_USER = "lab"
EVIDENCE = Path("bin/boot-evidence")  # inside a host's directory

LAB_MARK = "BOOTORCH_LAB"  # in the environment of every command of an SSH host: the lab's directory
HOST_MARK = "BOOTORCH_LAB_HOST"  # and the host's

PRIVATE = frozenset({BMC_PASSWORD, HOST_SECRET, USER_KEY, TLS_KEY})
WRITTEN = (  # all but the hosts' directories; lab.json, which makes a directory a lab's, is the last
    PLAN,
    PLAN.with_suffix(".snapshot.json"),  # not ours, but made of nothing else than our files
    INVENTORY,
    KNOWN_HOSTS,
    BMC_PASSWORD,
    HOST_SECRET,
    USER_KEY,
    USER_KEY_PUBLIC,
    TLS_KEY,
    BMC_LOG,
    SERVER_LOG,
    LOCK,
    LAB_JSON,
)

_VERSION = 3
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast, where PyYAML was built with it

# Playbooks by group, in the order in which they run.
_PLAYBOOKS: Mapping[str, tuple[str, ...]] = {
    SWITCHES: ("base",),
    DNS: ("time", "dns"),
    STORAGE: ("storage",),
    DATABASE: ("database",),
    DEPLOY: ("deploy",),
    WEB: ("web",),
}


@dataclass(frozen=True, slots=True)
class Lab:
    """What ``lab.json`` says: all that the server and ``lab status`` have to know, no secret among it."""

    seed: int
    bmc_port: int
    ssh_port: int
    redfish_port: int  # 0: no Redfish
    network: str
    loss: float
    lifetime_s: float
    hosts: tuple[LabHost, ...]

    @property
    def pdu_address(self) -> str:
        return pdu_address(next(IPv4Network(self.network).subnets(prefixlen_diff=1)))


def files(fleet: Fleet, options: LabOptions, directory: Path, *, own_directory: bool) -> dict[Path, str]:
    """Every file of a new lab with its text, ``lab.json`` first. Draws fresh keys; ``options`` have their ports chosen.

    ``own_directory``: the lab made its directory, and may remove it.
    """
    password = options.password.reveal().decode() if options.password else secrets.token_hex(8)
    host_secret = secrets.token_hex(32)
    user_key = Ed25519PrivateKey.generate()
    keys = (
        f"[{host.address}]:{options.ssh_port} {public_text(host_key(host_secret, host.name))}" for host in fleet.hosts
    )
    tls_key, fingerprint = self_signed() if options.redfish else ("", "")
    return {
        LAB_JSON: lab_text(fleet, options, own_directory=own_directory),
        BMC_PASSWORD: password + "\n",
        HOST_SECRET: host_secret + "\n",
        USER_KEY: private_text(user_key),
        USER_KEY_PUBLIC: f"{public_text(user_key)} bootorch-lab\n",
        KNOWN_HOSTS: "".join(f"{line}\n" for line in keys),
        INVENTORY: inventory_text(fleet, options, directory, fingerprint),
        PLAN: plan_text(fleet, options, fingerprint),
        **({TLS_KEY: tls_key} if tls_key else {}),
    }


# Keys


def host_key(host_secret: str, name: str) -> Ed25519PrivateKey:
    """A host's SSH key: the same at every boot, and no file of its own."""
    digest = hmac.new(host_secret.strip().encode(), b"ssh-host-key " + name.encode(), hashlib.sha256).digest()
    return Ed25519PrivateKey.from_private_bytes(digest)


def private_text(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_text(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


# Inventory


def inventory_text(fleet: Fleet, options: LabOptions, directory: Path, fingerprint: str = "") -> str:
    """An Ansible inventory in YAML: what all hosts share stands in ``all.vars``.

    ``fingerprint``: of the certificate of the Redfish services, where there are some.
    """
    home = f"{directory / HOSTS}/{{{{ inventory_hostname }}}}"
    shared: dict[str, Any] = {
        "bmc_port": options.bmc_port,
        "bmc_user": BMC_USER.decode(),
        "bmc_password_file": str(directory / BMC_PASSWORD),
        "ansible_port": options.ssh_port,
        "ansible_user": SSH_USER,
        "ansible_ssh_private_key_file": str(directory / USER_KEY),
        "ansible_ssh_common_args": " ".join(
            f"-o {option}"
            for option in (
                f"UserKnownHostsFile={directory / KNOWN_HOSTS}",
                "GlobalKnownHostsFile=/dev/null",
                "StrictHostKeyChecking=yes",
                "UpdateHostKeys=no",
                "IdentitiesOnly=yes",
            )
        ),
        "ansible_python_interpreter": sys.executable,
        # Ansible would ask for the home of the user ``lab``, whom this machine does not know.
        "ansible_remote_tmp": f"{home}/.ansible/tmp",
        "boot_evidence": str(EVIDENCE),
        "redeploy_root": home,
        "redeploy_services": False,
    }
    if fingerprint:
        shared |= {
            "draw_by": "redfish",
            "redfish_port": options.redfish_port,
            "redfish_tls": f"sha256:{fingerprint}",
        }
    children = {group: {"hosts": {host.name: _host_vars(host) for host in fleet.group(group)}} for group in GROUPS}
    document = {"all": {"vars": shared, "children": children}}
    return "# Written by: bootorch lab up\n" + _yaml(document)


def _host_vars(host: LabHost) -> dict[str, Any]:
    peak, steady = host.watts
    variables: dict[str, Any] = {
        "ansible_host": host.address,
        "bmc_address": host.bmc_address,
        "rack": host.rack,
        "feed": host.feed,
        "watts_boot_peak": peak,
        "watts_steady": steady,
        "model": host.model,
        "firmware": "1.0",
    }
    if host.playbook_fails_once:
        variables["drill_fail_once"] = True
    return variables


# Plan


def plan_text(fleet: Fleet, options: LabOptions, fingerprint: str = "") -> str:
    def own_switch() -> dict[str, Any]:  # a fresh one each time: YAML writes an alias for the same one
        return {"group": SWITCHES, "per_host": "rack"}

    def dns_quorum() -> dict[str, Any]:
        return {"group": DNS, "quorum": len(fleet.group(DNS)) // 2 + 1}

    groups: dict[str, dict[str, Any]] = {
        SWITCHES: {"tier": 0},
        DNS: {"tier": 0, "requires": [own_switch()]},
        STORAGE: {"tier": 1, "requires": [own_switch(), dns_quorum()]},
        DATABASE: {"tier": 1, "requires": [own_switch(), {"group": STORAGE, "quorum": "50%", "across_racks": 2}]},
        DEPLOY: {"tier": 1, "requires": [own_switch(), dns_quorum()]},
        WEB: {
            "tier": 2,
            "requires": [own_switch(), {"group": DATABASE, "quorum": "50%"}, {"group": DEPLOY, "quorum": 1}],
        },
    }
    for name, group in groups.items():
        groups[name] = {"hosts": name, **group, "ready": ["ssh"]}
        if options.redeploy:
            groups[name]["redeploy"] = [str(playbooks_dir() / f"{book}.yml") for book in _PLAYBOOKS[name]]
    document = {
        "name": f"lab-{len(fleet.hosts)}",
        "environment": "lab",
        "site": {"bmc_networks": [str(fleet.bmc_network)], "host_networks": [str(fleet.host_network)]},
        "inventory": str(INVENTORY),
        "known_hosts": str(KNOWN_HOSTS),
        "limits": {
            "feeds": _feeds(fleet, options, fingerprint),
            "slots": {"bmc_per_subnet": 128, "redeploy_forks": 16},
            **({"measure": True} if fingerprint else {}),
        },
        "defaults": {"deadlines": {name: f"{seconds:g}s" for name, seconds in asdict(deadlines(options)).items()}},
        "groups": groups,
    }
    return "# Written by: bootorch lab up\n" + _yaml(document)


def deadlines(options: LabOptions) -> Deadlines:
    """Those of a lab: seconds where a data centre has minutes, and time for the slowest boot that was asked for."""
    boot = max(25.0, 1.5 * options.boot_seconds[1] + 10.0)
    return Deadlines(bmc=12.0, power=12.0, boot=boot, ready=20.0, redeploy=300.0, verify=20.0)


def _feeds(fleet: Fleet, options: LabOptions, fingerprint: str) -> dict[str, dict[str, Any]]:
    """A tree of one hall with two feeds: 95 % of what would be drawn if all booted at once, which no order does.

    Never less than the last host needs to boot while all others run, or it would wait for ever. A PDU also sees the
    BMCs of servers that are off, which no model counts.
    """
    hosts: dict[str, list[tuple[float, float]]] = {}
    for host in fleet.hosts:
        hosts.setdefault(host.feed, []).append(host.watts)
    budgets: dict[str, dict[str, Any]] = {}
    for feed, watts in sorted(hosts.items()):
        last = ceil(sum(steady for _, steady in watts) + max(peak - steady for peak, steady in watts))
        if fingerprint:
            last += STANDBY_WATTS * len(watts)
        budgets[feed] = {"budget_watts": max(last, round(0.95 * sum(peak for peak, _ in watts)))}
    hall = {"budget_watts": sum(feed["budget_watts"] for feed in budgets.values())}
    if fingerprint:
        for path, budget in budgets.items():
            budget["meter"] = {
                "redfish": f"https://{fleet.pdu_address}:{options.redfish_port}{PDU}/{path.rpartition('/')[2]}",
                "user": BMC_USER.decode(),
                "password_file": str(BMC_PASSWORD),
                "tls": f"sha256:{fingerprint}",
                "every": "5s",
            }
    return {"hall": hall, **budgets}


def _yaml(document: object) -> str:
    return str(yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120))


# lab.json


def lab_text(fleet: Fleet, options: LabOptions, *, own_directory: bool) -> str:
    document = {
        "version": _VERSION,
        "own_directory": own_directory,
        "seed": options.seed,
        "bmc_port": options.bmc_port,
        "ssh_port": options.ssh_port,
        "redfish_port": options.redfish_port if options.redfish else 0,
        "network": options.network,
        "loss": options.loss,
        "lifetime_s": options.lifetime_s,
        "redeploy": options.redeploy,
        "faults": options.faults(),
        "expected": {host.name: asdict(host.expected) for host in fleet.hosts},
        "hosts": [{key: value for key, value in asdict(host).items() if key != "expected"} for host in fleet.hosts],
    }
    return json.dumps(document, indent=1) + "\n"


def read_lab(directory: Path) -> Lab:
    """The lab of a directory. FileNotFoundError when there is none; ValueError when ``lab.json`` is no lab's."""
    document = json.loads((directory / LAB_JSON).read_text())
    try:
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']} is not {_VERSION}")
        outcomes = {
            name: Expected(Outcome(entry["outcome"]), Reason(entry["reason"]))
            for name, entry in document["expected"].items()
        }
        hosts = tuple(
            LabHost(**{**entry, "machine": _machine(entry["machine"]), "expected": outcomes[entry["name"]]})
            for entry in document["hosts"]
        )
        return Lab(
            seed=document["seed"],
            bmc_port=document["bmc_port"],
            ssh_port=document["ssh_port"],
            redfish_port=document["redfish_port"],
            network=str(IPv4Network(document["network"])),
            loss=document["loss"],
            lifetime_s=document["lifetime_s"],
            hosts=hosts,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not written by this version of bootorch ({error})") from None


def _machine(entry: dict[str, Any]) -> MachineSpec:
    failure = entry["boot_failure"]
    return MachineSpec(**{**entry, "boot_failure": BootFailure(failure) if failure is not None else None})
