"""Our operators as ONNX Runtime runs them on a GPU, within the tolerances of docs/ops.md.

The kernel file is written as for a model, the library chooses and launches the kernels, and a PTX
emulator replaces the GPU. Every launch must be the one in the operator's program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_ops.chunk_attention.cases import make_case as chunk_case
from reformer_ops.core.cases import Case
from reformer_ops.lsh_bucket.cases import make_case as hash_case
from reformer_ops.registry import by_onnx_name
from reformer_ops.sorted_chunk_attention.cases import make_case as sorted_case
from reformer_ops.triton_programs import sizes_of

from ..ops import tolerances
from ..tools.ptx.emulated import as_float32, stored
from .emulation import Run, images_in, write_kernels
from .process import beside_stand_in, stand_in
from .sessions import Array, Node, model_of, open_session, run

DTYPES = ("float32", "float16", "bfloat16")


def hashes(length: int, mask: str) -> Case:
    return hash_case(
        batch=2, length=length, heads=3, head_dim=7, num_hashes=2, factors=(6, 10), mask=mask
    )


def chunks(length: int, mask: str, **changed: Any) -> Case:
    fixed: dict[str, Any] = {"batch": 2, "heads": 3, "head_dim": 7, "chunk_length": 16, "after": 1}
    return chunk_case(**fixed, length=length, mask=mask, causal=False, **changed)


def rounds(length: int, mask: str, num_hashes: int, num_buckets: int = 6) -> Case:
    return sorted_case(
        batch=2,
        length=length,
        heads=2,
        head_dim=8,
        num_hashes=num_hashes,
        num_buckets=num_buckets,
        chunk_length=16,
        mask=mask,
    )


CASES: dict[str, tuple[str, Case]] = {
    "hash": ("LshBucket", hashes(70, "full")),
    "hash, padded": ("LshBucket", hashes(33, "ragged")),
    "chunks": ("ChunkAttention", chunks(64, "full")),
    "chunks, padded": ("ChunkAttention", chunks(48, "ragged")),
    "chunks, one": ("ChunkAttention", chunks(11, "holes")),
    "one round": ("SortedChunkAttention", rounds(48, "full", 1)),
    "one round, one chunk": ("SortedChunkAttention", rounds(9, "ragged", 1)),
    "rounds": ("SortedChunkAttention", rounds(64, "full", 3)),
    "rounds, padded": ("SortedChunkAttention", rounds(32, "ragged", 3)),
    "rounds, one chunk": ("SortedChunkAttention", rounds(16, "ragged", 3)),
    "two passes": ("SortedChunkAttention", rounds(80, "holes", 2, 1500)),
}

FAST = {
    ("hash, padded", "float32"),
    ("hash", "bfloat16"),
    ("chunks", "float16"),
    ("chunks, one", "float16"),
    ("chunks, padded", "bfloat16"),
    ("one round", "bfloat16"),
    ("one round, one chunk", "bfloat16"),
    ("rounds", "float16"),
    ("rounds, padded", "float16"),
    ("rounds, one chunk", "float16"),
    ("two passes", "float32"),
}
"""The cases of `make test`: one type per case, several types per kernel. Other cases are slow."""


def every(case: str) -> list[Any]:
    return [
        pytest.param(case, d, id=f"{case}-{d}", marks=() if (case, d) in FAST else pytest.mark.slow)
        for d in DTYPES
    ]


def node_of(op_name: str, case: Case, dtype: str) -> Node:
    op = by_onnx_name(op_name)
    shapes = {name: array.shape for name, array in case.inputs.items()}
    return Node(op_name, dtype, case.attributes, sizes_of(op, shapes))


def feeds(op_name: str, case: Case, dtype: str) -> dict[str, Array]:
    floats = {o.name for o in by_onnx_name(op_name).inputs if o.dtype == "float"}
    return {
        name: stored(array, dtype) if name in floats else array
        for name, array in case.inputs.items()
    }


def emulated(op_name: str, case: Case, dtype: str, folder: Path, *, gpu: int = 80) -> Array:
    """The output of a session on a GPU of this compute capability, with kernels for sm_80."""
    driver = stand_in(gpu)
    node = node_of(op_name, case, dtype)
    path = write_kernels(folder, node)
    session = open_session(model_of(node), path)
    batch, length = case.inputs["mask"].shape
    kind = "cubin" if gpu // 10 == 8 else "ptx"
    expected = Run(node, images_in(path), batch, length, kind=kind)
    driver.on_launch(expected)
    (found,) = run(session, feeds(op_name, case, dtype))
    assert expected.launched == len(expected.steps)
    return found if found.dtype == np.int32 else as_float32(found)


@pytest.mark.parametrize(("name", "dtype"), [each for name in CASES for each in every(name)])
@beside_stand_in
def test_sessions_keep_the_law(name: str, dtype: str, tmp_path: Path) -> None:
    op_name, case = CASES[name]
    op = by_onnx_name(op_name)
    case = tolerances.exact_in(case, op, dtype)
    tolerances.check(op, case, dtype, emulated(op_name, case, dtype, tmp_path))


@beside_stand_in
def test_a_later_gpu_gets_the_ptx(tmp_path: Path) -> None:
    op_name, case = CASES["hash, padded"]
    found = emulated(op_name, case, "float32", tmp_path, gpu=120)
    tolerances.check(by_onnx_name(op_name), case, "float32", found)


@pytest.mark.parametrize(
    ("length", "num_buckets"),
    [
        (2048, 3),
        (2064, 3),
        pytest.param(4112, 1500, marks=pytest.mark.slow),
    ],
)
@beside_stand_in
def test_a_sort_of_more_than_a_segment(length: int, num_buckets: int, tmp_path: Path) -> None:
    """Long sequences are counted first and then placed; up to 2048 tokens, both happen at once."""
    case = sorted_case(
        batch=1,
        length=length,
        heads=1,
        head_dim=4,
        num_hashes=1,
        num_buckets=num_buckets,
        chunk_length=16,
        before=0,
        mask="ragged",
    )
    op = by_onnx_name("SortedChunkAttention")
    found = emulated(op.name, case, "float32", tmp_path)
    tolerances.check(op, case, "float32", found)


@beside_stand_in
def test_a_session_takes_every_length(tmp_path: Path) -> None:
    """Lengths follow one another, longer and shorter; the kernels are loaded once."""
    driver = stand_in(80)
    op = by_onnx_name("SortedChunkAttention")
    cases = [rounds(length, "ragged", 3) for length in (32, 16, 64, 5)]
    node = node_of(op.name, cases[0], "float16")
    path = write_kernels(tmp_path, node)
    session = open_session(model_of(node), path)
    loaded = driver.calls().count("cuLibraryLoadData")
    for each in cases:
        case = tolerances.exact_in(each, op, "float16")
        batch, length = case.inputs["mask"].shape
        expected = Run(node, images_in(path), batch, length)
        driver.on_launch(expected)
        (found,) = run(session, feeds(op.name, case, "float16"))
        assert expected.launched == len(expected.steps)
        tolerances.check(op, case, "float16", as_float32(found))
    assert driver.calls().count("cuLibraryLoadData") == loaded
