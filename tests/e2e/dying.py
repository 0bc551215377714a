"""bootorch that kills itself around a commit: ``python -m tests.e2e.dying before|after NUMBER ARGUMENTS``.

``before``: what its drivers have answered and what it has decided since the commit before is lost. ``after``: it is on
disk, and none of its effects has left.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from bootorch.core.events import Event
from bootorch.runtime.journal import Journal

NEVER = 1 << 30


def main() -> None:
    moment, number = sys.argv[1], int(sys.argv[2])
    commit = Journal.append
    commits = 0

    def append(journal: Journal, events: Iterable[Event], *arguments: Any, **more: Any) -> Any:
        nonlocal commits
        events = list(events)
        commits += any(getattr(event, "durable", True) for event in events)
        if commits == number and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = commit(journal, events, *arguments, **more)
        if commits == number and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Journal.append = append  # type: ignore[method-assign]
    sys.argv = ["bootorch", *sys.argv[3:]]
    from bootorch.app import main as bootorch

    sys.exit(bootorch())


if __name__ == "__main__":
    main()
