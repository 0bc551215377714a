"""What is believed to be a server's or a feed's draw, by cases as services show them, and by random bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.redfish.client import Verdict
from bootorch.redfish.power import MOST_CHASSIS, Draw, feed_draw, host_draw
from bootorch.redfish.wire import MOST_WATTS, Json, Response, watts
from tests.redfish.service import Scripted, collection, error, ok, ref, run

ONE, TWO = "/redfish/v1/Chassis/1", "/redfish/v1/Chassis/2"
SYSTEM = "/redfish/v1/Systems/1"
PDU = "/redfish/v1/PowerEquipment/RackPDUs/1"


def chassis(path: str = ONE, system: str | tuple[str, ...] = SYSTEM, inside: str = "", *links: str) -> dict[str, Any]:
    systems = (system,) if isinstance(system, str) else system
    body: dict[str, Any] = {name: ref(f"{path}/{name}") for name in links or ("EnvironmentMetrics", "Power")}
    body["@odata.type"] = "#Chassis.v1_19_0.Chassis"
    body["Links"] = {"ComputerSystems": [ref(name) for name in systems]}
    if inside:
        body["Links"]["ContainedBy"] = ref(inside)
    return body


def excerpt(value: object, name: str = "PowerWatts", **more: object) -> dict[str, Any]:
    return {name: {"Reading": value}, **more}


def control(*values: object, related: str = "") -> dict[str, Any]:
    entries = [{"MemberId": str(n), "PowerConsumedWatts": value} for n, value in enumerate(values)]
    if related:
        entries[-1]["RelatedItem"] = [ref(related)]
    return {"PowerControl": entries}


def host(resources: Mapping[str, Json | Response], name: str = "") -> Draw | Verdict:
    members = [path for path in resources if path.startswith("/redfish/v1/Chassis/") and path.count("/") == 4]
    service = Scripted({"/redfish/v1/Chassis": collection(*members), **resources})
    found, _ = run(service, lambda root: host_draw(root, name))
    assert not service.open, "the session is closed"
    assert isinstance(found, Draw | Verdict)
    return found


def feed(resources: Mapping[str, Json | Response], path: str = PDU) -> Draw | Verdict:
    found, _ = run(Scripted(resources), lambda root: feed_draw(root, path))
    assert isinstance(found, Draw | Verdict)
    return found


def told(found: Draw | Verdict, watts: float, source: str) -> None:
    assert found == Draw(watts, source)


def refused(found: Draw | Verdict, *said: str, reason: Reason = Reason.BMC_UNSUPPORTED) -> None:
    assert isinstance(found, Verdict), found
    assert found.reason is reason
    for text in said:
        assert text in found.detail


# Servers


def test_the_metrics_of_the_environment_come_before_the_older_power() -> None:
    found = host({ONE: chassis(), f"{ONE}/EnvironmentMetrics": excerpt(212.5), f"{ONE}/Power": control(300)})
    told(found, 212.5, f"{ONE}/EnvironmentMetrics#/PowerWatts/Reading")


@pytest.mark.parametrize(
    "metrics",
    [
        excerpt(None),
        excerpt("N/A"),
        excerpt("212 W"),
        excerpt(-3),
        excerpt(True),
        excerpt(1e13),
        excerpt(10**400),
        excerpt([212]),
        {"PowerWatts": 212},
        {},
        excerpt(212, Status={"State": "UnavailableOffline"}),
        error(500),
        error(404),
        Response(200, {}, b"<html>"),
        Response(200, {}, b'{"PowerWatts": {"Reading": NaN}}'),
        Response(200, {}, b"[" * 100_000),
    ],
)
def test_a_reading_that_is_none_leaves_the_word_to_the_next_source(metrics: Json | Response) -> None:
    found = host({ONE: chassis(), f"{ONE}/EnvironmentMetrics": metrics, f"{ONE}/Power": control(300)})
    told(found, 300.0, f"{ONE}/Power#/PowerControl/0/PowerConsumedWatts")


@pytest.mark.parametrize("power", [{"PowerControl": []}, control(None), {"PowerControl": "none"}, {}, error(404)])
def test_power_without_a_reading_is_no_draw(power: Json | Response) -> None:
    refused(host({ONE: chassis(ONE, SYSTEM, "", "Power"), f"{ONE}/Power": power}), "no chassis tells what it draws")


def test_watts_in_quotes_are_watts() -> None:
    told(
        host({ONE: chassis(ONE, SYSTEM, "", "Power"), f"{ONE}/Power": control("212")}),
        212.0,
        f"{ONE}/Power#/PowerControl/0/PowerConsumedWatts",
    )


def test_zero_watts_of_a_server_are_no_reading() -> None:
    refused(host({ONE: chassis(), f"{ONE}/EnvironmentMetrics": excerpt(0)}), "nothing that runs draws nothing")


def test_of_several_power_controls_the_one_that_is_related_to_the_chassis() -> None:
    several = {ONE: chassis(ONE, SYSTEM, "", "Power"), f"{ONE}/Power": control(80, 40, 300, related=ONE)}
    told(host(several), 300.0, f"{ONE}/Power#/PowerControl/2/PowerConsumedWatts")
    refused(host({**several, f"{ONE}/Power": control(80, 40)}), "2 PowerControl")


def test_power_supplies_are_added_up_when_each_of_them_tells() -> None:
    supplies = f"{ONE}/PowerSubsystem/PowerSupplies"
    resources: dict[str, Json | Response] = {
        ONE: chassis(ONE, SYSTEM, "", "PowerSubsystem"),
        f"{ONE}/PowerSubsystem": {"PowerSupplies": ref(supplies)},
        supplies: collection(f"{supplies}/0", f"{supplies}/1", f"{supplies}/2"),
        f"{supplies}/0": {"Metrics": ref(f"{supplies}/0/Metrics"), "Status": {"State": "Enabled"}},
        f"{supplies}/1": {"Metrics": ref(f"{supplies}/1/Metrics")},
        f"{supplies}/2": {"Status": {"State": "Absent"}},
        f"{supplies}/0/Metrics": excerpt(100.5, "InputPowerWatts"),
        f"{supplies}/1/Metrics": excerpt(99.5, "InputPowerWatts"),
    }
    told(host(resources), 200.0, f"{supplies}: 3 × InputPowerWatts")
    refused(host({**resources, f"{supplies}/1/Metrics": excerpt(None, "InputPowerWatts")}), "no InputPowerWatts")


def test_the_outermost_chassis_counts_and_a_missing_one_does_not() -> None:
    resources = {
        ONE: chassis(),
        TWO: chassis(TWO, SYSTEM, ONE),
        f"{ONE}/EnvironmentMetrics": excerpt(212),
        f"{TWO}/EnvironmentMetrics": excerpt(12),
    }
    told(host(resources), 212.0, f"{ONE}/EnvironmentMetrics#/PowerWatts/Reading")
    told(host({**resources, TWO: error(404)}), 212.0, f"{ONE}/EnvironmentMetrics#/PowerWatts/Reading")


def test_an_enclosure_of_several_servers_is_not_the_servers_own() -> None:
    resources = {
        ONE: chassis(ONE, (SYSTEM, "/redfish/v1/Systems/2")),
        TWO: chassis(TWO, SYSTEM, ONE),
        f"{ONE}/EnvironmentMetrics": excerpt(4000),
        f"{TWO}/EnvironmentMetrics": excerpt(212),
    }
    told(host(resources), 212.0, f"{TWO}/EnvironmentMetrics#/PowerWatts/Reading")
    refused(host({path: body for path, body in resources.items() if not path.startswith(TWO)}), "no chassis tells")


def test_several_chassis_that_could_be_meant_are_not_guessed_at() -> None:
    resources = {
        ONE: chassis(),
        TWO: chassis(TWO, "/redfish/v1/Systems/2"),
        f"{ONE}/EnvironmentMetrics": excerpt(212),
    }
    refused(host(resources), "several chassis", "redfish_chassis")
    resources[f"{TWO}/EnvironmentMetrics"] = excerpt(198)
    told(host(resources, "2"), 198.0, f"{TWO}/EnvironmentMetrics#/PowerWatts/Reading")
    told(host(resources, TWO), 198.0, f"{TWO}/EnvironmentMetrics#/PowerWatts/Reading")
    refused(host(resources, "3"), "no chassis 3")
    refused(host({**resources, TWO: chassis(TWO)}), "several chassis")  # both of one system, and both tell


def test_no_chassis_at_all_and_far_too_many() -> None:
    refused(host({}), "no chassis tells")
    refused(host({f"/redfish/v1/Chassis/{n}": {} for n in range(MOST_CHASSIS + 1)}), "17 chassis")
    found, _ = run(Scripted({"/redfish/v1/": {"Name": "no chassis"}}, sessions=False), partial(host_draw))
    refused(found, "no Chassis collection")  # type: ignore[arg-type]


def test_trouble_is_told_before_absence() -> None:
    found = host({ONE: chassis(), f"{ONE}/EnvironmentMetrics": error(403), f"{ONE}/Power": error(404)})
    refused(found, "EnvironmentMetrics: 403", reason=Reason.BMC_REFUSED)


@pytest.mark.parametrize(
    "path", ["//127.0.0.2/x", "https://10.0.0.1/../x", "/a b", "/x\r\nHost: y", 3, None, "x", "/" * 600]
)
def test_links_that_lead_elsewhere_are_not_followed(path: object) -> None:
    service = Scripted({"/redfish/v1/Chassis": {"Members": [{"@odata.id": path}]}})
    found, _ = run(service, partial(host_draw))
    assert isinstance(found, Verdict)
    assert all(line.split()[1].startswith("/redfish/v1/") for line in service.seen)


# Feeds


def test_a_pdu_tells_by_its_metrics_its_mains_or_its_outlets() -> None:
    pdu = {
        "@odata.type": "#PowerDistribution.v1_3_0.PowerDistribution",
        "Metrics": ref(f"{PDU}/Metrics"), "Mains": ref(f"{PDU}/Mains"), "Outlets": ref(f"{PDU}/Outlets"),
    }  # fmt: skip
    outlets = {f"{PDU}/Outlets/A{n}": excerpt(10.5 * n) for n in range(4)}
    resources: dict[str, Json | Response] = {
        PDU: pdu,
        f"{PDU}/Outlets": collection(*outlets),
        **outlets,
    }
    told(feed(resources), 63.0, f"{PDU}/Outlets: 4 × PowerWatts")
    resources |= {f"{PDU}/Mains": collection(f"{PDU}/Mains/AC1"), f"{PDU}/Mains/AC1": excerpt(64)}
    told(feed(resources), 64.0, f"{PDU}/Mains: 1 × PowerWatts")
    resources |= {f"{PDU}/Metrics": excerpt(65)}
    told(feed(resources), 65.0, f"{PDU}/Metrics#/PowerWatts/Reading")


@pytest.mark.parametrize(
    ("kind", "body", "watts"),
    [
        ("Sensor", {"Reading": 6.5, "ReadingUnits": "kW", "Status": {"State": "Enabled"}}, 6500.0),
        ("Sensor", {"Reading": 6500, "ReadingUnits": "W"}, 6500.0),
        ("Sensor", {"Reading": 6500, "ReadingUnits": "VA"}, None),
        ("Sensor", {"Reading": 6500}, None),
        ("Sensor", {"Reading": None, "ReadingUnits": "W"}, None),
        ("Sensor", {"Reading": 6500, "ReadingUnits": "W", "Status": {"State": "Disabled"}}, None),
        ("Circuit", excerpt(0), 0.0),  # a feed may carry nothing
        ("Outlet", excerpt(3), 3.0),
        ("OutletGroup", excerpt(3), 3.0),
        ("PowerDistributionMetrics", excerpt(3), 3.0),
        ("EnvironmentMetrics", excerpt(3), 3.0),
        ("PowerSupplyMetrics", excerpt(3, "InputPowerWatts"), 3.0),
        ("Power", control(3), 3.0),
        ("CircuitCollection", collection(), None),
        ("Thermal", excerpt(3), None),
        ("", excerpt(3), None),
    ],
)
def test_the_resource_that_a_plan_names(kind: str, body: Json, watts: float | None) -> None:
    found = feed({PDU: {**body, "@odata.type": f"#{kind}.v1_0_0.{kind}"} if kind else body})
    if watts is None:
        refused(found)
    else:
        assert isinstance(found, Draw), found
        assert found.watts == watts


def test_what_is_not_there_is_no_reading() -> None:
    refused(feed({}), "no reading", f"GET {PDU}: 404")


# Anything


bodies = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 212.5, -1, 1e300, 10**400, 3.0])
    | st.text("a/#1", max_size=4)
    | st.sampled_from([ONE, SYSTEM, PDU, "Enabled", "#Chassis.v1.Chassis", "#PowerDistribution.x", "#Sensor.y", "W"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Members", "@odata.id", "@odata.type", "Links", "ComputerSystems", "ContainedBy", "EnvironmentMetrics",
                 "Power", "PowerControl", "PowerConsumedWatts", "RelatedItem", "PowerSubsystem", "PowerSupplies",
                 "Metrics", "PowerWatts", "Reading", "ReadingUnits", "Status", "State", "Mains", "Chassis"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["/redfish/v1/", "/redfish/v1/Chassis", ONE, SYSTEM, PDU]), bodies, max_size=5))
def test_whatever_a_service_says_ends_in_a_possible_power_or_a_reason(resources: dict[str, object]) -> None:
    served = {path: Response(200, {}, json.dumps(body).encode()) for path, body in resources.items()}
    for script in (partial(host_draw), partial(feed_draw, path=PDU)):
        found, _ = run(Scripted(served), script)
        if isinstance(found, Draw):
            assert 0 <= found.watts <= 3 * MOST_WATTS
        else:
            assert isinstance(found, Verdict)
            assert found.detail


@given(st.floats(0, MOST_WATTS))
def test_every_power_is_read_back(value: float) -> None:
    assert watts(json.loads(json.dumps(value))) == value


def test_a_packed_body_is_unpacked_and_a_bomb_is_not() -> None:
    import gzip
    import zlib

    from bootorch.redfish.wire import MOST_BYTES, document

    plain = json.dumps(excerpt(212)).encode()
    for packed in (gzip.compress(plain), zlib.compress(plain)):
        assert document(Response(200, {"content-encoding": "gzip"}, packed)) == excerpt(212)
    bomb = gzip.compress(b'{"x": "' + b"a" * (MOST_BYTES * 4) + b'"}')
    assert len(bomb) < MOST_BYTES // 8
    assert document(Response(200, {"content-encoding": "gzip"}, bomb)) is None
    assert document(Response(200, {"content-encoding": "gzip"}, b"not packed")) is None
    assert document(ok([1, 2])) is None
