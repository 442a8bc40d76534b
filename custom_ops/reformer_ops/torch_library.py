"""Puts an operator into torch's dispatcher under the schema its spec declares."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

import torch

from reformer_ops.errors import NativeLibraryError, OpError
from reformer_ops.native import CHOICE_VARIABLE, load_into_torch, requested
from reformer_ops.spec import DOMAIN, OpSpec

MODEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""The types a model may come in; what the law wants in fp32 is fp32 in all of them."""

PORTABLE: dict[str, Callable[..., torch.Tensor]] = {}
"""By torch name, what serves a device that has no kernel of its own for the operator."""

_LIBRARY = torch.library.Library(DOMAIN, "FRAGMENT")

_logger = logging.getLogger(__name__)
_DECOMPOSED: ContextVar[bool] = ContextVar("reformer_ops_decomposed", default=False)

load_into_torch()  # before anything is defined: a library of kernels brings the schemas along


def register(
    op: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., torch.Tensor],
    fake: Callable[..., torch.Tensor],
) -> None:
    """Define `torch.ops.reformer.<torch_name>`, unless the native library has.

    `check` raises an OpError for what the operator does not take. `portable` serves every device
    that has no kernel of its own, and gives the gradients on all. On CUDA the Triton kernels run,
    unless REFORMER_OPS=portable. `fake` gives the output's shape and type, so that torch.export
    and torch.compile keep the operator as one node.

    Raises:
        NativeLibraryError: the library that is loaded has another schema.
    """
    name = f"{DOMAIN}::{op.torch_name}"

    def kernel(*arguments: Any, **training: Any) -> torch.Tensor:
        check(*arguments)
        # What the numeric law wants in fp32, autocast would round.
        with torch.autocast(arguments[0].device.type, enabled=False):
            return portable(*arguments, **training)

    PORTABLE[op.torch_name] = kernel
    _define(op)
    _LIBRARY.impl(op.torch_name, kernel, "CompositeExplicitAutograd")
    if requested() != "portable":
        _LIBRARY.impl(op.torch_name, partial(_on_cuda, op, check, kernel), "CUDA")
    torch.library.register_fake(name, fake, lib=_LIBRARY)
    if op.outputs[0].dtype == "float":
        backward = partial(_backward, kernel)
        torch.library.register_autograd(name, backward, setup_context=_save_arguments, lib=_LIBRARY)


def _on_cuda(
    op: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., torch.Tensor],
    *arguments: Any,
) -> torch.Tensor:
    """By the Triton kernels where Triton is installed, as it is with torch for CUDA."""
    kernels = _triton_kernels(op)
    if kernels is None:
        return portable(*arguments)
    check(*arguments)
    return kernels(*arguments)


@cache
def _triton_kernels(op: OpSpec) -> Callable[..., torch.Tensor] | None:
    """`<op>/triton_op.py`; None without Triton, which REFORMER_OPS=native makes an error."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        reason = f"{op.torch_name} on CUDA needs triton, which does not load ({error})"
        if requested() == "native":
            raise NativeLibraryError(
                f"{reason}: pip install triton, or set {CHOICE_VARIABLE}=portable"
            ) from error
        _logger.warning("%s; the portable operators run instead, slowly", reason)
        return None
    module = importlib.import_module(f"reformer_ops.{op.torch_name}.triton_op")
    function: Callable[..., torch.Tensor] = getattr(module, op.torch_name)
    return function


def _define(op: OpSpec) -> None:
    packet = getattr(getattr(torch.ops, DOMAIN), op.torch_name, None)
    if packet is None:
        _LIBRARY.define(op.torch_schema, tags=(torch.Tag.pt2_compliant_tag,))
        return
    declared = torch._C.parse_schema(f"{DOMAIN}::{op.torch_schema}")
    if packet.default._schema != declared:
        raise NativeLibraryError(
            f"the native library that is loaded has {packet.default._schema}, this version of "
            f"reformer_ops has {declared}: install again"
        )


def _save_arguments(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, torch.Tensor)))
    ctx.attributes = [value for value in inputs if not isinstance(value, torch.Tensor)]


def _backward(
    portable: Callable[..., torch.Tensor], ctx: Any, gradient: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Gradients by running the operator once more: only its inputs were kept, no scores."""
    needed = ctx.needs_input_grad[: len(ctx.saved_tensors)]
    pairs = zip(ctx.saved_tensors, needed, strict=True)
    tensors = [tensor.detach().requires_grad_(wanted) for tensor, wanted in pairs]
    with torch.enable_grad():
        output = portable(*tensors, *ctx.attributes)
    found = iter(torch.autograd.grad(output, [t for t in tensors if t.requires_grad], gradient))
    gradients = [next(found) if wanted else None for wanted in needed]
    return (*gradients, *(None for _ in ctx.attributes))


@contextmanager
def decomposed() -> Iterator[None]:
    """Within it the operators run as what they consist of: a trace then holds no node of ours."""
    token = _DECOMPOSED.set(True)
    try:
        yield
    finally:
        _DECOMPOSED.reset(token)


def call(op: OpSpec, *arguments: Any) -> torch.Tensor:
    """Run the operator; OpError for what it does not take, whoever found out."""
    # torch.compile does not know context variables.
    if not torch.compiler.is_dynamo_compiling() and _DECOMPOSED.get():
        return PORTABLE[op.torch_name](*arguments)
    try:
        result: torch.Tensor = getattr(getattr(torch.ops, DOMAIN), op.torch_name)(*arguments)
    except OpError:
        raise
    except ValueError as error:  # as the native library tells it
        raise OpError(str(error)) from error
    return result


def call_with_dropout(op: OpSpec, dropout: float, *arguments: Any) -> torch.Tensor:
    """`call`, with a share `dropout` of the attention probabilities set to 0, the rest scaled up.

    A share above 0 is for training, and the portable operator's, whichever others are there.
    """
    if dropout == 0:
        return call(op, *arguments)
    return PORTABLE[op.torch_name](*arguments, dropout=dropout)


def check_operands(op: OpSpec, *tensors: torch.Tensor) -> None:
    """OpError where ranks, sizes or types do not fit the spec.

    Sizes that a tracer stands in for are not compared: nobody knows them yet.
    """
    sizes: dict[str, int] = {}
    model_dtype: torch.dtype | None = None
    for operand, tensor in zip(op.inputs, tensors, strict=True):
        expected = f"{op.torch_name} takes {operand.name} as [{', '.join(operand.axes)}]"
        if tensor.dim() != len(operand.axes):
            raise OpError(f"{expected}; got shape {list(tensor.shape)}")
        known = {a: n for a, n in zip(operand.axes, tensor.shape, strict=True) if type(n) is int}
        if 0 in known.values():
            raise OpError(f"{expected} with no axis empty; got shape {list(tensor.shape)}")
        for axis, size in known.items():
            if sizes.setdefault(axis, size) != size:
                raise OpError(
                    f"{expected} with {axis} = {sizes[axis]} as in the inputs before it; "
                    f"got shape {list(tensor.shape)}"
                )
        if operand.dtype == "float":
            model_dtype = model_dtype or tensor.dtype
            fits = tensor.dtype == model_dtype and tensor.dtype in MODEL_DTYPES
            wanted = "float32, float16 or bfloat16, the same for all its float inputs,"
        else:
            fits = tensor.dtype == getattr(torch, operand.dtype)
            wanted = operand.dtype
        if not fits:
            raise OpError(f"{op.torch_name} takes {wanted} for {operand.name}; got {tensor.dtype}")


def check_chunking(op: OpSpec, length: int, chunk_length: int) -> None:
    """OpError unless `length`, where it is known, is at most one chunk or several whole ones."""
    if type(length) is int and length > chunk_length and length % chunk_length:
        raise OpError(
            f"{op.torch_name} takes a length of at most chunk_length or a multiple of it; got "
            f"length {length} with chunk_length {chunk_length}: pad the sequence, mask the padding"
        )


def whole_chunks(length: int, chunk_length: int) -> tuple[int, int]:
    """How many chunks a sequence takes, and how many slots of the last one it leaves empty."""
    chunks = (length + chunk_length - 1) // chunk_length
    return chunks, chunks * chunk_length - length
