"""Lengths and buckets that `ReformerConfig` computes, against those of Transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError

from .config_files import as_hf, configs

# Lengths


class _SeenError(Exception):
    """Carries a value out of the forward of a model."""


def embedded_length(model: transformers.ReformerModel, length: int) -> int:
    """The length of a sequence after Transformers has padded and embedded it."""
    try:
        model(torch.zeros(1, length, dtype=torch.long), torch.ones(1, length))
    except _SeenError as seen:
        return int(seen.args[0])
    raise AssertionError("the hook below was not called")


def hf_embedder(config: ReformerConfig) -> transformers.ReformerModel:
    def stop(module: object, args: tuple[Any, ...], kwargs: dict[str, torch.Tensor]) -> None:
        raise _SeenError(kwargs["hidden_states"].shape[1])

    model = transformers.ReformerModel(as_hf(config)).eval()
    model.encoder.register_forward_pre_hook(stop, with_kwargs=True)
    return model


@given(configs())
@settings(max_examples=40)
def test_lengths_are_padded_and_limited_as_in_transformers(config: ReformerConfig) -> None:
    model = hf_embedder(config)
    longest = config.max_length
    beyond = longest + config.chunk_multiple
    lengths = {*range(1, min(longest, 40) + 1), *range(max(longest - 20, 1), longest + 1)}
    for length in lengths:
        assert embedded_length(model, length) == config.padded_length(length)
    for length in range(longest + 1, min(beyond, longest + 20) + 1):
        with pytest.raises(ValueError, match=r"position_embeddings|axial_pos_shape"):
            embedded_length(model, length)


# Hashing


@given(
    chunk=st.integers(1, 70),
    positions=st.integers(1, 2**20),
    chunks=st.integers(2, 5000),
    rest=st.integers(0, 100),
)
@settings(max_examples=300)
def test_buckets_are_those_transformers_picks(
    chunk: int, positions: int, chunks: int, rest: int
) -> None:
    config = ReformerConfig(
        attn_layers=("lsh",),
        attention_head_size=2,
        hidden_size=256,
        lsh_attn_chunk_length=chunk,
        max_position_embeddings=positions,
        num_attention_heads=1,
    )
    length = chunk * chunks - rest % chunk
    theirs = as_hf(config)
    LSHSelfAttention(theirs)._set_num_buckets(config.padded_length(length))
    picked = replace(config, num_buckets=theirs.num_buckets).num_buckets
    assert config.num_buckets_for(length) == picked


@pytest.mark.parametrize("length", [*range(5, 40), 63, 64, 65, 95, 96])
def test_buckets_of_a_first_call(length: int) -> None:
    config = ReformerConfig(
        attn_layers=("local", "lsh"),
        attention_head_size=2,
        axial_pos_shape=(8, 12),
        axial_pos_embds_dim=(2, 2),
        hidden_size=4,
        local_attn_chunk_length=6,
        lsh_attn_chunk_length=4,
        max_position_embeddings=96,
        num_attention_heads=1,
    )
    model = transformers.ReformerModel(as_hf(config)).eval()
    with torch.no_grad():
        model(torch.zeros(1, length, dtype=torch.long))
    pinned = config.pinned(sequence_length=length).config
    assert pinned.to_hf()["num_buckets"] == model.config.num_buckets


def test_pinning_says_what_it_does() -> None:
    config = ReformerConfig(axial_pos_shape=(64, 128), max_position_embeddings=8192)
    pinned, notes = config.pinned()
    assert (pinned.num_buckets, pinned.hash_seed) == ((16, 16), 0)
    assert pinned == replace(config, num_buckets=(16, 16), hash_seed=0)
    assert "pinned to 16×16" in notes[0]
    assert "8192 tokens" in notes[0]
    assert "pinned to 0" in notes[1]
    assert pinned.pinned() == (pinned, ())


def test_pinning_for_a_length() -> None:
    pinned, notes = ReformerConfig().pinned(sequence_length=300, hash_seed=3)
    assert (pinned.num_buckets, pinned.hash_seed) == ((8,), 3)
    assert "300 tokens" in notes[0]
    assert notes[1] == "hash_seed was not set: set to 3 as asked."


@pytest.mark.parametrize("length", [1, 63, 64])
def test_pinning_for_a_length_that_is_not_hashed(length: int) -> None:
    assert ReformerConfig().pinned(sequence_length=length).config.num_buckets == (2,)


def test_pinning_overrides() -> None:
    config = ReformerConfig(num_buckets=(64, 128), hash_seed=1)
    pinned, notes = config.pinned(num_buckets=32, hash_seed=2, sequence_length=100)
    assert (pinned.num_buckets, pinned.hash_seed) == ((32,), 2)
    assert notes == (
        "num_buckets was 64×128: set to 32 as asked.",
        "hash_seed was 1: set to 2 as asked.",
    )
    assert config.pinned(num_buckets=[64, 128], hash_seed=1) == (config, ())


def test_nothing_to_pin_without_lsh_layers() -> None:
    config = ReformerConfig(attn_layers=("local",))
    assert config.pinned(sequence_length=100) == (config, ())
    with pytest.raises(ConfigError, match=r"num_buckets = 4 was asked for.*leave it out"):
        config.pinned(num_buckets=4)
    with pytest.raises(ConfigError, match="hash_seed = 0 was asked for"):
        config.pinned(hash_seed=0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sequence_length": 0}, r"sequence_length must be an integer in 1\.\.4096, found 0"),
        ({"sequence_length": 4097}, "sequence_length must be"),
        ({"num_buckets": 5}, "num_buckets must be even"),
        ({"num_buckets": [4, 5]}, "num_buckets must be even"),
        ({"hash_seed": -(2**63) - 1}, "hash_seed must be"),
    ],
)
def test_pinning_refuses(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReformerConfig().pinned(**asked)


def test_the_number_of_buckets_must_be_known() -> None:
    with pytest.raises(ConfigError, match="pinned"):
        _ = ReformerConfig().bucket_count


@given(configs())
def test_padded_lengths_grow_and_never_pass_the_limit(config: ReformerConfig) -> None:
    padded = [config.padded_length(length) for length in range(1, config.max_length + 1)]
    assert padded == sorted(padded)
    assert padded[-1] <= config.max_position_embeddings
