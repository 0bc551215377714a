"""Whose certificate a TLS peer has to show: one that is pinned, one that an authority signed, or any."""

from __future__ import annotations

from typing import NamedTuple

SHA256_BYTES = 32
REMEDY = "write sha256:FINGERPRINT (64 hex digits), ca:PATH, system, or insecure"


class Trust(NamedTuple):
    """``fingerprint``: SHA-256 of the certificate (DER), which then may be signed by anybody; ``ca``: path of a PEM
    file with the authorities that count; neither: those of this machine's system. ``insecure``: any certificate will
    do, so that whoever answers is given the password."""

    fingerprint: bytes = b""
    ca: str = ""
    insecure: bool = False


def parse_trust(text: str) -> Trust:
    """From the spelling of plans and inventories. Raises ValueError.

    >>> parse_trust("sha256:" + "AB:" * 31 + "ab").fingerprint.hex()[:4], parse_trust("ca:bmc-ca.pem").ca
    ('abab', 'bmc-ca.pem')
    """
    kind, _, value = text.strip().partition(":")
    match kind:
        case "" | "system" if not value:
            return Trust()
        case "insecure" if not value:
            return Trust(insecure=True)
        case "ca" if value.strip():
            return Trust(ca=value.strip())
        case "sha256":
            digits = value.replace(":", "").strip()
            if len(digits) == 2 * SHA256_BYTES and digits.isascii() and digits.isalnum():
                return Trust(fingerprint=bytes.fromhex(digits))
    raise ValueError(REMEDY)
