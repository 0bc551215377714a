"""Redeploy by real Ansible: one worker process per slice, one verdict per host.

The worker (``drivers.redeploy_worker``) has a session of its own, so that Ctrl-C in the operator's terminal does not
reach it, and its stdin for a leash: closing it, or dying, ends the worker and everything below within seconds. Host
variables travel over that pipe, never as an argument or in the environment. No retry and no policy here: what failed
is the engine's to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bootorch.core.model import Site
from bootorch.core.reasons import Reason
from bootorch.drivers import processes
from bootorch.drivers.protocols import Slice, SliceReply, Verdict
from bootorch.drivers.redeploy_slice import (
    ANSIBLE_CFG,
    MARK,
    Variables,
    environment,
    inventory,
    refusals,
    same_for_all,
    slice_reply,
)

# A worker kills itself and all below when it hears nothing of this process for so long: the length of the run's lease,
# within which a stopped process can still be the run's driver.
LEASH_S = 15.0
_BEAT_S = 1.0

# What a worker gets beyond its deadline to kill, clean and report; and to end once it was let go.
_GRACE_S = 10.0

# unix(7): a socket's path has 108 bytes. ssh adds a slash, ansible's 10 characters, and while connecting 17 of its own.
_CONTROL_DIRECTORY_LIMIT_CHARS = 107 - 28


@dataclass(frozen=True, slots=True)
class _Place:
    playbook: Path
    directory: Path  # inventory and artifacts
    control_directory: Path  # ssh's sockets, whose paths must be short


class AnsibleRedeploy:
    """``RedeployDriver`` over ansible-playbook.

    ``inventory_vars`` are the variables of each host as ``ansible-inventory --list`` gives them (vaulted values still
    encrypted), ``groups`` the hosts of each inventory group. ``run_dir`` takes a private directory per slice while it
    runs. ``known_hosts`` holds the verified host keys (None: the user's own file), ``vault_password_file`` is the path
    of a file or client script as ansible takes it. ``holds``: may anything be started, and go on (``Lease.holds``)?
    ``mitogen``: with its strategy, which must be installed.
    """

    def __init__(
        self,
        site: Site,
        inventory_vars: Mapping[str, Variables],
        groups: Mapping[str, Sequence[str]],
        run_dir: Path,
        known_hosts: Path | None,
        vault_password_file: Path | None,
        holds: Callable[[], bool] = lambda: True,
        *,
        mitogen: bool = False,
    ) -> None:
        self._site = site
        self._holds = holds
        self._inventory_vars = inventory_vars
        self._groups = groups
        self._run_dir = run_dir
        self._known_hosts = known_hosts.absolute() if known_hosts else None
        self._vault_password_file = vault_password_file.absolute() if vault_password_file else None
        self._strategies = mitogen_strategies() if mitogen else None
        self._workers: set[asyncio.subprocess.Process] = set()

    async def run(self, work: Slice, timeout_s: float) -> SliceReply:
        """Run ``work.playbook`` on the hosts of the slice. Cancelled: returns when no process of it is left."""
        if refused := refusals(self._site, work.hosts, self._inventory_vars):
            return SliceReply(
                Reason.OUTSIDE_SITE,
                next(iter(refused.values())),
                {
                    host.name: Verdict(Reason.OUTSIDE_SITE, refused[host.name])
                    if host.name in refused
                    else Verdict(Reason.NEVER_RAN, "another host of the slice is outside the site; nothing was started")
                    for host in work.hosts
                },
            )
        place = self._prepare(work)
        if isinstance(place, SliceReply):
            return place
        try:
            return await self._run(work, timeout_s, place)
        finally:
            for path in (place.directory, place.control_directory):
                shutil.rmtree(path, ignore_errors=True)  # the worker did, unless it was killed

    async def aclose(self) -> None:
        """Let go of every worker and wait until they are gone."""
        workers = tuple(self._workers)
        for worker in workers:
            _let_go(worker)
        await asyncio.gather(*(worker.wait() for worker in workers))

    def _prepare(self, work: Slice) -> _Place | SliceReply:
        """Directories of the slice's own, with mode 0700."""
        playbook = Path(work.playbook).absolute()
        if not playbook.is_file():
            return same_for_all(work, Reason.SLICE_LOST, f"there is no playbook {playbook}", Reason.NEVER_RAN)
        self._run_dir.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", work.ident)[:40]
        directory = Path(tempfile.mkdtemp(prefix=f"slice-{name}-", dir=self._run_dir.absolute()))
        (directory / "ansible.cfg").write_text(ANSIBLE_CFG)
        control = directory / "cp"
        if len(os.fsencode(control)) > _CONTROL_DIRECTORY_LIMIT_CHARS:
            return _Place(playbook, directory, Path(tempfile.mkdtemp(prefix="bootorch-")))
        control.mkdir(mode=0o700)
        return _Place(playbook, directory, control)

    async def _run(self, work: Slice, timeout_s: float, place: _Place) -> SliceReply:
        order = {
            "directory": str(place.directory),
            "control_directory": str(place.control_directory),
            "playbook": str(place.playbook),
            "forks": max(1, min(work.forks, len(work.hosts))),
            "timeout_s": timeout_s,
            "leash_s": LEASH_S,
            "inventory": inventory(work.hosts, self._inventory_vars, self._groups, self._known_hosts),
        }
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bootorch.drivers.redeploy_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=environment(
                os.environ,
                programs=Path(sys.executable).parent,
                directory=place.directory,
                control_directory=place.control_directory,
                playbook=place.playbook,
                known_hosts=self._known_hosts,
                vault_password_file=self._vault_password_file,
                mitogen=self._strategies,
            ),
        )
        self._workers.add(worker)
        beats = asyncio.create_task(self._beat(worker))
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                report, complaint = await _converse(worker, json.dumps(order).encode() + b"\n")
        except TimeoutError:
            report, complaint = b"", b"the worker did not end at its deadline"
        finally:
            beats.cancel()
            await _end(worker, place.directory)
            self._workers.discard(worker)
        try:
            return slice_reply(work, json.loads(report), timeout_s)
        except ValueError:  # none, or a part of one: the worker was killed
            detail = f"the slice's process ended without a report ({worker.returncode}): {_last_line(complaint)}"
            return same_for_all(work, Reason.SLICE_LOST, detail, Reason.SLICE_LOST)

    async def _beat(self, worker: asyncio.subprocess.Process) -> None:
        """Keep the worker alive as long as this process may drive the run."""
        assert worker.stdin is not None
        while not worker.stdin.is_closing():
            await asyncio.sleep(_BEAT_S)
            if self._holds():
                worker.stdin.write(b".")


def mitogen_strategies() -> Path | None:
    """Where Mitogen's strategy plugins are; None where it is not installed. Found without loading it."""
    found = find_spec("ansible_mitogen")
    places = [Path(place, "plugins/strategy") for place in (found.submodule_search_locations or [] if found else [])]
    return next((place for place in places if place.is_dir()), None)


def end_leftovers(run_dir: Path) -> None:
    """Kill what an earlier process of this run has left running, and remove its files. Blocks; where nothing was left,
    it costs one look at a directory."""
    left = [path for path in run_dir.absolute().glob("slice-*") if path.is_dir()]
    if left:
        processes.kill_marked(MARK, {str(path) for path in left})
        for path in left:
            shutil.rmtree(path, ignore_errors=True)  # its worker may be doing so


async def _converse(worker: asyncio.subprocess.Process, order: bytes) -> tuple[bytes, bytes]:
    """Send the order, keep stdin open, and read both outputs to their end."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    worker.stdin.write(order)
    with contextlib.suppress(ConnectionError):  # it ended before it read: its stderr says why
        await worker.stdin.drain()
    return await asyncio.gather(worker.stdout.read(), worker.stderr.read())


async def _end(worker: asyncio.subprocess.Process, directory: Path) -> None:
    """No process is left when this returns, however often it is cancelled."""
    _let_go(worker)
    try:
        async with asyncio.timeout(_GRACE_S):
            await worker.communicate()
    except TimeoutError:
        pass
    finally:
        if worker.returncode is None:
            worker.kill()
        if worker.returncode != 0:
            processes.kill_marked(MARK, {str(directory)})


def _let_go(worker: asyncio.subprocess.Process) -> None:
    assert worker.stdin is not None
    worker.stdin.close()


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
