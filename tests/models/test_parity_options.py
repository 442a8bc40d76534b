"""Compares random combinations of all options of the configuration with Transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reformer_models.config import ReformerConfig
from reformer_models.config.activation_names import ACTIVATION_NAMES
from reformer_models.tasks import TASKS

from .parity import Tally
from .reformers import masks, ours, theirs, token_ids

# (axial_pos_shape, max_position_embeddings): both allow the same length, or the shape a longer one.
POSITIONS = [([8, 16], 128), ([128, 1], 128), ([3, 50], 140), ([16, 16], 131)]
KINDS = st.sampled_from(["lsh", "local", "lsh"])  # LSH more often: it has more options
FACTORS = st.integers(1, 4).map(lambda half: 2 * half)


@dataclass(frozen=True)
class Case:
    """A model of Transformers to build, and lengths to run it at."""

    task: str
    config: dict[str, Any]
    lengths: list[int]
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    def chunking(kind: str, *, look_ahead: bool) -> dict[str, int]:
        return {
            f"{kind}_attn_chunk_length": draw(st.integers(1, 8)),
            f"{kind}_num_chunks_before": draw(st.integers(0, 3)),
            f"{kind}_num_chunks_after": draw(st.integers(0, 2 if look_ahead else 0)),
        }

    task = draw(st.sampled_from(sorted(TASKS)))
    causal = {"text-generation": True, "fill-mask": False}.get(task, draw(st.booleans()))
    # At least 4 numbers: a layer norm over 2 numbers gives 1 and -1, and if the numbers are almost
    # equal, rounding decides which is which.
    axial_dims = draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    shape, last = draw(st.sampled_from(POSITIONS))
    config: dict[str, Any] = {
        **chunking("local", look_ahead=task != "text-generation"),
        **chunking("lsh", look_ahead=task != "text-generation"),
        "attention_head_size": draw(st.integers(1, 9)),
        "attn_layers": draw(st.lists(KINDS, min_size=1, max_size=4)),
        "axial_pos_embds": draw(st.booleans()),
        "axial_pos_embds_dim": axial_dims,
        "axial_pos_shape": shape,
        "chunk_size_feed_forward": draw(st.integers(0, 5)),
        "chunk_size_lm_head": draw(st.integers(0, 5)),
        "feed_forward_size": draw(st.integers(1, 24)),
        "hash_seed": draw(st.integers(0, 2**32)),
        "hidden_act": draw(st.sampled_from(sorted(ACTIVATION_NAMES))),
        "hidden_size": sum(axial_dims),
        "is_decoder": causal,
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5, 0.1])),
        "max_position_embeddings": last,
        "num_attention_heads": draw(st.integers(1, 4)),
        "num_buckets": draw(st.none() | FACTORS | st.lists(FACTORS, min_size=1, max_size=3)),
        "num_hashes": draw(st.integers(1, 4)),
        "num_labels": 2 if task == "question-answering" else draw(st.integers(1, 4)),
        "pad_token_id": draw(st.none() | st.integers(0, 9)),
        "tie_word_embeddings": draw(st.booleans()),
        "vocab_size": 10,
    }
    chunks = [config[f"{kind}_attn_chunk_length"] for kind in set(config["attn_layers"])]
    lengths = draw(st.lists(st.integers(1, 3 * max(chunks)), min_size=1, max_size=2))
    return Case(task, config, lengths, draw(st.integers(0, 9)))


def chunk_where_possible(model: Any, padded: int, length: int) -> None:
    """Use the config's chunk sizes only if they divide the length, as Transformers requires."""

    def dividing(size: int, length: int) -> int:
        return size if size and length % size == 0 else 0

    for layer in getattr(model, "reformer", model).encoder.layers:
        size = model.config.chunk_size_feed_forward
        layer.feed_forward.chunk_size_feed_forward = dividing(size, padded)
    if hasattr(model, "lm_head"):
        model.lm_head.chunk_size_lm_head = dividing(model.config.chunk_size_lm_head, length)


@given(cases())
@settings(max_examples=100)
def test_options(case: Case) -> None:
    check(case)


@pytest.mark.slow
@given(cases())
@settings(max_examples=1000)
def test_many_options(case: Case) -> None:
    check(case)


def check(case: Case) -> None:
    model = theirs(case.task, seed=case.seed, **case.config)
    # Transformers chooses num_buckets at the first call that hashes.
    config = ReformerConfig.from_hf(model.config.to_dict())
    hashed = [n for n in case.lengths if config.padded_length(n) > config.lsh_attn_chunk_length]
    loaded = ours(model, sequence_length=[*hashed, *case.lengths][0])
    assert loaded.task == case.task
    if model.config.pad_token_id is None:
        model.config.pad_token_id = 0  # Transformers cannot pad without one; ours pads with 0
    tally = Tally()
    for length in case.lengths:
        chunk_where_possible(model, loaded.config.padded_length(length), length)
        for number, mask in enumerate([*masks(3, length), *masks(1, length)]):
            if number % 2 == case.seed % 2:
                batch = 3 if mask is None else len(mask)
                ids = token_ids(batch, length, 10, seed=case.seed)
                tally.compare(model, loaded, ids, mask)
    tally.check()
    event(f"{case.task}, hashed: {tally.decisions > 0}")
    if tally.decisions:
        now = ReformerConfig.from_hf(model.config.to_dict())
        assert now.num_buckets == loaded.config.num_buckets
