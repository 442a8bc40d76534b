"""Models whose linear layers are fused with adjacent operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_models.fusing import fuse_linear
from reformer_models.layers.decoding import DecodeStep, Prefill
from reformer_models.layers.fused import FusedAttention, FusedFeedForward, NormLinear
from reformer_models.loading import load_model

from ..tools.model_fixtures import Fixtures
from .configs import WIDE
from .reformers import token_ids

LAYERS = len(WIDE["attn_layers"])
# A local layer has a query, a key and a value, an LSH layer a query_key and a value.
ATTENTION = {NormLinear: 5 * LAYERS // 2, FusedAttention: LAYERS}
ALL = {**ATTENTION, FusedFeedForward: LAYERS}

TASKS: dict[str, dict[str, Any]] = {
    "text-generation": {},
    "feature-extraction": {},
    "fill-mask": {"is_decoder": False},
    "text-classification": {"is_decoder": False, "num_labels": 3},
    "question-answering": {"is_decoder": False, "num_labels": 2},
}


def source(fixtures: Fixtures, task: str = "text-generation", **changes: Any) -> Path:
    return fixtures.checkpoint(task, {**WIDE, **TASKS[task], **changes})


def count(model: torch.nn.Module) -> dict[type, int]:
    found: dict[type, int] = {}
    for module in model.modules():
        if type(module) in ALL:
            found[type(module)] = found.get(type(module), 0) + 1
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_numbers_stay(task: str, fixtures: Fixtures) -> None:
    model = load_model(source(fixtures, task), task=task).model
    fused = fuse_linear(model)
    assert count(fused) == ALL
    assert not count(model)
    for batch, length in ((1, 1), (2, 5), (3, 23), (1, 120)):
        ids = token_ids(batch, length, WIDE["vocab_size"], seed=length)
        mask = torch.ones_like(ids)
        mask[:, length - length // 3 :] = 0
        with torch.inference_mode():
            wanted, found = model(ids, mask), fused(ids, mask)
        for name, tensor in wanted.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "silu"},
        {"chunk_size_feed_forward": 3},
    ],
    ids=str,
)
def test_what_is_fused(changes: dict[str, Any], fixtures: Fixtures) -> None:
    model = load_model(source(fixtures, **changes)).model
    assert count(fuse_linear(model)) == ALL
    check(model)


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"hidden_act": "tanh"}, ATTENTION),
        ({"feed_forward_size": 40}, ATTENTION),
        ({"attention_head_size": 4}, {FusedFeedForward: LAYERS}),
        ({"hidden_size": 24, "axial_pos_embds_dim": [10, 14]}, {}),
    ],
    ids=str,
)
def test_what_the_operators_cannot_do_stays_as_it_was(
    changes: dict[str, Any], ours: dict[type, int], fixtures: Fixtures
) -> None:
    model = load_model(source(fixtures, **changes)).model
    assert count(fuse_linear(model)) == ours
    check(model)


def check(model: Any) -> None:
    ids = token_ids(2, 37, WIDE["vocab_size"])
    with torch.inference_mode():
        wanted, found = model(ids)["logits"], fuse_linear(model)(ids)["logits"]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_half_precision(fixtures: Fixtures) -> None:
    checkpoint = source(fixtures)
    ids = token_ids(2, 5, WIDE["vocab_size"])  # less than a chunk: nothing is hashed
    half = load_model(checkpoint, dtype=torch.float16).model
    fused = fuse_linear(half)
    assert count(fused) == ALL
    with torch.inference_mode():
        wanted, found = half(ids)["logits"], fused(ids)["logits"]
    assert found.dtype == torch.float16
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()
    brain = load_model(checkpoint, dtype=torch.bfloat16).model
    assert fuse_linear(brain) is brain


def test_no_weight_is_stored_twice(fixtures: Fixtures) -> None:
    model = load_model(source(fixtures)).model
    fused = fuse_linear(model)
    shared = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    of_fused = fused.state_dict(keep_vars=True)
    own = [name for name, tensor in of_fused.items() if id(tensor) not in shared]
    assert all(name.endswith(("weight_panels", ".bias")) for name in own)

    def size(tensors: Any) -> int:
        return sum(tensor.nbytes for tensor in {id(t): t for t in tensors}.values())

    assert size(of_fused.values()) == size(model.state_dict(keep_vars=True).values())


@pytest.mark.parametrize("weights", [None, "int8"])
def test_generation(weights: str | None, fixtures: Fixtures) -> None:
    model: Any = load_model(source(fixtures, vocab_size=48), weights=weights).model
    fused: Any = fuse_linear(model)
    assert count(fused)[FusedFeedForward] == LAYERS
    prompt = token_ids(2, 19, 48)
    # With 8 bits, a number that lies between two integers may be rounded to either.
    nearly = {"rtol": 0.0, "atol": 2e-2 if weights else 2e-5}
    with torch.inference_mode():
        wanted, found = Prefill(model)(prompt), Prefill(fused)(prompt)
        torch.testing.assert_close(found, wanted, **nearly)
        (logits, *cache), (_, *same) = wanted.values(), found.values()
        token = logits.argmax(dim=-1)
        room = [torch.nn.functional.pad(t, grown(t, 19)) for t in cache]
        room_of_fused = [torch.nn.functional.pad(t, grown(t, 19)) for t in same]
        length = torch.full((2,), 19)
        wanted = DecodeStep(model)(token, length, length, *room)
        found = DecodeStep(fused)(token, length, length, *room_of_fused)
    torch.testing.assert_close(found, wanted, **nearly)


def grown(tensor: torch.Tensor, length: int) -> list[int]:
    """The padding with which a tensor of a cache has room for one more token."""
    if tensor.dim() == 4 and tensor.shape[1] == length:
        return [0, 0, 0, 0, 0, 1]
    return [0, 1] if tensor.shape[-1] == length else [0, 0]
