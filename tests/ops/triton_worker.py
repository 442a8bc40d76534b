"""Runs the Triton kernels on CPU tensors, in Triton's interpreter.

This is a separate process, because TRITON_INTERPRET applies to all kernels of a process. It reads
pickles of (what, arguments, keywords) from stdin and answers each with a pickle of the result or of
the error. `what` is "module:function", or an operator's name, which is called through torch's
dispatcher as for GPU tensors. The keyword `target` selects the kernels for a GPU: 90 for sm_90.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def find(what: str) -> Callable[..., Any]:
    import torch

    from reformer_ops import torch_ops  # noqa: F401  (registers the operators)

    module, _, function = what.rpartition(":")
    if module:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    operator = getattr(torch.ops.reformer, function).default
    cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    return lambda *arguments: operator.redispatch(cuda, *arguments)


@contextmanager
def for_gpu(target: int | None) -> Iterator[None]:
    """CPU tensors use the kernels for a GPU of this compute capability."""
    from reformer_ops.triton import torch as triton_torch

    usual = triton_torch._NO_GPU
    triton_torch._NO_GPU = target or usual
    try:
        yield
    finally:
        triton_torch._NO_GPU = usual


def round_as_gpus_do() -> None:
    """Round from fp32 to bfloat16 to the nearest number; Triton 3.9's interpreter cuts bits off."""
    import numpy as np
    import triton.language as tl
    from ml_dtypes import bfloat16
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    cast = InterpreterBuilder.cast_impl

    def cast_impl(self: Any, source: Any, kind: Any) -> Any:
        if (source.dtype.scalar, kind.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, source, kind)
        return TensorHandle(source.data.astype(bfloat16).view(np.uint16), tl.bfloat16)

    InterpreterBuilder.cast_impl = cast_impl


def multiply_as_gpus_do() -> None:
    """Replace the interpreter's products of matrices.

    Triton 3.9 computes a dot of bfloat16 from the integers that store the floats. The operands are
    widened to fp32, in which their products are exact, as in tensor cores. And the sums of NumPy's
    fp32 products are rounded differently in different places of a tile; on a GPU they are not, and
    the backward pass needs the scores of the forward pass.
    """
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    multiply = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (self.cast_impl(operand, tl.float32) for operand in (a, b))
        if a.data.dtype != np.float32:
            return multiply(self, a, b, d, *rest)
        total = d.data
        for k in range(a.data.shape[-1]):
            total = total + a.data[..., :, k, None] * b.data[..., k, None, :]
        return TensorHandle(total, d.dtype.scalar)

    InterpreterBuilder.create_dot = create_dot


def main() -> None:
    round_as_gpus_do()
    multiply_as_gpus_do()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # prints must not corrupt the pickles
    while True:
        try:
            what, arguments, keywords = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            with for_gpu(keywords.pop("target", None)):
                answer = find(what)(*arguments, **keywords)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
