"""How much memory this process ever held."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss() -> int:
    """The most bytes of physical memory this process held at once; 0 where nobody says."""
    # Linux counts in getrusage what the parent held before this program was started from it.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return 0
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
