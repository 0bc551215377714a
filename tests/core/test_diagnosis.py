"""Evidence of failed boots: what is kept of it, and what it says. Cases in tests/cases/diagnosis.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.advice import ADVICE
from bootorch.core.codec import decode, encode
from bootorch.core.diagnosis import FOUND, diagnose
from bootorch.core.events import Answer, Kind
from bootorch.core.evidence import MOST_CONSOLE, MOST_LINE, MOST_SEL, bounded, clean, parse_sel, tail
from bootorch.core.reasons import Reason
from bootorch.core.symptoms import CONSOLE, SEL
from bootorch.sim.machine import BootFailure

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "diagnosis.yml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    for evidence in (case["evidence"], bounded(case["evidence"])):
        found = diagnose(evidence)
        assert (found.reason, found.sure) == (Reason(case["reason"]), case.get("sure", True)), found
        assert case.get("detail", "") in found.detail


def test_every_reason_is_found_by_a_case_and_has_advice() -> None:
    assert {Reason(case["reason"]) for case in CASES if case.get("sure", True)} == {*FOUND, Reason.NO_BOOT}
    assert ADVICE.keys() >= FOUND
    assert {Reason(failure.value) for failure in BootFailure} <= FOUND, "what the simulator breaks can be told"


def test_rules_are_well_formed() -> None:
    codes = [rule.code for rule in SEL]
    assert len(set(codes)) == len(codes)
    for number, rule in enumerate(SEL):
        assert parse_sel(f"{rule.code}{'.ff' * (4 - len(rule.code.split('.')))}"), rule.code
        assert not any(rule.code.startswith(other) for other in codes[:number]), f"{rule.code} is never reached"
        assert rule.meaning
        assert rule.source
    assert all(rule.source for rule in CONSOLE)


# A text of what consoles and logs are made of, whole and broken, is a harder test than any text.
PIECES = [line for case in CASES for key in ("sel", "console") for line in case["evidence"].get(key, "").split("\n")]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES) | st.text(max_size=5)).map("\n".join))
scalars = texts | st.booleans() | st.integers() | st.floats()
KEYS = ("power", "fault", "overload", "last_power_event", "restart_cause", "manufacturer", "sel", "console", "more")
evidences = st.dictionaries(st.sampled_from(KEYS), scalars) | st.fixed_dictionaries(
    {"power": st.sampled_from(["on", "off"])}, optional={"sel": texts, "console": texts, "fault": st.booleans()}
)


@given(evidences)
def test_never_raises_and_always_says_something_short(evidence: dict[str, Any]) -> None:
    found = diagnose(evidence)
    assert found.reason in FOUND | {Reason.NO_BOOT}
    assert found.sure or found.reason is Reason.NO_BOOT
    assert found.detail or not found.sure
    assert len(found.detail) <= MOST_LINE
    assert found.detail.isprintable()


@given(evidences)
def test_what_is_kept_is_small_clean_and_says_the_same_again(evidence: dict[str, Any]) -> None:
    kept = bounded(evidence)
    assert kept.keys() <= set(KEYS) - {"more"}
    assert bounded(kept) == kept
    sel, console = str(kept.get("sel", "")), str(kept.get("console", ""))
    assert len(sel.split("\n")) <= MOST_SEL
    assert all(len(line) <= MOST_LINE for line in sel.split("\n"))
    assert len(console.encode()) <= MOST_CONSOLE
    assert all(line.isprintable() for text in (sel, console) for line in text.split("\n"))
    event = Answer(1.0, 1, Kind.EVIDENCE, "g1", Reason.OK, "", kept)
    assert decode(encode(event)) == event


def test_a_painted_screen_becomes_lines() -> None:
    painted = (
        "\x1b[2J\x1b[1;1H\x1b[1;37;44mAptio Setup Utility\x1b[0m\x1b[3;2HMain\x1b]0;title\x07\x1b[24;1HF1 Help\x1b(B"
    )
    assert clean(painted).split() == ["Aptio", "Setup", "Utility", "Main", "F1", "Help"]
    assert clean("a\r\n\r\n\r\nb\x00\x07c\td\r\n") == "a\n\nbc    d"
    assert clean("\ud800x\x9b31my\u202ez") == "xyz", "no lone surrogate, no C1 control, no bidirectional trick"


def test_the_tail_is_cut_between_characters() -> None:
    text = "ä" * MOST_CONSOLE
    assert tail(text) == "ä" * (MOST_CONSOLE // 2)
    assert tail("x" + text) == "ä" * (MOST_CONSOLE // 2)
    assert tail("short") == "short"


def test_a_long_log_keeps_what_went_wrong_and_the_last_step() -> None:
    steps = [f"0f.02.{n:02x}.ff - System Firmware Progress #6: step {n}" for n in range(30)]
    faults = [f"0c.01.ff.{n:02x} - Memory #32: uncorrectable ECC, module {n}" for n in range(5)]
    kept = str(bounded({"sel": "\n".join([*faults, *steps])})["sel"]).split("\n")
    assert len(kept) == MOST_SEL
    assert kept[:5] == faults
    assert kept[-1] == steps[-1]
    many = str(bounded({"sel": "\n".join([*steps, *faults * 10])})["sel"]).split("\n")
    assert many[0] == steps[-1]
    assert many[1:] == (faults * 10)[-MOST_SEL + 1 :]
