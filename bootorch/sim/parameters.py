# ruff: noqa: RUF009 - the values are frozen
"""What the simulated world is like, as values: every number that a draw is made from, with its unit and its source.

``Parameters()`` knows the faults of one host and nothing else, with times that scale with the plan's deadlines;
``FIELD`` is what mass cold boots show in the field; ``CALM`` has no fault at all. Each field's metadata says what it is
(``about``), in which ``unit``, and where the number of ``FIELD`` comes from (``source``): files, their comments and
docs/simulation.md are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bootorch.sim.distributions import NOTHING, ONE, Distribution, Lognormal, Uniform
from bootorch.sim.machine import BootFailure

SECONDS, SHARE, FACTOR, COUNT, WORD = "seconds", "share", "factor", "count", "word"
_BRIEF = "assumption: no figure is published"


def _said(default: Any, unit: str, about: str, source: str = _BRIEF) -> Any:
    metadata = {"unit": unit, "about": about, "source": source}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Epidemic:
    """A fault of a whole model: with ``probability``, a share of its hosts (drawn from ``share``) never boots.

    ``model`` and ``firmware`` name the class; without a model one of the plan's is chosen by the seed.
    """

    probability: float
    share: Distribution = Uniform(0.1, 1.0)
    model: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class Storm:
    """BMCs that fall silent together: with ``probability``, from ``at`` on for ``lasts`` (both seconds), ``share`` of
    the BMCs of one /24 (or of all, with ``everywhere``)."""

    probability: float
    at: Distribution = Uniform(0.0, 3600.0)
    lasts: Distribution = Uniform(60.0, 600.0)
    share: float = 1.0
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """What one model does otherwise. None: as all others."""

    boot: Distribution | None = None  # seconds, absolute: no scale
    tail_share: float | None = None
    dead_share: float | None = None
    bmc_boot: Distribution | None = None
    power: Distribution | None = None
    vendor: str | None = None


@dataclass(frozen=True, slots=True)
class PlaybookParameters:
    """What one playbook (by its file name, such as ``web.yml``) does otherwise. None: as all others."""

    takes: Distribution | None = None  # seconds, on one host, absolute: no scale
    host_share: float | None = None
    round_share: float | None = None
    failed_share: float | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the field sees. Seconds, shares (0 to 1), factors and counts; see the metadata of each field."""

    scale_to_deadlines: bool = _said(
        True, WORD, "times are for the default deadlines, and scale with the plan's own", "whoever writes boot: 20m"
        " expects boots of about five minutes; measured times are absolute"
    )  # fmt: skip

    # The BMC
    bmc_boot: Distribution = _said(
        Lognormal(60.0, 300.0, 0.99), SECONDS, "electricity until the BMC answers", "20 s Intel, 30 s HPE, by manual"
    )
    dead_bmc_share: float = _said(0.005, SHARE, "hosts whose BMC never answers")
    exchange: Distribution = _said(
        Lognormal(0.05, 0.5, 0.99), SECONDS, "one exchange with a BMC that answers, login included"
    )
    command: Distribution | None = _said(
        None, SECONDS, "a power command, until the BMC has accepted it; none: as exchange"
    )
    command_slowdown: float = _said(
        0.0, FACTOR, "a power command takes longer by this share of itself for each other one under way"
    )
    evidence: Distribution = _said(
        Lognormal(1.0, 10.0, 0.99), SECONDS, "a read of the event log", "20 to 100 records at 20 to 50 ms each"
    )
    silence: Distribution = _said(Uniform(3.0, 3.0), SECONDS, "until a BMC that does not answer is given up")
    loss_share: float = _said(
        0.0, SHARE, "IPMI packets lost while nothing else is under way", "1 %, rises with concurrency"
    )
    loss_per_100: float = _said(
        0.0, SHARE, "packets lost in addition for each 100 exchanges under way at once", "rises with concurrency"
    )
    resend: Distribution = _said(
        Uniform(1.0, 1.0), SECONDS, "what a lost packet costs", "ipmitool sends again after 1 s"
    )
    exchange_slowdown: float = _said(
        0.0, FACTOR, "an exchange takes longer by this share of itself for each other one under way"
    )

    # Power
    power: Distribution = _said(
        Lognormal(3.0, 20.0, 0.95), SECONDS, "accepted power-on until the chassis reads on", "46 s seen on one node"
    )
    slow_power_share: float = _said(0.0, SHARE, "power-ons that take `slow_power`", "5 % take 20-60 s")
    slow_power: Distribution = _said(Uniform(20.0, 60.0), SECONDS, "a slow power-on", "5 % take 20-60 s")
    silent_power_share: float = _said(
        0.01, SHARE, "hosts whose first power-on is accepted without effect", "polls and re-sends elsewhere show it"
    )
    busy_share: float = _said(0.0, SHARE, "hosts whose first power-on is refused as busy", "1 %")

    # Boot
    boot: Distribution = _said(
        Lognormal(300.0, 720.0, 0.95), SECONDS, "power until the first login", "median 5 min, p95 12 min"
    )
    tail_share: float = _said(0.0, SHARE, "hosts that take `tail` instead", "a class tail; its share is an assumption")
    tail: Distribution = _said(Uniform(1200.0, 2700.0), SECONDS, "a boot of the tail class", "20-45 min")
    firmware_reboot_share: float = _said(0.0, SHARE, "hosts whose firmware reboots by itself first", "rare")
    firmware_reboot: Distribution = _said(
        Uniform(1800.0, 14400.0), SECONDS, "what that adds to a boot", "firmware reboots up to 4 h"
    )
    repeat: Distribution | None = _said(
        None, FACTOR, "a boot of a host whose own time is known (`hosts`), as a multiple of it; none: not known"
    )
    no_post_share: float = _said(
        0.015, SHARE, "hosts that do not come back from a power cycle", "no trustworthy figure; 1.5 %"
    )
    young_dead_share: float | None = _said(None, SHARE, "the same where the fact `age` is young", "0.2 %")
    old_dead_share: float | None = _said(None, SHARE, "the same where the fact `age` is old", "5 %")
    failures: Mapping[BootFailure, float] = _said(
        {BootFailure.NO_POST: 1.0}, SHARE, "what a host that does not come back ends in, by weight"
    )
    epidemics: tuple[Epidemic, ...] = _said(
        (), WORD, "faults of a whole model", "GitHub 2016, Joyent 2014: 10-100 % of one model; the chance is assumed"
    )
    pxe_boots: int = _said(40, COUNT, "boots at once that an image server bears over TFTP", "trouble past about 40")
    http_boots: int = _said(200, COUNT, "the same over HTTP (the fact `netboot` is http)", "200")
    netboot_loss_share: float = _said(0.0, SHARE, "boots lost that begin above that number", "3 % loss above")

    # Hosts that are on, or start by themselves
    on_share: float = _said(0.0, SHARE, "hosts that run already as the run begins")
    restore_last_share: float = _said(0.0, SHARE, "hosts set to their last state after AC loss", "70 %")
    restore_on_share: float = _said(0.0, SHARE, "hosts set to start whenever AC returns", "10 %")
    was_on_share: float = _said(
        0.0, SHARE, "hosts of the former that ran as the electricity went", "0: an orderly shutdown on batteries"
    )
    auto_on: Mapping[str, Distribution] = _said(
        {"dell": Uniform(60.0, 240.0), "intel": Uniform(25.0, 300.0), "lenovo": Uniform(1.0, 15.0)},
        SECONDS, "AC until a host starts by itself, by vendor (fact `vendor`, `models`, or drawn)",
        "Dell 60-240 s, Intel random 25-300 s, Lenovo 1-15 s",
    )  # fmt: skip
    storms: tuple[Storm, ...] = _said((), WORD, "BMCs that fall silent together")

    # The operating system
    login: Distribution | None = _said(
        None, SECONDS, "a check of a host that answers, by SSH or otherwise; none: as exchange"
    )
    login_slowdown: float = _said(
        0.0, FACTOR, "a check takes longer by this share of itself for each other one under way"
    )
    refusal: Distribution = _said(
        Uniform(3.0, 3.0), SECONDS, "until a host that is down is given up", "a usual connect timeout"
    )
    ready: Distribution = _said(NOTHING, SECONDS, "first login until the readiness checks hold")

    # Redeploy
    playbook: Distribution = _said(Lognormal(40.0, 120.0, 0.95), SECONDS, "one playbook on a slice of one host")
    playbook_host_share: float = _said(0.0, FACTOR, "each further host of the slice adds this share of it")
    playbook_round_share: float = _said(0.0, FACTOR, "each further round (hosts / forks) adds this share of it")
    playbook_slice_share: float = _said(0.0, FACTOR, "each other slice under way adds this share of it")
    pace: Distribution = _said(
        ONE,
        FACTOR,
        "drawn once a run: all playbooks and checks take so many times as long (what else the machine does)",
    )
    task_failed_share: float = _said(0.01, SHARE, "a host's playbook fails, at each attempt")
    dark_share: float = _said(0.0, SHARE, "a playbook loses a host, at each attempt")
    playbooks: Mapping[str, PlaybookParameters] = _said({}, WORD, "what single playbooks do otherwise")

    # Electricity
    meter_factor: Distribution = _said(ONE, FACTOR, "a host's true steady draw as a multiple of the inventory's")

    # Who differs
    models: Mapping[str, ModelParameters] = _said({}, WORD, "what single models do otherwise")
    hosts: Mapping[str, float] = _said({}, SECONDS, "median of a host's own boots, as measured")
    samples: Mapping[str, int] = _said({}, COUNT, "how many samples a fitted number rests on")


CALM = Parameters(silent_power_share=0.0, no_post_share=0.0, dead_bmc_share=0.0, task_failed_share=0.0)

FIELD = replace(
    Parameters(),
    loss_share=0.01,
    loss_per_100=0.005,
    power=Lognormal(3.0, 15.0, 0.95),
    slow_power_share=0.05,
    busy_share=0.01,
    tail_share=0.01,
    firmware_reboot_share=0.0005,
    repeat=Lognormal(1.0, 1.15, 0.95),
    young_dead_share=0.002,
    old_dead_share=0.05,
    epidemics=(Epidemic(0.02),),
    netboot_loss_share=0.03,
    restore_last_share=0.7,
    restore_on_share=0.1,
    storms=(Storm(0.05),),
    dark_share=0.002,
    pace=Lognormal(1.0, 1.2, 0.95),
    meter_factor=Lognormal(1.0, 1.15, 0.95),
)
