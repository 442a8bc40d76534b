"""Training: losses and gradients equal to those of Transformers, new models, saved checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from reformer_models.errors import CheckpointError, ConfigError, InputShapeError
from reformer_models.layers.embeddings import AxialPositionEmbeddings
from reformer_models.loading import load_model
from reformer_models.tasks import TASKS
from reformer_models.training.creating import create_model
from reformer_models.training.losses import IGNORED, language_model_loss
from reformer_models.training.saving import save_checkpoint
from reformer_ops.training import choice as training

from .reformers import ours, save_small, theirs, token_ids
from .training import FITTING, NO_DROPOUT, assert_close, loss_and_gradients, small_config

LONGEST = 128
"""Transformers trains with axial positions only at this length, the product of their shape."""


@pytest.fixture
def pair() -> tuple[Any, Any]:
    model = theirs("text-generation", **small_config().to_hf())
    return model, ours(model).model.train()


@pytest.mark.parametrize("layers", [["local"], ["lsh"], ["local", "lsh", "lsh", "local"]])
@pytest.mark.parametrize("changes", [{}, FITTING], ids=["torch", "native"])
def test_gradients_are_those_of_transformers(
    layers: list[str], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SMALLEST", 0)
    model = theirs("text-generation", **small_config(attn_layers=layers, **changes).to_hf())
    mine = ours(model).model.train()
    ids = token_ids(2, LONGEST, 40)
    mask = torch.ones_like(ids)
    mask[1, 100:] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    loss, found = loss_and_gradients(mine, ids, attention_mask=mask)
    model.train()
    result = model(input_ids=ids, attention_mask=mask, labels=labels)
    result.loss.backward()
    torch.testing.assert_close(loss, result.loss.detach(), rtol=1e-5, atol=0)
    named = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    named.pop("lm_head.bias", None)  # transformers 4 trains it, 5 does not
    assert_close(found, named, 1e-4)


def test_the_loss_in_pieces_is_the_loss() -> None:
    ids = token_ids(2, 60, 40)
    labels = ids.clone()
    labels[:, 20:30] = IGNORED
    whole, expected = loss_and_gradients(create_model(small_config()), ids, labels)
    model = create_model(small_config(chunk_size_lm_head=16))
    pieces, found = loss_and_gradients(model, ids, labels)
    torch.testing.assert_close(pieces, whole)
    assert_close(found, expected, 1e-5)
    each = language_model_loss(model, ids, labels, reduction="none")
    assert each.shape == (2, 59)
    assert (each == 0).sum() == 20
    total = language_model_loss(model, ids, labels, reduction="sum")
    torch.testing.assert_close(total / (2 * 49), whole)
    torch.testing.assert_close(each.sum(), total)


def test_the_loss_of_masked_tokens_is_that_of_transformers() -> None:
    config = small_config(is_decoder=False).to_hf()
    model = theirs("fill-mask", **config)
    ids = token_ids(2, 60, 40)
    labels = ids.masked_fill(token_ids(2, 60, 3, seed=1) > 0, IGNORED)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss
        found = language_model_loss(ours(model).model, ids, labels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_losses_that_cannot_be() -> None:
    model = create_model(small_config())
    ids = token_ids(1, 8, 40)
    with pytest.raises(InputShapeError, match="at least 2 tokens"):
        language_model_loss(model, ids[:, :1])
    with pytest.raises(InputShapeError, match=r"\[1, 8\]; found \[1, 7\]"):
        language_model_loss(model, ids, ids[:, 1:])
    with pytest.raises(ConfigError, match="reduction must be"):
        language_model_loss(model, ids, reduction="median")
    with pytest.raises(ConfigError, match="TextClassification"):
        language_model_loss(create_model(small_config(), "text-classification"), ids)
    with pytest.raises(ConfigError, match="needs labels"):
        language_model_loss(create_model(small_config(is_decoder=False), "fill-mask"), ids)
    with pytest.raises(ConfigError, match="unknown task 'translation'"):
        create_model(small_config(), "translation")


def test_new_models_are_initialised_as_transformers_does() -> None:
    config = small_config(hidden_size=64, axial_pos_embds_dim=[16, 48], vocab_size=500)
    mine = create_model(config).state_dict()
    other = transformers.ReformerModelWithLMHead(transformers.ReformerConfig(**config.to_hf()))
    for name, expected in other.state_dict().items():
        if name in mine and expected.numel() > 500:
            found = mine[name]
            assert abs(found.mean() - expected.mean()) < 0.1 * (expected.std() + 0.1), name
            assert 0.8 < found.std() / expected.std() < 1.25, name
        elif name in mine and expected.ndim == 1:
            assert torch.equal(mine[name], expected), name
    again = create_model(config).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in mine.items())
    other_seed = create_model(config, seed=1).state_dict()
    assert not torch.equal(other_seed["lm_head.decoder.weight"], mine["lm_head.decoder.weight"])


def test_rotations_are_drawn_as_the_config_says() -> None:
    ids = token_ids(1, 120, 40)

    def losses(hash_seed: int | None, train: bool) -> list[float]:
        model = create_model(small_config(hash_seed=hash_seed, initializer_range=0.5))
        model.train(train)
        with torch.no_grad():
            return [language_model_loss(model, ids).item() for _ in range(3)]

    assert len(set(losses(None, train=True))) == 3
    assert len(set(losses(None, train=False))) == 1
    assert len(set(losses(5, train=True))) == 1
    assert losses(5, train=False) == losses(5, train=True)


def test_dropout_is_for_training_only(pair: tuple[Any, Any]) -> None:
    _, fixed = pair
    model = create_model(small_config(**dict.fromkeys(NO_DROPOUT, 0.5)))
    model.load_state_dict(fixed.state_dict())
    ids = token_ids(1, 40, 40)
    with torch.no_grad():
        expected = language_model_loss(fixed, ids)
        assert language_model_loss(model, ids) != language_model_loss(model, ids)
        assert language_model_loss(model.eval(), ids) == expected


def test_dropout_of_axial_positions_takes_whole_coordinates() -> None:
    torch.manual_seed(0)
    embeddings = AxialPositionEmbeddings(small_config(hidden_dropout_prob=0.5))
    encoded = embeddings(torch.arange(LONGEST), batch=3)
    assert encoded.shape == (3, LONGEST, 12)
    by_coordinate = encoded.unflatten(1, (8, 16))  # the axes
    dropped = (by_coordinate == 0).all(dim=(1, 3))
    assert 0 < dropped.sum() < dropped.numel()
    torch.testing.assert_close(
        by_coordinate.movedim(2, 1)[~dropped],
        torch.full((), 2.0).expand(int((~dropped).sum()), 8, 12),
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_saved_model_is_the_same_in_transformers(task: str, tmp_path: Path) -> None:
    causal = task == "text-generation"
    model = create_model(small_config(is_decoder=causal, initializer_range=0.3), task).eval()
    save_checkpoint(model, tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    other = getattr(transformers, TASKS[task])
    other, report = other.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    ids = token_ids(2, 60, 40)
    with torch.no_grad():
        found = model(ids)
        expected = other.eval()(input_ids=ids)
        loaded = load_model(tmp_path / "saved").model(ids)
    for name, tensor in found.items():
        torch.testing.assert_close(expected[name], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(loaded[name], tensor)


def test_there_and_back_again_nothing_changes(tmp_path: Path) -> None:
    model = save_small(tmp_path / "theirs", "text-generation")
    save_checkpoint(load_model(tmp_path / "theirs").model, tmp_path / "ours")
    again = transformers.ReformerModelWithLMHead.from_pretrained(tmp_path / "ours")
    ids = token_ids(2, 60, 40)
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, model(ids).logits)
    before, after = (
        json.loads((tmp_path / n / "config.json").read_text()) for n in ("theirs", "ours")
    )
    shared = before.keys() & after.keys() - {"transformers_version"}
    assert len(shared) > 20
    assert {k: before[k] for k in shared} == {k: after[k] for k in shared}


@pytest.mark.parametrize("hash_seed", [None, 4])
def test_a_saved_model_goes_on_training_as_before(hash_seed: int | None, tmp_path: Path) -> None:
    model = create_model(small_config(hash_seed=hash_seed))
    save_checkpoint(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hash_seed"] == hash_seed
    loaded = load_model(tmp_path).model.train()
    ids = token_ids(2, 60, 40)
    loss, expected = loss_and_gradients(model, ids)
    again, found = loss_and_gradients(loaded, ids)
    assert loss == again
    assert_close(found, expected, 0)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="can't write a checkpoint to"):
        save_checkpoint(create_model(small_config()), tmp_path / "file")


def test_a_small_model_learns() -> None:
    model = create_model(small_config(**dict.fromkeys(NO_DROPOUT, 0.02), hash_seed=None))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    ids = torch.arange(60).remainder(7).expand(4, -1)
    torch.manual_seed(0)
    losses = []
    for _ in range(60):
        loss = language_model_loss(model, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3
    assert losses[-1] < 0.5
