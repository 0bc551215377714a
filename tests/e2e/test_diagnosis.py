"""Hosts that do not boot are named for what broke: machines with faults, real BMC sessions, real serial consoles."""

from __future__ import annotations

import json

from bootorch.sim.machine import BootFailure
from tests.e2e.conftest import LabFactory, bootorch

FAULTS = {failure.value: 1 for failure in BootFailure}


def test_every_way_not_to_boot_has_its_reason_and_its_evidence(lab: LabFactory) -> None:
    info = lab(20, loss=0.02, **FAULTS)
    done = bootorch("run", info.plan)
    assert done.returncode == 3, done.stderr
    report = json.loads(bootorch("report", info.plan, "--json").stdout)
    hosts = report["hosts"]
    wanted = {name: want.reason.value for name, want in info.expected.items()}
    assert {name: host["reason"] for name, host in hosts.items()} == wanted
    failed = {host["reason"]: host["examinations"] for host in hosts.values() if host["reason"] in FAULTS}
    assert failed.keys() == FAULTS.keys()
    for reason, examinations in failed.items():
        (examination,) = examinations
        assert examination["found"]["reason"] == reason
        assert examination["data"]["power"] == ("off" if reason == "power_fault" else "on")
        if reason != "power_fault":
            assert "System Boot" in examination["data"]["sel"].splitlines()[0], "the log, from the power-on"
    assert "Kernel panic - not syncing" in failed["kernel_panic"][0]["data"]["console"]
    assert failed["no_post"][0]["data"]["console"] == ""
    assert not any(host["examinations"] for host in hosts.values() if host["reason"] == "ok")
    for reason in FAULTS:
        assert f"  {reason}: " in done.stdout, "the reason of each failed boot is said"
    for words in ("evidence", "in the report (--json, --html)"):
        assert words in done.stdout
