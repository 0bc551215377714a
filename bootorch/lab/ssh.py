"""One SSH host of a lab: it listens while the machine's operating system is up, and runs what it is told for real.

Commands run as the user who started the lab, in the host's own directory, with an environment of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import structlog

from bootorch.lab.site import EVIDENCE, HOST_MARK, LAB_MARK

LOGIN_TIMEOUT_S = 30.0  # OpenSSH gives 120 s (LoginGraceTime); a lab's clients are on the same machine
_CHUNK_BYTES = 65536
BACKLOG = 128  # OpenSSH's own (SSH_LISTEN_BACKLOG)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What all SSH hosts of a lab share. ``reap`` kills what still runs for a host's directory."""

    lab: Path
    port: int
    user: str
    authorized: asyncssh.SSHAuthorizedKeys
    reap: Callable[[Path], None]


class SshHost:
    """``boot`` begins to listen, ``cut`` ends everything at once, as a power failure does."""

    def __init__(self, name: str, address: str, key: asyncssh.SSHKey, settings: SshSettings) -> None:
        self.name = name
        self._address = address
        self._key = key
        self._settings = settings
        self.directory = settings.lab / "hosts" / name
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._commands: set[Process] = set()
        self._boots = 0

    async def boot(self, boot_id: str, uptime_s: float) -> None:
        """The operating system is up: leave the boot's evidence and listen. OSError when the port is in use."""
        self._boots += 1
        this_boot = self._boots
        self._write_evidence(boot_id, uptime_s)
        acceptor = await asyncssh.listen(
            self._address,
            self._settings.port,
            server_factory=lambda: _Connection(self),
            server_host_keys=[self._key],
            process_factory=self._run,
            sftp_factory=lambda channel: _Sftp(channel, self.directory),
            encoding=None,
            line_editor=False,  # a terminal is granted to who insists (ssh -tt), and is a pipe
            login_timeout=LOGIN_TIMEOUT_S,
            backlog=BACKLOG,
            reuse_address=True,
            config=None,
        )
        if this_boot != self._boots:  # the power went while the socket was being opened
            acceptor.close()
            return
        self._acceptor = acceptor

    def cut(self) -> None:
        """No listener, no connection and no process is left; the directory stays, as a disk does."""
        self._boots += 1
        if self._acceptor is None:
            return
        self._acceptor.close()
        self._acceptor = None
        for connection in list(self._connections):
            connection.abort()
        for command in list(self._commands):
            _kill_group(command)
        self._settings.reap(self.directory)
        with suppress(FileNotFoundError):
            (self.directory / EVIDENCE).unlink()

    def _write_evidence(self, boot_id: str, uptime_s: float) -> None:
        """A command printing what ``cat /proc/sys/kernel/random/boot_id /proc/uptime`` would, for this boot."""
        path = self.directory / EVIDENCE
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.directory / "tmp").mkdir(exist_ok=True)
        started = round((float(Path("/proc/uptime").read_text().split()[0]) - uptime_s) * 100)
        text = (
            "#!/bin/sh\n"
            f"# {self.name}: boot id, then uptime and idle time in seconds, as /proc prints them.\n"
            "read -r now idle </proc/uptime\n"
            f"up=$((${{now%.*}}${{now#*.}} - {started}))\n"
            f"printf '%s\\n%d.%02d %s\\n' {boot_id} $((up / 100)) $((up % 100)) \"$idle\"\n"
        )
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o755)
        new.replace(path)

    def environment(self) -> dict[str, str]:
        """What a command finds: nothing of the environment that the lab was started from."""
        home = str(self.directory)
        path = [f"{home}/bin", str(Path(sys.executable).parent), "/usr/local/sbin", "/usr/local/bin"]
        return {
            "PATH": ":".join([*path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
            "HOME": home,
            "PWD": home,
            "TMPDIR": f"{home}/tmp",  # noqa: S108 - the host's own
            "USER": self._settings.user,
            "LOGNAME": self._settings.user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            LAB_MARK: str(self._settings.lab),
            HOST_MARK: home,
        }

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One session: a command, or a shell that reads its standard input."""
        words = ["/bin/sh", "-c", process.command] if process.command is not None else ["/bin/sh"]
        command = await asyncio.create_subprocess_exec(
            *words,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self.directory,
            env=self.environment(),
            start_new_session=True,
        )
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stderr is not None
        self._commands.add(command)
        feeding = asyncio.ensure_future(_feed(process.stdin, command.stdin))
        # As sshd does: the session ends when nobody holds the command's output open any more.
        work = asyncio.gather(
            _forward(command.stdout, process.stdout), _forward(command.stderr, process.stderr), command.wait()
        )
        gone = asyncio.ensure_future(process.wait_closed())
        tasks: list[asyncio.Future[Any]] = [feeding, work, gone]
        try:
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception() is None:
                _tell_exit(process, command)
        finally:
            _kill_group(command)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Closes pipes that nobody reads to their end any more; asyncio's Process has no public word for it.
            command._transport.close()  # type: ignore[attr-defined]
            self._commands.discard(command)


class _Connection(asyncssh.SSHServer):
    """Public keys only, and one user only."""

    def __init__(self, host: SshHost) -> None:
        self._host = host
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._host._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._host._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        settings = self._host._settings
        if self._connection is not None and username == settings.user:
            self._connection.set_authorized_keys(settings.authorized)
        return True  # without keys no method is left, and the client is refused


class _Sftp(asyncssh.SFTPServer):
    """The real file system, with the host's directory for relative paths."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], directory: Path) -> None:
        super().__init__(channel)
        self._directory = os.fsencode(directory)

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._directory, path)  # noqa: PTH118 - bytes


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    """What the client sends, to the command's standard input."""
    try:
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
    except (BrokenPipeError, ConnectionResetError):  # the command does not read any more, which is its right
        return
    finally:
        target.close()


async def _forward(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """What the command says, to the client."""
    while data := await source.read(_CHUNK_BYTES):
        target.write(data)
        await target.drain()


def _tell_exit(process: asyncssh.SSHServerProcess[bytes], command: Process) -> None:
    assert command.returncode is not None, "it was waited for"
    if command.returncode >= 0:
        process.exit(command.returncode)
    else:
        process.exit_with_signal(signal.Signals(-command.returncode).name.removeprefix("SIG"))


def _kill_group(command: Process) -> None:
    # start_new_session made the command the leader of a group that has its pid.
    if command.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
