"""The events of a run: the only thing that changes state, and all that a journal holds.

Every event carries ``t``, the run time in seconds: time that bootorch was awake, monotonic, continued on resume. The
wall clock appears only where a person wants it (``RunStarted``, ``RunResumed``): clocks are wrong after a blackout.

Codec: one JSON object per event with a type word ``e`` and the version of that type's shape ``v``. A reader accepts
every version up to its own; unknown fields of the same version are an error, because guessing is worse than stopping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import ClassVar

from bootorch.core.model import Outcome
from bootorch.core.reasons import Reason
from bootorch.core.values import value

Scalar = str | int | float | bool


class Kind(StrEnum):
    """What drivers can be asked to do."""

    __hash__ = str.__hash__  # Enum's own is a Python function, and kinds are looked up for every event

    POWER_READ = "power.read"
    BOOT_DEVICE = "power.bootdev"  # of older journals: a part of the power-on now
    POWER_ON = "power.on"
    POWER_CYCLE = "power.cycle"
    BOOT_PROBE = "boot.probe"
    READY_CHECK = "ready.check"
    VERIFY_CHECK = "verify.check"
    REDEPLOY = "redeploy"
    GATE_CHECK = "gate.check"
    EVIDENCE = "power.evidence"
    METER = "power.meter"  # a host's own draw, asked of its BMC
    FEED_METER = "feed.meter"  # a feed's draw, asked of its meter


# Effects that change nothing in the world. Repeated, they are one watch: the intent of the first exchange and every
# answer that differs from the one before are journalled, the rest only folded. (Evidence is taken once: no watch.)
READ_ONLY = frozenset(
    {Kind.POWER_READ, Kind.BOOT_PROBE, Kind.READY_CHECK, Kind.VERIFY_CHECK, Kind.GATE_CHECK, Kind.FEED_METER}
)


@value(frozen=True, slots=True)
class RunStarted:
    type: ClassVar[str] = "run.started"
    version: ClassVar[int] = 1
    t: float
    run_id: str
    plan: str
    plan_digest: str
    hosts: int
    seed: int
    wall: str  # ISO 8601 with offset
    by: str
    limit: str = ""  # the pattern of --limit; empty: the whole plan
    selected: tuple[str, ...] = ()  # the hosts that the pattern meant; empty without a limit


@value(frozen=True, slots=True)
class RunResumed:
    """``gap_s``: how long bootorch was away in real time; evidence ages by it, deadlines do not.

    ``told_by``: the clock that told it, ``boot`` (of the machine, sure) or ``wall`` (a guess, perhaps wrong by hours).
    ``asleep``: the same process goes on, after the machine was suspended or the process stopped; a pause stays one.
    ``taken_from``: the driver that it was taken over from by a person's word, who may have said ``why``.
    """

    type: ClassVar[str] = "run.resumed"
    version: ClassVar[int] = 1
    t: float
    gap_s: float
    wall: str
    by: str
    reset_breakers: bool = False
    told_by: str = "boot"
    asleep: bool = False
    taken_from: str = ""
    why: str = ""


@value(frozen=True, slots=True)
class RunEnded:
    """``verdict`` is the exit code's word; the run cannot be resumed after ``done``."""

    type: ClassVar[str] = "run.ended"
    version: ClassVar[int] = 1
    t: float
    verdict: str
    wall: str


@value(frozen=True, slots=True)
class Intent:
    """An effect is about to leave. On disk before the packet does (but for repeats of a watch, see ``READ_ONLY``)."""

    type: ClassVar[str] = "intent"
    version: ClassVar[int] = 1
    t: float
    id: int
    kind: Kind
    target: str  # host; group for a redeploy slice; gate for a gate's check
    attempt: int = 1
    hosts: tuple[str, ...] = ()  # a redeploy slice's hosts
    args: Mapping[str, Scalar] = field(default_factory=dict)
    durable: bool = True


@value(frozen=True, slots=True)
class Answer:
    """An effect has ended: the reason code, a line for people, and evidence."""

    type: ClassVar[str] = "answer"
    version: ClassVar[int] = 1
    t: float
    id: int
    kind: Kind
    target: str
    reason: Reason
    detail: str = ""
    data: Mapping[str, Scalar] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # redeploy: host -> (reason, detail)
    durable: bool = True


@value(frozen=True, slots=True)
class Settled:
    """A host has its outcome."""

    type: ClassVar[str] = "settled"
    version: ClassVar[int] = 1
    t: float
    host: str
    outcome: Outcome
    reason: Reason = Reason.OK
    detail: str = ""


@value(frozen=True, slots=True)
class BootFailed:
    """The boot stage gave up on this boot; another is allowed (``attempts.boot``) if the power state permits."""

    type: ClassVar[str] = "boot.failed"
    version: ClassVar[int] = 1
    t: float
    host: str
    reason: Reason = Reason.NO_BOOT  # the last answer of the boot's watch
    detail: str = ""


@value(frozen=True, slots=True)
class Tripped:
    """A breaker: power-ons and redeploys of ``scope`` (``group:NAME`` or ``model:NAME``) stop until reset."""

    type: ClassVar[str] = "breaker.tripped"
    version: ClassVar[int] = 1
    t: float
    scope: str
    detail: str


@value(frozen=True, slots=True)
class GateOpened:
    type: ClassVar[str] = "gate.opened"
    version: ClassVar[int] = 1
    t: float
    gate: str
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Paused:
    """What is in flight finishes; nothing new starts."""

    type: ClassVar[str] = "paused"
    version: ClassVar[int] = 1
    t: float
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Continued:
    """A run that was paused goes on in the same process. Deadlines do not count the time in between."""

    type: ClassVar[str] = "continued"
    version: ClassVar[int] = 1
    t: float
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Aborted:
    """A person ends the run: no host begins another stage. ``at_once``: not even what is under way is waited for."""

    type: ClassVar[str] = "aborted"
    version: ClassVar[int] = 1
    t: float
    by: str
    why: str = ""
    at_once: bool = False


@value(frozen=True, slots=True)
class OfHosts:
    """What a person says about some hosts. ``pattern`` is what was typed, ``hosts`` those for which it makes a
    difference."""

    t: float
    hosts: tuple[str, ...]
    pattern: str = ""
    by: str = ""
    why: str = ""


@value(frozen=True, slots=True)
class Quarantined(OfHosts):
    """Nothing more is sent to the hosts; what is under way ends first."""

    type: ClassVar[str] = "hosts.quarantined"
    version: ClassVar[int] = 1


@value(frozen=True, slots=True)
class Skipped(OfHosts):
    """The run leaves the hosts out from now on; what is under way ends first."""

    type: ClassVar[str] = "hosts.skipped"
    version: ClassVar[int] = 1


@value(frozen=True, slots=True)
class Lifted(OfHosts):
    """Hosts that were quarantined or skipped belong to the run again, and nothing is assumed of them."""

    type: ClassVar[str] = "hosts.lifted"
    version: ClassVar[int] = 1


@value(frozen=True, slots=True)
class Retried(OfHosts):
    """Hosts that failed are tried again from their state read on, and so is who was blocked because of them."""

    type: ClassVar[str] = "hosts.retried"
    version: ClassVar[int] = 1


@value(frozen=True, slots=True)
class BreakerReset:
    """A person has seen the failures that tripped the breaker of ``scope``: only new ones count."""

    type: ClassVar[str] = "breaker.reset"
    version: ClassVar[int] = 1
    t: float
    scope: str
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Chosen:
    """A person named the member of ``group`` that starts first (``model.First``)."""

    type: ClassVar[str] = "first.chosen"
    version: ClassVar[int] = 1
    t: float
    group: str
    host: str
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Admitted:
    """Watts and slots are given to ``host``, and only its BMC's subnet is busy: nobody else takes them meanwhile.

    ``withdrawn``: they are taken back before the power-on has left, because a feed has no room for it any more."""

    type: ClassVar[str] = "admitted"
    version: ClassVar[int] = 1
    t: float
    host: str
    withdrawn: bool = False


@value(frozen=True, slots=True)
class LimitSet:
    """A limit has another value from now on. ``kind``: ``feed`` (budget in ``value``, ramp and inrush where given; a
    supply other than electricity by its full name) or ``slot``. What runs already goes on: nothing is switched off."""

    type: ClassVar[str] = "limit.set"
    version: ClassVar[int] = 1
    t: float
    kind: str
    name: str
    value: float | None = None
    ramp: float | None = None
    inrush: float | None = None
    by: str = ""
    why: str = ""


@value(frozen=True, slots=True)
class FeedLost:
    """A feed (or a part of the tree below one) is without electricity. Hosts that hang on it alone are dark."""

    type: ClassVar[str] = "feed.lost"
    version: ClassVar[int] = 1
    t: float
    feed: str
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class FeedReturned:
    """A feed has electricity again: its hosts are looked at anew, and nothing is assumed of them."""

    type: ClassVar[str] = "feed.returned"
    version: ClassVar[int] = 1
    t: float
    feed: str
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class ScopeAdded:
    """``hosts``, outside ``--limit`` until now, belong to the run from now on; ``pattern`` is what was asked for."""

    type: ClassVar[str] = "scope.added"
    version: ClassVar[int] = 1
    t: float
    pattern: str
    hosts: tuple[str, ...]
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class TierSet:
    """A group has another tier from now on: who goes first changes, what runs does not."""

    type: ClassVar[str] = "tier.set"
    version: ClassVar[int] = 1
    t: float
    group: str
    tier: int
    by: str
    why: str = ""


@value(frozen=True, slots=True)
class Adapted:
    """An adaptive slot shrank because of overload, or grew again. ``slot``: the resource's name, such as
    ``image_server:pxe-1``."""

    type: ClassVar[str] = "slot.adapted"
    version: ClassVar[int] = 1
    t: float
    slot: str
    limit: int
    why: str


@value(frozen=True, slots=True)
class TailCut:
    """The journal's end was damaged, and a person cut it off: what happened from event number ``first`` on is lost."""

    type: ClassVar[str] = "journal.cut"
    version: ClassVar[int] = 1
    t: float
    first: int
    lost: int  # events, as far as is known
    wall: str  # ISO 8601 with offset
    by: str
    why: str = ""
    kept: str = ""  # the file that holds the damaged journal


@value(frozen=True, slots=True)
class MirrorLost:
    """The copy beside (``--mirror``) cannot be kept up to date; the run goes on without it."""

    type: ClassVar[str] = "mirror.lost"
    version: ClassVar[int] = 1
    t: float
    where: str
    why: str


@value(frozen=True, slots=True)
class MirrorBack:
    """The copy beside is up to date again."""

    type: ClassVar[str] = "mirror.back"
    version: ClassVar[int] = 1
    t: float
    where: str


Event = (
    RunStarted
    | RunResumed
    | RunEnded
    | Intent
    | Answer
    | Settled
    | BootFailed
    | Tripped
    | GateOpened
    | Paused
    | Continued
    | Aborted
    | Quarantined
    | Skipped
    | Lifted
    | Retried
    | BreakerReset
    | Chosen
    | Admitted
    | LimitSet
    | FeedLost
    | FeedReturned
    | ScopeAdded
    | TierSet
    | Adapted
    | TailCut
    | MirrorLost
    | MirrorBack
)

TYPES: Mapping[str, type[Event]] = {
    cls.type: cls
    for cls in (
        RunStarted,
        RunResumed,
        RunEnded,
        Intent,
        Answer,
        Settled,
        BootFailed,
        Tripped,
        GateOpened,
        Paused,
        Continued,
        Aborted,
        Quarantined,
        Skipped,
        Lifted,
        Retried,
        BreakerReset,
        Chosen,
        Admitted,
        LimitSet,
        FeedLost,
        FeedReturned,
        ScopeAdded,
        TierSet,
        Adapted,
        TailCut,
        MirrorLost,
        MirrorBack,
    )
}
