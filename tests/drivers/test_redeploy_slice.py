"""The pure half of redeploy: fence, rendered inventory, environment, and verdicts from what came back."""

from __future__ import annotations

import json
import shlex
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bootorch.core.model import Endpoint, Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redeploy_failures import one_line
from bootorch.drivers.redeploy_slice import SliceReport, environment, inventory, refusals, slice_reply, ssh_arguments
from bootorch.drivers.redeploy_worker import Collector

SITE = Site(bmc_networks=(ip_network("10.20.0.0/16"),), host_networks=(ip_network("10.30.0.0/16"),))


def host(name: str, address: str = "10.30.0.1") -> Host:
    return Host(name, "web", Endpoint("10.20.0.1", 623), "", None, address)


WORK = Slice("s", "/p.yml", (host("a"), host("b")), 2)


def report(**changes: Any) -> SliceReport:
    made = SliceReport(end="finished", stats=None, trouble={}, output={}, task="", error="")
    made.update(changes)  # type: ignore[typeddict-item]
    return made


def stats(**counters: dict[str, int]) -> dict[str, dict[str, int]]:
    return {name: counters.get(name, {}) for name in ("changed", "dark", "failures", "processed", "rescued")}


@pytest.mark.parametrize(
    "own",
    [
        {"ansible_host": "192.0.2.1"},
        {"ansible_host": "10.20.0.1"},  # a BMC is no host
        {"ansible_host": "web1.example.org"},
        {"ansible_ssh_host": "192.0.2.1"},
        {"ansible_host": ["10.30.0.1"]},
    ],
)
def test_an_address_outside_the_host_networks_is_refused(own: dict[str, Any]) -> None:
    assert list(refusals(SITE, (host("a"), host("b")), {"a": own})) == ["a"]


def test_a_host_of_the_plan_outside_the_site_is_refused() -> None:
    assert list(refusals(SITE, (host("a", "192.0.2.1"),), {})) == ["a"]


def test_what_leads_nowhere_else_is_allowed() -> None:
    own = {
        "ansible_host": "{{ network }}.1",
        "ansible_ssh_common_args": "-o UserKnownHostsFile={{ inventory_dir }}/known_hosts -o IdentitiesOnly=yes -C",
        "ansible_ssh_extra_args": "",
    }
    assert refusals(SITE, (host("a"),), {"a": own}) == {}


def test_vaulted_ssh_arguments_cannot_be_checked_and_are_refused() -> None:
    assert "a" in refusals(SITE, (host("a"),), {"a": {"ansible_ssh_args": {"__ansible_vault": "…"}}})


def test_the_rendered_address_is_the_one_the_fence_has_seen() -> None:
    own = {"ansible_host": "{{ network }}.1", "ansible_ssh_host": "10.30.0.1", "x": {"__ansible_vault": "cipher"}}
    rendered = inventory((host("a"),), {"a": own}, {}, None)
    assert rendered == {"all": {"hosts": {"a": {"ansible_host": "10.30.0.1", "x": {"__ansible_vault": "cipher"}}}}}


def test_only_groups_with_hosts_of_the_slice_are_rendered() -> None:
    groups = {"web": ["b", "a", "z"], "other": ["z"], "all": ["a"], "ungrouped": []}
    rendered = inventory((host("a"), host("b")), {}, groups, None)
    assert rendered["web"] == {"hosts": {"a": {}, "b": {}}}
    assert set(rendered) == {"all", "web"}


def test_verification_stands_before_any_arguments_of_the_inventory() -> None:
    own = {"ansible_ssh_args": "-o StrictHostKeyChecking=no", "ansible_host_key_checking": False}
    rendered = inventory((host("a"),), {"a": own}, {}, Path("/k"))["all"]["hosts"]["a"]
    assert "ansible_host_key_checking" not in rendered
    words = rendered["ansible_ssh_args"].split()
    assert words.index("StrictHostKeyChecking=yes") < words.index("StrictHostKeyChecking=no")


def test_a_known_hosts_path_with_blanks_stays_one_file() -> None:
    assert shlex.split(ssh_arguments(Path("/a b/100%")))[-1] == 'UserKnownHostsFile="/a b/100%%"'


def test_of_the_operators_environment_only_what_is_named_comes_through(tmp_path: Path) -> None:
    base = {"HOME": "/h", "ANSIBLE_HOST_KEY_CHECKING": "False", "SECRET": "x", "PATH": "/bin"}
    made = environment(
        base,
        programs=Path("/venv/bin"),
        directory=tmp_path / "slice",
        control_directory=tmp_path / "cp",
        playbook=tmp_path / "plays/web.yml",
        known_hosts=None,
        vault_password_file=Path("/vault"),
    )
    assert made["HOME"] == "/h"
    assert made["PATH"] == "/venv/bin:/bin"
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert made["ANSIBLE_VAULT_PASSWORD_FILE"] == "/vault"
    assert made["ANSIBLE_CONFIG"] == str(tmp_path / "slice/ansible.cfg")
    assert "SECRET" not in made


def test_verdicts_are_those_of_the_statistics() -> None:
    reply = slice_reply(WORK, report(stats=stats(processed={"a": 1}, changed={"a": 3}, rescued={"a": 1})), 60)
    assert reply.reason is Reason.OK
    assert (reply.verdicts["a"].reason, reply.verdicts["a"].changed) == (Reason.OK, 3)
    assert reply.verdicts["b"].reason is Reason.NEVER_RAN


def test_a_host_that_failed_and_was_then_lost_is_dark() -> None:
    lost = stats(processed={"a": 1, "b": 1}, failures={"a": 1, "b": 1}, dark={"a": 1})
    reply = slice_reply(WORK, report(stats=lost, trouble={"b": "T: m"}), 60)
    assert reply.verdicts["a"].reason is Reason.DARK
    assert (reply.verdicts["b"].reason, reply.verdicts["b"].detail) == (Reason.TASK_FAILED, "T: m")


def test_without_statistics_every_host_is_unknown() -> None:
    reply = slice_reply(WORK, report(error="[ERROR]: no such module", trouble={"a": "T: m"}), 60)
    assert reply.reason is Reason.SLICE_LOST
    assert "no such module" in reply.detail
    assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.SLICE_LOST}


def test_statistics_that_come_with_a_passed_deadline_are_not_trusted() -> None:
    reply = slice_reply(WORK, report(end="deadline", task="T", stats=stats(processed={"a": 1, "b": 1})), 60)
    assert reply.reason is Reason.REDEPLOY_DEADLINE
    assert reply.detail == "stopped after 60 s in task 'T'"


def test_the_collector_keeps_the_last_failure_and_no_torn_statistics() -> None:
    collector = Collector()
    failure = {"task": "T", "message": "first", "rc": None, "stderr": "", "stdout": ""}
    for message in (["task", "T"], ["failure", "a", failure], ["failure", "a", failure | {"message": "last\nline"}]):
        collector.told(json.dumps(message).encode() + b"\n")
    collector.told(b'["stats", {"changed": {"a": 1}, "da')
    report = collector.report("finished", lambda text: text)
    assert report["trouble"] == {"a": "T: last line"}
    assert report["stats"] is None
    assert report["task"] == "T"


def test_a_message_is_one_short_line() -> None:
    assert one_line("a\n  b\t" + "c" * 1000).startswith("a b ccc")
    assert len(one_line("c" * 1000)) == 400
