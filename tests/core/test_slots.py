"""Counted resources, rule by rule: whatever carries a limit, fixed or adaptive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bootorch.core.engine import Engine
from bootorch.core.events import Adapted, Answer, Event, Intent, Kind, LimitSet
from bootorch.core.model import BootDevice, CommandCheck, Limits, Outcome, SshCheck
from bootorch.core.reasons import Reason
from bootorch.core.slots import Slots
from tests.core.test_engine import OFF, Reply, World
from tests.plans import group, make_plan


def most(events: list[Event], begins: Callable[[Event], bool], ends: Callable[[Event], bool]) -> int:
    now = found = 0
    for event in events:
        now += begins(event)
        now -= ends(event)
        found = max(found, now)
    return found


def booting(events: list[Event], *hosts: str) -> int:
    return most(
        events,
        lambda e: isinstance(e, Intent) and e.kind is Kind.POWER_ON and (not hosts or e.target in hosts),
        lambda e: (
            isinstance(e, Answer)
            and e.kind is Kind.BOOT_PROBE
            and e.reason is Reason.OK
            and (not hosts or e.target in hosts)
        ),
    )


def under_way(events: list[Event], *kinds: Kind) -> int:
    return most(
        events,
        lambda e: isinstance(e, Intent) and e.kind in kinds,
        lambda e: isinstance(e, Answer) and e.kind in kinds,
    )


def test_boots_are_counted_from_the_power_on_to_the_proof() -> None:
    world = World(Engine(make_plan({"g": (5, group())}, Limits(slots={"boots": 2}))))
    assert world.run() == "done"
    assert booting(world.events) == 2


@pytest.mark.parametrize("kind", ["rack", "model", "image_server"])
def test_any_fact_carries_a_limit_of_its_own_for_each_value(kind: str) -> None:
    values = {f"g{n + 1}": "x" if n < 4 else "y" for n in range(6)}
    facts = {
        name: {"facts": {kind: value}} if kind == "image_server" else {kind: value} for name, value in values.items()
    }
    world = World(Engine(make_plan({"g": (6, group())}, Limits(slots={kind: 2}), facts=facts)))
    assert world.run() == "done"
    xs = [name for name, value in values.items() if value == "x"]
    assert booting(world.events, *xs) == 2
    assert booting(world.events) == 4


def test_a_boot_that_failed_gives_its_slot_back() -> None:
    world = World(Engine(make_plan({"g": (2, group())}, Limits(slots={"boots": 1}))))
    world.script["g1", Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
    assert world.run() == "done"
    assert world.outcome("g1")[0] is Outcome.QUARANTINED
    assert world.outcome("g2")[0] is Outcome.READY
    assert not world.engine.state.slots.used()


def test_logins_are_counted_for_each_exchange_with_a_host() -> None:
    checks = (SshCheck(), CommandCheck("true"))
    world = World(Engine(make_plan({"g": (6, group(ready=checks))}, Limits(slots={"logins": 2}))))
    assert world.run() == "done"
    assert under_way(world.events, Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK) == 2


def test_a_repeated_power_on_waits_for_its_subnet_too() -> None:
    at_bmc = (Kind.POWER_READ, Kind.POWER_ON, Kind.BOOT_DEVICE)
    world = World(Engine(make_plan({"g": (6, group(boot_device=BootDevice.PXE))}, Limits(slots={"bmc_per_subnet": 2}))))
    for number in range(1, 4):
        world.script[f"g{number}", Kind.POWER_READ] = [OFF]
        world.script[f"g{number}", Kind.POWER_ON] = [Reason.OK]
    assert world.run() == "done"
    assert under_way(world.events, *at_bmc) <= 2
    assert world.count("g1", Kind.POWER_ON) == 4


def test_a_limit_that_was_zero_from_the_beginning_lets_in_when_it_is_raised() -> None:
    world = World(Engine(make_plan({"g": (2, group())}, Limits(slots={"boots": 0}))))
    assert world.run() == "stopped"
    assert world.engine.admission.waiting() == {("slot", "boots"): 2}
    world.tell(LimitSet(world.now, "slot", "boots", 1.0))
    assert world.run() == "done"
    assert booting(world.events) == 1


def test_a_subnet_that_is_closed_stops_the_run_instead_of_asking_every_second() -> None:
    plan = make_plan({"a": (1, group()), "b": (1, group(after=("a",)))}, Limits(slots={"bmc_per_subnet": 0}))
    world = World(Engine(plan))
    assert world.run() == "stopped"
    assert world.now < 10
    world.tell(LimitSet(world.now, "slot", "bmc_per_subnet", 4.0))
    assert world.run() == "done"


def test_no_playbook_without_a_fork() -> None:
    world = World(Engine(make_plan({"g": (3, group(redeploy=("/a.yml",)))}, Limits(slots={"redeploy_forks": 2}))))
    world.run(until=10)
    world.tell(LimitSet(world.now, "slot", "redeploy_forks", 0.0))
    assert world.run() == "stopped"
    assert ("g", Kind.REDEPLOY) not in world.did
    world.tell(LimitSet(world.now, "slot", "redeploy_forks", 2.0))
    assert world.run() == "done"
    assert {e.args["forks"] for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY} == {2}


def test_a_kinds_new_limit_is_that_of_every_value() -> None:
    slots = Slots({"image_server": 10}, {})
    slots.set_limit("image_server:pxe-1", 3)
    assert (slots.limit("image_server:pxe-1"), slots.limit("image_server:pxe-2")) == (3, 10)
    slots.set_limit("image_server", 5)
    assert (slots.limit("image_server:pxe-1"), slots.limit("image_server:pxe-2")) == (5, 5)


def test_an_adaptive_slot_halves_once_for_an_overload_and_grows_by_one() -> None:
    slots = Slots({"boots": 40}, {"boots": 2})
    slots.take("boots", 40)
    assert slots.overload("boots", began_t=10.0) == 20
    slots.adapt("boots", 20, t=100.0)
    assert slots.limit("boots") == 20
    assert slots.overload("boots", began_t=90.0) is None, "it began before the limit shrank"
    assert slots.overload("boots", began_t=110.0) == 10
    slots.success("boots", 19)
    assert slots.growth("boots") is None
    slots.success("boots")
    assert slots.growth("boots") == 21
    for _ in range(10):
        slots.adapt("boots", max(2, (slots.limit("boots") or 0) // 2), t=200.0)
    assert slots.limit("boots") == 2
    slots.set_limit("boots", 30)
    assert slots.limit("boots") == 30, "a person's word: what it had shrunk to is forgotten"


def test_lost_boot_images_halve_what_an_image_server_gets() -> None:
    facts = {f"g{n + 1}": {"facts": {"image_server": "pxe-1"}} for n in range(24)}
    plan = make_plan({"g": (24, group())}, Limits(slots={"image_server": 8}, adaptive={"image_server": 1}), facts=facts)
    world = World(Engine(plan))
    lost: Reply = (Reason.OK, {"power": "on", "sel": "", "console": "PXE-E32: TFTP open timeout"})
    for name in ("g1", "g2"):
        world.script[name, Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
        world.script[name, Kind.EVIDENCE] = [lost]
    assert world.run() == "done"
    adapted = [(e.limit, e.slot) for e in world.events if isinstance(e, Adapted)]
    assert len([limit for limit, _ in adapted if limit < 8]) >= 1
    assert {slot for _, slot in adapted} == {"image_server:pxe-1"}
    shrinks = [b for a, b in zip([8, *[n for n, _ in adapted]], [n for n, _ in adapted], strict=False) if b < a]
    assert len(shrinks) == 1, "two boots that began together are one overload"


def test_failed_playbooks_halve_the_forks() -> None:
    plan = make_plan(
        {"g": (8, group(redeploy=("/a.yml",)))}, Limits(slots={"redeploy_forks": 8}, adaptive={"redeploy_forks": 1})
    )
    world = World(Engine(plan), verdict=lambda i, _: ("task_failed", "no route") if i.attempt == 1 else ("ok", ""))
    assert world.run() == "done"
    adapted = [e for e in world.events if isinstance(e, Adapted)]
    assert adapted[0].limit == 4
    assert adapted[0].why == "8 of 8 hosts of a slice of g failed"
