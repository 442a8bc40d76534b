"""What a launch of a Triton kernel consists of, for whoever launches it: torch, a plugin, a test.

The order of arguments is that of TensorRT's ahead-of-time plugins: pointers read, then `length`,
then pointers written. Whatever else a kernel needs is compiled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reformer_ops.errors import OpError

_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Argument:
    """A pointer that a kernel takes; `type` in Triton's spelling: "*fp16", "*i32"."""

    name: str
    type: str


@dataclass(frozen=True)
class Grid:
    """How many programs: `times * batch * ceil(length * multiplier / divisor)`, on one axis.

    One axis, since the others end at 65535.
    """

    times: int
    divisor: int
    multiplier: int = 1

    def programs(self, batch: int, length: int) -> int:
        """The number for these sizes."""
        return self.times * batch * -(-length * self.multiplier // self.divisor)

    def __str__(self) -> str:
        return f"{self.times} * batch * ceil(length * {self.multiplier} / {self.divisor})"


@dataclass(frozen=True)
class Launch:
    """A kernel with all that is compiled into it; `inputs`, `length`, `outputs` are left open."""

    kernel: Any
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    constants: Mapping[str, Any]
    grid: Grid
    num_warps: int
    num_stages: int
    max_registers: int
    """Of a thread. Told none, ptxas sometimes spills to have some that nobody needs."""

    @property
    def name(self) -> str:
        """The kernel's name, as in PTX."""
        name: str = self.kernel.__name__
        return name

    @property
    def options(self) -> dict[str, Any]:
        """Triton's compilation options, whatever the environment says."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "maxnreg": self.max_registers,
            "enable_fp_fusion": True,
        }

    def run(self, tensors: Mapping[str, Any], *, batch: int, length: int) -> None:
        """Launch on torch tensors, by argument's name: contiguous, on the current device."""
        arguments = {a.name: tensors[a.name] for a in (*self.inputs, *self.outputs)}
        programs = self.grid.programs(batch, length)
        if programs >= 2**31:
            raise OpError(
                f"{self.name} would take {programs} programs, and a GPU launches fewer than 2**31 "
                "at once: split the batch"
            )
        self.kernel[(programs,)](**arguments, length=length, **self.constants, **self.options)


@dataclass(frozen=True)
class Tile:
    """How much of an attention a program has: `queries` x `keys` scores at a time.

    `wide`: the products are fp32, `depth` elements of a row at a time; otherwise the tensor cores
    take the model's type and whole rows.
    """

    queries: int
    keys: int
    depth: int
    wide: bool
    num_warps: int
    num_stages: int
    max_registers: int

    def constants(self, head_dim: int) -> dict[str, Any]:
        """What a kernel of either attention must have compiled in of it."""
        return {
            "BLOCK_M": self.queries,
            "BLOCK_N": self.keys,
            "BLOCK_D": padded(head_dim),
            "BLOCK_K": min(self.depth, padded(head_dim)),
            "WIDE": self.wide,
        }


def triton_type(dtype: str) -> str:
    """Triton's name of a model type."""
    try:
        return _TYPES[dtype]
    except KeyError:
        raise OpError(f"the Triton kernels take {', '.join(_TYPES)}; got {dtype}") from None


def padded(size: int) -> int:
    """The next power of two, and what a tensor core takes at least: 16."""
    return max(16, 1 << (size - 1).bit_length())


def attention_tile(dtype: str, head_dim: int, chunk_length: int, target: int) -> Tile:
    """The tile for a model type, a shape and a GPU (80 for sm_80).

    Bounded by what a program may have without special permission, 48 KB of shared memory, and by
    a thread's 255 registers, of which none is to be spilled.
    """
    width = padded(head_dim)
    queries = min(64, padded(chunk_length))
    if dtype == "float32" or target < 80 or width > 128:
        # In fp32 we won't have TF32, the tensor cores of sm_75 Triton does not use, and very long
        # rows leave them no registers. A thread multiplies out of registers, and eight warps hide
        # what it waits for.
        return Tile(
            queries=queries,
            keys=32 if width <= 128 else 16,
            depth=32,
            wide=True,
            num_warps=8 if queries == 64 else 4,
            num_stages=1,
            max_registers=128 if width <= 64 and target >= 80 else 255,
        )
    # A warp has 16 queries, as many as an instruction multiplies; on sm_90 and sm_100 four warps
    # are one group that has 64. With 32 keys at a time three programs fit an SM and hide each
    # other's gathers. While one tile is multiplied the next is on its way, where there is shared
    # memory for two.
    if chunk_length % 128 == 0:
        queries = 128  # twice the work on every key that is read
    return Tile(
        queries=queries,
        keys=32,
        depth=width,
        wide=False,
        num_warps=queries // 16,
        num_stages=2 if width <= 64 else 1,
        max_registers=255,
    )
