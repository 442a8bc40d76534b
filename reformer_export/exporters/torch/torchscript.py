"""model.pt: TorchScript, for Python and for C++ with plain libtorch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import TORCHSCRIPT, FormatRecord
from reformer_export.artifact.signature import Signature
from reformer_export.errors import ExportError
from reformer_export.exporters.base import ExportOptions, Format, Progress
from reformer_export.exporters.pipeline import export
from reformer_export.host.optional import installed_versions

if TYPE_CHECKING:
    import torch

    from reformer_export.source import LoadedModel

FILE = "model.pt"


def to_torchscript(
    checkpoint: str | Path,
    out: str | Path,
    *,
    task: str = "auto",
    dtype: str = "fp32",
    max_length: int | None = None,
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    ops: str = "native",
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Export a checkpoint to model.pt in an artifact folder.

    `ops` is "native" (our operators, whose library must be loaded) or "portable" (torch's
    operators only). The other arguments, the result and the errors are those of `to_onnx`.
    """
    options = ExportOptions(
        task=task,
        dtype=dtype,
        max_length=max_length,
        num_buckets=num_buckets,
        hash_seed=hash_seed,
        ops=ops,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
        ignore_weights=ignore_weights,
    )
    return export(FORMAT, checkpoint, out, options, verify=verify, force=force, progress=progress)


def _write(
    loaded: LoadedModel,
    signature: Signature,
    folder: Path,
    options: ExportOptions,
    say: Progress,
) -> dict[str, FormatRecord]:
    say("tracing the model")
    module = scripted(loaded, signature.max_length, portable=options.ops == "portable")
    say("writing the artifact")
    module.save(str(folder / FILE))
    tools = installed_versions("reformer-export", "torch")
    return {TORCHSCRIPT: FormatRecord((FILE,), options.ops, tools)}


FORMAT = Format(
    name=TORCHSCRIPT,
    runtime="torchscript",
    package="torch",
    write=_write,
)


def scripted(loaded: LoadedModel, longest: int, *, portable: bool) -> torch.jit.ScriptModule:
    """The model as TorchScript, for sequences of 1 to `longest` tokens; raises ExportError.

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
            # Warnings that TorchScript is deprecated, and that sizes of weights become constants.
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
    # Whoever loads the file needs no gradients.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
