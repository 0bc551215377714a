"""kill -9 at random moments and around commits: it ends as if nothing had been, and no server was harmed.

``benchmarks/kill_matrix.py`` does the same some hundreds of times.
"""

from __future__ import annotations

import random

import pytest

from tests.e2e.conftest import LabFactory
from tests.e2e.kills import at_boundary, at_random


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_ten_times_at_random_moments(lab: LabFactory, seed: int) -> None:
    info = lab(100, silent_power=1, already_on=1, seed=seed + 1)
    killed = at_random(info, random.Random(seed), 10, 1.5)
    assert killed.faults == []
    assert killed.kills > 0


@pytest.mark.slow
def test_killed_under_its_playbooks(lab: LabFactory) -> None:
    info = lab(8, redeploy=True, playbook_fails_once=1)
    killed = at_random(info, random.Random(9), 4, 5.0)
    assert killed.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4, 7, 12])
@pytest.mark.parametrize("moment", ["after", "before"])
def test_killed_around_a_commit(lab: LabFactory, moment: str, number: int) -> None:
    """Right after it, before its effects have left; or before it, with all that was answered since the one before."""
    killed = at_boundary(lab(8, silent_power=1, already_on=1), moment, number)
    assert killed.faults == []
