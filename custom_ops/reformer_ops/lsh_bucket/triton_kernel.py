"""`LshBucket` in Triton: projections and their argmax in one launch, with fp32's accuracy."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.lsh_bucket.spec import bucket_count
from reformer_ops.triton.launch import Argument, Grid, Launch, padded, triton_type
from reformer_ops.triton.tiles import hash_tile

_LOW = tl.constexpr(2.0**11)
"""Scale of the remainder after rounding to fp16, so that the remainder is not subnormal."""

_EXPONENT = tl.constexpr(0xFF << 23)
"""The bits of the exponent in an fp32 number."""


@triton.jit
def power_of_two(tile):
    """Returns the largest power of two that is at most the largest |element|, and its inverse.

    Divided by it, any tile fits into fp16, and no bit is lost. At the limits of fp32 the function
    returns a power of two nearby, so that both results are normal numbers.
    """
    largest = tl.max(tl.max(tl.abs(tile), axis=1), axis=0)
    bits = largest.to(tl.int32, bitcast=True) & _EXPONENT
    bits = tl.minimum(tl.maximum(bits, 1 << 23), 253 << 23)
    size = bits.to(tl.float32, bitcast=True)
    return size, ((254 << 23) - bits).to(tl.float32, bitcast=True)


@triton.jit
def project(x, rotations, total, PRECISION: tl.constexpr):
    """`total` plus the products of `x` [tokens, depth] and `rotations` [depth, columns] fp32.

    The result has fp32's accuracy. If `x` has a half type, it is used unchanged, and the rotations
    are written as a sum of two fp16 or three bf16 numbers. Their products with `x` are exact and
    are summed in fp32.
    """
    if PRECISION == "float16":
        size, one_by_size = power_of_two(rotations)
        rotations = rotations * one_by_size
        high = rotations.to(tl.float16)
        low = ((rotations - high.to(tl.float32)) * _LOW).to(tl.float16)
        return total + (tl.dot(x, high) + tl.dot(x, low) * (1.0 / _LOW)) * size
    elif PRECISION == "bfloat16":
        high = rotations.to(tl.bfloat16)
        rest = rotations - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        total = tl.dot(x, low, acc=total)
        total = tl.dot(x, middle, acc=total)
        return tl.dot(x, high, acc=total)
    else:
        return tl.dot(x.to(tl.float32), rotations, acc=total, input_precision=PRECISION)


@triton.jit
def hash_once(
    query,
    rotations,
    present,
    HEAD_DIM: tl.constexpr,
    STRIDE: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`[BLOCK_M]` indices of the largest of [x R, -x R]; R has HALF columns and row stride STRIDE.

    query      [BLOCK_M, 1] pointers to rows of HEAD_DIM
    rotations  pointer to the first column
    """
    best = tl.full((BLOCK_M,), -1.0, tl.float32)
    winner = tl.zeros((BLOCK_M,), tl.int32)
    for start in range(0, HALF, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        exists = column < HALF
        projected = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for depth in range(0, HEAD_DIM, BLOCK_K):
            d = depth + tl.arange(0, BLOCK_K)
            inside = d < HEAD_DIM
            x = tl.load(query + d[None, :], mask=present[:, None] & inside[None, :], other=0.0)
            r = tl.load(
                rotations + d[:, None] * STRIDE + column[None, :],
                mask=inside[:, None] & exists[None, :],
                other=0.0,
            )
            projected = project(x, r, projected, PRECISION)
        # The largest of [p, -p] is the largest |p|; p itself has the lower index. The maximum of a
        # number and NaN is the number, so NaN also gets a bucket, but a meaningless one.
        strength = tl.where(exists[None, :], tl.maximum(tl.abs(projected), 0.0), -1.0)
        index = tl.where(projected >= 0.0, column[None, :], column[None, :] + HALF)
        top = tl.max(strength, axis=1)
        index = tl.min(tl.where(strength == top[:, None], index, 2 * HALF), axis=1)
        takes = (top > best) | ((top == best) & (index < winner))
        best = tl.where(takes, top, best)
        winner = tl.where(takes, index, winner)
    return winner


@triton.jit(do_not_specialize=["length"])
def lsh_bucket_kernel(
    query,
    rotations,
    mask,
    length,
    buckets,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_HASHES: tl.constexpr,
    HALVES: tl.constexpr,
    COLUMNS: tl.constexpr,
    STARTS: tl.constexpr,
    WEIGHTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    NUM_BUCKETS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A program hashes BLOCK_M tokens of one head in one round, one tile of columns at a time.

    query      [batch, length, HEADS, HEAD_DIM]
    rotations  [HEADS, HEAD_DIM, NUM_HASHES, COLUMNS] fp32
    mask       [batch, length] u8
    buckets    [batch, HEADS, NUM_HASHES, length] i32

    HALVES, STARTS, WEIGHTS and WIDTHS have a number for each factor: half of it, its first column,
    the multiplier of its index, and the columns of a tile. Rounds are neighbours in the grid,
    because they read the same queries.
    """
    tiles = tl.cdiv(length, BLOCK_M)
    program = tl.program_id(0)
    hash_round = program % NUM_HASHES
    tile = program // NUM_HASHES % tiles
    row = program // NUM_HASHES // tiles  # among all heads of all sequences
    sequence = (row // HEADS).to(tl.int64)
    head = row % HEADS

    position = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    present = position < length
    token = (sequence * length + position) * HEADS + head
    rows = query + token[:, None] * HEAD_DIM
    rotations += (head * HEAD_DIM * NUM_HASHES + hash_round) * COLUMNS

    bucket = tl.zeros((BLOCK_M,), tl.int32)
    for factor in tl.static_range(len(HALVES)):
        index = hash_once(
            rows,
            rotations + STARTS[factor],
            present,
            HEAD_DIM,
            NUM_HASHES * COLUMNS,
            HALVES[factor],
            BLOCK_M,
            WIDTHS[factor],
            BLOCK_K,
            PRECISION,
        )
        bucket += WEIGHTS[factor] * index

    valid = tl.load(mask + sequence * length + position, mask=present, other=0) != 0
    bucket = tl.where(valid, bucket, NUM_BUCKETS)
    tl.store(
        buckets + (row.to(tl.int64) * NUM_HASHES + hash_round) * length + position,
        bucket,
        mask=present,
    )


@cache
def lsh_bucket(
    *,
    dtype: str,
    heads: int,
    head_dim: int,
    num_hashes: int,
    factors: tuple[int, ...],
    target: int,
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16"), shape and GPU."""
    tile = hash_tile(dtype, head_dim, target)
    return Launch(
        kernel=lsh_bucket_kernel,
        inputs=(
            Argument("query", f"*{triton_type(dtype)}"),
            Argument("rotations", "*fp32"),
            Argument("mask", "*u8"),
        ),
        outputs=(Argument("buckets", "*i32"),),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "HALVES": tuple(factor // 2 for factor in factors),
            "COLUMNS": sum(factors) // 2,
            "STARTS": tuple(sum(factors[:i]) // 2 for i in range(len(factors))),
            "WEIGHTS": tuple(math.prod(factors[:i]) for i in range(len(factors))),
            "WIDTHS": tuple(min(tile.columns, padded(factor // 2)) for factor in factors),
            "NUM_BUCKETS": bucket_count(factors),
            "BLOCK_M": tile.tokens,
            "BLOCK_K": tile.depth,
            "PRECISION": tile.precision,
        },
        grid=Grid(times=heads * num_hashes, divisor=tile.tokens),
        num_warps=tile.num_warps,
        num_stages=1,
        max_registers=tile.max_registers,
    )
