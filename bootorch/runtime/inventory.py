"""Real Ansible inventories, read by Ansible itself: ``ansible-inventory --list`` in a process of its own.

A source that cannot be read is an error, never a smaller inventory: breakage must not look like nothing to do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bootorch.core.errors import InvalidInput, Problem, ToolError
from bootorch.core.inventory import Json, members

# 32,000 hosts in YAML took 58 s on two quiet cores (docs/architecture.md); ten times that is a plugin that hangs.
TIMEOUT_S = 600.0

# What the child may see of our environment: where programs and Ansible's own files are, nothing that carries a secret.
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "ANSIBLE_CONFIG",
    "ANSIBLE_HOME",
    "ANSIBLE_COLLECTIONS_PATH",
    "ANSIBLE_INVENTORY_ENABLED",
    "ANSIBLE_INVENTORY_PLUGINS",
    "ANSIBLE_VARS_PLUGINS",
)
# Warnings of Ansible that mean that a part of the inventory was left out.
_FATAL_WARNING = re.compile(r"^(Skipping|Unable to parse|Failed to parse|No inventory was parsed)")
_MARK = re.compile(r"^\[(ERROR|WARNING)\]: ?(.*)$")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Ansible made of the sources: variables by host, in Ansible's order, and flattened groups."""

    hosts: Mapping[str, Mapping[str, Json]]
    groups: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    ansible: str  # version of ansible-core


def run_ansible_inventory(
    paths: Sequence[Path],
    *,
    directory: Path,
    vault_password_file: Path | None = None,
    pass_env: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> Rendered:
    """Render inventories with the operator's own ansible-core, started in ``directory`` (for its ansible.cfg).

    ``pass_env`` names further variables that a dynamic source needs. Wholly encrypted variables files come out in
    clear text: the caller must seal them before anything is written. Raises InvalidInput or ToolError.
    """
    program = find_program("ansible-inventory")
    command = [program, "--list", *(part for path in paths for part in ("-i", str(path)))]
    if vault_password_file is not None:
        command += ["--vault-password-file", str(vault_password_file.absolute())]
    code, output, talk = _run(command, directory, _environment(pass_env), timeout_s)
    errors, warnings = _messages(talk)
    sources = ", ".join(str(path) for path in paths)
    fatal = tuple(text for text in warnings if _FATAL_WARNING.match(text))
    if code != 0:
        raise InvalidInput(_failure(errors, fatal, sources, vault_password_file))
    if fatal:
        remedy = "correct the source: Ansible left a part of it out"
        raise InvalidInput([Problem(f"Ansible: {text}", sources, remedy) for text in fatal])
    return _read(output, sources, warnings, _version(program, directory))


def find_program(name: str) -> str:
    """A program of ansible-core: beside our own Python first, then on PATH. Raises ToolError with the remedy."""
    own = Path(sys.executable).parent / name
    found = str(own) if os.access(own, os.X_OK) else shutil.which(name)
    if found is None:
        remedy = "pip install 'bootorch[ansible]'; with a snapshot beside the plan a run needs no Ansible to read hosts"
        raise ToolError(Problem(f"{name} is not installed", remedy=remedy))
    return found


def _environment(pass_env: Sequence[str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in (*_ENVIRONMENT, *pass_env) if name in os.environ}
    return {
        "PATH": os.defpath,
        **kept,
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_INVENTORY_EXPORT": "0",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
    }


def _run(command: Sequence[str], directory: Path, env: Mapping[str, str], timeout_s: float) -> tuple[int, bytes, str]:
    """Exit code, output and talk. The child leads a process group, so that a plugin's own children end with it."""
    process = subprocess.Popen(  # noqa: S603 - a list, no shell
        command,
        cwd=directory,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, talk = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        message = f"ansible-inventory did not end within {timeout_s:.0f} s"
        raise ToolError(Problem(message, remedy="look for a dynamic source that waits for something")) from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, output, talk.decode(errors="replace")


def _messages(talk: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Errors and warnings, each with where it comes from. Excerpts of sources are left out: they may hold secrets."""
    found: dict[str, list[str]] = {"ERROR": [], "WARNING": []}
    current: list[str] = []
    for line in talk.splitlines():
        if mark := _MARK.match(line):
            current = found[mark[1]]
            current.append(mark[2].strip())
        elif line.startswith("Origin: ") and current and line not in current[-1]:
            current[-1] += f" [{line.removeprefix('Origin: ')}]"
    return tuple(found["ERROR"]), tuple(dict.fromkeys(found["WARNING"]))


def _failure(
    errors: Sequence[str], fatal: Sequence[str], sources: str, vault_password_file: Path | None
) -> list[Problem]:
    said = " ".join(errors)
    if "no vault secrets" in said or "Decryption failed" in said:
        return [vault_problem(sources, vault_password_file)]
    remedy = "try it by hand: ansible-inventory --list -i SOURCE; a script must be executable"
    texts = list(dict.fromkeys([*fatal, *errors])) or ["ansible-inventory failed and said nothing"]
    return [Problem(f"Ansible cannot read the inventory: {text}", sources, remedy) for text in texts]


def vault_problem(where: str, vault_password_file: Path | None) -> Problem:
    """A vaulted file that cannot be read: no password, or not the right one."""
    if vault_password_file is None:
        remedy = "give --vault-password-file FILE, or set ANSIBLE_VAULT_PASSWORD_FILE"
        return Problem(
            "a variables file is encrypted with ansible-vault, and there is no vault password", where, remedy
        )
    remedy = "give the --vault-password-file that it was encrypted with"
    return Problem(f"the password in {vault_password_file} does not decrypt a vaulted file", where, remedy)


def _read(output: bytes, sources: str, warnings: tuple[str, ...], ansible: str) -> Rendered:
    try:
        data = json.loads(output)
        found = data.pop("_meta")["hostvars"]
        children = {name: group.get("children", []) for name, group in data.items()}
        own = {name: group.get("hosts", []) for name, group in data.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"ansible-inventory {ansible} printed something else than an inventory ({type(error).__name__})"
        raise ToolError(Problem(message, sources, "check that ansible-core is one that bootorch supports")) from error
    try:
        groups = members(found, children, own)
    except ValueError as error:
        raise InvalidInput(Problem(str(error), sources, "correct the groups of the inventory")) from error
    if not groups["all"]:
        raise InvalidInput(Problem("the inventory has no host", sources, "check that it is the right one"))
    hosts = {name: found.get(name, {}) for name in groups["all"]}  # a host without any variable is not in hostvars
    return Rendered(hosts, groups, warnings, ansible)


def _version(program: str, directory: Path) -> str:
    """Version of ansible-core: of our own environment without a process, else by asking the program."""
    if Path(program).parent == Path(sys.executable).parent:
        try:
            return metadata.version("ansible-core")
        except metadata.PackageNotFoundError:
            return _asked_version(program, directory)
    return _asked_version(program, directory)


def _asked_version(program: str, directory: Path) -> str:
    _, output, _ = _run([program, "--version"], directory, _environment(()), 60.0)
    found = re.search(rb"\d+(?:\.\d+)+\w*", output)
    return found[0].decode() if found else "unknown"
