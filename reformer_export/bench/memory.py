"""How much memory there is and how much a process took, as Linux tells."""

from __future__ import annotations

import os
from pathlib import Path

from reformer_export.errors import RuntimeUnavailableError

# What is free now is not all there for one process: others live here too.
_SHARE = 0.9


def peak_rss(pid: int | str = "self") -> int:
    """Bytes of memory the process held at its worst (VmHWM)."""
    return _status(pid, "VmHWM")


def current_rss(pid: int | str = "self") -> int:
    """Bytes of memory the process holds now (VmRSS)."""
    return _status(pid, "VmRSS")


def total() -> int:
    """Bytes of memory this machine has, or the control group grants."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _groups())])


def available() -> int:
    """Bytes a new process can take without pushing anybody out."""
    free = [limit - used for limit, used in _groups()]
    return max(0, int(_SHARE * min([_meminfo("MemAvailable"), *free])))


def limit_growth(allowance: int) -> None:
    """Let this process allocate `allowance` bytes more, then fail like a machine that is full.

    Without it the kernel would grant what isn't there and later kill somebody: possibly this
    process, possibly another.
    """
    import resource

    used = _status("self", "VmData")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + allowance
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _status(pid: int | str, key: str) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), key)


def _meminfo(key: str) -> int:
    return _kilobytes(Path("/proc/meminfo"), key)


def _kilobytes(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError as error:
        raise RuntimeUnavailableError(
            f"cannot measure memory, {path} is not readable ({error.strerror}): bench needs Linux"
        ) from error
    raise RuntimeUnavailableError(f"cannot measure memory: {path} has no {key}")


def _groups() -> list[tuple[int, int]]:
    """(limit, used) of the control groups that bound this process; containers have one."""
    found = []
    for limit, used, inactive in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        folder = Path("/sys/fs/cgroup") if limit == "memory.max" else Path("/sys/fs/cgroup/memory")
        try:
            bound = (folder / limit).read_text().strip()
            if not bound.isdigit() or int(bound) >= _meminfo("MemTotal"):
                continue
            stat = (folder / "memory.stat").read_text().split()
            cache = int(dict(zip(stat[::2], stat[1::2], strict=False)).get(inactive, "0"))
            found.append((int(bound), int((folder / used).read_text()) - cache))
        except (OSError, ValueError):
            continue  # no such group, which is the usual case
    return found


def usable_cores() -> int:
    """CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
