"""A lab whose hosts are up, and two ways to run playbooks on some of them: as a recovery does, and by hand."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootorch.core.model import Endpoint, Host, Site
from bootorch.drivers.protocols import Slice, Verdict
from bootorch.drivers.redeploy import AnsibleRedeploy
from bootorch.lab import control, site
from bootorch.lab.fleet import LabOptions
from tests.e2e.conftest import bootorch

SOURCE = Path(__file__).parents[2]
PLAYBOOKS = SOURCE / "playbooks"
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
HOSTS = 24

Variables = Mapping[str, Any]


@pytest.fixture(autouse=True)
def _ansible() -> None:
    if not shutil.which("ansible-playbook", path=PROGRAMS):
        pytest.skip("no ansible-playbook: pip install 'bootorch[ansible]'")


@dataclass(frozen=True)
class ByHand:
    """What ansible-playbook printed: the tasks that changed something, and how it ended."""

    returncode: int
    output: str
    changed: list[tuple[str, str]]  # task, and host with item


class Hosts:
    """Hosts of a lab that are up. Each test takes hosts that nobody has had."""

    def __init__(self, directory: Path, network: str) -> None:
        inventory = yaml.safe_load((directory / site.INVENTORY).read_text())["all"]
        self.directory = directory
        self._site = Site((), (ip_network(network),))
        self._shared: dict[str, Any] = inventory["vars"]
        self._own = {name: own for group in inventory["children"].values() for name, own in group["hosts"].items()}
        self.names = sorted(self._own)
        self._free = iter(self.names)
        self._runs = itertools.count()

    def wait(self) -> None:
        """Until all of them are up."""
        for name in self.names:
            for _ in range(200):
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection((self._own[name]["ansible_host"], self._shared["ansible_port"])).close()
                    break
                time.sleep(0.05)

    def take(self) -> str:
        return next(self._free)

    def root(self, name: str) -> Path:
        return self.directory / site.HOSTS / name

    def program(self, name: str, program: str, text: str) -> None:
        """A program of the host's own, found before the machine's."""
        path = self.root(name) / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def variables(self, name: str, more: Variables) -> dict[str, Any]:
        return {**self._shared, **self._own[name], **more}

    async def recover(self, playbook: Path, hosts: Mapping[str, Variables]) -> dict[str, Verdict]:
        """By the driver of a recovery: verdict by host, with the detail that the operator sees."""
        known_hosts = self.directory / site.KNOWN_HOSTS
        run_dir = self.directory / "runs" / str(next(self._runs))
        variables = {name: self.variables(name, more) for name, more in hosts.items()}
        slice_hosts = tuple(
            Host(name, "any", Endpoint("127.0.0.1", 1), "", None, self._own[name]["ansible_host"]) for name in hosts
        )
        driver = AnsibleRedeploy(self._site, variables, {}, run_dir, known_hosts, None)
        reply = await driver.run(Slice("slice", str(playbook), slice_hosts, 4), 240)
        return dict(reply.verdicts)

    def by_hand(self, names: list[str], hosts: Mapping[str, Variables], *arguments: str) -> ByHand:
        """Playbooks one after the other in one process, as an operator would run them."""
        inventory = self.directory / f"by-hand-{next(self._runs)}.json"
        rendered = {name: self.variables(name, more) for name, more in hosts.items()}
        inventory.write_text(json.dumps({"all": {"hosts": rendered}}))
        done = subprocess.run(
            ["ansible-playbook", "-i", inventory, *arguments, *(PLAYBOOKS / f"{name}.yml" for name in names)],
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=os.environ
            | {"PATH": PROGRAMS, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", "ANSIBLE_PIPELINING": "True"},
            timeout=900,
        )
        changed, task = [], ""
        for line in done.stdout.splitlines():
            if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\]", line):
                task = match[1]
            elif line.startswith("changed: "):
                changed.append((task, line.removeprefix("changed: ")))
        return ByHand(done.returncode, done.stdout + done.stderr, changed)


_networks = itertools.count(200 + 4 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("playbooks") / "lab"
    network = f"127.{next(_networks)}.0.0/16"
    info = control.up(
        LabOptions(hosts=HOSTS, directory=directory, network=network, boot_seconds=(0.1, 0.2), lifetime_s=900.0)
    )
    try:
        lab = Hosts(directory, network)
        done = bootorch("power", "on", "-i", info.inventory, ",".join(lab.names))
        assert done.returncode == 0, done.stderr
        lab.wait()
        yield lab
    finally:
        control.down(directory)


@pytest.fixture
def podman_store() -> Iterator[list[str]]:
    """Arguments for a store of images of its own. Podman wants a short path."""
    with tempfile.TemporaryDirectory(prefix="bo-") as directory:
        yield ["--root", f"{directory}/r", "--runroot", f"{directory}/rr", "--storage-driver", "vfs"]
