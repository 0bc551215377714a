"""One command over SSH on one host, with asyncssh. Imported by ``drivers.reach`` only when an SSH exchange is made.

Nothing but the plan decides where a login goes: the user's ssh configuration is not read, for ``ProxyJump``,
``HostName`` or ``ProxyCommand`` there would lead around the site's fence. Host keys are verified always; there is no
switch.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import asyncssh

from bootorch.core.model import Endpoint, Host
from bootorch.core.reasons import Reason
from bootorch.drivers.checks import describe_os_error
from bootorch.drivers.protocols import Reply

# asyncssh logs addresses, user names and commands at INFO; our own log states what an operator needs of an exchange.
asyncssh.set_log_level("CRITICAL")

# Output kept of a command. `ceph status`, `rabbitmqctl report` and the like stay below 64 KiB, the size of a pipe.
OUTPUT_LIMIT_BYTES = 64 * 1024

_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")  # OpenSSH's GlobalKnownHostsFile


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. ``status`` is None when it was ended by a signal."""

    status: int | None
    stdout: str
    stderr: str
    cut: bool  # the output passed OUTPUT_LIMIT_BYTES and the command was stopped


class KnownHosts:
    """The verified host keys, parsed again only when a file changes: a fleet's file has tens of thousands of lines."""

    def __init__(self, path: Path | None) -> None:
        self._paths = [path] if path else [Path("~/.ssh/known_hosts").expanduser(), _SYSTEM_KNOWN_HOSTS]
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._parsed: asyncssh.SSHKnownHosts | None = None
        self._lock = asyncio.Lock()

    async def load(self) -> asyncssh.SSHKnownHosts | str:
        """The parsed keys, or why there are none."""
        async with self._lock:
            stamp = tuple((str(path), *stat) for path in self._paths if (stat := _stat(path)))
            if not stamp:
                return f"there is no {' or '.join(map(str, self._paths))} to verify host keys with"
            if self._parsed is None or stamp != self._stamp:
                try:
                    self._parsed = await asyncio.to_thread(asyncssh.read_known_hosts, [name for name, *_ in stamp])
                except (OSError, ValueError) as error:
                    return f"known_hosts cannot be read: {_line(error)}"
                self._stamp = stamp
            return self._parsed


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


async def login(
    host: Host, connection: socket.socket, known: asyncssh.SSHKnownHosts
) -> asyncssh.SSHClientConnection | Reply:
    """Log in over the connected socket, which this call owns. It has no timeout of its own: the caller's bounds it."""
    endpoint = Endpoint(host.address, host.ssh_port)
    user = host.ssh_user or getpass.getuser()
    handed_over = False

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            nonlocal handed_over
            handed_over = True

    try:
        return await asyncssh.connect(
            host.address,
            host.ssh_port,
            sock=connection,
            client_factory=Client,
            config=None,
            known_hosts=known,
            username=user,
            **_key_options(host.ssh_key),
            preferred_auth=["publickey"],
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            x509_trusted_certs=None,
            # Known kinds of key first, the others after them: a host that shows only another kind then fails for its
            # host key by name, and not as a connection lost in the negotiation.
            server_host_key_algs="+ssh-ed25519,ecdsa-sha2-*,rsa-sha2-*",
            login_timeout=0,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        return Reply(Reason.HOST_KEY, f"{endpoint}: {_host_key_trouble(known, endpoint, error)}")
    except asyncssh.KeyExchangeFailed as error:
        reason = Reason.HOST_KEY if "host key" in str(error) else Reason.CHECK_FAILED
        return Reply(reason, f"{endpoint}: {_line(error)}")
    except asyncssh.PermissionDenied:
        used = f"the key {host.ssh_key}" if host.ssh_key else "ssh-agent and the default keys"
        return Reply(Reason.AUTH_FAILED, f"{endpoint}: login of {user} refused with {used}")
    except (asyncssh.ProtocolError, asyncssh.ProtocolNotSupported) as error:
        return Reply(Reason.CHECK_FAILED, f"{endpoint}: no SSH that we understand: {_line(error)}")
    except asyncssh.DisconnectError as error:
        return Reply(Reason.UNREACHABLE, f"{endpoint}: closed during login: {_line(error)}")
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        return Reply(Reason.AUTH_FAILED, f"private key {host.ssh_key}: {_line(error)}")
    except OSError as error:
        if error.filename:
            return Reply(Reason.AUTH_FAILED, f"private key {error.filename}: {describe_os_error(error)}")
        return Reply(Reason.UNREACHABLE, f"{endpoint}: {describe_os_error(error)}")
    finally:
        if not handed_over:  # no transport was made (a bad key file, a cancelled call): the socket is still ours
            connection.close()


class KeyOptions(TypedDict, total=False):
    client_keys: list[str]
    ignore_encrypted: bool
    agent_path: str | None
    agent_identities: list[str]


def _key_options(key: str) -> KeyOptions:
    """The plan's key and no other, so that a full agent cannot use up sshd's MaxAuthTries (6); else what the user has.

    A key with a passphrase is used through ssh-agent, which is told by ``KEY.pub`` which of its keys is meant.
    """
    if not key:
        return {}
    path = str(Path(key).expanduser())
    public = path + ".pub"
    if os.environ.get("SSH_AUTH_SOCK") and Path(public).exists():
        return {"client_keys": [path], "ignore_encrypted": True, "agent_identities": [public]}
    return {"client_keys": [path], "agent_path": None}


def _host_key_trouble(known: asyncssh.SSHKnownHosts, endpoint: Endpoint, error: asyncssh.HostKeyNotVerifiable) -> str:
    keys, authorities, revoked, *_ = known.match(endpoint.address, endpoint.address, endpoint.port)
    if revoked:
        return "the host key is revoked in known_hosts"
    if not keys and not authorities:
        return "no host key in known_hosts; check its fingerprint on the console, then add it"
    return f"the host key is not the one in known_hosts ({_line(error)})"


async def run(connection: asyncssh.SSHClientConnection, command: str) -> CommandResult | Reply:
    """Run one command with no input and no terminal. The caller closes the connection, which ends the command too:
    waiting here for the channel's own end would wait for ever for a host that froze."""
    try:
        process = await connection.create_process(command, stdin=asyncssh.DEVNULL, encoding="utf-8", errors="replace")
        stdout, stderr = await asyncio.gather(
            *(_read(stream, connection) for stream in (process.stdout, process.stderr))
        )
        if max(len(stdout), len(stderr)) > OUTPUT_LIMIT_BYTES:
            return CommandResult(None, stdout, stderr, cut=True)
        await process.wait_closed()
        return CommandResult(None if process.exit_signal else process.exit_status, stdout, stderr, cut=False)
    except asyncssh.ChannelOpenError as error:
        return Reply(Reason.CHECK_FAILED, f"the host refused a session: {_line(error)}")
    except (asyncssh.DisconnectError, OSError) as error:
        return Reply(Reason.UNREACHABLE, f"the connection was lost while a command ran: {_line(error)}")


async def _read(stream: asyncssh.SSHReader[str], connection: asyncssh.SSHClientConnection) -> str:
    """To the end, or a little past the limit: then the connection is closed, which ends the other stream too."""
    parts: list[str] = []
    size = 0
    while size <= OUTPUT_LIMIT_BYTES and (part := await stream.read(OUTPUT_LIMIT_BYTES)):
        parts.append(part)
        size += len(part)
    if size > OUTPUT_LIMIT_BYTES:
        connection.close()
    return "".join(parts)


def _line(error: BaseException) -> str:
    """An error's text as one short line (200 characters: a terminal's two lines)."""
    return " ".join(str(error).split())[:200] or type(error).__name__
