"""Makes a Reformer checkpoint with random weights, in Hugging Face's layout.

The shape is that of google/reformer-crime-and-punishment: six layers, alternately local and LSH,
and a vocabulary of 320 tokens. Use it if you have no trained model:

    python examples/make_checkpoint.py my-reformer
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch

from reformer_models.config import ReformerConfig
from reformer_models.layers.heads import TextGeneration
from reformer_models.training.saving import save_checkpoint

CONFIG = ReformerConfig(
    attn_layers=("local", "lsh", "local", "lsh", "local", "lsh"),
    hidden_size=256,
    num_attention_heads=2,
    attention_head_size=64,
    feed_forward_size=512,
    local_attn_chunk_length=64,
    lsh_attn_chunk_length=64,
    num_buckets=(64, 128),
    num_hashes=1,
    hash_seed=0,
    axial_pos_shape=(512, 1024),
    axial_pos_embds_dim=(64, 192),
    max_position_embeddings=524288,
    vocab_size=320,
    is_decoder=True,
)


def make_checkpoint(folder: Path, config: ReformerConfig = CONFIG, seed: int = 0) -> Path:
    """Write config.json and model.safetensors; returns the folder.

    Weights are scaled so that the change that a layer makes is about as large as its input. With
    smaller weights attention would be nearly uniform, and mistakes in it nearly invisible.
    """
    model = TextGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "layer_norm" in name or name.endswith("bias"):
            continue
        scale = 1.0 if "embeddings" in name else 1.0 / math.sqrt(parameter.shape[-1])
        with torch.no_grad():
            parameter.normal_(0.0, scale, generator=generator)
    save_checkpoint(model, folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_checkpoint.py FOLDER")
    print(f"made {make_checkpoint(Path(sys.argv[1]))}")
