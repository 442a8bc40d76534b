"""Properties of the model alone: lengths, chunked layers, the same result in every run."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch

from reformer_models.errors import InputShapeError
from reformer_models.tasks import TASKS

from .parity import run_ours
from .reformers import SMALL, ours, theirs, token_ids


def heads(task: str, **changes: Any) -> Any:
    """Transformers' small model for a task; causal for text-generation."""
    return theirs(task, **{**SMALL, "is_decoder": task == "text-generation", **changes})


@pytest.mark.parametrize("task", TASKS)
def test_outputs_are_named_and_shaped_as_declared(task: str) -> None:
    loaded = ours(heads(task, num_labels=2))
    sizes = {"batch": 3, "sequence": 17}
    outputs, _ = run_ours(loaded, token_ids(3, 17, 40), None)
    assert outputs.keys() == loaded.model.output_axes.keys()
    for name, axes in loaded.model.output_axes.items():
        assert list(outputs[name].shape) == [sizes.get(axis, axis) for axis in axes]


@pytest.mark.parametrize("task", TASKS)
def test_no_mask_is_a_mask_of_ones(task: str) -> None:
    loaded = ours(heads(task))
    for length in (3, 6, 17, 24):
        ids = token_ids(2, length, 40)
        without, _ = run_ours(loaded, ids, None)
        ones, _ = run_ours(loaded, ids, torch.ones_like(ids))
        for name, tensor in without.items():
            assert torch.equal(ones[name], tensor)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "chunks",
    [
        {"chunk_size_feed_forward": 5},
        {"chunk_size_lm_head": 5},
        {"chunk_size_feed_forward": 1, "chunk_size_lm_head": 1},
        {"chunk_size_feed_forward": 100, "chunk_size_lm_head": 100},
    ],
    ids=str,
)
def test_chunked_layers_give_the_same_numbers(task: str, chunks: dict[str, int]) -> None:
    whole, pieces = ours(heads(task)), ours(heads(task, **chunks))
    for length in (1, 4, 7, 17, 24):  # Transformers would require multiples of the chunk size
        ids = token_ids(2, length, 40)
        expected, trace = run_ours(whole, ids, None)
        found, _ = run_ours(pieces, ids, None, trace.computed)
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor)


def rng_states() -> bytes:
    """The states of all global random generators."""
    return pickle.dumps([random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()])


@pytest.mark.parametrize("length", [5, 24, 100])
def test_the_same_answer_whatever_the_generators(length: int) -> None:
    loaded = ours(heads("text-generation"))
    ids = token_ids(2, length, 40)
    with torch.random.fork_rng(devices=[]):
        before = rng_states()
        first, _ = run_ours(loaded, ids, None)
        assert rng_states() == before
        torch.manual_seed(1)
        second, _ = run_ours(loaded, ids, None)
        with torch.inference_mode():
            third = loaded.model(ids)
    assert torch.equal(first["logits"], second["logits"])
    assert torch.equal(first["logits"], third["logits"])


def test_the_inputs_are_left_alone() -> None:
    loaded = ours(heads("feature-extraction"))
    ids = token_ids(2, 17, 40)
    mask = (torch.rand(2, 17) < 0.5).long()
    kept = ids.clone(), mask.clone()
    run_ours(loaded, ids, mask)
    assert torch.equal(ids, kept[0])
    assert torch.equal(mask, kept[1])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [0, 121, 500])
def test_lengths_without_positions(task: str, length: int) -> None:
    loaded = ours(heads(task))
    ids = torch.zeros((1, length), dtype=torch.int64)
    with pytest.raises(InputShapeError, match=f"takes 1 to 120 tokens; got {length}"):
        loaded.model(ids)


def test_rows_do_not_see_each_other() -> None:
    """A row's output depends on no other row, except for rounding with another batch size."""
    loaded = ours(heads("feature-extraction"))
    ids = token_ids(3, 20, 40)
    mask = torch.ones_like(ids)
    mask[2, 9:] = 0
    together, trace = run_ours(loaded, ids, mask)
    for row in range(3):
        buckets = [computed[row : row + 1] for computed in trace.computed]
        alone, _ = run_ours(loaded, ids[row : row + 1], mask[row : row + 1], buckets)
        torch.testing.assert_close(
            alone["last_hidden_state"][0], together["last_hidden_state"][row]
        )


def test_a_causal_model_does_not_see_what_is_to_come() -> None:
    loaded = ours(heads("text-generation", attn_layers=["local"] * 3))
    ids = token_ids(1, 24, 40)
    changed = ids.clone()
    changed[:, 13:] = 39 - changed[:, 13:]
    (first, _), (second, _) = run_ours(loaded, ids, None), run_ours(loaded, changed, None)
    assert torch.equal(first["logits"][:, :13], second["logits"][:, :13])
    assert not torch.equal(first["logits"][:, 13:], second["logits"][:, 13:])
