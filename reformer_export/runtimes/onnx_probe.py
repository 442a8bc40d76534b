"""Changes a graph so that its buckets are outputs and, on request, inputs that replace them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from reformer_export.runtimes.base import Array, Arrays, Buckets

_BUCKETS = "/LshBucket/output"
FORCED = "forced_buckets."
COMPUTED = "computed_buckets."


def probing_model(path: Path, *, force: bool) -> tuple[ir.Model, int]:
    """The model at `path` with its buckets exposed, and the number of its LSH layers.

    The buckets that layer i computes become the output `computed_buckets.i`. With `force`, the
    layer uses the input `forced_buckets.i` for attention instead. Weights remain in their files.
    """
    model = ir.load(path)
    computed = [
        value
        for node in model.graph
        for value in node.outputs
        if value.name is not None and value.name.endswith(_BUCKETS)
    ]
    for index, value in enumerate(computed):
        if force:
            forced = ir.Value(name=f"{FORCED}{index}", shape=value.shape, type=value.type)
            ir.convenience.replace_all_uses_with(value, forced)
            model.graph.inputs.append(forced)
        value.name = f"{COMPUTED}{index}"
        model.graph.outputs.append(value)
    return model, len(computed)


def feeds(inputs: Arrays, forced: Buckets | None) -> dict[str, Array]:
    """The inputs of a probing model; `forced` are the buckets of all LSH layers, if given."""
    found = dict(inputs)
    for index, buckets in enumerate(forced or ()):
        if buckets is None:
            raise ValueError(f"no buckets to force on LSH layer {index}")
        found[f"{FORCED}{index}"] = np.ascontiguousarray(buckets, np.int32)
    return found


def computed_names(layers: int) -> list[str]:
    """The outputs of a probing model that are buckets."""
    return [f"{COMPUTED}{index}" for index in range(layers)]
