"""``bootorch lab bmcs``: tens of thousands of BMCs in the foreground, to measure and to test clients with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

_AMOUNT = "5 of them, or a share: 0.02, 2%"
_SHARE = "share of datagrams"


def _amount(text: str) -> int | float:
    """``5``: so many BMCs; ``0.02`` and ``2%``: a share of them all. ValueError for anything else."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text) if "." in text else int(text)
    except ValueError:
        raise ValueError(f"{text} is no number of BMCs: write 5, 0.02 or 2%") from None


def _seconds(text: str) -> float:
    """Of ``20ms``, ``1.5s``, ``2``. ValueError for anything else."""
    number, scale = (text[:-2], 1e-3) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        return float(number) * scale
    except ValueError:
        raise ValueError(f"{text} is no time: write 20ms, 1.5s or 2") from None


def _range(text: str) -> tuple[float, float]:
    """Of ``60`` and ``10-60``. ValueError for anything else."""
    least, _, most = text.partition("-")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise ValueError(f"{text} is no time in seconds: write 60, or 10-60") from None


def _amount_option(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="N", help=f"{what}: {_AMOUNT}.")
    return option


def _share_option(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(min=0.0, max=1.0, metavar="SHARE", help=f"{what}: {_SHARE}.")
    return option


def _time_option(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="TIME", help=f"{what}: 20ms, 1.5s.")
    return option


def bmcs(
    password_file: Annotated[Path, typer.Option(help="Holds the password of every BMC.")],
    count: Annotated[int, typer.Option(help="How many BMCs, of the network's first addresses.")] = 1000,
    network: Annotated[str, typer.Option(help="Where their addresses come from.")] = "127.64.0.0/16",
    bmc: Annotated[str, typer.Option(help="Their addresses, folded: 127.0.[0-3].[1-250]. Instead of the two.")] = "",
    port: Annotated[int, typer.Option(help="UDP port; 0 chooses a free one.")] = 10623,
    user: Annotated[str, typer.Option(help="The user's name.")] = "admin",
    suite: Annotated[list[int] | None, typer.Option(help="Cipher suites, 17 and 3 unless given.")] = None,
    max_sessions: Annotated[int, typer.Option(help="Session slots of a BMC.")] = 15,
    ipmi_15: Annotated[bool, typer.Option("--ipmi-15", help="Take sessions of IPMI 1.5 with MD5 too.")] = False,
    seed: Annotated[int, typer.Option(help="Decides who is broken, and what is lost.")] = 1,
    on: Annotated[str, _amount_option("Servers that are on")] = "0",
    boot_seconds: Annotated[
        str, typer.Option(metavar="SECONDS", help="How long a server boots: 60, or drawn for each of them: 10-60.")
    ] = "60",
    host_port: Annotated[
        int, typer.Option(help="TCP port that a server opens on its BMC's address once it has booted; 0: none.")
    ] = 0,
    loss: Annotated[float, _share_option("Lost, each way")] = 0.0,
    duplicates: Annotated[float, _share_option("Come twice, each way")] = 0.0,
    reorder: Annotated[float, _share_option("Answers that others overtake")] = 0.0,
    truncated: Annotated[float, _share_option("Answers that are cut")] = 0.0,
    corrupt: Annotated[float, _share_option("Answers with a bit changed")] = 0.0,
    latency: Annotated[str, _time_option("From question to answer")] = "0",
    jitter: Annotated[str, _time_option("Added to it at most")] = "0",
    dead: Annotated[str, _amount_option("BMCs that never answer")] = "0",
    slow_boot: Annotated[str, _amount_option("BMCs that boot themselves first")] = "0",
    slow_boot_time: Annotated[str, _time_option("How long they are silent")] = "10s",
    silent_power: Annotated[str, _amount_option("BMCs whose first power-on does nothing")] = "0",
    busy: Annotated[str, _amount_option("BMCs that are busy at first")] = "0",
    busy_times: Annotated[float, typer.Option(help="Commands that they answer so; inf: all.")] = 3,
    no_slots: Annotated[str, _amount_option("BMCs whose session slots are all taken at first")] = "0",
    no_slots_times: Annotated[float, typer.Option(help="Logins that they refuse; inf: all.")] = 3,
    wrong_suite: Annotated[str, _amount_option("BMCs that echo suite 3 whatever was proposed")] = "0",
    rogue: Annotated[str, _amount_option("BMCs that do not know the password")] = "0",
    lifetime: Annotated[float, typer.Option(metavar="SECONDS", help="It ends by itself.")] = 7200.0,
) -> None:
    """Be a fleet of BMCs until ^C. A line of JSON when it is ready, one at the end, and one for each SIGUSR1."""
    import sys
    from contextlib import closing

    from bootorch.core.errors import InvalidInput, Problem, ToolError
    from bootorch.core.secret import Secret
    from bootorch.lab.swarm import BmcFault, SwarmOptions, addresses
    from bootorch.lab.swarm_server import SwarmServer
    from bootorch.lab.wire import WireFaults

    try:
        options = SwarmOptions(
            addresses=addresses(bmc, network, count),
            password=Secret(password_file.read_bytes().split(b"\n")[0]),
            user=user,
            seed=seed,
            suites=tuple(suite or (17, 3)),
            max_sessions=max_sessions,
            ipmi_15=ipmi_15,
            wire=WireFaults(loss, duplicates, reorder, truncated, corrupt, _seconds(latency), _seconds(jitter)),
            faults={
                BmcFault.DEAD: _amount(dead),
                BmcFault.SLOW_BOOT: _amount(slow_boot),
                BmcFault.SILENT_POWER: _amount(silent_power),
                BmcFault.BUSY: _amount(busy),
                BmcFault.NO_SLOTS: _amount(no_slots),
                BmcFault.WRONG_SUITE: _amount(wrong_suite),
                BmcFault.ROGUE: _amount(rogue),
            },
            on=_amount(on),
            busy_times=busy_times,
            no_slots_times=no_slots_times,
            slow_boot_s=_seconds(slow_boot_time),
            boot_s=_range(boot_seconds),
        )
    except ValueError as error:
        remedy = "bootorch lab bmcs --help says what can be given"
        raise InvalidInput(Problem(str(error), "lab bmcs", remedy)) from None
    except OSError as error:
        message = f"the password cannot be read: {error.strerror}"
        raise InvalidInput(Problem(message, str(password_file), "name a file that holds it")) from None
    if not sys.platform.startswith("linux"):
        problem = Problem("a lab needs Linux: all of 127.0.0.0/8, IP_PKTINFO", "lab bmcs", "run it on Linux")
        raise ToolError(problem)
    try:
        server = SwarmServer(options, port, host_port or None)
    except OSError as error:
        message = f"UDP port {port} cannot be opened: {error.strerror}"
        raise ToolError(Problem(message, "lab bmcs --port", "name another, or 0 for a free one")) from None
    with closing(server):
        server.run(lifetime, lambda: _say({"ready": True, **server.about()}), _say)


def _say(record: Mapping[str, object]) -> None:
    import json
    import sys

    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def main() -> None:
    """``lab bmcs`` alone: what a child process of a test need not load, it need not wait for."""
    import sys

    from bootorch.core.errors import OperatorError

    try:
        typer.run(bmcs)
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
