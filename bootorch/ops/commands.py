"""``bootorch lab``, with the demo that needs more than the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bootorch.lab.commands import add_to as add_lab
from bootorch.ui.services import Services


def add_to(app: typer.Typer, services: Services) -> None:
    """Add the ``lab`` commands and the demo to the application."""
    lab = add_lab(app)

    @lab.command()
    def demo(
        directory: Annotated[Path, typer.Option(help="Where the demo keeps its lab and its run.")] = Path("demo"),
        hosts: Annotated[int, typer.Option(help="How many hosts.")] = 60,
        seed: Annotated[int, typer.Option(help="Decides boot times and who is broken.")] = 1,
    ) -> None:
        """A whole recovery of a lab with injected faults. Exits 0 exactly when all outcomes are the right ones."""
        from bootorch.ops.demo import run

        raise typer.Exit(run(services, directory, hosts, seed))
