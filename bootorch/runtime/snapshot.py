"""The inventory rendered once in peacetime: what a run reads, so that no CMDB or plugin is needed in the dark.

The file is JSON in four lines: format and SHA-256 of all that follows; what it was made of; the inventory; the end.
Variables that hosts of the same groups share are stored once (a layer), members of groups as runs of host positions.
Vaulted values stay encrypted; the file has mode 0600 all the same.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bootorch
from bootorch.core.errors import InvalidInput, Problem, ToolError
from bootorch.core.inventory import Inventory, Json
from bootorch.core.spec import PlanSpec
from bootorch.runtime import vault
from bootorch.runtime.inventory import run_ansible_inventory, vault_problem
from bootorch.runtime.seal import Sealer, encrypted_files, refuse_clear_text
from bootorch.runtime.sources import Change, SourceFile, changes, files_of, hash_files

FORMAT = 1
SUFFIX = ".snapshot.json"

_HEAD = re.compile(rb'\{"bootorch_snapshot": (\d+), "sha256": "([0-9a-f]{64})",\n')
_INVENTORY = b'"inventory": '
_END = b"}\n"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``paths`` and ``files`` are relative to the plan's directory; ``created`` is UTC, ISO 8601."""

    inventory: Inventory
    created: str
    paths: tuple[str, ...]
    files: Mapping[str, SourceFile]
    bootorch: str
    ansible: str
    warnings: tuple[str, ...]
    content: bytes  # exactly what is in the file, for the journal

    @property
    def host_count(self) -> int:
        return len(self.inventory.hosts)

    def write(self, path: Path) -> None:
        """Put the file in place at once, readable by its owner only. Raises ToolError when the disk says no."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
            temporary = Path(name)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                    file.write(self.content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            with _directory(path.parent) as directory:
                os.fsync(directory)
        except OSError as error:
            raise ToolError(Problem(f"the snapshot cannot be written: {error.strerror}", str(path))) from error


def snapshot_path(plan: Path) -> Path:
    """Beside the plan: ``site.yml`` has ``site.snapshot.json``."""
    return plan.with_suffix(SUFFIX)


def render(spec: PlanSpec, vault_password_file: Path | None = None, *, pass_env: Sequence[str] = ()) -> Snapshot:
    """Render the plan's inventories through Ansible, in memory. Raises InvalidInput or ToolError."""
    directory = Path(spec.directory)
    paths = [Path(path) for path in spec.inventory]
    _check_paths(spec, paths, directory)
    return render_paths(paths, directory, vault_password_file, pass_env=pass_env)


def render_paths(
    paths: Sequence[Path],
    directory: Path,
    vault_password_file: Path | None = None,
    *,
    pass_env: Sequence[str] = (),
) -> Snapshot:
    """As :func:`render`, for inventories without a plan; ``directory`` is what relative paths in them count from."""
    files = files_of(paths, directory)
    where = ", ".join(_relative(paths, directory))
    try:
        hashes = hash_files(files, directory, {})
        encrypted = encrypted_files(files)
    except OSError as error:
        message = f"a source of the inventory cannot be read: {error.strerror}"
        raise InvalidInput(Problem(message, str(error.filename or where))) from error
    sealer = None
    if encrypted:
        if vault_password_file is None:
            raise InvalidInput(vault_problem(str(encrypted[0]), None))
        sealer = Sealer(encrypted, vault.read_password(vault_password_file), vault_password_file)
    rendered = run_ansible_inventory(
        paths, directory=directory, vault_password_file=vault_password_file, pass_env=pass_env
    )
    hosts = {name: sealer.host(found) for name, found in rendered.hosts.items()} if sealer else rendered.hosts
    refuse_clear_text(hosts, where)
    meta = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bootorch": bootorch.__version__,
        "ansible": rendered.ansible,
        "hosts": len(hosts),
        "paths": _relative(paths, directory),
        "files": {name: list(asdict(file).values()) for name, file in hashes.items()},
        "warnings": list(rendered.warnings),
    }
    return parse(serialise(meta, hosts, rendered.groups), where)


def load(path: Path) -> Snapshot:
    """Read a snapshot file and verify it. Raises InvalidInput: missing, damaged, or of a newer bootorch."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(Problem("there is no snapshot", str(path), "bootorch inventory snapshot PLAN")) from None
    except OSError as error:
        raise InvalidInput(Problem(f"the snapshot cannot be read: {error.strerror}", str(path))) from error
    return parse(content, str(path))


def parse(content: bytes, where: str) -> Snapshot:
    """A snapshot from its bytes, which are verified first. ``where`` names them in errors. Raises InvalidInput."""
    remedy = "make it again: bootorch inventory snapshot PLAN"
    head = _HEAD.match(content)
    if head is None:
        raise InvalidInput(Problem("this is no snapshot of bootorch", where, remedy))
    if int(head[1]) > FORMAT:
        message = f"the snapshot has format {int(head[1])}, and this bootorch ({bootorch.__version__}) reads {FORMAT}"
        raise InvalidInput(Problem(message, where, "use the bootorch that made it, or make it again"))
    body = content[head.end() :]
    if hashlib.sha256(body).hexdigest() != head[2].decode():
        raise InvalidInput(Problem("the snapshot is damaged: its checksum does not match", where, remedy))
    inventory_line = body[body.index(b"\n") + 1 + len(_INVENTORY) : -len(b"\n" + _END)]
    try:
        meta = json.loads(body[len(b'"meta": ') : body.index(b"\n") - 1])
        inventory = _expand(json.loads(inventory_line), hashlib.sha256(inventory_line).hexdigest())
        return Snapshot(
            inventory=inventory,
            created=meta["created"],
            paths=tuple(meta["paths"]),
            files={name: SourceFile(*file) for name, file in meta["files"].items()},
            bootorch=meta["bootorch"],
            ansible=meta["ansible"],
            warnings=tuple(meta["warnings"]),
            content=content,
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidInput(Problem(f"the snapshot cannot be understood ({error!r:.80})", where, remedy)) from error


def stale(snapshot: Snapshot, spec: PlanSpec) -> list[Change]:
    """What has changed since the snapshot was made, by content. Empty: the sources are what they were."""
    directory = Path(spec.directory)
    paths = [Path(path) for path in spec.inventory]
    if (wanted := _relative(paths, directory)) != list(snapshot.paths):
        return [Change(path, "not in the snapshot" if path in wanted else "no longer in the plan")
                for path in sorted({*wanted} ^ {*snapshot.paths}) or wanted]  # fmt: skip
    try:
        now = hash_files(files_of(paths, directory), directory, snapshot.files)
    except OSError as error:
        return [Change(os.path.relpath(error.filename or ".", directory), f"cannot be read: {error.strerror}")]
    return changes(snapshot.files, now)


def _check_paths(spec: PlanSpec, paths: Sequence[Path], directory: Path) -> None:
    problems = []
    for index, path in enumerate(paths):
        where = spec.where("inventory", index) if len(paths) > 1 else spec.where("inventory")
        if not path.exists():
            problems.append(Problem(f"there is no inventory {path}", where, "paths are relative to the plan file"))
        elif path.is_dir() and directory.resolve().is_relative_to(path.resolve()):
            remedy = "give the inventory a directory of its own: Ansible would read the plan as a source"
            problems.append(Problem(f"the inventory directory {path} contains the plan", where, remedy))
    if problems:
        raise InvalidInput(problems)


def _relative(paths: Iterable[Path], directory: Path) -> list[str]:
    return [os.path.relpath(path, directory) for path in paths]


@contextlib.contextmanager
def _directory(path: Path) -> Any:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def serialise(
    meta: Mapping[str, object], hosts: Mapping[str, Mapping[str, Json]], groups: Mapping[str, Sequence[str]]
) -> bytes:
    inventory = _dumps(_compact(hosts, groups)).encode()
    body = b'"meta": ' + _dumps(meta).encode() + b",\n" + _INVENTORY + inventory + b"\n" + _END
    digest = hashlib.sha256(body).hexdigest()
    return f'{{"bootorch_snapshot": {FORMAT}, "sha256": "{digest}",\n'.encode() + body


def _compact(hosts: Mapping[str, Mapping[str, Json]], groups: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Layers of variables, hosts as ``[name, layer, own variables]`` in order, groups as runs of positions."""
    position = {name: index for index, name in enumerate(hosts)}
    classes: dict[str, list[str]] = {name: [] for name in hosts}
    for group, names in groups.items():
        for name in names:
            classes[name].append(group)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, own in classes.items():
        alike[tuple(own)].append(name)
    layers: list[dict[str, Json]] = []
    rows: dict[str, list[object]] = {}
    for names in alike.values():
        texts = [{variable: _dumps(value) for variable, value in hosts[name].items()} for name in names]
        shared = set(texts[0].items()).intersection(*(found.items() for found in texts[1:]))
        common = {variable for variable, _ in shared}
        for name in names:
            rows[name] = [name, len(layers), {key: value for key, value in hosts[name].items() if key not in common}]
        layers.append({key: value for key, value in hosts[names[0]].items() if key in common})
    members = [[group, _runs([position[name] for name in names])] for group, names in groups.items() if group != "all"]
    return {"layers": layers, "hosts": [rows[name] for name in hosts], "groups": members}


def _expand(data: Any, digest: str) -> Inventory:
    layers = data["layers"]
    hosts = {name: {**layers[layer], **own} if own else layers[layer] for name, layer, own in data["hosts"]}
    names = list(hosts)
    groups = {
        group: tuple(name for start, count in runs for name in names[start : start + count])
        for group, runs in data["groups"]
    }
    return Inventory(hosts, groups, digest)


def _runs(positions: Iterable[int]) -> list[list[int]]:
    """``[5, 6, 7, 2]`` → ``[[5, 3], [2, 1]]``: first position and length."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([position, 1])
    return runs
