"""Writes the inputs and outputs of a verification as files that Polygraphy can read.

Polygraphy's JSON stores each array as `numpy.save` writes it, in base64, with a class name. We
write this format ourselves, so saving does not need Polygraphy.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reformer_export.artifact.staging import stage
from reformer_export.runtimes.base import Array, Arrays

INPUTS = "inputs.json"
OUTPUTS = "outputs.json"

_CLASS = "polygraphy_class"


def save_io(folder: str | Path, runs: Sequence[tuple[Arrays, Arrays]], runner: str) -> None:
    """Write the inputs and outputs of `runner` into a new folder, atomically.

    `polygraphy run MODEL --onnxrt --load-inputs FOLDER/inputs.json --load-outputs
    FOLDER/outputs.json` then compares another runtime with them.

    Raises:
        UsageError: the folder exists.
        ExportError: the folder cannot be written.
    """
    inputs = [_arrays(given) for given, _ in runs]
    results = [
        {"outputs": _lazy(found), "runtime": None, "runner_name": runner, _CLASS: "IterationResult"}
        for _, found in runs
    ]
    with stage(folder) as staged:
        _write(staged / INPUTS, inputs)
        _write(staged / OUTPUTS, {"lst": [[runner, results]], _CLASS: "RunResults"})


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document) + "\n")


def _arrays(arrays: Arrays) -> dict[str, Any]:
    return {name: _array(array) for name, array in arrays.items()}


def _lazy(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {name: {"values": _array(array), _CLASS: "LazyArray"} for name, array in arrays.items()}


def _array(array: Array) -> dict[str, str]:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {"array": base64.b64encode(file.getvalue()).decode(), _CLASS: "ndarray"}
