"""Parameters of the simulated world from the journals of real runs. Pure.

Times are lognormal by maximum likelihood on their logarithms, uniform where that lies much closer to what was measured,
or a table of quantiles where neither describes it (Kolmogorov and Smirnov's distance). Fewer than ``LEAST`` samples
are drawn towards the base parameters, shares always are, with the weight of ``LEAST`` samples.

What a journal cannot tell apart is in the measured times already, and nothing is added for it: packets lost, slow
power-ons, tail classes and reboots of the firmware.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import NormalDist, fmean, median, pvariance
from typing import Any

from bootorch.core.events import Event
from bootorch.core.plan import Plan
from bootorch.sim.distributions import NOTHING, Distribution, Lognormal, Uniform, ks_distance, quantiles_of
from bootorch.sim.machine import BootFailure
from bootorch.sim.observe import Latency, Observed, Slice, alone, observe
from bootorch.sim.parameters import ModelParameters, Parameters, PlaybookParameters

LEAST = 8  # samples below which the base still counts, and from which on a model has numbers of its own
_Z95 = NormalDist().inv_cdf(0.95)
_KS_5_PERCENT = 1.36  # over the square root of the samples: the distance that one case in twenty exceeds by chance


@dataclass(frozen=True, slots=True)
class Fitted:
    """``parameters`` hold the hosts' own boot times and how many samples each number rests on, too."""

    parameters: Parameters
    observed: Observed


def fit(journals: Iterable[tuple[Plan, Iterable[Event]]], base: Parameters) -> Fitted:
    """Parameters under which the simulated world behaves as these runs did; ``base`` where they say nothing."""
    observed = observe(journals)
    return Fitted(_Fit(observed, base).parameters(), observed)


class _Fit:
    def __init__(self, observed: Observed, base: Parameters) -> None:
        self._o = observed
        self._base = base
        self._samples: dict[str, int] = {}

    def parameters(self) -> Parameters:
        o, base = self._o, self._base
        switched = sum(o.switched.values())
        exchange, exchange_slowdown = self._line("exchange", o.exchange, base.exchange, base.exchange_slowdown)
        login, login_slowdown = self._line("login", o.login, base.login or base.exchange, base.login_slowdown)
        command, command_slowdown = self._line(
            "command", o.command, base.command or base.exchange, base.command_slowdown
        )
        boot = self._times("boot", [boot.seconds for boot in o.boots], base.boot)
        hosts, repeat = self._hosts()
        fitted = replace(
            base,
            scale_to_deadlines=False,
            bmc_boot=self._bmc_boot(),
            dead_bmc_share=self._share("dead_bmc_share", o.dead_bmcs, o.hosts, base.dead_bmc_share),
            exchange=exchange,
            exchange_slowdown=exchange_slowdown,
            command=command,
            command_slowdown=command_slowdown,
            evidence=self._times("evidence", o.evidence, base.evidence),
            silence=self._times("silence", o.silence, base.silence),
            loss_share=0.0 if o.exchange else base.loss_share,
            loss_per_100=0.0 if o.exchange else base.loss_per_100,
            power=self._times("power", o.power, base.power),
            slow_power_share=0.0 if o.power else base.slow_power_share,
            silent_power_share=self._share("silent_power_share", o.silent, switched, base.silent_power_share),
            busy_share=self._share("busy_share", o.busy, switched, base.busy_share),
            boot=boot,
            tail_share=0.0 if o.boots else base.tail_share,
            firmware_reboot_share=0.0 if o.boots else base.firmware_reboot_share,
            repeat=repeat,
            no_post_share=self._share("no_post_share", len(o.dead), switched, base.no_post_share),
            failures=self._failures(),
            epidemics=tuple(replace(e, probability=self._rare(e.probability)) for e in base.epidemics),
            storms=tuple(replace(s, probability=self._rare(s.probability)) for s in base.storms),
            netboot_loss_share=0.0 if o.boots else base.netboot_loss_share,
            on_share=self._share("on_share", o.found_on, o.hosts, base.on_share),
            restore_last_share=0.0 if o.hosts else base.restore_last_share,
            restore_on_share=self._share("restore_on_share", o.self_started, o.hosts, 0.0),
            login=login,
            login_slowdown=login_slowdown,
            refusal=self._times("refusal", o.refusal, base.refusal),
            ready=self._ready(),
            models=self._models(boot),
            hosts=hosts,
        )
        fitted = self._redeploy(fitted)
        tidy = {item.name: _tidied(getattr(fitted, item.name)) for item in fields(Parameters)}
        return Parameters(**{**tidy, "samples": self._samples})

    # -- times ----------------------------------------------------------------------------------

    def _times(self, name: str, values: Sequence[float], base: Distribution) -> Distribution:
        if not values:
            return base
        self._samples[name] = len(values)
        return describe(values, base)

    def _line(
        self, name: str, latencies: Sequence[Latency], base: Distribution, slowdown: float
    ) -> tuple[Distribution, float]:
        """Latency alone, and how much each other exchange under way adds, as a share."""
        if len(latencies) < LEAST:
            return self._times(name, [x.seconds for x in latencies], base), slowdown
        _, slowdown = alone(latencies)
        return self._times(name, [x.seconds / (1 + slowdown * x.others) for x in latencies], base), slowdown

    def _bmc_boot(self) -> Distribution:
        """BMCs that were seen to come up, among those that were up at the first look."""
        late, by = sorted(self._o.bmc_late), sorted(self._o.bmc_by)
        if not late and not by:
            return self._base.bmc_boot
        self._samples["bmc_boot"] = len(late) + len(by)
        if not late:
            return NOTHING
        if not by:
            return describe(late, self._base.bmc_boot)
        # Up before anybody looked: when, nobody knows, and nobody waited for it.
        return quantiles_of([*([0.0] * len(by)), *late])

    def _ready(self) -> Distribution:
        values = self._o.ready
        if not values:
            return self._base.ready
        self._samples["ready"] = len(values)
        if max(values) <= 0:
            return NOTHING
        return quantiles_of(values) if min(values) <= 0 else describe(values, self._base.ready)

    # -- shares ----------------------------------------------------------------------------------

    def _share(self, name: str, count: int, of: int, base: float) -> float:
        if not of:
            return base
        self._samples[name] = of
        return min(1.0, (count + LEAST * base) / (of + LEAST))

    def _rare(self, probability: float) -> float:
        """Of an event of a whole run, which none of these runs is known to have had."""
        return probability * LEAST / (self._o.runs + LEAST)

    def _failures(self) -> Mapping[BootFailure, float]:
        counts = Counter(failure for _, failure in self._o.dead)
        return {failure: float(counts[failure]) for failure in BootFailure if counts[failure]} or self._base.failures

    # -- models and hosts ----------------------------------------------------------------------------------

    def _models(self, pooled: Distribution) -> Mapping[str, ModelParameters]:
        o = self._o
        by_model: dict[str, list[float]] = {}
        for boot in o.boots:
            by_model.setdefault(boot.model, []).append(boot.seconds)
        dead = Counter(model for model, _ in o.dead)
        share = len(o.dead) / max(1, sum(o.switched.values()))
        models = dict(self._base.models)
        for model in sorted(set(by_model) | set(dead)):
            times, tried = by_model.get(model, []), o.switched.get(model, 0)
            if not model or tried < LEAST:
                continue
            own = models.get(model, ModelParameters())
            if len(times) >= LEAST and ks_distance(times, pooled) > _KS_5_PERCENT / math.sqrt(len(times)):
                own = replace(own, boot=describe(times, pooled), tail_share=0.0)
                self._samples[f"models.{model}.boot"] = len(times)
            # Three standard deviations off the fleet's share: with dozens of models, two are seen by chance.
            if abs(dead[model] - tried * share) > 3 * math.sqrt(max(tried * share * (1 - share), 0.25)):
                own = replace(own, dead_share=(dead[model] + LEAST * share) / (tried + LEAST))
                self._samples[f"models.{model}.dead_share"] = tried
            if own != ModelParameters():
                models[model] = own
        return models

    def _hosts(self) -> tuple[Mapping[str, float], Distribution | None]:
        """Each host's median, and how far its boots stray from it: none where hosts do not keep to a time of their own,
        or nobody knows."""
        by_host: dict[str, list[float]] = {}
        by_model: dict[str, list[float]] = {}
        for boot in self._o.boots:
            by_host.setdefault(boot.host, []).append(boot.seconds)
            by_model.setdefault(boot.model, []).append(math.log(boot.seconds))
        hosts = {name: round(median(times), 3) for name, times in sorted(by_host.items())}
        within = _within(by_host.values())
        # A host that is like others of its model is not known by its own time.
        count = sum(len(logs) for logs in by_model.values())
        between = math.sqrt(sum(len(logs) * pvariance(logs) for logs in by_model.values()) / max(1, count))
        if within is None or between <= 0 or within > 0.7 * between:
            return hosts, None
        # A host's median of few boots strays itself; the sum of both is what the next boot strays from it.
        return hosts, Lognormal(1.0, math.exp(_Z95 * max(within * math.sqrt(1.5), 1e-3)), 0.95)

    # -- redeploy ----------------------------------------------------------------------------------

    def _redeploy(self, fitted: Parameters) -> Parameters:
        o, base = self._o, self._base
        attempts, failed, lost = (sum(counts[i] for counts in o.verdicts.values()) for i in range(3))
        fitted = replace(
            fitted,
            task_failed_share=self._share("task_failed_share", failed, attempts, base.task_failed_share),
            dark_share=self._share("dark_share", lost, attempts, base.dark_share),
        )
        if not o.slices:
            return fitted
        model = _slice_model(o.slices)
        high = math.exp(_Z95 * max(model.spread, 0.02))
        playbooks = dict(base.playbooks)
        counts = Counter(piece.playbook for piece in o.slices)
        for name, each_s in model.each_s.items():
            takes_s = model.start_s[name] + each_s
            own = PlaybookParameters(
                takes=Lognormal(takes_s, takes_s * high, 0.95),
                host_share=model.by_host * each_s / takes_s,
                round_share=(1 - model.by_host) * each_s / takes_s,
            )
            self._samples[f"playbooks.{name}.takes"] = counts[name]
            tried, bad, _ = o.verdicts[name]
            if tried >= 50 and failed:
                own = replace(own, failed_share=(bad + LEAST * failed / attempts) / (tried + LEAST))
                self._samples[f"playbooks.{name}.failed_share"] = tried
            playbooks[name] = own
        usual_s = median(model.each_s.values())
        takes_s = median(model.start_s.values()) + usual_s
        return replace(
            fitted,
            playbook=self._times(
                "playbook", [model.start_s[name] + model.each_s[name] for name in model.each_s], base.playbook
            ),
            playbook_host_share=model.by_host * usual_s / takes_s,
            playbook_round_share=(1 - model.by_host) * usual_s / takes_s,
            playbook_slice_share=model.slowdown,
            pace=Lognormal(1.0, math.exp(_Z95 * model.between), 0.95) if o.runs > 1 else base.pace,
            playbooks=playbooks,
        )


def _tidied(value: Any) -> Any:
    """Numbers with the digits that samples can bear."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return float(f"{value:.5g}")
        case Mapping():
            return {key: _tidied(entry) for key, entry in value.items()}
        case tuple():
            return tuple(_tidied(entry) for entry in value)
    return type(value)(**{item.name: _tidied(getattr(value, item.name)) for item in fields(value) if item.init})


# -- distributions ----------------------------------------------------------------------------------


def describe(values: Sequence[float], base: Distribution) -> Distribution:
    """The distribution of these samples (at least one), in seconds; few of them are drawn towards ``base``."""
    least, most = min(values), max(values)
    floor = max(most * 1e-3, 1e-4)  # a logarithm needs more than nothing
    logs = [math.log(max(value, floor)) for value in values]
    centre, spread = fmean(logs), _log_spread([math.exp(x) for x in logs])
    count = len(values)
    if count < LEAST:
        share = count / LEAST
        middle = max(base.quantile(0.5), 1e-6)
        base_spread = math.log(max(base.quantile(0.95), middle) / middle) / _Z95
        centre = share * centre + (1 - share) * math.log(middle)
        spread = share * spread + (1 - share) * base_spread
    lognormal = Lognormal(math.exp(centre), math.exp(centre + _Z95 * spread), 0.95)
    if count < LEAST:
        return lognormal
    margin = (most - least) / (count - 1) / 2  # the ends of a uniform lie outside its samples by about half a gap
    uniform = Uniform(max(0.0, least - margin), most + margin)
    distances: list[tuple[float, Distribution]] = [
        (ks_distance(values, lognormal), lognormal),
        (ks_distance(values, uniform) * 1.25, uniform),  # it has no tail: it must be clearly nearer
    ]
    distance, best = min(distances, key=lambda pair: pair[0])
    # Parameters were fitted to the same samples, so that less than the usual distance is much (Lilliefors 1967: 0.886).
    return quantiles_of(values) if distance > 0.886 / math.sqrt(count) and count >= 20 else best


def _log_spread(values: Sequence[float]) -> float:
    """Standard deviation of the logarithms."""
    if len(values) < 2:
        return 0.0
    logs = [math.log(value) for value in values]
    centre = fmean(logs)
    return math.sqrt(fmean((x - centre) ** 2 for x in logs))


def _within(groups: Iterable[Sequence[float]]) -> float | None:
    """Spread of logarithms within the groups of two and more; None for fewer than ``LEAST`` groups."""
    squares, free, count = 0.0, 0, 0
    for values in groups:
        if len(values) > 1:
            squares += len(values) * _log_spread(values) ** 2
            free += len(values) - 1
            count += 1
    return math.sqrt(squares / free) if count >= LEAST else None


# -- slices ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _SliceModel:
    """A slice takes ``(start_s + each_s * x) * (1 + slowdown * others)`` seconds; the first two are its playbook's, and
    ``x`` lies between the slice's hosts (``by_host`` 1: they share a processor) and its rounds (0: they share nothing).
    """

    start_s: Mapping[str, float]
    each_s: Mapping[str, float]
    by_host: float
    slowdown: float
    spread: float  # standard deviation of the logarithm of what it leaves unexplained within a run
    between: float  # and of what whole runs differ by


def _slice_model(slices: Sequence[Slice]) -> _SliceModel:
    """The best of a grid, by the sum of the logarithms' distances (one odd slice bends it less than squares would);
    what makes it less simple has to be worth its price (see leastsquares).

    Playbooks either share their beginning, as those that start Ansible and then work, or differ in it as in the rest.
    """
    least_s = min(piece.seconds for piece in slices)
    others = sum(piece.others > 0 for piece in slices) >= LEAST
    count = len(slices)
    best = math.inf
    model: _SliceModel | None = None
    starts = [(step / 20 * least_s, True) for step in range(20)] + [(2.0**step / 4, False) for step in range(10)]
    for start, shared in starts:
        for by_host in (1.0, 0.75, 0.5, 0.25, 0.0):
            for slowdown in (0.0, 0.1, 0.25, 0.5, 1.0) if others else (0.0,):
                tried, error = _try(slices, start, shared, by_host, slowdown)
                more = (slowdown > 0) + (0 < by_host < 1)
                cost = 2 * count * math.log(error + 1e-9) + more * 2 * math.log(count)
                if cost < best - 1e-9:
                    best, model = cost, tried
    assert model is not None
    return model


def _try(
    slices: Sequence[Slice], start: float, shared: bool, by_host: float, slowdown: float
) -> tuple[_SliceModel, float]:
    """``start``: seconds, where it is ``shared``; otherwise a multiple of each playbook's time for one more."""
    sizes = [by_host * piece.hosts + (1 - by_host) * -(-piece.hosts // max(1, piece.forks)) for piece in slices]
    alone = [piece.seconds / (1 + slowdown * piece.others) for piece in slices]
    # A slice that shared the controller with others says less of how long it takes by itself.
    weights = [1.0 if piece.alone or slowdown else 0.25 for piece in slices]
    if shared:
        logs = [math.log(max(t - start, 0.02 * t) / x) for t, x in zip(alone, sizes, strict=True)]
    else:
        logs = [math.log(t / (start + x)) for t, x in zip(alone, sizes, strict=True)]
    by_name: dict[str, list[tuple[float, float]]] = {}
    for piece, log, weight in zip(slices, logs, weights, strict=True):
        by_name.setdefault(piece.playbook, []).append((log, weight))
    pooled = fmean(_weighted(own) for own in by_name.values())
    # A tenth of a sample's worth of the average playbook.
    each_s = {name: math.exp(_weighted([*by_name[name], (pooled, 0.1)])) for name in sorted(by_name)}
    start_s = {name: start if shared else start * each for name, each in each_s.items()}
    left = [
        math.log(t / (start_s[piece.playbook] + each_s[piece.playbook] * x))
        for piece, t, x in zip(slices, alone, sizes, strict=True)
    ]
    by_run: dict[int, list[float]] = {}
    for piece, x in zip(slices, left, strict=True):
        by_run.setdefault(piece.run, []).append(x)
    centres = {run: fmean(own) for run, own in by_run.items()}
    between = math.sqrt(fmean(x * x for x in centres.values())) if len(centres) > 1 else 0.0
    within = [x - (centres[piece.run] if len(centres) > 1 else 0.0) for piece, x in zip(slices, left, strict=True)]
    # Of a normal distribution, the mean distance from its middle is 0.8 standard deviations.
    spread = 1.2533 * _weighted([(abs(x), weight) for x, weight in zip(within, weights, strict=True)])
    # Compared within runs: on another day the whole controller was faster.
    error = sum(abs(x) * weight for x, weight in zip(within, weights, strict=True))
    return _SliceModel(start_s, each_s, by_host, slowdown, spread, between), error


def _weighted(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
