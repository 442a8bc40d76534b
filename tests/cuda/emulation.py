"""Checks launches against the program that they belong to, and executes them in a PTX emulator."""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from reformer_export.exporters.cuda.export import KERNELS, KIND, write_cuda_kernels
from reformer_ops.registry import by_onnx_name
from reformer_ops.triton import compile as triton_compile
from reformer_ops.triton.compile import Compiled
from reformer_ops.triton.launch import Launch
from reformer_ops.triton_programs import Program, Step, make_program

from ..tools.ptx import machine
from ..tools.ptx.memory import Buffer
from .sessions import Node, model_of
from .stand_in import Launched

Array = NDArray[Any]

ALIGNED = 256
"""Alignment of each buffer in the working memory, in bytes."""

POISON = 0xFF
"""Fills the working memory: every float type reads a NaN, integers read an invalid position."""

_C = ctypes.CDLL(None)
_C.malloc_usable_size.argtypes = [ctypes.c_void_p]
_C.malloc_usable_size.restype = ctypes.c_size_t

_compiled: dict[Any, Compiled] = {}
_compile = triton_compile.compile_launch


def compile_launch(launch: Launch, target: int) -> Compiled:
    """Compiles each kernel only once, because a compilation takes half a second."""
    key: tuple[Any, ...] = (
        launch.kernel,
        tuple(launch.constants.items()),
        launch.inputs,
        launch.outputs,
    )
    key = (*key, tuple(launch.options.items()), target)
    if key not in _compiled:
        _compiled[key] = _compile(launch, target)
    return _compiled[key]


@cache
def _decoded(ptx: str) -> machine.Program:
    return machine.Program(ptx)


def write_kernels(folder: Path, *nodes: Node, targets: tuple[str, ...] = ("sm80",)) -> Path:
    """Writes model.cuda for a model of these nodes, as an export does."""
    model = folder / "model.onnx"
    model.write_bytes(model_of(*nodes).SerializeToString())
    with mock.patch.object(triton_compile, "compile_launch", compile_launch):
        write_cuda_kernels(model, folder, targets)
    return folder / KERNELS


def images_in(path: Path) -> dict[str, bytes]:
    """The images by name. Reads the file without safetensors, which checks the layout too."""
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])
    assert KIND in header.pop("__metadata__")
    spans = {name: tensor["data_offsets"] for name, tensor in header.items()}
    return {name: data[8 + size + first : 8 + size + end] for name, (first, end) in spans.items()}


@dataclass
class Run:
    """One run of a node: the launches that it must make, and the addresses of its buffers.

    An instance is a callback for `StandIn.on_launch`.
    """

    node: Node
    images: Mapping[str, bytes]
    batch: int
    length: int
    target: int = 80
    kind: str = "cubin"
    launched: int = 0
    pointers: dict[str, int] = field(default_factory=dict)
    scratch_start: int | None = None

    def __post_init__(self) -> None:
        op = by_onnx_name(self.node.op)
        self.program: Program = make_program(
            op,
            dtype=self.node.dtype,
            attributes=self.node.attributes,
            sizes=self.node.sizes,
            target=self.target,
        )
        self.steps: list[Step] = [
            step for step in self.program.steps if step.shortest <= self.length <= step.longest
        ]
        axes = {**self.node.sizes, "batch": self.batch, "length": self.length}
        element = {"float": 4 if self.node.dtype == "float32" else 2, "bool": 1}
        factors: Any = self.node.attributes.get("factors", ())
        axes["half_factors"] = sum(factors) // 2
        self.sizes = {
            operand.name: element.get(operand.dtype, 4)
            * int(np.prod([axes[axis] for axis in operand.axes]))
            for operand in (*op.inputs, *op.outputs)
        }
        self.offsets: dict[str, int] = {}
        self.scratch_bytes = 0
        for name, grid in sorted(self.program.scratch.items()):
            self.sizes[name] = grid.programs(self.batch, self.length)
            self.offsets[name] = self.scratch_bytes
            self.scratch_bytes += -(-self.sizes[name] // ALIGNED) * ALIGNED

    def __call__(self, launch: Launched) -> None:
        step = self.steps[self.launched]
        compiled = compile_launch(step.launch, self.target)
        assert launch.image == self._image(compiled), f"{launch.entry} of another image"
        found = (launch.entry, launch.programs, launch.threads, launch.shared_bytes, launch.stream)
        programs = step.launch.grid.programs(self.batch, self.length)
        wanted = (compiled.entry, programs, 32 * compiled.num_warps, compiled.shared_bytes, None)
        assert found == wanted, f"{found} and not {wanted}"
        arguments: list[Buffer | int | None] = []
        read = len(step.launch.inputs)
        names = step.arguments()
        for number, name in enumerate(names):
            if name == "length":
                assert number == read
                arguments.append(launch.number(number))
                assert arguments[-1] == self.length
            else:
                self._note(name, launch.pointer(number))
                arguments.append(self._buffer(name, written=number > read))
        for number in (len(names), len(names) + 1):
            assert launch.pointer(number) == 0
        _decoded(compiled.ptx).launch(
            (launch.programs,),
            [*arguments, None, None],
            shared_bytes=launch.shared_bytes,
            block=(launch.threads,),
        )
        self.launched += 1

    def _image(self, compiled: Compiled) -> bytes:
        image = compiled.cubin if self.kind == "cubin" else compiled.ptx.encode()
        assert image in self.images.values()
        return image

    def _note(self, name: str, pointer: int) -> None:
        assert pointer % 16 == 0, f"{name} is not aligned"
        if name in self.offsets:
            self._check_scratch(pointer - self.offsets[name])
        known = self.pointers.setdefault(name, pointer)
        assert known == pointer, f"{name} has moved"

    def _check_scratch(self, start: int) -> None:
        """The buffers follow one another in one allocation that is large enough for all."""
        if self.scratch_start is None:
            assert _C.malloc_usable_size(start) >= self.scratch_bytes
            self.scratch_start = start
            ctypes.memset(start, POISON, self.scratch_bytes)
        assert start == self.scratch_start

    def _buffer(self, name: str, *, written: bool) -> Buffer:
        memory = (ctypes.c_uint8 * self.sizes[name]).from_address(self.pointers[name])
        # For a sequence of one chunk, only the first round is written.
        short = self.length <= int(self.node.attributes.get("chunk_length", 0))  # type: ignore[arg-type]
        partial = short and name in ("outputs", "lse")
        return Buffer(name, np.ctypeslib.as_array(memory), output=written, partial=partial)
