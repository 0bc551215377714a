"""Why a host did not boot, from the evidence of its BMC: ``diagnose``. Pure; the rules are ``core.symptoms``.

How the witnesses rank, the first that says something decisive is believed:

1. A console whose last word is a login prompt: the operating system is up, whatever broke on the way.
2. Hardware errors in the event log: the firmware says so itself.
3. Power faults, where the chassis is off.
4. The console: what it said last is where the boot stands.
5. The event log's words on the boot: no media, no PXE server, the operating system stopped.
6. Errors that a server may survive, where nothing shows that it got past its self-test afterwards.
7. Silence: powered, and neither an event nor a character since the request.

Anything else is told, but decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootorch.core.evidence import MOST_LINE, Scalar, SelEvent, parse_sel, printable
from bootorch.core.reasons import Reason
from bootorch.core.symptoms import (
    CONSOLE,
    CONSOLE_EXPLAINS,
    KERNEL_STAMP,
    PAST_SELF_TEST,
    PROGRESS,
    SEL,
    Weight,
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``sure``: decisive, so that ``reason`` is the host's. ``detail`` is one line of at most 200 characters for a
    person: the decisive line, or what was seen. An operating system that is up is ``no_boot``, and sure."""

    reason: Reason
    detail: str
    sure: bool


# What ``diagnose`` can find, beside ``NO_BOOT``.
FOUND = ({rule.reason for rule in SEL} | {rule.reason for rule in CONSOLE}) - {Reason.NO_BOOT}

_UP = "the operating system is up, so look at its network and address"
_OS_STARTED = tuple(f"1f.0{offset}." for offset in range(7))  # boot completed, by device
_STEP = "0f.02."  # firmware progress
_STARTING_OS = "0f.02.13"  # the firmware hands over
_HANG = "0f.01."
_SENSOR = re.compile(r"[:(]")  # an event's text begins with its sensor
_WAITING = ("04", "05")  # progress: user authentication, user-initiated system setup


def diagnose(evidence: Mapping[str, Scalar]) -> Diagnosis:
    """The reason that the evidence (keys of ``core.evidence``) supports. Never raises, whatever it holds."""
    return _Case(evidence).diagnosis()


@dataclass(frozen=True, slots=True)
class _Seen:
    reason: Reason
    line: str
    at: int = -1  # position in the event log


class _Case:
    """One host's evidence, read once."""

    def __init__(self, evidence: Mapping[str, Scalar]) -> None:
        self._power = evidence.get("power")
        self._overload = evidence.get("overload") is True
        self._fault = evidence.get("fault") is True
        self._cause = _text(evidence, "restart_cause")
        self._last_power = _text(evidence, "last_power_event")
        self._has_sel, self._has_console = "sel" in evidence, "console" in evidence
        self._events = _standing(parse_sel(_text(evidence, "sel")))
        lines = _text(evidence, "console").split("\n")
        self._lines = [line for line in (KERNEL_STAMP.sub("", line).strip() for line in lines) if line]
        # The newest event that shows the firmware past its self-test.
        self._past_at = max((i for i, event in enumerate(self._events) if _past_self_test(event)), default=-1)
        self._past_on_console = any(PAST_SELF_TEST.search(line) for line in self._lines)

    def diagnosis(self) -> Diagnosis:
        console = self._console()
        if console is not None and console.reason is Reason.NO_BOOT:
            return _sure(console.reason, f"{console.line}: {_UP}")
        hardware = self._by_rank(Weight.HARDWARE)
        if hardware is not None:
            return _sure(hardware.reason, hardware.line)
        if self._power == "off" and (fault := self._power_fault()) is not None:
            return _sure(fault.reason, fault.line)
        boot = self._boot_events()
        early = self._by_rank(Weight.EARLY) or (self._power_fault() if not self._past else None)
        if console is not None:
            also = next(
                (seen for seen in (boot, early) if seen is not None and seen.reason is not console.reason), None
            )
            return _sure(console.reason, console.line if also is None else f"{console.line}; {also.line}")
        if boot is not None:
            return _sure(boot.reason, boot.line if boot.reason is not Reason.NO_BOOT else f"{boot.line}: {_UP}")
        if early is not None:
            return _sure(early.reason, early.line)
        if (silence := self._silence()) is not None:
            return silence
        return Diagnosis(Reason.NO_BOOT, _line("; ".join(self._remarks())), sure=False)

    @property
    def _past(self) -> bool:
        return self._past_at >= 0 or self._past_on_console

    # The witnesses

    def _by_rank(self, weight: Weight) -> _Seen | None:
        """The best ranked rule of this weight that an event meets, with the newest such event."""
        best: tuple[int, _Seen] | None = None
        for at, event in enumerate(self._events):
            # What came before the firmware was past its self-test did not end it.
            if weight is Weight.EARLY and (self._past_on_console or at < self._past_at):
                continue
            for rank, rule in enumerate(SEL):
                if rule.weight is weight and event.code.startswith(rule.code):
                    if best is None or rank <= best[0]:
                        best = rank, _Seen(rule.reason, _said(event, rule.meaning), at)
                    break
        return best[1] if best is not None else None

    def _power_fault(self) -> _Seen | None:
        for at, event in reversed([*enumerate(self._events)]):
            for rule in SEL:
                if rule.reason is Reason.POWER_FAULT and event.code.startswith(rule.code):
                    return _Seen(rule.reason, _said(event, rule.meaning), at)
        return _Seen(Reason.POWER_FAULT, self._flags()) if self._overload or self._fault else None

    def _flags(self) -> str:
        what = "power overload" if self._overload else "power fault"
        return f"chassis status: {what}" + (f", last power event: {self._last_power}" if self._last_power else "")

    def _boot_events(self) -> _Seen | None:
        """The newest word of the event log on how the boot went."""
        progress_seen = False
        for at, event in reversed([*enumerate(self._events)]):
            if event.code.startswith(_OS_STARTED):
                return _Seen(Reason.NO_BOOT, _said(event, "boot completed"), at)
            if event.code.startswith(_STEP):
                if not progress_seen and event.step in _WAITING:
                    return _Seen(Reason.IN_SETUP, _said(event, PROGRESS[event.step]), at)
                progress_seen = True
            for rule in SEL:
                if rule.weight is Weight.BOOT and event.code.startswith(rule.code):
                    return _Seen(rule.reason, _said(event, rule.meaning), at)
        return None

    def _console(self) -> _Seen | None:
        """What the console said last of all that means something; with its cause, where a line before told that."""
        for number in range(len(self._lines) - 1, -1, -1):
            line = self._lines[number]
            rule = next((rule for rule in CONSOLE if rule.pattern.search(line)), None)
            if rule is None:
                continue
            why = self._explained(rule.reason, number)
            return _Seen(rule.reason, f"console: {line}" if why is None else f"console: {why}; {line}")
        return None

    def _explained(self, reason: Reason, number: int) -> str | None:
        for line in reversed(self._lines[:number]):
            for pattern, explained in CONSOLE_EXPLAINS:
                if reason is explained and pattern.search(line):
                    return line
        return None

    def _silence(self) -> Diagnosis | None:
        """Many boards log no step, and many consoles are not redirected: it takes both to be sure."""
        heard = self._past or self._lines or not (self._has_sel and self._has_console)
        if self._power != "on" or heard:
            return None
        if step := self._last_step():
            said = f"its self-test stopped at: {step}"
        else:
            said = "no sign of a self-test in its event log"
        return _sure(Reason.NO_POST, f"{said}, and nothing on its console")

    def _last_step(self) -> str:
        for event in reversed(self._events):
            if event.code.startswith(_STEP):
                return PROGRESS.get(event.step, f"step {event.step}h")
        return ""

    def _remarks(self) -> list[str]:
        """What was seen and decides nothing."""
        remarks = []
        if step := self._last_step():
            remarks.append(f"last step of its self-test: {step}")
        other = [event for event in self._events if event.text and not event.code.startswith(_STEP)]
        if other:
            remarks.append(f"last in its event log: {printable(other[-1].text)}")
        elif self._has_sel and not step:
            remarks.append("nothing in its event log")
        if self._lines:
            remarks.append(f"console ends: {printable(self._lines[-1])}")
        elif self._has_console:
            remarks.append("nothing on its console")
        if self._overload or self._fault:
            remarks.append(self._flags())
        if "watchdog" in self._cause.lower():
            remarks.append(f"last restart: {printable(self._cause)}")
        return remarks


def _standing(events: Sequence[SelEvent]) -> list[SelEvent]:
    """Events that were not taken back: a de-assertion clears what the same sensor said before."""
    standing: list[SelEvent] = []
    for event in events:
        if event.deasserted:
            standing = [other for other in standing if _condition(other) != _condition(event)]
        else:
            standing.append(event)
    return standing


def _condition(event: SelEvent) -> tuple[str, str, str]:
    return event.kind, event.offset, _SENSOR.split(event.text, maxsplit=1)[0].strip()


def _past_self_test(event: SelEvent) -> bool:
    return event.code == _STARTING_OS or event.kind in ("1e", "1f", "20")


def _said(event: SelEvent, meaning: str) -> str:
    if not event.text and event.code.startswith(_HANG) and event.step in PROGRESS:
        meaning = f"{meaning}: {PROGRESS[event.step]}"
    return f"event log: {event.text or meaning}"


def _sure(reason: Reason, detail: str) -> Diagnosis:
    return Diagnosis(reason, _line(detail), sure=True)


def _line(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MOST_LINE else f"{text[: MOST_LINE - 1]}…"


def _text(evidence: Mapping[str, Scalar], key: str) -> str:
    value = evidence.get(key)
    return value if isinstance(value, str) else ""
