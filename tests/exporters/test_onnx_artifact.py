"""The files beside `model.onnx`: files of the checkpoint, and a correct manifest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from reformer_export import to_onnx
from reformer_export.artifact import Artifact
from reformer_export.errors import ExportError
from reformer_export.exporters.checkpoint_files import CHECKPOINT_FILES, copy_checkpoint_files
from reformer_ops.registry import LINEAR, OPS

from ..models.reformers import SMALL, theirs
from ..models.saved_models import as_cached, edit_config
from ..tools.artifact_fixtures import snapshot
from ..tools.model_fixtures import CONFIGS, TINY, Fixtures, feeds, outputs_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with every file that an export copies, and some that it does not copy."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in (*CHECKPOINT_FILES, "model.safetensors", "README.md", "id_rsa", ".env"):
        (folder / name).write_text(f"this is {name}")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_configuration_and_tokenizer_go_along_and_nothing_else(checkpoint: Path, out: Path) -> None:
    before = snapshot(checkpoint)
    copy_checkpoint_files(checkpoint, out)
    assert snapshot(out) == {name: before[name] for name in CHECKPOINT_FILES}
    assert snapshot(checkpoint) == before


def test_what_is_not_there_is_not_missed(tmp_path: Path, out: Path) -> None:
    copy_checkpoint_files(tmp_path, out)
    assert snapshot(out) == {}


def test_links_of_the_hub_s_cache_are_files_of_the_checkpoint(
    checkpoint: Path, tmp_path: Path, out: Path
) -> None:
    cached = as_cached(checkpoint, tmp_path / "cache")
    assert (cached / "tokenizer.json").is_symlink()
    copy_checkpoint_files(cached, out)
    assert snapshot(out) == {name: f"this is {name}".encode() for name in CHECKPOINT_FILES}
    assert not any(path.is_symlink() for path in out.iterdir())


def test_links_inside_the_checkpoint_and_to_it(checkpoint: Path, tmp_path: Path, out: Path) -> None:
    (checkpoint / "vocab.txt").unlink()
    (checkpoint / "vocab.txt").symlink_to("README.md")
    (tmp_path / "link").symlink_to(checkpoint)
    copy_checkpoint_files(tmp_path / "link", out)
    assert (out / "vocab.txt").read_text() == "this is README.md"
    assert not (out / "vocab.txt").is_symlink()


def outside(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def relative(path: Path, secret: Path) -> None:
    path.symlink_to(os.path.relpath(secret, path.parent))


def in_two_steps(path: Path, secret: Path) -> None:
    (path.parent / "step").symlink_to(secret.parent)
    path.symlink_to(Path("step") / secret.name)


@pytest.mark.parametrize("link", [outside, relative, in_two_steps])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.txt"])
def test_a_link_that_leaves_the_checkpoint_is_not_followed(
    checkpoint: Path, tmp_path: Path, out: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    (checkpoint / name).unlink()
    link(checkpoint / name, secret)
    with pytest.raises(ExportError, match=rf"{name} is a link that leaves .* replace it") as caught:
        copy_checkpoint_files(checkpoint, out)
    assert "\n" not in str(caught.value)
    assert b"secret" not in snapshot(out).values()


def test_what_only_looks_like_a_cache_is_none(checkpoint: Path, tmp_path: Path, out: Path) -> None:
    """`blobs` beside `snapshots` counts only if it is a folder, not a link to another folder."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")
    snapshots = tmp_path / "repository" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots.parent / "blobs").symlink_to(tmp_path / "elsewhere")
    forged = checkpoint.rename(snapshots / "commit")
    (forged / "tokenizer.json").unlink()
    (forged / "tokenizer.json").symlink_to("../../blobs/secret")
    with pytest.raises(ExportError, match=r"tokenizer\.json is a link that leaves"):
        copy_checkpoint_files(forged, out)


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file(checkpoint: Path, out: Path, spoil: Callable[[Path], None]) -> None:
    (checkpoint / "tokenizer.json").unlink()
    spoil(checkpoint / "tokenizer.json")
    with pytest.raises(ExportError, match=r"tokenizer\.json is not a file, or a link .* nowhere"):
        copy_checkpoint_files(checkpoint, out)


def test_an_export_refuses_such_a_link_before_any_work(fixtures: Fixtures, tmp_path: Path) -> None:
    folder = shutil.copytree(fixtures.checkpoint(), tmp_path / "checkpoint")
    (tmp_path / "secret").write_text("secret")
    (folder / "tokenizer.json").symlink_to(tmp_path / "secret")
    said: list[str] = []
    with pytest.raises(ExportError, match=r"tokenizer\.json is a link that leaves"):
        to_onnx(folder, tmp_path / "out", verify=False, progress=said.append)
    assert said == [f"loading {folder}"]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "secret"]


def test_an_export_from_the_hub_s_cache(fixtures: Fixtures, tmp_path: Path) -> None:
    cached = as_cached(fixtures.checkpoint("fill-mask"), tmp_path / "cache")
    artifact = to_onnx(cached, tmp_path / "out", verify=False)
    plain = fixtures.artifact("fill-mask")
    assert artifact.manifest.files == plain.manifest.files
    assert not any(path.is_symlink() for path in artifact.path.iterdir())


def record(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


@pytest.fixture
def manifest(fixtures: Fixtures) -> dict[str, Any]:
    """The manifest of the artifact for text generation, read as plain JSON."""
    path = fixtures.artifact().path / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_manifest_says_what_the_model_is(fixtures: Fixtures, manifest: dict[str, Any]) -> None:
    model = onnx.load(fixtures.artifact().format_path("onnx"))
    assert manifest["schema_version"] == 3
    assert manifest["task"] == "text-generation" == model.graph.name
    assert manifest["architecture"] == "ReformerModelWithLMHead"
    assert manifest["dtype"] == "fp32"
    imported = {item.domain: item.version for item in model.opset_import}
    (record,) = manifest["formats"].values()
    assert imported == {"": record["details"]["opset"], "reformer": 1}
    assert record["ops"] == "auto"
    assert manifest["ops"] == {
        "domain": "reformer",
        "versions": {op.name: op.version for op in (*OPS, *LINEAR)},
    }
    assert manifest["signature"]["vocab_size"] == SMALL["vocab_size"]
    assert (manifest["signature"]["min_length"], manifest["signature"]["max_length"]) == (1, 120)
    assert record["parity"] is None  # not verified
    made = datetime.fromisoformat(manifest["created"])
    assert timedelta(0) <= datetime.now(UTC) - made < timedelta(hours=2)


@pytest.mark.parametrize("task", CONFIGS)
def test_the_manifest_says_the_task(fixtures: Fixtures, task: str) -> None:
    found = fixtures.artifact(task).manifest
    assert found.task == task
    assert found.architecture == type(fixtures.model(task)).__name__


def test_the_manifest_says_how_it_was_made(fixtures: Fixtures) -> None:
    found = fixtures.artifact("fill-mask", dtype="fp16", ops="portable").manifest
    assert (found.dtype, found.formats["onnx"].ops) == ("fp16", "portable")
    assert {spec.dtype for spec in found.signature.outputs} == {"float16"}


def test_the_manifest_vouches_for_every_file(fixtures: Fixtures, manifest: dict[str, Any]) -> None:
    folder = fixtures.artifact().path
    present = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert manifest["files"] == {name: record(folder / name) for name in present}
    external = fixtures.artifact(external_data=True)
    assert "model.onnx_data" in external.manifest.files


def test_the_manifest_knows_its_source(fixtures: Fixtures, manifest: dict[str, Any]) -> None:
    source = fixtures.checkpoint()
    names = ("config.json", "model.safetensors")
    assert manifest["source"] == {
        "name": str(source),
        "library": "huggingface",
        "revision": None,
        "ignored_keys": [],
        "ignored_weights": [],
        "files": {name: record(source / name) for name in names},
    }


def test_the_manifest_knows_the_tools(manifest: dict[str, Any]) -> None:
    tools = manifest["formats"]["onnx"]["tools"]
    assert {"torch", "onnx", "onnx-ir", "onnxscript"} <= set(tools)
    for tool, version in tools.items():
        assert version == importlib.metadata.version(tool)


def test_the_rotations_are_those_that_transformers_draws(
    fixtures: Fixtures, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records the tensors that the layers of Transformers get from torch while they hash."""
    drawn: list[torch.Tensor] = []
    randn = torch.randn

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        drawn.append(randn(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", watched)
    outputs_of(fixtures.model(), feeds(29))
    lsh_layers = [i for i, kind in enumerate(SMALL["attn_layers"]) if kind == "lsh"]
    assert len(drawn) == len(lsh_layers)
    assert manifest["hashing"]["rotations"] == [
        {
            "layer": layer,
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest(),
        }
        for layer, tensor in zip(lsh_layers, drawn, strict=True)
    ]
    (stored,) = (
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(fixtures.artifact().format_path("onnx")).graph.initializer
        if tensor.name.endswith("rotations")
    )
    assert all(np.array_equal(stored, tensor.numpy()) for tensor in drawn)


def test_rotations_keep_fp32_in_half_precision(fixtures: Fixtures) -> None:
    half, single = fixtures.artifact(dtype="fp16"), fixtures.artifact()
    assert half.manifest.hashing == single.manifest.hashing
    (stored,) = (
        tensor
        for tensor in onnx.load(half.format_path("onnx")).graph.initializer
        if tensor.name.endswith("rotations")
    )
    assert stored.data_type == onnx.TensorProto.FLOAT


def test_what_was_left_open_is_pinned_and_said(tmp_path: Path) -> None:
    theirs("text-generation", **TINY).save_pretrained(tmp_path / "checkpoint")
    edit_config(tmp_path / "checkpoint", num_buckets=None, hash_seed=None, mystery=1)
    found = to_onnx(
        tmp_path / "checkpoint",
        tmp_path / "out",
        max_length=60,
        ignore_config_keys=("mystery",),
        verify=False,
    ).manifest
    assert found.hashing.hash_seed == 0
    reference = transformers.ReformerConfig(**TINY | {"num_buckets": None})
    layer = transformers.models.reformer.modeling_reformer.LSHSelfAttention(reference)
    layer._set_num_buckets(60)
    expected = layer.num_buckets
    assert found.hashing.num_buckets == tuple(
        expected if isinstance(expected, list) else [expected]
    )
    notes = " ".join(found.hashing.notes)
    assert "num_buckets was not set" in notes
    assert "60 tokens" in notes
    assert "hash_seed was not set: pinned to 0" in notes
    assert found.source.ignored_keys == ("mystery",)


def test_a_model_without_hashing_has_nothing_to_tell_of_it(tmp_path: Path) -> None:
    config = SMALL | {"attn_layers": ["local"], "num_buckets": None, "hash_seed": None}
    theirs("text-generation", **config).save_pretrained(tmp_path / "checkpoint")
    found = to_onnx(tmp_path / "checkpoint", tmp_path / "out", verify=False)
    assert found.manifest.hashing.num_buckets == ()
    assert found.manifest.hashing.rotations == ()
    assert Artifact.open(found.path).manifest == found.manifest
