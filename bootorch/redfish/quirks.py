"""What Redfish services do, and what it means, as data with sources. Nothing else in the code knows a vendor.

``REFUSALS`` are looked up by status and message; ``ALWAYS`` are rules that are harmless for services which keep to the
specification, each kept by the code that its row names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason


class Refusal(NamedTuple):
    """``status``: of HTTP, 0 for any; ``message``: end of a message's identifier, empty for any. The first that fits
    counts. ``again``: the same may be asked again after a pause."""

    status: int
    message: str
    reason: Reason
    source: str
    again: bool = False


_BASE = "DSP0268, Base message registry"

REFUSALS: Final = (
    Refusal(0, "SessionLimitExceeded", Reason.BMC_NO_SESSION, _BASE),
    Refusal(503, "RAC0218", Reason.BMC_NO_SESSION, "iDRAC: all sessions taken"),
    Refusal(0, "UnauthorizedLoginAttempt", Reason.BMC_AUTH_FAILED, "iLO answers a wrong password with 400 and this"),
    Refusal(0, "PasswordChangeRequired", Reason.BMC_REFUSED, _BASE),
    Refusal(0, "InsufficientPrivilege", Reason.BMC_REFUSED, _BASE),
    Refusal(0, "SYS518", Reason.BMC_BUSY, "iDRAC: not ready yet", again=True),
    Refusal(0, "SWC0700", Reason.BMC_BUSY, "iDRAC: not ready yet", again=True),
    Refusal(0, "RAC0508", Reason.BMC_BUSY, "iDRAC: not ready yet", again=True),
    Refusal(0, "ServiceTemporarilyUnavailable", Reason.BMC_BUSY, _BASE, again=True),
    Refusal(0, "ServiceInUnknownState", Reason.BMC_BUSY, _BASE, again=True),
    Refusal(401, "", Reason.BMC_AUTH_FAILED, "DSP0266, 7.5"),
    Refusal(403, "", Reason.BMC_REFUSED, "DSP0266, 7.5"),
    Refusal(404, "", Reason.BMC_UNSUPPORTED, "DSP0266, 7.5"),
    Refusal(405, "", Reason.BMC_UNSUPPORTED, "DSP0266, 7.5"),
    Refusal(410, "", Reason.BMC_UNSUPPORTED, "DSP0266, 7.5"),
    Refusal(429, "", Reason.BMC_BUSY, "RFC 6585, 4", again=True),
    Refusal(501, "", Reason.BMC_UNSUPPORTED, "DSP0266, 7.5"),
    Refusal(503, "", Reason.BMC_BUSY, "DSP0266, 7.5", again=True),
)


def refusal(status: int, messages: Sequence[str]) -> tuple[Reason, bool]:
    """What a response that is no success means, and whether the same may be asked again later."""
    for row in REFUSALS:
        if row.status in (0, status) and (not row.message or any(said.endswith(row.message) for said in messages)):
            return row.reason, row.again
    return Reason.BMC_PROTOCOL, False


class Rule(NamedTuple):
    """``kept_by``: module and name of the code that keeps it."""

    what: str
    kept_by: str
    source: str


WATTS_AS_TEXT: Final = Rule(
    "a power is a text of digits instead of a number", "wire.watts", "OCS rack manager: PowerConsumedWatts is quoted"
)
ALWAYS: Final = (
    WATTS_AS_TEXT,
    Rule("the root wants a login first", "client.exchange", "against DSP0266, 13.3.1: sushy-emulator with a password"),
    Rule("the root links SessionService and not its Sessions", "client.exchange", "badfish's iDRAC emulator"),
    Rule("a chassis has Power among its Links", "power._linked", "badfish's iDRAC emulator"),
    Rule("Location of a new session is an absolute URL", "wire.link", "iLO, iDRAC; DSP0266 allows both"),
    Rule("a new session answers 200 instead of 201", "client.exchange", "DSP0266 wants 201"),
    Rule("identity is no encoding for it: 406", "client.exchange", "some BMCs, for which Accept-Encoding is left out"),
    Rule("bodies are packed although identity was asked for", "wire.document", "the other half of the same"),
    Rule("a connection that is kept open is closed without a word", "wire.Request", "many BMCs and keep-alive"),
    Rule(
        "PowerControl is there and empty",
        "power.power_control",
        "Dell R740, iDRAC 4.22: quadsproject/badfish, issue 388",
    ),
    Rule("PowerControl has no PowerConsumedWatts", "power.power_control", "NVIDIA: quadsproject/badfish, issue 395"),
    Rule("a power sensor answers 500", "power._chassis", "OpenBMC: ibm-openbmc/dev, issue 3620"),
    Rule("0 W until something was measured", "power.host_draw", "assumption: harmless elsewhere"),
)
