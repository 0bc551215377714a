"""Whom a power command talks to: BMCs given by address, or hosts of an inventory, with what is needed to log in.

Raw addresses need nothing but their login, so the inventory's machinery loads only where there is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.nodesets import NodeSetError, expand, expand_addresses
from bootorch.core.secret import Secret

if TYPE_CHECKING:
    from bootorch.core.hostfacts import Findings
    from bootorch.core.inventory import Inventory
    from bootorch.core.model import Host
    from bootorch.runtime.secrets import Secrets

IPMI_PORT = 623  # IPMI 2.0 section 13.1.2: primary RMCP port
SUITES = (17, 3)  # 0 to 2 leave out authentication, integrity or encryption and are refused everywhere
MAX_USER_BYTES = 16  # IPMI 2.0 section 13.20: a user name has at most 16 bytes
CREDENTIAL = "bmc_password"  # name of the systemd credential, as for hosts of a plan

_TOKEN = re.compile(r"(?:[^\s:,\[\]]|\[[^\]]*\])+")  # what stands between colons, commas and spaces outside brackets
_FOLDED = re.compile(
    r"(?!~)[^*?\[\]]*(?:\[[\d,-]*\][^*?\[\]]*)+", re.ASCII
)  # no wildcard, no expression, no colon inside
_POSITION = re.compile(r"[^\[\]]+\[\d+\]", re.ASCII)

Ask = Callable[[str], str]  # asks a person at the terminal, without echo


class Selection(NamedTuple):
    """What the command line says. Empty or ``None``: not said."""

    bmc: tuple[str, ...] = ()  # addresses, folded ranges, networks, lists of them
    inventory: Path | None = None
    patterns: tuple[str, ...] = ()
    port: int | None = None
    user: str | None = None
    password_file: Path | None = None
    k_g_file: Path | None = None
    suites: tuple[int, ...] = ()
    version: str = ""  # "2.0" or "1.5"
    vault_password_file: Path | None = None


class Target(NamedTuple):
    """A BMC and how to log in. ``name`` is the host's, or the address itself; ``legacy``: it boots in BIOS mode."""

    name: str
    address: str
    port: int
    user: str
    password: Secret
    k_g: Secret | None
    suites: tuple[int, ...]
    version: str
    model: str = ""
    legacy: bool = False


def resolve(selection: Selection, ask: Ask | None = None) -> list[Target]:
    """Targets in the order given, each BMC once. ``ask``: to ask for a password, where there is a terminal.

    Raises InvalidInput with everything that is wrong; an empty selection is wrong too, it never means all.
    """
    if any(suite not in SUITES for suite in selection.suites):
        refused = next(suite for suite in selection.suites if suite not in SUITES)
        message = f"cipher suite {refused} is not permitted"
        raise InvalidInput(Problem(message, "--suite", "give 17 or 3: others lack protection or use MD5"))
    if selection.bmc and selection.inventory is not None:
        remedy = "give --bmc ADDRESSES, or -i INVENTORY with host patterns"
        raise InvalidInput(Problem("addresses and an inventory are two ways to name targets", "--bmc, -i", remedy))
    if selection.bmc:
        return _raw(selection, ask)
    if selection.inventory is not None:
        return _of_inventory(selection, selection.inventory, ask)
    remedy = "bootorch power VERB -i INVENTORY PATTERN, or bootorch power VERB --bmc ADDRESSES --user NAME"
    raise InvalidInput(Problem("no target is named", "bootorch power", remedy))


# Raw addresses


def _raw(selection: Selection, ask: Ask | None) -> list[Target]:
    problems = []
    if selection.patterns:
        remedy = "host patterns need an inventory: -i INVENTORY"
        problems.append(Problem(f"{selection.patterns[0]!r} is a host pattern", "--bmc", remedy))
    addresses: list[str] = []
    try:
        addresses = expand_addresses(",".join(selection.bmc))
    except NodeSetError as error:
        remedy = "write 10.0.[0-3].[1-250], 10.0.0.0/24, or addresses with commas between them; names need -i INVENTORY"
        problems.append(Problem(str(error), "--bmc", remedy))
    problems += [
        Problem(f"{address} is not the address of one machine", "--bmc", "correct the address")
        for address in addresses
        if not _of_one_machine(address)
    ]
    if not selection.user:
        problems.append(Problem("no BMC user is named", "--user", "give --user NAME"))
    elif wrong := _unfit_user(selection.user):
        problems.append(Problem(wrong, "--user", "give the name as it is on the BMC"))
    if problems:
        raise InvalidInput(problems)
    user = selection.user or ""
    password = _password(selection, ask, f"BMC password of {user}: ")
    k_g = _k_g(selection)
    port = selection.port or IPMI_PORT
    suites, version = selection.suites or SUITES, selection.version or "2.0"
    return [Target(address, address, port, user, password, k_g, suites, version) for address in addresses]


def _of_one_machine(address: str) -> bool:
    """Neither "this host", which is ourselves, nor multicast or broadcast, which is everybody (RFC 6890, RFC 4291)."""
    if ":" in address:
        return address != "::" and not address.startswith("ff")
    return 0 < int(address[: address.index(".")]) < 224  # 224/4 is multicast, 240/4 reserved, its last one broadcast


def _unfit_user(user: str) -> str:
    """Why a BMC can have no such user; empty when it can."""
    try:
        size = len(user.encode())
    except UnicodeEncodeError:
        return "the BMC user name is no UTF-8"
    too_long = f"the BMC user name has {size} bytes, and IPMI allows {MAX_USER_BYTES}"
    return too_long if size > MAX_USER_BYTES else ""


def _k_g(selection: Selection) -> Secret | None:
    from bootorch.runtime.secrets import read_key

    return None if selection.k_g_file is None else read_key(selection.k_g_file)


def _password(selection: Selection, ask: Ask | None, question: str) -> Secret:
    """From the file that was named, the systemd credential, or the person at the terminal."""
    from bootorch.runtime.secrets import fitting, read_credential
    from bootorch.runtime.vault import read_secret_file

    if selection.password_file is not None:
        path = selection.password_file.expanduser()
        return fitting(read_secret_file(path, "BMC password file"), str(path))
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        return fitting(read_credential(Path(os.environ["CREDENTIALS_DIRECTORY"]), (CREDENTIAL,)), "")
    if ask is None:
        remedy = "give --password-file FILE (mode 0600), or a systemd credential (LoadCredential=bmc_password:PATH)"
        raise InvalidInput(Problem("no BMC password, and no terminal to ask for it", "--password-file", remedy))
    try:
        answer = ask(question)
    except EOFError:  # ^D at the question
        remedy = "type it, or give --password-file FILE"
        raise InvalidInput(Problem("no BMC password was given; nothing was sent", "--password-file", remedy)) from None
    return fitting(answer.encode(errors="surrogateescape"), "")


# Hosts of an inventory


def _of_inventory(selection: Selection, path: Path, ask: Ask | None) -> list[Target]:
    from bootorch.core.hostfacts import Findings, HostReader
    from bootorch.runtime.load import find_vault_password_file
    from bootorch.runtime.secrets import Secrets

    vault_password_file = find_vault_password_file(selection.vault_password_file)
    inventory = read_inventory(path, vault_password_file)
    names = select_hosts(inventory, selection.patterns)
    findings = Findings()
    directory = path.absolute().parent
    reader = HostReader(findings, str(path), str(directory))
    own_user = {"bmc_user": selection.user} if selection.user else {}
    hosts = [reader.read_bmc(name, {**inventory.hosts[name], **own_user}) for name in names]
    for host in hosts:
        if wrong := _unfit_user(host.bmc_user):
            findings.host(host.name, wrong, "bmc_user", "correct bmc_user, or give --user NAME")
        if host.bmc.address and not _of_one_machine(host.bmc.address):
            remedy = "correct bmc_address"
            findings.host(host.name, f"{host.bmc.address} is not the address of one machine", str(path), remedy)
    _each_bmc_once(hosts, selection.port, findings, str(path))
    if problems := findings.all():
        raise InvalidInput(problems)
    secrets = Secrets(vault_password_file, directory)
    login = None if selection.password_file is None else _password(selection, ask, "")
    key = _k_g(selection)
    targets = [_target(host, selection, secrets, login, key, findings) for host in hosts]
    if problems := findings.all():
        raise InvalidInput(problems)
    return targets


def _target(
    host: Host, selection: Selection, secrets: Secrets, login: Secret | None, key: Secret | None, findings: Findings
) -> Target:
    """The target of a host; what cannot be read of its secrets is in ``findings``, and the target is never used."""
    password, k_g = login or secrets.bmc_password(host), key or secrets.bmc_key(host)
    if password is None and (problem := secrets.problem(host)) is not None:
        findings.host(host.name, problem.message, problem.where, problem.remedy)
    elif k_g is None and (path := host.fact("bmc_kg_file")):
        findings.host(host.name, "the file of its K_g cannot be read", path, "check the path; chmod 600")
    suites = tuple(int(text) for text in host.fact("bmc_suites").replace(",", " ").split())
    return Target(
        name=host.name,
        address=host.bmc.address,
        port=selection.port or host.bmc.port,
        user=host.bmc_user,
        password=password or Secret(b""),
        k_g=k_g,
        suites=selection.suites or suites or SUITES,
        version=selection.version or host.fact("bmc_ipmi") or "2.0",
        model=host.model,
        legacy=host.fact("boot_mode") == "legacy",
    )


def _each_bmc_once(hosts: Sequence[Host], port: int | None, findings: Findings, where: str) -> None:
    owners: dict[tuple[str, int], list[str]] = {}
    for host in hosts:
        if host.bmc.address:
            owners.setdefault((host.bmc.address, port or host.bmc.port), []).append(host.name)
    for (address, _), names in owners.items():
        if len(names) > 1:
            remedy = "correct bmc_address: the power of one host would switch another"
            findings.add(f"the BMC {address} belongs to more than one host", where, remedy, names)


def read_inventory(path: Path, vault_password_file: Path | None) -> Inventory:
    """A snapshot file, or any Ansible inventory through Ansible itself. Raises InvalidInput or ToolError."""
    from bootorch.runtime import snapshot

    if not path.exists():
        remedy = "give an Ansible inventory, or a snapshot that `bootorch inventory snapshot` wrote"
        raise InvalidInput(Problem("there is no such inventory", str(path), remedy))
    if path.name.endswith(snapshot.SUFFIX):
        return snapshot.load(path).inventory
    return snapshot.render_paths([path.absolute()], path.absolute().parent, vault_password_file).inventory


def select_hosts(inventory: Inventory, patterns: Sequence[str]) -> tuple[str, ...]:
    """Hosts that patterns and folded node sets mean, each once, in the order named.

    A term with a number or a dash between brackets is a node set where hosts have such names (``web[001-480]``, as
    our own output folds them); positions of a group are written with a colon (``web[0:2]``). A single number that
    could be either is refused. Raises InvalidInput also where nothing is named: an empty selection never means all.
    """
    from bootorch.core.patterns import select

    if not any(pattern.strip() for pattern in patterns):
        remedy = "name hosts or groups; write all to mean every host of the inventory"
        raise InvalidInput(Problem("no host is named; an empty selection never means all", "PATTERN", remedy))
    sets: dict[str, tuple[str, ...]] = {}  # a name of its own for each node set → its hosts

    def named(token: re.Match[str]) -> str:
        sign, folded = token[0][: token[0][0] in "&!"], token[0].lstrip("&!")
        hosts = _folded_hosts(inventory, folded)
        if hosts is None:
            return token[0]
        name = f"folded-set-{len(sets) + 1}"
        while name in inventory.groups or name in inventory.hosts:
            name += "-"
        sets[name] = hosts
        return sign + name

    texts = [_TOKEN.sub(named, pattern) for pattern in patterns]
    known = replace(inventory, groups={**inventory.groups, **sets}) if sets else inventory
    chosen: dict[str, None] = {}
    for text in texts:
        chosen.update(dict.fromkeys(select(known, text)))
    return tuple(chosen)


def _folded_hosts(inventory: Inventory, token: str) -> tuple[str, ...] | None:
    """Hosts of a token that is a node set; ``None`` where it is a name, a group, or a pattern of Ansible's."""
    from bootorch.core.patterns import PatternError, match

    if token in inventory.hosts or not _FOLDED.fullmatch(token):
        return None
    where = f"host pattern {token!r}"
    try:
        names = expand(token)
    except NodeSetError as error:
        raise InvalidInput(Problem(str(error), where, "write web[001-480] or web[1,3,5-9]")) from None
    missing = [name for name in names if name not in inventory.hosts]
    if _POSITION.fullmatch(token):  # web[5]: the host web5, or the member of web that Ansible counts as 5
        try:
            position = match(inventory, token).hosts
        except PatternError:
            position = ()
        if missing:
            return None
        if position and position != (names[0],):
            remedy = (
                f"write {names[0]} for the host, or {token[:-1]}:{token[token.index('[') + 1 : -1]}] for the position"
            )
            raise InvalidInput(Problem(f"{token} can mean {names[0]} or {position[0]}", where, remedy))
    elif missing:
        base = token[: token.index("[")]
        remedy = f"correct the range; positions of a group are written with a colon: {base}[0:2]"
        problem = Problem(
            f"{len(missing)} of {len(names)} names are not in the inventory", where, remedy, tuple(missing)
        )
        raise InvalidInput(problem)
    return tuple(dict.fromkeys(names))
