"""What a BMC remembers of one console, and the ways in which a BMC of the lab misbehaves on purpose."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from bootorch.core.secret import Secret
from bootorch.ipmi.crypto import Suite
from bootorch.ipmi.handshake import State
from bootorch.ipmi.messages import Privilege
from bootorch.ipmi.packet import Channel

IDLE_S: Final = 60.0  # 6.12.15: 60 s ± 3 s of silence end a session
HALF_OPEN_S: Final = 3.0  # OpenBMC: a handshake has 3 s
CROWDED_S: Final = 1.0  # and less when all slots are taken, or a flood of Open Session locks everybody out

_NOBODY: Final = Secret(b"")


class Session:
    """A session, or the handshake that may become one. ``peer`` is where its latest packet came from.

    A session of IPMI 1.5 has neither ``suite`` nor ``channel``.
    """

    __slots__ = (
        "bmc_id",
        "channel",
        "console_id",
        "limit",
        "name",
        "password",
        "peer",
        "privilege",
        "r_c",
        "r_m",
        "seen_at",
        "sik",
        "state",
        "suite",
    )

    def __init__(self, bmc_id: int, console_id: int, chosen: Suite | None, peer: Hashable, now: float) -> None:
        self.bmc_id = bmc_id
        self.console_id = console_id
        self.suite = chosen
        self.state = State.OPENING
        self.peer = peer
        self.seen_at = now
        self.limit = Privilege.ADMIN
        self.privilege = Privilege.USER  # 22.18: where every session starts
        self.name = b""
        self.r_m = b""
        self.r_c = b""
        self.password = _NOBODY
        self.sik = b""
        self.channel: Channel | None = None

    def expired(self, now: float, crowded: bool = False) -> bool:
        if self.state is State.ACTIVE:
            return now - self.seen_at >= IDLE_S
        return now - self.seen_at >= (CROWDED_S if crowded else HALF_OPEN_S)


@dataclass(slots=True)
class Behaviour:
    """Faults of the protocol, one object per BMC: its counts are used up, ``math.inf`` never ends.

    ``busy``: so many commands in sessions are answered 0xC0 and not executed. ``no_slots``: so many Open Session
    Requests are refused for want of a free slot. ``downgrade``: whatever was proposed, suite 3 is echoed with status
    0, as pyghmi's BMC does. ``rogue``: the BMC does not know the password, so its proof in RAKP2 is wrong.
    """

    busy: float = 0
    no_slots: float = 0
    downgrade: bool = False
    rogue: bool = False

    def refuses_command(self) -> bool:
        """Counts one command in a session."""
        refused = self.busy > 0
        self.busy -= refused
        return refused

    def refuses_session(self) -> bool:
        """Counts one Open Session Request."""
        refused = self.no_slots > 0
        self.no_slots -= refused
        return refused
