"""One driver of a host's power on a machine: every bootorch that acts on BMCs registers them, and finds the others.

A registration is a file in a directory that all users of the machine share, held with flock(2) by its process: the
kernel gives it back when that process ends, so what a dead one leaves is known to be nobody's. Its first line says who
it is, the others are BMCs as ``address:port``: names of hosts may differ between inventories. Looking and registering
is one step, under a lock of its own. Only what acts registers; reading the power state of somebody's hosts is fine.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bootorch.core.errors import Problem, SafetyRefusal, ToolError

# The same for all users of a machine, so no TMPDIR and no XDG_RUNTIME_DIR. Debian has /run/lock for everybody (tmpfs:
# gone with the boot, as its holders are); elsewhere only root may write there, and /tmp is left.
PLACES = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - files of others are neither written nor believed to be ours
_PREFIX = "bootorch-"
_TURN = "bootorch.lock"  # held while one looks and registers
_TURN_S = 5.0  # 32,000 hosts take 50 ms
_POLL_S = 0.02
_MOST_CHARS = 64 << 20  # a million hosts by far


class Owner(NamedTuple):
    """Who drives hosts. ``run`` is the directory of the run, ``ident`` names it whatever its path is now; empty: a
    command without a run."""

    what: str
    pid: int
    user: str
    since: str
    run: str = ""
    ident: str = ""


def endpoint(address: str, port: int) -> str:
    """How a BMC is written. A name that only the plan's own DNS resolves stands for itself."""
    return f"{address.lower()}:{port}"


def identity(run_dir: Path) -> str:
    found = run_dir.stat()
    return f"{found.st_dev}:{found.st_ino}"


@contextmanager
def driving(owner: Owner, bmcs: Mapping[str, str], place: Path | None = None) -> Iterator[None]:
    """Drive ``bmcs`` (``endpoint`` → name of its host) until the end of the block.

    Another process of the same run is no hindrance: its lease decides which of the two drives. Raises SafetyRefusal
    naming the other process and the hosts that both have.
    """
    directory = place if place is not None else _shared()
    path = directory / f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
    with _turn(directory):
        problems = [
            _refusal(owner, other, hosts, len(bmcs))
            for other, hosts in _others(directory, bmcs)
            if not (owner.ident and other.ident == owner.ident)
        ]
        if problems:
            raise SafetyRefusal(problems)
        descriptor = _register(path, owner, bmcs)
    try:
        yield
    finally:
        with suppress(OSError):  # removed by somebody else
            path.unlink()
        os.close(descriptor)


def _shared() -> Path:
    for place in PLACES:
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and mode & stat.S_IWOTH:
            return place
    where = " nor ".join(map(str, PLACES))
    remedy = "make one of them a directory with mode 1777, as every Linux has it"
    raise ToolError(Problem(f"neither {where} can be shared by the users of this machine", "", remedy))


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """One at a time. Read access is enough for a lock, and for a file that another user made."""
    path = directory / _TURN
    try:
        with suppress(FileExistsError):
            made = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
            os.fchmod(made, 0o444)  # whatever the umask
            os.close(made)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        remedy = f"check the rights of {directory}"
        raise ToolError(Problem(f"hosts cannot be registered: {error.strerror}", str(path), remedy)) from error
    try:
        give_up = time.monotonic() + _TURN_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                message = f"another process has been looking at the hosts of this machine for {_TURN_S:g} s"
                raise SafetyRefusal(Problem(f"{message}; nothing was sent", str(path), f"fuser {path} names it"))
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _register(path: Path, owner: Owner, bmcs: Iterable[str]) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
        os.fchmod(descriptor, 0o644)
        _locked(descriptor, fcntl.LOCK_EX)
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write("\n".join((json.dumps(owner._asdict()), *bmcs)))
    except OSError as error:
        remedy = f"free some space in {path.parent}"
        raise ToolError(Problem(f"hosts cannot be registered: {error.strerror}", str(path), remedy)) from error
    return descriptor


def _others(directory: Path, bmcs: Mapping[str, str]) -> Iterator[tuple[Owner, list[str]]]:
    """Processes that drive some of the BMCs at this moment, and which hosts of ours these are."""
    for entry in os.scandir(directory):
        if not entry.name.startswith(_PREFIX):
            continue
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # ended meanwhile; or a link, or unreadable: no registration of ours
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                continue
            if _locked(descriptor, fcntl.LOCK_SH):
                with suppress(OSError):  # another user's
                    Path(entry.path).unlink()
                continue
            with os.fdopen(descriptor, encoding="utf-8", errors="replace", closefd=False) as file:
                head, *theirs = file.read(_MOST_CHARS).split("\n")
        finally:
            os.close(descriptor)
        common = bmcs.keys() & theirs
        if common:
            yield _owner(head), [host for bmc, host in bmcs.items() if bmc in common]


def _owner(head: str) -> Owner:
    """From a file that anybody may have written."""
    try:
        found = json.loads(head)
        words = {name: str(found[name]) for name in Owner._fields if name != "pid"}
        return Owner(pid=int(found["pid"]), **words)
    except (ValueError, TypeError, KeyError):
        return Owner("a bootorch of another version", 0, "another user", "?")


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refusal(owner: Owner, other: Owner, hosts: list[str], count: int) -> Problem:
    verb = "is" if len(hosts) == 1 else "are"
    some = f"{len(hosts):,} of these {count:,} hosts {verb}"
    if len(hosts) == count:
        some = "this host is" if count == 1 else "all of these hosts are"
    message = f"{some} being run by process {other.pid}: {other.what}, by {other.user} since {other.since}"
    remedy = "wait for its end"
    if other.run:
        remedy = f"bootorch status {other.run}; bootorch pause {other.run} stops it"
        if not owner.run:
            remedy += "; --despite-run does it all the same"
    return Problem(f"{message}; nothing was sent", other.run, remedy, tuple(hosts))
