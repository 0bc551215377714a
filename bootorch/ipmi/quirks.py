"""What BMCs do that the specification does not say, as data: symptom or vendor, what the client does, who saw it.

The client looks its answers up here and nowhere else: ``login`` asks what a refusal means, ``client`` what a completion
code means, ``scripts`` which boot device selector a vendor's firmware understands. ``ALWAYS`` are the rules that need
no symptom, because they are harmless for well-behaved BMCs; each is kept by the code named in the row.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from bootorch.ipmi import vendors
from bootorch.ipmi.messages import BootSource, Status


class Do(Enum):
    """What to do about a refusal during the login."""

    NEXT_SUITE = auto()  # propose the next permitted cipher suite; none left: BMC_NO_SUITE
    LOWER_PRIVILEGE = auto()  # ADMIN to OPERATOR, once
    RESTART = auto()  # a new handshake with a fresh console session id
    PASSWORD = auto()  # the password was refused: once more, and never again, because accounts lock
    USER = auto()  # the user was refused
    WAIT = auto()  # no free session: back off until idle ones expire (6.12.15: 60 s)


class Refusal(NamedTuple):
    """``status`` (13.24) in answer to Open Session (``"open"``) or to RAKP1 and RAKP3 (``"rakp"``).

    ``steps`` are tried in order: the first that is still possible is done.
    """

    where: str
    status: Status
    steps: tuple[Do, ...]
    source: str


_SPEC = "IPMI 2.0, 13.24"

REFUSALS: Final = (
    Refusal("open", Status.NO_RESOURCES, (Do.WAIT,), f"{_SPEC}; Cisco has 4 slots, OpenBMC 15"),
    Refusal("open", Status.NO_RESOURCES_AT_ROLE, (Do.WAIT,), _SPEC),
    Refusal("open", Status.INVALID_SESSION, (Do.RESTART,), _SPEC),
    Refusal("open", Status.INACTIVE_SESSION, (Do.RESTART,), _SPEC),
    Refusal("open", Status.INVALID_AUTHENTICATION, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.INVALID_INTEGRITY, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.NO_AUTHENTICATION_MATCH, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.NO_INTEGRITY_MATCH, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.INVALID_CONFIDENTIALITY, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.NO_SUITE_MATCH, (Do.NEXT_SUITE,), _SPEC),
    Refusal("open", Status.ILLEGAL_PARAMETER, (Do.NEXT_SUITE,), "FreeIPMI: a disabled suite answered with 0x12"),
    Refusal(
        "open",
        Status.UNAUTHORIZED_ROLE,
        (Do.NEXT_SUITE, Do.LOWER_PRIVILEGE),
        "13.24; FreeIPMI: also what a disabled suite answers",
    ),
    Refusal("open", Status.INVALID_ROLE, (Do.LOWER_PRIVILEGE,), _SPEC),
    Refusal("rakp", Status.NO_RESOURCES, (Do.WAIT,), _SPEC),
    Refusal("rakp", Status.NO_RESOURCES_AT_ROLE, (Do.WAIT,), _SPEC),
    Refusal("rakp", Status.INVALID_SESSION, (Do.RESTART,), "FreeIPMI: 0x02 after a retry; the handshake was forgotten"),
    Refusal("rakp", Status.INACTIVE_SESSION, (Do.RESTART,), _SPEC),
    Refusal("rakp", Status.INVALID_ROLE, (Do.LOWER_PRIVILEGE,), "Xyratex: wants the user's own maximum"),
    Refusal("rakp", Status.UNAUTHORIZED_ROLE, (Do.LOWER_PRIVILEGE,), _SPEC),
    Refusal("rakp", Status.UNAUTHORIZED_NAME, (Do.LOWER_PRIVILEGE, Do.USER), "Xyratex: says name, means privilege"),
    Refusal("rakp", Status.INVALID_NAME_LENGTH, (Do.USER,), _SPEC),
    Refusal("rakp", Status.INVALID_PROOF, (Do.PASSWORD,), "13.24; FreeIPMI: also 0x0F after a lost message"),
)

_STEPS: Final = {(row.where, row.status.value): row.steps for row in REFUSALS}


def steps(where: str, status: int) -> tuple[Do, ...]:
    """What to try about a refusal, in order; empty for a status that makes no sense there."""
    return _STEPS.get((where, status), ())


class BootQuirk(NamedTuple):
    """A vendor whose firmware wants another boot device selector. ``vendor``: start of the model's or maker's name."""

    vendor: str
    source: BootSource
    efi: bool
    instead: BootSource
    reference: str


BOOT_SOURCES: Final = (
    BootQuirk(
        "supermicro",
        BootSource.DISK,
        True,
        BootSource.DISK_SUPERMICRO_UEFI,
        "Ironic, vendor Supermicro: a UEFI disk over IPMI is 0x24, 0x08 boots legacy",
    ),
)


def boot_source(source: BootSource, *, efi: bool, vendor: str) -> BootSource:
    """The selector that this vendor's firmware understands. ``vendor``: model or maker, upper or lower case."""
    name = vendor.lower()
    for quirk in BOOT_SOURCES:
        if name.startswith(quirk.vendor) and (quirk.source, quirk.efi) == (source, efi):
            return quirk.instead
    return source


class FlagsQuirk(NamedTuple):
    """A BMC that stores the device of the boot flags and not the rest: that its valid bit is missing says nothing."""

    manufacturer: int  # IANA enterprise number of Get Device ID (20.1)
    reference: str


DEVICE_ONLY: Final = (FlagsQuirk(vendors.OPENIPMI_SIMULATOR, "OpenIPMI's ipmi_sim, seen in a run"),)


def keeps_device_only(manufacturer: int) -> bool:
    """Whether boot flags read back from this maker's BMC have the device and nothing else."""
    return any(quirk.manufacturer == manufacturer for quirk in DEVICE_ONLY)


class Rule(NamedTuple):
    """A rule that always holds. ``kept_by``: where in the code."""

    symptom: str
    rule: str
    kept_by: str
    source: str


ALWAYS: Final = (
    Rule(
        "the BMC hashes the privilege of Open Session, not that of RAKP1",
        "the same explicit privilege in both",
        "login.Login",
        "FreeIPMI workarounds: Supermicro X8, Intel S5500 and S2600JF, Quanta, Dell C5220, Sun",
    ),
    Rule(
        "capability flags for user names, K_g and authentication types are wrong",
        "the flags are not read; Open Session tells",
        "login.Login",
        "FreeIPMI workarounds: Asus, Intel, Sun",
    ),
    Rule("inner checksums are wrong", "the HMAC decides", "wire.decode_response", "FreeIPMI: Supermicro X9"),
    Rule(
        "status 0 with suite 3 whatever was proposed",
        "algorithms of the answer are compared with the proposal; another one steps to the next suite",
        "login.Login",
        "pyghmi's fakebmc",
    ),
    Rule(
        "a refusal of Open Session of 2 bytes, without a session id",
        "status before length",
        "handshake.decode_open_response",
        "IPMI 2.0, 13.18, as several BMCs read it",
    ),
    Rule("session sequence numbers skip", "a bitmap window, any jump ahead", "packet.SequenceWindow", "FreeIPMI"),
    Rule("answers that carry another rqAddr, or do not start at sequence 1", "neither is looked at", "wire", "seen"),
    Rule("0xCF, duplicate request", "not an answer: wait on", "client.Exchange", "IPMI 2.0, 5.2"),
    Rule("pad bytes other than 1, 2, 3…", "only the pad length counts", "crypto.Keys.decrypt", "seen"),
    Rule("12 bytes of junk after the boot flags", "ignored", "messages.parse_boot_flags", "FreeIPMI: HP DL380 G5"),
    Rule("0xCC for the extended data bit of 06/38", "asked again without it", "login.Login", "IPMI 2.0, 22.13"),
    Rule("no answer to IPMI 1.5 framing at all", "Open Session comes first, discovery after silence", "login", "seen"),
    Rule(
        "sessions are keyed by the client's address and port",
        "always the same socket for a BMC, one exchange at a time; discovery after silence ends the old session",
        "drivers.bmc_net, fleet.Fleet",
        "pyghmi's server, and so VirtualBMC",
    ),
    Rule(
        "power-on accepted without effect",
        "read back, bounded re-send by the recovery engine",
        "core.engine",
        "Lenovo; Dell R650 with iDRAC 5.10",
    ),
    Rule(
        "heavy polling crashes the BMC",
        "one exchange at a time and a pause between two",
        "fleet.Pacing.interval_s",
        "Ironic: at least 5 s between commands by default; several vendors' issue threads",
    ),
)
