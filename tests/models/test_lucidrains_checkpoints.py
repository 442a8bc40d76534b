"""Checkpoints of reformer-pytorch: what is read of them, and what is refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reformer_models.checkpoints import open_checkpoint
from reformer_models.checkpoints.sources.lucidrains.arguments import (
    LayerArguments,
    ReformerArguments,
    ReformerLMArguments,
)
from reformer_models.errors import CheckpointError, ConfigError, InputShapeError
from reformer_models.loading import load_model

from ..tools.lucidrains import (
    BASE,
    BUCKET,
    HEADS,
    VECTORS,
    build,
    reformer_pytorch,
    save,
)


def test_a_model_of_vectors(tmp_path: Path) -> None:
    arguments = {**VECTORS, "max_seq_len": 6 * BUCKET + 3}
    folder = save(tmp_path / "model", build(arguments), arguments)
    loaded = load_model(folder)
    assert loaded.task == "series-encoding"
    assert loaded.config.num_buckets == (6,)
    assert loaded.notes[0].endswith("is read as a Reformer of reformer-pytorch.")
    assert loaded.notes[1].startswith("num_buckets is 6, which reformer-pytorch uses for sequences")
    assert load_model(folder, task="series-encoding", num_buckets=4).config.num_buckets == (4,)
    longest = 6 * BUCKET
    assert loaded.model(torch.zeros(1, longest, 32))["last_hidden_state"].shape == (1, longest, 32)
    for length in (0, longest + 1):
        with pytest.raises(InputShapeError, match=f"takes 1 to {longest} steps; got {length}"):
            loaded.model(torch.zeros(1, length, 32))
    for task in ("time-series", "feature-extraction"):
        with pytest.raises(ConfigError, match=f"ReformerSeriesEncoder, which is not for {task}"):
            load_model(folder, task=task)
    with pytest.raises(ConfigError, match=r"this is for models of tokens, and .* takes series of"):
        _ = loaded.checkpoint.token_config


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_tie": True},
        {"absolute_position_emb": False, "axial_position_emb": True},
    ],
    ids=str,
)
def test_safetensors_and_a_prefix_are_read(tmp_path: Path, options: Mapping[str, object]) -> None:
    arguments = {**BASE, **options}
    model = build(arguments)
    expected = load_model(save(tmp_path / "bin", model, arguments)).model.state_dict()
    folder = save(tmp_path / "safetensors", model, arguments)
    (folder / "pytorch_model.bin").unlink()
    state = {f"net.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    found = load_model(folder).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("options", "task"),
    [
        ({}, "text-generation"),
        ({"causal": False}, "fill-mask"),
        ({"return_embeddings": True}, "feature-extraction"),
    ],
    ids=str,
)
def test_the_task_and_the_notes(tmp_path: Path, options: Mapping[str, object], task: str) -> None:
    arguments = {**BASE, **options}
    loaded = load_model(save(tmp_path / "model", build(arguments), arguments))
    assert loaded.task == task
    assert loaded.config.num_buckets == (8,)
    recognised, buckets, seed = loaded.notes
    assert recognised.endswith("is read as a ReformerLM of reformer-pytorch.")
    assert buckets.startswith(
        "num_buckets is 8, which reformer-pytorch uses for sequences of length 64;"
    )
    assert seed.startswith("hash_seed was not set")


@pytest.mark.parametrize("kind", [ReformerArguments, ReformerLMArguments])
def test_arguments_and_defaults_are_those_of_the_package(kind: type[LayerArguments]) -> None:
    signature = inspect.signature(getattr(reformer_pytorch, kind.class_name))
    defaults = {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in signature.parameters.items()
    }
    ours = {declared.name: declared.default for declared in fields(kind)}
    ours |= dict.fromkeys(kind.required)
    if kind is ReformerArguments:
        assert ours.pop("max_seq_len") is None  # our own
    assert ours == defaults


REFUSED = {
    "class": "LSHSelfAttention",
    "emb_dim": 0,
    "ff_activation": "PReLU",
    "full_attn_thres": BUCKET + 1,
    "max_seq_len": 2 * BUCKET - 1,
    "n_local_attn_heads": HEADS,
    "num_mem_kv": BUCKET + 1,
    "pkm_layers": [2],
    # Wrong types.
    "causal": 1,
    "dim": "32",
    "axial_position_shape": [8, 0],
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_our_model_lacks_is_refused_by_name_and_value(tmp_path: Path, option: str) -> None:
    value = REFUSED[option]
    folder = save(tmp_path / "model", build(BASE), {**BASE, option: value})
    named = option + (r"\[1\]" if option == "axial_position_shape" else "")
    found = "0" if option == "axial_position_shape" else re.escape(repr(value))
    with pytest.raises(
        ConfigError, match=f"reformer_pytorch.json: {named} must be .* found {found}"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lsh_attend_across_buckets": False}, "must be true, because our model has attention acr"),
        ({"lsh_allow_duplicate_attention": False}, "must be true, because our model has rounds th"),
        ({"dim": 33}, "dim must be a multiple of heads = 2 without dim_head, found 33"),
        ({"max_seq_len": 2 * BUCKET - 1}, "max_seq_len must be at least"),
        ({"num_tokens": 50}, "'num_tokens': no argument of Reformer in reformer-pytorch"),
    ],
    ids=str,
)
def test_what_a_model_of_vectors_can_not_have(
    tmp_path: Path, option: Mapping[str, object], message: str
) -> None:
    folder = save(tmp_path / "model", build(VECTORS), {**VECTORS, **option})
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(folder)


def test_a_model_of_vectors_needs_its_longest_sequence(tmp_path: Path) -> None:
    arguments = {name: value for name, value in VECTORS.items() if name != "max_seq_len"}
    folder = save(tmp_path / "model", build(VECTORS), arguments)
    with pytest.raises(ConfigError, match="max_seq_len missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"full_attn_thres": BUCKET}, "full_attn_thres must be 0 with rotary positions"),
        ({"dim_head": 15}, "dim_head must be even with rotary positions"),
    ],
    ids=str,
)
def test_what_does_not_go_with_rotary_positions(
    tmp_path: Path, option: Mapping[str, object], message: str
) -> None:
    arguments = {**BASE, "absolute_position_emb": False}
    folder = save(tmp_path / "model", build(arguments), {**arguments, **option})
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(folder)


def test_other_frequencies_of_rotary_positions_are_refused(tmp_path: Path) -> None:
    arguments = {**BASE, "absolute_position_emb": False}
    model = build(arguments)
    model.layer_pos_emb.inv_freq.mul_(2)
    with pytest.raises(CheckpointError, match="inv_freq is not what the package computes"):
        load_model(save(tmp_path / "model", model, arguments))


def test_unknown_and_missing_arguments_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(BASE), {**BASE, "n_hash": 4})
    with pytest.raises(ConfigError, match="'n_hash': no argument of ReformerLM"):
        open_checkpoint(folder)
    assert open_checkpoint(folder, ignore_config_keys=["n_hash"]).config.num_hashes == 2
    save(folder, build(BASE), {name: value for name, value in BASE.items() if name != "dim"})
    with pytest.raises(ConfigError, match="dim missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 4}, "the weights lack reformer.layers.blocks.3.f"),
        ({"depth": 2}, "the weights have reformer.layers.blocks.2.f"),
        ({"fixed_position_emb": True, "absolute_position_emb": False}, "lack pos_emb.inv_freq"),
        ({"return_embeddings": True}, "the weights have out.1.bias"),
        ({"num_tokens": 51}, r"is \[50, 32\], but its reformer_pytorch.json asks for \[51, 32\]"),
        ({"one_value_head": True}, r"value.weight is \[64, 32\], but its reformer_pytorch.json"),
    ],
    ids=str,
)
def test_arguments_and_weights_that_disagree(
    tmp_path: Path, options: Mapping[str, object], message: str
) -> None:
    folder = save(tmp_path / "model", build(BASE), {**BASE, **options})
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_memory_and_heads_that_disagree(tmp_path: Path) -> None:
    arguments = {**BASE, "num_mem_kv": BUCKET}
    folder = save(tmp_path / "model", build(arguments), {**arguments, "heads": 4})
    with pytest.raises(CheckpointError, match=r"gives 32 numbers, but .* heads \* dim_head = 64"):
        load_model(folder)


def test_another_grid_of_positions_is_refused(tmp_path: Path) -> None:
    arguments = {**BASE, "absolute_position_emb": False, "axial_position_emb": True}
    folder = save(
        tmp_path / "model", build(arguments), {**arguments, "axial_position_shape": [16, 4]}
    )
    with pytest.raises(CheckpointError, match=r"pos_emb.weights.0 is .* asks for \[1, 16, 1, 32\]"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_are_scaled_without_another_rounding(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    arguments = {**BASE, "dim_head": 32}  # the scale is no power of two
    model = build(arguments).to(dtype)
    found = load_model(save(tmp_path / "half", model, arguments)).model
    expected = load_model(save(tmp_path / "full", model.float(), arguments)).model
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    model = build(BASE)
    folder = save(tmp_path / "model", model, BASE)
    name = "reformer.layers.blocks.0.f.net.fn.toqk.weight"
    state = {**model.state_dict(), name: torch.zeros((32, 32), dtype=torch.int8)}
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=f"{name} is torch.int8"):
        load_model(folder)


def test_two_configuration_files_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(BASE), BASE)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json and reformer_pytorch\.json.*--source"):
        open_checkpoint(folder)
    assert open_checkpoint(folder, library="lucidrains").written_by.name == "lucidrains"
    with pytest.raises(ConfigError, match="model_type is missing"):
        open_checkpoint(folder, library="huggingface")


def test_a_source_that_the_folder_is_not_of_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(BASE), BASE)
    with pytest.raises(CheckpointError, match=r"no config\.json, but .*--source lucid"):
        open_checkpoint(folder, library="huggingface")
    (folder / "reformer_pytorch.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no trax_reformer\.json$"):
        open_checkpoint(folder, library="trax")
    with pytest.raises(ConfigError, match="unknown source 'keras': choose auto or one of hugging"):
        open_checkpoint(folder, library="keras")


def test_weights_that_are_code_are_not_run(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", build(BASE), BASE)
    torch.save(build(BASE), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load_model(folder)
