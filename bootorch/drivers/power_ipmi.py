"""Chassis control over IPMI for the runs of a plan: ``PowerDriver`` on top of the fleet engine, inside asyncio.

The protocol, who is asked when, and what is tried again are in ``bootorch.ipmi``; the sockets in ``drivers.bmc_net``.
Here is what joins them to one event loop, and what the answers mean for a host.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from bootorch.core.model import BootDevice, Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.bmc_net import TURNS_BEFORE_TIMERS, Ports, drain, socket_address
from bootorch.drivers.boot_consoles import MOST_WATCHED, BootConsoles
from bootorch.drivers.console import MOST_OPEN, Consoles
from bootorch.drivers.protocols import Reply, Scalar, SecretStore
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts
from bootorch.ipmi.client import Result, Script
from bootorch.ipmi.fleet import Fleet, Job
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.login15 import check_password
from bootorch.ipmi.messages import Action, BootSource, Policy
from bootorch.ipmi.pacing import Pacing
from bootorch.ipmi.sensors import Power, power_reading

SWITCHED_S: Final = 30.0  # after a power command its host is read before those that nobody has switched on yet
SEL_STEP_S: Final = 1.0  # an event's time is cut to whole seconds (37.1): it may seem older than the request
_SOURCES: Final = {
    BootDevice.DISK: BootSource.DISK,
    BootDevice.PXE: BootSource.PXE,
    BootDevice.CDROM: BootSource.CDROM,
    BootDevice.BIOS: BootSource.BIOS,
}
_LAST_EVENTS: Final = ((1, "AC failed"), (2, "overload"), (4, "interlock"), (8, "power fault"), (16, "on by command"))


class IpmiPower:
    """``PowerDriver`` over IPMI, cipher suites 17 and 3. Belongs to one event loop; ``aclose`` at the end.

    ``site`` is the fence, checked right before the first packet of every exchange. ``consoles``: so many boots are
    watched at a time. ``holds``: may anything be sent now (``Lease.holds``)? It is asked for every datagram, because an
    exchange has many, and the process may be stopped between any two.
    """

    def __init__(
        self,
        site: Site,
        secrets: SecretStore,
        pacing: Pacing | None = None,
        consoles: int = MOST_WATCHED,
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        self._site = site
        self._secrets = secrets
        self._ports = Ports(holds)
        self._ports.opened = self._opened
        self._fleet = Fleet(self._ports.send, random=os.urandom, allows=site.allows_bmc, pacing=pacing)
        self._consoles = Consoles(site, most_open=MOST_OPEN + consoles, holds=holds)
        self._boots = BootConsoles(self._consoles, consoles)
        self._leaving: set[asyncio.Task[None]] = set()  # consoles that are being freed
        self._wake: asyncio.TimerHandle | None = None
        self._turns = 0  # in a row that did not take everything that had arrived
        self._closed = False
        self._switched: dict[str, float] = {}  # host: loop time of its latest command

    # PowerDriver

    async def read(self, host: Host, timeout_s: float) -> Reply:
        """``data``: ``power`` "on" or "off"; ``fault``, ``overload`` (bool); ``last_power_event``, ``restore_policy``
        (text); ``suite`` (cipher suite of the session)."""
        waited_s = asyncio.get_running_loop().time() - self._switched.get(host.name, float("-inf"))
        result = await self._call(host, scripts.chassis_status, timeout_s, urgent=waited_s < SWITCHED_S)
        if isinstance(result, Reply):
            return result
        status = result.value
        assert isinstance(status, msg.ChassisStatus), "a script that ends well returns its value"
        data = {**_chassis(status), "restore_policy": _policy_name(status.restore_policy), "suite": result.suite}
        return Reply(Reason.OK, f"power {data['power']}", data)

    async def on(self, host: Host, device: BootDevice, timeout_s: float) -> Reply:
        """State, boot device and Chassis Control On in one session, the last sent at most once.

        ``BMC_LOST``: it may have had effect, read the state back first. EFI boot, unless the host's fact ``boot_mode``
        says ``legacy``.
        """
        self._switched[host.name] = asyncio.get_running_loop().time()
        progress = scripts.Switching()
        source = None if device is BootDevice.NONE else _SOURCES[device]
        efi = host.fact("boot_mode") != "legacy"
        script = partial(scripts.switch_on, progress, source, efi=efi, model=host.model)
        result = await self._call(host, script, timeout_s, urgent=True)
        data: dict[str, Scalar] = {} if progress.sent else {"sent": False}
        if progress.status is not None:
            data["power"] = "on" if progress.status.power_on else "off"
        if isinstance(result, Reply):
            return Reply(result.reason, result.detail, {**result.data, **data})
        data["suite"] = result.suite
        if not progress.sent:
            return Reply(Reason.OK, "on already, nothing was sent", data)
        boot = "" if source is None else f", next boot from {device}"
        note = f"; {progress.note}" if progress.note else ""
        return Reply(Reason.OK, f"power on accepted{boot}{note}", data)

    async def cycle(self, host: Host, timeout_s: float) -> Reply:
        """Chassis Control Cycle, sent at most once; ``BMC_REFUSED`` where the host is off, on most BMCs."""
        return await self._control(host, Action.CYCLE, timeout_s)

    async def meter(self, host: Host, timeout_s: float) -> Reply:
        """DCMI's power reading, or else the BMC's sensors in watts. ``data``: ``watts``, ``source`` (what was read).

        ``BMC_UNSUPPORTED`` where it has neither.
        """
        result = await self._call(host, power_reading, timeout_s)
        if isinstance(result, Reply):
            return result
        power = result.value
        assert isinstance(power, Power), "a script that ends well returns its value"
        return Reply(Reason.OK, f"draws {power.watts:g} W", {"watts": power.watts, "source": power.source})

    def watch(self, host: Host, *, anew: bool) -> None:
        """Keep the end of what the host writes to its serial console, until ``unwatch`` or ``evidence``."""
        if self._closed or host.fact("bmc_ipmi") == "1.5" or not self._site.allows_bmc(host.bmc.address):
            return  # serial over LAN came with 2.0
        if not self._boots.wants(host, anew=anew):
            return
        credentials = self._credentials(host)
        if isinstance(credentials, Credentials):
            self._boots.watch(host, credentials, _suites(host))

    def unwatch(self, host: Host) -> None:
        """The host's boot is over: free its console."""
        task = asyncio.ensure_future(self._boots.unwatch(host))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def evidence(self, host: Host, since_s: float, timeout_s: float, *, console: bool) -> Reply:
        """Why the host did not boot, as far as its BMC knows; see ``core.evidence`` for the keys of ``data``."""
        clock = asyncio.get_running_loop().time
        asked = clock() - SEL_STEP_S
        result = await self._call(host, lambda: scripts.evidence(lambda: since_s + clock() - asked), timeout_s)
        credentials = self._credentials(host)
        if isinstance(credentials, Reply):
            return credentials
        said = None
        if console and host.fact("bmc_ipmi") != "1.5":
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    said = await self._boots.last_words(host, credentials, _suites(host))
        data: dict[str, Scalar] = {} if said is None else {"console": said}
        if isinstance(result, Reply):
            # A console that speaks is evidence even where the BMC has stopped answering.
            return Reply(Reason.OK, result.detail, data) if said else result
        found = result.value
        assert isinstance(found, scripts.Evidence), "a script that ends well returns its value"
        if found.status is not None:
            data |= _chassis(found.status)
        if found.events is not None:
            data["sel"] = "\n".join(found.events)
        data |= {
            key: text
            for key, text in (("restart_cause", found.restart_cause), ("manufacturer", found.manufacturer))
            if text
        }
        return Reply(Reason.OK, found.note, data)

    async def aclose(self) -> None:
        """End every exchange (``INTERRUPTED``), close what sessions there are, and all sockets."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await self._boots.aclose()
        await asyncio.gather(*self._leaving)
        await self._consoles.aclose()
        self._fleet.abort(loop.time())
        for sock in self._ports.sockets():
            loop.remove_reader(sock)
        self._ports.close()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # One call

    async def _control(self, host: Host, action: Action, timeout_s: float) -> Reply:
        self._switched[host.name] = asyncio.get_running_loop().time()
        result = await self._call(host, lambda: scripts.chassis_control(action), timeout_s, urgent=True)
        if isinstance(result, Reply):
            return result
        return Reply(Reason.OK, f"power {action.name.lower()} accepted", {"suite": result.suite})

    async def _call(
        self, host: Host, script: Callable[[], Script], timeout_s: float, *, urgent: bool = False
    ) -> Result | Reply:
        """The result of an exchange that ended well, or the reply that says why there is none.

        ``urgent``: a command of a host that holds watts and slots goes before the thousands of BMCs that are only read.

        ``timeout_s`` counts from the first packet: a host that waits for its turn on the network is not late.
        """
        if self._closed:
            raise RuntimeError("the IPMI driver was closed")
        if not self._site.allows_bmc(host.bmc.address):
            return _outside(host)
        credentials = self._credentials(host)
        if isinstance(credentials, Reply):
            return credentials
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def done(job: Job, result: Result, now: float) -> None:
            if not future.done():
                future.set_result(result)

        address = socket_address(host.bmc.address, host.bmc.port)
        version = host.fact("bmc_ipmi") or "2.0"
        suites = _suites(host)
        job = Job(address, credentials, script, timeout_s, done, suites=suites, version=version, urgent=urgent)
        self._fleet.submit(job, loop.time())
        self._arm()
        try:
            result = await future
        except asyncio.CancelledError:
            if not self._closed:
                self._fleet.cancel(job, loop.time())
                self._arm()  # others may have begun in its place
            raise
        if result.reason is Reason.OK:
            return result
        if result.reason is Reason.OUTSIDE_SITE:
            return _outside(host)
        detail = result.detail
        if result.reason is Reason.BMC_UNREACHABLE and (trouble := self._ports.trouble.get(address)):
            detail = f"{detail}; this machine says: {trouble}"
        return Reply(result.reason, f"{host.bmc}: {detail}", {"suite": result.suite})

    def _credentials(self, host: Host) -> Credentials | Reply:
        password = self._secrets.bmc_password(host)
        if password is None:
            return Reply(Reason.NO_SECRET, f"{host.name}: no BMC password: {self._secrets.why(host)}")
        key = self._secrets.bmc_key(host)
        if key is None and host.fact("bmc_kg_file"):
            return Reply(Reason.NO_SECRET, f"{host.name}: no K_g: {self._secrets.why(host)}")
        try:
            credentials = Credentials(host.bmc_user.encode(), password, key)
            if host.fact("bmc_ipmi") == "1.5":
                check_password(credentials)
            return credentials
        except ValueError as error:
            return Reply(Reason.NO_SECRET, f"{host.name}: {error}")

    # Sockets and timers

    def _opened(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(sock, self._readable, sock)

    def _readable(self, sock: socket.socket) -> None:
        drain(sock, self._fleet, asyncio.get_running_loop().time)
        self._arm()

    def _arm(self) -> None:
        """One timer of the loop, for the earliest of the fleet."""
        due = self._fleet.next_timer()
        if due is None or self._closed:
            return
        if self._wake is not None:
            if self._wake.when() <= due:
                return
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_at(due, self._timers)

    def _timers(self) -> None:
        loop = asyncio.get_running_loop()
        self._wake = None
        more = False
        for sock in self._ports.sockets():  # an answer that has come already was not lost
            more = drain(sock, self._fleet, loop.time) or more
        self._turns = self._turns + 1 if more else 0
        if not self._turns % TURNS_BEFORE_TIMERS:
            self._fleet.handle_timers(loop.time())
            self._arm()
        else:
            self._wake = loop.call_at(loop.time(), self._timers)


def _suites(host: Host) -> tuple[int, ...]:
    """Cipher suites in order of preference: the host's fact ``bmc_suites`` (checked when it was read), or both."""
    return tuple(map(int, host.fact("bmc_suites").replace(",", " ").split())) or (17, 3)


def _chassis(status: msg.ChassisStatus) -> dict[str, Scalar]:
    return {
        "power": "on" if status.power_on else "off",
        "fault": status.power_fault,
        "overload": status.power_overload,
        "last_power_event": ", ".join(name for bit, name in _LAST_EVENTS if status.last_power_event & bit),
    }


def _outside(host: Host) -> Reply:
    return Reply(
        Reason.OUTSIDE_SITE, f"{host.name}: BMC {host.bmc} is outside the site's bmc_networks; nothing was sent"
    )


def _policy_name(number: int) -> str:
    return Policy(number).name.lower() if number < Policy.QUERY else "unknown"
