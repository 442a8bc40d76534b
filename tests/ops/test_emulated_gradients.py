"""The PTX of the gradients' kernels, run by the emulator, is within the tolerances of docs/ops.md.

The forward pass is that of the portable operators. Nothing here runs on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE
from reformer_ops.sorted_chunk_attention.triton_gradients import combine_gradients
from reformer_ops.triton.attention_backward import attention_backward

from ..tools.ptx.emulated import as_float32, run_launch, stored
from . import tolerances
from .gradients import ATTENTIONS, DROPOUT, check, expected, upstream, with_dropout
from .test_emulated_kernels import FEW
from .tolerances import torch_arguments

Array = NDArray[Any]
PARTS = ("query_gradient", "key_gradient", "value_gradient")


def emulate(op: OpSpec, case: Case, dtype: str, target: int) -> list[Array]:
    """The output of the portable operator, then the gradients from the emulator."""
    arguments = torch_arguments(op.with_lse, case, dtype)
    output, lse = PORTABLE[op.with_lse.torch_name](*arguments)
    gradient = upstream(case, dtype)
    batch, length, heads, head_dim = output.shape
    attributes = dict(case.attributes)
    dropout = attributes.pop("dropout")
    attributes.pop("num_buckets", None)
    is_sorted = op.name == "SortedChunkAttention"
    is_short = length <= attributes["chunk_length"]
    shape = {"dtype": dtype, "heads": heads, "head_dim": head_dim}
    num_hashes = 1
    inputs: dict[str, Array] = {
        "value": stored(case.inputs["value"], dtype),
        "mask": case.inputs["mask"].view(np.uint8),
        "seed": np.array(case.inputs["seed"], np.int64),
        "lse": lse.numpy(),
        "delta": (output.float() * gradient.float()).sum(-1).transpose(1, 2).numpy(),
        "gradient": stored(gradient.float().numpy(), dtype),
    }
    if is_sorted:
        buckets = case.inputs["buckets"]
        num_hashes = 1 if is_short else buckets.shape[2]
        inputs["order"] = np.argsort(buckets, axis=-1, kind="stable").astype(np.int32)
        inputs["query"] = inputs["key"] = stored(case.inputs["query_key"], dtype)
    else:
        inputs["query"] = stored(case.inputs["query"], dtype)
        inputs["key"] = stored(case.inputs["key"], dtype)
    sizes: dict[str, Any] = {"batch": batch, "length": length}
    found: dict[str, Array] = {}
    for launch in attention_backward(
        **shape,
        num_hashes=num_hashes if is_sorted else None,
        **attributes,
        dropout=dropout,
        target=target,
    ):
        parts = {a.name: (batch, num_hashes, length, heads, head_dim) for a in launch.outputs}
        found |= run_launch(launch, target, inputs, parts, **sizes)
    if is_sorted:
        launch = combine_gradients(
            **shape, num_hashes=num_hashes, chunk_length=attributes["chunk_length"]
        )
        names = ("as_query", "as_key", "value_parts")
        given = {"query_key": inputs["query"]} | {
            name: found[part] for name, part in zip(names, PARTS, strict=True)
        }
        wanted = {a.name: tuple(output.shape) for a in launch.outputs}
        found = run_launch(launch, target, given, wanted, **sizes)
    gradients = [as_float32(array).reshape(output.shape) for array in found.values()]
    return [output.float().numpy(), *gradients]


def combinations() -> Iterator[Any]:
    for op in ATTENTIONS:
        numbers = {case.name: number for number, case in enumerate(tolerances.cases(op))}
        for name in FEW[op.name]:
            for dtype, target in (("float32", 80), ("float16", 90), ("bfloat16", 120)):
                fast = (dtype, target) == ("float16", 90) and name == FEW[op.name][0]
                marks = [] if fast else [pytest.mark.slow]
                yield pytest.param(op, numbers[name], dtype, target, marks=marks)


@pytest.mark.parametrize("dropout", [0.0, DROPOUT])
@pytest.mark.parametrize(("op", "number", "dtype", "target"), list(combinations()))
def test_emulated_gradients(
    op: OpSpec, number: int, dtype: str, target: int, dropout: float
) -> None:
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
    case = with_dropout(case, dropout)
    with torch.no_grad():
        found = emulate(op, case, dtype, target)
    check(op, expected(op, case, dtype), found)
