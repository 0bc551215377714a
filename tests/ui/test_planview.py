"""What ``plan`` shows of the schedule: tiers, control path, first members, limits, gates, partial power."""

from __future__ import annotations

import json
from dataclasses import replace

from bootorch.core.model import Breaker, FeedLimit, First, Gate, Limits, Meter, RedfishMeter, Requirement
from bootorch.core.partial import with_dark
from bootorch.core.plan import Plan
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.ui import planview
from bootorch.ui.services import PlanView
from tests.plans import group, make_plan

PDU = "https://10.20.0.9/redfish/v1/PowerEquipment/RackPDUs/1"
LIMITS = Limits(
    feeds={
        "hall": FeedLimit(90_000, 6_000, inrush_amps=400, failover=False, meter=Meter(("snmp-watts", "pdu"))),
        "row": FeedLimit(meter=Meter((), 30, RedfishMeter(PDU, "me", SecretRef(SecretKind.FILE, "pw")))),
        "cooling:crac-1": FeedLimit(200_000, 2.5),
    },
    slots={"rack": 8, "image_server": 200},
    adaptive={"image_server": 12},
    breaker=Breaker(cluster_failures=20),
    measure=True,
)
GATES = (
    Gate("settle", wait_s=1200, groups=("web",)),
    Gate("dawn", at="06:00"),
    Gate("manual-switch", ask="Plug in", groups=("tor",), control=True),
)


def plan() -> Plan:
    switch = Requirement("tor", per_host="rack", control="switch", hosts=("web1", "web2"))
    return make_plan(
        {
            "tor": (4, group()),
            "db": (2, group(tier=1, first=First(("db2", "db1")))),
            "queue": (2, group(tier=1, first=First((), "Which is newest?"))),
            "web": (8, group(tier=2, requires=(Requirement("db"), switch))),
        },
        LIMITS,
        GATES,
    )


def shown(made: Plan) -> str:
    return planview.lines(PlanView(made, (), "snapshot"), "plan.yml").plain()


def test_the_schedule_is_shown() -> None:
    text = " ".join(shown(plan()).split())
    for said in (
        "tier 1 4 db, queue",
        "switch from tor (all, own rack) 2 hosts for web",
        "db db2, then db1 first, then the rest",
        "queue asks: Which is newest?",
        "feed hall at most 90.0 kW, 6.0 kW more a minute, at most 400 A of inrush, no headroom for failover, "
        "measured by snmp-watts",
        f"feed row measured by {PDU}",
        "supply cooling:crac-1 at most 200,000, 2.5 more a minute",
        "slots rack 8 hosts of one rack boot at the same time",
        "slots image_server 200, down to 12 on overload",
        "20 hosts quarantined that share model, firmware, rack, feed or subnet",
        "measure each host's BMC is asked for its draw",
        "settle opens 20 min after the start before web",
        "dawn opens at 06:00 before any power-on",
        "manual-switch asks: Plug in before the BMCs of tor are asked",
        "waits for db (all) · ready",
    ):
        assert said in text, (said, text)
    assert "partial power" not in text


def test_the_schedule_as_json() -> None:
    document = json.loads(json.dumps(planview.to_json(PlanView(plan(), (), "snapshot"))))
    assert document["tiers"] == {"0": 4, "1": 4, "2": 8}
    assert document["groups"]["web"]["control"] == [
        {"need": "switch", "group": "tor", "quorum": "all", "per_host": "rack", "hosts": 2}
    ]
    assert document["groups"]["web"]["waits_for"] == ["db (all)"]
    assert document["groups"]["db"]["first"] == {"candidates": ["db2", "db1"], "ask": ""}
    assert document["limits"]["supplies"] == {"cooling:crac-1": {"budget": 200_000, "ramp_per_min": 2.5}}
    assert document["limits"]["feeds"]["hall"]["meter"] == ["snmp-watts", "pdu"]
    assert document["limits"]["feeds"]["row"]["meter"] == PDU
    assert document["limits"]["adaptive"] == {"image_server": 12}
    assert document["gates"]["settle"]["wait_s"] == 1200
    assert document["partial"] is None


def test_partial_power_is_shown_folded() -> None:
    made = plan()
    cords = {name: ("hall/row-0",) if name in ("db1", "web5", "web6") else ("hall/row-1",) for name in made.hosts}
    made = replace(made, hosts={name: replace(host, feeds=cords[name]) for name, host in made.hosts.items()})
    dark = with_dark(made, ["hall/row-0"])
    text = " ".join(shown(dark).split())
    assert "dark: hall/row-0; nothing is sent to hosts that hang on it" in text
    assert "7 hosts can be finished now" in text
    assert "tor 4 of 4 tor[1-4]" in text
    assert "3 hosts wait for their feed hall/row-0 3 db1,web[5-6]" in text
    assert "6 hosts have electricity and wait for dark hosts" in text
    assert "db 1 of 2 db2" in text
    assert "waits for db: 2 of 2 needed, 1 can be ready dark: hall/row-0" in text
    document = json.loads(json.dumps(planview.to_json(PlanView(dark, (), "snapshot"))))
    assert document["partial"]["dark_feeds"] == ["hall/row-0"]
    assert document["partial"]["dark"] == {"hall/row-0": {"hosts": 3, "nodes": "db1,web[5-6]"}}
    assert [(held["group"], held["nodes"]) for held in document["partial"]["held"]] == [("web", "web[1-4,7-8]")]
