"""Tile sizes of the GPU kernels by type, shape and GPU.

The numbers for sm_90 were measured on an H200, as docs/gpu.md tells; the others are bounded by what
a compiler shows: registers, spills, and 48 KB of shared memory. Nothing is tuned at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reformer_ops.triton.launch import padded

IEEE = "ieee"
TF32X3 = "tf32x3"
"""fp32 products by three of TF32 on tensor cores: each factor is the sum of two TF32 numbers."""

_TENSOR_CORES = 80
"""The oldest GPU on which Triton uses the tensor cores; on sm_75 it does not."""

_HOPPER = 90
"""The GPU that was measured."""

_LONGEST_ROW = 128
"""The widest head that a program can hold for the tensor cores."""


@dataclass(frozen=True)
class Tile:
    """How much of an attention a program has: `queries` x `keys` scores at a time.

    Attributes:
        queries, keys: rows and columns of a tile of scores.
        depth: elements of a row that are multiplied at a time, where `wide`.
        wide: fp32 products without tensor cores; otherwise these take whole rows.
        precision: of products of fp32 on tensor cores.
        described: what is to know of a sorted key is written by a launch before, once for all
            programs that read it.
        num_warps, num_stages, max_registers: how it is compiled.
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
        """What a kernel of either attention must have compiled in of it."""
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

    `is_sorted`: for attention of sorted chunks, whose rows are gathered; otherwise for that of
    neighbours in the sequence.
    """
    width = padded(head_dim)
    queries = min(64, padded(chunk_length))
    slow = dtype == "float32" and target != _HOPPER
    if target < _TENSOR_CORES or width > _LONGEST_ROW or slow:
        # A thread multiplies out of registers, and eight warps hide what it waits for.
        return Tile(
            queries=queries,
            keys=32 if width <= 128 else 16,
            num_warps=8 if queries == 64 else 4,
            num_stages=1,
            max_registers=128 if width <= 64 and target >= 80 else 255,
            wide=True,
        )
    if dtype == "float32":
        # Three products of TF32 spill registers everywhere; here they are faster all the same.
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
    # A warp has 16 queries, as many as an instruction multiplies; on sm_90 and sm_100 four warps
    # are one group that has 64. With 32 keys at a time three programs fit an SM and hide each
    # other's gathers. While one tile is multiplied the next is on its way, where there is shared
    # memory for two.
    if chunk_length % 128 == 0:
        queries = 128  # twice the work on every key that is read
    return Tile(
        queries=queries,
        keys=32,
        num_warps=queries // 16,
        num_stages=2 if width <= 64 else 1,
        max_registers=255,
    )


def _on_hopper(width: int, chunk_length: int, *, is_sorted: bool) -> Tile:
    """For half types on sm_90, and chunks of at least 33."""
    if width <= 64:
        if is_sorted:
            return Tile(64, 128, num_warps=4, num_stages=1, max_registers=168)
        return Tile(64, 32, num_warps=4, num_stages=3, max_registers=128)
    if is_sorted and chunk_length % 128 == 0:
        return Tile(128, 32, num_warps=8, num_stages=1, max_registers=128, described=True)
    return Tile(64, 64, num_warps=4, num_stages=1, max_registers=168, described=is_sorted)


@dataclass(frozen=True)
class HashTile:
    """How many tokens and columns of rotations a program multiplies at a time.

    Attributes:
        tokens, columns: of a tile of projections.
        depth: elements of a head that are multiplied at a time.
        precision: how products reach fp32's accuracy: by themselves ("ieee"), by "tf32x3", or by
            rotations as a sum of numbers of the queries' own type, "float16" or "bfloat16".
        num_warps, max_registers: how it is compiled.
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
        # Three parts of a rotation, as bf16 has, would spill with 64.
        width = min(32 if dtype == "bfloat16" else 64, width)
    return HashTile(128, 64, width, dtype, num_warps=8, max_registers=255)
