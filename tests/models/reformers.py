"""Models of Transformers that are worth comparing with, and the same models as we load them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.initialization import no_init_weights

from reformer_models.loading import LoadedModel, load_model
from reformer_models.tasks import TASKS

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# The published shapes, with a seed for the hash.
CRIME_AND_PUNISHMENT: dict[str, Any] = {
    "attention_head_size": 64,
    "attn_layers": ["local", "lsh"] * 3,
    "axial_pos_embds_dim": [64, 192],
    "axial_pos_shape": [512, 1024],
    "feed_forward_size": 512,
    "hash_seed": 0,
    "hidden_size": 256,
    "is_decoder": True,
    "local_attn_chunk_length": 64,
    "lsh_attn_chunk_length": 64,
    "max_position_embeddings": 524288,
    "num_attention_heads": 2,
    "num_buckets": [64, 128],
    "num_hashes": 1,
    "vocab_size": 320,
}
# The first 4 of 12 layers.
ENWIK8_CUT: dict[str, Any] = {
    "attention_head_size": 128,
    "attn_layers": ["local", "local", "lsh", "local"],
    "axial_pos_embds_dim": [256, 768],
    "axial_pos_shape": [128, 512],
    "feed_forward_size": 4096,
    "hash_seed": 0,
    "hidden_size": 1024,
    "is_decoder": True,
    "local_attn_chunk_length": 128,
    "lsh_attn_chunk_length": 256,
    "max_position_embeddings": 65536,
    "num_attention_heads": 8,
    "num_buckets": 512,
    "num_hashes": 4,
    "vocab_size": 258,
}
# Small, with chunks that are short and not of one length, and more than one of everything.
SMALL: dict[str, Any] = {
    "attention_head_size": 6,
    "attn_layers": ["local", "lsh", "local", "lsh"],
    "axial_pos_embds_dim": [4, 8],
    "axial_pos_shape": [8, 16],
    "feed_forward_size": 20,
    "hash_seed": 3,
    "hidden_size": 12,
    "is_decoder": True,
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 6,
    "max_position_embeddings": 128,
    "num_attention_heads": 2,
    "num_buckets": [4, 6],
    "num_hashes": 2,
    "vocab_size": 40,
}


def theirs(task: str = "feature-extraction", *, seed: int = 0, **config: Any) -> Any:
    """Transformers' model for a task, in eval mode, with weights that make a difference.

    As initialised, every token attends to every other alike, and all norms and biases are trivial:
    an error in attention or in a bias would hardly show. These weights spread the scores.
    """
    with no_init_weights():
        model = getattr(transformers, TASKS[task])(transformers.ReformerConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, deviation = 0.0, 0.1
            if "position_embeddings" in name:
                deviation = 0.5
            elif "word_embeddings" in name:
                deviation = 1.0
            elif parameter.ndim == 2:
                deviation = (2 if "query" in name else 1) / math.sqrt(parameter.shape[1])
            elif name.endswith("norm.weight"):
                mean = 1.0
            parameter.normal_(mean, deviation, generator=generator)
    return model.eval()


def ours(model: transformers.PreTrainedModel, **options: Any) -> LoadedModel:
    """What `load_model` makes of it, saved and read back."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_model(folder, **options)


def save_small(folder: Path, task: str = "feature-extraction", **changes: Any) -> Any:
    """Save the small model of Transformers for a task; returns it."""
    model = theirs(task, **{**SMALL, "is_decoder": task == "text-generation", **changes})
    model.save_pretrained(folder)
    return model


def token_ids(batch: int, length: int, vocab_size: int, seed: int = 0) -> torch.Tensor:
    """`[batch, length]` int64, random but with stretches of one token, which all hash alike."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (batch, length), generator=generator)
    ids[:, length // 2 : length // 2 + length // 8] = 1
    return ids


def masks(batch: int, length: int, seed: int = 0) -> Iterator[torch.Tensor | None]:
    """The ways to mask `[batch, length]`: not at all, nothing, the end, holes, and a whole row."""
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
