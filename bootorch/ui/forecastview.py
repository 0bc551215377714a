"""A forecast for people and as JSON: when what is back, what binds, what cannot be finished, what an if changes.

Totals and the next command come last. A run that cannot finish is said first, and its time is never given as a length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bootorch.core.critical import Leg
from bootorch.core.forecast import Band, Estimate, Forecast, Outcomes, PassageForecast, difference
from bootorch.core.timeline import resource_title
from bootorch.ui.lines import Lines, Piece, clock, hosts, span

FORECAST = "forecast.json"  # in a run's directory, while it goes on
SCHEMA = "bootorch.forecast/1"  # additions keep the number; a changed or removed meaning raises it
MOST_ROWS = 200
MOST_BINDINGS = 3
MOST_HELD = 6


class Times:
    """Run seconds as an operator wants them: lengths, and times of day where it is known when the run begins."""

    def __init__(self, start: str, began_s: float) -> None:
        self._zero = datetime.fromisoformat(start) if start else None
        self._began_s = began_s

    @property
    def known(self) -> bool:
        return self._zero is not None

    def day(self, t: float | None) -> str:
        """``15:20``, with the weekday where it is not the day on which the forecast begins."""
        if self._zero is None or t is None:
            return ""
        at = self._zero + timedelta(seconds=t)
        today = self._zero + timedelta(seconds=self._began_s)
        return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%a %H:%M}"

    def wall(self, t: float | None) -> str | None:
        """ISO 8601 with offset, to the second."""
        if self._zero is None or t is None:
            return None
        return (self._zero + timedelta(seconds=t)).isoformat(timespec="seconds")

    def span(self, t: float | None) -> str:
        """How long from now on."""
        return "never" if t is None else span(max(0.0, t - self._began_s))

    def both(self, t: float | None) -> str:
        """``1 h 20 min (15:20)``."""
        day = self.day(t)
        return f"{self.span(t)} ({day})" if day else self.span(t)


def mean(count: float) -> str:
    """Hosts on average over the samples: whole where it is, or where a tenth of a host says nothing."""
    return f"{count:,.0f}" if count >= 1000 or abs(count - round(count)) < 0.005 else f"{count:,.1f}"


def times_of(forecast: Forecast) -> Times:
    return Times(forecast.start, forecast.began_s)


def headline(forecast: Forecast) -> str:
    """What is forecast, in one line after the plan's name."""
    parts = [forecast.environment.value, "forecast"]
    if forecast.run_id:
        parts.append(f"run {forecast.run_id} from {clock(forecast.began_s)} on")
    if forecast.limit:
        parts.append(f"limit {forecast.limit}")
    parts += [f"feed {name} dark" for name in forecast.dark]
    parts.append(f"{forecast.samples} sample{'' if forecast.samples == 1 else 's'}, seed {forecast.seed}")
    return "".join(f" · {part}" for part in parts)


def lines(forecast: Forecast, next_command: str = "") -> Lines:
    """For people."""
    page, times = Lines(), times_of(forecast)
    page.add((forecast.plan, "bold"), headline(forecast))
    _unfinished(forecast.base, page)
    page.blank()
    _table(forecast, times, page)
    _binding(forecast.base, times, page)
    _what_ifs(forecast, times, page)
    _assumed(forecast, page)
    page.blank()
    page.add(*verdict(forecast.base, times))
    if next_command:
        page.add(("next: ", "dim"), next_command)
    return page


def verdict(outcomes: Outcomes, times: Times) -> list[Piece]:
    """The sum, in one line: how many become ready, and when, or that it does not end."""
    whole, count = outcomes.whole, len(outcomes.samples)
    pieces: list[Piece] = [(f"{mean(whole.ready)} of {hosts(whole.size)} ready", "bold")]
    for number, word, style in (
        (whole.quarantined, "quarantined", "red"), (whole.blocked, "blocked", "yellow"), (whole.left, "left", "red"),
        (whole.skipped, "skipped", "dim"),
    ):  # fmt: skip
        if number >= 0.05:
            pieces += [", ", (f"{mean(number)} {word}", style)]
    at = whole.ready_at
    if outcomes.unfinished:
        share = "" if outcomes.unfinished == count else f" in {outcomes.unfinished} of {count} samples"
        return [*pieces, ("; cannot be finished", "bold red"), share]
    if at.p50 is None:
        return [*pieces, ("; nothing becomes ready", "bold red")]
    if times.known:
        words = f"; back at {times.day(at.p50)}, at worst (P90) {times.day(at.p90) or 'never'}"
    else:
        words = f"; back after {times.span(at.p50)}, at worst (P90) {times.span(at.p90)}"
    return [*pieces, (words, "bold")]


def _unfinished(outcomes: Outcomes, page: Lines) -> None:
    if not outcomes.unfinished:
        return
    count = len(outcomes.samples)
    page.blank()
    often = "in every sample" if outcomes.unfinished == count else f"in {outcomes.unfinished} of {count} samples"
    page.add(("cannot be finished", "bold red"), f"  {often} hosts are left that nothing will move any more")
    rows: list[tuple[Piece, ...]] = []
    for left in outcomes.left:
        names = ", ".join(left.examples) + (" …" if left.hosts > len(left.examples) else "")
        rows.append((hosts(left.hosts), ("wait for " if left.waiting else "held by ") + left.why, (names, "dim")))
    page.table(rows, right=(0,))


def _table(forecast: Forecast, times: Times, page: Lines) -> None:
    base = forecast.base
    head: tuple[Piece, ...] = ("", "hosts", "not ready", "usable P50", "back P50", "P90")
    day = ("at", "at worst") if times.known else ()
    rows: list[tuple[Piece, ...]] = [tuple((text, "dim") for text in map(str, (*head, *day)))]
    rows.append(_row(base.whole, times, base.groups))
    rows += [_row(tier, times, [group for group in base.groups if group.tier == tier.tier]) for tier in base.tiers]
    shown = [group for group in base.groups if group.skipped < group.size]
    if forecast.run_id:
        shown = [group for group in shown if not _is_back(group, forecast.began_s)]
        done = len(base.groups) - len(shown)
    rows += [_row(group, times) for group in shown[:MOST_ROWS]]
    page.table(rows, right=(1, 2, 3, 4, 5, 6, 7))
    if len(shown) > MOST_ROWS:
        page.add((f"  … {len(shown) - MOST_ROWS:,} more groups: --json has them all", "dim"))
    if forecast.run_id and done:
        page.add((f"  {done:,} group{'' if done == 1 else 's'} back already, or outside the limit", "dim"))


def _is_back(group: PassageForecast, began_s: float) -> bool:
    return group.left == 0 and all(t is None or t <= began_s for t in (group.ready_at.p10, group.ready_at.p90))


def _row(part: PassageForecast, times: Times, groups: Sequence[PassageForecast] = ()) -> tuple[Piece, ...]:
    short: Piece = (mean(part.short), "red") if part.short >= 0.05 else ""
    at = part.ready_at
    row: list[Piece] = [(part.name, "bold"), f"{part.size:,}", short, usable(part, times, groups)]
    row += [_length(at, 0.5, times), _length(at, 0.9, times)]
    if times.known:
        row += [times.day(at.p50), times.day(at.p90)]
    return tuple(row)


def usable(part: PassageForecast, times: Times, groups: Sequence[PassageForecast] = ()) -> Piece:
    """When it is usable (P50). Of several groups that never are all usable: how many are."""
    if groups and part.usable_at.p50 is None:
        good = sum(group.usable_at.p50 is not None for group in groups)
        return (f"{good} of {len(groups)} groups", "red")
    return _length(part.usable_at, 0.5, times)


def _length(found: Estimate, share: float, times: Times) -> Piece:
    value = found.p50 if share == 0.5 else found.p90
    if value is not None:
        return times.span(value)
    return ("never" if found.never == found.samples else f"not in {found.never} of {found.samples}", "red")


def _binding(outcomes: Outcomes, times: Times, page: Lines) -> None:
    page.blank()
    count = len(outcomes.samples)
    rows: list[tuple[Piece, ...]] = []
    for index, bound in enumerate(outcomes.bindings[:MOST_BINDINGS]):
        often = "" if count == 1 else f" in {bound.samples} of {count} samples"
        words = f"{bound.share:.0%} of the critical path ({span(bound.seconds)}){often}"
        rows.append((("binding", "bold") if not index else "", bound.title, (words, "dim")))
    page.table(rows, indent=0)
    rows = []
    for index, (title, (host_s, most)) in enumerate(list(outcomes.held_folded.items())[:MOST_HELD]):
        words = f"{hosts(most)} at once at most, {host_s / 3600:,.1f} host hours"
        rows.append((("held back by", "bold") if not index else "", title, (words, "dim")))
    for index, (scope, samples) in enumerate(outcomes.tripped.items()):
        words = f"trips in {samples} of {count} samples"
        rows.append((("breaker", "bold") if not index else "", scope.replace(":", " ", 1), (words, "dim")))
    page.table(rows, indent=0)
    bound_at, ratio = outcomes.bound, outcomes.ratio
    if bound_at is not None and bound_at.p50 is not None:
        words = "" if ratio is None or ratio.p50 is None else f"; the run ends at {ratio.p50:.2f} × of it"
        page.add(("lower bound", "bold"), f"  {span(bound_at.p50)}{words}", (f"  {outcomes.bound_by}", "dim"))


def _what_ifs(forecast: Forecast, times: Times, page: Lines) -> None:
    if not forecast.what_ifs:
        return
    page.blank()
    page.add(("what if", "bold"))
    rows: list[tuple[Piece, ...]] = []
    for other in forecast.what_ifs:
        change = difference(forecast.base, other)
        at = other.whole.ready_at
        when = f"back P50 {times.both(at.p50)}, P90 {times.both(at.p90)}" if at.p50 is not None else "never back"
        if other.unfinished:
            why = f": {other.left[0].why}" if other.left else ""
            when = f"cannot be finished in {other.unfinished} of {len(other.samples)} samples{why}"
        bound = f"binding: {other.bindings[0].title}" if other.bindings else ""
        rows.append(
            (
                (other.what, "bold"),
                _later(change.ready, fewer=change.hosts < -0.05),
                _more(change.hosts),
                when,
                (bound, "dim"),
            )
        )
    page.table(rows)


def _later(change: Estimate, *, fewer: bool = False) -> Piece:
    """``fewer``: hosts become ready; earlier is no gain then."""
    if change.p50 is None:
        return ("not comparable", "red") if change.never == change.samples else ""
    if abs(change.p50) < 0.05:
        return "no later"
    words = f"{'+' if change.p50 > 0 else '−'}{span(abs(change.p50))}"
    return (words, "red" if change.p50 > 0 else "" if fewer else "green")


def _more(change: float) -> Piece:
    if abs(change) < 0.05:
        return "as many hosts ready"
    return (f"{mean(abs(change))} hosts {'more' if change > 0 else 'fewer'} ready", "" if change > 0 else "red")


def assumptions(forecast: Forecast) -> list[str]:
    """What was taken for granted, a sentence each."""
    found: list[str] = []
    if forecast.gates:
        plural = len(forecast.gates) > 1
        names = ", ".join(forecast.gates)
        when = f"at {clock(forecast.began_s)}"
        found.append(f"gate{'s' * plural} {names} {'are' if plural else 'is'} answered {when}")
    if forecast.firsts:
        found.append(f"the first member of {', '.join(forecast.firsts)} is the first by name, chosen at once")
    source = forecast.parameters or "those of mass cold boots in the field, not fitted to this site"
    found.append(f"parameters of the world: {source}")
    return [*found, *forecast.notes]


def _assumed(forecast: Forecast, page: Lines) -> None:
    page.blank()
    rows: list[tuple[Piece, ...]] = [
        (("assumed", "bold") if not index else "", text) for index, text in enumerate(assumptions(forecast))
    ]
    page.table(rows, indent=0)


# -- JSON ---------------------------------------------------------------------


def to_json(forecast: Forecast) -> dict[str, Any]:
    """Stable within a version of ``schema``. Run times in seconds (``_s``), clock times where the start is known."""
    times = times_of(forecast)
    return {
        "schema": SCHEMA,
        "plan": forecast.plan,
        "environment": forecast.environment.value,
        "digest": forecast.digest,
        "run_id": forecast.run_id,
        "hosts": forecast.hosts,
        "samples": forecast.samples,
        "seed": forecast.seed,
        "limit": forecast.limit,
        "dark_feeds": list(forecast.dark),
        "began_s": round(forecast.began_s, 3),
        "start_wall": forecast.start or None,
        "gates_taken_as_answered": list(forecast.gates),
        "firsts_taken_as_chosen": list(forecast.firsts),
        "assumptions": assumptions(forecast),
        "base": _outcomes_json(forecast.base, times),
        "what_ifs": [
            {**_outcomes_json(other, times), "change": _change_json(forecast.base, other)}
            for other in forecast.what_ifs
        ],
    }


def _outcomes_json(outcomes: Outcomes, times: Times) -> dict[str, Any]:
    end_s = outcomes.horizon_s
    feeds = {
        name: {"budget_watts": budget, **_band_json(outcomes.feed_band(name, end_s), "watts")}
        for name, budget in outcomes.budgets.items()
    }
    bound, ratio = outcomes.bound, outcomes.ratio
    return {
        "what_if": outcomes.what,
        "finishes": outcomes.unfinished == 0,
        "unfinished_samples": outcomes.unfinished,
        "whole": _passage_json(outcomes.whole, times),
        "tiers": [{"tier": tier.tier, **_passage_json(tier, times)} for tier in outcomes.tiers],
        "groups": [
            {"group": group.name, "tier": group.tier, **_passage_json(group, times)} for group in outcomes.groups
        ],
        "end": _estimate_json(outcomes.end, times),
        "binding": [
            {"kind": b.kind, "what": b.title, "samples": b.samples, "path_share": round(b.share, 4),
             "path_s": round(b.seconds, 1)}
            for b in outcomes.bindings
        ],
        "held": [
            {"resource": list(resource), "what": resource_title(resource), "host_s": round(host_s, 1),
             "most_hosts": most}
            for resource, (host_s, most) in outcomes.held.items()
        ],
        "lower_bound": None if bound is None else {**_plain(bound, "_s"), "by": outcomes.bound_by},
        "lower_bound_ratio": None if ratio is None else _plain(ratio, ""),
        "left": [
            {"why": left.why, "hosts": left.hosts, "examples": list(left.examples), "waits_for_hosts": left.waiting}
            for left in outcomes.left
        ],
        "breakers": [{"scope": scope, "samples": samples} for scope, samples in outcomes.tripped.items()],
        "critical_path": [_leg_json(leg) for leg in outcomes.median.path],
        "curves": {"ready": _band_json(outcomes.ready_band(end_s), "hosts"), "feeds": feeds},
        "sample_ready_s": [_round(sample.whole.ready_s) for sample in outcomes.samples],
        "sample_seeds": [sample.seed for sample in outcomes.samples],
    }  # fmt: skip


def _passage_json(part: PassageForecast, times: Times) -> dict[str, Any]:
    return {
        "hosts": part.size,
        "ready_hosts": round(part.ready, 2),
        "quarantined_hosts": round(part.quarantined, 2),
        "blocked_hosts": round(part.blocked, 2),
        "skipped_hosts": round(part.skipped, 2),
        "left_hosts": round(part.left, 2),
        "usable": _estimate_json(part.usable_at, times),
        "ready": _estimate_json(part.ready_at, times),
    }


def _estimate_json(found: Estimate, times: Times) -> dict[str, Any]:
    record = _plain(found, "_s")
    for name, value in (("p50_wall", found.p50), ("p90_wall", found.p90)):
        if times.known:
            record[name] = times.wall(value)
    return record


def _plain(found: Estimate, unit: str) -> dict[str, Any]:
    values = (("p10", found.p10), ("p50", found.p50), ("p90", found.p90))
    return {**{f"{name}{unit}": _round(value) for name, value in values}, "never_samples": found.never}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _change_json(base: Outcomes, other: Outcomes) -> dict[str, Any]:
    change = difference(base, other)
    return {"ready": _plain(change.ready, "_s"), "ready_hosts": round(change.hosts, 2)}


def _band_json(found: Band, unit: str) -> dict[str, Any]:
    def row(values: Sequence[float]) -> list[float]:
        return [round(value, 1) for value in values]

    return {
        "t_s": row(found.times),
        f"p10_{unit}": row(found.p10),
        f"p50_{unit}": row(found.p50),
        f"p90_{unit}": row(found.p90),
    }


def _leg_json(leg: Leg) -> dict[str, Any]:
    return {
        "host": leg.host,
        "group": leg.group,
        "waited_for": leg.waited_for,
        "start_s": round(leg.start_s, 3),
        "end_s": round(leg.end_s, 3),
        "held_by": list(leg.held_by),
        "phases": [
            {"phase": phase.value, "start_s": round(start, 3), "end_s": round(end, 3)}
            for phase, start, end in leg.spans
        ],
    }


# -- while a run goes on ---------------------------------------------------------------------


def outlook(document: Mapping[str, Any]) -> str:
    """A forecast's document as a few words: ``done at about 15:20, at worst 15:45``. Empty when it says nothing new."""
    base = document["base"]
    if not base["finishes"] and base["unfinished_samples"] * 2 > document["samples"]:
        why = f": {base['left'][0]['why']}" if base["left"] else ""
        return f"cannot be finished as it stands{why}"
    ready = base["whole"]["ready"]
    if ready["p50_s"] is None or "p50_wall" not in ready:
        return ""
    times = Times(document["start_wall"], document["began_s"])
    if ready["p50_s"] <= document["began_s"]:
        return ""
    worst = times.day(ready["p90_s"]) or "never"
    return f"done at about {times.day(ready['p50_s'])}, at worst {worst}"
