"""What the README shows is true: its plan parses, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bootorch.app import main
from bootorch.runtime.planfile import parse_plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {match[1] for match in re.finditer(r"^\$ bootorch ((?:lab |inventory |power )?[a-z]+)", README, re.MULTILINE)}
)


def test_the_plan_in_the_readme_parses() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    spec = parse_plan(block[1], ROOT, "README.md")
    assert spec.name == "pangyo-cold-boot"
    assert list(spec.groups) == ["tor", "dns", "storage", "db", "web", "mail"]
    assert spec.limits.feeds["hall-a"].budget_watts == 400_000


@pytest.mark.parametrize("words", [command for command in COMMANDS if not command.startswith("lab ")])
def test_the_commands_in_the_readme_exist(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
