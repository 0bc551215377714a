"""Events that get lost: a pipe that is cut, a child that is killed at any moment, hosts that drop out.

Real ansible-playbook, spoilt by plugins of the playbook's own directory. Nothing of it may look like success.
"""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap

import pytest

from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice
from tests.drivers.slices import LOCAL, Bench, host, needs_ansible, until

pytestmark = needs_ansible

CALLBACK = """
import os, signal
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME, CALLBACK_NEEDS_ENABLED = 2.0, "notification", "spoil", False

    def spoil(self, what):
        if {when!r} == what:
            pipe = int(os.environ["BOOTORCH_EVENTS_FD"])
            {do}

    def v2_playbook_on_play_start(self, play): self.spoil("start")
    def v2_runner_on_ok(self, result): self.spoil("ok")
    def v2_playbook_on_stats(self, stats): self.spoil("stats")
"""
# A strategy that forgets one of its hosts, as a bug of a plugin would.
STRATEGY = """
from ansible.plugins.strategy.linear import StrategyModule as Linear

class StrategyModule(Linear):
    def get_hosts_left(self, iterator):
        return [host for host in super().get_hosts_left(iterator) if host.name != "b"]
"""

CUT = "os.dup2(os.open('/dev/null', os.O_WRONLY), pipe)"
HALF = """os.write(pipe, b'["stats", {"changed": {"a": 1}, "da'); os._exit(0)"""
LEAVE = "os._exit(0)"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def spoilt(bench: Bench, when: str, do: str) -> str:
    plugins = bench.directory / "callback_plugins"
    plugins.mkdir()
    (plugins / "spoil.py").write_text(CALLBACK.format(when=when, do=do))
    (bench.directory / "ansible.cfg").write_text(f"[defaults]\ncallback_plugins = {plugins}\n")
    return bench.playbook("- name: Touch\n  ansible.builtin.command: 'true'\n")


@pytest.mark.parametrize(
    ("when", "do"),
    [
        ("start", CUT),
        ("ok", CUT),
        ("stats", CUT),
        ("ok", HALF),
        ("stats", HALF),
        ("stats", LEAVE),
        ("ok", KILL),
        ("start", KILL),
    ],
    ids=lambda value: {CUT: "cut", HALF: "half", LEAVE: "leave", KILL: "kill"}.get(value, value),
)
async def test_a_slice_whose_events_are_lost_is_lost(bench: Bench, when: str, do: str) -> None:
    playbook = spoilt(bench, when, do)
    driver = bench.driver({"a": LOCAL, "b": LOCAL})
    reply = await driver.run(Slice("slice", playbook, (host("a"), host("b")), 2), 60)
    if when == "stats" and do != KILL and reply.reason is Reason.OK:
        # The statistics' event had left already: then they are true.
        assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.OK}
        return
    assert reply.reason is Reason.SLICE_LOST, reply
    assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.SLICE_LOST}


async def test_a_host_that_is_missing_in_the_statistics_never_ran(bench: Bench) -> None:
    plugins = bench.directory / "strategy_plugins"
    plugins.mkdir()
    (plugins / "forgets.py").write_text(textwrap.dedent(STRATEGY))
    (bench.directory / "ansible.cfg").write_text(f"[defaults]\nstrategy_plugins = {plugins}\n")
    playbook = bench.playbook("- ansible.builtin.command: 'true'\n", head="  strategy: forgets\n")
    driver = bench.driver(dict.fromkeys("abc", LOCAL))
    reply = await driver.run(Slice("slice", playbook, tuple(host(name) for name in "abc"), 3), 60)
    assert {name: verdict.reason for name, verdict in reply.verdicts.items()} == {
        "a": Reason.OK,
        "b": Reason.NEVER_RAN,
        "c": Reason.OK,
    }


@pytest.mark.parametrize("victim", [b"ansible-playbook", b"redeploy_worker"])
@pytest.mark.parametrize("delay_s", [0.0, 0.4, 0.9, 1.6])
async def test_a_child_that_is_killed_at_any_moment_is_never_a_success(
    bench: Bench, victim: bytes, delay_s: float
) -> None:
    done = bench.directory / "done"
    playbook = bench.playbook(f"- ansible.builtin.shell: sleep 1.5; echo {{{{ inventory_hostname }}}} >> {done}\n")
    driver = bench.driver({"a": LOCAL, "b": LOCAL})
    task = asyncio.create_task(driver.run(Slice("slice", playbook, (host("a"), host("b")), 2), 60))
    await until(lambda: bool(bench.marked(victim)))
    await asyncio.sleep(delay_s)
    for pid in bench.marked(victim):
        os.kill(pid, signal.SIGKILL)
    reply = await task
    ran = set(done.read_text().split()) if done.exists() else set()
    for name, verdict in reply.verdicts.items():
        assert verdict.reason is Reason.SLICE_LOST or (verdict.reason is Reason.OK and name in ran), reply
    if delay_s < 1.5:
        assert reply.reason is Reason.SLICE_LOST
