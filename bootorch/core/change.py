"""Change under way: what the events of an operator mean to the state. None of them touches a host that runs.

Functions over ``State``, called by its fold only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootorch.core.dependencies import Change, Leader, Wait
from bootorch.core.events import Adapted, Chosen, FeedLost, FeedReturned, LimitSet, ScopeAdded, TierSet
from bootorch.core.hoststate import HostState
from bootorch.core.limits import OFF, feed_path
from bootorch.core.model import Outcome, Stage
from bootorch.core.slots import kind_of
from bootorch.core.urgency import priorities

if TYPE_CHECKING:
    from bootorch.core.state import State

UP = (Outcome.READY, Outcome.ADOPTED)


def limit_set(state: State, event: LimitSet) -> None:
    if event.kind == "slot":
        if event.value is not None:
            state.slots.set_limit(event.name, int(event.value))
            for kind, name in sorted(state.wanted):
                if kind == "slot" and event.name in (name, kind_of(name)):
                    state.freed[kind, name] = None
            if kind_of(event.name) in ("redeploy_forks", *state.redeploy_kinds):
                state.freed["slot", "forks"] = None
        return
    state.feeds.set_limit(event.name, event.value, event.ramp, event.inrush)
    state.free("feed", event.name)


def adapted(state: State, event: Adapted) -> None:
    state.slots.adapt(event.slot, event.limit, event.t)
    state.free("slot", event.slot)
    if event.slot == "forks":
        state.freed["slot", "forks"] = None


# -- electricity ---------------------------------------------------------------------


def lost_by(state: State, feed: str) -> str:
    """The lost feed that ``feed`` is or hangs on; empty while it has electricity."""
    return next((name for name in feed_path(feed) if name in state.lost), "") if state.lost else ""


def lose(state: State, feed: str, by: str, t: float) -> None:
    """The feed has no electricity: hosts that hang on it alone are dark, others hang on their other cords."""
    state.lost[feed] = by
    for cords, hosts in _hanging(state, feed):
        live = _live(state, cords)
        for host in hosts:
            if host.dark:
                continue
            if live:
                state.reshare(host, live)
            else:
                _darken(state, host, feed, t)


def _hanging(state: State, feed: str) -> Iterator[tuple[tuple[str, ...], list[HostState]]]:
    """Hosts with a cord on ``feed`` or below it, by their cords: a site has far fewer of these than hosts."""
    for cords, hosts in state.by_cords.items():
        if any(cord == feed or cord.startswith(f"{feed}/") for cord in cords):
            yield cords, hosts


def _live(state: State, cords: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cord for cord in cords if not lost_by(state, cord))


def feed_lost(state: State, event: FeedLost) -> None:
    if event.feed not in state.lost:
        lose(state, event.feed, event.by, event.t)


def feed_returned(state: State, event: FeedReturned) -> None:
    state.lost.pop(event.feed, None)
    for cords, hosts in _hanging(state, event.feed):
        live = _live(state, cords)
        for host in hosts:
            if not live:
                host.dark = lost_by(state, cords[0])
                continue
            state.reshare(host, live)
            if host.dark:
                host.dark = ""
                host.next_t = event.t
                host.void_id = state.next_id  # what was asked before tells nothing of now
                if host.outcome is None and state.in_scope(host.name):
                    state.feeds.keep(host.draw, True)
                state.dirty[host] = None


def _darken(state: State, host: HostState, feed: str, t: float) -> None:
    host.dark = feed
    state.dirty_groups[host.group.name] = None  # nobody waits for it any more
    before = host.outcome
    if host.draw.level != OFF:
        state.feeds.hold(host.draw, OFF)
        state.feeds.forget(host.draw)
    state.feeds.keep(host.draw, False)
    state.free_feed(host.draw)
    state.give_back_boot(host)
    if before is not None and before not in UP:
        return  # it has ended, and nothing of it was ever counted on
    if before is not None:
        unsettle(state, host)
    host.begin_anew(t)
    host.void_id = state.next_id
    if host.ending is not None:
        state.dirty[host] = None


def unsettle(state: State, host: HostState) -> None:
    """It was up, and others may have been about to build on it."""
    host.outcome = None
    state.unsettled += 1
    state.groups[host.group.name].settled -= 1
    for wait, changed in state.dependencies.unsettle(host.name, host.group.name):
        waits_change(state, wait, changed)


# -- scope and urgency ---------------------------------------------------------------------


def scope_added(state: State, event: ScopeAdded) -> None:
    if state.limit is None:
        return
    added = [name for name in event.hosts if name in state.hosts and name not in state.limit]
    state.limit = state.limit.union(added)
    state.observe()
    for name in added:
        state.hosts[name].observed = False
    # Parents that were skipped unseen: whether they are up matters now.
    unseen = [name for name in sorted(state.dependencies.ancestors(state.limit)) if state.hosts[name].started_t is None]
    open_to = (None, Outcome.SKIPPED, Outcome.BLOCKED)
    reopen(state, [name for name in (*added, *unseen) if state.hosts[name].outcome in open_to], event.t)


def reopen(state: State, names: list[str], t: float) -> None:
    """Hosts that were given up have their turn again, and so have those that were blocked because of them."""
    todo = list(names)
    while todo:
        name = todo.pop()
        host = state.hosts[name]
        if host.outcome is not None and host.outcome not in UP:
            state.retract(host)
            host.begin_anew(t)
            host.alike.impossible = state.dependencies.why_impossible(name)
            state.unsettled += 1
            state.groups[host.group.name].settled -= 1
            for wait, changed in state.dependencies.revive(name, host.group.name):
                waits_change(state, wait, changed)
                for child in wait.children:
                    other = state.hosts[child]
                    other.alike.impossible = state.dependencies.why_impossible(child)
                    if other.outcome is Outcome.BLOCKED and not other.alike.impossible:
                        todo.append(child)
        if not todo:
            for leader in state.dependencies.leaders.values():
                if (turn := leader.resume()) is not None:
                    waits_change(state, leader, turn)
        if host.outcome is None:
            state.feeds.keep(host.draw, state.in_scope(name) and not host.dark and host.draw.level == OFF)
            state.dirty[host] = None


def tier_set(state: State, event: TierSet) -> None:
    """Who goes first is counted anew. Hosts that wait for something join its queue again, in their new place."""
    state.tiers[event.group] = event.tier
    order = priorities(state.plan, state.dependencies, state.tiers, state.expected)
    for host, priority in zip(state.hosts.values(), order, strict=True):
        if priority == host.priority:
            continue
        host.priority = priority
        draw = host.draw
        if draw.keeps and draw.tier != priority[0]:
            state.feeds.keep(draw, False)
            draw.tier = priority[0]
            state.feeds.keep(draw, True)
        draw.tier = priority[0]
        if host.parked is not None:
            host.parked = None
            state.dirty[host] = None
    for resource in sorted(state.wanted):
        if resource[0] == "feed":
            state.freed[resource] = None  # power may be kept for fewer than before


def chosen(state: State, event: Chosen) -> None:
    leader = state.dependencies.leaders.get(event.group)
    if leader is None:
        return
    before = leader.chosen
    for changed in leader.choose(event.host):
        waits_change(state, leader, changed)
    if before and before != leader.chosen:
        _wait_again(state, state.hosts[before], event.t)


def _wait_again(state: State, host: HostState, t: float) -> None:
    """It is somebody else's turn now. Who was switched on already goes on; who was not waits like the others."""
    if host.outcome is None and host.on_t is None and not host.adopted and host.stage is not Stage.WAIT:
        state.release(host)
        host.enter(Stage.WAIT, t)
        host.admitted_t = None
        host.parked = None
        state.dirty[host] = None


def waits_change(state: State, wait: Wait, changed: Change) -> None:
    """The counters of those who wait follow a wait's change. Looks at whom it lets go are spread over decisions."""
    if isinstance(wait, Leader):
        _turn_changes(state, changed)
        return
    for alike in state.waiting.get(wait, ()):
        if changed.more:
            alike.waits += changed.more
            if wait.control:
                alike.control_waits += changed.more
        elif changed.impossible:
            alike.impossible = alike.impossible or changed.impossible
        if changed.more > 0:
            for host in alike.hosts:
                _leave_queue(state, host)
        reached = wait.control and alike.control_waits == 0  # their BMCs are, from now on
        if alike.impossible or reached:
            state.dirty.update(dict.fromkeys(host for host in alike.hosts if host.outcome is None))
        elif alike.waits == 0:
            state.dirty.update(dict.fromkeys(host for host in alike.hosts if host.outcome is None and not host.behind))


def _turn_changes(state: State, changed: Change) -> None:
    """Another member of a group is its first one, or the first one is ready, or none will be."""
    for name in changed.children:
        host = state.hosts[name]
        host.behind += changed.more
        if changed.more > 0:
            _leave_queue(state, host)
        if changed.impossible:
            host.alike.impossible = host.alike.impossible or changed.impossible
        state.dirty[host] = None


def _leave_queue(state: State, host: HostState) -> None:
    """It was off and next in a queue, and has to wait again: what it stood in front of others for goes to them."""
    if host.parked is not None and host.stage is Stage.WAIT:
        state.freed[host.parked] = None
        host.parked = None
        state.dirty[host] = None
