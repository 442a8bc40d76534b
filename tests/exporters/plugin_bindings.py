"""Evaluates our plugin definitions with TensorRT's own Python code, in a separate process.

    python -m tests.exporters.plugin_bindings FOLDER_OF_KERNELS TARGET STUBS

TensorRT's part is the package `tensorrt_bindings` from PyPI: its decorators that validate
signatures, its plugin creator, its plugin class and its symbolic shapes. libnvinfer is missing,
because no package index that CI may use has it. The bindings load only if libraries of that name
exist, so they get stub libraries in which every function ends the process. Two parts of libnvinfer
are replaced here: the registry of creators (by a dictionary), and the arithmetic on sizes (by plain
numbers).

Requests and answers are lines of JSON: a plugin, its kernel and its inputs' shapes and types on
stdin; output types and shapes, entry, PTX, grid, block, shared memory and scalars on stdout.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


def load_bindings(stubs: Path) -> ModuleType:
    """Loads `tensorrt_bindings` as `tensorrt`, with stub libraries that it is linked to."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    assert spec is not None
    assert spec.origin is not None
    binary = (Path(spec.origin).parent / "tensorrt.so").read_bytes()
    source = "".join(
        f'void {name}(void) {{ fprintf(stderr, "{name} is not here\\n"); abort(); }}\n'
        for name in _FUNCTIONS
    )
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        match = re.search(rb"lib" + library.encode() + rb"\.so\.\d+", binary)
        assert match is not None
        name = match[0].decode()
        content = source if library == "nvinfer" else ""
        subprocess.run(
            ["cc", "-x", "c", "-", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", stubs / name],
            input=f"#include <stdio.h>\n#include <stdlib.h>\n{content}",
            text=True,
            check=True,
        )
        ctypes.CDLL(str(stubs / name))
    import tensorrt_bindings

    sys.modules["tensorrt"] = tensorrt_bindings
    import tensorrt_bindings.plugin

    sys.modules["tensorrt.plugin"] = tensorrt_bindings.plugin
    bindings: ModuleType = tensorrt_bindings
    return bindings


class Evaluator:
    """Our plugins, created and evaluated by TensorRT's classes, for known sizes."""

    def __init__(self, trt: ModuleType) -> None:
        self.trt = trt
        self.library: Any = trt.plugin
        registry = self.library._lib

        def register(name: str, namespace: str, attributes: Any) -> Any:
            creator = registry._TemplatePluginCreator(name, namespace, attributes)
            registry.QDP_CREATORS[f"{namespace}::{name}"] = creator
            return creator

        registry._register_plugin_creator = register

        class Size(trt.IDimensionExpr):  # type: ignore[name-defined,misc]
            """A known size. With TensorRT, libnvinfer makes these objects."""

            def is_constant(self) -> bool:
                return True

            def get_constant_value(self) -> int:
                return int(self.value)

        self._size = Size

    def size(self, value: int) -> Any:
        made = self._size.__new__(self._size)
        made.value = value
        return made

    def constant(self, value: int) -> Any:
        """With `operation`, the methods that plugins call on TensorRT's expression builder."""
        return self.size(value)

    def operation(self, kind: Any, first: Any, second: Any) -> Any:
        a, b, names = first.value, second.value, self.trt.DimensionOperation
        result = {
            names.SUM: lambda: a + b,
            names.PROD: lambda: a * b,
            names.SUB: lambda: a - b,
            names.FLOOR_DIV: lambda: a // b,
            names.CEIL_DIV: lambda: -(-a // b),
            names.MAX: lambda: max(a, b),
            names.MIN: lambda: min(a, b),
        }[kind]()
        return self.size(result)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Evaluates a plugin in the order of `_TemplateAOTPlugin`: types, shapes, the launch."""
        trt, tensors = self.trt, self.library._tensor
        creator = self.library._lib.QDP_CREATORS[f"reformer::{request['plugin']}"]
        # As `PluginDef` passes an integer attribute of a node.
        types_of_fields = self.library._utils._built_in_to_plugin_field_type
        number = np.array([request["kernel"]])
        field = trt.PluginField("kernel", number, types_of_fields[int])
        plugin = creator.create_plugin(
            request["plugin"],
            "reformer",
            trt.PluginFieldCollection([field]),
            trt.TensorRTPhase.BUILD,
            trt.QuickPluginCreationRequest.STRICT_AOT,
        )
        types = [getattr(trt, dtype) for dtype, _ in request["inputs"]]
        ranks = [len(shape) for _, shape in request["inputs"]]
        output_types = plugin.get_output_data_types(types, ranks)
        tensors.SymIntExpr._exprBuilder = self
        try:
            described = []
            for dtype, (_, shape) in zip(types, request["inputs"], strict=True):
                expressions = tensors.ShapeExprs(len(shape))
                for axis, value in enumerate(shape):
                    expressions[axis] = tensors.ShapeExpr(self.size(value))
                described.append(tensors.TensorDesc(expressions, dtype))
            outputs = plugin.register_function(*described, **plugin.attrs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            attributes = tuple(plugin.attrs.values())
            entry, ptx, launch, scalars = plugin.aot_impl_function(
                *described, *attributes, outputs, 0
            )
        finally:
            tensors.SymIntExpr._exprBuilder = None
        assert isinstance(launch, self.library.KernelLaunchParams)
        assert isinstance(scalars, self.library.SymExprs)
        assert all(isinstance(scalar, self.library.SymInt32) for scalar in scalars)

        def known(expression: Any) -> int:
            value: int = expression._expr.get_constant_value()
            return value

        return {
            "outputs": [
                (dtype.name, [known(size) for size in output.shape_expr])
                for dtype, output in zip(output_types, outputs, strict=True)
            ],
            "entry": entry,
            "ptx": ptx,
            "grid": [known(getattr(launch, f"grid_{axis}")) for axis in "xyz"],
            "block": [known(getattr(launch, f"block_{axis}")) for axis in "xyz"],
            "shared_bytes": known(launch.shared_mem),
            "scalars": [known(scalar) for scalar in scalars],
        }


def main() -> None:
    trt = load_bindings(Path(sys.argv[3]))
    evaluator = Evaluator(trt)
    from reformer_export.errors import ReformerError
    from reformer_export.exporters.tensorrt.plugin_defs import define_plugins
    from reformer_export.exporters.tensorrt.plugin_kernels import load_kernels

    define_plugins(load_kernels(sys.argv[1], target=int(sys.argv[2])))
    answers = open(1, "w", buffering=1)  # noqa: SIM115  (TensorRT logs to sys.stdout)
    for line in sys.stdin:
        try:
            answer = evaluator.ask(json.loads(line))
        except ReformerError as error:
            answer = {"error": str(error)}
        answers.write(f"ANSWER {json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
