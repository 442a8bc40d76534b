"""Compares an artifact with the checkpoint that it was exported from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact import Artifact
from reformer_export.errors import RuntimeUnavailableError, UsageError
from reformer_export.host.device import CPU
from reformer_export.host.optional import installed_version
from reformer_export.runtimes import ProbingRunner, ShowingRunner, open_runner
from reformer_export.runtimes.base import Arrays
from reformer_export.runtimes.decoders import DECODERS, open_decoder
from reformer_export.source import load_original
from reformer_export.verification.parity.compare import compare
from reformer_export.verification.parity.decoding import compare_generation, lengths_with_steps
from reformer_export.verification.parity.inputs import choose_sizes, parity_inputs
from reformer_export.verification.parity.report import (
    ParityReport,
    ParityRow,
    collect,
    tolerance_for,
)
from reformer_export.verification.parity.saved_io import save_io
from reformer_ops.core.native import Choice

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel

Progress = Callable[[str], None]


def verify_artifact(
    artifact: str | Path,
    *,
    against: str | Path | None = None,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    tolerance: float | None = None,
    runtime: str = "auto",
    ops: Choice = "auto",
    device: str = CPU,
    save_to: str | Path | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare an artifact with our torch model and, in fp32 and if installed, transformers' model.

    Args:
        artifact: the folder.
        against: the checkpoint to compare with; by default the one that it was exported from.
        lengths: sequence lengths; by default those around the chunk lengths.
        batches: batch sizes, by default 1 and 3; batches of several get ragged masks.
        tolerance: replaces the bound on outputs, relative to their scale.
        runtime: which runtime runs the artifact.
        ops: native or portable operators, see `open_runner`.
        device: where the artifact runs. The references run on the CPU.
        save_to: a new folder for the inputs and the artifact's outputs, in Polygraphy's format.

    Returns:
        The report. A miss raises no exception: check `passed`.

    Raises:
        ArtifactError: the artifact is damaged, or its checkpoint is missing or has changed.
        UsageError: the model does not accept a length or batch size, or `save_to` exists.
    """
    say = progress or (lambda message: None)
    opened = Artifact.open(artifact)
    say(f"loading {against or opened.manifest.source.name}")
    loaded = load_original(opened.manifest, against)
    return verify_against(
        opened,
        loaded,
        lengths=lengths,
        batches=batches,
        tolerance=tolerance,
        runtime=runtime,
        ops=ops,
        device=device,
        save_to=save_to,
        progress=progress,
    )


def verify_against(
    artifact: Artifact,
    loaded: LoadedModel,
    *,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    tolerance: float | None = None,
    runtime: str = "auto",
    ops: Choice = "auto",
    device: str = CPU,
    save_to: str | Path | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """`verify_artifact` with the checkpoint already loaded in the artifact's type."""
    say = progress or (lambda message: None)
    if save_to is not None and os.path.lexists(save_to):  # fail before all the work
        raise UsageError(f"{save_to} exists: choose another folder to save inputs and outputs in")
    manifest = artifact.manifest
    bounds = tolerance_for(manifest.dtype, tolerance, weights=manifest.weights)
    candidate = open_runner(artifact, runtime=runtime, ops=ops, device=device)
    if not isinstance(candidate, (ProbingRunner, ShowingRunner)):
        candidate.close()
        raise RuntimeUnavailableError(f"{candidate.name} cannot show its buckets to be verified")
    references, baseline, notes = _references(artifact, loaded)
    sizes = sizes_to_try(artifact, loaded, lengths, batches)
    rows: list[ParityRow] = []
    runs: list[tuple[Arrays, Arrays]] = []
    try:
        for example in parity_inputs(artifact.signature, sizes):
            if example.seed == 0:
                say(f"comparing length {example.length}, batch {example.batch}")
            rows += compare(candidate, references, example, bounds, baseline=baseline)
            if save_to is not None:
                runs.append((example.inputs, candidate.run(example.inputs)))
        decoder = DECODERS.get(candidate.name)
        if decoder is not None and decoder.can_run(artifact):
            say("comparing the steps of generation")
            generating = open_decoder(artifact, runtime=candidate.name, ops=ops)
            lengths = lengths_with_steps(artifact.signature, sizes)
            rows += compare_generation(generating, loaded, [lengths], bounds)
    finally:
        candidate.close()
    if save_to is not None:
        save_io(save_to, runs, candidate.name)
    described = {reference.name: reference.description for reference in references}
    return collect(candidate.description, described, bounds, rows, notes)


def sizes_to_try(
    artifact: Artifact,
    loaded: LoadedModel,
    lengths: Sequence[int] | None,
    batches: Sequence[int] | None,
) -> list[tuple[int, int]]:
    """The (length, batch) pairs to compare: the user's, or those of `choose_sizes`."""
    config, longest = loaded.config, artifact.signature.max_length
    return choose_sizes(lengths, batches, config.changing_lengths, config.chunk_multiple, longest)


def _references(
    artifact: Artifact, loaded: LoadedModel
) -> tuple[list[ProbingRunner], ProbingRunner | None, list[str]]:
    """The references, our torch model first; a baseline for models that round; notes."""
    from reformer_export.runtimes.torch import TorchRunner

    signature = artifact.signature
    if loaded.rounds:
        # The reference is the same rounded weights computed in fp32; torch in half precision, or
        # with integers, shows the error of the type itself.
        baseline = TorchRunner(loaded, signature)
        return [TorchRunner(loaded.in_fp32(), signature)], baseline, []
    references: list[ProbingRunner] = [TorchRunner(loaded, signature)]
    if installed_version("transformers") is None:
        return references, None, ["transformers is not installed: compared with our model only"]
    from reformer_export.runtimes.transformers import TransformersRunner, inexpressible

    if reason := inexpressible(loaded):
        return references, None, [f"{reason}: compared with our model only"]
    references.append(TransformersRunner(loaded, signature))
    return references, None, []
