"""The playbooks of this repository, run by a recovery on hosts of a lab: what they changed is read back."""

from __future__ import annotations

import json
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import LabFactory, bootorch


def files(directory: Path) -> dict[str, int]:
    """Everything that playbooks wrote below the hosts' directories, with the time of its last change."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if path.is_file() and not {".ansible", "bin", "tmp"} & set(path.relative_to(directory).parts)
    }


@pytest.mark.slow
def test_playbooks_change_the_lab_once(lab: LabFactory) -> None:
    info = lab(8, redeploy=True, playbook_fails_once=1)
    done = bootorch("run", info.plan, "--json")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    again = [name for name, host in hosts.items() if host["retries"]]
    assert len(again) == 1, "one host's playbook failed once and was run again"
    assert again[0].startswith("web")

    root = info.directory / "hosts"
    for path, said in {
        "switch-01/etc/hosts": "127.",
        "switch-01/etc/motd": "Redeployed by bootorch",
        "dns-01/etc/bind/zones/db.internal": "SOA",
        "dns-01/etc/chrony/chrony.conf": "driftfile",
        "storage-02/etc/systemd/system/srv-data.mount": "[Mount]",
        "database-01/etc/postgresql/15/main/conf.d/60-redeploy.conf": "listen_addresses",
        "deploy-01/etc/systemd/system/deploy-repository.service": "ExecStart",
        "web-01/etc/nginx/conf.d/site.conf": "listen",
        "web-01/srv/www/health": "ok",
    }.items():
        assert said in (root / path).read_text(), path
    written = files(root)

    # Once more over hosts that run: adopted, redeployed because the plan says so, and nothing changes.
    text = info.plan.read_text()
    info.plan.write_text(text.replace("    hosts:", "    adopted: redeploy\n    hosts:"))
    done = bootorch("run", info.plan, "--json")
    assert done.returncode == 0, done.stderr
    assert {host["outcome"] for host in json.loads(done.stdout)["hosts"].values()} == {"adopted"}
    assert files(root) == written


SPOILER = """
import os, signal
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME, CALLBACK_NEEDS_ENABLED = 2.0, "notification", "spoil", False

    def v2_runner_on_ok(self, result):
        once = os.path.join(os.path.dirname(__file__), "once")
        if not os.path.exists(once):
            open(once, "w").close()
            {do}
"""
SPOILS = {  # how the events of each group's first slice are lost
    # Cut: ansible-playbook goes on, unheard.
    "storage": "os.dup2(os.open('/dev/null', os.O_WRONLY), int(os.environ['BOOTORCH_EVENTS_FD']))",
    "database": "os._exit(0)  # no statistics, and an exit code that says all is well",
    "web": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.slow
def test_a_slice_whose_events_are_lost_is_read_back_and_run_again(lab: LabFactory) -> None:
    info = lab(8)
    assert bootorch("run", info.plan).returncode == 0
    plan = yaml.safe_load(info.plan.read_text())
    plan["name"] = "lost"
    for group, do in SPOILS.items():
        place = info.directory / f"play-{group}"
        (place / "callback_plugins").mkdir(parents=True)
        (place / "callback_plugins/spoil.py").write_text(SPOILER.format(do=do))
        (place / "ansible.cfg").write_text(f"[defaults]\ncallback_plugins = {place}/callback_plugins\n")
        for name in ("first", "second"):
            (place / f"{name}.yml").write_text(
                textwrap.dedent(f"""\
                - hosts: all
                  gather_facts: false
                  tasks:
                    - ansible.builtin.shell: echo {name} >> "{{{{ redeploy_root }}}}/ran"
                    - ansible.builtin.command: "true"
                """)
            )
        plan["groups"][group] |= {
            "adopted": "redeploy",
            "redeploy": [str(place / f"{n}.yml") for n in ("first", "second")],
        }
    path = info.plan.with_name("lost.yml")
    path.write_text(yaml.safe_dump(plan))
    done = bootorch("run", path, "--json", "--events", info.directory / "events")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    events = [json.loads(line) for line in (info.directory / "events").read_text().splitlines()]
    for group in SPOILS:
        names = [name for name in hosts if name.startswith(f"{group}-")]
        assert names
        for name in names:
            assert hosts[name]["outcome"] == "adopted"
            assert {trouble["reason"] for trouble in hosts[name]["troubles"]} == {"slice_lost"}
            ran = (info.directory / "hosts" / name / "ran").read_text().split()
            assert ran[-2:] == ["first", "second"], "the second playbook once, and only after the first"
            assert ran.count("second") == 1
            mine = [
                (event["kind"], event["e"])
                for event in events
                if event["e"] in ("intent", "answer") and name in (event["target"], *event.get("hosts", ()))
            ]
            runs = [index for index, entry in enumerate(mine) if entry == ("redeploy", "intent")]
            assert len(runs) == 3, "the first playbook twice"
            assert ("ready.check", "answer") in mine[runs[0] : runs[1]], "it was looked at before it was run again"


def test_a_plan_that_wants_mitogen_is_refused_where_it_is_not_installed(lab: LabFactory) -> None:
    if find_spec("ansible_mitogen"):
        pytest.skip("Mitogen is installed here")
    info = lab(8, redeploy=True)
    info.plan.write_text(info.plan.read_text() + "ansible: {mitogen: true}\n")
    done = bootorch("run", info.plan)
    assert done.returncode == 2, done.stderr
    assert "Mitogen, which is not installed" in done.stderr
    assert f"plan.yml:{len(info.plan.read_text().splitlines())}" in done.stderr
