"""Runs an artifact once on arrays, a text or a series, and describes the outputs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine
from reformer_export.artifact.signature import (
    ATTENTION_MASK,
    INPUT_IDS,
    SERIES,
    TIME_FEATURES,
    SeriesSignature,
)
from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ExportError, UsageError
from reformer_export.host.device import CPU, GraphChoice
from reformer_export.host.memory import own_peak_rss
from reformer_export.inference.inputs import read_array, read_bytes, read_series
from reformer_export.inference.text import TextCodec, open_codec
from reformer_ops.core.native import Choice

_ROWS_SHOWN = 4


@dataclass(frozen=True)
class Prediction:
    """The highest logit of a row: at its last token (`position`), or, if `position` is None, of the
    whole row."""

    row: int
    position: int | None
    index: int
    score: float
    text: str | None

    def __str__(self) -> str:
        place = f"row {self.row}"
        if self.position is not None:
            place += f", after token {self.position}"
        words = f" {self.text}" if self.text is not None else ""
        return f"{place}: {self.index}{words} (logit {self.score:.4f})"


@dataclass(frozen=True)
class Bench:
    """The times of further runs after the first, and the peak memory of the process up to then."""

    runs: int
    median_seconds: float
    best_seconds: float
    peak_rss_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs: median {self.median_seconds:.4f} s, "
            f"best {self.best_seconds:.4f} s; peak memory {self.peak_rss_bytes / 2**20:,.0f} MiB"
        )


@dataclass(frozen=True)
class RunResult:
    """One run: its runtime, input, times and output arrays."""

    runtime: str
    description: str
    batch: int
    length: int
    unit: str
    encoding: str | None
    notes: tuple[str, ...]
    open_seconds: float
    run_seconds: float
    outputs: Mapping[str, np.ndarray]
    predictions: tuple[Prediction, ...]
    saved: Path | None
    bench: Bench | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a document, with the dtype and shape of each output array."""
        return {
            "runtime": self.runtime,
            "description": self.description,
            "batch": self.batch,
            "length": self.length,
            "unit": self.unit,
            "encoding": self.encoding,
            "notes": list(self.notes),
            "open_seconds": self.open_seconds,
            "run_seconds": self.run_seconds,
            "outputs": {
                name: {"dtype": str(array.dtype), "shape": list(array.shape)}
                for name, array in self.outputs.items()
            },
            "predictions": [vars(prediction) for prediction in self.predictions],
            "saved": None if self.saved is None else str(self.saved),
            "bench": None if self.bench is None else vars(self.bench),
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """The result as (label, text) lines for people."""
        yield "runtime", f"{self.runtime} ({self.description})"
        encoding = f", encoded as {self.encoding}" if self.encoding else ""
        yield "input", f"{self.batch} x {self.length} {self.unit}{encoding}"
        rate = self.batch * self.length / max(self.run_seconds, 1e-9)
        yield (
            "time",
            f"{self.run_seconds:.3f} s ({rate:,.0f} {self.unit}/s), opened in "
            f"{self.open_seconds:.3f} s",
        )
        if self.bench is not None:
            yield "bench", str(self.bench)
        for name, array in self.outputs.items():
            yield "output", f"{name}: {array.dtype} {list(array.shape)}"
        for prediction in self.predictions[:_ROWS_SHOWN]:
            yield "top", str(prediction)
        if len(self.predictions) > _ROWS_SHOWN:
            yield "", f"... and {len(self.predictions) - _ROWS_SHOWN} rows more"
        if self.saved is not None:
            yield "saved", str(self.saved)


def run_artifact(
    artifact: str | os.PathLike[str],
    *,
    input_ids: str | os.PathLike[str] | None = None,
    attention_mask: str | os.PathLike[str] | None = None,
    text: str | None = None,
    text_file: str | os.PathLike[str] | None = None,
    series: str | os.PathLike[str] | None = None,
    time_features: str | os.PathLike[str] | None = None,
    tokenizer: str = "auto",
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
    device: str = CPU,
    cuda_graph: GraphChoice = "auto",
    output: str | os.PathLike[str] | None = None,
    bench: int = 0,
    progress: Callable[[str], None] | None = None,
) -> RunResult:
    """Open a folder (an artifact, an engine) and run it on one of `input_ids`, `text`, `text_file`
    or, for a model of series, on `series`.

    `input_ids` and `attention_mask` are .npy files of [length] or [batch, length]. `series` and
    `time_features` are .npy or .csv files; see `inputs.read_series`. `output` is a .npz file for
    all outputs by name, written atomically. `bench` is the number of timed runs after the first.
    Raises UsageError, InputError, ArtifactError, RuntimeUnavailableError, DeviceUnavailableError,
    NativeLibraryError or MissingDependencyError before the run, and ExportError if `output` cannot
    be written.
    """
    if sum(source is not None for source in (input_ids, text, text_file, series)) != 1:
        raise UsageError("give exactly one of --input-ids, --text, --text-file and --series")
    if attention_mask is not None and input_ids is None:
        raise UsageError("--attention-mask goes with --input-ids: a text has no padding")
    if time_features is not None and series is None:
        raise UsageError("--time-features goes with --series")
    destination = None if output is None else output_file(output, ".npz")
    say = progress or (lambda message: None)

    say("checking the artifact")
    from reformer_export.runtimes import open_folder, open_runner

    opened = open_folder(Path(artifact))
    codec: TextCodec | None = None
    if isinstance(opened.signature, SeriesSignature):
        if series is None:
            raise UsageError(f"{opened.path} takes series of numbers: give --series")
        inputs = {SERIES: read_series(series, SERIES)}
        if time_features is not None:
            inputs[TIME_FEATURES] = read_series(time_features, TIME_FEATURES)
    else:
        if series is not None:
            raise UsageError(f"{opened.path} takes tokens: give --input-ids, --text or --text-file")
        ids, codec = read_tokens(
            opened, input_ids=input_ids, text=text, text_file=text_file, tokenizer=tokenizer
        )
        inputs = {INPUT_IDS: ids}
        if attention_mask is not None:
            inputs[ATTENTION_MASK] = read_array(attention_mask, ATTENTION_MASK)
    checked = opened.signature.check(inputs)

    say("opening the runtime")
    start = time.perf_counter()
    runner = open_runner(
        opened, runtime=runtime, threads=threads, ops=ops, device=device, cuda_graph=cuda_graph
    )
    try:
        open_seconds = time.perf_counter() - start
        batch, length = opened.signature.extent(checked)
        say(f"running {opened.signature.described_extent(checked)} in {runner.name}")
        start = time.perf_counter()
        outputs = runner.run(checked)
        run_seconds = time.perf_counter() - start
        measured = _measure(lambda: runner.run(checked), bench) if bench else None
        name, description = runner.name, runner.description
    finally:
        runner.close()
    if destination is not None:
        arrays: dict[str, Any] = dict(outputs)
        save_output(destination, lambda file: np.savez(file, **arrays))
    return RunResult(
        runtime=name,
        description=description,
        batch=batch,
        length=length,
        unit=opened.signature.unit,
        encoding=codec.name if codec else None,
        notes=(codec.note,) if codec and codec.note else (),
        open_seconds=open_seconds,
        run_seconds=run_seconds,
        outputs=outputs,
        predictions=tuple(top_predictions(outputs, checked.get(ATTENTION_MASK), codec)),
        saved=destination,
        bench=measured,
    )


def top_predictions(
    outputs: Mapping[str, np.ndarray], mask: np.ndarray | None, codec: TextCodec | None = None
) -> Iterator[Prediction]:
    """The highest entry in each row of `logits`; nothing for a model without logits.

    The logits are [batch, classes], [batch, sequence, vocabulary] or, if the model returns only
    those of the last token, [batch, 1, vocabulary]. `mask` [batch, sequence] gives the last token.
    """
    logits = outputs.get("logits")
    if logits is None or mask is None or logits.ndim not in (2, 3):
        return
    for row, scores in enumerate(logits):
        position: int | None = None
        if logits.ndim == 3:
            tokens = np.flatnonzero(mask[row])
            last_only = len(scores) < mask.shape[1]
            where_none = 0 if last_only else mask.shape[1] - 1
            position = int(tokens[-1]) if tokens.size else where_none
            scores = scores[0 if last_only else position]
        index = int(np.argmax(scores))
        words = codec.describe(index) if codec and position is not None else None
        yield Prediction(row, position, index, float(scores[index]), words)


def _measure(run: Callable[[], object], runs: int) -> Bench:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Bench(runs, statistics.median(seconds), min(seconds), own_peak_rss())


def read_tokens(
    artifact: Artifact | Engine,
    *,
    input_ids: str | os.PathLike[str] | None,
    text: str | None,
    text_file: str | os.PathLike[str] | None,
    tokenizer: str,
) -> tuple[np.ndarray, TextCodec | None]:
    """The token ids `[batch, length]` of a .npy file, or of a text, together with its codec.

    Raises:
        InputError: the file cannot be read, or no encoding fits the model.
    """
    if input_ids is not None:
        return read_array(input_ids, INPUT_IDS), None
    codec = open_codec(artifact, tokenizer=tokenizer)
    # In an argument that is not UTF-8, Python replaces bytes by surrogates: restore the bytes.
    typed = (text or "").encode("utf-8", "surrogateescape")
    data = typed if text_file is None else read_bytes(text_file)
    return codec.encode(data)[None, :], codec


def output_file(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path of --output, checked.

    The suffix is required so that a typing error cannot overwrite a model or a text.

    Raises:
        UsageError: the suffix is wrong, the folder does not exist, or the path is a folder.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise UsageError(f"--output {path}: name a {suffix} file")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--output {path}: its folder does not exist, or it is one: name a file")
    return path


def save_output(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file atomically; `write` receives the open file.

    Raises:
        ExportError: the file cannot be written.
    """
    try:
        with atomic_file(path) as file:
            write(file)
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or error}; nothing was written"
        ) from error
