"""Parameter files: every fault with its line, and what is written is read back."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput
from bootorch.runtime.parameterfile import parameter_table, parse_parameters, read_parameters, write_parameters
from bootorch.sim.distributions import Lognormal, Quantiles, Uniform
from bootorch.sim.machine import BootFailure
from bootorch.sim.parameters import (
    CALM,
    FIELD,
    Epidemic,
    ModelParameters,
    Parameters,
    PlaybookParameters,
    Storm,
)

EXAMPLE = """\
boot: {median: 4m, p95: 10m}
power: 3
tail: {least: 20m, most: 45m}
exchange:
  quantiles: [0.01, 0.02, 0.5]
no_post_share: 0.03
repeat: null
models:
  R640: {boot: {median: 6m, p99.9: 1h}, dead_share: 0.1, vendor: dell}
playbooks:
  web.yml: {takes: 40s, host_share: 2.5}
failures: {no_post: 3, kernel_panic: 1}
epidemics:
  - {probability: 1, model: R640, share: 0.5}
storms:
  - {probability: 0.1, at: {least: 0, most: 1h}, everywhere: true}
auto_on: {dell: {least: 60, most: 240}}
hosts: {db-1: 5m}
"""


def test_an_example_is_read() -> None:
    p = parse_parameters(EXAMPLE)
    assert p == replace(
        FIELD,
        scale_to_deadlines=False,
        boot=Lognormal(240.0, 600.0, 0.95),
        power=Uniform(3.0, 3.0),
        tail=Uniform(1200.0, 2700.0),
        exchange=Quantiles((0.01, 0.02, 0.5)),
        no_post_share=0.03,
        repeat=None,
        models={"R640": ModelParameters(boot=Lognormal(360.0, 3600.0, 0.999), dead_share=0.1, vendor="dell")},
        playbooks={"web.yml": PlaybookParameters(takes=Uniform(40.0, 40.0), host_share=2.5)},
        failures={BootFailure.NO_POST: 3.0, BootFailure.KERNEL_PANIC: 1.0},
        epidemics=(Epidemic(1.0, Uniform(0.5, 0.5), "R640"),),
        storms=(Storm(0.1, Uniform(0.0, 3600.0), everywhere=True),),
        auto_on={"dell": Uniform(60.0, 240.0)},
        hosts={"db-1": 300.0},
    )


def test_an_empty_file_is_the_field_without_scale() -> None:
    assert parse_parameters("# nothing\n") == replace(FIELD, scale_to_deadlines=False)


WRONG = """\
boots: 3
boot: {median: 10m, p95: 5m}
power: quick
dead_bmc_share: 3
pxe_boots: 1.5
models:
  R640:
    boot: {least: 2, most: 1}
    colour: red
    dead_share: -1
  R740: 5
epidemics:
  - {share: 0.5}
failures: {tired: 1}
exchange: {quantiles: [2, 1]}
storms: 4
scale_to_deadlines: 1
hosts: {db: soon}
bmc_boot:
silence: {median: 1}
dark_share: .nan
"""


def test_every_fault_is_told_at_once_with_its_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_parameters(WRONG, "p.yml")
    told = {problem.where: problem.message for problem in caught.value.problems}
    lines = [1, 2, 3, 4, 5, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    assert list(told) == [f"p.yml:{line}" for line in lines]
    assert "unknown key boots" in told["p.yml:1"]
    assert caught.value.problems[0].remedy == "did you mean boot?"
    assert "p95" in told["p.yml:2"]
    assert "power: 'quick' is no duration" in told["p.yml:3"]
    assert "between 0 and 1" in told["p.yml:4"]
    assert "unknown key colour in models.R640" in told["p.yml:9"]
    assert "probability is missing" in told["p.yml:13"]
    assert "no failure of a boot: no_post" in told["p.yml:14"]
    assert "do not fall" in told["p.yml:15"]
    assert "has no value" in told["p.yml:19"]


@pytest.mark.parametrize("text", ["- a\n", "boot: [\n", "boot: 1\nboot: 2\n", "just words\n"])
def test_what_is_no_parameter_file_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_parameters(text, "p.yml")
    assert all(problem.where.startswith("p.yml") for problem in caught.value.problems)


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "parameters.yml"
    path.write_text(write_parameters(CALM))
    assert read_parameters(path) == CALM
    with pytest.raises(InvalidInput, match="no such parameter file"):
        read_parameters(tmp_path / "none.yml")


def test_each_parameter_has_a_comment_that_says_what_it_rests_on() -> None:
    text = write_parameters(replace(FIELD, samples={"boot": 231}))
    assert text.count("\n# ") == len(fields(Parameters))
    assert "# Power until the first login (seconds). Fitted to 231 samples.\nboot:" in text
    assert "AC until a host starts by itself" in text


def test_the_documentation_has_every_parameter_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    assert parameter_table() in page


numbers = st.floats(0.0, 1e9)
positive = st.floats(1e-6, 1e6)
distributions = st.one_of(
    st.tuples(positive, st.floats(1.0, 100.0), st.sampled_from([0.75, 0.9, 0.95, 0.99, 0.999])).map(
        lambda t: Lognormal(t[0], t[0] * t[1], t[2])
    ),
    st.tuples(numbers, numbers).map(lambda t: Uniform(min(t), max(t))),
    st.lists(numbers, min_size=2, max_size=21).map(lambda values: Quantiles(tuple(sorted(values)))),
)
shares = st.floats(0.0, 1.0)
names = st.text("abcXYZ0123456789-_.~: #'\"yesnull", min_size=1, max_size=12)
words = st.text("abcXYZ0189-_. ", max_size=8)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    found: dict[str, object] = {}
    for item in fields(Parameters):
        strategy = {
            "bool": st.booleans(),
            "int": st.integers(0, 10**6),
            "float": shares if item.metadata["unit"] == "share" else numbers,
            "float | None": maybe(shares),
            "Distribution": distributions,
            "Distribution | None": maybe(distributions),
            "Mapping[BootFailure, float]": st.dictionaries(st.sampled_from(list(BootFailure)), numbers, max_size=3),
            "tuple[Epidemic, ...]": st.lists(
                st.builds(Epidemic, shares, distributions, words, words), max_size=2
            ).map(tuple),
            "tuple[Storm, ...]": st.lists(
                st.builds(Storm, shares, distributions, distributions, shares, st.booleans()), max_size=2
            ).map(tuple),
            "Mapping[str, Distribution]": st.dictionaries(names, distributions, max_size=2),
            "Mapping[str, PlaybookParameters]": st.dictionaries(
                names,
                st.builds(PlaybookParameters, maybe(distributions), maybe(numbers), maybe(numbers), maybe(shares)),
                max_size=2,
            ),
            "Mapping[str, ModelParameters]": st.dictionaries(
                names,
                st.builds(
                    ModelParameters, maybe(distributions), maybe(shares), maybe(shares), maybe(distributions),
                    maybe(distributions), maybe(st.text("abc", min_size=1, max_size=3)),
                ),
                max_size=2,
            ),
            "Mapping[str, float]": st.dictionaries(names, numbers, max_size=2),
            "Mapping[str, int]": st.dictionaries(names, st.integers(1, 1000), max_size=2),
        }[str(item.type)]  # fmt: skip
        found[item.name] = draw(strategy)
    return Parameters(**found)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(parameters())
def test_what_is_written_is_read_back(p: Parameters) -> None:
    assert parse_parameters(write_parameters(p)) == p
