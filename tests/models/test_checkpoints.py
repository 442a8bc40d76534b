"""Opening checkpoints that Transformers saved, and the errors if one does not open."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from reformer_models.checkpoints import open_checkpoint
from reformer_models.errors import CheckpointError, ConfigError

from .saved_models import (
    BIN,
    SAFETENSORS,
    Save,
    as_cached,
    assert_one_line,
    build,
    edit_config,
    save_bin,
    save_bin_of_old_torch,
    save_bin_with_parameters,
    save_safetensors,
    save_sharded_bin,
    save_sharded_safetensors,
    write_index,
)

Weights = dict[str, torch.Tensor]


def assert_same(weights: Weights, expected: Weights) -> None:
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert weights[name].dtype == tensor.dtype
        assert weights[name].device.type == "cpu"
        assert not weights[name].requires_grad
        assert torch.equal(weights[name], tensor), name


# Checkpoints that open


@pytest.mark.parametrize(
    "save",
    [
        save_safetensors,
        save_sharded_safetensors,
        save_bin,
        save_bin_of_old_torch,
        save_bin_with_parameters,
        save_sharded_bin,
    ],
)
def test_every_format_holds_the_same_weights(
    save: Save, tmp_path: Path, model: transformers.PreTrainedModel
) -> None:
    save(tmp_path, model)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.source == str(tmp_path)
    assert checkpoint.directory == tmp_path
    assert checkpoint.revision is None
    assert checkpoint.architecture == "ReformerModelWithLMHead"
    assert checkpoint.config.num_buckets == (4,)
    assert_same(checkpoint.state_dict(), model.state_dict())


def test_files_are_those_that_decide_the_result(folder: Path, sharded: Path) -> None:
    assert open_checkpoint(folder).files == (folder / "config.json", folder / SAFETENSORS)
    shards = sorted(sharded.glob("model-*.safetensors"))
    index = sharded / f"{SAFETENSORS}.index.json"
    assert open_checkpoint(sharded).files == (sharded / "config.json", index, *shards)


def test_the_dtype_is_kept(tmp_path: Path) -> None:
    half = build().half()
    save_safetensors(tmp_path, half)
    assert_same(open_checkpoint(tmp_path).state_dict(), half.state_dict())


def test_safetensors_go_first(folder: Path, model: transformers.PreTrainedModel) -> None:
    (folder / BIN).write_bytes(b"not read")
    assert_same(open_checkpoint(folder).state_dict(), model.state_dict())


def test_only_the_tensors_that_the_index_names_are_taken(sharded: Path) -> None:
    index = sharded / f"{SAFETENSORS}.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    dropped = next(iter(weight_map))
    write_index(index, {name: file for name, file in weight_map.items() if name != dropped})
    assert open_checkpoint(sharded).state_dict().keys() == weight_map.keys() - {dropped}


@pytest.mark.parametrize("as_given", [str, Path])
def test_relative_and_home_folders(
    as_given: type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for source in ("checkpoint", "./checkpoint", "../" + folder.parent.name + "/checkpoint/"):
        assert open_checkpoint(as_given(source)).architecture == "ReformerModelWithLMHead"
    checkpoint = open_checkpoint(as_given("~/checkpoint"))
    assert checkpoint.directory == folder
    assert checkpoint.source == "~/checkpoint"


def test_layout_of_the_hub_cache(tmp_path: Path, sharded: Path) -> None:
    assert_same(
        open_checkpoint(as_cached(sharded, tmp_path / "cache")).state_dict(),
        open_checkpoint(sharded).state_dict(),
    )


@pytest.mark.parametrize(
    "architecture",
    [
        "ReformerModel",
        "ReformerModelWithLMHead",
        "ReformerForMaskedLM",
        "ReformerForSequenceClassification",
        "ReformerForQuestionAnswering",
    ],
)
@pytest.mark.parametrize("save", [save_sharded_safetensors, save_bin])
def test_architecture_is_told_from_the_weights(
    save: Save, architecture: str, tmp_path: Path
) -> None:
    save(tmp_path, build(architecture))
    assert open_checkpoint(tmp_path).architecture == architecture
    edit_config(tmp_path, architectures=None)
    assert open_checkpoint(tmp_path).architecture == architecture


def test_an_architecture_in_the_config_goes_unquestioned(folder: Path) -> None:
    edit_config(folder, architectures=["MyReformer", "ReformerModel"])
    assert open_checkpoint(folder).architecture == "MyReformer"


# Memory


@pytest.mark.parametrize("name", [SAFETENSORS, BIN])
def test_weights_are_mapped_and_the_file_is_safe(name: str, folder: Path) -> None:
    def private_memory() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

    (folder / SAFETENSORS).unlink()
    big = {"big": torch.ones(32 * 2**20)}
    if name == BIN:
        torch.save(big, folder / BIN)
    else:
        save_file(big, folder / SAFETENSORS)
    del big
    checkpoint = open_checkpoint(folder)
    checkpoint.state_dict()  # the first call imports modules, whose memory does not count
    before = private_memory()
    weights = checkpoint.state_dict()
    assert private_memory() - before < 2**24
    weights["big"][:1000] = 2
    assert checkpoint.state_dict()["big"][:1000].eq(1).all()


# Checkpoints that do not open


def test_missing_folder(tmp_path: Path) -> None:
    missing = (tmp_path / "none", "./none", "none", "~/none", "a/b/none", "", "/")
    for source in missing:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(source)
        assert_one_line(caught.value, source)


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder; name the folder"):
        open_checkpoint(folder / "config.json")


def test_a_revision_of_a_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="only a model on the hub has revisions"):
        open_checkpoint(folder, revision="main")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b'{"model_type": ', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'["model_type"]', "must hold a JSON object, found a list"),
    ],
)
def test_a_config_that_is_no_json_object(text: bytes, message: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder)
    assert_one_line(caught.value, folder / "config.json")


def test_a_config_with_a_wrong_value_is_named(folder: Path) -> None:
    edit_config(folder, num_hashes=0)
    with pytest.raises(ConfigError, match="num_hashes must be") as caught:
        open_checkpoint(folder)
    assert_one_line(caught.value, folder / "config.json")


def test_unknown_keys_can_be_accepted(folder: Path) -> None:
    edit_config(folder, rope_theta=1e4)
    with pytest.raises(ConfigError, match="rope_theta"):
        open_checkpoint(folder)
    assert open_checkpoint(folder, ignore_config_keys=["rope_theta"]).config.num_hashes == 1


def test_another_model(tmp_path: Path) -> None:
    transformers.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="found 'bert'"):
        open_checkpoint(tmp_path)


def test_no_weights(folder: Path) -> None:
    (folder / SAFETENSORS).rename(folder / "tf_model.h5")
    with pytest.raises(CheckpointError, match=r"holds no weights.*'tf_model\.h5'"):
        open_checkpoint(folder)


def test_weights_of_something_else(folder: Path) -> None:
    edit_config(folder, architectures=None)
    save_file({"bert.pooler.weight": torch.ones(1)}, folder / SAFETENSORS)
    with pytest.raises(CheckpointError, match="not those of a Reformer"):
        open_checkpoint(folder)


@pytest.mark.parametrize("kind", ["dangling link", "folder", "pipe"])
def test_weights_that_are_no_file(kind: str, folder: Path) -> None:
    path = folder / SAFETENSORS
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="is not a file, or a link that leads nowhere"):
        open_checkpoint(folder)
