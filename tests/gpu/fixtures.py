"""Checkpoints and artifacts of the models that parts run, made once for all processes."""

from __future__ import annotations

import copy
import dataclasses
import fcntl
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reformer_export import to_onnx
from reformer_export.artifact.signature import Signature
from reformer_export.exporters.base import ExportOptions, signature_of
from reformer_export.host.device import parse_device
from reformer_export.runtimes.torch import TorchRunner
from reformer_models.config import ReformerConfig
from reformer_models.loading import LoadedModel
from reformer_models.training.creating import create_model
from reformer_models.training.saving import save_checkpoint
from reformer_ops.core.native import Choice

from ..models.configs import CRIME_AND_PUNISHMENT, ENWIK8_CUT, SMALL
from ..models.weights import spread
from .record import Place

GENERATION = "text-generation"

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "c&p": (GENERATION, CRIME_AND_PUNISHMENT),
    "enwik8 cut": (GENERATION, ENWIK8_CUT),
    "enwik8": (GENERATION, ENWIK8_CUT | {"attn_layers": ENWIK8_CUT["attn_layers"] * 3}),
    "small": (GENERATION, SMALL),
    "small, both ways": (
        "fill-mask",
        SMALL
        | {
            "is_decoder": False,
            "lsh_num_chunks_after": 1,
            "local_num_chunks_after": 1,
            "num_hashes": 3,
            "num_buckets": 8,
        },
    ),
    "small, one head of 20": (
        "feature-extraction",
        SMALL
        | {
            "attention_head_size": 20,
            "lsh_num_chunks_before": 2,
            "num_attention_heads": 1,
            "num_hashes": 1,
        },
    ),
}
"""Task and config of each model, by a readable name."""


def checkpoint(name: str, place: Place) -> Path:
    """The folder of a model's checkpoint, with random weights that reveal errors."""

    def make(folder: Path) -> None:
        task, config = MODELS[name]
        model = create_model(ReformerConfig.from_hf({"model_type": "reformer", **config}), task)
        spread(model)
        save_checkpoint(model.eval(), folder)

    return _made_once(place, _stem("checkpoint", name), make)


def artifact(name: str, dtype: str, place: Place, *, cuda: Sequence[str] | None = None) -> Path:
    """An artifact with model.onnx in "fp32", "fp16" or "bf16".

    `cuda` names the GPUs that it has kernels for; the default is the GPU of this machine.
    """
    targets = (f"sm{place.capability}",) if cuda is None else tuple(cuda)
    # A rehearsal runs on the CPU, which needs no kernels.
    options: dict[str, Any] = {"cuda": targets} if targets and not place.rehearsal else {}

    def make(folder: Path) -> None:
        task, _ = MODELS[name]
        to_onnx(checkpoint(name, place), folder, verify=False, task=task, dtype=dtype, **options)

    return _made_once(place, _stem("artifact", name, dtype, *targets), make)


@cache
def loaded(name: str, dtype: str, place: Place) -> LoadedModel:
    """A model on the CPU, in a type given by its short name."""
    from reformer_export.source import load_source

    return load_source(checkpoint(name, place), task=MODELS[name][0], dtype=dtype)


def on(device: str, model: LoadedModel) -> LoadedModel:
    """A copy of the model on a device; for the CPU the model itself."""
    if device == "cpu":
        return model
    return dataclasses.replace(model, model=copy.deepcopy(model.model).to(device))


def runner(model: LoadedModel, dtype: str, device: str, *, ops: Choice = "auto") -> TorchRunner:
    """The model in torch on a device; `ops` "portable" runs no kernel of ours.

    `dtype` sets the type of its outputs.
    """
    return TorchRunner(on(device, model), signature(model, dtype), ops, parse_device(device))


def signature(model: LoadedModel, dtype: str) -> Signature:
    """The inputs and outputs of the model. NumPy has no bf16, so such outputs are fp32."""
    return signature_of(model, ExportOptions(dtype="fp16" if dtype == "fp16" else "fp32"))


def _stem(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() else "_" for c in word) for word in words)


def _made_once(place: Place, stem: str, make: Callable[[Path], None]) -> Path:
    """A folder in the shared scratch, made by the first process that needs it."""
    folder = place.scratch / "made" / stem
    folder.parent.mkdir(exist_ok=True)
    with open(folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder
