"""Measured draw by Redfish in whole runs: real TLS, real BMCs, the journal as the witness."""

from __future__ import annotations

from typing import Any

import yaml

from bootorch.core.events import Answer, Kind
from bootorch.core.reasons import Reason
from bootorch.lab import site
from bootorch.lab.control import LabInfo
from bootorch.lab.fleet import LabHost
from bootorch.lab.site import read_lab
from bootorch.runtime.journal import Journal
from tests.e2e.conftest import LabFactory, bootorch

METRICS = "/redfish/v1/Chassis/1/EnvironmentMetrics#/PowerWatts/Reading"
PDU = "/redfish/v1/PowerEquipment/RackPDUs"


def changed(info: LabInfo, **limits: Any) -> None:
    """The lab's plan with other limits and without dependencies: only electricity holds anybody back."""
    plan = yaml.safe_load(info.plan.read_text())
    plan["limits"] = {**plan["limits"], **limits}
    for group in plan["groups"].values():
        group.pop("requires", None)
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))


def answers(info: LabInfo, kind: Kind) -> list[Answer]:
    found: list[Answer] = []
    for path in sorted((info.directory / "runs").glob("*/journal.sqlite")):
        with Journal.open(path, readonly=True) as journal:
            found += [event for event in journal.events() if isinstance(event, Answer) and event.kind is kind]
    return found


def draws(info: LabInfo) -> dict[str, LabHost]:
    return {host.name: host for host in read_lab(info.directory).hosts}


def claims_to_draw_450_w(info: LabInfo) -> None:
    hosts = info.inventory.read_text()
    for said in ("watts_steady: 250.0", "watts_steady: 150.0"):
        hosts = hosts.replace(said, "watts_steady: 450.0")
    info.inventory.write_text(hosts.replace("watts_boot_peak: 180.0", "watts_boot_peak: 450.0"))


def test_what_a_server_draws_by_its_own_word_replaces_what_the_inventory_says(lab: LabFactory) -> None:
    """By the inventory five hosts fit into the budget, by what their BMCs measure all eight do."""
    info = lab(8, redfish=True)
    claims_to_draw_450_w(info)
    changed(info, feeds={"hall": {"budget_watts": 2300}}, measure=False)
    stopped = bootorch("run", info.plan)
    assert stopped.returncode == 4, stopped.stderr
    assert answers(info, Kind.METER) == []


def test_with_the_measured_draw_all_of_them_fit(lab: LabFactory) -> None:
    info = lab(8, redfish=True)
    claims_to_draw_450_w(info)
    changed(info, feeds={"hall": {"budget_watts": 2300}}, measure=True)
    done = bootorch("run", info.plan)
    assert done.returncode == 0, done.stderr
    measured = {event.target: event for event in answers(info, Kind.METER)}
    assert set(measured) == set(info.expected)
    assert {event.reason for event in measured.values()} == {Reason.OK}
    assert {event.data["source"] for event in measured.values()} == {METRICS}
    assert {name: event.data["watts"] for name, event in measured.items()} == {
        name: host.watts[1] for name, host in draws(info).items()
    }


def test_a_pdu_is_the_meter_of_its_feeds(lab: LabFactory) -> None:
    info = lab(8, redfish=True, boot_seconds=(1.5, 2.0))  # five boots in a row: longer than one interval of the meter
    done = bootorch("run", info.plan)
    assert done.returncode == 0, done.stderr
    readings = answers(info, Kind.FEED_METER)
    assert {event.reason for event in readings} == {Reason.OK}, [event.detail for event in readings]
    for feed in ("hall/a", "hall/b"):
        watts = [float(event.data["watts"]) for event in readings if event.target == feed]
        standby = 8.0 * sum(host.feed == feed for host in draws(info).values())
        assert watts[0] == standby, "read before anything was switched on"
        assert max(watts) > standby
        sources = {event.data["source"] for event in readings if event.target == feed}
        assert sources == {f"{PDU}/{feed[-1]}/Metrics#/PowerWatts/Reading"}
    password = (info.directory / site.BMC_PASSWORD).read_bytes().strip()
    for path in (info.directory / "runs").rglob("*"):
        assert not path.is_file() or password not in path.read_bytes(), path


def test_a_pdu_whose_certificate_was_changed_is_not_believed_and_the_model_does(lab: LabFactory) -> None:
    info = lab(8, redfish=True)
    plan = yaml.safe_load(info.plan.read_text())
    plan["limits"]["feeds"]["hall/a"]["meter"]["tls"] = "sha256:" + "ab" * 32
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    done = bootorch("run", info.plan)
    assert done.returncode == 0, done.stderr
    reasons = {feed: {event.reason for event in answers(info, Kind.FEED_METER) if event.target == feed}
               for feed in ("hall/a", "hall/b")}  # fmt: skip
    assert reasons == {"hall/a": {Reason.BMC_CERTIFICATE}, "hall/b": {Reason.OK}}


def test_a_dry_run_of_such_a_plan_and_a_password_that_is_not_there(lab: LabFactory) -> None:
    info = lab(8, redfish=True)
    assert bootorch("inventory", "snapshot", info.plan).returncode == 0
    dry = bootorch("run", info.plan, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    plan = yaml.safe_load(info.plan.read_text())
    plan["limits"]["feeds"]["hall/a"]["meter"]["password_file"] = "nosuch"
    info.plan.write_text(yaml.safe_dump(plan, sort_keys=False))
    refused = bootorch("run", info.plan)
    assert refused.returncode == 2
    assert "feed hall/a: there is no such password file of a meter" in refused.stderr
