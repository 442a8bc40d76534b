"""Compares small models with Transformers at every length up to several chunks, for all masks."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from reformer_models.loading import load_model
from reformer_models.tasks import TASKS

from .parity import Tally
from .reformers import SMALL, masks, ours, theirs, token_ids
from .saved_models import edit_config

BATCHES = (1, 3)

# Options that SMALL does not cover: bidirectional attention, LSH chunks shorter than local ones,
# chunks after, more neighbours than chunks, learned positions, a single kind of layer.
CONFIGS: dict[str, dict[str, Any]] = {
    "causal": {},
    "bidirectional": {"is_decoder": False},
    "short LSH chunks": {
        "axial_pos_embds": False,
        "is_decoder": False,
        "local_attn_chunk_length": 6,
        "local_num_chunks_after": 1,
        "local_num_chunks_before": 0,
        "lsh_attn_chunk_length": 4,
        "lsh_num_chunks_after": 2,
        "num_buckets": 6,
        "num_hashes": 3,
    },
    "LSH only": {
        "attn_layers": ["lsh", "lsh"],
        "lsh_attn_chunk_length": 5,
        "lsh_num_chunks_before": 3,
        "num_buckets": [2, 2, 4],
        "num_hashes": 4,
    },
    "local only": {
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 5,
        "local_num_chunks_before": 3,
    },
    "one token a chunk": {"local_attn_chunk_length": 1, "lsh_attn_chunk_length": 2},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_length(name: str, tally: Tally) -> None:
    model = theirs(**{**SMALL, **CONFIGS[name]})
    loaded = ours(model)
    assert loaded.config.max_length >= 48
    for length, batch in product(range(1, 19), BATCHES):
        ids = token_ids(batch, length, loaded.config.vocab_size, seed=length)
        for mask in masks(batch, length, seed=length):
            tally.compare(model, loaded, ids, mask)


@pytest.mark.parametrize("task", TASKS)
def test_every_length_of_every_head(task: str, tally: Tally) -> None:
    causal = task == "text-generation"
    model = theirs(task, **{**SMALL, "is_decoder": causal, "num_hashes": 1})
    loaded = ours(model)
    assert loaded.task == task
    for length in range(1, 19):
        ids = token_ids(3, length, loaded.config.vocab_size, seed=length)
        for mask in list(masks(3, length, seed=length))[::2]:
            tally.compare(model, loaded, ids, mask)


@pytest.mark.parametrize("positions", [{"axial_pos_embds": True}, {"axial_pos_embds": False}])
def test_up_to_the_last_position(positions: dict[str, Any], tally: Tally) -> None:
    model = theirs(**{**SMALL, **positions})
    loaded = ours(model)
    last = loaded.config.max_length
    assert last == 120  # the last multiple of 12 within 128 positions
    for length in (last - 1, last):
        tally.compare(model, loaded, token_ids(2, length, loaded.config.vocab_size), None)


@pytest.mark.parametrize("length", [1, 5, 18])
def test_any_number_but_zero_keeps_a_token(length: int, tally: Tally) -> None:
    model = theirs(**SMALL)
    loaded = ours(model)
    ids = token_ids(3, length, loaded.config.vocab_size)
    for mask in masks(3, length):
        if mask is not None:
            tally.compare(model, loaded, ids, mask.bool())
            tally.compare(model, loaded, ids, mask * 1.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hash_seed", 4),
        ("hidden_act", "gelu"),
        ("is_decoder", False),
        ("layer_norm_eps", 1e-3),
        ("local_attn_chunk_length", 6),
        ("local_num_chunks_after", 1),
        ("local_num_chunks_before", 0),
        ("lsh_attn_chunk_length", 12),
        ("lsh_num_chunks_after", 1),
        ("lsh_num_chunks_before", 0),
        ("num_buckets", [6, 4]),
    ],
)
def test_an_option_that_went_unheard_would_show(option: str, value: object, tmp_path: Path) -> None:
    """The comparison detects errors: it fails if one option of the two models differs."""
    model = theirs(**SMALL)
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, **{option: value})
    loaded = load_model(tmp_path)
    ids = token_ids(1, 24, loaded.config.vocab_size)
    with pytest.raises(AssertionError, match="kept"):
        Tally().compare(model, loaded, ids, None)
