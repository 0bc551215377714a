"""``bootorch forecast`` as an operator meets it: text, JSON, page, refusals, runs, fitted parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput
from bootorch.core.events import Event
from bootorch.core.forecast import Forecast
from bootorch.core.model import Gate
from bootorch.core.plan import Plan
from bootorch.core.recovery import replay
from bootorch.core.whatif import parse
from bootorch.ops import forecastcommand
from bootorch.ops.forecast import Options, forecast_plan
from bootorch.runtime.journal import Journal
from bootorch.runtime.parameterfile import read_parameters
from bootorch.sim.parameters import CALM, FIELD
from bootorch.ui import cli
from bootorch.ui.forecastpage import page
from bootorch.ui.forecastview import lines, outlook, to_json
from bootorch.ui.services import History
from tests.ops.forecasts import fleet, of_run, until
from tests.ui.services import WorldServices
from tests.ui.test_html import read
from tests.ui.world import World as UiWorld

START = "2026-03-01T14:00:00+09:00"
GATES = (Gate("power", ask="Who attests it?"),)


@pytest.fixture(scope="module")
def found() -> Forecast:
    what_ifs = [parse("feed hall 80%"), parse("feed hall 20%"), parse("boot slow 1.5x")]
    options = Options(samples=4, seed=5, jobs=2, what_ifs=what_ifs, start=START)
    return forecast_plan(fleet(gates=GATES), CALM, options)


@pytest.fixture(scope="module")
def stuck() -> Forecast:
    return forecast_plan(fleet(watts=9_000.0), CALM, Options(samples=2, start=START))


# -- text ---------------------------------------------------------------------


def test_people_are_told_when_what_binds_what_was_assumed_and_what_next(found: Forecast) -> None:
    text = lines(found, "bootorch run --dry-run plan.yml").plain()
    said = text.splitlines()
    assert re.search(r"back at 14:\d\d, at worst \(P90\) 14:\d\d$", said[-2])
    assert said[-1] == "next: bootorch run --dry-run plan.yml"
    for words in ("tier 0", "switch", "binding", "lower bound", "gate power is answered at 0:00", "feed hall 80%",
                  "not fitted to this site", "cannot be finished in 4 of 4 samples: budget of feed hall"):  # fmt: skip
        assert words in text, words


def test_a_run_that_cannot_finish_never_looks_like_success(stuck: Forecast) -> None:
    text = lines(stuck).plain()
    assert text.splitlines()[2].startswith("cannot be finished  in every sample")
    assert "held by budget of feed hall" in text
    whole = next(line for line in text.splitlines() if line.startswith("  all "))
    assert whole.split()[-2:] == ["never", "never"]
    assert "back at" not in text
    assert "cannot be finished" in text.splitlines()[-1]
    assert "Cannot be finished" in read(page(stuck)).text


# -- JSON ---------------------------------------------------------------------


def test_the_document_has_its_shape(found: Forecast) -> None:
    document = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert document["schema"] == "bootorch.forecast/1"
    assert set(document) == {
        "schema", "plan", "environment", "digest", "run_id", "hosts", "samples", "seed", "limit", "dark_feeds",
        "began_s", "start_wall", "gates_taken_as_answered", "firsts_taken_as_chosen", "assumptions", "base", "what_ifs",
    }  # fmt: skip
    world = {
        "what_if", "finishes", "unfinished_samples", "whole", "tiers", "groups", "end", "binding", "held",
        "lower_bound", "lower_bound_ratio", "left", "breakers", "critical_path", "curves", "sample_ready_s",
        "sample_seeds",
    }  # fmt: skip
    assert set(document["base"]) == world
    assert [set(other) for other in document["what_ifs"]] == [world | {"change"}] * 3
    whole = document["base"]["whole"]
    assert whole["ready"]["p10_s"] <= whole["ready"]["p50_s"] <= whole["ready"]["p90_s"]
    assert whole["ready"]["p50_wall"].startswith("2026-03-01T14:")
    curves = document["base"]["curves"]
    assert set(curves["feeds"]["hall"]) == {"budget_watts", "t_s", "p10_watts", "p50_watts", "p90_watts"}
    assert len(curves["ready"]["t_s"]) == len(curves["ready"]["p50_hosts"]) > 100


def test_every_number_has_its_unit_in_its_name(found: Forecast) -> None:
    counted = ("hosts", "samples", "seed", "tier", "share", "_s", "_watts", "ratio", "_wall", "_hosts", "seeds")
    bare = {"p10", "p50", "p90"}  # of a ratio

    def look(value: object, name: str, inside: str) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                look(entry, key, name)
        elif isinstance(value, list):
            for entry in value:
                look(entry, name, inside)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            assert name.endswith(counted) or (name in bare and inside.endswith("ratio")), f"{inside}.{name}"

    look(to_json(found), "", "")


# -- the page ---------------------------------------------------------------------


def test_the_page_has_everything_and_needs_nothing(found: Forecast) -> None:
    html = page(found)
    structure = read(html)
    assert not structure.tags & {"script", "link", "img", "iframe", "object", "use", "image"}
    assert not re.search(r"url\(|@import|https?://", html)
    for words in (
        "Forecast", "Hosts ready over time", "Power and what holds hosts back", "budget 18.0 kW", "Critical path",
        "What if", "feed hall 80%", "tier 2", "Groups", "gate power is answered", "bootorch.forecast/1",
    ):  # fmt: skip
        assert words in structure.text, words
    assert html.count("<svg") == 4


def test_names_are_text_on_the_page() -> None:
    plan = fleet()
    odd = Plan(**{**plan.__dict__, "name": "<b>&'"})
    assert "<b>&'" in read(page(forecast_plan(odd, CALM, Options(samples=1)))).text


# -- the command ---------------------------------------------------------------------


def services(directory: Path, plan: Plan, events: Sequence[Event]) -> WorldServices:
    """Services whose latest run is these events, journalled."""
    with Journal.create(directory / "journal.sqlite", {"plan": b"x"}) as journal:
        journal.append(events)
    kept = WorldServices(UiWorld(plan), directory)
    kept.latest = History(replay(plan, events), list(events), directory, running=False)
    return kept


def command(kept: WorldServices, *words: str) -> int:
    return cli.main(kept, ["forecast", *words], extras=(lambda app: forecastcommand.add_to(app, kept),))


def test_a_run_is_forecast_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = fleet()
    events, cut_s, _ = until(plan, 1)
    kept = services(tmp_path, plan, events)
    assert command(kept, str(tmp_path), "--samples", "3", "--json", "--html", str(tmp_path / "f.html")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["began_s"] == pytest.approx(cut_s, abs=60.0)
    assert document["base"]["whole"]["ready"]["p50_s"] > document["began_s"]
    assert read((tmp_path / "f.html").read_text())
    assert "no process runs it now" in " ".join(document["assumptions"])
    assert command(kept, str(tmp_path), "--samples", "2") == 0
    assert "group back already" in (said := capsys.readouterr().out) or "groups back already" in said


def test_parameters_are_fitted_written_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = fleet()
    events, _, _ = until(plan, 1, share=50.0)
    kept = services(tmp_path, plan, events)
    file = tmp_path / "world.yml"
    assert command(kept, "--fit", str(tmp_path), "-o", str(file)) == 0
    assert "fitted from 1 run" in capsys.readouterr().out
    fitted = read_parameters(file)
    assert fitted.samples
    assert fitted != FIELD


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--what-if", "dance", "--what-if", "feed hall 0%", "--start", "99:00"), ("dance", "0% of a feed", "99:00")),
        (("--limit", "web*"), ("--limit is for a plan",)),
        (("--dark", "hall", "--start", "14:00"), ("--dark is for a plan", "--start is for a plan")),
        (("-o", "x"), ("--fit and -o FILE belong together",)),
        (("other",), ("2 targets",)),
        (("--what-if", "feed nope lost"), ("no feed 'nope'",)),
    ],
)
def test_refusals(
    words: tuple[str, ...], said: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = fleet()
    events, _, _ = until(plan, 1)
    assert command(services(tmp_path, plan, events), str(tmp_path), *words) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in said)
    assert "remedy" in errors


def test_start_is_a_time_of_day_an_instant_or_now() -> None:
    now = datetime(2026, 3, 1, 12, 30, 20, tzinfo=UTC)
    assert forecastcommand.start_of("", now) == ""
    assert forecastcommand.start_of("now", now) == "2026-03-01T12:30:20+00:00"
    assert forecastcommand.start_of("14:00", now) == "2026-03-01T14:00:00+00:00"
    assert forecastcommand.start_of("12:30", now) == "2026-03-01T12:30:00+00:00"
    assert forecastcommand.start_of("09:00", now) == "2026-03-02T09:00:00+00:00"  # tomorrow's
    assert forecastcommand.start_of("2026-05-01T09:00+09:00", now) == "2026-05-01T09:00:00+09:00"
    with pytest.raises(InvalidInput):
        forecastcommand.start_of("25:00", now)


# -- while a run goes on ---------------------------------------------------------------------


def test_the_outlook_of_a_run_in_words(found: Forecast, stuck: Forecast) -> None:
    assert re.fullmatch(r"done at about 14:\d\d, at worst 14:\d\d", outlook(to_json(found)))
    assert outlook(to_json(stuck)) == "cannot be finished as it stands: budget of feed hall"
    plan = fleet()
    events, cut_s, _ = until(plan, 1)
    assert outlook(to_json(of_run(plan, events, cut_s, samples=2))) == ""  # nobody said when it began
