"""Runs torch with other operators than those of this process, in workers that stay alive."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def call_in(environment: tuple[tuple[str, str], ...], what: str, *arguments: Any) -> Any:
    """Call "module:function" in a process with these variables; raises the function's error."""
    worker = _worker(environment)
    assert worker.stdin is not None
    assert worker.stdout is not None
    pickle.dump((what, arguments), worker.stdin)
    worker.stdin.flush()
    answer = pickle.load(worker.stdout)
    if isinstance(answer, Exception):
        raise answer
    return answer


@cache
def _worker(environment: tuple[tuple[str, str], ...]) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.ops.torch_worker"],
        cwd=ROOT,
        env={**os.environ, **dict(environment)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(worker.terminate)
    return worker
