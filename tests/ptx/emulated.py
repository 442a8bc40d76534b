"""The operators by the PTX that their Triton kernels compile to, executed by the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reformer_ops.cases import Case
from reformer_ops.chunk_attention.triton_kernel import chunk_attention
from reformer_ops.lsh_bucket.triton_kernel import lsh_bucket
from reformer_ops.sorted_chunk_attention.triton_combine import combine_rounds
from reformer_ops.sorted_chunk_attention.triton_kernel import attend_rounds
from reformer_ops.sorted_chunk_attention.triton_sort import sort_passes
from reformer_ops.spec import OpSpec
from reformer_ops.triton_compile import Compiled, compile_launch
from reformer_ops.triton_launch import Launch

from .machine import Program
from .memory import Buffer

Array = NDArray[Any]

STORED = {
    "*fp32": np.float32,
    "*fp16": np.float16,
    "*bf16": np.uint16,
    "*i32": np.int32,
    "*u8": np.uint8,
}
"""What a kernel's arguments are in NumPy; bfloat16 is its bits."""

_compiled: dict[tuple[Any, ...], tuple[Compiled, Program]] = {}


def compiled(launch: Launch, target: int) -> tuple[Compiled, Program]:
    """PTX for one GPU, decoded; made once a process, since compiling takes a second."""
    key = (launch.name, tuple(launch.constants.items()), launch.inputs, launch.num_warps, target)
    if key not in _compiled:
        kernel = compile_launch(launch, target)
        _compiled[key] = (kernel, Program(kernel.ptx))
    return _compiled[key]


def run_launch(
    launch: Launch,
    target: int,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    batch: int,
    length: int,
    partial: bool = False,
) -> dict[str, Array]:
    """One launch: inputs by name, shapes of outputs by name. `partial`: need not write all.

    Bits of bfloat16 stay bits.
    """
    kernel, program = compiled(launch, target)
    buffers = []
    for argument in launch.inputs:
        array = np.ascontiguousarray(inputs[argument.name])
        assert array.dtype == STORED[argument.type]
        buffers.append(Buffer(argument.name, array))
    found = {a.name: np.zeros(outputs[a.name], STORED[a.type]) for a in launch.outputs}
    written = [Buffer(n, array, output=True, partial=partial) for n, array in found.items()]
    program.launch(
        (launch.grid.programs(batch, length),),
        [*buffers, length, *written, None, None],
        shared_bytes=kernel.shared_bytes,
        block=(32 * kernel.num_warps,),
    )
    return found


def emulate(op: OpSpec, case: Case, dtype: str, target: int) -> Array:
    """The operator's output; floats as fp32. The case's floats must be exact in `dtype`."""
    inputs: dict[str, Array] = {}
    for operand in op.inputs:
        array = case.inputs[operand.name]
        if operand.dtype == "float":
            array = stored(array, dtype)
        inputs[operand.name] = array.view(np.uint8) if array.dtype == np.bool_ else array
    function = {"LshBucket": _hash, "SortedChunkAttention": _sorted, "ChunkAttention": _chunks}
    return function[op.name](case, inputs, dtype, target)


def stored(values: Array, dtype: str) -> Array:
    """fp32 as kernels keep it in memory."""
    if dtype == "bfloat16":
        return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    return values.astype(dtype)


def as_float32(array: Array) -> Array:
    """The reverse of `stored`."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32)


def _hash(case: Case, inputs: dict[str, Array], dtype: str, target: int) -> Array:
    batch, length, heads, head_dim = inputs["query"].shape
    num_hashes = inputs["rotations"].shape[2]
    launch = lsh_bucket(
        dtype=dtype, heads=heads, head_dim=head_dim, num_hashes=num_hashes, **case.attributes
    )
    shapes = {"buckets": (batch, heads, num_hashes, length)}
    return run_launch(launch, target, inputs, shapes, batch=batch, length=length)["buckets"]


def sort(buckets: Array, num_buckets: int, target: int) -> Array:
    """Positions in the order of buckets: `[batch, heads, num_hashes, length]`."""
    batch, heads, num_hashes, length = buckets.shape
    tensors = {"buckets": buckets}
    for each in sort_passes(heads=heads, num_hashes=num_hashes, num_buckets=num_buckets):
        shapes = {"sorted_order": buckets.shape}
        found = run_launch(each.place_alone, target, tensors, shapes, batch=batch, length=length)
        tensors["order"] = found["sorted_order"]
    return tensors["order"]


def _sorted(case: Case, inputs: dict[str, Array], dtype: str, target: int) -> Array:
    batch, length, heads, head_dim = inputs["value"].shape
    num_hashes = inputs["buckets"].shape[2]
    attributes = dict(case.attributes)
    order = sort(inputs["buckets"], attributes.pop("num_buckets"), target)
    sizes = {"dtype": dtype, "heads": heads, "head_dim": head_dim, "num_hashes": num_hashes}
    launch = attend_rounds(**sizes, **attributes, target=target)
    rounds = {
        "outputs": (batch, num_hashes, length, heads, head_dim),
        "lse": (batch, num_hashes, length, heads),
    }
    short = length <= attributes["chunk_length"]  # which leaves all rounds but the first alone
    found = run_launch(
        launch,
        target,
        {**inputs, "order": order},
        rounds,
        batch=batch,
        length=length,
        partial=short,
    )
    launch = combine_rounds(**sizes, chunk_length=attributes["chunk_length"])
    shape = {"output": (batch, length, heads, head_dim)}
    return as_float32(
        run_launch(launch, target, found, shape, batch=batch, length=length)["output"]
    )


def _chunks(case: Case, inputs: dict[str, Array], dtype: str, target: int) -> Array:
    batch, length, heads, head_dim = inputs["query"].shape
    launch = chunk_attention(
        dtype=dtype, heads=heads, head_dim=head_dim, **case.attributes, target=target
    )
    shape = {"output": (batch, length, heads, head_dim)}
    return as_float32(
        run_launch(launch, target, inputs, shape, batch=batch, length=length)["output"]
    )
