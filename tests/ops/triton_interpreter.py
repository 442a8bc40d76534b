"""Runs the Triton kernels on the CPU, in a `triton_worker.py` that stays alive between cases."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("triton_worker.py")


def interpret(what: str, *arguments: Any, **keywords: Any) -> Any:
    """Call an operator by its name, or "module:function"; raises the error of the call.

    Returns a tensor, or a tuple of tensors.
    """
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    pickle.dump((what, arguments, keywords), worker.stdin)
    worker.stdin.flush()
    answer = pickle.load(worker.stdout)
    if isinstance(answer, Exception):
        raise answer
    return answer


@cache
def _worker() -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, str(WORKER)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(worker.terminate)
    return worker
