"""Gives the requests to the worker processes: in order, in batches, and again if a worker ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from reformer_export.artifact.signature import INPUT_IDS
from reformer_export.errors import RuntimeUnavailableError
from reformer_export.serving.batching import Arrays, Batching
from reformer_export.serving.server.errors import RequestError
from reformer_export.serving.server.messages import (
    Answer,
    Cancel,
    Failed,
    Generate,
    Infer,
    NewToken,
    Outputs,
    Ready,
    Unusable,
)
from reformer_export.serving.server.metrics import Metrics
from reformer_export.serving.server.pool import WorkerProcess
from reformer_export.serving.server.settings import Limits

_ATTEMPTS = 3  # two workers may be killed together, one after the other has got the requests
_LONGEST_PAUSE = 30.0  # seconds between two starts of a worker that does not open the model

OpenWorker = Callable[..., WorkerProcess]
"""Starts a worker; the keyword arguments are `answered` and `ended` of `WorkerProcess`."""


@dataclass(eq=False)
class _Job(ABC):
    """A request, or a sequence to generate.

    Attributes:
        deadline: ends the wait for a worker, and then the time with it.
        alone: it does not share a batch, because a batch with it has failed.
        lost: the number of workers that ended while they worked on it.
    """

    since: float = field(default_factory=time.monotonic, init=False)
    deadline: asyncio.TimerHandle | None = field(default=None, init=False)
    alone: bool = field(default=False, init=False)
    lost: int = field(default=0, init=False)

    @abstractmethod
    def fail(self, error: RequestError) -> None:
        """Give the error to the one who waits."""


@dataclass(eq=False)
class _Inference(_Job):
    inputs: Arrays
    padded_length: int
    future: asyncio.Future[dict[str, NDArray[Any]]]

    @property
    def shape(self) -> tuple[int, int]:
        rows, length = self.inputs[INPUT_IDS].shape
        return rows, length

    @property
    def tokens(self) -> int:
        return self.shape[0] * self.padded_length

    def fail(self, error: RequestError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(eq=False)
class _Generation(_Job):
    """`repeated` counts the tokens of the current attempt, `received` those that were passed on."""

    request: Generate
    tokens: asyncio.Queue[NewToken | RequestError] = field(default_factory=asyncio.Queue)
    repeated: int = 0
    received: int = 0

    def fail(self, error: RequestError) -> None:
        self.tokens.put_nowait(error)

    def add(self, token: NewToken) -> None:
        # After a worker has ended, another one generates the same tokens again.
        self.repeated += 1
        if self.repeated > self.received:
            self.received = self.repeated
            self.tokens.put_nowait(token)


@dataclass(eq=False)
class _Worker:
    process: WorkerProcess | None = None
    ready: bool = False
    batch: list[_Inference] = field(default_factory=list)
    generations: dict[int, _Generation] = field(default_factory=dict)
    failures: int = 0


class TokenStream:
    """The new tokens of one sequence; the last one is `finished`."""

    def __init__(
        self, job: _Generation, metrics: Metrics, leave: Callable[[_Generation], None]
    ) -> None:
        self._job = job
        self._metrics = metrics
        self._leave = leave
        self._ended = False

    def __aiter__(self) -> TokenStream:
        return self

    async def __anext__(self) -> NewToken:
        """The next token; RequestError if the sequence cannot be continued."""
        if self._ended:
            raise StopAsyncIteration
        token = await self._job.tokens.get()
        if isinstance(token, RequestError):
            raise token
        self._metrics.tokens.labels("generated").inc()
        self._ended = token.finished is not None
        return token

    def close(self) -> None:
        """Stop generating, if the sequence has not ended."""
        self._ended = True
        self._leave(self._job)


class Scheduler:
    """The waiting requests and the workers.

    Everything runs in the event loop. A request that shares a batch gets the same numbers as alone.
    """

    def __init__(
        self,
        batching: Batching,
        limits: Limits,
        metrics: Metrics,
        open_worker: OpenWorker,
        workers: int,
    ) -> None:
        self._batching = batching
        self._limits = limits
        self._metrics = metrics
        self._open_worker = open_worker
        self._workers = [_Worker() for _ in range(workers)]
        self._inferences: dict[_Inference, None] = {}  # those that wait, in order
        self._generations: dict[_Generation, None] = {}
        self._numbers = itertools.count()
        self._started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._closing = False
        metrics.watch(
            queue=lambda: self._waiting,
            workers=lambda: sum(worker.ready for worker in self._workers),
        )

    async def start(self) -> str:
        """Start the workers; returns the description of their runtime when all are ready.

        Raises:
            RuntimeUnavailableError: a worker cannot open the model, or ends while it opens it.
        """
        for worker in self._workers:
            self._start(worker)
        return await self._started

    async def close(self, seconds: float = 10.0) -> None:
        """End the workers; each may finish the batch that it computes."""
        self._closing = True
        processes = [worker.process for worker in self._workers if worker.process is not None]
        await asyncio.gather(*(asyncio.to_thread(each.close, seconds) for each in processes))

    @property
    def ready(self) -> bool:
        """True if a worker can take requests."""
        return any(worker.ready for worker in self._workers)

    async def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for checked inputs.

        Raises:
            RequestError: the queue is full, the request waited too long, or the model failed.
        """
        rows, length = inputs[INPUT_IDS].shape
        padded = self._batching.padded_length(length)
        self._check_tokens(rows * padded)
        job = _Inference(inputs, padded, asyncio.get_running_loop().create_future())
        self._admit([job])
        try:
            outputs = await job.future
        finally:
            self._leave(job)
        self._metrics.tokens.labels("read").inc(rows * length)
        return outputs

    def generate(self, requests: Iterable[Generate]) -> list[TokenStream]:
        """The tokens of each sequence, as soon as they are generated; close the streams.

        The `job` of the requests does not matter.

        Raises:
            RequestError: as `infer`. The streams raise it, too.
        """
        jobs = [_Generation(replace(each, job=next(self._numbers))) for each in requests]
        self._check_tokens(
            sum(job.request.prompt.size + job.request.max_new_tokens for job in jobs)
        )
        self._admit(jobs)
        self._metrics.tokens.labels("read").inc(sum(job.request.prompt.size for job in jobs))
        return [TokenStream(job, self._metrics, self._leave) for job in jobs]

    def _check_tokens(self, tokens: int) -> None:
        if tokens > self._limits.tokens:
            raise RequestError(
                400,
                f"the request has {tokens} tokens (padding and new tokens included), and this "
                f"server takes {self._limits.tokens}: send less, or start it with --max-tokens",
            )

    # The queues

    @property
    def _waiting(self) -> int:
        return len(self._inferences) + len(self._generations)

    def _queue_of(self, job: _Job) -> dict[Any, None]:
        return self._inferences if isinstance(job, _Inference) else self._generations

    def _admit(self, jobs: list[Any]) -> None:
        if self._waiting + len(jobs) > self._limits.queue:
            raise RequestError(
                429, f"{self._waiting} requests are waiting, which is the limit: try again"
            )
        for job in jobs:
            self._wait(job)
        self._dispatch()

    def _wait(self, job: _Job) -> None:
        self._queue_of(job)[job] = None
        self._set_deadline(job, self._limits.queue_seconds, self._expire)

    def _set_deadline(self, job: _Job, seconds: float, end: Callable[[Any], None]) -> None:
        if job.deadline is not None:
            job.deadline.cancel()
        job.deadline = asyncio.get_running_loop().call_later(seconds, end, job)

    def _expire(self, job: _Job) -> None:
        del self._queue_of(job)[job]
        job.fail(
            RequestError(
                503, f"no worker was free within {self._limits.queue_seconds:g} seconds: try again"
            )
        )

    def _take(self, job: _Job) -> None:
        """A worker gets the job."""
        del self._queue_of(job)[job]
        self._set_deadline(job, self._limits.run_seconds, self._overrun)
        self._metrics.queue_seconds.observe(time.monotonic() - job.since)

    def _overrun(self, job: _Job) -> None:
        """A worker takes too long. One that computes a batch is ended, because it may hang."""
        seconds = self._limits.run_seconds
        job.fail(RequestError(504, f"the model took more than {seconds:g} s"))
        for worker in self._workers:
            if job in worker.batch and worker.process is not None:
                worker.process.kill()

    def _leave(self, job: _Job) -> None:
        """Nobody waits for the job any more: it is complete, or its client is gone."""
        if job.deadline is not None:
            job.deadline.cancel()
        self._queue_of(job).pop(job, None)
        if not isinstance(job, _Generation):
            return
        for worker in self._workers:
            if worker.generations.pop(job.request.job, None) and worker.process is not None:
                worker.process.send(Cancel(job.request.job))
                self._dispatch()

    def _dispatch(self) -> None:
        """Give waiting jobs to workers that are free."""
        for worker in self._workers:
            if worker.ready and not worker.batch and (batch := self._next_batch()):
                self._run(worker, batch)
        for job in list(self._generations):
            able = [worker for worker in self._workers if worker.ready]
            if not able:
                return
            worker = min(able, key=lambda each: len(each.generations))
            if len(worker.generations) >= self._limits.streams:
                return
            self._take(job)
            job.repeated = 0
            worker.generations[job.request.job] = job
            _process(worker).send(job.request)

    def _next_batch(self) -> list[_Inference]:
        """The first waiting inference, and later ones that may share its batch."""
        jobs = list(self._inferences)
        if not jobs or jobs[0].alone:
            return jobs[:1]
        batch, tokens = jobs[:1], jobs[0].tokens
        for job in jobs[1:]:
            equal = job.padded_length == batch[0].padded_length and not job.alone
            if equal and tokens + job.tokens <= self._limits.batch_tokens:
                batch.append(job)
                tokens += job.tokens
        return batch

    def _run(self, worker: _Worker, batch: list[_Inference]) -> None:
        for job in batch:
            self._take(job)
        worker.batch = batch
        inputs = self._batching.merge([job.inputs for job in batch])
        self._metrics.batch_rows.observe(len(inputs[INPUT_IDS]))
        _process(worker).send(Infer(inputs))

    # The workers

    def _start(self, worker: _Worker) -> None:
        if self._closing:
            return
        worker.process = self._open_worker(
            answered=lambda answer: self._answered(worker, answer),
            ended=lambda: self._ended(worker),
        )

    def _answered(self, worker: _Worker, answer: Answer) -> None:
        match answer:
            case Ready():
                worker.ready, worker.failures = True, 0
                if all(each.ready for each in self._workers) and not self._started.done():
                    self._started.set_result(answer.description)
            case Unusable():
                if not self._started.done():
                    self._started.set_exception(RuntimeUnavailableError(answer.reason))
            case Outputs():
                batch, worker.batch = worker.batch, []
                self._dispatch()  # the worker computes while the outputs are copied and passed on
                self._finish(batch, answer)
            case Failed():
                if job := worker.generations.pop(answer.job, None):
                    job.fail(RequestError(500, answer.reason))
            case list():
                for token in answer:
                    if job := worker.generations.get(token.job):
                        job.add(token)
                        if token.finished is not None:
                            del worker.generations[token.job]
        self._dispatch()

    def _finish(self, batch: list[_Inference], answer: Outputs) -> None:
        if answer.outputs is None:
            if len(batch) == 1:
                batch[0].fail(RequestError(500, answer.error or "the model failed"))
            else:  # for example, the memory did not suffice
                self._wait_again(batch)
            return
        parts = self._batching.split(answer.outputs, [job.shape for job in batch])
        for job, outputs in zip(batch, parts, strict=True):
            if not job.future.done():
                # The second batch from now overwrites the memory that the worker shares.
                job.future.set_result({name: array.copy() for name, array in outputs.items()})

    def _wait_again(self, jobs: Iterable[_Job]) -> None:
        """Put jobs at the head of the queue, each alone, so that none fails because of another."""
        inferences, self._inferences = self._inferences, {}
        generations, self._generations = self._generations, {}
        for job in jobs:
            job.alone = True
            if not (isinstance(job, _Inference) and job.future.done()):
                self._wait(job)
        self._inferences |= inferences
        self._generations |= generations

    def _ended(self, worker: _Worker) -> None:
        """A worker process has ended: its jobs go to another one, and it is replaced."""
        jobs: list[_Job] = [*worker.batch, *worker.generations.values()]
        was_ready = worker.ready
        worker.process, worker.ready = None, False
        worker.batch, worker.generations = [], {}
        if self._closing:
            return
        if not self._started.done():
            self._started.set_exception(
                RuntimeUnavailableError("a worker process ended while it opened the model")
            )
            return
        self._metrics.restarts.inc()
        for job in jobs:
            job.lost += 1
        for job in jobs:
            if job.lost >= _ATTEMPTS:
                job.fail(
                    RequestError(500, f"{job.lost} worker processes ended while they worked on it")
                )
        self._wait_again(job for job in jobs if job.lost < _ATTEMPTS)
        worker.failures = 0 if was_ready else worker.failures + 1
        pause = min(2.0**worker.failures - 1, _LONGEST_PAUSE)
        asyncio.get_running_loop().call_later(pause, self._start, worker)
        self._dispatch()


def _process(worker: _Worker) -> WorkerProcess:
    if worker.process is None:
        raise RequestError(500, "a worker that is ready has no process")
    return worker.process
