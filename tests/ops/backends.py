"""Every implementation of the operators that the tests compare with the reference.

To add one, add an entry to `BACKENDS`. It runs a `Case` whose floats are exact in `dtype`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from reformer_ops import torch_ops  # noqa: F401  (registers the operators)
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE

from .isa_libraries import isa_libraries
from .onnx_models import Form, cached_session, make_model
from .tolerances import as_numpy, torch_arguments
from .triton_interpreter import interpret

Array = NDArray[Any]
HALF_TYPES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Backend:
    """An implementation of all operators, in each of `dtypes`.

    `run` takes the operator, the case and the model's type; it returns the output in any float
    type that represents it exactly, or in int32. For a `slow` backend, `make test` runs one case
    in four, different ones for each type; `make test-all` runs all.
    """

    name: str
    dtypes: tuple[str, ...]
    run: Callable[[OpSpec, Case, str], Array]
    slow: bool = False

    def __str__(self) -> str:
        return self.name


def _torch_portable(op: OpSpec, case: Case, dtype: str) -> Array:
    return as_numpy(PORTABLE[op.torch_name](*torch_arguments(op, case, dtype)))


def _torch(op: OpSpec, case: Case, dtype: str) -> Array:
    operator = getattr(torch.ops.reformer, op.torch_name)
    return as_numpy(operator(*torch_arguments(op, case, dtype)))


def _triton(op: OpSpec, case: Case, dtype: str, *, target: int) -> Array:
    """Runs the GPU kernels in Triton's interpreter."""
    return as_numpy(interpret(op.torch_name, *torch_arguments(op, case, dtype), target=target))


def _onnxruntime(
    op: OpSpec, case: Case, dtype: str, *, form: Form, optimised: bool = True, fixed: bool = False
) -> Array:
    """`fixed`: all sizes are fixed but batch and length, as in the models that we export."""
    attributes = tuple(case.attributes.items())
    sizes = {
        axis: size
        for operand in (op.inputs if fixed else ())
        for axis, size in zip(operand.axes, case.inputs[operand.name].shape, strict=True)
        if axis not in ("batch", "length")
    }
    session = cached_session(
        op.name, attributes, dtype, form, optimised, sizes=tuple(sizes.items())
    )
    result: Array = session.run(None, _feeds(op, case, dtype))[0]
    return result


def native_onnxruntime(op: OpSpec, case: Case, dtype: str, *, library: Path) -> Array:
    """Runs our kernels in a library for onnxruntime."""
    attributes = tuple(case.attributes.items())
    session = cached_session(op.name, attributes, dtype, "node", library=library)
    result: Array = session.run(None, _feeds(op, case, dtype))[0]
    return result


def _native(isa: str) -> Backend:
    library = isa_libraries(int8=True)[isa]
    run = partial(native_onnxruntime, library=library)
    return Backend(f"native-onnxruntime-{isa}", ("float32", "float16"), run)


def _onnx_evaluator(op: OpSpec, case: Case, dtype: str) -> Array:
    """Runs the body in NumPy. fp16 can overflow here; onnxruntime's CPU kernels use fp32 for it."""
    model = make_model(op, case.attributes, dtype, "inlined")
    evaluator = ReferenceEvaluator(model, new_ops=[GatherElements])
    (result,) = evaluator.run(None, _feeds(op, case, dtype))
    return np.asarray(result)


class GatherElements(OpRun):
    """Replaces onnx's own implementation, which fails if indices and data differ in size."""

    op_domain = ""

    def _run(self, data: Array, indices: Array, axis: int) -> tuple[Array]:
        return (np.take_along_axis(data, indices.astype(np.int64), axis),)


def _feeds(op: OpSpec, case: Case, dtype: str) -> dict[str, Array]:
    floats = {o.name: case.inputs[o.name].astype(dtype) for o in op.inputs if o.dtype == "float"}
    return {**case.inputs, **floats}


def by_name(name: str) -> Backend:
    return next(backend for backend in BACKENDS if backend.name == name)


BACKENDS: tuple[Backend, ...] = (
    Backend("torch-portable", ("float32", *HALF_TYPES), _torch_portable),
    Backend("torch", ("float32", *HALF_TYPES), _torch),  # native if it is installed
    *(
        Backend(
            f"onnx-{form}" + ("" if optimised else "-unoptimised"),
            ("float32", "float16"),
            partial(_onnxruntime, form=form, optimised=optimised),
        )
        for form in ("function", "inlined")
        for optimised in (True, False)
    ),
    Backend(
        "onnx-inlined-fixed",
        ("float32", "float16"),
        partial(_onnxruntime, form="inlined", fixed=True),
        slow=True,  # each shape needs a session
    ),
    Backend("onnx-evaluator", ("float32", "float16"), _onnx_evaluator),
    *(
        [
            Backend(
                f"triton-interpreter{suffix}",
                ("float32", *HALF_TYPES),
                partial(_triton, target=target),
                slow=True,
            )
            for suffix, target in (("", 80), ("-sm90", 90))
        ]
        if find_spec("triton")  # otherwise test_triton.py is skipped, and says why
        else []
    ),
    *map(_native, isa_libraries()),
)

LINEAR_BACKENDS: dict[str, Backend] = {
    each.name: each
    for each in BACKENDS
    if not (each.slow or each.name == "onnx-evaluator" or "unoptimised" in each.name)
}
"""Those that run linear layers, by name."""

QUANTISED_BACKENDS = {
    **LINEAR_BACKENDS,
    **{each.name: each for each in map(_native, isa_libraries(int8=True))},
}
"""Those that run linear layers with weights of 8 and 4 bits, by name."""
