"""The graphs for generation: decoder_model.onnx fills a cache; decoder_with_past_model.onnx extends
it by one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from reformer_export.artifact.manifest import DECODER_FILES, DECODER_WEIGHTS, FormatRecord
from reformer_export.artifact.signature import (
    INPUT_IDS,
    LOGITS,
    PAST_LENGTH,
    PROMPT_LENGTH,
    TokenSignature,
)
from reformer_export.exporters.onnx.build import build
from reformer_export.exporters.onnx.saving import save_sharing_weights
from reformer_export.exporters.onnx.trace import Axes, Example
from reformer_export.source import DTYPES, decoder_modules, fused
from reformer_ops.registry import STEPS

if TYPE_CHECKING:
    from reformer_export.source import CacheTensor, LoadedModel

_CAPACITY = 7  # of the example caches; any value works


def write_decoder(
    loaded: LoadedModel,
    signature: TokenSignature,
    folder: Path,
    *,
    dtype: str,
    ops: str,
    opset: int,
    fp16_weights: bool,
    tools: Mapping[str, str],
) -> FormatRecord:
    """Write both graphs into `folder`, with their weights in one file; returns their record.

    `dtype`, `ops`, `opset` and `fp16_weights` are those of `build`.

    Raises:
        ExportError: torch could not trace the model.
    """
    prefill, step, tensors = decoder_modules(loaded if ops == "portable" else fused(loaded))
    logits: dict[str, Axes] = {LOGITS: ("batch", 1, signature.vocab_size)}
    caches: dict[str, Axes] = {tensor.present: tensor.axes for tensor in tensors}
    of_prompt: dict[str, Axes] = {
        name: tuple("sequence" if axis == "capacity" else axis for axis in axes)
        for name, axes in caches.items()
    }
    # The example prompt has several chunks, as for model.onnx.
    prompt = torch.ones((2, 3 * loaded.config.chunk_multiple - 1), dtype=torch.int64)
    graphs = [
        build(
            module,
            examples,
            outputs,
            name=name,
            dtype=dtype,
            ops=ops,
            opset=opset,
            for_tensorrt=False,
            fp16_weights=fp16_weights,
        )
        for module, examples, outputs, name in (
            (
                prefill,
                [Example(INPUT_IDS, prompt, ("batch", "sequence"))],
                logits | of_prompt,
                "prefill",
            ),
            (step, _step_examples(tensors, dtype), logits | caches, "step"),
        )
    ]
    _describe(graphs, signature)
    save_sharing_weights(dict(zip(DECODER_FILES, graphs, strict=True)), folder, DECODER_WEIGHTS)
    return FormatRecord(
        files=(*DECODER_FILES, DECODER_WEIGHTS),
        ops=ops,
        tools=tools,
        details={"opset": opset, "ops": {op.name: op.version for op in STEPS}},
    )


def _step_examples(tensors: Sequence[CacheTensor], dtype: str) -> list[Example]:
    model_type: torch.dtype = getattr(torch, DTYPES[dtype])
    return [
        Example(INPUT_IDS, torch.ones((2, 1), dtype=torch.int64), ("batch", 1)),
        Example(PAST_LENGTH, torch.ones(2, dtype=torch.int64), ("batch",)),
        Example(PROMPT_LENGTH, torch.ones(2, dtype=torch.int64), ("batch",)),
        *(
            Example(tensor.past, tensor.zeros(2, _CAPACITY, model_type), tensor.axes)
            for tensor in tensors
        ),
    ]


def _describe(graphs: Sequence[ir.Model], signature: TokenSignature) -> None:
    prefill, step = graphs
    prefill.doc_string = (
        "Takes prompts of one length and returns the logits of the next token, and the cache: "
        "copy it into tensors with room for the tokens to come."
    )
    step.doc_string = (
        "Takes one token of each sequence and the cache, and returns the logits of the next token "
        "and the cache with this one. An input past_X and the output present_X may be one buffer."
    )
    descriptions = {
        INPUT_IDS: f"Token ids from 0 to {signature.vocab_size - 1}.",
        PAST_LENGTH: f"Tokens in the cache, at most {signature.max_length - 1}.",
        PROMPT_LENGTH: "Tokens in the cache that belong to the prompt.",
    }
    for graph in graphs:
        graph.metadata_props["reformer.max_length"] = str(signature.max_length)
        graph.metadata_props["reformer.vocab_size"] = str(signature.vocab_size)
        for value in graph.graph.inputs:
            value.doc_string = descriptions.get(str(value.name))
