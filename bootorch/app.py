"""The composition root: every command, and the parts below it that implement them.

``bootorch.runs`` puts plans and runs together, ``bootorch.power`` the power commands. A power command over raw BMCs is
done in half a second, so it loads nothing of the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The ``bootorch`` command. ``argv`` without the program's name; by default that of this process."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["power"]:
        from bootorch import power

        return power.main(words)
    from bootorch import power
    from bootorch.ops import commands
    from bootorch.runs import Runs
    from bootorch.ui import cli

    services = Runs()
    return cli.main(services, words, extras=(power.add_to, lambda app: commands.add_to(app, services)))


if __name__ == "__main__":
    sys.exit(main())
