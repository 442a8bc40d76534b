"""`ChunkAttention` in TensorRT."""

from __future__ import annotations

from typing import Any

from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.core.tensorrt import (
    Attributes,
    LargestTensor,
    Plugin,
    Sizes,
    TensorRTForm,
    attention_constants,
    scores_of_attention,
    sizes_compiled_in,
)


class ChunkAttentionForm(TensorRTForm):
    """One plugin."""

    op = CHUNK_ATTENTION
    plugins = (Plugin("chunk_attention", CHUNK_ATTENTION.inputs, CHUNK_ATTENTION.outputs),)

    def constants(self, attributes: Attributes, sizes: Sizes) -> dict[str, Any]:
        """The sizes of a head, and all attributes."""
        return sizes_compiled_in(sizes, "heads", "head_dim") | attention_constants(attributes)

    def largest_tensor(self, attributes: Attributes, sizes: Sizes) -> LargestTensor | None:
        """The scores."""
        return scores_of_attention(attributes, sizes.get("heads", 1))
