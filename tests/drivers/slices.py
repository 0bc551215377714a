"""Slices of real ansible-playbook over a local connection, for the tests of the redeploy driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.model import Endpoint, Host, Site
from bootorch.drivers.protocols import Slice, SliceReply
from bootorch.drivers.redeploy import AnsibleRedeploy
from bootorch.drivers.redeploy_slice import MARK

PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
needs_ansible = pytest.mark.skipif(
    not shutil.which("ansible-playbook", path=PROGRAMS), reason="no ansible-playbook: pip install 'bootorch[ansible]'"
)
SITE = Site(bmc_networks=(), host_networks=(ip_network("127.0.0.0/8"),))
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def host(name: str, address: str = "127.0.0.1") -> Host:
    return Host(name, "web", Endpoint("127.0.0.1", 1), "", None, address)


class Bench:
    """Playbooks and a driver in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / "run"

    def playbook(self, tasks: str, head: str = "") -> str:
        path = self.directory / "play.yml"
        body = textwrap.indent(textwrap.dedent(tasks), "    ")
        path.write_text(f"- hosts: all\n  gather_facts: false\n{head}  tasks:\n{body}")
        return str(path)

    def driver(self, variables: Mapping[str, Mapping[str, Any]], **options: Any) -> AnsibleRedeploy:
        settings = {"groups": {}, "known_hosts": None, "vault_password_file": None, "site": SITE} | options
        return AnsibleRedeploy(inventory_vars=variables, run_dir=self.run_dir, **settings)

    def left_behind(self) -> list[str]:
        return [str(path) for path in self.run_dir.rglob("*")] if self.run_dir.exists() else []

    def marked(self, program: bytes = b"") -> list[int]:
        """Processes of any slice of this bench, of those with ``program`` in their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{MARK}={self.run_dir}".encode() in environment and program in command:
                found.append(int(entry.name))
        return found


async def run(bench: Bench, playbook: str, names: str, timeout_s: float = 60, **variables: Any) -> SliceReply:
    hosts = tuple(host(name) for name in names.split())
    driver = bench.driver({each.name: LOCAL | variables.get(each.name, {}) for each in hosts})
    return await driver.run(Slice("slice", playbook, hosts, forks=4), timeout_s)


def running(seconds: str) -> list[int]:
    """Processes that are `sleep SECONDS`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
