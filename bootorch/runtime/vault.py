"""ansible-vault's format, so that a laptop without Ansible can read a vaulted password.

Format 1.1 and 1.2 (Ansible, "Encrypting content with Ansible Vault", "Ansible Vault payload format"): a header
``$ANSIBLE_VAULT;1.1;AES256`` (1.2 adds ``;label``), then in hexadecimal lines salt, HMAC and text, each hexadecimal
itself and parted by newlines.
PBKDF2-HMAC-SHA256, 10,000 rounds, gives 80 bytes: cipher key, HMAC key, initial counter. AES-256-CTR, PKCS #7 padding,
HMAC-SHA256 over the encrypted text.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import CTR
    from cryptography.hazmat.primitives.padding import PKCS7

HEADER = "$ANSIBLE_VAULT;"
_ROUNDS = 10_000
_BLOCK_BITS = 128
_LINE = 80  # width of the hexadecimal lines that ansible-vault writes
_MAX_BYTES = 1 << 20  # a vault password is a line; this bounds a wrong file


class VaultError(ValueError):
    """A vault text cannot be read. The text says why and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class VaultText:
    """The parts of a vault text. ``label`` is the vault id of format 1.2, else empty."""

    label: str
    salt: bytes
    mac: bytes
    ciphertext: bytes


def is_vault(text: str | bytes) -> bool:
    """Whether a file's content or a value begins as a vault text does."""
    return text.startswith(HEADER) if isinstance(text, str) else text.startswith(HEADER.encode())


def parse(text: str) -> VaultText:
    """Take a vault text apart, without any password. Raises VaultError."""
    header, _, body = text.strip().partition("\n")
    parts = [part.strip() for part in header.split(";")]
    if len(parts) not in (3, 4) or parts[0] != HEADER[:-1]:
        raise VaultError("no ansible-vault header")
    if parts[1] not in ("1.1", "1.2") or parts[2] != "AES256":
        raise VaultError(f"ansible-vault format {parts[1]} {parts[2]} is not supported: only 1.1 and 1.2 with AES256")
    try:
        salt, mac, ciphertext = binascii.unhexlify("".join(body.split())).split(b"\n", 2)
        return VaultText(
            parts[3] if len(parts) == 4 else "",
            binascii.unhexlify(salt),
            binascii.unhexlify(mac),
            binascii.unhexlify(ciphertext),
        )
    except ValueError as error:  # binascii.Error is one
        raise VaultError("the vault text is damaged") from error


def decrypt(text: str, password: Secret) -> bytes:
    """Clear text of a vault text. Raises VaultError: damaged, or another password (which it is cannot be known)."""
    vault = parse(text)
    key, mac_key, counter = _keys(password, vault.salt)
    if not hmac.compare_digest(hmac.digest(mac_key, vault.ciphertext, "sha256"), vault.mac):
        raise VaultError("the vault password is not the one that it was encrypted with")
    cipher, padding = _primitives(key, counter)
    decryptor, unpadder = cipher.decryptor(), padding.unpadder()
    try:
        return unpadder.update(decryptor.update(vault.ciphertext) + decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise VaultError("the vault text is damaged") from error


def encrypt(clear: bytes, password: Secret, *, salt: bytes | None = None) -> str:
    """A vault text of format 1.1. ``salt`` (32 bytes) only where the same input must give the same text."""
    salt = os.urandom(32) if salt is None else salt
    key, mac_key, counter = _keys(password, salt)
    cipher, padding = _primitives(key, counter)
    encryptor, padder = cipher.encryptor(), padding.padder()
    ciphertext = encryptor.update(padder.update(clear) + padder.finalize()) + encryptor.finalize()
    mac = hmac.digest(mac_key, ciphertext, "sha256")
    body = b"\n".join(part.hex().encode() for part in (salt, mac, ciphertext)).hex()
    lines = [body[start : start + _LINE] for start in range(0, len(body), _LINE)]
    return "\n".join([f"{HEADER}1.1;AES256", *lines, ""])


def _primitives(key: bytes, counter: bytes) -> tuple[Cipher[CTR], PKCS7]:
    """AES-256-CTR and its padding. Loaded when a value is decrypted: most commands decrypt none."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    return Cipher(algorithms.AES(key), modes.CTR(counter)), PKCS7(_BLOCK_BITS)


def stable_salt_key(password: Secret) -> bytes:
    """A key from which :func:`stable_salt` makes salts. Guessing the password through it costs a full PBKDF2 each."""
    return hashlib.pbkdf2_hmac("sha256", password.reveal(), b"bootorch snapshot salt", _ROUNDS, 32)


def stable_salt(key: bytes, clear: bytes) -> bytes:
    """A salt that depends on the value: rendering twice gives the same text. It tells only which values are equal."""
    return hmac.digest(key, clear, "sha256")


def read_password(path: Path) -> Secret:
    """The vault password from its file, stripped as Ansible strips it. Raises InvalidInput."""
    content = read_secret_file(path, "vault password file")
    if content.startswith(b"#!"):
        remedy = "bootorch runs no password script: write its output to a file with mode 0600"
        raise InvalidInput(Problem("the vault password file is a script", str(path), remedy))
    return Secret(content.strip())


def read_secret_file(path: Path, what: str, *, guarded: bool = False) -> bytes:
    """Content of a file that only its owner may read. Raises InvalidInput when it is none, open to others, or empty.

    ``guarded``: its directory keeps others out, as systemd's does (its files show 0440 where an ACL lets the user in).
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidInput(Problem(f"there is no such {what}", where, "check the path")) from None
    except OSError as error:
        raise InvalidInput(Problem(f"the {what} cannot be read: {error.strerror}", where)) from error
    if mode & 0o077 and not guarded:
        message = f"the {what} can be read by others (mode {mode & 0o777:04o})"
        raise InvalidInput(Problem(message, where, f"chmod 600 {path}"))
    if len(content) > _MAX_BYTES:
        raise InvalidInput(Problem(f"the {what} is larger than {_MAX_BYTES} bytes", where, "check the path"))
    if not content.strip():
        raise InvalidInput(Problem(f"the {what} is empty", where, "write the password into it"))
    return content


def _keys(password: Secret, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """Cipher key (32 bytes), HMAC key (32) and initial counter (16)."""
    material = hashlib.pbkdf2_hmac("sha256", password.reveal(), salt, _ROUNDS, 80)
    return material[:32], material[32:64], material[64:]
