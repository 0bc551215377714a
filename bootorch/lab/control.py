"""Start, stop and look at a lab: what ``bootorch lab up``, ``down`` and ``status`` are made of."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from bootorch.core.errors import InvalidInput, Problem, ToolError
from bootorch.drivers.processes import kill_marked
from bootorch.lab import site
from bootorch.lab.fleet import LabOptions, build, outcome_counts
from bootorch.lab.process import ProcessId, end, is_alive
from bootorch.sim.faults import Expected

READY_TIMEOUT_S = 60.0  # 32,000 hosts are made in some ten seconds
STOP_TIMEOUT_S = 10.0
_PORTS = range(20000, 32000)  # below the ports that Linux gives to outgoing connections (ip_local_port_range)
# Nothing that a shell, ssh's own option parser or a Jinja template would take for more than a letter.
_PLAIN_PATH = re.compile(r"[\w./+@=,:-]+")

# RMCP presence ping (IPMI 2.0 section 13.2.3): the one question that needs no session.
_PING = b"\x06\x00\xff\x06" + b"\x00\x00\x11\xbe\x80\x01\x00\x00"


@dataclass(frozen=True, slots=True)
class LabInfo:
    """A lab as it stands. ``pid`` is None when it is not running; ``expected``: host -> how it has to end."""

    directory: Path
    plan: Path
    inventory: Path
    bmc_log: Path
    running: bool
    pid: int | None
    seed: int
    network: str
    bmc_port: int
    ssh_port: int
    redfish_port: int  # 0: no Redfish
    expected: Mapping[str, Expected]
    outcomes: Mapping[str, int]

    @property
    def hosts(self) -> int:
        return len(self.expected)


@dataclass(frozen=True, slots=True)
class LabDown:
    """``stopped``: a process was running and is gone. ``left``: what is still in the directory; not the lab's."""

    directory: Path
    stopped: bool
    left: tuple[Path, ...]


def up(options: LabOptions) -> LabInfo:
    """Write a lab's files and start it in the background; returns when its sockets answer.

    InvalidInput for options that make no lab, and for a directory that is in use; ToolError when it cannot start.
    """
    directory = prepare(options)
    done = False
    try:
        _launch(directory)
        _probe(site.read_lab(directory))
        done = True
    finally:
        if not done:
            down(directory)
    return status(directory)


def foreground(options: LabOptions, ready: Callable[[LabInfo], None]) -> LabDown:
    """Be the lab until TERM, INT or its lifetime's end, then remove it. ``ready`` is called when its sockets answer."""
    from bootorch.lab.server import log_to, serve  # asyncssh: heavy, and only needed here

    directory = prepare(options)
    try:
        with (directory / site.SERVER_LOG).open("a") as log:
            log_to(log)
            serve(directory, lambda: ready(status(directory)))
    finally:
        gone = down(directory)
    return gone


def down(directory: Path) -> LabDown:
    """End the lab of this directory and remove what it wrote. InvalidInput when there is no lab.

    ToolError when something cannot be removed; calling it again goes on where it stopped.
    """
    directory = _lab_directory(directory)
    own_directory = _document(directory).get("own_directory") is True
    process = _server(directory)
    stopped = process is not None and process.pid != os.getpid() and end(process, STOP_TIMEOUT_S)
    kill_marked(site.LAB_MARK, {str(directory)})  # a server that was killed left its hosts' commands behind
    try:
        if (directory / site.HOSTS).is_dir():
            shutil.rmtree(directory / site.HOSTS)
        for path in site.WRITTEN:  # lab.json is the last of them: until then this is a lab's directory
            (directory / path).unlink(missing_ok=True)
    except OSError as error:
        problem = Problem(f"cannot be removed: {error.strerror}", str(error.filename), "remove it, then lab down again")
        raise ToolError(problem) from error
    runs = directory / "runs"
    for lock in runs.glob(".*.lock"):  # of the plan; runs themselves are somebody's records and stay
        lock.unlink(missing_ok=True)
    for path in {path.parent for path in site.WRITTEN} - {Path()} | {Path("runs")}:
        _remove_if_empty(directory / path)
    if own_directory:
        _remove_if_empty(directory)
    left = tuple(sorted(directory.iterdir())) if directory.is_dir() else ()
    return LabDown(directory, stopped, left)


def status(directory: Path) -> LabInfo:
    """The lab of this directory. InvalidInput when there is none."""
    directory = _lab_directory(directory)
    lab = _read(directory)
    process = _server(directory)
    return LabInfo(
        directory=directory,
        plan=directory / site.PLAN,
        inventory=directory / site.INVENTORY,
        bmc_log=directory / site.BMC_LOG,
        running=process is not None,
        pid=process.pid if process else None,
        seed=lab.seed,
        network=lab.network,
        bmc_port=lab.bmc_port,
        ssh_port=lab.ssh_port,
        redfish_port=lab.redfish_port,
        expected={host.name: host.expected for host in lab.hosts},
        outcomes=outcome_counts(lab.hosts),
    )


# Directory


def prepare(options: LabOptions) -> Path:
    """Check everything and write the lab's files; no process yet. The lab's absolute directory."""
    if not sys.platform.startswith("linux"):
        problem = Problem("a lab needs Linux: all of 127.0.0.0/8, /proc, IP_PKTINFO", "lab up", "run it on Linux")
        raise ToolError(problem)
    fleet = build(options)
    bmc_port = options.bmc_port or _free_port(socket.SOCK_DGRAM, options.ssh_port)
    ssh_port = options.ssh_port or _free_port(socket.SOCK_STREAM, bmc_port)
    redfish_port = options.redfish_port or _free_port(socket.SOCK_STREAM, ssh_port) if options.redfish else 0
    options = replace(options, bmc_port=bmc_port, ssh_port=ssh_port, redfish_port=redfish_port)
    directory, own_directory = _claim(options.directory)
    texts = site.files(fleet, options, directory, own_directory=own_directory)
    try:
        for path, text in texts.items():
            _write(directory / path, text, private=path in site.PRIVATE)
    except OSError as error:
        remedy = f"make room, then bootorch lab down {directory}"
        raise ToolError(Problem(f"cannot be written: {error.strerror}", str(error.filename), remedy)) from error
    return directory


def _claim(given: Path) -> tuple[Path, bool]:
    """The absolute directory, empty but for the lab's lock, and whether it was made here. InvalidInput if not ours."""
    directory = given.expanduser().absolute()
    where = str(directory)
    if not _PLAIN_PATH.fullmatch(where):
        message = "a lab's path goes into ssh's options, which take blanks, quotes and % apart"
        raise InvalidInput(Problem(message, where, "choose a path of letters, digits and ._+@=,:-"))
    try:
        directory.mkdir(mode=0o700)
        own_directory = True
    except FileExistsError:
        own_directory = False
    except OSError as error:
        problem = Problem(f"cannot be made: {error.strerror}", where, "make the directory above it, or choose another")
        raise InvalidInput(problem) from error
    if not own_directory:
        _check_empty(directory)
    try:
        (directory / site.LOCK).touch(exist_ok=False)
    except OSError as error:
        problem = Problem(f"a lab cannot be written there: {error.strerror}", where, "choose another directory")
        raise InvalidInput(problem) from error
    return directory, own_directory


def _check_empty(directory: Path) -> None:
    where = str(directory)
    if not directory.is_dir():
        raise InvalidInput(Problem("is not a directory", where, "choose another one"))
    if (directory / site.LAB_JSON).exists():
        state = "is running" if _server(directory) else "has ended"
        message = f"a lab that {state} is there already"
        raise InvalidInput(Problem(message, where, f"bootorch lab down {directory}, or choose another directory"))
    if any(directory.iterdir()):
        message = "the directory is not empty, and what is in it is not a lab's"
        raise InvalidInput(Problem(message, where, "choose another directory, or one that is not there yet"))


def _lab_directory(given: Path) -> Path:
    directory = given.expanduser().absolute()
    if not (directory / site.LAB_JSON).is_file():
        raise InvalidInput(Problem("no lab is there", str(directory), "name the directory that lab up was given"))
    return directory


def _document(directory: Path) -> dict[str, object]:
    try:
        document = json.loads((directory / site.LAB_JSON).read_text())
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {}  # lab down works without it


def _write(path: Path, text: str, *, private: bool) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _remove_if_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


# Process


def _server(directory: Path) -> ProcessId | None:
    """The running server of a lab: it holds the lock, and the lock's text says which process it is."""
    try:
        with (directory / site.LOCK).open() as lock:
            for _ in range(20):  # between taking the lock and writing into it
                if not _is_locked(lock):
                    return None
                words = lock.read().split()
                if len(words) == 2 and is_alive(process := ProcessId(int(words[0]), int(words[1]))):
                    return process
                lock.seek(0)
                time.sleep(0.05)
    except FileNotFoundError:
        return None
    raise ToolError(Problem("the lock is held by no lab", str(directory / site.LOCK), "see who has it open (fuser)"))


def _is_locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def _launch(directory: Path) -> None:
    """Start the server, and hear from it that it is ready."""
    words = [sys.executable, "-m", "bootorch.lab.server", str(directory), "--detach"]
    with (
        (directory / site.SERVER_LOG).open("ab") as log,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        ) as launcher,
    ):
        assert launcher.stdout is not None, "asked for a pipe"
        line = b""
        if select.select([launcher.stdout], [], [], READY_TIMEOUT_S)[0]:
            line = launcher.stdout.readline()
    said = json.loads(line) if line else {}
    if said.get("ready"):
        return
    if problems := said.get("problems"):
        raise ToolError(Problem(**problem) for problem in problems)
    last = (directory / site.SERVER_LOG).read_text(errors="replace").strip().rpartition("\n")[2]
    reason = f": {last}" if last else ""
    raise ToolError(
        Problem(f"the lab's server did not start{reason}", str(directory), "start it again with --foreground")
    )


def _probe(lab: site.Lab) -> None:
    """Ask one living BMC, and one SSH host that was on already, as a client would. ToolError when they are silent."""
    living = next((host for host in lab.hosts if not host.machine.dead_bmc), None)
    if living is not None and not lab.loss and not _pings(living.bmc_address, lab.bmc_port):
        where = f"{living.bmc_address}:{lab.bmc_port}"
        raise ToolError(
            Problem("the lab runs, but a BMC does not answer", where, "is UDP on 127.0.0.0/8 filtered here?")
        )
    running = next((host for host in lab.hosts if host.machine.initially_on), None)
    if running is not None:
        try:
            socket.create_connection((running.address, lab.ssh_port), timeout=5.0).close()
        except OSError as error:
            where = f"{running.address}:{lab.ssh_port}"
            message = f"the lab runs, but an SSH host does not answer: {error.strerror or error}"
            raise ToolError(Problem(message, where, "is TCP on 127.0.0.0/8 filtered here?")) from error


def _pings(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect((address, port))
        for _ in range(10):
            try:
                client.send(_PING)
                if client.recv(64):
                    return True
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                return False
    return False


def _free_port(kind: socket.SocketKind, taken: int) -> int:
    """A port that nobody holds on any address now."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - closed at once
            except OSError:
                continue
        if port != taken:
            return port
    raise ToolError(
        Problem("no free port was found", f"{_PORTS.start}-{_PORTS.stop}", "name one: --bmc-port, --ssh-port")
    )


def _read(directory: Path) -> site.Lab:
    try:
        return site.read_lab(directory)
    except (OSError, ValueError) as error:
        remedy = f"bootorch lab down {directory}, then up again"
        raise ToolError(Problem(f"cannot be read: {error}", str(directory / site.LAB_JSON), remedy)) from error
