"""Every exported baseline gives the same numbers in ONNX Runtime as in torch, at any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines.artifacts import export_choice
from benchmarks.baselines.choices import FULL, LINFORMER, LONGFORMER, PERFORMER, Choice, Skeleton
from reformer_export.artifact import Artifact
from reformer_export.runtimes import open_runner
from reformer_export.source import load_original

SMALL = Skeleton(
    max_length=160, axial_shape=(10, 16), keys=16, rounds=1, layers=1, hidden=32, head_dim=8,
    vocab_size=40,
)  # fmt: skip


SLOW = [pytest.param(choice, marks=pytest.mark.slow) for choice in (LONGFORMER, PERFORMER)]


@pytest.mark.parametrize("choice", [FULL, LINFORMER, *SLOW], ids=lambda choice: choice.name)
def test_onnxruntime_agrees_with_torch(choice: Choice, tmp_path: Path) -> None:
    """Lengths below, at and above every chunk length, with batches of one to three sequences."""
    path = export_choice(choice, SMALL, tmp_path)
    artifact = Artifact.open(path)
    assert artifact.manifest.hashing.notes[-1].endswith(f"exchanged for {choice.title}")
    model = load_original(artifact.manifest).model
    choice.install(model, SMALL)
    runner = open_runner(artifact, threads=1)
    rng = np.random.default_rng(0)
    for batch, length in ((1, 1), (3, 7), (1, 8), (3, 16), (2, 17), (1, 128), (2, 131), (1, 160)):
        ids = rng.integers(0, SMALL.vocab_size, (batch, length))
        mask = (np.arange(length) < rng.integers(1, length + 1, (batch, 1))).astype(np.int64)
        mask[0] = 1
        found = runner.run({"input_ids": ids, "attention_mask": mask})
        with torch.no_grad():
            wanted = model(torch.from_numpy(ids), torch.from_numpy(mask))["logits"].numpy()
        real = mask != 0
        assert np.abs(found["logits"] - wanted)[real].max() < 1e-5 * np.abs(wanted).max()
