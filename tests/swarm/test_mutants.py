"""The checkers find what they are for: an engine with one rule broken fails within a few dozen seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bootorch.core import change, steering
from bootorch.core.admission import Admission
from bootorch.core.dependencies import Need, Status
from bootorch.core.engine import Engine
from bootorch.core.events import Quarantined, Skipped
from bootorch.core.hoststate import HostState
from bootorch.core.limits import Feed, Feeds
from bootorch.core.model import Outcome
from bootorch.core.slices import SLICE_FORKS, Slices
from bootorch.core.slots import Slots
from bootorch.core.state import State
from bootorch.sim.swarm import CaseFailed, make_case, play

Patch = pytest.MonkeyPatch
MOST = 800  # some rules are broken in one recovery of 400; one takes 10 ms


def always_room(patch: Patch) -> None:
    patch.setattr(Feeds, "held_back", lambda *_: iter(()))


def no_ramp(patch: Patch) -> None:
    patch.setattr(Feeds, "_ramp_full", lambda *_: False)


def no_inrush(patch: Patch) -> None:
    patch.setattr(Feeds, "_inrush_full", lambda *_: False)


def nothing_kept(patch: Patch) -> None:
    patch.setattr(Feed, "kept_for", lambda *_: 0.0)


def meters_unheard(patch: Patch) -> None:
    patch.setattr(Feed, "load", lambda feed, _now: feed.draw)


def cycles_for_free(patch: Patch) -> None:
    patch.setattr(Admission, "cycle_held", lambda *_: None)


def profiles_too_fast(patch: Patch) -> None:
    whole = Feeds.reads_on
    patch.setattr(Feeds, "reads_on", lambda feeds, draw, now: whole(feeds, draw, now - 60.0))


def slots_never_full(patch: Patch) -> None:
    patch.setattr(Slots, "full", lambda *_, **__: False)


def forks_without_end(patch: Patch) -> None:
    patch.setattr(Slots, "free", lambda *_: None)


def servers_without_end(patch: Patch) -> None:
    patch.setattr(Slices, "_free", lambda *_: SLICE_FORKS)


def quorum_less_one(patch: Patch) -> None:
    def now(need: Need) -> Status:
        return Status.HOLDS if need.ready + 1 >= need.needed else Status.PENDING

    patch.setattr(Need, "_now", now)


def gates_open(patch: Patch) -> None:
    patch.setattr(Admission, "_gate", lambda *_: "")


def manual_steps_done(patch: Patch) -> None:
    patch.setattr(Admission, "control_gate", lambda *_: "")


def breakers_ignored(patch: Patch) -> None:
    patch.setattr(Admission, "breaker", lambda *_: None)


def dark_hosts_asked(patch: Patch) -> None:
    patch.setattr(change, "_darken", lambda *_: None)


def answers_never_void(patch: Patch) -> None:
    whole = change.feed_returned

    def returned(of: State, event: object) -> None:
        whole(of, event)  # type: ignore[arg-type]
        for host in of.hosts.values():
            host.void_id = 0

    patch.setattr(change, "feed_returned", returned)


def everybody_in_scope(patch: Patch) -> None:
    patch.setattr(State, "observe", lambda _state: None)


def nobody_passes_by(patch: Patch) -> None:
    patch.setattr(Engine, "_pass_by", lambda _engine: None)


def pauses_unheeded(patch: Patch) -> None:
    patch.setattr(steering, "paused", lambda *_: None)


def words_unheeded(patch: Patch) -> None:
    def end(engine: Engine, host: HostState) -> None:
        if not host.dark:
            engine._steps[host.stage](host)

    patch.setattr(Engine, "_end", end)


def aborted_boots_go_on(patch: Patch) -> None:
    patch.setattr(Engine, "_finishes", lambda *_: True)


def quarantined_while_asked(patch: Patch) -> None:
    whole = steering.ended

    def ended(of: State, event: Quarantined | Skipped, outcome: Outcome) -> None:
        whole(of, event, outcome)
        for name in event.hosts:
            of.hosts[name].inflight = 0

    patch.setattr(steering, "ended", ended)


def retried_watts_forgotten(patch: Patch) -> None:
    whole = change.reopen

    def reopen(of: State, names: list[str], t: float) -> None:
        for name in names:
            if of.hosts[name].outcome not in (None, *change.UP):
                of.release(of.hosts[name])
        whole(of, names, t)

    patch.setattr(change, "reopen", reopen)


def retried_hosts_remembered(patch: Patch) -> None:
    patch.setattr(HostState, "begin_anew", lambda host, _t: setattr(host, "outcome", None))


MUTANTS = [
    pauses_unheeded, words_unheeded, aborted_boots_go_on, quarantined_while_asked, retried_watts_forgotten,
    retried_hosts_remembered,
    always_room, no_ramp, no_inrush, nothing_kept, meters_unheard, cycles_for_free,
    profiles_too_fast, slots_never_full, quorum_less_one, gates_open, manual_steps_done, breakers_ignored,
    dark_hosts_asked, answers_never_void, everybody_in_scope, nobody_passes_by, forks_without_end, servers_without_end,
]  # fmt: skip

# What these rules forbid happens about once in a thousand recoveries with everything: these have what it takes.
FOCUS: dict[Callable[[Patch], None], tuple[str, ...]] = {
    cycles_for_free: ("cycle", "budget", "faults", "ramp"),
    nobody_passes_by: ("budget", "requires", "rows", "tiers"),
    profiles_too_fast: ("profiles", "budget", "rows"),
    retried_watts_forgotten: ("budget", "faults", "say_hosts", "rows", "profiles", "cycle", "on"),
    meters_unheard: ("cycle", "budget", "faults", "rows", "profiles", "meter"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    for seed in range(MOST):
        try:
            play(make_case(random.Random(seed), seed, FOCUS.get(mutant)))
        except (CaseFailed, AssertionError, KeyError):
            return
    raise AssertionError(f"{mutant.__name__} went unnoticed in {MOST} recoveries")
