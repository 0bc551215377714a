"""Ansible module: what the kernel says about this host's file systems. Reads only; needs no program but smartctl."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

DOCUMENTATION = """
module: host_disks
short_description: File systems that are read-only, full or not mounted, and disks about to fail
description: Returns C(problems), a list of sentences; empty when all is well. Fails only when it cannot look.
author: bootorch
options:
  fstab: {description: Which file systems there should be., type: path, default: /etc/fstab}
  mounts: {description: More mount points that must be there., type: list, elements: path, default: []}
  full_percent: {description: A file system this full is a problem., type: int, default: 98}
  every: {description: Also those on disks that nobody has listed., type: bool, default: true}
  smart: {description: Ask disks how they are, where smartctl is installed., type: bool, default: true}
"""

_ON_DISK = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "reiserfs", "xfs", "zfs"})
# Asking a server that is still dark how full it is would hang for minutes.
_REMOTE = re.compile(r"nfs|cifs|smb|ceph|gluster|lustre|fuse|9p|afs")
_PROGRAM_TIMEOUT_S = 20
_SMART_FAILING = 1 << 3  # smartctl(8), EXIT STATUS


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo. ``remounted`` is about the file system, not about this view of it."""

    point: str
    kind: str
    source: str
    read_only: bool
    remounted: bool


def mounts_of(mountinfo: str) -> dict[str, Mount]:
    """By mount point; the last one mounted there is the one that is seen (proc(5), /proc/pid/mountinfo)."""
    found = {}
    for line in mountinfo.splitlines():
        own, _, rest = line.partition(" - ")
        point, options = _plain(own.split()[4]), own.split()[5]
        kind, source, of_file_system = (*rest.split(), "", "")[:3]
        found[point] = Mount(point, kind, _plain(source), "ro" in options.split(","), "ro" in of_file_system.split(","))
    return found


def wanted(fstab: str) -> dict[str, bool]:
    """Mount points that fstab(5) wants at boot, and whether it wants them read-only."""
    found = {}
    for line in fstab.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) < 3 or words[2] == "swap" or not words[1].startswith("/"):
            continue
        options = words[3].split(",") if len(words) > 3 else []
        if "noauto" not in options and "x-systemd.automount" not in options:
            found[_plain(words[1]).rstrip("/") or "/"] = "ro" in options
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def problems_of(
    mounts: dict[str, Mount], fstab: dict[str, bool], required: list[str], full_percent: int, *, every: bool = True
) -> list[str]:
    missing = sorted({*fstab, *required} - set(mounts))
    problems = [f"{point} is not mounted: is its disk there (lsblk)? mount {point}" for point in missing]
    for mount in sorted(mounts.values()):
        listed = mount.point in fstab or mount.point in required
        if not listed and not (every and mount.kind in _ON_DISK):
            continue
        # A read-only view of a writable file system is what containers are made of; a file system that went
        # read-only met an error.
        if (mount.remounted or (listed and mount.read_only)) and not fstab.get(mount.point, False):
            problems.append(
                f"{mount.point} ({mount.source}) is read-only: look for its error (dmesg), fsck it, then remount it"
            )
        if not _REMOTE.search(mount.kind):
            problems += _fullness(mount.point, full_percent)
    return problems


def _fullness(point: str, full_percent: int) -> list[str]:
    try:
        room = os.statvfs(point)
    except OSError as error:
        return [f"{point} cannot be read: {error.strerror}"]
    shares = {
        "full": (room.f_blocks - room.f_bfree, room.f_blocks - room.f_bfree + room.f_bavail),
        "out of inodes": (room.f_files - room.f_ffree, room.f_files - room.f_ffree + room.f_favail),
    }
    return [
        f"{point} is {100 * used // total} % {what}: make room before anything is written there"
        for what, (used, total) in shares.items()
        if total and 100 * used >= full_percent * total
    ]


def failing_disks() -> list[str]:
    """Disks that say themselves that they are about to fail. Nobody is asked without smartctl and root."""
    program = shutil.which("smartctl", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not program or os.geteuid() != 0:
        return []
    try:
        scan = _run([program, "--scan"])
    except subprocess.TimeoutExpired:
        return [f"smartctl --scan gave no answer within {_PROGRAM_TIMEOUT_S} s"]
    problems = []
    for device in [line.split()[0] for line in scan.stdout.splitlines() if line.startswith("/dev/")]:
        try:
            failing = _run([program, "--health", device]).returncode & _SMART_FAILING
        except subprocess.TimeoutExpired:
            problems.append(f"{device} gives no answer: a disk that hangs is a broken disk; replace it")
            continue
        if failing:
            problems.append(f"{device} says that it is failing (smartctl --all {device}): copy its data, replace it")
    return problems


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - smartctl, found in PATH
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT_S, check=False
    )


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "fstab": {"type": "path", "default": "/etc/fstab"},
            "mounts": {"type": "list", "elements": "path", "default": []},
            "full_percent": {"type": "int", "default": 98},
            "every": {"type": "bool", "default": True},
            "smart": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    fstab = Path(module.params["fstab"])
    problems = problems_of(
        mounts_of(Path("/proc/self/mountinfo").read_text()),
        wanted(fstab.read_text()) if fstab.is_file() else {},
        [point.rstrip("/") or "/" for point in module.params["mounts"]],
        module.params["full_percent"],
        every=module.params["every"],
    )
    if module.params["smart"]:
        problems += failing_disks()
    module.exit_json(changed=False, problems=problems)


if __name__ == "__main__":
    main()
