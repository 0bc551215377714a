"""Cipher suites 3 and 17: proofs, session keys, integrity and AES-CBC-128 (IPMI 2.0, 13.28-13.33).

Suites 0, 1 and 2 (no authentication, no integrity or no confidentiality) cannot be expressed here: the table of
suites holds two entries and nothing else is looked up.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

# 13.32: 20 bytes for suite 17 as well. The wording is ambiguous; every BMC in the field uses 20.
_CONST_1: Final = b"\x01" * 20
_CONST_2: Final = b"\x02" * 20
_NO_IV: Final = CBC(bytes(16))  # of a session's first block, which is noise

_INNER: Final = bytes(n ^ 0x36 for n in range(256))
_OUTER: Final = bytes(n ^ 0x5C for n in range(256))

MAX_USER = 16  # 13.20: bytes
MAX_PASSWORD = 20  # 22.30: bytes, K_g likewise (22.25)


class Suite:
    """A cipher suite: algorithm numbers as they stand in Open Session, hash (of hashlib) and sizes in bytes.

    ``algorithms`` are the numbers of authentication, integrity and confidentiality together.
    """

    __slots__ = (
        "algorithms",
        "authentication",
        "confidentiality",
        "hash",
        "icv_size",
        "ident",
        "integrity",
    )

    def __init__(self, ident: int, digest: str, authentication: int, integrity: int, icv_size: int) -> None:
        self.ident = ident
        self.authentication = authentication
        self.integrity = integrity
        self.confidentiality = 1  # AES-CBC-128
        self.algorithms = authentication, integrity, 1
        self.hash = getattr(hashlib, digest)
        self.icv_size = icv_size  # RAKP4 and packet trailers carry this much of it

    def __repr__(self) -> str:
        return f"<Suite {self.ident}>"


_SUITES: Final = {
    3: Suite(3, "sha1", authentication=1, integrity=1, icv_size=12),
    17: Suite(17, "sha256", authentication=3, integrity=4, icv_size=16),
}


def suite(ident: int) -> Suite:
    """The permitted suite of this number. ValueError for every other one, 0-2 above all."""
    found = _SUITES.get(ident)
    if found is None:
        raise ValueError(f"cipher suite {ident} is refused: only 17 and 3 authenticate, sign and encrypt")
    return found


def _hmac(s: Suite, key: bytes, message: bytes) -> bytes:
    """HMAC (RFC 2104) for keys of at most a block, which all keys here are.

    Over hashlib and not ``hmac.digest``, which takes three times as long (2.8 against 1.0 µs) and is called nine times
    for every BMC: a tenth of what a fleet costs. A test compares the two.
    """
    block = key.ljust(64, b"\0")
    inner = s.hash(block.translate(_INNER) + message).digest()
    digest: bytes = s.hash(block.translate(_OUTER) + inner).digest()
    return digest


def proof_rakp2(
    s: Suite, password: bytes, sid_m: bytes, sid_c: bytes, r_m: bytes, r_c: bytes, guid: bytes, name: bytes
) -> bytes:
    """Key exchange authentication code of RAKP2 (13.31). ``name`` is role, length and user name as in RAKP1."""
    return _hmac(s, password, sid_m + sid_c + r_m + r_c + guid + name)


def proof_rakp3(s: Suite, password: bytes, r_c: bytes, sid_m: bytes, name: bytes) -> bytes:
    """Key exchange authentication code of RAKP3 (13.31)."""
    return _hmac(s, password, r_c + sid_m + name)


def session_key(s: Suite, key: bytes, r_m: bytes, r_c: bytes, name: bytes) -> bytes:
    """SIK (13.31). ``key`` is K_g, or the password where the BMC has no K_g."""
    return _hmac(s, key, r_m + r_c + name)


def icv_rakp4(s: Suite, sik: bytes, r_m: bytes, sid_c: bytes, guid: bytes) -> bytes:
    """Integrity check value of RAKP4 (13.31), cut to the suite's size."""
    return _hmac(s, sik, r_m + sid_c + guid)[: s.icv_size]


class Keys:
    """K1 and K2 of one session. They have no representation: a key must not get into a log.

    One cipher context for each direction serves the whole session: making one costs ten times what it takes to
    encrypt a packet, and a fleet makes four for every BMC otherwise.
    """

    __slots__ = ("_decryptor", "_encryptor", "_icv_size", "_k1", "_suite")

    def __init__(self, s: Suite, sik: bytes) -> None:
        self._suite = s
        self._icv_size = s.icv_size
        self._k1 = _hmac(s, sik, _CONST_1)
        cipher = Cipher(AES(_hmac(s, sik, _CONST_2)[:16]), _NO_IV)
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()

    def encrypt(self, payload: bytes, noise: bytes) -> bytes:
        """IV and ciphertext (13.29): payload, pad bytes 1, 2, 3…, pad length, up to a multiple of 16.

        ``noise``: 16 fresh random bytes. Their encryption is the IV: as unpredictable as they are, and the chaining
        of the context makes what follows the CBC of the payload under it.
        """
        return self._encryptor.update(noise + payload + _PADS[-(len(payload) + 1) % 16])

    def decrypt(self, data: bytes) -> bytes | None:
        """The payload, or None when length or pad are wrong. Called only after ``verify``, so it is no oracle."""
        if len(data) < 32 or len(data) % 16:
            return None
        plain = self._decryptor.update(data)  # the first block, the IV, comes out as nonsense, and chains
        pad = plain[-1]
        # The pad bytes themselves are not compared: the HMAC has vouched for them, and some BMCs pad with zeros.
        return plain[16 : -1 - pad] if pad < 16 else None

    def sign(self, signed: bytes) -> bytes:
        return _hmac(self._suite, self._k1, signed)[: self._icv_size]

    def verify(self, packet: bytes) -> bytes | None:
        """The signed part of a packet whose first 4 bytes are RMCP's, or None when the signature is wrong."""
        cut = len(packet) - self._icv_size
        if cut < 18:
            return None
        signed = packet[4:cut]
        good = hmac.compare_digest(_hmac(self._suite, self._k1, signed)[: self._icv_size], packet[cut:])
        return signed if good else None


_PADS: Final = tuple(bytes(range(1, n + 1)) + bytes((n,)) for n in range(16))
