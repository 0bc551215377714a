"""What the power commands ask of the composition root (``bootorch.power``); nothing here touches the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from bootorch.core.reasons import Reason
from bootorch.runtime.targets import Selection, Target


class Verb(StrEnum):
    """In the order of the help."""

    STATUS = "status"
    ON = "on"
    OFF = "off"
    SOFT = "soft"
    CYCLE = "cycle"
    RESET = "reset"
    IDENTIFY = "identify"
    BOOTDEV = "bootdev"
    POLICY = "policy"
    SEL = "sel"
    CONSOLE = "console"
    INFO = "info"
    SENSORS = "sensors"


_ACTING = frozenset((Verb.ON, Verb.OFF, Verb.SOFT, Verb.CYCLE, Verb.RESET, Verb.BOOTDEV))


class Request(NamedTuple):
    """What is to be done. Each field belongs to the verbs that have such an option."""

    verb: Verb
    wait: bool = False  # until the power reads as it should
    confirm: int | None = None  # how many hosts the operator means
    seconds: int | None = None  # identify; 0: light out, None: until told otherwise
    device: str = ""
    persistent: bool = False
    efi: bool | None = None  # None: as the host's facts say
    policy: str = ""  # empty: read it
    since_s: float | None = None
    last: int = 100
    log: Path | None = None
    for_s: float | None = None
    steal: bool = False
    despite_run: bool = False  # although a run drives these hosts

    @property
    def acts(self) -> bool:
        """It changes what a server does, or will do at its next boot."""
        return self.verb in _ACTING or (self.verb is Verb.POLICY and bool(self.policy))


class Limits(NamedTuple):
    """How hard to try. ``window``: most BMCs at the same time; ``None``, ``""``: the engine's own choice."""

    timeout_s: float
    window: int | None = None
    privilege: str = ""


class Row(NamedTuple):
    """How one target ended. ``state``: one or two words, empty where nothing is known; ``lines``: more, for people;
    ``data``: more, for programs (a value of JSON); ``watts``: power draw."""

    target: str
    state: str
    reason: Reason
    detail: str
    attempts: int
    elapsed_s: float
    lines: tuple[str, ...] = ()
    data: object = None
    watts: float | None = None


class PowerServices(Protocol):
    """``targets`` raises ``OperatorError`` kinds; what goes wrong with a BMC is a ``Row``."""

    def targets(self, selection: Selection, ask: Callable[[str], str] | None) -> Sequence[Target]: ...

    def perform(
        self, request: Request, targets: Sequence[Target], limits: Limits, ended: Callable[[Row], None]
    ) -> None:
        """Blocks until each target has ended, in any order. KeyboardInterrupt leaves the others without a row."""
        ...

    def console(self, request: Request, target: Target, limits: Limits) -> Row:
        """The serial console of one host, on the terminal or into a file, until it ends."""
        ...
