"""Registers an operator with torch's dispatcher, with the schema that its spec declares."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from reformer_ops.core.dropout_masks import draw_seed
from reformer_ops.core.errors import NativeLibraryError, OpError
from reformer_ops.core.native import CHOICE_VARIABLE, load_into_torch, requested
from reformer_ops.core.spec import DOMAIN, OpSpec

MODEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""The types of a model; hashing, norms and sums are fp32 in all of them."""

ATTENTION_DTYPES = (*MODEL_DTYPES, torch.float64)
"""The types of the portable attentions. With float64 everything is float64, for numeric
derivatives."""

PORTABLE: dict[str, Callable[..., Any]] = {}
"""Portable kernels by torch name, for devices without their own kernel."""

_LIBRARY = torch.library.Library(DOMAIN, "FRAGMENT")

_logger = logging.getLogger(__name__)
_DECOMPOSED: ContextVar[bool] = ContextVar("reformer_ops_decomposed", default=False)

load_into_torch()  # first, because a library of kernels also defines the schemas


@dataclass(frozen=True)
class Gradients:
    """Portable `op.with_lse` and `op.backward`, which the training of an attention needs."""

    with_lse: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    backward: Callable[..., tuple[torch.Tensor, ...]]


def register(
    op: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., torch.Tensor],
    fake: Callable[..., torch.Tensor],
    gradients: Gradients | None = None,
    *,
    on_gpu: bool = True,
) -> None:
    """Define `torch.ops.reformer.<torch_name>`, unless the native library has defined it.

    `check` raises an OpError for invalid arguments. `portable` runs on every device without its own
    kernel. On CUDA the Triton kernels run, unless REFORMER_OPS=portable or `on_gpu` is false.
    `fake` returns an output of the right shape and type, so that torch.export and torch.compile
    keep the operator as one node.

    With `gradients` the operator is differentiable: if a gradient is needed, `op.with_lse` runs
    instead, and its gradient is `op.backward`. Both are also operators of the library.

    Raises:
        NativeLibraryError: the loaded library does not have the operator, or has another schema.
    """
    kernel = _implement(op, check, portable, fake)
    if on_gpu:
        _implement_on_cuda(op, op, check, kernel)
    if gradients is None:
        return

    def fake_with_lse(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        output = fake(*arguments)
        batch, length, heads, _ = output.shape
        return output, output.new_empty((batch, heads, length), dtype=wide(output.dtype))

    def fake_backward(*arguments: Any) -> tuple[torch.Tensor, ...]:
        tensors = zip(op.inputs, arguments, strict=False)
        return tuple(
            torch.empty_like(tensor, memory_format=torch.contiguous_format)
            for operand, tensor in tensors
            if operand.dtype == "float"
        )

    # Errors name the operator that the user called.
    check_with_lse = partial(check_attention, replace(op.with_lse, torch_name=op.torch_name))
    kernel = _implement(op.with_lse, check_with_lse, gradients.with_lse, fake_with_lse)
    _implement_on_cuda(op.with_lse, op, check_with_lse, kernel)
    check_backward = partial(check_attention, op.backward)
    kernel = _implement(op.backward, check_backward, gradients.backward, fake_backward)
    _implement_on_cuda(op.backward, op, check_backward, kernel)
    torch.library.register_autograd(
        f"{DOMAIN}::{op.with_lse.torch_name}",
        partial(_backward, op),
        setup_context=_save_for_backward,
        lib=_LIBRARY,
    )
    torch.library.register_autograd(
        f"{DOMAIN}::{op.backward.torch_name}", partial(_second_derivative, op), lib=_LIBRARY
    )
    _LIBRARY.impl(op.torch_name, partial(_autograd, op), "Autograd", with_keyset=True)


def register_step(
    op: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., tuple[torch.Tensor, ...]],
    fake: Callable[..., tuple[torch.Tensor, ...]],
) -> None:
    """Define an operator of `registry.STEPS`, and `op.in_place`, which has a native kernel.

    The first is for export and for comparisons. They have no gradients.
    """
    _implement(op, check, portable, fake, native=False)

    def change(*arguments: Any) -> torch.Tensor:
        output, *presents = portable(*arguments)
        for past, present in zip(_changed(op.in_place, arguments), presents, strict=True):
            past.copy_(present)
        return output

    _implement(op.in_place, check, change, lambda *arguments: fake(*arguments)[0])


def _changed(op: OpSpec, arguments: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors that the operator writes into."""
    given = zip(op.inputs, arguments, strict=False)
    return [tensor for operand, tensor in given if operand.changed]


def _implement(
    op: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., Any],
    fake: Callable[..., Any],
    native: bool = True,
) -> Callable[..., Any]:
    """Define the operator with its portable kernel, and return this kernel.

    `native`: True if the native library has the operator too.
    """

    def kernel(*arguments: Any) -> Any:
        check(*arguments)
        # Autocast would round values that must be fp32.
        with torch.autocast(arguments[0].device.type, enabled=False):
            return portable(*arguments)

    PORTABLE[op.torch_name] = kernel
    if native:
        _define(op)
    else:
        _LIBRARY.define(op.torch_schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(op.torch_name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{DOMAIN}::{op.torch_name}", fake, lib=_LIBRARY)
    return kernel


def _implement_on_cuda(
    op: OpSpec, owner: OpSpec, check: Callable[..., object], portable: Callable[..., Any]
) -> None:
    """Run the Triton kernels of `owner`'s folder on CUDA, unless REFORMER_OPS=portable."""
    if requested() != "portable":
        _LIBRARY.impl(op.torch_name, partial(_on_cuda, op, owner, check, portable), "CUDA")


def _on_cuda(
    op: OpSpec,
    owner: OpSpec,
    check: Callable[..., object],
    portable: Callable[..., Any],
    *arguments: Any,
) -> Any:
    """Run the Triton kernels if Triton is installed; torch for CUDA installs it."""
    kernels = None if arguments[0].dtype == torch.float64 else _triton_kernels(op, owner)
    if kernels is None:
        return portable(*arguments)
    check(*arguments)
    return kernels(*arguments)


@cache
def _triton_kernels(op: OpSpec, owner: OpSpec) -> Callable[..., Any] | None:
    """The function of `op` in `<owner>/triton_op.py`.

    Without Triton this is None, or an error if REFORMER_OPS=native.
    """
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
    module = importlib.import_module(f"reformer_ops.{owner.torch_name}.triton_op")
    function: Callable[..., Any] = getattr(module, op.torch_name)
    return function


def _define(op: OpSpec) -> None:
    packet = getattr(getattr(torch.ops, DOMAIN), op.torch_name, None)
    if packet is None:
        native = load_into_torch()
        if native.available:
            raise NativeLibraryError(
                f"the native library that is loaded, {native.path}, has no {op.torch_name}, which "
                "this version of reformer_ops has: install again"
            )
        _LIBRARY.define(op.torch_schema, tags=(torch.Tag.pt2_compliant_tag,))
        return
    if requested() == "portable":  # a library that was loaded by the user has defined it
        raise OpError(f"{CHOICE_VARIABLE}=portable, but this process has loaded native operators")
    declared = torch._C.parse_schema(f"{DOMAIN}::{op.torch_schema}")
    if packet.default._schema != declared:
        raise NativeLibraryError(
            f"the native library that is loaded has {packet.default._schema}, this version of "
            f"reformer_ops has {declared}: install again"
        )


def _operator(op: OpSpec) -> Any:
    return getattr(getattr(torch.ops, DOMAIN), op.torch_name)


def _autograd(op: OpSpec, keyset: Any, *arguments: Any) -> torch.Tensor:
    """`op`, or `op.with_lse` if a gradient is needed."""
    tensors = arguments[: len(op.inputs)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        output = _with_dropout(op, 0.0, *arguments)
    else:
        below = keyset & torch._C._after_autograd_keyset
        output = _operator(op).default.redispatch(below, *arguments)
    result: torch.Tensor = output
    return result


def _with_dropout(op: OpSpec, dropout: float, *arguments: Any) -> torch.Tensor:
    """Run `op.with_lse`, with a seed from the generator of the tensors' device."""
    tensors, attributes = arguments[: len(op.inputs)], arguments[len(op.inputs) :]
    seed = draw_seed(dropout, tensors[0].device)
    output: torch.Tensor
    output, _ = _operator(op.with_lse)(*tensors, seed, *attributes, dropout)
    return output


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    """Save inputs, output and logsumexp, but no scores."""
    _, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(*(v for v in inputs if isinstance(v, torch.Tensor)), *output)
    ctx.attributes = [value for value in inputs if not isinstance(value, torch.Tensor)]


def _backward(
    op: OpSpec, ctx: Any, gradient: torch.Tensor, _: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    found = iter(_operator(op.backward)(*ctx.saved_tensors, gradient, *ctx.attributes))
    inputs = op.with_lse.inputs
    gradients = [next(found) if operand.dtype == "float" else None for operand in inputs]
    return (*gradients, *(None for _ in ctx.attributes))


def _second_derivative(op: OpSpec, ctx: Any, *gradients: torch.Tensor | None) -> None:
    raise OpError(f"{op.torch_name} can be differentiated once, not twice")


@contextmanager
def decomposed() -> Iterator[None]:
    """Within this context our operators run as standard torch operators.

    So a trace contains none of our nodes.
    """
    token = _DECOMPOSED.set(True)
    try:
        yield
    finally:
        _DECOMPOSED.reset(token)


def call_step(op: OpSpec, *arguments: Any, in_place: bool) -> tuple[torch.Tensor, ...]:
    """`call` for an operator of `registry.STEPS`; returns the output and the new cache.

    With `in_place` this is the given cache.
    """
    if in_place:
        return call(op.in_place, *arguments), *_changed(op.in_place, arguments)
    outputs: Any = call(op, *arguments)
    return tuple(outputs)


def call(op: OpSpec, *arguments: Any) -> torch.Tensor:
    """Run the operator; invalid inputs give an OpError, from Python or from the native library."""
    # torch.compile does not support context variables.
    if not torch.compiler.is_dynamo_compiling() and _DECOMPOSED.get():
        decomposition: torch.Tensor = PORTABLE[op.torch_name](*arguments)
        return decomposition
    return _refusing_with_op_error(_operator(op), *arguments)


def call_with_dropout(op: OpSpec, dropout: float, *arguments: Any) -> torch.Tensor:
    """`call` with a share `dropout` of the attention probabilities set to 0 and the rest scaled up.

    A seed from torch's generator chooses the share.
    """
    if dropout == 0:
        return call(op, *arguments)
    return _refusing_with_op_error(partial(_with_dropout, op, dropout), *arguments)


def _refusing_with_op_error(function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    try:
        return function(*arguments)
    except OpError:
        raise
    except ValueError as error:  # the native library's error
        raise OpError(str(error)) from error


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of norms, scores, softmax and sums: fp32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def check_attention(op: OpSpec, *arguments: Any) -> None:
    """Raises OpError if an attention or its backward is not defined for these arguments."""
    tensors, values = arguments[: len(op.inputs)], arguments[len(op.inputs) :]
    check_operands(op, *tensors, dtypes=ATTENTION_DTYPES)
    attributes = {a.name: value for a, value in zip(op.attributes, values, strict=True)}
    op.check_attributes(**attributes)
    check_chunking(op, tensors[0].shape[1], attributes["chunk_length"])


def check_operands(
    op: OpSpec, *tensors: torch.Tensor, dtypes: Sequence[torch.dtype] = MODEL_DTYPES
) -> None:
    """Raises OpError if ranks, sizes or types do not fit the spec; floats have one of `dtypes`.

    Symbolic sizes of a tracer are not compared.
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
            fits = tensor.dtype == model_dtype and tensor.dtype in dtypes
            wanted = "float32, float16 or bfloat16, the same for all its float inputs,"
        else:
            # A wide operand comes after the float ones, which determine its type.
            if operand.dtype == "wide" and model_dtype is not None:
                dtype = wide(model_dtype)
            else:
                dtype = getattr(torch, operand.dtype)
            fits, wanted = tensor.dtype == dtype, str(dtype).removeprefix("torch.")
        if not fits:
            raise OpError(f"{op.torch_name} takes {wanted} for {operand.name}; got {tensor.dtype}")


def check_chunking(op: OpSpec, length: int, chunk_length: int) -> None:
    """Raises OpError if a known `length` exceeds one chunk but is not a number of whole chunks."""
    if type(length) is int and length > chunk_length and length % chunk_length:
        raise OpError(
            f"{op.torch_name} takes a length of at most chunk_length or a multiple of it; got "
            f"length {length} with chunk_length {chunk_length}: pad the sequence, mask the padding"
        )


def whole_chunks(length: int, chunk_length: int) -> tuple[int, int]:
    """The number of chunks of a sequence, and the number of empty slots in the last one."""
    chunks = (length + chunk_length - 1) // chunk_length
    return chunks, chunks * chunk_length - length
