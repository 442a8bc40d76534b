"""Tiny models of Transformers, saved in every format in which a Reformer's weights exist."""

from __future__ import annotations

import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SAFETENSORS, BIN = "model.safetensors", "pytorch_model.bin"

Save = Callable[[Path, transformers.PreTrainedModel], None]


def build(architecture: str = "ReformerModelWithLMHead", **changes: Any) -> Any:
    """A tiny model of Transformers with random weights."""
    config = transformers.ReformerConfig(
        attn_layers=["lsh", "local"],
        attention_head_size=4,
        axial_pos_embds_dim=[2, 6],
        axial_pos_shape=[4, 8],
        feed_forward_size=8,
        hash_seed=0,
        hidden_size=8,
        is_decoder=architecture == "ReformerModelWithLMHead",
        local_attn_chunk_length=4,
        lsh_attn_chunk_length=4,
        max_position_embeddings=32,
        num_attention_heads=2,
        num_buckets=4,
        vocab_size=16,
        **changes,
    )
    torch.manual_seed(0)
    return getattr(transformers, architecture)(config)


def save_safetensors(folder: Path, model: transformers.PreTrainedModel) -> None:
    model.save_pretrained(folder)
    assert (folder / SAFETENSORS).is_file()


def save_sharded_safetensors(folder: Path, model: transformers.PreTrainedModel) -> None:
    model.save_pretrained(folder, max_shard_size="2KB")
    assert not (folder / SAFETENSORS).exists()
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2


def save_bin(folder: Path, model: transformers.PreTrainedModel) -> None:
    write_config(folder, model)
    torch.save(model.state_dict(), folder / BIN)


def save_bin_of_old_torch(folder: Path, model: transformers.PreTrainedModel) -> None:
    write_config(folder, model)
    torch.save(model.state_dict(), folder / BIN, _use_new_zipfile_serialization=False)


def save_bin_with_parameters(folder: Path, model: transformers.PreTrainedModel) -> None:
    write_config(folder, model)
    torch.save(OrderedDict(model.named_parameters()), folder / BIN)


def save_sharded_bin(folder: Path, model: transformers.PreTrainedModel) -> None:
    write_config(folder, model)
    weights = list(model.state_dict().items())
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        name = f"pytorch_model-{number:05}-of-00002.bin"
        part = dict(weights[number - 1 :: 2])
        torch.save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    write_index(folder / f"{BIN}.index.json", weight_map)


def write_config(folder: Path, model: transformers.PreTrainedModel) -> None:
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)


def write_index(path: Path, weight_map: object) -> None:
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def edit_config(folder: Path, **changes: object) -> None:
    """Change keys of a config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def assert_one_line(error: Exception, *parts: object) -> None:
    message = str(error)
    assert "\n" not in message
    assert len(message) < 1000
    for part in parts:
        assert str(part) in message


def as_cached(folder: Path, cache: Path) -> Path:
    """Lay a checkpoint out as the hub's cache does: a snapshot of links to blobs; returns it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--someone--reformer"
    snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(folder.iterdir()):
        blob = blobs / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot
