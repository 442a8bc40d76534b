"""Writes a checkpoint of any library in the layout of Transformers: config.json and
model.safetensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer_export.artifact.staging import stage
from reformer_export.errors import UsageError
from reformer_export.exporters.base import Progress
from reformer_export.exporters.checkpoint_files import copy_checkpoint_files
from reformer_export.source import load_source, save_checkpoint


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A checkpoint that `import_checkpoint` has written.

    Attributes:
        path: the folder.
        library: the library that saved the original, as for --source.
        architecture: the class of Transformers for the same task.
        task: the task that the head is for.
        beyond_transformers: fields of config.json that Transformers does not have. If there are
            any, only reformer-export reads the checkpoint.
        notes: sentences for the user.
    """

    path: Path
    library: str
    architecture: str
    task: str
    beyond_transformers: tuple[str, ...]
    notes: tuple[str, ...]


def import_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    *,
    source: str = "auto",
    task: str = "auto",
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    progress: Progress | None = None,
) -> ImportedCheckpoint:
    """Write a checkpoint as `config.json` and `model.safetensors`, with the weights in fp32.

    Transformers reads the result if its Reformer can compute what the model computes. Otherwise
    config.json has fields of our own. Settings that the checkpoint leaves open stay open. The
    files of the tokenizer are copied.

    Args:
        checkpoint: a folder, or the name of a model on the Hugging Face hub.
        out: the folder to create. It must not exist.
        source: the library that saved the checkpoint, as for `to_onnx`.
        task: the task whose head is written; "auto" for the one that the checkpoint was made for.
        revision: branch, tag or commit of a hub model.
        ignore_config_keys: unknown keys of the configuration file to ignore.
        ignore_weights: names of tensors to leave out; * matches any characters.
        progress: receives progress messages, one sentence at a time.

    Raises:
        UsageError: `out` exists or can't be created.
        ReformerError: the checkpoint can't be read. `out` is not created.
    """
    say = progress or (lambda message: None)
    if os.path.lexists(out):
        raise UsageError(f"{out} exists: choose another folder, or remove it")
    with stage(out) as folder:
        say(f"loading {checkpoint}")
        loaded = load_source(
            checkpoint,
            library=source,
            task=task,
            revision=revision,
            ignore_config_keys=ignore_config_keys,
            ignore_weights=ignore_weights,
        )
        original, model = loaded.checkpoint, loaded.token_model
        say("writing the checkpoint")
        copy_checkpoint_files(original.directory, folder)
        save_checkpoint(model, folder, config=original.token_config)
    # A checkpoint may leave open what an export pins.
    notes = [note for note in loaded.notes if note not in original.config.pinned().notes]
    beyond = original.config.beyond_transformers
    bias = loaded.model.state_dict().get("lm_head.bias")
    translated = original.written_by.name != "huggingface"
    if translated and not beyond and bias is not None and bias.any():
        notes.append(
            "lm_head.bias is not zero: transformers 4 adds it, transformers 5 leaves it out, and "
            "reformer-export adds it."
        )
    return ImportedCheckpoint(
        path=Path(out),
        library=original.written_by.name,
        architecture=original.architecture,
        task=loaded.task,
        beyond_transformers=beyond,
        notes=tuple(notes),
    )
