"""Models of the package reformer-pytorch, and checkpoints of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_models.layers.attention import LSHSelfAttention
from reformer_models.loading import LoadedModel

reformer_pytorch = pytest.importorskip(
    "reformer_pytorch", reason="reformer-pytorch is not installed"
)

BUCKET = 8
HEADS = 2
BASE: Mapping[str, object] = {
    "num_tokens": 50,
    "dim": 32,
    "depth": 3,
    "max_seq_len": 8 * BUCKET,
    "heads": HEADS,
    "dim_head": 16,
    "bucket_size": BUCKET,
    "n_hashes": 2,
    "ff_chunks": 2,
    "causal": True,
    "absolute_position_emb": True,
}


VECTORS: Mapping[str, object] = {
    "dim": 32,
    "depth": 3,
    "max_seq_len": 8 * BUCKET,
    "heads": HEADS,
    "bucket_size": BUCKET,
    "n_hashes": 2,
    "ff_chunks": 2,
}


def build(arguments: Mapping[str, object]) -> Any:
    """A model of the package with parameters that training could have left.

    A `ReformerLM` if the arguments have a number of tokens, else a `Reformer`.
    """
    torch.manual_seed(0)
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()}
    if isinstance(activation := given.get("ff_activation"), str):
        given["ff_activation"] = getattr(torch.nn, activation)
    if "num_tokens" in given:
        model = reformer_pytorch.ReformerLM(**given)
    else:
        given.pop("max_seq_len")  # our own
        model = reformer_pytorch.Reformer(**given)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".bias", "norm.weight", ".g")):  # otherwise many are 0 or 1
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def inputs(model: Any, buckets: int) -> torch.Tensor:
    """Three random sequences for which the package computes so many buckets: tokens or vectors."""
    layers = getattr(model, "reformer", model)
    length = buckets * BUCKET - layers.num_mem_kv
    if layers is model:
        return torch.randn(3, length, model.dim)
    return torch.randint(0, 50, (3, length))


def save(folder: Path, model: Any, arguments: Mapping[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    described = {"class": type(model).__name__, **arguments}
    (folder / "reformer_pytorch.json").write_text(json.dumps(described))
    return folder


def redraw(loaded: LoadedModel, *, per_head: bool) -> None:
    """Give every layer of our model other rotations, the same for all heads or one for each."""
    for layer in loaded.model.modules():
        if isinstance(layer, LSHSelfAttention):
            shape = layer.rotations.shape if per_head else layer.rotations[:1].shape
            layer.rotations = torch.randn(shape).expand_as(layer.rotations).contiguous()


def inject(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *, per_head: bool) -> None:
    """Let the package's next forward pass draw the rotations of our model, layer by layer.

    The package draws `[rows or 1, dim_head, hashes, buckets / 2]`, where a row is one head of one
    sequence, head by head; a layer of ours has `[heads, dim_head, hashes, buckets / 2]`.
    """
    in_order = iter(loaded.rotations.values())

    def randn(shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        rotations = next(in_order)
        assert options["dtype"] == torch.float32
        rows = shape[0] // len(rotations)
        result = rotations.repeat(rows, 1, 1, 1) if per_head else rotations[:1]
        assert result.shape == shape
        return result

    monkeypatch.setattr(torch, "randn", randn)
