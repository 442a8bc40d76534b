"""The default sizes of a comparison, and its inputs."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reformer_export.errors import UsageError
from reformer_export.verification.parity.inputs import (
    another_rng_state,
    choose_sizes,
    parity_inputs,
)

from ...tools.artifact_fixtures import signature


@st.composite
def models(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Chunk lengths, the multiple that lengths are padded to, and the longest sequence."""
    chunk_lengths = draw(st.lists(st.integers(1, 300), min_size=1, max_size=2, unique=True))
    return chunk_lengths, math.lcm(*chunk_lengths), draw(st.integers(1, 10_000))


@given(models())
def test_sizes_reach_whatever_the_model_does_differently(
    model: tuple[list[int], int, int],
) -> None:
    chunk_lengths, multiple, longest = model
    sizes = choose_sizes(None, None, chunk_lengths, multiple, longest)
    lengths = {length for length, _ in sizes}
    assert sizes == sorted(set(sizes))
    assert 1 in lengths
    assert 1 <= min(lengths) <= max(lengths) <= longest
    wanted = {length + more for length in (*chunk_lengths, multiple) for more in (0, 1)}
    assert {length for length in wanted if length <= longest} <= lengths
    # Some lengths are padded and some are not, if the longest sequence allows both.
    if longest >= 8 * multiple > 8:
        padded = {length % multiple > 0 for length in lengths if length > min(chunk_lengths)}
        assert padded == {True, False}
    assert len(sizes) < 15


@given(models())
def test_some_batch_of_several_is_tried_in_every_model(model: tuple[list[int], int, int]) -> None:
    chunk_lengths, multiple, longest = model
    sizes = choose_sizes(None, None, chunk_lengths, multiple, longest)
    assert {batch for _, batch in sizes} == {1, 3}
    assert {(length, 1) for length, _ in sizes} <= set(sizes)


@given(models(), st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True))
def test_batches_that_are_named_go_with_every_length(
    model: tuple[list[int], int, int], batches: list[int]
) -> None:
    chunk_lengths, multiple, longest = model
    usual = {length for length, _ in choose_sizes(None, None, chunk_lengths, multiple, longest)}
    sizes = choose_sizes(None, batches, chunk_lengths, multiple, longest)
    assert len(sizes) == len(usual) * len(batches)
    assert set(sizes) == {(length, batch) for length in usual for batch in batches}


@given(
    models(),
    st.lists(st.integers(1, 99), min_size=1, max_size=4),
    st.none() | st.lists(st.integers(1, 9), min_size=1, max_size=2),
)
def test_lengths_that_are_named_are_tried_as_they_are(
    model: tuple[list[int], int, int], lengths: list[int], batches: list[int] | None
) -> None:
    expected = [(length, batch) for length in lengths for batch in batches or (1, 3)]
    assert choose_sizes(lengths, batches, *model) == expected


def test_inputs_come_twice_with_ragged_masks() -> None:
    examples = list(parity_inputs(signature(), [(1, 1), (20, 1), (20, 3)]))
    assert [(e.length, e.batch, e.seed) for e in examples] == [
        (length, batch, seed) for length, batch in ((1, 1), (20, 1), (20, 3)) for seed in (0, 1)
    ]
    for example in examples:
        ids, mask = example.inputs["input_ids"], example.inputs["attention_mask"]
        assert ids.shape == mask.shape == (example.batch, example.length)
        assert ids.dtype == mask.dtype == np.int64
        assert ((ids >= 0) & (ids < 256)).all()
        assert mask[0].all()
        assert (np.diff(mask, axis=1) <= 0).all()
        assert (mask.sum(axis=1) > 0).all()
        assert example.masked == (example.batch > 1)
    first, second = (example.inputs["input_ids"] for example in examples[-2:])
    assert (first != second).any()
    assert len(np.unique(first)) > 30


def test_inputs_are_the_same_every_time() -> None:
    for one, other in zip(
        parity_inputs(signature(), [(9, 3)]), parity_inputs(signature(), [(9, 3)]), strict=True
    ):
        assert all(np.array_equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((0, 1), "--lengths 0: this model takes 1 to 64 tokens"),
        ((65, 1), "--lengths 65: this model takes 1 to 64 tokens"),
        ((1, 0), "--batch 0: a batch has at least one sequence"),
    ],
)
def test_sizes_the_model_does_not_take(size: tuple[int, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        next(parity_inputs(signature(), [(5, 1), size]))


def numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_another_state_of_the_generators_is_another_and_is_put_back() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = numbers()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with another_rng_state(5):
        inside = numbers()
    assert numbers() == expected
    assert not set(inside) & set(expected)
    with pytest.raises(ValueError, match="x"), another_rng_state(5):
        raise ValueError("x")
