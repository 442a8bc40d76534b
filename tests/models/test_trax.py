"""Checkpoints of trax: read without running code, translated exactly, refused by name."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reformer_models.checkpoints import open_checkpoint
from reformer_models.checkpoints.sources.trax import LSHArguments
from reformer_models.errors import CheckpointError, ConfigError
from reformer_models.loading import load_model

from ..tools.trax_models import BASE, Array, logits, save, weights

LSH = BASE["LSHSelfAttention"]
AXIAL = {"attention_type": "LSHSelfAttention", "pos_type": "axial"}
VARIANTS: dict[str, dict[str, Any]] = {
    "local and LSH layers": {},
    "one round": {"LSHSelfAttention": {**LSH, "n_hashes": 1}},
    "two axes": {**AXIAL, "pos_axial_shape": [4, 16], "pos_d_axial_embs": [12, 20]},
    "three axes": {**AXIAL, "pos_axial_shape": [4, 4, 4], "pos_d_axial_embs": [12, 12, 8]},
    "two factors of buckets": {"LSHSelfAttention": {**LSH, "n_buckets": [4, 6]}},
    "other neighbours": {
        "SelfAttention": {"chunk_len": 16, "n_chunks_before": 2},
        "LSHSelfAttention": {**LSH, "n_chunks_before": 0},
    },
    "no chunks": {"attention_type": ["SelfAttention"], "SelfAttention": {}},
    "fixed-base positions": {"pos_type": "fixed-base", "ff_activation": "Relu"},
    "sin-cos positions": {"pos_type": "sin-cos", "ff_activation": "Gelu"},
    "no positions": {"pos_type": "no"},
}


@pytest.mark.parametrize("length", [16, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_that_trax_defines(tmp_path: Path, variant: str, length: int) -> None:
    model = {**BASE, **VARIANTS[variant]}
    flat = weights(model)
    loaded = load_model(save(tmp_path / "model", model, flat))
    rotations = [turns.numpy().astype(np.float64) for turns in loaded.rotations.values()]
    tokens = np.random.default_rng(1).integers(0, 50, (2, length))
    expected = np.stack([logits(model, flat, row, rotations) for row in tokens])
    with torch.no_grad():
        shifted = torch.from_numpy(np.pad(tokens, ((0, 0), (1, 0)))[:, :-1])
        found = loaded.model(shifted)["logits"].numpy()
    share = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{variant}, {length} tokens: {share:.1e} of the scale")
    assert share <= 1e-4


def test_the_task_and_the_notes(tmp_path: Path) -> None:
    model = {**BASE, "LSHSelfAttention": {"chunk_len": 8}}
    loaded = load_model(save(tmp_path / "model", model, weights(model)))
    assert loaded.task == "text-generation"
    assert loaded.config.num_buckets == (16,)
    recognised, buckets, start, seed = loaded.notes
    assert recognised.endswith("is read as a ReformerLM of trax.")
    assert buckets.startswith("num_buckets is 16, which trax uses for sequences of 64 tokens")
    assert start.startswith("trax puts a token 0 before every sequence")
    assert seed.startswith("hash_seed was not set")


def test_many_buckets_have_two_factors() -> None:
    assert LSHArguments(chunk_len=64).buckets_for(4096) == (128,)
    assert LSHArguments(chunk_len=64).buckets_for(65536) == (64, 32)


def _npy(folder: Path, flat: list[Array]) -> None:
    """trax's newer releases: a pickle with everything but the weights, which are beside it."""
    with gzip.open(folder / "model.pkl.gz", "wb") as file:
        pickle.dump({"flat_weights": 2, "history": {}}, file)
    with gzip.open(folder / "model.weights.npy.gz", "wb") as file:
        for array in flat:
            np.save(file, array, allow_pickle=False)


def _npz(folder: Path, flat: list[Array]) -> None:
    (folder / "model.pkl.gz").unlink()
    np.savez(folder / "model.npz", *flat)


class Anything:
    """An object of a class that our reader does not know."""

    def __init__(self) -> None:
        self.shape = (1, 2)


def _nested(folder: Path, flat: list[Array]) -> None:
    """trax's oldest releases: the tree of the weights, among other objects, not compressed."""
    (folder / "model.pkl.gz").unlink()
    tree = [(), flat[0], ((), tuple(flat[1:5])), [{"b": flat[6], "a": (flat[5],)}], *flat[7:]]
    held = {"weights": tree, "history": Anything(), "opt_state": {1: np.array([Anything()])}}
    (folder / "model.pkl").write_bytes(pickle.dumps(held, protocol=2))


def _later_pickle(folder: Path, flat: list[Array]) -> None:
    held = {"flat_weights": [np.asfortranarray(flat[0]), *flat[1:]], "input_signature": Anything()}
    (folder / "model.pkl.gz").write_bytes(gzip.compress(pickle.dumps(held, protocol=5)))


@pytest.mark.parametrize("write", [_npy, _npz, _nested, _later_pickle])
def test_every_kind_of_file_is_read(
    tmp_path: Path, write: Callable[[Path, list[Array]], None]
) -> None:
    flat = weights(BASE)
    folder = save(tmp_path / "model", BASE, flat)
    expected = open_checkpoint(folder).state_dict()
    write(folder, flat)
    found = open_checkpoint(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_bf16_is_read_from_its_bits(tmp_path: Path) -> None:
    flat = weights(BASE)
    rounded = [torch.from_numpy(array).to(torch.bfloat16) for array in flat]
    folder = save(tmp_path / "model", BASE, [one.float().numpy() for one in rounded])
    expected = open_checkpoint(folder).state_dict()
    _npy(folder, [one.view(torch.int16).numpy().view(np.uint16) for one in rounded])
    found = open_checkpoint(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class Code:
    """Runs a command when an ordinary reader unpickles it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["beside the weights", "as a weight", "as everything"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, place: str) -> None:
    flat: list[Any] = list(weights(BASE))
    folder = save(tmp_path / "model", BASE, flat)
    code = Code(f"touch {tmp_path / 'ran'}")
    held: Any = {
        "beside the weights": {"flat_weights": flat, "history": code},
        "as a weight": {"flat_weights": [code, *flat[1:]]},
        "as everything": code,
    }[place]
    (folder / "model.pkl.gz").write_bytes(gzip.compress(pickle.dumps(held)))
    if place == "beside the weights":
        load_model(folder)
    else:
        with pytest.raises(CheckpointError, match=r"where an array should be|has no weights"):
            load_model(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(code))  # what the test relies on: other readers do run it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.pkl.gz", "model.weights.npy.gz", "model.npz"])
def test_a_damaged_file_is_reported(tmp_path: Path, name: str) -> None:
    flat = weights(BASE)
    folder = save(tmp_path / "model", BASE, flat)
    if name != "model.pkl.gz":
        (_npz if name == "model.npz" else _npy)(folder, flat)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=f"{name} is cut short or damaged"):
        load_model(folder)


def test_weights_that_are_in_a_missing_file(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", BASE, [])
    _npy(folder, [])
    (folder / "model.weights.npy.gz").unlink()
    with pytest.raises(CheckpointError, match=r"in model\.weights\.npy\.gz, which is not beside"):
        load_model(folder)
    (folder / "model.pkl.gz").unlink()
    with pytest.raises(CheckpointError, match=r"no weights: one of model\.weights\.npy\.gz, "):
        load_model(folder)


REFUSED: dict[str, Mapping[str, Any]] = {
    "class must be 'ReformerLM' .*encoder-decoder.* found 'Reformer'": {"class": "Reformer"},
    "d_attention_value must be d_attention_key = 8": {"d_attention_value": 16},
    "attention_type must be a list whose length divides n_layers = 2": {
        "attention_type": ["SelfAttention"] * 3
    },
    "must be a class of attention .*'CausalFavor'": {"attention_type": "CausalFavor"},
    "pos_type must be a kind of positions .*'infinite'": {"pos_type": "infinite"},
    "pos_axial_shape must be given with pos_type axial": {"pos_type": "axial"},
    "pos_axial_shape must be left out": {"pos_type": "no", "pos_axial_shape": [8, 8]},
    "pos_d_axial_embs must be 2 numbers that add up to d_model = 32": {
        "pos_axial_shape": [8, 8],
        "pos_d_axial_embs": [8, 8],
    },
    "ff_activation must be an activation function": {"ff_activation": "Swish"},
    "ff_use_sru must be off": {"ff_use_sru": 1},
    "ff_sparsity must be off": {"ff_sparsity": 4},
    "loss_sparsity must be off": {"loss_sparsity": 4},
    "share_qk must be off": {"SelfAttention": {"share_qk": True}},
    "bias must be off": {"LSHSelfAttention": {"bias": True}},
    "n_chunks_before must be 0 without a chunk_len": {"SelfAttention": {"n_chunks_before": 1}},
    "n_chunks_after must be off": {"SelfAttention": {"chunk_len": 8, "n_chunks_after": 1}},
    "n_buckets must be even": {"LSHSelfAttention": {"n_buckets": 7}},
    "SelfAttention must be an object": {"SelfAttention": 8},
    "'n_layer': no argument of ReformerLM in trax 1.4.1": {"n_layer": 2},
    "'chunk_size': no argument of LSHSelfAttention": {"LSHSelfAttention": {"chunk_size": 8}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_our_model_lacks_is_refused_by_name_and_value(tmp_path: Path, message: str) -> None:
    folder = save(tmp_path / "model", {**BASE, **REFUSED[message]}, weights(BASE))
    with pytest.raises(ConfigError, match=f"trax_reformer.json: .*{message}"):
        open_checkpoint(folder)


def test_a_vocabulary_is_needed(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", BASE, [])
    described = {name: value for name, value in BASE.items() if name != "vocab_size"}
    (folder / "trax_reformer.json").write_text(json.dumps({"class": "ReformerLM", **described}))
    with pytest.raises(ConfigError, match="vocab_size missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": 4}, "the weights are 29 arrays, but a ReformerLM .* has 52"),
        ({"vocab_size": 51}, "array 0 of the weights is [50, 32], but trax_reformer.json asks for"),
        ({"n_heads": 4}, "asks for [4, 32, 8] there (layer 0 w_q)"),
        ({"max_len": 32}, "asks for [32, 32] there (positions.0)"),
    ],
    ids=str,
)
def test_arguments_and_weights_that_disagree(
    tmp_path: Path, options: Mapping[str, Any], message: str
) -> None:
    folder = save(tmp_path / "model", {**BASE, **options}, weights(BASE))
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(CheckpointError, match=pattern):
        load_model(folder)
