"""The inventory as plain values: host variables and group members, after Ansible's own precedence rules."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

VAULT_KEY = "__ansible_vault"  # how ansible-inventory writes a value that is still encrypted

# ``{{ name }}`` and nothing cleverer: the indirection that Ansible's own guide recommends for vaulted values
# (``bmc_password: "{{ vault_bmc_password }}"``). Filters and lookups are Ansible's business, not ours.
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_MAX_REFERENCES = 32  # nesting of references: deeper than any inventory seen, and it bounds a definition in a circle


class Unresolved(ValueError):
    """A value is a template that needs Ansible itself. The text says which variable, never a value."""


@dataclass(frozen=True)
class Inventory:
    """``hosts``: name → variables (vaulted ones as ``{"__ansible_vault": text}``); ``groups``: name → member names.

    Both in Ansible's order; ``groups`` always has ``all`` and ``ungrouped`` and keeps groups that have no host.
    ``digest`` is the SHA-256 of the content, hexadecimal.
    """

    hosts: Mapping[str, Mapping[str, Json]]
    groups: Mapping[str, tuple[str, ...]]
    digest: str = field(default="")

    def __post_init__(self) -> None:
        named = set().union(*self.groups.values())
        grouped = set().union(*(members for name, members in self.groups.items() if name not in ("all", "ungrouped")))
        groups = {
            "all": tuple(self.hosts),
            "ungrouped": tuple(host for host in self.hosts if host not in grouped),
            **self.groups,
        }
        if strangers := sorted(named - self.hosts.keys()):
            raise ValueError(f"groups name hosts that the inventory does not have: {', '.join(strangers[:5])}")
        object.__setattr__(self, "groups", groups)
        if not self.digest:
            object.__setattr__(self, "digest", digest_of(self.hosts, self.groups))

    def resolve(self, host: str, name: str) -> Json:
        """The value of a variable with simple ``{{ references }}`` followed; ``None`` where it is not set.

        Raises :class:`Unresolved` for any other template.
        """
        return resolve(host, self.hosts[host], name)


def resolve(host: str, variables: Mapping[str, Json], name: str) -> Json:
    """As :meth:`Inventory.resolve`, for one host's variables."""
    return _follow(host, variables, name, variables.get(name), 0)


def is_vaulted(value: Json) -> bool:
    """Whether a value is an ansible-vault text, still encrypted."""
    return isinstance(value, Mapping) and isinstance(value.get(VAULT_KEY), str)


def digest_of(*parts: object) -> str:
    """SHA-256 of values, independent of the order of keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def members(
    hosts: Iterable[str], children: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Flatten a tree of groups: own hosts first, then those of the children level by level, each host once.

    ``children`` and ``own`` are what ``ansible-inventory --list`` prints. Groups come in the order of a walk down from
    ``all``: the order in which Ansible's YAML parser meets them. Raises ValueError for a group that contains itself.
    """
    names = list(dict.fromkeys(["all", "ungrouped", *_walk("all", children), *children, *own]))
    groups = {name: _flatten(name, children, own) for name in names}
    everyone = dict.fromkeys([*groups["all"], *(host for group in groups.values() for host in group), *hosts])
    return {**groups, "all": tuple(everyone)}


def _walk(name: str, children: Mapping[str, Sequence[str]]) -> list[str]:
    found: dict[str, None] = {}
    stack = [name]
    while stack:
        group = stack.pop()
        if group in found:
            continue
        found[group] = None
        stack.extend(reversed(children.get(group, ())))
    return list(found)


def _flatten(name: str, children: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    hosts: dict[str, None] = {}
    level, seen = [name], {name}
    while level:
        following: list[str] = []
        for group in level:
            hosts.update(dict.fromkeys(own.get(group, ())))
            for child in children.get(group, ()):
                if child == name:
                    raise ValueError(f"group {name} contains itself")
                if child not in seen:
                    seen.add(child)
                    following.append(child)
        level = following
    return tuple(hosts)


def _follow(host: str, variables: Mapping[str, Json], name: str, value: Json, depth: int) -> Json:
    if not isinstance(value, str) or "{" not in value or not any(mark in value for mark in ("{{", "{%")):
        return value
    if depth > _MAX_REFERENCES:
        raise Unresolved(f"{name} refers to itself")

    def lookup(reference: str) -> Json:
        if reference == "inventory_hostname":
            return host
        if reference == "inventory_hostname_short":
            return host.split(".")[0]
        if reference not in variables:
            raise Unresolved(f"{name} refers to {reference}, which is not set")
        return _follow(host, variables, reference, variables[reference], depth + 1)

    def clear(reference: str) -> Json:
        found = lookup(reference)
        if is_vaulted(found):
            raise Unresolved(f"{name} puts the vaulted {reference} inside other text")
        return found

    if whole := _REFERENCE.fullmatch(value.strip()):
        return lookup(whole[1])
    text = _REFERENCE.sub(lambda found: str(clear(found[1])), value)
    if "{{" in text or "{%" in text:
        raise Unresolved(f"{name} is a template that only Ansible can render")
    return text
