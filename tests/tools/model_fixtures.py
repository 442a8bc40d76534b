"""Checkpoints of Transformers and our artifacts; each is made once, when a test first needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reformer_export import to_onnx, to_tensorrt, to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine

from ..models.reformers import SMALL, theirs

Feeds = dict[str, np.ndarray]

# Byte-level, with one LSH and one local layer: enough for tests that do not compare numbers.
TINY: dict[str, Any] = SMALL | {"attn_layers": ["local", "lsh"], "vocab_size": 258}

CONFIGS: dict[str, dict[str, Any]] = {
    "feature-extraction": TINY | {"is_decoder": False, "lsh_num_chunks_after": 1},
    "text-generation": SMALL,
    "fill-mask": TINY | {"is_decoder": False, "local_num_chunks_after": 1},
    "text-classification": TINY | {"is_decoder": False, "num_labels": 3},
    "question-answering": TINY | {"is_decoder": False, "num_hashes": 3},
}
"""A model for each task; they differ from each other as much as their sizes allow."""


class Fixtures:
    """Makes each model and artifact once; tests that change one must copy it first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Any] = {}

    def model(self, task: str = "text-generation", config: Mapping[str, Any] | None = None) -> Any:
        """Transformers' model; `CONFIGS[task]` unless a config is given."""
        return self._model(task, config)[0]

    def checkpoint(
        self, task: str = "text-generation", config: Mapping[str, Any] | None = None
    ) -> Path:
        """The folder in which that model is saved."""
        path: Path = self._model(task, config)[1]
        return path

    def artifact(
        self,
        task: str = "text-generation",
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Artifact:
        """The artifact that `to_onnx` exports from that checkpoint, unverified."""
        key = f"artifact {task} {config} {options}"
        if key not in self._made:
            out = self._folder / f"artifact-{len(self._made)}"
            self._made[key] = to_onnx(
                self.checkpoint(task, config), out, task=task, verify=False, **options
            )
        artifact: Artifact = self._made[key]
        return artifact

    def decoder(self, config: Mapping[str, Any] | None = None, **options: Any) -> Artifact:
        """An unverified artifact of a causal model with the graphs for generation."""
        key = f"decoder {config} {options}"
        if key not in self._made:
            out = self._folder / f"decoder-{len(self._made)}"
            self._made[key] = to_onnx(
                self.checkpoint("text-generation", config),
                out,
                task="text-generation-with-past",
                verify=False,
                **options,
            )
        artifact: Artifact = self._made[key]
        return artifact

    def generating_script(self, **options: Any) -> Artifact:
        """The artifact of a causal model with the methods for generation, by `to_torchscript`."""
        key = f"script {options}"
        if key not in self._made:
            self._made[key] = to_torchscript(
                self.checkpoint("text-generation"),
                self._folder / f"script-{len(self._made)}",
                task="text-generation-with-past",
                verify=False,
                **options,
            )
        artifact: Artifact = self._made[key]
        return artifact

    def engine(self, task: str = "text-generation", **options: Any) -> Engine:
        """The engine of that artifact by `to_tensorrt`; by default for TensorRT-RTX, verified."""
        key = f"engine {task} {options}"
        if key not in self._made:
            out = self._folder / f"engine-{len(self._made)}"
            self._made[key] = to_tensorrt(
                self.artifact(task).path, out, **{"flavor": "rtx", **options}
            )
        engine: Engine = self._made[key]
        return engine

    def _model(self, task: str, config: Mapping[str, Any] | None) -> tuple[Any, Path]:
        key = f"model {task} {config}"
        if key not in self._made:
            model = theirs(task, **(CONFIGS[task] if config is None else config))
            path = self._folder / f"checkpoint-{len(self._made)}"
            model.save_pretrained(path)
            self._made[key] = model, path
        made: tuple[Any, Path] = self._made[key]
        return made


def feeds(length: int, batch: int = 1, *, vocab_size: int = 40, seed: int = 0) -> Feeds:
    """Random tokens; the first row is full, the others have random lengths."""
    rng = np.random.default_rng((seed, length, batch))
    sizes = rng.integers(1, length + 1, batch)
    sizes[0] = length
    return {
        "input_ids": rng.integers(0, vocab_size, (batch, length)),
        "attention_mask": (np.arange(length) < sizes[:, None]).astype(np.int64),
    }


def outputs_of(model: Any, inputs: Feeds) -> Feeds:
    """All outputs of a model of Transformers that are tensors, by name."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        outputs = model(**tensors, use_cache=False)
    return {name: value.numpy() for name, value in outputs.items() if torch.is_tensor(value)}


def worst_error(found: Feeds, expected: Feeds, *, share: float = 1.0) -> float:
    """The largest difference in a `share` of each output's values, relative to its scale."""
    assert found.keys() == expected.keys()
    errors = []
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape
        difference = np.abs(found[name].astype(np.float64) - wanted)
        errors.append(np.quantile(difference, share) / np.abs(wanted).max())
    return float(max(errors))
