"""The kernels under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .isa_libraries import isa_libraries

ROOT = Path(__file__).resolve().parents[2]

RUN_ALL_CASES = """
import numpy as np
from reformer_ops.registry import OPS
from tests.ops.backends import native_onnxruntime
from tests.ops.examples import EXAMPLES
from tests.ops.isa_libraries import isa_libraries
from tests.ops.tolerances import cases
count = 0
for library in isa_libraries().values():
    for op in OPS:
        for case in (*cases(op), EXAMPLES[op.name]):
            for dtype in ("float32", "float16"):
                native_onnxruntime(op, case, dtype, library=library)
                count += 1
print(count, "calls without a finding")
"""

RUN_ALL_GRADIENTS = """
from tests.ops.gradients import ATTENTIONS, by_torch, with_dropout
from tests.ops.examples import EXAMPLES
from tests.ops.tolerances import cases
count = 0
for op in ATTENTIONS:
    for case in (*cases(op), EXAMPLES[op.name]):
        for dtype in ("float32", "float16"):
            by_torch(op.name, case, dtype)
            by_torch(op.name, with_dropout(case, 0.3), dtype)
            count += 2
print(count, "calls without a finding")
"""

RUN_ALL_LAYERS = """
from tests.ops.training_layers import FEED_FORWARDS, cases, feed_forward_at_once, run_case
found = [run_case(*case) for case in cases()]
found += [feed_forward_at_once(sizes, share) for sizes in FEED_FORWARDS for share in (0.0, 0.1)]
print(len(found), "calls without a finding")
"""


@pytest.mark.slow
def test_no_case_of_any_instruction_set_has_a_finding(tmp_path: Path) -> None:
    configure = ["cmake", "-S", str(ROOT / "custom_ops"), "-B", str(tmp_path)]
    configure += ["-DREFORMER_SANITIZE=address,undefined"]
    configure += [f"-DTORCH_INCLUDE_DIR={Path(torch.__file__).parent / 'include'}"]
    headers = ROOT / "build/native/onnxruntime-headers"  # from `make`; otherwise CMake finds some
    if headers.is_dir():
        configure += [f"-DORT_INCLUDE_DIR={headers}"]
    for command in (configure, ["cmake", "--build", str(tmp_path), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    runtimes = [
        subprocess.run(
            ["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")  # Python itself loads neither
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python leaks at its exit
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "REFORMER_OPS_LIBRARY_DIR": str(tmp_path),
    }
    # Only torch trains, and its library chooses the instruction set once per process.
    runs = [(RUN_ALL_CASES, {"REFORMER_OPS": "portable"})]
    for isa in isa_libraries():
        native = {"REFORMER_OPS": "native", "REFORMER_FORCE_ISA": isa}
        runs += [(RUN_ALL_GRADIENTS, native), (RUN_ALL_LAYERS, native)]
    for code, variables in runs:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr[-8000:]
        assert "calls without a finding" in done.stdout
