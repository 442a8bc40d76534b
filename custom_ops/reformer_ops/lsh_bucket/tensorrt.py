"""`LshBucket` in TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from reformer_ops.core.tensorrt import (
    Attributes,
    Plugin,
    Sizes,
    TensorRTForm,
    sizes_compiled_in,
)
from reformer_ops.lsh_bucket.spec import LSH_BUCKET

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_ops.core.onnx_writer import OnnxWriter


class LshBucketForm(TensorRTForm):
    """One plugin; without fp32 matrix products, a convolution."""

    op = LSH_BUCKET
    plugins = (Plugin("lsh_bucket", LSH_BUCKET.inputs, LSH_BUCKET.outputs),)
    without_fp32_products = "convolution"

    def constants(self, attributes: Attributes, sizes: Sizes) -> dict[str, Any]:
        """The sizes of queries and rotations, and half of every factor."""
        factors = cast(Sequence[int], attributes["factors"])
        return {
            **sizes_compiled_in(sizes, "heads", "head_dim", "num_hashes"),
            "HALVES": [factor // 2 for factor in factors],
            "COLUMNS": sizes["half_factors"],
        }

    def write_without_fp32_products(
        self, writer: OnnxWriter, *inputs: ir.Value, **attributes: Any
    ) -> tuple[ir.Value, ...] | None:
        """Write the projections as a convolution; the rotations must be a weight."""
        from reformer_ops.lsh_bucket.onnx_body import convolution_body

        query, rotations, mask = inputs
        weight = rotations.const_value
        if weight is None:
            raise ValueError(f"{rotations.name} is not a weight")
        self.op.check_attributes(**attributes)
        return (convolution_body(writer, query, weight.numpy(), mask, **attributes),)
