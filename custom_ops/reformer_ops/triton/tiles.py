"""Tile sizes of the GPU kernels by type, shape and GPU.

The numbers for sm_90 were measured on an H200 (docs/gpu.md). The others follow from the compiler's
output: registers, spills, and a limit of 48 KB of shared memory. Nothing is tuned at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reformer_ops.triton.launch import padded

IEEE = "ieee"
TF32X3 = "tf32x3"
"""An fp32 product as three TF32 products on tensor cores: a factor is a sum of two TF32 numbers."""

_TENSOR_CORES = 80
"""The oldest GPU on which Triton uses tensor cores; on sm_75 it does not use them."""

_HOPPER = 90
"""The GPU that was measured."""

_LONGEST_ROW = 128
"""The widest head for which a program with tensor cores is possible."""


@dataclass(frozen=True)
class Tile:
    """The part of an attention that a program computes: `queries` x `keys` scores at a time.

    Attributes:
        queries, keys: rows and columns of a tile of scores.
        depth: elements of a row that are multiplied at a time, if `wide`.
        wide: True for fp32 products without tensor cores; tensor cores multiply whole rows.
        precision: the method for fp32 products on tensor cores.
        described: True if an earlier launch writes the properties of each sorted key, once for all
            programs that read the key.
        num_warps, num_stages, max_registers: compilation options.
    """

    queries: int
    keys: int
    num_warps: int
    num_stages: int
    max_registers: int
    depth: int = 32
    wide: bool = False
    precision: str = IEEE
    described: bool = False

    def constants(self, head_dim: int) -> dict[str, Any]:
        """The constants that a kernel of either attention must have for this tile."""
        return {
            "BLOCK_M": self.queries,
            "BLOCK_N": self.keys,
            "BLOCK_D": padded(head_dim),
            "BLOCK_K": min(self.depth, padded(head_dim)),
            "WIDE": self.wide,
            "PRECISION": self.precision,
            "STAGES": self.num_stages,
        }


def attention_tile(
    dtype: str, head_dim: int, chunk_length: int, target: int, *, is_sorted: bool
) -> Tile:
    """The tile for a model type, a shape and a GPU (80 for sm_80), of either attention.

    `is_sorted`: True for attention of sorted chunks, whose rows are gathered; False for chunks of
    neighbours in the sequence.
    """
    width = padded(head_dim)
    queries = min(64, padded(chunk_length))
    slow = dtype == "float32" and target != _HOPPER
    if target < _TENSOR_CORES or width > _LONGEST_ROW or slow:
        # A thread multiplies from registers, and eight warps hide its waiting times.
        return Tile(
            queries=queries,
            keys=32 if width <= 128 else 16,
            num_warps=8 if queries == 64 else 4,
            num_stages=1,
            max_registers=128 if width <= 64 and target >= 80 else 255,
            wide=True,
        )
    if dtype == "float32":
        # Three TF32 products spill registers on every GPU, but here they are faster anyway.
        return Tile(
            queries=queries,
            keys=64 if width <= 64 else 32,
            num_warps=4,
            num_stages=2 if width <= 64 else 1,
            max_registers=255,
            precision=TF32X3,
        )
    if target == _HOPPER and queries == 64:
        return _on_hopper(width, chunk_length, is_sorted=is_sorted)
    # A warp has 16 queries, the number that an instruction multiplies; on sm_90 and sm_100 four
    # warps are one group with 64. With 32 keys at a time three programs fit an SM and hide each
    # other's gathers. If there is shared memory for two tiles, the next is loaded while one is
    # multiplied.
    if chunk_length % 128 == 0:
        queries = 128  # each key that is read is used for twice as many queries
    return Tile(
        queries=queries,
        keys=32,
        num_warps=queries // 16,
        num_stages=2 if width <= 64 else 1,
        max_registers=255,
    )


def backward_tile(
    dtype: str, head_dim: int, chunk_length: int, target: int, *, is_sorted: bool
) -> Tile:
    """The tile for the gradients of either attention. No GPU has run it.

    Products have the precision of the forward pass: scores that are computed again must be rounded
    as they were, because their exponentials are relative to its logsumexps.
    """
    forward = attention_tile(dtype, head_dim, chunk_length, target, is_sorted=is_sorted)
    width = padded(head_dim)
    # With larger tiles or fewer warps, registers spill.
    if forward.wide or dtype == "float32":
        queries = keys = 32 if width <= 64 else 16
    elif width <= 64:
        queries, keys = 64, 32
    else:
        queries = keys = 32
    most = padded(chunk_length)
    widened = forward.wide and dtype != "float32"
    num_warps = 8 if widened or width > _LONGEST_ROW else 4
    return replace(
        forward,
        queries=min(queries, most),
        keys=min(keys, most),
        num_warps=num_warps,
        num_stages=1,
        max_registers=255,
    )


def _on_hopper(width: int, chunk_length: int, *, is_sorted: bool) -> Tile:
    """The tile for half types on sm_90 and chunks of at least 33."""
    if width <= 64:
        if is_sorted:
            return Tile(64, 128, num_warps=4, num_stages=1, max_registers=168)
        return Tile(64, 32, num_warps=4, num_stages=3, max_registers=128)
    if is_sorted and chunk_length % 128 == 0:
        return Tile(128, 32, num_warps=8, num_stages=1, max_registers=128, described=True)
    return Tile(64, 64, num_warps=4, num_stages=1, max_registers=168, described=is_sorted)


@dataclass(frozen=True)
class HashTile:
    """The number of tokens and columns of rotations that a program multiplies at a time.

    Attributes:
        tokens, columns: the size of a tile of projections.
        depth: elements of a head that are multiplied at a time.
        precision: the method by which products reach fp32's accuracy: fp32 products ("ieee"),
            "tf32x3", or rotations as a sum of numbers of the queries' own type, "float16" or
            "bfloat16".
        num_warps, max_registers: compilation options.
    """

    tokens: int
    columns: int
    depth: int
    precision: str
    num_warps: int
    max_registers: int


def hash_tile(dtype: str, head_dim: int, target: int) -> HashTile:
    """The tile for a model type, a head and a GPU."""
    width = padded(head_dim)
    slow = dtype == "float32" and target != _HOPPER
    if target < _TENSOR_CORES or width > _LONGEST_ROW or slow:
        # Without tensor cores a thread multiplies 4 x 4 at a time: 64 x 64 is 256 threads' worth.
        return HashTile(64, 64, min(32, width), IEEE, num_warps=8, max_registers=128)
    if dtype == "float32":
        return HashTile(64, 64, min(32, width), TF32X3, num_warps=4, max_registers=255)
    if target != _HOPPER:
        # In bf16 a rotation has three parts, which would spill with 64 columns.
        width = min(32 if dtype == "bfloat16" else 64, width)
    return HashTile(128, 64, width, dtype, num_warps=8, max_registers=255)
