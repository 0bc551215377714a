"""Disks that fill up, cannot be written, or are pulled: real ones, in memory."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A tmpfs of its own size, mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Until not one byte is left."""
        with self._filler.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        self._filler.unlink()

    def remount(self, how: str) -> None:
        """``ro`` or ``rw``; no file may be open for writing."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True, capture_output=True)


@contextmanager
def disk(path: Path, size: str = "8m") -> Iterator[Disk]:
    """Skips where this process may not mount."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "bootorch-test", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here (uid {os.geteuid()}): {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        while os.path.ismount(path):
            subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True)


class Stick:
    """A disk that can be pulled out of ``path`` and put back, with what is on it."""

    def __init__(self, inside: Disk, path: Path) -> None:
        self.inside = inside
        self.path = path

    def plug(self) -> None:
        subprocess.run(["mount", "--bind", str(self.inside.path), str(self.path)], check=True, capture_output=True)

    def pull(self) -> None:
        """Without asking who uses it."""
        subprocess.run(["umount", "-l", str(self.path)], check=True, capture_output=True)


@contextmanager
def stick(path: Path, size: str = "8m") -> Iterator[Stick]:
    """Skips where this process may not mount."""
    with disk(path.with_name(f"{path.name}-inside"), size) as inside:
        path.mkdir()
        found = Stick(inside, path)
        found.plug()
        try:
            yield found
        finally:
            while os.path.ismount(path):
                found.pull()
