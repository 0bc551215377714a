"""Where one host and one group stand: the records that ``core.state`` folds events into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootorch.core.events import Scalar
from bootorch.core.limits import Draw, Resource
from bootorch.core.model import AdoptedPolicy, Group, Host, Outcome, Stage
from bootorch.core.reasons import Reason
from bootorch.core.urgency import Priority
from bootorch.core.values import value

METERS = "\n"  # in place of a host's name: a timer for meters
NO_PROOF: tuple[str, float | None] = ("", None)
NO_ANSWER: tuple[Reason, str] = (Reason.OK, "")
_NOTHING: Mapping[str, Scalar] = {}


@value(frozen=True, slots=True)
class Ending:
    """How a host ends because a person said so. Carried out as soon as nothing is under way for the host; it stays
    as the record of who ended it.

    ``after``: the stage that it may finish first. ``abort``: said of the whole run, not of this host."""

    outcome: Outcome
    detail: str
    abort: bool = False
    after: Stage | None = None


@dataclass(slots=True, eq=False)
class Alike:
    """What hosts have in common that wait for the same things: a quorum that comes about touches this, and a host only
    when nothing is left that it waits for."""

    waits: int  # dependencies that do not hold yet, but for the group's first member
    control_waits: int  # those of them that the recovery itself needs to reach a BMC
    impossible: str  # the dependency that never will hold
    hosts: list[HostState] = field(default_factory=list)


# The fields of a host lie in the order in which they are touched together: of a million hosts none is in the
# processor's caches when its turn comes, and what lies apart takes a fetch of 64 bytes more each. CPython sorts the
# slots of one class by name and sets those of a class before those of its subclasses, so each part below is a class.
# All of them with the collector's 16 bytes in front are the 512 bytes that its allocator gives out at most, and each
# part begins with a line of the cache (a test sees to it).


@dataclass(slots=True, eq=False, kw_only=True)
class _AtEveryLook:
    name: str
    place: int  # among the plan's hosts
    group: Group
    draw: Draw
    bmc_slot: str  # what an exchange with its BMC takes; empty where that is not limited
    boot_slots: tuple[str, ...]  # what it holds from its power-on to the proof of its boot
    alike: Alike
    behind: int  # 1: it waits for its group's first member
    outcome: Outcome | None = None
    inflight: int = 0  # soft: id of the effect under way
    stage: Stage = Stage.WAIT
    stage_t: float = 0.0
    ending: Ending | None = None
    dark: str = ""  # the lost feed that all its electricity came from
    next_t: float = 0.0  # soft: not before
    last: tuple[Reason, str] = NO_ANSWER  # latest answer of the present stage
    tries: int = 0  # soft: consecutive failures in this stage
    held: tuple[str, ...] = ()  # soft: slots taken
    timer_t: float = -1.0  # soft: its latest timer
    asked_t: float | None = None  # soft: first question to its BMC since there is electricity
    started_t: float | None = None  # first effect
    void_id: int = 0  # answers to effects before this one are of no meaning: the electricity went or came since
    answer: tuple[object, ...] = ()  # what makes the next equal answer not worth a journal line
    watched: tuple[object, ...] = ()  # the watch whose intent is journalled already
    surveyed: bool = False  # its power state was read while it waited for others
    power: str = ""  # as last read: on, off, or empty for unknown
    read_t: float = 0.0  # when the power state was last read
    read_off_t: float | None = None  # an off reading that no power-on has used up
    reserved: bool = False  # watts and slots of a power-on are held
    on_t: float | None = None  # latest power-on or cycle
    on_real_t: float = 0.0  # first power-on of this boot, or its cycle, in real time, gaps included
    on_attempts: int = 0  # power-ons of the present boot
    boots: int = 1
    unbooted: tuple[Reason, str] | None = None  # this boot was given up, and why; the power state decides what next
    adopted: bool = False
    examined: bool = False  # evidence of this stage's failure was asked for
    playbook: int = 0
    redeploy_attempts: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class _AtThePowerOn(_AtEveryLook):
    priority: Priority
    parked: Resource | None = None  # soft: what it waits for
    admitted_t: float | None = None  # watts and slots were given: the power deadline runs from here
    observed: bool = False  # a parent outside --limit: looked at, never switched on
    switched_on: bool = False  # by this run, at any time: its playbooks are ours to run, however it is found later
    on_before: float | None = None  # the power-on or cycle before ``on_t``
    on_refused: tuple[Reason, str] | None = None  # why the latest power-on was not accepted
    resend_t: float = 0.0  # an off reading from then on allows another power-on
    cycled: bool = False  # ``on_t`` was a cycle: no reading said off before it
    saw_down: bool = False
    retries: int = 0  # actions that had to be repeated, for the report
    # Seldom.
    redeploy_t: float | None = None
    dark_count: int = 0  # times that a playbook lost it
    metered: bool = False  # its own draw was asked for
    blamed: bool = False  # breakers count its failure
    symptoms: Mapping[str, Scalar] = field(default_factory=lambda: _NOTHING)  # evidence of its failure: core.evidence


@dataclass(slots=True, eq=False, kw_only=True)
class HostState(_AtThePowerOn):
    """Where one host stands. Soft fields a resumed run begins anew; the journal determines the others."""

    host: Host
    proof: tuple[str, float | None] = NO_PROOF  # of its boot: its boot id (empty: not told), seconds that it was up
    proven: bool = False  # every check of the last stage holds
    reason: Reason = Reason.OK
    detail: str = ""
    settled_t: float = 0.0

    def enter(self, stage: Stage, t: float) -> None:
        self.stage = stage
        self.stage_t = t
        self.tries = 0
        self.next_t = t
        self.last = NO_ANSWER
        self.examined = False

    def begin_anew(self, t: float) -> None:
        """Nothing is known any more: the electricity went, or somebody may have been at the host. Playbooks that were
        done are on its disks."""
        self.stage = Stage.WAIT
        self.stage_t = self.next_t = t
        self.outcome = None
        self.reason, self.detail, self.settled_t = Reason.OK, "", 0.0
        self.adopted = self.surveyed = self.reserved = self.examined = False
        self.unbooted = None
        self.saw_down = self.proven = self.metered = False
        self.power, self.read_off_t, self.admitted_t = "", None, None
        self.on_attempts, self.on_t, self.on_refused, self.boots = 0, None, None, 1
        self.redeploy_attempts, self.redeploy_t, self.tries, self.asked_t = 0, None, 0, None
        self.dark_count = 0
        self.last = NO_ANSWER
        self.parked = None
        self.answer = self.watched = ()

    @property
    def waits(self) -> int:
        """Dependencies that do not hold yet."""
        return self.alike.waits + self.behind

    @property
    def may_go(self) -> bool:
        """Nothing of its own keeps it from being switched on: it is off, and what it depends on holds."""
        if self.stage is Stage.WAIT:
            return not self.alike.waits and not self.behind and self.read_off_t is not None
        return self.stage is Stage.POWER

    @property
    def evidence(self) -> dict[str, Scalar]:
        """The proof of its boot, as far as it was told."""
        boot_id, uptime_s = self.proof
        return {**({"boot_id": boot_id} if boot_id else {}), **({} if uptime_s is None else {"uptime_s": uptime_s})}

    @property
    def redeploys(self) -> bool:
        if not self.group.redeploy or self.observed:
            return False
        return not self.adopted or self.switched_on or self.group.adopted is AdoptedPolicy.REDEPLOY


@dataclass(slots=True, eq=False)
class GroupState:
    """Counts of one group."""

    group: Group
    size: int
    settled: int = 0
    failed: int = 0  # by themselves: what breakers look at
    failed_base: int = 0  # failures that a breaker reset has forgiven
    forks: int = 0  # of the slices under way
