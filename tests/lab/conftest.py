"""A real lab for a test: started on free ports, gone when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.secret import Secret
from bootorch.drivers.reach import Reach
from bootorch.lab import control, site
from bootorch.lab.control import LabInfo
from bootorch.lab.fleet import LabHost, LabOptions

SITE = Site((ip_network("127.32.0.0/16"),), (ip_network("127.32.0.0/16"),))


@dataclass(frozen=True)
class RunningLab:
    """A lab, and what drivers need to talk to it. It is its own secret store."""

    info: LabInfo
    lab: site.Lab

    @property
    def directory(self) -> Path:
        return self.info.directory

    def named(self, name: str) -> LabHost:
        return next(host for host in self.lab.hosts if host.name == name)

    def victim(self, **fault: object) -> LabHost:
        ((name, value),) = fault.items()
        return next(host for host in self.lab.hosts if getattr(host.machine, name) == value)

    def host(self, name: str) -> Host:
        entry = self.named(name)
        return Host(
            name=name,
            group=entry.group,
            bmc=Endpoint(entry.bmc_address, self.info.bmc_port),
            bmc_user="admin",
            bmc_password=None,
            address=entry.address,
            ssh_port=self.info.ssh_port,
            ssh_user=site.SSH_USER,
            ssh_key=str(self.directory / site.USER_KEY),
            boot_evidence=str(site.EVIDENCE),
        )

    def bmc_key(self, host: Host) -> Secret | None:
        return None

    def bmc_password(self, host: Host) -> Secret:
        return Secret((self.directory / site.BMC_PASSWORD).read_text().strip())

    def why(self, host: Host) -> str:
        return ""

    def reach(self) -> Reach:
        return Reach(SITE, self.directory / site.KNOWN_HOSTS)


Start = Callable[..., RunningLab]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(hosts=8, **LabOptions)``: a lab that boots within a second."""
    directories: list[Path] = []

    def start(hosts: int = 8, **options: Any) -> RunningLab:
        directory = tmp_path / f"lab{len(directories)}"
        directories.append(directory)
        options = {"boot_seconds": (0.3, 0.6), "lifetime_s": 120.0, **options}
        info = control.up(LabOptions(hosts, directory, **options))
        return RunningLab(info, site.read_lab(directory))

    yield start
    for directory in directories:
        if (directory / site.LAB_JSON).exists():
            control.down(directory)
