"""The speed of fp32 matrix products on this machine: torch's best is the roofline of models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from reformer_export.host.optional import installed_version, require

# (rows, inner, columns). The machine determines which shape is fastest; all are so large that the
# rate does not rise with the size any more.
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 1024))


@dataclass(frozen=True)
class GemmRate:
    """Rates in 1e9 operations per second, and the number of cores that this process used.

    Matrix products keep all their threads busy, so fewer cores mean that other processes were
    running.

    Attributes:
        gflops: torch's rate.
        cores: cores used while torch multiplied.
        onnxruntime: ONNX Runtime's rate; None if it is not installed. It is not the roofline, but
            shows how much of a model's distance to the roofline is due to the difference between
            the two libraries, which is large on AMD.
    """

    gflops: float
    cores: float
    onnxruntime: float | None = None


class Gemm:
    """Matrix products of several shapes, to be run repeatedly."""

    def __init__(self, shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> None:
        self._torch = require("torch", purpose="measuring the GEMM rate")
        make = self._torch.randn
        self._operands = [
            (make(rows, inner), make(inner, columns), make(rows, columns))
            for rows, inner, columns in shapes
        ]
        self._sessions: list[tuple[Any, Any]] = []
        if installed_version("onnxruntime") is not None:
            threads = self._torch.get_num_threads()
            self._sessions = [
                (_product_with(right.numpy(), threads), left.numpy())
                for left, right, _ in self._operands
            ]

    def measure(self) -> GemmRate:
        """Run every product once; returns the rate of the fastest."""
        began, cpu_began = time.perf_counter(), time.process_time()
        rates = [
            _rate(left, right, partial(self._torch.mm, left, right, out=out))
            for left, right, out in self._operands
        ]
        cores = (time.process_time() - cpu_began) / (time.perf_counter() - began)
        others = [
            _rate(left, right, partial(session.run, None, {"left": feed}))
            for (session, feed), (left, right, _) in zip(
                self._sessions, self._operands, strict=False
            )
        ]
        return GemmRate(max(rates), cores, max(others, default=None))


def _rate(left: Any, right: Any, product: Callable[[], object]) -> float:
    start = time.perf_counter()
    product()
    seconds = time.perf_counter() - start
    return float(2 * left.shape[0] * left.shape[1] * right.shape[1] / seconds / 1e9)


def _product_with(right: Any, threads: int) -> Any:
    """A session that multiplies by a weight, as the matrix products of a model do."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, ["rows", right.shape[0]])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows", right.shape[1]])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads must not spin while torch multiplies.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
