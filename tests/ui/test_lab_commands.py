"""``bootorch lab`` against a real lab on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from bootorch.core.errors import InvalidInput
from bootorch.lab.commands import add_to


def lab(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    add_to(app)
    typer.main.get_command(app)(args=["lab", *words], standalone_mode=False)
    return capsys.readouterr().out


def test_up_status_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(tmp_path / "lab")
    words = ("--hosts", "8", "--boot-seconds", "0.2", "0.4", "--already-on", "1", "--network", "127.77.0.0/16")
    try:
        up = lab(capsys, "up", where, *words)
        assert up.splitlines()[-1] == f"next: bootorch run {where}/plan.yml"
        assert "8 in 127.77.0.0/16" in up
        status = json.loads(lab(capsys, "status", where, "--json"))
        assert status["running"] is True
        assert status["hosts"] == len(status["expected"]) == 8
        assert status["outcomes"]["adopted"] == 1
    finally:
        down = lab(capsys, "down", where)
    assert "stopped and removed" in down
    assert not Path(where).exists()
    with pytest.raises(InvalidInput):
        lab(capsys, "status", where)
