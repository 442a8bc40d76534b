"""Exports model.pt2: machine code for one kind of processor, compiled by AOTInductor."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.machine_code import INSTRUCTIONS, check_machine, this_machine
from reformer_export.artifact.manifest import AOTI, FormatRecord
from reformer_export.artifact.signature import Signature
from reformer_export.errors import ExportError, MissingDependencyError, UsageError
from reformer_export.exporters.base import ExportOptions, Format, Progress, example_inputs
from reformer_export.exporters.pipeline import export
from reformer_export.host.optional import installed_versions
from reformer_export.source import fused

if TYPE_CHECKING:
    import torch

    from reformer_export.source import LoadedModel

FILE = "model.pt2"

# Instruction sets to choose from: bits of a vector, and the name that the compiler uses.
INSTRUCTION_SETS = {"avx2": (256, "x86-64-v3"), "avx512": (512, "x86-64-v4")}


@dataclass(frozen=True)
class AotiOptions(ExportOptions):
    """Options of the export, named as on the command line."""

    isa: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.isa is not None and self.isa not in INSTRUCTION_SETS:
            known = ", ".join(INSTRUCTION_SETS)
            raise UsageError(f"unknown instruction set {self.isa!r}: choose one of {known}")


def check_compiler() -> None:
    """MissingDependencyError if there is no C++ compiler for AOTInductor to call."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise MissingDependencyError(
            "to-aoti compiles C++ and finds no compiler: apt install g++, or name one in CXX"
        ) from error


def to_aoti(
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
    isa: str | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Compile a checkpoint to model.pt2 in an artifact folder.

    `ops` is "native" (our operators, whose library must be loaded) or "portable" (torch's
    operators only); `isa` is "avx2" or "avx512", the widest that this machine has if None. The
    other arguments, the result and the errors are those of `to_onnx`. Further errors:

    Raises:
        MissingDependencyError: there is no C++ compiler.
        RuntimeUnavailableError: this machine lacks the instructions of `isa`, so nothing could be
            verified.
        ExportError: torch could not export or compile the model.
    """
    options = AotiOptions(
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
        isa=isa,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
        ignore_weights=ignore_weights,
    )
    return export(FORMAT, checkpoint, out, options, verify=verify, force=force, progress=progress)


def _write(
    loaded: LoadedModel, signature: Signature, folder: Path, options: AotiOptions, say: Progress
) -> dict[str, FormatRecord]:
    check_compiler()
    machine = this_machine()
    if options.isa is not None:
        machine[INSTRUCTIONS] = options.isa
        check_machine(machine, FILE)
    say("tracing the model")
    try:
        with _quiet():
            portable = options.ops == "portable"
            model = loaded if portable else fused(loaded)
            stored = model.stored_as_fp16() if options.weights == "fp16" else model
            program = exported(stored, signature, portable=portable)
            say("compiling the model")
            compile_package(
                program,
                folder / FILE,
                machine[INSTRUCTIONS],
                widen_when_loaded=options.weights == "fp16",
            )
    except (RuntimeError, ValueError, AssertionError, OSError) as error:
        raise ExportError(f"torch could not compile the model: {_reason(error)}") from error
    tools = installed_versions("reformer-export", "torch")
    return {AOTI: FormatRecord((FILE,), options.ops, tools, machine)}


FORMAT = Format(
    name=AOTI,
    runtime="aoti",
    package="torch",
    write=_write,
    takes_series=True,
)


def _reason(error: Exception) -> str:
    """The first line of an error and, if there is compiler output, its first line with an error."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    output = lines[lines.index("Output:") + 1 :] if "Output:" in lines else []
    if output:
        message += f": {next((line for line in output if 'error' in line.lower()), output[0])}"
    if " " in (folder := tempfile.gettempdir()):
        message += (
            f". The temporary folder {folder!r} has a space in its name, which torch's compiler "
            "command does not allow: set TMPDIR to another"
        )
    return message


def exported(
    loaded: LoadedModel, signature: Signature, *, portable: bool
) -> torch.export.ExportedProgram:
    """The model; the batch and the length of its inputs are dynamic.

    It returns the outputs in the signature's order, then the buckets of all LSH layers, if any:
    `[lsh_layers, batch, heads, num_hashes, padded]` int32. The verification needs the buckets of
    the compiled model, which cannot be inspected.
    """
    import torch

    from reformer_export.exporters.torch.modules import Flat
    from reformer_ops.core.torch_library import decomposed

    examples = example_inputs(loaded, signature)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), decomposed() if portable else contextlib.nullcontext():
        return torch.export.export(
            Flat(loaded.model).eval(),
            examples,
            dynamic_shapes=(tuple(dynamic for _ in examples),),
        )


def compile_package(
    program: torch.export.ExportedProgram,
    path: Path,
    instructions: str,
    *,
    widen_when_loaded: bool = False,
) -> None:
    """Compile a program and write the package that `aoti_load_package` reads.

    With `widen_when_loaded`, conversions of weights run once, before the first run, and not in
    every run.
    """
    import torch
    from torch._inductor.utils import fresh_cache

    options: dict[str, Any] = {"aot_inductor.use_runtime_constant_folding": widen_when_loaded}
    if instructions in INSTRUCTION_SETS:
        width, march = INSTRUCTION_SETS[instructions]
        options |= {"cpp.simdlen": width, "cpp.march": march}
    # The cache would leave a copy of the weights in the temporary folder.
    with fresh_cache():
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(path), inductor_configs=options
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's compiler."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
