"""The estimate beside a run: a process of its own that ends with the run, and whose failures are log lines."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootorch.ops import estimator
from bootorch.ops.estimator import HOSTS_LEAST, Estimator, wanted
from bootorch.ui.forecastview import FORECAST

SAYS = """{"base": {"finishes": true, "unfinished_samples": 0, "whole": {"ready": {"p50_s": 60.0, "p90_s": 120.0,
"p50_wall": "x"}}}, "samples": 8, "began_s": 1.0, "start_wall": "2026-03-01T14:00:00+09:00"}"""


def instead(monkeypatch: pytest.MonkeyPatch, code: str, *words: str) -> None:
    """Another program where the forecast is: what matters here is how it is started, watched and ended."""

    def command(run_dir: Path, parameters: Path | None = None) -> Sequence[str]:
        assert parameters is None
        return (sys.executable, "-c", code, str(run_dir), *words)

    monkeypatch.setattr(estimator, "command", command)


def test_the_estimate_is_written_whole_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, f"import os; open('nice', 'w').write(str(os.nice(0))); print('''{SAYS}''')")
    monkeypatch.chdir(tmp_path)
    told, said = threading.Event(), []

    def tell(words: str) -> None:
        said.append(words)
        told.set()

    with Estimator(tmp_path, tell, every_s=0.01):
        assert told.wait(30)
    assert said[0] == "done at about 14:01, at worst 14:02"
    assert (tmp_path / FORECAST).read_text().strip() == SAYS
    assert sorted(path.name for path in tmp_path.iterdir()) == [FORECAST, "nice"]


def test_a_run_that_ends_takes_its_forecast_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    instead(monkeypatch, f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    with Estimator(tmp_path, every_s=0.01):
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (tmp_path / FORECAST).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


@pytest.mark.parametrize("code", ["raise SystemExit('no journal')", "print('{')", "import os; os._exit(9)"])
def test_what_goes_wrong_is_a_log_line_and_no_estimate(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = threading.Event()
    instead(monkeypatch, code)
    monkeypatch.setattr(estimator._log, "warning", lambda *_, **__: tried.set())
    with Estimator(tmp_path, every_s=0.01):
        assert tried.wait(30)
    assert not list(tmp_path.iterdir())


def test_small_plans_have_no_estimator() -> None:
    assert wanted(HOSTS_LEAST)
    assert not wanted(HOSTS_LEAST - 1)
