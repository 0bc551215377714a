"""Keeping vaulted values encrypted: ``ansible-inventory`` prints wholly encrypted variables files in clear text."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.hostfacts import CLEAR_TEXT_REMEDY, PASSWORDS
from bootorch.core.inventory import VAULT_KEY, Json, is_vaulted
from bootorch.core.secret import Secret
from bootorch.runtime import vault
from bootorch.runtime.inventory import vault_problem
from bootorch.runtime.sources import VARS_DIRECTORIES

_HEAD_BYTES = len(vault.HEADER)


def encrypted_files(paths: Iterable[Path]) -> list[Path]:
    """The wholly encrypted files among sources. Raises InvalidInput for one that is no variables file."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            if not vault.is_vault(file.read(_HEAD_BYTES)):
                continue
        if not any(folder in path.parts for folder in VARS_DIRECTORIES):
            remedy = "keep hosts and groups in clear text, and encrypt files in group_vars and host_vars only"
            raise InvalidInput(Problem("an inventory source is encrypted as a whole", str(path), remedy))
        found.append(path)
    return found


class Sealer:
    """Encrypts again, once per distinct value, what came out of encrypted files. Nothing in clear text is kept."""

    def __init__(self, files: Sequence[Path], password: Secret, password_file: Path) -> None:
        self._password = password
        self._salt_key = vault.stable_salt_key(password)
        self._secret: dict[str, set[str]] = defaultdict(set)  # variable → texts of its values
        self._sealed: dict[str, str] = {}  # text → vault text
        for path in files:
            for name, value in _read_encrypted(path, password, password_file).items():
                self._secret[str(name)].update(_leaves(value))

    def host(self, variables: Mapping[str, Json]) -> dict[str, Json]:
        """Variables with every value of an encrypted variable as ``{"__ansible_vault": …}``; numbers become text."""
        return {
            name: self._seal(value, self._secret[name]) if name in self._secret else value
            for name, value in variables.items()
        }

    def _seal(self, value: Json, secret: set[str]) -> Json:
        if is_vaulted(value) or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str | int | float):
            text = str(value)
            if text not in secret or _is_template(text):
                return value
            if text not in self._sealed:
                clear = text.encode()
                salt = vault.stable_salt(self._salt_key, clear)
                self._sealed[text] = vault.encrypt(clear, self._password, salt=salt)
            return {VAULT_KEY: self._sealed[text]}
        if isinstance(value, Mapping):
            return {key: self._seal(item, secret) for key, item in value.items()}
        return [self._seal(item, secret) for item in value]


def refuse_clear_text(hosts: Mapping[str, Mapping[str, Json]], where: str) -> None:
    """Raises InvalidInput when a password stands in the inventory in clear text: it would be written to a file."""
    bare: dict[str, list[str]] = defaultdict(list)
    for host, variables in hosts.items():
        for name in PASSWORDS:
            value = variables.get(name)
            if value is None or value == "" or is_vaulted(value):
                continue
            if isinstance(value, str) and (_is_template(value) or vault.is_vault(value)):
                continue
            bare[name].append(host)
    if bare:
        remedy = {"bmc_password": CLEAR_TEXT_REMEDY}
        raise InvalidInput(
            Problem(f"{name} is in clear text", where, remedy.get(name, "encrypt it with ansible-vault"), tuple(names))
            for name, names in bare.items()
        )


def _is_template(text: str) -> bool:
    """A template shows where a secret comes from, not what it is; encrypted it would never be rendered."""
    return "{{" in text


class _VarsLoader(yaml.SafeLoader):
    """Reads Ansible's variables files: its own tags mean a text or a mapping."""


def _vault_tag(loader: yaml.SafeLoader, node: yaml.Node) -> Json:
    assert isinstance(node, yaml.ScalarNode)
    return {VAULT_KEY: str(loader.construct_scalar(node))}


def _plain_tag(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_VarsLoader.add_constructor("!vault", _vault_tag)
_VarsLoader.add_constructor("!vault-encrypted", _vault_tag)
_VarsLoader.add_multi_constructor("!", _plain_tag)


def _read_encrypted(path: Path, password: Secret, password_file: Path) -> Mapping[object, object]:
    try:
        clear = vault.decrypt(path.read_text(encoding="utf-8", errors="replace"), password)
    except vault.VaultError as error:
        problem = vault_problem(str(path), password_file)
        raise InvalidInput(Problem(f"{problem.message}: {error}", problem.where, problem.remedy)) from error
    try:
        data = yaml.load(clear, _VarsLoader)  # noqa: S506 - a SafeLoader with two more tags
    except yaml.YAMLError as error:
        # Not chained, and without its text: it would show a piece of the clear text.
        kind = type(error).__name__
        remedy = "ansible-vault edit FILE"
        raise InvalidInput(Problem(f"the encrypted file holds no valid YAML ({kind})", str(path), remedy)) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidInput(
            Problem("the encrypted file is no mapping of variables", str(path), "ansible-vault edit FILE")
        )
    return data


def _leaves(value: object) -> Iterable[str]:
    """Texts of all strings and numbers inside a value, as ``ansible-inventory`` prints them."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, datetime.date):  # datetime is one; printed in ISO format
        yield value.isoformat()
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(json.loads(json.dumps(value)))
