"""Slices: who goes together, with how many forks, who first; and what becomes of a slice that was lost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.engine import Engine
from bootorch.core.events import Adapted, Answer, FeedLost, Intent, Kind, LimitSet, RunStarted
from bootorch.core.model import AdoptedPolicy, Breaker, Limits, Outcome
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.recovery import replay, resume
from bootorch.core.slices import LANES, SLICE_HOSTS, SLICE_ROUNDS
from tests.core.test_engine import OFF, ON, Reply, World
from tests.plans import group, make_plan


@dataclass
class Slow(World):
    """Hosts run already; a slice takes 60 s for each round of its hosts."""

    ends: list[tuple[float, Intent]] = field(default_factory=list)

    def healthy(self, name: str, kind: Kind) -> Reply:
        return ON if kind is Kind.POWER_READ else Reason.OK

    def slices(self) -> list[Intent]:
        return [event for event in self.events if isinstance(event, Intent) and event.kind is Kind.REDEPLOY]

    def spans(self) -> list[tuple[float, float, Intent]]:
        """Begin and end of every slice, and its intent."""
        ended = {event.id: event.t for event in self.events if isinstance(event, Answer)}
        return [(intent.t, ended[intent.id], intent) for intent in self.slices()]

    def most_forks(self, of: str = "") -> int:
        """Forks under way at the busiest moment, of the slices whose hosts' ``artefact_server`` is ``of``."""
        hosts = self.engine.plan.hosts
        spans = [s for s in self.spans() if not of or hosts[s[2].hosts[0]].fact("artefact_server") == of]
        return max(
            sum(int(intent.args["forks"]) for begin, end, intent in spans if begin <= t < end) for t, _, _ in spans
        )


def slow(plan: Plan, **settings: object) -> Slow:
    world = Slow(Engine(plan), **settings)  # type: ignore[arg-type]
    answer = world.answer
    held: dict[int, float] = {}

    def later(intent: Intent) -> None:
        rounds = -(-len(intent.hosts) // int(intent.args["forks"])) if intent.kind is Kind.REDEPLOY else 0
        due_t = held.setdefault(intent.id, intent.t + max(world.delay_s, 60.0 * rounds))
        if world.now < due_t:
            world.pending.append((due_t, intent.id, intent))
            world.pending.sort(key=lambda entry: entry[:2])
        else:
            answer(intent)

    world.answer = later  # type: ignore[method-assign]
    return world


def redeploys(**settings: object) -> object:
    return group(redeploy=("/a.yml",), adopted=AdoptedPolicy.REDEPLOY, **settings)


def plan_of(groups: dict[str, tuple[int, object]], forks: int, **limits: object) -> Plan:
    slots = {"redeploy_forks": forks, **limits.pop("slots", {})}  # type: ignore[dict-item]
    facts = limits.pop("facts", None)
    return make_plan(groups, Limits(slots=slots, **limits), facts=facts)  # type: ignore[arg-type]


def test_a_long_queue_is_shared_by_slices_that_end_together() -> None:
    facts = {f"g{n + 1}": {"rack": "r1"} for n in range(300)}
    world = slow(plan_of({"g": (300, redeploys())}, 50, facts=facts))
    assert world.run() == "done"
    slices = world.slices()
    assert [(len(s.hosts), s.args["forks"]) for s in slices] == [(78, 13), (78, 13), (72, 12), (72, 12)]
    assert len(slices) == LANES
    assert world.most_forks() <= 50
    assert {s.t for s in slices} == {slices[0].t}, "none waits for another"


def test_the_last_slices_of_a_very_long_queue_are_short() -> None:
    world = slow(plan_of({"g": (1000, redeploys())}, 20))
    assert world.run() == "done"
    spans = world.spans()
    assert world.most_forks() == 20
    lasted = max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)
    assert lasted <= 1.1 * 60 * 1000 / 20, "forks are never idle for long"


def test_a_short_queue_is_one_slice_with_a_fork_to_each_host() -> None:
    world = slow(plan_of({"g": (12, redeploys())}, 50))
    assert world.run() == "done"
    assert [(len(s.hosts), s.args["forks"]) for s in world.slices()] == [(12, 12)]


def test_a_slice_has_the_hosts_of_few_racks() -> None:
    facts = {f"g{n + 1}": {"rack": f"r{n % 12:02}"} for n in range(300)}
    plan = plan_of({"g": (300, redeploys())}, 40, facts=facts)
    world = slow(plan)
    assert world.run() == "done"
    racks = [{plan.hosts[host].rack for host in s.hosts} for s in world.slices()]
    assert sum(map(len, racks)) == 12, "every rack is whole in one slice"


def test_a_large_group_does_not_starve_a_small_one() -> None:
    """The small one's hosts come when all forks are taken: they get the next that are free."""
    world = slow(plan_of({"big": (1500, redeploys()), "late": (5, redeploys())}, 16))
    for number in range(1, 6):
        world.script[f"late{number}", Kind.BOOT_PROBE] = [Reason.UNREACHABLE, Reason.UNREACHABLE, Reason.OK]
    world.run()
    spans = world.spans()
    late = [begin for begin, _, intent in spans if intent.target == "late"]
    came_t = min(
        e.t for e in world.events if isinstance(e, Answer) and e.target == "late1" and e.kind is Kind.BOOT_PROBE
    )
    ends = sorted(end for begin, end, intent in spans if intent.target == "big" and end > came_t)
    assert late[0] <= ends[1], "within two ends of the large one's slices"


TOGETHER = {"together": True, "redeploy": ("/a.yml", "/b.yml")}


def late(world: World, host: str, looks: int) -> None:
    """The host is seen booted after so many looks."""
    world.script[host, Kind.BOOT_PROBE] = [
        *[Reason.UNREACHABLE] * looks,
        (Reason.OK, {"boot_id": "b", "uptime_s": 1.0}),
    ]


def test_members_that_belong_together_wait_for_each_other_before_every_playbook() -> None:
    world = World(Engine(plan_of({"db": (3, group(**TOGETHER)), "web": (3, group(redeploy=("/w.yml",)))}, 50)))
    for number in range(1, 4):
        late(world, f"db{number}", 10 * number)
        late(world, f"web{number}", 10 * number)
    assert world.run() == "done"
    slices = [e for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    assert [(e.args["playbook"], e.hosts) for e in slices if e.target == "db"] == [
        (0, ("db1", "db2", "db3")),
        (1, ("db1", "db2", "db3")),
    ]
    assert len([e for e in slices if e.target == "web"]) == 3, "others leave as they come"


def test_who_failed_is_tried_again_before_the_others_go_on() -> None:
    failed = {"db2": 1, "db3": 2}

    def verdict(intent: Intent, host: str) -> tuple[str, str]:
        if intent.args["playbook"] == 0 and failed.get(host, 0) > 0:
            failed[host] -= 1
            return ("task_failed", "no")
        return ("ok", "")

    world = World(Engine(plan_of({"db": (3, group(**TOGETHER))}, 50)), verdict=verdict)
    assert world.run() == "done"
    slices = [e for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    assert [(e.args["playbook"], e.hosts) for e in slices] == [
        (0, ("db1", "db2", "db3")),
        (0, ("db2", "db3")),
        (0, ("db3",)),
        (1, ("db1", "db2", "db3")),
    ]


def test_who_cannot_come_is_not_waited_for() -> None:
    """One is quarantined, one loses its electricity: the others go as soon as that is known."""
    facts = {"db4": {"feeds": ("attic",)}}
    world = World(Engine(plan_of({"db": (4, group(**TOGETHER))}, 50, facts=facts)))
    world.script["db3", Kind.POWER_READ] = [Reason.BMC_AUTH_FAILED]
    world.script["db4", Kind.BOOT_PROBE] = [Reason.UNREACHABLE]
    world.run(until=60.0)
    assert not [e for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    world.tell(FeedLost(world.now, "attic", "kim"))
    lost_t = world.now
    world.run(until=70.0)
    first = next(e for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY)
    assert (first.hosts, first.t) == (("db1", "db2"), lost_t)


def test_nobody_is_waited_for_when_nothing_moves_any_more() -> None:
    """One member's model was stopped by a breaker, which waits for a person."""
    facts = {"db3": {"model": "bad"}, "x1": {"model": "bad"}, "x2": {"model": "bad"}}
    plan = plan_of(
        {"db": (3, group(**TOGETHER)), "x": (2, group())}, 50, facts=facts, breaker=Breaker(same_model_failures=2)
    )
    world = World(Engine(plan))
    for name in ("x1", "x2"):
        world.script[name, Kind.POWER_READ] = [Reason.BMC_AUTH_FAILED]
    world.script["db3", Kind.POWER_READ] = [Reason.BMC_UNREACHABLE] * 3 + [OFF]
    assert world.run() == "stopped"
    slices = [e.hosts for e in world.events if isinstance(e, Intent) and e.kind is Kind.REDEPLOY]
    assert slices == [("db1", "db2"), ("db1", "db2")]
    assert world.outcome("db3")[0] is None


def test_a_more_urgent_tier_goes_first_and_equal_ones_share() -> None:
    plan = plan_of({"a": (200, redeploys(tier=2)), "b": (200, redeploys(tier=2)), "c": (30, redeploys(tier=0))}, 16)
    world = slow(plan)
    world.run()
    slices = world.slices()
    assert slices[0].target == "c"
    both = [s.target for s in slices if s.target != "c"][:6]
    assert both.count("a") == both.count("b") == 3


def test_failed_hosts_of_several_slices_are_run_again_together() -> None:
    failing = {f"g{n}" for n in range(1, 300, 20)}
    world = slow(plan_of({"g": (300, redeploys())}, 50))
    world.verdict = lambda i, h: ("task_failed", "x") if h in failing and i.attempt == 1 else ("ok", "")
    assert world.run() == "done"
    again = [s for s in world.slices() if s.attempt > 1]
    assert {host for s in again for host in s.hosts} == failing
    assert sum(len(s.hosts) for s in again) == len(failing), "nobody else"
    assert len(again) <= 2


# -- servers that playbooks fetch from --------------------------------------------------------------


def served(count: int, servers: int) -> dict[str, dict[str, object]]:
    return {f"g{n + 1}": {"facts": {"artefact_server": f"apt-{n % servers}"}} for n in range(count)}


def test_forks_at_a_server_stay_within_its_limit() -> None:
    plan = plan_of(
        {"g": (120, redeploys())},
        40,
        slots={"artefact_server": 6},
        during={"artefact_server": ("redeploy",)},
        facts=served(120, 3),
    )
    world = slow(plan)
    assert world.run() == "done"
    for server in ("apt-0", "apt-1", "apt-2"):
        assert world.most_forks(server) == 6
    for intent in world.slices():
        assert len({plan.hosts[host].fact("artefact_server") for host in intent.hosts}) == 1
    assert world.engine.state.slots.used() == {}


def test_a_server_without_room_holds_nobody_else_back_and_a_raised_limit_lets_go() -> None:
    plan = plan_of(
        {"g": (20, redeploys()), "free": (5, redeploys())},
        40,
        slots={"artefact_server": 0},
        during={"artefact_server": ("redeploy",)},
        facts=served(20, 1),
    )
    world = slow(plan)
    assert world.run() == "stopped"
    assert {s.target for s in world.slices()} == {"free"}
    world.tell(LimitSet(world.now, "slot", "artefact_server:apt-0", 4.0))
    assert world.run() == "done"
    assert world.most_forks("apt-0") == 4


def test_hosts_of_a_full_server_do_not_make_those_of_another_leave_one_by_one() -> None:
    """What waits for a server has waited long; who comes for another still waits for company."""
    facts = {f"g{n + 1}": {"facts": {"artefact_server": "full" if n < 10 else "free"}} for n in range(40)}
    plan = plan_of(
        {"g": (40, redeploys())},
        40,
        slots={"artefact_server": 5},
        during={"artefact_server": ("redeploy",)},
        facts=facts,
    )
    world = slow(plan)
    for n in range(11, 41):  # one more every 0.1 s, after those of the first server have lingered
        world.script[f"g{n}", Kind.BOOT_PROBE] = [*[Reason.UNREACHABLE] * (6 + n % 3), Reason.OK]
    world.tell(RunStarted(0.0, "r", plan.name, "", len(plan.hosts), 1, "", "test"))
    world.tell(LimitSet(0.0, "slot", "artefact_server:full", 0.0))
    world.run(until=100.0)
    world.tell(LimitSet(world.now, "slot", "artefact_server:full", 5.0))
    assert world.run() == "done"
    alone = [s for s in world.slices() if plan.hosts[s.hosts[0]].fact("artefact_server") == "free"]
    assert len(alone) <= 4, [(s.t, len(s.hosts)) for s in alone]


def test_a_server_that_is_overloaded_gets_half_at_once_and_grows_slowly() -> None:
    plan = plan_of(
        {"g": (24, redeploys())},
        64,
        slots={"artefact_server": 16},
        adaptive={"artefact_server": 2},
        during={"artefact_server": ("redeploy",)},
        facts=served(24, 1),
    )
    world = slow(plan)
    world.verdict = lambda i, _: ("task_failed", "503") if i.attempt == 1 and int(i.args["forks"]) > 4 else ("ok", "")
    assert world.run() == "done"
    adapted = [e for e in world.events if isinstance(e, Adapted)]
    assert {e.slot for e in adapted} == {"artefact_server:apt-0"}
    assert adapted[0].limit == 8, "half of what was in use"
    grown = [b.limit - a.limit for a, b in itertools.pairwise(adapted) if b.limit > a.limit]
    assert set(grown) <= {1}


# -- lost, interrupted ------------------------------------------------------------------------


def test_a_lost_slice_is_read_back_and_run_again() -> None:
    plan = make_plan({"g": (4, redeploys())})  # type: ignore[dict-item]
    world = slow(plan)
    world.verdict = lambda i, _: ("slice_lost", "no statistics") if i.attempt < 3 else ("ok", "")
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.ADOPTED, Reason.OK)
    assert [s.attempt for s in world.slices()] == [1, 2, 3]
    order = [kind for target, kind in world.did if target in ("g", "g1") and kind in (Kind.REDEPLOY, Kind.READY_CHECK)]
    assert order == [Kind.REDEPLOY, Kind.READY_CHECK, Kind.REDEPLOY, Kind.READY_CHECK, Kind.REDEPLOY]


def test_a_slice_that_is_lost_every_time_ends_in_quarantine_with_its_reason() -> None:
    world = slow(make_plan({"g": (2, redeploys())}))  # type: ignore[dict-item]
    world.verdict = lambda _i, _h: ("slice_lost", "no statistics")
    assert world.run() == "done"
    assert world.outcome("g1") == (Outcome.QUARANTINED, Reason.SLICE_LOST)
    assert world.engine.state.hosts["g1"].detail == "no statistics"


def test_after_a_kill_the_slice_is_read_back_and_earlier_playbooks_are_not_run_again() -> None:
    plan = make_plan({"g": (3, group(redeploy=("/a.yml", "/b.yml", "/c.yml"), adopted=AdoptedPolicy.REDEPLOY))})
    world = slow(plan)
    world.run(until=100.0)
    assert [s.args["playbook"] for s in world.slices()] == [0, 1]
    events = list(world.events)
    revived = slow(plan)
    revived.engine = Engine(plan, replay(plan, events))
    revived.now = world.now
    revived.events += resume(revived.engine, world.now, 5.0, "", "test")
    assert revived.run() == "done"
    assert [s.args["playbook"] for s in revived.slices()] == [1, 2]
    first = [kind for target, kind in revived.did if target in ("g", "g1")]
    assert first[0] is Kind.READY_CHECK
    assert revived.engine.state.hosts["g1"].redeploy_attempts == 0


# -- whatever comes ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=4),
    forks=st.integers(1, 60),
    servers=st.integers(1, 4),
    limit=st.integers(1, 12),
    failing=st.integers(0, 7),
)
def test_every_host_is_run_by_one_slice_at_a_time_within_all_limits(
    sizes: list[int], forks: int, servers: int, limit: int, failing: int
) -> None:
    names = [f"{'abcd'[index]}{n + 1}" for index, size in enumerate(sizes) for n in range(size)]
    facts = {name: {"facts": {"artefact_server": f"s{number % servers}"}} for number, name in enumerate(names)}
    plan = plan_of(
        {"abcd"[index]: (size, redeploys()) for index, size in enumerate(sizes)},
        forks,
        slots={"artefact_server": limit},
        during={"artefact_server": ("redeploy",)},
        facts=facts,
    )
    world = slow(plan)
    again = {name for number, name in enumerate(names) if failing and number % 8 == failing}
    world.verdict = lambda i, h: ("task_failed", "x") if h in again and i.attempt == 1 else ("ok", "")
    assert world.run() == "done"
    runs: dict[str, list[tuple[float, float]]] = {}
    for begin, end, intent in world.spans():
        assert 1 <= len(intent.hosts) <= min(SLICE_HOSTS, SLICE_ROUNDS * int(intent.args["forks"]))
        for host in intent.hosts:
            runs.setdefault(host, []).append((begin, end))
    assert world.most_forks() <= forks
    assert all(
        world.most_forks(server) <= limit for server in {str(f["facts"]["artefact_server"]) for f in facts.values()}
    )  # type: ignore[index]
    assert set(runs) == set(names)
    for host, spans in runs.items():
        assert all(a[1] <= b[0] for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False)), host
        # A slice's attempt is that of its host with the most: who joins a retry is not failed by this world.
        assert len(spans) <= 2
