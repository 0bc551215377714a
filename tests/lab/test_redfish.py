"""The lab's Redfish services: the same machines as over IPMI, and what a PDU makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootorch.core.errors import Problem, ToolError
from bootorch.core.model import BootDevice, Host, RedfishMeter
from bootorch.core.secret import Secret
from bootorch.drivers.power_ipmi import IpmiPower
from bootorch.drivers.redfish import RedfishDraw
from bootorch.lab import control, site
from bootorch.lab.fleet import LabOptions
from bootorch.lab.redfish import MOST_SESSIONS, PDU, SESSIONS, Service
from bootorch.redfish.wire import ROOT, Request, document
from bootorch.runtime.load import load_plan
from tests.lab.conftest import SITE, RunningLab, Start


class Meters:
    def __init__(self, password: Secret) -> None:
        self.password = password

    def meter_password(self, meter: RedfishMeter) -> Secret | Problem:
        return self.password


def driver(lab: RunningLab) -> RedfishDraw:
    return RedfishDraw(SITE, lab, Meters(lab.bmc_password(lab.host("web-01"))), lab.directory)


def planned(lab: RunningLab) -> dict[str, Host]:
    return dict(load_plan(lab.info.plan).plan.hosts)


async def test_a_server_draws_over_redfish_what_it_draws_over_ipmi(start: Start) -> None:
    lab = start(10, redfish=True, dead_bmc=1)
    hosts, redfish, power = planned(lab), driver(lab), IpmiPower(SITE, lab)
    dead = lab.victim(dead_bmc=True).name
    living = next(name for name in hosts if name.startswith("dns"))
    try:
        both = [await redfish.host(hosts[living], 10), await power.meter(lab.host(living), 10)]
        assert [reply.data["watts"] for reply in both] == [8.0, 8.0]
        assert (await power.on(lab.host(living), BootDevice.NONE, 10)).ok
        both = [await redfish.host(hosts[living], 10), await power.meter(lab.host(living), 10)]
        assert both[0].data["watts"] == both[1].data["watts"] != 8.0
        assert not (await redfish.host(hosts[dead], 2)).ok, "a BMC that is dead is dead for Redfish as well"
    finally:
        await power.aclose()


async def test_the_pdu_tells_what_its_servers_draw(start: Start) -> None:
    lab = start(8, redfish=True)
    plan = load_plan(lab.info.plan).plan
    redfish, power = driver(lab), IpmiPower(SITE, lab)
    meter = plan.limits.feeds["hall/b"].meter
    assert meter is not None
    assert meter.redfish is not None
    on_it = [host.name for host in lab.lab.hosts if host.feed == "hall/b"]
    try:
        assert (await redfish.feed(meter.redfish, 10)).data["watts"] == 8.0 * len(on_it)
        assert (await power.on(lab.host(on_it[0]), BootDevice.NONE, 10)).ok
        assert float((await redfish.feed(meter.redfish, 10)).data["watts"]) > 8.0 * len(on_it)
        mains = replace(meter.redfish, url=meter.redfish.url + "/Mains")
        assert (await redfish.feed(mains, 10)).data["source"] == f"{PDU}/b/Mains: 1 × PowerWatts"
        nobody = replace(meter.redfish, url=meter.redfish.url.replace(".127.254", ".127.253"))
        assert not (await redfish.feed(nobody, 2)).ok
    finally:
        await power.aclose()


def test_a_lab_keeps_its_key_to_itself_and_takes_it_away(start: Start) -> None:
    lab = start(8, redfish=True)
    assert (lab.directory / site.TLS_KEY).stat().st_mode & 0o077 == 0
    control.down(lab.directory)
    assert not lab.directory.exists()


def test_a_port_that_is_taken_is_told(start: Start, tmp_path: Path) -> None:
    first = start(8, redfish=True)
    with pytest.raises(ToolError) as caught:
        control.up(LabOptions(8, tmp_path / "other", redfish=True, redfish_port=first.info.redfish_port))
    (problem,) = caught.value.problems
    assert "TCP port" in problem.message
    assert "--redfish-port" in problem.where


# The service by itself


def service(**options: bool) -> Service:
    numbers = iter(range(1000))
    tree = {ROOT.rstrip("/"): {"Name": "root"}, f"{ROOT}X": {"Name": "x"}}
    return Service({b"admin": Secret("pw")}, tree.get, lambda: f"t{next(numbers)}", **options)


def test_sessions_are_few_and_are_given_back() -> None:
    bmc = service()
    login = b'{"UserName": "admin", "Password": "pw"}'
    opened = [bmc.respond(Request("POST", SESSIONS), {}, login) for _ in range(MOST_SESSIONS + 1)]
    assert [response.status for response in opened] == [201] * MOST_SESSIONS + [503]
    token = {"x-auth-token": opened[0].headers["X-Auth-Token"]}
    assert document(bmc.respond(Request("GET", f"{ROOT}X"), token, b"")) is not None
    assert bmc.respond(Request("DELETE", opened[0].headers["Location"]), token, b"").status == 204
    assert bmc.respond(Request("GET", f"{ROOT}X"), token, b"").status == 401
    assert len(bmc.sessions) == MOST_SESSIONS - 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", ROOT, {}, b"", 200),
        ("POST", ROOT, {}, b"", 405),
        ("GET", f"{ROOT}X", {}, b"", 401),
        ("GET", f"{ROOT}X", {"authorization": "Basic YWRtaW46cHc="}, b"", 200),
        ("GET", f"{ROOT}Y", {"authorization": "Basic YWRtaW46cHc="}, b"", 404),
        ("PATCH", f"{ROOT}X", {"authorization": "Basic YWRtaW46cHc="}, b"", 405),
        ("GET", f"{ROOT}X", {"authorization": "Basic YWRtaW46cHg="}, b"", 401),
        ("GET", f"{ROOT}X", {"authorization": "Basic \xff"}, b"", 401),
        ("GET", f"{ROOT}X", {"x-auth-token": "t9"}, b"", 401),
        ("POST", SESSIONS, {}, b'{"UserName": "admin", "Password": "px"}', 401),
        ("POST", SESSIONS, {}, b"[" * 100_000, 400),
        ("POST", SESSIONS, {}, b"{}", 400),
    ],
)
def test_a_service_answers(method: str, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    assert service().respond(Request(method, path), headers, body).status == status
