"""What the views ask of the composition root. ``bootorch.runs`` implements it; nothing here touches the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bootorch.core.errors import Exit, Problem

if TYPE_CHECKING:  # for words only: `--help` does not wait for the engine
    from bootorch.core.changes import Change
    from bootorch.core.events import Event
    from bootorch.core.plan import Plan
    from bootorch.core.state import State
    from bootorch.core.words import Order


class Observer(Protocol):
    """Is told what was committed, in order, right after the commit. Must return at once."""

    def on_events(self, events: Sequence[Event], state: State) -> None: ...


@runtime_checkable
class OutlookObserver(Protocol):
    """An observer that also shows when the run is expected to be done. Called from another thread, at any time."""

    def on_outlook(self, words: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadRequest:
    plan: Path
    vault_password_file: Path | None = None
    allow_stale: bool = False


@dataclass(frozen=True, slots=True)
class RunRequest:
    load: LoadRequest
    limit: str | None = None  # None: no --limit given; an empty or unmatched pattern is refused, it never means all
    confirm: str = ""  # the typed plan name
    seed: int = 0
    new: bool = False  # start anew although an unfinished run of this plan exists
    run_dir: Path | None = None  # where the run is kept; None: runs/ beside the plan
    mirror: Path | None = None  # a directory, on another disk, for a copy of the journal
    approve: Mapping[str, str] = field(default_factory=dict)  # gate -> who attests
    dark: tuple[str, ...] = ()  # feeds without electricity as the run begins
    wait_gates: bool = True  # False: stop with exit 4 when only an unanswered gate is left
    stay: bool = False  # a paused run waits for the word to go on; False: it ends with exit 5
    forecast: bool = True  # renew the estimate of its end while it goes on
    parameters: Path | None = None  # of the simulated world: of a dry run, and of that estimate
    by: str = ""


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    target: Path  # a run's directory or journal, or a plan: its latest unfinished run
    vault_password_file: Path | None = None
    confirm: str = ""
    reset_breakers: bool = False
    mirror: Path | None = None
    approve: Mapping[str, str] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()  # said right after the resume
    take_over: bool = False  # from a process that has not provably ended
    why: str = ""
    wait_gates: bool = True
    stay: bool = False
    forecast: bool = True
    parameters: Path | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of an order. ``status``: ``effective``, ``already`` (nothing to change), ``refused`` by the running
    process, or ``left`` for it: it has not answered in time."""

    run_dir: Path
    status: str
    said: str
    event: Change | None = None


@dataclass(frozen=True, slots=True)
class PlanView:
    """A checked plan and what is worth a warning."""

    plan: Plan
    warnings: tuple[Problem, ...]
    snapshot: str  # one line: where the hosts come from (snapshot of DATE, or rendered just now)
    from_snapshot: bool = True


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run (or of this stretch of it). ``state`` is the fold of all its events."""

    exit_code: Exit
    state: State
    events: Sequence[Event]
    run_dir: Path | None  # None: a dry run
    report: Path | None = None
    mirror: str = ""  # where the copy of the journal stands, in words; empty: there is none


@dataclass(frozen=True, slots=True)
class History:
    """A run as its journal tells it. ``running`` when a process holds it at this moment."""

    state: State
    events: Sequence[Event]
    run_dir: Path
    running: bool
    parameters_text: str = ""  # of the simulated world, where the plan names a file of them


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands: the document that its process keeps (``core.standing``), and what is known besides."""

    document: Mapping[str, Any]
    run_dir: Path
    running: bool  # a process holds the run at this moment
    event: int  # the number of the event that the document stands for
    later_events: int  # that came after it: at most a second of them
    written_wall_s: float | None  # seconds since the epoch; None: nothing was kept, it was made of the events just now

    @property
    def done(self) -> bool:
        """Every host has its outcome: nothing is left to resume."""
        return not self.document["in_progress"] and not self.later_events


class Services(Protocol):
    """Raises ``OperatorError`` kinds only."""

    def plan(self, request: LoadRequest) -> PlanView: ...

    def schema(self) -> Mapping[str, object]: ...

    def snapshot(self, request: LoadRequest) -> tuple[Path, str]:
        """Render the inventory once. Returns the file and a line of what is in it."""
        ...

    def run(self, request: RunRequest, observer: Observer) -> RunResult: ...

    def dry_run(self, request: RunRequest, observer: Observer) -> RunResult:
        """The same engine in the simulated world and virtual time. Opens no socket and starts no process."""
        ...

    def resume(self, request: ResumeRequest, observer: Observer) -> RunResult: ...

    def status(self, target: Path) -> Status:
        """As ``history``, but from what the run keeps: at once, however many hosts and events there are."""
        ...

    def checkpoint(self, target: Path) -> int:
        """Keep the run's state in its journal (``runtime.checkpoint``); the number of its last event."""
        ...

    def history(self, target: Path) -> History:
        """``target``: a run's directory or journal, or a plan: its latest run. Read-only."""
        ...

    def journal(self, target: Path) -> Path:
        """The journal that ``target`` means: a run's directory or journal, or a plan: its latest run."""
        ...

    def living(self, target: Path) -> Path | None:
        """The directory of the run, if a process holds it at this moment. ``target`` as for ``resume``."""
        ...

    def running(self, directory: Path) -> Sequence[Path]:
        """Directories of the runs that go on now, kept in ``directory`` or one below it."""
        ...

    def change(self, target: Path, order: Order) -> Answered:
        """Check the order, say it to the process that runs this journal, and wait for its answer.

        InvalidInput where the order makes no sense, or no process runs the journal.
        """
        ...
