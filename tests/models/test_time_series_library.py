"""Checkpoints of Time-Series-Library, held against its model with reformer-pytorch's attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from reformer_models.checkpoints import open_checkpoint
from reformer_models.checkpoints.sources.time_series_library import CONFIG_FILE, Arguments
from reformer_models.errors import CheckpointError, ConfigError, InputShapeError
from reformer_models.layers.time_series import TimeSeriesReformer
from reformer_models.loading import load_model
from reformer_models.training.time_series import create_time_series_model, save_time_series_model

from ..tools.time_series_library import SMALL, arguments, build, example, inject, save

VARIANTS: Mapping[str, Arguments] = {
    "long-term forecast": SMALL,
    "without times": arguments(time_marks=False),
    "fixed tables of the time": arguments(embed="fixed"),
    "learned tables of the time": arguments(embed="learned", freq="t"),
    "monthly": arguments(freq="m"),
    "short-term forecast": arguments(task_name="short_term_forecast", c_out=3),
    "imputation": arguments(task_name="imputation"),
    "anomaly detection": arguments(task_name="anomaly_detection"),
    "ReLU": arguments(activation="relu"),
    "wide heads": arguments(d_model=64, n_heads=2, e_layers=3, n_hashes=4),
    "larger buckets": arguments(bucket_size=8),
}


def difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: Arguments, length: int
) -> float:
    """The largest difference between both models' outputs, as a share of the largest output."""
    model = build(given)
    multiple = 2 * given.bucket_size
    padded = length + given.config.horizon + -(length + given.config.horizon) % multiple
    loaded = load_model(save(folder, model), num_buckets=padded // given.bucket_size)
    inputs = example(given, length)
    inject(loaded, monkeypatch)
    with torch.no_grad():
        expected = model(*inputs)
        (found,) = loaded.model(*inputs).values()
    assert found.shape == expected.shape
    share: float = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{length} steps: {share:.1e} of the scale")
    return share


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_those_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    assert difference(tmp_path / "model", monkeypatch, VARIANTS[variant], 24) <= 1e-4


@pytest.mark.parametrize("length", range(1, 25))
def test_every_length_is_padded_as_in_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    given = arguments(task_name="imputation")
    assert difference(tmp_path / "model", monkeypatch, given, length) <= 1e-4


def test_the_number_of_buckets_is_that_of_the_training(tmp_path: Path) -> None:
    loaded = load_model(save(tmp_path / "model", build(SMALL)))
    assert loaded.task == "time-series"
    assert loaded.config.num_buckets == (10,)  # 24 + 12 steps, padded to 40, in chunks of 4
    recognised, buckets, seed = loaded.notes
    assert recognised.endswith("is read as a Reformer in Time-Series-Library.")
    assert buckets.startswith("num_buckets is 10, which reformer-pytorch uses for 24 steps")
    assert seed.startswith("hash_seed was not set")


@pytest.mark.parametrize("file", ["checkpoint.pth", "pytorch_model.bin"])
def test_names_may_have_a_prefix(tmp_path: Path, file: str) -> None:
    model = build(SMALL)
    expected = load_model(save(tmp_path / "plain", model)).model.state_dict()
    folder = save(tmp_path / "prefixed", model)
    (folder / "checkpoint.pth").unlink()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, folder / file)
    found = load_model(folder).model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_lengths_beyond_the_positions_are_refused(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "model", build(SMALL))).model
    with pytest.raises(InputShapeError, match="takes 1 to 4988 steps; got 4989"):
        model(*example(SMALL, 4989, batch=1))


REFUSED: Mapping[str, object] = {
    "model": "Autoformer",
    "task_name": "classification",
    "embed": "none",
    "freq": "15min",
    "activation": "silu",
    "d_model": 33,
    "pred_len": 0,
    "seq_len": 4989,
    "enc_in": "3",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_our_model_lacks_is_refused_by_name_and_value(tmp_path: Path, option: str) -> None:
    folder = save(tmp_path / "model", build(SMALL))
    raw = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**raw, option: REFUSED[option]}))
    named = "sequence_length" if option == "seq_len" else option
    with pytest.raises(ConfigError, match=f"{named} must be .* found {REFUSED[option]!r}"):
        open_checkpoint(folder)


def test_unknown_arguments_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(SMALL))
    raw = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**raw, "n_head": 4}))
    with pytest.raises(ConfigError, match="'n_head': no argument of Reformer in Time-Series"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("e_layers", 3, "the weights lack encoder.attn_layers.2."),
        ("e_layers", 1, "the weights have encoder.attn_layers.1."),
        ("embed", "fixed", "the weights lack enc_embedding.temporal_embedding.day_embed.emb"),
        ("d_ff", 47, r"up.dense.weight is \[48, 32\], but its time_series_library.json asks"),
    ],
)
def test_arguments_and_weights_that_disagree(
    tmp_path: Path, option: str, value: object, message: str
) -> None:
    folder = save(tmp_path / "model", build(SMALL))
    raw = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**raw, option: value}))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(SMALL))
    with pytest.raises(ConfigError, match="TimeSeriesReformer, which is not for fill-mask"):
        load_model(folder, task="fill-mask")
    with pytest.raises(ConfigError, match="weights of fewer bits are for models of tokens"):
        load_model(folder, weights="int8")


def test_weights_that_are_code_are_not_run(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(SMALL))
    torch.save(build(SMALL), folder / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth"):
        load_model(folder)


@pytest.mark.parametrize("variant", ["long-term forecast", "fixed tables of the time"])
def test_a_model_learns_and_is_saved_with_the_names_of_the_library(
    tmp_path: Path, variant: str
) -> None:
    given = VARIANTS[variant]
    model = create_time_series_model(given)
    inputs = example(given, 24)
    target = torch.randn((3, 12, 2), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = (model(*inputs)["forecast"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    save_time_series_model(model, tmp_path / "model", given)
    loaded = load_model(tmp_path / "model").model
    assert isinstance(loaded, TimeSeriesReformer)
    with torch.no_grad():
        expected, found = model.eval()(*inputs)["forecast"], loaded(*inputs)["forecast"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = open_checkpoint(tmp_path / "model").weights.read()
    build(given).load_state_dict(weights, strict=True)
