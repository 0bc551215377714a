"""Runs the command line with a guard: a socket or child process is reported on stderr and ends the process with 99.

``python -m tests.e2e.sealed ALLOW -- arguments…`` where ALLOW is ``nothing`` or ``ansible`` (the inventory may be
rendered by a child, but nothing is sent to any host from this process).
"""

from __future__ import annotations

import os
import sys

_SOCKETS = ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")
_CHILDREN = ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "pty.spawn")


def seal(children_too: bool) -> None:
    """From now on: no packet, and no child process if ``children_too``."""
    # Rendering the inventory needs an event loop's socket pair at most; sending needs one of these.
    forbidden = frozenset((*_SOCKETS, *_CHILDREN, "socket.__new__") if children_too else _SOCKETS)

    def guard(event: str, arguments: tuple[object, ...]) -> None:
        if event in forbidden:
            os.write(2, f"SEALED: {event} {arguments!r}\n".encode())
            os._exit(99)

    sys.addaudithook(guard)


if __name__ == "__main__":
    allow, dashes, *words = sys.argv[1:]
    assert dashes == "--"
    assert allow in ("nothing", "ansible")
    # Loaded before the seal, so that what is counted is the command's own doing.
    from bootorch.app import main

    seal(children_too=allow == "nothing")
    sys.exit(main(words))
