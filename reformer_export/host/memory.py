"""The memory of the machine and of a process."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reformer_export.errors import RuntimeUnavailableError

# The rest is left for other processes.
_SHARE = 0.9


def own_peak_rss() -> int:
    """Peak memory of this process in bytes, on any system; 0 if the system does not report it."""
    # On Linux, getrusage includes the memory of the parent process from before exec, so /proc comes
    # first.
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
    """Peak memory of a process in bytes (VmHWM).

    Raises RuntimeUnavailableError without Linux's /proc.
    """
    return _status(pid, "VmHWM")


def current_rss(pid: int | str = "self") -> int:
    """Current memory of a process in bytes (VmRSS).

    Raises RuntimeUnavailableError without Linux's /proc.
    """
    return _status(pid, "VmRSS")


def total() -> int:
    """The memory of this machine in bytes, or the limit of the control group if that is less."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _groups())])


def available() -> int:
    """The memory in bytes that a new process can allocate without swapping."""
    free = [limit - used for limit, used in _groups()]
    return max(0, int(_SHARE * min([_meminfo("MemAvailable"), *free])))


@contextmanager
def limited_growth(allowance: int | None = None) -> Iterator[None]:
    """Within this context the process may allocate at most `allowance` more bytes; if None, at most
    `available()`.

    Larger allocations fail with an error. Without the limit, the kernel would grant memory that
    does not exist, and later kill this process or another.
    """
    import resource

    gc.collect()  # else freeing this memory inside the context would raise the allowance
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
    """True if an error means that memory ran out; each library words it differently."""
    words = ("can't allocate memory", "failed to allocate", "bad_alloc", "bad allocation")
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
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
    """(limit, used) of the control groups that limit this process, as in a container."""
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
            continue  # there is no such group, which is the usual case
    return found
