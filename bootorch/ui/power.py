"""``bootorch power``: the commands and their options; ``ui.powerrun`` runs them, ``ui.powerview`` shows how they ended.

Every verb has the same options for whom it talks to and how; they are declared once, in ``_common``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bootorch.core.errors import InvalidInput, Problem
from bootorch.runtime.targets import Selection
from bootorch.ui.powerservices import Limits, PowerServices, Request, Verb

Patterns = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATTERN", help="Hosts of the inventory: names, groups, node sets such as web[001-480]."),
]
Inventory = Annotated[
    Path | None,
    typer.Option("-i", "--inventory", metavar="INV", help="An Ansible inventory, or a snapshot (*.snapshot.json)."),
]
Bmc = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESSES", help="BMCs by address instead: 10.0.[0-3].[1-250], 10.0.0.0/24, lists of them."),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="UDP port of the BMCs; 623 if not given.")]
User = Annotated[str | None, typer.Option(metavar="NAME", help="BMC user; for hosts instead of the inventory's.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The BMC password (mode 0600). Else a systemd credential, or it is asked for."),
]
KgFile = Annotated[
    Path | None, typer.Option("--k-g-file", metavar="FILE", help="The BMC key K_g, where BMCs have one.")
]
VaultFile = Annotated[
    Path | None, typer.Option("--vault-password-file", metavar="FILE", help="The ansible-vault password (mode 0600).")
]
Suites = Annotated[
    list[int] | None, typer.Option("--suite", metavar="17|3", help="Cipher suite; 17 then 3 if not given.")
]
Ipmi = Annotated[str, typer.Option(metavar="2.0|1.5", help="1.5 (MD5, not encrypted) only for boards without 2.0.")]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.1, help="How long each BMC may take, retries included.")
]
Window = Annotated[int | None, typer.Option(min=1, metavar="N", help="Most BMCs asked at the same time.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class Privilege(StrEnum):
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


Level = Annotated[
    Privilege | None, typer.Option(help="Privilege of the session; as high as the account may if not given.")
]
Confirm = Annotated[
    int | None, typer.Option(metavar="N", help="How many hosts you mean: needed for more than one in a script.")
]
Despite = Annotated[
    bool, typer.Option("--despite-run", help="Although a run drives these hosts: it will not expect what you do.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Read the power back until it is so, within --timeout.")]


class Device(StrEnum):
    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    CDROM = "cdrom"
    BIOS = "bios"


class Policy(StrEnum):
    ALWAYS_OFF = "always-off"
    PREVIOUS = "previous"
    ALWAYS_ON = "always-on"


class _Whom(NamedTuple):
    """What the common options say."""

    selection: Selection
    limits: Limits
    as_json: bool


def _common(
    patterns: Patterns = None,
    inventory: Inventory = None,
    bmc: Bmc = None,
    port: Port = None,
    user: User = None,
    password_file: PasswordFile = None,
    k_g_file: KgFile = None,
    vault_password_file: VaultFile = None,
    suite: Suites = None,
    ipmi: Ipmi = "",
    privilege: Level = None,
    timeout: Timeout = 20.0,  # FreeIPMI's session timeout
    window: Window = None,
    json: Json = False,
) -> _Whom:
    if ipmi not in ("", "1.5", "2.0"):
        raise InvalidInput(Problem(f"{ipmi!r} is no version of IPMI", "--ipmi", "give 2.0, or 1.5 for old boards"))
    _finite("--timeout", timeout)
    selection = Selection(
        bmc=tuple(bmc or ()),
        inventory=inventory,
        patterns=tuple(patterns or ()),
        port=port,
        user=user,
        password_file=password_file,
        k_g_file=k_g_file,
        suites=tuple(suite or ()),
        version=ipmi,
        vault_password_file=vault_password_file,
    )
    return _Whom(selection, Limits(timeout, window, str(privilege or "")), json)


def _finite(option: str, seconds: float | None) -> None:
    if seconds is not None and not math.isfinite(seconds):
        raise InvalidInput(Problem(f"{seconds} is no length of time", option, "give seconds: 20"))


def _status() -> Request:
    """Read whether the chassis is on or off."""
    return Request(Verb.STATUS)


def _on(wait: Wait = False, despite_run: Despite = False) -> Request:
    """Power on."""
    return Request(Verb.ON, wait=wait, despite_run=despite_run)


def _off(confirm: Confirm = None, wait: Wait = False, despite_run: Despite = False) -> Request:
    """Power off at once, without asking the operating system."""
    return Request(Verb.OFF, confirm=confirm, wait=wait, despite_run=despite_run)


def _soft(confirm: Confirm = None, wait: Wait = False, despite_run: Despite = False) -> Request:
    """Ask the operating system to shut down (ACPI)."""
    return Request(Verb.SOFT, confirm=confirm, wait=wait, despite_run=despite_run)


def _cycle(confirm: Confirm = None, despite_run: Despite = False) -> Request:
    """Power off, and on again after a moment."""
    return Request(Verb.CYCLE, confirm=confirm, despite_run=despite_run)


def _reset(confirm: Confirm = None, despite_run: Despite = False) -> Request:
    """Hard reset."""
    return Request(Verb.RESET, confirm=confirm, despite_run=despite_run)


def _identify(
    seconds: Annotated[int | None, typer.Option(min=1, max=255, help="How long; 15 if not given.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Put the light out.")] = False,
    forever: Annotated[bool, typer.Option("--forever", help="Until it is put out.")] = False,
) -> Request:
    """Blink the locator light."""
    if off + forever + (seconds is not None) > 1:
        raise InvalidInput(Problem("these say different things", "--seconds, --off, --forever", "give one of them"))
    return Request(Verb.IDENTIFY, seconds=None if forever else 0 if off else seconds or 15)


def _bootdev(
    device: Annotated[Device, typer.Argument(help="Where to boot from; none: the server's own order.")],
    persistent: Annotated[bool, typer.Option("--persistent", help="For every boot, not only the next one.")] = False,
    efi: Annotated[
        bool | None, typer.Option("--efi/--legacy", help="Boot mode; the inventory's boot_mode, or EFI, if not given.")
    ] = None,
    despite_run: Despite = False,
) -> Request:
    """Set the boot device of the next boot. BMCs forget it when no power command follows within 60 s."""
    return Request(Verb.BOOTDEV, device=device.value, persistent=persistent, efi=efi, despite_run=despite_run)


def _policy(
    change: Annotated[Policy | None, typer.Option("--set", help="Change it; without this it is only read.")] = None,
    despite_run: Despite = False,
) -> Request:
    """Read or set what a server does when mains power returns."""
    return Request(Verb.POLICY, policy=change.value if change else "", despite_run=despite_run)


def _sel(
    since: Annotated[str, typer.Option(metavar="AGE", help="No older than this by the BMC's clock: 2h, 30m, 1d.")] = "",
    last: Annotated[int, typer.Option(min=1, max=4096, help="The newest N.")] = 100,
) -> Request:
    """Read the system event log."""
    from bootorch.core.units import seconds

    try:
        return Request(Verb.SEL, since_s=seconds(since) if since else None, last=last)
    except ValueError as error:
        raise InvalidInput(Problem(str(error), "--since", "give 2h, 30m or 1d")) from None


def _info() -> Request:
    """Vendor, firmware, GUID, sessions, cause of the last restart."""
    return Request(Verb.INFO)


def _sensors() -> Request:
    """Power draw, temperatures, fans; the total of the power draw at the end."""
    return Request(Verb.SENSORS)


def _console(
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append the console to this file instead; no keys.")
    ] = None,
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0.1, help="End by itself after so long.")
    ] = None,
    steal: Annotated[bool, typer.Option("--steal", help="End the console of somebody else who has it open.")] = False,
) -> Request:
    """Open one host's serial console (SOL). At the beginning of a line ~. ends it and ~? shows help."""
    _finite("--for", for_s)
    return Request(Verb.CONSOLE, log=log, for_s=for_s, steal=steal)


_COMMANDS: dict[Verb, Callable[..., Request]] = {
    Verb.STATUS: _status,
    Verb.ON: _on,
    Verb.OFF: _off,
    Verb.SOFT: _soft,
    Verb.CYCLE: _cycle,
    Verb.RESET: _reset,
    Verb.IDENTIFY: _identify,
    Verb.BOOTDEV: _bootdev,
    Verb.POLICY: _policy,
    Verb.SEL: _sel,
    Verb.CONSOLE: _console,
    Verb.INFO: _info,
    Verb.SENSORS: _sensors,
}


def add_to(app: typer.Typer, services: PowerServices, only: str = "") -> None:
    """Add ``power`` to the application. ``only``: just this verb, where it is known which one is wanted: declaring
    each costs milliseconds."""
    power = typer.Typer(
        help="Power and other orders to BMCs, one or tens of thousands at once.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.add_typer(power, name="power")
    for verb in [Verb(only)] if only in list(Verb) else list(Verb):
        power.command(verb.value)(_command(_COMMANDS[verb], services))


def _command(own: Callable[..., Request], services: PowerServices) -> Callable[..., None]:
    """A command with its own parameters and the common ones."""
    mine = inspect.signature(own, eval_str=True).parameters
    theirs = inspect.signature(_common, eval_str=True).parameters

    def command(**given: object) -> None:
        from bootorch.ui import powerrun

        request = own(**{name: given[name] for name in mine})
        whom = _common(**{name: given[name] for name in theirs})  # type: ignore[arg-type]  # as typer parsed them
        raise typer.Exit(powerrun.run(services, request, whom.selection, whom.limits, as_json=whom.as_json))

    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*mine.values(), *theirs.values())]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = own.__doc__
    return command
