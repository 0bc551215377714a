"""BMC passwords at the moment of use: from a vaulted variable, a file, or a systemd credential."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bootorch.core.errors import InvalidInput, OperatorError, Problem
from bootorch.core.secret import Secret, SecretKind, SecretRef
from bootorch.runtime import vault

if TYPE_CHECKING:  # for words only: a power command over raw addresses has neither
    from bootorch.core.model import Host, RedfishMeter
    from bootorch.core.plan import Plan

# IPMI 2.0 section 13.28 and 22.30: a password has at most 20 bytes. A longer one is refused, never cut.
MAX_PASSWORD_BYTES = 20
# Decrypting costs some 5 ms a value (PBKDF2). Before a run so many distinct values are tried, and at least one of each
# vault id; of the others only the form is checked. 200 take about a second.
MAX_TRIED = 200

_REMEDY = (
    "set bmc_password with ansible-vault, or bmc_password_file, or give a systemd credential "
    "(LoadCredential=bmc_password:PATH, or bmc_password.HOST)"
)
_MISSING = Problem("no BMC password", remedy=_REMEDY)
_NO_METER_PASSWORD = Problem(
    "no password", remedy="give the systemd credential that the meter names (LoadCredential=NAME:PATH)"
)


class Secrets:
    """A ``SecretStore`` and ``MeterSecrets`` (drivers.protocols). Each value is read once; nothing here prints one.

    ``vault_password_file``: path, or ``None`` where nothing is vaulted. ``base_dir``: what relative paths are relative
    to. ``credentials``: systemd's credentials directory, by default ``$CREDENTIALS_DIRECTORY``.
    """

    def __init__(
        self, vault_password_file: Path | None = None, base_dir: Path | None = None, credentials: Path | None = None
    ) -> None:
        self._vault_password_file = vault_password_file
        self._base_dir = base_dir or Path()
        directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
        self._credentials = credentials or (Path(directory) if directory else None)
        self._vault_password: Secret | None = None
        self._found: dict[tuple[SecretRef, str], Secret | Problem] = {}
        self._keys: dict[str, Secret | Problem] = {}  # K_g, by file

    def bmc_password(self, host: Host) -> Secret | None:
        found = self._lookup(host)
        return found if isinstance(found, Secret) else None

    def bmc_key(self, host: Host) -> Secret | None:
        """The BMC's key K_g; None where it has none (no fact ``bmc_kg_file``), and where it cannot be read."""
        found = self._key(host)
        return found if isinstance(found, Secret) else None

    def why(self, host: Host) -> str:
        """What cannot be read, and what to do; empty when all can."""
        found = self.problem(host)
        return "" if found is None else f"{found.message} ({found.remedy})" if found.remedy else found.message

    def check(self, plan: Plan) -> list[Problem]:
        """Every password that a run of ``plan`` could not read, folded by cause. Empty: all is well."""
        meters = {
            name: limit.meter.redfish
            for name, limit in plan.limits.feeds.items()
            if limit.meter is not None and limit.meter.redfish is not None
        }
        found = {name: self.meter_password(meter) for name, meter in meters.items()}
        unread = [
            Problem(f"feed {name}: {problem.message}", problem.where, problem.remedy)
            for name, problem in found.items()
            if isinstance(problem, Problem)
        ]
        return [*self.problems(plan.hosts.values()), *unread]

    def meter_password(self, meter: RedfishMeter) -> Secret | Problem:
        """The password of a feed's meter, or why it cannot be read. It may be longer than IPMI's."""
        key = (meter.password, "")
        if key not in self._found:
            try:
                self._found[key] = self._read_meter(meter.password)
            except OperatorError as error:
                self._found[key] = error.problems[0]
        return self._found[key]

    def _read_meter(self, ref: SecretRef) -> Secret:
        if ref.kind is SecretKind.FILE:
            path = self._base_dir / Path(ref.value).expanduser()
            return Secret(vault.read_secret_file(path, "password file of a meter").rstrip(b"\r\n"))
        return Secret(read_credential(self._credentials, (ref.value,), _NO_METER_PASSWORD).rstrip(b"\r\n"))

    def problems(self, hosts_asked: Iterable[Host]) -> list[Problem]:
        """As :meth:`check`, for any hosts."""
        hosts: dict[Problem, list[str]] = defaultdict(list)
        tried: dict[SecretRef, Problem | None] = {}
        budget, labels = MAX_TRIED, set[str]()
        for host in hosts_asked:
            ref = host.bmc_password
            if ref is not None and ref.kind is SecretKind.VAULT and not host.fact("bmc_kg_file"):
                if ref not in tried:
                    label = _label(ref)
                    decrypting = budget > 0 or label not in labels
                    tried[ref] = self.problem(host) if decrypting else _damaged(ref)
                    labels.add(label)
                    budget -= decrypting
                problem = tried[ref]
            else:
                problem = self.problem(host)
            if problem is not None:
                hosts[problem].append(host.name)
        return [Problem(p.message, p.where, p.remedy, tuple(names)) for p, names in hosts.items()]

    def require(self, plan: Plan) -> None:
        """Raises InvalidInput (exit 2) with what :meth:`check` finds, before any packet."""
        if problems := self.check(plan):
            raise InvalidInput(problems)

    def problem(self, host: Host) -> Problem | None:
        """Why a secret of the host cannot be read; None when all can."""
        for found in (self._lookup(host), self._key(host)):
            if isinstance(found, Problem):
                return found
        return None

    def _key(self, host: Host) -> Secret | Problem | None:
        path = host.fact("bmc_kg_file")
        if not path:
            return None
        if path not in self._keys:
            try:
                self._keys[path] = read_key(self._base_dir / Path(path).expanduser())
            except OperatorError as error:
                self._keys[path] = error.problems[0]
        return self._keys[path]

    def _lookup(self, host: Host) -> Secret | Problem:
        ref = host.bmc_password
        if ref is None:
            return _MISSING
        key = (ref, host.name if ref.kind is SecretKind.CREDENTIAL else "")
        if key not in self._found:
            try:
                where = ref.value if ref.kind is SecretKind.FILE else ""
                self._found[key] = fitting(self._read(ref, host), where)
            except OperatorError as error:
                self._found[key] = error.problems[0]
        return self._found[key]

    def _read(self, ref: SecretRef, host: Host) -> bytes:
        match ref.kind:
            case SecretKind.VAULT:
                return self._decrypt(ref.value)
            case SecretKind.FILE:
                return vault.read_secret_file(self._base_dir / Path(ref.value).expanduser(), "BMC password file")
            case SecretKind.CREDENTIAL:
                return read_credential(self._credentials, (f"{ref.value}.{host.name}", ref.value))

    def _decrypt(self, text: str) -> bytes:
        if self._vault_password is None:
            if self._vault_password_file is None:
                message, remedy = (
                    "bmc_password is vaulted, and there is no vault password",
                    "give --vault-password-file",
                )
                raise InvalidInput(Problem(message, remedy=remedy))
            self._vault_password = vault.read_password(self._vault_password_file)
        try:
            return vault.decrypt(text, self._vault_password)
        except vault.VaultError as error:
            remedy = "give the --vault-password-file that bmc_password was encrypted with"
            where = str(self._vault_password_file)
            raise InvalidInput(Problem(f"bmc_password cannot be decrypted: {error}", where, remedy)) from error


def read_credential(directory: Path | None, names: Iterable[str], missing: Problem = _MISSING) -> bytes:
    """Content of the first of ``names`` that systemd's credentials directory holds. Raises InvalidInput."""
    if directory is not None:
        for name in names:
            # A name comes from the inventory: it must not climb out of the directory.
            if "/" not in name and (path := directory / name).is_file():
                return vault.read_secret_file(path, "systemd credential", guarded=True)
    raise InvalidInput(missing)


def read_key(path: Path) -> Secret:
    """The key K_g of a file: up to 20 bytes as they are, or hexadecimal after ``0x`` (as FreeIPMI takes it)."""
    content = vault.read_secret_file(path.expanduser(), "K_g file").rstrip(b"\r\n")
    if not content.startswith(b"0x"):
        return fitting(content, str(path), "K_g")
    try:
        key = bytes.fromhex(content[2:].decode("ascii"))
    except ValueError:
        raise InvalidInput(
            Problem("the K_g is not hexadecimal after 0x", str(path), "write 0x and hex digits")
        ) from None
    if not 0 < len(key) <= 20:
        message = f"the K_g has {len(key)} bytes, and IPMI allows 1 to 20"
        raise InvalidInput(Problem(message, str(path), "write the key that the BMC has"))
    return Secret(key)


def fitting(value: bytes, where: str, what: str = "BMC password") -> Secret:
    """A secret that IPMI can carry, its line end removed. Raises InvalidInput: empty, too long, or with a NUL."""
    password = value.rstrip(b"\r\n")
    if not password:
        raise InvalidInput(Problem(f"the {what} is empty", where, "write the password into it"))
    if len(password) > MAX_PASSWORD_BYTES:
        message = f"the {what} has {len(password)} bytes, and IPMI allows {MAX_PASSWORD_BYTES}"
        raise InvalidInput(Problem(message, where, "give the BMC a shorter one; it is never cut"))
    if b"\0" in password:
        raise InvalidInput(Problem(f"the {what} holds a NUL byte", where, "IPMI pads with NUL"))
    return Secret(password)


def _label(ref: SecretRef) -> str:
    try:
        return vault.parse(ref.value).label
    except vault.VaultError:
        return ""


def _damaged(ref: SecretRef) -> Problem | None:
    try:
        vault.parse(ref.value)
    except vault.VaultError as error:
        return Problem(f"bmc_password cannot be decrypted: {error}", remedy="encrypt it again with ansible-vault")
    return None
