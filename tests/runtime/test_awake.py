"""Run time counts what the process was awake; real time goes on."""

from __future__ import annotations

import pytest

from bootorch.runtime.awake import AwakeClock


class Machine:
    """Its clocks, in seconds: monotonic stands still in a suspend."""

    def __init__(self) -> None:
        self.monotonic = 5000.0
        self.boot = 9000.0

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.boot += seconds

    def suspends(self, seconds: float) -> None:
        self.boot += seconds


def test_a_suspend_is_no_run_time_and_is_told() -> None:
    machine = Machine()
    clock = AwakeClock(100.0, monotonic=lambda: machine.monotonic, boot=lambda: machine.boot)
    machine.passes(7.0)
    assert clock() == 107.0
    assert clock.suspended_s() == pytest.approx(0.0)
    machine.suspends(3600.0)
    machine.passes(0.5)
    assert clock() == 107.5
    assert clock.suspended_s() == pytest.approx(3600.0)
    assert clock.wake(107.0) == pytest.approx(3600.5), "what passed since it was last seen awake"
    assert clock() == 107.0
    assert clock.suspended_s() == pytest.approx(0.0)


def test_a_process_that_was_stopped_was_not_awake_either() -> None:
    machine = Machine()
    clock = AwakeClock(0.0, monotonic=lambda: machine.monotonic, boot=lambda: machine.boot)
    machine.passes(10.0)
    seen_awake = clock()
    machine.passes(600.0)
    assert clock.wake(seen_awake) == pytest.approx(600.0)
    machine.passes(1.0)
    assert clock() == 11.0
