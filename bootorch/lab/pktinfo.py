"""UDP sockets that hear every address of 127.0.0.0/8 on one port, and answer from the one that was asked (ip(7))."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack, suppress
from typing import Final

IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)  # <linux/in.h>; Python names it from 3.14 on
PKTINFO_BYTES: Final = 12  # struct in_pktinfo: interface, local address, destination of the header; 4 bytes each
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(PKTINFO_BYTES)
MAX_DATAGRAM: Final = 2048  # an IPMI message over LAN has at most some 300 bytes; what is longer is none
_SO_RCVBUFFORCE: Final = 33  # <asm/socket.h>
_SO_MEMINFO: Final = 55  # <asm/socket.h>: counters, the last of which are datagrams dropped
_MEMINFO: Final = struct.Struct("=9I")

Ancillary = list[tuple[int, int, bytes]]


def open_socket(port: int, receive_buffer: int, *, shared: bool = False) -> socket.socket:
    """Non-blocking, bound to ``port`` on all addresses: its owner must refuse what is not ``is_loopback``.

    ``receive_buffer``: bytes; the kernel gives at most net.core.rmem_max, to root whatever is asked.
    ``shared``: other sockets of this process have the port too, and the kernel spreads the peers over them.
    OSError when the port is in use.
    """
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("0.0.0.0", port))  # noqa: S104 - see is_loopback
        stack.pop_all()
        return sock


def receive_buffer(sock: socket.socket) -> int:
    """Bytes of datagrams, their bookkeeping included, that the kernel keeps for us: half of what it reports."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams that found the receive buffer full."""
    return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8])


def is_loopback(address: str) -> bool:
    """Whether a source is of 127.0.0.0/8. The socket is open on every interface; the lab is for this machine only."""
    return address.startswith("127.")


def asked_address(ancillary: Ancillary) -> bytes | None:
    """The packed address that a datagram was sent to."""
    for level, kind, data in ancillary:
        if level == socket.SOL_IP and kind == IP_PKTINFO and len(data) >= PKTINFO_BYTES:
            return data[8:12]
    return None


def answer_from(asked: bytes) -> Ancillary:
    """What sendmsg is told, so that an answer leaves from the address that was asked."""
    return [(socket.SOL_IP, IP_PKTINFO, b"\0\0\0\0" + asked + b"\0\0\0\0")]
