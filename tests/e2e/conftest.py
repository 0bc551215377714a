"""Labs on loopback for whole runs through the real command line."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootorch.lab import control
from bootorch.lab.control import LabInfo
from bootorch.lab.fleet import LabOptions

LabFactory = Callable[..., LabInfo]
_networks = itertools.count(60)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabFactory]:
    """Start a lab in a directory of its own; ended after the test."""
    started: list[Path] = []

    def up(hosts: int = 10, **options: object) -> LabInfo:
        directory = tmp_path / f"lab{len(started)}"
        settings: dict[str, object] = {"boot_seconds": (0.3, 0.8), "lifetime_s": 600.0, **options}
        network = f"127.{next(_networks) % 100 + 100}.0.0/16"
        started.append(directory)
        return control.up(LabOptions(hosts=hosts, directory=directory, network=network, **settings))  # type: ignore[arg-type]

    yield up
    for directory in started:
        if directory.exists():
            control.down(directory)


def bootorch(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command line, in a process of its own."""
    return subprocess.run(
        command(*arguments), cwd=cwd, text=True, capture_output=True, timeout=300, check=False, env=environment()
    )


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bootorch.app", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1"}
