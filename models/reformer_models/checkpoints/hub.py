"""Downloads a checkpoint from the Hugging Face hub, or finds it in the hub's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reformer_models.checkpoints.arrays import ARRAY_FILES
from reformer_models.checkpoints.json_file import one_line
from reformer_models.checkpoints.layout import INDEX
from reformer_models.checkpoints.sources import SOURCES
from reformer_models.errors import CheckpointError

# The files that an artifact needs in addition to the weights.
_SMALL_FILES: Final = (
    *(source.config_file for source in SOURCES),
    "generation_config.json",
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

# A repository often has the weights in several formats: the next is fetched only if the ones before
# are missing.
_WEIGHTS: Final = (
    ("model.safetensors", "model.safetensors" + INDEX, "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin" + INDEX, "pytorch_model-*-of-*.bin"),
    ARRAY_FILES,
)


def download(repo_id: str, *, revision: str | None = None) -> Path:
    """Download the newest or the given version of a checkpoint; returns its folder in the cache.

    Files in the hub's cache are not downloaded again; offline, only these can be opened. The name
    of the folder is the commit.

    Args:
        repo_id: `owner/name`.
        revision: A branch, a tag or a commit.

    Raises:
        CheckpointError: The checkpoint does not exist, access is denied, or the hub can't be
            reached.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    asked = repo_id if revision is None else f"{repo_id} at revision {revision}"
    try:
        for weights in _WEIGHTS:
            folder = Path(
                huggingface_hub.snapshot_download(
                    repo_id, revision=revision, allow_patterns=[*_SMALL_FILES, *weights]
                )
            )
            if any((folder / name).exists() for name in weights):
                break
            revision = folder.name  # the commit: the branch may change before the next download
    except errors.HFValidationError as error:
        raise CheckpointError(
            f"{repo_id!r} is neither a folder here nor a name on the hub (owner/name)"
        ) from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{asked}: its owner must grant you access; ask on its page on the hub, then log in "
            "with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{asked}: the model exists, but not that revision") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{asked} is neither a folder here nor a model on the hub; check the name, and log in "
            "with `hf auth login` if it is private"
        ) from error
    except Exception as error:  # network libraries raise many types
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else one_line(error)
        raise CheckpointError(
            f"{asked} is neither a folder here nor in the hub's cache, and the hub is out of reach "
            f"({why}); name a folder, or download it first"
        ) from error
    return folder
