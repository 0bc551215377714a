"""Slices of real ansible-playbook over a local connection: verdicts, deadline, cancel, a killed driver, secrets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootorch.core.reasons import Reason
from bootorch.drivers import processes, redeploy
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redeploy_slice import MARK
from tests.drivers.slices import LOCAL, PROGRAMS, Bench, host, needs_ansible, run, running, until

pytestmark = needs_ansible


async def test_every_kind_of_verdict_comes_from_the_statistics(bench: Bench) -> None:
    playbook = bench.playbook(
        """
        - name: Change something
          ansible.builtin.command: "true"
        - name: Fail on one host
          ansible.builtin.fail: {msg: "disk is full"}
          when: inventory_hostname == 'failing'
        - name: Fail and be rescued
          when: inventory_hostname == 'rescued'
          block:
            - name: Fail
              ansible.builtin.fail: {msg: "not for the report"}
          rescue:
            - name: Heal
              ansible.builtin.debug: {msg: "healed"}
        - name: Fail and be ignored
          ansible.builtin.fail: {msg: "no matter"}
          ignore_errors: true
          when: inventory_hostname == 'ignored'
        - name: Tell nobody
          ansible.builtin.command: sh -c 'echo hunter2 >&2; exit 1'
          no_log: true
          when: inventory_hostname == 'secretive'
        - name: Tell nobody about an item
          ansible.builtin.command: sh -c 'echo {{ item }} >&2; exit 1'
          no_log: true
          loop: [hunter2]
          when: inventory_hostname == 'looping'
        - name: Say why on stderr
          ansible.builtin.command: sh -c 'echo no space left >&2; exit 1'
          when: inventory_hostname == 'talking'
        """
    )
    reply = await run(
        bench,
        playbook,
        "good failing rescued ignored secretive looping talking dark",
        dark={"ansible_connection": "ssh", "ansible_port": 1},
    )
    verdicts = reply.verdicts
    assert reply.reason is Reason.OK
    assert {name: verdict.reason for name, verdict in verdicts.items()} == {
        "good": Reason.OK,
        "failing": Reason.TASK_FAILED,
        "rescued": Reason.OK,
        "ignored": Reason.OK,
        "secretive": Reason.TASK_FAILED,
        "looping": Reason.TASK_FAILED,
        "talking": Reason.TASK_FAILED,
        "dark": Reason.DARK,
    }
    assert verdicts["good"].changed == 1
    assert verdicts["failing"].detail == "Fail on one host: disk is full"
    assert verdicts["secretive"].detail == "Tell nobody: output hidden (no_log)"
    assert verdicts["looping"].detail == "Tell nobody about an item: output hidden (no_log)"
    assert "no space left" in verdicts["talking"].detail
    assert "Connection refused" in verdicts["dark"].detail
    assert "hunter2" not in repr(reply)


async def test_a_host_that_the_playbook_does_not_touch_never_ran(bench: Bench) -> None:
    playbook = bench.playbook("- ansible.builtin.command: 'true'\n")
    Path(playbook).write_text(Path(playbook).read_text().replace("hosts: all", "hosts: a"))
    reply = await run(bench, playbook, "a b")
    assert {name: verdict.reason for name, verdict in reply.verdicts.items()} == {"a": Reason.OK, "b": Reason.NEVER_RAN}


async def test_a_host_that_a_failing_play_left_out_never_ran(bench: Bench) -> None:
    playbook = bench.playbook(
        "- ansible.builtin.fail: {msg: stop}\n  when: inventory_hostname == 'a'\n", head="  serial: 1\n"
    )
    reply = await run(bench, playbook, "a b")
    assert reply.verdicts["a"].reason is Reason.TASK_FAILED
    assert reply.verdicts["b"].reason is Reason.NEVER_RAN


async def test_a_playbook_that_ansible_cannot_read_loses_the_slice_and_says_why(bench: Bench) -> None:
    playbook = bench.playbook("- ansible.builtin.no_such_module: {}\n")
    reply = await run(bench, playbook, "a b")
    assert reply.reason is Reason.SLICE_LOST
    assert "no_such_module" in reply.detail
    assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.SLICE_LOST}


async def test_a_playbook_that_is_not_there_starts_nothing(bench: Bench) -> None:
    reply = await run(bench, str(bench.directory / "nowhere.yml"), "a")
    assert reply.reason is Reason.SLICE_LOST
    assert reply.verdicts["a"].reason is Reason.NEVER_RAN
    assert "nowhere.yml" in reply.detail


async def test_variables_arrive_as_the_inventory_gave_them_with_groups(bench: Bench) -> None:
    password_file = bench.directory / "vault"
    password_file.write_text("vault-password\n")
    encrypted = subprocess.run(
        ["ansible-vault", "encrypt_string", "--vault-password-file", password_file, "--stdin-name", "x"],
        input="opened",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PATH": PROGRAMS},
    ).stdout
    ciphertext = "\n".join(line.strip() for line in encrypted.splitlines()[1:])
    out = bench.directory / "out"
    playbook = bench.playbook(
        f"""
        - ansible.builtin.copy:
            content: "{{{{ [locked, greeting, number, nested, group_names, groups.keys() | sort] | to_json }}}}"
            dest: {out}
            mode: "0600"
        """
    )
    own = LOCAL | {
        "locked": {"__ansible_vault": ciphertext},
        "greeting": "hello {{ inventory_hostname }}",
        "number": 7,
        "nested": {"raw": {"__ansible_unsafe": "{{ not a template }}"}},
    }
    driver = bench.driver(
        {"a": own, "b": LOCAL},
        groups={"web": ["a", "b"], "rack1": ["a"], "elsewhere": ["b"], "all": ["a", "b"]},
        vault_password_file=password_file,
    )
    reply = await driver.run(Slice("slice", playbook, (host("a"),), forks=5), 60)
    assert reply.verdicts["a"].reason is Reason.OK, reply
    # group_names is what the host is in; a group without a host of the slice does not exist for it.
    groups = ["all", "rack1", "ungrouped", "web"]
    expected = ["opened", "hello a", 7, {"raw": "{{ not a template }}"}, ["rack1", "web"], groups]
    assert json.loads(out.read_text()) == expected


async def test_the_operators_ansible_settings_stay_outside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    monkeypatch.setenv("ANSIBLE_FORKS", "1")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.ansible.cfg").write_text("[defaults]\nhost_key_checking = False\nremote_user = stranger\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (bench.directory / "ansible.cfg").write_text("[defaults]\nhost_key_checking = False\nremote_user = from_project\n")
    out = bench.directory / "out"
    playbook = bench.playbook(
        f"""
        - ansible.builtin.copy:
            content: >-
              {{{{ [lookup('config', 'HOST_KEY_CHECKING'), lookup('config', 'DEFAULT_REMOTE_USER'), ansible_forks]
              | to_json }}}}
            dest: {out}
            mode: "0600"
        """
    )
    reply = await run(bench, playbook, "a b")
    assert reply.verdicts["a"].reason is Reason.OK, reply
    assert json.loads(out.read_text()) == [True, "from_project", 2]


async def test_the_deadline_ends_everything_and_names_the_task(bench: Bench) -> None:
    playbook = bench.playbook("- name: Hang for ever\n  ansible.builtin.command: sleep 871\n")
    started = time.monotonic()
    reply = await run(bench, playbook, "a b", timeout_s=10)
    assert time.monotonic() - started < 30
    assert reply.reason is Reason.REDEPLOY_DEADLINE
    assert "Hang for ever" in reply.detail
    assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.SLICE_LOST}
    assert running("871") == []


async def test_cancelling_returns_when_nothing_is_left(bench: Bench) -> None:
    playbook = bench.playbook("- ansible.builtin.command: sleep 872\n")
    task = asyncio.create_task(run(bench, playbook, "a b"))
    await until(lambda: bool(running("872")))
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5
    assert (bench.marked(), running("872"), bench.left_behind()) == ([], [], [])


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.3])
async def test_cancelling_early_leaves_nothing_either(bench: Bench, delay_s: float) -> None:
    playbook = bench.playbook("- ansible.builtin.command: sleep 873\n")
    task = asyncio.create_task(run(bench, playbook, "a"))
    await asyncio.sleep(delay_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (bench.marked(), bench.left_behind()) == ([], [])


async def test_closing_the_driver_ends_its_slices(bench: Bench) -> None:
    playbook = bench.playbook("- ansible.builtin.command: sleep 874\n")
    driver = bench.driver({"a": LOCAL})
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"),), 1), 60))
    await until(lambda: bool(running("874")))
    await driver.aclose()
    assert bench.marked() == []
    assert (await task).reason is Reason.SLICE_LOST


async def driving(bench: Bench, playbook: str) -> asyncio.subprocess.Process:
    """A process that drives a slice of three hosts."""
    code = f"""
import asyncio, sys
from ipaddress import ip_network
from pathlib import Path
from bootorch.core.model import Endpoint, Host, Site
from bootorch.drivers import processes
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redeploy import AnsibleRedeploy
variables = {{"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
hosts = tuple(Host(name, "web", Endpoint("127.0.0.1", 1), "", None, "127.0.0.1") for name in "abc")
driver = AnsibleRedeploy(Site((), (ip_network("127.0.0.0/8"),)), {{h.name: variables for h in hosts}}, {{}},
                         Path({str(bench.run_dir)!r}), None, None)
asyncio.run(driver.run(Slice("slice", {playbook!r}, hosts, 3), 60))
"""
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code)


async def test_a_killed_driver_leaves_no_process_and_no_file(bench: Bench) -> None:
    """kill -9 of the process that drives: its worker notices, and ends ansible-playbook and all its forks."""
    driver = await driving(bench, bench.playbook("- ansible.builtin.command: sleep 875\n"))
    await until(lambda: len(running("875")) >= 3)
    assert len(bench.marked()) >= 5  # worker, ansible-playbook, forks, commands
    driver.kill()
    await driver.wait()
    killed = time.monotonic()
    await until(lambda: not bench.marked() and not running("875"))
    assert time.monotonic() - killed < 5
    await until(lambda: not bench.left_behind(), 5)


async def test_driver_and_worker_killed_at_once_leave_no_playbook(bench: Bench) -> None:
    """kill -9 of both, as by `pkill -9 bootorch`: what was begun on a host ends, and nothing follows it."""
    after = bench.directory / "after"
    playbook = bench.playbook(f"- ansible.builtin.command: sleep 3\n- ansible.builtin.command: touch {after}\n")
    driver = await driving(bench, playbook)
    await until(lambda: len(running("3")) >= 3)
    for pid in (driver.pid, *bench.marked(b"redeploy_worker")):
        os.kill(pid, signal.SIGKILL)
    await driver.wait()
    killed = time.monotonic()
    await until(lambda: not bench.marked(b"ansible-playbook"))
    assert time.monotonic() - killed < 5
    await until(lambda: not bench.marked())
    assert not after.exists()
    redeploy.end_leftovers(bench.run_dir)  # by whoever resumes: what they could not remove any more


async def test_a_driver_that_lost_its_lease_keeps_no_playbook_alive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stopped: the worker hears nothing of it, ends by itself, and takes everything with it."""
    monkeypatch.setattr(redeploy, "LEASH_S", 3.0)
    playbook = bench.playbook("- ansible.builtin.command: sleep 878\n")
    held = [True]
    driver = bench.driver({"a": LOCAL}, holds=lambda: held[0])
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"),), 1), 60))
    await until(lambda: bool(running("878")))
    await asyncio.sleep(4.0)
    assert running("878"), "as long as it is held, the playbook goes on"
    held[0] = False
    assert (await task).reason is Reason.SLICE_LOST
    assert (bench.marked(), running("878"), bench.left_behind()) == ([], [], [])


async def test_what_an_earlier_process_left_running_is_ended(bench: Bench) -> None:
    """A worker that was killed with its driver lets go of nothing; whoever resumes ends it."""
    left = bench.run_dir / "slice-web-1"
    left.mkdir(parents=True)
    orphan = await asyncio.create_subprocess_exec("sleep", "879", env={MARK: str(left)}, start_new_session=True)
    stranger = await asyncio.create_subprocess_exec("sleep", "879", env={MARK: f"{left}0"})
    redeploy.end_leftovers(bench.run_dir)
    assert await orphan.wait() == -signal.SIGKILL
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_a_killed_worker_takes_everything_with_it(bench: Bench) -> None:
    playbook = bench.playbook("- ansible.builtin.command: sleep 876\n")
    driver = bench.driver({"a": LOCAL})
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"),), 1), 60))
    await until(lambda: bool(running("876")))
    for pid in bench.marked(b"redeploy_worker"):
        os.kill(pid, signal.SIGKILL)
    reply = await task
    assert reply.reason is Reason.SLICE_LOST
    assert reply.verdicts["a"].reason is Reason.SLICE_LOST
    assert (bench.marked(), running("876"), bench.left_behind()) == ([], [], [])


async def test_a_killed_ansible_playbook_loses_the_slice(bench: Bench) -> None:
    playbook = bench.playbook("- name: Be killed\n  ansible.builtin.command: sleep 877\n")
    driver = bench.driver({"a": LOCAL})
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"),), 1), 60))
    await until(lambda: bool(running("877")))
    for pid in bench.marked(b"ansible-playbook"):
        os.kill(pid, signal.SIGKILL)
    reply = await task
    assert reply.reason is Reason.SLICE_LOST
    assert "Be killed" in reply.detail


async def test_a_secret_is_in_no_argument_and_no_environment(bench: Bench) -> None:
    """Read from /proc while it runs, of every process of the slice; the inventory's file is private."""
    playbook = bench.playbook("- ansible.builtin.command: sleep 3.21\n")
    driver = bench.driver({"a": LOCAL | {"bmc_password": "marked-secret", "token": "marked-secret"}})
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"),), 1), 60))
    await until(lambda: bool(running("3.21")))
    pids = bench.marked()
    assert len(pids) >= 4
    for pid in pids:
        for name in ("cmdline", "environ"):
            assert b"marked-secret" not in Path(f"/proc/{pid}/{name}").read_bytes()
    holding = [path for path in bench.run_dir.rglob("*") if path.is_file() and b"marked-secret" in path.read_bytes()]
    assert [path.name for path in holding] == ["inventory.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert holding[0].parent.stat().st_mode & 0o777 == 0o700
    assert (await task).verdicts["a"].reason is Reason.OK


async def test_one_host_outside_the_site_and_nothing_is_started(bench: Bench) -> None:
    touched = bench.directory / "touched"
    playbook = bench.playbook(f"- ansible.builtin.command: touch {touched}\n")
    driver = bench.driver({"a": LOCAL, "b": LOCAL | {"ansible_host": "192.0.2.7"}})
    reply = await driver.run(Slice("slice", playbook, (host("a"), host("b")), 2), 60)
    assert reply.reason is Reason.OUTSIDE_SITE
    assert "192.0.2.7" in reply.detail
    assert reply.verdicts["b"].reason is Reason.OUTSIDE_SITE
    assert reply.verdicts["a"].reason is Reason.NEVER_RAN
    assert not touched.exists()
    assert not bench.run_dir.exists()


async def test_without_ansible_the_remedy_is_said(bench: Bench, tmp_path: Path) -> None:
    """In a virtual environment that has no ansible-playbook."""
    playbook = bench.playbook("- ansible.builtin.command: 'true'\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    code = f"""
import asyncio, sys
from ipaddress import ip_network
from pathlib import Path
from bootorch.core.model import Endpoint, Host, Site
from bootorch.drivers import processes
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redeploy import AnsibleRedeploy
host = Host("a", "web", Endpoint("127.0.0.1", 1), "", None, "127.0.0.1")
driver = AnsibleRedeploy(Site((), (ip_network("127.0.0.0/8"),)), {{}}, {{}}, Path({str(bench.run_dir)!r}), None, None)
reply = asyncio.run(driver.run(Slice("slice", {playbook!r}, (host,), 1), 30))
print(reply.reason, reply.verdicts["a"].reason, reply.detail)
"""
    source = Path(__file__).parents[2]
    done = subprocess.run(
        [tmp_path / "bare/bin/python", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source)},
    )
    assert done.stdout == "slice_lost never_ran ansible is not installed: pip install 'bootorch[ansible]'\n"


def test_only_marked_processes_are_found() -> None:
    child = subprocess.Popen(["sleep", "30"], env={"BOOTORCH_TEST": "mine"}, start_new_session=True)
    other = subprocess.Popen(["sleep", "30"], env={"BOOTORCH_TEST": "mine-too"})
    try:
        assert processes.marked("BOOTORCH_TEST", {"mine"}) == [child.pid]
        assert processes.kill_marked("BOOTORCH_TEST", {"mine"})
        assert child.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(5)
