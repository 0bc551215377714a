"""Where a run stands, as one small document: what the running process keeps in its journal, once a second.

``document`` is made from counters (``core.tally``) and costs groups, feeds and what is in flight, never hosts; only the
names of hosts that ended badly are folded, so many of each kind at most. ``bootorch status`` prints it without loading
plan or snapshot.

=================  ====================================================================================
key                value
=================  ====================================================================================
elapsed_s          run time of the last event, seconds
outlook            when the run is expected to be done, in words, as told at run time ``outlook_s``
totals             outcome -> hosts; ``unknown`` are those that have none yet, ``in_progress`` says where
groups, tiers      ``size``, ``outcomes``, ``phases``; a group also ``wave`` and ``tier``
in_flight          kind of effect -> how many are under way
gates              every gate; ``opened_by`` is empty while it is closed, ``held`` hosts behind it wait then
tripped            breakers: ``scope``, ``detail``, ``t``
limits             feeds with ``draw`` (modelled, in the feed's unit), slots with ``used``; the fullest first
failures           ``outcome``, ``reason``, ``detail`` (an example), ``count``, ``hosts`` (folded, cut)
dark               feeds without electricity, with ``count`` and ``hosts`` that wait for them
=================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeVar

from bootorch.core.changes import Changes, Dark, choices
from bootorch.core.model import Gate, Outcome, describe
from bootorch.core.nodesets import fold, shorten
from bootorch.core.slots import kind_of
from bootorch.core.state import State
from bootorch.core.tally import Class, GroupTally, Members, Tally
from bootorch.core.timeline import Phase

_Key = TypeVar("_Key")

MOST_LIMITS = 40  # a site has a feed per rack: those that are dark, changed or fullest
MOST_CHANGES = 20
MOST_CLASSES = 20
MOST_NAMES = 500  # of one class while the run goes on: a name costs 2 µs to fold
MOST_CHARS = 400  # of folded names


class Standing:
    """Makes the documents of one run. Folds names again only where a class of hosts has changed."""

    def __init__(self, state: State, tally: Tally, changes: Changes) -> None:
        self._state = state
        self._tally = tally
        self._changes = changes
        self._folded: dict[Class, tuple[int, bool, str]] = {}

    def document(self, outlook: str = "", outlook_s: float = 0.0, *, whole: bool = False) -> dict[str, Any]:
        """``whole``: names are folded however many there are, for the last document of a process. ``outlook``: when
        the run is expected to be done, in words, as it was told at run time ``outlook_s``."""
        state, tally, plan = self._state, self._tally, self._state.plan
        started = tally.started
        totals = dict.fromkeys(Outcome, 0)
        phases: dict[Phase, int] = {}
        for group in tally.groups.values():
            _add(totals, group.outcomes)
            _add(phases, group.phases)
        totals[Outcome.UNKNOWN] += sum(phases.values())
        failures, more_failures = self._failures(whole)
        limits = sorted(self._limits(), key=self._rank)
        return {
            "plan": plan.name,
            "environment": plan.environment.value,
            "run_id": state.run_id,
            "plan_digest": plan.digest,
            "by": started.by if started else "",
            "limit": started.limit if started else "",
            "started_wall": started.wall if started else "",
            "elapsed_s": round(state.t, 3),
            "resumes": tally.resumes,
            "verdict": state.ended,
            "paused": state.paused,
            "paused_why": tally.paused_why if state.paused else "",
            "outlook": outlook,
            "outlook_s": round(outlook_s, 3),
            "size": len(plan.hosts),
            "totals": totals,
            "in_progress": _there(phases),
            "in_flight": self._in_flight(),
            "groups": {
                name: {"wave": wave, "tier": state.tiers[name], **_passage((tally.groups[name],))}
                for wave, names in enumerate(plan.waves)
                for name in names
            },
            "tiers": self._tiers(),
            "gates": [self._gate(gate) for gate in plan.gates.values()],
            "tripped": [
                {"t": tally.tripped_t.get(scope, 0.0), "scope": scope, "detail": detail}
                for scope, detail in state.tripped.items()
            ],
            "limits": limits[:MOST_LIMITS],
            "more_limits": max(0, len(limits) - MOST_LIMITS),
            "dark": [self._dark(dark, whole) for dark in self._changes.dark.values()],
            "choices": [asdict(choice) for choice in choices(state)],
            "changes": [asdict(said) for said in self._changes.said[-MOST_CHANGES:]],
            "more_changes": max(0, len(self._changes.said) - MOST_CHANGES),
            "failures": failures,
            "more_failures": more_failures,
            "power_ons": tally.power_ons,
            "cycles": tally.cycles,
        }

    def _in_flight(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for intent in self._state.open.values():
            counts[intent.kind] = counts.get(intent.kind, 0) + 1
        return counts

    def _tiers(self) -> list[dict[str, Any]]:
        by_tier: dict[int, list[GroupTally]] = {}
        for name, group in self._tally.groups.items():
            by_tier.setdefault(self._state.tiers[name], []).append(group)
        return [{"tier": tier, **_passage(groups)} for tier, groups in sorted(by_tier.items())]

    def _gate(self, gate: Gate) -> dict[str, Any]:
        opened_by = self._state.gates_open.get(gate.name, "")
        groups = [self._tally.groups[name] for name in gate.groups or self._tally.groups]
        return {
            "name": gate.name,
            "ask": gate.ask,
            "check": describe(gate.check) if gate.check is not None else "",
            "last": self._tally.gate_said.get(gate.name, ""),
            "opened_by": opened_by,
            "held": 0 if opened_by else sum(group.phases.get(Phase.HELD, 0) for group in groups),
        }

    def _limits(self) -> Iterable[dict[str, Any]]:
        changes, planned, draws = self._changes, self._state.plan.limits, self._state.feeds.draw_watts()
        for name, limit in changes.feeds.items():
            yield {
                "kind": "feed",
                "name": name,
                "value": limit.budget_watts,
                "planned": planned.feeds[name].budget_watts if name in planned.feeds else None,
                "ramp": limit.ramp_watts_per_min,
                "inrush": limit.inrush_amps,
                "draw": round(draws[name], 1) if name in draws else None,
            }
        used: dict[str, int] = {}
        for resource, count in self._state.slots.used().items():
            kind = kind_of(resource)
            for key in {resource, kind}:  # of a kind that is counted per value, the value with most in use
                used[key] = max(used.get(key, 0), count)
        for name, value in {**changes.slots, **changes.adapted}.items():
            limits = {"kind": "slot", "name": name, "value": value, "planned": planned.slots.get(name)}
            yield {**limits, "used": used.get(name, 0)}

    def _rank(self, limit: Mapping[str, Any]) -> tuple[bool, float]:
        """Dark and changed limits first, then the fullest."""
        amount = limit["draw"] if limit["kind"] == "feed" else limit["used"]
        share = (amount or 0.0) / limit["value"] if limit["value"] else 0.0
        return limit["name"] not in self._changes.dark and limit["value"] == limit["planned"], -share

    def _dark(self, dark: Dark, whole: bool) -> dict[str, Any]:
        alike: Class = ("dark", dark.feed, "")
        members = self._tally.classes.get(alike)
        hosts = {"count": len(members.hosts), "hosts": self._names(alike, members, whole)} if members else {"count": 0}
        return {**asdict(dark), "hosts": "", **hosts}

    def _failures(self, whole: bool) -> tuple[list[dict[str, Any]], int]:
        """Hosts that ended badly by how, the largest classes of each outcome first; how many classes are left out."""
        order = [Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.SKIPPED, Outcome.UNKNOWN]
        bad = [(alike, members) for alike, members in self._tally.classes.items() if alike[0] != "dark"]
        bad.sort(key=lambda item: (order.index(Outcome(item[0][0])), -len(item[1].hosts), item[0]))
        found = []
        for alike, members in bad[:MOST_CLASSES]:
            outcome, reason, detail = alike
            found.append(
                {
                    "outcome": outcome,
                    "reason": reason,
                    "detail": detail or self._state.hosts[next(iter(members.hosts))].detail,
                    "count": len(members.hosts),
                    "hosts": self._names(alike, members, whole),
                }
            )
        return found, max(0, len(bad) - MOST_CLASSES)

    def _names(self, alike: Class, members: Members, whole: bool) -> str:
        version, was_whole, text = self._folded.get(alike, (-1, False, ""))
        if version == members.version and (was_whole or not whole):
            return text
        most = len(members.hosts) if whole else MOST_NAMES
        text = shorten(fold(islice(members.hosts, most)), MOST_CHARS)
        if len(members.hosts) > most and not text.endswith("…"):
            text += ",…"
        self._folded[alike] = members.version, whole or len(members.hosts) <= MOST_NAMES, text
        return text


def _passage(groups: Iterable[GroupTally]) -> dict[str, Any]:
    size = 0
    outcomes: dict[Outcome, int] = {}
    phases: dict[Phase, int] = {}
    for group in groups:
        size += group.size
        _add(outcomes, group.outcomes)
        _add(phases, group.phases)
    return {"size": size, "outcomes": _there(outcomes), "phases": _there(phases)}


def _add(total: dict[_Key, int], more: Mapping[_Key, int]) -> None:
    for key, count in more.items():
        total[key] = total.get(key, 0) + count


def _there(counts: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: count for key, count in counts.items() if count}
