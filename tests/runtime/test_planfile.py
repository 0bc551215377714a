"""Plan files: the design's shape is understood, and every fault is told with its line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.model import (
    ALL,
    AdoptedPolicy,
    Attempts,
    BootDevice,
    Breaker,
    CommandCheck,
    Console,
    Deadlines,
    DnsCheck,
    Environment,
    FeedLimit,
    First,
    Gate,
    HttpCheck,
    Meter,
    Quorum,
    RedfishMeter,
    Requirement,
    SecondBoot,
    SshCheck,
    TcpCheck,
)
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.spec import BreakSpec, ControlSpec, GroupNeed, SupplySpec, SwitchSpec
from bootorch.core.units import seconds, watts
from bootorch.runtime.planfile import missing_files, parse_hosts, parse_plan, plan_schema, read_plan, with_names
from bootorch.runtime.yamlfile import parse

DESIGN = """\
name: pangyo-cold-boot
environment: production
site: {bmc_networks: [10.20.0.0/16], host_networks: [10.30.0.0/16, "2001:db8::/32"]}
inventory: ../inventory/pangyo
known_hosts: known_hosts
limits:
  feeds: {hall-a: {budget_watts: 400000, ramp_watts_per_min: 60kW}, hall-a/row-3: {budget_watts: 50000}}
  slots: {bmc_per_subnet: 64, image_server: 200, redeploy_forks: 50}
  breaker: {group_failed_share: 0.2, same_model_failures: 20}
gates: {stable-power: {ask: "Who attests stable power?"}, cooling: {check: {http: "http://10.20.0.5/chillers"}}}
defaults: {power: ipmi, boot_device: disk, deadlines: {bmc: 5m, boot: 1h30m, ready: 90}, attempts: {power: 4, boot: 1}}
groups:
  tor:     {hosts: tor_switches, tier: 0, ready: [{tcp: 22}]}
  dns:
    hosts: dns
    requires: [{group: tor, per_host: rack}]
    ready: [ssh, {dns: {name: a.internal, expect: 10.30.0.1}}]
    redeploy: [playbooks/dns.yml, ../shared/base.yml]
  storage:
    hosts: ceph_mon
    requires: [{group: dns, quorum: 2, across_racks: 2}, tor, {group: tor, quorum: 50%}, {group: tor, quorum: 0.5}]
    ready: [ssh, {command: "ceph quorum_status"}, {command: {run: ceph -s, expect: HEALTH_OK}}]
    second_boot: cycle
    adopted: redeploy
    boot_device: none
    console: none
    deadlines: {boot: 20m}
    attempts: {boot: 3}
  web:
    hosts: "web:!web_canary"
    tier: 2
    requires: [{group: storage, quorum: all}]
    after: [tor]
    ready: [{http: "http://{address}:8080/healthz"}]
    verify: [{http: {url: "https://{address}/", status: 204}}]
"""


def faults(text: str) -> list[Problem]:
    with pytest.raises(InvalidInput) as caught:
        parse_plan(text, Path("/site/plans"), "plan.yml")
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def fault(text: str) -> tuple[str, str, str]:
    (problem,) = faults(text)
    return problem.where, problem.message, problem.remedy


def test_the_shape_of_the_design() -> None:
    spec = parse_plan(DESIGN, Path("/site/plans"), "plan.yml")
    assert (spec.name, spec.environment) == ("pangyo-cold-boot", Environment.PRODUCTION)
    assert spec.site.allows_bmc("10.20.9.9")
    assert spec.site.allows_host("2001:db8::1")
    assert not spec.site.allows_host("10.20.9.9")
    assert spec.inventory == ("/site/inventory/pangyo",)
    assert spec.known_hosts == "/site/plans/known_hosts"
    assert spec.limits.feeds == {"hall-a": FeedLimit(400e3, 60e3), "hall-a/row-3": FeedLimit(50e3)}
    assert spec.limits.slots == {"bmc_per_subnet": 64, "image_server": 200, "redeploy_forks": 50}
    assert spec.limits.breaker == Breaker(0.2, 20)
    assert spec.gates == {
        "stable-power": Gate("stable-power", ask="Who attests stable power?"),
        "cooling": Gate("cooling", check=HttpCheck("http://10.20.0.5/chillers")),
    }
    tor, dns, storage, web = spec.groups.values()
    assert (tor.ready, tor.power, tor.boot_device) == ((TcpCheck(22),), "ipmi", BootDevice.DISK)
    assert tor.deadlines == Deadlines(bmc=300, boot=5400, ready=90)
    assert tor.attempts == Attempts(power=4, boot=1)
    assert dns.requires == (Requirement("tor", per_host="rack"),)
    assert dns.ready == (SshCheck(), DnsCheck("a.internal", "10.30.0.1"))
    assert dns.redeploy == ("/site/plans/playbooks/dns.yml", "/site/shared/base.yml")
    assert storage.requires == (
        Requirement("dns", Quorum(count=2), across_racks=2),
        Requirement("tor"),
        Requirement("tor", Quorum(share=0.5)),
        Requirement("tor", Quorum(share=0.5)),
    )
    assert storage.ready[1:] == (CommandCheck("ceph quorum_status"), CommandCheck("ceph -s", "HEALTH_OK"))
    assert (storage.second_boot, storage.adopted) == (SecondBoot.CYCLE, AdoptedPolicy.REDEPLOY)
    assert storage.boot_device is BootDevice.NONE
    assert (storage.console, dns.console) == (Console.NONE, Console.BOOT)
    assert storage.deadlines == Deadlines(bmc=300, boot=1200, ready=90)
    assert storage.attempts == Attempts(power=4, boot=3)
    assert (web.pattern, web.tier, web.after) == ("web:!web_canary", 2, ("tor",))
    assert web.ready == (HttpCheck("http://{address}:8080/healthz"),)
    assert web.verify == (HttpCheck("https://{address}/", 204),)


def test_places_are_lines_of_the_file() -> None:
    spec = parse_plan(DESIGN, Path("/site"), "plan.yml")
    assert spec.where("groups", "storage", "requires", 0, "group") == "plan.yml:21"
    assert spec.where("groups", "storage", "second_boot") == "plan.yml:23"
    assert spec.where("groups", "storage", "after", 0) == "plan.yml:19"  # not there: the group itself
    assert spec.where("gates", "cooling") == "plan.yml:10"


MINIMAL = """\
name: x
environment: lab
site: {bmc_networks: [127.0.0.0/8], host_networks: [127.0.0.0/8]}
inventory: hosts
groups:
  a: {hosts: a}
"""


def test_the_smallest_plan() -> None:
    spec = parse_plan(MINIMAL, Path("/site"))
    assert spec.groups["a"].ready == (SshCheck(),)
    assert spec.groups["a"].deadlines == Deadlines()
    assert spec.groups["a"].boot_device is BootDevice.NONE


@pytest.mark.parametrize(
    ("old", "new", "line", "said", "remedy"),
    [
        ("name: x", "name: two words", 1, "the name 'two words' may hold letters", "rename"),
        ("name: x\n", "", 1, "name is missing", "plan-reference"),
        ("lab", "staging", 2, "environment: must be 'production', 'drill' or 'lab'", ""),
        ("[127.0.0.0/8]", "[10.0.0.1/8]", 3, "site.bmc_networks[0]: 10.0.0.1/8 has host bits set", ""),
        ("[127.0.0.0/8]", "[5]", 3, "must be a network", ""),
        ("[127.0.0.0/8]", "[]", 3, "site.bmc_networks is empty", "name at least one"),
        ("host_networks", "host_network", 3, "unknown key host_network in site", "did you mean host_networks?"),
        ("groups:", "limits: {feeds: {f: {budget: 4kW}}}\ngroups:", 5, "unknown key budget", "a key of another place"),
        ("{hosts: a}", "{host: a}", 6, "unknown key host in groups.a", "did you mean hosts?"),
        ("{hosts: a}", "5", 6, "groups.a must be a mapping", "plan-reference"),
        ("{hosts: a}", "{hosts: 10}", 6, "groups.a.hosts must be text", "quotes"),
        ("{hosts: a}", "{hosts: a, redeploy: x.yml}", 6, "groups.a.redeploy must be a list", "[one, two]"),
        ("{hosts: a}", "{hosts: a, ready: []}", 6, "groups.a.ready is empty", "name at least one"),
        ("{hosts: a}", "{hosts: a, ready: [{tcp: 0}]}", 6, "groups.a.ready[0].tcp: must be greater", ""),
        ("{hosts: a}", "{hosts: a, ready: [{tcp: '22'}]}", 6, "groups.a.ready[0].tcp: must be a valid integer", ""),
        ("{hosts: a}", "{hosts: a, ready: [sssh]}", 6, "groups.a.ready[0]: must be ssh, {tcp: 22}", ""),
        ("{hosts: a}", "{hosts: a, ready: [{tcp: 2, ssh: 1}]}", 6, "groups.a.ready[0]: must be ssh", ""),
        ("{hosts: a}", "{hosts: a, ready: [{dns: {expect: 1.2.3.4}}]}", 6, "name is missing in groups.a.re", ""),
        ("{hosts: a}", "{hosts: a, requires: [{group: a, quorum: 0}]}", 6, "must be all, a count", ""),
        ("{hosts: a}", "{hosts: a, requires: [{group: a, quorum: 120%}]}", 6, "must be all, a count", ""),
        ("{hosts: a}", "{hosts: a, requires: [{quorum: 1}]}", 6, "group is missing in groups.a.requires[0]", ""),
        ("{hosts: a}", "{hosts: a, deadlines: {boot: soon}}", 6, "'soon' is no duration", ""),
        ("{hosts: a}", "{hosts: a, deadlines: {boot: 0}}", 6, "more than nothing", ""),
        ("{hosts: a}", "{hosts: a, deadlines: {boot: .inf}}", 6, "finite", ""),
        ("{hosts: a}", "{hosts: a, deadlines: {boot: .nan}}", 6, "finite", ""),
        ("{hosts: a}", "{hosts: a, attempts: {boot: 0}}", 6, "groups.a.attempts.boot: must be greater", ""),
        ("{hosts: a}", "{hosts: a, console: always}", 6, "groups.a.console: must be 'boot' or 'none'", ""),
        ("{hosts: a}", "{hosts: a, second_boot: reset}", 6, "groups.a.second_boot: must be 'none' or 'cycle'", ""),
        ("{hosts: a}", "{hosts: a, tier: no}", 6, "groups.a.tier: must be a valid integer", ""),
        ("  a:", "  a b:", 6, "the name 'a b' may hold letters", "rename"),
        ("groups:", "gates: {g: {}}\ngroups:", 5, "gates.g: asks nobody and checks nothing", ""),
        ("groups:", "limits: {feeds: {f: {}}}\ngroups:", 5, "limits.feeds.f: limits nothing", ""),
        ("groups:", "limits: {feeds: {f: {budget_watts: -1}}}\ngroups:", 5, "more than nothing", ""),
        ("groups:", "limits: {slots: {s: 0}}\ngroups:", 5, "limits.slots.s: must be greater", ""),
        ("groups:", "limits: {breaker: {group_failed_share: 2}}\ngroups:", 5, "must be less than or equal to 1", ""),
        ("groups:", "gates: {g: {ask: a, wait: 5m}}\ngroups:", 5, "gates.g: has ask and wait: a gate is of one", ""),
        ("groups:", "gates: {g: {at: noon}}\ngroups:", 5, "gates.g.at: must be HH:MM, or ISO 8601 with offset", ""),
        ("groups:", "gates: {g: {at: '2026-11-26T06:00'}}\ngroups:", 5, "must be HH:MM, or ISO 8601 with offset", ""),
        ("groups:", "gates: {g: {at: '24:00'}}\ngroups:", 5, "must be HH:MM", ""),
        ("groups:", "gates: {g: {wait: 0}}\ngroups:", 5, "more than nothing", ""),
        ("groups:", "limits: {feeds: {f: {budget_amps: 16}}}\ngroups:", 5, "f: budget_amps needs volts", ""),
        ("groups:", "limits: {feeds: {f: {budget_watts: 9, volts: 230}}}\ngroups:", 5, "belong to budget_amps", ""),
        ("groups:", "limits: {feeds: {f: {budget_watts: 9, budget_amps: 1, volts: 1}}}\ngroups:", 5, "one of them", ""),
        ("groups:", "limits: {feeds: {f: {budget_amps: 9, volts: 230, phases: 2}}}\ngroups:", 5, "must be 1 or 3", ""),
        ("groups:", "limits: {feeds: {f: {failover: false}}}\ngroups:", 5, "limits.feeds.f: limits nothing", ""),
        ("groups:", "limits: {feeds: {f: {meter: {command: []}}}}\ngroups:", 5, "meter.command is empty", "name at"),
        ("groups:", "limits: {feeds: {f: {meter: {command: cat}}}}\ngroups:", 5, "command must be a list", "[one"),
        ("groups:", "limits: {feeds: {f: {meter: {}}}}\ngroups:", 5, "needs a command or a redfish URL", ""),
        ("groups:", "limits: {feeds: {f: {meter: {command: [x], redfish: y}}}}\ngroups:", 5, "one of them", ""),
        ("groups:", "limits: {feeds: {f: {meter: {command: [x], user: u}}}}\ngroups:", 5, "belong to redfish", ""),
        ("groups:", "limits: {feeds: {f: {meter: {redfish: x, user: u}}}}\ngroups:", 5, "needs user, and pass", ""),
        ("groups:", "limits: {feeds: {f: {meter: {redfish: x, credential: c}}}}\ngroups:", 5, "needs user", ""),
        (
            "groups:",
            "limits: {feeds: {f: {meter: {redfish: x, user: u, credential: c, tls: none}}}}\ngroups:",
            5,
            "tls: write sha256:FINGERPRINT",
            "",
        ),
        ("groups:", "limits: {supplies: {c: {fact: x, draw: watts}}}\ngroups:", 5, "budgets is missing", ""),
        ("groups:", "limits: {supplies: {c: {fact: x, draw: 0, budgets: {a: {budget: 1}}}}}\ngroups:", 5, "c.draw", ""),
        ("groups:", "limits: {supplies: {c: {fact: x, draw: 1, budgets: {a: {}}}}}\ngroups:", 5, "limits nothing", ""),
        ("groups:", "limits: {slots: {s: {limit: 4, least: 2}}}\ngroups:", 5, "least belongs to adaptive: true", ""),
        ("groups:", "limits: {slots: {s: {limit: 4, adaptive: true, least: 5}}}\ngroups:", 5, "more than limit", ""),
        ("groups:", "limits: {slots: {s: {limt: 4}}}\ngroups:", 5, "unknown key limt", "did you mean limit?"),
        ("groups:", "limits: {breaker: {cluster_failures: 0}}\ngroups:", 5, "cluster_failures: must be greater", ""),
        ("groups:", "control: {switch: {group: a}}\ngroups:", 5, "group and per_host belong together", ""),
        ("groups:", "control: {switch: {}}\ngroups:", 5, "control.switch: names no switch", ""),
        ("groups:", "control: {breaks: [{need: dns, hosts: a, by: static_address}]}\ngroups:", 5,
         "breaks[0]: static_address does not break the need of a dns: write hosts_entry or manual_step", ""),
        ("groups:", "control: {breaks: [{need: switch, hosts: a, by: manual_step}]}\ngroups:", 5, "needs ask", ""),
        ("groups:", "control: {breaks: [{need: vault, hosts: a, by: manual_step, ask: x}]}\ngroups:", 5, "must be", ""),
        ("groups:", "control: {dns: {group: a, quorum: 0}}\ngroups:", 5, "must be all, a count", ""),
        ("{hosts: a}", "{hosts: a, first: []}", 6, "groups.a.first is empty", "name at least one"),
        ("{hosts: a}", "{hosts: a, first: {candidates: [a]}}", 6, "ask is missing in groups.a.first", ""),
    ],
)  # fmt: skip
def test_faults_have_a_line_and_a_remedy(old: str, new: str, line: int, said: str, remedy: str) -> None:
    found = faults(MINIMAL.replace(old, new, 1))
    assert any(said in p.message and remedy in p.remedy and p.where == f"plan.yml:{line}" for p in found), found


def test_all_faults_at_once_in_the_order_of_the_file() -> None:
    text = MINIMAL.replace("lab", "lap").replace("{hosts: a}", "\n    host: a\n    ready: [x]\n    tier: -1")
    assert [p.where for p in faults(text)] == ["plan.yml:2", "plan.yml:6", "plan.yml:7", "plan.yml:8", "plan.yml:9"]


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("", "plan.yml", "the plan is empty"),
        ("# only a comment\n", "plan.yml", "the plan is empty"),
        ("- a\n- b\n", "plan.yml:1", "not a mapping"),
        ("just words", "plan.yml:1", "not a mapping"),
        ("name: x\ngroups: {a: [}\n", "plan.yml:2", "not valid YAML"),
        ("name: x\n\tenvironment: lab\n", "plan.yml:2", "not valid YAML"),
        ("name: x\nname: y\n", "plan.yml:2", "the key name is here twice (first in line 1)"),
        ("a: 1\n---\nb: 2\n", "plan.yml:2", "not valid YAML"),
        ("groups:\n  1: {hosts: a}\n", "plan.yml:2", "the key 1 is not text"),
        ("name: !!python/object:os.system x\n", "plan.yml:1", "has no meaning here"),
        ("name: !vault x\n", "plan.yml:1", "has no meaning here"),
        ("a: &x [*x]\n", "plan.yml:1", "an alias refers to what contains it"),
        ("a: \x00\n", "plan.yml:1", "U+0000"),
    ],
)
def test_what_is_no_plan_at_all(text: str, where: str, said: str) -> None:
    assert any(problem.where == where and said in problem.message for problem in faults(text))


def test_a_key_written_twice_does_not_hide_the_other_faults() -> None:
    found = faults(MINIMAL.replace("lab", "lap").replace("groups:", "name: again\ngroups:"))
    assert [
        said for problem in found for said in ("here twice", "must be 'production'") if said in problem.message
    ] == [
        "must be 'production'",
        "here twice",
    ]


def test_an_alias_that_multiplies_itself_is_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 500000 values" in faults("\n".join(lines))[0].message


def test_merge_keys_and_anchors_work() -> None:
    text = MINIMAL.replace("{hosts: a}", "&a {hosts: a, tier: 3}") + "  b: {<<: *a, hosts: b}\n"
    group = parse_plan(text, Path("/site")).groups["b"]
    assert (group.pattern, group.tier) == ("b", 3)


def test_scalars_follow_yaml_1_2() -> None:
    data = parse(
        "{a: no, b: on, c: 1:30, d: 2024-01-01, e: 0x1f, f: 1e3, g: ~, h: true, i: 010, j: '5', k: -.inf}", "t"
    ).data
    assert data == {
        "a": "no", "b": "on", "c": "1:30", "d": "2024-01-01", "e": 31, "f": 1000.0, "g": None, "h": True, "i": 10,
        "j": "5", "k": float("-inf"),
    }  # fmt: skip


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "site.yml").write_text(MINIMAL)
    (tmp_path / "latin.yml").write_bytes(b"name: x\n# caf\xe9\n")
    for path, said, where in (
        (tmp_path, "the plan is a directory", str(tmp_path)),
        (tmp_path / "none.yml", "there is no such plan", str(tmp_path / "none.yml")),
        (tmp_path / "latin.yml", "not UTF-8", f"{tmp_path / 'latin.yml'}:2"),
    ):
        with pytest.raises(InvalidInput) as caught:
            read_plan(path)
        (problem,) = caught.value.problems
        assert said in problem.message
        assert problem.where == where
    with pytest.raises(InvalidInput) as caught:
        read_plan(tmp_path)
    assert "site.yml" in caught.value.problems[0].remedy


def test_missing_playbooks_and_known_hosts(tmp_path: Path) -> None:
    spec = parse_plan(
        MINIMAL.replace("{hosts: a}", "{hosts: a, redeploy: [x.yml, y.yml]}") + "known_hosts: kh\n", tmp_path
    )
    (tmp_path / "x.yml").write_text("[]")
    assert [(p.where, p.message) for p in missing_files(spec)] == [
        ("plan.yml:6", f"group a: there is no playbook {tmp_path}/y.yml"),
        ("plan.yml:7", f"there is no known_hosts file {tmp_path}/kh"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (0.5, 0.5),
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h30m5s", 5405),
        ("2d", 172800),
        ("1.5s", 1.5),
    ],
)
def test_durations(value: object, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), ("750", 750), ("750W", 750), ("300kW", 3e5), ("1.2 MW", 1.2e6), ("2k", 2000)]
)
def test_watts(value: object, expected: float) -> None:
    assert watts(value) == expected


@pytest.mark.parametrize(
    "value", ["", "m", "5 m", "-5m", "0s", "m5", "5m1h", True, None, [], "nan", "inf", -1, 10**400, "9" * 500]
)
@pytest.mark.parametrize("unit", [seconds, watts])
def test_no_durations_and_no_watts(unit: Any, value: object) -> None:
    if unit is watts and value == "5 m":
        return  # five megawatts
    with pytest.raises(ValueError, match=r"is no (duration|power)"):
        unit(value)


@given(st.text(max_size=200))
def test_any_text_is_a_plan_or_an_operator_error(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_plan(text, Path("/site"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["hosts", "ready", "requires", "group", "quorum", "http", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


SCHEDULE = """\
name: schedule
environment: drill
site: {bmc_networks: [10.20.0.0/16], host_networks: [10.30.0.0/16]}
inventory: hosts
limits:
  feeds:
    hall-a: {budget_amps: 400, volts: 230, phases: 3, inrush_amps: 2000, failover: false}
    hall-b/row-1: {budget_amps: 32, volts: 120}
    hall-c: {dark: true}
    hall-d: {meter: {command: [snmp-watts, pdu-4], every: 10s}}
    hall-e:
      meter:
        {redfish: "https://10.20.0.9/redfish/v1/X", user: me, password_file: pw, tls: "ca:pdu.pem", server_name: pdu}
    hall-f: {meter: {redfish: "https://10.20.0.9/redfish/v1/Y", user: me, credential: pdu}}
  supplies:
    cooling:
      fact: crac
      draw: watts
      budgets: {crac-1: {budget: 200kW, ramp_per_min: 20kW}, crac-1/zone-2/: {budget: 50kW}}
    licences: {fact: pool, draw: 2, budgets: {x: {budget: 100}}}
  slots:
    rack: 8
    logins: 400
    image_server: {limit: 200, adaptive: true, least: 10}
    boots: {limit: 8, adaptive: true}
  breaker: {cluster_failures: 20}
  measure: true
gates:
  settle: {wait: 20m, groups: [db]}
  dawn: {at: "06:00"}
  window: {at: "2026-11-26T06:00+09:00"}
control:
  switch: {group: tor, per_host: rack, fact: bmc_switch}
  dhcp: dhcp
  dns: {group: dns, quorum: 2}
  credentials: {vault: vault, jump: {group: bastion, quorum: all}}
  feeds: {hall-a/: pdu}
  hosts_file: ../hosts
  breaks:
    - {need: dhcp, hosts: tor, by: static_address}
    - {need: switch, hosts: tor-1, by: manual_step, ask: "Plug the laptop in"}
groups:
  db: {hosts: db, first: db1}
  store: {hosts: store, first: [s2, s1]}
  queue: {hosts: queue, first: {ask: "Which queue is newest?", candidates: [q1, q2]}}
"""


PDU = "https://10.20.0.9/redfish/v1"
FILE, CREDENTIAL = SecretRef(SecretKind.FILE, "pw"), SecretRef(SecretKind.CREDENTIAL, "pdu")


def test_an_authority_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    spec = parse_plan(SCHEDULE, tmp_path)
    (problem,) = missing_files(spec)
    assert (problem.message, problem.where) == ("there is no file pdu.pem", "plan.yml:13")
    (tmp_path / "pdu.pem").write_text("")
    assert missing_files(spec) == []


def test_the_schedule_of_a_plan() -> None:
    spec = parse_plan(SCHEDULE, Path("/site/plans"))
    assert spec.limits.feeds == {
        "hall-a": FeedLimit(276_000, inrush_amps=2000, failover=False),
        "hall-b/row-1": FeedLimit(3840),
        "hall-c": FeedLimit(dark=True),
        "hall-d": FeedLimit(meter=Meter(("snmp-watts", "pdu-4"), 10)),
        "hall-e": FeedLimit(meter=Meter((), 30, RedfishMeter(f"{PDU}/X", "me", FILE, "ca:pdu.pem", "pdu"))),
        "hall-f": FeedLimit(meter=Meter((), 30, RedfishMeter(f"{PDU}/Y", "me", CREDENTIAL))),
        "cooling:crac-1": FeedLimit(200e3, 20e3),
        "cooling:crac-1/zone-2": FeedLimit(50e3),
        "licences:x": FeedLimit(100),
    }
    assert spec.supplies == {"cooling": SupplySpec("crac", "watts"), "licences": SupplySpec("pool", 2)}
    assert spec.limits.slots == {"rack": 8, "logins": 400, "image_server": 200, "boots": 8}
    assert spec.limits.adaptive == {"image_server": 10, "boots": 1}
    assert spec.limits.breaker == Breaker(cluster_failures=20)
    assert spec.limits.measure
    assert spec.gates == {
        "settle": Gate("settle", groups=("db",), wait_s=1200),
        "dawn": Gate("dawn", at="06:00"),
        "window": Gate("window", at="2026-11-26T06:00+09:00"),
    }
    assert [group.first for group in spec.groups.values()] == [
        First(("db1",)),
        First(("s2", "s1")),
        First(("q1", "q2"), "Which queue is newest?"),
    ]
    assert spec.control == ControlSpec(
        switch=SwitchSpec("tor", "rack", ALL, "bmc_switch"),
        dhcp=GroupNeed("dhcp", Quorum(count=1)),
        dns=GroupNeed("dns", Quorum(count=2)),
        credentials={"vault": GroupNeed("vault"), "jump": GroupNeed("bastion", ALL)},
        feeds={"hall-a": GroupNeed("pdu")},
        hosts_file="/site/hosts",
        breaks=(
            BreakSpec("dhcp", "tor", "static_address"),
            BreakSpec("switch", "tor-1", "manual_step", "Plug the laptop in"),
        ),
    )


def test_the_examples_of_the_reference_are_plans() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "plan-reference.md").read_text()
    head = MINIMAL.partition("groups:")[0]
    found = []
    for example in re.findall(r"```yaml\n(.*?)```", reference, re.DOTALL):
        key = example.partition(":")[0]
        found.append(key)
        if key in ("limits", "gates", "control"):
            parse_plan(f"{head}{example}groups: {{a: {{hosts: a}}}}\n", Path("/site"))
        elif key == "first":
            for line in example.splitlines():
                parse_plan(f"{head}groups: {{a: {{hosts: a, {line.partition('  #')[0]}}}}}\n", Path("/site"))
        else:
            inner = "".join(f"    {line}\n" for line in example.splitlines())
            parse_plan(f"{head}groups:\n  a:\n    hosts: a\n{inner}", Path("/site"))
    assert found == ["requires", "first", "ready", "limits", "gates", "control"]


def test_the_reference_names_every_key() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "plan-reference.md").read_text()
    keys = {key for form in plan_schema()["$defs"].values() for key in form.get("properties", {})}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", reference)] == []


HOSTS = """\
# the site
127.0.0.1   localhost
10.20.0.1   tor-1.mgmt TOR-1   # by the door
2001:db8::1 vault

"""


def test_a_hosts_file() -> None:
    assert parse_hosts(HOSTS) == {
        "localhost": "127.0.0.1",
        "tor-1.mgmt": "10.20.0.1",
        "tor-1": "10.20.0.1",
        "vault": "2001:db8::1",
    }
    with pytest.raises(InvalidInput) as caught:
        parse_hosts(HOSTS + "10.20.0.300 x\n10.20.0.4\n10.20.0.2 tor-1\n", "/site/hosts")
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("/site/hosts:6", "'10.20.0.300' is no IP address"),
        ("/site/hosts:7", "10.20.0.4 has no name"),
        ("/site/hosts:8", "tor-1 has two addresses: 10.20.0.1 and 10.20.0.2"),
    ]


def test_names_come_from_the_hosts_file_that_the_plan_names(tmp_path: Path) -> None:
    plan = MINIMAL.replace("groups:", "control: {hosts_file: hosts}\ngroups:")
    with pytest.raises(InvalidInput) as caught:
        with_names(parse_plan(plan, tmp_path))
    (problem,) = caught.value.problems
    assert (problem.message, problem.where) == ("there is no such hosts file", "plan.yml:5")
    # To read what happened, elsewhere, the file need not be there.
    assert with_names(replace(parse_plan(plan, tmp_path), to_read=True)).names == {}
    (tmp_path / "hosts").write_text(HOSTS)
    assert with_names(parse_plan(plan, tmp_path)).names["vault"] == "2001:db8::1"


@given(values)
def test_any_value_of_a_group_is_understood_or_an_operator_error(value: object) -> None:
    text = MINIMAL.replace("{hosts: a}", json.dumps(value))
    places = []
    try:
        parse_plan(text, Path("/site"), "plan.yml")
    except InvalidInput as error:
        places = [problem.where for problem in error.problems]
    assert all(where.startswith("plan.yml:") for where in places)


def test_nesting_without_end_is_no_plan() -> None:
    assert "nested too deeply" in faults("[" * 20_000)[0].message


def test_the_schema_is_complete_and_describes() -> None:
    schema = plan_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["required"]) == {"name", "environment", "site", "inventory", "groups"}
    group = schema["$defs"]["GroupForm"]
    assert set(group["properties"]) == {
        "hosts", "tier", "requires", "after", "first", "ready", "verify", "redeploy", "together", "power",
        "boot_device", "second_boot", "console", "adopted", "deadlines", "attempts",
    }  # fmt: skip
    assert group["additionalProperties"] is False
    assert "pattern" in group["properties"]["hosts"]["description"]
    json.dumps(schema)
