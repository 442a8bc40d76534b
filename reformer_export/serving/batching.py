"""Batches of sequences of different lengths that give the same numbers as each sequence alone.

Padding changes a Reformer's numbers, so a sequence must be padded as it is padded alone: sequences
share a batch only if the model itself pads them to the same length. Within such a batch they are
padded to the longest of them with a mask, and the model pads the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import ATTENTION_MASK, INPUT_IDS, TensorSpec
from reformer_export.source import ReformerConfig, artifact_config

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Batching:
    """How the sequences of one model share batches.

    Attributes:
        config: the model's config, which knows its padding.
        outputs: the outputs of the model.
    """

    config: ReformerConfig
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, artifact: Artifact) -> Batching:
        """The batching of an artifact; ArtifactError or ConfigError if its config is unusable."""
        return cls(artifact_config(artifact), artifact.signature.outputs)

    def padded_length(self, length: int) -> int:
        """Sequences share a batch only if this number is the same for all of them."""
        return self.config.padded_length(length)

    def merge(self, requests: Sequence[Arrays]) -> dict[str, Array]:
        """One input `[all rows, longest]` of several checked ones with equal padded lengths."""
        if len(requests) == 1:
            return dict(requests[0])
        shapes = [request[INPUT_IDS].shape for request in requests]
        shape = (sum(rows for rows, _ in shapes), max(length for _, length in shapes))
        ids = np.full(shape, self.config.pad_token_id, np.int64)
        mask = np.zeros(shape, np.int64)
        start = 0
        for request, (rows, length) in zip(requests, shapes, strict=True):
            place = slice(start, start + rows), slice(length)
            ids[place], mask[place] = request[INPUT_IDS], request[ATTENTION_MASK]
            start += rows
        return {INPUT_IDS: ids, ATTENTION_MASK: mask}

    def split(self, outputs: Arrays, shapes: Sequence[tuple[int, int]]) -> list[dict[str, Array]]:
        """The outputs of each request, without the padding; `shapes` are [rows, length]."""
        parts = []
        start = 0
        for rows, length in shapes:
            part = {}
            for spec in self.outputs:
                cut = [slice(start, start + rows)]
                cut += [slice(length if axis == "sequence" else None) for axis in spec.axes[1:]]
                part[spec.name] = outputs[spec.name][tuple(cut)]
            parts.append(part)
            start += rows
        return parts
