"""Where the files are that come with bootorch and are not Python."""

from __future__ import annotations

from pathlib import Path

import bootorch


def playbooks_dir() -> Path:
    """The redeploy playbooks: inside the package when it was installed from a wheel, else the repository's own."""
    package = Path(bootorch.__file__).parent
    installed = package / "share" / "playbooks"
    return installed if installed.is_dir() else package.parent / "playbooks"
