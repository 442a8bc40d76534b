"""Exports model.pt: TorchScript, for Python and for C++ with plain libtorch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import TORCHSCRIPT, FormatRecord
from reformer_export.artifact.signature import SeriesSignature, Signature, TensorSpec
from reformer_export.errors import ExportError
from reformer_export.exporters.base import ExportOptions, Format, Progress, example_inputs
from reformer_export.exporters.pipeline import export
from reformer_export.host.optional import installed_versions
from reformer_export.source import DTYPES, decoder_modules, fused
from reformer_ops.registry import STEPS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from reformer_export.source import LoadedModel

FILE = "model.pt"


@dataclass(frozen=True)
class TorchScriptOptions(ExportOptions):
    """Options of the export, named as on the command line."""

    takes_past: ClassVar[bool] = True


def to_torchscript(
    checkpoint: str | Path,
    out: str | Path,
    *,
    source: str = "auto",
    task: str = "auto",
    dtype: str = "fp32",
    max_length: int | None = None,
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    logits: str = "all",
    weights: str | None = None,
    keep: Sequence[str] = (),
    calibration: str | Path | None = None,
    tokenizer: str = "auto",
    max_loss: float | None = None,
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
    operators only). The task "text-generation-with-past" adds the methods that generate. The other
    arguments, the result and the errors are those of `to_onnx`.
    """
    options = TorchScriptOptions(
        source=source,
        task=task,
        dtype=dtype,
        max_length=max_length,
        num_buckets=num_buckets,
        hash_seed=hash_seed,
        logits=logits,
        weights=weights,
        keep=keep,
        calibration=calibration,
        tokenizer=tokenizer,
        max_loss=max_loss,
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
    options: TorchScriptOptions,
    say: Progress,
) -> dict[str, FormatRecord]:
    say("tracing the model")
    model = loaded if options.ops == "portable" else fused(loaded)
    module = scripted(
        model.stored_as_fp16() if options.weights == "fp16" else model,
        signature,
        portable=options.ops == "portable",
        with_past=options.with_past,
    )
    say("writing the artifact")
    module.save(str(folder / FILE))
    tools = installed_versions("reformer-export", "torch")
    details = _cache_details(loaded, options.dtype) if options.with_past else {}
    return {TORCHSCRIPT: FormatRecord((FILE,), options.ops, tools, details=details)}


FORMAT = Format(
    name=TORCHSCRIPT,
    runtime="torchscript",
    package="torch",
    write=_write,
    takes_series=True,
)


def scripted(
    loaded: LoadedModel, signature: Signature, *, portable: bool, with_past: bool = False
) -> torch.jit.ScriptModule:
    """The model as TorchScript, for sequences up to the signature's longest; raises ExportError.

    With `portable` it has none of our operators; otherwise they are nodes, `torch.ops.reformer`.
    With `with_past` it also generates.
    """
    import torch

    from reformer_ops.core.torch_library import decomposed

    inlined = decomposed() if portable else contextlib.nullcontext()
    try:
        with warnings.catch_warnings(), torch.no_grad(), inlined:
            # The warnings: TorchScript is deprecated, and sizes of weights become constants.
            warnings.simplefilter("ignore")
            if isinstance(signature, SeriesSignature):
                deployed = _of_series(loaded, signature)
            else:
                deployed = _of_tokens(loaded, signature.max_length, with_past=with_past)
            module = torch.jit.script(deployed.eval())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"torch could not turn the model into TorchScript: {reason[-1] if reason else error}"
        ) from error
    # Users of the file need no gradients.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _of_tokens(loaded: LoadedModel, longest: int, *, with_past: bool) -> nn.Module:
    import torch

    from reformer_export.exporters.torch import modules

    config = loaded.token_config
    # Several chunks, so that the trace does not fix a size that is constant only for one chunk.
    ids = torch.zeros((2, 3 * config.chunk_multiple), dtype=torch.int64)
    mask = torch.ones_like(ids, dtype=torch.bool)
    example: dict[str, tuple[Any, ...]] = {
        "hidden": (ids, mask),
        "head": (torch.zeros((2, 5, config.output_size), dtype=loaded.dtype),),
    }
    if not with_past:
        traced = _traced(modules.Traced(loaded.model), example)
        return modules.Deployed(traced, loaded, longest)
    example |= _generating_example(loaded, ids, mask)
    traced = _traced(modules.TracedGeneration(loaded), example)
    past = [tensor.past for tensor in decoder_modules(loaded)[2]]
    return modules.DeployedGeneration(traced, loaded, longest, past)


def _of_series(loaded: LoadedModel, signature: SeriesSignature) -> nn.Module:
    from reformer_export.exporters.torch import modules

    given = example_inputs(loaded, signature)
    has_time_features = len(given) == 2
    traced = _traced(
        modules.TracedSeries(loaded.model, has_time_features),
        {"outputs": (given[0], given[-1])},
    )
    return modules.DeployedSeries(traced, signature.max_length, has_time_features)


def _traced(module: torch.nn.Module, example: dict[str, tuple[Any, ...]]) -> torch.jit.ScriptModule:
    import torch

    traced: torch.jit.ScriptModule = torch.jit.trace_module(
        module.eval(), example, strict=False, check_trace=False
    )
    return traced


def _generating_example(
    loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor
) -> dict[str, tuple[Any, ...]]:
    """Inputs of `TracedGeneration.fill` and `extend`."""
    import torch

    dtype = loaded.dtype
    past = [tensor.zeros(2, 7, dtype) for tensor in decoder_modules(loaded)[2]]
    length = torch.ones(2, dtype=torch.int64)
    return {"fill": (ids, mask, ids[:, :-1]), "extend": (ids[:, :1], length, length, past)}


def _cache_details(loaded: LoadedModel, dtype: str) -> dict[str, Any]:
    """Details for the manifest: the cache's tensors in order, and our operators in the steps."""
    _, _, tensors = decoder_modules(loaded)
    specs = (
        TensorSpec(each.name, "int32" if each.integers else DTYPES[dtype], each.axes)
        for each in tensors
    )
    return {
        "cache": [spec.to_json() for spec in specs],
        "ops": {op.name: op.version for op in STEPS},
    }
