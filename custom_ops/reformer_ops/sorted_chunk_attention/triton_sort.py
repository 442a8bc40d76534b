"""The sort by bucket in Triton: a stable radix sort, one digit of the bucket at a time.

A pass sorts positions by one digit and keeps the order of equal digits, so passes from the lowest
digit to the highest sort by (bucket, position). One pass is enough for fewer than 2**10 buckets,
two for 2**20. No result depends on timing: ranks are counted, and integers may be added in any
order.

A pass is one launch or two:

- One: every program counts the whole row of buckets itself and then places its own segment. It
  needs no memory except the output; a TensorRT plugin has no other memory. The counting is done
  length / SEGMENT times instead of once.
- Two: `count_digits_kernel` counts each segment once, and the programs that place positions add the
  counts. Torch uses this form.
"""

from dataclasses import dataclass
from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton.launch import Argument, Grid, Launch

MAX_DIGIT_BITS = 10
"""2**10 counters need eight registers in each of 128 threads, and 4 KB of shared memory."""

SEGMENT = 2048
"""Positions in the segment of one program."""

_COUNT_TILE = 1024
_PLACE_TILE = 128
"""The ranks of a tile need a square of comparisons: 128 for each thread and tile."""


@triton.jit
def load_digits(
    buckets,
    order,
    start,
    length,
    SHIFT: tl.constexpr,
    DIGITS: tl.constexpr,
    TILE: tl.constexpr,
):
    """(positions, digits, existence) of TILE places; digits are in range for any bucket."""
    place = start + tl.arange(0, TILE)
    present = place < length
    position = place
    if order is not None:
        position = tl.load(order + place, mask=present, other=0)
    bucket = tl.load(buckets + position, mask=present, other=0)
    return position, (bucket >> SHIFT) & (DIGITS - 1), present


@triton.jit(do_not_specialize=["length"])
def count_digits_kernel(
    buckets,
    order,
    length,
    counts,
    SHIFT: tl.constexpr,
    DIGITS: tl.constexpr,
    SEGMENT: tl.constexpr,
    COUNT_TILE: tl.constexpr,
):
    """A program counts the digits of one segment of a row.

    buckets  [rows, length] i32; a row is one round of one head of one sequence
    order    [rows, length] i32: positions in the order of the previous pass; None: unsorted
    counts   [rows, segments, DIGITS] i32
    """
    segments = tl.cdiv(length, SEGMENT)
    program = tl.program_id(0)
    segment = program % segments
    row = (program // segments).to(tl.int64)
    buckets += row * length
    if order is not None:
        order += row * length
    first = segment * SEGMENT
    found = tl.zeros((DIGITS,), tl.int32)
    for start in range(first, tl.minimum(first + SEGMENT, length), COUNT_TILE):
        _, digit, present = load_digits(buckets, order, start, length, SHIFT, DIGITS, COUNT_TILE)
        found += tl.histogram(digit, DIGITS, mask=present)
    tl.store(counts + (row * segments + segment) * DIGITS + tl.arange(0, DIGITS), found)


@triton.jit(do_not_specialize=["length"])
def sort_pass_kernel(
    buckets,
    order,
    counts,
    length,
    sorted_order,
    SHIFT: tl.constexpr,
    DIGITS: tl.constexpr,
    SEGMENT: tl.constexpr,
    COUNT_TILE: tl.constexpr,
    PLACE_TILE: tl.constexpr,
):
    """A program moves one segment of a row to its sorted places.

    buckets, order  as above
    counts          [rows, segments, DIGITS] i32, or None: count here
    sorted_order    [rows, length] i32
    """
    segments = tl.cdiv(length, SEGMENT)
    program = tl.program_id(0)
    segment = program % segments
    row = (program // segments).to(tl.int64)
    buckets += row * length
    if order is not None:
        order += row * length
    sorted_order += row * length
    first = segment * SEGMENT

    in_row = tl.zeros((DIGITS,), tl.int32)
    in_segments_before = tl.zeros((DIGITS,), tl.int32)
    if counts is None:
        for start in range(0, length, COUNT_TILE):
            _, digit, present = load_digits(
                buckets, order, start, length, SHIFT, DIGITS, COUNT_TILE
            )
            found = tl.histogram(digit, DIGITS, mask=present)
            in_row += found
            in_segments_before += tl.where(start < first, found, 0)
    else:
        counts += row * segments * DIGITS
        for other in range(segments):
            found = tl.load(counts + other * DIGITS + tl.arange(0, DIGITS))
            in_row += found
            in_segments_before += tl.where(other < segment, found, 0)
    # The place for the next position with each digit.
    free = tl.cumsum(in_row, axis=0) - in_row + in_segments_before

    lane = tl.arange(0, PLACE_TILE)
    for start in range(first, tl.minimum(first + SEGMENT, length), PLACE_TILE):
        position, digit, present = load_digits(
            buckets, order, start, length, SHIFT, DIGITS, PLACE_TILE
        )
        # Unused lanes are last, so they are not counted in any rank.
        ahead = (digit[:, None] == digit[None, :]) & (lane[:, None] > lane[None, :])
        rank = tl.sum(ahead.to(tl.int32), axis=1)
        place = tl.gather(free, digit, axis=0) + rank
        tl.store(sorted_order + place, position, mask=present)
        free += tl.histogram(digit, DIGITS, mask=present)


@dataclass(frozen=True)
class Pass:
    """The launches of one pass of the sort, over `2**bits` digits."""

    shift: int
    bits: int
    count: Launch
    """Writes the counts that `place` reads."""
    place: Launch
    place_alone: Launch
    """Without counts, in one launch."""


@cache
def sort_passes(*, heads: int, num_hashes: int, num_buckets: int) -> tuple[Pass, ...]:
    """The passes that sort buckets 0 to num_buckets; the last bucket is that of padding.

    The first pass reads no order, because positions are unsorted. Each later pass reads the order
    of the previous pass.
    """
    bits = num_buckets.bit_length()
    passes = -(-bits // MAX_DIGIT_BITS)
    width = -(-bits // passes)
    rows = heads * num_hashes
    return tuple(_sort_pass(rows, number * width, width) for number in range(passes))


def _sort_pass(rows: int, shift: int, bits: int) -> Pass:
    order = (Argument("order", "*i32"),) if shift else ()
    read = (Argument("buckets", "*i32"), *order)
    sizes = {
        "SHIFT": shift,
        "DIGITS": 2**bits,
        "SEGMENT": SEGMENT,
        "COUNT_TILE": _COUNT_TILE,
    }
    first = {} if shift else {"order": None}
    grid = Grid(times=rows, divisor=SEGMENT)

    def place(*, alone: bool) -> Launch:
        counts = () if alone else (Argument("counts", "*i32"),)
        return Launch(
            kernel=sort_pass_kernel,
            inputs=(*read, *counts),
            outputs=(Argument("sorted_order", "*i32"),),
            constants={
                **first,
                **({"counts": None} if alone else {}),
                **sizes,
                "PLACE_TILE": _PLACE_TILE,
            },
            grid=grid,
            num_warps=4,
            num_stages=1,
            max_registers=255,
        )

    count = Launch(
        kernel=count_digits_kernel,
        inputs=read,
        outputs=(Argument("counts", "*i32"),),
        constants={**first, **sizes},
        grid=grid,
        num_warps=4,
        num_stages=1,
        max_registers=255,
    )
    return Pass(shift, bits, count, place(alone=False), place(alone=True))
