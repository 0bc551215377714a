"""What a BMC answers inside a session: App and Chassis commands here, the others in the modules beside.

A handler takes (bmc, session, data, now) and returns completion code and data. ``data`` is as long as the table at
the end says, at least; what it holds is anybody's guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bootorch.ipmi import bmc_storage as storage
from bootorch.ipmi.bmc_session import Session
from bootorch.ipmi.bmc_sol import MAX_PAYLOAD, POLL_S, RETRIES, RETRY_S, Sol
from bootorch.ipmi.handshake import State
from bootorch.ipmi.messages import Action, Completion, NetFn, Policy, Privilege
from bootorch.ipmi.packet import Payload

if TYPE_CHECKING:
    from bootorch.ipmi.bmc import Bmc

Answer = tuple[int, bytes]
Handler = Callable[["Bmc", Session, bytes, float], Answer]

LAN_CHANNEL: Final = 1

# Numbers of the wire to the words here; what is not in them is refused (`in` an IntEnum needs Python 3.12).
_PRIVILEGES: Final = {level.value: level for level in Privilege}
_ACTIONS: Final = {action.value: action for action in Action}
_POLICIES: Final = {policy.value: policy for policy in Policy}
_OK: Final = Completion.OK.value
_DONE: Final[Answer] = (_OK, b"")
_NO_FIELD: Final[Answer] = (Completion.INVALID_FIELD.value, b"")


def is_lan_channel(number: int) -> bool:
    """The only channel there is, or 0x0E: the one that the request came through."""
    return number & 0x0F in (0x0E, LAN_CHANNEL)


# App: the BMC, its sessions and users


def _device_id(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """20.1. Supported: chassis, event log, sensor data repository, sensors; firmware's minor number is BCD."""
    device = bmc.chassis.device_id()
    major, minor = device.firmware
    head = bytes((device.device, 0x01, major & 0x7F, minor // 10 << 4 | minor % 10, 0x02, 0x87))
    maker = device.manufacturer.to_bytes(3, "little") + device.product.to_bytes(2, "little")
    return _OK, head + maker + bytes(4)


def _self_test(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, b"\x55\x00"  # 20.4: no error


def _guid(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, bmc.guid


def _auth_capabilities(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return bmc.auth_capabilities(data)


def _cipher_suites(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return bmc.cipher_suites(data)


def _set_privilege(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    level = data[0] & 0x0F
    if level == 0:  # 22.18: tell the present level
        return _OK, bytes((session.privilege,))
    if level not in _PRIVILEGES or level == Privilege.CALLBACK:
        return _NO_FIELD
    if level > session.limit or level > bmc.channel_limit:
        return 0x81, b""  # 22.18: exceeds channel or user limit
    session.privilege = _PRIVILEGES[level]
    return _OK, bytes((level,))


def _close(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    bmc_id = int.from_bytes(data[:4], "little")
    if bmc_id != session.bmc_id and session.privilege < Privilege.ADMIN:
        return Completion.PRIVILEGE, b""
    return (_OK if bmc.drop(bmc_id) else 0x87), b""  # 0x87: no such session


def _active_sessions(bmc: Bmc) -> list[Session]:
    return [session for session in bmc.sessions.values() if session.state is State.ACTIVE]


def _session_info(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """22.20: index 0 is the session that asks, others count the active ones; no handle where there is none."""
    active = _active_sessions(bmc)
    index = data[0] or active.index(session) + 1
    slots = bytes((bmc.max_sessions & 0x3F, len(active) & 0x3F))
    if index > len(active):
        return _OK, b"\0" + slots
    found = active[index - 1]
    user = list(bmc.users).index(found.name[2:]) + 2
    version = 0x00 if found.suite is None else 0x10  # IPMI 1.5, 2.0
    return _OK, bytes((index,)) + slots + bytes((user & 0x3F, found.privilege, version | LAN_CHANNEL))


def _channel_info(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """22.24: LAN, IPMB protocol, many sessions, the specification's own vendor number."""
    if not is_lan_channel(data[0]):
        return Completion.NOT_PRESENT, b""
    active = len(_active_sessions(bmc))
    return _OK, bytes((LAN_CHANNEL, 0x04, 0x01, 0x80 | active & 0x3F, 0xF2, 0x1B, 0x00, 0, 0))


def _channel_access(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """22.23: always available, authenticated per message and per user."""
    if not is_lan_channel(data[0]):
        return Completion.NOT_PRESENT, b""
    return _OK, bytes((0x02, bmc.channel_limit))


def _user(bmc: Bmc, number: int) -> bytes | None:
    """Users have the ids from 2 on, in the order of the mapping; 1 is the one without a name, which does not exist."""
    if not 2 <= number < len(bmc.users) + 2:
        return None
    return list(bmc.users)[number - 2]


def _user_access(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """22.27."""
    number = data[1] & 0x3F
    if not is_lan_channel(data[0]) or not number:
        return _NO_FIELD
    count = len(bmc.users)
    user = _user(bmc, number)
    access = 0x0F if user is None else 0x10 | bmc.privileges.get(user, Privilege.ADMIN)  # 0x0F: no access
    return _OK, bytes(((count + 1) & 0x3F, 0x40 | count & 0x3F, 0, access))


def _user_name(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """22.29: 16 bytes, the rest 0."""
    number = data[0] & 0x3F
    user = _user(bmc, number)
    if user is None and number != 1:
        return Completion.NOT_PRESENT, b""
    return _OK, (user or b"").ljust(16, b"\0")


# App and Transport: payloads, of which serial over LAN is the only one beside IPMI itself


def _payload_support(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.8: IPMI and SOL; the payloads of the handshake; no OEM ones."""
    return (_OK, bytes((0x03, 0x00, 0x3F, 0, 0, 0, 0, 0))) if is_lan_channel(data[0]) else _NO_FIELD


def _payload_version(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.9: 1.0."""
    return (_OK, b"\x10") if data[1] & 0x3F in (Payload.IPMI, Payload.SOL) else (0x80, b"")


def _active(bmc: Bmc, now: float) -> Sol | None:
    """The SOL payload that is in use: whose session lives, and that nobody has deactivated."""
    sol = bmc.sol
    return sol if sol is not None and not sol.ending and bmc.find(sol.session.bmc_id, now) is not None else None


def _payload_status(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.4: one instance, and whether it is active."""
    if data[0] & 0x3F != Payload.SOL:
        return _NO_FIELD
    return _OK, bytes((0x01, 1 if _active(bmc, now) is not None else 0, 0))


def _payload_instance(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.5: the session's id; and the serial port's number, 1."""
    if data[0] & 0x3F != Payload.SOL or data[1] != 1:
        return _NO_FIELD
    sol = _active(bmc, now)
    ident = 0 if sol is None else sol.session.bmc_id
    return _OK, ident.to_bytes(4, "little") + b"\x01" + bytes(7)


def _activate_payload(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.1. Encrypted and signed, as everything in a session here."""
    if data[0] & 0x3F != Payload.SOL or data[1] & 0x0F != 1:
        return 0x81, b""  # 24.1: payload type is disabled
    if session.channel is None or not data[2] & 0x80:
        return 0x84, b""  # 24.1: not without encryption
    if _active(bmc, now) is not None:
        return 0x80, b""  # 24.1: already active, in this or another session
    bmc.sol = Sol(bmc.chassis, session, now)
    size = MAX_PAYLOAD.to_bytes(2, "little")
    return _OK, bytes(4) + size + size + bmc.port.to_bytes(2, "little") + b"\xff\xff"


def _deactivate_payload(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """24.2. From another session, the console that loses it is told."""
    if data[0] & 0x3F != Payload.SOL or data[1] & 0x0F != 1:
        return 0x81, b""
    sol = _active(bmc, now)
    if sol is None:
        return 0x80, b""  # 24.2: already deactivated
    if sol.session is session:
        bmc.sol = None
    else:
        sol.end(now)
    return _DONE


# 26.2-26.3: parameters of serial over LAN, which nobody can change here.
_SOL_PARAMETERS: Final = {
    0: b"\x00",  # set complete
    1: b"\x01",  # enabled
    2: bytes((0xC0 | Privilege.OPERATOR,)),  # encrypted and signed, from operators on
    3: bytes((round(POLL_S / 0.005), 32)),
    4: bytes((RETRIES, round(RETRY_S / 0.01))),
    5: b"\x0a",  # 115,200 bits a second
    6: b"\x0a",
    7: bytes((LAN_CHANNEL,)),
}


def _get_sol(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    if not is_lan_channel(data[0]):
        return _NO_FIELD
    parameter = data[1]
    value = bmc.port.to_bytes(2, "little") if parameter == 8 else _SOL_PARAMETERS.get(parameter)
    if value is None:
        return 0x80, b""  # 26.3: parameter not supported
    return _OK, b"\x11" + (b"" if data[0] & 0x80 else value)  # bit 7: the revision only


def _set_sol(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    if data[1] == 0:  # set in progress: nothing to hold back
        return _DONE
    return 0x82 if data[1] <= 8 else 0x80, b""  # 26.2: read-only, not supported


# Chassis


def _capabilities(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, bytes((0, 0x20, 0x20, 0x20, 0x20))


def _chassis_status(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    """28.2."""
    chassis = bmc.chassis
    flags = chassis.power_flags(now)
    power = chassis.power_is_on(now) | flags.overload << 1 | flags.fault << 3 | (chassis.restore_policy() & 3) << 5
    return _OK, bytes((power, flags.last_event & 0x1F, 0))


def _chassis_control(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    action = _ACTIONS.get(data[0] & 0x0F)
    if action is None:
        return _NO_FIELD
    return bmc.chassis.control(action, now), b""


def _identify(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    forced = len(data) > 1 and data[1] & 1
    seconds = None if forced else (data[0] if data else 15)  # 28.5: 15 s unless told
    return bmc.chassis.identify(seconds, now), b""


def _restore_policy(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    policy = _POLICIES.get(data[0] & 7)
    if policy is None:
        return _NO_FIELD
    completion = _OK if policy is Policy.QUERY else bmc.chassis.set_restore_policy(policy)
    return completion, b"\x07" if completion == _OK else b""


def _restart_cause(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    return _OK, bytes((bmc.chassis.restart_cause() & 0x0F, LAN_CHANNEL))


def _set_boot_option(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    if len(data) == 1:  # 28.12: only the parameter's valid/lock bit, no value
        return _DONE
    return bmc.chassis.set_boot_option(data[0] & 0x7F, data[1:], now), b""


def _get_boot_option(bmc: Bmc, session: Session, data: bytes, now: float) -> Answer:
    parameter = data[0] & 0x7F
    value = bmc.chassis.boot_option(parameter, now)
    if value is None:
        return 0x80, b""
    return _OK, bytes((0x01, parameter)) + value


Entry = tuple[str, Privilege, int, Handler]

# netFn << 8 | command: (name for the witness, least privilege (appendix G), shortest data, handler).
COMMANDS: Final[dict[int, Entry]] = {
    netfn << 8 | command: (name, privilege, shortest, handler)
    for netfn, command, name, privilege, shortest, handler in (
        (NetFn.APP, 0x01, "device id", Privilege.USER, 0, _device_id),
        (NetFn.APP, 0x04, "self test", Privilege.USER, 0, _self_test),
        (NetFn.APP, 0x08, "device guid", Privilege.USER, 0, _guid),
        (NetFn.APP, 0x37, "system guid", Privilege.USER, 0, _guid),
        (NetFn.APP, 0x38, "auth capabilities", Privilege.CALLBACK, 2, _auth_capabilities),
        (NetFn.APP, 0x3B, "set session privilege", Privilege.CALLBACK, 1, _set_privilege),
        (NetFn.APP, 0x3C, "close session", Privilege.CALLBACK, 4, _close),
        (NetFn.APP, 0x3D, "session info", Privilege.USER, 1, _session_info),
        (NetFn.APP, 0x41, "channel access", Privilege.USER, 2, _channel_access),
        (NetFn.APP, 0x42, "channel info", Privilege.USER, 1, _channel_info),
        (NetFn.APP, 0x44, "user access", Privilege.OPERATOR, 2, _user_access),
        (NetFn.APP, 0x46, "user name", Privilege.OPERATOR, 1, _user_name),
        (NetFn.APP, 0x48, "activate payload", Privilege.OPERATOR, 6, _activate_payload),
        (NetFn.APP, 0x49, "deactivate payload", Privilege.OPERATOR, 2, _deactivate_payload),
        (NetFn.APP, 0x4A, "payload status", Privilege.USER, 1, _payload_status),
        (NetFn.APP, 0x4B, "payload instance", Privilege.USER, 2, _payload_instance),
        (NetFn.APP, 0x4E, "payload support", Privilege.USER, 1, _payload_support),
        (NetFn.APP, 0x4F, "payload version", Privilege.USER, 2, _payload_version),
        (NetFn.APP, 0x54, "cipher suites", Privilege.CALLBACK, 3, _cipher_suites),
        (NetFn.CHASSIS, 0x00, "chassis capabilities", Privilege.USER, 0, _capabilities),
        (NetFn.CHASSIS, 0x01, "chassis status", Privilege.USER, 0, _chassis_status),
        (NetFn.CHASSIS, 0x02, "chassis control", Privilege.OPERATOR, 1, _chassis_control),
        (NetFn.CHASSIS, 0x04, "chassis identify", Privilege.OPERATOR, 0, _identify),
        (NetFn.CHASSIS, 0x06, "restore policy", Privilege.OPERATOR, 1, _restore_policy),
        (NetFn.CHASSIS, 0x07, "restart cause", Privilege.USER, 0, _restart_cause),
        (NetFn.CHASSIS, 0x08, "boot option set", Privilege.OPERATOR, 1, _set_boot_option),
        (NetFn.CHASSIS, 0x09, "boot option get", Privilege.OPERATOR, 3, _get_boot_option),
        (0x04, 0x27, "sensor thresholds", Privilege.USER, 1, storage.thresholds),
        (0x04, 0x2D, "sensor reading", Privilege.USER, 1, storage.reading),
        (NetFn.STORAGE, 0x20, "sdr info", Privilege.USER, 0, storage.sdr_info),
        (NetFn.STORAGE, 0x22, "sdr reserve", Privilege.USER, 0, storage.sdr_reserve),
        (NetFn.STORAGE, 0x23, "sdr get", Privilege.USER, 6, storage.sdr_get),
        (NetFn.STORAGE, 0x40, "sel info", Privilege.USER, 0, storage.sel_info),
        (NetFn.STORAGE, 0x42, "sel reserve", Privilege.USER, 0, storage.sel_reserve),
        (NetFn.STORAGE, 0x43, "sel get", Privilege.USER, 6, storage.sel_get),
        (NetFn.STORAGE, 0x44, "sel add", Privilege.OPERATOR, 16, storage.sel_add),
        (NetFn.STORAGE, 0x47, "sel clear", Privilege.OPERATOR, 6, storage.sel_clear),
        (NetFn.STORAGE, 0x48, "sel time get", Privilege.USER, 0, storage.sel_time),
        (NetFn.STORAGE, 0x49, "sel time set", Privilege.OPERATOR, 4, storage.sel_set_time),
        (0x0C, 0x21, "sol set", Privilege.ADMIN, 3, _set_sol),
        (0x0C, 0x22, "sol get", Privilege.USER, 4, _get_sol),
        (0x2C, 0x02, "power reading", Privilege.USER, 4, storage.power_reading),
    )
}


def name_of(netfn: int, command: int, data: bytes) -> str:
    """What the witness writes down, with the action of a chassis control: ``chassis control on``."""
    entry = COMMANDS.get(netfn << 8 | command)
    if entry is None:
        return f"unknown {netfn:02x}/{command:02x}"
    if netfn == NetFn.CHASSIS and command == 0x02 and len(data) == 1 and data[0] in _ACTIONS:
        return f"{entry[0]} {_ACTIONS[data[0]].name.lower().replace('_', ' ')}"
    return entry[0]


def execute(bmc: Bmc, session: Session, netfn: int, command: int, data: bytes, now: float) -> Answer:
    """Completion code and data of one command, whatever it is."""
    entry = COMMANDS.get(netfn << 8 | command)
    if entry is None:
        return Completion.INVALID_COMMAND, b""
    _, privilege, shortest, handler = entry
    if session.privilege < privilege:
        return Completion.PRIVILEGE, b""
    if len(data) < shortest:
        return Completion.BAD_LENGTH, b""
    if bmc.behaviour is not None and bmc.behaviour.refuses_command():
        return Completion.BUSY, b""
    return handler(bmc, session, data, now)
