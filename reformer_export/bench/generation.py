"""The time of one generation step after contexts of several lengths, compared with Hugging Face.

The caches are filled with random numbers, because the time of a step depends only on their size.
This makes a context of 256,000 tokens available without a prefill, for all contenders alike.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import DECODER, TORCHSCRIPT
from reformer_export.artifact.signature import require_tokens
from reformer_export.bench.interleaved_timing import Turns, median, take_turns, timed
from reformer_export.bench.report import FAILED, OK, REFUSED, SCHEMA_VERSION
from reformer_export.errors import UsageError
from reformer_export.host import memory
from reformer_export.host.machine import describe_machine, usable_cores
from reformer_export.host.optional import installed
from reformer_export.runtimes.decoder import Decoder
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.runtimes.decoders import DECODERS, open_decoder
from reformer_export.source import artifact_config, load_original

Progress = Callable[[str], None]

CONTEXTS = (1024, 16384, 262144)
BATCHES = (1, 8)
_MOST_STEPS = 500  # per turn
_LARGEST_SHARE = 0.4  # the largest part of the free memory that one cache may take
_READINGS = 10  # per turn
_WEIGHTS = "reading the weights"


@dataclass(frozen=True)
class GenerationResult:
    """The step times of one contender after `context` tokens, for `batch` rows.

    Attributes:
        status: "ok", "failed" or "refused" (its cache would not fit in memory).
        seconds: the time of one step for all rows, for each round.
        cache_bytes: the size of the cache that the step reads and extends.
        speedup: the contender's time divided by ours, median of the rounds; None for ours.
        growth: its time divided by its time after the first context, median of the rounds.
        weight_share: the time to read all weights once, divided by its time, median of the rounds.
    """

    contender: str
    context: int
    batch: int
    status: str
    reason: str | None = None
    seconds: tuple[float, ...] = ()
    cache_bytes: int | None = None
    speedup: float | None = None
    growth: float | None = None
    weight_share: float | None = None

    @property
    def ms_per_step(self) -> float | None:
        """The time of a step in milliseconds."""
        found = median(list(self.seconds))
        return None if found is None else 1e3 * found

    def to_json(self) -> dict[str, Any]:
        """The result as an object of the report."""
        return {**vars(self), "seconds": list(self.seconds), "ms_per_step": self.ms_per_step}


@dataclass(frozen=True)
class GenerationReport:
    """The step times after several contexts, and the time to read the weights once."""

    artifact: str
    machine: dict[str, Any]
    threads: int
    description: str
    weight_bytes: int
    weight_seconds: float
    results: tuple[GenerationResult, ...]

    header = (
        "context",
        "rows",
        "contender",
        "ms a step",
        "growth",
        "of reading weights",
        "cache",
        "speed-up",
    )

    @property
    def title(self) -> str:
        """A title for the table."""
        return f"generation, {self.description}"

    @property
    def failed(self) -> bool:
        """True if a contender failed; one that was refused does not count."""
        return any(result.status == FAILED for result in self.results)

    def rows(self) -> Iterator[Sequence[str]]:
        """The results as rows under `header`."""
        for result in self.results:
            head = (f"{result.context:,}", str(result.batch), result.contender)
            seconds = median(list(result.seconds))
            if seconds is None or result.cache_bytes is None:
                yield (*head, result.status, "", "", "", "")
                continue
            yield (
                *head,
                f"{1e3 * seconds:.2f}",
                "" if result.growth is None else f"{result.growth:.2f}x",
                "" if result.weight_share is None else f"{result.weight_share:.2f}",
                f"{result.cache_bytes / 1e6:,.0f} MB",
                "" if result.speedup is None else f"{result.speedup:.1f}x",
            )

    def troubles(self) -> Iterator[str]:
        """The contenders that were not measured, with reasons."""
        for result in self.results:
            if result.status != OK:
                where = f"{result.contender} after {result.context:,} tokens, {result.batch} rows"
                yield f"{where}: {result.status}: {result.reason}"

    def notes(self) -> Iterator[str]:
        """Notes for the reader of the numbers."""
        milliseconds, megabytes = 1e3 * self.weight_seconds, self.weight_bytes / 1e6
        yield (
            f"reading {megabytes:,.0f} MB of weights once takes {milliseconds:.2f} ms; "
            "'of reading weights' is that time divided by the time of a step; 'growth' is the time "
            "of a step divided by its time after the first context; both are medians of the rounds"
        )

    def to_json(self) -> dict[str, Any]:
        """The report as a document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "artifact": self.artifact,
            "machine": self.machine,
            "threads": self.threads,
            "description": self.description,
            "weight_bytes": self.weight_bytes,
            "weight_seconds": self.weight_seconds,
            "results": [result.to_json() for result in self.results],
        }


def bench_generation(
    artifact: str | Path,
    *,
    contexts: Sequence[int] | None = None,
    batches: Sequence[int] = BATCHES,
    threads: int | None = None,
    against: Sequence[str] = (),
    repeat: int = 5,
    checkpoint: str | None = None,
    patience: float = 120.0,
    progress: Progress | None = None,
) -> GenerationReport:
    """Time a step after each context, for each number of rows.

    All contexts and contenders take turns. "ours" is the best runtime of the artifact. The other
    runtimes that can run it are contenders under their own names.

    Args:
        artifact: the folder of an artifact that can generate.
        contexts: tokens in the cache; if None, those of `CONTEXTS` that the model accepts.
        batches: numbers of rows.
        threads: the number of threads; if None, one for each usable core.
        against: "hf" for Hugging Face's cache, in eager torch; "portable" for the artifact without
            our kernels.
        repeat: the number of rounds.
        checkpoint: the weights for "hf"; if None, the checkpoint that the manifest names.
        patience: the maximum seconds of a contender for one context.
        progress: receives progress messages.

    Raises:
        UsageError: the artifact cannot generate, or a contender or a context is not valid.
    """
    say = progress or (lambda message: None)
    if unknown := set(against) - {"hf", "portable"}:
        raise UsageError(f"--against {sorted(unknown)[0]} does not generate: give hf or portable")
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "bench")
    threads = threads or usable_cores()
    longest = opened.signature.max_length - 1
    if contexts is None:
        contexts = [context for context in CONTEXTS if context < longest]
    if wrong := [context for context in contexts if not 0 < context < longest]:
        raise UsageError(f"--lengths {wrong[0]}: this model generates after 1 to {longest - 1}")
    decoders = _decoders(opened, threads, portable="portable" in against)
    theirs = _hugging_face(opened, checkpoint, threads) if "hf" in against else None
    bucket_count = artifact_config(opened).bucket_count
    size = _weight_file(opened).stat().st_size
    results: list[GenerationResult] = []
    readings: list[float] = []
    for batch in batches:
        contenders: list[_Contender] = []
        for context in contexts:
            sizes = (batch, context, bucket_count)
            contenders += [
                _Contender(name, *sizes, partial(_OurSteps, decoder))
                for name, decoder in decoders.items()
            ]
            if theirs is not None:
                contenders.append(_Contender("hf", *sizes, partial(_HuggingFaceSteps, theirs)))
        turns = {each.turn: each.steps.turn for each in contenders if each.steps is not None}
        turns[_WEIGHTS] = partial(_reading_time, size, threads)
        found = take_turns(
            turns,
            repeat=repeat + 1,  # the first is the warm-up
            budget=patience,
            progress=say,
        )
        readings += found.of(_WEIGHTS)[1:]
        results += [each.result(found, contenders[0].context) for each in contenders]
    return GenerationReport(
        artifact=str(artifact),
        machine=describe_machine(),
        threads=threads,
        description=decoders["ours"].description,
        weight_bytes=size,
        weight_seconds=median(readings) or math.nan,
        results=tuple(results),
    )


def _decoders(artifact: Artifact, threads: int, *, portable: bool) -> dict[str, Decoder]:
    """The decoders that can run the artifact, by the name of the contender."""
    runtimes = [
        name
        for name, entry in DECODERS.items()
        if entry.can_run(artifact) and installed(entry.module)
    ]
    best, *others = runtimes or ["auto"]  # if there is none, open_decoder raises with the reason
    decoders = {"ours": open_decoder(artifact, runtime=best, threads=threads)}
    for name in others:
        decoders[name] = open_decoder(artifact, runtime=name, threads=threads)
    if portable:
        decoders["portable"] = open_decoder(artifact, runtime=best, threads=threads, ops="portable")
    return decoders


def _weight_file(artifact: Artifact) -> Path:
    """The file with the weights: its size is about the amount of data that a step reads."""
    formats = artifact.manifest.formats
    return artifact.path / formats[DECODER if DECODER in formats else TORCHSCRIPT].files[-1]


class _Contender:
    """One contender after one context, or the reason why it is refused."""

    def __init__(
        self,
        name: str,
        batch: int,
        context: int,
        bucket_count: int,
        make: Callable[[int, int, int], _Steps],
    ) -> None:
        self.name, self.batch, self.context = name, batch, context
        self.steps: _Steps | None = None
        self.reason: str | None = None
        try:
            self.steps = make(batch, context, bucket_count)
        except _DoesNotFitError as error:
            self.reason = str(error)

    @property
    def turn(self) -> str:
        """The name of its turn."""
        return _turn_of(self.name, self.batch, self.context)

    def result(self, found: Turns, first_context: int) -> GenerationResult:
        """The result of the rounds after the first."""
        if self.steps is None:
            return GenerationResult(self.name, self.context, self.batch, REFUSED, self.reason)

        def ratio(above: str, below: str) -> float | None:
            return median(found.ratios(above, below)[1:])

        failure = found.failures.get(self.turn)
        ours = _turn_of("ours", self.batch, self.context)
        first = _turn_of(self.name, self.batch, first_context)
        return GenerationResult(
            contender=self.name,
            context=self.context,
            batch=self.batch,
            status=OK if failure is None else FAILED,
            reason=None if failure is None else str(failure),
            seconds=tuple(found.of(self.turn)[1:]),
            cache_bytes=self.steps.cache_bytes,
            speedup=None if self.name == "ours" else ratio(self.turn, ours),
            growth=ratio(self.turn, first),
            weight_share=ratio(_WEIGHTS, self.turn),
        )


def _turn_of(name: str, batch: int, context: int) -> str:
    return f"{name}, {batch} x {context:,} tokens"


class _DoesNotFitError(Exception):
    """The cache needs more memory than one cache may take."""


def _check_room(needed: int) -> None:
    free = memory.available()
    if needed > _LARGEST_SHARE * free:
        raise _DoesNotFitError(
            f"its cache takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )


class _Steps(ABC):
    """Steps of one contender; each turn starts with the same context."""

    cache_bytes: int
    most = _MOST_STEPS
    """The maximum number of steps in a turn."""

    def turn(self) -> float:
        """The median seconds of a step."""
        self.reset()
        return timed(self.step, most=self.most)

    @abstractmethod
    def reset(self) -> None:
        """Go back to the context."""

    @abstractmethod
    def step(self) -> None:
        """Generate one more token for each row."""


class _OurSteps(_Steps):
    def __init__(self, decoder: Decoder, batch: int, context: int, bucket_count: int) -> None:
        self.most = min(_MOST_STEPS, decoder.signature.max_length - context)
        layout, capacity = decoder.layout, context + self.most
        self.cache_bytes = sum(
            math.prod(layout.shape(name, batch, capacity)) * dtype.itemsize
            for name, (dtype, _) in layout.tensors.items()
        )
        _check_room(self.cache_bytes)
        random = np.random.default_rng(0)
        self._decoder, self._context = decoder, context
        self._tokens = random.integers(decoder.signature.vocab_size, size=batch)
        self._cache = Cache.empty(layout, batch, capacity)
        self._cache.prompt_length[:] = context
        for name, tensor in self._cache.tensors.items():
            if name.startswith("buckets."):
                tensor[..., :context] = random.integers(
                    bucket_count, size=(*tensor.shape[:3], context), dtype=np.int32
                )
            elif not name.startswith(("order.", "starts.")):
                for row in tensor:  # row by row, because these tensors are the largest
                    row[...] = random.standard_normal(row.shape, dtype=np.float32)
        for name, tensor in self._cache.tensors.items():
            if name.startswith("order."):
                buckets = self._cache.tensors[name.replace("order", "buckets")][..., :context]
                in_order = np.argsort(buckets, axis=-1, kind="stable")
                tensor.reshape(*buckets.shape[:3], -1)[..., :context] = in_order
        self._order = {
            name: tensor.copy()
            for name, tensor in self._cache.tensors.items()
            if name.startswith(("order.", "starts."))
        }

    def reset(self) -> None:
        self._cache.past_length[:] = self._context
        for name, order in self._order.items():
            self._cache.tensors[name][:] = order

    def step(self) -> None:
        self._decoder.step(self._tokens, self._cache)


class _HuggingFaceSteps(_Steps):
    """Steps of Hugging Face's model. Its caches hold normalized hidden states, and every step
    projects them again."""

    def __init__(self, model: Any, batch: int, context: int, bucket_count: int) -> None:
        import torch
        from transformers.models.reformer.modeling_reformer import ReformerDynamicCache

        config = model.config
        kinds = config.attn_layers
        shape = (batch, config.num_attention_heads, config.num_hashes, context)
        self.cache_bytes = 4 * batch * context * config.hidden_size * len(kinds)
        self.cache_bytes += 8 * math.prod(shape) * kinds.count("lsh")
        _check_room(2 * self.cache_bytes)  # a step copies it
        self._torch, self._model, self._make_cache = torch, model, ReformerDynamicCache
        generator = torch.Generator().manual_seed(0)
        offsets = bucket_count * torch.arange(config.num_hashes)[:, None]
        self._layers = [
            (
                torch.randint(bucket_count, shape, generator=generator) + offsets
                if kind == "lsh"
                else torch.empty(0),
                torch.randn((batch, context, config.hidden_size), generator=generator),
            )
            for kind in kinds
        ]
        self._tokens = torch.ones((batch, 1), dtype=torch.int64)

    def reset(self) -> None:
        """Nothing to do: every step starts from the same tensors."""

    def step(self) -> None:
        cache = self._make_cache(self._layers)
        with self._torch.random.fork_rng(devices=[]), self._torch.inference_mode():
            self._model(self._tokens, past_buckets_states=cache, use_cache=True)


def _hugging_face(artifact: Artifact, checkpoint: str | None, threads: int) -> Any:
    import torch

    from reformer_export.runtimes.transformers import TransformersRunner

    torch.set_num_threads(threads)
    loaded = load_original(artifact.manifest, checkpoint, option="--checkpoint")
    return TransformersRunner(loaded, artifact.signature).model


def _reading_time(size: int, threads: int) -> float:
    """The seconds that `threads` threads take to read `size` bytes: the best of several runs."""
    pieces = np.array_split(np.ones(size // 4, np.float32), threads)
    best = math.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_READINGS):
            start = time.perf_counter()
            list(pool.map(np.max, pieces))
            best = min(best, time.perf_counter() - start)
    return best
