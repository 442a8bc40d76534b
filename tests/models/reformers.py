"""Models of Transformers for comparisons, and the same models as we load them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.initialization import no_init_weights

from reformer_models.loading import LoadedModel, load_model
from reformer_models.tasks import TASKS

from .configs import CRIME_AND_PUNISHMENT, ENWIK8_CUT, SMALL
from .weights import spread

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

__all__ = [
    "CRIME_AND_PUNISHMENT",
    "ENWIK8_CUT",
    "SMALL",
    "masks",
    "ours",
    "save_small",
    "theirs",
    "token_ids",
]


def theirs(task: str = "feature-extraction", *, seed: int = 0, **config: Any) -> Any:
    """Transformers' model for a task, in eval mode, with random weights that reveal errors."""
    with no_init_weights():
        model = getattr(transformers, TASKS[task])(transformers.ReformerConfig(**config))
    spread(model, seed)
    return model.eval()


def ours(model: transformers.PreTrainedModel, **options: Any) -> LoadedModel:
    """The model after it was saved and read back by `load_model`."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_model(folder, **options)


def save_small(folder: Path, task: str = "feature-extraction", **changes: Any) -> Any:
    """Save the small model of Transformers for a task; returns it."""
    model = theirs(task, **{**SMALL, "is_decoder": task == "text-generation", **changes})
    model.save_pretrained(folder)
    return model


def token_ids(batch: int, length: int, vocab_size: int, seed: int = 0) -> torch.Tensor:
    """`[batch, length]` int64, random except for a stretch of equal tokens, which hash alike."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (batch, length), generator=generator)
    ids[:, length // 2 : length // 2 + length // 8] = 1
    return ids


def masks(batch: int, length: int, seed: int = 0) -> Iterator[torch.Tensor | None]:
    """Masks `[batch, length]`: None, all ones, zeros at the end, and holes with a row of zeros."""
    yield None
    yield torch.ones((batch, length), dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, length + 1, (batch, 1), generator=generator)
    if batch > 1:
        sizes[0] = length
    yield (torch.arange(length) < sizes).long()
    holes = (torch.rand((batch, length), generator=generator) < 0.7).long()
    if batch > 1:
        holes[-1] = 0
    yield holes
