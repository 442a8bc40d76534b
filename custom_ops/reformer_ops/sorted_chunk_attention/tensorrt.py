"""`SortedChunkAttention` in TensorRT.

The chain is sort_first_pass [sort_next_pass ...] attend_rounds [combine_rounds]; a single round of
hashing needs no combining.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from reformer_ops.core.spec import Operand
from reformer_ops.core.tensorrt import (
    Attributes,
    CompiledStep,
    LargestTensor,
    Plugin,
    Sizes,
    TensorRTForm,
    attention_constants,
    integer,
    scores_of_attention,
    sizes_compiled_in,
)
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION

_QUERY_KEY, _VALUE, _BUCKETS, _MASK = SORTED_CHUNK_ATTENTION.inputs
_ORDER = Operand("order", _BUCKETS.axes, "int32")
_ROUNDS = Operand("rounds", ("batch", "num_hashes", "length", "heads", "head_dim"), "float")
_LSE = Operand("lse", ("batch", "num_hashes", "length", "heads"), "float32")
_SORT_PASS = "sort_pass_"


class SortedChunkAttentionForm(TensorRTForm):
    """A plugin for each pass of the sort, one for all rounds, and one that combines the rounds."""

    op = SORTED_CHUNK_ATTENTION
    plugins = (
        Plugin("sort_first_pass", (_BUCKETS,), (_ORDER,)),
        Plugin("sort_next_pass", (_BUCKETS, _ORDER), (_ORDER,)),
        Plugin("attend_rounds", (_QUERY_KEY, _VALUE, _ORDER, _MASK), (_ROUNDS, _LSE)),
        Plugin("combine_rounds", (_ROUNDS, _LSE), SORTED_CHUNK_ATTENTION.outputs),
    )

    def steps(self, compiled: Collection[str], sizes: Sizes) -> list[str]:
        """Every compiled pass of the sort, attention, and combining if there are several rounds."""
        passes = sorted(step for step in compiled if step.startswith(_SORT_PASS))
        combine = ["combine_rounds"] if sizes["num_hashes"] > 1 else []
        return [*passes, "attend_rounds", *combine]

    def plugin_of(self, step: str, arguments: Collection[str]) -> str | None:
        """As in the base class; the first pass of the sort is the one that reads no order."""
        if step.startswith(_SORT_PASS):
            return "sort_next_pass" if "order" in arguments else "sort_first_pass"
        return super().plugin_of(step, arguments)

    def constants(self, attributes: Attributes, sizes: Sizes) -> dict[str, Any]:
        """The sizes of queries and rounds, and the attributes of attention."""
        return {
            **sizes_compiled_in(sizes, "heads", "head_dim", "num_hashes"),
            **attention_constants(attributes),
        }

    def misfit(
        self, chain: Sequence[CompiledStep], attributes: Attributes, sizes: Sizes
    ) -> str | None:
        """The passes must sort all buckets, including padding's, of all heads and rounds."""
        rows = sizes["heads"] * sizes["num_hashes"]
        bits = 0
        for kernel in chain:
            if not kernel.step.startswith(_SORT_PASS):
                continue
            if kernel.constants["SHIFT"] != bits or kernel.times != rows:
                return f"{kernel.name} does not belong to it"
            bits += kernel.constants["DIGITS"].bit_length() - 1
        num_buckets = integer(attributes, "num_buckets")
        if bits < num_buckets.bit_length():
            return (
                f"the kernels sort {bits} bits of a bucket, and the node has {num_buckets} buckets"
            )
        return None

    def largest_tensor(self, attributes: Attributes, sizes: Sizes) -> LargestTensor | None:
        """The scores of all rounds."""
        return scores_of_attention(attributes, sizes.get("heads", 1) * sizes.get("num_hashes", 1))
