"""Artifacts with damage of many kinds: both readers refuse or accept them, and never crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reformer_export import to_onnx, to_torchscript
from reformer_export.artifact import Artifact

from ..tools.model_fixtures import TINY, Fixtures, feeds
from .programs import ROOT, built, environment

KNOWN = ("ran", "refused")


def fuzz(library: Path, first: int, last: int, **environment: str) -> dict[str, int]:
    """The number of times that each result occurred."""
    command = [sys.executable, "-m", "tests.runtimes.fuzz_artifacts", str(library)]
    done = subprocess.run(
        [*command, str(first), str(last)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert sum(counts.values()) == last - first
    return counts


def check(counts: dict[str, int]) -> None:
    """Assert that the two readers differ only where this is intended."""
    odd = [key for key in counts if "status" in key]
    # C++ reads only the parts of the manifest that it needs to run a model. ONNX's own parser reads
    # the whole model, but C++ reads only its tensors. Only Python accepts numbers beyond 64 bits.
    laxer = ("swap_value:", "flip_bits:", "splice:", "cut:")
    for key in counts:
        if key.endswith("refused by Python, sound by C++") and not key.startswith(laxer):
            odd.append(key)
        if key.endswith("sound by Python, refused by C++") and not key.startswith("swap_value:"):
            odd.append(key)
    assert not odd, counts
    assert sum(n for key, n in counts.items() if "refused by Python, refused by C++" in key) > 100


def test_damaged_artifacts() -> None:
    check(fuzz(built() / "libreformer.so", 0, 400))


@pytest.mark.slow
def test_damaged_artifacts_under_sanitizers(sanitized: Path, sanitizers: dict[str, str]) -> None:
    check(fuzz(sanitized / "libreformer.so", 1000, 4000, **sanitizers))


@pytest.mark.slow
def test_runs_under_sanitizers(sanitized: Path, fixtures: Fixtures, tmp_path: Path) -> None:
    """Whole runs of reformer-run, on inputs that it accepts and inputs that it refuses."""
    artifact: Artifact = fixtures.artifact("text-generation", TINY)
    program = str(sanitized / "reformer-run")
    env = os.environ | environment() | {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}
    for number, (ids, code) in enumerate(
        (
            (feeds(1, vocab_size=258)["input_ids"], 0),
            (feeds(120, 3, vocab_size=258)["input_ids"].astype(">i2"), 0),
            (np.asfortranarray(feeds(31, 2, vocab_size=258)["input_ids"]), 0),
            (np.full((1, 5), 258), 1),
            (np.zeros((1, 121), np.uint8), 1),
        )
    ):
        np.save(tmp_path / f"{number}.npy", ids)
        command = [program, str(artifact.path), "--input-ids", str(tmp_path / f"{number}.npy")]
        command += ["--output", str(tmp_path / "out.npz"), "--bench", "3"]
        for more in ([], ["--json"]):
            done = subprocess.run(
                command + more, env=env, capture_output=True, text=True, check=False
            )
            assert done.returncode == code, done.stderr
            assert "Sanitizer" not in done.stderr
            assert "runtime error" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "runtime", "count"),
    [("model.onnx", "onnxruntime", 60), ("model.pt", "torchscript", 30)],
)
def test_forged_models_that_the_manifest_vouches_for(
    fixtures: Fixtures, tmp_path: Path, file: str, runtime: str, count: int
) -> None:
    """ONNX Runtime and libtorch read these models; both programs report an error in one line."""
    source = fixtures.checkpoint("text-generation", TINY)
    to_onnx(source, tmp_path / "artifact", verify=False)
    to_torchscript(source, tmp_path / "artifact", verify=False)
    command = [sys.executable, "-m", "tests.runtimes.fuzz_models", str(tmp_path / "artifact")]
    command += [file, runtime, str(built("--torch") / "reformer-run"), "0", str(count)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert sum(counts.values()) == count
    assert set(counts) <= {f"Python {a}, C++ {b}" for a in KNOWN for b in KNOWN}, done.stdout
    # Random changes also hit weights and debug information, and such a model runs.
    assert counts["Python refused, C++ refused"] > count / 4
