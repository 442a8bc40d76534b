"""Weight files that are damaged, name files elsewhere, or carry code."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from reformer_models.checkpoints import open_checkpoint
from reformer_models.errors import CheckpointError

from .saved_models import (
    BIN,
    SAFETENSORS,
    Save,
    assert_one_line,
    build,
    edit_config,
    save_bin,
    save_bin_of_old_torch,
    save_safetensors,
    write_index,
)

# Indexes


def test_a_missing_shard(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match="lacks 1 of the") as caught:
        open_checkpoint(sharded)
    assert_one_line(caught.value, shard.name)


@pytest.mark.parametrize(
    "file",
    [
        "../outside.safetensors",
        "/etc/passwd",
        "sub/model.safetensors",
        "..",
        ".",
        "",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        7,
        None,
    ],
)
def test_an_index_cannot_name_files_elsewhere(file: object, sharded: Path, tmp_path: Path) -> None:
    shutil.copy(next(sharded.glob("model-*.safetensors")), tmp_path / "outside.safetensors")
    write_index(sharded / f"{SAFETENSORS}.index.json", {"reformer.weight": file})
    with pytest.raises(CheckpointError, match="only files beside the index") as caught:
        open_checkpoint(sharded)
    assert_one_line(caught.value)


@pytest.mark.parametrize("file", ["x" * 5000, "a\0b", "new\nline"])
def test_an_index_with_impossible_names(file: str, sharded: Path) -> None:
    write_index(sharded / f"{SAFETENSORS}.index.json", {"reformer.weight": file})
    with pytest.raises(CheckpointError, match="lacks 1 of the 1") as caught:
        open_checkpoint(sharded)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight_map", [None, {}, [], "model.safetensors"])
def test_an_index_without_a_map(weight_map: object, sharded: Path) -> None:
    write_index(sharded / f"{SAFETENSORS}.index.json", weight_map)
    with pytest.raises(CheckpointError, match="weight_map"):
        open_checkpoint(sharded)


def test_a_shard_of_another_checkpoint(sharded: Path) -> None:
    shard = next(sharded.glob("model-*.safetensors"))
    save_file({"other": torch.ones(1)}, shard)
    with pytest.raises(CheckpointError, match="not of one checkpoint") as caught:
        open_checkpoint(sharded).state_dict()
    assert_one_line(caught.value, shard)


# Damage


@pytest.mark.parametrize("save", [save_safetensors, save_bin, save_bin_of_old_torch])
def test_truncated_weights(save: Save, tmp_path: Path, model: transformers.PreTrainedModel) -> None:
    save(tmp_path, model)
    checkpoint = open_checkpoint(tmp_path)
    path = checkpoint.files[1]
    whole = path.read_bytes()

    @given(st.one_of(st.integers(0, 64), st.integers(0, len(whole) - 1)))
    @settings(max_examples=40)
    def check(kept: int) -> None:
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError) as caught:
            checkpoint.state_dict()
        assert_one_line(caught.value, path)

    check()


@pytest.mark.parametrize("save", [save_safetensors, save_bin, save_bin_of_old_torch])
@given(data=st.data())
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_flipped_bytes_are_noticed_or_harmless(
    save: Save,
    data: st.DataObject,
    tmp_path: Path,
    model: transformers.PreTrainedModel,
) -> None:
    save(tmp_path, model)
    checkpoint = open_checkpoint(tmp_path)
    path = checkpoint.files[1]
    damaged = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, min(len(damaged), 3000) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        checkpoint.state_dict()
    except CheckpointError as error:
        assert_one_line(error, path)


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ([torch.ones(1)], "found a list"),
        ({"epoch": 3}, "found a int under 'epoch'"),
        ({"state_dict": {"a": torch.ones(1)}}, "found a dict under 'state_dict'"),
        ({1: torch.ones(1)}, "found a Tensor under 1"),
        ({"a": torch.eye(2).to_sparse()}, "found a Tensor under 'a'"),
    ],
)
def test_a_file_with_something_else(held: object, found: str, folder: Path) -> None:
    (folder / SAFETENSORS).unlink()
    torch.save(held, folder / BIN)
    with pytest.raises(CheckpointError, match=found) as caught:
        open_checkpoint(folder).state_dict()
    assert_one_line(caught.value, folder / BIN)


# Trust


class Malicious:
    """Makes a folder when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def pickled_by_torch(path: Path, held: object) -> None:
    torch.save(held, path)


def pickled_by_old_torch(path: Path, held: object) -> None:
    torch.save(held, path, _use_new_zipfile_serialization=False)


def pickled_by_hand(path: Path, held: object) -> None:
    path.write_bytes(pickle.dumps(held, protocol=2))


@pytest.mark.parametrize("write", [pickled_by_torch, pickled_by_old_torch, pickled_by_hand])
@pytest.mark.parametrize("architectures", [["ReformerModel"], None])
def test_code_in_a_pickle_is_not_run(
    write: Callable[[Path, object], None],
    architectures: list[str] | None,
    folder: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "was here"
    (folder / SAFETENSORS).unlink()
    write(folder / BIN, {"reformer.weight": torch.ones(1), "evil": Malicious(target)})
    edit_config(folder, architectures=architectures)
    with pytest.raises(CheckpointError, match="could run code hidden in it") as caught:
        open_checkpoint(folder).state_dict()
    assert_one_line(caught.value, folder / BIN, "safetensors")
    assert not target.exists()

    with (folder / BIN).open("rb") as file:  # the code would really run
        if write is pickled_by_hand:
            pickle.load(file)
        else:
            torch.load(file, weights_only=False)
    assert target.exists()


def test_a_pickle_under_the_name_of_safetensors_is_not_unpickled(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "was here"
    pickled_by_hand(folder / SAFETENSORS, Malicious(target))
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        open_checkpoint(folder).state_dict()
    assert not target.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_git_lfs_pointer(tmp_path: Path, name: str) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    save_safetensors(tmp_path, build())
    if name.endswith(".bin"):
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(pointer)
    with pytest.raises(CheckpointError, match=r"is a Git LFS pointer .*: run `git lfs pull`"):
        open_checkpoint(tmp_path).state_dict()


@pytest.mark.parametrize("inside", ["checkpoint-500", "snapshots/0123abc"])
def test_the_folder_that_is_meant_is_named(tmp_path: Path, inside: str) -> None:
    save_safetensors(tmp_path / inside, build())
    with pytest.raises(CheckpointError, match=f"has no config.json, but .*{inside} has: name that"):
        open_checkpoint(tmp_path)
    save_safetensors(tmp_path / "checkpoint-1000", build())
    with pytest.raises(CheckpointError, match=r"checkpoint-1000 has \(the newest of 2\): name"):
        open_checkpoint(tmp_path)
