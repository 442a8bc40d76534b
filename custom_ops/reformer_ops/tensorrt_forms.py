"""The TensorRT forms of all operators."""

from __future__ import annotations

from reformer_ops.chunk_attention.tensorrt import ChunkAttentionForm
from reformer_ops.core.tensorrt import Plugin, TensorRTForm
from reformer_ops.lsh_bucket.tensorrt import LshBucketForm
from reformer_ops.sorted_chunk_attention.tensorrt import SortedChunkAttentionForm

_FORMS = (LshBucketForm(), SortedChunkAttentionForm(), ChunkAttentionForm())

FORMS: dict[str, TensorRTForm] = {form.op.name: form for form in _FORMS}
"""All forms, by the operator's ONNX name."""

PLUGINS: dict[str, Plugin] = {
    plugin.name: plugin for form in FORMS.values() for plugin in form.plugins
}
"""All plugins, by name."""


def plugin_of(step: str, arguments: tuple[str, ...]) -> Plugin:
    """The plugin that launches a compiled kernel; KeyError if there is none."""
    for form in FORMS.values():
        name = form.plugin_of(step, arguments)
        if name is not None:
            return PLUGINS[name]
    raise KeyError(step)
