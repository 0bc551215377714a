"""What a lab consists of: pure, so no socket here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput
from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.lab.fleet import DATABASE, DEPLOY, DNS, GROUPS, STORAGE, SWITCHES, WEB, LabOptions, build, outcome_counts
from bootorch.sim.machine import BootFailure

DEMO = LabOptions(
    hosts=60, dead_bmc=1, silent_power=1, no_post=1, already_on=1, playbook_fails_once=1, redeploy=True, seed=7
)


def test_the_demo_has_the_outcomes_that_issue_2_asks_for() -> None:
    fleet = build(DEMO)
    assert outcome_counts(fleet.hosts) == {"ready": 57, "adopted": 1, "quarantined": 2}
    ends = {host.expected.reason: host for host in fleet.hosts if host.expected.outcome is Outcome.QUARANTINED}
    assert set(ends) == {Reason.BMC_UNREACHABLE, Reason.NO_POST}
    assert {host.group for host in ends.values()} == {WEB}
    assert [len(fleet.group(name)) for name in GROUPS] == [6, 3, 6, 5, 2, 38]
    assert sum(host.playbook_fails_once for host in fleet.hosts) == 1


@given(st.integers(8, 400), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_every_size_has_six_groups_a_switch_a_rack_and_addresses_of_its_own(hosts: int, seed: int) -> None:
    fleet = build(LabOptions(hosts=hosts, seed=seed))
    assert len(fleet.hosts) == hosts == len({host.name for host in fleet.hosts})
    assert {host.group for host in fleet.hosts} == set(GROUPS)
    addresses = [a for host in fleet.hosts for a in (host.bmc_address, host.address)]
    assert len(set(addresses)) == 2 * hosts
    assert all(ip_address(host.bmc_address) in fleet.bmc_network for host in fleet.hosts)
    assert all(ip_address(host.address) in fleet.host_network for host in fleet.hosts)
    switched = [host.rack for host in fleet.group(SWITCHES)]
    assert len(set(switched)) == len(switched)
    assert {host.rack for host in fleet.hosts} == set(switched)
    assert len({host.rack for host in fleet.group(STORAGE)}) >= 2, "a quorum across two racks can be had"


@given(st.integers(60, 300), st.integers(0, 2**31), st.tuples(*[st.integers(0, 2)] * 12))
@settings(max_examples=40, deadline=None)
def test_nobody_who_is_broken_for_good_takes_others_along(hosts: int, seed: int, counts: tuple[int, ...]) -> None:
    dead, silent, on, fails, *unbooted = counts
    failures = dict(zip((failure.value for failure in BootFailure), unbooted, strict=True))
    options = LabOptions(
        hosts=hosts, seed=seed, dead_bmc=dead, silent_power=silent, already_on=on, playbook_fails_once=fails,
        redeploy=True, **failures,
    )  # fmt: skip
    fleet = build(options)
    lost = [host for host in fleet.hosts if host.expected.outcome is Outcome.QUARANTINED]
    assert len(lost) == dead + sum(unbooted)
    reasons = Counter(host.expected.reason for host in lost)
    assert {word: reasons[Reason(word)] for word in failures} == failures
    assert all(
        host.machine.boot_failure is None or host.expected.reason.value == host.machine.boot_failure for host in lost
    )
    assert all(host.group == WEB for host in lost)
    assert {host.group for host in fleet.hosts if host.machine.initially_on} <= {STORAGE, DATABASE}
    assert {host.group for host in fleet.hosts if host.machine.silent_power_ons} <= {WEB, DEPLOY}
    assert sum(host.machine.playbook_failures for host in fleet.hosts) == fails


def test_the_same_options_give_the_same_fleet_and_another_seed_another_one() -> None:
    assert build(DEMO) == build(DEMO)
    other = build(replace(DEMO, seed=8))
    assert [host.machine.boot_s for host in other.hosts] != [host.machine.boot_s for host in build(DEMO).hosts]


def test_a_whole_data_centre_fits_into_one_network() -> None:
    fleet = build(LabOptions(hosts=32000))
    assert len({host.bmc_address for host in fleet.hosts}) == 32000
    assert len(fleet.group(DNS)) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hosts": 7}, "8 to 32512 hosts, not 7"),
        ({"hosts": 40000}, "8 to 32512"),
        ({"dead_bmc": -1}, "a number of hosts is not -1"),
        ({"dead_bmc": 39}, "dead_bmc: 39 hosts wanted"),
        ({"redeploy": False}, "no playbook can fail where none is run"),
        ({"boot_seconds": (6.0, 2.0)}, "make no sense"),
        ({"loss": 1.0}, "a share of lost datagrams is not 1.0"),
        ({"lifetime_s": 0.0}, "cannot live"),
        ({"bmc_port": 623}, "port 623"),
        ({"ssh_port": 70000}, "port 70000"),
        ({"password": Secret("x" * 21)}, "1 to 20 bytes"),
        ({"network": "10.0.0.0/16"}, "not inside 127.0.0.0/8"),
        ({"network": "127.0.0.0/16"}, "this machine's own services"),
        ({"network": "127.32.0.1/16"}, "has host bits set"),
        ({"network": "127.32.0.0/26"}, "has no room for 60 BMCs"),
        ({"network": "127.32.0.0/31"}, "too small"),
    ],
)
def test_options_that_make_no_lab_are_refused_with_a_remedy(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(replace(DEMO, **change))  # type: ignore[arg-type]
    assert any(said in problem.message for problem in caught.value.problems)
    assert all(problem.remedy and problem.where for problem in caught.value.problems)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        build(LabOptions(hosts=1, loss=2.0, bmc_port=1, network="nowhere"))
    assert len(caught.value.problems) == 4
