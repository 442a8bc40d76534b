"""Declares plugins to TensorRT: quickly deployable plugins, compiled ahead of time.

    kernels = load_kernels("kernels", target=90)
    define_plugins(kernels)
    # tensorrt.OnnxParser now accepts a model that `use_plugins` made with these kernels.

This needs TensorRT >= 10.10. The definitions are used while an engine is built. The engine holds
the kernels themselves, so running it needs neither Python nor any library of ours.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from types import GenericAlias, ModuleType
from typing import Any

from reformer_export.errors import ExportError
from reformer_export.exporters.tensorrt.plugin_kernels import PluginKernel
from reformer_export.host.optional import require
from reformer_ops.core.spec import DOMAIN
from reformer_ops.core.tensorrt import KERNEL, Plugin
from reformer_ops.tensorrt_forms import PLUGINS

_PURPOSE = "building an engine with plugins"


def define_plugins(kernels: Mapping[str, PluginKernel]) -> None:
    """Register all plugins with TensorRT, once per process. A later call replaces the kernels.

    Raises:
        MissingDependencyError: tensorrt is not installed.
        ExportError: TensorRT is too old for plugins that are compiled ahead of time.
    """
    tensorrt = require("tensorrt", purpose=_PURPOSE, package="reformer-export[gpu]")
    library = require("tensorrt.plugin", purpose=_PURPOSE, package="reformer-export[gpu]")
    if not hasattr(library, "aot_impl"):
        raise ExportError(
            f"TensorRT {tensorrt.__version__} has no plugins that are compiled ahead of time: "
            "install 10.10 or later"
        )
    global _kernels
    _kernels = {kernel.number: kernel for kernel in kernels.values()}
    for plugin in PLUGINS.values():
        if plugin.name not in _defined:
            _define(tensorrt, library, plugin)
            _defined.add(plugin.name)


_kernels: dict[int, PluginKernel] = {}
_defined: set[str] = set()


def _define(tensorrt: ModuleType, library: ModuleType, plugin: Plugin) -> None:
    name = f"{DOMAIN}::{plugin.name}"
    library.register(name)(shape_function(tensorrt, library, plugin))
    library.aot_impl(name)(launch_function(tensorrt, library, plugin))


def shape_function(tensorrt: ModuleType, library: ModuleType, plugin: Plugin) -> Callable[..., Any]:
    """The function for `register`: it maps descriptions of inputs to those of outputs."""

    def describe(*arguments: Any, **attributes: Any) -> Any:
        tensors = arguments[: len(plugin.inputs)]
        sizes = _sizes(plugin, tensors)
        model_type = tensors[0].dtype
        outputs = tuple(
            library.from_shape_expr(
                tuple(sizes[axis] for axis in operand.axes),
                _type(tensorrt, operand.dtype, model_type),
            )
            for operand in plugin.outputs
        )
        return outputs if len(outputs) > 1 else outputs[0]

    # TensorRT reads signatures. All plugins are alike, so theirs are made from the declarations.
    one = library.TensorDesc
    count = len(plugin.outputs)
    result = one if count == 1 else GenericAlias(tuple, (one,) * count)
    parameters = [(operand.name, one) for operand in plugin.inputs] + [(KERNEL, int)]
    return _with_signature(describe, f"describe_{plugin.name}", parameters, result)


def launch_function(
    tensorrt: ModuleType, library: ModuleType, plugin: Plugin
) -> Callable[..., Any]:
    """The function for `aot_impl`: it returns the kernel, its launch, and `length` as a scalar."""

    def implement(*arguments: Any) -> Any:
        count = len(plugin.inputs)
        tensors, number = arguments[:count], arguments[count]
        kernel = _kernel(tensorrt, plugin, number, tensors)
        sizes = _sizes(plugin, tensors)
        batch, length = sizes["batch"], sizes["length"]
        programs = batch * kernel.times * library.cdiv(length * kernel.multiplier, kernel.divisor)
        launch = library.KernelLaunchParams(
            grid_x=programs, block_x=kernel.threads, shared_mem=kernel.shared_bytes
        )
        scalars = library.SymIntExprs(1)
        scalars[0] = library.SymInt32(length)
        return kernel.entry, kernel.ptx, launch, scalars

    one = library.TensorDesc
    text = typing.Union[str, bytes]  # noqa: UP007  (TensorRT 10 does not know str | bytes)
    result = GenericAlias(tuple, (text, text, library.KernelLaunchParams, library.SymExprs))
    parameters = [(operand.name, one) for operand in plugin.inputs] + [(KERNEL, int)]
    outputs = GenericAlias(tuple, (one,) * len(plugin.outputs))
    parameters += [("outputs", outputs), ("tactic", int)]
    return _with_signature(implement, f"launch_{plugin.name}", parameters, result)


def _with_signature(
    function: Callable[..., Any], name: str, parameters: list[tuple[str, Any]], result: Any
) -> Callable[..., Any]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(each, kind, annotation=type_) for each, type_ in parameters],
        return_annotation=result,
    )

    def bound(*arguments: Any, **attributes: Any) -> Any:
        return function(*signature.bind(*arguments, **attributes).args)

    bound.__name__ = name
    bound.__signature__ = signature  # type: ignore[attr-defined]
    return bound


def _sizes(plugin: Plugin, tensors: tuple[Any, ...]) -> dict[str, Any]:
    """Symbolic sizes by axis; an axis has the same size in all inputs."""
    return {
        axis: size
        for operand, tensor in zip(plugin.inputs, tensors, strict=True)
        for axis, size in zip(operand.axes, tensor.shape_expr, strict=True)
    }


def _kernel(
    tensorrt: ModuleType, plugin: Plugin, number: int, tensors: tuple[Any, ...]
) -> PluginKernel:
    """The kernel that a node names, if it fits the node's tensors.

    Raises:
        ExportError: no such kernel, or it was compiled for other types or sizes.
    """
    if number not in _kernels:
        raise ExportError(
            f"a node of the model wants kernel {number}, which is not among those loaded: "
            "model and kernels must come from one run"
        )
    kernel = _kernels[number]
    name = kernel.name
    if kernel.plugin != plugin:
        raise ExportError(
            f"kernel {name} is for {kernel.plugin.name}, but a {plugin.name} node names it"
        )
    for operand, tensor in zip(plugin.inputs, tensors, strict=True):
        wanted = _type(tensorrt, operand.dtype, _type(tensorrt, kernel.dtype, None))
        if tensor.dtype != wanted:
            raise ExportError(
                f"kernel {name} takes {operand.name} as {wanted}; the model has {tensor.dtype}"
            )
    for axis, size in _sizes(plugin, tensors).items():
        known = not size.is_fake and size.is_constant
        if known and size.constant_value() != kernel.sizes.get(axis, size.constant_value()):
            raise ExportError(
                f"kernel {name} is compiled for {axis} = {kernel.sizes[axis]}; the model has "
                f"{size.constant_value()}"
            )
    return kernel


def _type(tensorrt: ModuleType, dtype: str, model_type: Any) -> Any:
    """TensorRT's type for the type of an operand; "float" is the model's type."""
    if dtype == "float":
        return model_type
    return {
        "float32": tensorrt.float32,
        "float16": tensorrt.float16,
        "bfloat16": tensorrt.bfloat16,
        "int32": tensorrt.int32,
        "bool": tensorrt.bool,
    }[dtype]
