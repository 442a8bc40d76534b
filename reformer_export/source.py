"""The only door from this package to `reformer_models`: where checkpoints become models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.errors import UsageError
from reformer_models.tasks import TASKS

if TYPE_CHECKING:
    import torch

    from reformer_models.hashing import BucketTrace
    from reformer_models.loading import LoadedModel

__all__ = ["DTYPES", "TASKS", "LoadedModel", "load_source", "new_trace"]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What `--dtype` may say -> the name NumPy, torch and ONNX have for it."""


def load_source(
    checkpoint: str | Path,
    *,
    task: str = "auto",
    dtype: str = "fp32",
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    max_length: int | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
) -> LoadedModel:
    """Load a checkpoint for a task, in eval mode; see `reformer_models.loading.load_model`.

    Raises:
        UsageError: an unknown dtype.
        ReformerError: whatever is wrong with the checkpoint, in one line.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    import torch

    from reformer_models.loading import load_model

    return load_model(
        checkpoint,
        task=task,
        dtype=getattr(torch, DTYPES[dtype]),
        num_buckets=num_buckets,
        hash_seed=hash_seed,
        sequence_length=max_length,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
    )


def new_trace(forced: Sequence[torch.Tensor | None] | None = None) -> BucketTrace:
    """A watcher of one forward pass' hashing; `forced` buckets take it over."""
    from reformer_models.hashing import BucketTrace

    return BucketTrace(forced)
