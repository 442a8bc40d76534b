"""Exports of checkpoints that are not of Transformers: verified, and held against their library."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from reformer_export import import_checkpoint, open_runner, to_onnx, to_torchscript, verify_artifact
from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.exporters.cuda.kernel_folder import layers_of
from reformer_export.source import artifact_config, load_original
from reformer_models.errors import ConfigError
from reformer_models.fusing import fuse_linear
from reformer_models.layers.fused import FusedAttention
from reformer_models.loading import LoadedModel, load_model

from ..tools import trax_models
from ..tools.lucidrains import BASE, BUCKET, build, inject, save

# With rotations of each head the package can be given those of the artifact.
ARGUMENTS = {
    **BASE,
    "depth": 2,
    "n_hashes": 1,
    "max_seq_len": 4 * BUCKET,
    "random_rotations_per_head": True,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("lucidrains") / "model", build(ARGUMENTS), ARGUMENTS)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_onnx(checkpoint, tmp_path_factory.mktemp("artifact") / "out")


def test_the_export_is_verified_and_says_what_it_read(exported: Artifact, checkpoint: Path) -> None:
    record = exported.parity("onnx")
    assert record is not None
    assert record["passed"] is True
    assert set(record["references"]) == {"torch"}
    assert any("transformers has no attention_output_bias" in note for note in record["notes"])
    manifest = exported.manifest
    assert manifest.hashing.notes[0].startswith("reformer_pytorch.json was found")
    assert manifest.source.library == "lucidrains"
    assert set(manifest.source.files) == {"reformer_pytorch.json", "pytorch_model.bin"}


def test_the_artifact_has_a_config_of_our_own(exported: Artifact, checkpoint: Path) -> None:
    original = load_original(exported.manifest)
    assert artifact_config(exported) == original.config
    written = json.loads((exported.path / "config.json").read_text())
    assert written["stream_merge"] == "mean"
    assert original.checkpoint.directory == checkpoint


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_onnx_runtime_gives_the_numbers_of_the_package(
    exported: Artifact, monkeypatch: pytest.MonkeyPatch, ops: str
) -> None:
    model = build(ARGUMENTS)
    loaded = load_original(exported.manifest)
    ids = torch.randint(0, 50, (3, 4 * BUCKET))
    inject(loaded, monkeypatch, per_head=True)
    with torch.no_grad():
        expected = model(ids)
    feeds = {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()}
    found = torch.from_numpy(open_runner(exported, ops=ops).run(feeds)["logits"])
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{difference:.1e} of the scale")
    assert difference <= 1e-4


def test_an_export_of_a_folder_of_two_libraries_is_verified_against_the_chosen_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "both"
    shutil.copytree(checkpoint, folder)
    (folder / "config.json").write_text("{}")
    artifact = to_onnx(folder, tmp_path / "out", source="lucidrains", verify=False)
    assert artifact_config(artifact).stream_merge == "mean"
    assert verify_artifact(artifact.path, lengths=[20], batches=[1]).passed


def test_fused_layers_add_the_bias(checkpoint: Path) -> None:
    loaded: LoadedModel = load_model(checkpoint)
    fused = fuse_linear(loaded.model)
    assert all(isinstance(m.attention, FusedAttention) for m in fused.reformer.encoder.layers)
    ids = torch.randint(0, 50, (2, 3 * BUCKET))
    with torch.no_grad():
        expected, found = loaded.model(ids)["logits"], fused(ids)["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_transformers_refuses_the_model(exported: Artifact) -> None:
    from reformer_export.runtimes.transformers import TransformersRunner

    with pytest.raises(UsageError, match="transformers has no attention_output_bias"):
        TransformersRunner(load_original(exported.manifest), exported.signature)


@pytest.mark.slow
def test_torchscript_8_bits_and_generation(checkpoint: Path, tmp_path: Path) -> None:
    task = "text-generation-with-past"
    exports = (
        to_torchscript(checkpoint, tmp_path / "script"),
        to_onnx(checkpoint, tmp_path / "int8", weights="int8"),
        to_onnx(checkpoint, tmp_path / "past", task=task),
    )
    for artifact, name in zip(exports, ("torchscript", "onnx", "onnx"), strict=True):
        record = artifact.parity(name)
        assert record is not None
        assert record["passed"] is True


def test_trax_is_exported_imported_and_read_by_transformers(tmp_path: Path) -> None:
    model = {**trax_models.BASE, "LSHSelfAttention": {"chunk_len": 8, "n_buckets": 8}}
    flat = trax_models.weights(model)
    flat[-1][:] = 0  # the bias of the head, which transformers 5 leaves out
    folder = trax_models.save(tmp_path / "model", model, flat)
    artifact = to_onnx(folder, tmp_path / "artifact")
    record = artifact.parity("onnx")
    assert record is not None
    assert record["passed"] is True
    assert set(record["references"]) == {"torch", "transformers"}
    assert artifact.manifest.source.library == "trax"

    tokens = np.random.default_rng(0).integers(0, 50, 64)
    rotations = load_original(artifact.manifest).rotations.values()
    expected = trax_models.logits(model, flat, tokens, [one.numpy() for one in rotations])
    feeds = {"input_ids": np.pad(tokens, (1, 0))[None, :-1]}
    (found,) = open_runner(artifact).run(feeds)["logits"]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    imported = import_checkpoint(folder, tmp_path / "imported")
    assert imported.beyond_transformers == ()
    assert not any("lm_head.bias" in note for note in imported.notes)
    theirs = transformers.ReformerModelWithLMHead.from_pretrained(imported.path).eval()
    theirs.config.hash_seed = 0
    for layer in theirs.reformer.encoder.layers:
        layer.attention.self_attention.hash_seed = 0
    with torch.no_grad():
        logits = theirs(torch.from_numpy(feeds["input_ids"])).logits[0].numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_bias_that_transformers_5_leaves_out_is_noted(tmp_path: Path) -> None:
    flat = trax_models.weights(trax_models.BASE)
    folder = trax_models.save(tmp_path / "model", trax_models.BASE, flat)
    imported = import_checkpoint(folder, tmp_path / "imported")
    assert any("lm_head.bias is not zero" in note for note in imported.notes)
    ids = torch.arange(40)[None] % 50
    with torch.no_grad():
        before, after = (load_model(path).model(ids)["logits"] for path in (folder, imported.path))
    assert torch.equal(before, after)


@pytest.mark.parametrize("export_to", [to_onnx, to_torchscript])
def test_memory_has_no_place_in_a_cache(tmp_path: Path, export_to: Callable[..., object]) -> None:
    arguments = {**ARGUMENTS, "num_mem_kv": BUCKET}
    folder = save(tmp_path / "model", build(arguments), arguments)
    with pytest.raises(ConfigError, match="no place for memory vectors, and this model has 8"):
        export_to(folder, tmp_path / "out", task="text-generation-with-past")
    assert not (tmp_path / "out").exists()


def test_kernels_for_a_layer_shape_know_no_memory(tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "num_mem_kv": BUCKET}
    folder = save(tmp_path / "model", build(arguments), arguments)
    artifact = to_onnx(folder, tmp_path / "out", verify=False)
    with pytest.raises(UsageError, match="not for models with memory vectors, and this one has 8"):
        layers_of(artifact.path)


@pytest.mark.slow
def test_full_attention_beside_layers_that_are_not_fused(tmp_path: Path) -> None:
    """No size is a multiple of 16, so `AddNorm` is the only operator of ours."""
    arguments = {**ARGUMENTS, "use_full_attn": True, "dim": 20, "depth": 1}
    folder = save(tmp_path / "model", build(arguments), arguments)
    record = to_onnx(folder, tmp_path / "out").parity("onnx")
    assert record is not None
    assert record["passed"] is True


OPTIONS: Mapping[str, Mapping[str, object]] = {
    "gated feed-forward": {"ff_glu": True},
    "ScaleNorm": {"use_scale_norm": True},
    "ReZero": {"use_rezero": True},
    "rotary positions": {"absolute_position_emb": False},
    "full attention": {"use_full_attn": True},
    "local heads": {"n_local_attn_heads": 1},
    "local heads, not causal": {"n_local_attn_heads": 1, "causal": False},
    "memory": {"num_mem_kv": BUCKET},
    "memory, not causal": {"num_mem_kv": BUCKET, "causal": False},
    "embeddings of another size": {"emb_dim": 24},
}
WITHOUT_CACHE = ("local heads, not causal", "memory", "memory, not causal")
EXPORTS: Mapping[str, Mapping[str, Any]] = {
    "generation": {"task": "text-generation-with-past"},
    "portable": {"ops": "portable"},
    "int8": {"weights": "int8"},
    "int4": {"weights": "int4"},
    "fp16": {"weights": "fp16"},
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_options_give_the_numbers_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    arguments = {**ARGUMENTS, **OPTIONS[option]}
    model = build(arguments)
    artifact = to_onnx(save(tmp_path / "model", model, arguments), tmp_path / "out")
    to_torchscript(tmp_path / "model", artifact.path)
    ids = torch.randint(0, 50, (3, 4 * BUCKET - model.reformer.num_mem_kv))
    feeds = {"input_ids": ids.numpy()}
    runs = [
        open_runner(artifact, ops="native").run(feeds),
        open_runner(artifact, ops="portable").run(feeds),
        open_runner(Artifact.open(artifact.path), runtime="torchscript").run(feeds),
    ]
    inject(load_original(artifact.manifest), monkeypatch, per_head=True)
    with torch.no_grad():
        expected = model(ids).numpy()
    for found in runs:
        assert np.abs(found["logits"] - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "export"),
    [
        *itertools.product(OPTIONS, ("portable", "int8")),
        *((name, "generation") for name in OPTIONS if name not in WITHOUT_CACHE),
        ("gated feed-forward", "int4"),
        ("gated feed-forward", "fp16"),
    ],
)
def test_options_go_with_each_kind_of_export(tmp_path: Path, option: str, export: str) -> None:
    arguments = {**ARGUMENTS, **OPTIONS[option]}
    folder = save(tmp_path / "model", build(arguments), arguments)
    record = to_onnx(folder, tmp_path / "out", **EXPORTS[export]).parity("onnx")
    assert record is not None
    assert record["passed"] is True
