"""The model `Reformer` of Time-Series-Library, stated again around reformer-pytorch's attention."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from reformer_models.checkpoints.sources.time_series_library import CONFIG_FILE, Arguments
from reformer_models.layers.attention import LSHSelfAttention
from reformer_models.layers.time_series import sinusoids
from reformer_models.loading import LoadedModel

reformer_pytorch = pytest.importorskip(
    "reformer_pytorch", reason="reformer-pytorch is not installed"
)

SMALL = Arguments(
    "long_term_forecast",
    seq_len=24,
    pred_len=12,
    enc_in=3,
    c_out=2,
    d_model=32,
    n_heads=2,
    d_ff=48,
    n_hashes=2,
)


def arguments(**changes: Any) -> Arguments:
    """`SMALL` with other values."""
    return dataclasses.replace(SMALL, **changes)


class Holder(nn.Module):
    """A module that holds others under names of its own."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class Model(nn.Module):
    """The library's model: names of parameters and numbers are the library's."""

    def __init__(self, given: Arguments) -> None:
        super().__init__()
        self.given, size = given, given.d_model
        conv = nn.Conv1d(given.enc_in, size, 3, padding=1, padding_mode="circular", bias=False)
        position = nn.Module()
        position.register_buffer("pe", sinusoids(5000, size)[None])
        if given.embed == "timeF":
            features = {"h": 4, "t": 5, "s": 6, "m": 1, "a": 1, "w": 2, "d": 3, "b": 3}
            time = Holder(embed=nn.Linear(features[given.freq], size, bias=False))
        else:
            time = Holder(**{f"{name}_embed": self._table(n) for name, n in given.tables.items()})
        self.enc_embedding = Holder(
            value_embedding=Holder(tokenConv=conv),
            position_embedding=position,
            temporal_embedding=time,
        )
        self.encoder = Holder(
            attn_layers=nn.ModuleList(self._layer() for _ in range(given.e_layers)),
            norm=nn.LayerNorm(size),
        )
        self.projection = nn.Linear(size, given.c_out)

    def _table(self, rows: int) -> nn.Module:
        table = nn.Embedding(rows, self.given.d_model)
        return Holder(emb=table) if self.given.embed == "fixed" else table

    def _layer(self) -> Holder:
        given, size = self.given, self.given.d_model
        attention = reformer_pytorch.LSHSelfAttention(
            size, heads=given.n_heads, bucket_size=given.bucket_size, n_hashes=given.n_hashes
        )
        return Holder(
            attention=Holder(attn=attention),
            conv1=nn.Conv1d(size, given.d_ff, 1),
            conv2=nn.Conv1d(given.d_ff, size, 1),
            norm1=nn.LayerNorm(size),
            norm2=nn.LayerNorm(size),
        )

    def forward(self, series: torch.Tensor, marks: torch.Tensor | None = None) -> torch.Tensor:
        """Marks are those of the series and of the horizon together."""
        given: Any = self.given
        mean = deviation = None
        if given.task_name == "short_term_forecast":
            mean = series.mean(1, keepdim=True)
            series = series - mean
            deviation = torch.sqrt(series.var(1, keepdim=True, unbiased=False) + 1e-5)
            series = series / deviation
        if given.task_name.endswith("forecast"):
            series = functional.pad(series, (0, 0, 0, given.pred_len))
        hidden = self._embedded(series, marks)
        encoder: Any = self.encoder
        for layer in encoder.attn_layers:
            hidden = self._through(layer, hidden)
        outputs = self.projection(encoder.norm(hidden))
        if deviation is not None:
            outputs = outputs * deviation + mean
        return outputs[:, -given.pred_len :] if given.task_name.endswith("forecast") else outputs

    def _embedded(self, series: torch.Tensor, marks: torch.Tensor | None) -> torch.Tensor:
        embedding: Any = self.enc_embedding
        hidden = embedding.value_embedding.tokenConv(series.transpose(1, 2)).transpose(1, 2)
        hidden = hidden + embedding.position_embedding.pe[:, : series.shape[1]]
        if marks is None:
            return hidden
        time = embedding.temporal_embedding
        if self.given.embed == "timeF":
            return hidden + time.embed(marks)
        for place, name in enumerate(self.given.tables):
            table = getattr(time, f"{name}_embed")
            hidden = hidden + getattr(table, "emb", table)(marks[..., place].long())
        return hidden

    def _through(self, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        length, multiple = hidden.shape[1], 2 * self.given.bucket_size
        filled = functional.pad(hidden, (0, 0, 0, -length % multiple))
        hidden = layer.norm1(hidden + layer.attention.attn(filled)[:, :length])
        act = functional.gelu if self.given.activation == "gelu" else functional.relu
        fed = layer.conv2(act(layer.conv1(hidden.transpose(1, 2)))).transpose(1, 2)
        return layer.norm2(hidden + fed)


def build(given: Arguments) -> Model:
    """A model with parameters that training could have left."""
    torch.manual_seed(0)
    model = Model(given)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".bias", "norm.weight", "norm1.weight", "norm2.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def save(folder: Path, model: Model, file: str = "checkpoint.pth") -> Path:
    """Write a checkpoint as a user of the library does."""
    folder.mkdir(exist_ok=True)
    torch.save(model.state_dict(), folder / file)
    described = {"model": "Reformer", "is_training": 1, **dataclasses.asdict(model.given)}
    (folder / CONFIG_FILE).write_text(json.dumps(described))
    return folder


def example(given: Arguments, length: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    """Random inputs of our model: a series and, for a model that takes them, time features."""
    generator = torch.Generator().manual_seed(length)
    series = torch.randn((batch, length, given.enc_in), generator=generator).cumsum(1)
    if not given.marked:
        return (series,)
    config = given.config
    steps = length + config.horizon
    shape = (batch, steps, config.time_features)
    if not config.time_tables:
        return series, torch.rand(shape, generator=generator) - 0.5
    sizes = torch.tensor(config.time_tables)
    return series, (torch.rand(shape, generator=generator) * sizes).floor()


def inject(
    loaded: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    rotations: Mapping[int, torch.Tensor] | None = None,
) -> None:
    """Let reformer-pytorch's next forward pass draw the rotations of our model, layer by layer.

    The package draws one tensor for all heads, `[1, dim_head, hashes, buckets / 2]`. So every layer
    of our model first gets one for all its heads, which is another in every layer; `rotations` are
    those of a model with one head, which stay.
    """
    if rotations is None:
        for layer in loaded.model.modules():
            if isinstance(layer, LSHSelfAttention):
                one = torch.randn_like(layer.rotations[:1])
                layer.rotations = one.expand_as(layer.rotations).contiguous()
    in_order = iter((rotations or loaded.rotations).values())

    def randn(shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        drawn = next(in_order)[:1]
        assert drawn.shape == shape
        return drawn

    monkeypatch.setattr(torch, "randn", randn)
