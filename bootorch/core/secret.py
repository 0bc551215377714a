"""A secret that does not show itself."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn


class Secret:
    """Bytes that repr, str, format, pickle, and equality by mistake cannot leak. Only ``reveal`` gives them out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialisable")


class SecretKind(StrEnum):
    VAULT = "vault"  # value: the ansible-vault ciphertext
    FILE = "file"  # value: path of a file with mode 0600 or stricter
    CREDENTIAL = "credential"  # value: name of a systemd credential ($CREDENTIALS_DIRECTORY)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is to be found; never the secret itself. Safe to write down."""

    kind: SecretKind
    value: str

    def __repr__(self) -> str:
        return f"SecretRef({self.kind})" if self.kind is SecretKind.VAULT else f"SecretRef({self.kind}:{self.value})"
