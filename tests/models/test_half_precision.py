"""Models in fp16 and bf16: the hash stays fp32, the precision is like that of Transformers."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from reformer_models.layers.attention import LSHSelfAttention
from reformer_models.loading import LoadedModel
from reformer_models.tasks import TASKS
from reformer_ops.lsh_bucket.reference import bucket_margins, lsh_bucket

from .parity import Outputs, relative_error, run_ours, run_theirs
from .reformers import CRIME_AND_PUNISHMENT, ENWIK8_CUT, SMALL, masks, ours, theirs, token_ids

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def in_fp32(outputs: Outputs) -> Outputs:
    return {name: tensor.float() for name, tensor in outputs.items()}


def assert_precise(
    model: Any, loaded: LoadedModel, inputs: Iterable[tuple[torch.Tensor, torch.Tensor | None]]
) -> None:
    """The flash-attention rule: at most twice the error of the plain implementation.

    The exact result is fp32 with the same rounded weights. All three runs use its buckets. If much
    is masked, Transformers' fp16 can have a large error, so the bound is also at most a few
    roundings of the result.
    """
    exact = loaded.in_fp32()
    dtype = next(loaded.model.parameters()).dtype
    epsilon = torch.finfo(dtype).eps
    for ids, mask in inputs:
        truth, trace = run_ours(exact, ids, mask)
        found, _ = run_ours(loaded, ids, mask, trace.computed)
        plain, _ = run_theirs(model, loaded, ids, mask, trace.computed)
        assert all(tensor.dtype == dtype for tensor in found.values())
        bound = min(2 * relative_error(in_fp32(plain), truth), 6 * epsilon)
        assert relative_error(in_fp32(found), truth) <= bound + epsilon


@HALVES
@pytest.mark.parametrize("changes", [{}, {"is_decoder": False, "num_hashes": 4}], ids=str)
def test_around_the_chunk_lengths(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    model = theirs(**{**SMALL, **changes}).to(dtype)
    loaded = ours(model, dtype=dtype)
    lengths = (1, 3, 4, 5, 6, 7, 12, 13, 18)
    inputs = ((token_ids(3, n, 40, seed=n), mask) for n in lengths for mask in masks(3, n, seed=n))
    assert_precise(model, loaded, inputs)


@HALVES
@pytest.mark.parametrize("task", TASKS)
def test_every_head(dtype: torch.dtype, task: str) -> None:
    model = theirs(task, **{**SMALL, "is_decoder": task == "text-generation"}).to(dtype)
    loaded = ours(model, dtype=dtype)
    assert_precise(model, loaded, [(token_ids(3, length, 40), None) for length in (3, 6, 17)])


@HALVES
@pytest.mark.parametrize(
    ("config", "length"),
    [
        pytest.param(CRIME_AND_PUNISHMENT, 150, id="crime-and-punishment"),
        pytest.param(ENWIK8_CUT, 300, id="enwik8", marks=pytest.mark.slow),
    ],
)
def test_published_shapes(dtype: torch.dtype, config: dict[str, Any], length: int) -> None:
    model = theirs(**config).to(dtype)
    loaded = ours(model, dtype=dtype)
    ids = token_ids(2, length, loaded.config.vocab_size)
    assert_precise(model, loaded, [(ids, mask) for mask in list(masks(2, length))[2:]])


def rotations(model: torch.nn.Module) -> list[torch.Tensor]:
    """The rotations of every LSH layer."""
    layers = (module for module in model.modules() if isinstance(module, LSHSelfAttention))
    return [layer.rotations for layer in layers]


@HALVES
def test_hashing_is_fp32(dtype: torch.dtype) -> None:
    """Buckets come from the rounded queries and the unrounded rotations."""
    loaded = ours(theirs(**CRIME_AND_PUNISHMENT), dtype=dtype)
    _, trace = run_ours(loaded, token_ids(1, 192, loaded.config.vocab_size), None)
    factors = loaded.config.num_buckets
    assert factors is not None
    layers = zip(trace.queries, trace.computed, loaded.rotations.values(), strict=True)
    for query, computed, matrices in layers:
        assert query.dtype == dtype
        values, matrix = query.float().numpy(), matrices.numpy()
        expected = lsh_bucket(values, matrix, np.ones((1, 192), np.bool_), factors=factors)
        margins = bucket_margins(values, matrix, factors=factors)
        assert margins[computed.numpy() != expected].max(initial=0) < 1e-6


@pytest.mark.parametrize(
    "convert",
    [
        lambda model: model.half(),
        lambda model: model.bfloat16(),
        lambda model: model.double(),
        lambda model: model.to(torch.float16).to(torch.float32),
        lambda model: model.to("cpu", torch.bfloat16),
        lambda model: copy.deepcopy(model).half(),
    ],
    ids=["half", "bfloat16", "double", "there and back", "with device", "deepcopy"],
)
def test_rotations_keep_their_bits(convert: Any) -> None:
    model = ours(theirs(**SMALL)).model
    before = [tensor.clone() for tensor in rotations(model)]
    assert len(before) == 2
    for old, new in zip(before, rotations(convert(model)), strict=True):
        assert new.dtype == torch.float32
        assert torch.equal(old, new)


def test_rotations_move_with_the_model() -> None:
    for tensor in rotations(ours(theirs(**SMALL)).model.half().to("meta")):
        assert (tensor.device.type, tensor.dtype) == ("meta", torch.float32)


@HALVES
def test_in_fp32_is_the_same_rounded_weights(dtype: torch.dtype) -> None:
    loaded = ours(theirs(**SMALL), dtype=dtype)
    exact = loaded.in_fp32()
    assert next(loaded.model.parameters()).dtype == dtype  # still
    assert exact.task == loaded.task
    assert exact.notes == loaded.notes
    assert not exact.model.training
    for name, tensor in loaded.model.state_dict().items():
        other = exact.model.state_dict()[name]
        assert other.dtype == torch.float32
        assert torch.equal(other, tensor.float())
        assert other.data_ptr() != tensor.data_ptr()
