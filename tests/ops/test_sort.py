"""The sort in standard ONNX operators: it is exact and stable, and also returns its inverse."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.sorted_chunk_attention.onnx_sort import stable_sort

from .onnx_models import OPSET, make_session


@cache
def session(num_keys: int) -> onnxruntime.InferenceSession:
    keys = ir.Value(
        name="keys", type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape(("rows", "length"))
    )
    writer = OnnxWriter(ir.DataType.FLOAT, prefix="sort/", taken=["keys"])
    results = stable_sort(writer, keys, writer.size(keys, 1), num_keys)
    for name, value in zip(("order", "rank"), results, strict=True):
        value.name, value.type, value.shape = name, keys.type, keys.shape
    graph = ir.Graph(
        [keys], results, nodes=writer.nodes, opset_imports={"": OPSET}, name="stable_sort"
    )
    return make_session(ir.to_proto(ir.Model(graph, ir_version=10)))


def check(keys: NDArray[np.int32], num_keys: int) -> None:
    order, rank = session(num_keys).run(["order", "rank"], {"keys": keys})
    np.testing.assert_array_equal(order, np.argsort(keys, axis=1, kind="stable"))
    np.testing.assert_array_equal(rank, np.argsort(order, axis=1, kind="stable"))


@pytest.mark.parametrize("num_keys", [1, 2, 3, 9, 16, 17, 129, 256, 257, 4097, 8193, 65537])
@pytest.mark.parametrize("length", [1, 2, 63, 1000])
def test_random_keys(length: int, num_keys: int) -> None:
    rng = np.random.default_rng(length)
    check(rng.integers(0, num_keys, (3, length), np.int32), num_keys)


@pytest.mark.parametrize("num_keys", [2, 129, 8193])
def test_longest_sequence(num_keys: int) -> None:
    rng = np.random.default_rng(num_keys)
    check(rng.integers(0, num_keys, (2, 65536), np.int32), num_keys)


@pytest.mark.slow
@pytest.mark.parametrize("num_keys", [17, 513, 8193, 65537])
def test_many_long_rows(num_keys: int) -> None:
    rng = np.random.default_rng(num_keys)
    check(rng.integers(0, num_keys, (16, 65536), np.int32), num_keys)


@pytest.mark.parametrize("num_keys", [1, 5, 8193])
def test_keys_in_order_already(num_keys: int) -> None:
    """Ascending, descending, and all keys equal: the last two test stability and every digit."""
    rising = (np.arange(500) % num_keys).astype(np.int32)
    check(
        np.stack([np.sort(rising), np.sort(rising)[::-1], np.full_like(rising, num_keys - 1)]),
        num_keys,
    )


@given(
    keys=st.integers(1, 3).flatmap(
        lambda rows: st.integers(1, 30).flatmap(
            lambda length: st.lists(
                st.lists(st.integers(0, 300), min_size=length, max_size=length),
                min_size=rows,
                max_size=rows,
            )
        )
    )
)
@settings(max_examples=200)
def test_any_keys(keys: list[list[int]]) -> None:
    check(np.array(keys, np.int32), 301)
