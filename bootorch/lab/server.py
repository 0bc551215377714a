"""The lab's process: ``python -m bootorch.lab.server DIRECTORY [--detach]``.

It says one line of JSON on its standard output: ``{"ready": true}`` when its sockets are open, else what is wrong.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TextIO

import asyncssh
import structlog

from bootorch.core.errors import Exit, OperatorError, Problem, ToolError
from bootorch.core.secret import Secret
from bootorch.drivers.processes import kill_marked
from bootorch.lab import site
from bootorch.lab.bmcs import BmcSocket, LabBmc, Witness
from bootorch.lab.fleet import LabHost
from bootorch.lab.process import identify
from bootorch.lab.redfish import RedfishSocket, Service, Tree, bmc_resources, pdu_resources, server_context
from bootorch.lab.ssh import SshHost, SshSettings
from bootorch.lab.wire import WireFaults
from bootorch.sim.machine import Machine

log = structlog.get_logger()


class Node:
    """One server of the lab: when its machine's power changes, its SSH host follows, now or after the boot time."""

    def __init__(self, host: LabHost, machine: Machine, world: World) -> None:
        self.host = host
        self.machine = machine
        self.bmc = LabBmc(
            machine,
            self.changed,
            world.users,
            world.witness,
            port=world.bmc_port,
            watts=host.watts,
            epoch=world.epoch,
        )
        self._world = world
        self._ssh: SshHost | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Power went on, off, or round."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ssh is not None:
            self._ssh.cut()
        up_at = self.machine.os_up_at
        if up_at is not None:
            self._timer = self._world.loop.call_at(self._world.started + up_at, self._boot)
        log.info("power", host=self.host.name, on=self.machine.is_on(self._world.clock()), os_up_at=up_at)

    def _boot(self) -> None:
        self._task = self._world.loop.create_task(self._boot_task())

    async def _boot_task(self) -> None:
        # A timer may ring within the clock's resolution before its time.
        now = max(self._world.clock(), self.machine.os_up_at or 0.0)
        boot_id, uptime_s = self.machine.boot_id(now), self.machine.uptime_s(now)
        if boot_id is None or uptime_s is None:
            return  # the power went in the same turn of the loop
        if self._ssh is None:
            self._ssh = self._world.ssh_host(self.host)
        try:
            await self._ssh.boot(boot_id, uptime_s)
        except OSError as error:
            log.error("no SSH host: its port cannot be opened", host=self.host.name, error=str(error))
            return
        log.info("os up", host=self.host.name, boot_id=boot_id)

    def cut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ssh is not None:
            self._ssh.cut()

    async def wait(self) -> None:
        """Until a boot that is under way has finished."""
        if self._task is not None:
            await asyncio.wait([self._task])


class World:
    """All nodes of a lab, their sockets and their clock. Made inside the running loop."""

    def __init__(self, directory: Path, lab: site.Lab) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.epoch = time.time()
        self.bmc_port = lab.bmc_port
        self._secret = (directory / site.HOST_SECRET).read_text()
        self.users = {site.BMC_USER: Secret((directory / site.BMC_PASSWORD).read_text().rstrip("\n"))}
        self.witness = Witness(directory / site.BMC_LOG, self.clock)
        authorized = asyncssh.import_authorized_keys((directory / site.USER_KEY_PUBLIC).read_text())
        self._settings = SshSettings(directory, lab.ssh_port, site.SSH_USER, authorized, self._reap)
        self._cut: set[str] = set()  # directories of hosts that lost power in this turn of the loop
        self.nodes = [Node(host, Machine(host.machine, lab.seed), self) for host in lab.hosts]
        bmcs = {node.host.bmc_address: node.bmc for node in self.nodes}
        try:
            self._socket = BmcSocket(lab.bmc_port, bmcs, self.clock, wire=WireFaults(loss=lab.loss), seed=lab.seed)
            self._redfish = self._open_redfish(directory, lab) if lab.redfish_port else None
        except OSError:
            self.witness.close()
            raise

    def _open_redfish(self, directory: Path, lab: site.Lab) -> RedfishSocket:
        def service(resources: Tree) -> Service:
            return Service(self.users, resources, partial(secrets.token_urlsafe, 24))

        def answers(node: Node) -> bool:
            return node.machine.bmc_up(self.clock())

        def drawn(feed: str) -> float:
            now = self.clock()
            return float(sum(node.bmc.chassis.power_watts(now) or 0 for node in self.nodes if node.host.feed == feed))

        services: dict[str, tuple[Service, Callable[[], bool]]] = {
            node.host.bmc_address: (
                service(bmc_resources(node.host.name, node.bmc.chassis, self.clock)), partial(answers, node),
            )
            for node in self.nodes
        }  # fmt: skip
        feeds = sorted({host.feed for host in lab.hosts})
        pdus = {feed.rpartition("/")[2]: partial(drawn, feed) for feed in feeds}
        services[lab.pdu_address] = (service(pdu_resources(pdus)), lambda: True)
        try:
            return RedfishSocket(lab.redfish_port, services, server_context(directory / site.TLS_KEY))
        except OSError as error:
            raise port_in_use("TCP", "--redfish-port", lab.redfish_port, error) from error

    def clock(self) -> float:
        return self.loop.time() - self.started

    def ssh_host(self, host: LabHost) -> SshHost:
        key = asyncssh.import_private_key(site.private_text(site.host_key(self._secret, host.name)))
        return SshHost(host.name, host.address, key, self._settings)

    def _reap(self, directory: Path) -> None:
        """One look at all processes for all hosts that lose power at once."""
        if not self._cut:
            self.loop.call_soon(self._reap_now)
        self._cut.add(str(directory))

    def _reap_now(self) -> None:
        kill_marked(site.HOST_MARK, self._cut)
        self._cut.clear()

    async def start(self) -> None:
        """Electricity: BMCs answer, and servers that were on already are up when this returns."""
        self._socket.start()
        if self._redfish is not None:
            await self._redfish.start()
        already = [node for node in self.nodes if node.machine.is_on(self.clock())]
        for node in already:
            node._boot()
        for node in already:
            await node.wait()

    async def stop(self) -> None:
        self._socket.close()
        if self._redfish is not None:
            await self._redfish.close()
        for node in self.nodes:
            node.cut()
        for node in self.nodes:
            await node.wait()
        for node in self.nodes:
            node.cut()  # what came up in between
        kill_marked(site.LAB_MARK, {str(self._settings.lab)})
        await asyncio.sleep(0.1)  # the loop reaps what was killed, and connections end
        self.witness.close()


def serve(directory: Path, ready: Callable[[], None]) -> None:
    """Be the lab of ``directory`` until TERM, INT or the end of its lifetime. OperatorError when it cannot be."""
    try:
        lab = site.read_lab(directory)
    except (OSError, ValueError) as error:
        where = str(directory / site.LAB_JSON)
        raise ToolError(Problem(f"no lab can be read there: {error}", where, "bootorch lab down, then up")) from error
    with ExitStack() as stack:
        take_lock(directory, stack)
        _raise_file_limit()
        asyncio.run(_serve(directory, lab, ready))


async def _serve(directory: Path, lab: site.Lab, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _check_ssh_port(lab)
    try:
        world = World(directory, lab)
    except OSError as error:
        raise port_in_use("UDP", "--bmc-port", lab.bmc_port, error) from error
    try:
        await world.start()
        ready()
        log.info("lab up", hosts=len(lab.hosts), bmc_port=lab.bmc_port, ssh_port=lab.ssh_port)
        try:
            await asyncio.wait_for(stop.wait(), lab.lifetime_s)
        except TimeoutError:
            log.info("lifetime over", lifetime_s=lab.lifetime_s)
    finally:
        await world.stop()
    log.info("lab down")


def take_lock(directory: Path, stack: ExitStack) -> None:
    """Hold the lab's lock while ``stack`` lasts, with this process's identity in it. ToolError when another has it."""
    lock = stack.enter_context((directory / site.LOCK).open("a+"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = Problem("a lab is running there already", str(directory), f"bootorch lab down {directory}")
        raise ToolError(problem) from None
    own = identify(os.getpid())
    assert own is not None, "this process exists"
    lock.truncate(0)
    lock.write(f"{own.pid} {own.started}\n")
    lock.flush()


def port_in_use(kind: str, option: str, port: int, error: OSError) -> ToolError:
    message = f"{kind} port {port} cannot be opened: {error.strerror or error}"
    return ToolError(Problem(message, f"lab up {option}", "leave it out to have a free one chosen, or name another"))


def _check_ssh_port(lab: site.Lab) -> None:
    """SSH hosts open their port when they boot: better to hear now that something else holds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((lab.hosts[0].address, lab.ssh_port))
            probe.listen(1)
        except OSError as error:
            raise port_in_use("TCP", "--ssh-port", lab.ssh_port, error) from error


def _raise_file_limit() -> None:
    """A listener and some connections for every host that is up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def log_to(stream: TextIO) -> None:
    """The lab's log as lines of JSON. It is the process's log: a lab has a process to itself."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def _say(record: dict[str, object]) -> None:
    """Tell whoever started this process, and let go of the pipe: it ends when the news is told."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0])
    # The parent ends at once, so that the lab belongs to nobody's job and its end is reaped by init.
    if "--detach" in arguments[1:] and os.fork() != 0:
        os._exit(0)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        log_to(sys.stderr)
        serve(directory, partial(_say, {"ready": True}))
    except OperatorError as error:
        _say({"problems": [{"message": p.message, "where": p.where, "remedy": p.remedy} for p in error.problems]})
        return int(error.exit_code)
    return int(Exit.OK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
