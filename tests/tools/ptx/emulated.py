"""Runs the operators in the emulator, with the PTX that their Triton kernels compile to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.sorted_chunk_attention.triton_sort import sort_passes
from reformer_ops.triton.compile import Compiled, compile_launch
from reformer_ops.triton.launch import Launch
from reformer_ops.triton_programs import make_program, sizes_of

from .machine import Program
from .memory import Buffer

Array = NDArray[Any]

STORED = {
    "*fp32": np.float32,
    "*fp16": np.float16,
    "*bf16": np.uint16,
    "*i32": np.int32,
    "*i64": np.int64,
    "*u8": np.uint8,
}
"""The NumPy types of a kernel's arguments; bfloat16 is stored as its bits."""

_compiled: dict[tuple[Any, ...], tuple[Compiled, Program]] = {}


def compiled(launch: Launch, target: int) -> tuple[Compiled, Program]:
    """Decoded PTX for one GPU; made once per process, because compiling takes a second."""
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
    """Run one launch, from inputs and shapes of outputs by name; returns the outputs by name.

    `partial`: the launch need not write its outputs completely. bfloat16 stays as bits.
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
    """The operator's output from the program that a GPU would run; floats become fp32.

    The case's floats must be exact in `dtype`.
    """
    buffers: dict[str, Array] = {}
    for operand in op.inputs:
        array = case.inputs[operand.name]
        if operand.dtype == "float":
            array = stored(array, dtype)
        buffers[operand.name] = array.view(np.uint8) if array.dtype == np.bool_ else array
    axes: dict[str, int] = {}
    for operand in op.inputs:
        axes.update(zip(operand.axes, case.inputs[operand.name].shape, strict=True))
    batch, length = axes["batch"], axes["length"]
    shapes = {name: array.shape for name, array in case.inputs.items()}
    program = make_program(
        op, dtype=dtype, attributes=case.attributes, sizes=sizes_of(op, shapes), target=target
    )
    (output,) = op.outputs
    for name, amount in program.scratch.items():  # some launches read unwritten buffers
        buffers[name] = np.zeros(amount.programs(batch, length) // 4, np.int32)
    for step in program.steps:
        if not step.shortest <= length <= step.longest:
            continue
        sizes = {}
        for argument in step.launch.outputs:
            name = step.buffers.get(argument.name, argument.name)
            if name == output.name:
                sizes[argument.name] = tuple(axes[axis] for axis in output.axes)
            else:
                item = np.dtype(STORED[argument.type]).itemsize
                sizes[argument.name] = (program.scratch[name].programs(batch, length) // item,)
        found = run_launch(
            step.launch,
            target,
            {a.name: buffers[step.buffers.get(a.name, a.name)] for a in step.launch.inputs},
            sizes,
            batch=batch,
            length=length,
            # For a short sequence, only the first round is written.
            partial=length <= case.attributes.get("chunk_length", 0),
        )
        for name, array in found.items():
            buffers[step.buffers.get(name, name)] = array
    result = buffers[output.name]
    return result if output.dtype != "float" else as_float32(result)


def stored(values: Array, dtype: str) -> Array:
    """fp32 values in the type that kernels store in memory."""
    if dtype == "bfloat16":
        return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    return values.astype(dtype)


def as_float32(array: Array) -> Array:
    """The reverse of `stored`."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32)


def sort(buckets: Array, num_buckets: int, target: int) -> Array:
    """Positions in the order of buckets: `[batch, heads, num_hashes, length]`."""
    batch, heads, num_hashes, length = buckets.shape
    tensors = {"buckets": buckets}
    for each in sort_passes(heads=heads, num_hashes=num_hashes, num_buckets=num_buckets):
        shapes = {"sorted_order": buckets.shape}
        found = run_launch(each.place_alone, target, tensors, shapes, batch=batch, length=length)
        tensors["order"] = found["sorted_order"]
    return tensors["order"]
