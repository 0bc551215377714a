"""Three real PostgreSQL servers after a power cut: the newest copy starts first, whatever their control files say."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.reasons import Reason
from tests.playbooks.conftest import PLAYBOOKS, Hosts

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
USER = "postgres"  # PostgreSQL refuses to run as root

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(PROGRAMS is None, reason="postgresql is not installed"),
    pytest.mark.skipif(
        os.geteuid() == 0 and not shutil.which("setpriv"), reason="util-linux (setpriv) is not installed"
    ),
]

AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []


class Cluster:
    """Data directories below one that the database's user may enter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        assert PROGRAMS is not None
        self.programs = PROGRAMS

    def data(self, name: str) -> Path:
        return self.directory / name

    def words(self, program: str, *words: str | Path) -> list[str]:
        return [*AS_USER, str(self.programs / program), *map(str, words)]

    def run(self, program: str, *words: str | Path) -> str:
        done = subprocess.run(
            self.words(program, *words), capture_output=True, text=True, cwd=self.directory, timeout=60, check=False
        )
        assert done.returncode == 0, (program, words, done.stdout, done.stderr)
        return done.stdout.strip()

    def sql(self, name: str, statement: str) -> str:
        return self.run("psql", "-h", self.data(name), "-U", "postgres", "-Atqc", statement)

    def start_words(self, name: str) -> list[str]:
        settings = f"-c listen_addresses= -c unix_socket_directories={self.data(name)} -c fsync=off -c wal_keep_size=64"
        return self.words(
            "pg_ctl", "-D", self.data(name), "-w", "-l", self.directory / f"{name}.log", "-o", settings, "start"
        )

    def start(self, name: str) -> None:
        subprocess.run(self.start_words(name), check=True, capture_output=True, timeout=60, cwd=self.directory)

    def power_cut(self, name: str) -> None:
        """The server and all its children at once."""
        leader = int((self.data(name) / "postmaster.pid").read_text().split()[0])
        os.killpg(leader, signal.SIGKILL)  # pg_ctl gives it a session of its own
        for _ in range(100):
            if not Path(f"/proc/{leader}").exists() or "Z" in Path(f"/proc/{leader}/stat").read_text().split()[2]:
                return
            time.sleep(0.05)

    def variables(self, members: list[str], name: str) -> dict[str, Any]:
        data = self.data(name)
        # Whoever joins follows the first one; its copy is older, so it only has to catch up.
        follow = (
            f"echo \"primary_conninfo = 'host=$1 user=postgres'\" >>{data}/postgresql.auto.conf && "
            f'touch {data}/standby.signal && shift && exec "$@"'
        )
        start = self.start_words(name)[len(AS_USER) :]
        first = self.data("{{ database_leader }}")
        return {
            "database_members": members,
            "database_package": "",
            "database_settings": "",
            "database_wait_s": 20,
            "database_ready_command": self.words("pg_isready", "-q", "-h", data),
            "database_directory": str(data),
            "database_programs": str(self.programs),
            "database_bootstrap_command": self.start_words(name),
            "database_join_command": [*AS_USER, "sh", "-c", follow, "join", str(first), *start],
        }


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="bo-db-") as text:  # a socket's path must be short
        directory = Path(text)
        if AS_USER:
            shutil.chown(directory, USER, USER)
        made = Cluster(directory)
        yield made
        for file in directory.glob("*/postmaster.pid"):
            if _alive(file.parent):
                made.power_cut(file.parent.name)


async def test_the_newest_copy_starts_first_and_the_others_follow(hosts: Hosts, cluster: Cluster) -> None:
    old, new, lagging = members = sorted(hosts.take() for _ in range(3))
    cluster.run("initdb", "-D", cluster.data(new), "-U", "postgres", "-A", "trust", "-N", "--wal-segsize=1")
    cluster.start(new)
    cluster.sql(new, "create table sold (n int)")
    cluster.run("pg_basebackup", "-h", cluster.data(new), "-U", "postgres", "-D", cluster.data(old), "-c", "fast", "-N")
    cluster.sql(new, "insert into sold values (1)")
    cluster.run(
        "pg_basebackup", "-h", cluster.data(new), "-U", "postgres", "-D", cluster.data(lagging), "-c", "fast", "-N"
    )
    cluster.sql(new, "insert into sold values (2)")
    # The control files of lagging and new say the same; only the log of new has the last sale.
    cluster.power_cut(new)
    given = {name: cluster.variables(members, name) for name in members}

    foretold = hosts.by_hand(["database"], given, "--check")
    assert foretold.returncode == 0, foretold.output
    assert not (cluster.data(lagging) / "postmaster.pid").exists()
    first = hosts.by_hand(["database"], given)
    assert first.returncode == 0, first.output
    assert first.changed == [
        ("database : Start the newest copy", f"[{new}]"),
        ("database : Let the others join, one at a time", f"[{old}]"),
        ("database : Let the others join, one at a time", f"[{lagging}]"),
    ]
    assert first.changed == foretold.changed
    for name in members:
        for _ in range(100):
            if cluster.sql(name, "select count(*) from sold") == "2":
                break
            time.sleep(0.1)
        assert cluster.sql(name, "select count(*), pg_is_in_recovery() from sold") == f"2|{'f' if name == new else 't'}"

    # One that is tried again alone sees by the cluster that it may join: nobody else is in its play.
    cluster.power_cut(old)
    leader = cluster.words("pg_isready", "-q", "-h", cluster.data(new))
    alone = {**given[old], "database_cluster_command": leader, "database_bootstrap": new}
    late = await hosts.recover(PLAYBOOKS / "database.yml", {old: alone})
    assert (late[old].reason, late[old].changed) == (Reason.OK, 1), late

    second = await hosts.recover(PLAYBOOKS / "database.yml", given)
    assert {(verdict.reason, verdict.changed) for verdict in second.values()} == {(Reason.OK, 0)}, second


async def test_two_that_were_written_to_apart_are_not_started(hosts: Hosts, cluster: Cluster) -> None:
    """And nobody is where a member is not in the play, or where the newest does not start."""
    one, other, absent = (hosts.take() for _ in range(3))
    cluster.run("initdb", "-D", cluster.data(one), "-U", "postgres", "-A", "trust", "-N", "--wal-segsize=1")
    shutil.copytree(cluster.data(one), cluster.data(other))
    if AS_USER:
        for path in (cluster.data(other), *cluster.data(other).rglob("*")):
            shutil.chown(path, USER, USER)
    for name in (one, other):
        cluster.start(name)
        cluster.sql(name, "create table sold (n int)")
        cluster.power_cut(name)
    given = {name: cluster.variables(sorted((one, other)), name) for name in (one, other)}
    apart = await hosts.recover(PLAYBOOKS / "database.yml", given)
    for name in (one, other):
        assert apart[name].reason is Reason.TASK_FAILED, apart
        assert "equally far with different content" in apart[name].detail
        assert not (cluster.data(name) / "postmaster.pid").exists() or not _alive(cluster.data(name))

    given = {name: cluster.variables(sorted((one, other, absent)), name) for name in (one, other)}
    unseen = await hosts.recover(PLAYBOOKS / "database.yml", given)
    assert f"the newest copy may be on {absent}" in unseen[one].detail, unseen

    given = {
        name: {**cluster.variables(sorted((one, other)), name), "database_accept_loss": True} for name in (one, other)
    }
    for variables in given.values():
        variables |= {"database_bootstrap": one, "database_bootstrap_command": ["false"]}
    failed = await hosts.recover(PLAYBOOKS / "database.yml", given)
    assert failed[one].detail.startswith("Start the newest copy"), failed
    assert f"not started, because {one}, which has the newest copy, did not start" in failed[other].detail
    assert not _alive(cluster.data(other))


def _alive(data: Path) -> bool:
    file = data / "postmaster.pid"
    return file.exists() and Path(f"/proc/{file.read_text().split()[0]}").exists()
