"""The composition root: every command, and the parts below it that implement them.

``bootorch.runs`` puts plans and runs together, ``bootorch.power`` the power commands. A power command over raw BMCs is
done in half a second, so it loads nothing of the rest; a status is there at once, so it loads nothing of power.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The ``bootorch`` command. ``argv`` without the program's name; by default that of this process."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_what_is_closed()
    if words[:1] == ["power"]:
        from bootorch import power

        return power.main(words)
    from bootorch.runs import Runs
    from bootorch.ui import cli

    services = Runs()
    if words[:1] == ["status"]:
        return cli.main(services, words)
    from bootorch import power
    from bootorch.ops import commands

    return cli.main(services, words, extras=(power.add_to, lambda app: commands.add_to(app, services)))


def _open_what_is_closed() -> None:
    """A standard stream that was closed (``>&-``) is ``None`` to Python, and a socket would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
