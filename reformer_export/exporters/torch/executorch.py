"""Exports model.pte: a program for ExecuTorch, torch's runtime for phones, with XNNPACK."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import EXECUTORCH, FormatRecord
from reformer_export.artifact.signature import Signature
from reformer_export.errors import (
    ExportError,
    ReformerError,
    RuntimeUnavailableError,
    UsageError,
)
from reformer_export.exporters.base import ExportOptions, Format, Progress
from reformer_export.exporters.pipeline import export
from reformer_export.host.memory import total
from reformer_export.host.optional import installed_versions, require

if TYPE_CHECKING:
    import torch

    from reformer_export.source import LoadedModel

FILE = "model.pte"


@dataclass(frozen=True)
class ExecuTorchOptions(ExportOptions):
    """Options of the export, named as on the command line."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32",)
    ops_modes: ClassVar[tuple[str, ...]] = ("portable",)

    ops: str = "portable"
    max_batch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None:
            raise UsageError(
                f"--weights {self.weights} is not for to-executorch, which exports fp32 only: "
                "leave it out"
            )
        if self.max_batch < 1:
            raise UsageError(f"--max-batch {self.max_batch}: a batch has at least one sequence")


def to_executorch(
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
    max_batch: int = 1,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Export a checkpoint to model.pte in an artifact folder.

    `max_batch` is the maximum number of sequences that the program takes; our runner splits larger
    batches. ExecuTorch plans all memory at the export, for `max_batch` sequences of `max_length`
    tokens. Only fp32 is exported. The other arguments, the result and the errors are those of
    `to_onnx`. Further errors:

    Raises:
        ExportError: torch or ExecuTorch could not convert the model, or the program would need more
            memory than this machine has.
    """
    options = ExecuTorchOptions(
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
        max_batch=max_batch,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
        ignore_weights=ignore_weights,
    )
    return export(FORMAT, checkpoint, out, options, verify=verify, force=force, progress=progress)


def _write(
    loaded: LoadedModel,
    signature: Signature,
    folder: Path,
    options: ExecuTorchOptions,
    say: Progress,
) -> dict[str, FormatRecord]:
    try:
        with _quiet():
            require("executorch.exir", purpose="to-executorch")
            say("tracing the model")
            program = exported(loaded, signature.max_length, options.max_batch)
            say("converting the model for XNNPACK")
            contents, memory_bytes = converted(program)
    except ReformerError:
        raise
    except Exception as error:  # the errors of ExecuTorch have no common class
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"ExecuTorch could not convert the model: {reason}") from error
    _check_memory(memory_bytes, signature.max_length, options.max_batch)
    (folder / FILE).write_bytes(contents)
    tools = installed_versions("reformer-export", "torch", "executorch")
    details = {"max_batch": options.max_batch, "memory_bytes": memory_bytes}
    return {EXECUTORCH: FormatRecord((FILE,), options.ops, tools, details=details)}


FORMAT = Format(
    name=EXECUTORCH,
    runtime="executorch",
    package="executorch",
    write=_write,
    verify_ops="portable",
)


def _check_memory(needed: int, longest: int, max_batch: int) -> None:
    """ExportError if this machine could not load the program."""
    with suppress(RuntimeUnavailableError):  # the memory is known only on Linux
        if needed > (here := total()):
            raise ExportError(
                f"model.pte would need {needed / 1e9:.1f} GB of memory for --max-batch {max_batch} "
                f"and --max-length {longest}, and this machine has {here / 1e9:.1f}: give less"
            )


def exported(loaded: LoadedModel, longest: int, max_batch: int) -> torch.export.ExportedProgram:
    """The model for 1 to `max_batch` sequences of 1 to `longest` tokens.

    It returns the outputs in the signature's order, then the buckets of all LSH layers, if any:
    `[lsh_layers, batch, heads, num_hashes, padded_length]` int32.
    """
    import torch

    from reformer_export.exporters.torch.executorch_operators import DECOMPOSITIONS
    from reformer_export.exporters.torch.modules import Bounded
    from reformer_ops.core.torch_library import decomposed

    # Sizes of 1 become constants in a trace.
    length = min(max(2, 2 * loaded.config.chunk_multiple - 1), longest)
    ids = torch.zeros((min(2, max_batch), length), dtype=torch.int64)
    axes = {}
    if max_batch > 1:
        axes[0] = torch.export.Dim("batch", min=1, max=max_batch)
    if longest > 1:
        axes[1] = torch.export.Dim("sequence", min=1, max=longest)
    with torch.no_grad(), decomposed():
        program = torch.export.export(
            Bounded(loaded, longest).eval(),
            (ids, torch.ones_like(ids)),
            dynamic_shapes=(axes, axes),
        )
        return program.run_decompositions(DECOMPOSITIONS)


def converted(program: torch.export.ExportedProgram) -> tuple[bytes, int]:
    """The contents of model.pte, and the bytes of memory that it needs beside its weights.

    XNNPACK runs the operators that it has; ExecuTorch's portable operators run the rest.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    # The check of the intermediate form does not know `sym_min`, which the program may contain.
    config = EdgeCompileConfig(_check_ir_validity=False)
    lowered = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], compile_config=config
    )
    made = lowered.to_executorch()
    (plan,) = made.executorch_program.execution_plan
    return made.buffer, sum(plan.non_const_buffer_sizes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's and ExecuTorch's notes about what they convert."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
