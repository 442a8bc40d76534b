"""`AddNorm` in Triton: the sum of two streams and its layer norm, in one pass over memory."""

from functools import cache

import triton
import triton.language as tl

from reformer_ops.add_norm.spec import WIDEST
from reformer_ops.core.errors import OpError
from reformer_ops.triton.launch import Argument, Grid, Launch, padded, triton_type

_ELEMENTS = 4096
"""Elements of all rows of a program: 8 to 16 loads in flight in each thread."""


@triton.jit(do_not_specialize=["length"])
def add_norm_kernel(
    residual,
    update,
    weight,
    bias,
    length,
    total,
    normed,
    HIDDEN: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program computes the whole rows of BLOCK_M tokens of one sequence.

    residual, update, total, normed  [batch, length, HIDDEN]
    weight, bias                     [HIDDEN]

    The norm uses the sum as it is stored. The mean is subtracted before squares are summed.
    """
    tiles = tl.cdiv(length, BLOCK_M)
    program = tl.program_id(0)
    sequence = (program // tiles).to(tl.int64)
    token = program % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_D)
    real = column < HIDDEN
    inside = (token < length)[:, None] & real[None, :]
    places = (sequence * length + token)[:, None] * HIDDEN + column[None, :]
    x = tl.load(residual + places, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(update + places, mask=inside, other=0.0).to(tl.float32)
    stored = (x + y).to(total.dtype.element_ty)
    tl.store(total + places, stored, mask=inside)
    wide = stored.to(tl.float32)
    mean = tl.div_rn(tl.sum(wide, axis=1), float(HIDDEN))
    centred = tl.where(real[None, :], wide - mean[:, None], 0.0)
    # Each square is rounded separately. A plain multiplication may be fused with the first addition
    # of the sum, and two threads that add the same two squares could round different ones of them.
    squares = tl.fma(centred, centred, 0.0)
    variance = tl.div_rn(tl.sum(squares, axis=1), float(HIDDEN))
    scale = tl.div_rn(1.0, tl.sqrt_rn(variance + EPSILON))
    w = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=real, other=0.0).to(tl.float32)
    result = centred * scale[:, None] * w[None, :] + b[None, :]
    tl.store(normed + places, result.to(normed.dtype.element_ty), mask=inside)


@cache
def add_norm(*, dtype: str, hidden: int, epsilon: float) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16") and row.

    Raises:
        OpError: a row is too wide for a program.
    """
    if hidden > WIDEST:
        raise OpError(f"add_norm takes rows of up to {WIDEST} on a GPU; got {hidden}")
    element = triton_type(dtype)
    width = padded(hidden)
    rows = max(1, _ELEMENTS // width)
    return Launch(
        kernel=add_norm_kernel,
        inputs=tuple(
            Argument(name, f"*{element}") for name in ("residual", "update", "weight", "bias")
        ),
        outputs=(Argument("total", f"*{element}"), Argument("normed", f"*{element}")),
        constants={
            "HIDDEN": hidden,
            "EPSILON": epsilon,
            "BLOCK_M": rows,
            "BLOCK_D": width,
        },
        grid=Grid(times=1, divisor=rows),
        num_warps=8 if width > 1024 else 4,
        num_stages=1,
        max_registers=255,
    )
