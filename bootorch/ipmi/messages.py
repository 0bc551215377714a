"""Commands and their answers (IPMI 2.0; the section is cited at each). Numbers as on the wire, little-endian."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason


class Privilege(IntEnum):
    """Privilege levels (6.8)."""

    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


class Completion(IntEnum):
    """Completion codes (5.2). ``UNAVAILABLE`` ones say "not now"; the others will not change by asking again."""

    OK = 0x00
    BUSY = 0xC0
    INVALID_COMMAND = 0xC1
    INVALID_FOR_LUN = 0xC2
    TIMEOUT = 0xC3
    OUT_OF_SPACE = 0xC4
    BAD_LENGTH = 0xC7
    OUT_OF_RANGE = 0xC9
    NOT_PRESENT = 0xCB
    INVALID_FIELD = 0xCC
    DUPLICATE = 0xCF
    INITIALISING = 0xD2
    PRIVILEGE = 0xD4
    NOT_NOW = 0xD5
    DISABLED = 0xD6
    UNSPECIFIED = 0xFF


# Not now: ask again later (the reference's quirk list: busy or still booting).
BUSY_CODES: Final = frozenset((Completion.BUSY, Completion.TIMEOUT, Completion.OUT_OF_SPACE, Completion.INITIALISING))
UNSUPPORTED_CODES: Final = frozenset((Completion.INVALID_COMMAND, Completion.INVALID_FOR_LUN, Completion.DISABLED))

_MEANING: Final = {
    0xC0: "node busy",
    0xC1: "invalid command",
    0xC2: "invalid for this LUN",
    0xC3: "timeout in the BMC",
    0xC4: "out of space",
    0xC7: "request length invalid",
    0xC9: "parameter out of range",
    0xCB: "requested data not present",
    0xCC: "invalid data field",
    0xCF: "duplicate request",
    0xD2: "BMC initialising",
    0xD4: "privilege not sufficient",
    0xD5: "not possible in the present state",
    0xD6: "subfunction disabled",
    0xFF: "unspecified error",
}


def completion_name(code: int) -> str:
    """``0xd5 not possible in the present state``."""
    meaning = _MEANING.get(code, "")
    return f"0x{code:02x} {meaning}" if meaning else f"0x{code:02x}"


class Status(IntEnum):
    """RMCP+ and RAKP status codes (13.24)."""

    OK = 0x00
    NO_RESOURCES = 0x01
    INVALID_SESSION = 0x02
    INVALID_PAYLOAD = 0x03
    INVALID_AUTHENTICATION = 0x04
    INVALID_INTEGRITY = 0x05
    NO_AUTHENTICATION_MATCH = 0x06
    NO_INTEGRITY_MATCH = 0x07
    INACTIVE_SESSION = 0x08
    INVALID_ROLE = 0x09
    UNAUTHORIZED_ROLE = 0x0A
    NO_RESOURCES_AT_ROLE = 0x0B
    INVALID_NAME_LENGTH = 0x0C
    UNAUTHORIZED_NAME = 0x0D
    UNAUTHORIZED_GUID = 0x0E
    INVALID_PROOF = 0x0F
    INVALID_CONFIDENTIALITY = 0x10
    NO_SUITE_MATCH = 0x11
    ILLEGAL_PARAMETER = 0x12


def status_name(code: int) -> str:
    """``0x0d unauthorized name``."""
    try:
        return f"0x{code:02x} {Status(code).name.lower().replace('_', ' ')}"
    except ValueError:
        return f"0x{code:02x}"


class NetFn(IntEnum):
    """Network functions of requests (5.1)."""

    CHASSIS = 0x00
    SENSOR = 0x04
    APP = 0x06
    STORAGE = 0x0A
    GROUP = 0x2C  # of other bodies; the first data byte names the body, 0xDC is DCMI's


class Action(IntEnum):
    """Chassis Control (28.3)."""

    OFF = 0
    ON = 1
    CYCLE = 2
    RESET = 3
    NMI = 4
    SOFT_OFF = 5


class Policy(IntEnum):
    """Power restore policy (28.8): what the server does when AC returns."""

    STAY_OFF = 0
    PREVIOUS = 1
    ALWAYS_ON = 2
    QUERY = 3  # change nothing, answer which policies are supported


class BootSource(IntEnum):
    """Boot device selector of boot flags, data 2 bits 5:2, in place (28.13, table 28-14)."""

    NONE = 0x00
    PXE = 0x04
    DISK = 0x08
    DISK_SUPERMICRO_UEFI = 0x24  # Supermicro's firmware boots its UEFI disk for this one, and not for 0x08
    CDROM = 0x14
    BIOS = 0x18


class Command:
    """One request of an exchange.

    ``once``: never sent twice inside an exchange, because it may have had effect when its answer is lost.
    ``tolerate``: an error completion does not end the exchange. ``privilege``: the least level that may run it.
    """

    __slots__ = ("command", "data", "name", "netfn", "once", "privilege", "tolerate")

    def __init__(
        self,
        name: str,
        netfn: int,
        command: int,
        data: bytes = b"",
        *,
        privilege: Privilege = Privilege.USER,
        once: bool = False,
        tolerate: bool = False,
    ) -> None:
        self.name = name
        self.netfn = netfn
        self.command = command
        self.data = data
        self.privilege = privilege
        self.once = once
        self.tolerate = tolerate

    def tolerant(self) -> Command:
        """The same command, for a script that deals with error completions itself."""
        return Command(
            self.name, self.netfn, self.command, self.data, privilege=self.privilege, once=self.once, tolerate=True
        )

    def __repr__(self) -> str:
        return f"<Command {self.name}>"


def reason_of(command: Command, completion: int) -> Reason:
    """What a completion code means for the operator, whatever was tried before."""
    if completion == Completion.OK:
        return Reason.OK
    boot_options = command.netfn == NetFn.CHASSIS and command.command in (0x08, 0x09)
    if completion in UNSUPPORTED_CODES or (completion == 0x80 and boot_options):  # 28.12: parameter not supported
        return Reason.BMC_UNSUPPORTED
    if completion in BUSY_CODES or (completion == 0x81 and boot_options):  # 28.12: somebody else is setting it
        # A control that timed out inside the BMC may have had effect; every other busy code says that it was not done.
        return Reason.BMC_LOST if command.once and completion == Completion.TIMEOUT else Reason.BMC_BUSY
    return Reason.BMC_REFUSED


# Requests

GET_DEVICE_ID: Final = Command("device id", NetFn.APP, 0x01)  # 20.1
GET_SYSTEM_GUID: Final = Command("system guid", NetFn.APP, 0x37)  # 22.14
GET_SESSION_INFO: Final = Command("session info", NetFn.APP, 0x3D, b"\x00")  # 22.20, 0: this session
CHASSIS_STATUS: Final = Command("chassis status", NetFn.CHASSIS, 0x01)  # 28.2
RESTART_CAUSE: Final = Command("restart cause", NetFn.CHASSIS, 0x07)  # 28.11
GET_SEL_INFO: Final = Command("sel info", NetFn.STORAGE, 0x40)  # 31.2
GET_SEL_TIME: Final = Command("sel time", NetFn.STORAGE, 0x48)  # 31.10
DCMI_POWER: Final = Command("dcmi power reading", NetFn.GROUP, 0x02, b"\xdc\x01\x00\x00")  # DCMI 1.5, 6.6.1


def auth_capabilities(extended: bool = True) -> bytes:
    """Data of Get Channel Authentication Capabilities 06/38 (22.13): this channel, administrator.

    ``extended`` asks for IPMI 2.0 data (bit 7); some old BMCs refuse the bit with 0xCC.
    """
    return b"\x8e\x04" if extended else b"\x0e\x04"


def set_session_privilege(level: int) -> bytes:
    """Data of 06/3B (22.18)."""
    return bytes((level,))


def close_session(session: int) -> bytes:
    """Data of 06/3C (22.19): the BMC's session id."""
    return session.to_bytes(4, "little")


def chassis_control(action: Action) -> Command:
    """28.3. Sent once: a lost answer may hide a power-on that happened."""
    name = f"chassis control {action.name.lower().replace('_', ' ')}"
    return Command(name, NetFn.CHASSIS, 0x02, bytes((action,)), privilege=Privilege.OPERATOR, once=True)


def identify(seconds: int | None = 15) -> Command:
    """Chassis Identify 28.5: the locator light, 0-255 s (0: off); None: until told otherwise, which is optional."""
    data = b"\x00\x01" if seconds is None else bytes((seconds,))
    return Command("chassis identify", NetFn.CHASSIS, 0x04, data, privilege=Privilege.OPERATOR)


def set_restore_policy(policy: Policy) -> Command:
    """28.8. The answer is a byte of supported policies: bit 2 on, bit 1 previous, bit 0 off."""
    return Command("restore policy", NetFn.CHASSIS, 0x06, bytes((policy,)), privilege=Privilege.OPERATOR)


def get_boot_option(parameter: int) -> Command:
    """Get System Boot Options 28.13."""
    data = bytes((parameter & 0x7F, 0, 0))
    return Command(f"boot option {parameter} get", NetFn.CHASSIS, 0x09, data, privilege=Privilege.OPERATOR)


def set_boot_option(parameter: int, value: bytes, *, tolerate: bool = False) -> Command:
    """Set System Boot Options 28.12."""
    data = bytes((parameter & 0x7F,)) + value
    return Command(
        f"boot option {parameter} set", NetFn.CHASSIS, 0x08, data, privilege=Privilege.OPERATOR, tolerate=tolerate
    )


def boot_flags(source: BootSource, *, efi: bool = True, persistent: bool = False) -> bytes:
    """Value of boot parameter 5 (table 28-14): valid, once unless ``persistent``; 5 bytes."""
    return bytes((0x80 | (0x40 if persistent else 0) | (0x20 if efi else 0), source, 0, 0, 0))


def get_sel_entry(record: int) -> Command:
    """Get SEL Entry 31.5: the whole record with reservation 0; 0x0000 is the first, 0xFFFF the last one."""
    data = b"\x00\x00" + record.to_bytes(2, "little") + b"\x00\xff"
    return Command("sel entry", NetFn.STORAGE, 0x43, data)


# Answers. Each parser takes the data after the completion code and returns None when it is too short.


class AuthCapabilities(NamedTuple):
    """22.13. The user name and K_g flags are left out: they lie on Asus, Intel and Sun BMCs."""

    channel: int
    ipmi_20: bool  # RMCP+ is supported; False as well when the BMC gave no extended data


def parse_auth_capabilities(data: bytes) -> AuthCapabilities | None:
    if len(data) < 4:
        return None
    return AuthCapabilities(data[0] & 0x0F, bool(data[1] & 0x80 and data[3] & 0x02))


class ChassisStatus(NamedTuple):
    """28.2."""

    power_on: bool
    power_fault: bool
    power_overload: bool
    restore_policy: int  # Policy, or 3: unknown
    last_power_event: int  # bits: 0 AC failed, 1 overload, 2 interlock, 3 fault, 4 last power-on by command
    drive_fault: bool = False
    cooling_fault: bool = False


def parse_chassis_status(data: bytes) -> ChassisStatus | None:
    if len(data) < 3:
        return None
    power = data[0]
    return ChassisStatus(
        power_on=bool(power & 0x01),
        power_fault=bool(power & 0x18),  # fault in the main power subsystem, or its control
        power_overload=bool(power & 0x02),
        restore_policy=power >> 5 & 3,
        last_power_event=data[1] & 0x1F,
        drive_fault=bool(data[2] & 0x04),
        cooling_fault=bool(data[2] & 0x08),
    )


class DeviceId(NamedTuple):
    """20.1."""

    device: int
    firmware: str  # major.minor, as vendors print it
    manufacturer: int  # IANA enterprise number
    product: int
    ipmi: str = ""  # version: 1.5 or 2.0


def parse_device_id(data: bytes) -> DeviceId | None:
    if len(data) < 11:
        return None
    firmware = f"{data[2] & 0x7F}.{data[3]:02x}"  # minor is BCD
    return DeviceId(
        data[0],
        firmware,
        int.from_bytes(data[6:9], "little") & 0xFFFFF,
        int.from_bytes(data[9:11], "little"),
        f"{data[4] & 0x0F}.{data[4] >> 4}",  # BCD with the digits swapped
    )


class SessionSlots(NamedTuple):
    """How many sessions a BMC can hold, and holds now (22.20)."""

    total: int
    used: int


def parse_session_slots(data: bytes) -> SessionSlots | None:
    return SessionSlots(data[1] & 0x3F, data[2] & 0x3F) if len(data) >= 3 else None


class BootFlags(NamedTuple):
    """Boot parameter 5 as read back (28.13). HP DL380 G5 appends 12 bytes of junk: they are ignored."""

    valid: bool
    persistent: bool
    efi: bool
    source: int


def parse_boot_flags(data: bytes) -> BootFlags | None:
    if len(data) < 4:
        return None
    first, second = data[2], data[3]
    return BootFlags(bool(first & 0x80), bool(first & 0x40), bool(first & 0x20), second & 0x3C)


RESTART_CAUSES: Final = (  # 28.11, table 28-12
    "unknown",
    "chassis control command",
    "reset button",
    "power button",
    "watchdog",
    "oem",
    "always on by restore policy",
    "previous state by restore policy",
    "event filter reset",
    "event filter power cycle",
    "soft reset",
    "clock",
)
