"""Compiling a plan: a good one runs, and of a bad one everything that is wrong is said at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from bootorch.core.canonical import text_of
from bootorch.core.compile import compile_plan
from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.inventory import Inventory
from bootorch.core.model import (
    Breaker,
    Console,
    Endpoint,
    Environment,
    FeedLimit,
    First,
    Gate,
    HttpCheck,
    Limits,
    Meter,
    Quorum,
    RedfishMeter,
    Requirement,
    Site,
    SshCheck,
)
from bootorch.core.secret import SecretKind, SecretRef
from bootorch.core.spec import GroupSpec, PlanSpec
from bootorch.core.trust import Trust, parse_trust

DIGEST = "8883b0686f54c12d0b3af670a71eb5305e33292fe8ee0ec5d0764fe1458097ea"  # of SPEC, as the first release has it
SITE = Site((ip_network("192.0.2.0/24"),), (ip_network("198.51.100.0/24"),))
VAULTED = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6131\n"}


def host(number: int, **others: Any) -> dict[str, Any]:
    """Complete variables of one host; a value of ``None`` takes a variable away."""
    variables = {
        "ansible_host": f"198.51.100.{number}",
        "bmc_address": f"192.0.2.{number}",
        "bmc_user": "boot",
        "bmc_password": VAULTED,
        "rack": f"r{number % 2}",
        **others,
    }
    return {name: value for name, value in variables.items() if value is not None}


HOSTS = {"sw1": host(1), "sw2": host(2), "dns1": host(11), "dns2": host(12), "web1": host(21), "web2": host(22)}
GROUPS = {"switches": ("sw1", "sw2"), "dns": ("dns1", "dns2"), "web": ("web1", "web2"), "spare": ()}
SPEC = PlanSpec(
    name="test",
    environment=Environment.PRODUCTION,
    site=SITE,
    inventory=("/site/inventory",),
    directory="/site/plans",
    groups={
        "switches": GroupSpec("switches"),
        "dns": GroupSpec("dns", requires=(Requirement("switches", per_host="rack"),), redeploy=("/site/dns.yml",)),
        "web": GroupSpec("web", requires=(Requirement("dns", Quorum(count=1)),), after=("switches",)),
    },
    places={("groups", name): f"plan.yml:{line}" for name, line in (("switches", 5), ("dns", 6), ("web", 7))},
)


def inventory(**changed: dict[str, Any]) -> Inventory:
    return Inventory({**HOSTS, **changed}, GROUPS)


def groups(**changed: GroupSpec) -> PlanSpec:
    return replace(SPEC, groups={**SPEC.groups, **changed})


def web(**changes: Any) -> PlanSpec:
    return groups(web=replace(SPEC.groups["web"], **changes))


def problems(spec: PlanSpec = SPEC, inv: Inventory | None = None) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInput) as caught:
        compile_plan(spec, inv or inventory())
    assert caught.value.exit_code == 2
    return caught.value.problems


def only(spec: PlanSpec = SPEC, inv: Inventory | None = None) -> Problem:
    (problem,) = problems(spec, inv)
    return problem


def test_a_good_plan() -> None:
    plan = compile_plan(SPEC, inventory(web2=host(22, bmc_port="9623", ansible_port=2222))).plan
    assert list(plan.hosts) == ["dns1", "dns2", "sw1", "sw2", "web1", "web2"]
    assert plan.waves == (("switches",), ("dns",), ("web",))
    assert plan.groups["dns"].hosts == ("dns1", "dns2")
    assert plan.hosts["web2"].bmc == Endpoint("192.0.2.22", 9623)
    assert plan.hosts["web2"].ssh_port == 2222
    assert plan.hosts["web1"].bmc_password == SecretRef(SecretKind.VAULT, VAULTED["__ansible_vault"])
    assert plan.group_of("dns2").name == "dns"


def test_the_digest_follows_plan_and_inventory_but_not_the_place_of_the_files() -> None:
    digest = compile_plan(SPEC, inventory()).plan.digest
    moved = replace(
        SPEC,
        directory="/mnt/plans",
        inventory=("/mnt/inventory",),
        groups={**SPEC.groups, "dns": replace(SPEC.groups["dns"], redeploy=("/mnt/dns.yml",))},
    )
    assert compile_plan(moved, inventory()).plan.digest == digest
    assert compile_plan(web(tier=3), inventory()).plan.digest != digest
    assert compile_plan(SPEC, inventory(web1=host(31))).plan.digest != digest
    # Runs that an earlier release began can be resumed: a setting that it did not know counts only where it is used.
    assert compile_plan(web(console=Console.BOOT), inventory()).plan.digest == digest == DIGEST
    silent = compile_plan(web(console=Console.NONE), inventory()).plan
    assert silent.digest != digest
    assert silent.groups["web"].console is Console.NONE


@pytest.mark.parametrize(
    ("variables", "said", "remedy"),
    [
        ({"bmc_address": None}, "no bmc_address", "set bmc_address"),
        ({"ansible_host": None}, "no ansible_host", "set ansible_host"),
        ({"bmc_user": None}, "no bmc_user", "set bmc_user"),
        ({"bmc_address": "web1-bmc.example"}, "bmc_address is no IP address (web1: web1-bmc.example)", "no DNS"),
        ({"ansible_host": "web1.example"}, "ansible_host is no IP address (web1: web1.example)", "no DNS"),
        ({"ansible_host": "{{ lookup('dig', x) }}"}, "ansible_host is a template that only Ansible can", "plain value"),
        ({"bmc_address": "203.0.113.5"}, "bmc_address outside the site (web1: 203.0.113.5)", "site.bmc_networks"),
        ({"bmc_address": "0.0.0.0"}, "bmc_address outside the site (web1: 0.0.0.0)", "site.bmc_networks"),
        ({"ansible_host": "203.0.113.5"}, "ansible_host outside the site (web1: 203.0.113.5)", "site.host_networks"),
        ({"bmc_password": "hunter2hunter2"}, "bmc_password is in clear text", "ansible-vault"),
        ({"bmc_password": 12345678}, "bmc_password is in clear text", "bmc_password_file"),
        ({"bmc_user": VAULTED}, "bmc_user is vaulted", "clear text"),
        ({"bmc_port": 70000}, "bmc_port is no port number (web1: 70000)", "65535"),
        ({"rack": ["r1"]}, "rack must be text (web1: list)", "quote"),
        ({"power": "impi"}, "unknown power driver 'impi'", "ipmi"),
        ({"watts_boot_peak": "much"}, "watts_boot_peak is no power in watts (web1: 'much')", "1.2kW"),
        ({"draw_by": "snmp"}, "draw_by is no way to ask a BMC (web1: snmp)", "ipmi or redfish"),
        ({"redfish_port": 0}, "redfish_port is no port number (web1: 0)", "65535"),
        ({"redfish_tls": "sha256:AB:CD"}, "redfish_tls trusts no certificate (web1: sha256:AB:CD)", "64 hex digits"),
        ({"redfish_tls": "sha1:" + "ab" * 20}, "redfish_tls trusts no certificate", "insecure"),
        ({"redfish_chassis": "1?x=2"}, "redfish_chassis is no chassis (web1: 1?x=2)", "Id"),
    ],
)
def test_what_is_wrong_with_a_host(variables: dict[str, Any], said: str, remedy: str) -> None:
    problem = only(inv=inventory(web1=host(21, **variables)))
    assert said in problem.message
    assert remedy in problem.remedy
    assert problem.hosts == ("web1",)
    assert "hunter2" not in str(problem)
    assert problem.where in ("../inventory", "plan.yml:7")


def test_how_a_host_is_measured_is_kept() -> None:
    said = {"draw_by": "redfish", "redfish_port": 8443, "redfish_tls": "sha256:" + "Ab:" * 31 + "ab"}
    found = compile_plan(SPEC, inventory(web1=host(21, **said))).plan.hosts["web1"]
    assert (found.fact("draw_by"), found.fact("redfish_port")) == ("redfish", "8443")
    assert parse_trust(found.fact("redfish_tls")) == Trust(fingerprint=b"\xab" * 32)


PDU = "https://192.0.2.9/redfish/v1/PowerEquipment/RackPDUs/1"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://203.0.113.9/redfish/v1/X", "203.0.113.9 in the URL of a meter is outside the site"),
        ("https://pdu.example/redfish/v1/X", "'pdu.example' in the URL of a meter is a name"),
        ("http://192.0.2.9/redfish/v1/X", "no https URL: a password is sent over TLS only"),
        ("https://a:b@192.0.2.9/redfish/v1/X", "must hold no credentials"),
        ("https://192.0.2.9/api", "names no resource of Redfish"),
        ("https://192.0.2.9/redfish/v1/X?$expand=*", "names no resource of Redfish"),
        ("https://192.0.2.9:0/redfish/v1/X", "no https URL"),
        ("https://[192.0.2.9/redfish/v1/X", "is no URL"),
    ],
)
def test_a_meter_stays_inside_the_site_and_speaks_tls(url: str, said: str) -> None:
    def metered(url: str) -> PlanSpec:
        meter = Meter((), redfish=RedfishMeter(url, "admin", SecretRef(SecretKind.FILE, "pw")))
        spec = limited(hall=FeedLimit(4000, meter=meter))
        return replace(spec, places={("limits", "feeds", "hall", "meter"): "plan.yml:9"})

    problem = only(metered(url), fed())
    assert said in problem.message
    assert problem.where == "plan.yml:9"
    digest = compile_plan(metered(PDU), fed()).plan.digest
    assert digest != compile_plan(metered(PDU + "1"), fed()).plan.digest


def test_a_command_meter_reads_in_the_digest_as_it_always_did() -> None:
    assert text_of(Meter(("read-meter",))) == "Meter(command=('read-meter',), every_s=30.0)"


def test_hosts_alike_are_read_once_and_each_fault_is_found() -> None:
    """1 and true are equal in Python; what refers to other variables of its host is each host's own."""
    first, second = host(21, watts_boot_peak=1), host(22, watts_boot_peak=True)
    for one, other in ((first, second), (second, first)):
        problem = only(inv=inventory(web1=one, web2=other))
        assert "watts_boot_peak" in problem.message
        assert problem.hosts == (("web2",) if one is first else ("web1",))
    refers = {n: host(20 + n, watts_boot_peak="{{ peak }}", peak=100 * n) for n in (1, 2)}
    hosts = compile_plan(SPEC, inventory(web1=refers[1], web2=refers[2])).plan.hosts
    assert [hosts[name].watts_boot_peak for name in ("web1", "web2")] == [100.0, 200.0]


def test_the_same_fault_of_many_hosts_is_one_problem() -> None:
    problem = only(inv=inventory(web1=host(21, bmc_address=None), web2=host(22, bmc_address="")))
    assert problem.hosts == ("web1", "web2")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"bmc_password": None}, SecretRef(SecretKind.CREDENTIAL, "bmc_password")),
        ({"bmc_password": None, "bmc_password_file": "../pw"}, SecretRef(SecretKind.FILE, "/site/pw")),
        ({"bmc_password": None, "bmc_password_file": "~/pw"}, SecretRef(SecretKind.FILE, "~/pw")),
        ({"bmc_password": "{{ secret }}", "secret": VAULTED}, SecretRef(SecretKind.VAULT, VAULTED["__ansible_vault"])),
        ({"bmc_password": VAULTED["__ansible_vault"]}, SecretRef(SecretKind.VAULT, VAULTED["__ansible_vault"])),
    ],
)
def test_where_the_password_is(variables: dict[str, Any], expected: SecretRef) -> None:
    assert compile_plan(SPEC, inventory(web1=host(21, **variables))).plan.hosts["web1"].bmc_password == expected


def test_a_host_named_by_its_address_needs_no_ansible_host() -> None:
    hosts = {"198.51.100.77": host(77, ansible_host=None)}
    spec = replace(SPEC, groups={"one": GroupSpec("all")})
    assert compile_plan(spec, Inventory(hosts, {})).plan.hosts["198.51.100.77"].address == "198.51.100.77"


@pytest.mark.parametrize(
    ("change", "said", "remedy"),
    [
        ({"requires": (Requirement("dsn"),)}, "waits for 'dsn', which is no group", "did you mean dns?"),
        ({"after": ("mail",)}, "waits for 'mail', which is no group", "switches, dns, web"),
        ({"pattern": "spare"}, "group web is empty: 'spare' matches no host", "correct the pattern"),
        ({"pattern": "web:!web"}, "group web is empty", "correct the pattern"),
        ({"pattern": "wbe"}, "'wbe' matches no group and no host", "did you mean web"),
        ({"pattern": "web:!web9"}, "'web9' matches no group and no host", "did you mean"),
        ({"pattern": "web[7]"}, "a position that 2 hosts do not have", "host patterns"),
        ({"pattern": "web:dns"}, "2 hosts are both in dns and in web", "take them out"),
        ({"requires": (Requirement("dns", Quorum(count=3)),)}, "needs 3 of dns, which has 2 hosts", "at most 2"),
        ({"requires": (Requirement("dns", Quorum(count=0)),)}, "a quorum of 0 waits for nobody", "after"),
        ({"requires": (Requirement("dns", Quorum(share=1.5)),)}, "a quorum of 150% is not within", "50%"),
        ({"requires": (Requirement("dns", across_racks=3),)}, "across 3 racks; it is in 2", "lower across_racks"),
        ({"requires": (Requirement("switches", Quorum(count=2), per_host="rack"),)}, "and there are fewer", "lower"),
        ({"requires": (Requirement("switches", per_host="row"),)}, "no row in group", "variable row"),
        ({"ready": (HttpCheck("http://web.example/"),)}, "'web.example' in the URL of a check is a name", "address"),
        ({"ready": (HttpCheck("http://203.0.113.9/"),)}, "203.0.113.9 in the URL of a check is outside", "address"),
        ({"verify": (SshCheck(), HttpCheck("ftp://{address}/"))}, "is no http or https URL", "http"),
        ({"ready": (HttpCheck("http://boot:pw@{address}/"),)}, "must hold no credentials", "address"),
        ({"ready": (HttpCheck("http://{address}:99999/"),)}, "is no URL", "address"),
        ({"power": "redfish"}, "unknown power driver 'redfish'", "ipmi"),
    ],
)
def test_what_is_wrong_with_a_group(change: dict[str, Any], said: str, remedy: str) -> None:
    found = problems(web(**change))
    assert any(said in problem.message and remedy in problem.remedy for problem in found), found
    assert all(problem.where for problem in found)


def test_own_address_in_a_url_is_fine_also_for_ipv6() -> None:
    spec = web(
        ready=(HttpCheck("http://{address}:8080/x"), HttpCheck("https://[{address}]/"), HttpCheck("http://192.0.2.9/"))
    )
    assert compile_plan(spec, inventory()).plan.groups["web"].ready == spec.groups["web"].ready


def test_cycles_are_named() -> None:
    spec = groups(switches=GroupSpec("switches", after=("web",)))
    messages = [problem.message for problem in problems(spec)]
    assert "cycle: switches waits for web waits for switches" in messages
    assert "cycle: switches waits for web waits for dns waits for switches" in messages
    assert only(web(after=("web",))).message == "cycle: web waits for web"


def test_cycles_say_which_edges_and_which_to_cut() -> None:
    places = {
        ("groups", "switches", "after", 0): "plan.yml:5",
        ("groups", "dns", "requires", 0): "plan.yml:6",
        ("groups", "web", "requires", 0): "plan.yml:7",
        ("groups", "web", "after", 0): "plan.yml:8",
    }
    spec = replace(groups(switches=GroupSpec("switches", after=("web",))), places={**SPEC.places, **places})
    first, second = problems(spec)
    assert first.message == "cycle: switches waits for web waits for switches"  # the shortest
    assert first.where == second.where == "plan.yml:5"
    edges = "switches after web (plan.yml:5), web after switches (plan.yml:8)"
    assert first.remedy == (
        f"none of these groups could ever start: {edges}; remove switches after web. "
        "Removing these leaves no cycle at all: switches after web (plan.yml:5)"
    )
    assert "web requires dns (plan.yml:7), dns requires switches (plan.yml:6)" in second.remedy
    # A quorum is given up before all of a group is, order before both.
    whole = groups(dns=GroupSpec("dns", requires=(Requirement("web"),)))
    assert "remove web requires dns" in problems(whole)[0].remedy


@pytest.mark.parametrize(
    ("first", "said", "remedy"),
    [
        (First(("web3",)), "the first member 'web3' is none of its hosts", "did you mean web"),
        (First(("dns1",)), "the first member 'dns1' is none of its hosts", ""),
        (First(("web1", "web1")), "the first member web1 is named twice", "once"),
        (First(("zz",), "which?"), "the first member 'zz' is none of its hosts", "name members of web"),
    ],
)
def test_first_members_are_members(first: First, said: str, remedy: str) -> None:
    problem = only(web(first=first))
    assert said in problem.message
    assert remedy in problem.remedy
    assert problem.where == "plan.yml:7"


def test_a_first_member_is_kept_and_counts_in_the_digest() -> None:
    plan = compile_plan(web(first=First(("web2", "web1"))), inventory()).plan
    assert plan.groups["web"].first == First(("web2", "web1"))
    assert plan.digest != DIGEST
    assert compile_plan(web(first=First((), "who?")), inventory()).plan.digest not in (plan.digest, DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        {"feeds": {"hall": FeedLimit(4000, dark=True)}},
        {"feeds": {"hall": FeedLimit(4000, failover=False)}},
        {"feeds": {"hall": FeedLimit(4000, inrush_amps=100)}},
        {"feeds": {"hall": FeedLimit(4000, meter=Meter(("read-meter",)))}},
        {"feeds": {"hall": FeedLimit(4000)}, "measure": True},
        {"feeds": {"hall": FeedLimit(4000)}, "adaptive": {"image_server": 4}},
        {"feeds": {"hall": FeedLimit(4000)}, "breaker": Breaker(cluster_failures=8)},
    ],
)
def test_every_new_setting_changes_the_digest(change: dict[str, Any]) -> None:
    stocked = fed(inrush_amps=30)
    plain = compile_plan(limited(hall=FeedLimit(4000)), stocked).plan.digest
    assert compile_plan(replace(SPEC, limits=Limits(**change)), stocked).plan.digest != plain


def test_a_missing_rack_matters_only_where_it_is_needed() -> None:
    no_rack = inventory(dns1=host(11, rack=None))
    found = problems(inv=no_rack)
    assert [(p.message, p.hosts) for p in found] == [("no rack in group dns, which per_host of dns needs", ("dns1",))]
    spec = groups(dns=GroupSpec("dns"))
    assert compile_plan(spec, no_rack).warnings == ()
    across = replace(
        spec, groups={**spec.groups, "web": GroupSpec("web", requires=(Requirement("dns", across_racks=1),))}
    )
    assert only(across, no_rack).message == "no rack in group dns, which across_racks of web needs"


def test_a_host_without_a_parent_of_its_own_is_a_warning() -> None:
    compiled = compile_plan(SPEC, inventory(dns1=host(11, rack="r9")))
    (warning,) = compiled.warnings
    assert "without a switches of their own rack wait for none (dns1: r9)" in warning.message
    assert warning.hosts == ("dns1",)


def test_facts_of_the_simulated_world_are_kept_and_never_in_the_way() -> None:
    inv = inventory(web1=host(21, age="old", vendor=" Dell ", netboot="http"))
    inv = replace(inv, hosts={**inv.hosts, "web2": host(22, age=["3y"], vendor="{{ nobody_knows }}", netboot=True)})
    hosts = compile_plan(SPEC, inv).plan.hosts
    assert hosts["web1"].facts == {"age": "old", "vendor": "Dell", "netboot": "http"}
    assert hosts["web2"].facts == hosts["dns1"].facts == {}


def test_other_facts_of_per_host_are_kept() -> None:
    hosts = {name: {**variables, "row": 7} for name, variables in HOSTS.items()}
    spec = web(requires=(Requirement("dns", per_host="row"),))
    assert compile_plan(spec, Inventory(hosts, GROUPS)).plan.hosts["web1"].facts == {"row": "7"}


@pytest.mark.parametrize(
    ("variables", "what"),
    [({"bmc_address": "192.0.2.22"}, "1 BMC endpoints"), ({"ansible_host": "198.51.100.22"}, "1 address endpoints")],
)
def test_two_hosts_with_one_endpoint(variables: dict[str, Any], what: str) -> None:
    problem = only(inv=inventory(web1=host(21, **variables)))
    assert what in problem.message
    assert problem.hosts == ("web1", "web2")
    other_port = {**variables, "bmc_port": 624, "ansible_port": 23}
    compile_plan(SPEC, inventory(web1=host(21, **other_port)))


def limited(**feeds: FeedLimit) -> PlanSpec:
    return replace(SPEC, limits=Limits(feeds={name.replace("_", "/"): limit for name, limit in feeds.items()}))


def fed(**others: Any) -> Inventory:
    return Inventory(
        {name: {**v, "feed": "hall/row", "watts_boot_peak": 400, **others} for name, v in HOSTS.items()}, GROUPS
    )


def test_feeds() -> None:
    assert compile_plan(limited(hall=FeedLimit(4000)), fed(watts_steady=200)).warnings == ()
    assert "no feed, and the plan limits feeds" in only(limited(hall=FeedLimit(4000))).message
    assert "no watts_boot_peak" in only(limited(hall=FeedLimit(4000)), fed(watts_boot_peak=0)).message
    small = only(limited(hall=FeedLimit(4000), hall_row=FeedLimit(300)), fed())
    assert (
        "the budget of feed hall/row is below what one host draws while it boots (sw1: 400 W of 300 W)" in small.message
    )
    assert len(small.hosts) == 6
    compile_plan(limited(other=FeedLimit(100)), fed())  # no ancestor of hall/row is limited
    (warning,) = compile_plan(limited(hall=FeedLimit(1000)), fed()).warnings
    assert "draw 2400 W when all are up and 2400 W while the last one boots" in warning.message
    assert "over the budget of 1000 W" in warning.message
    ramp = FeedLimit(ramp_watts_per_min=300)
    assert "the ramp of feed hall is below what one host draws" in only(limited(hall=ramp), fed()).message
    (warning,) = compile_plan(limited(hall=FeedLimit(1500)), fed(watts_steady=250)).warnings
    assert "draw 1500 W when all are up and 1650 W while the last one boots" in warning.message


def test_slots_and_gates() -> None:
    problem = only(replace(SPEC, limits=Limits(slots={"bmc_per_subnets": 4})))
    assert "unknown slot 'bmc_per_subnets'" in problem.message
    assert problem.remedy == "did you mean bmc_per_subnet?"
    gates = {"a": Gate("a", ask="ok?", groups=("wbe",)), "b": Gate("b", check=HttpCheck("http://{address}/"))}
    messages = [p.message for p in problems(replace(SPEC, gates=gates))]
    assert messages[0] == "gate a guards 'wbe', which is no group of the plan"
    assert "'{address}' in the URL of a check is a name" in messages[1]


def lab(spec: PlanSpec) -> PlanSpec:
    return replace(spec, environment=Environment.LAB)


def test_a_lab_stays_on_this_machine() -> None:
    messages = [p.message for p in problems(lab(SPEC))]
    assert messages == [
        "environment lab, but 192.0.2.0/24 in bmc_networks is outside 127.0.0.0/8",
        "environment lab, but 198.51.100.0/24 in host_networks is outside 127.0.0.0/8",
    ]
    loop = Site((ip_network("127.1.0.0/16"),), (ip_network("127.2.0.0/16"),))
    hosts = {
        name: host(number, bmc_address=f"127.1.0.{number}", ansible_host=f"127.2.0.{number}")
        for number, name in enumerate(HOSTS, 1)
    }
    compile_plan(replace(lab(SPEC), site=loop), Inventory(hosts, GROUPS))


def test_a_fence_around_everything_is_none() -> None:
    problem = only(replace(SPEC, site=Site((ip_network("0.0.0.0/0"),), SITE.host_networks)))
    assert "fences nothing" in problem.message


def test_everything_is_said_at_once() -> None:
    spec = replace(
        web(requires=(Requirement("nope"),), pattern="web"),
        limits=Limits(slots={"x": 1}),
        gates={"g": Gate("g", ask="?", groups=("nope",))},
    )
    found = problems(spec, inventory(web1=host(21, bmc_address=None), web2=host(22, ansible_host="203.0.113.1")))
    for said in ("'nope', which is no group", "unknown slot", "gate g", "no bmc_address", "outside the site"):
        assert any(said in problem.message for problem in found), said
