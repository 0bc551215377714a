"""The control path: what the recovery itself needs, host by host, and the circles in which nobody is reached first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.compile import Compiled, compile_plan
from bootorch.core.engine import Engine
from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal
from bootorch.core.events import GateOpened, Settled
from bootorch.core.inventory import Inventory
from bootorch.core.model import ALL, Environment, Gate, Outcome, Quorum, Requirement, Site
from bootorch.core.spec import ONE, BreakSpec, ControlSpec, GroupNeed, GroupSpec, PlanSpec, SwitchSpec
from tests.core.test_engine import World

SITE = Site((ip_network("192.0.2.0/24"),), (ip_network("198.51.100.0/24"),))
VAULTED = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6131\n"}
SECTIONS = ("switch", "dhcp", "dns", "credentials", "feeds", "breaks")


def compiled(
    hosts: dict[str, dict[str, Any]], control: ControlSpec, names: dict[str, str] | None = None, **groups: GroupSpec
) -> Compiled:
    """``hosts``: name -> variables; the group of a host is its name without the number, unless ``_group`` says."""
    inventory: dict[str, dict[str, Any]] = {}
    members: dict[str, list[str]] = {}
    for number, (name, variables) in enumerate(hosts.items(), 1):
        own = {
            "ansible_host": f"198.51.100.{number}",
            "bmc_address": f"192.0.2.{number}",
            "bmc_user": "boot",
            "bmc_password": VAULTED,
            "rack": "r1",
            **variables,
        }
        members.setdefault(own.pop("_group", name.rstrip("0123456789-")), []).append(name)
        inventory[name] = {key: value for key, value in own.items() if value is not None}
    lines = {("control", section): f"plan.yml:{line}" for line, section in enumerate(SECTIONS, 10)}
    spec = PlanSpec(
        name="test",
        environment=Environment.PRODUCTION,
        site=SITE,
        inventory=("/site/inventory",),
        directory="/site",
        groups={name: groups.get(name, GroupSpec(name)) for name in members},
        control=control,
        names=names or {},
        places=lines,
    )
    return compile_plan(spec, Inventory(inventory, {name: tuple(found) for name, found in members.items()}))


def refused(hosts: dict[str, dict[str, Any]], control: ControlSpec, **others: Any) -> Problem:
    with pytest.raises(SafetyRefusal) as caught:
        compiled(hosts, control, **others)
    assert caught.value.exit_code == 6
    (problem,) = caught.value.problems
    return problem


def invalid(hosts: dict[str, dict[str, Any]], control: ControlSpec, **others: Any) -> Problem:
    with pytest.raises(InvalidInput) as caught:
        compiled(hosts, control, **others)
    (problem,) = caught.value.problems
    return problem


def control_of(compiled_plan: Compiled, group: str) -> tuple[Requirement, ...]:
    return tuple(need for need in compiled_plan.plan.groups[group].requires if need.control)


RACKS = {"tor1": {"rack": "r1"}, "tor2": {"rack": "r2"}, "web1": {"rack": "r1"}, "web2": {"rack": "r2"}}
BY_RACK = ControlSpec(switch=SwitchSpec("tor", "rack"))
BY_NAME = ControlSpec(switch=SwitchSpec(fact="bmc_switch"))


def test_the_switch_of_the_own_rack_comes_first_and_never_waits_for_itself() -> None:
    plan = compiled(RACKS, BY_RACK)
    assert control_of(plan, "web") == (Requirement("tor", ALL, per_host="rack", control="switch"),)
    assert control_of(plan, "tor") == ()
    assert plan.plan.waves == (("tor",), ("web",))
    assert plan.warnings == ()


def test_a_rack_without_a_switch_is_a_warning() -> None:
    (warning,) = compiled({**RACKS, "web3": {"rack": "r3"}, "web4": {"rack": None}}, BY_RACK).warnings
    assert "hosts without a tor of their own rack wait for no switch" in warning.message
    assert (warning.where, warning.hosts) == ("plan.yml:10", ("web3", "web4"))
    needs = control_of(compiled({**RACKS, "web3": {"rack": "r3"}}, BY_RACK), "web")
    assert [need.hosts for need in needs] == [("web1", "web2")]


def test_a_quorum_of_switches_that_no_rack_has() -> None:
    two = ControlSpec(switch=SwitchSpec("tor", "rack", Quorum(count=2)))
    problem = invalid(RACKS, two)
    assert "control.switch needs 2 of tor per rack, and there are fewer (web1: rack r1 has 1)" in problem.message
    assert problem.hosts == ("web1", "web2")
    one = ControlSpec(switch=SwitchSpec("tor", "rack", Quorum(count=1)))
    assert control_of(compiled({**RACKS, "tor3": {"rack": "r1"}}, one), "web")[0].quorum == Quorum(count=1)


def test_a_switch_by_name_may_hang_on_another_of_the_same_group() -> None:
    hosts = {"tor1": {}, "tor2": {"bmc_switch": "tor1"}, "web1": {"bmc_switch": "tor2"}, "web2": {"bmc_switch": "tor1"}}
    plan = compiled(hosts, BY_NAME)
    by_name = Requirement("tor", per_host="bmc_switch", control="switch", parent_fact="inventory_hostname")
    assert control_of(plan, "web") == (by_name,)
    assert control_of(plan, "tor") == (replace(by_name, hosts=("tor2",)),)
    assert plan.plan.hosts["web1"].fact(by_name.per_host or "") == plan.plan.hosts["tor2"].fact(by_name.parent_key)
    assert plan.plan.waves == (("tor",), ("web",))


def test_a_switch_that_is_no_host_of_the_plan() -> None:
    problem = invalid({"tor1": {}, "web1": {"bmc_switch": "tor11"}}, BY_NAME)
    assert "the switch in bmc_switch is no host of the plan (web1: tor11)" in problem.message
    assert problem.remedy == "did you mean tor1?"


def test_a_switch_behind_itself() -> None:
    hosts = {f"tor{n}": {"bmc_switch": f"tor{n}"} for n in range(1, 6)} | {"web1": {"bmc_switch": "tor1"}}
    problem = refused(hosts, BY_NAME)
    assert "tor[1-5] need a switch to be reached (switch) from tor" in problem.message
    assert problem.hosts == ("tor1", "tor2", "tor3", "tor4", "tor5")  # web1 waits for ever too, but is in no circle
    assert problem.where == "plan.yml:10"
    assert 'control.breaks: {need: switch, hosts: "tor", by: manual_step}' in problem.remedy


def test_two_switches_behind_each_other_and_a_manual_step_at_one() -> None:
    hosts = {"tor1": {"bmc_switch": "tor2"}, "tor2": {"bmc_switch": "tor1"}}
    assert refused(hosts, BY_NAME).hosts == ("tor1", "tor2")
    step = BreakSpec("switch", "tor1", "manual_step", "Plug the laptop into tor1")
    plan = compiled(hosts, replace(BY_NAME, breaks=(step,))).plan
    assert [need.hosts for need in plan.groups["tor"].requires] == [("tor2",)]
    assert plan.gates == {
        "manual-switch": Gate("manual-switch", ask="Plug the laptop into tor1", groups=("tor",), control=True)
    }


def test_a_dns_server_whose_address_is_a_name() -> None:
    hosts: dict[str, dict[str, Any]] = {"dns1": {"ansible_host": "dns1.example"}, "web1": {"bmc_address": "w.example"}}
    control = ControlSpec(dns=GroupNeed("dns"))
    problem = refused(hosts, control)
    assert "dns1 needs DNS for names (dns) from dns" in problem.message
    assert problem.hosts == ("dns1",)
    assert "control.hosts_file" in problem.remedy
    plan = compiled(hosts, control, names={"dns1.example": "198.51.100.9"})
    assert plan.plan.hosts["dns1"].address == "198.51.100.9"
    assert plan.plan.hosts["web1"].bmc.address == "w.example"
    assert control_of(plan, "web") == (Requirement("dns", ONE, control="dns"),)
    assert plan.plan.dns_group == "dns"
    # Another server with an address of its own is enough.
    assert compiled({**hosts, "dns2": {}}, control).plan.groups["dns"].requires[0].hosts == ("dns1",)


def test_names_are_put_before_the_fence_where_their_address_is_known() -> None:
    hosts = {"web1": {"ansible_host": "Web1.example"}}
    problem = invalid(hosts, ControlSpec(), names={"web1.example": "203.0.113.1"})
    assert "ansible_host outside the site (web1: 203.0.113.1)" in problem.message
    problem = invalid(hosts, ControlSpec())
    assert "ansible_host is no IP address" in problem.message
    for remedy in ("to the IP address", "control.hosts_file", "control.dns"):
        assert remedy in problem.remedy
    # What looks like an address is never a name.
    wrong = invalid({"web1": {"bmc_address": "192.0.2.300"}, "dns1": {}}, ControlSpec(dns=GroupNeed("dns")))
    assert "bmc_address is no IP address" in wrong.message
    entry = ControlSpec(dns=GroupNeed("dns"), breaks=(BreakSpec("dns", "web", "hosts_entry"),))
    assert "a name has no entry in control.hosts_file" in invalid({**hosts, "dns1": {}}, entry).message


def test_a_vault_whose_bmc_password_is_in_the_vault() -> None:
    control = ControlSpec(credentials={"vault": GroupNeed("vault")})
    hosts: dict[str, dict[str, Any]] = {
        "vault1": {"credential_from": "vault"},
        "vault2": {"credential_from": "vault"},
        "web1": {"credential_from": "vault"},
    }
    problem = refused(hosts, control)
    assert problem.hosts == ("vault1", "vault2")
    assert "cached_credential" in problem.remedy
    cached = replace(control, breaks=(BreakSpec("credential", "vault", "cached_credential"),))
    plan = compiled(hosts, cached)
    assert control_of(plan, "vault") == ()
    assert control_of(plan, "web") == (Requirement("vault", ONE, control="credential"),)
    # It must be true: the default systemd credential is nothing that a plan can know to be there.
    nothing = {**hosts, "vault1": {"credential_from": "vault", "bmc_password": None}}
    problem = invalid(nothing, cached)
    assert "no credential of their own here" in problem.message
    assert (problem.hosts, problem.where) == (("vault1",), "plan.yml:15")
    # One vault host with a credential of its own brings the others up.
    assert compiled({**hosts, "vault2": {}}, control).plan.groups["vault"].requires[0].hosts == ("vault1",)
    assert "did you mean vault?" in invalid({"vault1": {}, "web1": {"credential_from": "vualt"}}, control).remedy


def test_a_dhcp_server_without_a_static_address() -> None:
    control = ControlSpec(dhcp=GroupNeed("dhcp"))
    hosts: dict[str, dict[str, Any]] = {
        "dhcp1": {"bmc_address_from": "dhcp"},
        "dhcp2": {"bmc_address_from": "dhcp"},
        "web1": {"bmc_address_from": "dhcp"},
        "web2": {"bmc_address_from": "static"},
    }
    problem = refused(hosts, control)
    assert problem.hosts == ("dhcp1", "dhcp2")
    assert "static_address" in problem.remedy
    assert "bmc_address_from: static" in problem.remedy
    fixed = replace(control, breaks=(BreakSpec("dhcp", "dhcp1", "static_address"),))
    plan = compiled(hosts, fixed)
    assert [need.hosts for need in control_of(plan, "dhcp")] == [("dhcp2",)]
    assert [need.hosts for need in control_of(plan, "web")] == [("web1",)]
    assert "neither dhcp nor static" in invalid({"dhcp1": {"bmc_address_from": "bootp"}}, control).message


def test_a_pdu_controller_on_its_own_feed() -> None:
    control = ControlSpec(feeds={"hall-a": GroupNeed("pdu")})
    hosts: dict[str, dict[str, Any]] = {
        "pdu1": {"feed": "hall-a/row-1"},
        "web1": {"feed": "hall-a/row-2"},
        "web2": {"feeds": ["hall-a/row-2", "hall-b"]},
        "web3": {"feed": "hall-ab"},
    }
    problem = refused(hosts, control)
    assert "pdu1 needs electricity that is switched on (feed) from pdu" in problem.message
    plan = compiled({**hosts, "pdu1": {"feed": "ups"}}, control)
    assert [need.hosts for need in control_of(plan, "web")] == [("web1",)]  # web2 has another cord


def test_a_circle_through_service_and_control_path_names_both_kinds() -> None:
    """The BMCs of dns hang on tor, and tor is known by names only."""
    hosts = {"tor1": {"bmc_address": "tor1.example"}, "dns1": {}, "web1": {}}
    control = ControlSpec(switch=SwitchSpec("tor", "rack"), dns=GroupNeed("dns"))
    problem = refused(hosts, control)
    assert "dns1 needs a switch to be reached (switch) from tor" in problem.message
    assert "tor1 needs DNS for names (dns) from dns" in problem.message
    assert "web1" not in problem.message  # it waits for ever too, and is in no circle
    assert problem.hosts == ("dns1", "tor1")
    served = refused(
        {"tor1": {"bmc_address": "tor1.example"}, "dns1": {}},
        ControlSpec(dns=GroupNeed("dns")),
        dns=GroupSpec("dns", requires=(Requirement("tor"),)),
    )
    assert "dns1 waits for tor" in served.message
    assert "tor1 needs DNS" in served.message


def test_all_circles_are_told_and_other_mistakes_with_them() -> None:
    control = ControlSpec(switch=SwitchSpec(fact="bmc_switch"), dhcp=GroupNeed("dhcp"))
    hosts: dict[str, dict[str, Any]] = {"tor1": {"bmc_switch": "tor1"}, "dhcp1": {"bmc_address_from": "dhcp"}}
    with pytest.raises(SafetyRefusal) as refusal:
        compiled(hosts, control)
    assert [problem.hosts for problem in refusal.value.problems] == [("dhcp1",), ("tor1",)]
    with pytest.raises(InvalidInput) as caught:
        compiled({**hosts, "web1": {"bmc_user": None}}, control)
    assert [problem.hosts for problem in caught.value.problems] == [("web1",), ("dhcp1",), ("tor1",)]


def test_what_is_wrong_with_the_section_itself() -> None:
    hosts: dict[str, dict[str, Any]] = {"dns1": {}}
    assert "control.dns is 'dsn', no group" in invalid(hosts, ControlSpec(dns=GroupNeed("dsn"))).message
    too_many = invalid(hosts, ControlSpec(dns=GroupNeed("dns", Quorum(count=2))))
    assert "control.dns needs 2 of dns, which has 1 hosts" in too_many.message
    control = ControlSpec(dhcp=GroupNeed("dns"), breaks=(BreakSpec("dhcp", "dns", "static_address"),))
    (warning,) = compiled(hosts, control).warnings
    assert "breaks nothing" in warning.message
    unmatched = replace(control, breaks=(BreakSpec("dhcp", "dsn", "static_address"),))
    assert "'dsn' matches no group and no host" in invalid(hosts, unmatched).message


def test_a_plan_without_control_path_keeps_its_digest_and_one_with_it_has_another() -> None:
    plain = compiled(RACKS, ControlSpec()).plan.digest
    assert compiled(RACKS, BY_RACK).plan.digest != plain
    moved = compiled(RACKS, ControlSpec(hosts_file="/elsewhere/hosts")).plan.digest
    assert moved == plain
    assert compiled(RACKS, ControlSpec(), names={"a": "192.0.2.1"}).plan.digest != plain


NAMES = [f"tor{n}" for n in range(1, 7)]


@given(st.lists(st.sampled_from(["", *NAMES]), min_size=6, max_size=6))
def test_refused_exactly_where_some_switch_is_reached_by_nobody_first(uplinks: list[str]) -> None:
    """Against a plain walk along the uplinks, host by host."""
    uplink = dict(zip(NAMES, uplinks, strict=True))
    hosts: dict[str, dict[str, Any]] = {name: {"bmc_switch": other or None} for name, other in uplink.items()}
    in_circle = set()
    for name in NAMES:
        seen, at = [], name
        while at and at not in seen:
            seen.append(at)
            at = uplink[at]
        if at == name:
            in_circle.add(name)
    if not in_circle:
        compiled(hosts, BY_NAME)
        return
    with pytest.raises(SafetyRefusal) as caught:
        compiled(hosts, BY_NAME)
    assert {name for problem in caught.value.problems for name in problem.hosts} == in_circle


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["", *NAMES]), min_size=6, max_size=6), st.sets(st.sampled_from(NAMES)))
def test_what_is_not_refused_the_engine_brings_up_in_order(uplinks: list[str], steps: set[str]) -> None:
    """With manual steps at some switches: whatever is accepted runs to its end, each after the switch it hangs on."""
    uplink = dict(zip(NAMES, uplinks, strict=True))
    hosts: dict[str, dict[str, Any]] = {name: {"bmc_switch": other or None} for name, other in uplink.items()}
    hosts["web1"] = {"bmc_switch": "tor1"}
    breaks = tuple(BreakSpec("switch", name, "manual_step", f"Go to {name}") for name in sorted(steps))
    try:
        plan = compiled(hosts, replace(BY_NAME, breaks=breaks)).plan
    except SafetyRefusal:
        return  # what is refused is the property's above
    engine = Engine(plan)
    world = World(engine)
    for gate in plan.gates:
        assert world.run() == "stopped"
        world.tell(GateOpened(world.now, gate, "kim"))
    assert world.run() == "done"
    assert {host.outcome for host in engine.state.hosts.values()} == {Outcome.READY}
    settled = [event.host for event in world.events if isinstance(event, Settled)]
    for name, other in [*uplink.items(), ("web1", "tor1")]:
        if other and name not in steps:
            assert settled.index(other) < settled.index(name)
