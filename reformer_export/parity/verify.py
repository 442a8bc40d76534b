"""Is an artifact what it says it is? Compares it with the checkpoint it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact import Artifact
from reformer_export.errors import ArtifactError, RuntimeUnavailableError
from reformer_export.manifest import FileRecord
from reformer_export.optional import installed_version
from reformer_export.parity.compare import compare
from reformer_export.parity.inputs import choose_sizes, parity_inputs
from reformer_export.parity.report import HALF, ParityReport, ParityRow, Tolerance, collect
from reformer_export.runtimes import ProbingRunner, open_runner
from reformer_export.source import load_source

if TYPE_CHECKING:
    from reformer_export.manifest import Manifest
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
    progress: Progress | None = None,
) -> ParityReport:
    """Run an artifact beside our torch model and, where installed, transformers' own.

    Args:
        artifact: the folder.
        against: the checkpoint to compare with; the one it was exported from when left out.
        lengths: sequence lengths; by default those around the chunk lengths.
        batches: batch sizes, by default 1 and 3; batches of several get ragged masks.
        tolerance: replaces the bound on outputs, relative to their scale.
        runtime: which runtime runs the artifact.

    Returns:
        The report. A miss is not an exception: look at `passed`.

    Raises:
        ArtifactError: the artifact is damaged, or its checkpoint is not there any more.
        UsageError: a length or batch that the model does not take.
    """
    say = progress or (lambda message: None)
    opened = Artifact.open(artifact)
    loaded = _load(opened.manifest, against, say)
    return verify_against(
        opened,
        loaded,
        lengths=lengths,
        batches=batches,
        tolerance=tolerance,
        runtime=runtime,
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
    progress: Progress | None = None,
) -> ParityReport:
    """`verify_artifact` with the checkpoint already loaded in the artifact's type."""
    say = progress or (lambda message: None)
    bounds = HALF if artifact.manifest.dtype == "fp16" else Tolerance()
    if tolerance is not None:
        bounds = Tolerance(tolerance, bounds.flip_margin, bounds.flip_fraction)
    candidate = open_runner(artifact, runtime=runtime)
    if not isinstance(candidate, ProbingRunner):
        raise RuntimeUnavailableError(f"{candidate.name} cannot show its buckets to be verified")
    references, baseline, notes = _references(artifact, loaded)
    config = loaded.config
    kinds = {"lsh": config.lsh_attn_chunk_length, "local": config.local_attn_chunk_length}
    chunk_lengths = [kinds[kind] for kind in set(config.attn_layers)]
    signature = artifact.signature
    sizes = choose_sizes(
        lengths, batches, chunk_lengths, config.chunk_multiple, signature.max_length
    )
    rows: list[ParityRow] = []
    try:
        for example in parity_inputs(signature, sizes):
            if example.seed == 0:
                say(f"comparing length {example.length}, batch {example.batch}")
            rows += compare(candidate, references, example, bounds, baseline=baseline)
    finally:
        candidate.close()
    described = {reference.name: reference.description for reference in references}
    return collect(candidate.description, described, bounds, rows, notes)


def _load(manifest: Manifest, against: str | Path | None, say: Progress) -> LoadedModel:
    source = against
    if source is None:
        source = manifest.source.name
        if manifest.source.revision is None and not Path(source).exists():
            raise ArtifactError(
                f"the artifact was exported from {source}, which is not there any more: "
                "give the checkpoint with --against"
            )
    say(f"loading {source}")
    loaded = load_source(
        source,
        task=manifest.task,
        dtype=manifest.dtype,
        num_buckets=manifest.hashing.num_buckets,
        hash_seed=manifest.hashing.hash_seed,
        revision=None if against is not None else manifest.source.revision,
        ignore_config_keys=tuple(manifest.source.ignored_keys),
    )
    if against is None:
        _check_unchanged(manifest, loaded)
    return loaded


def _check_unchanged(manifest: Manifest, loaded: LoadedModel) -> None:
    for path in loaded.checkpoint.files:
        recorded = manifest.source.files.get(path.name)
        if recorded is not None and FileRecord.of(path) != recorded:
            raise ArtifactError(
                f"{path} has changed since the export: export again, or name the checkpoint "
                "to compare with by --against"
            )


def _references(
    artifact: Artifact, loaded: LoadedModel
) -> tuple[list[ProbingRunner], ProbingRunner | None, list[str]]:
    """What to compare with, best known first; a baseline for half precision; notes."""
    from reformer_export.runtimes.torch import TorchRunner

    signature = artifact.signature
    if artifact.manifest.dtype == "fp16":
        # The truth is the same rounded weights computed in fp32; plain torch in fp16 tells how
        # much of the way the type itself goes astray.
        baseline = TorchRunner(loaded, signature)
        return [TorchRunner(loaded.in_fp32(), signature)], baseline, []
    references: list[ProbingRunner] = [TorchRunner(loaded, signature)]
    if installed_version("transformers") is None:
        return references, None, ["transformers is not installed: compared with our model only"]
    from reformer_export.runtimes.transformers import TransformersRunner

    references.append(TransformersRunner(loaded, signature))
    return references, None, []
