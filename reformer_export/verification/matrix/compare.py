"""Compare every runtime that can run an artifact here with torch and with each other."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST, FileRecord
from reformer_export.artifact.merging import check_same_model
from reformer_export.errors import ParityError, ReformerError, UsageError
from reformer_export.host.machine import describe_machine
from reformer_export.host.optional import installed
from reformer_export.runtimes import RUNTIMES, ProbingRunner, ShowingRunner, open_runner
from reformer_export.runtimes.base import Probe
from reformer_export.runtimes.decoders import DECODERS, open_decoder
from reformer_export.source import load_original
from reformer_export.verification.matrix.report import Contender, MatrixReport, PairRow
from reformer_export.verification.parity.compare import compare, relative_error
from reformer_export.verification.parity.decoding import compare_generation, lengths_with_steps
from reformer_export.verification.parity.inputs import ParityInput, parity_inputs
from reformer_export.verification.parity.report import ParityRow, Tolerance, tolerance_for
from reformer_export.verification.parity.verify import sizes_to_try
from reformer_ops.core.native import Choice

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel

Progress = Callable[[str], None]
Comparable = ProbingRunner | ShowingRunner

_REFERENCE = "torch"
_WAYS: tuple[Choice, ...] = ("native", "portable")


def verify_matrix(
    artifacts: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> MatrixReport:
    """Compare all runtimes that can run here, each with native and with portable operators.

    Args:
        artifacts: one folder, or several of the same model (for example one with portable and one
            with native operators).
        against: the checkpoint they were exported from; by default the one in the manifest.
        lengths: sequence lengths; by default those around the chunk lengths.
        batches: batch sizes; by default 1, and at some lengths also 3 with ragged masks.
        tolerance: replaces the bound on outputs, relative to their scale.

    Returns:
        The report. A miss raises no exception: check `passed`.

    Raises:
        ArtifactError: an artifact is damaged, or its checkpoint is missing or has changed.
        UsageError: the artifacts are of different models, or the model does not accept a length or
            a batch size.
    """
    say = progress or (lambda message: None)
    if not artifacts:
        raise UsageError("name at least one artifact to compare")
    opened = [Artifact.open(artifact) for artifact in artifacts]
    first = opened[0].manifest
    for other in opened[1:]:
        check_same_model(first, other.manifest, other.path, force=False)
    say(f"loading {against or first.source.name}")
    loaded = load_original(first, against)
    bounds = tolerance_for(first.dtype, tolerance, weights=first.weights)
    sizes = sizes_to_try(opened[0], loaded, lengths, batches)

    reference, baseline = _references(opened[0], loaded)
    entries = [*_known(opened[0], loaded), *_runtimes(opened)]
    meetings = _Meetings()
    try:
        for example in parity_inputs(first.signature, sizes):
            if example.seed == 0:
                say(f"comparing length {example.length}, batch {example.batch}")
            _meet(example, reference, baseline, entries, bounds, meetings)
    finally:
        for entry in entries:
            entry.close()
    decoders = tuple(_decoders(opened, loaded, sizes, bounds, say))
    return MatrixReport(
        artifacts=tuple(_about(artifact) for artifact in opened),
        model={
            "task": first.task,
            "architecture": first.architecture,
            "dtype": first.dtype,
            "source": first.source.name,
            "revision": first.source.revision,
        },
        reference=Contender(reference.name, reference.description),
        contenders=(*(entry.contender() for entry in entries), *decoders),
        pairs=tuple(meetings.pairs()),
        lengths=tuple(sorted({length for length, _ in sizes})),
        tolerance=bounds,
        environment=describe_machine(),
    )


@dataclass
class _Entry:
    """A contender during the comparison; `runner` is None if it cannot run."""

    name: str
    runner: Comparable | None
    reason: str | None = None
    rows: list[ParityRow] = field(default_factory=list)

    def contender(self) -> Contender:
        description = None if self.runner is None else self.runner.description
        return Contender(self.name, description, self.reason, tuple(self.rows))

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()


def _references(
    artifact: Artifact, loaded: LoadedModel
) -> tuple[ProbingRunner, ProbingRunner | None]:
    from reformer_export.runtimes.torch import TorchRunner

    signature = artifact.signature
    if loaded.rounds:  # the reference computes the same weights in fp32
        return TorchRunner(loaded.in_fp32(), signature), TorchRunner(loaded, signature)
    return TorchRunner(loaded, signature), None


def _known(artifact: Artifact, loaded: LoadedModel) -> Iterator[_Entry]:
    """The checkpoint's model in torch and transformers, except the reference."""
    from reformer_export.runtimes.torch import TorchRunner

    signature = artifact.signature
    if loaded.rounds:
        yield _Entry("torch", TorchRunner(loaded, signature))
    yield _Entry("torch portable", TorchRunner(loaded, signature, "portable"))
    if loaded.rounds:
        yield _Entry("transformers", None, "it is compared in fp32 only")
    elif not installed("transformers"):
        yield _Entry("transformers", None, "it is not installed: pip install transformers")
    else:
        from reformer_export.runtimes.transformers import TransformersRunner, inexpressible

        reason = inexpressible(loaded)
        runner = None if reason else TransformersRunner(loaded, signature)
        yield _Entry("transformers", runner, reason)


def _runtimes(artifacts: Sequence[Artifact]) -> Iterator[_Entry]:
    """Every runtime with every artifact and kind of operators, or the reason why it cannot run."""
    taken: set[str] = set()
    refused: set[tuple[str, str]] = set()
    for name, runtime in RUNTIMES.items():
        if runtime.format is None:
            continue
        holding = [artifact for artifact in artifacts if runtime.format in artifact.formats]
        if not holding:
            reason = f"there is no {runtime.format} here: reformer-export {runtime.verb} adds it"
            yield _Entry(name, None, reason)
        for artifact, ops in itertools.product(holding, _WAYS):
            label = f"{name} {ops}"
            if label in taken:
                label += f" ({artifact.path.name})"
            try:
                runner = open_runner(artifact, runtime=name, ops=ops)
            except UsageError:
                continue  # the file was exported for the other kind of operators
            except ReformerError as error:
                if (label, str(error)) not in refused:  # one entry for several artifacts
                    yield _Entry(label, None, str(error))
                refused.add((label, str(error)))
                continue
            taken.add(label)
            if isinstance(runner, (ProbingRunner, ShowingRunner)):
                yield _Entry(label, runner)
            else:
                runner.close()
                yield _Entry(label, None, "it cannot show its buckets, so it cannot be compared")


def _decoders(
    artifacts: Sequence[Artifact],
    loaded: LoadedModel,
    sizes: Sequence[tuple[int, int]],
    bounds: Tolerance,
    say: Progress,
) -> Iterator[Contender]:
    """Every decoder, compared with the checkpoint's modules; each prompt is a batch of its own."""
    taken: set[str] = set()
    for artifact, (name, runtime), ops in itertools.product(artifacts, DECODERS.items(), _WAYS):
        if not runtime.can_run(artifact):
            continue
        label = f"{name} {ops}, generating"
        if label in taken:
            label += f" ({artifact.path.name})"
        try:
            decoder = open_decoder(artifact, runtime=name, ops=ops)
        except UsageError:
            continue  # the file was not exported for these operators
        except ReformerError as error:
            yield Contender(label, None, str(error), generates=True)
            continue
        taken.add(label)
        say(f"comparing {label}")
        prompts = [[length] for length in lengths_with_steps(artifact.signature, sizes)]
        rows = tuple(compare_generation(decoder, loaded, prompts, bounds))
        reason = None if rows else "no length leaves room for further tokens"
        yield Contender(label, decoder.description, reason, rows, generates=True)


@dataclass(frozen=True)
class _Answer:
    """A runtime's result on one input with its own buckets; its bound and verdict against torch."""

    name: str
    probe: Probe
    bound: float
    passed: bool


class _Meetings:
    """Collects comparisons of two runtimes, for each length."""

    def __init__(self) -> None:
        self._met: dict[tuple[str, str, int], list[tuple[int, float | None, float, bool]]] = {}

    def add(self, length: int, first: _Answer, second: _Answer) -> None:
        flips = _first_flips(first.probe, second.probe)
        bound = first.bound + second.bound
        error = None if flips else _error(first.probe, second.probe)
        # A NaN fails. A flip is allowed if both passed against the reference.
        passed = first.passed and second.passed and (error is None or error <= bound)
        key = (first.name, second.name, length)
        self._met.setdefault(key, []).append((flips, error, bound, passed))

    def pairs(self) -> Iterator[PairRow]:
        for (first, second, length), met in self._met.items():
            errors = [error for _, error, _, _ in met if error is not None]
            yield PairRow(
                first=first,
                second=second,
                length=length,
                inputs=len(met),
                equal=len(errors),
                flips=sum(flips for flips, _, _, _ in met),
                error=max(errors, default=None),
                bound=min(bound for _, _, bound, _ in met),
                passed=all(passed for _, _, _, passed in met),
            )


def _meet(
    example: ParityInput,
    reference: ProbingRunner,
    baseline: ProbingRunner | None,
    entries: Sequence[_Entry],
    bounds: Tolerance,
    meetings: _Meetings,
) -> None:
    """Compare all runtimes on one input."""
    answers: list[_Answer] = []
    if baseline is None:  # else the reference has another dtype and is not compared in pairs
        answers.append(_Answer(_REFERENCE, reference.probe(example.inputs), 0.0, True))
    for entry in entries:
        if entry.runner is None:
            continue
        rows = list(compare(entry.runner, [reference], example, bounds, baseline=baseline))
        entry.rows += rows
        with contextlib.suppress(ReformerError):  # its row reports the error
            probe = _alone(entry.runner, example.inputs)
            answers.append(_Answer(entry.name, probe, rows[-1].bound, rows[-1].passed))
    for first, second in itertools.combinations(answers, 2):
        meetings.add(example.length, first, second)


def _alone(runner: Comparable, inputs: Any) -> Probe:
    return runner.probe(inputs) if isinstance(runner, ProbingRunner) else runner.show(inputs)


def _first_flips(first: Probe, second: Probe) -> int:
    """Differing decisions in the first layer that has any; later layers get different inputs."""
    for one, other in zip(first.buckets, second.buckets, strict=True):
        if one is None or other is None:
            continue
        flips = int(np.count_nonzero(one != other))
        if flips:
            return flips
    return 0


def _error(first: Probe, second: Probe) -> float:
    try:
        return relative_error(first.outputs, second.outputs)
    except ParityError:  # another shape; the row of one of them reports it
        return float("inf")


def _about(artifact: Artifact) -> dict[str, Any]:
    return {
        "path": str(artifact.path),
        "formats": list(artifact.formats),
        "manifest_sha256": FileRecord.of(artifact.path / MANIFEST).sha256,
        "files": {name: record.sha256 for name, record in artifact.manifest.files.items()},
    }
