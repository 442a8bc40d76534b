"""How much memory this process ever held."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss() -> int:
    """The most bytes of physical memory this process held at once; 0 where nobody says."""
    # Linux counts in getrusage what the parent held before this program was started from it.
    try:
        return bytes_in(Path("/proc/self/status"), "VmHWM")
    except (OSError, LookupError):
        pass
    if sys.platform == "win32":
        return 0
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def bytes_in(path: Path, key: str) -> int:
    """What a file of Linux that lists sizes in kB says of `key`.

    Raises:
        OSError: there is no such file.
        LookupError: there is no such line in it.
    """
    for line in path.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
