"""The process of one slice: ``python -m bootorch.drivers.redeploy_worker``, started by ``drivers.redeploy``.

It reads one JSON line (``Order``) from stdin, runs ansible-playbook with ansible-runner, prints one ``SliceReport`` on
stdout, and ends. Stdin stays open as the leash: when it closes, the driver is gone or has changed its mind, by whatever
way it went (kill -9 included), and everything below this process is killed at once. The same when nothing comes over it
for ``leash_s``: then the driver is stopped, and another one may have taken the run. Nothing of a run stays behind: no
process, no file.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from bootorch.drivers import processes
from bootorch.drivers.redaction import redactor, secrets_in, vaulted, vaulted_files
from bootorch.drivers.redeploy_failures import Failure, failure_of, one_line, told
from bootorch.drivers.redeploy_slice import MARK, SliceReport

ORDER_S = 15.0  # a driver that was stopped before it gave its order is waited for no longer
_STATS = ("changed", "dark", "failures", "processed", "rescued")


class Order(TypedDict):
    directory: str  # this slice's own, mode 0700: inventory and artifacts, removed at the end
    control_directory: str  # of ssh's sockets, whose paths must be short (unix(7): 108 bytes); removed at the end
    playbook: str
    forks: int
    timeout_s: float
    leash_s: float
    inventory: dict[str, Any]


class Collector:
    """Keeps of the events what the report needs. The handler does nothing slow: ansible-runner calls it between two
    reads of ansible-playbook's output, and unread output ends in a timeout of pexpect (ansible-runner #1343)."""

    def __init__(self) -> None:
        self.stats: dict[str, dict[str, int]] | None = None
        self.failures: dict[str, Failure] = {}  # of each host the last
        self.task = ""
        self.error = ""

    def __call__(self, event: dict[str, Any]) -> bool:
        """False: no file for this event (ansible-runner writes one for each by default)."""
        data = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_stats" if data:
                self.stats = {name: data.get(name) or {} for name in _STATS}
            case "playbook_on_task_start":
                self.task = str(data.get("task") or "")
            case "runner_on_failed" if not data.get("ignore_errors"):
                self.failures[data["host"]] = failure_of(data)
            case "runner_on_unreachable":
                self.failures[data["host"]] = failure_of(data)
            case "verbose" | "error" | "system_warning" | None:
                self._error(str(event.get("stdout") or ""))
        return False

    def _error(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(("ERROR", "[ERROR]")):
                self.error = line

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
    """Kills what is below when the driver lets go of stdin or the deadline passes. A thread, for the main one sits in
    ansible-runner; polling the parent's id covers a descriptor that another child of the driver inherited."""

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


def run(order: Order, collector: Collector) -> None:
    """ansible-playbook in a pseudo-terminal of ansible-runner, until it ends or is killed."""
    import ansible_runner

    directory = Path(order["directory"])
    path = directory / "inventory.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(order["inventory"], file)
    ansible_runner.run(
        private_data_dir=str(directory),
        ident="run",
        playbook=order["playbook"],
        inventory=str(path),
        forks=order["forks"],
        event_handler=collector,
        quiet=True,
        # Not only_failed_event_data, which would be less to write: it empties the statistics too (ansible-runner 2.4).
        settings={"suppress_output_file": True, "suppress_ansible_output": True},
        fact_cache_type="memory",
    )


def main() -> int:
    report_fd = os.dup(1)
    os.dup2(2, 1)  # a stray print must not end up in the report
    line = _read_line()
    if not line:
        return 1
    order: Order = json.loads(line)
    collector = Collector()
    try:
        import ansible_runner  # noqa: F401 - is it there?
    except ImportError:
        installed = False
    else:
        installed = shutil.which("ansible-playbook") is not None
    leash = Leash(order)
    leash.start()
    end = "not_installed"
    try:
        if installed:
            run(order, collector)
            end = "deadline" if leash.deadline_passed else "finished"
        report = collector.report(end, redaction(order, collector))
    finally:
        processes.kill_marked(MARK, {order["directory"]})  # ssh's connection masters outlive ansible-playbook
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
