"""Common parts of the Triton kernels of both attentions: rows, the ring of chunks, the softmax.

Everything here is inlined into a kernel. `length` is the only size that is set at launch; all
others are compiled in, so that strides are constants and loads are vectors.
"""

import triton
import triton.language as tl

from reformer_ops.core.attention_masks import ABSENT, KEY_NORM_EPSILON, MASKED, SELF

_ABSENT = tl.constexpr(ABSENT)
_MASKED = tl.constexpr(MASKED)
_SELF = tl.constexpr(SELF)
_EPSILON = tl.constexpr(KEY_NORM_EPSILON)
_NOBODY = tl.constexpr(2**31 - 1)
_HIDDEN = tl.constexpr(-(2**31))
"""The bit that marks padding in the code of a key. The other bits are the key's position."""


@triton.jit
def row_offsets(position, first, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Offsets `[len(position), BLOCK]` of elements from `first` on in rows of one head.

    The tensor is `[length, HEADS, HEAD_DIM]`. Offsets are 64-bit, because a long sequence with many
    heads has more than 2**31 elements.
    """
    start = position.to(tl.int64) * (HEADS * HEAD_DIM) + first
    return start[:, None] + tl.arange(0, BLOCK)[None, :]


@triton.jit
def row_mask(present, first, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr):
    """True for each of these elements that exists."""
    inside = present[:, None]
    if HEAD_DIM % BLOCK != 0:
        inside = inside & (first + tl.arange(0, BLOCK) < HEAD_DIM)[None, :]
    return inside


@triton.jit
def load_rows(
    base,
    position,
    present,
    first,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gathered rows at `position`; zeros if a row or an element does not exist.

    A row is contiguous, so neighbouring threads read one of its cache lines for any positions.
    """
    offsets = row_offsets(position, first, HEADS, HEAD_DIM, BLOCK)
    return tl.load(base + offsets, mask=row_mask(present, first, HEAD_DIM, BLOCK), other=0.0)


@triton.jit
def multiply(
    query,
    query_position,
    asked,
    key,
    position,
    present,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Products of queries and keys `[BLOCK_M, BLOCK_N]`, and sums of the keys' squares `[BLOCK_N]`.

    This is for GPUs or types without tensor cores. Everything is fp32, and a thread holds its
    factors in registers. Whole rows would not fit, so BLOCK_K elements are read at a time; those of
    the queries are read again from the cache for each tile of keys.
    """
    squares = tl.zeros((BLOCK_N,), tl.float32)
    products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, HEAD_DIM, BLOCK_K):
        some = load_rows(query, query_position, asked, first, HEADS, HEAD_DIM, BLOCK_K)
        keys = load_rows(key, position, present, first, HEADS, HEAD_DIM, BLOCK_K)
        keys = keys.to(tl.float32)
        squares += tl.sum(keys * keys, axis=1)
        products = tl.dot(some.to(tl.float32), tl.trans(keys), acc=products, input_precision="ieee")
    return products, squares


@triton.jit
def neighbour(chunk, shift, chunks):
    """The chunk `shift` places after this one in the ring; this one if `shift` exceeds the ring."""
    shift = tl.where(tl.abs(shift) < chunks, shift, 0)
    other = chunk + shift
    other = tl.where(other < 0, other + chunks, other)
    return tl.where(other >= chunks, other - chunks, other)


@triton.jit
def key_slots(
    start, window, chunk, chunks, before, CHUNK_LENGTH: tl.constexpr, BLOCK_N: tl.constexpr
):
    """(slots, existence) of BLOCK_N keys, from the `start`-th key of a chunk's window on.

    The window is one row of keys. Tiles may cross the borders of chunks, so no part of a tile is
    wasted if chunks are not a multiple of tiles.
    """
    number = start + tl.arange(0, BLOCK_N)
    shift = number // CHUNK_LENGTH - before
    other = neighbour(chunk, shift, chunks)
    return other * CHUNK_LENGTH + number % CHUNK_LENGTH, number < window


@triton.jit
def tile_slots(start, chunk, chunks, before, CHUNK_LENGTH: tl.constexpr, BLOCK_N: tl.constexpr):
    """`key_slots` of a whole tile; if chunks are a multiple of tiles, all are from one chunk."""
    if CHUNK_LENGTH % BLOCK_N == 0:
        shift = start // CHUNK_LENGTH - before
        other = neighbour(chunk, shift, chunks)
        first = tl.multiple_of(other * CHUNK_LENGTH + start % CHUNK_LENGTH, BLOCK_N)
        return first + tl.arange(0, BLOCK_N)
    else:
        slots, _ = key_slots(start, 0, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
        return slots


@triton.jit
def key_codes(position, valid, present):
    """A number for each key that determines which queries see it.

    It is the key's position. For padding, the bit _HIDDEN makes it larger than any position. An
    absent key has all bits set: it is in the future of every query, and not the own key of any
    query.
    """
    code = tl.where(valid, position, position | _HIDDEN)
    return tl.where(present, code, -1)


@triton.jit
def position_of(code):
    """The position in a code of `key_codes`, for a key that exists."""
    return code & ~_HIDDEN


@triton.jit
def key_scale(squares, HEAD_DIM: tl.constexpr, ROOT: tl.constexpr):
    """The factor that normalises a key of LSH attention, from the sum of its squares.

    To normalise a key, its column of the scores is scaled. So the tensor cores get the unrounded
    keys, and fp32 sums hold values that fp16 could not. Division and root are correctly rounded:
    they are computed once for each key, and in large scores every bit of them matters.
    """
    norm = tl.sqrt_rn(tl.div_rn(squares, 1.0 * HEAD_DIM) + _EPSILON) * ROOT
    return tl.div_rn(1.0, norm)


@triton.jit
def hide_by_code(scores, query_position, query_code, code, CAUSAL: tl.constexpr, OWN: tl.constexpr):
    """`hide` with the keys' codes. With OWN a query's own key gets SELF.

    An absent key counts as padding: `without_absent` removes it from the sums again.
    """
    if CAUSAL:
        seen = query_position.to(tl.uint32)[:, None] >= code.to(tl.uint32)[None, :]
    else:
        seen = tl.broadcast_to((code >= 0)[None, :], scores.shape)
    scores = tl.where(seen, scores, _MASKED)
    if OWN:
        scores = tl.where(query_code[:, None] == code[None, :], _SELF, scores)
    return scores


@triton.jit
def without_absent(top, total, window, BLOCK_N: tl.constexpr):
    """The sum of weights without those of keys beyond the window, whose values were zeros."""
    absent = (tl.cdiv(window, BLOCK_N) * BLOCK_N - window).to(tl.float32)
    return total - absent * tl.exp(-(top - _MASKED))


@triton.jit
def hide(scores, query_position, key_position, valid, present, CAUSAL: tl.constexpr):
    """Scores, with those of keys replaced that are padding, in the future, or absent.

    Padding is treated as a key after every query, so both rules need one comparison for each score.
    """
    instead = tl.where(present, _MASKED, _ABSENT)
    if CAUSAL:
        seen_from = tl.where(valid, key_position, _NOBODY)
        seen = query_position[:, None] >= seen_from[None, :]
    else:
        seen = tl.broadcast_to(valid[None, :], scores.shape)
    return tl.where(seen, scores, instead[None, :])


@triton.jit
def attend(scores, values, dropped, top, total, output, PRECISION: tl.constexpr):
    """One step of the online softmax: (top, total, output) including these keys.

    `dropped` has dropout's factors for the weights, or is None.

    Weights are at most 1 and rounded to the values' type for the tensor cores; all sums are fp32.
    The exponential is natural, not a power of two: near SELF and MASKED the rounding of fp32 scores
    is part of the definition, and a scaled score would be rounded differently.
    """
    new_top = tl.maximum(top, tl.max(scores, axis=1))
    fade = tl.exp(top - new_top)
    weights = tl.exp(scores - new_top[:, None])
    total = total * fade + tl.sum(weights, axis=1)
    output = output * fade[:, None]
    if dropped is not None:
        weights = weights * dropped
    output = tl.dot(weights.to(values.dtype), values, acc=output, input_precision=PRECISION)
    return new_top, total, output


@triton.jit
def finish(top, total, output):
    """(output, lse) after the last key.

    The output is scaled by exp(top - lse) and not by 1 / total: if all scores are MASKED, fp32
    rounds the logarithm away, and the output is then the sum of the values, as docs/ops.md defines.
    """
    lse = top + tl.log(total)
    return output * tl.exp(top - lse)[:, None], lse
