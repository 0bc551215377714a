"""Redeploy by slices against one plain ansible-playbook, over real SSH hosts of a lab.

    python benchmarks/redeploy.py speed  [--hosts 300] [--forks 16] [--rounds 3] [--fail-share 0.05]
    python benchmarks/redeploy.py memory [--sizes 50 100 200] [--forks 16]

``speed`` switches a lab on, then takes turns, so that a loaded machine loads all alike:

- ``plain``: ``ansible-playbook`` over all hosts, same forks, same settings, same inventory;
- ``bootorch``: ``bootorch run`` of a plan that redeploys all of them. Two times are told: *redeploy*, from the first
  slice to the last verdict, and the whole *command*, which reads power states and checks SSH before and after, too;
- ``5 % once``: the same with a task that fails at the first attempt on a share of the hosts, spread evenly;
- ``again``: what is done without bootorch then: plain, and plain once more over everybody.

``memory`` runs one slice of each size and samples the proportional set size (``smaps_rollup``) of its processes: the
controller (worker and ansible-playbook) and everything with its forks. It also tells what a slice left on the disk
while it ran.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bootorch.core.model import Endpoint, Host, Site
from bootorch.drivers import processes
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redeploy import AnsibleRedeploy
from bootorch.drivers.redeploy_slice import ANSIBLE_CFG, MARK, environment
from bootorch.lab import control
from bootorch.lab.control import LabInfo
from bootorch.lab.fleet import LabOptions

BOOTORCH = (sys.executable, "-m", "bootorch.app")

# Ten tasks as playbooks have them: files, edits, commands, reading back. ``turn`` differs with every run, so that every
# run has the same to do. The sixth fails once on the hosts of ``failing``.
PLAYBOOK = """\
- hosts: all
  gather_facts: false
  vars:
    turn: "%(turn)s"
    failing: %(failing)s
    root: "{{ redeploy_root }}/bench"
    once: "{{ root }}/once-{{ turn }}"
  tasks:
    - name: Directory
      ansible.builtin.file: {path: "{{ root }}", state: directory, mode: "0755"}
    - name: Configuration
      ansible.builtin.copy: {content: "turn={{ turn }}\\n", dest: "{{ root }}/a.conf", mode: "0644"}
    - name: Site
      ansible.builtin.copy: {content: "turn {{ turn }}\\n", dest: "{{ root }}/site", mode: "0644"}
    - name: Line
      ansible.builtin.lineinfile: {path: "{{ root }}/a.conf", line: "host={{ inventory_hostname }}"}
    - name: Look
      ansible.builtin.stat: {path: "{{ root }}/a.conf"}
    - name: Service
      ansible.builtin.shell: "{{ fails if inventory_hostname in failing else 'true' }}"
      vars: {fails: "test -e {{ once }} || { touch {{ once }}; exit 1; }"}
    - name: Replace
      ansible.builtin.replace: {path: "{{ root }}/site", regexp: "turn", replace: "Turn"}
    - name: Link
      ansible.builtin.file: {src: "{{ root }}/site", dest: "{{ root }}/current", state: link}
    - name: Read
      ansible.builtin.slurp: {src: "{{ root }}/site"}
    - name: Check
      ansible.builtin.command: grep -q {{ turn }} {{ root }}/site
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    speed_ = commands.add_parser("speed")
    speed_.add_argument("--hosts", type=int, default=300)
    speed_.add_argument("--forks", type=int, default=16)
    speed_.add_argument("--rounds", type=int, default=3)
    speed_.add_argument("--fail-share", type=float, default=0.05)
    speed_.add_argument("--without", nargs="*", default=[], help="kinds to leave out: again, once, plain, bootorch")
    speed_.set_defaults(do=speed)
    memory_ = commands.add_parser("memory")
    memory_.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    memory_.add_argument("--forks", type=int, default=16)
    memory_.add_argument("--tasks", type=int, default=10, help="of the playbook: memory does not depend on how many")
    memory_.set_defaults(do=memory)
    given = parser.parse_args()
    do: Callable[[argparse.Namespace], int] = given.do
    return do(given)


@contextlib.contextmanager
def lab_of(hosts: int) -> Iterator[LabInfo]:
    """A lab whose hosts are all on and answer."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        options = LabOptions(
            hosts=hosts, directory=Path(directory) / "lab", boot_seconds=(0.2, 1.0), lifetime_s=14400.0
        )
        info = control.up(options)
        try:
            done = subprocess.run(
                [*BOOTORCH, "run", str(info.plan)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
            )
            if done.returncode:
                raise SystemExit(f"the lab did not come up: {done.stderr.decode()[-2000:]}")
            yield info
        finally:
            control.down(info.directory)


def names(info: LabInfo) -> list[str]:
    return sorted(info.expected)


PLAIN, PLAIN_CPU = "plain", "plain, processor"


# -- speed ------------------------------------------------------------------------------------


def speed(given: argparse.Namespace) -> int:
    times: dict[str, list[float]] = {}
    with lab_of(given.hosts) as info:
        hosts = names(info)
        count = max(1, round(given.fail_share * len(hosts)))
        failing = hosts[:: max(1, len(hosts) // count)][:count]
        for turn in range(given.rounds):
            for kind, seconds in _turn(info, given, turn, failing):
                times.setdefault(kind, []).append(seconds)
                print(f"  round {turn + 1}: {kind:28} {seconds:7.1f} s", file=sys.stderr, flush=True)
    print(f"{given.hosts} hosts, 10 tasks, {given.forks} forks, {given.rounds} rounds; seconds, and times plain")
    for kind, measured in times.items():
        against = times.get(PLAIN_CPU if kind.endswith("processor") else PLAIN, measured)
        ratios = [a / b for a, b in zip(measured, against, strict=True)]
        spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{kind:28} {statistics.median(measured):8.1f} s  {statistics.median(ratios):6.3f}  {spread}")
    return 0


def _turn(info: LabInfo, given: argparse.Namespace, turn: int, failing: list[str]) -> Iterator[tuple[str, float]]:
    left_out = set(given.without)
    if "plain" not in left_out:
        took = _plain(info, given.forks, f"plain{turn}", [])
        yield PLAIN, took.wall_s
        yield PLAIN_CPU, took.cpu_s
    if "bootorch" not in left_out:
        redeploy_s, took = _bootorch(info, given.forks, f"ours{turn}", [])
        yield "bootorch, redeploy", redeploy_s
        yield "bootorch, command", took.wall_s
        yield "bootorch, processor", took.cpu_s
    if "once" not in left_out:
        redeploy_s, took = _bootorch(info, given.forks, f"once{turn}", failing)
        yield "5 % once, redeploy", redeploy_s
        yield "5 % once, command", took.wall_s
        yield "5 % once, processor", took.cpu_s
    if "again" not in left_out:
        first, second = (_plain(info, given.forks, f"again{turn}", failing, expect) for expect in (2, 0))
        yield "everything again", first.wall_s + second.wall_s
        yield "everything again, processor", first.cpu_s + second.cpu_s


def _playbook(info: LabInfo, turn: str, failing: list[str]) -> Path:
    path = info.directory.parent / "play" / "bench.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PLAYBOOK % {"turn": turn, "failing": json.dumps(failing)})
    return path


class Took(NamedTuple):
    """Wall seconds, and seconds of processor of the command and all below it; those of the lab are not in it."""

    wall_s: float
    cpu_s: float


def _timed(command: list[str], **options: Any) -> tuple[subprocess.CompletedProcess[bytes], Took]:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, **options)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime
    return done, Took(time.monotonic() - began, cpu_s)


def _plain(info: LabInfo, forks: int, turn: str, failing: list[str], expect: int = 0) -> Took:
    """One ansible-playbook over the lab's own inventory, with the settings of a slice."""
    playbook = _playbook(info, turn, failing)
    with tempfile.TemporaryDirectory(prefix="plain-") as place:
        directory = Path(place)
        (directory / "ansible.cfg").write_text(ANSIBLE_CFG)
        made = environment(
            os.environ,
            programs=Path(sys.executable).parent,
            directory=directory,
            control_directory=directory,
            playbook=playbook,
            known_hosts=None,
            vault_password_file=None,
        )
        command = ["ansible-playbook", "-i", str(info.inventory), "-f", str(forks), str(playbook)]
        done, took = _timed(command, env=made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        processes.kill_marked(MARK, {str(directory)})
    if done.returncode != expect:
        raise SystemExit(f"plain ansible-playbook ended with {done.returncode}: {done.stdout.decode()[-2000:]}")
    return took


def _bootorch(info: LabInfo, forks: int, turn: str, failing: list[str]) -> tuple[float, Took]:
    """Seconds from the first slice to the last verdict, and what the whole command took."""
    playbook = _playbook(info, turn, failing)
    plan = yaml.safe_load(info.plan.read_text())
    plan["name"] = "bench"
    plan["limits"] = {"slots": {"redeploy_forks": forks}}
    plan["groups"] = {"everybody": {"hosts": "all", "adopted": "redeploy", "redeploy": [str(playbook)]}}
    plan["defaults"]["deadlines"] = {"redeploy": "2h"}
    path = info.plan.with_name("bench.yml")
    path.write_text(yaml.safe_dump(plan))
    with tempfile.TemporaryFile() as out:
        done, took = _timed([*BOOTORCH, "run", str(path), "--new", "--events", "-"], stdout=out, stderr=subprocess.PIPE)
        out.seek(0)
        events = [json.loads(line) for line in out]
    if done.returncode:
        raise SystemExit(f"bootorch ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    slices = [event for event in events if event.get("kind") == "redeploy"]
    intents = {event["id"]: event for event in slices if event["e"] == "intent"}
    for event in slices:
        if event["e"] == "answer":
            intent = intents[event["id"]]
            print(
                f"    slice {intent['t']:6.1f} to {event['t']:6.1f} s: {len(intent['hosts']):3} hosts,"
                f" {intent['args']['forks']:2} forks: {event.get('detail', '')}",
                file=sys.stderr,
            )
    return max(e["t"] for e in slices) - min(e["t"] for e in slices), took


# -- memory -----------------------------------------------------------------------------------


def memory(given: argparse.Namespace) -> int:
    with lab_of(max(given.sizes)) as info:
        listed = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(info.inventory), "--list"],
            stdout=subprocess.PIPE,
            check=True,
        )
        variables = json.loads(listed.stdout)["_meta"]["hostvars"]
        print("hosts   controller MiB   with forks MiB   on disk KiB   seconds")
        for size in given.sizes:
            print(asyncio.run(_slice_memory(info, variables, size, given)), flush=True)
    return 0


async def _slice_memory(
    info: LabInfo, variables: dict[str, dict[str, object]], size: int, given: argparse.Namespace
) -> str:
    hosts = tuple(
        Host(name, "g", Endpoint("127.0.0.1", 1), "", None, str(variables[name]["ansible_host"]))
        for name in names(info)[:size]
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as run_dir:
        driver = AnsibleRedeploy(Site((), (ip_network("127.0.0.0/8"),)), variables, {}, Path(run_dir), None, None)
        playbook = _playbook(info, f"memory{size}", [])
        playbook.write_text("    - name: ".join(playbook.read_text().split("    - name: ")[: given.tasks + 1]))
        work = Slice("bench", str(playbook), hosts, given.forks)
        began = time.monotonic()
        task = asyncio.create_task(driver.run(work, 7200.0))
        controller = everything = disk = 0
        while not task.done():
            await asyncio.sleep(0.5)
            now = _sizes(run_dir)
            controller, everything = max(controller, now[0]), max(everything, now[1])
            disk = max(disk, _on_disk(run_dir))
        reply = await task
        seconds = time.monotonic() - began
    if reply.detail != f"{size} ok":
        raise SystemExit(f"the slice ended otherwise: {reply.detail}")
    return f"{size:5} {controller / 1024:16.0f} {everything / 1024:16.0f} {disk / 1024:13.0f} {seconds:9.0f}"


def _sizes(run_dir: str) -> tuple[int, int]:
    """KiB of the slice's lasting processes, and of all of them."""
    lasting = total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if f"{MARK}={run_dir}".encode() not in (entry / "environ").read_bytes():
                continue
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            pss = next(
                int(line.split()[1]) for line in (entry / "smaps_rollup").read_text().splitlines() if line[:4] == "Pss:"
            )
        except (OSError, StopIteration, IndexError):
            continue
        total += pss
        of_playbook = b"ansible-playbook" in command
        forked = of_playbook and b"ansible-playbook" in _command(parent)
        if b"redeploy_worker" in command or (of_playbook and not forked):
            lasting += pss
    return lasting, total


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _on_disk(directory: str) -> int:
    found = 0
    for path in Path(directory).rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size if path.is_file() else 0
    return found


if __name__ == "__main__":
    sys.exit(main())
