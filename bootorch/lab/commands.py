"""``bootorch lab``: start, look at and remove a data centre on the loopback network. Heavy parts load when used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bootorch.lab.swarm_commands import bmcs

if TYPE_CHECKING:
    from bootorch.lab.control import LabInfo

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The lab's directory.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def add_to(app: typer.Typer) -> typer.Typer:
    """Add the ``lab`` commands; returns their group, so that others can join it."""
    lab = typer.Typer(
        help="A data centre on 127.0.0.0/8 to rehearse on: real IPMI, real SSH.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.add_typer(lab, name="lab")

    @lab.command()
    def up(
        directory: Directory = Path("lab"),
        hosts: Annotated[int, typer.Option(help="How many hosts.")] = 60,
        seed: Annotated[int, typer.Option(help="Decides boot times and who is broken.")] = 1,
        boot_seconds: Annotated[
            tuple[float, float], typer.Option(metavar="LEAST MOST", help="Boot times, in seconds.")
        ] = (2.0, 6.0),
        dead_bmc: Annotated[int, typer.Option(help="Hosts whose BMC never answers.")] = 0,
        silent_power: Annotated[int, typer.Option(help="Hosts whose first power-on does nothing.")] = 0,
        no_post: Annotated[int, typer.Option(help="Hosts that hang in their self-test.")] = 0,
        kernel_panic: Annotated[int, typer.Option(help="Hosts whose kernel panics.")] = 0,
        no_boot_device: Annotated[int, typer.Option(help="Hosts that find nothing to boot from.")] = 0,
        memory_error: Annotated[int, typer.Option(help="Hosts whose memory fails its test.")] = 0,
        in_setup: Annotated[int, typer.Option(help="Hosts that wait in the firmware's setup.")] = 0,
        netboot_failed: Annotated[int, typer.Option(help="Hosts that the network gives nothing to boot.")] = 0,
        emergency_shell: Annotated[int, typer.Option(help="Hosts that stop in an emergency shell.")] = 0,
        power_fault: Annotated[int, typer.Option(help="Hosts whose power supply fails at each power-on.")] = 0,
        already_on: Annotated[int, typer.Option(help="Hosts that are on before the run.")] = 0,
        playbook_fails_once: Annotated[int, typer.Option(help="Hosts whose first redeploy fails.")] = 0,
        loss: Annotated[float, typer.Option(help="Share of IPMI packets lost, each way.")] = 0.0,
        redeploy: Annotated[bool, typer.Option("--redeploy", help="Plan the redeploy playbooks too.")] = False,
        redfish: Annotated[
            bool,
            typer.Option("--redfish", help="BMCs speak Redfish too, a PDU measures the feeds, and the plan uses it."),
        ] = False,
        network: Annotated[str, typer.Option(help="Where its addresses come from.")] = "127.32.0.0/16",
        bmc_port: Annotated[int, typer.Option(help="UDP port of the BMCs; 0 chooses a free one.")] = 0,
        ssh_port: Annotated[int, typer.Option(help="TCP port of the SSH hosts; 0 chooses a free one.")] = 0,
        redfish_port: Annotated[int, typer.Option(help="TCP port of Redfish; 0 chooses a free one.")] = 0,
        lifetime: Annotated[float, typer.Option(metavar="SECONDS", help="A forgotten lab ends by itself.")] = 7200.0,
        foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and remove the lab on ^C.")] = False,
        json: Json = False,
    ) -> None:
        """Start a lab; it writes the inventory and the plan to use it."""
        from bootorch.lab import control
        from bootorch.lab.fleet import LabOptions

        options = LabOptions(
            hosts=hosts,
            directory=directory,
            seed=seed,
            boot_seconds=boot_seconds,
            dead_bmc=dead_bmc,
            silent_power=silent_power,
            no_post=no_post,
            kernel_panic=kernel_panic,
            no_boot_device=no_boot_device,
            memory_error=memory_error,
            in_setup=in_setup,
            netboot_failed=netboot_failed,
            emergency_shell=emergency_shell,
            power_fault=power_fault,
            already_on=already_on,
            playbook_fails_once=playbook_fails_once,
            loss=loss,
            redeploy=redeploy,
            redfish=redfish,
            redfish_port=redfish_port,
            bmc_port=bmc_port,
            ssh_port=ssh_port,
            network=network,
            lifetime_s=lifetime,
        )
        if foreground:
            control.foreground(options, lambda info: _show(info, json))
        else:
            _show(control.up(options), json)

    @lab.command()
    def status(directory: Directory = Path("lab"), json: Json = False) -> None:
        """Show a lab: where it listens, its plan, and how its hosts should end."""
        from bootorch.lab import control

        _show(control.status(directory), json)

    @lab.command()
    def down(directory: Directory = Path("lab"), json: Json = False) -> None:
        """End a lab and remove what it wrote."""
        from bootorch.lab import control

        gone = control.down(directory)
        if json:
            _json({"directory": str(gone.directory), "stopped": gone.stopped, "left": [str(p) for p in gone.left]})
            return
        typer.echo(f"lab {gone.directory}: {'stopped and removed' if gone.stopped else 'was not running; removed'}")
        for path in gone.left:
            typer.echo(f"  left, because it is not the lab's: {path}", err=True)

    lab.command()(bmcs)
    return lab


def _show(info: LabInfo, as_json: bool) -> None:
    if as_json:
        _json(
            {
                "directory": str(info.directory),
                "plan": str(info.plan),
                "inventory": str(info.inventory),
                "bmc_log": str(info.bmc_log),
                "running": info.running,
                "pid": info.pid,
                "seed": info.seed,
                "network": info.network,
                "bmc_port": info.bmc_port,
                "ssh_port": info.ssh_port,
                "redfish_port": info.redfish_port,
                "hosts": info.hosts,
                "outcomes": dict(info.outcomes),
                "expected": {
                    name: {"outcome": expected.outcome.value, "reason": expected.reason.value}
                    for name, expected in info.expected.items()
                },
            }
        )
        return
    state = f"running, process {info.pid}" if info.running else "not running"
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in info.outcomes.items() if count)
    typer.echo(f"lab {info.directory}: {state}")
    typer.echo(f"  hosts    {info.hosts:,} in {info.network}, seed {info.seed}; should end: {outcomes}")
    redfish = f", {info.redfish_port} (Redfish, TCP)" if info.redfish_port else ""
    typer.echo(f"  ports    {info.bmc_port} (IPMI, UDP), {info.ssh_port} (SSH, TCP){redfish}")
    typer.echo(f"  BMC log  {info.bmc_log}")
    typer.echo(f"next: bootorch run {info.plan}")


def _json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=2))
