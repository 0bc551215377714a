"""A real OpenSSH server on a loopback address, with keys of its own, for tests. Debian package: openssh-server."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
MISSING = "no sshd: install the Debian package openssh-server"


@dataclass(frozen=True)
class Sshd:
    address: str
    port: int
    user: str
    key: Path  # private key that authorized_keys lists
    known_hosts: Path
    process: subprocess.Popen[bytes]
    log: Path


def keygen(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port from 20000 up that nothing listens on."""
    for port in range(20000 + os.getpid() % 20000, 60000, 7):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@contextmanager
def running_sshd(directory: Path, address: str = "127.0.0.1") -> Iterator[Sshd]:
    assert SSHD
    directory.mkdir(parents=True, exist_ok=True)
    host_key, key, port = keygen(directory / "host_key"), keygen(directory / "key"), free_port(address)
    authorized = directory / "authorized_keys"
    authorized.write_text(key.with_suffix(".pub").read_text())
    known_hosts = directory / "known_hosts"
    public = host_key.with_suffix(".pub").read_text().split()
    known_hosts.write_text(f"[{address}]:{port} {public[0]} {public[1]}\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's privilege separation directory
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress {address}:{port}\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    log = directory / "sshd.log"
    process = subprocess.Popen([SSHD, "-D", "-f", config, "-E", log], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((address, port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Sshd(address, port, getpass.getuser(), key, known_hosts, process, log)
    finally:
        process.terminate()
        process.wait(10)
