"""Runs models with plugin nodes on the CPU: these in the PTX emulator, others in onnx's evaluator.

TensorRT's own Python code makes each launch from our definitions (`plugin_bindings.py`): entry,
PTX, grid, block, shared memory, scalars, and output shapes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from reformer_ops.core.spec import DOMAIN
from reformer_ops.core.tensorrt import Plugin
from reformer_ops.tensorrt_forms import PLUGINS

from ..ops.backends import GatherElements
from ..tools.ptx.machine import Program
from ..tools.ptx.memory import Buffer

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]

_TYPES = {
    "float32": "float32",
    "float16": "float16",
    "int32": "int32",
    "bool": "bool",
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "BOOL": "bool",
}


class Bindings:
    """A context manager for the process that has TensorRT's bindings."""

    def __init__(self, kernels: Path, target: int, stubs: Path) -> None:
        stubs.mkdir(exist_ok=True)
        arguments = [str(kernels), str(target), str(stubs)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.exporters.plugin_bindings", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Bindings:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, plugin: str, kernel: int, inputs: list[tuple[str, list[int]]]) -> dict[str, Any]:
        """The launch of one node, or {"error": the error message of our definition}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"plugin": plugin, "kernel": kernel, "inputs": inputs}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise AssertionError(f"the bindings ended with {self._process.wait()}")


def run(model: onnx.ModelProto, feeds: dict[str, Array], bindings: Bindings) -> list[Array]:
    """The outputs of a model that `use_plugins` has changed."""
    ops = [_operator(plugin, bindings) for plugin in PLUGINS.values()]
    evaluator = ReferenceEvaluator(model, new_ops=[*ops, GatherElements])
    return [np.asarray(output) for output in evaluator.run(None, feeds)]


@cache
def _program(ptx: str) -> Program:
    return Program(ptx)


def _operator(plugin: Plugin, bindings: Bindings) -> type[OpRun]:
    def execute(self: OpRun, *inputs: Array, kernel: int) -> tuple[Array, ...]:
        shapes = [(array.dtype.name, list(array.shape)) for array in inputs]
        launch = bindings.ask(plugin.name, kernel, shapes)
        assert "error" not in launch, launch["error"]
        outputs = [
            np.full(shape, np.nan if "FLOAT" in dtype or "HALF" in dtype else -1, _TYPES[dtype])
            for dtype, shape in launch["outputs"]
        ]
        program = _program(launch["ptx"])
        assert program.kernel.name == launch["entry"]
        read = [
            Buffer(operand.name, np.ascontiguousarray(array))
            for operand, array in zip(plugin.inputs, inputs, strict=True)
        ]
        # A short sequence has one round, and the memory of the others is not touched.
        partial = plugin.name == "attend_rounds"
        written = [
            Buffer(operand.name, array, output=True, partial=partial)
            for operand, array in zip(plugin.outputs, outputs, strict=True)
        ]
        program.launch(
            launch["grid"],
            [*read, *launch["scalars"], *written],
            shared_bytes=launch["shared_bytes"],
            block=launch["block"],
        )
        return tuple(outputs)

    return type(plugin.name, (OpRun,), {"op_domain": DOMAIN, "_run": execute})
