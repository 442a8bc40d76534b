"""A checkpoint becomes model.pt: TorchScript that Python and plain libtorch load alike."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact.manifest import (
    TORCHSCRIPT,
    FormatRecord,
    Manifest,
    record_files,
    write_manifest,
)
from reformer_export.errors import ExportError, UsageError
from reformer_export.exporters.base import ExportOptions, Progress
from reformer_export.exporters.checkpoint_files import copy_companions

if TYPE_CHECKING:
    import torch

    from reformer_export.source import LoadedModel

FILE = "model.pt"
OPS_MODES = ("native", "portable")
TOOLS = ("reformer-export", "torch")


@dataclass(frozen=True)
class TorchScriptOptions(ExportOptions):
    """How to export; the command line's options of the same names say what each does."""

    ops: str = "native"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ops not in OPS_MODES:
            raise UsageError(f"unknown ops {self.ops!r}: choose one of {', '.join(OPS_MODES)}")


def write_torchscript(
    loaded: LoadedModel, draft: Manifest, folder: Path, options: TorchScriptOptions, say: Progress
) -> Manifest:
    """Write an artifact with model.pt into an empty folder; returns its manifest.

    Raises:
        ExportError: torch could not trace or compile the model.
    """
    copy_companions(loaded.checkpoint.directory, folder)
    say("tracing the model")
    module = scripted(loaded, draft.signature.max_length, portable=options.ops == "portable")
    say("writing the artifact")
    module.save(str(folder / FILE))
    record = FormatRecord(FILE, options.ops, draft.tools)
    manifest = dataclasses.replace(draft, formats={TORCHSCRIPT: record}, files=record_files(folder))
    write_manifest(folder, manifest)
    return manifest


def scripted(loaded: LoadedModel, longest: int, *, portable: bool) -> torch.jit.ScriptModule:
    """The model as TorchScript, for sequences of 1 to `longest` tokens.

    With `portable` nothing of ours is in it; otherwise `torch.ops.reformer` are, as nodes.
    """
    import torch

    from reformer_export.exporters.torch.modules import Deployed, Traced
    from reformer_ops.core.torch_library import decomposed

    config = loaded.config
    # Several chunks, so that nothing is taken for a constant that is only so for one.
    ids = torch.zeros((2, 3 * config.chunk_multiple), dtype=torch.int64)
    width = 2 * config.hidden_size
    dtype = next(loaded.model.parameters()).dtype
    example = {
        "hidden": (ids, torch.ones_like(ids, dtype=torch.bool)),
        "head": (torch.zeros((2, 5, width), dtype=dtype),),
    }
    inlined = decomposed() if portable else contextlib.nullcontext()
    try:
        with warnings.catch_warnings(), torch.no_grad(), inlined:
            # That TorchScript is no longer developed, and that sizes it is given are constants:
            # those of weights are.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace_module(
                Traced(loaded.model).eval(), example, strict=False, check_trace=False
            )
            module = torch.jit.script(Deployed(traced, loaded, longest).eval())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"torch could not turn the model into TorchScript: {reason[-1] if reason else error}"
        ) from error
    # Whoever loads it wants numbers, and no graph of gradients for them.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
