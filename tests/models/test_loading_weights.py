"""Weights that do not match the config, and weights that old releases of Transformers wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reformer_models.errors import CheckpointError
from reformer_models.loading import load_model

from .parity import assert_equal_outputs
from .reformers import SMALL, save_small
from .saved_models import SAFETENSORS, assert_one_line, edit_config

Weights = dict[str, torch.Tensor]


def edit_weights(folder: Path, changed: Weights, *, removed: Sequence[str] = ()) -> None:
    path = folder / SAFETENSORS
    weights = {name: t for name, t in load_file(path).items() if name not in removed}
    save_file({**weights, **changed}, path, {"format": "pt"})


def test_every_missing_tensor_is_noticed(tmp_path: Path) -> None:
    save_small(tmp_path, "question-answering", attn_layers=["local", "lsh"])
    weights = load_file(tmp_path / SAFETENSORS)
    for name in weights:
        save_file(
            {other: t for other, t in weights.items() if other != name}, tmp_path / SAFETENSORS
        )
        with pytest.raises(CheckpointError) as caught:
            load_model(tmp_path)
        if name.startswith("qa_outputs"):
            said = f"lacks {name}, needed for question-answering"
        else:
            said = f"lacks {name}: the checkpoint is incomplete or damaged"
        assert_one_line(caught.value, tmp_path, said)


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    save_small(tmp_path)
    edit_config(tmp_path, attn_layers=["local", "lsh"] * 3, num_hidden_layers=6)
    with pytest.raises(CheckpointError, match=r"lacks encoder\.layers\.4.* and \d+ more"):
        load_model(tmp_path)


def test_tensors_that_the_config_has_no_place_for(tmp_path: Path) -> None:
    name = "encoder.layers.4.attention.layer_norm.weight"
    save_small(tmp_path)
    edit_weights(tmp_path, {name: torch.zeros(3)})
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert_one_line(caught.value, tmp_path, f"holds {name}", "do not belong together")
    loaded = load_model(tmp_path, ignore_weights=["encoder.layers.4.*"])
    assert not loaded.notes


@pytest.mark.parametrize("task", ["feature-extraction", "text-generation"])
def test_a_head_of_the_user_s_own_stays_behind(tmp_path: Path, task: str) -> None:
    save_small(tmp_path, task)
    edit_weights(tmp_path, {"fc.weight": torch.zeros(3), "fc.bias": torch.zeros(1)})
    notes = load_model(tmp_path).notes
    assert "fc.bias, fc.weight left out: these are no tensors of a Reformer" in notes


@pytest.mark.parametrize("task", ["feature-extraction", "text-generation", "fill-mask"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_prefix_of_all_names(tmp_path: Path, task: str, prefix: str) -> None:
    save_small(tmp_path, task)
    expected = load_model(tmp_path)
    weights = load_file(tmp_path / SAFETENSORS)
    save_file({f"{prefix}{name}": t for name, t in weights.items()}, tmp_path / SAFETENSORS)
    edit_config(tmp_path, architectures=None)
    found = load_model(tmp_path, task=task)
    assert f"the names of the weights begin with {prefix!r}, which is left out" in found.notes
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)
    # Messages use the names of the file.
    name = f"{prefix}{next(name for name in weights if 'layer_norm' in name)}"
    edit_weights(tmp_path, {}, removed=[name])
    with pytest.raises(CheckpointError, match=f"lacks {name}: the checkpoint is incomplete"):
        load_model(tmp_path, task=task)


@pytest.mark.parametrize("task", ["text-generation", "fill-mask"])
def test_a_resized_model(tmp_path: Path, task: str) -> None:
    """After a resize, transformers 5 writes no lm_head.bias, and loads without it."""
    model = save_small(tmp_path, task)
    model.resize_token_embeddings(50)
    model.save_pretrained(tmp_path)
    assert "lm_head.bias" not in load_file(tmp_path / SAFETENSORS)
    loaded = load_model(tmp_path)
    assert any("has no lm_head.bias, which then is zero" in note for note in loaded.notes)
    assert_equal_outputs(model, loaded)


def test_long_names_are_cut(tmp_path: Path) -> None:
    save_small(tmp_path)
    edit_weights(tmp_path, {"encoder.layers.9." + "x" * 5000: torch.zeros(3)})
    with pytest.raises(CheckpointError, match="holds encoder") as caught:
        load_model(tmp_path)
    assert len(str(caught.value)) < 600


def test_layers_beyond_those_of_the_config(tmp_path: Path) -> None:
    save_small(tmp_path)
    edit_config(tmp_path, attn_layers=["local", "lsh"], num_hidden_layers=2)
    with pytest.raises(CheckpointError, match=r"holds encoder\.layers\.2.* and \d+ more"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"vocab_size": 41}, "word_embeddings.weight"),
        ({"feed_forward_size": 21}, "feed_forward.dense.dense"),
        ({"num_attention_heads": 3}, "self_attention"),
        ({"axial_pos_shape": [16, 8]}, "position_embeddings.weights.0"),
        ({"axial_pos_embds": False}, "position_embeddings.embedding.weight"),
        ({"attn_layers": ["lsh"] * 4}, "query_key.weight"),
    ],
)
def test_weights_of_another_config(changes: dict[str, Any], name: str, tmp_path: Path) -> None:
    save_small(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert_one_line(caught.value, tmp_path, name)


def test_a_mismatch_names_both_shapes(tmp_path: Path) -> None:
    save_small(tmp_path)
    edit_config(tmp_path, vocab_size=41)
    message = r"word_embeddings\.weight is \[40, 12\], but its config\.json asks for \[41, 12\]"
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_weights_that_are_no_fractions(tmp_path: Path) -> None:
    save_small(tmp_path)
    name = "encoder.layers.0.feed_forward.dense.dense.weight"
    edit_weights(tmp_path, {name: torch.ones((20, 12), dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=rf"{name} is int8"):
        load_model(tmp_path)


def test_constants_that_old_releases_stored_are_passed_over(tmp_path: Path) -> None:
    model = save_small(tmp_path, "text-generation")
    old: Weights = {"reformer.embeddings.position_ids": torch.arange(128)[None]}
    for layer, kind in enumerate(SMALL["attn_layers"]):
        place = f"reformer.encoder.layers.{layer}.attention.self_attention"
        for precision in ("float16", "float32"):
            old[f"{place}.mask_value_{precision}"] = torch.tensor(-1e4)
            if kind == "lsh":
                old[f"{place}.self_mask_value_{precision}"] = torch.tensor(-1e3)
    edit_weights(tmp_path, old)
    assert_equal_outputs(model, load_model(tmp_path))


# The bias of the language models' head


def test_transformers_5_leaves_the_bias_out(tmp_path: Path) -> None:
    model = save_small(tmp_path, "text-generation")
    loaded = load_model(tmp_path)
    assert_equal_outputs(model, loaded)
    (note,) = loaded.notes
    assert "lm_head.bias is not zero but left out" in note
    assert "transformers 5" in note


@pytest.mark.parametrize("version", ["4.57.1", "2.11.0", None])
@pytest.mark.parametrize("name", ["lm_head.bias", "lm_head.decoder.bias", "both"])
def test_transformers_4_adds_the_bias(version: str | None, name: str, tmp_path: Path) -> None:
    model = save_small(tmp_path, "fill-mask")
    edit_config(tmp_path, transformers_version=version)
    bias = model.lm_head.bias.detach().clone()
    # Transformers 4 had one parameter with two names; a file may hold either name, or both.
    kept = ["lm_head.bias", "lm_head.decoder.bias"] if name == "both" else [name]
    edit_weights(tmp_path, {key: bias.clone() for key in kept}, removed=["lm_head.bias"])
    model.lm_head.decoder.bias = torch.nn.Parameter(bias)
    loaded = load_model(tmp_path)
    assert_equal_outputs(model, loaded)
    (note,) = loaded.notes
    assert f"lm_head.bias is added, as transformers {version or 4} does" in note


@pytest.mark.parametrize("version", ["4.57.1", "5.0.0"])
def test_a_bias_of_zero_is_nothing_to_speak_of(version: str, tmp_path: Path) -> None:
    model = save_small(tmp_path, "text-generation")
    edit_config(tmp_path, transformers_version=version)
    edit_weights(tmp_path, {"lm_head.bias": torch.zeros(40)})
    loaded = load_model(tmp_path)
    assert_equal_outputs(model, loaded)
    assert loaded.notes == ()


def test_the_bias_is_of_no_concern_without_the_head(tmp_path: Path) -> None:
    save_small(tmp_path, "text-generation")
    assert load_model(tmp_path, task="feature-extraction").notes == ()
