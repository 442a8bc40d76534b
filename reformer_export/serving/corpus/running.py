"""Maps a corpus: finds what is left to do, and does it here or on a Ray cluster."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reformer_export import errors
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST, FileRecord
from reformer_export.artifact.signature import require_tokens
from reformer_export.errors import ReformerError, RuntimeUnavailableError, UsageError
from reformer_export.generation.sampling import Sampling
from reformer_export.host.machine import usable_cores
from reformer_export.host.optional import require
from reformer_export.inference.text import open_codec
from reformer_export.serving.corpus.mapper import (
    TEMPORARY,
    Counts,
    Job,
    Mapper,
    publish,
    result_file,
)
from reformer_export.serving.corpus.results import Settings, choose_result
from reformer_export.serving.corpus.shards import (
    EXTRA,
    PURPOSE,
    Piece,
    Shard,
    find_shards,
    open_url,
)
from reformer_ops.core.native import Choice

PLAN = "_plan.json"
"""The file in the destination with the shards and the settings. Another run must have the same."""

_MOST_BLOCKS = 20_000
"""Tasks of Ray Data; each does one shard or several."""

_LONGEST_WINDOW = 16_384  # tokens, unless asked for more


@dataclass(frozen=True)
class MapResult:
    """What a run did.

    Attributes:
        result: the name of the result.
        shards: all shards of the corpus.
        done_before: the shards that earlier runs had done.
        documents, bad, tokens: of this run.
    """

    destination: str
    result: str
    shards: int
    done_before: int
    documents: int
    bad: int
    tokens: int
    seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The run as a document."""
        return {**vars(self), "notes": list(self.notes)}

    def rows(self) -> Iterator[tuple[str, str]]:
        """The run as (label, text) lines for people."""
        yield "result", f"{self.result} in {self.destination}"
        done = self.shards - self.done_before
        yield "shards", f"{done} done, {self.done_before} were done before"
        bad = f", {self.bad} bad (see _bad)" if self.bad else ""
        yield "documents", f"{self.documents}{bad}"
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.seconds else ""
        yield "time", f"{self.seconds:.1f} s, {speed}"


def map_corpus(
    artifact: str | os.PathLike[str],
    source: str,
    destination: str,
    *,
    result: str = "auto",
    text_field: str = "text",
    id_field: str = "id",
    tokenizer: str = "auto",
    window: int | None = None,
    overlap: int | None = None,
    batch_tokens: int = 16_384,
    max_new_tokens: int = 20,
    sampling: Sampling | None = None,
    shard_rows: int = 1000,
    local: bool = False,
    workers: int | None = None,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
    progress: Callable[[str], None] | None = None,
) -> MapResult:
    """Run an artifact on every document of a corpus and write the results as Parquet.

    The corpus is divided into shards, and the results of a shard appear in one step. A run does
    the shards whose results are missing, so a run that was killed is repeated to finish it.

    Args:
        artifact: the folder; with Ray, every node must have it at this path.
        source: Parquet, JSON lines or text files (one document each): a file, folder, pattern or
            URL.
        destination: a folder or URL.
        result: a name of `RESULTS`, or "auto" for the one of the model's task.
        text_field, id_field: columns or fields of the rows.
        tokenizer: see `open_codec`.
        window: the maximum number of tokens that the model sees at once; by default the model's
            maximum, but at most 16,384.
        overlap: how many tokens of a window the next one sees again; half a window by default.
        batch_tokens: the maximum number of tokens in a batch, padding included.
        max_new_tokens, sampling: for generation.
        shard_rows: the maximum number of documents of a shard.
        local: run on this machine without Ray; else on the cluster of RAY_ADDRESS, or on a Ray
            that is started here.
        workers: the number of processes; by default one, and with Ray all that the cluster's cores
            allow.
        threads: the CPU threads of a process; by default the cores, shared evenly (local), or 1.

    Raises:
        UsageError: the model does not give the result, the settings are wrong, or the destination
            was begun with another corpus or other settings.
        InputError: the corpus cannot be read.
        ExportError: the destination cannot be written.
        MissingDependencyError: a package of the extra `map` is not installed.
        RuntimeUnavailableError: a worker process ended.
    """
    require("pyarrow", purpose=PURPOSE, package=EXTRA)
    if not local:
        require("ray.data", purpose="map without --local", package=EXTRA)
    say = progress or (lambda message: None)
    say("checking the artifact")
    opened = Artifact.open(Path(artifact))
    require_tokens(opened.signature, "map")
    name = choose_result(opened, result)
    codec = open_codec(opened, tokenizer=tokenizer)
    count = workers or (1 if local else None)
    if threads is None:
        threads = max(1, usable_cores() // (count or 1)) if local else 1
    settings = _settings(
        opened, name, window, overlap, Settings(0, 0, batch_tokens, runtime, threads, ops)
    )
    settings = replace(settings, max_new_tokens=max_new_tokens, sampling=sampling or Sampling())
    if name == "generation" and max_new_tokens >= settings.window:
        raise UsageError(f"--max-new-tokens {max_new_tokens}: a window has {settings.window}")
    job = Job(
        opened.path,
        _absolute(source),
        _absolute(destination),
        text_field,
        id_field,
        tokenizer,
        name,
        settings,
    )
    say("looking at the corpus")
    shards = find_shards(job.source, shard_rows)
    pending = _pending(job, shards)
    counts, start = Counts(), time.monotonic()
    run = _run_local(job, pending, count or 1) if local else _run_on_ray(job, pending, count)
    for number, found in enumerate(run, len(shards) - len(pending) + 1):
        counts += found
        speed = counts.tokens / max(time.monotonic() - start, 1e-9)
        say(
            f"{number} of {len(shards)} shards, {counts.documents} documents, {counts.bad} bad, "
            f"{speed:,.0f} tokens/s"
        )
    return MapResult(
        destination,
        name,
        len(shards),
        len(shards) - len(pending),
        counts.documents,
        counts.bad,
        counts.tokens,
        time.monotonic() - start,
        (codec.note,) if codec.note else (),
    )


def _absolute(url: str) -> str:
    """A path as an absolute one: a worker of Ray may run in another folder. URLs stay."""
    return url if "://" in url or "::" in url else str(Path(url).expanduser().absolute())


def _settings(
    artifact: Artifact, result: str, window: int | None, overlap: int | None, settings: Settings
) -> Settings:
    """The settings with a window and an overlap that are possible."""
    longest = artifact.signature.max_length
    size = min(longest, _LONGEST_WINDOW) if window is None else window
    if not 2 <= size <= longest:
        raise UsageError(f"--window {size}: give 2 to {longest} tokens")
    shared = size // 2 if overlap is None else overlap
    if not 1 <= shared < size:
        raise UsageError(f"--overlap {shared}: give 1 to {size - 1} tokens")
    return replace(settings, window=size, overlap=shared)


def _pending(job: Job, shards: Sequence[Shard]) -> list[Shard]:
    """The shards without results; writes the plan, or compares it with the one that is there."""
    settings = asdict(job.settings)
    for key in ("threads", "batch_tokens"):  # they do not change the results
        del settings[key]
    plan = {
        "result": job.result,
        "artifact": FileRecord.of(job.artifact / MANIFEST).sha256,
        "fields": [job.text_field, job.id_field],
        "tokenizer": job.tokenizer,
        "settings": settings,
        "shards": [shard.to_json() for shard in shards],
    }
    wanted = json.loads(json.dumps(plan))
    filesystem, folder = open_url(job.destination)
    present = {
        path.rpartition("/")[2]
        for path in (filesystem.ls(folder, detail=False) if filesystem.isdir(folder) else ())
    }
    for name in present:
        if name.startswith(TEMPORARY):  # of a run that was killed
            filesystem.rm_file(f"{folder}/{name}")
    present = {name for name in present if not name.startswith(TEMPORARY)}
    if PLAN in present:
        try:
            found = json.loads(filesystem.cat_file(f"{folder}/{PLAN}"))
        except ValueError as error:
            raise UsageError(
                f"{job.destination}/{PLAN} is damaged: choose another folder"
            ) from error
        if found != wanted:
            changed = [key for key in wanted if found.get(key) != wanted[key]]
            raise UsageError(
                f"{job.destination} was begun with other values of {', '.join(changed)}: "
                "choose another folder, or remove it"
            )
    elif present:
        raise UsageError(f"{job.destination} is not empty: choose another folder")
    else:
        publish(job.destination, PLAN, json.dumps(plan).encode())
    return [shard for shard in shards if result_file(shard) not in present]


# On this machine


_mapper: Mapper | None = None


def _open_mapper(job: Job) -> None:
    global _mapper
    _mapper = Mapper(job)


def _map_shard(shard: Shard) -> Counts:
    if _mapper is None:
        raise RuntimeUnavailableError("the worker process has no model")
    return _mapper.run(shard)


def _run_local(job: Job, shards: Sequence[Shard], workers: int) -> Iterator[Counts]:
    if not shards:
        return
    if workers == 1:
        mapper = Mapper(job)
        try:
            yield from map(mapper.run, shards)
        finally:
            mapper.close()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _open_mapper, (job,))
    try:
        for future in as_completed([pool.submit(_map_shard, shard) for shard in shards]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeUnavailableError(
            "a worker process ended: run the command again; what is done is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# On Ray


class _RayMapper:
    """An actor of Ray Data. A shard that an actor had finished before it was lost is skipped."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._mapper: Mapper | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [self._row(_shard(json.loads(text))) for text in batch["shard"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _row(self, shard: Shard) -> dict[str, Any]:
        counts, error = Counts(), ""
        filesystem, folder = open_url(self._job.destination)
        if not filesystem.exists(f"{folder}/{result_file(shard)}"):
            try:
                if self._mapper is None:
                    self._mapper = Mapper(self._job)
                counts = self._mapper.run(shard)
            except ReformerError as failed:  # Ray would repeat it, and lose its type
                error = f"{type(failed).__name__}:{failed}"
        return {**vars(counts), "error": error}


def _shard(document: dict[str, Any]) -> Shard:
    pieces = tuple(Piece(**piece) for piece in document["pieces"])
    return Shard(document["name"], document["format"], pieces)


def _run_on_ray(job: Job, shards: Sequence[Shard], workers: int | None) -> Iterator[Counts]:
    ray = require("ray", purpose="map without --local", package=EXTRA)
    data = require("ray.data", purpose="map without --local", package=EXTRA)
    if not shards:
        return
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)  # it reads RAY_ADDRESS
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        threads = job.settings.threads or 1
        size = min(workers or max(1, cores // threads), len(shards))
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        items = data.from_items(
            [{"shard": json.dumps(shard.to_json())} for shard in shards],
            override_num_blocks=min(len(shards), _MOST_BLOCKS),
        )
        mapped = items.map_batches(
            _RayMapper,
            fn_constructor_args=(job,),
            batch_size=1,
            # If a node is lost, the remaining actors go on.
            compute=data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size),
            num_cpus=threads,
        )
        for row in mapped.iter_rows():
            if error := row.pop("error"):
                name, _, message = error.partition(":")
                raise getattr(errors, name, RuntimeUnavailableError)(message)
            yield Counts(**{key: int(value) for key, value in row.items()})
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise RuntimeUnavailableError(
            f"Ray failed: {reason}; run the command again, what is done is kept"
        ) from error
    finally:
        if started:
            ray.shutdown()
