"""The stages after the power-on: proof of the boot, what follows a boot that failed, readiness, verification."""

from __future__ import annotations

from bootorch.core.acting import EXCHANGE_S, FATAL, FRESH_S, Acting, hopeless
from bootorch.core.diagnosis import diagnose
from bootorch.core.events import BootFailed
from bootorch.core.hoststate import HostState
from bootorch.core.members import (
    K_BOOT_PROBE,
    K_METER,
    K_POWER_CYCLE,
    K_POWER_READ,
    K_READY_CHECK,
    K_VERIFY_CHECK,
    O_ADOPTED,
    O_READY,
    R_DARK,
    R_NO_BOOT,
    R_NOT_READY,
    R_STALE_BOOT,
    R_VERIFY_FAILED,
)
from bootorch.core.model import SecondBoot
from bootorch.core.reasons import Reason

DARK_LIMIT = 5  # times that a playbook may lose a host before it counts as failed
READ_TRIES = 3  # power reads that may fail when a failed boot is judged


class Booting(Acting):
    """Stages ``boot``, ``ready`` and ``verify`` of one host (rules 4 and 5 of ``core.engine``)."""

    def _boot(self, host: HostState) -> None:
        if host.unbooted:
            self._after_failed_boot(host)
            return
        deadline_t = host.stage_t + host.group.deadlines.boot
        reason, detail = host.last
        if reason in FATAL:
            self._quarantine(host, reason, detail)
        elif self._now >= deadline_t:
            if host.adopted:
                self._quarantine(host, R_NO_BOOT, f"was on already, but never answered: {detail}")
            elif not host.examined:
                self._examine(host)
            else:
                self._boot_failed(host)
        else:
            self._poll(host, K_BOOT_PROBE, deadline_t)

    def _boot_failed(self, host: HostState) -> None:
        """The reason that the evidence supports. A host that answers, but from an old boot, has told its own."""
        reason, detail = host.last
        found = diagnose(host.symptoms)
        if reason is not R_STALE_BOOT and found.sure and found.reason is not R_NO_BOOT:
            reason, detail = found.reason, found.detail
        elif found.detail:
            detail = f"{detail}; {found.detail}" if detail else found.detail
        self._emit(BootFailed(self._now, host.name, reason, detail))

    def _after_failed_boot(self, host: HostState) -> None:
        """Read the power state again, then act on it once."""
        detail = host.last[1]
        if host.tries >= READ_TRIES or hopeless(host):
            self._quarantine(host, *self._unbooted(host, f"its BMC no longer answers: {detail}"))
        elif self._now < host.next_t:
            self._later(host, host.next_t)
        elif not host.power or self._now - host.read_t > FRESH_S:
            self._read(host, self._now + EXCHANGE_S[K_POWER_READ])
        elif host.power == "off":
            self._quarantine(host, *self._unbooted(host, f"off again after {host.boots} boots"))
        elif host.group.second_boot is SecondBoot.CYCLE and host.boots < host.group.attempts.boot:
            self._cycle(host)
        else:
            tried = f" after {host.boots} boots" if host.boots > 1 else ""
            self._quarantine(host, *self._unbooted(host, f"chassis is on{tried}"))

    @staticmethod
    def _unbooted(host: HostState, state: str) -> tuple[Reason, str]:
        """Why it did not boot. What is known first: hosts that ended alike stand together in a report."""
        assert host.unbooted is not None
        reason, said = host.unbooted
        if reason is R_NO_BOOT:
            return reason, f"no proof of a boot, {state}" + (f": {said}" if said else "")
        return reason, f"{said}; {state}" if said else state

    def _cycle(self, host: HostState) -> None:
        """The one automatic power cycle there is: the plan allows it, and the host was just read as on."""
        breaker = self.admission.breaker(host)
        held = breaker or self.admission.cycle_held(host, self._now)
        if held is not None:
            self.admission.park(host, held)
        elif not self.state.paused:
            self._start(host, K_POWER_CYCLE, self._now + EXCHANGE_S[K_POWER_CYCLE])

    def _ready(self, host: HostState) -> None:
        deadline_t = host.stage_t + host.group.deadlines.ready
        reason, detail = host.last
        if host.dark_count > DARK_LIMIT:
            self._quarantine(host, R_DARK, f"lost {host.dark_count} times under its playbook: {detail}")
        elif reason in FATAL:
            self._quarantine(host, reason, detail)
        elif self._now >= deadline_t:
            self._quarantine(host, R_NOT_READY, detail)
        else:
            self._poll(host, K_READY_CHECK, deadline_t)

    def _verify(self, host: HostState) -> None:
        if host.proven:
            if self.plan.limits.measure and not host.metered and not host.observed:
                self._measure(host)
            else:
                self._settle(host, O_ADOPTED if host.adopted else O_READY)
            return
        deadline_t = host.stage_t + host.group.deadlines.verify
        if self._now >= deadline_t:
            self._quarantine(host, R_VERIFY_FAILED, host.last[1])
        else:
            self._poll(host, K_VERIFY_CHECK, deadline_t)

    def _measure(self, host: HostState) -> None:
        """What it really draws, now that it runs, replaces what the inventory says."""
        slot = self.admission.bmc_slot(host)
        if slot is not None:
            self.admission.park(host, slot)
        elif not self.state.paused:
            self._start(host, K_METER, self._now + EXCHANGE_S[K_METER])
