"""The process of one slice: ``python -m bootorch.drivers.redeploy_worker``, started by ``drivers.redeploy``.

It reads one JSON line (``Order``) from stdin, runs ansible-playbook, prints one ``SliceReport`` on stdout, and ends.
What ansible-playbook has to tell comes from a callback plugin of ours (``callback.bootorch_events``) over a pipe. Stdin
stays open as the leash: when it closes, the driver is gone or has changed its mind, by whatever way it went (kill -9
included), and everything below this process is killed at once. The same when nothing comes over it for ``leash_s``:
then the driver is stopped, and another one may have taken the run. Nothing of a run stays behind: no process, no file.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from bootorch.drivers import processes
from bootorch.drivers.redaction import redactor, secrets_in, vaulted, vaulted_files
from bootorch.drivers.redeploy_failures import Failure, one_line, told
from bootorch.drivers.redeploy_slice import MARK, SliceReport

ORDER_S = 15.0  # a driver that was stopped before it gave its order is waited for no longer
_CALLBACK = Path(__file__).parent / "callback" / "bootorch_events.py"
_LINE_BYTES = 1 << 20  # of a message; the largest is a failure of some 20 KiB, the statistics of 250 hosts have 30
_DRAIN_S = 5.0  # for what is still in a pipe whose writers are gone


class Order(TypedDict):
    directory: str  # this slice's own, mode 0700: inventory and artifacts, removed at the end
    control_directory: str  # of ssh's sockets, whose paths must be short (unix(7): 108 bytes); removed at the end
    playbook: str
    forks: int
    timeout_s: float
    leash_s: float
    inventory: dict[str, Any]


class Collector:
    """Keeps of what ansible-playbook tells what the report needs."""

    def __init__(self) -> None:
        self.stats: dict[str, dict[str, int]] | None = None
        self.failures: dict[str, Failure] = {}  # of each host the last
        self.task = ""
        self.error = ""

    def told(self, line: bytes) -> None:
        """A message of ``callback.bootorch_events``."""
        try:
            kind, *rest = json.loads(line)
        except ValueError:  # a part of one: ansible-playbook was killed while it wrote
            return
        match kind:
            case "task":
                (self.task,) = rest
            case "failure":
                host, fields = rest
                self.failures[host] = Failure(**fields)
            case "stats":
                (self.stats,) = rest

    def complained(self, line: bytes) -> None:
        """A line of stderr: where a playbook cannot be read, or a plugin not be loaded, all there is."""
        text = line.decode(errors="replace")
        if text.startswith(("ERROR", "[ERROR]")):
            self.error = text

    def report(self, end: str, redact: Callable[[str], str]) -> SliceReport:
        """All that may leave this process."""
        found = {host: told(failure, redact) for host, failure in self.failures.items()}
        return SliceReport(
            end=end,
            stats=self.stats,
            trouble={host: line for host, (line, _) in found.items()},
            output={host: output for host, (_, output) in found.items() if output},
            task=one_line(redact(self.task)),
            error=one_line(redact(self.error)),
        )


def redaction(order: Order, collector: Collector) -> Callable[[str], str]:
    """Takes vaulted values out. Where they cannot be known nothing is shown: no message is worth a password."""
    if collector.stats is not None and not collector.failures:
        return lambda text: text  # nothing will be told
    beside = [Path(order["playbook"]).parent, *_roles()]
    try:
        texts = {*vaulted(order["inventory"]), *vaulted_files(beside)}
        return redactor(secret for clear in _decrypted(texts) for secret in secrets_in(clear))
    except Exception as error:  # noqa: BLE001 - ansible's own, of many kinds; what it says may hold what is secret
        why = f"output hidden: vaulted values could not be read to take them out ({type(error).__name__})"
        return lambda text: why if text else text


def _roles() -> list[Path]:
    return [path for name in os.environ.get("ANSIBLE_ROLES_PATH", "").split(":") if (path := Path(name)).is_absolute()]


def _decrypted(texts: set[str]) -> list[str]:
    """By ansible's own means: it knows the vault password's file or script, and identities of an ansible.cfg."""
    if not texts:
        return []
    from ansible import constants
    from ansible.cli import CLI
    from ansible.parsing.dataloader import DataLoader
    from ansible.parsing.vault import AnsibleVaultError, VaultLib

    secrets = CLI.setup_vault_secrets(
        DataLoader(), vault_ids=list(constants.DEFAULT_VAULT_IDENTITY_LIST), ask_vault_pass=False
    )
    library = VaultLib(secrets)
    found = []
    for text in sorted(texts):
        try:
            found.append(library.decrypt(text.encode()).decode(errors="replace"))
        except AnsibleVaultError:
            continue  # by no password that the playbook has: it could not have shown it either
    return found


class Leash(threading.Thread):
    """Kills what is below when the driver lets go of stdin or the deadline passes. A thread, for the main one waits
    for ansible-playbook; polling the parent's id covers a descriptor that another child of the driver inherited."""

    def __init__(self, order: Order) -> None:
        super().__init__(name="leash", daemon=True)
        self._order = order
        self._deadline = time.monotonic() + order["timeout_s"]
        self._parent = os.getppid()
        self._heard_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.deadline_passed = False

    def run(self) -> None:
        while not self._let_go():
            if time.monotonic() >= self._deadline:
                self.deadline_passed = True
                processes.kill_marked(MARK, {self._order["directory"]})
                self._deadline = float("inf")
        processes.kill_marked(MARK, {self._order["directory"]})
        clean(self._order)
        os._exit(1)

    def _let_go(self) -> bool:
        readable, _, _ = select.select([0], [], [], max(0.0, min(1.0, self._deadline - time.monotonic())))
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)  # as the driver's lease, which goes on in a suspend
        if readable:
            if not os.read(0, 4096):
                return True
            self._heard_s = now_s
        return now_s - self._heard_s > self._order["leash_s"] or os.getppid() != self._parent


def clean(order: Order) -> None:
    for name in ("directory", "control_directory"):
        shutil.rmtree(order[name], ignore_errors=True)


def run(program: str, order: Order, collector: Collector) -> None:
    """ansible-playbook, until it ends or is killed."""
    directory = Path(order["directory"])
    inventory = directory / "inventory.json"
    with os.fdopen(os.open(inventory, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(order["inventory"], file)
    events, pipe = os.pipe()
    playbook = subprocess.Popen(  # noqa: S603 - what the plan names, read on the laptop that it lies on
        [program, "--inventory", inventory, "--forks", str(order["forks"]), order["playbook"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its display; messages of its plugins, which are nobody's
        stderr=subprocess.PIPE,
        pass_fds=(pipe,),
        cwd=directory,
        env=os.environ
        | {
            "BOOTORCH_EVENTS_FD": str(pipe),
            "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACK.parent),
            "ANSIBLE_STDOUT_CALLBACK": _CALLBACK.stem,
        },
    )
    os.close(pipe)
    assert playbook.stderr is not None
    readers = [
        threading.Thread(target=_read, args=(os.fdopen(events, "rb"), collector.told), daemon=True),
        threading.Thread(target=_read, args=(playbook.stderr, collector.complained), daemon=True),
    ]
    for reader in readers:
        reader.start()
    playbook.wait()
    processes.kill_marked(
        MARK, {order["directory"]}
    )  # forks of a killed one, connection masters of ssh: they hold pipes
    for reader in readers:
        reader.join(_DRAIN_S)


def _read(file: BinaryIO, take: Callable[[bytes], None]) -> None:
    with file:
        while line := file.readline(_LINE_BYTES):
            take(line)


def main() -> int:
    report_fd = os.dup(1)
    os.dup2(2, 1)  # a stray print must not end up in the report
    line = _read_line()
    if not line:
        return 1
    order: Order = json.loads(line)
    collector = Collector()
    program = shutil.which("ansible-playbook")
    leash = Leash(order)
    leash.start()
    end = "not_installed"
    try:
        if program:
            run(program, order, collector)
            end = "deadline" if leash.deadline_passed else "finished"
        report = collector.report(end, redaction(order, collector))
    finally:
        clean(order)
    with os.fdopen(report_fd, "w", encoding="utf-8") as out:
        json.dump(report, out)
    return 0


def _read_line() -> bytes:
    """The order, without a buffer that could swallow what the leash waits for; empty where none comes."""
    parts = []
    while select.select([0], [], [], ORDER_S)[0] and (part := os.read(0, 65536)):
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
    return b""


if __name__ == "__main__":
    sys.exit(main())
