"""What a process says of its own memory, whoever started it."""

from __future__ import annotations

import subprocess
import sys

from reformer_export.host.peak_memory import peak_rss

SIZE = 300 << 20


def test_it_is_this_process_own() -> None:
    held = b"\1" * SIZE  # written to, so that it is there
    assert peak_rss() >= len(held)
    code = "from reformer_export.host.peak_memory import peak_rss; print(peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < SIZE
