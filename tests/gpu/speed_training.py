"""Times a training step (the loss of one sequence and its gradients) beside Transformers'."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from typing import Any

import torch

from reformer_models.config import ReformerConfig
from reformer_models.training.creating import create_model
from reformer_models.training.losses import language_model_loss

from . import fixtures, timing
from .needs import first_missing
from .record import Place, Record

TABLE = "A training step without dropout"
STEPS = {"c&p fp32": 16384, "c&p bf16": 16384, "enwik8 cut fp32": 4096}
"""Model, type of its products (bf16 by autocast), and tokens: the square of a power of two."""

SECONDS = 0.3

_NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
}
_FAILS = "fails"


def measure(name: str, dtype: str, length: int, record: Record, place: Place) -> None:
    """Time and memory, ours and Transformers'. The case fails only if ours fails."""
    config = _config(name, length)
    ids = torch.randint(
        config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0)
    ).to(place.device)
    row = f"{name} {dtype}, {length:,} tokens"
    with torch.enable_grad():
        record.cell(TABLE, row, **_figures("ours", *_ours(config, ids, dtype, place), place))
        torch.cuda.empty_cache()
        if reason := first_missing(["transformers"]):
            record.cell(TABLE, row, **{"Transformers, ms": reason})
            return
        try:
            theirs = _transformers(config, ids, dtype, place)
            figures = _figures("Transformers", *theirs, place)
        except Exception:  # it fails in half types, which is not an error of ours
            traceback.print_exc()
            figures = {"Transformers, ms": _FAILS}
        record.cell(TABLE, row, **figures)


def _config(name: str, length: int) -> ReformerConfig:
    """The model's config for `length` tokens: Transformers trains axial positions at no other."""
    side = int(length**0.5)
    if side * side != length:
        raise ValueError(f"{length} tokens are no square")
    _, config = fixtures.MODELS[name]
    sizes = {"axial_pos_shape": [side, side], "max_position_embeddings": length}
    return ReformerConfig.from_hf({"model_type": "reformer", **config, **sizes, **_NO_DROPOUT})


def _figures(who: str, model: Any, loss: Callable[[], Any], place: Place) -> dict[str, Any]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    on_gpu = place.device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    figures: dict[str, Any] = {
        f"{who}, ms": timing.by_clock(step, place.device, seconds=SECONDS, least=3, warm_up=2)
    }
    if on_gpu:
        figures[f"{who}, MB at most"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return figures


def _ours(
    config: ReformerConfig, ids: torch.Tensor, dtype: str, place: Place
) -> tuple[Any, Callable[[], Any]]:
    model = create_model(config).to(place.device).train()

    def loss() -> Any:
        with _autocast(dtype, place):
            return language_model_loss(model, ids)

    return model, loss


def _transformers(
    config: ReformerConfig, ids: torch.Tensor, dtype: str, place: Place
) -> tuple[Any, Callable[[], Any]]:
    import transformers

    given: Any = config.to_hf()
    made = transformers.ReformerConfig(**given)
    model: Any = transformers.ReformerModelWithLMHead(made)
    model = model.to(place.device).train()

    def loss() -> Any:
        with _autocast(dtype, place):
            return model(input_ids=ids, labels=ids).loss

    return model, loss


def _autocast(dtype: str, place: Place) -> contextlib.AbstractContextManager[Any]:
    if dtype == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(place.device, dtype={"bf16": torch.bfloat16}[dtype])
