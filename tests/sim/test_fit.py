"""Fitting: from the durable events of simulated runs back to the parameters that they were made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.codec import decode, encode
from bootorch.core.engine import Engine
from bootorch.core.events import Answer, Event, Intent, Kind, RunStarted, Settled
from bootorch.core.model import Attempts, CommandCheck, Deadlines, Group, Outcome, Quorum, Requirement
from bootorch.core.plan import Plan
from bootorch.core.reasons import Reason
from bootorch.core.report import Report
from bootorch.sim.distributions import NOTHING, Distribution, Lognormal, Quantiles, Uniform
from bootorch.sim.fit import LEAST, describe, fit
from bootorch.sim.leastsquares import non_negative
from bootorch.sim.machine import BootFailure
from bootorch.sim.observe import observe
from bootorch.sim.parameters import CALM, FIELD, ModelParameters, Parameters, PlaybookParameters
from bootorch.sim.run import Simulation
from bootorch.sim.world import Finished, World
from tests.plans import make_plan

KNOWN = replace(
    CALM,
    scale_to_deadlines=False,
    bmc_boot=Uniform(0.0, 40.0),
    dead_bmc_share=0.02,
    exchange=Uniform(0.05, 0.15),
    command=Uniform(0.2, 0.3),
    login=Uniform(0.3, 0.5),
    refusal=Uniform(0.01, 0.02),
    power=Uniform(2.0, 10.0),
    boot=Uniform(60.0, 180.0),
    silent_power_share=0.05,
    busy_share=0.04,
    no_post_share=0.06,
    failures={BootFailure.NO_POST: 1.0, BootFailure.KERNEL_PANIC: 1.0},
    ready=Uniform(20.0, 40.0),
    playbook=Lognormal(30.0, 33.0, 0.95),
    playbook_host_share=0.05,
    task_failed_share=0.04,
    models={"slow": ModelParameters(boot=Uniform(300.0, 400.0))},
    playbooks={"b.yml": PlaybookParameters(takes=Lognormal(90.0, 99.0, 0.95))},
)


@cache
def plan() -> Plan:
    group = Group(
        "web",
        (),
        ready=(CommandCheck("systemctl is-system-running"),),
        redeploy=("/plays/a.yml", "/plays/b.yml"),
        deadlines=Deadlines(boot=900.0),
        attempts=Attempts(power=4, boot=1, redeploy=5),
    )
    models: dict[str, dict[str, object]] = {
        f"web{i + 1}": {"model": "slow" if i % 4 == 0 else "m1"} for i in range(500)
    }
    return make_plan({"dns": (40, replace(group, redeploy=("/plays/a.yml",))), "web": (500, group)}, facts=models)


class Unhinted(World):
    """Servers that do not say when another look is worth while, as real ones: they are looked at again and again."""

    def finish(self, intent: Intent, now: float, place: int | None = None) -> Finished:
        reason, detail, data, verdicts = super().finish(intent, now, place)
        return reason, detail, {key: value for key, value in data.items() if key != "retry_after_s"}, verdicts


def journal(plan: Plan, seed: int, parameters: Parameters) -> list[Event]:
    """What a journal keeps of a run."""
    simulation = Simulation(Engine(plan), Unhinted(plan, seed, parameters))
    events = [*simulation.start(seed), *simulation.run()]
    return [decode(encode(event)) for event in events if getattr(event, "durable", True)]


@cache
def runs() -> tuple[tuple[Plan, list[Event]], ...]:
    return tuple((plan(), journal(plan(), seed, KNOWN)) for seed in (1, 2))


@cache
def fitted() -> Parameters:
    return fit(runs(), FIELD).parameters


def middle(distribution: Distribution | None) -> tuple[float, float, float]:
    assert distribution is not None
    return distribution.quantile(0.1), distribution.quantile(0.5), distribution.quantile(0.9)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("exchange", 0.05), ("command", 0.05), ("login", 0.1), ("power", 0.15), ("boot", 0.05), ("bmc_boot", 0.35)],
)
def test_times_are_recovered(name: str, tolerance: float) -> None:
    known, found = getattr(KNOWN, name), getattr(fitted(), name)
    if name == "boot":  # all models together; the slow one's own is below
        known, found = Uniform(60.0, 180.0), fitted().boot
        assert found.quantile(0.35) == pytest.approx(known.quantile(0.35 / 0.76), rel=tolerance)
        return
    low, median, high = middle(known)
    assert found.quantile(0.5) == pytest.approx(median, rel=tolerance)
    assert found.quantile(0.9) == pytest.approx(high, rel=tolerance)
    if name != "bmc_boot":  # before the first look nobody knows
        assert found.quantile(0.1) == pytest.approx(low, rel=tolerance)


def test_a_model_that_boots_otherwise_has_times_of_its_own() -> None:
    slow = fitted().models["slow"].boot
    assert middle(slow) == pytest.approx(middle(Uniform(300.0, 400.0)), rel=0.03)
    assert fitted().samples["models.slow.boot"] > 200


def test_shares_are_recovered() -> None:
    found = fitted()
    assert found.dead_bmc_share == pytest.approx(0.02, abs=0.008)
    assert found.silent_power_share == pytest.approx(0.05, abs=0.015)
    assert found.busy_share == pytest.approx(0.04, abs=0.02)
    assert found.no_post_share == pytest.approx(0.06, abs=0.015)
    assert found.task_failed_share == pytest.approx(0.04, abs=0.012)
    assert found.failures[BootFailure.KERNEL_PANIC] == pytest.approx(found.failures[BootFailure.NO_POST], rel=0.5)
    assert found.tail_share == found.slow_power_share == found.loss_share == 0.0


def test_ready_delays_and_playbooks_are_recovered() -> None:
    found = fitted()
    assert found.ready.quantile(0.5) == pytest.approx(30.0, rel=0.1)
    a, b = found.playbooks["a.yml"], found.playbooks["b.yml"]
    assert a.takes is not None
    assert b.takes is not None
    slice_s = {name: own.takes.quantile(0.5) * (1 + (own.host_share or 0) * 199 + (own.round_share or 0) * 3)
               for name, own in (("a", a), ("b", b)) if own.takes is not None}  # fmt: skip
    assert slice_s["a"] == pytest.approx(30.0 * (1 + 0.05 * 199), rel=0.25)
    assert slice_s["b"] == pytest.approx(90.0 * (1 + 0.05 * 199), rel=0.25)


def test_hosts_that_keep_to_a_time_of_their_own_are_known_by_it() -> None:
    base = replace(
        KNOWN, hosts={name: 60.0 + i for i, name in enumerate(plan().hosts)}, repeat=Lognormal(1.0, 1.05, 0.95)
    )
    again = fit([(plan(), journal(plan(), seed, base)) for seed in (3, 4)], FIELD).parameters
    assert again.repeat is not None
    assert again.repeat.quantile(0.95) < 1.15
    assert again.hosts["web100"] == pytest.approx(base.hosts["web100"], rel=0.15)
    # Drawn anew in each run, a host has no time of its own; it is still told, for the order.
    assert fitted().repeat is None
    assert len(fitted().hosts) > 450


def test_a_forecast_with_fitted_parameters_holds_the_runs_of_the_known_ones() -> None:
    group = plan().groups["dns"]
    small = make_plan(
        {"dns": (10, group), "web": (50, replace(group, requires=(Requirement("dns", Quorum(share=0.5)),)))}
    )

    def makespan(parameters: Parameters, seed: int) -> float:
        return Report.of(small, journal(small, seed, parameters)).elapsed_s

    forecast = sorted(makespan(fitted(), seed) for seed in range(9))
    measured = sorted(makespan(KNOWN, seed) for seed in range(100, 109))
    assert forecast[4] == pytest.approx(measured[4], rel=0.15)


def test_a_dead_host_is_no_long_boot() -> None:
    dead = replace(KNOWN, no_post_share=0.5)
    found = fit([(plan(), journal(plan(), 1, dead))], FIELD).parameters
    assert found.no_post_share == pytest.approx(0.5, abs=0.06)
    assert found.boot.quantile(1.0) < 900.0


def test_without_journals_the_base_stays() -> None:
    found = fit([], FIELD).parameters
    assert replace(found, scale_to_deadlines=True, failures=FIELD.failures, restore_on_share=0.1) == replace(
        FIELD, command=FIELD.exchange, login=FIELD.exchange, repeat=None
    )
    assert found.samples == {}


def test_a_journal_without_its_end_is_worth_what_it_holds() -> None:
    whole = runs()[0][1]
    observed = observe([(plan(), whole[: len(whole) * 2 // 3])])
    assert 0 < len(observed.boots) < len(observe(runs()[:1]).boots)


def test_what_was_up_at_the_first_look_waited_for_nothing() -> None:
    small = make_plan({"web": (2, Group("web", ()))})
    events: list[Event] = [RunStarted(0.0, "r", "test", "0" * 64, 2, 1, "", "kim")]
    for number, name in enumerate(small.hosts):
        events.append(Intent(1.0, number + 1, Kind.POWER_READ, name))
        events.append(Answer(1.1, number + 1, Kind.POWER_READ, name, Reason.OK, data={"power": "off"}))
        events.append(Settled(2.0, name, Outcome.SKIPPED))
    assert fit([(small, events)], FIELD).parameters.bmc_boot == NOTHING


# -- the parts ----------------------------------------------------------------------------------


def _samples(distribution: Distribution, count: int) -> list[float]:
    return [distribution.sample((i + 0.5) / count) for i in range(count)]


def test_the_kind_of_distribution_follows_the_data() -> None:
    base = FIELD.boot
    lognormal, uniform = Lognormal(300.0, 720.0, 0.95), Uniform(2.0, 6.0)
    two_humps = [*_samples(Uniform(1.0, 2.0), 60), *_samples(Uniform(50.0, 60.0), 60)]
    assert isinstance(describe(_samples(lognormal, 100), base), Lognormal)
    assert isinstance(describe(_samples(uniform, 100), base), Uniform)
    assert isinstance(describe(two_humps, base), Quantiles)
    for known in (lognormal, uniform):
        assert middle(describe(_samples(known, 100), base)) == pytest.approx(middle(known), rel=0.06)


@given(st.integers(1, LEAST - 1), st.floats(1.0, 1000.0))
def test_few_samples_lie_between_what_they_say_and_the_base(count: int, value: float) -> None:
    found = describe([value] * count, FIELD.boot).quantile(0.5)
    assert min(value, 300.0) * 0.999 <= found <= max(value, 300.0) * 1.001


@given(
    st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 10.0)), min_size=6, max_size=30),
    st.floats(0.5, 5.0),
    st.floats(0.5, 5.0),
)
def test_least_squares_find_exact_weights_and_none_below_zero(
    points: Sequence[tuple[float, float]], first: float, second: float
) -> None:
    rows = [(1.0 + x, y) for x, y in points]
    weights = non_negative(rows, [first * a + second * b for a, b in rows])
    assert min(weights) >= 0
    for a, b in rows:
        assert weights[0] * a + weights[1] * b == pytest.approx(first * a + second * b, rel=1e-3, abs=1e-3)
