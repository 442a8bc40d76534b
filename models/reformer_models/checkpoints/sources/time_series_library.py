"""Checkpoints of the model `Reformer` from Time-Series-Library (thuml).

The library saves only weights, so the user writes the arguments of run.py beside them, in
time_series_library.json: `{"model": "Reformer", "task_name": ..., ...}`; docs/sources.md shows how.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.layout import WEIGHT_FILES
from reformer_models.checkpoints.sources.arguments import read_arguments
from reformer_models.checkpoints.sources.base import Described, Source, Tensors
from reformer_models.checkpoints.sources.state import check_tensors, without_prefix
from reformer_models.config import ReformerConfig, TimeSeriesConfig
from reformer_models.config.fields import (
    check_fields,
    flag,
    integer,
    number,
    one_of,
    refuse,
    setting,
)
from reformer_models.errors import CheckpointError, some
from reformer_models.tasks import ALL_TASKS, TIME_SERIES

if TYPE_CHECKING:
    import torch

_MODEL: Final = "Reformer"
CONFIG_FILE: Final = "time_series_library.json"

FORECASTS: Final = ("long_term_forecast", "short_term_forecast")
_WITH_MARKS: Final = ("long_term_forecast", "imputation")
_TASKS: Final = frozenset({*FORECASTS, "imputation", "anomaly_detection"})

_POSITIONS: Final = 5000
"""The rows of the library's table of positions."""

_LAYER_NORM_EPS: Final = 1e-5
"""What the library computes with: torch.nn.LayerNorm's default."""

_TABLES: Final = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}
"""The tables of the time, in the order of the features, and their sizes."""

_TIME_FEATURES: Final = {"h": 4, "t": 5, "s": 6, "m": 1, "a": 1, "w": 2, "d": 3, "b": 3}
"""The real numbers that describe a time, by the frequency of the series."""

# Further arguments of run.py: of other models, of the data, of training.
_OTHERS: Final = (
    "alpha anomaly_ratio augmentation_ratio batch_size channel_independence checkpoints "
    "conv_channel d_conv d_layers data data_path dec_in decomp_method des device device_ids "
    "devices discdtw discsdtw distil down_sampling_layers down_sampling_method "
    "down_sampling_window drop_cols dtwwarp expand extra_tag factor features file_split_mode "
    "gcn_depth gcn_dropout gpu gpu_type individual inverse is_training itr jitter label_col "
    "label_len learning_rate loss lradj magwarp mask_rate model_id moving_avg node_dim "
    "num_kernels num_workers p_hidden_dims p_hidden_layers patch_len patience permutation "
    "pos propalpha randompermutation root_path rotation scaling seasonal_patterns seed "
    "seg_len skip_channel spawner target timewarp top_k top_p train_epochs train_ratio tv_B "
    "tv_dt tv_C use_D use_amp use_class_weights use_dtw use_gpu use_multi_gpu use_norm "
    "val_ratio wdba window_label_mode window_step windowslice windowwarp"
)
_WITHOUT_EFFECT: Final = frozenset(_OTHERS.split())


@dataclass(frozen=True)
class Arguments:
    """The arguments of run.py that the model depends on, with its defaults; the first has none.

    `bucket_size` and `n_hashes` are arguments of the model's class. `time_marks` is our own: False
    for a model that was trained without the times of the steps.

    Raises:
        ConfigError: A value is invalid, or our model can't express what it asks for.
    """

    task_name: str = setting("", one_of(_TASKS, kind="a task whose model is read here"))
    seq_len: int = setting(96, integer(1))
    pred_len: int = setting(96, integer(0))
    enc_in: int = setting(7, integer(1))
    c_out: int = setting(7, integer(1))
    d_model: int = setting(512, integer(1))
    n_heads: int = setting(8, integer(1))
    e_layers: int = setting(2, integer(1))
    d_ff: int = setting(2048, integer(1))
    dropout: float = setting(0.1, number(0, 1))
    embed: str = setting("timeF", one_of(frozenset({"timeF", "fixed", "learned"}), kind="a kind"))
    freq: str = setting("h", one_of(frozenset(_TIME_FEATURES), kind="a frequency"))
    activation: str = setting("gelu", one_of(frozenset({"gelu", "relu"}), kind="a function"))
    bucket_size: int = setting(4, integer(1))
    n_hashes: int = setting(4, integer(1))
    time_marks: bool = setting(True, flag)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.d_model % self.n_heads:
            refuse("d_model", f"a multiple of n_heads = {self.n_heads}", self.d_model)
        if self.task_name in FORECASTS and self.pred_len == 0:
            refuse("pred_len", f"at least 1 for {self.task_name}", self.pred_len)

    @property
    def marked(self) -> bool:
        """True if the model takes the times of the steps."""
        return self.time_marks and self.task_name in _WITH_MARKS

    @property
    def tables(self) -> dict[str, int]:
        """The tables of the times and their sizes; empty if times are real numbers."""
        if self.embed == "timeF":
            return {}
        return {
            name: size for name, size in _TABLES.items() if name != "minute" or self.freq == "t"
        }

    @property
    def config(self) -> TimeSeriesConfig:
        """The configuration of our model."""
        tables = tuple(self.tables.values()) if self.marked else ()
        features = len(tables) if tables else _TIME_FEATURES[self.freq]
        encoder = ReformerConfig(
            attention_head_size=self.d_model // self.n_heads,
            attention_output_bias=True,
            attn_layers=("lsh",) * self.e_layers,
            axial_pos_embds=False,
            feed_forward_size=self.d_ff,
            hidden_act=self.activation,
            hidden_dropout_prob=self.dropout,
            hidden_size=self.d_model,
            layer_norm_eps=_LAYER_NORM_EPS,
            lsh_attn_chunk_length=self.bucket_size,
            max_position_embeddings=_POSITIONS,
            num_attention_heads=self.n_heads,
            num_hashes=self.n_hashes,
        )
        return TimeSeriesConfig(
            encoder=encoder,
            channels=self.enc_in,
            output_channels=self.c_out,
            sequence_length=self.seq_len,
            horizon=self.pred_len if self.task_name in FORECASTS else 0,
            normalise=self.task_name == "short_term_forecast",
            time_features=features if self.marked else 0,
            time_tables=tables,
        )


def _describe(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Described:
    if raw.get("model") != _MODEL:
        refuse("model", f"{_MODEL!r}, whose weights are read here", raw.get("model"))
    given = {
        name: value
        for name, value in raw.items()
        if name != "model" and name not in _WITHOUT_EFFECT
    }
    owner = f"{_MODEL} in Time-Series-Library"
    arguments = read_arguments(Arguments, given, ignore_keys, required=("task_name",), owner=owner)
    return Described(
        arguments.config,
        ALL_TASKS[TIME_SERIES],
        translated=lambda tensors: _translated(tensors, arguments),
        notes=(f"{CONFIG_FILE} was found: the checkpoint is read as a {owner}.",),
    )


# The tensors of a layer: the library's name and ours.
_LAYER: Final = {
    "attention.attn.toqk.weight": "attention.query_key.weight",
    "attention.attn.tov.weight": "attention.value.weight",
    "attention.attn.to_out.weight": "output.dense.weight",
    "attention.attn.to_out.bias": "output.dense.bias",
    "conv1.weight": "up.dense.weight",
    "conv1.bias": "up.dense.bias",
    "conv2.weight": "down.dense.weight",
    "conv2.bias": "down.dense.bias",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "norm2.weight": "feed_forward_norm.weight",
    "norm2.bias": "feed_forward_norm.bias",
}
_VALUES: Final = "enc_embedding.value_embedding.tokenConv.weight"
_OUTSIDE_LAYERS: Final = {
    _VALUES: "reformer.embeddings.values.weight",
    "enc_embedding.position_embedding.pe": "reformer.embeddings.positions",
    "encoder.norm.weight": "reformer.encoder.layer_norm.weight",
    "encoder.norm.bias": "reformer.encoder.layer_norm.bias",
    "projection.weight": "projection.weight",
    "projection.bias": "projection.bias",
}
_TIME: Final = "enc_embedding.temporal_embedding."


def _names(arguments: Arguments) -> Iterator[tuple[str, str]]:
    """The library's name and ours of all tensors of our model."""
    yield from _OUTSIDE_LAYERS.items()
    for layer in range(arguments.e_layers):
        for theirs, ours in _LAYER.items():
            yield f"encoder.attn_layers.{layer}.{theirs}", f"reformer.encoder.layers.{layer}.{ours}"
    if arguments.marked and not arguments.tables:
        yield f"{_TIME}embed.weight", "reformer.embeddings.time.weight"
    elif arguments.marked:
        inner = "emb.weight" if arguments.embed == "fixed" else "weight"
        for place, name in enumerate(arguments.tables):
            yield f"{_TIME}{name}_embed.{inner}", f"reformer.embeddings.time.{place}.weight"


def _translated(tensors: Tensors, arguments: Arguments) -> Tensors:
    tensors = without_prefix(tensors, _VALUES)
    names = dict(_names(arguments))
    # A model that is used without times has weights for them, too.
    model = f"a {_MODEL} with the arguments in {CONFIG_FILE}"
    check_tensors(tensors, names, unread=(_TIME,), model=model)
    return {
        ours: _to_ours(theirs, tensors[theirs].float(), arguments) for theirs, ours in names.items()
    }


def _to_ours(name: str, tensor: torch.Tensor, arguments: Arguments) -> torch.Tensor:
    """A tensor of the library in the shape and scale of our model; its inverse is `_to_theirs`."""
    if name == _VALUES and tensor.dim() == 3:  # [hidden, channels, 3]
        return tensor.transpose(1, 2).flatten(1)
    if name.endswith(("conv1.weight", "conv2.weight")) and tensor.shape[-1] == 1:
        return tensor.squeeze(-1)  # a convolution of width 1 is a linear layer
    if name.endswith("position_embedding.pe") and tensor.dim() == 3:
        return tensor[0]
    if name.endswith("toqk.weight"):
        # Scores of reformer-pytorch have one factor more. A scaled query has the same buckets.
        return tensor * arguments.config.encoder.attention_head_size**-0.5
    return tensor


def _to_theirs(name: str, tensor: torch.Tensor, arguments: Arguments) -> torch.Tensor:
    if name == _VALUES:
        return tensor.unflatten(1, (3, arguments.enc_in)).transpose(1, 2)
    if name.endswith(("conv1.weight", "conv2.weight")):
        return tensor.unsqueeze(-1)
    if name.endswith("position_embedding.pe"):
        return tensor[None]
    if name.endswith("toqk.weight"):
        return tensor * arguments.config.encoder.attention_head_size**0.5
    return tensor


def library_tensors(state: Tensors, arguments: Arguments) -> Tensors:
    """The state dict of our model with the library's names and values.

    Raises:
        CheckpointError: A tensor is missing: `arguments` are of another model.
    """
    names = dict(_names(arguments))
    if missing := sorted(set(names.values()) - state.keys()):
        raise CheckpointError(
            f"the model lacks {some(missing)}, which its arguments ask for: give the arguments it "
            "was made with"
        )
    return {
        theirs: _to_theirs(theirs, state[ours].detach(), arguments).contiguous()
        for theirs, ours in names.items()
    }


TIME_SERIES_LIBRARY: Final = Source(
    "time-series-library", CONFIG_FILE, _describe, (*WEIGHT_FILES, "checkpoint.pth")
)
