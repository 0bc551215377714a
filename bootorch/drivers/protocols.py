"""What the runner asks of the outside world. Each call is one exchange: no policy, no decision, no exception for
remote trouble. A cancelled call must leave no socket, session or process behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from bootorch.core.errors import Problem
from bootorch.core.model import BootDevice, Check, Host, RedfishMeter
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.core.values import value

Scalar = str | int | float | bool


@value(frozen=True, slots=True)
class Reply:
    """The end of one exchange. ``detail`` is for people and holds no secret; ``data`` is evidence for the engine."""

    reason: Reason
    detail: str = ""
    data: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.reason is Reason.OK


class SecretStore(Protocol):
    """Gives out secrets at the moment of use. ``None``: it cannot be read (the detail is in ``why``)."""

    def bmc_password(self, host: Host) -> Secret | None: ...

    def bmc_key(self, host: Host) -> Secret | None:
        """The BMC's key K_g. ``None`` where the host's facts name none, or where it cannot be read."""
        ...

    def why(self, host: Host) -> str: ...


class MeterSecrets(Protocol):
    """Gives out the passwords of feeds' meters at the moment of use."""

    def meter_password(self, meter: RedfishMeter) -> Secret | Problem:
        """The Problem says why it cannot be read."""
        ...


class PowerDriver(Protocol):
    """Chassis control of one host. Every call checks the site fence again before a packet leaves."""

    async def read(self, host: Host, timeout_s: float) -> Reply:
        """Chassis power state: ``data["power"]`` is ``"on"`` or ``"off"``."""
        ...

    async def on(self, host: Host, device: BootDevice, timeout_s: float) -> Reply:
        """Power on a host that is off, in one session: read the state; where it is off, set ``device`` for the next
        boot only (none: leave the boot order alone), then send the power-on, once.

        ``data``: ``power``, as read before, where it could be; ``sent`` false where no power-on has left: it was on, or
        what comes before the power-on failed.
        """
        ...

    async def cycle(self, host: Host, timeout_s: float) -> Reply: ...

    async def meter(self, host: Host, timeout_s: float) -> Reply:
        """What the host draws now: ``data["watts"]`` (float). ``BMC_UNSUPPORTED`` where its BMC does not measure it."""
        ...

    def watch(self, host: Host, *, anew: bool) -> None:
        """Keep the tail of the host's console from now on. Returns at once; that there is no console, or no room for
        another one, is no error.

        ``anew``: a boot begins, what was written before is forgotten. Else a boot is under way, and nothing changes
        where its console is watched already.
        """
        ...

    def unwatch(self, host: Host) -> None:
        """The host's boot is over: its console is of no interest any more."""
        ...

    async def evidence(self, host: Host, since_s: float, timeout_s: float, *, console: bool) -> Reply:
        """What the BMC knows of a boot that failed, asked for ``since_s`` seconds ago; it ends the watch.

        ``console``: the host's console may be opened, to listen to it.

        ``data``: the keys of ``core.evidence``, those missing that the BMC does not have.
        """
        ...

    async def aclose(self) -> None: ...


class DrawDriver(Protocol):
    """Measured draw of hosts whose power is switched by something else, and of feeds. The site's fence is checked again
    before a packet leaves."""

    async def host(self, host: Host, timeout_s: float) -> Reply:
        """As ``PowerDriver.meter``."""
        ...

    async def feed(self, meter: RedfishMeter, timeout_s: float) -> Reply:
        """What the feed draws now: ``data["watts"]`` (float)."""
        ...

    async def aclose(self) -> None: ...


class ReachDriver(Protocol):
    """Evidence from the host itself."""

    async def boot_evidence(self, host: Host, timeout_s: float) -> Reply:
        """Over SSH: ``data["boot_id"]`` (text) and ``data["uptime_s"]`` (float)."""
        ...

    async def check(self, host: Host, check: Check, timeout_s: float) -> Reply: ...

    async def check_url(self, check: Check, timeout_s: float) -> Reply:
        """A gate's check, which belongs to no host; its address must be inside the site too."""
        ...

    async def aclose(self) -> None: ...


@value(frozen=True, slots=True)
class Slice:
    """One ansible-playbook process: hosts of one group, one playbook. ``ident`` names slice and attempt."""

    ident: str
    playbook: str
    hosts: tuple[Host, ...]
    forks: int


@value(frozen=True, slots=True)
class Verdict:
    """What the playbook did to one host, from statistics and never from the exit code."""

    reason: Reason  # OK, TASK_FAILED, DARK, NEVER_RAN or SLICE_LOST
    detail: str = ""  # failing task and its message, no_log respected
    changed: int = 0
    output: str = ""  # what the failing task wrote: its return code and a few lines, no secret among them


@value(frozen=True, slots=True)
class SliceReply:
    """Verdicts for every host of the slice. ``reason`` is OK when the process ended and gave its statistics."""

    reason: Reason
    detail: str
    verdicts: Mapping[str, Verdict]


class RedeployDriver(Protocol):
    async def run(self, work: Slice, timeout_s: float) -> SliceReply: ...

    async def aclose(self) -> None: ...
