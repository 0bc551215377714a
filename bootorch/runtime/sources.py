"""The files that an inventory is made of, hashed: what tells a snapshot that it is out of date."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARS_DIRECTORIES = ("group_vars", "host_vars")
_IGNORED = ("__pycache__",)
_CONFIG = "ansible.cfg"  # read from the plan's directory, where ansible-inventory is started


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Content hash, and what lets an unchanged file be recognised without reading it again (as make and git do)."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """One source that is not what it was: ``changed``, ``new`` or ``gone``."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} ({self.what})"


def files_of(paths: Sequence[Path], directory: Path) -> list[Path]:
    """Every file below inventory directories; for an inventory file, itself and the group_vars and host_vars beside it.

    Hidden files are left out, as Ansible leaves them out. ``directory`` is the plan's: its ansible.cfg counts too.
    """
    found: dict[Path, None] = {}
    for path in paths:
        roots = [path] if path.is_dir() else [path.parent / name for name in VARS_DIRECTORIES]
        if path.is_file():
            found[path] = None
        for root in roots:
            found.update(dict.fromkeys(_walk(root)))
    if (config := directory / _CONFIG).is_file():
        found[config] = None
    return sorted(found)


def hash_files(paths: Iterable[Path], directory: Path, known: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Hashes by path relative to ``directory``. A file in ``known`` with the same size and time is not read again."""
    hashes: dict[str, SourceFile] = {}
    for path in paths:
        name = os.path.relpath(path, directory)
        status = path.stat()
        before = known.get(name)
        if before is not None and (before.size, before.mtime_ns) == (status.st_size, status.st_mtime_ns):
            hashes[name] = before
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            hashes[name] = SourceFile(digest, status.st_size, status.st_mtime_ns)
    return hashes


def changes(before: Mapping[str, SourceFile], now: Mapping[str, SourceFile]) -> list[Change]:
    """What differs by content, in order of path."""
    found = []
    for name in sorted({*before, *now}):
        if name not in now:
            found.append(Change(name, "gone"))
        elif name not in before:
            found.append(Change(name, "new"))
        elif before[name].sha256 != now[name].sha256:
            found.append(Change(name, "changed"))
    return found


def _walk(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()  # directories by device and inode: a link may lead back up
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED)
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path
