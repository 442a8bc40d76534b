"""ONNX function bodies of all operators, which runtimes without our kernels run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from reformer_ops.add_norm import onnx_body as add_norm
from reformer_ops.chunk_attention import onnx_body as chunk_attention
from reformer_ops.chunk_attention_step import onnx_body as chunk_attention_step
from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.feed_forward_add import onnx_body as feed_forward_add
from reformer_ops.int4_feed_forward_add import onnx_body as int4_feed_forward_add
from reformer_ops.int4_linear import onnx_body as int4_linear
from reformer_ops.int8_feed_forward_add import onnx_body as int8_feed_forward_add
from reformer_ops.int8_linear import onnx_body as int8_linear
from reformer_ops.layer_norm_linear import onnx_body as layer_norm_linear
from reformer_ops.linear_add import onnx_body as linear_add
from reformer_ops.lsh_bucket import onnx_body as lsh_bucket
from reformer_ops.sorted_chunk_attention import onnx_body as sorted_chunk_attention
from reformer_ops.sorted_chunk_attention_step import onnx_body as sorted_chunk_attention_step

_BODIES: dict[str, Callable[..., ir.Value | tuple[ir.Value, ...]]] = {
    "AddNorm": add_norm.body,
    "LshBucket": lsh_bucket.body,
    "SortedChunkAttention": sorted_chunk_attention.body,
    "ChunkAttention": chunk_attention.body,
    "SortedChunkAttentionStep": sorted_chunk_attention_step.body,
    "ChunkAttentionStep": chunk_attention_step.body,
    "Int4Linear": int4_linear.body,
    "Int8Linear": int8_linear.body,
    "LayerNormLinear": layer_norm_linear.body,
    "LinearAdd": linear_add.body,
    "FeedForwardAdd": feed_forward_add.body,
    "Int8FeedForwardAdd": int8_feed_forward_add.body,
    "Int4FeedForwardAdd": int4_feed_forward_add.body,
}


def write_body(
    op: OpSpec, writer: OnnxWriter, *inputs: ir.Value, **attributes: Any
) -> tuple[ir.Value, ...]:
    """Write `op` in standard operators with `writer`; returns the values of its outputs.

    Raises:
        OpError: the operator is not defined for these attributes.
    """
    op.check_attributes(**attributes)
    written = _BODIES[op.name](writer, *inputs, **attributes)
    return written if isinstance(written, tuple) else (written,)


def function(op: OpSpec, float_type: ir.DataType, opset: int, **attributes: Any) -> ir.Function:
    """A model-local function for nodes of `op` that all have these attributes.

    The structure of the body depends on the attributes (digits to sort, neighbours to join), so
    their values are written into it. They are declared so that nodes can have them, because kernels
    read them.
    """
    inputs = [ir.Value(name=operand.name) for operand in op.inputs]
    writer = OnnxWriter(float_type, taken=[operand.name for operand in op.inputs])
    outputs = write_body(op, writer, *inputs, **attributes)
    graph = ir.Graph(inputs, outputs, nodes=writer.nodes, opset_imports={"": opset}, name=op.name)
    declared = [ir.Attr(a.name, ir.AttributeType.UNDEFINED, None) for a in op.attributes]
    return ir.Function(DOMAIN, op.name, graph=graph, attributes=declared)
