"""Memory as the system reports it, and the limit that keeps a contender from taking all of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from reformer_export.errors import RuntimeUnavailableError
from reformer_export.host import memory

MB = 2**20


def test_peak_and_current() -> None:
    array = np.ones(64 * MB, np.uint8)
    during = memory.current_rss()
    assert during > array.nbytes
    del array
    # The kernel adds up the counts of the threads only from time to time.
    assert memory.peak_rss() > during - 4 * MB
    assert memory.peak_rss(os.getpid()) > during - 4 * MB


def test_the_own_peak_is_not_the_parents() -> None:
    size = 300 * MB
    held = b"\1" * size  # written to, so that it uses memory
    assert memory.own_peak_rss() >= len(held)
    code = "from reformer_export.host.memory import own_peak_rss; print(own_peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert MB < int(done.stdout) < size


def test_what_there_is() -> None:
    assert 0 < memory.available() < memory.total()


def test_a_process_that_is_gone() -> None:
    with pytest.raises(RuntimeUnavailableError, match="cannot measure memory"):
        memory.peak_rss(2**22 + 1)


def test_the_fence_holds_and_comes_down() -> None:
    with memory.limited_growth(64 * MB):
        np.ones(16 * MB, np.uint8)
        # More than the tests before this one can leave to be freed in between.
        with pytest.raises(MemoryError) as caught:
            np.zeros(4096 * MB, np.uint8)
        assert memory.ran_out(caught.value)
        with pytest.raises(RuntimeError) as caught_too:
            torch.empty(4096 * MB, dtype=torch.uint8)
        assert memory.ran_out(caught_too.value)
    np.ones(128 * MB, np.uint8)


def test_other_errors_are_not_about_memory() -> None:
    assert not memory.ran_out(ValueError("no such file"))
    assert not memory.ran_out(OSError(errno.ENOENT, "No such file"))
    assert memory.ran_out(OSError(errno.ENOMEM, "Cannot allocate memory", "torch/profiler"))
    wrapped = RuntimeError("the model did not run")
    wrapped.__cause__ = MemoryError()
    assert memory.ran_out(wrapped)
