"""IPMI LAN messages: the innermost layer, the same inside IPMI 1.5 and RMCP+ sessions (IPMI 2.0, 13.8).

Request:  rsAddr, netFn<<2|rsLUN, checksum, rqAddr, rqSeq<<2|rqLUN, cmd, data…, checksum
Response: rqAddr, netFn<<2|rqLUN, checksum, rsAddr, rqSeq<<2|rsLUN, cmd, completion code, data…, checksum
A response's network function is the request's plus one.
"""

from __future__ import annotations

from typing import NamedTuple

BMC_ADDRESS = 0x20  # 13.8: the BMC's slave address
CONSOLE_ADDRESS = 0x81  # 13.8: first software id of a remote console

# Largest command payload the project sends or accepts. FreeIPMI and OpenBMC stay under 256 bytes per LAN message.
MAX_MESSAGE = 1024


class Request(NamedTuple):
    netfn: int  # even
    command: int
    sequence: int  # 0-63
    data: bytes
    console_address: int = CONSOLE_ADDRESS
    console_lun: int = 0


class Response(NamedTuple):
    netfn: int  # odd
    command: int
    sequence: int  # 0-63
    completion: int
    data: bytes


def checksum(data: bytes) -> int:
    """Two's complement of the sum (13.8): data and checksum together add up to 0 modulo 256."""
    return -sum(data) & 0xFF


def encode_request(netfn: int, command: int, sequence: int, data: bytes = b"") -> bytes:
    tail = bytes((CONSOLE_ADDRESS, (sequence & 0x3F) << 2, command)) + data
    first = netfn << 2
    # The first checksum covers two bytes; computed in place because this runs once per packet.
    return bytes((BMC_ADDRESS, first, -(BMC_ADDRESS + first) & 0xFF)) + tail + bytes((-sum(tail) & 0xFF,))


def encode_response(request: Request, completion: int, data: bytes = b"") -> bytes:
    first = (request.netfn | 1) << 2 | request.console_lun
    tail = bytes((BMC_ADDRESS, request.sequence << 2, request.command, completion)) + data
    address = request.console_address
    return bytes((address, first, -(address + first) & 0xFF)) + tail + bytes((-sum(tail) & 0xFF,))


def decode_request(message: bytes) -> Request | None:
    """The request to a BMC, or None when it is not one. A BMC has to check both checksums (13.8)."""
    if not 7 <= len(message) <= MAX_MESSAGE or message[1] & 0x04:
        return None
    if sum(message[:3]) & 0xFF or sum(message[3:]) & 0xFF:
        return None
    return Request(message[1] >> 2, message[5], message[4] >> 2, message[6:-1], message[3], message[4] & 3)


def decode_response(message: bytes) -> Response | None:
    """The response of a BMC, or None when it is too short or a request.

    Checksums are not looked at: Supermicro X9 sends wrong ones under a valid HMAC, and the HMAC decides. Neither is
    the console's address, which some BMCs do not echo.
    """
    if not 8 <= len(message) <= MAX_MESSAGE or not message[1] & 0x04:
        return None
    return Response(message[1] >> 2, message[5], message[4] >> 2, message[6], message[7:-1])
