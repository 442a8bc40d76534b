"""Rotations as Transformers draws them, and the trace that records and replaces buckets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError
from reformer_models.layers.hashing import BucketTrace, draw_rotations

from .parity import run_ours
from .reformers import CRIME_AND_PUNISHMENT, ENWIK8_CUT, SMALL, ours, theirs, token_ids

CONFIG = ReformerConfig(num_buckets=(4, 6), hash_seed=0, num_attention_heads=2)


@pytest.mark.parametrize("seed", [0, 1, 7, 12345, 2**31, 2**32 - 1, 2**64 - 1, -1])
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, num_buckets=(2,), attention_head_size=1, num_attention_heads=1),
        replace(CONFIG, num_buckets=(10,), attention_head_size=3, num_hashes=3),
        ReformerConfig.from_hf({**CRIME_AND_PUNISHMENT, "model_type": "reformer"}),
        ReformerConfig.from_hf({**ENWIK8_CUT, "model_type": "reformer"}),
    ],
    ids=["factors", "smallest", "odd", "crime-and-punishment", "enwik8"],
)
def test_rotations_are_what_transformers_draws(seed: int, config: ReformerConfig) -> None:
    factors = config.num_buckets
    assert factors is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = torch.randn(
            config.num_attention_heads,
            config.attention_head_size,
            config.num_hashes,
            sum(factors) // 2,
        )
    found = draw_rotations(replace(config, hash_seed=seed))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_rotations_do_not_depend_on_defaults() -> None:
    expected = draw_rotations(CONFIG)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw_rotations(CONFIG), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "config", [replace(CONFIG, num_buckets=None), replace(CONFIG, hash_seed=None)]
)
def test_nothing_is_drawn_without_buckets_and_seed(config: ReformerConfig) -> None:
    with pytest.raises(ConfigError, match="num_buckets and hash_seed"):
        draw_rotations(config)


def test_the_trace_shows_every_lsh_layer_in_order() -> None:
    loaded = ours(theirs(**SMALL))
    ids = token_ids(3, 20, loaded.config.vocab_size)
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    outputs, trace = run_ours(loaded, ids, mask)
    assert [query.shape for query in trace.queries] == [(3, 24, 2, 6)] * 2
    assert [buckets.shape for buckets in trace.computed] == [(3, 2, 2, 24)] * 2
    for buckets in trace.computed:
        assert buckets.dtype == torch.int32
        assert (buckets[..., 20:] == 24).all()  # the bucket of the padding
        assert (buckets[1, ..., 11:] == 24).all()
        assert (buckets[0, ..., :20] < 24).all()
    assert not torch.equal(*trace.queries)
    with torch.no_grad():
        untraced = loaded.model(ids, mask)
    assert torch.equal(outputs["last_hidden_state"], untraced["last_hidden_state"])


def test_forced_buckets_are_used_and_the_own_ones_still_shown() -> None:
    loaded = ours(theirs(**SMALL))
    ids = token_ids(2, 24, loaded.config.vocab_size)
    free, own = run_ours(loaded, ids, None)
    same, _ = run_ours(loaded, ids, None, own.computed)
    assert torch.equal(free["last_hidden_state"], same["last_hidden_state"])

    others = (own.computed[0] + 1) % 24
    forced, seen = run_ours(loaded, ids, None, [others, None])
    assert not torch.equal(forced["last_hidden_state"], free["last_hidden_state"])
    assert torch.equal(seen.computed[0], own.computed[0])
    assert not torch.equal(seen.computed[1], own.computed[1])  # it saw other hidden states


def test_a_trace_without_layers_to_watch() -> None:
    trace = BucketTrace()
    loaded = ours(theirs(**{**SMALL, "attn_layers": ["local"]}))
    with torch.no_grad():
        loaded.model(token_ids(1, 9, loaded.config.vocab_size), None, trace)
    assert trace.computed == trace.queries == []
