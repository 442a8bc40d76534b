"""The description of a launch of a Triton kernel, for torch, plugins and tests.

The order of arguments is that of TensorRT's ahead-of-time plugins: pointers to read, `length`,
pointers to write. Everything else that a kernel needs is compiled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reformer_ops.core.errors import OpError

_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Argument:
    """A pointer argument of a kernel; `type` in Triton's notation: "*fp16", "*i32"."""

    name: str
    type: str


@dataclass(frozen=True)
class Grid:
    """The number of programs: `times * batch * ceil(length * multiplier / divisor)`, on one axis.

    There is one axis because the limit of the others is 65535.
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
    """A kernel and all compiled-in values; `inputs`, `length`, `outputs` are set at launch."""

    kernel: Any
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    constants: Mapping[str, Any]
    grid: Grid
    num_warps: int
    num_stages: int
    max_registers: int
    """Registers of a thread. Without a limit ptxas sometimes spills although registers are free."""

    @property
    def name(self) -> str:
        """The kernel's name, as in PTX."""
        name: str = self.kernel.__name__
        return name

    @property
    def options(self) -> dict[str, Any]:
        """Triton's compilation options; they do not depend on the environment."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "maxnreg": self.max_registers,
            "enable_fp_fusion": True,
        }

    def run(self, tensors: Mapping[str, Any], *, batch: int, length: int) -> None:
        """Launch on torch tensors, by argument name: contiguous ones on the current device."""
        arguments = {a.name: tensors[a.name] for a in (*self.inputs, *self.outputs)}
        programs = self.grid.programs(batch, length)
        if programs >= 2**31:
            raise OpError(
                f"{self.name} would take {programs} programs, and a GPU launches fewer than 2**31 "
                "at once: split the batch"
            )
        self.kernel[(programs,)](**arguments, length=length, **self.constants, **self.options)


def triton_type(dtype: str) -> str:
    """Triton's name of a model type."""
    try:
        return _TYPES[dtype]
    except KeyError:
        raise OpError(f"the Triton kernels take {', '.join(_TYPES)}; got {dtype}") from None


def padded(size: int) -> int:
    """The next power of two, but at least 16, the minimum of a tensor core."""
    return max(16, 1 << (size - 1).bit_length())
