"""How much memory there is and how much a process uses."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reformer_export.errors import RuntimeUnavailableError

# A part is left for other processes.
_SHARE = 0.9


def own_peak_rss() -> int:
    """Peak memory of this process in bytes, on any system; 0 if the system does not tell."""
    # Linux counts in getrusage what the parent held before this program was started from it.
    try:
        return peak_rss()
    except RuntimeUnavailableError:
        pass
    if sys.platform == "win32":
        return 0
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def peak_rss(pid: int | str = "self") -> int:
    """Peak memory of a process in bytes (VmHWM); RuntimeUnavailableError without Linux's /proc."""
    return _status(pid, "VmHWM")


def current_rss(pid: int | str = "self") -> int:
    """Memory of a process now in bytes (VmRSS); RuntimeUnavailableError without Linux's /proc."""
    return _status(pid, "VmRSS")


def total() -> int:
    """Bytes of memory this machine has, or the control group grants."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _groups())])


def available() -> int:
    """Bytes that a new process can take without swapping."""
    free = [limit - used for limit, used in _groups()]
    return max(0, int(_SHARE * min([_meminfo("MemAvailable"), *free])))


@contextmanager
def limited_growth(allowance: int | None = None) -> Iterator[None]:
    """Within this context the process may allocate `allowance` bytes more; by default what is
    available.

    Then allocations fail as on a machine that is full. Without this the kernel would grant memory
    that does not exist, and later kill this process or another.
    """
    import resource

    gc.collect()  # memory that is freed within would be more room
    used = _status("self", "VmData")
    former = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [used + (available() if allowance is None else allowance), *former]
    soft = min(bound for bound in bounds if bound != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, former)


def ran_out(error: BaseException) -> bool:
    """True if an error is about memory; every library says it differently."""
    words = ("can't allocate memory", "failed to allocate", "bad_alloc", "bad allocation")
    return (
        isinstance(error, MemoryError)
        or any(word in str(error).lower() for word in words)
        or (error.__cause__ is not None and ran_out(error.__cause__))
    )


def _status(pid: int | str, key: str) -> int:
    return _bytes_in(Path(f"/proc/{pid}/status"), key)


def _meminfo(key: str) -> int:
    return _bytes_in(Path("/proc/meminfo"), key)


def _bytes_in(path: Path, key: str) -> int:
    """The size that a file of /proc gives for `key`, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise RuntimeUnavailableError(
            f"cannot measure memory, {path} is not readable ({error.strerror}): bench needs Linux"
        ) from error
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
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
