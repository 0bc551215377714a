"""Vaulted values are taken out of what a failing task said.

``no_log`` is the playbook's word and Ansible keeps to it. A playbook that forgot it shows a vaulted password in the
message of the first command that fails. Whatever is vaulted in the slice's inventory or in a file beside the playbook
is therefore looked for in every text that leaves the worker, as it is and as shells, JSON, Python and URLs write it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

TAKEN_OUT = "(vaulted)"
LEAST_CHARS = 4  # a shorter value would take out half of every message, and is no secret
MOST_FILES = 20_000  # looked at beside a playbook
_MOST_BYTES = 1 << 20
_OF_OTHERS = frozenset({"collections", "node_modules", "site-packages", "__pycache__"})
_SECRET = re.compile(r"\$ANSIBLE_VAULT;[^\s\"']+[ \t]*\n(?:[ \t]*[0-9a-f]+[ \t]*(?:\n|\Z))+")


def vaulted(value: Any) -> Iterator[str]:
    """The vault texts in variables as ``ansible-inventory --list`` gives them."""
    if isinstance(value, dict):
        text = value.get("__ansible_vault")
        if isinstance(text, str):
            yield _flat(text)
        else:
            for inner in value.values():
                yield from vaulted(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from vaulted(inner)


def vaulted_files(directories: Iterable[Path]) -> Iterator[str]:
    """The vault texts of files below the directories: vaulted whole, or with ``!vault`` values."""
    left = MOST_FILES
    for directory in directories:
        for place, inside, names in os.walk(directory):
            inside[:] = [name for name in inside if name[:1] != "." and name not in _OF_OTHERS]
            for name in names:
                path = Path(place, name)
                if left <= 0:
                    raise OverflowError(f"more than {MOST_FILES} files below {directory}")
                left -= 1
                if path.suffix in ("", ".yml", ".yaml", ".json") and path.is_file():
                    with path.open(errors="replace") as file:
                        text = file.read(_MOST_BYTES)
                    yield from (_flat(match[0]) for match in _SECRET.finditer(text))


def _flat(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def secrets_in(clear: str) -> Iterator[str]:
    """What must not be shown of a decrypted text: itself, each of its lines, and the values of a file of variables."""
    import yaml

    yield clear.strip()
    yield from (line.strip() for line in clear.splitlines())
    try:
        found = yaml.safe_load(clear)
    except (yaml.YAMLError, ValueError):
        return
    if isinstance(found, dict | list):
        yield from _scalars(found)


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _scalars(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value).strip()
        yield from (line.strip() for line in str(value).splitlines())


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Replaces every one of ``secrets``, however it is written, by ``TAKEN_OUT``.

    >>> redactor(["it's"])("echo 'it'\\"'\\"'s' it's it%27s")
    'echo (vaulted) (vaulted) (vaulted)'
    """
    forms = {form for secret in secrets if len(secret) >= LEAST_CHARS for form in _forms(secret)}
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form))))
    return lambda text: pattern.sub(TAKEN_OUT, text)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield shlex.quote(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
