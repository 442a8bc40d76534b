"""Peak memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss() -> int:
    """Peak physical memory of this process in bytes; 0 if the system does not tell."""
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
    """The size that a /proc file gives for `key`, in bytes.

    Raises:
        OSError: there is no such file.
        LookupError: there is no such line in it.
    """
    for line in path.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
