"""A checkpoint: its source, its configuration, and its weights, which are read on request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.architecture import architecture_of
from reformer_models.checkpoints.hub import download
from reformer_models.checkpoints.json_file import read_json_object
from reformer_models.checkpoints.layout import Weights, find_weights
from reformer_models.checkpoints.sources import (
    AUTO,
    HUGGINGFACE,
    SOURCES,
    Described,
    Source,
    source_of,
)
from reformer_models.config import ReformerConfig, SeriesConfig
from reformer_models.errors import CheckpointError, ConfigError, shortened

if TYPE_CHECKING:
    import torch

CONFIG_FILE: Final = HUGGINGFACE.config_file


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `open_checkpoint` found complete; its weights are not read yet.

    Attributes:
        source: The folder or the name on the hub, as given.
        directory: The local folder.
        revision: The commit of the download; None for a folder.
        written_by: The library that saved it.
        described: What its configuration file says.
        architecture: Hugging Face's class of the weights, from the configuration file or,
            if it names none, from the names of the weights.
        weights: The files with the weights.
    """

    source: str
    directory: Path
    revision: str | None
    written_by: Source
    described: Described
    architecture: str
    weights: Weights

    @property
    def config(self) -> ReformerConfig | SeriesConfig:
        """The configuration as read: its method `pinned` sets what hashing needs."""
        return self.described.config

    @property
    def token_config(self) -> ReformerConfig:
        """The configuration of a model that takes tokens; raises ConfigError for another one."""
        if not isinstance(self.config, ReformerConfig):
            raise ConfigError(
                f"this is for models of tokens, and {self.source} takes series of numbers"
            )
        return self.config

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that affects the model's results: the configuration, then the weights."""
        return (self.directory / self.written_by.config_file, *self.weights.files)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All weights by Hugging Face's names, on the CPU.

        If nothing is translated, they have the dtypes they were saved in. They are memory-mapped,
        copy on write: the files must stay while the tensors are in use.

        Raises:
            CheckpointError: A file is damaged, incomplete, or holds something other than tensors;
                or the tensors do not fit the configuration.
        """
        return self.described.translated(self.weights.read())


def open_checkpoint(
    source: str | Path,
    *,
    library: str = AUTO,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
) -> Checkpoint:
    """Find a checkpoint, and check its configuration and that its files exist.

    Args:
        source: A folder with weights and the configuration file of one of `SOURCES`, or the name
            of a model on the Hugging Face hub, which is then downloaded. If both exist, the folder
            is used.
        library: The name of one of `SOURCES` that saved it; "auto" for the one whose configuration
            file is there.
        revision: A branch, tag or commit on the hub.
        ignore_config_keys: Unknown keys of the configuration file to accept.

    Raises:
        CheckpointError: The source does not exist or can't be downloaded, or a file is missing or
            is not JSON.
        ConfigError: The configuration is not a Reformer's, has an invalid value, or asks for
            something that our model does not have.
    """
    if _is_folder(source):
        if revision is not None:
            raise CheckpointError(
                f"revision {revision} was asked for, but {source} is a folder; only a model on the "
                "hub has revisions"
            )
        directory, commit = Path(os.path.expanduser(source)), None
    else:
        directory = download(str(source), revision=revision)
        commit = directory.name

    written_by = source_of(directory, library)
    if written_by is None:
        raise CheckpointError(f"{source} has no {CONFIG_FILE}{_where_it_may_be(directory)}")
    config_file = directory / written_by.config_file
    try:
        described = written_by.describe(read_json_object(config_file), ignore_config_keys)
    except ConfigError as error:
        raise ConfigError(f"{config_file}: {error}") from error

    weights = find_weights(directory, written_by.weight_files)
    architecture, config = described.architecture, described.config
    if architecture is None and isinstance(config, ReformerConfig):
        architecture = architecture_of(weights.names(), is_decoder=config.is_decoder)
    if architecture is None:
        raise CheckpointError(
            f"{source}: the names of its weights are not those of a Reformer, nor does "
            f"{config_file.name} name its architecture"
        )
    return Checkpoint(str(source), directory, commit, written_by, described, architecture, weights)


def _where_it_may_be(directory: Path) -> str:
    """The end of an error message: it names the newest subfolder that has a config.json."""
    try:
        inside = [path.parent for path in directory.glob(f"*/{CONFIG_FILE}")]
        inside += [path.parent for path in directory.glob(f"snapshots/*/{CONFIG_FILE}")]
        inside.sort(key=lambda folder: (folder / CONFIG_FILE).stat().st_mtime)
    except OSError:
        inside = []
    if not inside:
        others = ", ".join(other.config_file for other in SOURCES if other is not HUGGINGFACE)
        return f"; is it a checkpoint of Transformers? (other libraries have: {others})"
    more = f" (the newest of {len(inside)})" if len(inside) > 1 else ""
    return f", but {shortened(str(inside[-1]))} has{more}: name that folder"


def _is_folder(source: str | Path) -> bool:
    """True if the source is a local folder; False if it can be a name on the hub.

    Raises:
        CheckpointError: It is a file, or it does not exist and can't be a name on the hub.
    """
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        return True
    if os.path.lexists(path):
        raise CheckpointError(
            f"{source} is not a folder; name the folder with {CONFIG_FILE} and the weights"
        )
    given = str(source)
    if isinstance(source, Path) or given.startswith((".", "~", os.sep)) or given.count("/") != 1:
        raise CheckpointError(
            f"{source} does not exist; name a folder, or a model on the hub as owner/name"
        )
    return False
