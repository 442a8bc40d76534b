"""Compares the reference with plain loops that were written from docs/ops.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.lsh_bucket.spec import LSH_BUCKET
from reformer_ops.registry import OPS
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION

from . import naive, strategies, tolerances
from .examples import EXAMPLES

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


def test_hashing_example_of_the_document() -> None:
    """docs/ops.md, LshBucket."""
    query = np.array([1.0, 2.0], np.float32).reshape(1, 1, 1, 2).repeat(2, axis=1)
    columns = np.array([[1, 0, 1], [0, 1, -1]], np.float32).reshape(1, 2, 1, 3)
    inputs = {"query": query, "rotations": columns, "mask": np.array([[True, False]])}
    check(LSH_BUCKET, Case("document", inputs, {"factors": (4, 2)}), [5, 8])


def test_attention_example_of_the_document() -> None:
    """docs/ops.md, SortedChunkAttention."""
    inputs = {
        "query_key": np.array([1, 2, -1, 3], np.float32).reshape(1, 4, 1, 1),
        "value": np.array([10, 20, 30, 40], np.float32).reshape(1, 4, 1, 1),
        "buckets": np.array([1, 0, 1, 0], np.int32).reshape(1, 1, 1, 4),
        "mask": np.ones((1, 4), np.bool_),
    }
    attributes = {"num_buckets": 2, "chunk_length": 2, "num_chunks_before": 1}
    attributes.update(num_chunks_after=0, causal=True)
    check(SORTED_CHUNK_ATTENTION, Case("document", inputs, attributes), [10, 10, 15, 15.019])


@by_op
def test_example(op: OpSpec) -> None:
    check(op, EXAMPLES[op.name])


@by_op
@given(data=st.data())
@settings(max_examples=40)
def test_random_cases(op: OpSpec, data: st.DataObject) -> None:
    check(op, data.draw(strategies.CASES[op.name]))


def check(op: OpSpec, case: Case, printed: Sequence[float] | None = None) -> None:
    loops = getattr(naive, op.torch_name)(**case.inputs, **case.attributes)
    wanted = tolerances.expected(op, case)
    assert loops.dtype == wanted.dtype
    np.testing.assert_allclose(loops, wanted, rtol=0, atol=1e-11)
    if printed is not None:
        np.testing.assert_allclose(wanted.ravel(), printed, rtol=0, atol=5e-4)
