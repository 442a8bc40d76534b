"""The formulas, against counts by hand and against torch's count for the Transformers model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reformer_export.bench.flops import (
    chunk_attention_flops,
    full_attention_flops,
    full_model_flops,
    hashing_flops,
    model_flops,
)
from reformer_export.source import ReformerConfig

from ..models.reformers import ENWIK8_CUT, SMALL, theirs

# One head of size 3 in a hidden size of 4, so that all sizes differ.
SIZES: dict[str, Any] = {
    "hidden_size": 4,
    "num_attention_heads": 1,
    "attention_head_size": 3,
    "feed_forward_size": 5,
    "vocab_size": 7,
    "axial_pos_embds": False,
    "max_position_embeddings": 64,
    "num_buckets": (2, 4),
    "hash_seed": 0,
    "num_hashes": 2,
    "is_decoder": True,
}


def test_an_lsh_layer_by_hand() -> None:
    config = ReformerConfig(**SIZES, attn_layers=("lsh",), lsh_attn_chunk_length=8)
    flops = model_flops(config, "text-generation", 13)  # padded to 16
    assert flops.projections == 2 * 16 * (4 * 3 + 4 * 3 + 3 * 4)  # query-key, value, output
    assert flops.feed_forward == 2 * 16 * (4 * 5 + 5 * 4)
    assert flops.hashing == 2 * 16 * 3 * 2 * (1 + 2)  # two rounds on 1 + 2 columns
    assert flops.attention == 2 * 2 * (2 * 16) * 16 * 3  # two rounds; this and the previous chunk
    assert flops.head == 2 * 13 * 8 * 7  # both streams, without the padding
    assert flops.total == 1152 + 1280 + 576 + 6144 + 1456


def test_a_local_layer_by_hand() -> None:
    config = ReformerConfig(
        **SIZES, attn_layers=("local",), local_attn_chunk_length=8, local_num_chunks_after=1
    )
    flops = model_flops(config, "feature-extraction", 16)
    assert flops.projections == 2 * 16 * (4 * 3 * 3 + 3 * 4)
    assert flops.hashing == flops.head == 0
    assert flops.attention == 2 * 2 * 16 * 24 * 3


def test_a_short_sequence_is_attended_as_a_whole_and_not_hashed() -> None:
    config = ReformerConfig(**SIZES, attn_layers=("lsh", "local"))
    flops = model_flops(config, "text-generation", 10)
    assert flops.hashing == 0
    assert flops.attention == 2 * (2 * 2 * 10 * 10 * 3)


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("feature-extraction", 0),
        ("fill-mask", 2 * 10 * 8 * 7),
        ("question-answering", 2 * 10 * 8 * 2),
        ("text-classification", 2 * (8 * 4 + 4 * 2)),  # for one token
    ],
)
def test_the_head_of_each_task(task: str, head: int) -> None:
    assert model_flops(ReformerConfig(**SIZES), task, 10).head == head


def test_the_parts_by_hand() -> None:
    assert chunk_attention_flops(64, 10, 64, 1, 0, rounds=4) == 4 * 64 * 64 * 10
    assert chunk_attention_flops(128, 10, 64, 1, 0, rounds=4) == 4 * 128 * 128 * 10 * 4
    assert full_attention_flops(3, 10, causal=False) == 4 * 9 * 10
    assert full_attention_flops(3, 10, causal=True) == 4 * 6 * 10
    assert hashing_flops(5, 10, 2, (4, 6)) == 2 * 5 * 10 * 2 * 5


def test_full_attention_replaces_attention_and_hashing_alone() -> None:
    config = ReformerConfig(**SIZES, attn_layers=("lsh", "local", "local"))
    ours, full = (count(config, "text-generation", 64) for count in (model_flops, full_model_flops))
    assert (full.projections, full.feed_forward, full.head) == (
        ours.projections,
        ours.feed_forward,
        ours.head,
    )
    assert (full.hashing, full.attention) == (0, 3 * 4 * (64 * 65 // 2) * 3)


@pytest.mark.parametrize("length", [5, 64, 100])
@pytest.mark.parametrize("task", ["text-generation", "feature-extraction"])
def test_torch_counts_as_much_in_transformers_model(task: str, length: int) -> None:
    model = theirs(task, **SMALL)
    ids = torch.zeros(1, length, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, use_cache=False)
    config = ReformerConfig.from_hf(SMALL | {"model_type": "reformer"})
    assert model_flops(config, task, length).total == counter.get_total_flops()


def test_the_published_shape_is_of_the_size_we_say() -> None:
    """enwik8, 4 layers, 4,096 tokens: 0.4 TFLOP of linear layers, 0.16 of hashing and attention."""
    config = ReformerConfig.from_hf(ENWIK8_CUT | {"model_type": "reformer"})
    flops = model_flops(config, "text-generation", 4096)
    assert flops.feed_forward == 4 * 4096 * 1024 * 4096 * 4
    assert flops.projections == 2 * 4096 * 1024 * 1024 * 15
    assert flops.attention == 4 * 4096 * 1024 * (4 * 512 + 3 * 256)
    assert flops.hashing == 4096 * 1024 * 4 * 512
