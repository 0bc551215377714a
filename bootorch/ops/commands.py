"""Commands made of the parts below: ``bootorch lab`` with the demo that needs more than the lab, and ``forecast``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bootorch.lab.commands import add_to as add_lab
from bootorch.ops.forecastcommand import add_to as add_forecast
from bootorch.ui.services import Services


def add_to(app: typer.Typer, services: Services) -> None:
    """Add the ``lab`` commands, the demo and the forecast to the application."""
    add_forecast(app, services)

    @app.command(hidden=True)
    def checkpoint(
        target: Annotated[Path, typer.Argument(metavar="TARGET", help="A run's directory or journal.")],
        child: Annotated[bool, typer.Option("--child", hidden=True, help="End with the parent process.")] = False,
    ) -> None:
        """Write down the state of a run in its journal, so that a resume need not fold all its events."""
        if child:
            from bootorch.ops.forks import end_with_parent

            end_with_parent()
        typer.echo(f"event {services.checkpoint(target):,}", err=True)

    lab = add_lab(app)

    @lab.command()
    def demo(
        directory: Annotated[Path, typer.Option(help="Where the demo keeps its lab and its run.")] = Path("demo"),
        hosts: Annotated[int, typer.Option(help="How many hosts.")] = 60,
        seed: Annotated[int, typer.Option(help="Decides boot times and who is broken.")] = 1,
        no_post: Annotated[int, typer.Option(help="Hosts that hang in their self-test.")] = 1,
        kernel_panic: Annotated[int, typer.Option(help="Hosts whose kernel panics.")] = 0,
        no_boot_device: Annotated[int, typer.Option(help="Hosts that find nothing to boot from.")] = 0,
        memory_error: Annotated[int, typer.Option(help="Hosts whose memory fails its test.")] = 0,
        in_setup: Annotated[int, typer.Option(help="Hosts that wait in the firmware's setup.")] = 0,
    ) -> None:
        """A whole recovery of a lab with injected faults. Exits 0 exactly when all outcomes are the right ones."""
        from bootorch.lab.fleet import LabOptions
        from bootorch.ops.demo import run

        options = LabOptions(
            hosts=hosts,
            directory=directory,
            seed=seed,
            dead_bmc=1,
            silent_power=1,
            no_post=no_post,
            already_on=1,
            playbook_fails_once=1,
            kernel_panic=kernel_panic,
            no_boot_device=no_boot_device,
            memory_error=memory_error,
            in_setup=in_setup,
            redeploy=True,
        )
        raise typer.Exit(run(services, options))
