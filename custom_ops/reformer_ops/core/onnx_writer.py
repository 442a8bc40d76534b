"""Writes standard ONNX nodes, into a function body or directly into a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

INT64_MAX = int(np.iinfo(np.int64).max)


class OnnxWriter:
    """Appends nodes in order; each call of `op` returns the value that its node computes.

    `float_type` is the model's type, the type of queries and values. Names of nodes and values
    start with `prefix`, which must differ between writers to the same graph. The names in `taken`
    are not used again.
    """

    def __init__(
        self, float_type: ir.DataType, prefix: str = "", taken: Iterable[str] = ()
    ) -> None:
        self.float_type = float_type
        self.nodes: list[ir.Node] = []
        self._prefix = prefix
        self._counts: dict[str, int] = dict.fromkeys(taken, 1)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def op(
        self, op_type: str, *inputs: ir.Value, name: str | None = None, **attributes: Any
    ) -> ir.Value:
        """One node with one output, named after `name` (or the operator) and made unique."""
        label = name or op_type.lower()
        count = self._counts.get(label, 0)
        self._counts[label] = count + 1
        label = f"{self._prefix}{label}" + (f"_{count}" if count else "")
        output = ir.Value(name=label)
        self.nodes.append(
            ir.Node(
                "",
                op_type,
                inputs,
                attributes=ir.convenience.convert_attributes(attributes),
                outputs=[output],
                name=label,
            )
        )
        return output

    def constant(self, value: Any, dtype: DTypeLike, name: str = "constant") -> ir.Value:
        """A Constant node; equal constants share one node."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.op("Constant", name=name, value=ir.tensor(array))
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """A one-dimensional int64 constant: shapes, axes, starts and ends."""
        return self.constant(values, np.int64)

    def int32(self, value: Any) -> ir.Value:
        """An int32 constant: positions and buckets, which stay below 2**31."""
        return self.constant(value, np.int32)

    def float32(self, value: float) -> ir.Value:
        """An fp32 scalar constant."""
        return self.constant(value, np.float32)

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of one axis, as a one-element int64 tensor."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def shape(self, *sizes: ir.Value | int) -> ir.Value:
        """A shape from one-element tensors and numbers (-1 and 0 mean the same as in Reshape)."""
        parts = [self.ints(size) if isinstance(size, int) else size for size in sizes]
        return self.op("Concat", *parts, name="shape", axis=0)

    def scalar_int32(self, size: ir.Value) -> ir.Value:
        """A one-element int64 tensor as an int32 scalar."""
        scalar = self.op("Squeeze", size, self.ints(0))
        return self.op("Cast", scalar, to=ir.DataType.INT32)

    def iota(self, size: ir.Value, name: str = "iota") -> ir.Value:
        """`0, 1, ..., size - 1` as int32, for a one-element int64 `size`."""
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        end = self.op("Squeeze", size, self.ints(0))
        return self.op("Cast", self.op("Range", zero, end, one), name=name, to=ir.DataType.INT32)

    def to_float32(self, value: ir.Value) -> ir.Value:
        """`value` of the model's type as fp32."""
        if self.float_type == ir.DataType.FLOAT:
            return value
        return self.op("Cast", value, to=ir.DataType.FLOAT)

    def to_model_type(self, value: ir.Value, name: str | None = None) -> ir.Value:
        """An fp32 `value` in the model's type."""
        if self.float_type == ir.DataType.FLOAT:
            return value if name is None else self.op("Identity", value, name=name)
        return self.op("Cast", value, name=name, to=self.float_type)

    def slice(self, value: ir.Value, start: int, end: int, axis: int) -> ir.Value:
        """`value[start:end]` along `axis`, clamped as in Python."""
        return self.op("Slice", value, self.ints(start), self.ints(end), self.ints(axis))

    def layer_norm(
        self, value: ir.Value, weight: ir.Value, bias: ir.Value, epsilon: float
    ) -> ir.Value:
        """The layer norm over the last axis, computed in fp32."""
        return self.op(
            "LayerNormalization",
            value,
            weight,
            bias,
            name="normed",
            axis=-1,
            epsilon=float(epsilon),
            stash_type=int(ir.DataType.FLOAT),
        )

    def matrix(self, panels: ir.Value, name: str) -> ir.Value:
        """A weight `[panels, depth, 16]` as `[depth, columns]`. Runtimes compute it only once, when
        they load the model."""
        by_row = self.op("Transpose", panels, perm=[1, 0, 2])
        return self.op("Flatten", by_row, name=f"{name}_matrix", axis=1)

    def ring(self, chunks: ir.Value, before: int, after: int) -> ir.Value | None:
        """The chunks that each chunk of a ring sees, in order: `[chunks * (before + 1 + after)]`
        int32; None if a chunk sees only itself.

        A shift of the whole ring or more gives the chunk itself, as in the reference.
        """
        if before == after == 0:
            return None
        count = self.scalar_int32(chunks)
        shifts = self.int32(range(-before, after + 1))
        turns = self.op("Less", self.op("Abs", shifts), count)
        shifts = self.op("Where", turns, shifts, self.int32(0))
        column = self.op("Unsqueeze", self.iota(chunks), self.ints(1))
        beyond = self.op("Add", self.op("Add", column, shifts), count)  # 1 to 3 * chunks - 1
        laps = self.op("Mul", self.op("Div", beyond, count), count)
        return self.op("Reshape", self.op("Sub", beyond, laps), self.ints(-1), name="ring")

    def own_chunk(self, chunk_length: int, before: int, after: int) -> ir.Value:
        """True for the keys of a chunk's own, among those that it sees, `[keys]` bool."""
        shifts = np.arange(-before, after + 1).repeat(chunk_length)
        return self.op("Equal", self.int32(shifts), self.int32(0))

    def softmax_attend(self, scores: ir.Value, values: ir.Value) -> tuple[ir.Value, ir.Value]:
        """`exp(scores - lse) @ values` in fp32 and `lse[..., 1]`, rounded as in the reference.

        In fp32, `exp(scores - top)` is scaled after the product, which saves a pass over the
        scores. In half precision that product could overflow.
        """
        last = self.ints(-1)
        top = self.op("ReduceMax", scores, last, keepdims=1)
        weights = self.op("Exp", self.op("Sub", scores, top), name="weights")
        total = self.op("ReduceSum", weights, last, keepdims=1)
        lse = self.op("Add", top, self.op("Log", total), name="lse")
        scale = self.op("Exp", self.op("Sub", top, lse))
        if self.float_type == ir.DataType.FLOAT:
            product = self.op("MatMul", weights, values)
            return self.op("Mul", product, scale, name="attended"), lse
        weights = self.to_model_type(self.op("Mul", weights, scale))
        return self.to_float32(self.op("MatMul", weights, values, name="attended")), lse


def fixed_size(value: ir.Value, axis: int) -> int | None:
    """The size of an axis; None if it is dynamic, or unknown as in a function."""
    size = None if value.shape is None else value.shape[axis]
    return size if isinstance(size, int) else None


def as_attributes(attributes: dict[str, Any]) -> Sequence[ir.Attr]:
    """Operator attributes as ONNX stores them: booleans become 0 or 1."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return list(value)
        return value if isinstance(value, float | str) else int(value)

    return ir.convenience.convert_attributes({n: plain(v) for n, v in attributes.items()})
