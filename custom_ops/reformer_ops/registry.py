"""All operators. To add one, add a folder next to the others and an entry here."""

from __future__ import annotations

from reformer_ops.add_norm.spec import ADD_NORM
from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.chunk_attention_step.spec import CHUNK_ATTENTION_STEP
from reformer_ops.core.spec import OpSpec
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int4_linear.spec import INT4_LINEAR
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.int8_linear.spec import INT8_LINEAR
from reformer_ops.layer_norm_linear.spec import LAYER_NORM_LINEAR
from reformer_ops.linear_add.spec import LINEAR_ADD
from reformer_ops.lsh_bucket.spec import LSH_BUCKET
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION
from reformer_ops.sorted_chunk_attention_step.spec import SORTED_CHUNK_ATTENTION_STEP

OPS: tuple[OpSpec, ...] = (LSH_BUCKET, SORTED_CHUNK_ATTENTION, CHUNK_ATTENTION)
"""Operators of every Reformer."""

STEPS: tuple[OpSpec, ...] = (SORTED_CHUNK_ATTENTION_STEP, CHUNK_ATTENTION_STEP)
"""Operators that generate one more token, with a cache of the previous tokens.

The CPU has kernels for ONNX Runtime, and for torch if the cache is changed in place.
"""

QUANTISED: tuple[OpSpec, ...] = (INT8_LINEAR, INT4_LINEAR)
"""Layers with weights of fewer bits. The CPU has kernels for ONNX Runtime and torch; GPUs run the
portable operators."""

FUSED: tuple[OpSpec, ...] = (ADD_NORM,)
"""Operators by which the exporter replaces adjacent standard operators.

Only ONNX has these, and only GPUs have kernels for them; all other runtimes run their bodies.
"""

LINEAR: tuple[OpSpec, ...] = (
    LAYER_NORM_LINEAR,
    LINEAR_ADD,
    FEED_FORWARD_ADD,
    INT8_FEED_FORWARD_ADD,
    INT4_FEED_FORWARD_ADD,
)
"""Linear layers fused with adjacent operations, for inference. The CPU has kernels for ONNX Runtime
and torch; GPUs and all other runtimes run the portable operators or the bodies."""

ALL: tuple[OpSpec, ...] = (*OPS, *STEPS, *QUANTISED, *FUSED, *LINEAR)


def by_onnx_name(name: str) -> OpSpec:
    """The operator whose ONNX node type is `name`; KeyError if there is none."""
    return {op.name: op for op in ALL}[name]
