"""Random recoveries by seed: plans with everything that a model can say, worlds, things that happen, kills.

Swarm testing (Groce, Zhang, Eide, Chen and Regehr, ISSTA 2012): each case has a random half of all features, because a
case that has all of them hides what only some of them together show. ``run`` plays a case with the checkers beside the
engine and raises ``CaseFailed`` for whatever should not be; the seed alone gives the same case again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.events import (
    Aborted,
    BreakerReset,
    Chosen,
    Continued,
    Event,
    FeedLost,
    FeedReturned,
    GateOpened,
    Kind,
    Lifted,
    LimitSet,
    Paused,
    Quarantined,
    Retried,
    RunEnded,
    ScopeAdded,
    Skipped,
    TierSet,
)
from bootorch.core.graph import waves
from bootorch.core.limits import feed_path
from bootorch.core.model import (
    AdoptedPolicy,
    Attempts,
    BootDevice,
    Breaker,
    CommandCheck,
    Deadlines,
    Endpoint,
    Environment,
    FeedLimit,
    First,
    Gate,
    Group,
    Host,
    HttpCheck,
    Limits,
    Load,
    Meter,
    Quorum,
    Requirement,
    SecondBoot,
    Site,
    SshCheck,
    TcpCheck,
)
from bootorch.core.plan import Plan
from bootorch.core.recovery import replay, resume
from bootorch.sim.checked_draw import InvariantBroken
from bootorch.sim.checkers import Checker
from bootorch.sim.distributions import Lognormal, Uniform
from bootorch.sim.parameters import CALM, FIELD, Parameters, Storm
from bootorch.sim.run import Simulation
from bootorch.sim.world import World

FEATURES = (
    "adaptive", "adopted", "after", "bmc_slots", "boots", "breakers", "budget", "clusters", "control", "cords", "cycle",
    "dark", "devices", "evenly", "faults", "field", "first", "forks", "gates", "image_server", "inrush", "kills",
    "limit", "logins", "measure", "meter", "on", "per_host", "profiles", "quorums", "racks", "ramp", "redeploy",
    "reopened", "requires", "rows", "say_abort", "say_breakers", "say_chosen", "say_feeds", "say_gates", "say_hosts",
    "say_limits", "say_pause", "say_scope", "say_tiers", "storms", "supplies", "tiers", "together", "verify",
)  # fmt: skip

ROUGH = Parameters(
    silent_power_share=0.2, no_post_share=0.1, dead_bmc_share=0.1, task_failed_share=0.2, dark_share=0.05,
    busy_share=0.05, loss_share=0.02, netboot_loss_share=0.3, pxe_boots=2,
)  # fmt: skip
_OF_HOSTS: tuple[type[Quarantined | Skipped | Lifted | Retried], ...] = (
    Quarantined, Quarantined, Skipped, Lifted, Lifted, Retried, Retried,
)  # fmt: skip
MOST_STEPS = 40_000
MOST_AT_ONCE = 2_000  # steps without any virtual time between them
LOOPBACK = (ip_network("127.0.0.0/8"),)


class CaseFailed(AssertionError):
    """A case showed what should not be."""


@dataclass(frozen=True)
class Case:
    """``script`` is what people and the electricity company do; ``stops``: steps until each kill; ``applied``: which
    of the effects that were under way then had happened, as bits."""

    plan: Plan
    parameters: Parameters
    seed: int
    features: tuple[str, ...]
    script: tuple[Event, ...] = ()
    selected: tuple[str, ...] = ()
    stops: tuple[int, ...] = ()
    applied: int = 0
    reopened: bool = False  # what failed is tried again after the end


def case_of(seed: int) -> Case:
    return make_case(random.Random(seed), seed)  # noqa: S311 - a case that can be had again


def make_case(rng: random.Random, seed: int, features: Sequence[str] | None = None) -> Case:
    """A case by the numbers of ``rng``, with a random half of all features unless they are given."""
    on = tuple(features) if features is not None else tuple(name for name in FEATURES if rng.random() < 0.5)
    maker = _Maker(rng, frozenset(on))
    plan = maker.plan()
    stops = tuple(rng.randint(1, 80) for _ in range(rng.randint(1, 3))) if "kills" in on else ()
    selected = maker.selected(plan)
    script = tuple(sorted(maker.script(plan, selected), key=lambda event: event.t))
    return Case(plan, maker.parameters(), seed, on, script, selected, stops, rng.randint(0, 7), "reopened" in on)


class _Maker:
    def __init__(self, rng: random.Random, on: frozenset[str]) -> None:
        self._rng = rng
        self._on = on

    def _some(self, feature: str, share: float = 0.5) -> bool:
        return feature in self._on and self._rng.random() < share

    # -- plan ---------------------------------------------------------------------

    def plan(self) -> Plan:
        rng = self._rng
        names = [f"g{number}" for number in range(rng.randint(1, 6))]
        hosts: dict[str, Host] = {}
        groups: dict[str, Group] = {}
        for name in names:
            own = [self._host(name, f"{name}-{number}", len(hosts) + number) for number in range(rng.randint(1, 7))]
            groups[name] = self._group(name, own, groups)
            hosts.update((host.name, host) for host in own)
        parents = {name: [*(r.group for r in g.requires), *g.after] for name, g in groups.items()}
        return Plan(
            name="swarm",
            environment=Environment.LAB,
            site=Site(LOOPBACK, LOOPBACK),
            hosts=dict(sorted(hosts.items())),
            groups=groups,
            limits=self._limits(hosts),
            gates=self._gates(names),
            waves=waves(parents),
            digest="0" * 64,
        )

    def _host(self, group: str, name: str, number: int) -> Host:
        rng = self._rng
        row = rng.randint(0, 1)
        feeds: tuple[str, ...] = (f"a/row-{row}/pdu-{number % 2}",)
        if self._some("cords", 0.7):
            feeds = rng.choice([(f"a/row-{row}", f"b/row-{row}"), ("a/row-0/pdu-0", "a/row-0/pdu-1"), ("b/row-1",), ()])
        steady = float(rng.choice([200, 250, 400]))
        peak = steady + rng.choice([0, 150, 300])
        profile: tuple[tuple[float, float], ...] = ()
        if self._some("profiles", 0.7):
            middle = steady + (peak - steady) * 0.5
            profile = rng.choice([((30.0, middle),), ((45.0, middle), (120.0, steady)), ((0.0, steady),)])
        loads: tuple[Load, ...] = ()
        if self._some("supplies", 0.7):
            loads = (Load(f"cooling:hall/crac-{row}", rng.choice([3.0, 4.0]), 2.0),)
        facts = {"image_server": f"pxe-{row}"} if self._some("image_server", 0.8) else {}
        if rng.random() < 0.5:
            facts["uplink"] = f"u{number % 3}"
        return Host(
            name=name,
            group=group,
            bmc=Endpoint(f"127.1.{number % 2}.{number + 1}", 623),
            bmc_user="admin",
            bmc_password=None,
            address=f"127.2.0.{number + 1}",
            rack=f"r{rng.randint(0, 3)}",
            feeds=feeds,
            model=rng.choice(["m1", "m1", "m2", ""]),
            firmware=rng.choice(["f1", "f2", ""]),
            watts_boot_peak=peak,
            watts_steady=steady,
            watts_profile=profile,
            inrush_amps=float(rng.choice([10, 20])) if "inrush" in self._on else 0.0,
            loads=loads,
            boot_s=rng.choice([0.0, 100.0, 300.0]),
            facts=facts,
        )

    def _group(self, name: str, own: list[Host], before: dict[str, Group]) -> Group:
        rng = self._rng
        requires, after = [], []
        for parent, group in before.items():
            if rng.random() < 0.5:
                continue
            if self._some("after", 0.3):
                after.append(parent)
            elif self._some("control", 0.4):
                some = tuple(host.name for host in own if rng.random() < 0.6) if rng.random() < 0.5 else ()
                per_host = rng.choice([None, "rack", "uplink"])
                requires.append(Requirement(parent, self._quorum(group), 0, per_host, "switch", some))
            elif self._some("per_host", 0.5):
                requires.append(Requirement(parent, self._quorum(group), per_host=rng.choice(["rack", "uplink"])))
            elif "requires" in self._on:
                requires.append(Requirement(parent, self._quorum(group)))
        first = None
        if self._some("first"):
            candidates = tuple(host.name for host in own if rng.random() < 0.5)
            ask = "Which has the newest copy?" if not candidates or rng.random() < 0.3 else ""
            # A plan has either: candidates that follow each other, or a person who is asked.
            first = First((), ask) if ask else First(candidates)
        return Group(
            name=name,
            hosts=tuple(host.name for host in own),
            tier=rng.randint(0, 3) if "tiers" in self._on else 0,
            requires=tuple(requires),
            after=tuple(after),
            first=first,
            ready=rng.choice([(SshCheck(),), (TcpCheck(22),), (SshCheck(), CommandCheck("true"))]),
            verify=rng.choice([(), (CommandCheck("true"),)]) if "verify" in self._on else (),
            redeploy=rng.choice([(), ("/a.yml",), ("/a.yml", "/b.yml")]) if "redeploy" in self._on else (),
            boot_device=rng.choice(list(BootDevice)) if "devices" in self._on else BootDevice.NONE,
            second_boot=SecondBoot.CYCLE if self._some("cycle", 0.7) else SecondBoot.NONE,
            adopted=AdoptedPolicy.REDEPLOY if self._some("adopted") else AdoptedPolicy.VERIFY,
            together=self._some("together", 0.7),
            deadlines=Deadlines(),
            attempts=Attempts(boot=rng.choice([1, 2, 3])) if "cycle" in self._on else Attempts(),
        )

    def _quorum(self, parent: Group) -> Quorum:
        rng, size = self._rng, len(parent.hosts)
        if "quorums" not in self._on:
            return Quorum()
        return rng.choice([Quorum(), Quorum(count=1), Quorum(count=rng.randint(1, size)), Quorum(share=0.5)])

    def _limits(self, hosts: dict[str, Host]) -> Limits:
        rng, on = self._rng, self._on
        feeds: dict[str, FeedLimit] = {}
        drawn = {
            "a": 0.0,
            "b": 0.0,
            "a/row-0": 0.0,
            "a/row-1": 0.0,
            "b/row-0": 0.0,
            "b/row-1": 0.0,
            "a/row-0/pdu-0": 0.0,
        }
        for host in hosts.values():
            for feed in {path: None for cord in host.feeds for path in feed_path(cord)}:
                if feed in drawn:
                    drawn[feed] += host.watts_steady
        for feed, watts in drawn.items():
            if "/" in feed and "rows" not in on and rng.random() < 0.8:
                continue
            limit = FeedLimit(failover=not ("evenly" in on and rng.random() < 0.7))
            if self._some("budget", 0.8):
                limit = replace(limit, budget_watts=max(600.0, watts * rng.choice([0.6, 1.0, 1.2, 1.5, 2.0])))
            if self._some("ramp", 0.5):
                limit = replace(limit, ramp_watts_per_min=rng.choice([700.0, 1200.0, 3000.0]))
            if self._some("inrush", 0.5):
                limit = replace(limit, inrush_amps=rng.choice([20.0, 50.0]))
            if self._some("meter", 0.4):
                limit = replace(limit, meter=Meter(("true",), rng.choice([10.0, 30.0])))
            if self._some("dark", 0.2):
                limit = replace(limit, dark=True)
            feeds[feed] = limit
        if "supplies" in on:
            feeds["cooling:hall"] = FeedLimit(budget_watts=rng.choice([12.0, 30.0, 60.0]))
            feeds["cooling:hall/crac-0"] = FeedLimit(budget_watts=rng.choice([6.0, 30.0]), ramp_watts_per_min=8.0)
        slots: dict[str, int] = {}
        for feature, kind in (
            ("boots", "boots"), ("racks", "rack"), ("image_server", "image_server"), ("logins", "logins"),
            ("bmc_slots", "bmc_per_subnet"), ("forks", "redeploy_forks"),
        ):  # fmt: skip
            if feature in on:
                slots[kind] = rng.randint(1, 4)
        adaptive: dict[str, int] = {}
        if "adaptive" in on:
            for kind in slots:
                if kind != "logins" and rng.random() < 0.6:
                    slots[kind] *= 3
                    adaptive[kind] = rng.randint(1, 2)
        breaker = Breaker()
        if "breakers" in on:
            breaker = rng.choice([Breaker(group_failed_share=0.3), Breaker(same_model_failures=3)])
        if "clusters" in on:
            breaker = replace(breaker, cluster_failures=rng.randint(2, 4))
        # Playbooks fetch from the same servers. Not drawn: seeds of cases that were found keep their meaning.
        both = "image_server" in slots and "redeploy" in on and len(hosts) % 2
        during = {"image_server": ("boot", "redeploy")} if both else {}
        return Limits(feeds, slots, adaptive, breaker, self._some("measure"), during)

    def _gates(self, groups: list[str]) -> dict[str, Gate]:
        rng = self._rng
        gates: dict[str, Gate] = {}
        for number in range(rng.randint(1, 3) if "gates" in self._on else 0):
            name = f"gate-{number}"
            some = tuple(group for group in groups if rng.random() < 0.5)
            match rng.choice(["ask", "check", "wait", "at", "control"]):
                case "ask":
                    gates[name] = Gate(name, ask="Who?", groups=some)
                case "check":
                    gates[name] = Gate(name, check=HttpCheck("http://127.0.0.1/"), groups=some)
                case "wait":
                    gates[name] = Gate(name, groups=some, wait_s=rng.choice([0.0, 90.0, 700.0]))
                case "at":
                    gates[name] = Gate(name, groups=some, at="06:10")
                case _:
                    gates[name] = Gate(name, ask="Plug it in", groups=some, control=True)
        return gates

    def parameters(self) -> Parameters:
        rng, on = self._rng, self._on
        found = FIELD if "field" in on else CALM
        if "faults" in on:
            found = replace(
                ROUGH,
                **{name: getattr(found, name) for name in ("restore_last_share", "restore_on_share", "epidemics")},
            )
        if "on" in on:
            found = replace(found, on_share=0.3, restore_on_share=0.2)
        if "storms" in on:
            found = replace(found, storms=(Storm(0.8, Uniform(0.0, 400.0), everywhere=rng.random() < 0.5),))
        if "meter" in on or "measure" in on:
            found = replace(found, meter_factor=Lognormal(1.0, 1.2, 0.95))
        return found

    # -- what happens ---------------------------------------------------------------------

    def selected(self, plan: Plan) -> tuple[str, ...]:
        if "limit" not in self._on:
            return ()
        return tuple(name for name in plan.hosts if self._rng.random() < 0.4) or (next(iter(plan.hosts)),)

    def script(self, plan: Plan, selected: tuple[str, ...]) -> list[Event]:
        rng, on = self._rng, self._on
        found: list[Event] = []

        def when() -> float:
            return round(rng.choice([rng.uniform(0.0, 60.0), rng.uniform(0.0, 900.0), rng.uniform(0.0, 4000.0)]), 2)

        def times(feature: str, most: int) -> range:
            return range(rng.randint(1, most) if feature in on else 0)

        for _ in times("say_limits", 4):
            if plan.limits.slots and rng.random() < 0.5:
                kind = rng.choice(list(plan.limits.slots))
                values = {
                    "rack": ["rack:r0"],
                    "image_server": ["image_server:pxe-0"],
                    "bmc_per_subnet": ["bmc:127.1.0"],
                }
                name = rng.choice([kind, *values.get(kind, [])])
                found.append(LimitSet(when(), "slot", name, float(rng.choice([0, 1, 1, 2, 8])), by="kim"))
            elif plan.limits.feeds:
                feed = rng.choice(list(plan.limits.feeds))
                limit = plan.limits.feeds[feed]
                value = (limit.budget_watts or 3000.0) * rng.choice([0.0, 0.5, 0.8, 1.5, 3.0])
                ramp = rng.choice([None, None, 900.0]) if ":" not in feed else None
                found.append(LimitSet(when(), "feed", feed, value, ramp, rng.choice([None, None, 20.0]), by="kim"))
        feeds = sorted({path: None for host in plan.hosts.values() for cord in host.feeds for path in feed_path(cord)})
        for _ in times("say_feeds", 3):
            if feeds:
                feed, lost_t = rng.choice(feeds), when()
                found.append(FeedLost(lost_t, feed, "kim"))
                if rng.random() < 0.8:
                    found.append(FeedReturned(lost_t + rng.choice([0.0, 5.0, 400.0, 2000.0]), feed, "kim"))
        for feed, limit in plan.limits.feeds.items():
            if limit.dark and rng.random() < 0.6:
                found.append(FeedReturned(when(), feed, "kim"))
        for _ in times("say_scope", 2):
            if selected:
                more = tuple(name for name in plan.hosts if rng.random() < 0.4)
                found.append(ScopeAdded(when(), "more", more, "kim"))
        said = times("say_tiers", 3)
        found += [TierSet(when(), rng.choice(list(plan.groups)), rng.randint(0, 3), "kim") for _ in said]
        asking = [gate.name for gate in plan.gates.values() if gate.ask and ("say_gates" in on or rng.random() < 0.6)]
        found += [GateOpened(when(), gate, "kim") for gate in asking]
        for group in plan.groups.values():
            if group.first is not None and ("say_chosen" in on or (group.first.ask and rng.random() < 0.6)):
                for _ in range(rng.randint(1, 2)):
                    host = rng.choice(group.first.candidates or group.hosts)
                    found.append(Chosen(when(), group.name, host, "kim"))
        for _ in times("say_pause", 2):
            paused_t = when()
            found += [Paused(paused_t, "kim"), Continued(paused_t + rng.choice([0.0, 5.0, 300.0, 3000.0]), "lee")]
        found += [BreakerReset(when(), "", "kim") for _ in times("say_breakers", 2)]
        for _ in times("say_hosts", 8):
            some = tuple(name for name in plan.hosts if rng.random() < 0.3)
            word = rng.choice(_OF_HOSTS)
            if some or word is Retried:
                found.append(word(when(), some, "some", "kim"))
        if "say_abort" in on and rng.random() < 0.4:
            found += [Aborted(when(), "kim", at_once=rng.random() < 0.4) for _ in range(rng.randint(1, 2))]
        return found


# -- running a case ---------------------------------------------------------------------


@dataclass
class Played:
    engine: Engine
    checker: Checker
    events: list[Event]
    verdict: str

    def log(self) -> str:
        return "\n".join(map(encode, self.events))


def play(case: Case, *, kills: bool = True, check: Callable[[Event], None] | None = None) -> Played:
    """The case from its beginning to its end, checked after every event. Raises ``CaseFailed``."""
    world = World(case.plan, case.seed, case.parameters)
    simulation = Simulation(Engine(case.plan), world, case.script)
    checker = Checker(case.plan)
    everything: list[Event] = []
    journal: list[str] = []

    def tell(events: Sequence[Event]) -> None:
        for event in events:
            everything.append(event)
            if getattr(event, "durable", True):
                journal.append(encode(event))
            try:
                checker(event)
            except InvariantBroken as error:
                raise CaseFailed(str(error)) from error

    tell(simulation.start(case.seed, "x" if case.selected else "", case.selected, wall=_WALL, open_gates=False))
    stops = list(case.stops) if kills else []
    reopens = case.reopened
    steps = at_once = 0
    while True:
        if stops and steps >= stops[0]:
            stops.pop(0)
            steps = 0
            simulation = _killed(case, simulation, world, journal, tell)
        if verdict := simulation.verdict():
            if not reopens or verdict not in ("done", "aborted"):
                break
            reopens = False
            end = RunEnded(simulation.now, verdict, "")
            simulation.engine.apply(end)
            tell([end])
            simulation = _killed(case, simulation, world, journal, tell, Retried(simulation.now, (), "", "kim"))
            continue
        before = simulation.now
        tell(simulation.step())
        steps += 1
        at_once = at_once + 1 if simulation.now == before else 0
        if at_once > MOST_AT_ONCE or steps > MOST_STEPS:
            raise CaseFailed(f"no end: {steps} steps, {at_once} of them at {simulation.now} s of virtual time")
    end = RunEnded(simulation.now, verdict, "")
    simulation.engine.apply(end)
    tell([end])
    played = Played(simulation.engine, checker, everything, verdict)
    _judge(case, played, journal)
    return played


_WALL = "2026-01-10T06:00:00+00:00"


def _killed(
    case: Case,
    simulation: Simulation,
    world: World,
    journal: list[str],
    tell: Callable[[Sequence[Event]], None],
    *words: Event,
) -> Simulation:
    """The process ends here, and another goes on, with ``words`` to it. Of what was under way some had its effect and
    some had not."""
    for number, intent in enumerate(simulation.interrupted()):
        if intent.kind in (Kind.POWER_ON, Kind.POWER_CYCLE) and (case.applied >> (number % 3)) & 1:
            world.finish(intent, simulation.now)
    engine = Engine(case.plan, replay(case.plan, map(decode, journal)))
    engine.state.advance(simulation.now)
    simulation.engine.state.advance(simulation.now)
    if list(engine.state.durable()) != list(simulation.engine.state.durable()):
        raise CaseFailed(
            f"the journal gives another state at {simulation.now}: {difference(simulation.engine, engine)}"
        )
    if lost := [i for i in simulation.interrupted() if i.durable and i.id not in engine.state.open]:
        raise CaseFailed(f"effects left without their intents on disk: {lost}")
    tell(resume(engine, simulation.now, 0.0, _WALL, "swarm"))
    again = Simulation(engine, world, simulation.to_come())
    again.now = simulation.now
    for word in words:
        tell(again.say(word))
    return again


def difference(one: Engine, other: Engine) -> str:
    pairs = zip(one.state.durable(), other.state.durable(), strict=True)
    return "; ".join(f"{a} / {b}" for a, b in pairs if a != b)


def _judge(case: Case, played: Played, journal: list[str]) -> None:
    engine, checker = played.engine, played.checker
    state = engine.state
    for name, host in state.hosts.items():
        if checker.outcome.get(name) is not host.outcome:
            raise CaseFailed(f"{name} is {host.outcome}, its events say {checker.outcome.get(name)}")
    again = replay(case.plan, map(decode, journal))
    again.advance(state.t)
    state.advance(state.t)
    if list(again.durable()) != list(state.durable()):
        raise CaseFailed(f"the journal gives another state: {difference(engine, Engine(case.plan, again))}")
    if unended := [i for i in again.open.values() if i.kind not in (Kind.FEED_METER, Kind.GATE_CHECK)]:
        raise CaseFailed(f"effects without an end: {unended}")
    if played.verdict == "stopped":
        left = [name for name in case.plan.hosts if name not in checker.outcome]
        if unexplained := [name for name in left if not why_not(case.plan, checker, name, state.t)]:
            where = "; ".join(f"{n}: {state.hosts[n].stage} parked {state.hosts[n].parked}" for n in unexplained)
            raise CaseFailed(f"stopped, and could go on: {where}")
    elif played.verdict not in ("done", "aborted"):
        raise CaseFailed(f"ends {played.verdict}")
    elif state.slots.used():
        raise CaseFailed(f"slots are held after the end: {state.slots.used()}")


def why_not(plan: Plan, checker: Checker, name: str, now: float) -> str:
    """Why a host without an outcome cannot move; empty when nothing holds it back."""
    host = plan.hosts[name]
    if checker.dark(name):
        return "without electricity"
    if checker.breaker(name):
        return "its breaker has tripped"
    if gates := list(checker.closed_gates(host.group)):
        return f"gate {gates[0]} is closed"
    if not checker.impossible(name) and (waits := list(checker.waits_for(name))):
        return waits[0]
    later = now + 3600.0  # when ramps and inrush are long over
    checker.power.believing = True  # nobody reads meters while nothing goes on
    if name not in checker.power.level and (short := list(checker.power.short(name, checker.tier.get(name, 0), later))):
        return short[0]
    if why := checker.no_cycle(name):
        return why
    return checker.full_slot(name)
